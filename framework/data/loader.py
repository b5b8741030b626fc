"""`DataLoader`: a dataset in batches, in an order that can be repeated and resumed exactly."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import chain, count, islice
from typing import Any

import numpy as np

from framework.backend.host import HostGenerator, global_seed
from framework.data import loaderchecks as checks
from framework.data.collate import collate
from framework.data.dataset import Array, ArrayDataset, checked_indices, reads_batches, underlying
from framework.data.iterable import BlockDataset, IterableDataset, Plan
from framework.data.jobs import (
    ReadBatch,
    ReadBlock,
    ReadSamples,
    ReadStream,
    block_tasks,
    collated,
    cut_blocks,
    known_length,
    sample_lists,
    until_end,
)
from framework.data.pinning import pinned
from framework.data.reading import epoch_key, repeats_of
from framework.data.sampler import sampled, sampled_batches, seed_from
from framework.data.transforms import only_normalizes
from framework.data.workers import Workers
from framework.errors import CheckpointError
from framework.random import Generator


class DataLoader:
    """Iterates over a dataset in batches; each `iter(loader)` is the next epoch.

    A batch has the structure of one sample, as fresh NumPy arrays with a new first axis. An ArrayDataset,
    and any dataset with `__getitems__`, is read a whole batch at a time; of others, samples are read one
    by one and collated. The order of an epoch is a function of the seed and the epoch's number alone, and
    what a dataset draws for a sample is one of these two and the sample's index: neither depends on the
    number of workers, and a run resumes within an epoch at the exact sample.

    Args:
        dataset: an object with `__len__` and `__getitem__`, or an IterableDataset.
        batch_size: samples in a batch; -1 for the whole set.
        shuffle: a new random order in each epoch; of a BlockDataset, such as a CSVDataset, of its blocks
            and of the rows in each.
        sampler: gives the indices of an epoch instead; iterable, with a length. If it has
            `set_epoch(epoch)`, that is called before each epoch; a sampler that draws anew each time
            needs it to be resumed exactly. Those of `fw.data` have it.
        num_workers: processes (or threads, see `workers`) that read batches at the same time; 0 for none.
        collate_fn: makes a batch from the list of its samples; samples are then read one by one.
        drop_last: leave out a last batch that is not full.
        prefetch: how many batches a background thread, or each worker, keeps ready; 0 for no thread. Arrays
            in memory with nothing but a Normalize to do are always read on the spot: there threads and
            workers cost more than they hide (measured, with one and two BLAS threads, at every batch size).
        seed: of the shuffling and of samples' random numbers; `seed_everything`'s, when the first epoch
            starts, if left out.
        batch_sampler: gives the list of indices of each batch instead; iterable, with a length. Excludes
            batch_size, shuffle, sampler and drop_last.
        worker_init_fn: called with its number, 0 …, when a worker starts.
        generator: its next number, when the first epoch starts, is the seed.
        persistent_workers: keep the processes from epoch to epoch, with the dataset as it was when they started.
        pin_memory: put batches into page-locked memory, where the default backend has such.
        workers: "processes", each with a copy of the dataset, or "threads", which share it.

    Raises:
        ConfigError: an argument is wrong, or two exclude each other.

    Examples:
        >>> loader = DataLoader(ArrayDataset(np.arange(10)), batch_size=4)
        >>> [x.tolist() for (x,) in loader]
        [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    """

    def __init__(
        self,
        dataset: Any,
        batch_size: int = 1,
        shuffle: bool = False,
        sampler: Iterable[int] | None = None,
        num_workers: int = 0,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        drop_last: bool = False,
        prefetch: int = 2,
        seed: int | None = None,
        *,
        batch_sampler: Iterable[Any] | None = None,
        worker_init_fn: Callable[[int], Any] | None = None,
        generator: Generator | None = None,
        persistent_workers: bool = False,
        pin_memory: bool = False,
        workers: str = "processes",
    ) -> None:
        checks.check_dataset(dataset)
        checks.check_numbers(batch_size, num_workers, prefetch, seed)
        checks.check_order(dataset, batch_size, shuffle, sampler, batch_sampler, drop_last)
        checks.check_seeds(seed, generator)
        checks.check_workers(collate_fn, worker_init_fn, num_workers, persistent_workers, workers)
        self.dataset = dataset
        self.batch_size = int(batch_size)
        self.shuffle = shuffle
        self.sampler = sampler
        self.batch_sampler = batch_sampler
        self.num_workers = int(num_workers)
        self.collate_fn = collate_fn
        self.drop_last = drop_last
        self.prefetch = int(prefetch)
        self.seed = None if seed is None else int(seed)
        self.generator = generator
        self.pin_memory = pin_memory
        self.persistent_workers = persistent_workers
        self._workers = Workers(self.num_workers, workers, worker_init_fn, persistent_workers)
        self._position = _Position(0, 0)

    def __len__(self) -> int:
        """The number of batches in an epoch; a TypeError where an IterableDataset does not say its own."""
        if self.batch_sampler is not None:
            return len(self.batch_sampler)  # type: ignore[arg-type]
        return self._count(len(self.dataset if self.sampler is None else self.sampler))  # type: ignore[arg-type]

    def __iter__(self) -> Iterator[Any]:
        """Starts the next epoch; right after `load_state_dict`, goes on in the saved one."""
        return self._batches(lends=False)

    def lend_batches(self) -> Iterator[Any]:
        """Like `iter(loader)`, but the arrays of a batch may become a later batch once nobody holds them or a view.

        For a caller that lets go of each batch before it asks for the next, as the Trainer does: its arrays then
        stay in the processor's cache. Whoever keeps a batch still never sees it change.
        """
        return self._batches(lends=True)

    def _batches(self, lends: bool) -> Iterator[Any]:
        if isinstance(self.dataset, IterableDataset):
            return self._stream(self.dataset)
        data, chosen = underlying(self.dataset)
        epoch = self._start()
        if chosen is not None:
            epoch.order = chosen if epoch.order is None else chosen.take(epoch.order)
        read, at_once = self._reader(data)
        if not at_once:
            batches = self._workers.batches(self._tasks(epoch), read, self.prefetch)
        else:
            if lends:
                read = data.lending_reader() or read
                epoch.order = None if epoch.order is None else checked_indices(epoch.order, len(data), "DataLoader")
            # A generator, not `map`: a StopIteration out of a dataset then is an error, not an early end.
            batches = (read(indices) for indices in self._cut(epoch))
        if self.pin_memory:
            batches = pinned(batches)
        return _deliver(batches, epoch.position, epoch.total)

    def _tasks(self, epoch: _Epoch) -> Iterator[Any]:
        """What is to be read, as `jobs` wants it."""
        key = epoch_key(epoch.seed, epoch.position.epoch)
        drawn = self.sampler is not None or self.batch_sampler is not None
        repeats = repeats_of(epoch.order) if drawn and epoch.order is not None else None
        cut = self._cut(epoch)
        if repeats is None:
            return ((key, indices, None) for indices in cut)
        places = self._bounds(epoch)
        return ((key, epoch.order[a:b], repeats[a:b]) for a, b in places)  # type: ignore[index]

    def _stream(self, data: IterableDataset) -> Iterator[Any]:
        """The batches of a dataset that is read from front to back."""
        position, seed = self._begin()
        length = known_length(data)
        total = None if length is None else self._count(length)
        first, epoch = position.batch, position.epoch
        position.under_way = total != 0
        if hasattr(data, "set_epoch"):
            data.set_epoch(epoch)
        batches: Iterator[Any]
        if isinstance(data, BlockDataset):
            batches = self._of_blocks(data, seed, epoch, first, length or 0)
        else:
            key, size = epoch_key(seed, epoch), max(self.batch_size, 0)
            collate_fn = self.collate_fn or collate
            if self._workers.are_processes:
                answers = self._workers.batches(
                    ((key, number) for number in count(first)),
                    ReadStream(data, size, self.drop_last, collate_fn),
                    self.prefetch,
                )
                batches = until_end(answers)
            else:
                lists = islice(sample_lists(data, key, size, self.drop_last), first, None)
                batches = self._workers.batches(lists, collate_fn, self.prefetch)
        if self.pin_memory:
            batches = pinned(batches)
        return _deliver(batches, position, total)

    def _of_blocks(self, data: BlockDataset, seed: int, epoch: int, first: int, length: int) -> Iterator[Any]:
        plan = Plan(data.block_sizes, (seed, epoch) if self.shuffle else None)
        step = self.batch_size if self.batch_size > 0 else max(length, 1)
        place, skip = plan.find(first * step)
        tasks = block_tasks(data, plan, seed, epoch, place)
        # Blocks are many batches: one is ready, one is being read, whatever `prefetch` says beyond that.
        blocks = self._workers.batches(tasks, ReadBlock(data), min(self.prefetch, 1))
        batches = cut_blocks(blocks, step, skip, self.drop_last and self.batch_size > 0)
        return batches if self.collate_fn is None else collated(batches, self.collate_fn)

    def batch_places(self) -> tuple[Array, Iterator[tuple[int, int]]]:
        """The next epoch as the indices of its samples in `loader.dataset`, int64, and the places of its batches there.

        For a caller that gathers where the arrays live: each place is where a batch begins and where it ends. They
        begin where the epoch is resumed, and the position counts them as it counts batches.
        """
        if isinstance(self.dataset, IterableDataset):
            raise TypeError(f"DataLoader: {type(self.dataset).__name__} is read in order; its samples have no indices")
        epoch = self._start()
        order = np.arange(epoch.size, dtype=np.int64) if epoch.order is None else epoch.order
        return order, _deliver(self._bounds(epoch), epoch.position, epoch.total)

    @property
    def epoch(self) -> int:
        """The number of the epoch that is under way; before its first batch and after its last, of the next."""
        return self._position.epoch

    def set_epoch(self, epoch: int) -> None:
        """Let the next iterator start epoch `epoch`, counted from 0, at its first batch."""
        self._position = _Position(int(epoch), 0)

    def state_dict(self) -> dict[str, Any]:
        """The seed and the place after the last batch delivered: `{"seed", "epoch", "batch"}`.

        Batches that were only read ahead do not count. After an epoch's last batch this is the start of
        the next epoch.
        """
        if self.seed is None and self.generator is not None:
            self.seed = seed_from(self.generator)
        seed = global_seed() if self.seed is None else self.seed
        return {"seed": seed, "epoch": self._position.epoch, "batch": self._position.batch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next iterator go on where `state_dict` was taken.

        Raises:
            CheckpointError: it is no state of a loader, or does not fit this one.
        """
        if set(state) != {"seed", "epoch", "batch"} or not all(checks.is_integer(v) for v in state.values()):
            raise CheckpointError(
                f"DataLoader: a saved state has the integers 'seed', 'epoch' and 'batch', got {dict(state)!r}"
            )
        seed, epoch, batch = (int(state[key]) for key in ("seed", "epoch", "batch"))
        batches = known_length(self)
        if epoch < 0 or not 0 <= batch <= (batch if batches is None else batches):
            raise CheckpointError(
                f"DataLoader: the saved state is at batch {batch} of epoch {epoch}, but this loader has {batches} "
                "batches in an epoch; resume with the dataset and the batch size that the state was saved with"
            )
        self.seed = seed
        self._position = _Position(epoch + 1, 0) if batch and batch == batches else _Position(epoch, batch)

    def __repr__(self) -> str:
        return (
            f"DataLoader({self.dataset!r}, batch_size={self.batch_size}, shuffle={self.shuffle}, "
            f"drop_last={self.drop_last})"
        )

    # -- one epoch ------------------------------------------------------------------------------

    def _begin(self) -> tuple[_Position, int]:
        """Where the next iterator starts, and the seed."""
        if self.seed is None:
            self.seed = global_seed() if self.generator is None else seed_from(self.generator)
        last = self._position
        position = _Position(last.epoch + 1, 0) if last.under_way else _Position(last.epoch, last.batch)
        self._position = position
        return position, self.seed

    def _start(self) -> _Epoch:
        """The epoch of the next iterator."""
        before = self._position
        position, seed = self._begin()
        order: Array | None = None
        ends: Array | None = None
        try:
            if self.batch_sampler is not None:
                order, ends = sampled_batches(self.batch_sampler, seed, position.epoch, len(self.dataset))
            elif self.sampler is not None:
                order = sampled(self.sampler, seed, position.epoch, len(self.dataset))
            elif self.shuffle:
                order = HostGenerator(seed, "shuffle", position.epoch).permutation(len(self.dataset))
        except BaseException:
            self._position = before
            raise
        size = len(self.dataset) if order is None else len(order)
        total = self._count(size) if ends is None else len(ends)
        position.under_way = total > 0
        return _Epoch(position, seed, order, ends, size, total)

    def _count(self, size: int) -> int:
        step = self.batch_size if self.batch_size > 0 else max(size, 1)
        return size // step if self.drop_last else math.ceil(size / step)

    def _cut(self, epoch: _Epoch) -> Iterator[Any]:
        """The batches that are left, as pieces of the order, or as slices where there is none."""
        order = epoch.order
        for start, stop in self._bounds(epoch):
            yield slice(start, stop) if order is None else order[start:stop]

    def _bounds(self, epoch: _Epoch) -> Iterator[tuple[int, int]]:
        """Where in the order each batch begins and ends that is left."""
        first, size = epoch.position.batch, epoch.size
        if epoch.ends is not None:
            ends = [0, *epoch.ends.tolist()]
            return zip(ends[first:], ends[first + 1 :])
        step = self.batch_size if self.batch_size > 0 else max(size, 1)
        starts = range(first * step, epoch.total * step, step)
        return zip(starts, chain(starts[1:], (min(epoch.total * step, size),)))

    def _reader(self, data: Any) -> tuple[Callable[[Any], Any], bool]:
        """What reads a batch of `data`, and whether that is done on the spot, without threads."""
        if self.collate_fn is not None:
            return ReadSamples(data, self.collate_fn), False
        if not reads_batches(type(data)) or not getattr(data, "reads_batches", True):
            return ReadSamples(data, collate), False
        in_memory = type(data).__getitems__ is ArrayDataset.__getitems__
        if in_memory and (data.transform is None or only_normalizes(data.transform)):
            return data.reader(), True
        return ReadBatch(data), False


class _Epoch:
    """What an iterator over samples with indices is to deliver."""

    __slots__ = ("ends", "order", "position", "seed", "size", "total")

    def __init__(
        self, position: _Position, seed: int, order: Array | None, ends: Array | None, size: int, total: int
    ) -> None:
        self.position = position
        self.seed = seed
        self.order = order
        self.ends = ends
        self.size = size
        self.total = total


class _Position:
    """Where one iterator is. Each has its own, so that one left behind does not disturb the loader's."""

    __slots__ = ("batch", "epoch", "under_way")

    def __init__(self, epoch: int, batch: int) -> None:
        self.epoch = epoch
        self.batch = batch
        self.under_way = False


def _deliver(batches: Iterator[Any], position: _Position, total: int | None) -> Iterator[Any]:
    for batch in batches:
        position.batch += 1
        if position.batch == total:
            position.epoch, position.batch, position.under_way = position.epoch + 1, 0, False
        yield batch
        del batch  # freed before the next is read
    if total is None:
        position.epoch, position.batch, position.under_way = position.epoch + 1, 0, False
