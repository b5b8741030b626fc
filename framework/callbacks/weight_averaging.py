"""Stochastic weight averaging: the mean of the weights at the ends of the last epochs."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from framework.autodiff import Tensor
from framework.callbacks.averaging import WeightAveraging
from framework.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from framework.train import Trainer, TrainModule

_STRATEGIES = ("cos", "linear")


class StochasticWeightAveraging(WeightAveraging):
    """Averages the weights over the last epochs, which run at a rate of their own.

    From the epoch `swa_epoch_start` on the learning rate goes from where it is to `swa_lrs`, in
    `annealing_epochs` epochs, and other schedules rest; at the end of each of these epochs the weights
    are taken into the mean. Validations and checkpoints within are of the mean, and it is in the module
    when training has ended, with BatchNorm's statistics measured anew in one pass over the training data;
    `ModelCheckpoint(save_last=True)` saves that, too.

    (Izmailov and others 2018, "Averaging Weights Leads to Wider Optima and Better Generalization".)

    Args:
        swa_lrs: the learning rate to go to; a list for the groups of the optimizer.
        swa_epoch_start: the n-th epoch if an int; a part of `max_epochs` if a float.
        annealing_epochs: epochs on the way to it; 0 is at once.
        annealing_strategy: "cos" or "linear".
        avg_fn: `avg_fn(average, weights, num_averaged)`, the new mean of a parameter; by default all count equally.
        device: where the mean is kept; None is where the weights are.

    Raises:
        ConfigError: an argument makes no sense; at the start, `max_epochs` is needed and not set.

    Examples:
        >>> swa = StochasticWeightAveraging(swa_lrs=0.05, annealing_epochs=2)
        >>> [round(swa.rate(0.1, 0.05, epoch), 4) for epoch in (0, 1, 2, 3)]
        [0.1, 0.075, 0.05, 0.05]
    """

    def __init__(
        self,
        swa_lrs: float | list[float],
        swa_epoch_start: int | float = 0.8,
        annealing_epochs: int = 10,
        annealing_strategy: Literal["cos", "linear"] = "cos",
        avg_fn: Callable[[Tensor, Tensor, int], Tensor] | None = None,
        device: str | None = None,
    ) -> None:
        super().__init__(use_buffers=True, device=device)
        name = "StochasticWeightAveraging"
        rates = swa_lrs if isinstance(swa_lrs, list | tuple) else [swa_lrs]
        if not rates or any(isinstance(r, bool) or not isinstance(r, int | float) or not r > 0 for r in rates):
            raise ConfigError(f"{name}(swa_lrs={swa_lrs!r}): expected a number above 0, or a list of them")
        is_part = isinstance(swa_epoch_start, float)
        if isinstance(swa_epoch_start, bool) or not (0 <= swa_epoch_start <= 1 if is_part else swa_epoch_start >= 1):
            raise ConfigError(
                f"{name}(swa_epoch_start={swa_epoch_start!r}): expected the n-th epoch (an int from 1 on) or a part of "
                "max_epochs (a float from 0.0 to 1.0)"
            )
        if annealing_strategy not in _STRATEGIES:
            hint = did_you_mean(str(annealing_strategy), _STRATEGIES)
            raise ConfigError(f"{name}(annealing_strategy={annealing_strategy!r}): expected 'cos' or 'linear'.{hint}")
        if not isinstance(annealing_epochs, int) or annealing_epochs < 0:
            raise ConfigError(f"{name}(annealing_epochs={annealing_epochs!r}): expected an int of at least 0")
        self.swa_lrs = [float(r) for r in rates]
        self.swa_epoch_start = swa_epoch_start
        self.annealing_epochs = annealing_epochs
        self.annealing_strategy = annealing_strategy
        self.avg_fn = avg_fn
        self._first = 0
        """Index of the first epoch that counts."""
        self._before: list[float] = []
        """The rates that it began with."""
        self._taken = -1
        """The epoch that was taken in last."""

    def rate(self, before: float, after: float, epochs: int) -> float:
        """The learning rate so many epochs after the first."""
        part = min(1.0, epochs / self.annealing_epochs) if self.annealing_epochs else 1.0
        if self.annealing_strategy == "cos":
            part = (1.0 - math.cos(math.pi * part)) / 2.0
        return after * part + before * (1.0 - part)

    def mean(self, average: Tensor, current: Tensor) -> Tensor:
        """The new mean of one parameter."""
        if self.avg_fn is not None:
            return self.avg_fn(average, current, self.n_averaged)
        return average + (current - average) / (self.n_averaged + 1)

    # -- hooks ---------------------------------------------------------------------------------------

    def on_fit_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Find the first epoch that counts."""
        super().on_fit_start(trainer, pl_module)
        start = self.swa_epoch_start
        if isinstance(start, float):
            if trainer.max_epochs == -1:
                raise ConfigError(
                    f"StochasticWeightAveraging(swa_epoch_start={start}) is a part of max_epochs, which has no limit: "
                    "set max_epochs, or give the epoch as an int"
                )
            start = int(trainer.max_epochs * start)
        self._first = max(start - 1, 0)
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        if len(self.swa_lrs) not in (1, len(groups)):
            raise ConfigError(
                f"StochasticWeightAveraging(swa_lrs={self.swa_lrs}): {len(self.swa_lrs)} rates for the "
                f"{len(groups)} groups of the optimizer"
            )

    def _forget(self) -> None:
        super()._forget()
        self._before, self._taken = [], -1

    def on_train_epoch_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Set the rates of this epoch."""
        if trainer.current_epoch < self._first:
            return
        groups = [group for optimizer in trainer.optimizers for group in optimizer.param_groups]
        if not self._before:
            self._before = [float(group["lr"]) for group in groups]
        for config in trainer.lr_scheduler_configs:
            config.pause()
        rates: Sequence[float] = self.swa_lrs * (len(groups) if len(self.swa_lrs) == 1 else 1)
        for group, before, after in zip(groups, self._before, rates):
            group["lr"] = self.rate(before, after, trainer.current_epoch - self._first)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: TrainModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Take the weights in after the last batch of an epoch, before it is validated."""
        if trainer.current_epoch >= self._first and trainer.is_last_batch:
            self._take(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Take the weights in where the epoch was cut short by the module."""
        if trainer.current_epoch >= self._first and trainer.is_last_batch:
            self._take(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Leave the mean in the module, with BatchNorm's statistics of its own."""
        super().on_train_end(trainer, pl_module)
        if self.n_averaged and trainer.refresh_batch_norm():
            measured = {name for name, _ in pl_module.named_buffers()} & self._average.keys()
            averaged = self._averaged(pl_module)  # what is saved from here on has the new statistics too
            self._average |= {name: self._copied(averaged[name]) for name in measured}

    def _take(self, trainer: Trainer, pl_module: TrainModule) -> None:
        if self._taken != trainer.current_epoch:
            self._taken = trainer.current_epoch
            self.update(pl_module)

    # -- state ---------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The counts, and the rates that it began with."""
        return {**super().state_dict(), "rates_before": list(self._before), "taken": self._taken}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`."""
        super().load_state_dict(state)
        self._before, self._taken = list(state["rates_before"]), state["taken"]
