"""Schedules one after the other."""

from __future__ import annotations

from bisect import bisect_right
from typing import Any

from framework.errors import CheckpointError, ConfigError
from framework.optim.lr_scheduler.base import LRScheduler
from framework.optim.optimizer import Optimizer


class SequentialLR(LRScheduler):
    """Several schedules, each from a given step on: a warm-up, then a decay.

    Args:
        optimizer: that of all schedules.
        schedulers: the schedules in their order.
        milestones: the step at which each but the first begins.
        last_epoch: the step to continue after; −1 starts anew.

    Raises:
        ConfigError: the numbers do not fit, or a schedule is of another optimizer or needs a metric.

    Examples:
        >>> import framework as fw
        >>> schedules = fw.optim.lr_scheduler
        >>> optimizer = fw.optim.SGD([fw.nn.Parameter([0.0])], lr=1.0)
        >>> warm_up = schedules.LinearLR(optimizer, start_factor=0.5, total_iters=2)
        >>> decay = schedules.ExponentialLR(optimizer, gamma=0.5)
        >>> scheduler = schedules.SequentialLR(optimizer, [warm_up, decay], milestones=[2])
        >>> [(scheduler.get_last_lr()[0], scheduler.step())[0] for _ in range(5)]
        [0.5, 0.75, 1.0, 0.5, 0.25]
    """

    _saved = ("last_epoch", "_milestones")

    def __init__(
        self, optimizer: Optimizer, schedulers: list[LRScheduler], milestones: list[int], last_epoch: int = -1
    ) -> None:
        self._attach(optimizer)
        for i, scheduler in enumerate(schedulers):
            if not isinstance(scheduler, LRScheduler) or scheduler.needs_metric:
                raise ConfigError(
                    f"SequentialLR: schedulers[{i}] must be a schedule whose step() needs no metric, "
                    f"got {type(scheduler).__name__}"
                )
            if scheduler.optimizer is not optimizer:
                raise ConfigError(f"SequentialLR: schedulers[{i}] belongs to another optimizer")
        if len(milestones) != len(schedulers) - 1:
            raise ConfigError(
                f"SequentialLR: {len(schedulers)} schedules need a milestone between each two, "
                f"{max(len(schedulers) - 1, 0)} in all; got {len(milestones)}"
            )
        self._schedulers = list(schedulers)
        self._milestones = list(milestones)
        self.last_epoch = last_epoch + 1
        self._start_over()
        self._schedulers[bisect_right(self._milestones, 0)]._begin()
        self._last_lr = self._lrs

    def _start_over(self) -> None:
        """Undo what constructing the schedules set."""
        for group in self.optimizer.param_groups:
            group["lr"] = float(group["initial_lr"])
        self._undo()

    def _undo(self) -> None:
        for scheduler in self._schedulers:
            scheduler._undo()

    def _restart(self) -> None:
        self.last_epoch = 0
        self._schedulers[bisect_right(self._milestones, 0)]._restart()
        self._last_lr = self._lrs

    def step(self) -> None:
        """Go one step on in the schedule whose turn it is; it begins at its milestone, with its first rate."""
        self.last_epoch += 1
        turn = bisect_right(self._milestones, self.last_epoch)
        scheduler = self._schedulers[turn]
        if turn and self._milestones[turn - 1] == self.last_epoch:
            scheduler._restart()
        else:
            scheduler.step()
        self._last_lr = scheduler.get_last_lr()

    def state_dict(self) -> dict[str, Any]:
        """The position, and the states of all schedules, as a state tree."""
        return {**super().state_dict(), "_schedulers": [s.state_dict() for s in self._schedulers]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved position.

        Raises:
            CheckpointError: the state is of another kind of schedule, or of other schedules.
        """
        saved = state_dict.get("_schedulers", ())
        if len(saved) != len(self._schedulers):
            raise CheckpointError(
                f"SequentialLR.load_state_dict: the state is of {len(saved)} schedules, "
                f"this one has {len(self._schedulers)}"
            )
        for scheduler, own in zip(self._schedulers, saved):
            scheduler.load_state_dict(own)
        super().load_state_dict(state_dict)
