"""Activations in blocks that stay in the cache: each array comes from memory once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fw_cpu.special import erf

Array = Any

_BLOCK = 1 << 15
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


_ABOVE = _single(794404.6962, 98898.55443, 10999.2415, 627.2701442, 11.64775654)
_BELOW = _single(1991279.093, 579769.9617, 74439.14915, 5392.71656, 224.9910256)
"""(Φ(x) − ½)/x as a ratio of polynomials in x², coefficients from the constant upwards, the last one below, 1, left
out: Φ(x) within 3e-7 for |x| ≤ 5.2. There it has passed 0 and 1, so that it can be held exactly at these beyond.

From a least-squares fit at Chebyshev points to Φ(x) + 4e-7·(x/5.2)^11, weighted anew until the
largest errors were even.
"""
_LEAST, _MOST, _HALF, _MINUS_HALF, _NONE, _ALL = _single(-5.2, 5.2, 0.5, -0.5, 0.0, 1.0)
_DENSITY = _single(1 / math.sqrt(2 * math.pi))[0]


def _distribution(x: Array, out: Array, z: Array, above: Array) -> None:
    """Φ(x) in single precision, within 4e-7; `z` and `above` are for what passes by."""
    x.clip(_LEAST, _MOST, out)
    np.multiply(out, out, z)
    np.multiply(z, _ABOVE[-1], above)
    np.add(above, _ABOVE[-2], above)
    for c in _ABOVE[-3::-1]:
        np.multiply(above, z, above)
        np.add(above, c, above)
    np.multiply(out, above, out)
    np.add(z, _BELOW[-1], above)
    for c in _BELOW[-2::-1]:
        np.multiply(above, z, above)
        np.add(above, c, above)
    np.divide(out, above, out)
    np.add(out, _HALF, out)
    out.clip(_NONE, _ALL, out)


def gelu(x: Array) -> tuple[Array, Array]:
    """x·Φ(x), and its derivative, Φ(x) + x·φ(x)."""
    return gelu_to((np.empty_like(x), np.empty_like(x)), x)


def gelu_to(outs: Any, x: Array) -> tuple[Array, Array]:
    """`gelu`, written to two arrays, which hold what passes by, too: so more of it stays in the cache."""
    single = x.dtype == np.float32
    half, density = (_MINUS_HALF, _DENSITY) if single else (-0.5, 1 / math.sqrt(2 * math.pi))
    above = x
    for part, phi, z in _blocks(x, *outs):
        if not single:
            phi[...] = erf(np.multiply(part, math.sqrt(0.5)))
            phi += 1
            phi *= 0.5
        else:
            if above is x or above.shape != part.shape:
                above = np.empty_like(part, subok=False)
            _distribution(part, phi, z, above)
        np.multiply(part, part, z)
        np.multiply(z, half, z)
        np.exp(z, z)
        np.multiply(z, part, z)
        np.multiply(z, density, z)
        np.add(z, phi, z)
        np.multiply(part, phi, phi)
    return outs[0], outs[1]


ACTIVATIONS: dict[str, Callable[..., Any]] = {"gelu": gelu}
"""Kernels by their names."""
