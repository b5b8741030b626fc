"""Updates that the module makes itself: manual optimization, and an `optimizer_step` of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from framework.autodiff import Tensor, enable_grad
from framework.errors import ConfigError
from framework.optim import Optimizer
from framework.train.closures import guarded_search

if TYPE_CHECKING:
    from framework.train.fitstate import Fit


class SteppedOptimizer:
    """An optimizer in the module's hands; each `step` is counted as an update of the run.

    All but `step` is the optimizer's own: `param_groups`, `zero_grad`, `state_dict` …

    Args:
        optimizer: the optimizer.
        fit: the training, whose loop has run the hooks and looked at the gradients.
    """

    def __init__(self, optimizer: Optimizer, fit: Fit) -> None:
        self.optimizer = optimizer
        """The optimizer itself."""
        self.updates = 0
        """Updates that were made through this object."""
        self._fit = fit

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Make an update; returns what `closure` returned, which is called first.

        Raises:
            NonFiniteError: a weight would become NaN or infinite; or, under manual optimization, a gradient is, or
                the loss that `manual_backward` has seen.
        """
        fit, optimizer = self._fit, self.optimizer
        step = fit.progress.global_step + 1
        if optimizer.needs_closure:
            if closure is None:
                return optimizer.step(None)  # which says that it needs one
            self._before_step()
            value = guarded_search(optimizer, closure, step)
        else:
            value = None
            if closure is not None:
                with enable_grad():
                    value = closure()
            self._before_step()
            self._check(step)
            optimizer.step()
        self.updates += 1
        fit.progress.global_step = step
        return value

    def _before_step(self) -> None:
        """Run the hooks, where nobody has."""

    def _check(self, step: int) -> None:
        """Look at the gradients, where nobody has."""

    @contextmanager
    def toggle_model(self, sync_grad: bool = True) -> Iterator[None]:
        """Within the block only this optimizer's parameters require gradients."""
        with self._fit.module.toggled_optimizer(self):
            yield

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # asked for while a copy is being made
            raise AttributeError(name)
        return getattr(self.optimizer, name)

    def __repr__(self) -> str:
        return repr(self.optimizer)


class ManualOptimizer(SteppedOptimizer):
    """The same under manual optimization, where `step` runs the hooks and looks at loss and gradients itself."""

    _loss: Tensor | None = None

    def saw(self, loss: Tensor) -> None:
        """Look at this loss, too, before the next update."""
        self._loss = loss.detach()

    def forget(self) -> None:
        """The losses that were seen are of an earlier batch."""
        self._loss = None

    def _before_step(self) -> None:
        for hook in self._fit.hooks.before_step:
            hook(self.optimizer)

    def _check(self, step: int) -> None:
        self._fit.guard.check(self._loss, self.optimizer, step)


class ManualStep:
    """One batch of a module that makes its updates itself."""

    def __init__(self, fit: Fit) -> None:
        self._fit = fit
        self._owner = type(fit.module).__name__
        self.optimizers = [ManualOptimizer(optimizer, fit) for optimizer in fit.optimizers]

    def __call__(self, batch: Any, index: int) -> tuple[Any, None, bool]:
        """What `training_step` returned, no loss to differentiate, and whether there was an update."""
        fit = self._fit
        before = fit.progress.global_step
        for optimizer in self.optimizers:
            optimizer.forget()
        output = fit.training_step(batch, index)
        if output is not None and not isinstance(output, Tensor | Mapping):
            raise ConfigError(
                f"{self._owner}.training_step() returned a {type(output).__name__}; under manual optimization it "
                "returns nothing, a Tensor, or a dict, which on_train_batch_end gets"
            )
        fit.updates = fit.progress.global_step - before
        return output, None, fit.updates > 0

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """`manual_backward` of the module: the hooks, and the gradients."""
        fit = self._fit
        for hook in fit.hooks.before_backward:
            hook(loss)
        fit.module.backward(loss, *args, **kwargs)
        for optimizer in self.optimizers:
            optimizer.saw(loss)
        for after in fit.hooks.after_backward:
            after()


class OwnStep:
    """Updates through the module's `optimizer_step`, which may leave one out or do more."""

    def __init__(self, fit: Fit) -> None:
        self._fit = fit

    def __call__(self, index: int, loss: Tensor | Callable[[], Tensor]) -> bool:
        """Let the module make the update whose gradients are in place; whether it has.

        Args:
            index: of the batch.
            loss: what the closure that the module gets returns; or that closure itself.
        """
        fit = self._fit
        closure = (lambda: loss) if isinstance(loss, Tensor) else loss
        stepped = SteppedOptimizer(fit.optimizer, fit)
        before = fit.progress.global_step
        fit.module.optimizer_step(fit.progress.epoch, index, stepped, closure)
        fit.updates = stepped.updates
        for step in range(before + 1, fit.progress.global_step + 1):
            fit.step_schedules(step)
        return stepped.updates > 0
