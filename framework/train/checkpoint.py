"""Checkpoints on disk: immutable folders of safetensors and JSON, written so that a kill leaves no half one.

    checkpoints/
        epoch=3-step=1290/
            model.safetensors       the arrays of the tree "model", under their own names
            optimizer.safetensors   the arrays of all other trees
            state.json              everything that is no array, with references to the arrays
            manifest.json           size and SHA-256 of each file; written last
        last                        one line: the name of a folder beside it
        best

A folder is written under a temporary name, flushed to the disk, and renamed. It counts only when its
manifest is there and agrees with every file. Nothing is pickled; loading imports and runs nothing.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from framework.errors import CheckpointError
from framework.interchange import atomic
from framework.interchange.arrayfile import read, to_content
from framework.interchange.atomic import TEMPORARY, Buffer, sync_folder, temporary_beside
from framework.train.statetree import lift, lower

FORMAT = 1
MANIFEST = "manifest.json"
STATE = "state.json"
MODEL_ARRAYS = "model.safetensors"
OTHER_ARRAYS = "optimizer.safetensors"
POINTERS = ("last", "best")


# -- saving ----------------------------------------------------------------------------------------


def save(path: str | Path, trees: dict[str, Any]) -> None:
    """Write state trees as one immutable checkpoint folder at `path`.

    Args:
        path: the folder to make; its parents are made too.
        trees: a state tree for each name; the arrays of `"model"` go to a file of their own.

    Raises:
        CheckpointError: something in a tree cannot be stored (named with its place), `path` already
            holds a valid checkpoint, or the disk refused; earlier checkpoints are untouched then.
    """
    write(path, pack(trees))


def write(path: str | Path, packed: Mapping[str, Buffer]) -> None:
    """Write what `pack` made as one immutable checkpoint folder at `path`; it may be done in another thread.

    Raises:
        CheckpointError: `path` already holds a valid checkpoint, or the disk refused.
    """
    path = Path(path)
    files = seal(packed)
    if path.exists() and is_valid(path):
        raise CheckpointError(
            f"{path} already holds a checkpoint, and checkpoints are never changed; save to a new name"
        )
    temporary = temporary_beside(path)
    try:
        temporary.mkdir(parents=True)
        for name, content in files.items():
            atomic.write_file(temporary / name, content)
        sync_folder(temporary)
        if path.exists():  # what is there is damaged: it can only be in the way
            shutil.rmtree(path)
        os.rename(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        raise CheckpointError(f"cannot save a checkpoint to {path}: {_reason(error)}") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def pack(trees: dict[str, Any]) -> dict[str, Buffer]:
    """The files of a checkpoint but for its manifest, name to content: a copy, so that training may go on.

    Raises:
        CheckpointError: a value is no part of a state tree.
    """
    model_arrays: dict[str, Any] = {}
    other_arrays: dict[str, Any] = {}
    plain = {}
    for name, tree in trees.items():
        own = name == "model"
        plain[name] = lift(tree, owner=name, prefix="" if own else name, arrays=model_arrays if own else other_arrays)
    return {
        MODEL_ARRAYS: to_content(model_arrays),
        OTHER_ARRAYS: to_content(other_arrays),
        STATE: _json({"format": FORMAT, "trees": plain}),
    }


def seal(packed: Mapping[str, Buffer]) -> dict[str, Buffer]:
    """The files with the manifest, which is written last."""
    listed = {
        name: {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()} for name, content in packed.items()
    }
    return {**packed, MANIFEST: _json({"format": FORMAT, "saved_at": time.time_ns(), "files": listed})}


def _json(value: Any) -> bytes:
    return (json.dumps(value, allow_nan=False) + "\n").encode()  # with an indent, json's slow encoder is used


def _reason(error: OSError) -> str:
    where = f" ({error.filename})" if error.filename else ""
    return f"{error.strerror or error}{where}. Free some space or choose another folder; earlier checkpoints are intact"


def write_atomically(path: str | Path, content: str) -> None:
    """Replace a small text file so that a kill leaves the old one or the new one, never half of one."""
    atomic.replace_file(path, content.encode())


def free_path(path: Path) -> Path:
    """`path`, or with `-v1`, `-v2`, … if that is taken."""
    version, free = 0, path
    while free.exists():
        version += 1
        free = path.with_name(f"{path.name}-v{version}")
    return free


# -- loading ---------------------------------------------------------------------------------------


def load(path: str | Path) -> dict[str, Any]:
    """The state trees of a checkpoint, with NumPy arrays; every file is checked first.

    Raises:
        CheckpointError: there is none, or it is damaged.
    """
    path = Path(path)
    files = _verified(path)
    try:
        document = json.loads(files[STATE])
        arrays = {"model": _arrays(files, MODEL_ARRAYS), "": _arrays(files, OTHER_ARRAYS)}
    except (ValueError, KeyError) as error:
        raise CheckpointError(f"{path} is not a checkpoint of this framework: {error}") from error
    return {name: lower(tree, arrays.get(name, arrays[""])) for name, tree in document["trees"].items()}


def _arrays(files: Mapping[str, bytes], name: str) -> dict[str, Any]:
    return read(io.BytesIO(files[name]), len(files[name]), name)


def is_valid(path: str | Path) -> bool:
    """Whether `path` holds a whole, undamaged checkpoint."""
    try:
        _verified(Path(path))
    except CheckpointError:
        return False
    return True


def valid_checkpoints(folder: str | Path) -> list[Path]:
    """The undamaged checkpoints in a folder, oldest first."""
    found = []
    with contextlib.suppress(OSError):
        for path in Path(folder).iterdir():
            if not path.name.startswith(TEMPORARY) and path.is_dir() and is_valid(path):
                found.append((_manifest(path)["saved_at"], path.name, path))
    return [path for _, _, path in sorted(found)]


def newest_valid(folder: str | Path) -> Path | None:
    """The newest undamaged checkpoint of a training in a folder; one of weights alone where there is no other.

    Older ones are not read.
    """
    dated = []
    with contextlib.suppress(OSError):
        for path in Path(folder).iterdir():
            if not path.name.startswith(TEMPORARY) and path.is_dir():
                with contextlib.suppress(CheckpointError):
                    dated.append((_manifest(path)["saved_at"], path.name, path))
    found = None
    for _, _, path in sorted(dated, reverse=True):
        if is_valid(path):
            if "optimizer" in json.loads((path / STATE).read_bytes())["trees"]:
                return path
            found = found or path
    return found


def _manifest(path: Path) -> dict[str, Any]:
    if not path.exists():
        raise CheckpointError(f"there is no checkpoint at {path}")
    try:
        manifest = json.loads((path / MANIFEST).read_bytes())
        if not (isinstance(manifest["saved_at"], int) and isinstance(manifest["files"], dict)):
            raise ValueError("unexpected content")
    except OSError:
        raise CheckpointError(
            f"{path} is no finished checkpoint: it has no readable {MANIFEST}. "
            "A checkpoint is a folder such as runs/NAME/version_0/checkpoints/epoch=0-step=430"
        ) from None
    except (ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path / MANIFEST} is damaged: {error}") from error
    if manifest.get("format") != FORMAT:
        raise CheckpointError(f"{path} has checkpoint format {manifest.get('format')!r}; this version reads {FORMAT}")
    return manifest


def _verified(path: Path) -> dict[str, bytes]:
    """The content of every file, after comparing it with the manifest."""
    files = {}
    for name, expected in _manifest(path)["files"].items():
        if Path(name).name != name:
            raise CheckpointError(f"{path / MANIFEST} is damaged: it names a file outside the checkpoint, {name!r}")
        try:
            content = (path / name).read_bytes()
        except OSError as error:
            raise CheckpointError(f"{path} is damaged: {name} cannot be read ({error.strerror})") from error
        if len(content) != expected["size"]:
            raise CheckpointError(f"{path} is damaged: {name} has {len(content)} bytes instead of {expected['size']}")
        if hashlib.sha256(content).hexdigest() != expected["sha256"]:
            raise CheckpointError(f"{path} is damaged: the checksum of {name} does not agree with its manifest")
        files[name] = content
    return files


# -- pointers and leftovers ------------------------------------------------------------------------


def read_pointer(folder: str | Path, which: str) -> Path | None:
    """The checkpoint that `last` or `best` in a folder names, or None when it names no valid one."""
    folder = Path(folder)
    try:
        name = (folder / which).read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None
    path = folder / name
    return path if name and Path(name).name == name and is_valid(path) else None


def write_pointer(folder: str | Path, which: str, target: str | Path) -> None:
    """Make `last` or `best` in a folder name the checkpoint `target`, which lies in that folder.

    Raises:
        CheckpointError: the disk refused, or `target` lies elsewhere.
    """
    folder, target = Path(folder), Path(target)
    if which not in POINTERS:
        raise CheckpointError(f"pointers are {' and '.join(POINTERS)}, got {which!r}")
    if target.parent.resolve() != folder.resolve():
        raise CheckpointError(f"the pointer {folder / which} can only name a checkpoint in {folder}, got {target}")
    try:
        write_atomically(folder / which, target.name + "\n")
    except OSError as error:
        raise CheckpointError(f"cannot write {folder / which}: {_reason(error)}") from error


def remove_leftovers(folder: str | Path) -> None:
    """Delete what a killed process left half-written in a folder; nothing else writes there."""
    with contextlib.suppress(OSError):
        for path in Path(folder).iterdir():
            if path.name.startswith(TEMPORARY):
                if path.is_dir():
                    shutil.rmtree(path, ignore_errors=True)
                else:
                    path.unlink(missing_ok=True)
