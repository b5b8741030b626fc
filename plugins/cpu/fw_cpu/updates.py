"""Updates of optimizers, in place."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from fw_cpu.sharing import passing

Array = Any


_LARGE = 1 << 20
"""Arrays of more elements than this are updated block by block: each then comes from memory once, not once a pass."""
_SMALL = 1 << 12
"""Arrays of fewer elements are had anew as fast as they are found."""
_BLOCK = 1 << 17
"""Elements of a block: of fewer, the calls cost more than the cache saves."""


def _blocks(*arrays: Array) -> Iterable[Any]:
    """Blocks of large arrays, as views, where all lie in memory alike; else the arrays themselves."""
    size = arrays[0].size
    if size <= _LARGE or not _alike(*arrays):
        return (arrays,)
    flat = [a.reshape(-1, order="A") for a in arrays]
    return (tuple([a[i : i + _BLOCK] for a in flat]) for i in range(0, size, _BLOCK))


def _passing(like: Array) -> Array:
    """An array like this one for what passes by: where it is flat and not small, the same memory each time."""
    return np.empty_like(like) if like.ndim != 1 or like.size < _SMALL else passing(like)


def _alike(*arrays: Array) -> bool:
    return all(a.flags.c_contiguous for a in arrays) or all(a.flags.f_contiguous for a in arrays)


def sgd_update(
    p: Array,
    g: Array,
    velocity: Array | None,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
) -> tuple[Array, Array | None]:
    """One step of SGD in place: four passes over memory in the plain momentum case."""
    if not p.flags.writeable:
        p = p.copy()
    first = velocity is None
    if not momentum:
        for q, h in _blocks(p, g):
            t = _passing(q)
            np.multiply(_decayed(h, q, weight_decay, t), lr, t)
            np.subtract(q, t, q)
        return p, velocity
    if first:
        velocity = np.empty_like(g, subok=False)
    for q, h, v in _blocks(p, g, velocity):
        t = _passing(q)
        h = _decayed(h, q, weight_decay, t)
        if first:
            v[...] = h
        else:
            np.multiply(v, momentum, v)
            np.add(v, h if dampening == 0 else (1.0 - dampening) * h, v)
        np.multiply(h + momentum * v if nesterov else v, lr, t)
        np.subtract(q, t, q)
    return p, velocity


def _decayed(g: Array, p: Array, weight_decay: float, out: Array) -> Array:
    """`g + weight_decay * p`, which may be in `out`."""
    if not weight_decay:
        return g
    np.multiply(p, weight_decay, out)
    return np.add(g, out, out)


def adam_update(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> tuple[Array, Array, Array]:
    """One step of Adam in place."""
    if not p.flags.writeable:
        p = p.copy()
    for q, h, n, w in _blocks(p, g, m, v):
        _adam(q, h, n, w, step, lr, betas, eps, weight_decay, decoupled)
    return p, m, v


def _adam(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> None:
    if weight_decay:
        if decoupled:
            p *= 1.0 - lr * weight_decay
        else:
            g = g + weight_decay * p
    b1, b2 = betas
    t = np.multiply(g, 1.0 - b1, _passing(p))
    np.multiply(m, b1, m)
    np.add(m, t, m)
    np.multiply(v, b2, v)
    np.multiply(g, g, t)
    np.multiply(t, 1.0 - b2, t)
    np.add(v, t, v)
    np.sqrt(v, t)
    np.divide(t, (1.0 - b2**step) ** 0.5, t)
    np.add(t, eps, t)
    np.divide(m, t, t)
    np.multiply(t, lr / (1.0 - b1**step), t)
    np.subtract(p, t, p)


def rprop_update(
    p: Array,
    g: Array,
    previous: Array,
    step_size: Array,
    etas: tuple[float, float],
    step_sizes: tuple[float, float],
) -> tuple[Array, Array, Array]:
    """One step of iRprop− in place."""
    if not p.flags.writeable:
        p = p.copy()
    for q, h, before, size in _blocks(p, g, previous, step_size):
        _rprop(q, h, before, size, etas, step_sizes)
    return p, previous, step_size


def _rprop(
    p: Array, g: Array, previous: Array, step_size: Array, etas: tuple[float, float], step_sizes: tuple[float, float]
) -> None:
    """Selection without `where`, which is many times slower: exactly one of three factors is not multiplied by zero."""
    dtype = p.dtype.type
    t = np.asarray(g * previous)
    grows, shrinks = np.asarray(t > 0), np.asarray(t < 0)
    factor = np.asarray(grows * dtype(etas[1]))
    np.multiply(shrinks, dtype(etas[0]), out=t)
    factor += t
    np.logical_or(grows, shrinks, out=grows)
    factor += np.logical_not(grows, out=grows)
    step_size *= factor
    np.clip(step_size, *step_sizes, out=step_size)
    # The gradient to remember has every bit cleared where the sign changed: a product with zero would keep NaN.
    bits = np.dtype(f"i{p.dtype.itemsize}")
    keeps = np.subtract(shrinks.view(np.int8), 1, dtype=bits)
    np.bitwise_and(g.view(bits), keeps, out=previous.view(bits))
    np.sign(previous, out=t)
    t *= step_size
    p -= t


UPDATES: dict[str, Callable[..., Any]] = {f.__name__: f for f in (sgd_update, adam_update, rprop_update)}
"""Kernels by their names."""
