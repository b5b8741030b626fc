"""Norms of vectors and matrices, and the table of the standard's extension `linalg`.

At a kink they have the gradient of what they are made of: 0 where the norm is 0, shared equally among
ties of a largest element.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from framework.autodiff.kinds import negative_axes
from framework.autodiff.namespace import ops
from framework.autodiff.primitive import public
from framework.autodiff.primitives import decompositions, inverses, linalg, products, pseudoinverse, shape
from framework.autodiff.primitives.matrices import floating, matrix
from framework.autodiff.tensor import Tensor
from framework.errors import ConfigError, ShapeError

Axis = int | Sequence[int] | None


def _safe_pow(x: Tensor, exponent: float) -> Tensor:
    """x^exponent of non-negative numbers, with derivative 0 at 0."""
    zero = x == 0
    at_zero = 0.0 if exponent > 0 else math.inf
    return ops.where(zero, at_zero, ops.where(zero, 1.0, x) ** exponent)


@public
def vector_norm(x: Any, /, *, axis: Axis = None, keepdims: bool = False, ord: float = 2) -> Tensor:
    """The norm of vectors along `axis`; over several axes, or all (None), as if they were one.

    Args:
        ord: p of (Σ|x|^p)^(1/p); infinity for the largest and minus infinity for the smallest |x|;
            0 for the number of elements that are not zero, which has no derivative.

    Examples:
        >>> import framework.numpy as np
        >>> np.linalg.vector_norm(np.asarray([3.0, 4.0])).item()
        5.0
    """
    x = floating(x)
    axes = negative_axes(axis, x.ndim)
    kw: dict[str, Any] = {"axis": axes, "keepdims": keepdims}
    if ord == 0:
        plain = ops.stop_gradient(x)
        return ops.sum(ops.astype(plain != 0, ops.abs(plain).dtype), **kw)
    if ord == 2 and x.dtype.kind == "float":
        return ops.sqrt(ops.sum(x * x, **kw))
    size = ops.abs(x)
    if ord == math.inf:  # |x| ≥ 0, so a norm of nothing is 0
        return ops.max(size, **kw) if math.prod(x.shape[a] for a in axes) else ops.sum(size, **kw)
    if ord == -math.inf:
        return ops.min(size, **kw)
    if ord == 1:
        return ops.sum(size, **kw)
    if ord == 2:
        return ops.sqrt(ops.sum(size * size, **kw))
    return _safe_pow(ops.sum(_safe_pow(size, ord), **kw), 1 / ord)


@public
def matrix_norm(x: Any, /, *, keepdims: bool = False, ord: Any = "fro") -> Tensor:
    """The norm of matrices (..., M, N).

    Args:
        ord: `"fro"`, the root of the sum of squares; `"nuc"`, the sum of singular values; 2 and -2, the
            largest and the smallest of them; 1 and -1, the largest and the smallest sum of |x| down a
            column; infinity and minus infinity, along a row.

    Raises:
        ConfigError: no such norm.
    """
    x = matrix("matrix_norm", x)
    if ord is None or ord == "fro":
        return vector_norm(x, axis=(-2, -1), keepdims=keepdims)
    if ord in ("nuc", 2, -2):
        s = ops.svdvals(x)
        out = ops.sum(s, axis=-1) if ord == "nuc" else _extremum(s, ord)
    elif ord in (1, -1, math.inf, -math.inf):
        sums = ops.sum(ops.abs(x), axis=-2 if abs(ord) == 1 else -1)
        out = _extremum(sums, ord)
    else:
        raise ConfigError(f"matrix_norm: ord is 'fro', 'nuc', 1, -1, 2, -2, inf or -inf, got {ord!r}")
    return ops.reshape(out, (*out.shape, 1, 1)) if keepdims else out


def _extremum(x: Tensor, ord: float) -> Tensor:
    """The largest, or for negative `ord` the smallest, of non-negative numbers along the last axis."""
    if ord < 0:
        return ops.min(x, axis=-1)
    return ops.max(x, axis=-1) if x.shape[-1] else ops.sum(x, axis=-1)


def norm(x: Any, /, ord: Any = None, axis: Axis = None, keepdims: bool = False) -> Tensor:
    """NumPy's norm: of vectors along one axis, of matrices along two; of all elements where neither is said.

    Raises:
        ShapeError: more than two axes, or `ord` for an array that is neither a vector nor a matrix.
    """
    x = floating(x)
    if axis is None and ord is None:
        return vector_norm(x, keepdims=keepdims)
    axes = negative_axes(axis, x.ndim)
    if len(axes) == 1:
        if isinstance(ord, str):
            raise ConfigError(f"norm of vectors: ord is a number, got {ord!r}")
        return vector_norm(x, axis=axes, keepdims=keepdims, ord=2 if ord is None else ord)
    if len(axes) != 2:
        raise ShapeError(f"norm is of one axis or two, got {len(axes)}; give axis=, or use vector_norm")
    rest = [a for a in range(-x.ndim, 0) if a not in axes]
    out = matrix_norm(ops.permute_dims(x, (*rest, *axes)), ord=ord)
    if not keepdims:
        return out
    return ops.reshape(out, tuple(1 if i - x.ndim in axes else n for i, n in enumerate(x.shape)))


ops.linalg = SimpleNamespace(
    cholesky=inverses.cholesky,
    cross=products.linalg_cross,
    det=inverses.det,
    diagonal=products.linalg_diagonal,
    eigh=decompositions.eigh,
    eigvalsh=decompositions.eigvalsh,
    inv=inverses.inv,
    matmul=linalg.matmul,
    matrix_norm=matrix_norm,
    matrix_power=inverses.matrix_power,
    matrix_rank=pseudoinverse.matrix_rank,
    matrix_transpose=shape.matrix_transpose,
    norm=norm,
    outer=products.linalg_outer,
    pinv=pseudoinverse.pinv,
    qr=decompositions.qr,
    slogdet=inverses.slogdet,
    solve=inverses.solve,
    svd=decompositions.svd,
    svdvals=decompositions.svdvals,
    tensordot=products.tensordot,
    trace=products.linalg_trace,
    vecdot=products.vecdot,
    vector_norm=vector_norm,
)
"""The standard's extension `linalg`, and NumPy's `norm`. Of the functions that NumPy has under the same name at
the top, with other defaults, `ops` holds NumPy's: `ops.trace` takes the first two axes, `ops.linalg.trace` the last."""
