"""What loggers have in common that write files of their own."""

from __future__ import annotations

import re
from pathlib import Path

from framework.loggers.logger import Logger


class VersionedLogger(Logger):
    """Base of loggers that write in `<save_dir>/<name>/version_<N>/`, or, without a `save_dir`, in the run folder.

    Args:
        save_dir: the folder; None writes in the Trainer's run folder.
        name: name of the experiment, used with `save_dir` only.
        version: number or name of the version; None takes the next free number.
        prefix: put before each metric's name, with a dash.
    """

    def __init__(self, save_dir: str | Path | None, name: str, version: int | str | None, prefix: str) -> None:
        self._save_dir = None if save_dir is None else Path(save_dir)
        self._name = name
        self._version = version
        self._prefix = prefix
        self._folder: Path | None = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}(save_dir={self.save_dir!r})"

    @property
    def name(self) -> str | None:
        """The experiment's name: the given one, or that of the run folder's parent."""
        if self._save_dir is not None:
            return self._name
        return self._folder.parent.name if self._folder is not None else None

    @property
    def version(self) -> int | str | None:
        """The version: the N of `version_N`, or the folder's name; before it is known, what was given."""
        if self._folder is None:
            return self._version
        number = re.fullmatch(r"version_(\d+)", self._folder.name)
        return int(number[1]) if number else self._folder.name

    @property
    def save_dir(self) -> str | None:
        """The folder that was given; None for one that writes in the run folder."""
        return None if self._save_dir is None else str(self._save_dir)

    @property
    def log_dir(self) -> str | None:
        """The folder that holds the files; None before it is known."""
        return None if self._folder is None else str(self._folder)

    def _own_folder(self) -> Path:
        """`<save_dir>/<name>/version_<N>`; a free number is taken by making its folder."""
        assert self._save_dir is not None
        parent = self._save_dir / self._name
        if self._version is not None:
            return parent / (f"version_{self._version}" if isinstance(self._version, int) else self._version)
        if self._folder is not None:
            return self._folder
        number = 0
        while True:
            folder = parent / f"version_{number}"
            try:
                folder.mkdir(parents=True)
                return folder
            except FileExistsError:
                number += 1
