"""Reading and writing at indices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any

_FREQUENT = 16
"""Rows named more often than this are summed one by one; the others side by side, a value of each at a time."""


def embedding_grad(g: Array, indices: Array, rows: int, padding_idx: int | None = None) -> Array:
    """Zeros (rows, n) with `g` (..., n) added at rows `indices` (...): grouped by a sort, then whole rows are added."""
    return _add_rows(np.zeros((rows, g.shape[-1]), g.dtype), g, indices, rows, padding_idx)


def embedding_grad_to(out: Array, g: Array, indices: Array, rows: int, padding_idx: int | None = None) -> Array:
    """`embedding_grad`, written to `out`."""
    out.fill(0)
    return _add_rows(out, g, indices, rows, padding_idx)


def _add_rows(out: Array, g: Array, indices: Array, rows: int, padding_idx: int | None) -> Array:
    n, width = indices.size, g.shape[-1]
    if not n:
        return out
    g = g.reshape(n, width)
    named = indices.reshape(n)
    order = np.argsort(named.astype(np.uint16) if rows <= 1 << 16 else named, kind="stable")  # 16 bits sort by radix
    named = named[order]
    starts = np.append(0, np.flatnonzero(named[1:] != named[:-1]) + 1)
    counts = np.diff(starts, append=n)
    falling = np.argsort(-counts, kind="stable")
    starts, counts = starts[falling], counts[falling]
    names = named[starts]
    alone = int(np.searchsorted(-counts, -_FREQUENT))  # how many are named more often
    for row, start, count in zip(names[:alone].tolist(), starts[:alone].tolist(), counts[:alone].tolist()):
        np.add.reduce(g.take(order[start : start + count], axis=0), axis=0, out=out[row])
    names, starts, counts = names[alone:], starts[alone:], counts[alone:]
    if len(names):
        sums = g.take(order[starts], axis=0)
        for k in range(1, int(counts[0])):
            live = int(np.searchsorted(-counts, -k))
            sums[:live] += g.take(order[starts[:live] + k], axis=0)
        out[names] = sums
    if padding_idx is not None:
        out[padding_idx] = 0
    return out


def scatter_add(array: Array, key: Any, values: Array) -> Array:
    """A copy of `array` with `values` added at `key`."""
    out = np.array(array)  # a scalar, which NumPy makes of 0-d results, cannot be written to
    np.add.at(out, key, values)
    return out


def set_item(array: Array, key: Any, values: Array) -> Array:
    """A copy of `array` with `values` at `key`; where a place is named several times, the last of them.

    NumPy writes in the order of memory, so that it is the last only if all lie in memory as they are read.
    """
    out = np.array(array)  # a scalar, which NumPy makes of 0-d results, cannot be written to
    key = tuple([np.asarray(k, order="C") if isinstance(k, np.ndarray) else k for k in key])
    out[key] = np.asarray(values, order="C")
    return out


def get_item(array: Array, key: Any) -> Array:
    """`array[key]`."""
    return array[key]


INDEXING: dict[str, Callable[..., Any]] = {f.__name__: f for f in (embedding_grad, scatter_add, set_item, get_item)}
"""Kernels by their names."""
