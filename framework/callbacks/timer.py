"""Measures the time of a training, and ends it when that is used up."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Literal

from framework.callbacks.callback import Callback
from framework.errors import ConfigError, did_you_mean
from framework.loggers.console import say

if TYPE_CHECKING:
    from framework.train import Trainer, TrainModule

Duration = str | timedelta | Mapping[str, int]
STAGES = ("train", "validate", "test")
_INTERVALS = ("step", "epoch")


class Timer(Callback):
    """Keeps the time of training, validation and test, and stops a training after `duration`.

    The time of training counts on in a resumed run, so `duration` is that of the whole training. A run
    that was stopped goes on if it is resumed with a longer one. `min_epochs` and `min_steps` come first.

    Args:
        duration: "DD:HH:MM:SS", a `timedelta`, or a dict of its arguments; None measures only.
        interval: "step" stops after a batch, "epoch" at the end of an epoch.
        verbose: say when the time is up.

    Raises:
        ConfigError: an argument is not one of these.

    Examples:
        >>> timer = Timer("00:12:00:00")
        >>> timer.time_remaining()
        43200.0
        >>> timer.time_elapsed("train")
        0.0
    """

    def __init__(
        self,
        duration: Duration | None = None,
        interval: Literal["step", "epoch"] = "step",
        verbose: bool = True,
    ) -> None:
        if interval not in _INTERVALS:
            raise ConfigError(
                f"Timer(interval={interval!r}): expected 'step' or 'epoch'.{did_you_mean(str(interval), _INTERVALS)}"
            )
        self.duration = None if duration is None else seconds(duration, "Timer(duration=…)")
        """The time that a training may take, in seconds."""
        self.interval = interval
        self.verbose = verbose
        self._start: dict[str, float] = {}
        self._end: dict[str, float] = {}
        self._before = 0.0
        """Seconds of training before the latest start of this process."""
        self._deadline = float("inf")

    # -- what it tells ---------------------------------------------------------------------------------

    def start_time(self, stage: str = "train") -> float | None:
        """When a stage ("train", "validate", "test") began, by `time.monotonic`; None if it has not."""
        return self._start.get(_stage(stage))

    def end_time(self, stage: str = "train") -> float | None:
        """When a stage ended; None if it has not."""
        return self._end.get(_stage(stage))

    def time_elapsed(self, stage: str = "train") -> float:
        """Seconds of a stage so far; of training all that a resumed run has had."""
        begun, ended = self.start_time(stage), self.end_time(stage)
        before = self._before if stage == "train" else 0.0
        if begun is None:
            return before
        return before + (time.monotonic() if ended is None else ended) - begun

    def time_remaining(self, stage: str = "train") -> float | None:
        """Seconds that are left, never less than 0; None without a `duration`."""
        return None if self.duration is None else max(0.0, self.duration - self.time_elapsed(stage))

    # -- state -----------------------------------------------------------------------------------------

    def state_dict(self) -> dict[str, Any]:
        """The time of training so far."""
        return {"time_elapsed": self.time_elapsed("train")}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Count on from `state`."""
        self._before = state["time_elapsed"]
        self._start, self._end = {}, {}

    # -- hooks -----------------------------------------------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Start the clock of training."""
        self._before = self.time_elapsed("train")  # of an earlier fit, or of the checkpoint
        self._end.pop("train", None)
        now = self._start["train"] = time.monotonic()
        if self.duration is not None:
            self._deadline = now + self.duration - self._before
            self._check(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Stop the clock of training."""
        self._end["train"] = time.monotonic()

    def on_exception(self, trainer: Trainer, pl_module: TrainModule, exception: BaseException) -> None:
        """Stop the clocks that run."""
        for stage in self._start:
            self._end.setdefault(stage, time.monotonic())

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: TrainModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the clock."""
        if time.monotonic() >= self._deadline and self.interval == "step":
            self._check(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Look at the clock."""
        if time.monotonic() >= self._deadline and self.interval == "epoch":
            self._check(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Start the clock of validation."""
        self._begin("validate")

    def on_validation_end(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Stop the clock of validation."""
        self._end["validate"] = time.monotonic()

    def on_test_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Start the clock of the test."""
        self._begin("test")

    def on_test_end(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Stop the clock of the test."""
        self._end["test"] = time.monotonic()

    def _begin(self, stage: str) -> None:
        self._start[stage] = time.monotonic()
        self._end.pop(stage, None)

    def _check(self, trainer: Trainer) -> None:
        """Stop the training if its time is used up."""
        if time.monotonic() < self._deadline:
            return
        if self.verbose and not trainer.should_stop:
            say(f"Timer: the time for training, {timedelta(seconds=self.duration or 0.0)}, is used up")
        trainer.should_stop = True


def seconds(duration: Duration, where: str) -> float:
    """A duration as seconds.

    Raises:
        ConfigError: it is neither "DD:HH:MM:SS", nor a `timedelta`, nor a dict of its arguments.

    Examples:
        >>> seconds("01:02:03:04", "max_time"), seconds({"minutes": 1.5}, "max_time")
        (93784.0, 90.0)
    """
    found: timedelta | None = None
    if isinstance(duration, timedelta):
        found = duration
    elif isinstance(duration, str):
        parts = duration.strip().split(":")
        if len(parts) == 4 and all(part.isdigit() for part in parts):
            days, hours, minutes, rest = map(int, parts)
            found = timedelta(days=days, hours=hours, minutes=minutes, seconds=rest)
    elif isinstance(duration, Mapping):
        try:
            found = timedelta(**duration)
        except TypeError as error:
            raise ConfigError(f"{where}: {dict(duration)} has other keys than timedelta's: {error}") from None
    if found is None or found < timedelta(0):
        raise ConfigError(
            f"{where}: got {duration!r}; expected 'DD:HH:MM:SS' such as '00:12:00:00', a timedelta, "
            "or a dict such as {'hours': 12}"
        )
    return found.total_seconds()


def _stage(stage: str) -> str:
    if stage not in STAGES:
        raise ConfigError(f"Timer: there is no stage {stage!r}; {', '.join(STAGES)}.{did_you_mean(stage, STAGES)}")
    return stage
