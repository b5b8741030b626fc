"""Metrics of the order that scores make."""

from __future__ import annotations

import math
from itertools import combinations
from typing import Any

from framework.autodiff import Tensor, no_grad, ops, tensor
from framework.errors import ConfigError, DataError, DTypeError, ShapeError, did_you_mean
from framework.metrics.classification import check_positive, class_arrays, count_of
from framework.metrics.metric import Metric, wide

_AVERAGES = ("macro", "weighted", "micro", "none")


class AUROC(Metric):
    """The area under the ROC curve: how probably a positive sample scores higher than a negative one; a tie is half.

    Exact, from the ranks of all scores (Hanley & McNeil 1982), which are kept until `reset`. Of classes
    and labels of which there are no positive or no negative samples it is NaN.

    Args:
        num_classes: the number of classes; scores of another number are refused. May be left out.
        average: of several classes or labels: `"macro"` for the mean, `"weighted"` for that by the number of
            positive samples, `"micro"` for all together, None for one value each.
        multi_class: each class against the rest, `"ovr"`, or against each other, `"ovo"` (Hand & Till 2001).

    Examples:
        >>> import framework as fw
        >>> auroc = fw.metrics.AUROC()
        >>> auroc.update(fw.tensor([0.1, 0.4, 0.35, 0.8]), fw.tensor([0, 0, 1, 1]))
        >>> auroc.compute()
        0.75
    """

    _state = ("scores", "targets")

    def __init__(self, num_classes: int | None = None, average: str | None = "macro", multi_class: str = "ovr") -> None:
        check_positive("AUROC", num_classes=num_classes)
        average = "none" if average is None else average
        if average not in _AVERAGES:
            raise ConfigError(
                f"AUROC: average is one of {', '.join(map(repr, _AVERAGES))} or None, got {average!r}."
                f"{did_you_mean(str(average), _AVERAGES)}"
            )
        if multi_class not in ("ovr", "ovo"):
            raise ConfigError(f"AUROC: multi_class is 'ovr' or 'ovo', got {multi_class!r}")
        if multi_class == "ovo" and average not in ("macro", "weighted"):
            raise ConfigError(f"AUROC: multi_class='ovo' has the averages 'macro' and 'weighted', got {average!r}")
        self.num_classes = num_classes
        self.average = average
        self.multi_class = multi_class
        super().__init__()

    def reset(self) -> None:
        """Forget all samples."""
        self.scores: list[Tensor] = []
        self.targets: list[Tensor] = []

    @no_grad()
    def update(self, preds: Any, target: Any) -> None:
        """Add a batch.

        Args:
            preds: scores (N) of class 1; scores (N, C) of classes; or scores (N, L) of labels.
            target: class numbers (N), 0 and 1 with scores (N); or 0 and 1 for each label (N, L).

        Raises:
            ShapeError: the shapes do not fit, or not those of the batches before.
            DTypeError: scores are not floating point, or targets not integers.
        """
        preds, target = class_arrays("AUROC", preds, target)
        if preds.dtype.kind != "float":
            raise DTypeError(f"AUROC: scores must be floating point, got {preds.dtype.name}; classes have no order")
        if preds.ndim == target.ndim:
            if preds.shape != target.shape or preds.ndim not in (1, 2):
                raise ShapeError(
                    f"AUROC: scores (N) of class 1 or (N, L) of labels need a target of that shape, got {preds.shape} "
                    f"and {target.shape}"
                )
        else:
            if preds.ndim != 2:
                raise ShapeError(f"AUROC: scores are (N), (N, C) or (N, L), got {preds.shape}")
            count_of("AUROC", preds, target, self.num_classes)
        for kept, new in ((self.scores, preds), (self.targets, target)):
            if kept and kept[0].shape[1:] != new.shape[1:]:
                raise ShapeError(f"AUROC: got an array of shape {new.shape} after others of shape {kept[0].shape}")
        copy = preds.backend.copy
        self.scores.append(Tensor(copy(preds._data), None, preds._ns))
        self.targets.append(Tensor(copy(ops.astype(target, "int64")._data), None, target._ns))

    def _joined(self) -> tuple[Tensor, Tensor]:
        """All scores and all targets, on the device of the newest; kept in one piece from now on."""
        for kept in (self.scores, self.targets):
            kept[:] = [ops.concat([t.to(device=kept[-1].device) for t in kept], axis=0)]
        return self.scores[0], self.targets[0]

    @no_grad()
    def compute(self) -> Any:
        """The area as a float, NaN before the first sample; with `average=None` those (C) of all classes.

        Raises:
            DataError: a score is NaN, or a target is no class that there is.
        """
        if not self.scores:
            return math.nan
        scores, target = self._joined()
        classes = 2 if scores.ndim == 1 or target.ndim == 2 else scores.shape[1]
        if bool(ops.any(ops.isnan(scores))):
            raise DataError("AUROC: a score is NaN; look at the model's outputs")
        low, high = (int(ops.min(target)), int(ops.max(target))) if target.size else (0, 0)
        if low < 0 or high >= classes:
            raise DataError(f"AUROC: targets are 0 to {classes - 1}, got {low} to {high}")
        if target.ndim == 2:
            return self._of_labels(scores, target)
        if classes == 2:
            return area(scores if scores.ndim == 1 else scores[:, 1], target)
        if self.multi_class == "ovo":
            return self._of_pairs(scores, target)
        labels = ops.expand_dims(target, axis=1) == ops.arange(classes, dtype="int64", device=target.device)
        return self._of_labels(scores, ops.astype(labels, "int64"))

    def _of_labels(self, scores: Tensor, target: Tensor) -> Any:
        if self.average == "micro":
            return area(ops.reshape(scores, (-1,)), ops.reshape(target, (-1,)))
        each = [target[:, i] for i in range(target.shape[1])]
        return self._averaged([area(scores[:, i], own) for i, own in enumerate(each)], each)

    def _averaged(self, areas: list[float], each: list[Tensor]) -> Any:
        if self.average == "none":
            return tensor(areas, dtype=wide(each[0]), device=each[0].device)
        weights = [int(ops.sum(own)) if self.average == "weighted" else 1 for own in each]
        total = sum(weights)
        return sum(a * w for a, w in zip(areas, weights) if w) / total if total else math.nan

    def _of_pairs(self, scores: Tensor, target: Tensor) -> float:
        total = weights = 0.0
        for a, b in combinations(range(scores.shape[1]), 2):
            mine = (target == a) | (target == b)
            rows, own = scores[mine], target[mine]
            both = area(rows[:, a], ops.astype(own == a, "int64")) + area(rows[:, b], ops.astype(own == b, "int64"))
            weight = own.shape[0] if self.average == "weighted" else 1
            total += weight * both / 2
            weights += weight
        return total / weights


def area(scores: Tensor, target: Tensor) -> float:
    """The area of scores (N) for targets (N) of 0 and 1, from ranks: whole numbers, so that nothing is rounded."""
    n = target.shape[0]
    positive = int(ops.sum(target)) if n else 0
    if not positive or positive == n:
        return math.nan
    order = ops.sort(scores)
    twice = ops.searchsorted(order, scores, side="left") + ops.searchsorted(order, scores, side="right") + 1
    ranks = int(ops.sum(ops.astype(twice, "int64") * target))
    return (ranks - positive * (positive + 1)) / (2 * positive * (n - positive))
