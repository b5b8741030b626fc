"""A guard that keeps a logger's failures away from the training."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from framework.errors import ConfigError
from framework.loggers.logger import Logger, Status


class SafeLogger(Logger):
    """`logger`, whose exceptions become one warning instead of the end of the run.

    Later calls still reach the logger, silently: a full disk may empty again. Only a `ConfigError`
    raised while attaching passes through, because nothing has started yet.

    Examples:
        >>> from framework.loggers.csv import CSVLogger
        >>> guard = SafeLogger(CSVLogger("logs"))
        >>> guard.logger
        CSVLogger(save_dir='logs')
    """

    def __init__(self, logger: Logger) -> None:
        self.logger = logger
        self.failed = False
        self._log_metrics = logger.log_metrics  # bound once: this one is called from the training loop

    @property
    def name(self) -> str | None:
        """The guarded logger's name."""
        return self.logger.name

    @property
    def version(self) -> int | str | None:
        """The guarded logger's version."""
        return self.logger.version

    @property
    def save_dir(self) -> str | None:
        """The guarded logger's folder."""
        return self.logger.save_dir

    @property
    def log_dir(self) -> str | None:
        """The guarded logger's folder of this run."""
        return self.logger.log_dir

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Pass the values on."""
        try:
            self._log_metrics(metrics, step)
        except Exception as error:
            self._note("log_metrics", error)

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        """Pass the news on."""
        self._call(self.logger.on_before_optimizer_step, trainer, module, optimizer)

    def log_hyperparams(self, params: Mapping[str, Any]) -> None:
        """Pass the hyper-parameters on."""
        self._call(self.logger.log_hyperparams, params)

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Pass the configuration on."""
        self._call(self.logger.log_config, config)

    def attach(self, run_dir: Path) -> None:
        """Pass the run folder on; a `ConfigError` is raised."""
        try:
            self.logger.attach(run_dir)
        except ConfigError:
            raise
        except Exception as error:
            self._note("attach", error)

    def save(self) -> None:
        """Pass the request on."""
        self._call(self.logger.save)

    def sync(self) -> None:
        """Pass the request on."""
        self._call(self.logger.sync)

    def finalize(self, status: Status) -> None:
        """Pass the status on."""
        self._call(self.logger.finalize, status)

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """Pass the news on."""
        self._call(self.logger.after_save_checkpoint, checkpoint_callback)

    def state_dict(self) -> dict[str, Any]:
        """The guarded logger's state; empty where that fails."""
        return self._call(self.logger.state_dict) or {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Pass the state on."""
        self._call(self.logger.load_state_dict, state)

    def _call(self, method: Callable[..., Any], *args: Any) -> Any:
        try:
            return method(*args)
        except Exception as error:
            self._note(method.__name__, error)
            return None

    def _note(self, method: str, error: Exception) -> None:
        if self.failed:
            return
        self.failed = True
        kind = type(self.logger).__name__
        warnings.warn(
            f"{kind}.{method} failed with {type(error).__name__}: {error}. The training goes on; "
            f"further failures of this logger are not reported.",
            RuntimeWarning,
            stacklevel=3,
        )
