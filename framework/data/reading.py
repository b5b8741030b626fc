"""What is being read, and its random numbers: a function of (seed, epoch, index), whoever reads it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from framework.backend.host import HostGenerator, derive_key
from framework.random import Generator, default_generator, sample_stream

Array = np.ndarray[Any, np.dtype[Any]]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


class Reading:
    """The samples that are read at one time.

    Args:
        key: of the epoch, see `epoch_key`.
        indices: of the samples, a 1-D integer array or an int.
        repeats: how often each has been read in this epoch before, where that may be; None for never.
    """

    __slots__ = ("_draws", "_generator", "indices", "key", "repeats")

    def __init__(self, key: int, indices: Any, repeats: Any = None) -> None:
        self.key = key
        self.indices = indices
        self.repeats = repeats
        self._generator: Generator | None = None
        self._draws = 0

    def some(self, where: Any) -> Reading:
        """Of a batch, the sample (or the samples) at some place, read on their own."""
        repeats = None if self.repeats is None else np.atleast_1d(self.repeats)[where]
        return Reading(self.key, np.atleast_1d(self.indices)[where], repeats)

    def generator(self) -> Generator:
        """The stream of `framework.random` for this sample; for a batch read at once, of its first sample."""
        if self._generator is None:
            # Not registered as others are: nobody is to wind it back from another thread.
            self._generator = object.__new__(Generator)
            self._generator.host = HostGenerator(self.key, *self.stream("framework"))
        return self._generator

    def stream(self, name: str) -> tuple[int | str, ...]:
        """What tells this sample's (or batch's) stream of that name from the others of the epoch's key."""
        index, repeat = _first(self.indices), _first(self.repeats)
        return (name, index, repeat) if repeat else (name, index)

    def next_draw(self) -> int:
        """Tells what is drawn next from what was drawn before."""
        self._draws += 1
        return self._draws

    def uniform(self, count: int) -> Array:
        """float64 (samples, count) in [0, 1); each call gives others."""
        indices = np.atleast_1d(self.indices).astype(np.uint64)
        with np.errstate(over="ignore"):
            keys = _mixed(indices * _GOLDEN + np.uint64(derive_key(self.key, "uniform", self.next_draw())))
            if self.repeats is not None:
                keys = _mixed(keys + np.atleast_1d(self.repeats).astype(np.uint64))
            steps = np.arange(1, count + 1, dtype=np.uint64) * _GOLDEN
            bits = _mixed(keys[:, None] + steps)
        return (bits >> np.uint64(11)).astype(np.float64) * 2.0**-53


def epoch_key(seed: int, epoch: int) -> int:
    """The key of one epoch, from which all its samples' numbers come."""
    return derive_key(seed, "samples", epoch)


def read_as(reading: Reading, read: Callable[..., Any], *args: Any) -> Any:
    """`read(*args)`, with random numbers that are those of `reading`."""
    token = sample_stream.set(reading.generator)
    try:
        return read(*args)
    finally:
        sample_stream.reset(token)


def current() -> Reading | None:
    """What is being read, in this thread; None outside a DataLoader."""
    found = sample_stream.get()
    return None if found is None else found.__self__  # type: ignore[attr-defined]


def uniform(samples: int, count: int) -> Array:
    """Uniform numbers for a transform of a whole batch: float64 (samples, count) in [0, 1).

    While a DataLoader reads, row i is a function of its seed, the epoch and the index of the batch's
    sample i, so that it depends neither on the other samples nor on the number of workers; each
    call for one batch gives others. Elsewhere the numbers are `framework.random`'s.

    Examples:
        >>> uniform(4, 2).shape
        (4, 2)
    """
    reading = current()
    if reading is not None and np.size(reading.indices) == samples:
        return reading.uniform(count)
    return default_generator().host.uniform((samples, count))


def sample_generator() -> np.random.Generator:
    """A generator of NumPy's for the sample that is being read: for use in `__getitem__` and transforms.

    While a DataLoader reads, its numbers are a function of the loader's seed, the epoch and the
    sample's index; each call for one sample gives others. Elsewhere they are seeded by `framework.random`.

    Examples:
        >>> import framework as fw
        >>> from framework.data import DataLoader
        >>> class Noisy(fw.data.Dataset):
        ...     def __len__(self):
        ...         return 3
        ...     def __getitem__(self, index):
        ...         return index + fw.data.sample_generator().normal()
        >>> one, other = (next(iter(DataLoader(Noisy(), 3, seed=1, prefetch=n))) for n in (0, 2))
        >>> one.tolist() == other.tolist()
        True
    """
    reading = current()
    if reading is None:
        key = int(default_generator().host.bits(1)[0])
    else:
        key = derive_key(reading.key, *reading.stream("numpy"), reading.next_draw())
    return np.random.Generator(np.random.Philox(key=key))


def repeats_of(indices: Array) -> Array | None:
    """How often each index stands further in front; None where none stands twice."""
    order = np.argsort(indices, kind="stable")
    in_order = indices[order]
    starts = np.flatnonzero(np.r_[True, in_order[1:] != in_order[:-1]]) if indices.size else order
    if starts.size == indices.size:
        return None
    place = np.arange(indices.size)
    repeats = np.empty_like(place)
    repeats[order] = place - np.repeat(starts, np.diff(np.r_[starts, indices.size]))
    return repeats


def _first(value: Any) -> int:
    if value is None:
        return 0
    return int(value) if np.ndim(value) == 0 else int(value[0]) if len(value) else 0


def _mixed(x: Array) -> Array:
    """SplitMix64's finalizer (Steele, Lea & Flood 2014)."""
    x = (x ^ (x >> np.uint64(30))) * _FIRST
    x = (x ^ (x >> np.uint64(27))) * _SECOND
    return x ^ (x >> np.uint64(31))
