"""Saves checkpoints while training runs, and keeps the right ones."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from framework.callbacks.callback import Callback
from framework.callbacks.checkpoint_book import Book, ranked
from framework.callbacks.checkpoint_folder import choose_name, delete_all, replace
from framework.callbacks.checkpoint_kept import KeptCheckpoints
from framework.callbacks.checkpoint_name import NameTemplate
from framework.callbacks.checkpoint_rules import check_arguments, unknown_metric
from framework.callbacks.schedule import validates, validates_once_an_epoch, validation_follows
from framework.loggers.console import say

if TYPE_CHECKING:
    from framework.train import Trainer, TrainModule


class ModelCheckpoint(KeptCheckpoints, Callback):
    """Saves a checkpoint at each trigger and keeps the best `save_top_k` of them.

    The state is copied at the trigger and written in the background. The next save, the end of the
    training, a signal and whoever asks for a path wait for that; an error of the disk is raised there.
    A checkpoint is a folder that never changes once it is written. Beside the folders lie two
    one-line files, `last` and `best`, with the names of the newest and the best one. A folder is
    deleted only if this callback has saved it, only after its replacement is complete, and never if
    the run was told to resume from it. What is kept is part of the checkpoint: after an interruption
    and a resume the folder holds what it would hold without them.

    Args:
        dirpath: folder of the checkpoints; None is `checkpoints` in the run folder.
        filename: template of the folder names; fields are `epoch`, `step` and metrics, with an
            optional format, `{epoch}-{val_loss:.2f}`. None is `{epoch}-{step}`.
        monitor: the metric that ranks; None keeps the newest.
        verbose: say what is saved and why.
        save_last: save at each trigger, also what is not among the best, and at the end of training;
            the newest is kept until there is a newer one. "link" keeps what is there and only moves
            the file `last`, which happens in any case.
        save_top_k: how many to keep; -1 all, 0 none.
        save_on_exception: save the state as it is when an exception ends the training.
        save_weights_only: save the weights and hyper-parameters alone: smaller, for `load_from_checkpoint`, but no
            training goes on from them. `ckpt_path="last"` and `fw train --resume` pass over such ones.
        mode: "min" or "max", which end of the metric is good.
        auto_insert_metric_name: write fields as `name=value`.
        every_n_train_steps: trigger: every so many optimizer updates.
        train_time_interval: trigger: whenever so much time has passed.
        every_n_epochs: trigger: every so many epochs; the default is 1.
        save_on_train_epoch_end: trigger epochs at their end; False after each validation. None is
            False only where validation does not come once an epoch.
        enable_version_counter: give a taken name a suffix `-v1`; False replaces an own checkpoint.

    A step or time trigger whose metric is not there yet, or will be renewed by a validation that
    follows at once, waits for it. Nothing is saved in the sanity check or a fast_dev_run, nor twice
    at one step.

    Raises:
        ConfigError: arguments that contradict each other; at the first epoch's end, a `monitor` that
            nobody logs.

    Examples:
        >>> ModelCheckpoint(monitor="val_acc", mode="max", save_top_k=2, filename="{epoch}-{val_acc:.3f}").state_key
        "ModelCheckpoint{'monitor': 'val_acc', 'mode': 'max', 'every_n_train_steps': 0, 'every_n_epochs': 1}"
    """

    priority: ClassVar[int] = -200
    CHECKPOINT_JOIN_CHAR: ClassVar[str] = "-"
    CHECKPOINT_EQUALS_CHAR: ClassVar[str] = "="
    STARTING_VERSION: ClassVar[int] = 1

    def __init__(
        self,
        dirpath: str | Path | None = None,
        filename: str | None = None,
        monitor: str | None = None,
        verbose: bool = False,
        save_last: bool | Literal["link"] | None = None,
        save_top_k: int = 1,
        save_on_exception: bool = False,
        save_weights_only: bool = False,
        mode: Literal["min", "max"] = "min",
        auto_insert_metric_name: bool = True,
        every_n_train_steps: int | None = None,
        train_time_interval: timedelta | None = None,
        every_n_epochs: int | None = None,
        save_on_train_epoch_end: bool | None = None,
        enable_version_counter: bool = True,
    ) -> None:
        check_arguments(monitor, save_top_k, mode, every_n_train_steps, train_time_interval, every_n_epochs)
        self.dirpath = None if dirpath is None else str(Path(dirpath).absolute())
        self.filename = filename
        self.monitor = monitor
        self.mode: str = mode
        self.verbose = verbose
        self.save_last = save_last
        self.save_top_k = save_top_k
        self.save_on_exception = save_on_exception
        self.save_weights_only = save_weights_only
        if save_weights_only:  # before those that a run goes on from: what they hold then counts this one
            vars(self)["priority"] = self.priority + 1
        self.current_score: float | None = None
        """The monitored value at the latest trigger."""
        self._given_dirpath = self.dirpath
        self._template = NameTemplate(
            filename, auto_insert_metric_name, self.CHECKPOINT_JOIN_CHAR, self.CHECKPOINT_EQUALS_CHAR
        )
        self._every_steps = every_n_train_steps or 0
        self._interval = train_time_interval
        no_other = not self._every_steps and train_time_interval is None
        self._every_epochs = every_n_epochs if every_n_epochs is not None else int(no_other)
        self._at_epoch_end = save_on_train_epoch_end
        self._count_versions = enable_version_counter
        self._next_time = 0.0
        self._forget()

    def _forget(self) -> None:
        """Begin with nothing saved."""
        self._begin_book()
        self._spare = ""  # where a checkpoint is written that will take the place of its namesake
        self._saved_step = self._extra_step = self._seen_step = 0
        self._due = False  # whether a trigger waits for a metric
        self._validated = False

    # -- what is kept --------------------------------------------------------------------------------

    @property
    def state_key(self) -> str:
        """The class with monitor, mode and triggers, so that several of them can stand side by side."""
        told: dict[str, Any] = {"monitor": self.monitor, "mode": self.mode}
        told |= {"every_n_train_steps": self._every_steps, "every_n_epochs": self._every_epochs}
        if self.save_weights_only:
            told["save_weights_only"] = True
        return f"ModelCheckpoint{told}"

    def format_checkpoint_name(self, metrics: Mapping[str, float]) -> str:
        """The folder name for these values of `epoch`, `step` and metrics."""
        return self._template.format(metrics)

    def state_dict(self) -> dict[str, Any]:
        """What is kept, what is still to be deleted, and when was saved last."""
        return {
            "book": self._book.state_dict(),
            "spare": self._spare,
            "dirpath": self._given_dirpath or "",
            "saved_step": self._saved_step,
            "due": self._due,
            "validated": self._validated,
            "current_score": self.current_score,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue to keep what the checkpoint's run kept; another `dirpath` begins with nothing kept."""
        if state["dirpath"] != (self._given_dirpath or ""):
            warnings.warn(
                f"ModelCheckpoint kept its checkpoints in {state['dirpath'] or 'the run folder'!r} and is now told "
                f"dirpath={self._given_dirpath!r}: those stay where they are and are not counted among the best.",
                UserWarning,
                stacklevel=2,
            )
            return
        self._book = Book.from_state(state["book"])
        self._spare = state["spare"]
        self._saved_step = state["saved_step"]
        self._due = state["due"]
        self._validated = state["validated"]
        self.current_score = state["current_score"]

    # -- hooks ---------------------------------------------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Find the folder, and after a resume put it into the state that the checkpoint knows."""
        self._next_time = time.monotonic() + (self._interval.total_seconds() if self._interval else 0.0)
        if trainer.fast_dev_run:
            return
        if trainer.resume_source is None and trainer.global_step == 0:  # this object may have served another run
            self._forget()
        self._seen_step = trainer.global_step
        self._take_over(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: TrainModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Trigger by steps or time."""
        before, self._seen_step = self._seen_step, trainer.global_step
        if self._every_steps:  # under manual optimization a batch may make several updates
            if trainer.global_step // self._every_steps == before // self._every_steps:
                return
        elif self._interval is None or time.monotonic() < self._next_time:
            return
        if self._interval is not None:
            self._next_time = time.monotonic() + self._interval.total_seconds()
        if trainer.global_step == self._saved_step:
            return
        self._due = True
        if not (self._needs_metrics and validation_follows(trainer)):
            self._save_if_possible(trainer)

    def on_validation_end(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Trigger by validations, and what has waited for their metrics."""
        if trainer.sanity_checking or not trainer.fitting:
            return
        self._validated = True
        if self._epoch_counts(trainer) and not self._saves_at_epoch_end(trainer):
            self._due = True
        if self._due:
            self._save_if_possible(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Trigger by epochs, and what has waited for an epoch's metrics."""
        if self._epoch_counts(trainer) and self._saves_at_epoch_end(trainer):
            self._due = True
        if self._due:
            self._save_if_possible(trainer, last_chance=self._validated or not validates(trainer))

    def on_train_end(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """With `save_last`, the state at the end of training, where it is not saved yet."""
        if self.save_last is True:
            self._due = True
        if self._due:
            self._save_if_possible(trainer, last_chance=True)

    def on_exception(self, trainer: Trainer, pl_module: TrainModule, exception: BaseException) -> None:
        """With `save_on_exception`, the state as it is."""
        if self.save_on_exception and trainer.fitting and trainer.log_dir is not None:
            self.save_now(trainer)

    def save_now(self, trainer: Trainer) -> str:
        """Save the state as it is, whatever the triggers say, unless this step is saved already.

        The checkpoint's name ends in `-interrupted`; it takes no part in the ranking and is kept until
        there is a newer one. Returns the newest checkpoint's path.
        """
        trainer.background.finish()
        if not trainer.fast_dev_run and trainer.global_step not in (self._saved_step, self._extra_step):
            self._extra_step = trainer.global_step
            self._write(trainer, self._values(trainer), None, top_k=0, suffix="-interrupted")
        return self.last_model_path

    # -- triggers ------------------------------------------------------------------------------------

    @property
    def _needs_metrics(self) -> bool:
        return self.monitor is not None or bool(self._template.metrics)

    def _epoch_counts(self, trainer: Trainer) -> bool:
        return self._every_epochs > 0 and (trainer.current_epoch + 1) % self._every_epochs == 0

    def _saves_at_epoch_end(self, trainer: Trainer) -> bool:
        if self._at_epoch_end is not None:
            return self._at_epoch_end
        return validates_once_an_epoch(trainer) or not validates(trainer)

    def _save_if_possible(self, trainer: Trainer, last_chance: bool = False) -> None:
        """Save now, or leave the trigger waiting for a metric that may still come."""
        values = self._values(trainer)
        wanted = (*self._template.metrics, *([self.monitor] if self.monitor is not None else []))
        missing = [name for name in wanted if name not in values]
        if not missing:
            self._due = False
            self._save(trainer, values, keep=self.save_last is True)
        elif last_chance and not trainer.fast_dev_run:
            raise unknown_metric(missing[0], self.monitor, self.filename, values)

    def _values(self, trainer: Trainer) -> dict[str, float]:
        return {**trainer.callback_metrics, "epoch": _epoch(trainer), "step": trainer.global_step}

    # -- saving --------------------------------------------------------------------------------------

    def _save(self, trainer: Trainer, values: Mapping[str, float], keep: bool) -> None:
        """Save one checkpoint, if it is among the best or to be kept anyway; then let go of what it replaces."""
        if trainer.fast_dev_run or trainer.global_step == self._saved_step:
            return
        trainer.background.finish()  # whichever callback's it is
        score = None
        if self.monitor is not None and self.monitor in values:
            score = ranked(float(values[self.monitor]), self.mode)
        self.current_score = score
        enters = (score is not None or self.monitor is None) and self._book.enters(score, self.save_top_k, self.mode)
        if self.verbose and self.monitor is not None and not enters:
            say(f"{self._headline(trainer)} is not among the best {self.save_top_k}")
        if enters or keep:
            self._write(trainer, values, score, self.save_top_k if enters else 0)

    def _write(
        self, trainer: Trainer, values: Mapping[str, float], score: float | None, top_k: int, suffix: str = ""
    ) -> None:
        folder, nan = self._folder(trainer), float("nan")
        fields = {name: values.get(name, nan) for name in (*self._template.metrics, "epoch", "step")}
        wanted = self._template.format(fields) + suffix
        name, spare = choose_name(folder, wanted, self._book.owned, self._count_versions, self.STARTING_VERSION)
        before = (self._book, self._spare, self._saved_step)
        self._book, self._spare = self._book.admit(name, score, top_k, self.mode), spare
        if not suffix:
            self._saved_step = trainer.global_step
        try:
            write = trainer.prepare_checkpoint(folder / (spare or name), self.save_weights_only)
        except BaseException:
            self._book, self._spare, self._saved_step = before
            raise
        text = f"{self._headline(trainer)}; saved {name!r}" if self.verbose else ""

        def store() -> None:
            try:
                write()
            except BaseException:
                self._book, self._spare, self._saved_step = before
                raise
            self._settle(trainer, folder)

        trainer.background.start(store, partial(self._written, trainer, text))
        self._finish = trainer.background.finish

    def _written(self, trainer: Trainer, text: str) -> None:
        if text:
            say(text)
        for logger in trainer.rows.loggers:
            logger.after_save_checkpoint(self)

    def _settle(self, trainer: Trainer, folder: Path) -> None:
        """Make the folder agree with the book: names, pointers, and last of all the deletions."""
        if self._spare:
            replace(folder / self._book.newest, folder / self._spare)
            self._spare = ""
        trainer.write_checkpoint_pointer("last", folder / self._book.newest)
        top = self._book.top(self.mode)
        if top and self._ranks(trainer, folder):
            trainer.write_checkpoint_pointer("best", folder / top)
        self._book = self._book.without(delete_all(folder, self._book.doomed, spared=trainer.resume_source))

    def _ranks(self, trainer: Trainer, folder: Path) -> bool:
        """Whether the pointer `best` is this callback's: the first with a monitor, else the first."""
        here = [other for other in trainer.checkpoint_callbacks if other._folder(trainer) == folder]
        ranking = [other for other in here if other.monitor is not None]
        return (ranking or here or [self])[0] is self

    def _folder(self, trainer: Trainer) -> Path:
        if self._given_dirpath is None:
            assert trainer.log_dir is not None
            self.dirpath = str(Path(trainer.log_dir).absolute() / "checkpoints")
        assert self.dirpath is not None
        return Path(self.dirpath)

    def _take_over(self, trainer: Trainer) -> None:
        """After a resume: forget what is not there, finish what the interruption cut short."""
        folder = self._folder(trainer)
        if not (folder / self._spare).exists():  # renamed already
            self._spare = ""
        missing = {name for name in self._book.owned if not (folder / name).exists()}
        if self._spare:
            missing.discard(self._book.newest)
        if self._book.newest in missing:  # resumed from a copy elsewhere: what the book names is not this run's
            self._book = Book()
        elif self._book.newest:
            self._book = self._book.without(missing)
            self._settle(trainer, folder)

    def _headline(self, trainer: Trainer) -> str:
        text = f"Epoch {_epoch(trainer)}, global step {trainer.global_step}"
        return text if self.current_score is None else f"{text}: {self.monitor!r} is {self.current_score:.5f}"


def _epoch(trainer: Trainer) -> int:
    """Index of the epoch in which the latest step was made."""
    between = trainer.progress.batch == 0 and trainer.current_epoch > 0
    return trainer.current_epoch - between
