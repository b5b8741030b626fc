"""A logger that writes text files anybody can read."""

from __future__ import annotations

import time
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from framework.errors import ConfigError, DataError
from framework.loggers.logger import Status, plain, with_prefix
from framework.loggers.rowfiles import LAST, RowFiles
from framework.loggers.versioned import VersionedLogger


class CSVLogger(VersionedLogger):
    """Writes `metrics.jsonl` (one JSON object a step) and `metrics.csv` (the same as a table).

    All that is logged at one step is one row. A row is written when a later step begins, and at the
    end; the table starts with `step` and `epoch`, ends with `wall_s` (seconds since the run began),
    and has the metrics in between in order of first appearance. A resumed run cuts the rows that
    came after its checkpoint, so nothing is doubled or missing.

    Args:
        save_dir: folder for `<name>/version_<N>/`; None writes in the Trainer's run folder.
        name: name of the experiment, used with `save_dir` only.
        version: number or name of the version; None takes the next free number.
        prefix: put before each metric's name, with a dash.

    Examples:
        >>> import tempfile
        >>> logger = CSVLogger(tempfile.mkdtemp(), name="demo")
        >>> logger.log_metrics({"epoch": 0, "loss": 0.5}, step=1)
        >>> logger.log_metrics({"acc": 0.9}, step=1)
        >>> logger.finalize("success")
        >>> (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()[0]
        'step,epoch,loss,acc,wall_s'
    """

    def __init__(
        self,
        save_dir: str | Path | None = None,
        name: str = "logs",
        version: int | str | None = None,
        prefix: str = "",
    ) -> None:
        super().__init__(save_dir, name, version, prefix)
        self._files: RowFiles | None = None
        self._resume: dict[str, Any] | None = None
        self._step: int | None = None
        self._row: dict[str, Any] = {}
        self._begin = time.perf_counter()

    def attach(self, run_dir: Path) -> None:
        """Write in `run_dir`, unless there is an own `save_dir`; another folder begins anew there."""
        folder = Path(run_dir) if self._save_dir is None else self._own_folder()
        if folder == self._folder:
            return
        self._close()
        if self._save_dir is not None and self._resume is None and (folder / "metrics.jsonl").exists():
            raise ConfigError(
                f"{folder} already holds the rows of another run, and {self!r} was given version={self._version!r}. "
                f"Leave version out for the next free number, or resume that run."
            )
        self._folder = folder
        self._step, self._row = None, {}
        self._begin = time.perf_counter() - (self._resume or {}).get("wall_s", 0.0)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Add values to the row of `step`; raises DataError where the step lies before the row at hand."""
        if step != self._step or self._step is None:
            self._turn_to(self._latest_step() if step is None else step)
        self._row.update(with_prefix(metrics, self._prefix) if self._prefix else metrics)

    def log_hyperparams(self, params: Mapping[str, Any]) -> None:
        """Write the hyper-parameters to `hparams.yaml`, beside the rows."""
        if not params:
            return
        import yaml

        folder = self._ready_folder()
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "hparams.yaml").write_text(yaml.safe_dump(plain(params), sort_keys=False, allow_unicode=True))

    def save(self) -> None:
        """Write the complete rows; the row at hand stays open for more values."""
        if self._files is not None:
            self._files.flush()

    def sync(self) -> None:
        """Force the rows that are written to the disk."""
        files = self._files
        if files is not None:
            files.sync()

    def finalize(self, status: Status) -> None:
        """Write the row at hand and force all to the disk. A later value of the same step still joins its row."""
        if self._resume is not None and self._folder is not None:
            self._open_files()  # what came after the checkpoint goes, even if no row follows
        self._commit()
        self.save()
        self.sync()

    def state_dict(self) -> dict[str, Any]:
        """How many rows are written, the table's columns, and the row at hand."""
        if self._folder is None:
            return {} if self._resume is None else dict(self._resume)
        files = self._open_files()
        files.flush()
        return {
            "rows": files.rows,
            "columns": list(files.columns),
            "step": self._step,
            "row": [[name, value] for name, value in self._row.items()],
            "wall_s": time.perf_counter() - self._begin,
            "version": self.version,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go back to the row at which `state` was taken; the files are cut when the next row comes."""
        self._close()
        self._step, self._row = None, {}
        self._resume = dict(state) if state else None
        self._begin = time.perf_counter() - state.get("wall_s", 0.0)
        if self._version is None:
            self._version = state.get("version")

    def _turn_to(self, step: int) -> None:
        """Make `step` the row at hand: a new one, or the last one written."""
        files = self._open_files()
        if step == self._step:  # it came back with the checkpoint
            return
        if self._step is not None and step < self._step:
            raise DataError(
                f"{self!r} got values for step {step} after values for step {self._step}. Steps are optimizer "
                f"updates and only rise; log with the Trainer's global_step, or without a step."
            )
        self._commit()
        if files.last is not None and files.last["step"] == step:
            self._row = files.take_last()
        else:
            self._row = {"step": step, LAST: round(time.perf_counter() - self._begin, 3)}
        self._step = step

    def _commit(self) -> None:
        row, step = self._row, self._step
        self._row, self._step = {}, None
        if row:
            assert self._files is not None
            wall = row.pop(LAST)  # last in the line as in the table
            self._files.append({**row, "step": step, LAST: wall})

    def _latest_step(self) -> int:
        if self._step is not None:
            return self._step
        last = self._open_files().last
        return 0 if last is None else last["step"]

    def _open_files(self) -> RowFiles:
        if self._files is None:
            self._files = RowFiles(self._ready_folder())
            state, self._resume = self._resume, None
            if state is None:
                self._files.open()
                return self._files
            there = self._files.jsonl.exists()
            missing = self._files.open(state["rows"], state["columns"])
            self._step = state["step"]
            self._row = dict(state["row"])
            if missing and there:
                warnings.warn(
                    f"{self._files.jsonl} has lost {missing} of the {state['rows']} rows that the checkpoint counts.",
                    RuntimeWarning,
                    stacklevel=2,
                )
        return self._files

    def _ready_folder(self) -> Path:
        if self._folder is None:
            if self._save_dir is None:
                raise ConfigError("CSVLogger() has no folder yet: give it save_dir=..., or hand it to a Trainer.")
            self.attach(self._save_dir)
        assert self._folder is not None
        return self._folder

    def _close(self) -> None:
        if self._files is not None:
            self._commit()
            self._files.flush()
            self._files = None
