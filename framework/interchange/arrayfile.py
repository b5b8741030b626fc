"""The safetensors format: a header in JSON that says where each array lies, then the arrays' bytes.

8 bytes    the length of the header, an integer with the lowest byte first
header     {"name": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}, "__metadata__": {...}}
arrays     each in C order, lowest bytes first, without gaps
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, NamedTuple

import numpy as np

from framework.errors import CheckpointError

Array = np.ndarray[Any, Any]

CODES = {
    "uint64": "U64", "int64": "I64", "float64": "F64", "complex64": "C64", "float32": "F32", "uint32": "U32",
    "int32": "I32", "bfloat16": "BF16", "float16": "F16", "uint16": "U16", "int16": "I16", "int8": "I8",
    "uint8": "U8", "bool": "BOOL",
}  # fmt: skip
"""Names of the dtypes that the format and NumPy share, to the format's own; in the order of arrays in a file."""

METADATA = "__metadata__"
"""The one name that no array can have."""

_NAMES = {code: name for name, code in CODES.items()}
_ITEMSIZES = {code: 2 if code == "BF16" else np.dtype(name).itemsize for name, code in CODES.items()}
_PLACES = {name: place for place, name in enumerate(CODES)}
_LONGEST_HEADER = 100_000_000  # the format's own limit: a header is not what fills the memory


# -- writing ---------------------------------------------------------------------------------------


def parts(arrays: Mapping[str, Array]) -> Iterator[memoryview]:
    """The content of a file that holds these arrays: the head, then the bytes of one array after the other.

    Large elements come first, so that each array begins at a multiple of its own.
    """
    ordered = sorted(arrays.items(), key=lambda item: (_PLACES[item[1].dtype.name], item[0]))
    header, end = {}, 0
    for name, array in ordered:
        start, end = end, end + array.nbytes
        header[name] = {"dtype": CODES[array.dtype.name], "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    yield memoryview(len(text).to_bytes(8, "little") + text)
    for _, array in ordered:
        flat = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1)
        yield flat.view(np.uint8).data


def to_content(arrays: Mapping[str, Array]) -> memoryview:
    """The content of a file that holds these arrays, as one copy of them.

    Examples:
        >>> content = to_content({"w": np.arange(3, dtype=np.int16)})
        >>> bytes(content[8:]).partition(b" ")[0]
        b'{"w":{"dtype":"I16","shape":[3],"data_offsets":[0,6]}}'
        >>> bytes(content[-6:])
        b'\\x00\\x00\\x01\\x00\\x02\\x00'
    """
    pieces = parts(arrays)
    head = next(pieces)
    content = np.empty(len(head) + sum(array.nbytes for array in arrays.values()), np.uint8)
    content[: len(head)] = np.frombuffer(head, np.uint8)
    place = len(head)
    for piece in pieces:
        content[place : place + len(piece)] = np.frombuffer(piece, np.uint8)
        place += len(piece)
    return content.data


# -- reading ---------------------------------------------------------------------------------------


class _Entry(NamedTuple):
    """What the header says of one array."""

    start: int
    end: int
    name: str
    code: str
    shape: tuple[int, ...]


def read(file: BinaryIO, size: int, name: str) -> dict[str, Array]:
    """The arrays of a file of `size` bytes, each with memory of its own, in the order in which they lie there.

    Args:
        name: of the file, for messages.

    Raises:
        CheckpointError: the file is cut short, damaged, or of another format.
    """
    length = _header_length(file.read(8), size, name)
    entries = _entries(file.read(length), name)
    _check_places(entries, size - 8 - length, name)
    return {entry.name: _array(file, entry, name) for entry in entries}


def _header_length(first: bytes, size: int, name: str) -> int:
    """The length of the header, which the first eight bytes of the file are."""
    other = next((what for start, what in _OTHER_FORMATS.items() if first.startswith(start)), None)
    if other is not None:
        raise CheckpointError(f"{name} is {other}. {_ADVICE}")
    length = int.from_bytes(first, "little")
    if len(first) < 8 or length > _LONGEST_HEADER:
        what = f"it has {size} bytes" if len(first) < 8 else f"it begins with {first!r}"
        raise CheckpointError(f"{name} is no safetensors file: {what}. {_ADVICE}")
    if 8 + length > size:
        raise CheckpointError(f"{name} is cut short: its header alone has {8 + length} bytes, the file {size}")
    return length


_ADVICE = "Arrays are saved as safetensors: fw.save, or save_file of safetensors.torch, safetensors.numpy or another"
_OTHER_FORMATS = {
    b"PK\x03\x04": "a zip archive, as torch.save and numpy.savez write; the pickles in one can run anything when read",
    **dict.fromkeys((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05"), "a pickle, which can run anything when read"),
    b"\x93NUMPY": "one array of numpy.save: numpy.load reads it",
    b"\x89HDF": "an HDF5 file",
    b"GGUF": "a GGUF file",
}
"""What else is given, by how it begins."""


def _entries(text: bytes, name: str) -> list[_Entry]:
    """The arrays that a header tells of, by their places."""
    try:
        header = json.loads(text, object_pairs_hook=_without_repeats)
        header.pop(METADATA, None)
        entries = []
        for key, told in header.items():
            start, end = told["data_offsets"]
            shape = tuple(told["shape"])
            if not all(type(n) is int and n >= 0 for n in (start, end, *shape)):
                raise ValueError(f"{key!r} has shape {shape} and bytes {start} to {end}")
            entries.append(_Entry(start, end, key, str(told["dtype"]), shape))
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise CheckpointError(f"{name} is no safetensors file, or damaged: its header is wrong ({error})") from None
    return sorted(entries)


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError(f"a name occurs twice among {', '.join([repr(key) for key, _ in pairs[:10]])}")
    return found


def _check_places(entries: list[_Entry], size: int, name: str) -> None:
    """Raise CheckpointError unless the arrays are `size` bytes one after the other, each as long as its shape says."""
    end = 0
    for entry in entries:
        if entry.code not in _NAMES:
            raise CheckpointError(
                f"{name}: {entry.name!r} is of dtype {entry.code}, for which there is none here; known are "
                f"{', '.join(_NAMES)}"
            )
        if entry.start != end:
            raise CheckpointError(f"{name} is damaged: {entry.name!r} begins at byte {entry.start} instead of {end}")
        end = entry.start + math.prod(entry.shape) * _ITEMSIZES[entry.code]
        if entry.end != end:
            raise CheckpointError(
                f"{name} is damaged: {entry.name!r} of shape {entry.shape} and dtype {entry.code} ends at byte "
                f"{entry.end} instead of {end}"
            )
    if end > size:
        raise CheckpointError(f"{name} is cut short: its arrays have {end} bytes, {size} are there")
    if end < size:
        raise CheckpointError(f"{name} is damaged: {size - end} bytes follow its last array")


def _array(file: BinaryIO, entry: _Entry, name: str) -> Array:
    """The array that begins where the file is read next."""
    flat = np.empty(entry.end - entry.start, np.uint8)
    if flat.size and file.readinto(flat.data) != flat.size:  # type: ignore[attr-defined]
        raise CheckpointError(f"{name} is cut short: it ends within {entry.name!r}")
    found = flat.view(_dtype(entry, name)).reshape(entry.shape)
    return found.astype(found.dtype.newbyteorder("="), copy=False)


def _dtype(entry: _Entry, name: str) -> np.dtype[Any]:
    if entry.code != "BF16":
        return np.dtype(_NAMES[entry.code]).newbyteorder("<")
    try:
        import ml_dtypes
    except ImportError:
        raise CheckpointError(
            f"{name}: {entry.name!r} is of dtype bfloat16, which NumPy has from a package: pip install ml_dtypes"
        ) from None
    return np.dtype(ml_dtypes.bfloat16)
