"""DataLoader: order, position, resume, reading."""

from __future__ import annotations

import copy
import json
import math
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework import errors
from framework.backend import host
from framework.data import ArrayDataset, DataLoader, Dataset, Subset, random_split
from framework.data.transforms import Normalize
from framework.random import Generator


class Samples(Dataset):
    """Read one by one."""

    def __init__(self, n: int) -> None:
        self.n = n

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> tuple[np.ndarray, int]:
        if not 0 <= index < self.n:
            raise IndexError(index)
        return np.full(2, index, np.float32), index


class Batches(Samples):
    """Read a batch at a time."""

    def __getitems__(self, indices: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        assert isinstance(indices, np.ndarray)
        assert indices.dtype == np.int64
        return np.repeat(indices[:, None], 2, axis=1).astype(np.float32), indices.copy()


def in_memory(n: int) -> ArrayDataset:
    return ArrayDataset(np.repeat(np.arange(n)[:, None], 2, axis=1).astype(np.float32), np.arange(n))


def subset(n: int) -> Subset:
    """The same samples again, found in a larger set through two Subsets."""
    order = np.random.default_rng(0).permutation(n)
    return Subset(Subset(in_memory(n + 3), np.concatenate((order, [n]))), np.argsort(order))


DATASETS = {
    "memory": in_memory,
    "memory with code": lambda n: ArrayDataset(*in_memory(n).arrays, transform=lambda x: x + 0),
    "samples": Samples,
    "batches": Batches,
    "subset": subset,
    "subset of samples": lambda n: Subset(Samples(n + 5), range(n)),
}


def labels(batches) -> list[list[int]]:
    """The labels of each batch, after a check that the inputs belong to them."""
    out = []
    for x, y in batches:
        np.testing.assert_array_equal(x, np.repeat(y[:, None], 2, axis=1))
        assert (x.dtype, y.dtype) == (np.float32, np.int64)
        out.append(y.tolist())
    return out


settings_of_a_loader = st.fixed_dictionaries(
    {
        "batch_size": st.one_of(st.just(-1), st.integers(1, 9)),
        "shuffle": st.booleans(),
        "drop_last": st.booleans(),
        "prefetch": st.sampled_from([0, 1, 3]),
        "seed": st.integers(-(2**70), 2**70),
    }
)


@given(st.sampled_from(sorted(DATASETS)), st.integers(0, 25), settings_of_a_loader)
def test_an_epoch_has_every_sample_once_in_the_order_of_its_seed_and_number(kind, n, options):
    loader = DataLoader(DATASETS[kind](n), **options)
    step = max(n, 1) if options["batch_size"] == -1 else options["batch_size"]
    epochs = [labels(loader) for _ in range(3)]
    for batches in epochs:
        assert len(batches) == len(loader)
        flat = [i for batch in batches for i in batch]
        assert len(flat) == (n // step * step if options["drop_last"] else n)
        assert len(set(flat)) == len(flat)
        assert all(len(batch) == step for batch in batches[: n // step])
        if not options["shuffle"]:
            assert flat == list(range(len(flat)))
    # The order depends on nothing else: not on how the data is read, nor on what was read before.
    other = DataLoader(in_memory(n), **{**options, "prefetch": 0})
    other.set_epoch(2)
    assert labels(other) == epochs[2]


@given(st.sampled_from(sorted(DATASETS)), st.integers(1, 25), settings_of_a_loader, st.data())
def test_stop_anywhere_and_resume_equals_the_uninterrupted_run(kind, n, options, data):
    def stream(loader, until_epoch):
        while loader.epoch < until_epoch:
            yield from loader

    make = DATASETS[kind]
    whole = labels(stream(DataLoader(make(n), **options), 3)) if len(DataLoader(make(n), **options)) else []
    k = data.draw(st.integers(0, len(whole)), label="batches before the stop")
    first = DataLoader(make(n), **options)
    if not len(first):
        return
    before = [next(run) for run in [iter(stream(first, 3))] for _ in range(k)]
    state = json.loads(json.dumps(first.state_dict()))
    second = DataLoader(make(n), **{**options, "seed": 12345, "prefetch": 3 - options["prefetch"]})
    second.load_state_dict(state)
    assert second.state_dict() == state
    assert labels(before) + labels(stream(second, 3)) == whole


@given(st.integers(1, 20), settings_of_a_loader)
def test_batch_places_are_those_of_the_batches_in_the_order(n, options):
    loader, other = (DataLoader(subset(n), **options) for _ in range(2))
    for _ in range(2):
        order, places = other.batch_places()
        assert order.dtype == np.int64
        states = []
        for place, batch in zip(places, loader, strict=True):
            assert order[slice(*place)].tolist() == labels([batch])[0]
            states.append((other.state_dict(), loader.state_dict()))
        assert all(ours == expected for ours, expected in states)


@given(st.integers(2, 20), settings_of_a_loader, st.data())
def test_batch_places_go_on_where_an_epoch_is_resumed(n, options, data):
    loader, other = (DataLoader(subset(n), **options) for _ in range(2))
    whole = labels(loader)
    if whole:
        k = data.draw(st.integers(0, len(whole) - 1), label="batches before")
        other.load_state_dict({**loader.state_dict(), "epoch": 0, "batch": k})
        order, places = other.batch_places()
        assert [order[a:b].tolist() for a, b in places] == whole[k:]


# -- position --------------------------------------------------------------------------------------


def test_position_counts_delivered_batches_and_wraps_at_the_end():
    loader = DataLoader(Samples(10), batch_size=4, shuffle=True, seed=3)
    assert loader.state_dict() == {"seed": 3, "epoch": 0, "batch": 0}
    run = iter(loader)
    seen = []
    for _ in range(3):
        next(run)
        seen.append((loader.state_dict()["epoch"], loader.state_dict()["batch"]))
    assert seen == [(0, 1), (0, 2), (1, 0)]  # the last batch ends the epoch, also before StopIteration
    assert next(run, None) is None
    assert loader.state_dict() == {"seed": 3, "epoch": 1, "batch": 0}


def test_batches_read_ahead_do_not_count():
    import threading

    ahead = threading.Event()

    class Slow(Batches):
        def __getitems__(self, indices):
            if indices[0] == 2:
                ahead.set()
            return super().__getitems__(indices)

    loader = DataLoader(Slow(6), prefetch=2, seed=0)
    run = iter(loader)
    next(run)
    assert ahead.wait(30)
    assert loader.state_dict() == {"seed": 0, "epoch": 0, "batch": 1}


def test_an_epoch_left_early_is_followed_by_the_next():
    loader, whole = (DataLoader(in_memory(10), batch_size=2, shuffle=True, seed=0) for _ in range(2))
    epochs = [labels(whole) for _ in range(3)]
    next(iter(loader))
    assert loader.state_dict()["batch"] == 1  # a state taken here goes on in epoch 0 …
    assert labels(loader) == epochs[1]  # … this loader does not
    loader.set_epoch(0)
    assert labels(loader) == epochs[0]
    assert labels(loader) == epochs[1]


def test_an_iterator_left_behind_does_not_disturb_the_position():
    loader = DataLoader(in_memory(6), batch_size=2, seed=0)
    old = iter(loader)
    next(old)
    new = iter(loader)
    assert len(list(old)) == 2
    next(new)
    assert loader.state_dict() == {"seed": 0, "epoch": 1, "batch": 1}
    loader.load_state_dict({"seed": 0, "epoch": 5, "batch": 2})
    next(new)
    assert loader.state_dict() == {"seed": 0, "epoch": 5, "batch": 2}


def test_the_seed_of_the_process_is_taken_when_the_first_epoch_starts():
    loader = DataLoader(in_memory(20), shuffle=True, batch_size=20)
    host.set_global_seed(9)
    assert loader.state_dict()["seed"] == 9
    host.set_global_seed(11)
    assert labels(loader) == labels(DataLoader(in_memory(20), shuffle=True, batch_size=20, seed=11))
    host.set_global_seed(12)
    assert loader.state_dict()["seed"] == 11


def test_a_state_taken_after_the_last_batch_of_all_is_the_next_epoch():
    loader = DataLoader(in_memory(6), batch_size=2, seed=0)
    loader.load_state_dict({"seed": 0, "epoch": 4, "batch": 3})
    assert loader.state_dict() == {"seed": 0, "epoch": 5, "batch": 0}


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"seed": 0, "epoch": 0},
        {"seed": 0, "epoch": 0, "batch": 0, "more": 0},
        {"seed": 0, "epoch": 0, "batch": 4},
        {"seed": 0, "epoch": -1, "batch": 0},
        {"seed": 0, "epoch": 0, "batch": -1},
        {"seed": 0, "epoch": 0.0, "batch": 0},
        {"seed": "0", "epoch": 0, "batch": 0},
        {"seed": 0, "epoch": True, "batch": 0},
    ],
)
def test_a_state_that_does_not_fit_is_refused_and_changes_nothing(state):
    loader = DataLoader(in_memory(6), batch_size=2, seed=1)
    next(iter(loader))
    with pytest.raises(errors.CheckpointError):
        loader.load_state_dict(state)
    assert loader.state_dict() == {"seed": 1, "epoch": 0, "batch": 1}


def test_loaders_are_copied_and_pickled_with_their_position():
    loader = DataLoader(in_memory(9), batch_size=2, shuffle=True, seed=4)
    next(iter(loader))
    for clone in (copy.deepcopy(loader), pickle.loads(pickle.dumps(loader))):
        assert clone.state_dict() == loader.state_dict()
        state = clone.state_dict()
        clone.load_state_dict(state)
        loader.load_state_dict(state)
        assert labels(clone) == labels(loader)
        loader.load_state_dict(state)


# -- batches ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", DATASETS)
@pytest.mark.parametrize("shuffle", [False, True])
def test_batches_are_fresh_and_sources_untouched(kind, shuffle):
    data = DATASETS[kind](8)
    loader = DataLoader(data, batch_size=3, shuffle=shuffle, seed=0)
    kept = list(loader)
    expected = copy.deepcopy(kept)
    for x, y in DataLoader(data, batch_size=3, shuffle=shuffle, seed=0):
        x[...] = -1
        y[...] = -1
    loader.set_epoch(0)
    for batch, again, copied in zip(kept, loader, expected):
        for a, b, c in zip(batch, again, copied):
            assert type(a) is np.ndarray
            assert a.flags.writeable
            assert not np.shares_memory(a, b)
            np.testing.assert_array_equal(a, c)
            np.testing.assert_array_equal(b, c)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("batch_size", [3, -1])
def test_uint8_images_normalized_in_float32(shuffle, batch_size):
    x = np.random.default_rng(0).integers(0, 256, (7, 5, 5), dtype=np.uint8)
    before = x.copy()
    normalize = Normalize(0.1307, 0.3081)
    plain = DataLoader(ArrayDataset(x), batch_size, shuffle, seed=0)
    for (raw,), (out,) in zip(plain, DataLoader(ArrayDataset(x, transform=normalize), batch_size, shuffle, seed=0)):
        assert (raw.dtype, out.dtype) == (np.uint8, np.float32)
        np.testing.assert_array_equal(out, normalize(raw))
    np.testing.assert_array_equal(x, before)


def test_a_subclass_that_overrides_single_samples_is_read_that_way():
    class Doubled(ArrayDataset):
        def __getitem__(self, index):
            x, y = super().__getitem__(index)
            return x, y * 2

    class Both(Doubled):
        def __getitems__(self, indices):
            x, y = super().__getitems__(indices)
            return x, y * 3

    arrays = in_memory(4).arrays
    for kind, factor in ((Doubled, 2), (Both, 3)):
        for data in (kind(*arrays), Subset(kind(*arrays), range(4))):
            ((_, y),) = DataLoader(data, batch_size=-1)
            assert y.tolist() == [0, factor, 2 * factor, 3 * factor]


def test_a_subclass_of_subset_keeps_its_own_samples():
    class Shifted(Subset):
        def __getitem__(self, index):
            return super().__getitem__(index) + 100

    ((y,),) = [list(DataLoader(Shifted(range(5), [1, 2]), batch_size=2))]
    assert y.tolist() == [101, 102]


def test_collate_fn_gets_the_list_of_samples_of_any_dataset():
    for data in (in_memory(5), Samples(5), Batches(5), subset(5)):
        got = list(DataLoader(data, batch_size=2, collate_fn=lambda samples: [int(y) for _, y in samples]))
        assert got == [[0, 1], [2, 3], [4]]


@pytest.mark.parametrize("data", [[10, 20, 30], np.array([10, 20, 30]), range(10, 40, 10)])
def test_any_sequence_is_a_dataset(data):
    assert [b.tolist() for b in DataLoader(data, batch_size=2)] == [[10, 20], [30]]


def test_an_empty_dataset_has_no_batches():
    loader = DataLoader(ArrayDataset(np.zeros((0, 3))), batch_size=-1, shuffle=True, seed=0)
    assert (len(loader), list(loader), list(loader)) == (0, [], [])
    state = loader.state_dict()
    loader.load_state_dict(state)
    assert loader.state_dict() == state


def test_random_split_parts_load_like_their_source():
    train, rest = random_split(in_memory(20), [15, 5], seed=0)
    seen = [i for part in (train, rest) for batch in labels(DataLoader(part, 4, True, seed=1)) for i in batch]
    assert sorted(seen) == list(range(20))


# -- samplers --------------------------------------------------------------------------------------


def test_a_sampler_decides_indices_and_length():
    loader = DataLoader(in_memory(5), batch_size=2, sampler=[4, 4, 0])
    assert len(loader) == math.ceil(3 / 2)
    assert labels(loader) == [[4, 4], [0]]


def test_a_sampler_is_told_the_epoch_and_so_resumes():
    class Rotating:
        def __len__(self):
            return 4

        def set_epoch(self, epoch):
            self.epoch = epoch

        def __iter__(self):
            return iter((i + self.epoch) % 4 for i in range(4))

    loader = DataLoader(in_memory(4), sampler=Rotating(), batch_size=2)
    assert labels(loader) + labels(loader) == [[0, 1], [2, 3], [1, 2], [3, 0]]
    loader.load_state_dict({"seed": 0, "epoch": 3, "batch": 1})
    assert labels(loader) == [[1, 2]]


@pytest.mark.parametrize(
    ("sampler", "text"), [([0, 9], "got 9 at position 1"), ([-1], "got -1"), ([0.5], "must be integers")]
)
def test_a_sampler_with_bad_indices(sampler, text):
    with pytest.raises(errors.DataError, match=text):
        next(iter(DataLoader(in_memory(5), sampler=sampler)))


@pytest.mark.parametrize(("promised", "text"), [(1, "more than 1"), (9, "it gave 3")])
def test_a_sampler_of_another_length_than_it_says(promised, text):
    class Liar(list):
        def __len__(self):
            return promised

    sampler = Liar([0, 1, 2])
    with pytest.raises(errors.DataError, match=text):
        next(iter(DataLoader(in_memory(5), sampler=sampler)))


# -- arguments -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"batch_size": 0}, "batch_size must be a positive integer, or -1"),
        ({"batch_size": -2}, "got -2"),
        ({"batch_size": 2.0}, "got 2.0"),
        ({"batch_size": True}, "got True"),
        ({"batch_size": None}, "got None"),
        ({"prefetch": -1}, "prefetch"),
        ({"prefetch": True}, "prefetch"),
        ({"seed": "0"}, "seed must be an integer"),
        ({"sampler": [0], "shuffle": True}, "shuffle=True"),
        ({"sampler": iter([0])}, "__len__"),
        ({"sampler": 3}, "__len__"),
        ({"num_workers": -1}, "num_workers"),
        ({"num_workers": 1.0}, "num_workers"),
        ({"workers": "fork"}, "'processes' or 'threads', got 'fork'"),
        ({"worker_init_fn": 3}, "worker_init_fn"),
        ({"persistent_workers": True}, "num_workers=1"),
        ({"generator": 3}, r"fw.random.Generator\(seed\), got int"),
        ({"generator": Generator(0), "seed": 0}, "leave out one"),
        ({"batch_sampler": [[0]], "batch_size": 2}, "leave out batch_size"),
        ({"batch_sampler": [[0]], "shuffle": True}, "leave out shuffle"),
        ({"batch_sampler": [[0]], "sampler": [0]}, "leave out sampler"),
        ({"batch_sampler": [[0]], "drop_last": True}, "leave out drop_last"),
        ({"batch_sampler": iter([[0]])}, "__len__"),
        ({"collate_fn": 3}, "collate_fn"),
        ({"dataset": iter([1])}, "no __len__ and no __getitem__"),
        ({"dataset": {1, 2}}, "no __getitem__"),
    ],
)
def test_bad_arguments(arguments, text):
    with pytest.raises(errors.ConfigError, match=text):
        DataLoader(**{"dataset": in_memory(3), **arguments})


def test_numpy_integers_are_integers():
    loader = DataLoader(in_memory(3), batch_size=np.int64(2), seed=np.uint8(3), prefetch=np.int32(1))
    assert len(loader) == 2
    assert json.dumps(loader.state_dict()) == '{"seed": 3, "epoch": 0, "batch": 0}'


def test_the_order_stays_the_same_between_versions_and_machines():
    loader = DataLoader(in_memory(8), batch_size=8, shuffle=True, seed=0)
    assert labels(loader) + labels(loader) == KNOWN_ORDERS


KNOWN_ORDERS = [[0, 3, 2, 7, 6, 4, 1, 5], [5, 4, 3, 7, 0, 6, 1, 2]]
