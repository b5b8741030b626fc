"""A logger for Weights & Biases that cannot hurt the training."""

from __future__ import annotations

import atexit
import importlib.util
import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from framework.errors import BackendError, ConfigError
from framework.loggers.background import Feeder
from framework.loggers.logger import Logger, Status, plain, with_prefix
from framework.loggers.wandb_run import Config, Flush, Row, WandbRun


class WandbLogger(Logger):
    """Sends rows, hyper-parameters and configuration to Weights & Biases, from a thread of its own.

    The client is imported and started in that thread, and whatever it does there (raise, hang, die)
    costs the run one warning and no time. A row's x-axis is its step, the number of optimizer
    updates. Without `offline`, `WANDB_MODE` or a stored API key, and where the server cannot be
    reached, the run is kept offline and one line says how to upload it. The run's id travels in the
    checkpoint, so a resumed training continues the same W&B run.

    Args:
        name: the run's display name; None makes one of the run folder.
        save_dir: where W&B writes its files; None is `$WANDB_DIR`, else the Trainer's run folder.
        version: the run's id, as is `id`.
        offline: keep everything on this machine.
        id: the run's id; None continues the checkpoint's or makes one.
        project: W&B project; None is `$WANDB_PROJECT`, else "fw".
        experiment: an existing W&B run to log to; it is left unfinished.
        prefix: put before each metric's name, with a dash.
        group: W&B group.
        tags: W&B tags.
        **kwargs: handed to `wandb.init`.

    Raises:
        ConfigError: wandb is not installed.
    """

    def __init__(
        self,
        name: str | None = None,
        save_dir: str | Path | None = None,
        version: str | None = None,
        offline: bool = False,
        id: str | None = None,
        project: str | None = None,
        experiment: Any = None,
        prefix: str = "",
        group: str | None = None,
        tags: Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        if experiment is None and not _installed():
            raise ConfigError("WandbLogger needs the package wandb, which is not installed: pip install wandb")
        self._name = name
        self._save_dir = None if save_dir is None else str(save_dir)
        self._offline = offline
        self._id = version or id
        self._project = project or os.environ.get("WANDB_PROJECT") or "fw"
        self._prefix = prefix
        self._kwargs = {"group": group, "tags": list(tags) if tags else None, **kwargs}
        self._experiment = experiment
        self._run_dir: Path | None = None
        self._feeder: Feeder | None = None
        self._run: WandbRun | None = None
        self._warned = False
        self._step = 0

    def __repr__(self) -> str:
        return f"WandbLogger(project={self._project!r}, id={self._id!r})"

    @property
    def name(self) -> str | None:
        """The W&B project."""
        return self._project

    @property
    def version(self) -> str | None:
        """The W&B run's id; None before the run has begun."""
        return self._experiment.id if self._experiment is not None else self._id

    @property
    def save_dir(self) -> str | None:
        """Folder in which W&B makes its own `wandb/`."""
        if self._save_dir is not None or os.environ.get("WANDB_DIR"):
            return self._save_dir or os.environ["WANDB_DIR"]
        return None if self._run_dir is None else str(self._run_dir)

    @property
    def experiment(self) -> Any:
        """The W&B run itself, for images and tables; waits for it to start.

        Raises:
            BackendError: it could not be started, with W&B's reason.
        """
        feeder = self._started()
        if not feeder.wait_started():
            raise BackendError(f"There is no W&B run: wandb {feeder.problem}")
        assert self._run is not None
        return self._run.run

    def attach(self, run_dir: Path) -> None:
        """Learn the run folder; another one than before ends the W&B run, so that the next row begins a new one."""
        if self._run_dir is not None and Path(run_dir) != self._run_dir:
            self.close()
            self._id = None
        self._run_dir = Path(run_dir)

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Queue the values; returns at once."""
        if step is not None:
            self._step = step
        feeder = self._feeder or self._started()
        feeder.put(Row(self._step, dict(with_prefix(metrics, self._prefix))))
        if feeder.problem is not None:
            self._warn(feeder)

    def log_hyperparams(self, params: Mapping[str, Any]) -> None:
        """Add the hyper-parameters to the W&B config."""
        self._started().put(Config(plain(params)))

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Add the resolved configuration to the W&B config."""
        self._started().put(Config(plain(config)))

    def finalize(self, status: Status) -> None:
        """Wait a bounded time until W&B has the rows; end the W&B run unless a test may still follow.

        After a success it stays open until the process ends, another run begins or `close` is called.
        """
        if self._feeder is None:
            return
        if status != "success":
            self.close(ok=False)
            return
        self._feeder.put(Flush())
        self._feeder.flush()
        if self._feeder.problem is not None:
            self._warn(self._feeder)

    def close(self, ok: bool = True) -> None:
        """End the W&B run, waiting a bounded time for it; a later row would continue it."""
        feeder, self._feeder = self._feeder, None
        if feeder is None:
            return
        _OPEN.discard(self)
        atexit.unregister(self.close)
        if feeder.alive:
            feeder.close(ok)
        if feeder.problem is not None:
            self._warn(feeder)

    def state_dict(self) -> dict[str, Any]:
        """The W&B run's id."""
        return {"id": self.version}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue the W&B run of the checkpoint, unless an id was given."""
        if self._id is None:
            self._id = state.get("id")

    def _started(self) -> Feeder:
        """The feeder; the first call starts it, and with it the W&B run."""
        if self._feeder is not None:
            return self._feeder
        for other in list(_OPEN):  # W&B knows one run a process
            other.close()
        self._id = self._id or os.urandom(4).hex()
        settings: Any = self._kwargs.get("settings") or {}
        if isinstance(settings, Mapping):
            settings = {**_QUIET, **settings}
        arguments = {
            "project": self._project,
            "name": self._name or (f"{self._run_dir.parent.name}/{self._run_dir.name}" if self._run_dir else None),
            "id": self._id,
            "resume": "allow",
            "dir": self.save_dir,
            **self._kwargs,
            "settings": settings,
        }
        self._run = WandbRun(arguments, self._experiment, self._offline, when_started=self._close_at_exit)
        self._feeder = Feeder(self._run)
        _OPEN.add(self)
        return self._feeder

    def _close_at_exit(self) -> None:
        # Registered after W&B's own exit hook, this one runs before it, and its wait has an end.
        atexit.register(self.close)

    def _warn(self, feeder: Feeder) -> None:
        if self._warned:
            return
        self._warned = True
        warnings.warn(
            f"W&B: wandb {feeder.problem}. The training goes on; its numbers are in the run folder's metrics.jsonl. "
            f"Further trouble with W&B is not reported.",
            RuntimeWarning,
            stacklevel=3,
        )


_OPEN: set[WandbLogger] = set()
_QUIET = {"console": "off", "silent": True, "x_disable_stats": True, "disable_git": True, "disable_code": True}


def _installed() -> bool:
    if "wandb" in sys.modules:
        return True
    spec = importlib.util.find_spec("wandb")
    # A folder `wandb/`, which W&B leaves behind where it ran, looks like a package without an origin.
    return spec is not None and spec.origin is not None
