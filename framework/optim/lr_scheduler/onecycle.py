"""The one-cycle schedule."""

from __future__ import annotations

import math
from typing import Any

from framework.errors import ConfigError
from framework.optim.lr_scheduler.base import LRScheduler, per_group
from framework.optim.optimizer import Optimizer


def _cosine(start: float, end: float, share: float) -> float:
    return end + (start - end) / 2.0 * (math.cos(math.pi * share) + 1)


def _line(start: float, end: float, share: float) -> float:
    return (end - start) * share + start


_ANNEAL = {"cos": _cosine, "linear": _line}


class OneCycleLR(LRScheduler):
    """Up from a low learning rate to `max_lr`, then down far below where it began (Smith & Topin 2018).

    The momentum, or Adam's first beta, goes the other way. A step per batch; the total is known beforehand.

    Args:
        optimizer: whose groups are scheduled.
        max_lr: the highest learning rate, or one per group.
        total_steps: the number of steps in all; or
        epochs: the number of epochs, together with
        steps_per_epoch: the number of steps in each.
        pct_start: the share of the steps that go up.
        anneal_strategy: `"cos"` or `"linear"`.
        cycle_momentum: whether the momentum is scheduled too.
        base_momentum: the lowest momentum, or one per group.
        max_momentum: the highest momentum, or one per group.
        div_factor: the first learning rate is `max_lr / div_factor`.
        final_div_factor: the last one is the first divided by this.
        three_phase: down to the first learning rate symmetrically, then a third phase to the last one.
        last_epoch: the step to continue after; −1 starts anew.

    Raises:
        ConfigError: arguments out of range; also by `step()` after the last step.

    Examples:
        >>> import framework as fw
        >>> optimizer = fw.optim.SGD([fw.nn.Parameter([0.0])], lr=0.1, momentum=0.9)
        >>> scheduler = fw.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=10)
        >>> [round((scheduler.get_last_lr()[0], scheduler.step())[0], 2) for _ in range(5)]
        [0.04, 0.52, 1.0, 0.95, 0.81]
    """

    _saved = (
        "base_lrs", "last_epoch", "total_steps", "max_lrs", "initial_lrs", "min_lrs",
        "base_momentums", "max_momentums", "pct_start", "three_phase", "anneal_strategy", "cycle_momentum",
    )  # fmt: skip

    def __init__(
        self,
        optimizer: Optimizer,
        max_lr: float | list[float],
        total_steps: int | None = None,
        epochs: int | None = None,
        steps_per_epoch: int | None = None,
        pct_start: float = 0.3,
        anneal_strategy: str = "cos",
        cycle_momentum: bool = True,
        base_momentum: float | list[float] = 0.85,
        max_momentum: float | list[float] = 0.95,
        div_factor: float = 25.0,
        final_div_factor: float = 1e4,
        three_phase: bool = False,
        last_epoch: int = -1,
    ) -> None:
        self._attach(optimizer)
        self.total_steps = _total_steps(total_steps, epochs, steps_per_epoch)
        if not isinstance(pct_start, int | float) or not 0 <= pct_start <= 1:
            raise ConfigError(f"OneCycleLR: pct_start must be in [0, 1], got {pct_start!r}")
        if anneal_strategy not in _ANNEAL:
            raise ConfigError(f"OneCycleLR: anneal_strategy is 'cos' or 'linear', got {anneal_strategy!r}")
        self.pct_start = float(pct_start)
        self.anneal_strategy = anneal_strategy
        self.three_phase = bool(three_phase)
        self.cycle_momentum = bool(cycle_momentum)
        groups = optimizer.param_groups
        self.max_lrs = per_group("OneCycleLR", "max_lr", max_lr, len(groups))
        self.base_momentums = per_group("OneCycleLR", "base_momentum", base_momentum, len(groups))
        self.max_momentums = per_group("OneCycleLR", "max_momentum", max_momentum, len(groups))
        if self.cycle_momentum and not any(key in optimizer.defaults for key in ("momentum", "betas")):
            raise ConfigError(
                f"OneCycleLR: {type(optimizer).__name__} has no momentum and no betas; pass cycle_momentum=False"
            )
        self.initial_lrs = [top / float(div_factor) for top in self.max_lrs]
        self.min_lrs = [first / float(final_div_factor) for first in self.initial_lrs]
        if last_epoch == -1:
            for group, first in zip(groups, self.initial_lrs):
                group["initial_lr"] = first
        super().__init__(optimizer, last_epoch)

    def _phases(self) -> list[tuple[float, str, str, str, str]]:
        """The step at which each phase ends, and the names of what it goes between: learning rate, momentum."""
        up = float(self.pct_start * self.total_steps) - 1
        last = self.total_steps - 1
        rise = (up, "initial_lrs", "max_lrs", "max_momentums", "base_momentums")
        if not self.three_phase:
            return [rise, (last, "max_lrs", "min_lrs", "base_momentums", "max_momentums")]
        down = float(2 * self.pct_start * self.total_steps) - 2
        return [
            rise,
            (down, "max_lrs", "initial_lrs", "base_momentums", "max_momentums"),
            (last, "initial_lrs", "min_lrs", "max_momentums", "max_momentums"),
        ]

    def _place(self) -> tuple[float, str, str, str, str]:
        """How far in its phase the schedule is, and that phase's names."""
        start = 0.0
        phases = self._phases()
        for i, (end, *names) in enumerate(phases):
            if self.last_epoch <= end or i == len(phases) - 1:
                share = (self.last_epoch - start) / (end - start) if end != start else 1.0
                return (share, *names)  # type: ignore[return-value]
            start = end
        raise AssertionError("no phase")

    def get_lr(self) -> list[float]:
        """The learning rates at `last_epoch`; sets the momenta on the way."""
        if self.last_epoch > self.total_steps:
            raise ConfigError(
                f"OneCycleLR: step {self.last_epoch} of a cycle of {self.total_steps} steps. Give total_steps the "
                "number of updates of the whole run, or step it less often"
            )
        share, lr_from, lr_to, m_from, m_to = self._place()
        anneal = _ANNEAL[self.anneal_strategy]
        if self.cycle_momentum:
            for group, a, b in zip(self.optimizer.param_groups, getattr(self, m_from), getattr(self, m_to)):
                _set_momentum(group, anneal(a, b, share))
        return [anneal(a, b, share) for a, b in zip(getattr(self, lr_from), getattr(self, lr_to))]

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved position; learning rates and momenta are set to those of that step."""
        super().load_state_dict(state_dict)
        self.get_lr()


def _set_momentum(group: dict[str, Any], value: float) -> None:
    if "betas" in group:
        group["betas"] = (value, *group["betas"][1:])
    else:
        group["momentum"] = value


def _total_steps(total_steps: int | None, epochs: int | None, steps_per_epoch: int | None) -> int:
    given = {"total_steps": total_steps, "epochs": epochs, "steps_per_epoch": steps_per_epoch}
    for name, value in given.items():
        if value is not None and (not isinstance(value, int) or value <= 0):
            raise ConfigError(f"OneCycleLR: {name} must be a positive integer, got {value!r}")
    if total_steps is not None:
        return total_steps
    if epochs is None or steps_per_epoch is None:
        raise ConfigError("OneCycleLR: give total_steps, or both epochs and steps_per_epoch")
    return epochs * steps_per_epoch
