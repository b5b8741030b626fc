"""What all losses share: checks of shapes and arguments, and the reduction."""

from __future__ import annotations

from typing import Any

from framework.autodiff import Tensor, as_tensor, ops
from framework.errors import ConfigError, ShapeError
from framework.nn.functional.arguments import as_real

REDUCTIONS = ("none", "mean", "sum")


def check_reduction(name: str, reduction: str, known: tuple[str, ...] = REDUCTIONS) -> None:
    """Raise ConfigError unless `reduction` is known."""
    if reduction not in known:
        raise ConfigError(f"{name}: reduction must be one of {', '.join(known)}; got {reduction!r}")


def check_not_empty(name: str, x: Tensor, count: int, reduction: str) -> None:
    """Raise ShapeError for the mean of no losses, where `count` of the input `x` are left."""
    if reduction == "mean" and count == 0:
        raise ShapeError(
            f"{name}: got an empty batch, input of shape {x.shape}; the mean of no losses has no value. "
            "Skip empty batches, or use reduction='sum'"
        )


def pair(name: str, input: Any, target: Any, reduction: str) -> tuple[Tensor, Tensor]:
    """Input and target as Tensors of one shape and of real floating-point dtypes.

    Raises:
        DTypeError: one of them is complex.
        ShapeError: the shapes differ; broadcasting (N, 1) with (N,) to (N, N) is never what was meant.
        ConfigError: the reduction is unknown.
    """
    check_reduction(name, reduction)
    x = as_tensor(input, target if isinstance(target, Tensor) else None)
    y = as_tensor(target, x)
    if x.shape != y.shape:
        hint = f" Reshape it: target.reshape{x.shape}" if x.size == y.size else ""
        raise ShapeError(f"{name}: input of shape {x.shape} needs a target of that shape, got {y.shape}.{hint}")
    check_not_empty(name, x, x.size, reduction)
    x = as_real(name, x)
    return x, as_real(name, y, x)


def reduce(loss: Tensor, reduction: str) -> Tensor:
    """The losses, their mean or their sum."""
    if reduction == "mean":
        return ops.mean(loss)
    return ops.sum(loss) if reduction == "sum" else loss
