"""When validation comes, as callbacks need to know it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from framework.train import Trainer


def validates(trainer: Trainer) -> bool:
    """Whether there is any validation."""
    return trainer.num_val_batches > 0


def validates_once_an_epoch(trainer: Trainer) -> bool:
    """Whether validation comes at the end of each epoch; an interval of 1.0 is an epoch, 1 is a batch."""
    interval = trainer.val_check_interval
    return trainer.check_val_every_n_epoch == 1 and isinstance(interval, float) and interval == 1.0


def validation_follows(trainer: Trainer) -> bool:
    """Whether a validation comes right after the batch that has just been done."""
    if not validates(trainer):
        return False
    progress, every, interval = trainer.progress, trainer.check_val_every_n_epoch, trainer.val_check_interval
    if -1 < trainer.max_steps <= progress.global_step:  # the training ends here, with a validation
        return True
    if every is None:
        return progress.total_batches % interval == 0
    if (progress.epoch + 1) % every:
        return False
    if isinstance(interval, float):
        if interval == 1.0:
            return progress.exhausted
        interval = max(1, int(trainer.num_training_batches * interval))
    return progress.batch % interval == 0
