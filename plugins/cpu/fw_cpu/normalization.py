"""Normalisation without temporaries: sums by BLAS where the layout allows, everything else in place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any
Axis = tuple[int, ...]


def _count(x: Array, axis: Axis) -> int:
    n = 1
    for a in axis:
        n *= x.shape[a]
    return n or 1


def _sum(x: Array, axis: Axis) -> Array:
    """Sum over `axis`, with axes of length one: a product with ones, where that is one."""
    if x.dtype.kind == "f":
        if axis == (-1,):
            return np.matmul(x, np.ones(x.shape[-1], x.dtype))[..., None]
        if axis == (-2,) and x.ndim == 2:
            return np.matmul(x.T, np.ones(x.shape[0], x.dtype))[None]
        if axis == (-3, -1) and x.ndim == 3:
            rows = np.matmul(x, np.ones(x.shape[2], x.dtype))
            return np.matmul(rows.T, np.ones(x.shape[0], x.dtype))[None, :, None]
    return np.add.reduce(x, axis=axis, keepdims=True)


def _sum_of_products(x: Array, y: Array, axis: Axis) -> Array:
    """The sum of x·y over `axis`, with axes of length one."""
    if axis == (-1,):
        return np.vecdot(x, y)[..., None]
    if axis == (-2,) and x.ndim == 2:
        return np.einsum("ij,ij->j", x, y)[None]
    if axis == (-3, -1) and x.ndim == 3:
        return np.einsum("ijk,ijk->j", x, y)[None, :, None]
    return np.add.reduce(x * y, axis=axis, keepdims=True)


def batch_norm(x: Array, weight: Array, bias: Array, *, axis: Axis, eps: float) -> tuple[Array, Array, Array]:
    """The normalised array, mean and variance."""
    n = _count(x, axis)
    mean = _sum(x, axis) / n
    out = x - mean
    var = _sum_of_products(out, out, axis) / n
    scale = 1.0 / np.sqrt(var + eps)
    out *= scale if weight is None else scale * weight
    if bias is not None:
        out += bias
    return out, mean, var


def batch_norm_grad(
    g: Array, x: Array, mean: Array, inverse: Array, weight: Array, axis: Axis
) -> tuple[Array, Array, Array]:
    """Gradients of the input, the weight and the bias."""
    n = _count(x, axis)
    out = x - mean
    gb = _sum(g, axis)
    gw = _sum_of_products(g, out, axis) * inverse
    out *= gw * inverse / -n
    out += g
    out -= gb / n
    out *= inverse if weight is None else inverse * weight
    return out, gw, gb


def layer_norm(x: Array, weight: Array, bias: Array, *, axis: Axis, eps: float) -> tuple[Array, tuple[Array, Array]]:
    """The normalised array, and what its gradient needs."""
    n = _count(x, axis)
    mean = _sum(x, axis) / n
    out = x - mean
    inverse = 1.0 / np.sqrt(_sum_of_products(out, out, axis) / n + eps)
    out *= inverse
    if weight is not None:
        out *= weight
    if bias is not None:
        out += bias
    return out, (mean, inverse)


def layer_norm_grad(g: Array, x: Array, mean: Array, inverse: Array, weight: Array, axis: Axis) -> tuple[Array, Array]:
    """Gradients of the input, and of a weight as large as the input."""
    n = _count(x, axis)
    out = x - mean
    out *= inverse
    gw = g * out
    if weight is not None:
        g = g * weight
    along = _sum_of_products(g, out, axis) / -n
    out *= along
    out += g
    out -= _sum(g, axis) / n
    out *= inverse
    return out, gw


NORMALIZATION: dict[str, Callable[..., Any]] = {
    f.__name__: f for f in (batch_norm, batch_norm_grad, layer_norm, layer_norm_grad)
}
"""Kernels by their names."""
