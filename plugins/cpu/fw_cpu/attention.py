"""Attention block by block: scores are made, weighted and used while they are in the cache."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

Array = Any

_BLOCK = 1 << 17
"""Elements of the scores that are in work at a time."""


def _parts(scores: Array) -> Iterator[slice]:
    """Blocks along the first axis."""
    step = max(1, _BLOCK // max(math.prod(scores.shape[1:]), 1))
    return (slice(i, i + step) for i in range(0, len(scores), step))


def _led(*arrays: Array) -> list[Array]:
    """With an axis in front of the matrices."""
    return [a[None] if a.ndim == 2 else a for a in arrays]


_later: dict[tuple[int, int, Any], Array] = {}


def _mask(queries: int, keys: int, dtype: Any) -> Array:
    """−inf where a key comes after the query, else 0."""
    key = (queries, keys, dtype)
    found = _later.get(key)
    if found is None:
        if len(_later) > 8:
            _later.clear()
        hidden = np.arange(keys) > np.arange(queries)[:, None]
        found = _later[key] = np.where(hidden, dtype.type(-np.inf), dtype.type(0))
    return found


def attention(q: Array, k: Array, v: Array, bias: Array, *, scale: float, causal: bool) -> tuple[Array, Array]:
    """The weighted values, and the weights."""
    shape = (*q.shape[:-1], k.shape[-2])
    weights = np.empty_like(q, shape=shape, order="C")
    out = np.empty_like(q, shape=(*q.shape[:-1], v.shape[-1]))  # in the layout of q: heads go back where they were
    extra = _mask(*shape[-2:], q.dtype) if causal else None
    if bias is not None and math.prod(bias.shape[:-2]) != 1:
        bias = np.broadcast_to(bias, shape)
    elif bias is not None:
        bias = bias.reshape(bias.shape[-2:])
    q, k, v, w, o = _led(q, k, v, weights, out)
    for part in _parts(w):
        scores = w[part]
        np.matmul(q[part] * scale, k[part].swapaxes(-1, -2), out=scores)
        if bias is not None:
            scores += bias if bias.ndim < 3 else bias[part]
        if extra is not None:
            scores += extra
        _softmax(scores, bias is not None)
        np.matmul(scores, v[part], out=o[part])
    return out, weights


def _softmax(w: Array, may_be_hidden: bool) -> None:
    """Over the last axis, in place; zeros where all are −inf."""
    top = np.maximum.reduce(w, axis=-1, keepdims=True)
    if may_be_hidden:
        top[top == -np.inf] = 0
    w -= top
    np.exp(w, out=w)
    total = np.add.reduce(w, axis=-1, keepdims=True)
    if may_be_hidden:
        total[total == 0] = 1
    w /= total


def attention_grad(
    g: Array, q: Array, k: Array, v: Array, weights: Array, scale: float
) -> tuple[Array, Array, Array, Array]:
    """The gradients of q, k, v and the bias."""
    found = tuple([np.empty_like(a) for a in (q, k, v, weights)])
    g, q, k, v, w = _led(g, q, k, v, weights)
    to_q, to_k, to_v, to_bias = _led(*found)
    for part in _parts(w):
        share, s = w[part], to_bias[part]
        np.matmul(share.swapaxes(-1, -2), g[part], out=to_v[part])
        np.matmul(g[part], v[part].swapaxes(-1, -2), out=s)
        s -= np.vecdot(s, share)[..., None]
        s *= share
        np.matmul(s, k[part], out=to_q[part])
        np.matmul(s.swapaxes(-1, -2), q[part], out=to_k[part])
    for a in found[:2]:
        a *= scale
    return found


ATTENTION: dict[str, Callable[..., Any]] = {f.__name__: f for f in (attention, attention_grad)}
"""Kernels by their names."""
