"""Attention: queries compared with keys, and the mean of values weighted by how well they fit."""

from __future__ import annotations

import math
from typing import Any

from framework.autodiff.convert import as_tensor
from framework.autodiff.namespace import ops
from framework.autodiff.primitive import primitive, public
from framework.autodiff.primitives.shape import broadcast_shapes
from framework.autodiff.tensor import Tensor
from framework.backend.kernels import attention_grad, beside
from framework.errors import ShapeError


def _weights(ns: Any, q: Any, k: Any, bias: Any, scale: float, causal: bool) -> Any:
    """softmax(q kᵀ · scale + bias) over the keys; zeros for a query that may see none."""
    scores = ns.matmul(q, ns.matrix_transpose(k)) * scale
    if bias is not None:
        scores = scores + bias
    seen = None
    if causal:
        rows, columns = (ns.arange(n, device=beside(q)) for n in scores.shape[-2:])
        seen = columns <= ns.expand_dims(rows, axis=-1)
        scores = ns.where(seen, scores, ns.full_like(scores, -math.inf))
    top = ns.max(scores, axis=(-1,), keepdims=True)
    top = ns.where(top == -math.inf, ns.zeros_like(top), top)
    e = ns.exp(scores - top)
    total = ns.sum(e, axis=(-1,), keepdims=True)
    return e / ns.where(total == 0, ns.ones_like(total), total)


def _forward(ns: Any, q: Any, k: Any, v: Any, bias: Any, *, scale: float, causal: bool) -> Any:
    weights = _weights(ns, q, k, bias, scale, causal)
    return ns.matmul(weights, v), weights


def _vjp(
    ns: Any, g: Any, needs: Any, out: Any, residual: Any, q: Any, k: Any, v: Any, bias: Any, *, scale: Any, causal: Any
) -> Any:
    has_bias = needs[3] is not None
    if residual is None:  # these weights need not be what a backend's own `attention` returns
        weights = _weights(ns, q, k, bias, scale, causal)
        found = attention_grad(ns, g, q, k, v, weights, scale, causal, has_bias)
    else:
        found = ns.attention_grad(g, q, k, v, residual, scale, causal, has_bias)
    return found if has_bias else (*found, None)


def _jvp(ns: Any, tangents: Any, out: Any, q: Any, k: Any, v: Any, bias: Any, *, scale: float, causal: bool) -> Any:
    tq, tk, tv, tb = tangents
    weights = _weights(ns, q, k, bias, scale, causal)
    ts = None if tq is None else ns.matmul(tq, ns.matrix_transpose(k)) * scale
    if tk is not None:
        term = ns.matmul(q, ns.matrix_transpose(tk)) * scale
        ts = term if ts is None else ts + term
    if tb is not None:
        ts = tb if ts is None else ts + tb
    total = None if tv is None else ns.matmul(weights, tv)
    if ts is not None:
        even = ns.sum(weights * ts, axis=(-1,), keepdims=True)
        term = ns.matmul(weights * (ts - even), v)
        total = term if total is None else total + term
    return total


def _batch(ops: Any, n: int, is_batched: Any, inputs: Any, params: Any, fn: Any) -> Any:
    rank = max(x.ndim - b for x, b in zip(inputs, is_batched) if x is not None)
    full: list[Any] = []
    for i, (x, b) in enumerate(zip(inputs, is_batched)):
        if x is None:
            full.append(None)
            continue
        shape = x.shape[1:] if b else x.shape
        ones = (1,) * (rank - len(shape))
        x = ops.reshape(x, (n if b else 1, *ones, *shape))
        full.append(x if i == 3 else ops.broadcast_to(x, (n, *ones, *shape)))
    return fn(*full, **params)


_attention = primitive(
    "attention",
    arity=4,
    forward=_forward,
    vjp=_vjp,
    jvp=_jvp,
    batch=_batch,
    keep=((0, 1, 2, 3), (0, 1, 2, 3), (0, 1, 2, 3), (0, 1, 2, 3)),
    residual=True,
    promotes=True,
)


@public
def attention(q: Any, k: Any, v: Any, bias: Any = None, /, *, scale: float, causal: bool = False) -> Tensor:
    """softmax(q kᵀ · scale + bias) v (Vaswani et al. 2017): (..., L, V).

    A query that may see no key gets zeros.

    Args:
        q: queries (..., L, E).
        k: keys (..., S, E).
        v: values (..., S, V).
        bias: broadcasts to (..., L, S); −inf hides a key from a query.
        causal: query number i sees the keys up to number i only.

    Raises:
        ShapeError: the shapes do not fit.
    """
    like = next((t for t in (q, k, v, bias) if isinstance(t, Tensor)), None)
    q, k, v = (as_tensor(t, like) for t in (q, k, v))
    if min(q.ndim, k.ndim, v.ndim) < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ShapeError(
            f"attention: queries (..., L, E), keys (..., S, E) and values (..., S, V), "
            f"got shapes {q.shape}, {k.shape}, {v.shape}"
        )
    lead = broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2])
    q, k, v = (t if t.shape[:-2] == lead else ops.broadcast_to(t, (*lead, *t.shape[-2:])) for t in (q, k, v))
    if bias is not None:
        bias = as_tensor(bias, q)
        scores = (*lead, q.shape[-2], k.shape[-2])
        if broadcast_shapes(scores, bias.shape) != scores:
            raise ShapeError(f"attention: the bias broadcasts to the scores' shape {scores}, got {bias.shape}")
    out: Tensor = _attention(q, k, v, bias, scale=float(scale), causal=bool(causal))
    return out
