"""The error function as ratios of polynomials, in blocks that stay in the cache."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from framework.backend import host

Array = Any

_BLOCK = 1 << 14


def _constants(*values: float) -> tuple[Any, ...]:
    """0-d arrays, which NumPy takes in half the time of a Python number."""
    return tuple([np.array(v) for v in values])


_SINGLE = (
    _constants(
        1.128379169364099, 0.18520541573133734, 0.054316956632614925, 0.003849669544294941, 0.00037959972811186995,
        4.684479401439292e-06, -1.3200835875304208e-08,
    ),
    _constants(
        1.0, 0.4974674397782846, 0.11395910534412483, 0.015462174363746228, 0.0013075694471825412,
        6.310777407893254e-05,
    ),
)  # fmt: skip
"""erf(x)/x as a ratio of polynomials in x², coefficients from the constant upwards, for |x| ≤ 4: relative error 2e-9.

From a least-squares fit at Chebyshev points, weighted anew until the largest relative errors were even.
"""

_NEAR = (
    _constants(
        0.1283791670955126, -0.3170066660009191, -0.04832815838004742, -0.008815460937992934, -0.0004955815800809619,
        -2.0731056889955026e-05,
    ),
    _constants(
        1.0, 0.46050869754384904, 0.09381115883354585, 0.010692701189854952, 0.0006924597481996512,
        2.0808509502278758e-05,
    ),
)  # fmt: skip
"""erf(x)/x − 1 in x², for |x| ≤ 1, from the same fit in 60 digits: error 7e-19.

It is 1 that is left out because x + x·r is rounded once where r is small; a product would be rounded at every factor.
"""

# W. J. Cody, "Rational Chebyshev approximations for the error function", Mathematics of Computation 23 (1969).
_FAR = (
    _constants(
        1.23033935479799725e03, 2.05107837782607147e03, 1.71204761263407058e03, 8.81952221241769090e02,
        2.98635138197400131e02, 6.61191906371416295e01, 8.88314979438837594e00, 5.64188496988670089e-01,
        2.15311535474403846e-08,
    ),
    _constants(
        1.23033935480374942e03, 3.43936767414372164e03, 4.36261909014324716e03, 3.29079923573345963e03,
        1.62138957456669019e03, 5.37181101862009858e02, 1.17693950891312499e02, 1.57449261107098347e01, 1.0,
    ),
)  # fmt: skip
"""exp(x²)·erfc(x) in x, for 0.46875 ≤ x ≤ 4, used from 1; close enough up to 6, where erf(x) has become 1."""


def _polynomial(coefficients: tuple[Any, ...], z: Array) -> Array:
    """By Horner's rule."""
    if coefficients[-1] == 1.0:
        out = z + coefficients[-2]
    else:
        out = z * coefficients[-1]
        out += coefficients[-2]
    for c in coefficients[-3::-1]:
        out *= z
        out += c
    return out


def _ratio(of: tuple[tuple[Any, ...], tuple[Any, ...]], z: Array) -> Array:
    out = _polynomial(of[0], z)
    out /= _polynomial(of[1], z)
    return out


def _single(x: Array, out: Array) -> None:
    """For single precision and below, computed in double: correct but for the last rounding."""
    wide = x.astype(np.float64)
    np.maximum(wide, -4.0, out=wide)
    np.minimum(wide, 4.0, out=wide)
    np.multiply(wide, _ratio(_SINGLE, wide * wide), out=out, casting="same_kind")


def _near(x: Array, y: Array) -> Array:
    out = _ratio(_NEAR, y * y)
    out *= x
    out += x
    return out


def _far(x: Array, y: Array) -> Array:
    """1 − erfc(|x|), with the sign of x."""
    out = _ratio(_FAR, y)
    y = y * y
    np.negative(y, out=y)
    np.exp(y, out=y)
    out *= y
    np.subtract(1.0, out, out=out)
    return np.copysign(out, x, out=out)


def _double(x: Array, out: Array) -> None:
    y = np.abs(x)
    np.minimum(y, 6.0, out=y)
    far = np.flatnonzero(y > 1.0)
    if len(far) == len(x):
        out[...] = _far(x, y)
        return
    out[...] = _near(np.copysign(y, x), y)  # not of x itself: ∞ − ∞ is none of the results
    if len(far):
        out[far] = _far(x[far], y[far])


def erf(x: Array) -> Array:
    """The error function, element by element: within 1 unit in the last place in single precision, 3 in double."""
    x = np.asarray(x)
    if x.dtype.kind != "f" or x.itemsize > 8:
        return host.erf(x)
    if not (x.flags.c_contiguous or x.flags.f_contiguous):
        x = x.copy()
    out = np.empty_like(x)
    flat, result = x.reshape(-1, order="A"), out.reshape(-1, order="A")
    block = _double if x.itemsize == 8 else _single
    for i in range(0, flat.size, _BLOCK):
        block(flat[i : i + _BLOCK], result[i : i + _BLOCK])
    return out


SPECIAL: dict[str, Callable[..., Any]] = {"erf": erf}
"""Kernels by their names."""
