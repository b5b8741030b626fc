"""Reading one batch: what a loader does itself, or a thread or process for it."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator
from operator import itemgetter
from typing import Any

import numpy as np

from framework.backend.host import derive_key
from framework.data import remote
from framework.data.dataset import Array
from framework.data.iterable import BlockDataset, IterableDataset, Plan, join, map_arrays, rows_in
from framework.data.reading import Reading, epoch_key, read_as
from framework.errors import DataError

Collate = Callable[[list[Any]], Any]
END = object()


class ReadSamples:
    """Reads the samples of a batch one by one; the task is (key of the epoch, indices, repeats)."""

    def __init__(self, data: Any, collate_fn: Collate) -> None:
        self._data = data
        self._collate = collate_fn

    def __call__(self, task: tuple[int, Array | slice, Array | None]) -> Any:
        """The batch."""
        key, indices, repeats = task
        data, read = self._data, self._data.__getitem__
        samples = []
        for k, i in enumerate(_listed(indices)):
            try:
                samples.append(_sample(Reading(key, i, None if repeats is None else repeats[k]), read, i))
            except Exception as error:
                error.add_note(f"(while the DataLoader read sample {i} of {type(data).__name__})")
                raise
        return self._collate(samples)


class ReadBatch:
    """Reads a batch at once, with `__getitems__`."""

    def __init__(self, data: Any) -> None:
        self._data = data

    def __call__(self, task: tuple[int, Array | slice, Array | None]) -> Any:
        """The batch."""
        key, indices, repeats = task
        if isinstance(indices, slice):
            indices = np.arange(indices.start, indices.stop)
        try:
            return _sample(Reading(key, indices, repeats), self._data.__getitems__, indices)
        except Exception as error:
            error.add_note(
                f"(while the DataLoader read {len(indices)} samples of {type(self._data).__name__}, "
                f"the first of them {indices[0] if len(indices) else 'none'})"
            )
            raise


class ReadBlock:
    """Reads a block and puts its rows in order; the task is (key, number, order of rows, first row, rows)."""

    def __init__(self, data: BlockDataset) -> None:
        self._data = data

    def __call__(self, task: tuple[int, int, Array | None, int, int]) -> Any:
        """The block."""
        key, number, order, first, size = task
        reading = Reading(key, np.arange(first, first + size))
        try:
            block = _sample(reading, self._data.read_block, number)
            rows = rows_in(block)
        except Exception as error:
            error.add_note(f"(while the DataLoader read block {number} of {type(self._data).__name__})")
            raise
        if rows != size:
            raise wrong_size(self._data, f"block {number}", size, rows)
        return block if order is None else map_arrays(block, lambda a: a[order])


class ReadStream:
    """Iterates over a dataset and makes the batches that it is asked for; the task is (key, number).

    Gives (True, batch), or (False, None) behind the last.
    """

    def __init__(self, data: IterableDataset, size: int, drop_last: bool, collate_fn: Collate) -> None:
        self._data = data
        self._cut = size, drop_last
        self._collate = collate_fn
        self._key: int | None = None
        self._next = 0
        self._batches: Iterator[list[Any]] = iter(())

    def __call__(self, task: tuple[int, int]) -> tuple[bool, Any]:
        """Whether there is such a batch, and the batch."""
        key, number = task
        if key != self._key or number < self._next:
            self._key, self._next = key, 0
            self._batches = sample_lists(self._data, key, *self._cut)
        for samples in self._batches:
            self._next += 1
            if self._next > number:
                return True, self._collate(samples)
        return False, None

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_key": None, "_next": 0, "_batches": iter(())}


def sample_lists(data: IterableDataset, key: int, size: int, drop_last: bool) -> Iterator[list[Any]]:
    """The samples of an iterable dataset, a list for each batch; `size` 0 is all in one."""
    samples = iter(data)
    batch: list[Any] = []
    row = 0
    while True:
        try:
            sample = _sample(Reading(key, row), next, samples, END)
        except Exception as error:
            error.add_note(f"(while the DataLoader read sample {row} of {type(data).__name__})")
            raise
        if sample is END:
            break
        row += 1
        batch.append(sample)
        if len(batch) == size:
            yield batch
            batch = []
    expected = known_length(data)
    if expected is not None and row != expected:
        raise wrong_size(data, "the dataset", expected, row)
    if batch and not (drop_last and size):
        yield batch


def block_tasks(data: BlockDataset, plan: Plan, seed: int, epoch: int, place: int) -> Iterator[tuple[Any, ...]]:
    """The tasks for `ReadBlock` from the order's block number `place` on."""
    key = epoch_key(seed, epoch)
    sizes = data.block_sizes
    starts = np.cumsum(sizes, dtype=np.int64) - np.asarray(sizes, np.int64)
    for number in plan.order[place:].tolist():
        size = int(sizes[number])
        yield key, number, plan.rows(number, size), int(starts[number]), size


def until_end(answers: Iterator[tuple[bool, Any]]) -> Iterator[Any]:
    """The batches of `ReadStream`'s answers."""
    for there, batch in answers:
        if not there:
            return
        yield batch
        del batch


def cut_blocks(blocks: Iterator[Any], step: int, skip: int, drop_last: bool) -> Iterator[Any]:
    """Batches of `step` rows, in fresh arrays, out of blocks of any size, from row `skip` of the first on."""
    pieces: list[Any] = []
    missing = step
    for block in blocks:
        rows, start = rows_in(block), skip
        skip = 0
        while start < rows:
            stop = min(start + missing, rows)
            pieces.append(map_arrays(block, itemgetter(slice(start, stop))))
            missing -= stop - start
            start = stop
            if not missing:
                yield join(pieces)
                pieces, missing = [], step
        del block
    if pieces and not drop_last:
        yield join(pieces)


def collated(batches: Iterator[Any], collate_fn: Collate) -> Iterator[Any]:
    """`collate_fn` of the list of each batch's samples."""
    for batch in batches:
        yield collate_fn([map_arrays(batch, itemgetter(k)) for k in range(rows_in(batch))])


def known_length(data: Any) -> int | None:
    """`len(data)`, if it has one."""
    try:
        return len(data)
    except (TypeError, NotImplementedError):
        return None


def wrong_size(data: Any, what: str, expected: int, got: int) -> Exception:
    """The error for a dataset that has not as many samples as it says."""
    return DataError(f"{type(data).__name__} says that {what} has {expected} samples, but it gave {got}")


def _listed(indices: Array | slice) -> Iterable[int]:
    return range(indices.start, indices.stop) if isinstance(indices, slice) else indices.tolist()


def _sample(reading: Reading, read: Callable[..., Any], *args: Any) -> Any:
    if remote.inside_worker:
        key = derive_key(reading.key, *reading.stream("globals"))
        random.seed(key)
        np.random.seed(key & 0xFFFFFFFF)
    return read_as(reading, read, *args)
