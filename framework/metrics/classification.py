"""Metrics of classes."""

from __future__ import annotations

import math
from typing import Any

from framework.autodiff import Tensor, as_tensor, no_grad, ops
from framework.errors import ConfigError, DTypeError, ShapeError
from framework.metrics.metric import Metric, add


class Accuracy(Metric):
    """The share of samples whose class is predicted rightly.

    Args:
        num_classes: the number of classes; scores of another number are refused. May be left out.
        top_k: with scores, how many of the best count as a hit.

    Examples:
        >>> import framework as fw
        >>> accuracy = fw.metrics.Accuracy()
        >>> accuracy.update(fw.tensor([[0.1, 0.9], [0.8, 0.2]]), fw.tensor([1, 1]))
        >>> accuracy.update(fw.tensor([0, 1]), fw.tensor([0, 1]))
        >>> accuracy.compute()
        0.75
    """

    _state = ("correct", "total")

    def __init__(self, num_classes: int | None = None, top_k: int = 1) -> None:
        for name, value in (("num_classes", num_classes), ("top_k", top_k)):
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ConfigError(f"Accuracy: {name} must be a positive integer, got {value!r}")
        self.num_classes = num_classes
        self.top_k = top_k
        super().__init__()

    def reset(self) -> None:
        """Forget all samples."""
        self.correct: Any = 0
        self.total = 0

    @no_grad()
    def update(self, preds: Any, target: Any) -> None:
        """Add a batch.

        Args:
            preds: scores (N, C) or (N, C, d1, …), of which the largest names the class, or class numbers.
            target: class numbers (N) or (N, d1, …).

        Raises:
            ShapeError: the shapes do not fit.
            DTypeError: class numbers are not integers.
        """
        preds = as_tensor(preds, target if isinstance(target, Tensor) else None).detach()
        target = as_tensor(target, preds).detach()
        if target.dtype.kind not in ("int", "uint", "bool"):
            raise DTypeError(f"Accuracy: target must be class numbers of an integer dtype, got {target.dtype.name}")
        hits = (
            self._hits_of_classes(preds, target) if preds.ndim == target.ndim else self._hits_of_scores(preds, target)
        )
        self.correct = add(self.correct, ops.sum(ops.astype(hits, "int64")))
        self.total += target.size

    def _hits_of_classes(self, preds: Tensor, target: Tensor) -> Tensor:
        if preds.shape != target.shape:
            raise ShapeError(
                f"Accuracy: class numbers of shape {preds.shape} need a target of that shape, got {target.shape}"
            )
        if preds.dtype.kind == "float":
            raise DTypeError(
                f"Accuracy: predictions of shape {preds.shape} are class numbers and need an integer dtype, got "
                f"{preds.dtype.name}; scores have one axis more than the target, of the classes"
            )
        if self.top_k != 1:
            raise ShapeError(f"Accuracy: top_k={self.top_k} needs scores of shape (N, C), got class numbers")
        return preds == target

    def _hits_of_scores(self, scores: Tensor, target: Tensor) -> Tensor:
        shape = scores.shape
        expected = (*shape[:1], *shape[2:])
        if len(shape) < 2 or expected != target.shape:
            raise ShapeError(f"Accuracy: scores of shape {shape} need a target of shape {expected}, got {target.shape}")
        classes = shape[1]
        if self.num_classes not in (None, classes):
            raise ShapeError(
                f"Accuracy(num_classes={self.num_classes}): got scores of {classes} classes, shape {shape}"
            )
        if self.top_k > classes:
            raise ShapeError(f"Accuracy(top_k={self.top_k}): got scores of only {classes} classes, shape {shape}")
        if self.top_k == 1:
            return ops.argmax(scores, axis=1) == target
        # a hit: fewer than k scores are ahead of the target's; of equal scores the lower class is ahead
        numbers = ops.reshape(
            ops.arange(classes, dtype=target.dtype, device=target.device), (1, classes) + (1,) * (target.ndim - 1)
        )
        at = ops.expand_dims(target, axis=1)
        mine = ops.sum(ops.where(numbers == at, scores, 0.0), axis=1, keepdims=True)
        ahead = ops.logical_or(scores > mine, ops.logical_and(scores == mine, numbers < at))
        return ops.sum(ops.astype(ahead, "int64"), axis=1) < self.top_k

    def compute(self) -> float:
        """Correct samples divided by all; NaN before the first."""
        return int(self.correct) / self.total if self.total else math.nan
