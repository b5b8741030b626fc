"""Normalisation without temporaries: sums by BLAS where the layout allows, everything else in place."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fw_cpu.sharing import each

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


# Each function that ends in `_to` is given the array, or the arrays, for what is as large as the input.


def batch_norm(x: Array, weight: Array, bias: Array, *, axis: Axis, eps: float) -> tuple[Array, Array, Array]:
    """The normalised array, mean and variance."""
    return batch_norm_to(None, x, weight, bias, axis=axis, eps=eps)


def batch_norm_to(
    out: Array, x: Array, weight: Array, bias: Array, *, axis: Axis, eps: float
) -> tuple[Array, Array, Array]:
    """`batch_norm`, written to `out`."""
    n = _count(x, axis)
    mean = _sum(x, axis) / n
    out = np.subtract(x, mean, out)
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
    return batch_norm_grad_to(None, g, x, mean, inverse, weight, axis)


def batch_norm_grad_to(
    out: Array, g: Array, x: Array, mean: Array, inverse: Array, weight: Array, axis: Axis
) -> tuple[Array, Array, Array]:
    """`batch_norm_grad`, the first written to `out`."""
    n = _count(x, axis)
    out = np.subtract(x, mean, out)
    gb = _sum(g, axis)
    gw = _sum_of_products(g, out, axis) * inverse
    out *= gw * inverse / -n
    out += g
    out -= gb / n
    out *= inverse if weight is None else inverse * weight
    return out, gw, gb


_LARGE = 1 << 17
"""Arrays of more elements than this are normalised block by block: each comes from memory once, not once a pass."""
_BLOCK = 1 << 17
"""Elements of a block of rows: of fewer, the calls cost more than the cache saves."""


def _rows(x: Array, axis: Axis, *weights: Array) -> tuple[Array, ...] | None:
    """x as a matrix of rows to be normalised, weights as rows; None where memory or shapes are not such."""
    k = len(axis)
    if x.size <= _LARGE or not x.flags.c_contiguous or sorted(axis) != list(range(-k, 0)):
        return None
    if not all(w is None or w.shape == x.shape[-k:] for w in weights):
        return None
    return x.reshape(-1, _count(x, axis)), *[None if w is None else w.reshape(-1) for w in weights]


def _blocks(rows: Array) -> Iterator[slice]:
    step = max(1, _BLOCK // rows.shape[1])
    for i in range(0, len(rows), step):
        yield slice(i, i + step)


def layer_norm(x: Array, weight: Array, bias: Array, *, axis: Axis, eps: float) -> tuple[Array, tuple[Array, Array]]:
    """The normalised array, and what its gradient needs."""
    return layer_norm_to(np.empty_like(x, subok=False), x, weight, bias, axis=axis, eps=eps)


def layer_norm_to(
    out: Array, x: Array, weight: Array, bias: Array, *, axis: Axis, eps: float
) -> tuple[Array, tuple[Array, Array]]:
    """`layer_norm`, written to `out`."""
    rows = _rows(x, axis, weight, bias)
    if rows is None:
        return out, _normalize(x, weight, bias, axis, eps, out)
    x2, weight, bias = rows
    out2 = out.reshape(x2.shape)
    moments = np.empty((2, len(x2), 1), x.dtype)

    def normalize(block: slice) -> None:
        moments[:, block] = _normalize(x2[block], weight, bias, (-1,), eps, out2[block])

    each(normalize, _blocks(x2))
    shape = x.shape[: -len(axis)] + (1,) * len(axis)
    return out, (moments[0].reshape(shape), moments[1].reshape(shape))


def _normalize(x: Array, weight: Array, bias: Array, axis: Axis, eps: float, out: Array) -> tuple[Array, Array]:
    n = _count(x, axis)
    mean = _sum(x, axis) / n
    np.subtract(x, mean, out=out)
    inverse = 1.0 / np.sqrt(_sum_of_products(out, out, axis) / n + eps)
    out *= inverse
    if weight is not None:
        out *= weight
    if bias is not None:
        out += bias
    return mean, inverse


def layer_norm_grad(g: Array, x: Array, mean: Array, inverse: Array, weight: Array, axis: Axis) -> tuple[Array, Array]:
    """Gradients of the input, and of a weight as large as the input."""
    outs = np.empty_like(x, subok=False), np.empty_like(x, subok=False)
    return layer_norm_grad_to(outs, g, x, mean, inverse, weight, axis)


def layer_norm_grad_to(
    outs: Any, g: Array, x: Array, mean: Array, inverse: Array, weight: Array, axis: Axis
) -> tuple[Array, Array]:
    """`layer_norm_grad`, written to two arrays."""
    gx, gw = outs
    rows = _rows(x, axis, weight)
    if rows is None or not g.flags.c_contiguous:
        _differentiate(g, x, mean, inverse, weight, axis, gx, gw)
        return gx, gw
    x2, weight = rows
    g2, out2, gw2 = g.reshape(x2.shape), gx.reshape(x2.shape), gw.reshape(x2.shape)
    mean, inverse = mean.reshape(-1, 1), inverse.reshape(-1, 1)

    def differentiate(block: slice) -> None:
        _differentiate(g2[block], x2[block], mean[block], inverse[block], weight, (-1,), out2[block], gw2[block])

    each(differentiate, _blocks(x2))
    return gx, gw


def _differentiate(
    g: Array, x: Array, mean: Array, inverse: Array, weight: Array, axis: Axis, out: Array, gw: Array
) -> None:
    n = _count(x, axis)
    np.subtract(x, mean, out=out)
    out *= inverse
    np.multiply(g, out, out=gw)
    if weight is not None:
        g = g * weight
    along = _sum_of_products(g, out, axis) / -n
    out *= along
    out += g
    out -= _sum(g, axis) / n
    out *= inverse


NORMALIZATION: dict[str, Callable[..., Any]] = {
    f.__name__: f for f in (batch_norm, batch_norm_grad, layer_norm, layer_norm_grad)
}
"""Kernels by their names."""
