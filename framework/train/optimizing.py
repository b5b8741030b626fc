"""What a `TrainModule` can do about its updates itself: manual optimization, clipping, toggling."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from framework.autodiff import Tensor
from framework.errors import ConfigError
from framework.optim import Optimizer, clip_grad_norm_, clip_grad_value_
from framework.train import options
from framework.train.gradients import parameters_of
from framework.train.manual import SteppedOptimizer

if TYPE_CHECKING:
    from framework.train.fitstate import Fit
    from framework.train.trainer import Trainer

AnyOptimizer = Optimizer | SteppedOptimizer


class Optimizing:
    """The methods of a `TrainModule` that are about optimizers and gradients."""

    automatic_optimization: bool = True
    """False: `training_step` differentiates by `self.manual_backward`, and steps `self.optimizers()` itself."""

    _toggled: dict[int, list[Tensor]] | None = None
    """The parameters that `toggle_optimizer` has frozen, by the optimizer."""

    if TYPE_CHECKING:

        @property
        def trainer(self) -> Trainer:
            """The Trainer at work with this module."""

    # -- manual optimization -------------------------------------------------------------------------

    def optimizers(self, use_pl_optimizer: bool = True) -> Any:
        """The optimizer of the fit under way, or the list of several, as `configure_optimizers` gave them.

        Args:
            use_pl_optimizer: under manual optimization, whether their `step` runs the hooks and counts as an update
                of the run. False gives the bare ones, whose steps nobody checks or counts.

        Raises:
            ConfigError: there is no fit under way.
        """
        fit = self._fit_under_way("optimizers()")
        if use_pl_optimizer and fit.manual is not None:
            found: list[Any] = list(fit.manual.optimizers)
        else:
            found = list(fit.optimizers)
        return found[0] if len(found) == 1 else found

    def lr_schedulers(self) -> Any:
        """The scheduler of the fit under way, the list of several, or None.

        Under manual optimization nobody steps them but the module.
        """
        found = [config.scheduler for config in self._fit_under_way("lr_schedulers()").schedulers]
        return None if not found else found[0] if len(found) == 1 else found

    def manual_backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradients of `loss`, with the hooks around it; for manual optimization.

        Raises:
            ConfigError: optimization is automatic.
        """
        fit = self._fit_under_way("manual_backward(…)")
        if fit.manual is None:
            raise ConfigError(
                f"{type(self).__name__}: manual_backward is for manual optimization; set self.automatic_optimization = "
                "False in __init__, or return the loss from training_step and leave the rest to the Trainer"
            )
        fit.manual.backward(loss, *args, **kwargs)

    def _fit_under_way(self, method: str) -> Fit:
        fit = self.trainer._fit
        if fit is None or not self.trainer.fitting:
            raise ConfigError(f"{type(self).__name__}.{method} needs a fit under way")
        return fit

    # -- which parameters are trained ----------------------------------------------------------------

    def toggle_optimizer(self, optimizer: AnyOptimizer) -> None:
        """Let only the parameters of `optimizer` require gradients, until `untoggle_optimizer(optimizer)`."""
        kept = {id(p) for p in parameters_of(optimizer)}
        frozen = []
        for one in self._fit_under_way("toggle_optimizer(…)").optimizers:
            for p in parameters_of(one):
                if id(p) not in kept and p.requires_grad:
                    p.requires_grad = False
                    frozen.append(p)
        toggled, key = self._toggled or {}, id(_bare(optimizer))
        object.__setattr__(self, "_toggled", {**toggled, key: toggled.get(key, []) + frozen})  # it may be toggled twice

    def untoggle_optimizer(self, optimizer: AnyOptimizer) -> None:
        """Let the other parameters require gradients as before `toggle_optimizer(optimizer)`."""
        for p in (self._toggled or {}).pop(id(_bare(optimizer)), []):
            p.requires_grad = True

    @contextmanager
    def toggled_optimizer(self, optimizer: AnyOptimizer) -> Iterator[None]:
        """Within the block only the parameters of `optimizer` require gradients."""
        self.toggle_optimizer(optimizer)
        try:
            yield
        finally:
            self.untoggle_optimizer(optimizer)

    # -- clipping ------------------------------------------------------------------------------------

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the gradients of an update; override it to do so in a way of your own, by `self.clip_gradients` or not.

        Called after `on_before_optimizer_step`, with the Trainer's arguments. Gradients that are NaN or infinite
        have been refused before, and are refused after it, too.
        """
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def clip_gradients(
        self,
        optimizer: AnyOptimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradients of the optimizer's parameters.

        Args:
            optimizer: whose parameters.
            gradient_clip_val: the largest norm, or value; default the Trainer's. With none, or 0, nothing is done.
            gradient_clip_algorithm: "norm" or "value"; default the Trainer's, else "norm".

        Raises:
            ConfigError: an argument makes no sense.
        """
        value, algorithm = options.clipping(gradient_clip_val, gradient_clip_algorithm)
        value = self.trainer.gradient_clip_val if value is None else value
        if not value:
            return
        parameters = parameters_of(optimizer)
        if (algorithm or self.trainer.gradient_clip_algorithm) == "value":
            clip_grad_value_(parameters, value)
        else:
            clip_grad_norm_(parameters, value)


def _bare(optimizer: AnyOptimizer) -> Optimizer:
    return optimizer.optimizer if isinstance(optimizer, SteppedOptimizer) else optimizer
