"""What is done to the folder that holds checkpoints."""

from __future__ import annotations

import shutil
import warnings
from collections.abc import Collection, Iterable
from pathlib import Path

from framework.callbacks.checkpoint_name import POINTERS
from framework.errors import CheckpointError


def free_name(folder: Path, name: str, first: int = 1) -> str:
    """`name`, or with `-v1`, `-v2`, … the first of them that is not taken."""
    version, free = first, name
    while free in POINTERS or (folder / free).exists():
        free = f"{name}-v{version}"
        version += 1
    return free


def choose_name(
    folder: Path, name: str, owned: Collection[str], count_versions: bool, first: int = 1
) -> tuple[str, str]:
    """A name that is not taken, and where to write first if it is to replace one of the `owned` checkpoints.

    Raises:
        CheckpointError: the name is taken by another's checkpoint, and must not get a version.
    """
    free = free_name(folder, name, first)
    if free == name or count_versions:
        return free, ""
    if name in owned:
        return name, free
    raise CheckpointError(
        f"{folder / name} exists and is not a checkpoint of this callback, and enable_version_counter=False "
        f"forbids {free!r}. Choose another dirpath or filename, or delete it."
    )


def replace(namesake: Path, spare: Path) -> None:
    """Let the checkpoint `spare` take the place of its namesake."""
    if namesake.exists():
        delete(namesake)
    spare.rename(namesake)


def delete_all(folder: Path, names: Iterable[str], spared: str | None) -> set[str]:
    """Delete these checkpoints, but never the one at the path `spared`; gives the names of those that are gone."""
    kept = Path(spared).resolve() if spared else None
    paths = {name: folder / name for name in names}
    wanted = {name: path for name, path in paths.items() if path.resolve() != kept}
    return {name for name, path in wanted.items() if not path.exists() or delete(path)}


def delete(path: Path) -> bool:
    """Delete a checkpoint, its manifest first, so that half of it is never taken for a whole one.

    Where the file system refuses, warns and returns False.
    """
    try:
        (path / "manifest.json").unlink(missing_ok=True)
        shutil.rmtree(path)
    except OSError as error:
        warnings.warn(f"The old checkpoint {path} could not be deleted: {error}", RuntimeWarning, stacklevel=2)
        return False
    return True
