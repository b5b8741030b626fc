"""Logs the learning rates."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

from framework.callbacks.callback import Callback
from framework.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    from framework.optim import Optimizer
    from framework.train import Trainer, TrainModule


class LearningRateMonitor(Callback):
    """Logs each optimizer's learning rate, on the row of the update that uses it.

    Names are `lr-SGD`, with `-1`, `-2` for further optimizers of one class, and `/pg1`, `/pg2` (or
    the group's "name") where there are several parameter groups; a scheduler's own name replaces
    `lr-SGD`.

    Args:
        logging_interval: "step", "epoch", or None for each scheduler's own interval (an optimizer
            without one: "step").
        log_momentum: also log momentum (the first beta of Adam and its kin), as `lr-SGD-momentum`.
        log_weight_decay: also log weight decay, as `lr-SGD-weight_decay`.

    Raises:
        ConfigError: an unknown interval; or, when fit begins, a Trainer without a logger.
    """

    def __init__(
        self,
        logging_interval: Literal["step", "epoch"] | None = None,
        log_momentum: bool = False,
        log_weight_decay: bool = False,
    ) -> None:
        if logging_interval not in (None, "step", "epoch"):
            raise ConfigError(
                f"LearningRateMonitor(logging_interval={logging_interval!r}): expected 'step', 'epoch' or None."
                f"{did_you_mean(str(logging_interval), ['step', 'epoch'])}"
            )
        self.logging_interval = logging_interval
        self.log_momentum = log_momentum
        self.log_weight_decay = log_weight_decay
        self._watched: list[tuple[str, Optimizer, str]] = []

    def setup(self, trainer: Trainer, pl_module: TrainModule, stage: str) -> None:
        """Refuse a Trainer without a logger."""
        if stage == "fit" and not trainer.loggers:
            raise ConfigError("LearningRateMonitor has nowhere to log to: the Trainer has logger=False. Leave one out.")

    def on_train_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Find the optimizers and give each a name and an interval."""
        configs = {id(config.scheduler.optimizer): config for config in reversed(trainer.lr_scheduler_configs)}
        kinds = Counter(type(optimizer).__name__ for optimizer in trainer.optimizers)
        seen: Counter[str] = Counter()
        self._watched = []
        for optimizer in trainer.optimizers:
            config = configs.get(id(optimizer))
            kind = type(optimizer).__name__
            name = f"lr-{kind}-{seen[kind]}" if kinds[kind] > 1 and seen[kind] else f"lr-{kind}"
            seen[kind] += 1
            own = getattr(config, "name", None)
            interval = self.logging_interval or (config.interval if config is not None else "step")
            self._watched.append((own or name, optimizer, interval))

    def on_train_batch_start(self, trainer: Trainer, pl_module: TrainModule, batch: Any, batch_idx: int) -> None:
        """Log what changes by the step."""
        for name, optimizer, interval in self._watched:
            if interval == "step":
                self._log(pl_module, name, optimizer, on_step=True)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Log what changes by the epoch."""
        for name, optimizer, interval in self._watched:
            if interval == "epoch":
                self._log(pl_module, name, optimizer, on_step=False)

    def _log(self, pl_module: TrainModule, name: str, optimizer: Optimizer, on_step: bool) -> None:
        groups = optimizer.param_groups
        for number, group in enumerate(groups, 1):
            key = name if len(groups) == 1 else f"{name}/{group.get('name') or f'pg{number}'}"
            values = {key: group["lr"]}
            if self.log_momentum:
                values[f"{key}-momentum"] = group["betas"][0] if "betas" in group else group.get("momentum", 0.0)
            if self.log_weight_decay:
                values[f"{key}-weight_decay"] = group.get("weight_decay", 0.0)
            for full, value in values.items():
                pl_module.log(full, value, on_step=on_step, on_epoch=not on_step)
