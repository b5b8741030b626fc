"""Metrics of numbers."""

from __future__ import annotations

import math
from typing import Any

from framework.autodiff import Tensor, as_tensor, get_default_dtype, no_grad, ops
from framework.errors import ConfigError, DTypeError, ShapeError
from framework.metrics.metric import Metric, add, wide


class MeanSquaredError(Metric):
    """The mean of the squared differences, over all elements of all batches.

    Args:
        squared: False for its root.

    Examples:
        >>> import framework as fw
        >>> error = fw.metrics.MeanSquaredError()
        >>> error.update(fw.tensor([1.0, 2.0]), fw.tensor([1.0, 4.0]))
        >>> error.update(fw.tensor([0.0]), fw.tensor([1.0]))
        >>> round(error.compute(), 4)
        1.6667
    """

    _state = ("total", "count")

    def __init__(self, squared: bool = True) -> None:
        if not isinstance(squared, bool):
            raise ConfigError(f"MeanSquaredError: squared is True or False, got {squared!r}")
        self.squared = squared
        super().__init__()

    def reset(self) -> None:
        """Forget all elements."""
        self.total: Any = 0.0
        self.count = 0

    @no_grad()
    def update(self, preds: Any, target: Any) -> None:
        """Add a batch.

        Args:
            preds: numbers of any shape.
            target: numbers of the same shape.

        Raises:
            ShapeError: the shapes differ; nothing is broadcast.
            DTypeError: the numbers are complex.
        """
        preds = as_tensor(preds, target if isinstance(target, Tensor) else None).detach()
        target = as_tensor(target, preds).detach()
        if preds.shape != target.shape:
            raise ShapeError(
                f"MeanSquaredError: predictions of shape {preds.shape} need a target of that shape, got "
                f"{target.shape}. Where one has an axis of length 1 more, reshape: preds.squeeze(-1)"
            )
        difference = _floating(preds) - _floating(target)
        self.total = add(self.total, ops.sum(difference * difference, dtype=wide(difference)))
        self.count += preds.size

    def compute(self) -> float:
        """The mean, or its root; NaN before the first element."""
        if not self.count:
            return math.nan
        mean = float(self.total) / self.count
        return mean if self.squared else math.sqrt(mean)


def _floating(t: Tensor) -> Tensor:
    """Real floating-point numbers of at least 32 bits, whose squares do not overflow soon."""
    if t.dtype.kind == "complex":
        raise DTypeError(f"MeanSquaredError: takes real numbers, got {t.dtype.name}")
    if t.dtype.kind != "float":
        return ops.astype(t, get_default_dtype())
    return t if t.dtype.itemsize >= 4 else ops.astype(t, "float32")
