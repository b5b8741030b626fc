"""Affine maps whose products are in the layout that BLAS is fastest in.

Two-dimensional activations are kept feature-major: the result of `linear` is the transpose of a
C-contiguous (out, batch) array, as then are the products of its gradients. `ndarray.dot` calls the same
function of BLAS as `numpy.matmul` and takes a third of the time of a small product to get there.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fw_cpu.constants import ones_of
from fw_cpu.sharing import product

Array = Any


def linear(x: Array, weight: Array, bias: Array = None) -> Array:
    """`x @ weight.T + bias`."""
    if x.ndim != 2:
        return _by_rows(x, weight.T, bias)
    out = product(weight, x.T)
    if bias is not None:
        out += bias[:, None]
    return out.T


def _by_rows(x: Array, matrix: Array, bias: Array = None) -> Array:
    """`x @ matrix + bias`: one product where the rows of x lie one after the other, else one for each matrix in x."""
    if x.ndim > 2 and matrix.ndim == 2 and x.flags.c_contiguous:
        return product(x.reshape(-1, x.shape[-1]), matrix, None, bias).reshape(*x.shape[:-1], matrix.shape[1])
    out = np.matmul(x, matrix)
    if bias is not None:
        out += bias
    return out


def linear_dx(g: Array, weight: Array) -> Array:
    """`g @ weight`."""
    if g.ndim != 2:
        return _by_rows(g, weight)
    return product(weight.T, g.T).T


def _writable(out: Array, dtype: Any) -> Array:
    """`out` if BLAS may write a result of this dtype to it; else None."""
    return out if out is not None and out.flags.c_contiguous and out.dtype == dtype else None


OUTER = "i,j->ij"


def is_large_outer(g: Array, x: Array) -> bool:
    """Whether `g.T @ x` is an outer product of so many numbers that writing them takes the time; no GEMM is as fast."""
    return len(g) == 1 and g.size * x.size > 1 << 17


def linear_dw(g: Array, x: Array, out: Array = None) -> Array:
    """`g.T @ x` over all rows."""
    if out is not None:
        out = _writable(out, g.dtype)
    if g.ndim != 2:
        g = g.reshape(-1, g.shape[-1])
        x = x.reshape(-1, x.shape[-1])
    if is_large_outer(g, x):
        return np.einsum(OUTER, g[0], x[0], out=out)
    return product(g.T, x, out)


def colsum(g: Array, out: Array = None) -> Array:
    """Sum over all axes but the last."""
    if out is not None:
        out = _writable(out, g.dtype)
    if g.ndim > 2 and g.flags.c_contiguous:
        g = g.reshape(-1, g.shape[-1])
    if g.ndim == 2 and (ones := ones_of(len(g), g.dtype)) is not None:
        return g.T.dot(ones, out)
    return g.sum(axis=tuple(range(g.ndim - 1)))


def sum_of_squares(x: Array) -> Array:
    """The sum of x², by BLAS."""
    flat = x.ravel(order="K")
    return np.dot(flat, flat)


LINEAR: dict[str, Callable[..., Any]] = {f.__name__: f for f in (linear, linear_dx, linear_dw, colsum, sum_of_squares)}
"""Kernels by their names."""
