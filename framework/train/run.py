"""The folder of a run, and its summary."""

from __future__ import annotations

import json
import math
import os
import platform
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

from framework._version import __version__
from framework.errors import ConfigError
from framework.train.checkpoint import write_atomically

SUMMARY = "summary.json"
CONFIG = "config.yaml"
CHECKPOINTS = "checkpoints"
_VERSION = re.compile(r"version_(\d+)")


class RunFolder:
    """`runs/<name>/version_<N>/`: everything that a run leaves behind.

    Args:
        path: the folder, which exists.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: BinaryIO | None = None

    @classmethod
    def create(cls, parent: Path) -> RunFolder:
        """Make the folder with the next free number in `parent`.

        Raises:
            ConfigError: the file system refuses.
        """
        try:
            parent.mkdir(parents=True, exist_ok=True)
            numbers = [int(m[1]) for m in map(_VERSION.fullmatch, os.listdir(parent)) if m]
            number = max(numbers, default=-1) + 1
            while True:
                try:
                    (parent / f"version_{number}").mkdir()
                    break
                except FileExistsError:  # another run was faster
                    number += 1
        except OSError as error:
            raise ConfigError(
                f"the run folder {parent}/version_N cannot be made: {error.strerror}. "
                "Choose another place with default_root_dir"
            ) from error
        folder = cls(parent / f"version_{number}")
        folder.lock()
        return folder

    @classmethod
    def of_checkpoint(cls, checkpoint: Path, recorded: str | None) -> RunFolder | None:
        """The folder of the run that wrote a checkpoint, if it is still there."""
        candidates = [checkpoint.absolute().parent.parent] if checkpoint.absolute().parent.name == CHECKPOINTS else []
        if recorded is not None:
            candidates.append(Path(recorded))
        for path in candidates:
            if (path / SUMMARY).is_file():
                folder = cls(path)
                folder.lock()
                return folder
        return None

    @staticmethod
    def newest_first(parent: Path) -> list[Path]:
        """The run folders in `parent`, by falling number."""
        found = [(int(m[1]), path) for path in parent.glob("version_*") if (m := _VERSION.fullmatch(path.name))]
        return [path for _, path in sorted(found, reverse=True)]

    @property
    def checkpoints(self) -> Path:
        """Where checkpoints go unless a callback says otherwise."""
        return self.path / CHECKPOINTS

    def lock(self) -> None:
        """Keep other processes from writing here too, until `unlock` or the end of this process.

        Raises:
            ConfigError: another process is at work in this folder.
        """
        try:
            import fcntl
        except ImportError:  # not on this system: go without
            return
        handle = open(self.path / ".lock", "ab")  # noqa: SIM115 - the lock lasts as long as the file is open
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            handle.close()
            raise ConfigError(
                f"{self.path} is in use: another process is training in it. Stop that one first"
            ) from None
        self._lock = handle

    def unlock(self) -> None:
        """Let others write here again."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def write(self, name: str, text: str) -> None:
        """Put a small text file here, whole or not at all."""
        write_atomically(self.path / name, text)


class Summary:
    """What `summary.json` says of each metric: its last value, its range, and the best where that is known."""

    def __init__(self) -> None:
        self.modes: dict[str, str] = {}
        """Name of a metric to "min" or "max", as the callbacks that monitor it say."""
        self._metrics: dict[str, list[float]] = {}

    def see(self, row: Mapping[str, float]) -> None:
        """Take note of a row."""
        metrics = self._metrics
        for name, value in row.items():
            seen = metrics.get(name)
            if seen is None:
                metrics[name] = [value, value, value]
            else:
                seen[0] = value
                if not seen[1] <= value:  # also where the first one was NaN
                    seen[1] = value if value == value else seen[1]
                if not seen[2] >= value:
                    seen[2] = value if value == value else seen[2]

    def metrics(self) -> dict[str, dict[str, float]]:
        """Name to `last`, `min`, `max` and, where one end is the good one, `best`."""
        told = {}
        for name, (last, low, high) in self._metrics.items():
            if name == "epoch":
                continue
            told[name] = {"last": last, "min": low, "max": high}
            mode = self.modes.get(name) or _usual_mode(name)
            if mode is not None:
                told[name]["best"] = low if mode == "min" else high
        return told

    def state_dict(self) -> dict[str, Any]:
        """The values so far."""
        return {name: list(values) for name, values in self._metrics.items()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from saved values."""
        self._metrics = {name: list(values) for name, values in state.items()}


def summary_text(summary: Mapping[str, Any]) -> str:
    """A summary as JSON; numbers that are not finite as text."""
    return json.dumps(_spelled(summary), indent=2, allow_nan=False) + "\n"


def versions(requirements: tuple[str, ...]) -> dict[str, str]:
    """The versions of the framework, Python, and the backend's libraries."""
    from importlib.metadata import PackageNotFoundError, version

    found = {"framework": __version__, "python": platform.python_version()}
    for name in ("numpy", *requirements):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue  # imported under a name that no distribution has
    return found


def snake_case(name: str) -> str:
    """`MnistMLP` as `mnist_mlp`.

    Examples:
        >>> snake_case("MnistMLP"), snake_case("HTTPModel2")
        ('mnist_mlp', 'http_model2')
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


_GOOD_HIGH = ("acc", "accuracy", "precision", "recall", "f1", "auroc", "auc")
_GOOD_LOW = ("loss", "error", "err", "mse", "mae", "rmse")


def _usual_mode(name: str) -> str | None:
    words = re.split(r"[^a-z0-9]+", snake_case(name))
    if any(word in _GOOD_LOW for word in words):
        return "min"
    return "max" if any(word in _GOOD_HIGH for word in words) else None


def _spelled(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _spelled(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_spelled(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
