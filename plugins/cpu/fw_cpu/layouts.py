"""How arrays lie in memory, and room for many of them in one piece of memory."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

Array = Any

_LINE = 64
"""Buffers start at multiples of a cache line."""


class Layout(NamedTuple):
    """What must be known of an array to make another one like it; `is_scalar` is true of NumPy's scalars."""

    shape: tuple[int, ...]
    dtype: Any
    strides: tuple[int, ...]
    is_scalar: bool = False

    @property
    def ndim(self) -> int:
        """The number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """The number of elements."""
        n = 1
        for length in self.shape:
            n *= length
        return n

    @property
    def extent(self) -> int:
        """The bytes from the first element to the end of the last."""
        if not self.size:
            return 0
        return int(self.dtype.itemsize) + sum((n - 1) * s for n, s in zip(self.shape, self.strides))

    @property
    def is_dense(self) -> bool:
        """Whether the elements fill their extent without gaps."""
        return self.can_be_made and self.extent == self.size * self.dtype.itemsize

    @property
    def is_c(self) -> bool:
        """Whether the elements lie in the order of C, without gaps."""
        expected = self.dtype.itemsize
        for n, s in zip(reversed(self.shape), reversed(self.strides)):
            if n != 1 and s != expected:
                return False
            expected *= n
        return True

    @property
    def can_be_made(self) -> bool:
        """Whether a buffer can have this layout: no two elements in one place, none before the first."""
        reach = 0
        if not self.size:
            return True
        for s, n in sorted((s, n) for s, n in zip(self.strides, self.shape) if n > 1):
            if s <= reach:
                return False
            reach += (n - 1) * s
        return not self.dtype.hasobject

    def __str__(self) -> str:
        order = "" if self.is_c else " by columns" if self.is_dense else " in steps"
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]{order}"


def layout_of(array: Array) -> Layout:
    """The layout of a NumPy array or scalar."""
    if isinstance(array, np.ndarray):
        return Layout(array.shape, array.dtype, array.strides)
    return Layout((), array.dtype, (), True)


def fresh(layout: Layout) -> Array:
    """A new array of this layout."""
    if layout.is_c:
        return np.empty(layout.shape, layout.dtype)
    return np.ndarray(layout.shape, layout.dtype, np.empty(layout.extent, np.uint8), 0, layout.strides)


class _Memory:
    """What an array says of its memory, without holding it."""

    def __init__(self, array: Array) -> None:
        self.__array_interface__ = array.__array_interface__


def borrowed(array: Array) -> Array:
    """An array of the same memory that does not keep it: to be used only while somebody else does."""
    made = np.asarray(_Memory(array))
    return made if made.dtype == array.dtype else made.view(array.dtype)


def owner(array: Array) -> Any:
    """The array that the memory belongs to; None where it belongs to something else."""
    while isinstance(array.base, np.ndarray):
        array = array.base
    return array if array.base is None else None


def overlap(a: Array, b: Array) -> bool:
    """Whether two arrays may share memory."""
    first, second = owner(a), owner(b)
    if first is not second and first is not None and second is not None:
        return False
    return bool(np.may_share_memory(a, b))


class Room:
    """Places in one piece of memory, for a time: a place that was left is given away again."""

    def __init__(self) -> None:
        self.size = 0
        self._holes: list[tuple[int, int]] = []  # (start, length), in order of start, no two adjacent

    def take(self, nbytes: int) -> int:
        """The start of so many bytes: in the smallest hole that has them, else at the end."""
        length = _rounded(nbytes)
        fitting = [(n, start, i) for i, (start, n) in enumerate(self._holes) if n >= length]
        if fitting:
            n, start, i = min(fitting)
            self._holes[i : i + 1] = [(start + length, n - length)] if n > length else []
            return start
        start = self.size
        if self._holes and sum(self._holes[-1]) == start:
            start = self._holes.pop()[0]
        self.size = start + length
        return start

    def give(self, start: int, nbytes: int) -> None:
        """Leave the place that `take` gave for so many bytes."""
        length = _rounded(nbytes)
        if not length:
            return
        merged: list[tuple[int, int]] = []
        for hole in sorted([*self._holes, (start, length)]):
            if merged and sum(merged[-1]) == hole[0]:
                merged[-1] = (merged[-1][0], merged[-1][1] + hole[1])
            else:
                merged.append(hole)
        self._holes = merged


def aligned(nbytes: int) -> Array:
    """So many bytes that start at a cache line."""
    raw = np.empty(nbytes + _LINE, np.uint8)
    skip = -raw.ctypes.data % _LINE
    return raw[skip : skip + nbytes]


def _rounded(nbytes: int) -> int:
    return -(-nbytes // _LINE) * _LINE
