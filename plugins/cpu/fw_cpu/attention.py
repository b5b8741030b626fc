"""Attention block by block: scores are made, weighted and used while they are in the cache."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from fw_cpu.constants import ones_of
from fw_cpu.sharing import each, passing

Array = Any

_BLOCK = 1 << 18
"""Elements of the scores that are in work at a time."""
_QUERIES = 128
"""Causal attention takes so many queries at a time, and the keys that these may see."""
_SAFE = 40.0
"""Scores of no greater size are taken to the power of e as they are: sums of these powers neither overflow nor vanish.

Then the largest score of each query, which is else taken off first, need not be known.
"""


def _parts(scores: Array) -> Iterator[tuple[slice, ...]]:
    """Blocks along the first axis, and along the heads of one sample where these are enough."""
    of_one = math.prod(scores.shape[1:])
    if of_one > _BLOCK and scores.ndim == 4:
        step = max(1, _BLOCK // math.prod(scores.shape[2:]))
        for i in range(len(scores)):
            for j in range(0, scores.shape[1], step):
                yield slice(i, i + 1), slice(j, j + step)
        return
    step = max(1, _BLOCK // max(of_one, 1))
    for i in range(0, len(scores), step):
        yield (slice(i, i + step),)


def _led(*arrays: Array) -> list[Array]:
    """With an axis in front of the matrices."""
    return [a[None] if a.ndim == 2 else a for a in arrays]


def _rows(queries: int, keys: int, causal: bool) -> list[tuple[int, int, int]]:
    """Queries from … to … and how many keys they see, the last ones first: together they may see all keys."""
    if not causal:
        return [(0, queries, keys)]
    starts = range(0, max(queries, 1), _QUERIES)
    return [(a, min(a + _QUERIES, queries), min(a + _QUERIES, queries, keys)) for a in reversed(starts)]


_seen: dict[tuple[int, int, int, Any], Array] = {}


def _mask(first: int, last: int, keys: int, dtype: Any) -> Array:
    """1 where one of the queries sees a key, else 0."""
    key = (first, last, keys, dtype)
    found = _seen.get(key)
    if found is None:
        if len(_seen) > 64:
            _seen.clear()
        found = _seen[key] = (np.arange(keys) <= np.arange(first, last)[:, None]).astype(dtype)
    return found


def attention(q: Array, k: Array, v: Array, bias: Array, *, scale: float, causal: bool) -> tuple[Array, Array]:
    """The weighted values, and the weights."""
    out = np.empty_like(q, shape=(*q.shape[:-1], v.shape[-1]))  # in the layout of q: heads go back where they were
    weights = np.empty_like(q, shape=(*q.shape[:-1], k.shape[-2]), order="C")
    return attention_to((out, weights), q, k, v, bias, scale=scale, causal=causal)


def attention_to(
    outs: Any, q: Array, k: Array, v: Array, bias: Array, *, scale: float, causal: bool
) -> tuple[Array, Array]:
    """`attention`, written to two arrays."""
    out, weights = outs
    shape = weights.shape
    if bias is not None:
        one = math.prod(bias.shape[:-2]) == 1
        bias = np.broadcast_to(bias.reshape(bias.shape[-2:]) if one else bias, shape[-2:] if one else shape)
    q, k, v, w, o = _led(q, k, v, weights, out)
    rows = _rows(*shape[-2:], causal)

    def attend(part: tuple[slice, ...]) -> None:
        keys, values = k[part].swapaxes(-1, -2), v[part]
        for a, b, e in rows:
            scores = w[part][..., a:b, :e]
            np.matmul(q[part][..., a:b, :] * scale, keys[..., :e], out=scores)
            if bias is not None:
                scores += (bias if bias.ndim < 3 else bias[part])[..., a:b, :e]
            _softmax(scores, _mask(a, b, e, w.dtype) if causal else None, a if causal else e, bias is not None)
            np.matmul(scores, values[..., :e, :], out=o[part][..., a:b, :])
            w[part][..., a:b, e:] = 0

    each(attend, _parts(w))
    return out, weights


def _softmax(w: Array, seen: Array, first: int, may_be_hidden: bool) -> None:
    """Over the last axis, in place; zeros where all are −inf. `seen` says what may be seen from key `first` on."""
    if not w.size:
        return
    safe = not may_be_hidden and np.maximum.reduce(w, axis=None) <= _SAFE and np.minimum.reduce(w, axis=None) >= -_SAFE
    if not safe:
        if seen is not None:
            np.copyto(w, -np.inf, where=seen == 0)
        top = np.maximum.reduce(w, axis=-1, keepdims=True)
        if may_be_hidden:
            top[top == -np.inf] = 0
        w -= top
    np.exp(w, w)
    if safe and seen is not None:
        w[..., first:] *= seen[:, first:]
    ones = ones_of(w.shape[-1], w.dtype)
    total = np.add.reduce(w, axis=-1, keepdims=True) if ones is None else np.matmul(w, ones)[..., None]
    if may_be_hidden:
        total[total == 0] = 1
    np.divide(1, total, total)
    w *= total


def attention_grad(
    g: Array,
    q: Array,
    k: Array,
    v: Array,
    residual: Array,
    scale: float,
    causal: bool = False,
    has_bias: bool = True,
) -> tuple[Array, ...]:
    """The gradients of q, k, v and the bias; the residual is the weights."""
    outs = [np.empty_like(a) for a in (q, k, v, residual)[: 3 + has_bias]]
    return attention_grad_to(outs, g, q, k, v, residual, scale, causal)


def attention_grad_to(
    outs: Any, g: Array, q: Array, k: Array, v: Array, weights: Array, scale: float, causal: bool = False, *_: Any
) -> tuple[Array, ...]:
    """`attention_grad`, written to four arrays, or three."""
    to_q, to_k, to_v = _led(*outs[:3])
    g, q, k, v, w = _led(g, q, k, v, weights)
    to_bias = _led(outs[3])[0] if len(outs) > 3 else None
    rows = _rows(*w.shape[-2:], causal)

    def differentiate(part: tuple[slice, ...]) -> None:
        for a, b, e in rows:
            share, above = w[part][..., a:b, :e], g[part][..., a:b, :]
            if to_bias is not None:
                s = to_bias[part][..., a:b, :e]
                to_bias[part][..., a:b, e:] = 0
            else:
                s = passing(share)
            _product(share.swapaxes(-1, -2), above, to_v[part], b, rows)
            np.matmul(above, v[part][..., :e, :].swapaxes(-1, -2), out=s)
            s -= np.vecdot(s, share)[..., None]
            s *= share
            np.matmul(s, k[part][..., :e, :], out=to_q[part][..., a:b, :])
            to_q[part][..., a:b, :] *= scale
            _product(s.swapaxes(-1, -2), q[part][..., a:b, :] * scale, to_k[part], b, rows)

    each(differentiate, _parts(w))
    return tuple(outs)


def _product(x: Array, y: Array, out: Array, stop: int, rows: list[tuple[int, int, int]]) -> None:
    """`x @ y` into the first rows of `out`, which are set by the queries that come first and added to by the others."""
    if stop == rows[0][1]:
        part = out[..., : x.shape[-2], :]
        np.matmul(x, y, out=part)
        out[..., x.shape[-2] :, :] = 0
    else:
        out[..., : x.shape[-2], :] += np.matmul(x, y)


ATTENTION: dict[str, Callable[..., Any]] = {f.__name__: f for f in (attention, attention_grad)}
"""Kernels by their names."""
