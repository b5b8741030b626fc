"""Writing what `predict_step` returned: an archive of arrays, or a table."""

from __future__ import annotations

import csv
import os
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from framework.autodiff import Tensor
from framework.errors import ConfigError, DataError

SUFFIXES = (".npz", ".csv")


def check_output(path: Path) -> Path:
    """Refuse, before any work is done, a path that cannot be written.

    Raises:
        ConfigError: an unknown suffix, or a folder that is not there or not writable.
    """
    if path.suffix not in SUFFIXES:
        raise ConfigError(f"--output {path}: expected a name that ends in .npz or .csv")
    folder = path.absolute().parent
    try:
        os.rmdir(tempfile.mkdtemp(prefix=".fw-", dir=folder))
    except OSError as error:
        raise ConfigError(f"--output {path}: {error.strerror}: {folder}") from None
    return path


def write_predictions(batches: Sequence[Any], path: Path) -> str:
    """Write the batches, joined along their first axis, under the names they came with; says what was written.

    A step may return one array, a sequence of arrays or a dict of them; (samples, …) each.

    Raises:
        DataError: there are none, or they have no axis of samples.
    """
    arrays = join_batches(batches)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        if path.suffix == ".csv":
            with temporary.open("w", newline="", encoding="utf-8") as file:
                _write_table(csv.writer(file), arrays)
        else:
            with temporary.open("wb") as file:
                np.savez(file, **arrays)  # type: ignore[arg-type]
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    shapes = ", ".join(f"{name} {tuple(array.shape)}" for name, array in arrays.items())
    return f"wrote {path}: {shapes}"


def join_batches(batches: Sequence[Any]) -> dict[str, np.ndarray[Any, Any]]:
    """One array for each name, from what the step returned for each batch.

    Raises:
        DataError: nothing was returned, or values without an axis.
    """
    named = [_named(batch) for batch in batches if batch is not None]
    if not named:
        raise DataError("predict_step returned nothing to write")
    joined: dict[str, np.ndarray[Any, Any]] = {}
    for name in named[0]:
        parts = [batch[name] for batch in named if name in batch and batch[name].ndim > 0]
        if len(parts) < len(named):
            raise DataError(f"predict_step must return arrays (samples, …) in every batch; {name!r} is not one")
        joined[name] = np.concatenate(parts)
    return joined


def _named(batch: Any) -> dict[str, np.ndarray[Any, Any]]:
    if isinstance(batch, Mapping):
        return {str(name): _array(value) for name, value in batch.items()}
    if isinstance(batch, list | tuple):
        return {f"predictions_{index}": _array(value) for index, value in enumerate(batch)}
    return {"predictions": _array(batch)}


def _array(value: Any) -> np.ndarray[Any, Any]:
    array = value.detach().numpy() if isinstance(value, Tensor) else np.asarray(value)
    if array.dtype.hasobject:
        raise DataError(f"predict_step must return arrays, got {type(value).__name__}")
    return array


def _write_table(writer: Any, arrays: Mapping[str, np.ndarray[Any, Any]]) -> None:
    """One row for each sample; an array with more axes takes a column for each of its values."""
    lengths = {len(array) for array in arrays.values()}
    if len(lengths) > 1:
        raise DataError(f"a table needs equally many samples of everything, got {sorted(lengths)}; write .npz instead")
    columns: list[str] = []
    flat = []
    for name, array in arrays.items():
        table = array.reshape(len(array), -1)
        columns += [name] if array.ndim == 1 else [f"{name}_{index}" for index in range(table.shape[1])]
        flat.append(table.tolist())
    writer.writerow(columns)
    rows: Iterable[Any] = zip(*flat, strict=True)
    writer.writerows([value for part in row for value in part] for row in rows)
