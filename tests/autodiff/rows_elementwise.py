"""Rows of the functions of one element each: arithmetic, exponentials, trigonometry, choices, complex parts."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from generated import Array, Call, Draw, Shape, call, row

Values = Callable[[Draw, Shape], Array]

# -- of one input ------------------------------------------------------------------------------------------


def between(low: float, high: float) -> Values:
    return lambda d, shape: d.real(shape, low, high)


def away(low: float, high: float, step: float = math.inf) -> Values:
    return lambda d, shape: d.away(shape, low, high, step)


def polar(low: float, high: float, angle: float = 2.6) -> Values:
    return lambda d, shape: d.polar(shape, low, high, angle)


def right_half(d: Draw, shape: Shape) -> Array:
    """Complex numbers off both axes, on which some functions have their cuts."""
    return np.asarray(d.real(shape, 0.2, 2) + 1j * d.away(shape, -1.5, 1.5))


def left_half(d: Draw, shape: Shape) -> Array:
    return -right_half(d, shape)


def unary(name: str, real: Values | None, of_complex: Values | None = None, **options: Any) -> None:
    """`real` and `of_complex` draw values where the function is smooth."""

    def make(d: Draw) -> Call:
        draw = of_complex if of_complex and (d.complex or real is None) else real
        assert draw is not None
        return call(name.split()[0], draw(d, d.shape()))

    row(name, make, complex=of_complex is not None, **options)


anywhere = between(-2, 2)
disc = polar(0.1, 0.8)
plane = polar(0.2, 2, math.pi)

for _name in ("sin", "cos", "sinh", "cosh", "tanh", "exp", "expm1", "negative", "positive", "square", "clone"):
    unary(_name, anywhere, polar(0.1, 1.2, math.pi))
for _name in ("log", "log2", "log10", "sqrt"):
    unary(_name, between(0.3, 3), polar(0.4, 2))
unary("log1p", between(-0.6, 3), polar(0.1, 0.8, math.pi))
unary("reciprocal", away(-2, 2, 0.8), polar(0.4, 2, math.pi))
unary("tan", between(-1.2, 1.2), polar(0.1, 1, math.pi))
for _name in ("asin", "acos", "atanh"):
    unary(_name, between(-0.85, 0.85), disc)
unary("acosh", between(1.2, 3), right_half)
unary("acosh of the left half plane", None, left_half, no_jax="JAX's derivative has the wrong sign there")
for _name in ("asinh", "atan"):
    unary(_name, anywhere, disc)
for _name in ("abs", "sign"):
    unary(_name, away(-2, 2), plane)
for _name in ("floor", "ceil", "trunc"):
    unary(_name, away(-4, 4, 1.0), None)
unary("round", away(-4, 4, 0.5), lambda d, shape: d.away(shape, -4, 4, 0.5) + 1j * d.away(shape, -4, 4, 0.5))
for _name in ("conj", "real", "imag"):
    unary(_name, anywhere if _name != "imag" else None, plane)
unary("angle", away(-2, 2), plane)
for _name in ("relu", "fabs"):
    unary(_name, away(-2, 2))
for _name in ("sigmoid", "erf", "exp2", "deg2rad", "rad2deg", "degrees", "radians"):
    unary(_name, anywhere)
unary("sinc", away(-3, 3, 0.5))
unary("rint", away(-4, 4, 0.5))


def _nan_to_num(d: Draw) -> Call:
    x = d.array(d.shape())
    if not d.complex and x.size and d.chance():
        x.reshape(-1)[d.integer(0, x.size - 1)] = np.nan
        return Call(lambda xp, x: xp.nan_to_num(x, nan=0.5) * 2.0, (x,), "nan_to_num(nan=0.5)")
    return call("nan_to_num", x)


row("nan_to_num", _nan_to_num)

# -- of two inputs -----------------------------------------------------------------------------------------


OPERATORS = {
    "add": operator.add,
    "subtract": operator.sub,
    "multiply": operator.mul,
    "divide": operator.truediv,
    "pow": operator.pow,
    "remainder": operator.mod,
    "floor_divide": operator.floordiv,
}
"""Used in the place of the functions now and then."""


def binary(name: str, left: Values, right: Values, *of_complex: Values, scalars: bool = True, **options: Any) -> None:
    """Shapes that broadcast; a Python number now and then in the place of either input."""

    def make(d: Draw) -> Call:
        a, b = d.broadcastable(2)
        draw_x, draw_y = of_complex if d.complex else (left, right)
        if d.complex and d.chance(0.4):  # real beside complex
            draw_x, draw_y = (left, draw_y) if d.chance() else (draw_x, right)
        fn = OPERATORS[name] if name in OPERATORS and d.chance(0.4) else None
        x, y = draw_x(d, a), draw_y(d, b)
        if scalars and d.chance(0.2):
            number = draw_y(d, ()).item()
            return Call(lambda xp, x: (fn or getattr(xp, name))(x, number), (x,), f"{name}(x, {number})")
        if scalars and d.chance(0.2):
            number = draw_x(d, ()).item()
            return Call(lambda xp, y: (fn or getattr(xp, name))(number, y), (y,), f"{name}({number}, y)")
        return Call(lambda xp, x, y: (fn or getattr(xp, name))(x, y), (x, y), name)

    row(name, make, complex=bool(of_complex), **options)


for _name in ("add", "subtract", "multiply"):
    binary(_name, anywhere, anywhere, plane, plane)
binary("divide", anywhere, away(-2, 2, 0.8), plane, polar(0.5, 2, math.pi))
binary("pow", between(0.3, 2), between(-2, 2), polar(0.5, 1.5), polar(0.2, 1.2))
binary("logaddexp", anywhere, anywhere)
binary("logaddexp2", anywhere, anywhere)
binary("atan2", away(-2, 2), away(-2, 2))
binary("hypot", away(-2, 2), away(-2, 2))
binary("nextafter", anywhere, anywhere, scalars=False, no_jax="JAX has no derivative of it")
binary("copysign", away(-2, 2), away(-2, 2))
binary("remainder", away(-5, 5, 1.0), lambda d, shape: d.pick((1.0, -1.0)) + d.real(shape, -0.005, 0.005))
binary("floor_divide", away(-5, 5, 1.0), lambda d, shape: d.pick((1.0, -1.0)) + d.real(shape, -0.005, 0.005))


def apart(name: str) -> None:
    """Two inputs that are nowhere equal."""

    def make(d: Draw) -> Call:
        a, b = d.broadcastable(2)
        x = d.away(a, -3, 3, 1.0)
        y = np.round(d.real(b, -3, 3)) + d.real(b, -0.05, 0.05)
        if d.chance(0.2):
            return Call(lambda xp, x: getattr(xp, name)(x, 1.0), (x,), f"{name}(x, 1.0)")
        return call(name, *((x, y) if d.chance() else (y, x)))

    row(name, make)


for _name in ("maximum", "minimum", "fmax", "fmin"):
    apart(_name)


def _clip(d: Draw) -> Call:
    x = d.away(d.shape(), -3, 3, 1.0)
    low, high = d.pick(((-1.0, 2.0), (None, 1.0), (0.0, None), (-2, 1)))
    if d.chance():
        return Call(lambda xp, x: xp.clip(x, low, high), (x,), f"clip({low}, {high})")
    low = -1 + d.real(tuple(1 if d.chance(0.3) else n for n in x.shape[d.integer(0, x.ndim) :]), -0.05, 0.05)
    high = 1 + d.real((), -0.05, 0.05)
    if d.chance(0.3):
        return Call(lambda xp, x, low: xp.clip(x, low, None), (x, low), "clip(x, array, None)")
    return Call(lambda xp, x, low, high: xp.clip(x, low, high), (x, low, high), "clip by arrays")


row("clip", _clip)


def _where(d: Draw) -> Call:
    c, a, b = d.broadcastable(3)
    x, y = d.either(a), d.either(b)
    if d.chance(0.25):
        return Call(lambda xp, c, x: xp.where(c, x, 0.5), (d.bools(c), x), "where with a number")
    return call("where", d.bools(c), x, y)


row("where", _where, complex=True)


def _astype(d: Draw) -> Call:
    """There and back, so that both casts have derivatives."""
    x = np.asarray(
        d.array(d.shape()).astype(np.complex64 if d.complex else np.float32), dtype=complex if d.complex else float
    )
    if d.complex or d.chance(0.3):
        return Call(lambda xp, x: xp.astype(x, xp.complex128) * 1.5, (x,), "astype complex")
    if d.chance(0.3):
        i = d.integers(x.shape, -3, 3)
        return Call(lambda xp, x, i: x * xp.astype(i, x.dtype), (x, i), "astype of integers")
    return Call(lambda xp, x: xp.astype(x, xp.float64, copy=True) * 3.0, (x,), "astype float64")


row("astype", _astype, complex=True, narrow="the call asks for 64 bits")
