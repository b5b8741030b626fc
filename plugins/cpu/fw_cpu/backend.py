"""NumPy as a backend."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from importlib import import_module
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.backend import Backend
from framework.backend.dtypes import DType
from fw_cpu.kernels import KERNELS
from fw_cpu.standard import STANDARD

if TYPE_CHECKING:
    from framework.backend import Program


class Memory(np.ndarray):
    """Memory of which segments are taken.

    NumPy lets a view of a view refer to what owns the memory, unless that is of another type: views of a segment
    refer to the segment.
    """


def _address(array: Any) -> int:
    return int(array.__array_interface__["data"][0])


class CpuBackend(Backend):
    """NumPy arrays in main memory."""

    name = "cpu"
    xp = np
    synchronous = True
    writable = True
    kernels = MappingProxyType({**KERNELS, **STANDARD})
    requirements = ("numpy",)
    install = "pip install numpy"

    def __init__(self) -> None:
        """Infinities and NaN are values here, as on a GPU: NumPy's warnings of them are not shown.

        That is asked of Python, for warnings from the framework's modules alone and only of these kinds. NumPy's
        own switch, `numpy.seterr`, is left to the user (and obeyed: `"raise"` raises); `numpy.errstate` around an
        operation would cost as much as a small one.
        """
        kinds = "(divide by zero|invalid value|overflow|underflow) encountered"
        warnings.filterwarnings("ignore", kinds, RuntimeWarning, r"(framework|fw_cpu)\.")

    def asarray(
        self, obj: Any, *, dtype: DType | None = None, device: str | None = None, copy: bool | None = None
    ) -> Any:
        """A NumPy array from anything that NumPy or DLPack understands."""
        if device is not None:
            self.check_device(device)
        native = None if dtype is None else self.native(dtype)
        if not isinstance(obj, np.ndarray | np.generic | list | tuple | int | float | complex) and hasattr(
            obj, "__dlpack__"
        ):
            obj = np.from_dlpack(obj)
        return np.array(obj, dtype=native, copy=copy)

    def to_numpy(self, array: Any) -> Any:
        """The array itself."""
        return np.asarray(array)

    def owns(self, array: Any) -> bool:
        """Whether it is a NumPy array or scalar."""
        return isinstance(array, np.ndarray | np.generic)

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def buffer(self, size: int, native: Any, device: str) -> Any:
        """A flat array of zeros, aligned to 64 bytes."""
        itemsize = np.dtype(native).itemsize
        memory = Memory(size * itemsize + 63, np.uint8)
        memory.fill(0)
        return np.ndarray(size, native, memory, -_address(memory) % 64)

    def segment(self, buffer: Any, start: int, like: Any) -> Any:
        """A part of a buffer with the shape and order of `like`, that views of it refer to."""
        memory = buffer.base
        while not isinstance(memory, Memory):  # where a subclass has made a view
            memory = memory.base
        offset = _address(buffer) - _address(memory) + start * buffer.itemsize
        order = "F" if like.flags.f_contiguous and not like.flags.c_contiguous else "C"
        return np.ndarray(like.shape, buffer.dtype, memory, offset, order=order)

    def copy(self, array: Any) -> Any:
        """A C-contiguous copy."""
        return np.array(array, copy=True, order="C")

    def sharing(self) -> AbstractContextManager[None]:
        """Large kernels share their work among as many threads as BLAS had; BLAS has one meanwhile."""
        return import_module("fw_cpu.sharing").held()  # type: ignore[no-any-return]

    def capture(self, program: Program) -> Callable[..., tuple[Any, ...]]:
        """The program on planned buffers; `str()` of it lists what is called, once it has run twice."""
        return import_module("fw_cpu.capture").Replay(program)
