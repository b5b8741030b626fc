"""Sums and products of all elements so far, and differences of neighbours."""

from __future__ import annotations

from typing import Any

from framework.autodiff.convert import as_tensor
from framework.autodiff.kinds import linear_map, negative_axis
from framework.autodiff.namespace import ops
from framework.autodiff.primitive import primitive, public
from framework.autodiff.primitives.reductions import widened
from framework.autodiff.tensor import Tensor
from framework.errors import ShapeError

# -- sums ------------------------------------------------------------------------------------------


def _cumsum_forward(ns: Any, x: Any, *, axis: int) -> Any:
    return ns.xp.cumulative_sum(x, axis=axis)


def _cumsum_transpose(ns: Any, g: Any, shape: Any, *, axis: int) -> Any:
    return ns.flip(ns.cumulative_sum(ns.flip(g, axis=axis), axis=axis), axis=axis)


_cumsum = linear_map("cumulative_sum", _cumsum_transpose, forward=_cumsum_forward)


@public
def cumulative_sum(x: Any, /, axis: int | None = None, *, dtype: Any = None, include_initial: bool = False) -> Tensor:
    """Sums of the elements so far along `axis`, which may be left out for one axis.

    Small integers are summed in 64 bits. With `include_initial` a zero stands in front.
    """
    return _accumulated("cumulative_sum", _cumsum, x, axis, dtype, 0 if include_initial else None)


# -- products --------------------------------------------------------------------------------------
# With P the output, ∂P_j/∂x_i is P_(i−1) times the x between i and j. Sums of these are a linear
# recurrence S_i = g_i + x_(i+1) S_(i+1): nothing is divided by, so zeros are no special case.


def _recurrence(ns: Any, a: Any, b: Any) -> Any:
    """y with y_0 = b_0 and y_j = a_j · y_(j−1) + b_j along the last axis, in log2 n steps of doubling."""
    n, d = b.shape[-1], 1
    while d < n:
        b = ns.concat([b[..., :d], b[..., d:] + a[..., d:] * b[..., : n - d]], axis=-1)
        a = ns.concat([a[..., :d], a[..., d:] * a[..., : n - d]], axis=-1)
        d *= 2
    return b


def _last(ns: Any, x: Any, axis: int) -> Any:
    """`x` with `axis` at the end; applied again, its inverse."""
    if axis == -1:
        return x
    order = list(range(-x.ndim, 0))
    order[axis], order[-1] = order[-1], order[axis]
    return ns.permute_dims(x, tuple(order))


def _before(ns: Any, out: Any) -> Any:
    """The products of all elements before each one."""
    return ns.concat([ns.ones_like(out[..., :1]), out[..., :-1]], axis=-1)


def _cumprod_vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any, *, axis: int) -> Any:
    if not x.shape[axis]:
        return (g,)
    g, out, x = (_last(ns, a, axis) for a in (g, out, x))
    following = ns.concat([x[..., 1:], ns.ones_like(x[..., :1])], axis=-1)
    sums = ns.flip(_recurrence(ns, ns.flip(following, axis=-1), ns.flip(g, axis=-1)), axis=-1)
    return (_last(ns, _before(ns, out) * sums, axis),)


def _cumprod_jvp(ns: Any, tangents: Any, out: Any, x: Any, *, axis: int) -> Any:
    if not x.shape[axis]:
        return tangents[0]
    t, out, x = (_last(ns, a, axis) for a in (tangents[0], out, x))
    return _last(ns, _recurrence(ns, x, _before(ns, out) * t), axis)


def _cumprod_forward(ns: Any, x: Any, *, axis: int) -> Any:
    return ns.xp.cumulative_prod(x, axis=axis)


_cumprod = primitive(
    "cumulative_prod",
    arity=1,
    forward=_cumprod_forward,
    vjp=_cumprod_vjp,
    jvp=_cumprod_jvp,
    keep=((0,),),
    keep_out=(0,),
)


@public
def cumulative_prod(x: Any, /, axis: int | None = None, *, dtype: Any = None, include_initial: bool = False) -> Tensor:
    """Products of the elements so far along `axis`, which may be left out for one axis.

    Small integers are multiplied in 64 bits. With `include_initial` a one stands in front.
    """
    return _accumulated("cumulative_prod", _cumprod, x, axis, dtype, 1 if include_initial else None)


def _accumulated(name: str, apply: Any, x: Any, axis: int | None, dtype: Any, initial: int | None) -> Tensor:
    x, narrow = widened(x, dtype)
    if axis is None:
        if x.ndim > 1:
            raise ShapeError(f"{name} of shape {x.shape} needs axis=")
        axis, x = 0, x if x.ndim else ops.reshape(x, (1,))
    axis = negative_axis(axis, x.ndim)
    out = narrow(apply(x, axis=axis))
    if initial is None:
        return out
    shape = list(out.shape)
    shape[axis] = 1
    return ops.concat([ops.full(shape, initial, dtype=out.dtype, device=out.device), out], axis=axis)


# -- differences -----------------------------------------------------------------------------------


@public
def diff(x: Any, /, *, axis: int = -1, n: int = 1, prepend: Any = None, append: Any = None) -> Tensor:
    """Differences of neighbours along `axis`, taken `n` times; with values joined in front and behind first.

    Raises:
        ShapeError: no such axis, or a negative `n`.
    """
    x = as_tensor(x)
    axis = negative_axis(axis, x.ndim)
    if n < 0:
        raise ShapeError(f"diff is taken n times, got n={n}")
    parts = [prepend, x, append]
    if len(given := [as_tensor(p, x) for p in parts if p is not None]) > 1:
        x = ops.concat(given, axis=axis)
    behind = (slice(None),) * (-axis - 1)
    for _ in range(n):
        length = x.shape[axis]
        first = min(1, length)
        upper, lower = x[(..., slice(first, length), *behind)], x[(..., slice(0, length - first), *behind)]
        x = ops.not_equal(upper, lower) if x.dtype == "bool" else upper - lower
    return x
