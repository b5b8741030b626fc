"""Files of arrays that can be memory-mapped: what their headers say, and the maps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from framework.errors import DataError

_SAFETENSORS = {
    "F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "i1",
    "U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "u1", "BOOL": "?", "C64": "<c8",
}  # fmt: skip
_LONGEST_HEADER = 100_000_000  # as the format has it


class Header:
    """Where an array lies in a file, and what it is."""

    __slots__ = ("dtype", "fortran", "offset", "path", "shape")

    def __init__(self, path: Path, offset: int, dtype: Any, shape: tuple[int, ...], fortran: bool = False) -> None:
        self.path = path
        self.offset = offset
        self.dtype = np.dtype(dtype)
        self.shape = shape
        self.fortran = fortran

    def map(self) -> np.ndarray[Any, Any]:
        """The array, read from the file where it is looked at."""
        order: Any = "F" if self.fortran else "C"
        if 0 in self.shape:
            return np.empty(self.shape, self.dtype)
        try:
            mapped = np.memmap(self.path, self.dtype, "r", self.offset, self.shape, order)
        except (OSError, ValueError) as error:
            raise DataError(f"{self.path}: cannot be read any more: {error}") from error
        return mapped.view(np.ndarray)  # indexing a memmap costs more


def npy_headers(path: Path) -> Header:
    """The header of a `.npy` file.

    Raises:
        DataError: it is none, holds Python objects or a single number, or is cut off.
    """
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
            shape, fortran, dtype = read(file)
            offset = file.tell()
    except (ValueError, OSError) as error:
        raise DataError(f"{path}: not a sound .npy file: {error}") from error
    if dtype.hasobject:
        raise DataError(f"{path}: holds Python objects, not numbers")
    return _checked(Header(path, offset, dtype, shape, fortran), path.stem)


def safetensors_headers(path: Path) -> dict[str, Header]:
    """The headers of the arrays in a safetensors file.

    Raises:
        DataError: it is none, is cut off, or holds what NumPy has no dtype for.
    """
    try:
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= _LONGEST_HEADER:
                raise ValueError(f"its header would have {length} bytes")
            entries = json.loads(file.read(length))
        entries.pop("__metadata__", None)
        headers = {}
        for name, entry in entries.items():
            if entry["dtype"] not in _SAFETENSORS:
                raise DataError(f"{path}: array {name!r} is {entry['dtype']}, for which NumPy has no dtype")
            offset = 8 + length + int(entry["data_offsets"][0])
            shape = tuple(int(n) for n in entry["shape"])
            headers[name] = _checked(Header(path, offset, _SAFETENSORS[entry["dtype"]], shape), name)
    except DataError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, OSError) as error:
        raise DataError(f"{path}: not a sound safetensors file: {error!r}") from error
    if not headers:
        raise DataError(f"{path}: holds no arrays")
    return headers


def _checked(header: Header, name: str) -> Header:
    if not header.shape:
        raise DataError(f"{header.path}: {name!r} is a single number; it needs an axis of samples")
    end = header.offset + int(np.prod(header.shape, dtype=object)) * header.dtype.itemsize
    size = header.path.stat().st_size
    if size < end:
        raise DataError(f"{header.path}: {name!r} needs {end} bytes, but the file has {size}: it is cut off")
    return header
