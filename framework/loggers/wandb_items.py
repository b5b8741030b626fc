"""What travels from the training to the W&B thread: plain values, pictures, tables, checkpoints."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from framework.autodiff import Tensor
from framework.errors import ConfigError
from framework.loggers.pictures import check_list, drawn, pixels

BYTES_PER_S = 2_000_000.0
"""The slowest upload of a checkpoint that is still waited for."""


class Row(NamedTuple):
    """Values of one step."""

    step: int
    values: dict[str, float]


class Config(NamedTuple):
    """Entries for the W&B config."""

    entries: dict[str, Any]


class Flush(NamedTuple):
    """A wish to have the row at hand sent."""


@dataclass(slots=True)
class Media(ABC):
    """Something to look at, which joins the row of its step. Its values are on the host and nobody else's."""

    step: int
    key: str
    is_heavy = True

    @abstractmethod
    def made(self, wandb: Any) -> Any:
        """The W&B object, or a list of them."""


@dataclass(slots=True)
class Images(Media):
    """Pictures."""

    values: list[Any]
    options: list[dict[str, Any]]
    """For each picture, what else W&B's class is given."""

    def made(self, wandb: Any) -> Any:
        """A list of W&B images."""
        return [wandb.Image(_picture(value), **more) for value, more in zip(self.values, self.options, strict=True)]


@dataclass(slots=True)
class Table(Media):
    """A table."""

    arguments: dict[str, Any]
    """What W&B's class is given."""

    def made(self, wandb: Any) -> Any:
        """A W&B table."""
        return wandb.Table(**self.arguments)


@dataclass(slots=True)
class Histogram(Media):
    """How numbers are distributed."""

    values: Any
    num_bins: int

    def made(self, wandb: Any) -> Any:
        """A W&B histogram."""
        return wandb.Histogram(self.values, num_bins=self.num_bins)


@dataclass(slots=True)
class Checkpoint:
    """A checkpoint to keep as an artifact; `folder` is a copy that is deleted once W&B has its own."""

    folder: Path
    name: str
    aliases: list[str]
    metadata: dict[str, Any]
    is_heavy = True

    @property
    def limit_s(self) -> float:
        """Seconds that taking it may need beyond those for any item."""
        return sum(file.stat().st_size for file in self.folder.iterdir()) / BYTES_PER_S if self.folder.exists() else 0.0

    def send(self, run: Any, wandb: Any) -> None:
        """Hand the files to W&B."""
        try:
            artifact = wandb.Artifact(name=self.name, type="model", metadata=self.metadata)
            for file in sorted(self.folder.iterdir()):  # add_dir would print
                artifact.add_file(str(file), name=file.name)
            run.log_artifact(artifact, aliases=self.aliases)
        finally:
            self.discard()

    def discard(self) -> None:
        """Delete the copy."""
        shutil.rmtree(self.folder, ignore_errors=True)


def staged(checkpoint: Path, parent: Path) -> Path:
    """A copy of a checkpoint folder that later deletions leave alone: hard links, where the disk has them."""
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=".checkpoint-", dir=parent))
    try:
        for file in checkpoint.iterdir():
            try:
                os.link(file, folder / file.name)
            except OSError:
                shutil.copyfile(file, folder / file.name)
    except BaseException:  # half a copy is none
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return folder


def host_images(key: str, values: Any, options: Mapping[str, Any]) -> tuple[list[Any], list[dict[str, Any]]]:
    """Pictures on the host, and for each the options that are given as lists.

    Raises:
        ConfigError: the pictures are no list, or an option is not one of the same length.
    """
    check_list(key, values)
    for name, given in options.items():
        if not isinstance(given, list | tuple) or len(given) != len(values):
            raise ConfigError(
                f"log_image({key!r}, {name}=…) takes a list with one entry for each of {len(values)} images"
            )
    several = [{name: given[index] for name, given in options.items()} for index in range(len(values))]
    return [_host(value) for value in values], several


def table(columns: Sequence[Any] | None, data: Sequence[Any] | None, dataframe: Any) -> dict[str, Any]:
    """The arguments of a W&B table, with host values."""
    if dataframe is not None:
        return {"dataframe": dataframe.copy()}
    rows = [[_cell(cell) for cell in row] for row in data or []]
    return {"columns": None if columns is None else [str(name) for name in columns], "data": rows}


def host_values(values: Any) -> Any:
    """Numbers for a histogram, flat and on the host."""
    if isinstance(values, Tensor):
        return values.detach().numpy().reshape(-1).copy()
    return values.reshape(-1).copy() if hasattr(values, "reshape") else list(values)


def _cell(value: Any) -> Any:
    if isinstance(value, Tensor):
        return value.item() if value.size == 1 else value.tolist()
    return value.item() if hasattr(value, "item") and getattr(value, "size", 0) == 1 else value


def _host(value: Any) -> Any:
    """A picture that stays as it is while the training goes on."""
    if isinstance(value, Tensor):
        return pixels(value)
    if hasattr(value, "savefig"):
        return io.BytesIO(drawn(value))
    if isinstance(value, Path):
        return str(value)
    return value.copy() if hasattr(value, "copy") else value


def _picture(value: Any) -> Any:
    if isinstance(value, io.BytesIO):
        from PIL import Image

        return Image.open(value)
    return value
