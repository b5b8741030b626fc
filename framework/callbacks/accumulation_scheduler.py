"""Changes from epoch to epoch how many batches make one update."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from framework.callbacks.callback import Callback
from framework.errors import ConfigError

if TYPE_CHECKING:
    from framework.train import Trainer, TrainModule


class GradientAccumulationScheduler(Callback):
    """Sets `accumulate_grad_batches` at the start of epochs.

    Args:
        scheduling: index of an epoch (from 0) to the number of batches that make an update from then on;
            before the first one it is 1.

    `trainer.estimated_stepping_batches`, and with it a schedule's `total_steps`, counts by it.

    Raises:
        ConfigError: a key is no epoch or a value no number of batches; or the Trainer was given
            `accumulate_grad_batches` as well.

    Examples:
        >>> scheduler = GradientAccumulationScheduler({4: 2, 8: 4})
        >>> [scheduler.factor_at(epoch) for epoch in (0, 3, 4, 7, 8, 99)]
        [1, 1, 2, 2, 4, 4]
    """

    def __init__(self, scheduling: Mapping[int, int]) -> None:
        if not isinstance(scheduling, Mapping) or not scheduling:
            raise ConfigError(
                f"GradientAccumulationScheduler(scheduling={scheduling!r}): expected a dict such as {{0: 8, 4: 2}}, "
                "epochs to numbers of batches"
            )
        for epoch, factor in scheduling.items():
            for value, lowest, what in ((epoch, 0, "an epoch"), (factor, 1, "a number of batches")):
                if isinstance(value, bool) or not isinstance(value, int) or value < lowest:
                    raise ConfigError(
                        f"GradientAccumulationScheduler(scheduling=…): in {epoch!r}: {factor!r}, expected {what}, "
                        f"an int of at least {lowest}, got {value!r}"
                    )
        self.scheduling = dict(sorted(scheduling.items()))

    def factor_at(self, epoch: int) -> int:
        """How many batches make an update in an epoch."""
        return next((factor for first, factor in reversed(self.scheduling.items()) if first <= epoch), 1)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Set the number of this epoch."""
        trainer.accumulate_grad_batches = self.factor_at(trainer.current_epoch)
