"""A schedule that watches a metric."""

from __future__ import annotations

import math
from typing import Any, ClassVar

from framework.errors import ConfigError
from framework.optim.lr_scheduler.base import LRScheduler, check_number, per_group
from framework.optim.optimizer import Optimizer


class ReduceLROnPlateau(LRScheduler):
    """Multiplies the learning rate by `factor` where a metric has not improved for more than `patience` steps.

    Args:
        optimizer: whose groups are scheduled.
        mode: `"min"` where less is better, `"max"` where more is.
        factor: below 1.
        patience: how many steps without improvement are borne.
        threshold: by how much a better value must be better.
        threshold_mode: `"rel"` for a share of the best value, `"abs"` for a difference.
        cooldown: how many steps after a reduction are not counted.
        min_lr: the lowest learning rate, or one per group.
        eps: reductions of no more than this are left out.

    Raises:
        ConfigError: an argument is out of range.

    Examples:
        >>> import framework as fw
        >>> optimizer = fw.optim.SGD([fw.nn.Parameter([0.0])], lr=1.0)
        >>> scheduler = fw.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=1)
        >>> for loss in (3.0, 2.0, 2.0, 2.0, 1.0):
        ...     scheduler.step(loss)
        >>> scheduler.get_last_lr()
        [0.5]
    """

    needs_metric: ClassVar[bool] = True

    _saved = (
        "last_epoch", "mode", "factor", "patience", "threshold", "threshold_mode", "cooldown", "min_lrs", "eps",
        "best", "num_bad_epochs", "cooldown_counter",
    )  # fmt: skip

    def __init__(
        self,
        optimizer: Optimizer,
        mode: str = "min",
        factor: float = 0.1,
        patience: int = 10,
        threshold: float = 1e-4,
        threshold_mode: str = "rel",
        cooldown: int = 0,
        min_lr: float | list[float] = 0.0,
        eps: float = 1e-8,
    ) -> None:
        name = "ReduceLROnPlateau"
        if mode not in ("min", "max"):
            raise ConfigError(f"{name}: mode is 'min' or 'max', got {mode!r}")
        if threshold_mode not in ("rel", "abs"):
            raise ConfigError(f"{name}: threshold_mode is 'rel' or 'abs', got {threshold_mode!r}")
        for what, value in (("patience", patience), ("cooldown", cooldown)):
            if not isinstance(value, int) or value < 0:
                raise ConfigError(f"{name}: {what} is a number of steps, got {value!r}")
        self.factor = check_number(name, "factor", factor)
        if not self.factor < 1.0:
            raise ConfigError(f"{name}: factor must be below 1, got {factor!r}")
        self._attach(optimizer)
        self.mode, self.threshold_mode = mode, threshold_mode
        self.patience, self.cooldown = patience, cooldown
        self.threshold = check_number(name, "threshold", threshold)
        self.eps = check_number(name, "eps", eps)
        self.min_lrs = per_group(name, "min_lr", min_lr, len(optimizer.param_groups))
        self.best = math.inf if mode == "min" else -math.inf
        self.num_bad_epochs = self.cooldown_counter = self.last_epoch = 0
        self._set(self._lrs)

    def step(self, metrics: Any) -> None:  # type: ignore[override]
        """Go one step on with the metric's value: a number, or a Tensor of one element, which is read.

        NaN is no improvement.
        """
        value = float(metrics)
        self.last_epoch += 1
        self.num_bad_epochs += 1
        if self._is_better(value):
            self.best, self.num_bad_epochs = value, 0
        if self.cooldown_counter > 0:
            self.cooldown_counter -= 1
            self.num_bad_epochs = 0
        if self.num_bad_epochs > self.patience:
            self._reduce()
            self.cooldown_counter, self.num_bad_epochs = self.cooldown, 0
        self._set(self._lrs)

    def _is_better(self, value: float) -> bool:
        sign = -1.0 if self.mode == "min" else 1.0
        if self.threshold_mode == "rel":
            bound = self.best * (1.0 + sign * self.threshold)
        else:
            bound = self.best + sign * self.threshold
        return value < bound if self.mode == "min" else value > bound

    def _reduce(self) -> None:
        groups = self.optimizer.param_groups
        if len(groups) > len(self.min_lrs):  # a group was added
            if len(set(self.min_lrs)) > 1:
                raise ConfigError(
                    f"ReduceLROnPlateau: min_lr has {len(self.min_lrs)} values, the optimizer now {len(groups)} "
                    "groups; append those of the new ones to scheduler.min_lrs"
                )
            self.min_lrs = self.min_lrs[:1] * len(groups)
        for group, low in zip(groups, self.min_lrs):
            old = float(group["lr"])
            new = max(old * self.factor, low)
            if old - new > self.eps:
                group["lr"] = new
