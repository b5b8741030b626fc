"""Element by element, and reductions without the functions that NumPy wraps its own methods in."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any

_zeros: dict[tuple[Any, ...], Array] = {}


def relu(x: Array) -> Array:
    """max(x, 0): with an array of zeros, because NumPy does not vectorise the scalar form."""
    if x.ndim == 0:
        return np.maximum(x, x.dtype.type(0))
    key = (x.shape, x.dtype, x.flags.f_contiguous)
    zeros = _zeros.get(key)
    if zeros is None:
        if len(_zeros) > 16:
            _zeros.clear()
        zeros = np.zeros(x.shape, x.dtype, order="F" if x.flags.f_contiguous else "C")
        if zeros.nbytes <= 1 << 22:
            _zeros[key] = zeros
    return np.maximum(x, zeros)


def relu_grad(g: Array, out: Array) -> Array:
    """`g` where `out > 0`."""
    return g * (out > 0)


_sum: Any = np.add.reduce
_min: Any = np.minimum.reduce
_max: Any = np.maximum.reduce


def sum(x: Array, *, axis: Any = None, keepdims: bool = False) -> Array:
    """Sum over `axis`."""
    return _sum(x, axis=axis, keepdims=keepdims)


def min(x: Array, *, axis: Any, keepdims: bool) -> Array:
    """Minimum over `axis`, without NumPy's wrapper."""
    return _min(x, axis=axis, keepdims=keepdims)


def max(x: Array, *, axis: Any, keepdims: bool) -> Array:
    """Maximum over `axis`, without NumPy's wrapper."""
    return _max(x, axis=axis, keepdims=keepdims)


def astype(x: Array, dtype: Any) -> Array:
    """A copy cast to `dtype`."""
    return x.astype(dtype)


ELEMENTWISE: dict[str, Callable[..., Any]] = {f.__name__: f for f in (relu, relu_grad, sum, min, max, astype)}
"""Kernels by their names."""
