"""The kernels' CUDA C: files in `cu/`, compiled for a dtype when one of their kernels is first launched."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent / "cu"

THREADS = 256
"""Threads of a block: `FW_THREADS` of common.cuh."""

MOST_BLOCKS = 4096
"""Blocks of a launch over elements; each thread then takes several."""


class Types(NamedTuple):
    """What a dtype is called in CUDA C, and the type of arithmetic on it."""

    name: str
    arithmetic: str
    options: tuple[str, ...] = ()


TYPES: dict[str, Types] = {
    "float16": Types("__half", "float", ("-DFW_HALF",)),
    "bfloat16": Types("__nv_bfloat16", "float", ("-DFW_BFLOAT",)),
    "float32": Types("float", "float"),
    "float64": Types("double", "double"),
}
"""The dtypes that kernels compute in."""

OTHERS: dict[str, str] = {
    "bool": "unsigned char", "uint8": "unsigned char", "int8": "signed char", "int16": "short",
    "uint16": "unsigned short", "int32": "int", "uint32": "unsigned", "int64": "long long",
    "uint64": "unsigned long long", "float32": "float", "float64": "double",
}  # fmt: skip
"""Dtypes of indices and of data that is gathered."""


def files() -> list[str]:
    """The names of all files of kernels."""
    return sorted(path.stem for path in FOLDER.glob("*.cu"))


def source(file: str) -> str:
    """The text of a file, with what stands in front of every file."""
    return (FOLDER / "common.cuh").read_text() + (FOLDER / f"{file}.cu").read_text()


def options(dtype: str, index: str = "int64") -> tuple[str, ...]:
    """The compiler's options for kernels on arrays of a dtype, with indices or data of another."""
    types = TYPES[dtype]
    return (*types.options, f"-DFW_T={types.name}", f"-DFW_A={types.arithmetic}", f"-DFW_I={OTHERS[index]}")


class Kernels:
    """Finds and launches kernels: `launch(file, name, dtype, blocks, *arguments)`.

    Args:
        cupy: the module. Of it `RawModule` is used; what that compiles, it keeps on the disk.
    """

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._modules: dict[tuple[str, ...], Any] = {}
        self._functions: dict[tuple[str, ...], Any] = {}
        self.launches = 0
        """Launches so far."""

    def function(self, file: str, name: str, dtype: str, index: str = "int64") -> Any:
        """A kernel, compiled at most once."""
        found = self._functions.get((name, dtype, index))
        if found is None:
            key = (file, dtype, index)
            module = self._modules.get(key)
            if module is None:
                module = self._cupy.RawModule(code=source(file), options=options(dtype, index))
                self._modules[key] = module
            found = self._functions[name, dtype, index] = module.get_function(name)
        return found

    def launch(self, file: str, name: str, dtype: str, blocks: int, *args: Any, index: str = "int64") -> None:
        """Launch a kernel on the current stream in blocks of `THREADS` threads.

        Arguments are arrays, and NumPy's scalars of the very types that the kernel declares.
        """
        self.launches += 1
        self.function(file, name, dtype, index)((blocks,), (THREADS,), args)


def blocks_for(n: int) -> int:
    """The blocks for one thread an element, as far as there may be so many."""
    return max(1, min(MOST_BLOCKS, -(-n // THREADS)))
