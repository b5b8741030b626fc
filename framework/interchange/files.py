"""`fw.save` and `fw.load`: named arrays in a safetensors file."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from framework.autodiff import Tensor
from framework.errors import CheckpointError, ConfigError, DTypeError
from framework.interchange.arrayfile import CODES, METADATA, Array, parts, read
from framework.interchange.atomic import replace_file

File = str | os.PathLike[str] | BinaryIO


def save(mapping: Mapping[str, Any], file: File) -> None:
    """Write named arrays to a safetensors file, which is there whole or not at all.

    Args:
        mapping: names to Tensors or arrays of any layout in memory and on any device, such as a `state_dict()`.
        file: a path, whose folder exists, or a file that is open for writing bytes.

    Raises:
        DTypeError: a value is no array, or of a dtype that the format does not have.
        ConfigError: a name is no string.
        CheckpointError: the disk refused; what was there before is untouched.

    Examples:
        >>> import io
        >>> import framework as fw
        >>> file = io.BytesIO()
        >>> fw.save(fw.nn.Linear(3, 2).state_dict(), file)
        >>> {name: array.shape for name, array in fw.load(file).items()}
        {'bias': (2,), 'weight': (2, 3)}
    """
    if not isinstance(mapping, Mapping):
        raise DTypeError(
            f"fw.save: got {type(mapping).__name__}; expected a mapping of names to arrays, such as model.state_dict()"
        )
    arrays = {_name(name): _array(name, value) for name, value in mapping.items()}
    if not isinstance(file, str | os.PathLike):
        for part in parts(arrays):
            file.write(part)
        return
    path = Path(os.path.realpath(file))  # through links: what they name is replaced, not they
    try:
        replace_file(path, parts(arrays))
    except OSError as error:
        raise CheckpointError(
            f"fw.save: cannot write {os.fspath(file)}: {error.strerror or error}. What was there before is untouched"
        ) from error


def load(file: File) -> dict[str, Array]:
    """The arrays of a safetensors file, whoever wrote it, as NumPy arrays by name.

    `load_state_dict` takes what this returns; `fw.tensor` makes a Tensor of an array. Nothing in a file is ever run.

    Args:
        file: a path, or a file that is open for reading bytes and can be sought in; it is read from its beginning.

    Raises:
        CheckpointError: there is no such file, or it is cut short, damaged, or of another format (a pickle, say).

    Examples:
        >>> import io
        >>> import framework as fw
        >>> file = io.BytesIO()
        >>> fw.save({"mean": fw.tensor([0.5, 2.0])}, file)
        >>> fw.load(file)["mean"].tolist()
        [0.5, 2.0]
    """
    if not isinstance(file, str | os.PathLike):
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        return read(file, size, str(getattr(file, "name", "the file")))
    try:
        with open(file, "rb") as opened:
            return read(opened, os.fstat(opened.fileno()).st_size, os.fspath(file))
    except OSError as error:
        raise CheckpointError(f"fw.load: cannot read {os.fspath(file)}: {error.strerror or error}") from error


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise ConfigError(
            f"fw.save: names are strings, got {name!r} of type {type(name).__name__}: write {str(name)!r}"
        )
    if name == METADATA:
        raise ConfigError(f"fw.save: {METADATA!r} has a meaning of its own in the file; choose another name")
    return name


def _array(name: str, value: Any) -> Array:
    """A value as an array of a dtype that the format has, with the machine's order of bytes or another."""
    if isinstance(value, Tensor):
        array = np.asarray(value.detach().numpy())
    elif isinstance(value, np.ma.MaskedArray):
        raise DTypeError(f"fw.save: {name!r} is a masked array, and the file has no masks; save data and mask by name")
    elif hasattr(value, "dtype") and hasattr(value, "__array__"):
        array = np.asarray(value)
    else:
        shown = "None" if value is None else f"of type {type(value).__name__}"
        raise DTypeError(f"fw.save: {name!r} is {shown}; values are Tensors or arrays.{_advice(name, value)}")
    if array.dtype.name in CODES and not array.dtype.hasobject and array.dtype.names is None:
        return array
    hint = " Save its real and its imaginary part, or .astype('complex64')" if array.dtype.kind == "c" else ""
    raise DTypeError(
        f"fw.save: {name!r} is of dtype {array.dtype.name}, which the format does not have; it has "
        f"{', '.join(sorted(CODES))}.{hint}"
    )


def _advice(name: str, value: Any) -> str:
    if isinstance(value, Mapping):
        inner = next(iter(value), "x")
        return f" Give each array in it a name of its own: {f'{name}.{inner}'!r}"
    if isinstance(value, bool | int | float | complex | list | tuple):
        return " Make it one: fw.tensor(...)"
    return " Leave it out, or keep it in a file of another format beside this one"
