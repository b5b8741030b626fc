"""The forward and backward pass of a step, recorded once and replayed; what surrounds it stays Python."""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from framework.autodiff import Tensor
from framework.autodiff.compiling import Compiled
from framework.errors import CompileWarning
from framework.train.optimization import loss_of

if TYPE_CHECKING:
    from framework.train.fitstate import Fit


def compiled_step(fit: Fit) -> CompiledStep | None:
    """The step for `Trainer(compile=True)`; None, with a warning, where something has to happen within it."""
    if fit.hooks.before_backward:
        warnings.warn(
            "compile: on_before_backward is defined, which runs between the forward and the backward pass; "
            "training_step runs without being replayed",
            CompileWarning,
            stacklevel=2,
        )
        return None
    return CompiledStep(fit)


class CompiledStep:
    """`training_step` and backward as one compiled call.

    The batch index, the epoch and the count of updates are numbers of the call, so that their growth never
    leads to another recording.
    """

    def __init__(self, fit: Fit) -> None:
        self._port = fit.port
        self._progress = fit.progress
        self._training_step = fit.training_step
        self._owner = type(fit.module).__name__
        self._window = fit.window
        self.compiled = Compiled(self._run, [fit.module], name=f"{self._owner}.training_step", sees=[fit.training_step])

    def __call__(self, batch: Any, index: int) -> tuple[Any, Tensor | None]:
        """What `training_step` returned, and the loss, whose gradients are in place."""
        progress, window = self._progress, self._window
        weight = None if window.size == 1 else window.weight(batch)
        output, loss = self.compiled(batch, index, progress.epoch, progress.global_step, weight)
        if loss is not None:
            window.count(batch)
        return output, loss

    def _run(self, batch: Any, index: Any, epoch: Any, step: Any, weight: Any) -> tuple[Any, Tensor | None]:
        port = self._port
        port.counters = (epoch, step)
        try:
            output = self._training_step(batch, index)
        finally:
            port.counters = None
        loss = loss_of(output, self._owner)
        if loss is not None:
            loss.backward(None if weight is None else loss.detach() * 0 + weight)
        return output, loss
