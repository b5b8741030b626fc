"""Attention: the twins of `torch.nn.functional`."""

from __future__ import annotations

import math
from typing import Any

from framework.autodiff import Tensor, as_tensor, ops
from framework.backend import dtypes as dt
from framework.errors import ConfigError, DTypeError, ShapeError
from framework.nn.functional.layer import dropout


def hiding(mask: Any, like: Tensor) -> Tensor:
    """A mask that hides where it is True, or is added to the scores, as what is added: −inf hides."""
    mask = as_tensor(mask, like)
    if mask.dtype is dt.bool_:
        zeros = ops.zeros(mask.shape, dtype=like.dtype, device=like.device)
        return ops.where(mask, -math.inf, zeros)
    if mask.dtype.kind != "float":
        raise DTypeError(f"attention: a mask is of bools, or floating point and added; got {mask.dtype.name}")
    return ops.astype(mask, like.dtype, copy=False)


def scaled_dot_product_attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(query keyᵀ · scale + mask) value (Vaswani et al. 2017): (..., L, E), (..., S, E), (..., S, V) give
    (..., L, V). A query that may see no key gets zeros.

    Args:
        attn_mask: broadcasts to (..., L, S): bools, True where a query sees a key; or numbers that are added.
        dropout_p: the probability that a weight is dropped; always, so pass 0 in evaluation.
        is_causal: query number i sees the keys up to number i; not together with `attn_mask`.
        scale: 1/√E where left out.
        enable_gqa: axis −3, the heads, may be shorter in key and value: each is repeated for neighbouring queries.

    Raises:
        ShapeError: the shapes do not fit.
        ConfigError: both a mask and `is_causal`.

    Examples:
        >>> import framework as fw, framework.numpy as np
        >>> x = np.asarray([[1.0, 0.0], [0.0, 1.0]])
        >>> fw.nn.functional.scaled_dot_product_attention(x, x, x, is_causal=True)[0].tolist()
        [1.0, 0.0]
    """
    name = "scaled_dot_product_attention"
    like = next((t for t in (query, key, value) if isinstance(t, Tensor)), None)
    q, k, v = (as_tensor(t, like) for t in (query, key, value))
    if min(q.ndim, k.ndim, v.ndim) < 2 or q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise ShapeError(
            f"{name}: query (..., L, E), key (..., S, E) and value (..., S, V), got shapes {q.shape}, {k.shape}, "
            f"{v.shape}"
        )
    if is_causal and attn_mask is not None:
        raise ConfigError(f"{name}: is_causal=True makes a mask of its own; leave out attn_mask, or is_causal")
    if enable_gqa:
        k, v = _repeated(name, q, k), _repeated(name, q, v)
    bias = None
    if attn_mask is not None:
        mask = as_tensor(attn_mask, q)
        bias = hiding(ops.logical_not(mask) if mask.dtype is dt.bool_ else mask, q)
    factor = 1.0 / math.sqrt(q.shape[-1]) if scale is None else float(scale)
    if not dropout_p:
        out: Tensor = ops.attention(q, k, v, bias, scale=factor, causal=is_causal)
        return out
    weights = attention_weights(q, k, bias, factor, is_causal)
    return ops.matmul(dropout(weights, dropout_p), v)


def attention_weights(q: Tensor, k: Tensor, bias: Tensor | None, scale: float, causal: bool) -> Tensor:
    """softmax(q kᵀ · scale + bias): (..., L, S); zeros for a query that may see no key."""
    scores = ops.matmul(q, ops.matrix_transpose(k)) * scale
    if causal:
        later = ops.triu(ops.ones(scores.shape[-2:], dtype=dt.bool_, device=q.device), k=1)
        bias = hiding(later, q)
    if bias is None:
        return ops.softmax(scores, axis=-1)
    scores = scores + bias
    blind = ops.max(ops.stop_gradient(scores), axis=-1, keepdims=True) == -math.inf
    return ops.where(blind, 0.0, ops.softmax(ops.where(blind, 0.0, scores), axis=-1))


def _repeated(name: str, q: Tensor, x: Tensor) -> Tensor:
    """Heads (axis −3) of keys or values, each as often as queries have more."""
    if min(q.ndim, x.ndim) < 3 or q.shape[-3] % x.shape[-3]:
        raise ShapeError(
            f"{name}: with enable_gqa the number of heads (axis −3) of key and value divides that of query, "
            f"got shapes {q.shape} and {x.shape}"
        )
    return ops.repeat(x, q.shape[-3] // x.shape[-3], axis=-3)
