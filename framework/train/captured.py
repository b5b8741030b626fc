"""The update as a part of a compiled step's program, where the backend asks for that and nothing forbids it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from framework.optim.captured import Update
from framework.train.guard import DeviceGuard
from framework.train.hooks import overridden
from framework.train.module import TrainModule

if TYPE_CHECKING:
    from framework.train.fitstate import Fit


class WholeStep:
    """Says of each batch whether the update may follow on its backward within one program.

    Args:
        fit: the fit under way.
        guard: its guard.
        clip: the Trainer's largest norm or value, if any, and which of the two it is.
    """

    def __init__(self, fit: Fit, guard: DeviceGuard, clip: tuple[float | None, str | None]) -> None:
        self._fit, self._guard = fit, guard
        self._clip = float(clip[0] or 0.0), clip[1] or "norm"
        self._update: Update | None = None

    def of(self, batch: Any) -> Update | None:
        """What follows on this batch; None where no update does, or one that is made by itself."""
        fit = self._fit
        if _has_hooks(fit) or fit.optimizer.needs_closure or not fit.window.is_filled_by(batch):
            return None
        if self._update is None or self._update.optimizer is not fit.optimizer:
            self._update = Update(fit.optimizer, self._clip, self._guard)
        self._update.is_done = False
        self._guard.upcoming = fit.progress.global_step + 1
        return self._update


def whole_step(fit: Fit, clip: tuple[float | None, str | None]) -> WholeStep | None:
    """For the backends that profit; None for all others, and where something is to happen before the update."""
    if type(fit.guard) is not DeviceGuard or fit.window.scaler is not None or not fit.guard.backend.captures_updates:
        return None
    owns = TrainModule.configure_gradient_clipping, TrainModule.clip_gradients
    if any(overridden(fit.module, method) is not None for method in owns):
        return None
    return WholeStep(fit, fit.guard, clip)


def _has_hooks(fit: Fit) -> bool:
    return bool(fit.hooks.after_backward or fit.hooks.before_step or fit.own_step is not None)
