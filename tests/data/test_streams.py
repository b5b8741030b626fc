"""Iterable datasets and blocks: every sample once, order, resume."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework import errors
from framework.data import BlockDataset, ConcatDataset, DataLoader, IterableDataset, Subset, sample_generator


class Numbers(IterableDataset):
    def __init__(self, n, length=None):
        self.n, self.length = n, length

    def __iter__(self):
        return iter(range(self.n))

    def __len__(self):
        if self.length is None:
            return super().__len__()
        return self.length


class Blocks(BlockDataset):
    def __init__(self, sizes):
        self.sizes = sizes
        self.read = []

    @property
    def block_sizes(self):
        return self.sizes

    def read_block(self, number):
        self.read.append(number)
        start = sum(self.sizes[:number])
        rows = np.arange(start, start + self.sizes[number])
        return {"row": rows, "more": [rows * 2.0]}


def rows(batches) -> list[list[int]]:
    found = []
    for batch in batches:
        assert list(batch) == ["row", "more"]
        np.testing.assert_array_equal(batch["more"][0], batch["row"] * 2.0)
        found.append(batch["row"].tolist())
    return found


WAYS = st.sampled_from([{"prefetch": 0}, {"prefetch": 2}, {"num_workers": 2, "workers": "threads"}])


# -- samples one after the other -------------------------------------------------------------------


@given(st.integers(0, 20), st.booleans(), st.sampled_from([-1, 1, 3, 7]), st.booleans(), WAYS)
def test_every_sample_once_in_order(n, has_length, size, drop_last, way):
    loader = DataLoader(Numbers(n, n if has_length else None), size, drop_last=drop_last, seed=1, **way)
    step = max(n, 1) if size == -1 else size
    expected = [list(range(k, min(k + step, n))) for k in range(0, n, step)]
    if drop_last:
        expected = [batch for batch in expected if len(batch) == step]
    for epoch in range(2):
        assert loader.epoch == epoch or not expected
        assert [b.tolist() for b in loader] == expected
    if has_length:
        assert len(loader) == len(expected)
    else:
        with pytest.raises(TypeError, match="does not say how many"):
            len(loader)


@given(st.integers(1, 20), st.booleans(), st.integers(1, 6), WAYS, st.data())
def test_resume_of_samples(n, has_length, size, way, data):
    class Noisy(Numbers):
        def __iter__(self):
            offset = sample_generator().integers(1000)  # another in each epoch
            for i in range(self.n):
                yield i, offset, sample_generator().random()

    def stream(loader):
        while loader.epoch < 2:
            yield from loader

    def plain(batches):
        return [[part.tolist() for part in batch] for batch in batches]

    make = lambda **options: DataLoader(Noisy(n, n if has_length else None), size, **options)  # noqa: E731
    whole = plain(stream(make(seed=3)))
    assert len(whole) == 2 * math.ceil(n / size)
    assert whole[: len(whole) // 2] != whole[len(whole) // 2 :]
    k = data.draw(st.integers(0, len(whole) - 1))
    first = make(seed=3, **way)
    run = stream(first)
    for _ in range(k):
        next(run)
    state = json.loads(json.dumps(first.state_dict()))
    run.close()
    second = make(seed=8, **way)
    second.load_state_dict(state)
    assert plain(stream(second)) == whole[k:]


@pytest.mark.parametrize("length", [3, 9])
def test_a_length_that_is_wrong(length):
    with pytest.raises(errors.DataError, match=f"has {length} samples, but it gave 5"):
        list(DataLoader(Numbers(5, length), 2))


def test_an_error_names_the_sample():
    class Bad(IterableDataset):
        def __iter__(self):
            yield 1
            yield 2
            raise KeyError("no more")

    for way in ({}, {"num_workers": 2, "workers": "threads"}):
        seen = []
        with pytest.raises(KeyError) as caught:
            for x in DataLoader(Bad(), 1, **way):
                seen.append(int(x[0]))
        assert seen == [1, 2]
        assert caught.value.__notes__ == ["(while the DataLoader read sample 2 of Bad)"]


def test_an_endless_stream():
    class Endless(IterableDataset):
        def __iter__(self):
            i = 0
            while True:
                yield i
                i += 1

    for way in ({}, {"num_workers": 2, "workers": "threads"}):
        loader = DataLoader(Endless(), 2, seed=0, **way)
        run = iter(loader)
        assert [next(run).tolist() for _ in range(3)] == [[0, 1], [2, 3], [4, 5]]
        assert loader.state_dict() == {"seed": 0, "epoch": 0, "batch": 3}
        run.close()


def test_the_epoch_is_told():
    class Told(Numbers):
        def set_epoch(self, epoch):
            self.n = epoch + 1

    loader = DataLoader(Told(0), 1)
    assert [[int(x[0]) for x in loader] for _ in range(3)] == [[0], [0, 1], [0, 1, 2]]


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ({"shuffle": True}, "Numbers decides its order itself"),
        ({"sampler": [0]}, "read in order; leave out the sampler"),
        ({"batch_sampler": [[0]]}, "read in order; leave out the batch_sampler"),
    ],
)
def test_arguments_that_do_not_fit(arguments, text):
    with pytest.raises(errors.ConfigError, match=text):
        DataLoader(Numbers(3), **arguments)


def test_there_are_no_indices():
    with pytest.raises(TypeError, match="no index"):
        Numbers(3)[0]
    with pytest.raises(TypeError, match="no indices"):
        DataLoader(Numbers(3)).batch_places()
    with pytest.raises(errors.ConfigError, match="Subset of it cannot"):
        DataLoader(Subset(Numbers(3, 3), [0]))
    with pytest.raises(errors.ConfigError, match="read in order"):
        ConcatDataset([Numbers(3, 3)])
    with pytest.raises(NotImplementedError, match="must define __iter__"):
        iter(IterableDataset())


# -- blocks ----------------------------------------------------------------------------------------

sizes_of_blocks = st.lists(st.integers(0, 6), max_size=6)


@given(sizes_of_blocks, st.booleans(), st.sampled_from([-1, 1, 3, 7]), st.booleans(), WAYS)
def test_every_row_once(sizes, shuffle, size, drop_last, way):
    n = sum(sizes)
    loader = DataLoader(Blocks(sizes), size, shuffle, drop_last=drop_last, seed=1, **way)
    step = max(n, 1) if size == -1 else size
    for _ in range(2):
        batches = rows(loader)
        assert len(batches) == len(loader)
        flat = [i for batch in batches for i in batch]
        assert len(flat) == (n // step * step if drop_last else n)
        assert len(set(flat)) == len(flat)
        assert all(len(batch) == step for batch in batches[: n // step])
        if not shuffle:
            assert flat == list(range(len(flat)))


@given(sizes_of_blocks, st.booleans(), st.integers(1, 7), WAYS, st.data())
def test_resume_at_the_exact_row_reads_only_what_is_left(sizes, shuffle, size, way, data):
    whole = DataLoader(Blocks(sizes), size, shuffle, seed=3)
    expected = rows(whole) + rows(whole)
    if not expected:
        return
    k = data.draw(st.integers(0, len(expected) - 1))
    first = DataLoader(Blocks(sizes), size, shuffle, seed=3, **way)
    run = (batch for _ in range(2) for batch in first)
    for _ in range(k):
        next(run)
    state = first.state_dict()
    run.close()
    source = Blocks(sizes)
    second = DataLoader(source, size, shuffle, **way)
    second.load_state_dict(state)
    rest = rows(second)
    done = k % len(whole) * size
    assert len(source.read) <= len(sizes)
    assert sum(sizes[b] for b in source.read) - (sum(sizes) - done) < max(sizes)
    if second.epoch < 2:
        rest += rows(second)
    assert rest == expected[k:]


def test_a_shuffled_epoch_mixes_blocks_and_rows():
    loader = DataLoader(Blocks([50] * 6), 300, True, seed=0)
    (first,), (second,) = rows(loader), rows(loader)
    assert first != second
    blocks = [i // 50 for i in first]
    assert [blocks[k] for k in range(0, 300, 50)] != sorted(set(blocks))
    for k in range(0, 300, 50):
        assert len(set(blocks[k : k + 50])) == 1
        assert first[k : k + 50] != sorted(first[k : k + 50])


def test_batches_are_fresh():
    source = np.arange(10)

    class Views(BlockDataset):
        block_sizes = (10,)

        def read_block(self, number):
            return source

    for batch in DataLoader(Views(), 4):
        batch[...] = -1
    assert source.tolist() == list(range(10))


def test_rows_are_iterated_over_and_collated():
    data = Blocks([2, 0, 3])
    assert [int(row["row"]) for row in data] == list(range(5))
    found = list(DataLoader(data, 2, collate_fn=lambda samples: [int(s["row"]) for s in samples]))
    assert found == [[0, 1], [2, 3], [4]]


def test_blocks_that_are_not_what_they_say():
    class Short(Blocks):
        def read_block(self, number):
            return np.arange(2)

    class Ragged(Blocks):
        def read_block(self, number):
            return np.arange(2), np.arange(3)

    with pytest.raises(errors.DataError, match="block 0 has 3 samples, but it gave 2") as caught:
        list(DataLoader(Short([3]), 2))
    with pytest.raises(errors.DataError, match=r"got lengths \[2, 3\]") as caught:
        list(DataLoader(Ragged([2]), 2))
    assert caught.value.__notes__ == ["(while the DataLoader read block 0 of Ragged)"]
    base = BlockDataset()
    with pytest.raises(NotImplementedError, match="block_sizes"):
        len(base)
    with pytest.raises(NotImplementedError, match="read_block"):
        base.read_block(0)


def test_a_state_beyond_the_end_is_refused():
    loader = DataLoader(Blocks([3, 3]), 2, seed=0)
    with pytest.raises(errors.CheckpointError, match="has 3 batches"):
        loader.load_state_dict({"seed": 0, "epoch": 0, "batch": 4})


# -- memory that backends lend ---------------------------------------------------------------------


def test_pinned_memory_is_the_backends(monkeypatch):
    from framework.autodiff.convert import resolve_backend
    from framework.data import ArrayDataset

    seen = []

    def pinned(array):
        seen.append(array)
        return array.copy()

    backend = resolve_backend(None)
    plain = [x.tolist() for (x,) in DataLoader(ArrayDataset(np.arange(5)), 2, pin_memory=True)]
    monkeypatch.setattr(type(backend), "pinned", staticmethod(pinned), raising=False)
    for data in (ArrayDataset(np.arange(5)), [(np.int64(i),) for i in range(5)]):
        seen.clear()
        assert [x.tolist() for (x,) in DataLoader(data, 2, pin_memory=True)] == plain
        assert len(seen) == 3
