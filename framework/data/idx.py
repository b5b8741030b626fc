"""The IDX format of MNIST, gzipped or not, read strictly."""

from __future__ import annotations

import math
from os import PathLike
from typing import Any

import numpy as np

from framework.errors import DataError

# The third byte of the magic number; numbers are big-endian.
_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}


def read_idx(path: str | PathLike[str]) -> np.ndarray[Any, np.dtype[Any]]:
    """The array in an IDX file, gzipped or not, in native byte order; byte arrays are read-only.

    Raises:
        DataError: the file cannot be read, is no IDX file, is truncated, or has bytes left over.
    """
    return parse_idx(read_content(path), path)


def read_content(path: str | PathLike[str]) -> bytes:
    """The bytes of a file, unzipped if it starts as a gzip file does, whatever its name.

    Raises:
        DataError: it cannot be read, or its gzip stream is damaged.
    """
    import gzip
    import zlib

    try:
        with open(path, "rb") as file:
            content = file.read()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    if not content.startswith(b"\x1f\x8b"):
        return content
    try:
        return gzip.decompress(content)
    except EOFError:
        raise DataError(
            f"{path}: truncated: its gzip stream stops after {len(content):,} bytes, before its end. {_AGAIN}"
        ) from None
    except (OSError, zlib.error) as error:
        raise DataError(f"{path}: damaged gzip file: {error}. {_AGAIN}") from error


def parse_idx(content: bytes, path: str | PathLike[str]) -> np.ndarray[Any, np.dtype[Any]]:
    """The array in the bytes of an IDX file; `path` names it in errors.

    Raises:
        DataError: wrong magic number, truncated, or bytes left over.
    """
    if len(content) < 4:
        raise DataError(f"{path}: truncated IDX file: {len(content)} bytes, too short for its magic number. {_AGAIN}")
    zeros, code, ndim = content[:2], content[2], content[3]
    if zeros != b"\0\0" or code not in _DTYPES or ndim == 0:
        raise DataError(
            f"{path}: no IDX file: it starts with 0x{content[:4].hex()}, expected two zero bytes, a type "
            f"(0x08 for bytes) and a number of axes, such as 0x00000803 for images. {_AGAIN}"
        )
    start = 4 + 4 * ndim
    if len(content) < start:
        raise DataError(
            f"{path}: truncated IDX file: its header alone is {start} bytes, it has {len(content)}. {_AGAIN}"
        )
    shape = tuple(int.from_bytes(content[k : k + 4], "big") for k in range(4, start, 4))
    dtype = np.dtype(_DTYPES[code])
    expected = start + math.prod(shape) * dtype.itemsize
    if len(content) != expected:
        fault = "truncated IDX file" if len(content) < expected else "bytes left over after the array of an IDX file"
        raise DataError(
            f"{path}: {fault}: its header says {' × '.join(map(str, shape))} of {dtype.itemsize} bytes, {expected:,} "
            f"bytes in all; it has {len(content):,}. {_AGAIN}"
        )
    if len(content) == start:  # an empty array, which frombuffer refuses
        return np.empty(shape, dtype.newbyteorder("="))
    array = np.frombuffer(content, dtype, offset=start).reshape(shape)
    return array.astype(dtype.newbyteorder("="), copy=False)


_AGAIN = "Delete it, and download or copy it again."
