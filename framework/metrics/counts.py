"""Metrics that count pairs of a predicted and a true class."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from framework.autodiff import Tensor, no_grad, ops, tensor
from framework.errors import ConfigError, DataError, did_you_mean
from framework.metrics.classification import check_positive, check_threshold, class_arrays, count_of, numbered
from framework.metrics.metric import Metric, add, wide


class Counts(Metric):
    """Base class: counts by class, in an integer Tensor whose last axes are classes.

    Without `num_classes`, scores tell the number of classes; of class numbers the largest is read.
    Class numbers that do not exist are refused at once where reading is free, else by `compute`.
    """

    _state = ("counts", "bad")
    _square: ClassVar[bool] = False

    def __init__(self, num_classes: int | None, threshold: float | None) -> None:
        check_positive(type(self).__name__, num_classes=num_classes)
        self.num_classes = num_classes
        self.threshold = check_threshold(type(self).__name__, threshold)
        super().__init__()

    def reset(self) -> None:
        """Forget all samples."""
        self.counts: Tensor | None = None
        self.bad: Any = 0

    @no_grad()
    def update(self, preds: Any, target: Any) -> None:
        """Add a batch.

        Args:
            preds: scores (N, C) or (N, C, d1, …), of which the largest names the class; class numbers of the
                target's shape; or, with a threshold, scores of class 1 of that shape.
            target: class numbers (N) or (N, d1, …).

        Raises:
            ShapeError: the shapes do not fit.
            DTypeError: class numbers are not integers.
            DataError: a class number is negative, or none of `num_classes`.
        """
        name = type(self).__name__
        preds, target = class_arrays(name, preds, target)
        classes = self.num_classes
        if preds.ndim == target.ndim:
            binary = preds.dtype.kind in ("bool", "float")
            preds = numbered(name, preds, target, self.threshold)
            if classes is None:
                classes = 2 if binary else _highest(preds, target) + 1
                classes = max(classes, 1 if self.counts is None else self.counts.shape[-1])
        else:
            classes = count_of(name, preds, target, classes)
            preds = ops.argmax(preds, axis=1)
        preds, target = (ops.reshape(_integers(t), (-1,)) for t in (preds, target))
        good = (preds >= 0) & (preds < classes) & (target >= 0) & (target < classes)
        bad = ops.sum(ops.astype(~good, "int64"))
        if target.backend.synchronous and bad:
            raise self._refusal(classes, preds, target)
        self.bad = add(self.bad, bad)
        weight = ops.astype(good, "int64")
        new = self._count(preds * weight, target * weight, weight, classes)
        self.counts = new if self.counts is None else _sum(self.counts, new, self._square)

    def _count(self, preds: Tensor, target: Tensor, weight: Tensor, classes: int) -> Tensor:
        """The counts of a batch of class numbers (N), each with a weight of 0 or 1."""
        raise NotImplementedError

    def _refusal(self, classes: int, preds: Tensor, target: Tensor) -> DataError:
        lowest = min(int(ops.min(preds)), int(ops.min(target)))
        got = lowest if lowest < 0 else _highest(preds, target)
        return DataError(f"{type(self).__name__}: classes are 0 to {classes - 1}, got class {got}")

    def _add(self, other: Metric) -> None:
        assert isinstance(other, Counts)
        self.bad = add(self.bad, other.bad) if isinstance(other.bad, Tensor) else self.bad + other.bad
        if other.counts is not None:
            self.counts = other.counts if self.counts is None else _sum(self.counts, other.counts, self._square)

    def _checked(self) -> Tensor | None:
        """The counts; DataError where a class number did not exist."""
        if int(self.bad):
            classes = "negative" if self.num_classes is None else f"none of the {self.num_classes} classes"
            raise DataError(f"{type(self).__name__}: {int(self.bad)} samples had a class number that is {classes}")
        return self.counts


class ConfusionMatrix(Counts):
    """How often each class was predicted for samples of each class.

    It is no single number: log what is computed from it.

    Args:
        num_classes: the number of classes; without it, as many as there are.
        normalize: None for counts, `"true"` for shares of each true class, `"pred"` for shares of each
            predicted class, `"all"` for shares of all samples.
        threshold: predictions of the target's shape are scores of class 1, which is predicted above this.

    Examples:
        >>> import framework as fw
        >>> matrix = fw.metrics.ConfusionMatrix()
        >>> matrix.update(fw.tensor([0, 1, 1, 1]), fw.tensor([0, 0, 1, 1]))
        >>> matrix.compute().tolist()
        [[1, 1], [0, 2]]
    """

    _square: ClassVar[bool] = True

    def __init__(
        self, num_classes: int | None = None, normalize: str | None = None, threshold: float | None = None
    ) -> None:
        if normalize not in (None, "true", "pred", "all"):
            raise ConfigError(f"ConfusionMatrix: normalize is None, 'true', 'pred' or 'all', got {normalize!r}")
        self.normalize = normalize
        super().__init__(num_classes, threshold)

    def _count(self, preds: Tensor, target: Tensor, weight: Tensor, classes: int) -> Tensor:
        return ops.reshape(_scattered(target * classes + preds, weight, classes * classes), (classes, classes))

    @no_grad()
    def compute(self) -> Tensor:
        """The matrix (C, C): rows are true classes, columns predicted ones. Shares of nothing are 0.

        Raises:
            DataError: a class number did not exist.
        """
        counts = self._checked()
        if counts is None:
            counts = ops.zeros((self.num_classes or 0,) * 2, dtype="int64")
        if self.normalize is None:
            return counts
        axis = {"true": 1, "pred": 0, "all": None}[self.normalize]
        shares = ops.astype(counts, wide(counts))
        total = ops.sum(shares, axis=axis, keepdims=True)
        return shares / ops.where(total == 0, 1.0, total)


class _Score(Counts):
    """Base class of scores of each class, and their averages."""

    averages: ClassVar[tuple[str, ...]] = ("auto", "binary", "micro", "macro", "weighted", "none")

    def __init__(
        self,
        num_classes: int | None = None,
        average: str | None = "auto",
        threshold: float | None = None,
        zero_division: float = 0.0,
    ) -> None:
        name = type(self).__name__
        average = "none" if average is None else average
        if average not in self.averages:
            raise ConfigError(
                f"{name}: average is one of {', '.join(map(repr, self.averages))} or None, got {average!r}."
                f"{did_you_mean(str(average), self.averages)}"
            )
        if average == "binary" and num_classes not in (None, 2):
            raise ConfigError(f"{name}: average='binary' is the score of class 1 of two; got num_classes={num_classes}")
        self.average = average
        self.zero_division = float(zero_division)
        super().__init__(num_classes, threshold)

    def _count(self, preds: Tensor, target: Tensor, weight: Tensor, classes: int) -> Tensor:
        hits = _scattered(target, weight * ops.astype(preds == target, "int64"), classes)
        return ops.stack([hits, _scattered(preds, weight, classes), _scattered(target, weight, classes)])

    def _share(self, hits: int, predicted: int, actual: int) -> float:
        raise NotImplementedError

    def _divided(self, a: int, b: int) -> float:
        return a / b if b else self.zero_division

    @no_grad()
    def compute(self) -> Any:
        """The average as a float, NaN before the first sample; with `average=None` the scores (C) of all classes.

        Raises:
            DataError: a class number did not exist, or there are more than two classes for `"binary"`.
        """
        counts = self._checked()
        if counts is None:
            return math.nan if self.average != "none" else ops.full((self.num_classes or 0,), math.nan)
        rows = [[int(n) for n in row] for row in counts.tolist()]
        classes = list(zip(*rows))
        average = self.average
        if average == "auto":
            average = "binary" if len(classes) <= 2 else "macro"
        if average == "none":
            return tensor([self._share(*c) for c in classes], dtype=wide(counts), device=counts.device)
        if average == "micro":
            return self._share(*map(sum, rows))
        if average == "binary":
            if len(classes) > 2:
                raise DataError(
                    f"{type(self).__name__}: average='binary' is the score of class 1 of two; there are {len(classes)} "
                    "classes. Choose 'macro', 'micro' or 'weighted'"
                )
            return self._share(*(classes[1] if len(classes) == 2 else (0, 0, 0)))
        present = [c for c in classes if c[1] or c[2]]
        weights = [c[2] if average == "weighted" else 1 for c in present]
        scored = [(self._share(*c), w) for c, w in zip(present, weights)]
        scored = [(score, w) for score, w in scored if not math.isnan(score)]
        total = sum(w for _, w in scored)
        return sum(score * w for score, w in scored) / total if total else self.zero_division


class Precision(_Score):
    """Of the samples predicted to be of a class, the share that is.

    Args:
        num_classes: the number of classes; without it, as many as there are.
        average: `"auto"`: the score of class 1 where there are two classes, else `"macro"`. `"binary"`: the
            score of class 1. `"macro"`: the mean over the classes that occur. `"weighted"`: the same, by how
            often each is true. `"micro"`: over all samples together. None: a score for each class.
        threshold: predictions of the target's shape are scores of class 1, which is predicted above this.
        zero_division: the score where nothing is to be divided by; NaN leaves such classes out of averages.

    Examples:
        >>> import framework as fw
        >>> precision = fw.metrics.Precision()
        >>> precision.update(fw.tensor([1, 1, 1, 0]), fw.tensor([1, 0, 1, 1]))
        >>> round(precision.compute(), 4)
        0.6667
    """

    def _share(self, hits: int, predicted: int, actual: int) -> float:
        return self._divided(hits, predicted)


class Recall(_Score):
    """Of the samples of a class, the share that is predicted to be. Arguments as for `Precision`.

    Examples:
        >>> import framework as fw
        >>> recall = fw.metrics.Recall(average="macro")
        >>> recall.update(fw.tensor([1, 1, 1, 0]), fw.tensor([1, 0, 1, 1]))
        >>> round(recall.compute(), 4)
        0.3333
    """

    def _share(self, hits: int, predicted: int, actual: int) -> float:
        return self._divided(hits, actual)


class F1(_Score):
    """The harmonic mean of precision and recall. Arguments as for `Precision`.

    Examples:
        >>> import framework as fw
        >>> f1 = fw.metrics.F1(num_classes=3, average="weighted")
        >>> f1.update(fw.tensor([[0.9, 0.1, 0.0], [0.2, 0.5, 0.3], [0.1, 0.6, 0.3]]), fw.tensor([0, 1, 2]))
        >>> round(f1.compute(), 4)
        0.5556
    """

    def _share(self, hits: int, predicted: int, actual: int) -> float:
        return self._divided(2 * hits, predicted + actual)


def _highest(preds: Tensor, target: Tensor) -> int:
    """The largest class number, which is read; −1 where there is none."""
    return max((int(ops.max(_integers(t))) for t in (preds, target) if t.size), default=-1)


def _integers(t: Tensor) -> Tensor:
    return ops.astype(t, "int64")


def _scattered(index: Tensor, weight: Tensor, size: int) -> Tensor:
    """The sum of the weights at each index below `size`."""
    ns = index._ns
    zeros = ns.xp.zeros(size, dtype=weight._data.dtype, device=weight._data.device)
    return Tensor(ns.scatter_add(zeros, (index._data,), weight._data), None, ns)


def _sum(a: Tensor, b: Tensor, square: bool) -> Tensor:
    """The sum of two counts, of which one may know of fewer classes; on the device of `b`."""
    if a._ns is not b._ns or a.device != b.device:
        a = a.to(device=b.device)
    classes = max(a.shape[-1], b.shape[-1])
    return _grown(a, classes, square) + _grown(b, classes, square)


def _grown(counts: Tensor, classes: int, square: bool) -> Tensor:
    """Counts with zeros for classes that were not known: on both axes, or on the last."""
    missing = classes - counts.shape[-1]
    if not missing:
        return counts
    zeros = ops.zeros((counts.shape[0], missing), dtype=counts.dtype, device=counts.device)
    counts = ops.concat([counts, zeros], axis=1)
    if square:
        zeros = ops.zeros((missing, classes), dtype=counts.dtype, device=counts.device)
        counts = ops.concat([counts, zeros], axis=0)
    return counts
