"""Element-by-element primitives, each with one partial derivative per input.

A partial is `(ns, t, out, *inputs)`: the derivative times `t`. At a kink it is one element of the
conservative field (Bolte & Pauwels 2021): 0 for `abs`, `relu`, `sign` and `sqrt` at 0, the steps of
`floor` and its like; one half to each side at ties of `maximum` and `minimum`; 1 at the ends of `clip`.
"""

from __future__ import annotations

import math
from typing import Any

from framework.autodiff.convert import as_tensor, named_dtype
from framework.autodiff.kinds import elementwise
from framework.autodiff.modes import get_default_dtype
from framework.autodiff.namespace import ops
from framework.autodiff.primitive import primitive, public
from framework.autodiff.tensor import Tensor
from framework.backend import dtypes as dt
from framework.errors import DTypeError

X = ((0,),)  # the only input is needed for its own gradient
OUT = (0,)

# -- arithmetic --------------------------------------------------------------------------------

elementwise("add", lambda ns, t, out, x, y: t, lambda ns, t, out, x, y: t)
elementwise("subtract", lambda ns, t, out, x, y: t, lambda ns, t, out, x, y: -t)
elementwise("multiply", lambda ns, t, out, x, y: t * y, lambda ns, t, out, x, y: t * x, keep=((1,), (0,)))
elementwise(
    "divide",
    lambda ns, t, out, x, y: t / y,
    lambda ns, t, out, x, y: -(t * out) / y,
    keep=((), (0, 1)),
    keep_out=(1,),
    floating=True,
)


def _pow_base(ns: Any, t: Any, out: Any, x: Any, y: Any) -> Any:
    """y · x^(y−1), and 0 where y is 0, whatever x."""
    if isinstance(y, int | float | complex):
        return t * (y * x ** (y - 1)) if y != 0 else t * 0
    zero = y == 0
    safe = ns.where(zero, ns.ones_like(y), y)
    return t * ns.where(zero, ns.zeros_like(out), y * x ** (safe - 1))


def _pow_exponent(ns: Any, t: Any, out: Any, x: Any, y: Any) -> Any:
    """out · log x, and 0 where x is 0."""
    if isinstance(x, int | float | complex):
        return t * (out * ns.log(ns.full_like(out, x))) if x != 0 else t * 0
    zero = x == 0
    return t * (out * ns.where(zero, ns.zeros_like(x), ns.log(ns.where(zero, ns.ones_like(x), x))))


elementwise("pow", _pow_base, _pow_exponent, keep=((0, 1), (0,)), keep_out=(0, 1))
elementwise("negative", lambda ns, t, out, x: -t)
elementwise("positive", lambda ns, t, out, x: t)
elementwise("square", lambda ns, t, out, x: t * (2 * x), keep=X)
elementwise(
    "reciprocal", lambda ns, t, out, x: -t * out * out, keep_out=OUT, forward=lambda ns, x: 1 / x, floating=True
)


def _sqrt(ns: Any, t: Any, out: Any, x: Any) -> Any:
    zero = out == 0
    return ns.where(zero, ns.zeros_like(out), t * 0.5 / ns.where(zero, ns.ones_like(out), out))


elementwise("sqrt", _sqrt, keep_out=OUT, floating=True)

# -- exponentials and their like -----------------------------------------------------------------

elementwise("exp", lambda ns, t, out, x: t * out, keep_out=OUT, floating=True)
elementwise("expm1", lambda ns, t, out, x: t * (out + 1), keep_out=OUT, floating=True)
elementwise("log", lambda ns, t, out, x: t / x, keep=X, floating=True)
elementwise("log1p", lambda ns, t, out, x: t / (x + 1), keep=X, floating=True)
elementwise("log2", lambda ns, t, out, x: t / (x * math.log(2)), keep=X, floating=True)
elementwise("log10", lambda ns, t, out, x: t / (x * math.log(10)), keep=X, floating=True)


def _logaddexp_share(ns: Any, t: Any, out: Any, x: Any) -> Any:
    """exp(x − out): the share of x; 0 where out is −∞, so that no inf − inf arises."""
    empty = out == -math.inf
    return t * ns.exp(ns.where(empty, ns.full_like(out, -math.inf), x - ns.where(empty, ns.zeros_like(out), out)))


elementwise(
    "logaddexp",
    lambda ns, t, out, x, y: _logaddexp_share(ns, t, out, x),
    lambda ns, t, out, x, y: _logaddexp_share(ns, t, out, y),
    keep=((0,), (1,)),
    keep_out=(0, 1),
    floating=True,
)

# -- trigonometry --------------------------------------------------------------------------------

elementwise("sin", lambda ns, t, out, x: t * ns.cos(x), keep=X, floating=True)
elementwise("cos", lambda ns, t, out, x: -t * ns.sin(x), keep=X, floating=True)
elementwise("tan", lambda ns, t, out, x: t * (out * out + 1), keep_out=OUT, floating=True)
elementwise("asin", lambda ns, t, out, x: t / ns.sqrt(1 - x * x), keep=X, floating=True)
elementwise("acos", lambda ns, t, out, x: -t / ns.sqrt(1 - x * x), keep=X, floating=True)
elementwise("atan", lambda ns, t, out, x: t / (x * x + 1), keep=X, floating=True)
elementwise("sinh", lambda ns, t, out, x: t * ns.cosh(x), keep=X, floating=True)
elementwise("cosh", lambda ns, t, out, x: t * ns.sinh(x), keep=X, floating=True)
elementwise("tanh", lambda ns, t, out, x: t * (1 - out * out), keep_out=OUT, floating=True)
elementwise("asinh", lambda ns, t, out, x: t / ns.sqrt(x * x + 1), keep=X, floating=True)
elementwise("acosh", lambda ns, t, out, x: t / (ns.sqrt(x - 1) * ns.sqrt(x + 1)), keep=X, floating=True)
elementwise("atanh", lambda ns, t, out, x: t / (1 - x * x), keep=X, floating=True)


def _squared_radius(ns: Any, x: Any, y: Any) -> Any:
    """x² + y², and 1 at the origin, where the derivative of an angle is taken as 0."""
    total = x * x + y * y
    return ns.where(total == 0, ns.ones_like(total), total)


elementwise(
    "atan2",
    lambda ns, t, out, y, x: t * x / _squared_radius(ns, x, y),
    lambda ns, t, out, y, x: -t * y / _squared_radius(ns, x, y),
    keep=((0, 1), (0, 1)),
    floating=True,
)
elementwise(
    "hypot",
    lambda ns, t, out, x, y: t * x / ns.where(out == 0, ns.ones_like(out), out),
    lambda ns, t, out, x, y: t * y / ns.where(out == 0, ns.ones_like(out), out),
    keep=((0,), (1,)),
    keep_out=(0, 1),
    floating=True,
)
elementwise(
    "copysign",
    lambda ns, t, out, x, y: t * (ns.sign(x) * ns.copysign(ns.ones_like(y), y)),
    None,
    keep=((0,), (0,)),
    floating=True,
)

# -- choices -------------------------------------------------------------------------------------


def _share(ns: Any, t: Any, mine: Any, other: Any, wins: Any) -> Any:
    """All of `t` where mine wins, half of it at a tie. A comparison with NaN is a win for nobody."""
    return t * (ns.astype(wins, t.dtype) + ns.astype(mine == other, t.dtype) * 0.5)


elementwise(
    "maximum",
    lambda ns, t, out, x, y: _share(ns, t, x, y, x > y),
    lambda ns, t, out, x, y: _share(ns, t, y, x, y > x),
    keep=((0, 1), (0, 1)),
)
elementwise(
    "minimum",
    lambda ns, t, out, x, y: _share(ns, t, x, y, x < y),
    lambda ns, t, out, x, y: _share(ns, t, y, x, y < x),
    keep=((0, 1), (0, 1)),
)


def _clip_inside(ns: Any, t: Any, out: Any, x: Any, *, lower: Any, upper: Any) -> Any:
    inside = (x == out) if lower is not None or upper is not None else None
    return t if inside is None else t * ns.astype(inside, t.dtype)


def _clip_forward(ns: Any, x: Any, *, lower: Any, upper: Any) -> Any:
    return ns.xp.clip(x, lower, upper)


_clip = elementwise("clip_scalars", _clip_inside, forward=_clip_forward, keep=X, keep_out=OUT)


@public
def clip(x: Any, /, min: Any = None, max: Any = None) -> Tensor:
    """Limit to `[min, max]`; the bounds are numbers or broadcast arrays, either may be left out."""
    x = as_tensor(x)
    if all(b is None or isinstance(b, int | float) for b in (min, max)):
        if x.dtype.kind in ("int", "uint") and (isinstance(min, float) or isinstance(max, float)):
            x = astype(x, get_default_dtype())
        bounds = [b if b is None or not x.dtype.is_differentiable else float(b) for b in (min, max)]
        return _clip(x, lower=bounds[0], upper=bounds[1])
    if min is not None:
        low = as_tensor(min, x)
        x = where(ops.logical_or(x < low, ops.isnan(low)), low, x)
    if max is not None:
        high = as_tensor(max, x)
        x = where(ops.logical_or(x > high, ops.isnan(high)), high, x)
    return x


def _where_batch(ops: Any, n: int, is_batched: Any, inputs: Any, params: Any, fn: Any) -> Any:
    rank = max((x.ndim - 1 if b else x.ndim) for x, b in zip(inputs, is_batched))
    return fn(
        *[
            ops.reshape(x, (x.shape[0],) + (1,) * (rank + 1 - x.ndim) + x.shape[1:]) if b and x.ndim <= rank else x
            for x, b in zip(inputs, is_batched)
        ]
    )


def _where_vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, condition: Any, x: Any, y: Any) -> Any:
    zero = ns.zeros_like(g)  # not a product: NaN in the unused branch stays there
    return (
        None,
        None if needs[1] is None else ns.where(condition, g, zero),
        None if needs[2] is None else ns.where(condition, zero, g),
    )


def _where_jvp(ns: Any, tangents: Any, out: Any, condition: Any, x: Any, y: Any) -> Any:
    _, tx, ty = tangents
    zero = ns.zeros_like(out)
    return ns.where(condition, zero if tx is None else tx, zero if ty is None else ty)


_where = primitive("where", arity=3, vjp=_where_vjp, jvp=_where_jvp, batch=_where_batch, keep=((1, 2), (), ()))


@public
def where(condition: Any, x: Any, y: Any, /) -> Tensor:
    """Elements of `x` where `condition`, else of `y`, broadcast together."""
    like = next((a for a in (x, y, condition) if isinstance(a, Tensor)), None)
    condition = as_tensor(condition, like)
    x, y = (a if _is_scalar(a) else as_tensor(a, like) for a in (x, y))
    beside = next((a for a in (x, y) if isinstance(a, Tensor)), None)  # numbers are weak beside it
    x, y = as_tensor(x, beside), as_tensor(y, beside)
    if x.dtype is not y.dtype:
        target = dt.promote(x.dtype, y.dtype)
        x, y = astype(x, target), astype(y, target)
    if condition.dtype is not dt.bool_:
        condition = condition != 0
    return _where(condition, x, y)


def _is_scalar(x: Any) -> bool:
    return isinstance(x, bool | int | float | complex)


# -- activations -----------------------------------------------------------------------------------


def _relu_forward(ns: Any, x: Any) -> Any:
    return ns.xp.maximum(x, ns.xp.zeros_like(x))


elementwise("relu", lambda ns, t, out, x: ns.relu_grad(t, out), forward=_relu_forward, keep_out=OUT, fits=True)


def _sigmoid_forward(ns: Any, x: Any) -> Any:
    # exp(min(x, 0)) / (1 + exp(-|x|)): no overflow, and full precision in both tails
    return ns.exp(ns.minimum(x, ns.zeros_like(x))) / (ns.exp(-ns.abs(x)) + 1)


elementwise(
    "sigmoid", lambda ns, t, out, x: t * (out * (1 - out)), forward=_sigmoid_forward, keep_out=OUT, floating=True
)


elementwise("erf", lambda ns, t, out, x: t * (ns.exp(-(x * x)) * (2 / math.sqrt(math.pi))), keep=X, floating=True)

# -- steps and tests: the derivative is zero everywhere -------------------------------------------

for _name in (
    "floor",
    "ceil",
    "round",
    "trunc",
    "isfinite",
    "isnan",
    "isinf",
    "logical_not",
    "bitwise_invert",
):
    elementwise(_name, None)
elementwise("signbit", None, floating=True)
for _name in (
    "equal", "not_equal", "less", "less_equal", "greater", "greater_equal",
    "logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor",
    "bitwise_left_shift", "bitwise_right_shift",
):  # fmt: skip
    elementwise(_name, None, None)
elementwise("nextafter", lambda ns, t, out, x, y: t, None, floating=True)  # x, but for one unit in its last place


def _floor_divide_forward(ns: Any, x: Any, y: Any) -> Any:
    """As the standard has it where one is infinite: libraries take remainders, which are NaN there."""
    xp = ns.xp
    out = xp.floor_divide(x, y)
    if ns.backend.dtype_of(out).kind != "float":
        return out
    infinite = [math.isinf(v) if isinstance(v, int | float) else xp.isinf(v) for v in (x, y)]
    return xp.where(xp.logical_or(*infinite), xp.floor(xp.divide(x, y)), out)


elementwise("floor_divide", None, None, forward=_floor_divide_forward)
elementwise(
    "remainder",
    lambda ns, t, out, x, y: t,
    lambda ns, t, out, x, y: -t * ns.floor(x / y),
    keep=((1,), (1,)),
)

# -- casts and copies ------------------------------------------------------------------------------


def _astype_forward(ns: Any, x: Any, dtype: Any) -> Any:
    return ns.xp.astype(x, dtype)


def _astype_vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any, *, dtype: Any) -> Any:
    return (g,)  # the driver casts back


def _astype_jvp(ns: Any, tangents: Any, out: Any, x: Any, *, dtype: Any) -> Any:
    return ns.astype(tangents[0], out.dtype)


_astype = primitive("astype", arity=1, forward=_astype_forward, vjp=_astype_vjp, jvp=_astype_jvp)


@public
def astype(x: Any, dtype: Any, /, *, copy: bool = True, device: str | None = None) -> Tensor:
    """Cast to `dtype`; gradients flow between floating-point dtypes.

    Raises:
        DTypeError: a complex array to a real dtype; use `real`, `imag` or `abs`.
    """
    x = as_tensor(x)
    if device is not None:
        x = ops.to_device(x, device)
    if isinstance(dtype, dt.DType | str | type):
        d = named_dtype(dtype)
        own = x.dtype
        if own is d and not copy:
            return x
        if own.kind == "complex" and d.kind not in ("complex", "bool"):
            raise DTypeError(f"{own.name} to {d.name} would lose the imaginary part; use real(), imag() or abs()")
        dtype = x._ns.backend.native(d)
        if not d.is_differentiable:
            return _astype(ops.stop_gradient(x), dtype=dtype)
    return _astype(x, dtype=dtype)


def _clone_forward(ns: Any, x: Any) -> Any:
    return ns.backend.copy(x)


elementwise("clone", lambda ns, t, out, x: t, forward=_clone_forward)


@public
def nan_to_num(
    x: Any, /, copy: bool = True, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None
) -> Tensor:
    """`x` with NaN and infinities replaced, these by the dtype's largest and smallest number where none is given.

    What is replaced gets no gradient. `copy` is NumPy's, and means nothing: Tensors never share what is written.
    """
    x = as_tensor(x)
    if not x.dtype.is_differentiable:
        return x
    if x.dtype.kind == "complex":
        parts = [nan_to_num(p, nan=nan, posinf=posinf, neginf=neginf) for p in (ops.real(x), ops.imag(x))]
        return parts[0] + 1j * parts[1]
    largest = dt.largest(x.dtype)
    x = where(x == math.inf, largest if posinf is None else posinf, x)
    x = where(x == -math.inf, -largest if neginf is None else neginf, x)
    return where(x != x, nan, x)
