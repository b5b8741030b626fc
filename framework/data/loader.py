"""`DataLoader`: a dataset in batches, in an order that can be repeated and resumed exactly."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import islice
from typing import Any

import numpy as np

from framework.backend.host import HostGenerator, global_seed
from framework.data.collate import collate
from framework.data.dataset import Array, ArrayDataset, Subset, checked_indices, underlying
from framework.data.prefetch import prefetched
from framework.data.transforms import only_normalizes
from framework.errors import CheckpointError, ConfigError, DataError


class DataLoader:
    """Iterates over a dataset in batches; each `iter(loader)` is the next epoch.

    A batch has the structure of one sample, as fresh NumPy arrays with a new first axis. An ArrayDataset,
    and any dataset with `__getitems__`, is read a whole batch at a time; of others, samples are read one
    by one and collated. The order of an epoch is a function of the seed and the epoch's number alone.

    Args:
        dataset: an object with `__len__` and `__getitem__`.
        batch_size: samples in a batch; -1 for the whole set.
        shuffle: a new random order in each epoch.
        sampler: gives the indices of an epoch instead; iterable, with a length. If it has
            `set_epoch(epoch)`, that is called before each epoch; a sampler that draws anew each time
            needs it to be resumed exactly.
        collate_fn: makes a batch from the list of its samples; samples are then read one by one.
        drop_last: leave out a last batch that is not full.
        prefetch: how many batches a background thread keeps ready; 0 for none. Arrays in memory with
            nothing but a Normalize to do are always read on the spot: there the thread costs more than
            it hides (measured, with one and two BLAS threads, at every batch size).
        seed: of the shuffling; `seed_everything`'s, when the first epoch starts, if left out.

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
        *,
        collate_fn: Callable[[list[Any]], Any] | None = None,
        drop_last: bool = False,
        prefetch: int = 2,
        seed: int | None = None,
    ) -> None:
        _check_dataset(dataset)
        if not _is_integer(batch_size) or (batch_size < 1 and batch_size != -1):
            raise ConfigError(
                f"DataLoader: batch_size must be a positive integer, or -1 for the whole set, got {batch_size!r}"
            )
        if not _is_integer(prefetch) or prefetch < 0:
            raise ConfigError(f"DataLoader: prefetch must be a number of batches, 0 for no thread, got {prefetch!r}")
        if seed is not None and not _is_integer(seed):
            raise ConfigError(f"DataLoader: seed must be an integer, got {seed!r}")
        if sampler is not None and shuffle:
            raise ConfigError("DataLoader: a sampler decides the order itself; leave out shuffle=True, or the sampler")
        if sampler is not None and not hasattr(sampler, "__len__"):
            raise ConfigError(f"DataLoader: a sampler needs a length (__len__), {type(sampler).__name__} has none")
        if collate_fn is not None and not callable(collate_fn):
            raise ConfigError(f"DataLoader: collate_fn must be callable, got {type(collate_fn).__name__}")
        self.dataset = dataset
        self.batch_size = int(batch_size)
        self.shuffle = shuffle
        self.sampler = sampler
        self.collate_fn = collate_fn
        self.drop_last = drop_last
        self.prefetch = int(prefetch)
        self.seed = None if seed is None else int(seed)
        self._position = _Position(0, 0)

    def __len__(self) -> int:
        """The number of batches in an epoch."""
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
        data, chosen = underlying(self.dataset)
        position, order, size = self._start()
        if chosen is not None:
            order = chosen if order is None else chosen.take(order)
        read, at_once = self._reader(data)
        if at_once and lends:
            read = data.lending_reader() or read
            order = None if order is None else checked_indices(order, len(data), "DataLoader")
        total = self._count(size)
        # A generator, not `map`: a StopIteration out of a dataset then is an error, not an early end.
        batches = (read(indices) for indices in self._cut(order, size, position.batch, total))
        if self.prefetch and not at_once:
            return _deliver(prefetched(batches, self.prefetch), position, total)
        return _deliver(batches, position, total)

    def batch_indices(self) -> Iterator[Array]:
        """Like `iter(loader)`, but only the indices of each batch's samples in `loader.dataset`, int64.

        For a caller that gathers where the arrays live. The position counts these batches as it counts
        others.
        """
        position, order, size = self._start()
        if order is None:
            order = np.arange(size)
        total = self._count(size)
        return _deliver(self._cut(order, size, position.batch, total), position, total)

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
        seed = global_seed() if self.seed is None else self.seed
        return {"seed": seed, "epoch": self._position.epoch, "batch": self._position.batch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next iterator go on where `state_dict` was taken.

        Raises:
            CheckpointError: it is no state of a loader, or does not fit this one.
        """
        if set(state) != {"seed", "epoch", "batch"} or not all(_is_integer(v) for v in state.values()):
            raise CheckpointError(
                f"DataLoader: a saved state has the integers 'seed', 'epoch' and 'batch', got {dict(state)!r}"
            )
        seed, epoch, batch = (int(state[key]) for key in ("seed", "epoch", "batch"))
        if epoch < 0 or not 0 <= batch <= len(self):
            raise CheckpointError(
                f"DataLoader: the saved state is at batch {batch} of epoch {epoch}, but this loader has {len(self)} "
                "batches in an epoch; resume with the dataset and the batch size that the state was saved with"
            )
        self.seed = seed
        self._position = _Position(epoch + 1, 0) if batch and batch == len(self) else _Position(epoch, batch)

    def __repr__(self) -> str:
        return (
            f"DataLoader({self.dataset!r}, batch_size={self.batch_size}, shuffle={self.shuffle}, "
            f"drop_last={self.drop_last})"
        )

    # -- one epoch ------------------------------------------------------------------------------

    def _start(self) -> tuple[_Position, Array | None, int]:
        """Where the next iterator starts, its epoch's order (None: as stored), and the number of samples."""
        if self.seed is None:
            self.seed = global_seed()
        last = self._position
        position = _Position(last.epoch + 1, 0) if last.under_way else _Position(last.epoch, last.batch)
        order: Array | None = None
        if self.sampler is not None:
            order = _sampled(self.sampler, position.epoch, len(self.dataset))
        elif self.shuffle:
            order = HostGenerator(self.seed, "shuffle", position.epoch).permutation(len(self.dataset))
        size = len(self.dataset) if order is None else len(order)
        position.under_way = self._count(size) > 0
        self._position = position
        return position, order, size

    def _count(self, size: int) -> int:
        step = self.batch_size if self.batch_size > 0 else max(size, 1)
        return size // step if self.drop_last else math.ceil(size / step)

    def _cut(self, order: Array | None, size: int, first: int, total: int) -> Iterator[Any]:
        """The batches from number `first` on, as pieces of the order, or as slices where there is none."""
        step = self.batch_size if self.batch_size > 0 else max(size, 1)
        for start in range(first * step, total * step, step):
            stop = min(start + step, size)
            yield slice(start, stop) if order is None else order[start:stop]

    def _reader(self, data: Any) -> tuple[Callable[[Any], Any], bool]:
        """What reads a batch of `data`, and whether that is done on the spot, without a thread."""
        if self.collate_fn is not None:
            return partial(_read_samples, data, self.collate_fn), False
        if not _reads_batches(type(data)):
            return partial(_read_samples, data, collate), False
        if type(data).__getitems__ is ArrayDataset.__getitems__:
            return data.reader(), data.transform is None or only_normalizes(data.transform)
        return partial(_read_batch, data), False


class _Position:
    """Where one iterator is. Each has its own, so that one left behind does not disturb the loader's."""

    __slots__ = ("batch", "epoch", "under_way")

    def __init__(self, epoch: int, batch: int) -> None:
        self.epoch = epoch
        self.batch = batch
        self.under_way = False


def _deliver(batches: Iterator[Any], position: _Position, total: int) -> Iterator[Any]:
    for batch in batches:
        position.batch += 1
        if position.batch == total:
            position.epoch, position.batch, position.under_way = position.epoch + 1, 0, False
        yield batch
        del batch  # freed before the next is read


def _read_samples(data: Any, collate_fn: Callable[[list[Any]], Any], indices: Array | slice) -> Any:
    samples = []
    for i in range(indices.start, indices.stop) if isinstance(indices, slice) else indices.tolist():
        try:
            samples.append(data[i])
        except Exception as error:
            error.add_note(f"(while the DataLoader read sample {i} of {type(data).__name__})")
            raise
    return collate_fn(samples)


def _read_batch(data: Any, indices: Array | slice) -> Any:
    if isinstance(indices, slice):
        indices = np.arange(indices.start, indices.stop)
    return data.__getitems__(indices)


def _reads_batches(kind: type) -> bool:
    """Whether batches are read with `__getitems__`: not if a subclass overrode `__getitem__` alone."""
    for cls in kind.__mro__:
        if "__getitems__" in vars(cls):
            return True
        if "__getitem__" in vars(cls):
            return False
    return False


def _sampled(sampler: Any, epoch: int, length: int) -> Array:
    if hasattr(sampler, "set_epoch"):
        sampler.set_epoch(epoch)
    expected = len(sampler)
    indices = list(islice(iter(sampler), expected + 1))
    if len(indices) != expected:
        got = f"more than {expected}" if len(indices) > expected else str(len(indices))
        raise DataError(f"DataLoader: the sampler's length is {expected}, but it gave {got} indices")
    return checked_indices(indices, length, "DataLoader's sampler")


def _check_dataset(dataset: Any) -> None:
    if isinstance(dataset, Subset | ArrayDataset):
        return
    missing = [name for name in ("__len__", "__getitem__") if not hasattr(dataset, name)]
    if missing:
        raise ConfigError(
            f"DataLoader: a dataset needs __len__ and __getitem__; {type(dataset).__name__} has no "
            f"{' and no '.join(missing)}. Arrays in memory: ArrayDataset(x, y)."
        )


def _is_integer(value: Any) -> bool:
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
