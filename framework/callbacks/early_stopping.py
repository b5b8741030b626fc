"""Stops the training when a metric has stopped getting better."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from framework.callbacks.callback import Callback
from framework.callbacks.schedule import validates_once_an_epoch
from framework.errors import ConfigError, did_you_mean
from framework.loggers.console import say

if TYPE_CHECKING:
    from framework.train import Trainer, TrainModule


class StoppingReason(Enum):
    """Why `EarlyStopping` has stopped a training."""

    NOT_STOPPED = "not stopped"
    STOPPING_THRESHOLD = "stopping threshold reached"
    DIVERGENCE_THRESHOLD = "divergence threshold reached"
    PATIENCE_EXHAUSTED = "patience exhausted"
    NON_FINITE_METRIC = "metric not finite"


class EarlyStopping(Callback):
    """Stops when `monitor` has not improved by more than `min_delta` for `patience` checks.

    Args:
        monitor: the metric to watch.
        min_delta: an improvement must be larger than this.
        patience: so many checks in a row without improvement stop the training.
        verbose: say each improvement and the reason for stopping.
        mode: "min" or "max", which end of the metric is good.
        strict: raise where the metric is missing; False warns once and waits.
        check_finite: stop when the metric is NaN or infinite.
        stopping_threshold: stop as soon as the metric is better than this.
        divergence_threshold: stop as soon as the metric is worse than this.
        check_on_train_epoch_end: check at the end of training epochs; False after each validation.
            None is False only where validation does not come once an epoch.
        log_rank_zero_only: where there are several processes, only the first says why; there is one.

    A resumed run continues with the checks already counted, under the arguments given now: a longer
    patience on resume is respected, and a run that had stopped stops again.

    Raises:
        ConfigError: `mode` is neither "min" nor "max"; at a check, nobody logs `monitor`.

    Examples:
        >>> stopping = EarlyStopping("val_loss", patience=2)
        >>> [stopping.check(value).name for value in (3.0, 1.0, 1.5, 1.2)]
        ['NOT_STOPPED', 'NOT_STOPPED', 'NOT_STOPPED', 'PATIENCE_EXHAUSTED']
        >>> stopping.best_score
        1.0
    """

    priority: ClassVar[int] = -100

    def __init__(
        self,
        monitor: str,
        min_delta: float = 0.0,
        patience: int = 3,
        verbose: bool = False,
        mode: Literal["min", "max"] = "min",
        strict: bool = True,
        check_finite: bool = True,
        stopping_threshold: float | None = None,
        divergence_threshold: float | None = None,
        check_on_train_epoch_end: bool | None = None,
        log_rank_zero_only: bool = False,
    ) -> None:
        if mode not in ("min", "max"):
            raise ConfigError(
                f"EarlyStopping(mode={mode!r}): expected 'min' or 'max'.{did_you_mean(mode, ['min', 'max'])}"
            )
        if patience < 0 or min_delta < 0:
            raise ConfigError(f"EarlyStopping(patience={patience}, min_delta={min_delta}): neither can be negative.")
        self.monitor = monitor
        self.min_delta = min_delta
        self.patience = patience
        self.verbose = verbose
        self.mode = mode
        self.strict = strict
        self.check_finite = check_finite
        self.stopping_threshold = stopping_threshold
        self.divergence_threshold = divergence_threshold
        self.log_rank_zero_only = log_rank_zero_only
        self.wait_count = 0
        """Checks since the last improvement."""
        self.stopped_epoch = 0
        """Index of the epoch in which the training was stopped; 0 if it was not."""
        self.best_score = math.inf if mode == "min" else -math.inf
        self.stopping_reason = StoppingReason.NOT_STOPPED
        self.stopping_reason_message: str | None = None
        self._at_epoch_end = check_on_train_epoch_end
        self._latest: float | None = None
        self._warned = False

    @property
    def state_key(self) -> str:
        """The class with monitor and mode, so that several of them can stand side by side."""
        return f"EarlyStopping{ {'monitor': self.monitor, 'mode': self.mode} }"

    def state_dict(self) -> dict[str, Any]:
        """What has been counted; no arguments, so that those given on resume hold."""
        return {
            "wait_count": self.wait_count,
            "stopped_epoch": self.stopped_epoch,
            "best_score": self.best_score,
            "latest": self._latest,
            "stopping_reason": self.stopping_reason.name,
            "stopping_reason_message": self.stopping_reason_message,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue to count from `state`."""
        self.wait_count = state["wait_count"]
        self.stopped_epoch = state["stopped_epoch"]
        self.best_score = state["best_score"]
        self._latest = state["latest"]
        self.stopping_reason = StoppingReason[state["stopping_reason"]]
        self.stopping_reason_message = state["stopping_reason_message"]

    def on_train_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """A run that was stopped before it was interrupted stops again, unless the arguments now allow more."""
        if self.stopping_reason is StoppingReason.NOT_STOPPED or self._latest is None:
            return
        reason = self._reason(self._latest)
        if reason is StoppingReason.NOT_STOPPED:
            self.stopping_reason, self.stopping_reason_message, self.stopped_epoch = reason, None, 0
        else:
            trainer.should_stop = True

    def on_validation_end(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Check here where validation does not come once an epoch."""
        if not trainer.sanity_checking and not self._checks_at_epoch_end(trainer):
            self._run_check(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Check here where validation comes once an epoch, or never."""
        if self._checks_at_epoch_end(trainer):
            self._run_check(trainer)

    def check(self, current: float) -> StoppingReason:
        """Count one value of the metric and say whether to stop."""
        self._latest = current
        worse = self._reason(current, counting=False)
        if worse is not StoppingReason.NOT_STOPPED:
            self.stopping_reason = worse
        elif self._better(current, self.best_score, self.min_delta):
            self.best_score, self.wait_count = current, 0
        else:
            self.wait_count += 1
            self.stopping_reason = self._reason(current)
        return self.stopping_reason

    def _reason(self, current: float, counting: bool = True) -> StoppingReason:
        if self.check_finite and not math.isfinite(current):
            return StoppingReason.NON_FINITE_METRIC
        if self.stopping_threshold is not None and self._better(current, self.stopping_threshold):
            return StoppingReason.STOPPING_THRESHOLD
        if self.divergence_threshold is not None and self._better(self.divergence_threshold, current):
            return StoppingReason.DIVERGENCE_THRESHOLD
        exhausted = counting and self.wait_count > 0 and self.wait_count >= self.patience
        return StoppingReason.PATIENCE_EXHAUSTED if exhausted else StoppingReason.NOT_STOPPED

    def _better(self, value: float, than: float, by: float = 0.0) -> bool:
        return value + by < than if self.mode == "min" else value - by > than

    def _checks_at_epoch_end(self, trainer: Trainer) -> bool:
        if self._at_epoch_end is not None:
            return self._at_epoch_end
        return validates_once_an_epoch(trainer)

    def _run_check(self, trainer: Trainer) -> None:
        if trainer.fast_dev_run:
            return
        metrics = trainer.callback_metrics
        if self.monitor not in metrics:
            self._complain(list(metrics))
            return
        before = self.best_score
        reason = self.check(float(metrics[self.monitor]))
        if reason is not StoppingReason.NOT_STOPPED:
            trainer.should_stop = True
            self.stopped_epoch = trainer.current_epoch
            self.stopping_reason_message = self._message()
            if self.verbose:
                say(f"EarlyStopping: {self.stopping_reason_message}")
        elif self.verbose and self.wait_count == 0:
            gain = "" if math.isinf(before) else f", better by {abs(before - self.best_score):.5g}"
            say(f"EarlyStopping: {self.monitor} improved to {self.best_score:.5g}{gain}")

    def _message(self) -> str:
        """The reason in words, with the comparison as it came out."""
        value = f"{self.monitor} = {self._latest:.5g}"
        less, more = ("<", ">") if self.mode == "min" else (">", "<")
        match self.stopping_reason:
            case StoppingReason.NON_FINITE_METRIC:
                return f"{value} is not finite; the best was {self.best_score:.5g}."
            case StoppingReason.STOPPING_THRESHOLD:
                return f"{value} {less} {self.stopping_threshold:.5g}, the stopping threshold."
            case StoppingReason.DIVERGENCE_THRESHOLD:
                return f"{value} {more} {self.divergence_threshold:.5g}, the divergence threshold."
            case _:
                return (
                    f"{self.monitor} did not improve by more than {self.min_delta:g} in the last {self.wait_count} "
                    f"checks; the best was {self.best_score:.5g}."
                )

    def _complain(self, known: list[str]) -> None:
        text = (
            f"EarlyStopping(monitor={self.monitor!r}): nothing logs that metric. Logged so far: "
            f"{', '.join(map(repr, sorted(known))) or 'nothing'}.{did_you_mean(self.monitor, known)} "
            f"Log it with self.log({self.monitor!r}, value)."
        )
        if self.strict:
            raise ConfigError(text)
        if not self._warned:
            self._warned = True
            warnings.warn(text, UserWarning, stacklevel=2)
