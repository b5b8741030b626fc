"""Clipping of the gradients of an update."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from framework.optim import Optimizer
from framework.train.guard import Guard
from framework.train.hooks import overridden
from framework.train.module import TrainModule

if TYPE_CHECKING:
    from framework.train.trainer import Trainer


def make_clipping(trainer: Trainer, module: TrainModule, guard: Guard) -> Callable[[Optimizer], None] | None:
    """What clips the gradients before each update; None where nothing does.

    The guard has seen the gradients before: clipping can make finite numbers of infinite ones. What a
    module's own `configure_gradient_clipping` leaves is looked at again.
    """
    value, algorithm = trainer.gradient_clip_val, trainer.gradient_clip_algorithm
    own: Any = overridden(module, TrainModule.configure_gradient_clipping)
    if own is None:
        if not value:
            return None
        return lambda optimizer: module.clip_gradients(optimizer, value, algorithm)

    def clip(optimizer: Optimizer) -> None:
        own(optimizer, gradient_clip_val=value, gradient_clip_algorithm=algorithm)
        guard.check(None, optimizer, trainer.global_step + 1)

    return clip
