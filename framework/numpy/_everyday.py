"""NumPy's everyday functions that the standard lacks, written with the standard's: all transforms apply."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from framework.autodiff import Tensor, as_tensor, ops
from framework.backend import dtypes as dt
from framework.errors import ShapeError

Axis = int | Sequence[int] | None

__all__ = [
    "allclose", "append", "array_equal", "average", "cbrt", "copy", "cross", "deg2rad", "degrees", "diagonal", "exp2",
    "fmax", "fmin", "heaviside", "identity", "isclose", "iscomplexobj", "isneginf", "isposinf", "isrealobj", "isscalar",
    "logaddexp2", "logspace", "median", "nanmax", "nanmean", "nanmin", "nansum", "ndim", "ptp", "rad2deg", "radians",
    "round", "shape", "sinc", "size", "trace", "trapezoid", "tri", "vdot",
]  # fmt: skip

# -- what an array is ------------------------------------------------------------------------------


def shape(a: Any, /) -> tuple[int, ...]:
    """The length of each axis."""
    return as_tensor(a).shape


def ndim(a: Any, /) -> int:
    """The number of axes."""
    return as_tensor(a).ndim


def size(a: Any, /, axis: int | None = None) -> int:
    """The number of elements, or the length of an axis."""
    return as_tensor(a).size if axis is None else as_tensor(a).shape[axis]


def isscalar(element: Any, /) -> bool:
    """Whether it is a number and no array."""
    return isinstance(element, bool | int | float | complex)


def iscomplexobj(x: Any, /) -> bool:
    """Whether the dtype is complex."""
    return as_tensor(x).dtype.kind == "complex"


def isrealobj(x: Any, /) -> bool:
    """Whether the dtype is not complex."""
    return not iscomplexobj(x)


# -- comparisons -----------------------------------------------------------------------------------


def isclose(a: Any, b: Any, /, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """Element by element, whether |a − b| ≤ atol + rtol · |b|, or both are the same infinity."""
    a = as_tensor(a)
    b = as_tensor(b, a)
    finite = ops.logical_and(ops.isfinite(a), ops.isfinite(b))
    if not (a.dtype.is_differentiable or b.dtype.is_differentiable):
        a, b = (ops.astype(x, dt.float64) for x in (a, b))
    apart = ops.abs(ops.where(finite, a, 0) - ops.where(finite, b, 0))
    near = apart <= atol + rtol * ops.abs(ops.where(finite, b, 0))
    out = ops.where(finite, near, a == b)
    return ops.logical_or(out, ops.logical_and(a != a, b != b)) if equal_nan else out


def allclose(a: Any, b: Any, /, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether all elements are close; see `isclose`."""
    return bool(ops.all(isclose(a, b, rtol=rtol, atol=atol, equal_nan=equal_nan)))


def array_equal(a1: Any, a2: Any, /) -> bool:
    """Whether shapes and all elements are equal."""
    a1 = as_tensor(a1)
    a2 = as_tensor(a2, a1)
    return a1.shape == a2.shape and bool(ops.all(a1 == a2))


def isposinf(x: Any, /) -> Tensor:
    """Element by element, whether it is +∞."""
    return as_tensor(x) == math.inf


def isneginf(x: Any, /) -> Tensor:
    """Element by element, whether it is −∞."""
    return as_tensor(x) == -math.inf


# -- elements --------------------------------------------------------------------------------------


def exp2(x: Any, /) -> Tensor:
    """2 to the power of x."""
    return ops.pow(2.0, as_tensor(x))


def cbrt(x: Any, /) -> Tensor:
    """The cube root, negative of negative numbers."""
    x = as_tensor(x)
    return ops.sign(x) * ops.abs(x) ** (1 / 3)


def heaviside(x1: Any, x2: Any, /) -> Tensor:
    """0 where x1 is negative, 1 where it is positive, x2 where it is 0."""
    x1, x2 = _beside(x1, x2)
    return ops.where(x1 == 0, x2, (ops.sign(x1) + 1.0) / 2.0)


def logaddexp2(x1: Any, x2: Any, /) -> Tensor:
    """log2(2^x1 + 2^x2)."""
    x1, x2 = _beside(x1, x2)
    return ops.logaddexp(x1 * math.log(2), x2 * math.log(2)) / math.log(2)


def sinc(x: Any, /) -> Tensor:
    """sin(πx) / (πx), and 1 at 0, with its derivatives of first and second order there, too."""
    x = as_tensor(x) * math.pi
    zero = x == 0
    safe = ops.where(zero, 1.0, x)
    return ops.where(zero, 1 - x * x / 6, ops.sin(safe) / safe)


def round(x: Any, /, decimals: int = 0) -> Tensor:
    """The nearest numbers with so many decimal places; of two, the even one."""
    return as_tensor(x).round(decimals)


def radians(x: Any, /) -> Tensor:
    """Degrees as radians."""
    return as_tensor(x) * (math.pi / 180)


def degrees(x: Any, /) -> Tensor:
    """Radians as degrees."""
    return as_tensor(x) * (180 / math.pi)


deg2rad, rad2deg = radians, degrees


def fmax(x1: Any, x2: Any, /) -> Tensor:
    """The larger of two, and the other one of a NaN."""
    x1, x2 = _beside(x1, x2)
    return ops.where(x2 != x2, x1, ops.where(x1 != x1, x2, ops.maximum(x1, x2)))


def fmin(x1: Any, x2: Any, /) -> Tensor:
    """The smaller of two, and the other one of a NaN."""
    x1, x2 = _beside(x1, x2)
    return ops.where(x2 != x2, x1, ops.where(x1 != x1, x2, ops.minimum(x1, x2)))


def _beside(x1: Any, x2: Any) -> tuple[Tensor, Tensor]:
    if isinstance(x1, Tensor) or not isinstance(x2, Tensor):
        x1 = as_tensor(x1)
        return x1, as_tensor(x2, x1)
    return as_tensor(x1, x2), x2


# -- over axes -------------------------------------------------------------------------------------


def average(a: Any, /, axis: Axis = None, weights: Any = None, *, keepdims: bool = False) -> Tensor:
    """The mean over `axis`, weighted by `weights` of `a`'s shape, or of one axis' length."""
    a = as_tensor(a)
    if weights is None:
        return ops.mean(a, axis=axis, keepdims=keepdims)
    weights = as_tensor(weights, a)
    if weights.shape != a.shape:
        if not isinstance(axis, int) or weights.shape != (a.shape[axis],):
            raise ShapeError(f"weights of shape {weights.shape} for an average of {a.shape} over axis {axis}")
        lengths = [1] * a.ndim
        lengths[axis] = a.shape[axis]
        weights = ops.broadcast_to(ops.reshape(weights, lengths), a.shape)
    total = ops.sum(weights, axis=axis, keepdims=keepdims)
    return ops.sum(a * weights, axis=axis, keepdims=keepdims) / total


def ptp(a: Any, /, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """The largest minus the smallest element over `axis`."""
    return ops.max(a, axis=axis, keepdims=keepdims) - ops.min(a, axis=axis, keepdims=keepdims)


def median(a: Any, /, axis: int | None = None, *, keepdims: bool = False) -> Tensor:
    """The middle one of the sorted elements along `axis`, or the mean of the middle two."""
    a = as_tensor(a)
    if axis is None:
        out = median(ops.reshape(a, (-1,)), axis=0)
        return ops.reshape(out, (1,) * a.ndim) if keepdims else out
    n = a.shape[axis]
    if n == 0:
        raise ShapeError(f"median over axis {axis} of shape {a.shape}, which holds no element")
    middle = ops.take(ops.sort(a, axis=axis), ops.asarray([(n - 1) // 2, n // 2], device=a.device), axis=axis)
    if a.dtype.is_differentiable:  # sorting puts NaN last
        spoilt = ops.any(a != a, axis=axis, keepdims=True)
        middle = ops.where(spoilt, math.nan, middle)
    return ops.mean(middle, axis=axis, keepdims=keepdims)


def _without_nan(a: Any, fill: float) -> Tensor:
    a = as_tensor(a)
    return ops.where(a != a, fill, a) if a.dtype.is_differentiable else a


def nansum(a: Any, /, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """The sum over `axis` of what is not NaN."""
    return ops.sum(_without_nan(a, 0), axis=axis, keepdims=keepdims)


def nanmean(a: Any, /, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """The mean over `axis` of what is not NaN."""
    a = as_tensor(a)
    return nansum(a, axis=axis, keepdims=keepdims) / ops.count_nonzero(a == a, axis=axis, keepdims=keepdims)


def nanmax(a: Any, /, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """The largest over `axis` of what is not NaN; −∞ where there is nothing else."""
    return ops.max(_without_nan(a, -math.inf), axis=axis, keepdims=keepdims)


def nanmin(a: Any, /, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """The smallest over `axis` of what is not NaN; ∞ where there is nothing else."""
    return ops.min(_without_nan(a, math.inf), axis=axis, keepdims=keepdims)


def trapezoid(y: Any, /, x: Any = None, dx: float = 1.0, axis: int = -1) -> Tensor:
    """The integral of `y` along `axis` by the trapezoidal rule, at the points `x` or `dx` apart."""
    y = ops.moveaxis(as_tensor(y), axis, -1)
    step = dx
    if x is not None:
        x = as_tensor(x, y)
        step = ops.diff(x if x.ndim == 1 else ops.moveaxis(x, axis, -1), axis=-1)
    return ops.sum(step * (y[..., 1:] + y[..., :-1]) / 2.0, axis=-1)


# -- matrices and vectors --------------------------------------------------------------------------


def diagonal(a: Any, /, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Tensor:
    """The diagonals of the matrices along two axes, in a last axis."""
    return ops.linalg.diagonal(ops.moveaxis(as_tensor(a), (axis1, axis2), (-2, -1)), offset=offset)


def trace(a: Any, /, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None) -> Tensor:
    """The sums of the diagonals of the matrices along two axes."""
    return ops.linalg.trace(ops.moveaxis(as_tensor(a), (axis1, axis2), (-2, -1)), offset=offset, dtype=dtype)


def cross(a: Any, b: Any, /, axis: int = -1) -> Tensor:
    """The cross product of vectors of three elements along `axis`."""
    a, b = _beside(a, b)
    return ops.linalg.cross(a, b, axis=axis)


def vdot(a: Any, b: Any, /) -> Tensor:
    """The sum of the products of all elements, those of `a` conjugated."""
    a, b = _beside(a, b)
    return ops.vecdot(ops.reshape(a, (-1,)), ops.reshape(b, (-1,)))


def append(arr: Any, values: Any, /, axis: int | None = None) -> Tensor:
    """`arr` with `values` behind it along `axis`, or both as one vector."""
    return ops.concat(_beside(arr, values), axis=axis)


def copy(a: Any, /) -> Tensor:
    """A copy that gradients flow through."""
    return ops.clone(as_tensor(a))


# -- made of nothing -------------------------------------------------------------------------------


def identity(n: int, *, dtype: Any = None, device: str | None = None) -> Tensor:
    """The unit matrix."""
    return ops.eye(n, dtype=dtype, device=device)


def tri(n_rows: int, n_cols: int | None = None, k: int = 0, *, dtype: Any = None, device: str | None = None) -> Tensor:
    """Ones on and below the k-th diagonal."""
    return ops.tril(ops.ones((n_rows, n_cols or n_rows), dtype=dtype, device=device), k=k)


def logspace(
    start: Any, stop: Any, /, num: int = 50, *, endpoint: bool = True, base: float = 10.0, dtype: Any = None
) -> Tensor:
    """`base` to the power of equally spaced numbers."""
    real = None if dtype is None or not dt.dtype(dtype).is_differentiable else dtype
    made = base ** ops.linspace(start, stop, num, endpoint=endpoint, dtype=real)
    return made if dtype is None else ops.astype(made, dtype, copy=False)
