"""The forward and backward pass of a step, recorded once and replayed; what surrounds it stays Python."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from framework.autodiff import Tensor
from framework.autodiff.compiling import Compiled
from framework.errors import CompileWarning
from framework.train.captured import whole_step
from framework.train.optimization import loss_of

if TYPE_CHECKING:
    from framework.train.fitstate import Fit


def compiled_step(
    fit: Fit, detects_anomalies: bool = False, clip: tuple[float | None, str | None] = (None, None)
) -> CompiledStep | None:
    """The step for `Trainer(compile=True)`; None, with a warning, where something has to happen within it.

    `clip` is the largest norm or value of the gradients, and which of the two it is.
    """
    reason = "detect_anomaly=True looks at every operation" if detects_anomalies else not_replayed(fit)
    if reason:
        warnings.warn(f"compile: {reason}; training_step runs without being replayed", CompileWarning, stacklevel=4)
        return None
    return CompiledStep(fit, clip)


def not_replayed(fit: Fit) -> str:
    """What happens within a step that a replay could not do, in words; empty where nothing does."""
    if fit.manual is not None:
        return "automatic_optimization = False, so the module makes its updates within the step"
    if fit.whole_step is not None:
        return f"{type(fit.optimizer).__name__} evaluates the loss as often as it needs"
    if fit.hooks.before_backward:
        return "on_before_backward is defined, which runs between the forward and the backward pass"
    return ""


class CompiledStep:
    """`training_step` and backward as one compiled call.

    The batch index, the epoch and the count of updates are numbers of the call, so that their growth never
    leads to another recording.
    """

    def __init__(self, fit: Fit, clip: tuple[float | None, str | None] = (None, None)) -> None:
        self._fit = fit
        self._whole = whole_step(fit, clip)
        self._port = fit.port
        self._progress = fit.progress
        self._training_step = fit.training_step
        self._owner = type(fit.module).__name__
        self._window = fit.window
        self._backward = fit.backward
        self.compiled = Compiled(self._run, [fit.module], name=f"{self._owner}.training_step", sees=[fit.training_step])

    def __call__(self, batch: Any, index: int) -> tuple[Any, Tensor | None]:
        """What `training_step` returned, and the loss, whose gradients are in place."""
        progress, window = self._progress, self._window
        weight = None if window.size == 1 else window.weight(batch)
        scale = None if window.scaler is None else window.scaler.current()
        if self._whole is None:
            output, loss = self.compiled(batch, index, progress.epoch, progress.global_step, weight, scale)
        else:
            follows = self.compiled.sequel = self._whole.of(batch)
            output, loss = self.compiled(batch, index, progress.epoch, progress.global_step, weight, scale)
            self._fit.is_updated = follows is not None and follows.is_done
        if loss is not None:
            window.count(batch)
        return output, loss

    def _run(
        self, batch: Any, index: Any, epoch: Any, step: Any, weight: Any, scale: Tensor | None
    ) -> tuple[Any, Tensor | None]:
        port = self._port
        port.counters = (epoch, step, index)
        try:
            output = self._training_step(batch, index)
        finally:
            port.counters = None
        loss = loss_of(output, self._owner)
        if loss is not None:
            share = None if weight is None else loss.detach() * 0 + weight
            if scale is not None and self._window.scaler is not None:
                share = self._window.scaler.start(loss, share, scale)
            self._backward(loss, share)
        return output, loss
