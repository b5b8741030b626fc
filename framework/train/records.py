"""The books of a run: its folder, its loggers, its summary and its clock."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framework.errors import CheckpointError
from framework.loggers import Logger, SafeLogger
from framework.strategies import SingleDevice
from framework.train import checkpoint, resume
from framework.train.progress import Progress
from framework.train.rows import Rows
from framework.train.run import CHECKPOINTS, CONFIG, SUMMARY, RunFolder, summary_text, versions

STATUS = {"success": "finished", "failed": "failed", "interrupted": "interrupted"}
"""How a fit ended, to the word in `summary.json`."""


@dataclass(slots=True)
class Heading:
    """What is known of a run before it begins."""

    parent: Path
    """The folder of the runs of this name."""
    config_text: str | None
    config_tree: Mapping[str, Any] | None
    hyper_parameters: dict[str, Any]
    modes: dict[str, str]
    """Which end of a monitored metric is the good one."""
    dataset: str | None
    """The name of the data."""


class Records:
    """Opens the books when training begins, and closes them however it ends.

    Args:
        progress: where the training stands.
        rows: hands rows to the loggers.
    """

    def __init__(self, progress: Progress, rows: Rows) -> None:
        self.run: RunFolder | None = None
        """The run's folder; None before training begins, and in a `fast_dev_run`."""
        self.test_metrics: dict[str, float] = {}
        self._progress = progress
        self._rows = rows
        self._began = 0.0
        self._status = ""
        self._dataset: str | None = None

    def begin(
        self, heading: Heading, loggers: Sequence[Logger], saved: Mapping[str, Any] | None, source: str | None
    ) -> None:
        """Make the run folder, or reopen that of the checkpoint `saved` from `source`; open the loggers.

        Nothing has been written before.

        Raises:
            ConfigError: the folder cannot be made, or another process is at work in it.
        """
        if self.run is not None:
            self.run.lock()
        elif saved is not None and source is not None:
            self.run = RunFolder.of_checkpoint(Path(source), saved["about"]["run"])
        if self.run is None:
            self.run = RunFolder.create(heading.parent)
        checkpoint.remove_leftovers(self.run.checkpoints)
        self._rows.summary.modes = heading.modes
        self._dataset = heading.dataset
        if heading.config_text is not None:
            self.run.write(CONFIG, heading.config_text)
        safe = [SafeLogger(logger) for logger in loggers]
        if saved is not None:
            resume.restore_loggers(safe, saved["loggers"])
        for logger in safe:
            logger.attach(self.run.path)
            if heading.hyper_parameters:
                logger.log_hyperparams(heading.hyper_parameters)
            if heading.config_tree is not None:
                logger.log_config(heading.config_tree)
        self._rows.loggers = safe

    def last_checkpoint(self, parent: Path) -> Path:
        """The newest checkpoint of this run; before it has begun, of the newest run in `parent`.

        Raises:
            CheckpointError: there is none.
        """
        for folder in [self.run.path] if self.run is not None else RunFolder.newest_first(parent):
            found = checkpoint.newest_valid(folder / CHECKPOINTS)
            if found is not None:
                return found
        raise CheckpointError(f'ckpt_path="last": there is no checkpoint in {parent}/version_N/{CHECKPOINTS}')

    def start_clock(self) -> None:
        """Training begins."""
        self._began = time.perf_counter()

    def stop_clock(self) -> None:
        """Add the time since the start to the run's."""
        if self._began:
            now = time.perf_counter()
            self._progress.wall_s += now - self._began
            self._began = now

    def end(self, stage: str, status: str, strategy: SingleDevice) -> None:
        """Close the books of a stage that ended as "success", "failed" or "interrupted"."""
        try:
            for logger in self._rows.loggers:
                logger.finalize(status)  # type: ignore[arg-type]
            if stage == "fit":
                self.stop_clock()
                self._began = 0.0
                self._status = STATUS[status]
            if stage == "fit" or self.test_metrics:
                self.write_summary(self._status, strategy)
        finally:
            if self.run is not None:
                self.run.unlock()

    def write_summary(self, status: str, strategy: SingleDevice) -> None:
        """Write `summary.json`."""
        if self.run is None:
            return
        tests = {n if n.startswith("test") else f"test_{n}": value for n, value in self.test_metrics.items()}
        summary = {
            "status": status,
            "epochs": self._progress.epoch,
            "steps": self._progress.global_step,
            "wall_s": round(self._progress.wall_s, 3),
            "metrics": self._rows.summary.metrics(),
            **tests,
            "dataset": self._dataset,
            "backend": strategy.device,
            "versions": versions(strategy.backend.requirements),
        }
        self.run.write(SUMMARY, summary_text(summary))
