"""Samples of element-by-element primitives."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from framework.testing.sampling import Arrays, Draw, Sample, Table, also_complex, between, drawn, with_params


def _unary(how: str, **kwargs: Any) -> tuple[Sample, ...]:
    return tuple(Sample(drawn(how, shape), **kwargs) for shape in ((3, 4), (), (0, 2)))


_PAIRS = (((3, 4), (3, 4)), ((2, 1, 3), (4, 1)), ((3,), ()), ((), ()), ((0, 2), (1, 2)))


def _binary(first: str, second: str, **kwargs: Any) -> tuple[Sample, ...]:
    def draw(a: tuple[int, ...], b: tuple[int, ...]) -> Callable[[Draw], Arrays]:
        return lambda d: (getattr(d, first)(*a), getattr(d, second)(*b))

    return tuple(Sample(draw(a, b), **kwargs) for a, b in _PAIRS)


def _apart(**kwargs: Any) -> tuple[Sample, ...]:
    def draw(a: tuple[int, ...], b: tuple[int, ...]) -> Callable[[Draw], Arrays]:
        return lambda d: d.distinct(a, b)

    return tuple(Sample(draw(a, b), **kwargs) for a, b in _PAIRS if (a, b) != ((), ()))


def _integers(*ranges: tuple[int, int], **kwargs: Any) -> tuple[Sample, ...]:
    shapes = ((3, 4), (4,))
    return (Sample(lambda d: tuple(d.integers(*r, *s) for r, s in zip(ranges, shapes)), kind="int", **kwargs),)


def _bools(arity: int, **kwargs: Any) -> tuple[Sample, ...]:
    return (Sample(drawn("bools", *[(3, 4)] * arity), kind="bool", rules=False, **kwargs),)


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
_REAL_AND_COMPLEX = (Sample(lambda d: (d.signed(2, 1), d.complex(2)), kind="complex"),)

_TABLE: Table = {
    "add": _binary("signed", "signed") + _ARITHMETIC + _REAL_AND_COMPLEX,
    "subtract": _binary("signed", "signed") + _ARITHMETIC,
    "multiply": _binary("signed", "signed") + _ARITHMETIC + _REAL_AND_COMPLEX,
    "divide": _binary("signed", "signed") + _REAL_AND_COMPLEX,
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
    "acosh": tuple(replace(s, draw=lambda d, s=s: (1.0 + s.draw(d)[0],)) for s in _unary("positive")),  # type: ignore[misc]
    "atanh": _unary("inside"),
    "atan2": _binary("signed", "signed"),
    "hypot": _binary("signed", "signed"),
    "copysign": _binary("signed", "signed"),
    "nextafter": _binary("signed", "signed", rules=False),
    "conj": _unary("signed"),
    "real": _unary("signed"),
    "imag": (*_unary("complex", kind="complex"), *_unary("signed", rules=False)),
    "complex_sign": _unary("signed", reference=np.sign),
    "maximum": _apart() + _ARITHMETIC,
    "minimum": _apart() + _ARITHMETIC,
    "clip_scalars": with_params(
        drawn("signed", (3, 4)),
        [{"lower": lower, "upper": upper} for lower, upper in ((-0.75, 0.95), (None, 0.95), (-0.75, None))],
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
        Sample(drawn("signed", (3, 4)), {"dtype": "float64"}, kind="float64"),
        Sample(drawn("signed", (3, 4)), {"dtype": "float32"}, rules=False),
        Sample(drawn("signed", (3, 4)), {"dtype": "int32"}, rules=False),
        Sample(drawn("signed", (3, 4)), {"dtype": "complex128"}, kind="float64"),
        Sample(between(0, 2, (3, 4)), {"dtype": "bool"}, kind="int", rules=False),
        Sample(drawn("bools", (3, 4)), {"dtype": "float32"}, kind="bool", rules=False),
    ),
}
for _name in ("sin", "cos", "atan", "sinh", "cosh", "tanh", "asinh"):
    _TABLE[_name] = _unary("signed")
for _name in ("floor", "ceil", "round", "trunc"):
    _TABLE[_name] = (Sample(_halves), *_ONE_INTEGER)
for _name in ("isfinite", "isnan", "isinf"):
    _TABLE[_name] = (Sample(_special),)
for _name in ("equal", "not_equal", "less", "less_equal", "greater", "greater_equal"):
    _TABLE[_name] = (Sample(_tied), *_binary("signed", "signed"), *_integers((1, 4), (1, 4)))
for _name in ("logical_and", "logical_or", "logical_xor"):
    _TABLE[_name] = _bools(2)
for _name in ("bitwise_and", "bitwise_or", "bitwise_xor"):
    _TABLE[_name] = (*_integers((0, 64), (0, 64)), *_bools(2))
for _name in ("bitwise_left_shift", "bitwise_right_shift"):
    _TABLE[_name] = _integers((1, 8), (0, 4))

ELEMENTWISE = also_complex(
    _TABLE,
    "add", "subtract", "multiply", "divide", "pow", "negative", "positive", "square", "reciprocal", "abs", "sqrt",
    "exp", "expm1", "log", "log1p", "log2", "log10", "sin", "cos", "tan", "asin", "acos", "atan",
    "sinh", "cosh", "tanh", "asinh", "acosh", "atanh", "conj", "real", "complex_sign",
    "where", "isfinite", "isnan", "isinf", "equal", "not_equal", "clone",
)  # fmt: skip
"""Name of a primitive to its samples."""

ELEMENTWISE_REFERENCES: dict[str, Callable[..., Any]] = {
    "clip_scalars": lambda x, *, lower, upper: np.clip(x, lower, upper),
    "relu": lambda x: np.maximum(x, 0.0),
    "sigmoid": lambda x: 1.0 / (1.0 + np.exp(-x)),
    "erf": lambda x: np.vectorize(math.erf, otypes=[np.float64])(x),
    "clone": lambda x: x.copy(),
    "astype": lambda x, *, dtype: x.astype(dtype),
}
