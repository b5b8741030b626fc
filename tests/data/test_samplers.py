"""Samplers, alone and in a loader."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework import errors
from framework.backend import host
from framework.data import (
    ArrayDataset,
    BatchSampler,
    DataLoader,
    Dataset,
    RandomSampler,
    Sampler,
    SequentialSampler,
    WeightedRandomSampler,
    sample_generator,
)
from framework.random import Generator


def labels(loader) -> list[list[int]]:
    return [x.tolist() for (x,) in loader]


def numbers(n: int) -> ArrayDataset:
    return ArrayDataset(np.arange(n))


# -- what they give --------------------------------------------------------------------------------


@given(st.integers(0, 20), st.integers(1, 5), st.booleans())
def test_batches_of_a_sequence(n, size, drop_last):
    sampler = BatchSampler(SequentialSampler(range(n)), size, drop_last)
    expected = [list(range(k, min(k + size, n))) for k in range(0, n, size)]
    if drop_last:
        expected = [batch for batch in expected if len(batch) == size]
    assert list(sampler) == expected
    assert len(sampler) == len(expected)


@given(st.integers(1, 12), st.integers(1, 40), st.booleans(), st.integers(0, 2**40))
def test_random_indices(n, count, replacement, seed):
    sampler = RandomSampler(range(n), replacement, count, Generator(seed))
    found = list(sampler)
    assert len(found) == len(sampler) == count
    assert set(found) <= set(range(n))
    if not replacement:  # each once in every round
        for k in range(0, count, n):
            assert len(set(found[k : k + n])) == len(found[k : k + n])
    assert list(RandomSampler(range(n), replacement, count, Generator(seed))) == found


def test_every_epoch_has_another_order_that_can_be_asked_for_again():
    sampler = RandomSampler(range(30), generator=Generator(5))
    first, second = list(sampler), list(sampler)
    assert first != second
    sampler.set_epoch(1)
    assert list(sampler) == second
    assert sorted(first) == sorted(second) == list(range(30))


def test_without_a_generator_the_seed_of_the_process_decides():
    host.set_global_seed(7)
    first = list(RandomSampler(range(30)))
    assert list(RandomSampler(range(30))) == first
    host.set_global_seed(8)
    assert list(RandomSampler(range(30))) != first


def test_weights_are_probabilities():
    weights = [0.0, 1.0, 3.0, 0.0, 4.0]
    drawn = list(WeightedRandomSampler(weights, 40_000, generator=Generator(1)))
    share = np.bincount(drawn, minlength=5) / len(drawn)
    # Five standard deviations of the largest share.
    np.testing.assert_allclose(share, np.array(weights) / 8, rtol=0, atol=5 * 0.5 / np.sqrt(len(drawn)))
    assert share[0] == share[3] == 0


def test_weights_without_replacement():
    weights = np.array([5.0, 0.0, 1.0, 1.0])
    first = np.zeros(4)
    for seed in range(3000):
        drawn = list(WeightedRandomSampler(weights, 3, replacement=False, generator=Generator(seed)))
        assert sorted(drawn) == [0, 2, 3]
        first[drawn[0]] += 1
    np.testing.assert_allclose(first / 3000, weights / 7, rtol=0, atol=5 * 0.5 / np.sqrt(3000))


def test_a_replaced_draw_is_uniform():
    drawn = list(RandomSampler(range(10), replacement=True, num_samples=50_000, generator=Generator(0)))
    np.testing.assert_allclose(np.bincount(drawn) / 50_000, 0.1, rtol=0, atol=5 * 0.3 / np.sqrt(50_000))


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: RandomSampler(range(3), num_samples=0), "num_samples must be a positive integer, got 0"),
        (lambda: RandomSampler(range(3), num_samples=True), "got True"),
        (lambda: RandomSampler(range(3), replacement=1), "True or False"),
        (lambda: RandomSampler([], num_samples=2), "2 samples were asked for, but there are none"),
        (lambda: RandomSampler(range(3), generator=3), "fw.random.Generator"),
        (lambda: WeightedRandomSampler([], 1), "weights"),
        (lambda: WeightedRandomSampler([0.0, 0.0], 1), "not all zero"),
        (lambda: WeightedRandomSampler([1.0, -1.0], 1), "from -1.0 to 1.0"),
        (lambda: WeightedRandomSampler([1.0, np.nan], 1), "finite"),
        (lambda: WeightedRandomSampler([[1.0]], 1), r"shape \(1, 1\)"),
        (lambda: WeightedRandomSampler([1.0, 0.0], 2, replacement=False), "cannot draw 2 .* from 1"),
        (lambda: WeightedRandomSampler([1.0], 1.5), "num_samples"),
        (lambda: BatchSampler(range(3), 0, False), "batch_size must be a positive integer"),
        (lambda: BatchSampler(range(3), 2, 1), "drop_last"),
        (lambda: BatchSampler(3, 2, False), "iterate"),
    ],
)
def test_bad_arguments(make, text):
    with pytest.raises(errors.ConfigError, match=text):
        make()


def test_a_base_sampler_says_what_is_missing():
    with pytest.raises(NotImplementedError, match="must define __iter__"):
        iter(Sampler())


# -- in a loader -----------------------------------------------------------------------------------

SAMPLERS = {
    "random": lambda: {"sampler": RandomSampler(range(20)), "batch_size": 6},
    "own generator": lambda: {"sampler": RandomSampler(range(20), generator=Generator(9)), "batch_size": 6},
    "replacement": lambda: {"sampler": RandomSampler(range(20), replacement=True), "batch_size": 6},
    "weighted": lambda: {"sampler": WeightedRandomSampler(np.arange(20.0), 25), "batch_size": 6},
    "batches": lambda: {"batch_sampler": BatchSampler(RandomSampler(range(20)), 6, False)},
    "uneven": lambda: {"batch_sampler": [[1, 2, 3], [4], [], [0, 19, 19, 19]]},
}


@pytest.mark.parametrize("kind", SAMPLERS)
def test_a_run_resumes_at_any_batch(kind):
    data = numbers(20)
    host.set_global_seed(3)
    whole = DataLoader(data, **SAMPLERS[kind]())
    stream, states = [], [whole.state_dict()]
    for _ in range(3):
        for (x,) in whole:
            stream.append(x.tolist())
            states.append(whole.state_dict())
    assert len(stream) == 3 * len(whole)
    host.set_global_seed(1234)
    for k in (0, 1, len(whole) - 1, len(whole), len(whole) + 2):
        again = DataLoader(data, **SAMPLERS[kind](), seed=99)
        again.load_state_dict(states[k])
        rest = []
        while again.epoch < 3:
            rest += labels(again)
        assert rest == stream[k:]


def test_random_sampler_gives_what_the_seed_of_the_loader_decides():
    def order(seed):
        return labels(DataLoader(numbers(20), 20, sampler=RandomSampler(range(20)), seed=seed))

    assert order(1) == order(1) != order(2)
    own = [
        labels(DataLoader(numbers(20), 20, sampler=RandomSampler(range(20), generator=Generator(4)), seed=s))
        for s in (1, 2)
    ]
    assert own[0] == own[1]


def test_batches_are_as_long_as_their_lists():
    loader = DataLoader(numbers(20), **SAMPLERS["uneven"]())
    assert len(loader) == 4
    assert labels(loader) == [[1, 2, 3], [4], [], [0, 19, 19, 19]]
    order, places = loader.batch_places()
    assert [order[a:b].tolist() for a, b in places] == [[1, 2, 3], [4], [], [0, 19, 19, 19]]


def test_batch_samplers_of_subsets_and_samples():
    from framework.data import Subset

    data = Subset(numbers(20), range(19, 9, -1))
    assert labels(DataLoader(data, batch_sampler=[[0, 1], [9]])) == [[19, 18], [10]]
    assert [x.tolist() for x in DataLoader([5, 6, 7], batch_sampler=[[2], [0, 0]])] == [[7], [5, 5]]


@pytest.mark.parametrize(
    ("batches", "text"),
    [
        ([[0, 9]], "batch_sampler: indices must lie in 0 … 4.*got 9 at position 1"),
        ([[0], [-1]], "got -1 at position 1"),
        ([[0.5]], "integers"),
        ([0, 1], "lists of indices, got a int"),
        (["ab"], "got a str"),
    ],
)
def test_bad_batches(batches, text):
    with pytest.raises(errors.DataError, match=text):
        next(iter(DataLoader(numbers(5), batch_sampler=batches)))


def test_a_failed_sampler_leaves_the_position():
    loader = DataLoader(numbers(5), sampler=[0, 7], seed=0)
    for _ in range(2):
        with pytest.raises(errors.DataError):
            iter(loader)
    assert loader.state_dict() == {"seed": 0, "epoch": 0, "batch": 0}


def test_the_generator_gives_the_seed():
    one, other = (DataLoader(numbers(20), 20, shuffle=True, generator=Generator(6)) for _ in range(2))
    assert one.state_dict() == other.state_dict()
    assert labels(one) == labels(other)
    assert labels(one) != labels(DataLoader(numbers(20), 20, shuffle=True, generator=Generator(7)))
    state = one.state_dict()
    resumed = DataLoader(numbers(20), 20, shuffle=True, generator=Generator(1))
    resumed.load_state_dict(state)
    assert labels(resumed) == labels(one)


class Noise(Dataset):
    def __len__(self):
        return 5

    def __getitem__(self, index):
        return sample_generator().random()


def test_a_sample_drawn_twice_is_augmented_twice():
    (first,) = DataLoader(Noise(), 4, sampler=[2, 3, 2, 2], seed=0)
    assert len(set(first.tolist())) == 4
    (second,) = DataLoader(Noise(), batch_sampler=[[2, 3, 2, 2]], seed=0)
    assert second.tolist() == first.tolist()
    (plain,) = DataLoader(Noise(), -1, seed=0)
    assert plain[2:4].tolist() == first[:2].tolist()
