"""Affine maps whose products are in the layout that BLAS is fastest in.

Two-dimensional activations are kept feature-major: the result of `linear` is the transpose of a
C-contiguous (out, batch) array, as then are the products of its gradients.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fw_cpu.constants import ones_of

Array = Any


def linear(x: Array, weight: Array, bias: Array = None) -> Array:
    """`x @ weight.T + bias`."""
    if x.ndim != 2:
        out = np.matmul(x, weight.T)
        if bias is not None:
            out += bias
        return out
    if len(x) == 1:  # a K = 1 product in the backward pass; here a matrix times a vector
        out = np.matmul(weight, x[0])
        if bias is not None:
            out += bias
        return out[None]
    out = np.matmul(weight, x.T)
    if bias is not None:
        out += bias[:, None]
    return out.T


def linear_dx(g: Array, weight: Array) -> Array:
    """`g @ weight`."""
    if g.ndim != 2:
        return np.matmul(g, weight)
    return np.matmul(weight.T, g.T).T


def linear_dw(g: Array, x: Array) -> Array:
    """`g.T @ x` over all rows."""
    if g.ndim != 2:
        g = g.reshape(-1, g.shape[-1])
        x = x.reshape(-1, x.shape[-1])
    if len(g) == 1:  # an outer product is not a GEMM, but one padded with a row of zeros is a fast one
        g2 = np.zeros((2, g.shape[1]), g.dtype)
        x2 = np.zeros((2, x.shape[1]), x.dtype)
        g2[0] = g[0]
        x2[0] = x[0]
        return np.matmul(g2.T, x2)
    return np.matmul(g.T, x)


def colsum(g: Array) -> Array:
    """Sum over all axes but the last."""
    if g.ndim == 2 and g.dtype.kind == "f":
        return np.matmul(g.T, ones_of(g.shape[0], g.dtype))
    return g.sum(axis=tuple(range(g.ndim - 1)))


def sum_of_squares(x: Array) -> Array:
    """The sum of x², by BLAS."""
    flat = x.ravel(order="K")
    return np.dot(flat, flat)


LINEAR: dict[str, Callable[..., Any]] = {f.__name__: f for f in (linear, linear_dx, linear_dw, colsum, sum_of_squares)}
"""Kernels by their names."""
