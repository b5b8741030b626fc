"""The table of primitives: for each, calls with small inputs and what NumPy makes of them.

Inputs are float64, int64 or bool arrays, away from kinks; a test casts the floating-point ones.
Beside the primitives stand the functions composed of them. A name that is missing fails a test.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from framework.autodiff import ops
from framework.autodiff.primitives.indexing import HOLE

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


for _name in ("abs", "asinh", "atan", "cos", "cosh", "exp", "expm1", "negative", "positive", "sin", "sinh", "square", "tanh"):  # fmt: skip
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
case("where", "number", lambda c, x: ops.where(c, x, 0.5), lambda c, x: np.where(c, x, x.dtype.type(0.5)), bools((3,)), random("w", (3,)))  # fmt: skip
for _label, _low, _high in (("both", -0.5, 0.7), ("lower", -0.5, None), ("upper", None, 0.7)):
    case("clip_scalars", _label, lambda x, a=_low, b=_high: ops.clip(x, a, b), lambda x, a=_low, b=_high: np.clip(x, a, b), random("clip", (2, 4)))  # fmt: skip
case("clip_scalars", "scalar", lambda x: ops.clip(x, 0.0, 1.0), lambda x: np.clip(x, 0, 1), random("clip", ()))
case("clip_scalars", "empty", lambda x: ops.clip(x, 0.0, 1.0), lambda x: x, random("clip", (0,)))
case("astype", "its own", lambda x: ops.astype(x, x.dtype), lambda x: x, random("cast", (2, 2)))
case(
    "astype", "from int", lambda i, x: ops.astype(i, x.dtype) * x, lambda i, x: i * x, ints((3,)), random("cast", (3,))
)
case("astype", "from bool", lambda i, x: ops.astype(i, x.dtype) * x, lambda i, x: i * x, bools((3,)), random("cast", (3,)))  # fmt: skip
case("astype", "to int and back", lambda x: x.astype("int64").astype(x.dtype), np.trunc, off_kinks(random("cast", (3,))))  # fmt: skip
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
for _label, _x, _axis in (("vector", (4,), None), ("rows", (2, 3), -1), ("columns", (2, 3), 0), ("empty", (0, 2), 1), ("no axis", (0,), None)):  # fmt: skip
    case("cumulative_sum", _label, lambda x, a=_axis: ops.cumulative_sum(x, axis=a), lambda x, a=_axis: np.cumsum(x, axis=a), random("c", _x))  # fmt: skip


def np_softmax(x: Array, axis: int = -1) -> Array:
    e = np.exp(x - x.max(axis=axis, keepdims=True)) if x.size else x
    return e / e.sum(axis=axis, keepdims=True)


for _name, _ref in (("softmax", np_softmax), ("log_softmax", lambda x, axis: np.log(np_softmax(x, axis)))):
    for _shape, _axis in (((2, 3), -1), ((2, 3), 0), ((3,), 0), ((2, 2, 2), 1), ((0, 2), -1)):
        case(_name, f"{text(_shape)} axis {_axis}", lambda x, n=_name, a=_axis: getattr(ops, n)(x, axis=a), lambda x, r=_ref, a=_axis: r(x, a), random("s", _shape))  # fmt: skip
    case(_name, "large", lambda x, n=_name: getattr(ops, n)(x, axis=-1), lambda x, r=_ref: r(x, -1), np.array([80.0, 81.0, 79.5]))  # fmt: skip

# -- shape ---------------------------------------------------------------------------------------

for _from, _to in (((2, 3), (3, 2)), ((2, 3), (6,)), ((), (1, 1)), ((0, 2), (2, 0, 3)), ((2, 3), (-1,))):
    case("reshape", f"{text(_from)} to {text(_to)}", lambda x, s=_to: ops.reshape(x, s), lambda x, s=_to: x.reshape(s), random("r", _from))  # fmt: skip
for _from, _to in (((3,), (2, 3)), ((2, 1), (2, 3)), ((), (2, 2)), ((1,), (0,)), ((0, 1), (2, 0, 3))):
    case("broadcast_to", f"{text(_from)} to {text(_to)}", lambda x, s=_to: ops.broadcast_to(x, s), lambda x, s=_to: np.broadcast_to(x, s), random("b", _from))  # fmt: skip
for _shape, _axes in (((2, 3), (1, 0)), ((2, 1, 3), (-1, 0, 1)), ((), ()), ((0, 2), (1, 0)), ((2, 3, 1), None)):
    case("permute_dims", f"{text(_shape)} {_axes}", lambda x, a=_axes: ops.permute_dims(x, a), lambda x, a=_axes: np.transpose(x, a), random("p", _shape))  # fmt: skip
for _shape, _axis in (((2, 3), None), ((2, 3), 0), ((2, 3), -1), ((2, 3), (0, 1)), ((), None), ((0, 2), 0)):
    case("flip", f"{text(_shape)} {_axis}", lambda x, a=_axis: ops.flip(x, axis=a), lambda x, a=_axis: np.flip(x, axis=a), random("f", _shape))  # fmt: skip
for _label, _axis, _shapes in (
    ("rows", 0, ((2, 3), (1, 3))),
    ("columns", -1, ((2, 1), (2, 2), (2, 3))),
    ("flat", None, ((2, 1), (3,))),
    ("empty", 0, ((0, 2), (2, 2))),
):
    case("concat_arrays", _label, lambda *xs, a=_axis: ops.concat(xs, axis=a), lambda *xs, a=_axis: np.concatenate(xs, axis=a), *(random(f"c{s}", s) for s in _shapes))  # fmt: skip

# -- indexing: a key may hold the places of index arrays, which are inputs ---------------------------

I = object()


def filled(key: tuple[Any, ...], indices: tuple[Any, ...]) -> tuple[Any, ...]:
    it = iter(indices)
    return tuple(next(it) if part is I else part for part in key)


KEYS: tuple[tuple[str, tuple[int, ...], tuple[Any, ...], tuple[Any, ...]], ...] = (
    ("integer", (3, 2), (1,), ()),
    ("negative", (3, 2), (-1, -2), ()),
    ("slice", (4,), (slice(1, 3),), ()),
    ("step", (5,), (slice(4, None, -2),), ()),
    ("empty slice", (3,), (slice(2, 2),), ()),
    ("ellipsis", (2, 2, 2), (..., 0), ()),
    ("new axis", (2, 2), (None, slice(None), None, 1), ()),
    ("scalar", (), (), ()),
    ("rows", (3, 2), (I,), ([2, 0],)),
    ("repeated", (3, 2), (I,), ([1, 1, 0, 1],)),
    ("negative rows", (3,), (I,), ([-1, 0, -1],)),
    ("no rows", (3, 2), (I,), (np.zeros(0, np.int64),)),
    ("table of rows", (3, 2), (I,), ([[0, 1], [2, 2]],)),
    ("columns", (2, 3), (slice(None), I), ([2, 0, 2],)),
    ("pairs", (3, 3), (I, I), ([0, 2, 0], [1, 1, 1])),
    ("broadcast pairs", (3, 3), (I, I), ([[0], [2]], [1, 0])),
    ("row and integer", (3, 2, 2), (I, 1), ([2, 0],)),
    ("arrays apart", (2, 2, 3), (I, slice(None), I), ([0, 1, 0], [2, 2, 2])),
    ("integer apart", (2, 2, 3), (0, slice(None), I), ([2, 0, 2],)),
    ("in the middle", (2, 3, 2), (slice(None), I, slice(0, 1)), ([0, 2, 0],)),
    ("after a new axis", (3, 2), (None, I), ([0, 2],)),
    ("apart by a new axis", (2, 3), (I, None, I), ([0, 1], [2, 2])),
    ("last of many", (2, 1, 3), (..., I), ([2, 0],)),
    ("one number", (3, 2), (I,), (1,)),
)

for _label, _shape, _key, _idx in KEYS:
    case(
        "getitem_parts",
        _label,
        lambda x, *i, k=_key: x[filled(k, i)],
        lambda x, *i, k=_key: x[filled(k, i)],
        random("g", _shape),
        *(np.asarray(i, np.int64) for i in _idx),
    )
case("getitem_parts", "mask", lambda x, m: x[m], lambda x, m: x[m], random("g", (2, 3)), bools((2, 3)), batchable=False)
case("getitem_parts", "mask of rows", lambda x, m: x[m], lambda x, m: x[m], random("g", (3, 2)), np.array([True, False, True]), batchable=False)  # fmt: skip
case("getitem_parts", "mask after an ellipsis", lambda x, m: x[..., m], lambda x, m: x[..., m], random("g", (2, 3)), np.array([True, False, True]), batchable=False)  # fmt: skip


def np_setitem(x: Array, value: Array, key: Any) -> Array:
    out = np.array(x)
    out[key] = value
    return out


for _label, _shape, _key, _idx in KEYS:
    if _label in ("repeated", "negative rows", "columns", "pairs", "arrays apart", "integer apart", "in the middle"):
        _idx = tuple(np.unique(i)[::-1][: 2 if len(_idx) == 1 else 1] for i in _idx)  # each place once
    if _label == "table of rows":
        _idx = ([[0], [2]],)
    if _label == "last of many" or _label == "apart by a new axis":
        _idx = tuple(np.unique(i)[:1] for i in _idx)
    _indices = [np.asarray(i, np.int64) for i in _idx]
    _selected = np.zeros(_shape)[filled(_key, tuple(_indices))].shape
    _values = {"full": _selected, "one": (), "last axis": _selected[-1:], "leading ones": (1, 1, *_selected)}
    if _selected == ():
        del _values["leading ones"]  # NumPy refuses these where one element is named
    for _what, _value in _values.items():
        case(
            "setitem_parts",
            f"{_label}, {_what}",
            lambda x, v, *i, k=_key: ops.setitem(x, filled(k, i), v),
            lambda x, v, *i, k=_key: np_setitem(x, v, filled(k, i)),
            random("s", _shape),
            random("v", _value),
            *_indices,
        )
case("setitem_parts", "mask", lambda x, v, m: ops.setitem(x, m, v), lambda x, v, m: np_setitem(x, v, m), random("g", (2, 3)), random("v", ()), bools((2, 3)), batchable=False)  # fmt: skip


def np_index_add(values: Array, key: Any, shape: tuple[int, ...]) -> Array:
    out = np.zeros(shape, values.dtype)
    np.add.at(out, key, values)
    return out


def index_add(values: Any, *indices: Any, key: tuple[Any, ...], shape: tuple[int, ...]) -> Any:
    """The primitive itself, with a key that names each axis."""
    free = len(shape) - len([k for k in key if k is not None and k is not Ellipsis])
    at = key.index(...) if ... in key else len(key)
    full = (*key[:at], *(slice(None),) * free, *key[at + 1 :])
    return ops.index_add_parts(values, *indices, shape=shape, parts=tuple(HOLE if k is I else k for k in full))


for _label, _shape, _key, _idx in KEYS:
    _indices = [np.asarray(i, np.int64) for i in _idx]
    _selected = np.zeros(_shape)[filled(_key, tuple(_indices))].shape
    case(
        "index_add_parts",
        _label,
        lambda v, *i, k=_key, s=_shape: index_add(v, *i, key=k, shape=s),
        lambda v, *i, k=_key, s=_shape: np_index_add(v, filled(k, i), s),
        random("v", _selected),
        *_indices,
    )
case("nonzero_axis", "matrix", lambda x: ops.nonzero(x)[1], lambda x: np.nonzero(x)[1], bools((2, 3)), batchable=False)
case("nonzero_axis", "floats", lambda x: ops.nonzero(x)[0], lambda x: np.nonzero(x)[0], np.array([0.0, 1.0, 0.0, 2.0]), batchable=False)  # fmt: skip

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
for _x, _bias in (((3, 2), True), ((3, 2), False), ((2,), True), ((2,), False), ((1, 2), True), ((2, 2, 2), True), ((0, 2), True)):  # fmt: skip
    _rest = (random("lw", (3, 2)), random("lb", (3,)))[: 2 if _bias else 1]
    case("linear", f"{text(_x)}{' bias' if _bias else ''}", ops.linear, lambda x, w, b=0.0: x @ w.T + b, random("lx", _x), *_rest)  # fmt: skip


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
case("softmax_cross_entropy", "no rows", lambda x, t: ops.softmax_cross_entropy(x, t, reduction="sum"), lambda x, t: np_cross_entropy(x, t, "sum"), np.zeros((0, 3)), np.zeros(0, np.int64))  # fmt: skip

EXEMPT = {"alias": "marks an argument of a reverse-mode transform; it has no function of its own"}
