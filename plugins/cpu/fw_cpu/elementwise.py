"""Element by element, and reductions without the functions that NumPy wraps its own methods in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any

_maximum, _greater = np.maximum, np.greater
_zeros: dict[tuple[Any, ...], Array] = {}
_zero: dict[Any, Array] = {}  # of no axes; beside it NumPy does not look at what a Python number would become


def relu(x: Array) -> Array:
    """max(x, 0): with an array of zeros, because NumPy does not vectorise the scalar form."""
    try:
        return _maximum(x, _zeros[x.shape, x.strides, x.dtype])
    except KeyError:
        pass
    if x.ndim == 0:
        return np.maximum(x, x.dtype.type(0))
    if x.nbytes > _LARGE:
        return _relu_in_blocks(x)
    if len(_zeros) > 16:
        _zeros.clear()
    # zeros in the same layout: images may be channels last
    zeros = _zeros[x.shape, x.strides, x.dtype] = np.zeros_like(x, subok=False)
    return np.maximum(x, zeros)


_LARGE = 1 << 22
"""Bytes from which on zeros are not kept."""


def _relu_in_blocks(x: Array) -> Array:
    """max(x, 0) of a large array, beside few zeros."""
    order = sorted(range(x.ndim), key=lambda a: -x.strides[a])
    if not x.transpose(order).flags.c_contiguous:
        return np.maximum(x, np.zeros_like(x, subok=False))
    out = np.empty_like(x)
    given, made = x.transpose(order).reshape(-1), out.transpose(order).reshape(-1)
    step = 1 << 16
    zeros = _zeros.setdefault((step, x.dtype), np.zeros(step, x.dtype))
    for i in range(0, len(given), step):
        part = given[i : i + step]
        np.maximum(part, zeros[: len(part)], out=made[i : i + step])
    return out


def relu_grad(g: Array, out: Array) -> Array:
    """`g` where `out > 0`: to multiply by numbers is faster than by bools, their conversion included."""
    try:
        zero = _zero[out.dtype]
    except KeyError:
        zero = _zero[out.dtype] = np.zeros((), out.dtype)
    return g * _greater(out, zero).astype(g.dtype)


_sum: Any = np.add.reduce
_min: Any = np.minimum.reduce
_max: Any = np.maximum.reduce


def sum(x: Array, *, axis: Any = None, keepdims: bool = False) -> Array:
    """Sum over `axis`."""
    return _sum(x, axis=axis, keepdims=keepdims)


def min(x: Array, *, axis: Any, keepdims: bool) -> Array:
    """Minimum over `axis`, without NumPy's wrapper."""
    if axis is None and not keepdims and x.ndim == 1 and x.dtype.kind == "i" and len(x):
        return x[x.argmin()]  # a third of the time of a small reduction
    return _min(x, axis=axis, keepdims=keepdims)


def max(x: Array, *, axis: Any, keepdims: bool) -> Array:
    """Maximum over `axis`, without NumPy's wrapper."""
    return _max(x, axis=axis, keepdims=keepdims)


def astype(x: Array, dtype: Any) -> Array:
    """A copy cast to `dtype`."""
    return x.astype(dtype)


ELEMENTWISE: dict[str, Callable[..., Any]] = {f.__name__: f for f in (relu, relu_grad, sum, min, max, astype)}
"""Kernels by their names."""
