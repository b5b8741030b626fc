"""Softmax cross-entropy without temporaries."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fw_cpu.constants import rows_of

Array = Any


_exp, _log = np.exp, np.log
_max: Any = np.maximum.reduce
_sum: Any = np.add.reduce

_SMALL = 1 << 14
"""Up to so many elements a pass costs less than a call."""


def softmax_cross_entropy(logits: Array, targets: Array, *, reduction: str) -> tuple[Array, Array]:
    """Loss and probabilities; the array of the probabilities is the only large one that is made.

    Not in blocks of rows: of a feature-major array they are slower, of the other not faster.
    """
    if logits.dtype.kind != "f" or targets.size == 0 or logits.ndim == 1:
        return _reference(logits, targets, reduction)
    if logits.ndim > 2:
        loss, p = softmax_cross_entropy(logits.reshape(-1, logits.shape[-1]), targets.reshape(-1), reduction=reduction)
        return loss if loss.ndim == 0 else loss.reshape(targets.shape), p.reshape(logits.shape)
    z = logits.T  # (classes, rows): reductions over the first axis are the fast ones
    z = z - _max(z)
    n = len(targets)
    picked = z[targets, rows_of(n)]
    _exp(z, z)
    total = _sum(z)
    z /= total
    loss = _log(total, total)
    loss -= picked
    if reduction == "mean":
        loss = _sum(loss) / n
    elif reduction == "sum":
        loss = _sum(loss)
    return loss, z.T


def _reference(logits: Array, targets: Array, reduction: str) -> tuple[Array, Array]:
    z = logits - logits.max(axis=-1, keepdims=True)
    e = np.exp(z)
    total = e.sum(axis=-1, keepdims=True)
    loss = (np.log(total) - np.take_along_axis(z, targets[..., None], axis=-1))[..., 0]
    loss = loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.sum() / loss.size
    return loss, e / total


def xent_grad(probabilities: Array, targets: Array, g: Array) -> Array:
    """`(probabilities − one_hot(targets)) * g` without the one-hot array, in the layout of the probabilities."""
    if probabilities.ndim == 1:
        classes = np.arange(probabilities.shape[-1])
        return (probabilities - (targets[..., None] == classes)) * np.asarray(g, probabilities.dtype)
    if probabilities.ndim > 2:
        rows = probabilities.reshape(-1, probabilities.shape[-1])
        g = g.reshape(-1, 1) if g.ndim else g
        return xent_grad(rows, targets.reshape(-1), g).reshape(probabilities.shape)
    p = probabilities.T
    named = targets, rows_of(len(targets))
    scale = g[:, 0] if g.ndim else g
    if p.size <= _SMALL:
        out = p.copy("K")
        out[named] -= 1
        out *= scale
        return out.T
    out = np.multiply(p, scale, dtype=p.dtype, casting="same_kind")
    picked = p[named]
    picked -= 1
    picked *= scale
    out[named] = picked
    return out.T


LOSSES: dict[str, Callable[..., Any]] = {f.__name__: f for f in (softmax_cross_entropy, xent_grad)}
"""Kernels by their names."""
