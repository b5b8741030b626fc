"""The table of primitives: for each, calls with small inputs and what NumPy makes of them.

Inputs are float64, int64 or bool arrays, away from kinks; a test casts the floating-point ones.
A primitive that is missing fails a test. The cases of indexing are in `indexing_table`, which adds to the same list.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from framework.autodiff import ops

Array = Any


@dataclass(frozen=True)
class Case:
    """One call: `fn` of Tensors, `ref` of NumPy arrays."""

    name: str
    label: str
    fn: Callable[..., Any]
    ref: Callable[..., Any]
    inputs: tuple[Array, ...]
    batchable: bool = True
    """False where the shape of the result depends on values."""

    @property
    def id(self) -> str:
        return f"{self.name}-{self.label}"


CASES: list[Case] = []


def random(label: str, shape: tuple[int, ...], low: float = -2.0, high: float = 2.0) -> Array:
    """The same numbers for the same label."""
    rng = np.random.Generator(np.random.PCG64(zlib.crc32(label.encode())))
    return rng.uniform(low, high, shape)


def off_kinks(x: Array, step: float = 1.0) -> Array:
    """Moved away from the multiples of `step` and of a half of it."""
    half = step / 2
    return np.floor(x / half) * half + 0.2 * half + 0.6 * (x % half)


def case(name: str, label: str, fn: Any, ref: Any, *inputs: Any, batchable: bool = True) -> None:
    CASES.append(Case(name, label, fn, ref, tuple(np.asarray(x) for x in inputs), batchable))


def text(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


# -- element by element --------------------------------------------------------------------------

UNARY_SHAPES = ((2, 3), (), (0, 2))


def unary(name: str, low: float = -2.0, high: float = 2.0, ref: Any = None, make: Any = None) -> None:
    for shape in UNARY_SHAPES:
        x = off_kinks(random(name + text(shape), shape, low, high)) if make is None else make(shape)
        case(name, text(shape), getattr(ops, name), ref or getattr(np, name), x)


def ints(shape: tuple[int, ...], low: int = -5, high: int = 6) -> Array:
    return np.floor(random(f"ints{shape}", shape, low, high)).astype(np.int64)


def bools(shape: tuple[int, ...]) -> Array:
    return random(f"bools{shape}", shape) > 0


def special(shape: tuple[int, ...]) -> Array:
    return np.resize([1.0, np.nan, -np.inf, np.inf, -0.0, -3.0], shape)


for _name in (
    "abs",
    "asinh",
    "atan",
    "cos",
    "cosh",
    "exp",
    "expm1",
    "negative",
    "positive",
    "sin",
    "sinh",
    "square",
    "tanh",
):
    unary(_name)
for _name in ("ceil", "floor", "round", "sign", "trunc", "signbit"):
    unary(_name, -4.0, 4.0)
for _name in ("acos", "asin", "atanh"):
    unary(_name, make=lambda shape: random(f"unit{shape}", shape, -0.9, 0.9))
for _name in ("log", "log2", "log10", "sqrt", "log1p"):
    unary(_name, 0.3, 3.0)
unary("acosh", make=lambda shape: random(f"acosh{shape}", shape, 1.2, 3.0))
unary("tan", make=lambda shape: random(f"tan{shape}", shape, -1.2, 1.2))
unary("clone", ref=np.array)
unary("erf", ref=lambda x: np.vectorize(math.erf, otypes=[x.dtype])(x) if x.size else x)
unary("reciprocal", 0.3, 2.0)
unary("relu", ref=lambda x: np.maximum(x, x.dtype.type(0)))
unary("sigmoid", ref=lambda x: 1 / (1 + np.exp(-x)))
for _name in ("isfinite", "isinf", "isnan"):
    unary(_name, make=special)
unary("logical_not", make=bools)
unary("bitwise_invert", make=ints)

BINARY_SHAPES = (((2, 3), (2, 3)), ((2, 3), (3,)), ((2, 1), (1, 2)), ((), (2,)), ((), ()), ((0, 2), (2,)), ((1,), (0,)))


def binary(name: str, x: Any, y: Any, ref: Any = None) -> None:
    for a, b in BINARY_SHAPES:
        case(name, f"{text(a)}-{text(b)}", getattr(ops, name), ref or getattr(np, name), x(a), y(b))


def between(low: float, high: float, label: str = "") -> Callable[[tuple[int, ...]], Array]:
    return lambda shape: random(f"{label}{shape}", shape, low, high)


for _name in ("add", "subtract", "multiply", "logaddexp", "atan2", "hypot", "maximum", "minimum"):
    binary(_name, between(-2, 2, "x"), between(-2, 2, "y"))
binary("divide", between(-2, 2, "x"), between(0.5, 2, "y"))
binary("pow", between(0.3, 2, "x"), between(-2, 2, "y"))
for _name in ("remainder", "floor_divide"):
    binary(_name, lambda shape: off_kinks(random(f"r{shape}", shape, -6, 6), 2.0), between(1.95, 2.05, "y"))
for _name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"):
    binary(_name, ints, lambda shape: ints(shape, -1, 3).astype(np.float64))
for _name in ("logical_and", "logical_or", "logical_xor"):
    binary(_name, bools, lambda shape: ~bools(shape) if shape == () else bools((9, *shape))[4])
for _name in ("bitwise_and", "bitwise_or", "bitwise_xor"):
    binary(_name, ints, lambda shape: ints(shape, 0, 9))
for _name, _np in (("bitwise_left_shift", np.left_shift), ("bitwise_right_shift", np.right_shift)):
    binary(_name, ints, lambda shape: ints(shape, 0, 4), _np)

case("pow", "exponent 3", lambda x: x**3, lambda x: x**3, random("cube", (2, 2)))
case("pow", "exponent 0", lambda x: x**0, lambda x: x**0, random("cube", (2, 2)))
case("pow", "exponent -1.5", lambda x: x**-1.5, lambda x: x**-1.5, random("root", (2, 2), 0.4, 2.0))
case("pow", "base 2", lambda x: 2**x, lambda x: 2**x, random("base", (2, 2)))
case("pow", "base 2.5", lambda x: 2.5**x, lambda x: 2.5**x, random("base", (2, 2)))
case("pow", "integer exponents", ops.pow, np.power, random("negative base", (3,)), np.array([2, 3, 0]))
case("divide", "under a number", lambda x: 2.0 / x, lambda x: 2.0 / x, random("under", (2, 2), 0.5, 2))
case("subtract", "from a number", lambda x: 2.0 - x, lambda x: 2.0 - x, random("from", (2, 2)))

# -- choices and casts ---------------------------------------------------------------------------

for _label, _c, _x, _y in (
    ("full", (2, 3), (2, 3), (2, 3)),
    ("broadcast", (2, 1), (3,), ()),
    ("condition scalar", (), (2,), (2,)),
    ("empty", (0, 2), (2,), (1, 2)),
):
    case("where", _label, ops.where, np.where, bools(_c), random("wx", _x), random("wy", _y))
case(
    "where",
    "number",
    lambda c, x: ops.where(c, x, 0.5),
    lambda c, x: np.where(c, x, x.dtype.type(0.5)),
    bools((3,)),
    random("w", (3,)),
)
for _label, _low, _high in (("both", -0.5, 0.7), ("lower", -0.5, None), ("upper", None, 0.7)):
    case(
        "clip_scalars",
        _label,
        lambda x, a=_low, b=_high: ops.clip(x, a, b),
        lambda x, a=_low, b=_high: np.clip(x, a, b),
        random("clip", (2, 4)),
    )
case("clip_scalars", "scalar", lambda x: ops.clip(x, 0.0, 1.0), lambda x: np.clip(x, 0, 1), random("clip", ()))
case("clip_scalars", "empty", lambda x: ops.clip(x, 0.0, 1.0), lambda x: x, random("clip", (0,)))
case("astype", "its own", lambda x: ops.astype(x, x.dtype), lambda x: x, random("cast", (2, 2)))
case(
    "astype", "from int", lambda i, x: ops.astype(i, x.dtype) * x, lambda i, x: i * x, ints((3,)), random("cast", (3,))
)
case(
    "astype",
    "from bool",
    lambda i, x: ops.astype(i, x.dtype) * x,
    lambda i, x: i * x,
    bools((3,)),
    random("cast", (3,)),
)
case(
    "astype", "to int and back", lambda x: x.astype("int64").astype(x.dtype), np.trunc, off_kinks(random("cast", (3,)))
)
case("to_device", "where it is", lambda x: ops.to_device(x, x.device) * 1, lambda x: x, random("move", (2, 2)))

# -- reductions ----------------------------------------------------------------------------------


def reduction(
    name: str, ref: Any, x: Any, axes: tuple[Any, ...] = (None, 0, -1, (0, -1), (1,)), empty: bool = True
) -> None:
    """`axes` for three axes; 0-d and zero-size inputs beside."""
    for axis in axes:
        for keepdims in (False, True):
            kw = {"axis": axis, "keepdims": keepdims}
            label = f"axis {axis}{' keepdims' if keepdims else ''}"
            case(name, label, lambda t, kw=kw: getattr(ops, name)(t, **kw), lambda a, kw=kw: ref(a, **kw), x((2, 1, 3)))
    case(name, "scalar", getattr(ops, name), ref, x(()))
    if empty:
        case(name, "empty", lambda t: getattr(ops, name)(t, axis=-1), lambda a: ref(a, axis=-1), x((2, 0)))
    case(name, "of empty rows", lambda t: getattr(ops, name)(t, axis=-1), lambda a: ref(a, axis=-1), x((0, 2)))


def distinct(shape: tuple[int, ...]) -> Array:
    """No two elements closer than the step of a finite difference."""
    n = math.prod(shape)
    return (np.argsort(random(f"distinct{shape}", (n,))) * 0.37 - 0.6).reshape(shape)


reduction("sum", np.sum, between(-2, 2))
reduction("prod", np.prod, between(0.3, 2))
reduction("max", np.max, distinct, empty=False)
reduction("min", np.min, distinct, empty=False)
reduction("any", np.any, bools)
reduction("all", np.all, bools)
for _name in ("argmax", "argmin"):
    reduction(_name, getattr(np, _name), distinct, axes=(None, 0, -1), empty=False)
case("prod", "one zero", ops.prod, np.prod, np.array([1.5, 0.0, -2.0]))
case("prod", "two zeros", ops.prod, np.prod, np.array([0.0, 0.0, -2.0]))
for _label, _x, _axis in (
    ("vector", (4,), None),
    ("rows", (2, 3), -1),
    ("columns", (2, 3), 0),
    ("empty", (0, 2), 1),
    ("no axis", (0,), None),
):
    case(
        "cumulative_sum",
        _label,
        lambda x, a=_axis: ops.cumulative_sum(x, axis=a),
        lambda x, a=_axis: np.cumsum(x, axis=a),
        random("c", _x),
    )


def np_softmax(x: Array, axis: int = -1) -> Array:
    e = np.exp(x - x.max(axis=axis, keepdims=True)) if x.size else x
    return e / e.sum(axis=axis, keepdims=True)


for _name, _ref in (("softmax", np_softmax), ("log_softmax", lambda x, axis: np.log(np_softmax(x, axis)))):
    for _shape, _axis in (((2, 3), -1), ((2, 3), 0), ((3,), 0), ((2, 2, 2), 1), ((0, 2), -1)):
        case(
            _name,
            f"{text(_shape)} axis {_axis}",
            lambda x, n=_name, a=_axis: getattr(ops, n)(x, axis=a),
            lambda x, r=_ref, a=_axis: r(x, a),
            random("s", _shape),
        )
    case(
        _name,
        "large",
        lambda x, n=_name: getattr(ops, n)(x, axis=-1),
        lambda x, r=_ref: r(x, -1),
        np.array([80.0, 81.0, 79.5]),
    )

# -- shape ---------------------------------------------------------------------------------------

for _from, _to in (((2, 3), (3, 2)), ((2, 3), (6,)), ((), (1, 1)), ((0, 2), (2, 0, 3)), ((2, 3), (-1,))):
    case(
        "reshape",
        f"{text(_from)} to {text(_to)}",
        lambda x, s=_to: ops.reshape(x, s),
        lambda x, s=_to: x.reshape(s),
        random("r", _from),
    )
for _from, _to in (((3,), (2, 3)), ((2, 1), (2, 3)), ((), (2, 2)), ((1,), (0,)), ((0, 1), (2, 0, 3))):
    case(
        "broadcast_to",
        f"{text(_from)} to {text(_to)}",
        lambda x, s=_to: ops.broadcast_to(x, s),
        lambda x, s=_to: np.broadcast_to(x, s),
        random("b", _from),
    )
for _shape, _axes in (((2, 3), (1, 0)), ((2, 1, 3), (-1, 0, 1)), ((), ()), ((0, 2), (1, 0)), ((2, 3, 1), None)):
    case(
        "permute_dims",
        f"{text(_shape)} {_axes}",
        lambda x, a=_axes: ops.permute_dims(x, a),
        lambda x, a=_axes: np.transpose(x, a),
        random("p", _shape),
    )
for _shape, _axis in (((2, 3), None), ((2, 3), 0), ((2, 3), -1), ((2, 3), (0, 1)), ((), None), ((0, 2), 0)):
    case(
        "flip",
        f"{text(_shape)} {_axis}",
        lambda x, a=_axis: ops.flip(x, axis=a),
        lambda x, a=_axis: np.flip(x, axis=a),
        random("f", _shape),
    )
for _label, _axis, _shapes in (
    ("rows", 0, ((2, 3), (1, 3))),
    ("columns", -1, ((2, 1), (2, 2), (2, 3))),
    ("flat", None, ((2, 1), (3,))),
    ("empty", 0, ((0, 2), (2, 2))),
):
    case(
        "concat_arrays",
        _label,
        lambda *xs, a=_axis: ops.concat(xs, axis=a),
        lambda *xs, a=_axis: np.concatenate(xs, axis=a),
        *(random(f"c{s}", s) for s in _shapes),
    )

# -- products ------------------------------------------------------------------------------------

for _a, _b in (
    ((2, 3), (3, 2)),
    ((3,), (3, 2)),
    ((2, 3), (3,)),
    ((3,), (3,)),
    ((2, 2, 3), (3, 2)),
    ((2, 3), (2, 3, 1)),
    ((2, 1, 1, 2), (3, 2, 1)),
    ((0, 2), (2, 3)),
    ((2, 0), (0, 2)),
):
    case("matmul", f"{text(_a)}-{text(_b)}", ops.matmul, np.matmul, random("ma", _a), random("mb", _b))
for _x, _bias in (
    ((3, 2), True),
    ((3, 2), False),
    ((2,), True),
    ((2,), False),
    ((1, 2), True),
    ((2, 2, 2), True),
    ((0, 2), True),
):
    _rest = (random("lw", (3, 2)), random("lb", (3,)))[: 2 if _bias else 1]
    case(
        "linear",
        f"{text(_x)}{' bias' if _bias else ''}",
        ops.linear,
        lambda x, w, b=0.0: x @ w.T + b,
        random("lx", _x),
        *_rest,
    )


def np_cross_entropy(logits: Array, targets: Array, reduction: str) -> Array:
    loss = -np.take_along_axis(np.log(np_softmax(logits)), targets[..., None], axis=-1)[..., 0]
    return loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.mean()


for _reduction in ("mean", "sum", "none"):
    for _shape in ((3, 4), (4,), (2, 2, 3), (1, 3)):
        case(
            "softmax_cross_entropy",
            f"{_reduction} {text(_shape)}",
            lambda x, t, r=_reduction: ops.softmax_cross_entropy(x, t, reduction=r),
            lambda x, t, r=_reduction: np_cross_entropy(x, t, r),
            random("xe", _shape),
            ints(_shape[:-1], 0, _shape[-1]),
        )
case(
    "softmax_cross_entropy",
    "no rows",
    lambda x, t: ops.softmax_cross_entropy(x, t, reduction="sum"),
    lambda x, t: np_cross_entropy(x, t, "sum"),
    np.zeros((0, 3)),
    np.zeros(0, np.int64),
)

EXEMPT = {"alias": "marks an argument of a reverse-mode transform; it has no function of its own"}
