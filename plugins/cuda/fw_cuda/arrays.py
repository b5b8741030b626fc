"""What kernels need to know of arrays: dtype, order in memory, null pointers and scalars."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from fw_cuda.sources import TYPES

Array = Any

NULL = np.uint64(0)
"""A null pointer as an argument of a kernel."""

double, integer, flag, word = np.float64, np.int64, np.int32, np.uint64
"""Arguments of kernels: `double`, `index_t`, `int` and `unsigned long long`."""


_names: dict[Any, str] = {}  # NumPy makes the name anew each time, which takes longer than a launch should


def name_of(x: Array) -> str:
    """The name of an array's dtype."""
    dtype = x.dtype
    found = _names.get(dtype)
    if found is None:
        found = _names[dtype] = str(dtype.name)
    return found


def computes(x: Array) -> bool:
    """Whether kernels are there for an array's dtype."""
    return name_of(x) in TYPES


def uses_tf32() -> bool:
    """CuPy's own switch, so that one choice holds for all products."""
    return os.environ.get("CUPY_TF32", "0") == "1"


def is_c(x: Array) -> bool:
    """Whether elements lie in the order of reading, one after the other."""
    return bool(x.flags.c_contiguous)


def alike(*arrays: Array) -> bool:
    """Whether arrays of one shape lie in memory alike, without gaps, so that they may be taken for flat ones."""
    return all(is_c(a) for a in arrays) or all(bool(a.flags.f_contiguous) for a in arrays)


def count(shape: tuple[int, ...]) -> int:
    """The elements of an array of this shape."""
    n = 1
    for length in shape:
        n *= length
    return n


def by_rows(x: Array) -> Array:
    """The array with all axes but the last as one."""
    return x if x.ndim == 2 else x.reshape(count(x.shape[:-1]), x.shape[-1])


def put(output: Any, target: Any) -> None:
    """Copy an array to where it is wanted, if it is not there already."""
    if not hasattr(output, "data") or output.data.ptr != target.data.ptr or output.strides != target.strides:
        target[...] = output


class Loan:
    """Lives as long as an array that was given, and keeps its memory."""

    def __init__(self, memory: Any) -> None:
        self.memory = memory
