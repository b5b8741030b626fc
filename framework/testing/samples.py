"""Sample inputs and float64 NumPy references, for every primitive and every performance name.

The reference of a primitive is independent of its rules: derivatives are checked against central
differences of it. Values stay away from kinks and poles, and small enough for half precision.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from framework.autodiff.primitives.indexing import HOLE
from framework.backend.host import HostGenerator

Arrays = tuple[Any, ...]


class Draw:
    """NumPy arrays of fixed pseudo-random values, each kind away from what it must avoid."""

    def __init__(self, *stream: int | str) -> None:
        self.rng = HostGenerator(0, "samples", *stream)

    def uniform(self, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
        """float64 in [low, high)."""
        return low + self.rng.uniform(shape) * (high - low)

    def signed(self, *shape: int) -> np.ndarray:
        """Of either sign, with a magnitude in [0.3, 1.7)."""
        sign = np.where(self.rng.uniform(shape) < 0.5, -1.0, 1.0)
        return sign * self.uniform(shape, 0.3, 1.7)

    def positive(self, *shape: int) -> np.ndarray:
        """In [0.4, 2)."""
        return self.uniform(shape, 0.4, 2.0)

    def inside(self, *shape: int) -> np.ndarray:
        """In (−0.9, 0.9), 0.1 away from 0."""
        return np.where(self.rng.uniform(shape) < 0.5, -1.0, 1.0) * self.uniform(shape, 0.1, 0.9)

    def distinct(self, *shapes: tuple[int, ...]) -> Any:
        """Arrays in which no two values, within one or across them, come close."""
        sizes = [math.prod(shape) for shape in shapes]
        values = np.linspace(-2.0, 2.0, sum(sizes) + 2)[1:-1][self.rng.permutation(sum(sizes))]
        parts = np.split(values, np.cumsum(sizes)[:-1])
        arrays = tuple(part.reshape(shape) for part, shape in zip(parts, shapes))
        return arrays[0] if len(arrays) == 1 else arrays

    def integers(self, low: int, high: int, *shape: int) -> np.ndarray:
        """int64 in [low, high)."""
        return self.rng.integers(low, high, shape)

    def bools(self, *shape: int) -> np.ndarray:
        """True or False."""
        return self.rng.uniform(shape) < 0.5


@dataclass(frozen=True)
class Sample:
    """One way to call a primitive.

    `kind` says which inputs follow the dtype under test: the float64 ones for "float", the int64 ones
    for "int", none for "bool". With `rules`, the derivative rules are checked here too, with `batch`
    the batching rule, over every choice of batched inputs.
    """

    draw: Callable[[Draw], Arrays]
    params: dict[str, Any] = field(default_factory=dict)
    kind: str = "float"
    rules: bool = True
    batch: bool = True
    reference: Callable[..., Any] | None = None


def samples(name: str) -> tuple[Sample, ...]:
    """The samples of a primitive.

    Raises:
        KeyError: there are none; every primitive needs some.
    """
    return TABLE[name]


def reference(name: str, sample: Sample) -> Callable[..., Any]:
    """The NumPy function of a primitive, taking the inputs and the parameters."""
    own = sample.reference or REFERENCES.get(name)
    return own if own is not None else getattr(np, name)


# -- elementwise -----------------------------------------------------------------------------------


def _unary(draw: str, **kwargs: Any) -> tuple[Sample, ...]:
    return tuple(
        Sample(lambda d, shape=shape: (getattr(d, draw)(*shape),), **kwargs)  # type: ignore[misc]
        for shape in ((3, 4), (), (0, 2))
    )


def _binary(first: str, second: str, **kwargs: Any) -> tuple[Sample, ...]:
    return tuple(
        Sample(lambda d, a=a, b=b: (getattr(d, first)(*a), getattr(d, second)(*b)), **kwargs)  # type: ignore[misc]
        for a, b in (((3, 4), (3, 4)), ((2, 1, 3), (4, 1)), ((3,), ()), ((), ()), ((0, 2), (1, 2)))
    )


def _apart(**kwargs: Any) -> tuple[Sample, ...]:
    return tuple(
        Sample(lambda d, a=a, b=b: d.distinct(a, b), **kwargs)  # type: ignore[misc]
        for a, b in (((3, 4), (3, 4)), ((2, 1, 3), (4, 1)), ((3,), ()), ((0, 2), (1, 2)))
    )


def _integers(*ranges: tuple[int, int], **kwargs: Any) -> tuple[Sample, ...]:
    shapes = ((3, 4), (4,))
    return (Sample(lambda d: tuple(d.integers(*r, *s) for r, s in zip(ranges, shapes)), kind="int", **kwargs),)


def _bools(arity: int, **kwargs: Any) -> tuple[Sample, ...]:
    return (Sample(lambda d: tuple(d.bools(3, 4) for _ in range(arity)), kind="bool", rules=False, **kwargs),)


def _special(d: Draw) -> Arrays:
    x = d.signed(2, 4)
    x[0, :3] = math.nan, math.inf, -math.inf
    return (x,)


def _tied(d: Draw) -> Arrays:
    x, y = d.signed(3, 4), d.signed(3, 4)
    return x, np.where(d.bools(3, 4), x, y)


def _dividend(d: Draw) -> Arrays:
    y = d.signed(3, 4)
    return y * (d.integers(-2, 3, 3, 4) + d.uniform((3, 4), 0.2, 0.8)), y


def _halves(d: Draw) -> Arrays:
    return (d.integers(-3, 3, 3, 4) + d.uniform((3, 4), 0.2, 0.8) * np.where(d.bools(3, 4), 1.0, -1.0) + 0.001,)


_ARITHMETIC = _integers((5, 9), (1, 5))
_ONE_INTEGER = _integers((1, 9))

_ELEMENTWISE: dict[str, tuple[Sample, ...]] = {
    "add": _binary("signed", "signed") + _ARITHMETIC,
    "subtract": _binary("signed", "signed") + _ARITHMETIC,
    "multiply": _binary("signed", "signed") + _ARITHMETIC,
    "divide": _binary("signed", "signed"),
    "pow": _binary("positive", "signed") + _integers((1, 4), (0, 4)),
    "negative": _unary("signed"),
    "positive": _unary("signed") + _ONE_INTEGER,
    "square": _unary("signed") + _ONE_INTEGER,
    "reciprocal": _unary("signed"),
    "abs": _unary("signed") + _ONE_INTEGER,
    "sqrt": _unary("positive"),
    "exp": _unary("signed"),
    "expm1": _unary("signed"),
    "log": _unary("positive"),
    "log1p": _unary("inside"),
    "log2": _unary("positive"),
    "log10": _unary("positive"),
    "logaddexp": _binary("signed", "signed"),
    "tan": _unary("inside"),
    "asin": _unary("inside"),
    "acos": _unary("inside"),
    "acosh": tuple(Sample(lambda d, s=s: (1.0 + d.positive(*s),)) for s in ((3, 4), (), (0, 2))),  # type: ignore[misc]
    "atanh": _unary("inside"),
    "atan2": _binary("signed", "signed"),
    "hypot": _binary("signed", "signed"),
    "maximum": _apart() + _ARITHMETIC,
    "minimum": _apart() + _ARITHMETIC,
    "clip_scalars": tuple(
        Sample(lambda d: (d.signed(3, 4),), {"lower": lower, "upper": upper})
        for lower, upper in ((-0.75, 0.95), (None, 0.95), (-0.75, None))
    ),
    "where": (
        Sample(lambda d: (d.bools(3, 4), d.signed(3, 4), d.signed(3, 4))),
        Sample(lambda d: (d.bools(3, 1), d.signed(2, 1, 4), d.signed(4))),
        Sample(lambda d: (d.bools(), d.signed(3), d.signed())),
        Sample(lambda d: (d.bools(4), d.integers(0, 9, 3, 4), d.integers(0, 9, 4)), kind="int"),
    ),
    "relu": _unary("signed"),
    "sigmoid": _unary("signed"),
    "erf": _unary("signed"),
    "sign": _unary("signed") + _ONE_INTEGER,
    "signbit": _unary("signed"),
    "remainder": (Sample(_dividend), *_ARITHMETIC),
    "floor_divide": (Sample(_dividend), *_ARITHMETIC),
    "bitwise_invert": (*_ONE_INTEGER, *_bools(1)),
    "logical_not": _bools(1),
    "clone": (*_unary("signed"), *_ONE_INTEGER, *_bools(1)),
    "astype": (
        Sample(lambda d: (d.signed(3, 4),), {"dtype": "float64"}, kind="float64"),
        Sample(lambda d: (d.signed(3, 4),), {"dtype": "float32"}, rules=False),
        Sample(lambda d: (d.signed(3, 4),), {"dtype": "int32"}, rules=False),
        Sample(lambda d: (d.integers(0, 2, 3, 4),), {"dtype": "bool"}, kind="int", rules=False),
        Sample(lambda d: (d.bools(3, 4),), {"dtype": "float32"}, kind="bool", rules=False),
    ),
}
for _name in ("sin", "cos", "atan", "sinh", "cosh", "tanh", "asinh"):
    _ELEMENTWISE[_name] = _unary("signed")
for _name in ("floor", "ceil", "round", "trunc"):
    _ELEMENTWISE[_name] = (Sample(_halves), *_ONE_INTEGER)
for _name in ("isfinite", "isnan", "isinf"):
    _ELEMENTWISE[_name] = (Sample(_special),)
for _name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"):
    _ELEMENTWISE[_name] = (Sample(_tied), *_binary("signed", "signed"), *_integers((1, 4), (1, 4)))
for _name in ("logical_and", "logical_or", "logical_xor"):
    _ELEMENTWISE[_name] = _bools(2)
for _name in ("bitwise_and", "bitwise_or", "bitwise_xor"):
    _ELEMENTWISE[_name] = (*_integers((0, 64), (0, 64)), *_bools(2))
for _name in ("bitwise_left_shift", "bitwise_right_shift"):
    _ELEMENTWISE[_name] = _integers((1, 8), (0, 4))

# -- reductions --------------------------------------------------------------------------------------

_AXES: tuple[dict[str, Any], ...] = (
    {"axis": (-1,), "keepdims": False},
    {"axis": (-2,), "keepdims": True},
    {"axis": (-2, -1), "keepdims": False},
    {"axis": (-3, -1), "keepdims": True},
)
_ONE_AXIS: tuple[dict[str, Any], ...] = ({"axis": -1, "keepdims": False}, {"axis": -2, "keepdims": True})


def _reduced(draw: Callable[[Draw], Arrays], params: tuple[dict[str, Any], ...], **kw: Any) -> tuple[Sample, ...]:
    return tuple(Sample(draw, p, **kw) for p in params)


def _several(d: Draw) -> Arrays:
    return (d.signed(2, 3, 2),)


def _spread(d: Draw) -> Arrays:
    return (d.distinct((2, 3, 2)),)


def _with_zeros(d: Draw) -> Arrays:
    x = d.signed(3, 4)
    x[0, 1] = x[1, 0] = x[1, 2] = 0.0  # a row with one zero, a row with two
    return (x,)


_EMPTY = Sample(lambda d: (d.signed(0, 3),), {"axis": (-2,), "keepdims": False})
_POINT = Sample(lambda d: (d.signed(),), {"axis": (), "keepdims": False})
_WHOLE = tuple(
    Sample(lambda d: (d.integers(1, 4, 2, 3, 2),), {"axis": (-1,), "keepdims": keep}, kind="int")
    for keep in (False, True)
)
_LOGICAL = tuple(Sample(lambda d: (d.bools(2, 3, 2),), p, kind="bool", rules=False) for p in _AXES)

_REDUCTIONS: dict[str, tuple[Sample, ...]] = {
    "sum": (*_reduced(_several, _AXES), _EMPTY, _POINT, *_WHOLE),
    "prod": (
        *_reduced(_several, _AXES),
        Sample(_with_zeros, {"axis": (-1,), "keepdims": False}),
        _EMPTY,
        _POINT,
        *_WHOLE,
    ),
    "max": (*_reduced(_spread, _AXES), _POINT, *_WHOLE),
    "min": (*_reduced(_spread, _AXES), _POINT, *_WHOLE),
    "argmax": _reduced(_spread, _ONE_AXIS, rules=False),
    "argmin": _reduced(_spread, _ONE_AXIS, rules=False),
    "any": _LOGICAL,
    "all": _LOGICAL,
    "cumulative_sum": (
        Sample(lambda d: (d.signed(2, 3),), {"axis": -1}),
        Sample(lambda d: (d.signed(2, 3),), {"axis": -2}),
        Sample(lambda d: (d.signed(0, 3),), {"axis": -2}),
        Sample(lambda d: (d.integers(1, 4, 2, 3),), {"axis": -1}, kind="int"),
    ),
    "softmax": tuple(Sample(_several, {"axis": a}) for a in (-1, -2)),
    "log_softmax": tuple(Sample(_several, {"axis": a}) for a in (-1, -2)),
}

# -- shapes, joining ---------------------------------------------------------------------------------

_SHAPES: dict[str, tuple[Sample, ...]] = {
    "reshape": (
        Sample(lambda d: (d.signed(2, 3, 2),), {"shape": (4, 3)}),
        Sample(lambda d: (d.signed(),), {"shape": (1, 1)}),
        Sample(lambda d: (d.signed(0, 3),), {"shape": (3, 0, 2)}),
        Sample(lambda d: (d.integers(0, 9, 2, 3),), {"shape": (6,)}, kind="int"),
        Sample(lambda d: (d.bools(2, 3),), {"shape": (6,)}, kind="bool"),
    ),
    "broadcast_to": (
        Sample(lambda d: (d.signed(3, 1),), {"shape": (2, 3, 4)}),
        Sample(lambda d: (d.signed(),), {"shape": (2, 3)}),
        Sample(lambda d: (d.signed(1, 2),), {"shape": (0, 2)}),
    ),
    "permute_dims": (
        Sample(lambda d: (d.signed(2, 3, 4),), {"axes": (-1, -3, -2)}),
        Sample(lambda d: (d.signed(2, 3),), {"axes": (-1, -2)}),
        Sample(lambda d: (d.signed(0, 3),), {"axes": (-1, -2)}),
    ),
    "flip": (
        Sample(lambda d: (d.signed(2, 3),), {"axis": (-1,)}),
        Sample(lambda d: (d.signed(2, 3),), {"axis": (-2, -1)}),
    ),
    "concat_arrays": (
        Sample(lambda d: (d.signed(2, 3), d.signed(2, 1)), {"axis": -1, "lengths": (3, 1)}),
        Sample(lambda d: (d.signed(2, 3), d.signed(0, 3), d.signed(1, 3)), {"axis": -2, "lengths": (2, 0, 1)}),
        Sample(lambda d: (d.integers(0, 9, 2), d.integers(0, 9, 3)), {"axis": -1, "lengths": (2, 3)}, kind="int"),
    ),
}

# -- indexing: parts hold the fixed items of a key, HOLE stands for the next index array -----------------

_ALL = slice(None)
_KEYS: tuple[tuple[tuple[Any, ...], tuple[tuple[int, ...], ...]], ...] = (
    ((1, slice(None, None, 2)), ()),
    ((slice(3, 0, -1), None, -1), ()),
    ((HOLE,), ((5,),)),
    ((HOLE, _ALL), ((2, 3),)),
    ((HOLE, HOLE), ((2, 1), (3,))),
    ((_ALL, HOLE), ((3,),)),
)


def _indexed(parts: tuple[Any, ...], shapes: tuple[tuple[int, ...], ...]) -> Callable[[Draw], Arrays]:
    """An array of shape (4, 4) and index arrays, with repeated and negative indices."""
    return lambda d: (d.signed(4, 4), *(d.integers(-4, 4, *shape) for shape in shapes))


def _fill(parts: tuple[Any, ...], indices: Arrays) -> Any:
    rest = iter(indices)
    return tuple(next(rest) if part is HOLE else part for part in parts)


def _getitem(x: Any, *indices: Any, parts: Any) -> Any:
    return x[_fill(parts, indices)]


def _index_add(values: Any, *indices: Any, shape: Any, parts: Any) -> Any:
    out = np.zeros(shape, values.dtype)
    np.add.at(out, _fill(parts, indices), values)
    return out


def _setitem(x: Any, value: Any, *indices: Any, parts: Any) -> Any:
    out = x.copy()
    out[_fill(parts, indices)] = value
    return out


def _selection(parts: tuple[Any, ...], shapes: tuple[tuple[int, ...], ...]) -> tuple[int, ...]:
    return np.zeros((4, 4))[_fill(parts, tuple(np.zeros(s, np.int64) for s in shapes))].shape


_INDEXING: dict[str, tuple[Sample, ...]] = {
    "getitem_parts": (
        *(Sample(_indexed(parts, shapes), {"parts": parts}) for parts, shapes in _KEYS),
        Sample(lambda d: (d.integers(0, 9, 4, 4), d.integers(0, 4, 3)), {"parts": (HOLE,)}, kind="int"),
    ),
    "index_add_parts": tuple(
        Sample(
            lambda d, p=parts, s=shapes: (d.signed(*_selection(p, s)), *_indexed(p, s)(d)[1:]),  # type: ignore[misc]
            {"parts": parts, "shape": (4, 4)},
        )
        for parts, shapes in _KEYS
    ),
    "setitem_parts": (
        Sample(lambda d: (d.signed(4, 4), d.signed(2)), {"parts": (1, slice(None, None, 2))}),
        Sample(lambda d: (d.signed(4, 4), d.signed()), {"parts": (slice(1, 3), _ALL)}),
        Sample(lambda d: (d.signed(4, 4), d.signed(3, 4), d.rng.permutation(4)[:3]), {"parts": (HOLE, _ALL)}),
        Sample(
            lambda d: (d.signed(4, 4), d.signed(3), d.rng.permutation(4)[:3], d.integers(0, 4, 3)),
            {"parts": (HOLE, HOLE)},
        ),
    ),
    "nonzero_axis": tuple(
        Sample(lambda d: (d.bools(3, 4),), {"axis": axis}, kind="bool", rules=False, batch=False) for axis in (0, 1)
    ),
}

# -- products and losses ---------------------------------------------------------------------------------

_PRODUCTS: dict[str, tuple[Sample, ...]] = {
    "matmul": (
        Sample(lambda d: (d.signed(2, 3), d.signed(3, 4))),
        Sample(lambda d: (d.signed(2, 2, 3), d.signed(3, 2))),
        Sample(lambda d: (d.signed(2, 1, 2, 3), d.signed(3, 3, 1))),
        Sample(lambda d: (d.signed(0, 3), d.signed(3, 2))),
        Sample(lambda d: (d.integers(0, 4, 2, 3), d.integers(0, 4, 3, 2)), kind="int"),
    ),
    "linear": (
        Sample(lambda d: (d.signed(4, 3), d.signed(2, 3), d.signed(2))),
        Sample(lambda d: (d.signed(4, 3), d.signed(2, 3))),
        Sample(lambda d: (d.signed(1, 3), d.signed(2, 3), d.signed(2))),
        Sample(lambda d: (d.signed(3), d.signed(2, 3), d.signed(2))),
        Sample(lambda d: (d.signed(2, 2, 3), d.signed(2, 3), d.signed(2))),
        Sample(lambda d: (d.signed(0, 3), d.signed(2, 3), d.signed(2))),
    ),
    "softmax_cross_entropy": tuple(
        Sample(lambda d, s=shape: (d.signed(*s, 3), d.integers(0, 3, *s)), {"reduction": reduction})  # type: ignore[misc]
        for shape in ((4,), (1,), (2, 2), ())
        for reduction in ("mean", "sum", "none")
    ),
}


def _log_softmax(x: Any, *, axis: int) -> Any:
    z = x - x.max(axis=axis, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=axis, keepdims=True))


def _linear(x: Any, weight: Any, bias: Any = 0.0) -> Any:
    return x @ weight.T + bias


def _cross_entropy(logits: Any, targets: Any, *, reduction: str) -> Any:
    loss = -np.take_along_axis(_log_softmax(logits, axis=-1), targets[..., None], axis=-1)[..., 0]
    return loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.mean()


REFERENCES: dict[str, Callable[..., Any]] = {
    "clip_scalars": lambda x, *, lower, upper: np.clip(x, lower, upper),
    "relu": lambda x: np.maximum(x, 0.0),
    "sigmoid": lambda x: 1.0 / (1.0 + np.exp(-x)),
    "erf": lambda x: np.vectorize(math.erf, otypes=[np.float64])(x),
    "clone": lambda x: x.copy(),
    "astype": lambda x, *, dtype: x.astype(dtype),
    "cumulative_sum": lambda x, *, axis: np.cumsum(x, axis=axis),
    "softmax": lambda x, *, axis: np.exp(_log_softmax(x, axis=axis)),
    "log_softmax": _log_softmax,
    "reshape": lambda x, *, shape: np.reshape(x, shape),
    "broadcast_to": lambda x, *, shape: np.broadcast_to(x, shape),
    "permute_dims": lambda x, *, axes: np.transpose(x, axes),
    "concat_arrays": lambda *arrays, axis, lengths: np.concatenate(arrays, axis=axis),
    "getitem_parts": _getitem,
    "index_add_parts": _index_add,
    "setitem_parts": _setitem,
    "nonzero_axis": lambda x, *, axis: np.nonzero(x)[axis],
    "linear": _linear,
    "softmax_cross_entropy": _cross_entropy,
}

TABLE: dict[str, tuple[Sample, ...]] = {**_ELEMENTWISE, **_REDUCTIONS, **_SHAPES, **_INDEXING, **_PRODUCTS}
"""Name of a primitive to its samples."""
