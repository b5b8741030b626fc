"""Attention that keeps of each query one number, the logarithm of its sum, and makes the weights again: in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np


def scores(q: Any, k: Any, bias: Any, scale: float, causal: bool) -> Any:
    """q kᵀ · scale + bias, −∞ where a query does not see a key."""
    found = np.matmul(q, k.swapaxes(-1, -2)) * scale
    if bias is not None:
        found = found + bias
    return np.where(np.tri(*found.shape[-2:], dtype=bool), found, -np.inf) if causal else found


def forward(q: Any, k: Any, v: Any, bias: Any, scale: float, causal: bool) -> tuple[Any, Any]:
    """The weighted values, and the number of each query; −∞ and zeros for one that sees no key."""
    found = scores(q, k, bias, scale, causal)
    top = found.max(axis=-1, keepdims=True)
    top[top == -np.inf] = 0
    with np.errstate(divide="ignore"):
        stats = np.log(np.exp(found - top).sum(axis=-1, keepdims=True)) + top
    return np.matmul(weights(found, stats), v), stats


def weights(found: Any, stats: Any) -> Any:
    """Of scores, those of the values."""
    return np.exp(found - np.where(stats == -np.inf, 0, stats))


def backward(
    g: Any, q: Any, k: Any, v: Any, bias: Any, out: Any, stats: Any, scale: float, causal: bool
) -> tuple[Any, ...]:
    """The gradients of q, k, v and the scores."""
    w = weights(scores(q, k, bias, scale, causal), stats)
    along = w * (np.matmul(g, v.swapaxes(-1, -2)) - (g * out).sum(axis=-1, keepdims=True))
    turned = along.swapaxes(-1, -2)
    return np.matmul(along, k) * scale, np.matmul(turned, q) * scale, np.matmul(w.swapaxes(-1, -2), g), along
