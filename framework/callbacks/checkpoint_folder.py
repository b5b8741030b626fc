"""What is done to the folder that holds checkpoints."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

from framework.callbacks.checkpoint_name import POINTERS


def free_name(folder: Path, name: str) -> str:
    """`name`, or with `-v1`, `-v2`, … the first of them that is not taken."""
    version, free = 0, name
    while free in POINTERS or (folder / free).exists():
        version += 1
        free = f"{name}-v{version}"
    return free


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
