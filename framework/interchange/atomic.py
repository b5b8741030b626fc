"""Files that are there whole or not at all, whatever happens while they are written."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from pathlib import Path

Buffer = bytes | memoryview
"""The content of a file, or a part of it."""

TEMPORARY = ".tmp-"
"""How the names of files and folders begin that are not finished."""


def temporary_beside(path: Path) -> Path:
    """A name in the folder of `path` that nothing else has."""
    return path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}-{time.monotonic_ns():x}")


def write_file(path: Path, content: Buffer | Iterable[Buffer]) -> None:
    """Write a file and flush it to the disk."""
    parts = [content] if isinstance(content, bytes | memoryview) else content
    with open(path, "wb") as file:
        for part in parts:
            file.write(part)
        file.flush()
        os.fsync(file.fileno())


def replace_file(path: str | Path, content: Buffer | Iterable[Buffer]) -> None:
    """Replace a file so that a kill leaves the old one or the new one, never half of one."""
    path = Path(path)
    temporary = temporary_beside(path)
    try:
        write_file(temporary, content)
        os.replace(temporary, path)
        sync_folder(path.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def sync_folder(path: Path) -> None:
    """Flush a folder's entries to the disk, where the system can."""
    if os.name != "posix":
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
