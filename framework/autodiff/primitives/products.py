"""Products of arrays beside `matmul`, composed of it: their derivatives are those of the parts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import index
from typing import Any

from framework.autodiff.convert import as_tensor
from framework.autodiff.kinds import negative_axis
from framework.autodiff.namespace import ops
from framework.autodiff.primitive import public
from framework.autodiff.primitives.matrices import pair
from framework.autodiff.tensor import Tensor
from framework.errors import ShapeError


def _permuted(x: Tensor, order: Sequence[int]) -> Tensor:
    return x if list(order) == list(range(x.ndim)) else ops.permute_dims(x, tuple(order))


def _contracted_axes(x1: Tensor, x2: Tensor, axes: Any) -> tuple[list[int], list[int]]:
    """The axes to sum over, of each array, as non-negative numbers."""
    if isinstance(axes, int) or getattr(axes, "ndim", None) == 0:
        axes = index(axes)
        if not 0 <= axes <= min(x1.ndim, x2.ndim):
            raise ShapeError(f"tensordot over {axes} axes of arrays with {x1.ndim} and {x2.ndim} axes")
        return list(range(x1.ndim - axes, x1.ndim)), list(range(axes))
    first, second = ([a] if isinstance(a, int) else list(a) for a in axes)
    if len(first) != len(second):
        raise ShapeError(f"tensordot needs as many axes of the first array as of the second, got {first} and {second}")
    return (
        [negative_axis(a, x1.ndim) + x1.ndim for a in first],
        [negative_axis(a, x2.ndim) + x2.ndim for a in second],
    )


@public
def tensordot(x1: Any, x2: Any, /, axes: int | tuple[Sequence[int], Sequence[int]] = 2) -> Tensor:
    """The sum of products over axes of both arrays; the remaining ones of x1, then of x2, stay.

    Args:
        axes: how many, the last of x1 and the first of x2; or which, a sequence for each array.

    Raises:
        ShapeError: the lengths of the axes differ.
    """
    x1, x2 = pair(x1, x2)
    first, second = _contracted_axes(x1, x2, axes)
    if [x1.shape[a] for a in first] != [x2.shape[a] for a in second]:
        raise ShapeError(
            f"tensordot of shapes {x1.shape} and {x2.shape}: axes {first} of the first must be as long as "
            f"axes {second} of the second"
        )
    free1 = [a for a in range(x1.ndim) if a not in first]
    free2 = [a for a in range(x2.ndim) if a not in second]
    shape1, shape2 = [x1.shape[a] for a in free1], [x2.shape[a] for a in free2]
    inner = math.prod(x1.shape[a] for a in first)
    left = ops.reshape(_permuted(x1, free1 + first), (math.prod(shape1), inner))
    right = ops.reshape(_permuted(x2, second + free2), (inner, math.prod(shape2)))
    return ops.reshape(ops.matmul(left, right), (*shape1, *shape2))


@public
def vecdot(x1: Any, x2: Any, /, axis: int = -1) -> Tensor:
    """The dot product of vectors along `axis`, those of x1 conjugated; the other axes broadcast.

    Raises:
        ShapeError: the vectors differ in length.
    """
    x1, x2 = pair(x1, x2)
    a, b = negative_axis(axis, x1.ndim), negative_axis(axis, x2.ndim)
    if x1.shape[a] != x2.shape[b]:
        raise ShapeError(f"vecdot along axis {axis} of shapes {x1.shape} and {x2.shape}: lengths differ")
    x1, x2 = ops.moveaxis(x1, a, -1), ops.moveaxis(x2, b, -1)
    if x1.dtype.kind == "complex":
        x1 = ops.conj(x1)
    out = ops.matmul(ops.expand_dims(x1, axis=-2), ops.expand_dims(x2, axis=-1))
    return ops.squeeze(out, axis=(-2, -1))


@public
def outer(x1: Any, x2: Any, /) -> Tensor:
    """The products of all pairs, (M,) and (N,) give (M, N); arrays with more axes are flattened first."""
    x1, x2 = (ops.ravel(x) for x in pair(x1, x2))
    return ops.expand_dims(x1, axis=-1) * x2


@public
def inner(x1: Any, x2: Any, /) -> Tensor:
    """The sum of products over the last axes; a number scales."""
    x1, x2 = pair(x1, x2)
    return tensordot(x1, x2, axes=((-1,), (-1,))) if x1.ndim and x2.ndim else x1 * x2


@public
def dot(x1: Any, x2: Any, /) -> Tensor:
    """The sum of products over the last axis of x1 and the last but one (or only) of x2; a number scales."""
    x1, x2 = pair(x1, x2)
    if not x1.ndim or not x2.ndim:
        return x1 * x2
    return tensordot(x1, x2, axes=((-1,), (-1 if x2.ndim == 1 else -2,)))


@public
def cross(x1: Any, x2: Any, /, axis: int = -1) -> Tensor:
    """The vector product in three dimensions, along `axis`; the other axes broadcast.

    Raises:
        ShapeError: an axis is not of length 3.
    """
    x1, x2 = pair(x1, x2)
    a, b = negative_axis(axis, x1.ndim), negative_axis(axis, x2.ndim)
    if x1.shape[a] != 3 or x2.shape[b] != 3:
        raise ShapeError(f"cross is of vectors of length 3, got shapes {x1.shape} and {x2.shape} along axis {axis}")
    x1, x2 = ops.moveaxis(x1, a, -1), ops.moveaxis(x2, b, -1)
    out = _turned(x1, 1) * _turned(x2, 2) - _turned(x1, 2) * _turned(x2, 1)
    return ops.moveaxis(out, -1, a if axis < 0 else axis)


def _turned(x: Tensor, by: int) -> Tensor:
    """The components of vectors, cyclically from number `by` on."""
    return ops.concat([x[..., by:], x[..., :by]], axis=-1)


@public
def kron(x1: Any, x2: Any, /) -> Tensor:
    """The Kronecker product: each element of x1 replaced by it times all of x2."""
    x1, x2 = pair(x1, x2)
    rank = max(x1.ndim, x2.ndim)
    shape1, shape2 = (1,) * (rank - x1.ndim) + x1.shape, (1,) * (rank - x2.ndim) + x2.shape
    left = ops.reshape(x1, tuple(n for length in shape1 for n in (length, 1)))
    right = ops.reshape(x2, tuple(n for length in shape2 for n in (1, length)))
    return ops.reshape(left * right, tuple(n * m for n, m in zip(shape1, shape2)))


# -- diagonals -------------------------------------------------------------------------------------


def last_diagonal(x: Any, offset: int) -> Tensor:
    """The diagonal of the last two axes, `offset` above the main one, as a new last axis.

    In the flattened matrix its elements are equally far apart.
    """
    x = as_tensor(x)
    if x.ndim < 2:
        raise ShapeError(f"a diagonal needs two axes, got shape {x.shape}")
    m, n = x.shape[-2:]
    length = max(min(m, n - offset) if offset >= 0 else min(m + offset, n), 0)
    start = offset if offset >= 0 else -offset * n
    flat = ops.reshape(x, (*x.shape[:-2], m * n))
    return flat[..., start : start + (length - 1) * (n + 1) + 1 : n + 1] if length else flat[..., :0]


def _two_last(x: Tensor, axis1: int, axis2: int) -> Tensor:
    """`x` with two axes moved behind the others."""
    a, b = negative_axis(axis1, x.ndim) + x.ndim, negative_axis(axis2, x.ndim) + x.ndim
    if a == b:
        raise ShapeError(f"a diagonal is of two different axes, got axis {axis1} twice")
    return _permuted(x, [i for i in range(x.ndim) if i not in (a, b)] + [a, b])


@public
def diagonal(x: Any, /, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The diagonal of two axes, as a new last axis, `offset` above the main one.

    As NumPy's, it takes the first two axes; `linalg.diagonal` takes the last two.
    """
    return last_diagonal(_two_last(as_tensor(x), axis1, axis2), offset)


@public
def trace(x: Any, /, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None) -> Tensor:
    """The sum of a diagonal; see `diagonal` for the axes."""
    return _total(diagonal(x, offset, axis1, axis2), dtype)


def linalg_diagonal(x: Any, /, *, offset: int = 0) -> Tensor:
    """The diagonal of matrices (..., M, N), `offset` above the main one."""
    return last_diagonal(x, offset)


def linalg_trace(x: Any, /, *, offset: int = 0, dtype: Any = None) -> Tensor:
    """The sum of the diagonal of matrices (..., M, N); small integers are summed in 64 bits."""
    return _total(last_diagonal(x, offset), dtype)


def _total(x: Tensor, dtype: Any) -> Tensor:
    """The sum along the last axis, of `dtype`."""
    out = ops.sum(x, axis=-1, dtype=dtype)
    return out if dtype is None or out.dtype == dtype else ops.astype(out, dtype)


def linalg_outer(x1: Any, x2: Any, /) -> Tensor:
    """The products of all pairs of elements of two vectors, (M,) and (N,) give (M, N).

    Raises:
        ShapeError: an input has not exactly one axis.
    """
    x1, x2 = pair(x1, x2)
    if x1.ndim != 1 or x2.ndim != 1:
        raise ShapeError(f"linalg.outer is of two vectors, got shapes {x1.shape} and {x2.shape}")
    return outer(x1, x2)


def linalg_cross(x1: Any, x2: Any, /, *, axis: int = -1) -> Tensor:
    """The vector product in three dimensions, along `axis`."""
    return cross(x1, x2, axis=axis)
