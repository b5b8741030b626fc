"""What `configure_optimizers` returned, and the accumulation of gradients over several batches."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from framework.autodiff import Tensor
from framework.errors import ConfigError, did_you_mean
from framework.nn import Module
from framework.optim import Optimizer
from framework.train.batches import batch_size_of
from framework.train.gradients import scale_gradients
from framework.train.precision import LossScaler

_FORMS = 'Return an optimizer, {"optimizer": optimizer, "lr_scheduler": scheduler}, or ([optimizer], [scheduler])'


_NEVER = 2**62
"""A frequency that no count of updates reaches."""


@dataclass(slots=True)
class LRSchedulerConfig:
    """A learning-rate scheduler and when it steps.

    Attributes:
        scheduler: has `step()`; or `step(metric)`, where its class says `needs_metric = True`.
        interval: "epoch" or "step", a step being an optimizer update.
        frequency: every so many of them.
        monitor: the metric for a scheduler that needs one.
        strict: whether it is an error if nobody has logged that metric; else the step is left out.
        name: for the LearningRateMonitor.
        reduce_on_plateau: whether each step takes the metric; default as the scheduler's class says.
        own_step: the module's `lr_scheduler_step`, where it defines one.
    """

    scheduler: Any
    interval: str = "epoch"
    frequency: int = 1
    monitor: str | None = None
    name: str | None = None
    strict: bool = True
    reduce_on_plateau: bool | None = None
    own_step: Callable[[Any, Any], None] | None = None

    @property
    def needs_metric(self) -> bool:
        """Whether each step takes the value of `monitor`."""
        if self.reduce_on_plateau is not None:
            return self.reduce_on_plateau
        return bool(getattr(self.scheduler, "needs_metric", False))

    def pause(self) -> None:
        """Let the scheduler rest for the remainder of the fit."""
        self.frequency = _NEVER

    def step(self, count: int) -> None:
        """Let the scheduler step, if it is its turn after `count` updates or epochs."""
        if count % self.frequency == 0:
            if self.own_step is not None:
                self.own_step(self.scheduler, None)
            else:
                self.scheduler.step()

    def step_with(self, count: int, metrics: Mapping[str, float]) -> None:
        """The same for a scheduler that needs a metric.

        Raises:
            ConfigError: nobody has logged it.
        """
        if count % self.frequency:
            return
        if self.monitor is None or self.monitor not in metrics:
            if not self.strict:
                return
            raise ConfigError(
                f"{type(self.scheduler).__name__} watches {self.monitor!r}, which nobody logs; logged are "
                f"{', '.join(map(repr, sorted(metrics))) or 'none'}.{did_you_mean(str(self.monitor), metrics)}"
            )
        value = metrics[self.monitor]
        if self.own_step is not None:
            self.own_step(self.scheduler, value)
        else:
            self.scheduler.step(value)


_SCHEDULER_KEYS = ("scheduler", "interval", "frequency", "monitor", "name", "strict", "reduce_on_plateau")


def read_optimizers(returned: Any, owner: str) -> tuple[Optimizer, list[LRSchedulerConfig]]:
    """The optimizer and the schedulers in what `configure_optimizers` returned.

    Args:
        returned: what it returned.
        owner: the module's class, for messages.

    Raises:
        ConfigError: it is none of the forms that are understood, or there are several optimizers.
    """
    optimizers, configs = read_several(returned, owner)
    if len(optimizers) > 1:
        raise ConfigError(
            f"{owner}.configure_optimizers() returned {len(optimizers)} optimizers; one is used, with parameter groups "
            "where needed. For several set self.automatic_optimization = False, and in training_step: "
            "opt1, opt2 = self.optimizers()"
        )
    return optimizers[0], configs


def read_several(returned: Any, owner: str) -> tuple[list[Optimizer], list[LRSchedulerConfig]]:
    """All optimizers and schedulers in what `configure_optimizers` returned.

    Raises:
        ConfigError: it is none of the forms that are understood.
    """
    where = f"{owner}.configure_optimizers()"
    optimizers, schedulers = _parts(returned, where)
    for optimizer in optimizers or [None]:
        if not isinstance(optimizer, Optimizer):
            got = type(optimizer).__name__ if optimizers else "nothing"
            raise ConfigError(f"{where} returned {got} where an optimizer of fw.optim is expected. {_FORMS}")
    configs = []
    for value, monitor in schedulers:
        config = _scheduler(value, where)
        config.monitor = config.monitor or monitor
        if config.needs_metric and config.monitor is None:
            raise ConfigError(
                f"{where}: {type(config.scheduler).__name__} watches a metric; say which: "
                '{"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val_loss"}}'
            )
        of = getattr(config.scheduler, "optimizer", None)
        if of is not None and all(of is not optimizer for optimizer in optimizers):
            raise ConfigError(f"{where}: the scheduler {type(config.scheduler).__name__} belongs to another optimizer")
        configs.append(config)
    return optimizers, configs


_Parts = tuple[list[Any], list[tuple[Any, str | None]]]


def _parts(returned: Any, where: str) -> _Parts:
    """The optimizers; and the schedulers, each with the metric that was named beside it."""
    if returned is None:
        raise ConfigError(f"{where} returned None; is a `return` missing? {_FORMS}")
    if isinstance(returned, Mapping):
        return _parts_of_dict(returned, where)
    if isinstance(returned, list | tuple):
        lists = [isinstance(item, list | tuple) for item in returned]
        if len(returned) == 2 and all(lists):
            return list(returned[0]), [(scheduler, None) for scheduler in returned[1]]
        if returned and all(isinstance(item, Mapping) for item in returned):
            pairs = [_parts_of_dict(item, where) for item in returned]
            return [o for found, _ in pairs for o in found], [s for _, found in pairs for s in found]
        return list(returned), []
    return [returned], []


def _parts_of_dict(returned: Mapping[str, Any], where: str) -> _Parts:
    known = ("optimizer", "lr_scheduler", "monitor")
    for key in returned:
        if key not in known:
            raise ConfigError(f"{where} returned the unknown key {key!r}.{did_you_mean(str(key), known)} {_FORMS}")
    schedulers = returned.get("lr_scheduler")
    several = schedulers if isinstance(schedulers, list | tuple) else [] if schedulers is None else [schedulers]
    return [returned.get("optimizer")], [(scheduler, returned.get("monitor")) for scheduler in several]


def _scheduler(value: Any, where: str) -> LRSchedulerConfig:
    if isinstance(value, LRSchedulerConfig):
        return value
    if not isinstance(value, Mapping):
        value = {"scheduler": value}
    for key in value:
        if key not in _SCHEDULER_KEYS:
            raise ConfigError(f"{where}: unknown key {key!r} of a scheduler.{did_you_mean(str(key), _SCHEDULER_KEYS)}")
    if not hasattr(value.get("scheduler"), "step"):
        raise ConfigError(f"{where}: a scheduler has a method step(), got {value.get('scheduler')!r}")
    config = LRSchedulerConfig(**value)
    if config.interval not in ("epoch", "step"):
        hint = did_you_mean(str(config.interval), ["epoch", "step"])
        raise ConfigError(f"{where}: interval={config.interval!r} of a scheduler must be 'epoch' or 'step'.{hint}")
    if not isinstance(config.frequency, int) or config.frequency < 1:
        raise ConfigError(f"{where}: frequency={config.frequency!r} of a scheduler must be a whole number from 1 on")
    return config


class Window:
    """The batches whose gradients make one update.

    Gradients of the micro-batches are weighted by their lengths, so that an update is the one that a
    single big batch would give, whatever the micro-batches' sizes and however few are in the last
    window of an epoch. The loss is taken for a mean over the batch.

    Args:
        size: batches in a whole window.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self.done = 0
        """Batches of the open window that are done."""
        self.used = 0
        """Those of them that had a loss."""
        self.first = 0
        """The length of the first batch that had one."""
        self.samples = 0
        """The lengths of all that had one."""
        self.scaler: LossScaler | None = None
        """Scales the losses, where that is wanted."""

    def share(self, loss: Tensor, batch: Any) -> Any:
        """The gradient to start from: the weight of this batch, if all in the window had the first one's length."""
        weight = None if self.size == 1 else self.weight(batch)
        self.count(batch)
        share = None if weight is None else loss.detach() * 0 + weight
        return share if self.scaler is None else self.scaler.start(loss, share)

    def weight(self, batch: Any) -> float:
        """The weight of this batch, if all in the window had the first one's length."""
        length = batch_size_of(batch) or 1
        return length / (self.size * (self.first if self.used else length))

    def count(self, batch: Any) -> None:
        """Count a batch that had a loss."""
        self.used += 1
        if self.size == 1:
            return
        length = batch_size_of(batch) or 1
        if self.used == 1:
            self.first = length
        self.samples += length

    def is_filled_by(self, batch: Any) -> bool:
        """Whether this batch makes the window whole, with a loss of each and all of one length on average."""
        if self.done + 1 != self.size or self.used != self.done:
            return False
        if self.size == 1:
            return True
        length = batch_size_of(batch) or 1
        return self.samples + length == self.size * (self.first or length)

    def closes(self, is_last: bool) -> bool:
        """Count a batch; whether an update follows."""
        self.done += 1
        if not is_last and self.done < self.size:
            return False
        self.done = 0
        used, self.used = self.used, 0
        return used > 0

    def correct(self, optimizer: Optimizer) -> None:
        """Bring the summed gradients of a window that was closed to what one big batch would have given."""
        if self.scaler is not None:
            self.scaler.unscale(optimizer)
        expected = self.size * self.first
        if self.samples != expected:
            scale_gradients(optimizer, expected / self.samples)
        self.first = self.samples = 0

    def abandon(self) -> None:
        """Forget a window that will have no update."""
        self.done = self.used = self.first = self.samples = 0

    def state_dict(self, module: Module) -> dict[str, Any]:
        """The counts, and the gradients if the window is open."""
        gradients = {name: p.grad for name, p in module.named_parameters() if p.grad is not None} if self.done else {}
        return {
            "done": self.done,
            "used": self.used,
            "first": self.first,
            "samples": self.samples,
            "gradients": gradients,
        }

    def load_state_dict(self, state: Mapping[str, Any], module: Module) -> None:
        """Continue within a window."""
        self.done, self.used, self.first, self.samples = (state[k] for k in ("done", "used", "first", "samples"))
        for name, p in module.named_parameters():
            p.grad = state["gradients"].get(name)


def loss_of(output: Any, owner: str) -> Tensor | None:
    """The loss in what `training_step` returned; None where the batch is to be skipped.

    Raises:
        ConfigError: there is none.
    """
    if isinstance(output, Tensor) and output.requires_grad and not output._data.shape:
        return output
    where = f"{owner}.training_step()"
    if output is None:
        return None
    if isinstance(output, Mapping):
        if "loss" not in output:
            raise ConfigError(f"{where} returned a dict without a 'loss'; its keys are {', '.join(map(repr, output))}")
        output = output["loss"]
    if not isinstance(output, Tensor):
        hint = " Leave out .item() or float()." if isinstance(output, int | float) else ""
        raise ConfigError(
            f"{where} must return the loss as a Tensor, a dict with it under 'loss', or None to skip the batch; "
            f"got a {type(output).__name__}.{hint}"
        )
    if output.size != 1:
        raise ConfigError(f"{where} returned a loss of shape {output.shape}; it must be one number: use .mean(), say")
    if not output.requires_grad:
        raise ConfigError(
            f"{where} returned a loss that no parameter's gradient can come from: it was made under no_grad, by "
            ".detach(), or of parameters that are all frozen"
        )
    return output.reshape(()) if output.shape else output
