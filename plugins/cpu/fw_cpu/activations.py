"""Activations in blocks that stay in the cache: each array comes from memory once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fw_cpu.sharing import each, passing
from fw_cpu.special import erf

Array = Any

_BLOCK = 1 << 17
"""Elements that are in work at a time."""


def _blocks(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """Parts of arrays of one shape, in the order of memory if they have one in common."""
    first = arrays[0]
    order = sorted(range(first.ndim), key=lambda a: -first.strides[a])
    turned = [a.transpose(order) for a in arrays]
    if not all(a.flags.c_contiguous for a in turned):
        yield arrays
        return
    flat = [a.reshape(-1) for a in turned]
    for i in range(0, first.size, _BLOCK):
        yield tuple([a[i : i + _BLOCK] for a in flat])


def _single(*values: float) -> tuple[Any, ...]:
    """0-d arrays, which NumPy takes in less time than a Python number."""
    return tuple([np.array(v, np.float32) for v in values])


# M. Abramowitz and I. Stegun, "Handbook of Mathematical Functions" (1964), 7.1.26.
_RATE = _single(0.3275911 / math.sqrt(2))[0]
_TAIL = _single(*(0.5 * a for a in (0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429)))
"""1 − Φ(x) for x ≥ 0 as exp(−x²/2) times a polynomial in 1 / (1 + rate·x), without a constant, within 8e-8."""
_MINUS_HALF, _HALF, _ONE = _single(-0.5, 0.5, 1.0)
_DENSITY = _single(1 / math.sqrt(2 * math.pi))[0]


def _distribution(x: Array, bell: Array, out: Array, t: Array) -> None:
    """Φ(x) in single precision, given exp(−x²/2); `t` is for what passes by."""
    np.abs(x, t)
    np.multiply(t, _RATE, t)
    np.add(t, _ONE, t)
    np.divide(_ONE, t, t)
    np.multiply(t, _TAIL[-1], out)
    for c in _TAIL[-2::-1]:
        np.add(out, c, out)
        np.multiply(out, t, out)
    np.multiply(out, bell, out)
    np.subtract(_HALF, out, out)
    np.copysign(out, x, out)
    np.add(out, _HALF, out)


def gelu(x: Array) -> tuple[Array, Array]:
    """x·Φ(x), and its derivative, Φ(x) + x·φ(x)."""
    return gelu_to((np.empty_like(x), np.empty_like(x)), x)


def gelu_to(outs: Any, x: Array) -> tuple[Array, Array]:
    """`gelu`, written to two arrays, which hold what passes by, too: so more of it stays in the cache."""
    single = x.dtype == np.float32
    half, density = (_MINUS_HALF, _DENSITY) if single else (-0.5, 1 / math.sqrt(2 * math.pi))

    def compute(arrays: tuple[Array, ...]) -> None:
        part, phi, z = arrays
        np.multiply(part, part, z)
        np.multiply(z, half, z)
        np.exp(z, z)
        if single:
            _distribution(part, z, phi, passing(part))
        else:
            phi[...] = erf(np.multiply(part, math.sqrt(0.5)))
            phi += 1
            phi *= 0.5
        np.multiply(z, part, z)
        np.multiply(z, density, z)
        np.add(z, phi, z)
        np.multiply(part, phi, phi)

    each(compute, _blocks(x, *outs))
    return outs[0], outs[1]


ACTIVATIONS: dict[str, Callable[..., Any]] = {"gelu": gelu}
"""Kernels by their names."""
