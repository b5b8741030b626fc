"""What a training works with, and the small decisions that its loop takes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from framework.autodiff import Tensor
from framework.callbacks import Callback
from framework.optim import Optimizer
from framework.train import loaders
from framework.train.batches import Mover
from framework.train.checks import check_batch_labels
from framework.train.closures import ClosureStep
from framework.train.datamodule import DataModule
from framework.train.guard import Guard
from framework.train.hooks import HookList, Hooks, overridden
from framework.train.loaders import Lookahead, Source
from framework.train.manual import ManualStep, OwnStep
from framework.train.module import TrainModule
from framework.train.modulehooks import ModuleHooks
from framework.train.optimization import LRSchedulerConfig, Window
from framework.train.options import Duration, Validation
from framework.train.progress import Progress
from framework.train.results import LogPort, Results
from framework.train.rows import Rows
from framework.train.signals import Interrupted, StopSignals


@dataclass(slots=True)
class Fit:
    """Everything that the training loop works with; made by the Trainer for one `fit`."""

    module: TrainModule
    hooks: Hooks
    port: LogPort
    progress: Progress
    duration: Duration
    validation: Validation
    train: Source
    val: Sequence[Source]
    optimizers: Sequence[Optimizer]
    schedulers: Sequence[LRSchedulerConfig]
    window: Window
    guard: Guard
    clip: Callable[[Optimizer], None] | None
    """Clips the gradients before each update."""
    move: Mover
    training_step: Callable[..., Any]
    compiled: Callable[..., Any] | None = field(init=False, default=None)
    """`training_step` and backward as one compiled call, where that is wanted."""
    whole_step: Callable[..., tuple[Any, Tensor | None, bool]] | None = field(init=False, default=None)
    """Does a whole batch, where the module or the optimizer decides what happens in it."""
    manual: ManualStep | None = field(init=False, default=None)
    """The same, under manual optimization."""
    own_step: Callable[..., bool] | None = field(init=False, default=None)
    """The module's own `optimizer_step`, where it has one."""
    backward: Callable[[Tensor, Tensor | None], None] = field(init=False, default=Tensor.backward)
    """Computes the gradients of a loss, weighted where more than one batch makes an update."""
    is_updated: bool = field(init=False, default=False)
    """Whether the update of this batch was made by the compiled step itself."""
    updates: int = field(init=False, default=1)
    """Updates of the latest batch that had one."""
    results: Results
    val_results: Results
    rows: Rows
    stop: StopSignals
    log_every: int
    wants_stop: Callable[[], bool]
    """Whether somebody has set `trainer.should_stop`."""
    nothing_to_do: Callable[[], str]
    """Why there is nothing to train, in words."""
    validate: Callable[[], None]
    """Runs a validation and writes its row."""
    check_interval: int | None
    """After how many batches to validate; None is at the end of the epoch."""
    callbacks: Sequence[Callback]
    datamodule: DataModule | None
    classes_to_check: int | None
    """How many classes the first labels of each epoch are compared with; None is no need."""
    saved: dict[str, Any] | None = None
    """The checkpoint to go on from, until it is in place."""
    num_batches: int | float = math.inf
    """Batches of this epoch, as far as that is known."""
    batches: Iterable[Any] = ()
    """The iteration over this epoch's batches."""
    optimizer: Optimizer = field(init=False)
    """The first optimizer; the only one, but for manual optimization."""
    step_schedulers: list[LRSchedulerConfig] = field(default_factory=list)
    epoch_schedulers: list[LRSchedulerConfig] = field(default_factory=list)
    metric_schedulers: list[LRSchedulerConfig] = field(default_factory=list)
    validates_within: bool = False
    """Whether a validation may be due at other batches than an epoch's last."""

    def __post_init__(self) -> None:
        self.use_optimizers(self.optimizers, self.schedulers)
        if overridden(self.module, ModuleHooks.backward) is not None:
            self.backward = self._own_backward
        self.num_batches = self.train.count
        by_batches = self.check_interval is not None or self.validation.every_n_epochs is None
        self.validates_within = by_batches and bool(self.val)

    def use_optimizers(self, optimizers: Sequence[Optimizer], schedulers: Sequence[LRSchedulerConfig]) -> None:
        """Train with these from now on."""
        self.optimizers, self.schedulers, self.optimizer = optimizers, schedulers, optimizers[0]
        self.step_schedulers, self.epoch_schedulers, self.metric_schedulers = [], [], []
        self.manual, self.whole_step, self.own_step = None, None, None
        own: Any = overridden(self.module, ModuleHooks.lr_scheduler_step)
        if not self.module.automatic_optimization:
            self.manual = self.whole_step = ManualStep(self)
            return  # the module lets its schedulers step
        if self.optimizer.needs_closure:
            self.whole_step = ClosureStep(self)
        if overridden(self.module, ModuleHooks.optimizer_step) is not None:
            self.own_step = OwnStep(self)
        for config in schedulers:
            config.own_step = own
            if config.interval == "step":
                self.step_schedulers.append(config)
            elif config.needs_metric:
                self.metric_schedulers.append(config)
            else:
                self.epoch_schedulers.append(config)

    def _own_backward(self, loss: Tensor, weight: Tensor | None) -> None:
        """The module's own `backward`."""
        self.module.backward(loss if weight is None else loss * weight)

    def step_schedules(self, step: int) -> None:
        """Let the schedulers that count updates step after update number `step`."""
        for config in self.step_schedulers:
            if config.needs_metric:
                config.step_with(step, self.rows.callback_metrics(self.results))
            else:
                config.step(step)

    def fire(self, hooks: HookList, place: str = "") -> None:
        """Call hooks that take no more arguments."""
        self.port.place = place or hooks.name
        for hook in hooks:
            hook()

    # -- where to stop -------------------------------------------------------------------------------

    def stops(self) -> bool:
        """Whether training is to end at this batch."""
        progress, duration = self.progress, self.duration
        if progress.global_step >= duration.max_steps != -1:
            return True
        if not self.wants_stop():
            return False
        epochs = progress.epoch + progress.exhausted
        return epochs >= duration.min_epochs and progress.global_step >= duration.min_steps

    def goes_on(self) -> bool:
        """Whether there is an epoch to begin, or one to end.

        Raises:
            Interrupted: there is, and a signal has come.
        """
        if not self.progress.unfinished and (
            self.stops() or self.progress.epoch >= self.duration.max_epochs != -1 or self.train.count == 0
        ):
            return False
        if self.stop.received:
            raise Interrupted(self.stop.received)
        return True

    def at_boundary(self) -> bool:
        """Do what is due between two batches; whether no further batch is to follow.

        Raises:
            Interrupted: a signal has come.
        """
        progress = self.progress
        if self.stop.received:
            raise Interrupted(self.stop.received)
        if progress.batch == 0:
            return self.stops()
        stops = self.stops()
        if stops or progress.exhausted:
            self.write_due_row(always=True)
        elif not self.validates_within:
            return False
        if self.validation_is_due(stops):
            self.guard.read()
            self.validate()
            stops = self.stops()
        return stops or progress.exhausted

    def validation_is_due(self, stops: bool) -> bool:
        """Whether to validate after this batch."""
        progress, when = self.progress, self.validation
        if not self.val or progress.validated_at == progress.batch:
            return False
        if stops:
            return True
        if when.every_n_epochs is None:
            return progress.total_batches % when.check_interval == 0
        if (progress.epoch + 1) % when.every_n_epochs:
            return False
        return progress.exhausted if self.check_interval is None else progress.batch % self.check_interval == 0

    # -- around a step -------------------------------------------------------------------------------

    def open_batches(self) -> Iterable[Any]:
        """The batches that are left of this epoch."""
        source, done = self.train, self.progress.batch
        self.num_batches = source.count
        if math.isinf(source.length):
            self.batches = Lookahead(source, self._found_last)
        else:
            self.batches = source.batches(self.move.keeps_arrays)
        if done and not hasattr(source.loader, "load_state_dict"):
            if not isinstance(source.loader, list | tuple):
                warnings.warn(
                    f"{type(source.loader).__name__} has no state_dict: its first {done} batches are skipped, which "
                    "continues the run exactly only if they are the same as before",
                    UserWarning,
                    stacklevel=4,
                )
            for _ in zip(range(done), self.batches):
                pass
        return self.batches if self.classes_to_check is None else self._with_labels_checked(self.classes_to_check)

    def _with_labels_checked(self, classes: int) -> Iterator[Any]:
        """The batches; the labels of the first are looked at."""
        batches = iter(self.batches)
        try:
            for batch in batches:
                check_batch_labels(batch, classes)
                yield batch
                del batch
                break
            yield from batches
        finally:
            loaders.close(batches)

    def _found_last(self) -> None:
        self.num_batches = self.progress.batch + 1

    def end_step(self, is_last: bool) -> None:
        """The batch is done."""
        progress = self.progress
        progress.in_step = False
        progress.batch += 1
        progress.total_batches += 1
        if is_last:
            self._exhaust()

    def skip_rest(self) -> None:
        """No further batch of this epoch is used."""
        self.progress.in_step = False
        self.window.abandon()
        self._exhaust()
        self.at_boundary()

    def _exhaust(self) -> None:
        self.progress.exhausted = True
        for config in self.epoch_schedulers:
            config.step(self.progress.epoch + 1)

    def outputs(self, output: Any, loss: Tensor | None) -> dict[str, Any]:
        """What hooks get as a step's outputs: a dict with the loss, detached."""
        if output is None or (loss is None and self.manual is None):
            return {}
        if isinstance(output, Tensor):
            return {"loss": output.detach() if loss is None else loss.detach()}
        return {key: value.detach() if isinstance(value, Tensor) else value for key, value in output.items()}

    # -- rows ----------------------------------------------------------------------------------------

    def write_due_row(self, always: bool = False) -> None:
        """Write what was logged by step, if it is this step's turn (or `always`) and not done yet."""
        progress, every = self.progress, self.log_every
        step = progress.global_step
        if not every or progress.row_at == step:
            return
        if always or step % every < self.updates or step == self.updates or progress.exhausted:
            self.guard.read()
            self.rows.write(self.results.step_row())
            progress.row_at = step

    def write_epoch_row(self) -> None:
        """Write what was logged by epoch; begin the next epoch's values if this one is over."""
        self.guard.read()
        self.rows.write(self.rows.take(self.results.epoch_values()))
        if self.progress.exhausted:
            self.results.reset()
