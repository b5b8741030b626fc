"""Reductions. Axes reach a primitive as negative numbers, so a batch axis in front changes nothing."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from framework.autodiff.convert import as_tensor, named_dtype
from framework.autodiff.kinds import linear_map, negative_axes, negative_axis
from framework.autodiff.namespace import ops
from framework.autodiff.primitive import primitive, public
from framework.autodiff.tensor import Tensor
from framework.backend import dtypes as dt
from framework.errors import ShapeError

Axis = int | Sequence[int] | None


def _restore(ns: Any, g: Any, shape: tuple[int, ...], axis: Any, keepdims: bool) -> Any:
    """`g` of a reduction with its reduced axes back, of length one."""
    if keepdims:
        return g
    full = list(shape)
    for a in axis:
        full[a] = 1
    return ns.reshape(g, tuple(full))


def widened(x: Any, dtype: Any) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
    """`x` in the dtype that sums and products are computed in, 64 bits for integers and bools, and what brings
    the result to `dtype`, where one is given."""
    x = as_tensor(x)
    d = x.dtype if dtype is None else named_dtype(dtype)
    if d.is_differentiable:
        return ops.astype(x, d, copy=False), _as_it_is
    big = dt.uint64 if d.kind == "uint" else dt.int64
    x = ops.astype(ops.astype(x, d, copy=False), big, copy=False)
    return x, _as_it_is if dtype is None or d is big else lambda out: ops.astype(out, d)


def _as_it_is(x: Tensor) -> Tensor:
    return x


# -- sum -----------------------------------------------------------------------------------------


def _sum_forward(ns: Any, x: Any, *, axis: Any = None, keepdims: bool = False) -> Any:
    return ns.xp.sum(x, axis=axis, keepdims=keepdims)


def _sum_transpose(ns: Any, g: Any, shape: Any, *, axis: Any, keepdims: bool) -> Any:
    return ns.broadcast_to(_restore(ns, g, shape, axis, keepdims), shape)


_sum = linear_map("sum", _sum_transpose, forward=_sum_forward)


@public
def sum(x: Any, /, axis: Axis = None, *, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """Sum over `axis` (all by default); small integers and bools are summed in 64 bits."""
    x = as_tensor(x)
    if dtype is None:
        if x.dtype is dt.bool_:
            x = ops.astype(x, dt.int64)
        return _sum(x, axis=negative_axes(axis, x.ndim), keepdims=keepdims)
    total = _sum(ops.astype(x, dtype, copy=False), axis=negative_axes(axis, x.ndim), keepdims=keepdims)
    return ops.astype(total, dtype, copy=False)


@public
def mean(x: Any, /, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """Mean over `axis`."""
    x = _floating(x)
    axes = negative_axes(axis, x.ndim)
    return _sum(x, axis=axes, keepdims=keepdims) / (_count(x, axes) or math.nan)


@public
def var(x: Any, /, axis: Axis = None, *, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """Variance over `axis`: squared deviations from the mean divided by n − correction."""
    x = _floating(x)
    axes = negative_axes(axis, x.ndim)
    deviation = x - mean(x, axis=axes, keepdims=True)
    divisor = _count(x, axes) - correction
    squares = ops.square(ops.abs(deviation) if ops.is_complex(x) else deviation)
    return _sum(squares, axis=axes, keepdims=keepdims) / (divisor if divisor > 0 else math.nan)


@public
def std(x: Any, /, axis: Axis = None, *, correction: float = 0.0, keepdims: bool = False) -> Tensor:
    """Standard deviation over `axis`; its gradient where it is 0 is 0."""
    return ops.sqrt(var(x, axis=axis, correction=correction, keepdims=keepdims))


def _floating(x: Any) -> Tensor:
    x = as_tensor(x)
    return x if x.dtype.is_differentiable else x.to(dtype=dt.promote_scalar(x.dtype, 1.0, ops.get_default_dtype()))


def _count(x: Tensor, axes: tuple[int, ...]) -> int:
    return math.prod(x.shape[a] for a in axes)


# -- prod ----------------------------------------------------------------------------------------


def _others(ns: Any, x: Any) -> Any:
    """Per element, the product of all others along the last axis: pairs first, then the pairs' others.

    No element is divided by, so it is right where some are zero, and so are its own derivatives.
    """
    n = x.shape[-1]
    if n < 2:
        return ns.ones_like(x)
    if n % 2:
        padded = ns.concat([x, ns.ones_like(x[..., :1])], axis=-1)
        return _others(ns, padded)[..., :n]
    left, right = x[..., 0::2], x[..., 1::2]
    rest = _others(ns, left * right)
    return ns.reshape(ns.stack([rest * right, rest * left], axis=-1), x.shape)


def _prod_others(ns: Any, x: Any, axis: tuple[int, ...]) -> Any:
    """`_others` along several axes at once."""
    order = (*(a for a in range(-x.ndim, 0) if a not in axis), *axis)
    moved = ns.permute_dims(x, order)
    kept = moved.shape[: x.ndim - len(axis)]
    flat = ns.reshape(moved, (*kept, math.prod(x.shape[a] for a in axis)))
    back = tuple(order.index(a) - x.ndim for a in range(-x.ndim, 0))
    return ns.permute_dims(ns.reshape(_others(ns, flat), moved.shape), back)


def _prod_vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any, *, axis: Any, keepdims: bool) -> Any:
    return (_restore(ns, g, x.shape, axis, keepdims) * _prod_others(ns, x, axis),)


def _prod_jvp(ns: Any, tangents: Any, out: Any, x: Any, *, axis: Any, keepdims: bool) -> Any:
    return ns.sum(tangents[0] * _prod_others(ns, x, axis), axis=axis, keepdims=keepdims)


def _prod_forward(ns: Any, x: Any, *, axis: Any, keepdims: bool) -> Any:
    for a in sorted(axis)[:-1] if len(axis) > 1 else ():  # the standard's prod takes one axis or several; some one
        x = ns.xp.prod(x, axis=a, keepdims=True)
    if len(axis) > 1:
        x = ns.xp.prod(x, axis=sorted(axis)[-1], keepdims=True)
        return x if keepdims else ns.xp.squeeze(x, axis=axis)
    return ns.xp.prod(x, axis=axis[0], keepdims=keepdims) if axis else x


_prod = primitive("prod", arity=1, forward=_prod_forward, vjp=_prod_vjp, jvp=_prod_jvp, keep=((0,),))


@public
def prod(x: Any, /, axis: Axis = None, *, dtype: Any = None, keepdims: bool = False) -> Tensor:
    """Product over `axis`, of small integers in 64 bits; its gradient is right where elements are zero."""
    x, narrow = widened(x, dtype)
    return narrow(_prod(x, axis=negative_axes(axis, x.ndim), keepdims=keepdims))


# -- max, min: the gradient is shared equally among ties ---------------------------------------------


def _extremum(name: str) -> Any:
    def forward(ns: Any, x: Any, *, axis: Any, keepdims: bool) -> Any:
        return getattr(ns.xp, name)(x, axis=axis, keepdims=keepdims)

    def share(ns: Any, out: Any, x: Any, axis: Any, keepdims: bool) -> Any:
        winners = ns.astype(x == _restore(ns, out, x.shape, axis, keepdims), x.dtype)
        return winners / ns.sum(winners, axis=axis, keepdims=True)

    def vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any, *, axis: Any, keepdims: bool) -> Any:
        return (_restore(ns, g, x.shape, axis, keepdims) * share(ns, out, x, axis, keepdims),)

    def jvp(ns: Any, tangents: Any, out: Any, x: Any, *, axis: Any, keepdims: bool) -> Any:
        return ns.sum(tangents[0] * share(ns, out, x, axis, keepdims), axis=axis, keepdims=keepdims)

    return primitive(name, arity=1, forward=forward, vjp=vjp, jvp=jvp, keep=((0,),), keep_out=(0,))


_max, _min = _extremum("max"), _extremum("min")


@public
def max(x: Any, /, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """Maximum over `axis`; ties share the gradient equally."""
    x = as_tensor(x)
    axes = negative_axes(axis, x.ndim)
    _check_not_empty("max", x, axes)
    return _max(x, axis=axes, keepdims=keepdims)


@public
def min(x: Any, /, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """Minimum over `axis`; ties share the gradient equally."""
    x = as_tensor(x)
    axes = negative_axes(axis, x.ndim)
    _check_not_empty("min", x, axes)
    return _min(x, axis=axes, keepdims=keepdims)


def _check_not_empty(name: str, x: Tensor, axes: tuple[int, ...]) -> None:
    if _count(x, axes) == 0:
        raise ShapeError(f"{name} over axes of shape {x.shape} that hold no element has no value")


# -- without derivative --------------------------------------------------------------------------


def _arg(name: str) -> Any:
    def forward(ns: Any, x: Any, *, axis: int, keepdims: bool) -> Any:
        return getattr(ns.xp, name)(x, axis=axis, keepdims=keepdims)

    return primitive(name, arity=1, forward=forward)


def _logical(name: str) -> Any:
    def forward(ns: Any, x: Any, *, axis: Any, keepdims: bool) -> Any:
        return getattr(ns.xp, name)(x, axis=axis, keepdims=keepdims)

    return primitive(name, arity=1, forward=forward)


_argmax, _argmin, _any, _all = _arg("argmax"), _arg("argmin"), _logical("any"), _logical("all")


def _along(apply: Any, x: Any, axis: int | None, keepdims: bool) -> Tensor:
    x = as_tensor(x)
    if axis is None:
        flat = apply(ops.reshape(x, (-1,)), axis=-1, keepdims=False)
        return ops.reshape(flat, (1,) * x.ndim) if keepdims else flat
    return apply(x, axis=negative_axis(axis, x.ndim), keepdims=keepdims)


@public
def argmax(x: Any, /, axis: int | None = None, *, keepdims: bool = False) -> Tensor:
    """Index of the first maximum along `axis`, or in the flattened array."""
    return _along(_argmax, x, axis, keepdims)


@public
def argmin(x: Any, /, axis: int | None = None, *, keepdims: bool = False) -> Tensor:
    """Index of the first minimum along `axis`, or in the flattened array."""
    return _along(_argmin, x, axis, keepdims)


@public
def any(x: Any, /, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """Whether any element over `axis` is true."""
    x = as_tensor(x)
    return _any(x, axis=negative_axes(axis, x.ndim), keepdims=keepdims)


@public
def all(x: Any, /, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """Whether all elements over `axis` are true."""
    x = as_tensor(x)
    return _all(x, axis=negative_axes(axis, x.ndim), keepdims=keepdims)


# -- softmax and its like ----------------------------------------------------------------------------


def _softmax_forward(ns: Any, x: Any, *, axis: int) -> Any:
    xp = ns.xp
    e = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
    return e / xp.sum(e, axis=axis, keepdims=True)


def _softmax_vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any, *, axis: int) -> Any:
    return ((g - ns.sum(g * out, axis=axis, keepdims=True)) * out,)


def _softmax_jvp(ns: Any, tangents: Any, out: Any, x: Any, *, axis: int) -> Any:
    t = tangents[0]
    return (t - ns.sum(t * out, axis=axis, keepdims=True)) * out


_softmax = primitive("softmax", arity=1, forward=_softmax_forward, vjp=_softmax_vjp, jvp=_softmax_jvp, keep_out=(0,))


def _log_softmax_forward(ns: Any, x: Any, *, axis: int) -> Any:
    xp = ns.xp
    z = x - xp.max(x, axis=axis, keepdims=True)
    return z - xp.log(xp.sum(xp.exp(z), axis=axis, keepdims=True))


def _log_softmax_vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any, *, axis: int) -> Any:
    return (g - ns.exp(out) * ns.sum(g, axis=axis, keepdims=True),)


def _log_softmax_jvp(ns: Any, tangents: Any, out: Any, x: Any, *, axis: int) -> Any:
    t = tangents[0]
    return t - ns.sum(ns.exp(out) * t, axis=axis, keepdims=True)


_log_softmax = primitive(
    "log_softmax",
    arity=1,
    forward=_log_softmax_forward,
    vjp=_log_softmax_vjp,
    jvp=_log_softmax_jvp,
    keep_out=(0,),
)


@public
def softmax(x: Any, /, axis: int = -1) -> Tensor:
    """exp(x) divided by its sum along `axis`."""
    x = _floating(x)
    axis = negative_axis(axis, x.ndim)
    return _softmax(x, axis=axis) if x.shape[axis] else ops.exp(x)  # of nothing


@public
def log_softmax(x: Any, /, axis: int = -1) -> Tensor:
    """The logarithm of `softmax`, computed without overflow."""
    x = _floating(x)
    axis = negative_axis(axis, x.ndim)
    return _log_softmax(x, axis=axis) if x.shape[axis] else ops.exp(x)  # of nothing


@public
def logsumexp(x: Any, /, axis: Axis = None, *, keepdims: bool = False) -> Tensor:
    """log(sum(exp(x))) over `axis`, computed without overflow."""
    x = _floating(x)
    axes = negative_axes(axis, x.ndim)
    top = max(ops.stop_gradient(x), axis=axes, keepdims=True)
    top = ops.where(ops.isfinite(top), top, 0.0)
    out = ops.log(sum(ops.exp(x - top), axis=axes, keepdims=True)) + top
    return out if keepdims else ops.squeeze(out, axis=axes)
