"""Batches in arrays that are used again: for a consumer that lets go of each before it asks for the next."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from sys import getrefcount
from typing import Any

import numpy as np

from framework.autodiff.tape import counts_are_exact
from framework.data.transforms import Normalize

_LINE = 64  # bytes; operations on arrays that begin elsewhere take up to a sixth longer
Array = np.ndarray[Any, np.dtype[Any]]


class Lender:
    """Gives arrays; an earlier one once more where nobody holds it or a view of it.

    Two are remembered, for a consumer that holds one batch while it asks for the next.

    Args:
        shape: of one row.
        dtype: of all.

    Examples:
        >>> lend = Lender((2,), np.dtype("uint8"))
        >>> first = lend(3)
        >>> lend(3) is first
        False
        >>> place = id(first)
        >>> del first
        >>> id(lend(3)) == place
        True
    """

    def __init__(self, shape: Sequence[int], dtype: np.dtype[Any]) -> None:
        self._shape = tuple(shape)
        self._dtype = dtype
        self._arrays: list[tuple[Array, Array]] = []

    def __call__(self, rows: int) -> Array:
        """An array of so many rows, with any content."""
        for array, memory in self._arrays:
            # A view of the array refers to its memory alone.
            if len(array) == rows and counts_are_exact and (getrefcount(array), getrefcount(memory)) == _ALONE:
                return array
        array, memory = _aligned((rows, *self._shape), self._dtype)
        self._arrays = [*self._arrays[-1:], (array, memory)]
        return array


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> tuple[Array, Array]:
    """An array that begins with a cache line, and the array that owns its memory."""
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + _LINE, np.uint8)
    start = -memory.ctypes.data % _LINE
    return memory[start : start + size].view(dtype).reshape(shape), memory


def _alone() -> tuple[int, int]:
    """The counts of references to an array that only a Lender holds, and to its memory, as it sees them."""
    for array, memory in [_aligned((1,), np.dtype(np.uint8))]:
        return getrefcount(array), getrefcount(memory)
    return 0, 0


_ALONE = _alone()


def lending_reader(
    arrays: Sequence[Array], normalize: Normalize | None
) -> Callable[[Array | slice], tuple[Array, ...]]:
    """What reads a batch of C-contiguous arrays, at a slice or at indices that are known to be inside them.

    Args:
        arrays: as in an ArrayDataset.
        normalize: its transform, applied to the first of them.
    """
    gathers = [_gather(array) for array in arrays]
    if normalize is not None:
        gathers[0] = _normalized(arrays[0], normalize)

    def read(indices: Array | slice) -> tuple[Array, ...]:
        return tuple([gather(indices) for gather in gathers])

    return read


def _gather(array: Array) -> Callable[[Array | slice], Array]:
    lend, take = Lender(array.shape[1:], array.dtype), array.take

    def gather(indices: Array | slice) -> Array:
        if type(indices) is slice:
            rows = array[indices]
            out = lend(len(rows))
            out[...] = rows
            return out
        # Told to raise, NumPy would gather into an array of its own first.
        return take(indices, 0, lend(len(indices)), "clip")

    return gather


def _normalized(array: Array, normalize: Normalize) -> Callable[[Array | slice], Array]:
    lend_rows, take = Lender(array.shape[1:], array.dtype), array.take
    lend = Lender(array.shape[1:], normalize.affine(array.dtype)[0].dtype)

    def gather(indices: Array | slice) -> Array:
        if type(indices) is slice:
            rows = array[indices]
        else:
            rows = take(indices, 0, lend_rows(len(indices)), "clip")
        return normalize(rows, lend(len(rows)))

    return gather
