"""Arrays as the content of a file in the safetensors format, made in one copy."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

CODES = {
    "uint64": "U64", "int64": "I64", "float64": "F64", "float32": "F32", "uint32": "U32", "int32": "I32",
    "float16": "F16", "uint16": "U16", "int16": "I16", "int8": "I8", "uint8": "U8", "bool": "BOOL",
}  # fmt: skip
"""Names of the dtypes that the format and NumPy share, to the format's own; in the order of arrays in a file."""
_PLACES = {name: place for place, name in enumerate(CODES)}


def to_content(arrays: Mapping[str, np.ndarray[Any, Any]]) -> memoryview:
    """The content of a file that holds these arrays: the length of a header, the header, and the arrays' bytes.

    Large elements come first, so that each array begins at a multiple of its own.

    Examples:
        >>> content = to_content({"w": np.arange(3, dtype=np.int16)})
        >>> bytes(content[8:]).partition(b" ")[0]
        b'{"w":{"dtype":"I16","shape":[3],"data_offsets":[0,6]}}'
        >>> bytes(content[-6:])
        b'\\x00\\x00\\x01\\x00\\x02\\x00'
    """
    ordered = sorted(arrays.items(), key=lambda item: (_PLACES[item[1].dtype.name], item[0]))
    header, end = {}, 0
    for name, array in ordered:
        start, end = end, end + array.nbytes
        header[name] = {"dtype": CODES[array.dtype.name], "shape": list(array.shape), "data_offsets": [start, end]}
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    content = np.empty(8 + len(text) + end, np.uint8)
    content[:8] = np.frombuffer(len(text).to_bytes(8, "little"), np.uint8)
    content[8 : 8 + len(text)] = np.frombuffer(text, np.uint8)
    place = 8 + len(text)
    for _, array in ordered:
        flat = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(-1)
        content[place : place + array.nbytes] = flat.view(np.uint8)
        place += array.nbytes
    return content.data
