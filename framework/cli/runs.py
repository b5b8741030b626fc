"""Which run and which checkpoint `--resume` and `--ckpt` mean."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framework.cli import yaml12
from framework.cli.config import Config
from framework.cli.nodes import plain
from framework.errors import CheckpointError, ConfigError
from framework.train.checkpoint import is_valid, load, newest_valid, read_pointer


@dataclass(frozen=True, slots=True)
class Choice:
    """What `--resume` leads to: a checkpoint to go on from, a new run (None), or a run that is finished."""

    checkpoint: Path | None = None
    finished: Path | None = None


def run_root(config: Config) -> Path:
    """The folder of all runs of this config name."""
    return Path(config.trainer.args.get("default_root_dir") or ".") / "runs" / config.name


def runs(config: Config) -> list[Path]:
    """The run folders of this config name, newest first."""
    numbered = []
    root = run_root(config)
    for folder in root.glob("version_*") if root.is_dir() else ():
        number = folder.name.removeprefix("version_")
        if number.isdigit() and folder.is_dir():
            numbered.append((int(number), folder))
    return [folder for _, folder in sorted(numbered, reverse=True)]


def choose_resume(config: Config, wanted: str | None) -> Choice:
    """Where `--resume` goes on.

    Raises:
        CheckpointError: there is no run or no undamaged checkpoint to go on from.
    """
    if wanted is None:
        return Choice()
    if wanted == "auto":
        return _auto(config)
    if wanted == "last":
        return Choice(_newest(_newest_run(config), "--resume last"))
    return Choice(_from_path(Path(wanted)))


def _auto(config: Config) -> Choice:
    wanted = _without_place(config.tree())
    finished = None
    for folder in runs(config):
        if _written_config(folder) != wanted:
            continue
        if _status(folder) == "finished":
            finished = finished or folder
        else:
            checkpoint = newest_valid(folder / "checkpoints")
            if checkpoint is not None:
                return Choice(checkpoint)
    return Choice(finished=finished)


def _without_place(tree: dict[str, Any]) -> Any:
    """What must be equal: all but where code was found; through YAML, as the written one went."""
    text = yaml12.dump({key: value for key, value in tree.items() if key != "sys_path"})
    return plain(yaml12.load(text, ""))


def _written_config(folder: Path) -> Any:
    file = folder / "config.yaml"
    try:
        return _without_place(plain(yaml12.load(file.read_text(encoding="utf-8"), str(file))))
    except (OSError, ConfigError, AttributeError):
        return None


def _status(folder: Path) -> str | None:
    try:
        return str(json.loads((folder / "summary.json").read_bytes())["status"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _newest_run(config: Config) -> Path:
    found = next(iter(runs(config)), None)
    if found is None:
        raise CheckpointError(f"no run of {config.name} in {run_root(config)}")
    return found


def _newest(folder: Path, asked: str) -> Path:
    found = newest_valid(folder / "checkpoints")
    if found is None:
        raise CheckpointError(f"{asked}: {folder} has no undamaged checkpoint")
    return found


def _from_path(path: Path) -> Path:
    """The checkpoint at a path: itself, or the newest one of a run folder.

    Raises:
        CheckpointError: there is none, or it is damaged (the damage is named).
    """
    if not path.exists():
        raise CheckpointError(f"there is no checkpoint at {path}")
    for folder in (path / "checkpoints", path):
        found = newest_valid(folder) if folder.is_dir() else None
        if found is not None:
            return found
    if not is_valid(path):
        load(path)  # says what is wrong with it
    return path


def choose_checkpoint(config: Config, wanted: str | None) -> Path:
    """The checkpoint that `--ckpt` of validate, test and predict means; the best one where it is left out.

    `last` and `best` are those of the run whose own `config.yaml` is given, else of the newest run.

    Raises:
        CheckpointError: there is none.
    """
    if wanted not in (None, "last", "best"):
        return _from_path(Path(wanted))
    run = next(_own_run(config), None) or _newest_run(config)
    best = read_pointer(run / "checkpoints", "best") if wanted != "last" else None
    if best is None and wanted == "best":
        raise CheckpointError(f"--ckpt best: {run} has none; ModelCheckpoint keeps it where it has a monitor")
    return best or _newest(run, f"--ckpt {wanted or 'best'}")


def _own_run(config: Config) -> Iterator[Path]:
    for file in config.files[:1]:
        if file.name == "config.yaml" and (file.parent / "checkpoints").is_dir():
            yield file.parent
