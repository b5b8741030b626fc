"""What run folders tell: their summary, their rows, their configuration and their checkpoints. Read, never written."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from framework.cli import yaml12
from framework.cli.nodes import plain
from framework.errors import ConfigError, FrameworkError, did_you_mean
from framework.train.checkpoint import MANIFEST, read_pointer
from framework.train.run import CHECKPOINTS, CONFIG, SUMMARY, RunFolder

METRICS = "metrics.jsonl"
FIXED = ("step", "epoch", "wall_s")
HIDDEN = ("sys_path",)
"""Keys of a configuration in which two equal runs may differ."""


@dataclass
class RunRecord:
    """One run, as far as its folder can be read; `problem` says what cannot."""

    path: Path
    summary: Mapping[str, Any] = field(default_factory=dict)
    problem: str = ""
    wanted: frozenset[str] | None = None
    """The metrics to tell of; None for all."""

    def only(self, metrics: Iterable[str]) -> RunRecord:
        """The same run with these metrics alone."""
        return RunRecord(self.path, self.summary, self.problem, frozenset(metrics))

    @property
    def name(self) -> str:
        """The run in two words: `mnist_mlp/version_3`."""
        return f"{self.path.parent.name}/{self.path.name}"

    @property
    def status(self) -> str:
        """The summary's word; "killed" for one that says "running" while nobody is at work, "broken" for no summary."""
        if self.problem:
            return "broken"
        status = str(self.summary.get("status") or "unknown")
        return "killed" if status == "running" and not _is_locked(self.path) else status

    @property
    def started(self) -> float:
        """When the run last began, in seconds since 1970."""
        for name in (CONFIG, METRICS, "."):
            file = self.path / name
            if file.exists():
                return file.stat().st_mtime
        return 0.0

    @property
    def metrics(self) -> dict[str, dict[str, float]]:
        """Name to `last`, `min`, `max` and, where one end is the good one, `best`; the test metrics among them.

        A run that was killed wrote no summary at its end: then the rows tell.
        """
        found: dict[str, dict[str, float]] = {}
        given = self.summary.get("metrics")
        for name, values in given.items() if isinstance(given, Mapping) else ():
            if isinstance(values, Mapping):
                found[name] = {str(kind): number(value) for kind, value in values.items()}
        for name, value in self.summary.items():
            if name.startswith("test_") and name not in found and not isinstance(value, Mapping | list):
                found[name] = {"last": number(value)}
        if not found:
            for name, points in self.curves.items():
                finite = [value for _, value in points if math.isfinite(value)]
                found[name] = {"last": points[-1][1]}
                if finite:
                    found[name] |= {"min": min(finite), "max": max(finite)}
        return {name: values for name, values in found.items() if self._tells(name)}

    @cached_property
    def curves(self) -> dict[str, list[tuple[float, float]]]:
        """Name to its (step, value) pairs, in the order of the rows; lines that cannot be read are left out."""
        curves: dict[str, list[tuple[float, float]]] = {}
        for row in _rows(self.path / METRICS):
            step = row.get("step")
            if not isinstance(step, int | float):
                continue
            for name, value in row.items():
                if name not in FIXED and self._tells(name):
                    curves.setdefault(name, []).append((step, number(value)))
        return curves

    def _tells(self, name: str) -> bool:
        return self.wanted is None or name in self.wanted

    @cached_property
    def config(self) -> dict[str, Any]:
        """The configuration, each value under its whole key path; empty for a run without one."""
        file = self.path / CONFIG
        try:
            tree = plain(yaml12.load(file.read_text(encoding="utf-8"), str(file)))
        except (OSError, ValueError, FrameworkError):
            return {}
        shown = {key: value for key, value in tree.items() if key not in HIDDEN} if isinstance(tree, dict) else {}
        return flat(shown)

    @property
    def checkpoints(self) -> list[tuple[Path, str]]:
        """The checkpoint folders, oldest first, each with what it is: "last", "best", both or nothing."""
        folder = self.path / CHECKPOINTS
        if not folder.is_dir():
            return []
        marks: dict[Path, list[str]] = {}
        for which in ("last", "best"):
            try:
                target = read_pointer(folder, which)
            except (OSError, FrameworkError, ValueError):
                continue
            if target is not None:
                marks.setdefault(target, []).append(which)
        found = [f for f in folder.iterdir() if (f / MANIFEST).is_file()]
        found.sort(key=lambda f: (f.stat().st_mtime, f.name))
        return [(f, " and ".join(marks.get(f, ()))) for f in found]

    @property
    def pictures(self) -> list[Path]:
        """What the run has drawn into its folder."""
        return sorted(path for path in self.path.glob("*.*") if path.suffix in (".png", ".svg"))


def number(value: Any) -> float:
    """A number as it was written, those that are not finite as words."""
    try:
        return float(value)
    except (TypeError, ValueError):
        return math.nan


def flat(tree: Any, path: str = "") -> dict[str, Any]:
    """The leaves of a tree of mappings and lists of objects, by key path.

    Examples:
        >>> flat({"model": {"init_args": {"hidden": [3, 4]}}, "callbacks": [{"class_path": "A"}]})
        {'model.init_args.hidden': [3, 4], 'callbacks.0.class_path': 'A'}
    """
    if isinstance(tree, Mapping) and tree:
        items = tree.items()
    elif isinstance(tree, list) and any(isinstance(item, Mapping) for item in tree):
        items = {str(index): item for index, item in enumerate(tree)}.items()
    else:
        return {path: tree}
    found: dict[str, Any] = {}
    for key, value in items:
        found |= flat(value, f"{path}.{key}" if path else str(key))
    return found


def differences(configs: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """The key paths in which configurations differ, with the value in each; `ABSENT` where one has none."""
    keys = dict.fromkeys(key for config in configs for key in config)
    values = {key: [config.get(key, ABSENT) for config in configs] for key in keys}
    return {key: row for key, row in values.items() if any(value != row[0] for value in row[1:])}


ABSENT = object()
"""Stands for the value of a configuration that has none at a key path."""


def spelled(value: Any) -> str:
    """A value of `differences` as text; empty where there is none."""
    return "" if value is ABSENT else "null" if value is None else str(value)


def read_run(path: Path) -> RunRecord:
    """What a folder tells; never raises for what is in it."""
    file = path / SUMMARY
    try:
        summary = json.loads(file.read_bytes())
    except FileNotFoundError:
        return RunRecord(path, problem=f"there is no {SUMMARY}")
    except OSError as error:
        return RunRecord(path, problem=f"{SUMMARY} cannot be read: {error.strerror}")
    except ValueError:  # not JSON, or not even text
        return RunRecord(path, problem=f"{SUMMARY} is not JSON")
    if not isinstance(summary, dict):
        return RunRecord(path, problem=f"{SUMMARY} holds no mapping")
    return RunRecord(path, summary)


def find_runs(root: Path) -> list[RunRecord]:
    """Every run folder in `root`, newest first; `root` may be the folder that holds `runs/`, or that itself.

    Raises:
        ConfigError: there is no such folder.
    """
    if not root.is_dir():
        raise ConfigError(f"there is no folder {root}")
    top = root / "runs" if (root / "runs").is_dir() else root
    folders = [version for name in sorted(top.iterdir()) if name.is_dir() for version in RunFolder.newest_first(name)]
    return sorted(map(read_run, filter(Path.is_dir, folders)), key=lambda run: -run.started)


def choose(runs: Sequence[RunRecord], wanted: str) -> RunRecord:
    """The run that a word means: its folder, `name/version_N`, or a name for the newest one of it.

    Raises:
        ConfigError: there is none.
    """
    folder = Path(wanted)
    if folder.is_dir() and not any(run.name == wanted for run in runs):
        if folder.name.startswith("version_") or (folder / SUMMARY).exists() or (folder / METRICS).exists():
            return read_run(folder.absolute() if folder.parent == Path() else folder)
        newest = next(iter(RunFolder.newest_first(folder)), None)
        if newest is not None:
            return read_run(newest)
    for run in runs:
        if wanted == run.name:
            return run
    numbered = sorted((run for run in runs if run.path.parent.name == wanted), key=_number, reverse=True)
    if numbered:
        return numbered[0]
    known = [*dict.fromkeys(run.path.parent.name for run in runs), *(run.name for run in runs)]
    hint = did_you_mean(wanted, known) or (f" There are {', '.join(known[:8])}" if known else " There are none")
    raise ConfigError(f"no run {wanted!r}.{hint}")


def _number(run: RunRecord) -> int:
    digits = run.path.name.rpartition("_")[2]
    return int(digits) if digits.isdigit() else -1


def _rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a file of JSON lines, less what is no row."""
    rows = []
    try:
        lines = path.read_bytes().splitlines()
    except OSError:
        return []
    for line in lines:
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict):
            rows.append(row)
    return rows


def _is_locked(path: Path) -> bool:
    """Whether a process trains in a run folder; True where that cannot be known."""
    try:
        import fcntl

        with open(path / ".lock", "rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except (ImportError, OSError):
        return True
    return False
