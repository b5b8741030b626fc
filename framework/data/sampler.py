"""Samplers: the indices of an epoch, as a function of a seed and the epoch's number."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from framework.backend.host import HostGenerator, global_seed
from framework.data.dataset import Array, checked_indices
from framework.errors import ConfigError, DataError
from framework.random import Generator


class Sampler:
    """Base of samplers: override `__iter__`, which gives the indices of one epoch, and `__len__`.

    A DataLoader tells its sampler the epoch with `set_epoch` before each, and its seed, so that what a
    sampler draws is the same when a run is resumed.
    """

    _epoch = 0
    _seed: int | None = None

    def __init__(self, data_source: Any = None) -> None:
        self.data_source = data_source

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__")

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration be that of epoch `epoch`."""
        self._epoch = int(epoch)

    def use_seed(self, seed: int) -> None:
        """Draw from this seed, unless there is a generator."""
        self._seed = int(seed)


class SequentialSampler(Sampler):
    """0, 1, … in order.

    Examples:
        >>> list(SequentialSampler("abc"))
        [0, 1, 2]
    """

    def __len__(self) -> int:
        return len(self.data_source)

    def __iter__(self) -> Iterator[int]:
        return iter(range(len(self)))


class Drawing(Sampler):
    """What draws an epoch's indices as one array."""

    num_samples: int

    def __init__(self, data_source: Any, generator: Generator | None) -> None:
        super().__init__(data_source)
        check_generator(generator, type(self).__name__)
        self.generator = generator
        self._own: int | None = None

    def __len__(self) -> int:
        return self.num_samples

    def __iter__(self) -> Iterator[int]:
        return iter(self.next_epoch().tolist())

    def next_epoch(self) -> Array:
        """The indices of the next epoch, int64."""
        if self._own is None and self.generator is not None:
            self._own = seed_from(self.generator)
        seed = self._own if self._own is not None else self._seed if self._seed is not None else global_seed()
        stream = HostGenerator(seed, "sampler", self._epoch)
        self._epoch += 1
        return self._draw(stream)

    def _draw(self, stream: HostGenerator) -> Array:
        raise NotImplementedError


class RandomSampler(Drawing):
    """Indices in random order: without replacement each once before any comes again, or with replacement.

    Args:
        data_source: what has the length.
        replacement: draw each index anew from all.
        num_samples: indices in an epoch; the length, if left out.
        generator: its next number is the seed; left out, the DataLoader's seed.

    Raises:
        ConfigError: `num_samples` is not positive, or the data is empty.

    Examples:
        >>> sorted(RandomSampler(range(5)))
        [0, 1, 2, 3, 4]
    """

    def __init__(
        self,
        data_source: Any,
        replacement: bool = False,
        num_samples: int | None = None,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(data_source, generator)
        self.replacement = replacement
        self._given = None if num_samples is None else _count("RandomSampler: num_samples", num_samples)
        if not isinstance(replacement, bool):
            raise ConfigError(f"RandomSampler: replacement must be True or False, got {replacement!r}")
        if self.num_samples and not len(data_source):
            raise ConfigError(f"RandomSampler: {self.num_samples} samples were asked for, but there are none to draw")

    @property
    def num_samples(self) -> int:  # type: ignore[override]
        """Indices in an epoch."""
        return len(self.data_source) if self._given is None else self._given

    def _draw(self, stream: HostGenerator) -> Array:
        n, count = len(self.data_source), self.num_samples
        if self.replacement:
            return stream.integers(0, n, (count,))
        rounds = [stream.permutation(n) for _ in range(-(-count // n))] if count else [np.empty(0, np.int64)]
        return np.concatenate(rounds)[:count]


class WeightedRandomSampler(Drawing):
    """Indices drawn with probabilities that are proportional to weights.

    Args:
        weights: one for each sample, not negative, not all zero; they need not add up to 1.
        num_samples: indices in an epoch.
        replacement: draw each index anew from all; else each comes at most once (Efraimidis & Spirakis 2006).
        generator: its next number is the seed; left out, the DataLoader's seed.

    Raises:
        ConfigError: a weight is negative or not finite, or there are too few to draw from.

    Examples:
        >>> list(WeightedRandomSampler([0.0, 1.0, 0.0], 3))
        [1, 1, 1]
    """

    def __init__(
        self,
        weights: Sequence[float] | Array,
        num_samples: int,
        replacement: bool = True,
        generator: Generator | None = None,
    ) -> None:
        super().__init__(None, generator)
        self.num_samples = _count("WeightedRandomSampler: num_samples", num_samples)
        if not isinstance(replacement, bool):
            raise ConfigError(f"WeightedRandomSampler: replacement must be True or False, got {replacement!r}")
        self.replacement = replacement
        self.weights = np.array(weights, np.float64)
        w = self.weights
        if w.ndim != 1 or not w.size or not np.isfinite(w).all() or (w < 0).any() or not w.any():
            raise ConfigError(
                "WeightedRandomSampler: weights must be finite numbers on one axis, not negative and not all zero, "
                f"got {w.size} of shape {w.shape}, from {w.min() if w.size else 'none'} to {w.max() if w.size else ''}"
            )
        if not replacement and self.num_samples > np.count_nonzero(w):
            raise ConfigError(
                f"WeightedRandomSampler: cannot draw {num_samples} samples without replacement from "
                f"{np.count_nonzero(w)} with a weight above zero"
            )

    def _draw(self, stream: HostGenerator) -> Array:
        if self.replacement:
            ends = np.cumsum(self.weights)
            drawn = np.searchsorted(ends, stream.uniform((self.num_samples,)) * ends[-1], side="right")
            # Rounding up could name what lies behind the last weight above zero.
            return np.minimum(drawn, np.flatnonzero(self.weights)[-1])
        with np.errstate(divide="ignore"):
            waits = -np.log1p(-stream.uniform(self.weights.shape)) / self.weights
        waits[self.weights == 0] = np.inf
        return np.argsort(waits, kind="stable")[: self.num_samples]


class BatchSampler(Sampler):
    """The indices of another sampler, in lists of `batch_size`.

    Args:
        sampler: gives indices.
        batch_size: indices in a list.
        drop_last: leave out a last list that is not full.

    Raises:
        ConfigError: an argument is wrong.

    Examples:
        >>> list(BatchSampler(SequentialSampler(range(5)), batch_size=2, drop_last=False))
        [[0, 1], [2, 3], [4]]
    """

    def __init__(self, sampler: Iterable[int], batch_size: int, drop_last: bool) -> None:
        super().__init__()
        if not isinstance(drop_last, bool):
            raise ConfigError(f"BatchSampler: drop_last must be True or False, got {drop_last!r}")
        if not hasattr(sampler, "__iter__"):
            raise ConfigError(f"BatchSampler: a sampler is something to iterate over, got {type(sampler).__name__}")
        self.sampler = sampler
        self.batch_size = _count("BatchSampler: batch_size", batch_size)
        self.drop_last = drop_last

    def set_epoch(self, epoch: int) -> None:
        """Let the next iteration be that of epoch `epoch`."""
        _begin_epoch(self.sampler, None, epoch)

    def use_seed(self, seed: int) -> None:
        """Let the sampler within draw from this seed, unless it has a generator."""
        if isinstance(self.sampler, Sampler):
            self.sampler.use_seed(seed)

    def __len__(self) -> int:
        n = len(self.sampler)  # type: ignore[arg-type]
        return n // self.batch_size if self.drop_last else -(-n // self.batch_size)

    def __iter__(self) -> Iterator[list[int]]:
        batch: list[int] = []
        for index in self.sampler:
            batch.append(index)
            if len(batch) == self.batch_size:
                yield batch
                batch = []
        if batch and not self.drop_last:
            yield batch


def _begin_epoch(sampler: Any, seed: int | None, epoch: int) -> None:
    """Tell a sampler the epoch that comes, if it wants to know."""
    if seed is not None and isinstance(sampler, Sampler):
        sampler.use_seed(seed)
    if hasattr(sampler, "set_epoch"):
        sampler.set_epoch(epoch)


def sampled(sampler: Any, seed: int, epoch: int, length: int) -> Array:
    """The indices that a sampler gives for an epoch.

    Raises:
        DataError: they lie outside the dataset, or are not as many as the sampler says.
    """
    _begin_epoch(sampler, seed, epoch)
    if isinstance(sampler, Drawing):
        return checked_indices(sampler.next_epoch(), length, "DataLoader's sampler")
    expected = len(sampler)
    indices = list(islice(iter(sampler), expected + 1))
    _check_count("sampler", "indices", expected, len(indices))
    return checked_indices(indices, length, "DataLoader's sampler")


def sampled_batches(sampler: Any, seed: int, epoch: int, length: int) -> tuple[Array, Array]:
    """The indices of all batches in a row, and where each ends."""
    _begin_epoch(sampler, seed, epoch)
    expected = len(sampler)
    batches = [_index_array(batch) for batch in islice(iter(sampler), expected + 1)]
    _check_count("batch_sampler", "batches", expected, len(batches))
    order = checked_indices(np.concatenate(batches) if batches else [], length, "DataLoader's batch_sampler")
    return order, np.cumsum([len(batch) for batch in batches], dtype=np.int64)


def _check_count(what: str, items: str, expected: int, got: int) -> None:
    if got != expected:
        number = f"more than {expected}" if got > expected else str(got)
        raise DataError(f"DataLoader: the {what}'s length is {expected}, but it gave {number} {items}")


def check_generator(generator: Any, owner: str) -> None:
    """Raises ConfigError unless it is a generator of `framework.random`, or None."""
    if generator is not None and not isinstance(generator, Generator):
        raise ConfigError(f"{owner}: generator must be a fw.random.Generator(seed), got {type(generator).__name__}")


def seed_from(generator: Generator) -> int:
    """A seed: the generator's next number."""
    return int(generator.host.bits(1)[0] >> np.uint64(1))


def _index_array(batch: Any) -> Array:
    """A batch sampler's list as an array of indices.

    Raises:
        DataError: it is no list.
    """
    if not isinstance(batch, Sequence | np.ndarray) or isinstance(batch, str):
        raise DataError(f"DataLoader: a batch_sampler gives lists of indices, got a {type(batch).__name__}")
    return np.asarray(batch) if len(batch) else np.empty(0, np.int64)


def _count(name: str, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ConfigError(f"{name} must be a positive integer, got {value!r}")
    return int(value)
