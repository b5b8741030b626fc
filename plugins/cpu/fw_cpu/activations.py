"""Activations in blocks that stay in the cache: each array comes from memory once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fw_cpu.special import erf, erf_within

Array = Any

_BLOCK = 1 << 14
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


def gelu(x: Array) -> tuple[Array, Array]:
    """x·Φ(x), and Φ(x)."""
    out, share = np.empty_like(x), np.empty_like(x)
    for part, result, phi in _blocks(x, out, share):
        np.multiply(part, math.sqrt(0.5), out=phi)
        if phi.dtype == np.float32:
            erf_within(phi)
        else:
            phi[...] = erf(phi)
        phi += 1
        phi *= 0.5
        np.multiply(part, phi, out=result)
    return out, share


def gelu_grad(g: Array, x: Array, share: Array) -> Array:
    """g·(Φ(x) + x·φ(x))."""
    out = np.empty_like(x, dtype=g.dtype)
    for dy, part, phi, result in _blocks(g, x, share, out):
        np.multiply(part, part, out=result)
        result *= -0.5
        np.exp(result, out=result)
        result *= part
        result *= 1 / math.sqrt(2 * math.pi)
        result += phi
        result *= dy
    return out


ACTIVATIONS: dict[str, Callable[..., Any]] = {f.__name__: f for f in (gelu, gelu_grad)}
"""Kernels by their names."""
