"""Losses of real-valued targets: input and target of one shape, any rank."""

from __future__ import annotations

from typing import Any

from framework.autodiff import Tensor, ops
from framework.errors import ConfigError
from framework.nn.functional.arguments import as_number
from framework.nn.functional.reduction import pair, reduce


def mse_loss(input: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """(input − target)².

    Raises:
        ShapeError: the shapes differ, or the batch is empty.

    Examples:
        >>> import framework as fw
        >>> fw.nn.functional.mse_loss(fw.tensor([1.0, 2.0]), fw.tensor([1.0, 4.0])).item()
        2.0
    """
    x, y = pair("mse_loss", input, target, reduction)
    return reduce(ops.square(x - y), reduction)


def l1_loss(input: Any, target: Any, *, reduction: str = "mean") -> Tensor:
    """|input − target|."""
    x, y = pair("l1_loss", input, target, reduction)
    return reduce(ops.abs(x - y), reduction)


def huber_loss(input: Any, target: Any, reduction: str = "mean", delta: float = 1.0) -> Tensor:
    """½d² where |d| ≤ `delta`, else `delta`·(|d| − ½`delta`) (Huber 1964)."""
    delta = as_number("huber_loss", "delta", delta)
    if not delta > 0:
        raise ConfigError(f"huber_loss: delta must be positive, got {delta!r}")
    x, y = pair("huber_loss", input, target, reduction)
    distance = ops.abs(x - y)
    outside = (distance - 0.5 * delta) * delta
    return reduce(ops.where(distance <= delta, ops.square(distance) * 0.5, outside), reduction)


def smooth_l1_loss(input: Any, target: Any, *, reduction: str = "mean", beta: float = 1.0) -> Tensor:
    """½d²/`beta` where |d| < `beta`, else |d| − ½`beta` (Girshick 2015); `l1_loss` where `beta` is 0."""
    beta = as_number("smooth_l1_loss", "beta", beta)
    if not beta >= 0:
        raise ConfigError(f"smooth_l1_loss: beta must not be negative, got {beta!r}")
    if beta == 0:
        return l1_loss(input, target, reduction=reduction)
    x, y = pair("smooth_l1_loss", input, target, reduction)
    distance = ops.abs(x - y)
    inside = ops.square(distance) * (0.5 / beta)
    return reduce(ops.where(distance < beta, inside, distance - 0.5 * beta), reduction)
