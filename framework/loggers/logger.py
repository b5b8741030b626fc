"""The contract between the Trainer and whatever keeps a run's numbers."""
# ruff: noqa: B027 - the optional methods do nothing until a logger overrides them

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

Status = Literal["success", "failed", "interrupted"]


class Logger(ABC):
    """Base of all loggers: receives the rows of a run, its hyper-parameters and its end.

    A step is the number of optimizer updates done, for training and validation alike; the Trainer
    hands over host numbers, in rising order of steps. Whatever a logger raises costs the run one
    warning (see `SafeLogger`), never the training.

    Examples:
        >>> class Last(Logger):
        ...     name, version = "last", 0
        ...     def log_metrics(self, metrics, step=None):
        ...         self.row = {"step": step, **metrics}
        >>> logger = Last()
        >>> logger.log_metrics({"loss": 0.5}, step=3)
        >>> logger.row
        {'step': 3, 'loss': 0.5}
    """

    @property
    @abstractmethod
    def name(self) -> str | None:
        """Name of the experiment that the run belongs to; None before it is known."""

    @property
    @abstractmethod
    def version(self) -> int | str | None:
        """What tells this run from others of the same name; None before it is known."""

    @property
    def save_dir(self) -> str | None:
        """Folder under which the logger writes; None for one that writes no files."""
        return None

    @property
    def log_dir(self) -> str | None:
        """Folder of this very run; None for a logger that writes no files."""
        return self.save_dir

    @abstractmethod
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Take values that belong to `step`; rows of one step are one row. None means the latest step."""

    def on_before_optimizer_step(self, trainer: Any, module: Any, optimizer: Any) -> None:
        """An update is about to be made, the gradients are in place: called for a logger that overrides it."""

    def log_hyperparams(self, params: Mapping[str, Any]) -> None:
        """Take the hyper-parameters, once a run, before its first row."""

    def log_config(self, config: Mapping[str, Any]) -> None:
        """Take the resolved configuration of a run that was started from one."""

    def attach(self, run_dir: Path) -> None:
        """Learn the run folder, before the first row. Without an own `save_dir` a logger writes there."""

    def save(self) -> None:
        """Hand everything complete to the operating system."""

    def sync(self) -> None:
        """Force to the disk what the latest `state_dict` counts on; a checkpoint with that is complete only then.

        Called in another thread, while the training goes on and logs.
        """

    def finalize(self, status: Status) -> None:
        """A fit, validation or test has ended; more rows may follow (a test after a fit)."""

    def after_save_checkpoint(self, checkpoint_callback: Any) -> None:
        """A `ModelCheckpoint` has written a checkpoint; its attributes say which, and which is best."""

    def state_dict(self) -> dict[str, Any]:
        """State tree with which a resumed run continues without a gap or a double row."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`. Called after or before `attach`, always before the first row."""


def plain(value: Any) -> Any:
    """`value` as numbers, strings, lists and dicts, for a file or a server; never calls anything in it.

    Classes and functions become their dotted names, arrays of one element a number, larger ones
    lists up to 100 elements; anything else becomes its shortened `repr`.

    Examples:
        >>> plain({"lr": 0.1, "sizes": (300, 100), "act": print})
        {'lr': 0.1, 'sizes': [300, 100], 'act': 'builtins.print'}
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(item) for item in value]
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, type) or (callable(value) and hasattr(value, "__qualname__")):
        return f"{value.__module__}.{value.__qualname__}"
    if hasattr(value, "tolist") and getattr(value, "size", 101) <= 100:
        return value.tolist()
    text = repr(value)
    return text if len(text) <= 200 else f"{text[:197]}..."


def with_prefix(metrics: Mapping[str, float], prefix: str) -> Mapping[str, float]:
    """The metrics with `prefix-` before each name; itself for the empty prefix."""
    return {prefixed(name, prefix): value for name, value in metrics.items()} if prefix else metrics


def prefixed(name: str, prefix: str) -> str:
    """The name with `prefix-` before it; itself for the empty prefix."""
    return f"{prefix}-{name}" if prefix else name
