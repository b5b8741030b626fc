"""Where NumPy's functions depart from the Array API standard in special cases: the standard's results."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Array = Any


def expm1(x: Array) -> Array:
    """exp(x) − 1; for complex numbers with an infinite or missing part, or on the real axis, as the standard says."""
    if x.dtype.kind != "c":
        return np.expm1(x)
    a, b = x.real, x.imag
    on_axis = b == 0
    if np.isfinite(x).all() and not on_axis.any():
        return np.expm1(x)
    with np.errstate(invalid="ignore"):  # from what is replaced here
        out = np.asarray(np.expm1(x))
        vague = np.isinf(a) & ~np.isfinite(b)  # of unknown direction: 0 · e^(ib) is 0, and ∞ · e^(ib) is infinite
        out.real[...] = np.where(on_axis, np.expm1(a) + 0.0, np.where(vague, np.where(a > 0, np.inf, -1.0), out.real))
        out.imag[...] = np.where(on_axis, b, np.where(vague & (a < 0), 0.0, out.imag))
    return out


def tanh(x: Array) -> Array:
    """tanh(x); at an infinite real part the imaginary zero has the sign of x's imaginary part."""
    out = np.tanh(x)
    if x.dtype.kind == "c":
        at_end = np.isinf(x.real) & np.isfinite(x.imag)
        if at_end.any():
            out = np.asarray(out)
            out.imag[...] = np.where(at_end, np.copysign(0.0, x.imag), out.imag)
    return out


def floor_divide(x: Array, y: Array) -> Array:
    """floor(x / y), also where one of them is infinite."""
    if np.result_type(x, y).kind != "f" or (np.isfinite(x).all() and np.isfinite(y).all()):
        return np.floor_divide(x, y)
    with np.errstate(invalid="ignore"):
        return np.where(np.isinf(x) | np.isinf(y), np.floor(np.divide(x, y)), np.floor_divide(x, y))


STANDARD: dict[str, Callable[..., Any]] = {f.__name__: f for f in (expm1, tanh, floor_divide)}
"""Functions by the standard's names, that take NumPy's place."""
