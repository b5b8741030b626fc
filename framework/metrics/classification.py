"""Predictions and targets of classes, and the share that is right."""

from __future__ import annotations

import math
from typing import Any

from framework.autodiff import Tensor, as_tensor, no_grad, ops
from framework.errors import ConfigError, DataError, DTypeError, ShapeError
from framework.metrics.metric import Metric, add


class Accuracy(Metric):
    """The share of samples whose class is predicted rightly.

    Args:
        num_classes: the number of classes; scores of another number are refused. May be left out.
        top_k: with scores, how many of the best count as a hit.
        threshold: predictions of the target's shape are scores of class 1, which is predicted above this;
            without it they are class numbers.

    Examples:
        >>> import framework as fw
        >>> accuracy = fw.metrics.Accuracy()
        >>> accuracy.update(fw.tensor([[0.1, 0.9], [0.8, 0.2]]), fw.tensor([1, 1]))
        >>> accuracy.update(fw.tensor([0, 1]), fw.tensor([0, 1]))
        >>> accuracy.compute()
        0.75
    """

    _state = ("correct", "total")

    def __init__(self, num_classes: int | None = None, top_k: int = 1, threshold: float | None = None) -> None:
        check_positive("Accuracy", num_classes=num_classes, top_k=top_k)
        self.num_classes = num_classes
        self.top_k = top_k
        self.threshold = check_threshold("Accuracy", threshold)
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
            DataError: a target is none of the classes that there are scores of; seen where reading is free, as on CPU.
        """
        preds, target = class_arrays("Accuracy", preds, target)
        if preds.ndim == target.ndim:
            classes = numbered("Accuracy", preds, target, self.threshold)
            if self.top_k != 1:
                raise ShapeError(f"Accuracy: top_k={self.top_k} needs scores of shape (N, C), got class numbers")
            hits = classes == target
        else:
            hits = self._hits_of_scores(preds, target)
        self.correct = add(self.correct, ops.sum(ops.astype(hits, "int64")))
        self.total += target.size

    def _hits_of_scores(self, scores: Tensor, target: Tensor) -> Tensor:
        classes = count_of("Accuracy", scores, target, self.num_classes)
        if target.backend.synchronous and target.size and target.dtype.kind != "bool":
            for found in (int(ops.max(target)), int(ops.min(target))):
                if not 0 <= found < classes:
                    raise DataError(
                        f"Accuracy: classes are 0 to {classes - 1}, got class {found}; leave out samples without one"
                    )
        if self.top_k > classes:
            raise ShapeError(
                f"Accuracy(top_k={self.top_k}): got scores of only {classes} classes, shape {scores.shape}"
            )
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


# -- what metrics of classes share -------------------------------------------------------------------


def class_arrays(owner: str, preds: Any, target: Any) -> tuple[Tensor, Tensor]:
    """Predictions and targets as Tensors off the tape; the targets are class numbers."""
    preds = as_tensor(preds, target if isinstance(target, Tensor) else None).detach()
    target = as_tensor(target, preds).detach()
    if target.dtype.kind not in ("int", "uint", "bool"):
        raise DTypeError(f"{owner}: target must be class numbers of an integer dtype, got {target.dtype.name}")
    return preds, target


def numbered(owner: str, preds: Tensor, target: Tensor, threshold: float | None) -> Tensor:
    """The class numbers in predictions of the target's shape: as they are, or 1 above the threshold."""
    if preds.shape != target.shape:
        raise ShapeError(
            f"{owner}: class numbers of shape {preds.shape} need a target of that shape, got {target.shape}"
        )
    if preds.dtype.kind != "float":
        return preds
    if threshold is None:
        raise DTypeError(
            f"{owner}: predictions of shape {preds.shape} are class numbers and need an integer dtype, got "
            f"{preds.dtype.name}; scores have one axis more than the target, of the classes. Of one score for two "
            f"classes say what is class 1: {owner}(threshold=0.5)"
        )
    return ops.astype(preds > threshold, "int64")


def count_of(owner: str, scores: Tensor, target: Tensor, num_classes: int | None) -> int:
    """The number of classes in scores that have one axis more than the target."""
    shape = scores.shape
    expected = (*shape[:1], *shape[2:])
    if len(shape) < 2 or expected != target.shape:
        raise ShapeError(f"{owner}: scores of shape {shape} need a target of shape {expected}, got {target.shape}")
    if num_classes not in (None, shape[1]):
        raise ShapeError(f"{owner}(num_classes={num_classes}): got scores of {shape[1]} classes, shape {shape}")
    return shape[1]


def check_positive(owner: str, **counts: int | None) -> None:
    """Raise ConfigError unless each is None or a positive integer."""
    for name, value in counts.items():
        if value is not None and (not isinstance(value, int) or value < 1):
            raise ConfigError(f"{owner}: {name} must be a positive integer, got {value!r}")


def check_threshold(owner: str, threshold: Any) -> float | None:
    """The threshold as a float, or None; ConfigError where it is neither."""
    if threshold is None:
        return None
    if isinstance(threshold, int | float) and not math.isnan(threshold):
        return float(threshold)
    raise ConfigError(f"{owner}: threshold is a number or None, got {threshold!r}")
