"""Training with optimizers that evaluate the loss themselves, such as LBFGS and SCG."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from framework.autodiff import Tensor, no_grad
from framework.errors import NonFiniteError
from framework.optim import Optimizer
from framework.train.gradients import parameters_of
from framework.train.guard import ADVICE
from framework.train.optimization import loss_of
from framework.train.results import Results

if TYPE_CHECKING:
    from framework.train.fitstate import Fit


def guarded_search(optimizer: Optimizer, closure: Callable[[], Any], step: int) -> Any:
    """`optimizer.step(closure)`, undone where it leaves weights that are not finite.

    Raises:
        NonFiniteError: it did.
    """
    params = parameters_of(optimizer)
    with no_grad():
        kept = [p.detach().clone() for p in params]
    value = optimizer.step(closure)
    for p in params:
        xp = p._ns.xp
        if not bool(xp.all(xp.isfinite(p._data))):
            for q, before in zip(params, kept):
                q.assign(before)
            raise NonFiniteError(
                f"step {step}: {type(optimizer).__name__} came to weights that are NaN or infinite. {ADVICE}"
            )
    return value


class ClosureStep:
    """One batch for an optimizer that evaluates the loss as often as it needs.

    The hooks run with the first evaluation, whose values are the ones that are logged.
    """

    def __init__(self, fit: Fit) -> None:
        self._fit = fit
        self._owner = type(fit.module).__name__

    def __call__(self, batch: Any, index: int) -> tuple[Any, Tensor | None, bool]:
        """What `training_step` returned, its loss, and whether there was an update."""
        fit, optimizer = self._fit, self._fit.optimizer
        output, loss = self._evaluate(batch, index, with_hooks=True)
        if loss is None:
            return output, None, False
        step = fit.progress.global_step + 1
        first = [loss]

        def closure() -> Tensor:
            if first:  # its gradients are there already
                return first.pop()
            results, fit.port.results = fit.port.results, Results("training", fit.move.backend, {}, by_step=True)
            fit.port.results.begin_batch(batch)
            try:
                found = self._evaluate(batch, index)[1]
            finally:
                fit.port.results = results
            return loss if found is None else found

        if fit.own_step is not None:
            return output, loss, fit.own_step(index, closure)
        guarded_search(optimizer, closure, step)
        fit.progress.global_step = step
        fit.step_schedules(step)
        return output, loss, True

    def _evaluate(self, batch: Any, index: int, with_hooks: bool = False) -> tuple[Any, Tensor | None]:
        fit, hooks, optimizer = self._fit, self._fit.hooks, self._fit.optimizer
        if with_hooks:
            for hook in hooks.before_zero_grad:
                hook(optimizer)
        optimizer.zero_grad()
        output = fit.training_step(batch, index)
        loss = loss_of(output, self._owner)
        if loss is None:
            return output, None
        if with_hooks:
            for hook in hooks.before_backward:
                hook(loss)
        fit.module.backward(loss)
        if with_hooks:
            for after in hooks.after_backward:
                after()
            for hook in hooks.before_step:
                hook(optimizer)
            fit.guard.check(loss, optimizer, fit.progress.global_step + 1)
            fit.guard.read()
        if fit.clip is not None:
            fit.clip(optimizer)
        return output, loss
