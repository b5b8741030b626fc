"""From the recorded metrics to the loggers' rows, and to what callbacks see."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from framework.loggers import Logger
from framework.train.progress import Progress
from framework.train.results import Entry, Results
from framework.train.run import Summary


class Rows:
    """Hands rows to the loggers and keeps the latest value of every metric.

    Args:
        progress: where the training stands; its step is every row's.
    """

    def __init__(self, progress: Progress) -> None:
        self.summary = Summary()
        """Takes note of each row."""
        self.loggers: Sequence[Logger] = ()
        self.logged: dict[str, float] = {}
        """The latest row."""
        self._progress = progress
        self._values: dict[str, float] = {}
        """The latest epoch value of each metric, under all its names."""
        self._bar: dict[str, None] = {}
        """Names of those for the progress bar, in order."""

    def write(self, metrics: dict[str, float], in_epoch: bool = True) -> None:
        """Add values to the row of the present step; outside a fit they belong to no epoch."""
        if not metrics:
            return
        if in_epoch:
            metrics.setdefault("epoch", self._progress.epoch)
        self.logged = metrics
        for logger in self.loggers:
            logger.log_metrics(metrics, self._progress.global_step)
        self.summary.see(metrics)

    def take(self, values: Iterable[tuple[Entry, float]]) -> dict[str, float]:
        """Keep epoch values for callbacks; gives those that loggers get."""
        row = {}
        for entry, value in values:
            name = entry.epoch_name
            self._values[entry.name] = self._values[name] = value
            if entry.prog_bar:
                self._bar[name] = None
            if entry.logger:
                row[name] = value
        return row

    def callback_metrics(self, training: Results | None) -> dict[str, float]:
        """Every metric's latest value; by step where it has no epoch value yet."""
        found = dict(self._values)
        if training is not None:
            for entry, name, value in training.latest():
                found[name] = value
                found.setdefault(entry.name, value)
        return found

    def bar_metrics(self, current: Iterable[Results | None]) -> dict[str, float]:
        """The metrics logged with `prog_bar=True`."""
        found = {name: self._values[name] for name in self._bar}
        for results in current:
            if results is not None:
                found.update((name, value) for entry, name, value in results.latest() if entry.prog_bar)
        return found

    def state_dict(self) -> dict[str, Any]:
        """The latest values."""
        return {"values": dict(self._values), "bar": list(self._bar), "summary": self.summary.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from saved values."""
        self._values = dict(state["values"])
        self._bar = dict.fromkeys(state["bar"])
        self.summary.load_state_dict(state["summary"])
