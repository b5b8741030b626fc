"""CuPy as a backend. Only documented CuPy API is used, so that a CuPy release does not break it."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any
from weakref import WeakValueDictionary

import numpy as np

from framework.backend import Backend
from framework.backend.dtypes import DType
from framework.errors import BackendError
from fw_cuda import cublaslt
from fw_cuda.arrays import count, integer, word
from fw_cuda.installation import INSTALL, count_devices, import_cupy
from fw_cuda.kernels import by_cudnn, table
from fw_cuda.namespace import Namespace
from fw_cuda.products import Products
from fw_cuda.sources import TYPES, Kernels, blocks_for

if TYPE_CHECKING:
    from framework.backend.program import Program

DLPACK_CUDA = (2, 13)  # kDLCUDA, kDLCUDAManaged


class CudaBackend(Backend):
    """CuPy arrays on the GPUs that the process sees: `"cuda"` (the first), `"cuda:1"`, …

    CuPy computes on the calling thread's current device. Naming a device to `asarray` makes it
    current, so that a process which trains on `"cuda:1"` computes there; operations on arrays of
    two devices are not supported. Indices outside their axis wrap around instead of raising, and
    the order in which `scatter_add` adds repeated indices is not fixed: both are CuPy's.
    """

    name = "cuda"
    writable = True
    captures_updates = True
    requirements = ("cupy", "array_api_compat")
    install = INSTALL

    def __init__(self) -> None:
        self.cupy = cupy = import_cupy()
        count = count_devices(cupy)
        self._devices = ("cuda", *(f"cuda:{i}" for i in range(1, count)))
        from array_api_compat import cupy as xp
        from cupyx.scipy import special

        self._own = Kernels(cupy)
        self.products = Products(cupy, _cublaslt(cupy))
        self.xp = Namespace(xp, self.products.matmul)
        self.kernels, self._updates = table(cupy, self._own, self.products, special.erf)
        self.kernels |= by_cudnn(cupy, self.products.matmul)
        self._senders: WeakValueDictionary[str | None, Any] = WeakValueDictionary()
        self._written_on: Any = None

    @property
    def devices(self) -> tuple[str, ...]:
        """`"cuda"`, `"cuda:1"`, … for every GPU that the process sees."""
        return self._devices

    def check_device(self, device: str | None) -> str:
        """As the contract's; `"cuda:0"` is `"cuda"`."""
        return super().check_device("cuda" if device == "cuda:0" else device)

    def asarray(
        self, obj: Any, *, dtype: DType | None = None, device: str | None = None, copy: bool | None = None
    ) -> Any:
        """A CuPy array from nested lists, a scalar, a NumPy, CuPy or DLPack array.

        What comes from host memory is copied to page-locked memory first, CuPy's own, and from there while the host
        goes on: the host array may be changed at once.
        """
        cupy = self.cupy
        native = None if dtype is None else self.native(dtype)
        if device is not None:
            cupy.cuda.Device(self.devices.index(self.check_device(device))).use()
        obj = self._from_dlpack(obj)
        return cupy.asarray(obj, dtype=native) if copy is None else cupy.array(obj, dtype=native, copy=copy)

    def _from_dlpack(self, obj: Any) -> Any:
        """Another library's array as one that CuPy takes; anything else as it is."""
        if self.owns(obj) or isinstance(obj, np.ndarray | np.generic) or not hasattr(obj, "__dlpack__"):
            return obj
        on_gpu = int(obj.__dlpack_device__()[0]) in DLPACK_CUDA
        return self.cupy.from_dlpack(obj) if on_gpu else np.from_dlpack(obj)

    def to_numpy(self, array: Any) -> Any:
        """The values copied to host memory; waits for them."""
        return self.cupy.asnumpy(array)

    def owns(self, array: Any) -> bool:
        """Whether it is a CuPy array."""
        return isinstance(array, self.cupy.ndarray)

    def synchronize(self) -> None:
        """Wait for everything that was asked of the current device."""
        self.cupy.cuda.Device().synchronize()

    def device_of(self, array: Any) -> str:
        """`"cuda"` or `"cuda:1"`, …"""
        return self._devices[array.device.id]

    def copy(self, array: Any) -> Any:
        """A C-contiguous copy on the current device."""
        return array.copy()

    def capture(self, program: Program) -> Callable[..., tuple[Any, ...]]:
        """The program as CUDA graphs; operation by operation, with one warning that says why, where that cannot be."""
        return import_module("fw_cuda.graphs").Replay(self.cupy, program, self.products)

    # -- memory --------------------------------------------------------------------------------------

    def overwrite(self, array: Any, values: Sequence[float]) -> None:
        """Write a few numbers when all that was asked of the current stream is done; other streams are waited for."""
        runtime, stream = self.cupy.cuda.runtime, self.cupy.cuda.get_current_stream()
        if stream.ptr != self._written_on:
            self.synchronize()
            self._written_on = stream.ptr
        numbers = np.asarray(values, array.dtype)  # so few that they are read before the call returns
        runtime.memcpyAsync(array.data.ptr, numbers.ctypes.data, numbers.nbytes, runtime.memcpyHostToDevice, stream.ptr)

    def buffer(self, size: int, native: Any, device: str) -> Any:
        """A flat array of zeros; CuPy's memory begins at multiples of 512 bytes."""
        with self.cupy.cuda.Device(self._devices.index(self.check_device(device))):
            return self.cupy.zeros(size, dtype=native)

    def segment(self, buffer: Any, start: int, like: Any) -> Any:
        """A part of a buffer with the shape and order of `like`, an array of its own to which views of it refer."""
        order = "F" if like.flags.f_contiguous and not like.flags.c_contiguous else "C"
        return self.cupy.ndarray(like.shape, buffer.dtype, buffer.data + start * buffer.itemsize, order=order)

    def updates_where(self, flag: Any) -> Any:
        """The flag is read by the kernels themselves."""
        return self._updates.where_holds(flag)

    def room(self) -> int:
        """Half of what is free: of the device, and of the pool."""
        pool = self.cupy.get_default_memory_pool()
        return int(self.cupy.cuda.Device().mem_info[0] + pool.free_bytes()) // 2

    def sender(self, device: str | None) -> Callable[[Any], Any]:
        """Copies by page-locked memory, on a stream of their own; whoever asks for a device's shares the buffers."""
        found = self._senders.get(device)
        if found is None:
            index = None if device is None else self.devices.index(self.check_device(device))
            found = self._senders[device] = import_module("fw_cuda.sending").Sender(self.cupy, index)
        return found

    def gatherer(
        self, arrays: Sequence[Any], affine: tuple[Any, Any] | None
    ) -> Callable[[Any], Callable[[int, int], Sequence[Any]]] | None:
        """One launch a batch, in buffers that are used again when nobody holds an array of the batch any more."""
        return import_module("fw_cuda.gathering").gatherer(self.cupy, self._own, arrays, affine)

    def bernoulli(
        self, key: int, counter: int, shape: tuple[int, ...], p: float, dtype: DType, device: str | None
    ) -> Any | None:
        """Ones with probability `p`, from the host generator's own numbers, in one launch."""
        if dtype.name not in TYPES:
            return None
        n, mask = count(shape), (1 << 64) - 1
        with self.cupy.cuda.Device(self._devices.index(self.check_device(device))):
            y = self.cupy.empty(shape, dtype=self.native(dtype))
            if n:
                numbers = (word(key & mask), word(counter & mask), word(math.ceil(p * 2.0**53)))
                self._own.launch("random", "fw_bernoulli", dtype.name, blocks_for(n), y, integer(n), *numbers)
        return y

    def memory_stats(self) -> dict[str, int]:
        """Bytes that arrays use and that the pool holds, and the current device's free and total memory."""
        pool = self.cupy.get_default_memory_pool()
        free, total = self.cupy.cuda.Device().mem_info
        return {"used": pool.used_bytes(), "reserved": pool.total_bytes(), "free": free, "total": total}


def _cublaslt(cupy: Any) -> Any:
    """The library that multiplies; None where it is not found, and CuPy has to."""
    try:
        return cublaslt.load(cupy.cuda.runtime.runtimeGetVersion() // 1000)
    except BackendError:
        return None
