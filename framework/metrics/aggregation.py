"""Means of values."""

from __future__ import annotations

import math
from typing import Any

from framework.autodiff import Tensor, as_tensor, get_default_dtype, no_grad, ops
from framework.metrics.metric import Metric, add, wide


class MeanMetric(Metric):
    """The mean of all values, each counted with its weight.

    Examples:
        >>> import framework as fw
        >>> loss = fw.metrics.MeanMetric()
        >>> loss.update(fw.tensor(1.0), weight=3)
        >>> loss.update(fw.tensor(5.0))
        >>> loss.compute()
        2.0
    """

    _state = ("total", "weight")

    def reset(self) -> None:
        """Forget all values."""
        self.total: Any = 0.0
        self.weight: Any = 0.0

    @no_grad()
    def update(self, value: Any, weight: Any = 1.0) -> None:
        """Add one value, or an array of them.

        Args:
            value: a number or an array of any shape.
            weight: a number, or an array that broadcasts to the values.
        """
        if isinstance(value, int | float):
            value = float(value)
            if isinstance(weight, int | float):
                self.total = self.total + value * float(weight)
                self.weight = self.weight + float(weight)
                return
        x = as_tensor(value, weight if isinstance(weight, Tensor) else None).detach()
        if x.dtype.kind != "float":
            x = ops.astype(x, get_default_dtype())
        if isinstance(weight, int | float):
            weight = float(weight)
            self.total = add(self.total, ops.sum(x, dtype=wide(x)) * weight)
            self.weight = self.weight + weight * x.size
            return
        w = ops.astype(as_tensor(weight, x).detach(), x.dtype)
        self.total = add(self.total, ops.sum(x * w, dtype=wide(x)))
        self.weight = add(self.weight, ops.sum(ops.broadcast_to(w, (x * w).shape), dtype=wide(x)))

    def compute(self) -> float:
        """The weighted mean; NaN where no weight was given."""
        weight = float(self.weight)
        return float(self.total) / weight if weight else math.nan
