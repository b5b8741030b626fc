"""Uploading W&B runs that were kept offline: `wandb sync`, one W&B run after the other, its segments in order."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from framework.errors import ConfigError

SEGMENT = re.compile(r"offline-run-(\d{8}_\d{6})-(.+)")


@dataclass(slots=True)
class OfflineRun:
    """One W&B run: what was written each time it was begun or continued, oldest first."""

    id: str
    segments: list[Path]

    @property
    def is_synced(self) -> bool:
        """Whether W&B has marked every segment as uploaded."""
        return all(any(folder.glob("run-*.wandb.synced")) for folder in self.segments)


def offline_runs(folders: Iterable[Path]) -> list[OfflineRun]:
    """The offline W&B runs in `wandb/` of these folders, in the order in which they began."""
    found: dict[str, list[tuple[str, Path]]] = {}
    for folder in dict.fromkeys(folders):
        for path in (folder / "wandb").glob("offline-run-*"):
            match = SEGMENT.fullmatch(path.name)
            if match and path.is_dir():
                found.setdefault(match[2], []).append((match[1], path))
    runs = sorted((sorted(parts), identity) for identity, parts in found.items())
    return [OfflineRun(identity, [path for _, path in parts]) for parts, identity in runs]


def command() -> list[str]:
    """The start of the command line: `wandb` from the path, else as a module of this Python.

    Raises:
        ConfigError: W&B is not installed.
    """
    program = shutil.which("wandb")
    if program:
        return [program]
    spec = importlib.util.find_spec("wandb")
    if spec is None or spec.origin is None:
        raise ConfigError("fw runs sync needs the package wandb, which is not installed: pip install wandb")
    return [sys.executable, "-m", "wandb"]


def sync(runs: Iterable[OfflineRun], say: Callable[[str], None]) -> int:
    """Upload the runs that are not yet uploaded; gives how many could not be.

    Raises:
        ConfigError: W&B is not installed.
    """
    waiting = [run for run in runs if not run.is_synced]
    if not waiting:
        say("nothing to upload")
        return 0
    program = command()
    failures = 0
    for run in waiting:
        count = len(run.segments)
        say(f"uploading {run.id} from {run.segments[0]}{f' and {count - 1} more' if count > 1 else ''}")
        done = subprocess.run([*program, "sync", *map(str, run.segments)], check=False)
        if done.returncode:
            failures += 1
            say(f"{run.id}: wandb sync ended with exit code {done.returncode}")
    return failures
