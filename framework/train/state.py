"""What a Trainer knows and shows: its state, for callbacks, loggers and modules to read."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from framework.autodiff import versions
from framework.callbacks import (
    Callback,
    EarlyStopping,
    GradientAccumulationScheduler,
    ModelCheckpoint,
    TQDMProgressBar,
)
from framework.errors import ConfigError
from framework.loggers import Logger
from framework.optim import Optimizer
from framework.profilers import Profiler
from framework.strategies import SingleDevice
from framework.train.background import Background
from framework.train.datamodule import DataModule
from framework.train.fitstate import Fit
from framework.train.loaders import Source, total
from framework.train.module import TrainModule
from framework.train.optimization import LRSchedulerConfig
from framework.train.options import Duration, Limits, Validation
from framework.train.progress import Progress
from framework.train.records import Records
from framework.train.results import Results
from framework.train.rows import Rows


@dataclass(frozen=True, slots=True)
class RunState:
    """What a Trainer does, or did last.

    Attributes:
        fn: "fit", "validate", "test" or "predict"; "" before the first.
        status: "initializing", "running", "finished" or "interrupted".
    """

    fn: str = ""
    status: str = "initializing"

    @property
    def finished(self) -> bool:
        """Whether it has ended well."""
        return self.status == "finished"


class TrainerState:
    """The part of a Trainer that others read. Only the Trainer writes it, but for what says it may be set."""

    fast_dev_run: int
    duration: Duration
    limits: Limits
    validation: Validation
    log_every_n_steps: int
    gradient_clip_val: float | None
    compile: bool
    gradient_clip_algorithm: str | None
    default_root_dir: str
    _saves: bool
    callbacks: list[Callback]
    profiler: Profiler
    """Is told of the run's actions; `with trainer.profiler.profile("mine"):` adds one."""
    detect_anomaly: bool
    loggers: list[Logger]
    strategy: SingleDevice

    def __init__(self) -> None:
        self.progress = Progress()
        """Where the training stands."""
        self.rows = Rows(self.progress)
        self.records = Records(self.progress, self.rows)
        """The run's folder, loggers and summary."""
        self.background = Background()
        """What is written beside the training; `finish` waits for it."""
        self.module: TrainModule | None = None
        self.datamodule: DataModule | None = None
        self.run_name: str | None = None
        """May be set: the name of the run's folder; by default the module's class in snake case."""
        self.config_text: str | None = None
        """May be set: what `config.yaml` in the run folder is to say."""
        self.config_tree: Mapping[str, Any] | None = None
        """May be set: the same as plain data, for the loggers."""
        self.resume_source: str | None = None
        """The checkpoint that this fit goes on from."""
        self._should_stop = False
        self.has_begun = False
        """Whether a first batch has been used; what is raised before that is a refusal."""
        self.sanity_checking = False
        """Whether the trial validation is running."""
        self.ckpt_path: str | None = None
        """The checkpoint that the latest call was given, or found."""
        self._state = RunState()
        self._accumulates = 1
        self._stage = ""
        self._evaluating = ""
        self._fit: Fit | None = None
        self._results: Results | None = None
        self.sources: dict[str, Sequence[Source]] = {}
        """The loaders in use, by kind, and how many of their batches are used."""

    # -- where it stands -----------------------------------------------------------------------------

    @property
    def current_epoch(self) -> int:
        """Index of the epoch under way."""
        counters = self._counters_of_the_call()
        return self.progress.epoch if counters is None else counters[0]

    @property
    def global_step(self) -> int:
        """Optimizer updates done."""
        counters = self._counters_of_the_call()
        return self.progress.global_step if counters is None else counters[1]

    def _counters_of_the_call(self) -> Any:
        """Epoch, updates and batch as numbers of the call, while `compile` records a step; else None."""
        return None if self._fit is None else self._fit.port.counters

    @property
    def is_last_batch(self) -> bool:
        """Whether the batch at hand is the last one of its epoch."""
        progress = self.progress
        if progress.exhausted or self._fit is None:
            return progress.exhausted
        if (counters := self._counters_of_the_call()) is not None:
            return bool(counters[2] + 1 >= self._fit.num_batches)
        return progress.batch + progress.in_step >= self._fit.num_batches

    @property
    def should_stop(self) -> bool:
        """Whether the training is to end after the current batch. May be set."""
        return self._should_stop

    @should_stop.setter
    def should_stop(self, value: bool) -> None:
        versions.told(self, "should_stop")
        self._should_stop = value

    @property
    def state(self) -> RunState:
        """What it does, or did last, and how that stands."""
        return self._state

    @property
    def interrupted(self) -> bool:
        """Whether the latest fit, validation, test or prediction ended by a signal or an exception."""
        return self._state.status == "interrupted"

    @property
    def fitting(self) -> bool:
        """Whether a fit is under way, whatever part of it."""
        return self._stage == "fit"

    @property
    def training(self) -> bool:
        """Whether a fit is under way, and no validation."""
        return self._stage == "fit" and not self._evaluating

    @property
    def validating(self) -> bool:
        """Whether a validation is under way, in a fit or by itself, but no sanity check."""
        return self._evaluating == "validation" and not self.sanity_checking

    @property
    def testing(self) -> bool:
        """Whether a test is under way."""
        return self._evaluating == "test"

    @property
    def predicting(self) -> bool:
        """Whether a prediction is under way."""
        return self._evaluating == "predict"

    @property
    def evaluating(self) -> bool:
        """Whether a validation or a test is under way."""
        return self._evaluating in ("validation", "test")

    # -- limits --------------------------------------------------------------------------------------

    @property
    def max_epochs(self) -> int:
        """Epochs to train for; -1 is no limit. May be set."""
        return self.duration.max_epochs

    @max_epochs.setter
    def max_epochs(self, value: int) -> None:
        self.duration.max_epochs = value

    @property
    def max_steps(self) -> int:
        """Updates to make; -1 is no limit. May be set."""
        return self.duration.max_steps

    @max_steps.setter
    def max_steps(self, value: int) -> None:
        self.duration.max_steps = value

    @property
    def min_epochs(self) -> int:
        """Epochs before which `should_stop` is ignored."""
        return self.duration.min_epochs

    @property
    def min_steps(self) -> int:
        """Updates before which `should_stop` is ignored."""
        return self.duration.min_steps

    @property
    def accumulate_grad_batches(self) -> int:
        """Batches that make one update. May be set at the start of an epoch."""
        return self._accumulates

    @accumulate_grad_batches.setter
    def accumulate_grad_batches(self, value: int) -> None:
        self._accumulates = value
        if self._fit is not None:
            self._fit.window.size = value

    @property
    def val_check_interval(self) -> int | float:
        """Validate after so many batches (int), or each such part of an epoch (float)."""
        return self.validation.check_interval

    @property
    def check_val_every_n_epoch(self) -> int | None:
        """Validate in every n-th epoch."""
        return self.validation.every_n_epochs

    def _count(self, kind: str) -> int | float:
        return total(self.sources.get(kind, ()))

    @property
    def num_training_batches(self) -> int | float:
        """Training batches of an epoch; infinite where that is not known."""
        return self._count("train")

    @property
    def num_val_batches(self) -> int | float:
        """Batches of a validation, of all loaders together."""
        if self.sanity_checking:
            return self.num_sanity_val_batches
        return self._count("val")

    @property
    def num_sanity_val_batches(self) -> int | float:
        """Batches of the trial validation, of all loaders together."""
        return sum(min(source.count, self.validation.sanity_steps) for source in self.sources.get("val", ()))

    @property
    def num_test_batches(self) -> int | float:
        """Batches of a test, of all loaders together."""
        return self._count("test")

    @property
    def num_predict_batches(self) -> int | float:
        """Batches of a prediction, of all loaders together."""
        return self._count("predict")

    @property
    def updates_per_epoch(self) -> int | float:
        """Optimizer updates of an epoch; infinite where that is not known.

        Raises:
            ConfigError: the training data are not known yet.
        """
        if "train" not in self.sources:
            raise ConfigError("the number of updates is known within trainer.fit, from configure_optimizers on")
        batches = self.num_training_batches
        return batches if math.isinf(batches) else math.ceil(batches / self.accumulate_grad_batches)

    @property
    def estimated_stepping_batches(self) -> int | float:
        """Optimizer updates of the whole fit; infinite where there is no end.

        Raises:
            ConfigError: the training data are not known yet.
        """
        updates = self.updates_per_epoch
        whole = math.inf if self.max_epochs == -1 else updates * self.max_epochs
        schedules = [c for c in self.callbacks if isinstance(c, GradientAccumulationScheduler)]
        if schedules and not math.isinf(whole):
            batches = self.num_training_batches
            whole = sum(math.ceil(batches / schedules[0].factor_at(epoch)) for epoch in range(self.max_epochs))
        return whole if self.max_steps == -1 else min(whole, self.max_steps)

    # -- metrics -------------------------------------------------------------------------------------

    @property
    def callback_metrics(self) -> dict[str, float]:
        """Every logged metric's latest value; reading it waits for the device."""
        versions.refuse("trainer.callback_metrics is read, which changes from call to call")
        return self.rows.callback_metrics(None if self._fit is None else self._fit.results)

    @property
    def logged_metrics(self) -> dict[str, float]:
        """The values that loggers got last."""
        versions.refuse("trainer.logged_metrics is read, which changes from call to call")
        return dict(self.rows.logged)

    @property
    def progress_bar_metrics(self) -> dict[str, float]:
        """The metrics logged with `prog_bar=True`; reading it waits for the device."""
        versions.refuse("trainer.progress_bar_metrics is read, which changes from call to call")
        return self.rows.bar_metrics((None if self._fit is None else self._fit.results, self._results))

    # -- parts ---------------------------------------------------------------------------------------

    @property
    def lightning_module(self) -> TrainModule | None:
        """Lightning's name of `module`."""
        return self.module

    @property
    def optimizers(self) -> list[Optimizer]:
        """The optimizers; none before they are made."""
        return [] if self._fit is None else list(self._fit.optimizers)

    @property
    def lr_scheduler_configs(self) -> list[LRSchedulerConfig]:
        """The learning-rate schedulers and when they step."""
        return [] if self._fit is None else list(self._fit.schedulers)

    @property
    def train_dataloader(self) -> Any:
        """The training loader."""
        sources = self.sources.get("train")
        return sources[0].loader if sources else None

    @property
    def val_dataloaders(self) -> list[Any]:
        """The validation loaders."""
        return [source.loader for source in self.sources.get("val", ())]

    @property
    def test_dataloaders(self) -> list[Any]:
        """The test loaders."""
        return [source.loader for source in self.sources.get("test", ())]

    @property
    def predict_dataloaders(self) -> list[Any]:
        """The prediction loaders."""
        return [source.loader for source in self.sources.get("predict", ())]

    @property
    def logger(self) -> Logger | None:
        """The first logger."""
        return self.loggers[0] if self.loggers else None

    @property
    def log_dir(self) -> str | None:
        """The run's folder; None before training begins, and in a `fast_dev_run`."""
        return None if self.records.run is None else str(self.records.run.path)

    @property
    def checkpoint_callbacks(self) -> list[ModelCheckpoint]:
        """The callbacks that save checkpoints."""
        return [callback for callback in self.callbacks if isinstance(callback, ModelCheckpoint)]

    @property
    def checkpoint_callback(self) -> ModelCheckpoint | None:
        """The first callback that saves checkpoints."""
        return next(iter(self.checkpoint_callbacks), None)

    @property
    def progress_bar_callback(self) -> TQDMProgressBar | None:
        """The callback that shows the progress."""
        return next((callback for callback in self.callbacks if isinstance(callback, TQDMProgressBar)), None)

    @property
    def early_stopping_callbacks(self) -> list[EarlyStopping]:
        """The callbacks that stop the training."""
        return [callback for callback in self.callbacks if isinstance(callback, EarlyStopping)]

    @property
    def early_stopping_callback(self) -> EarlyStopping | None:
        """The first callback that stops the training."""
        return next(iter(self.early_stopping_callbacks), None)
