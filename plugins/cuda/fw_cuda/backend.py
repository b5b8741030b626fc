"""CuPy as a backend. Only documented CuPy API is used, so that a CuPy release does not break it."""

from __future__ import annotations

from typing import Any

from framework.backend import Backend
from framework.backend.dtypes import DType
from framework.errors import BackendError
from fw_cuda.kernels import CudaKernels

INSTALL = "pip install 'fw-framework[cuda]'"
INSTALL_12 = "pip install 'fw-framework[cuda12]'"
SUPPORTED_MAJOR = 14

PACKAGES = ("cupy", "cupy-cuda13x", "cupy-cuda12x", "cupy-cuda11x", "cupy-rocm-7-0", "cupy-rocm-5-0", "amd-cupy")
"""Distributions that bring the module `cupy`. Two of them overwrite each other's files."""

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
    requirements = ("cupy", "array_api_compat")
    install = INSTALL

    def __init__(self) -> None:
        self.cupy = cupy = import_cupy()
        count = count_devices(cupy)
        self._devices = ("cuda", *(f"cuda:{i}" for i in range(1, count)))
        from array_api_compat import cupy as xp
        from cupyx.scipy import special

        self.xp = xp
        self.kernels = CudaKernels(cupy, special.erf).table()

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

        A copy from host memory is queued on the current stream; from pinned memory it may still be
        under way when this returns, so do not write there before `synchronize`.
        """
        cupy = self.cupy
        native = None if dtype is None else self.native(dtype)
        if device is not None:
            cupy.cuda.Device(self.devices.index(self.check_device(device))).use()
        obj = self._from_dlpack(obj)
        return cupy.asarray(obj, dtype=native) if copy is None else cupy.array(obj, dtype=native, copy=copy)

    def _from_dlpack(self, obj: Any) -> Any:
        """Another library's array as one that CuPy takes; anything else as it is."""
        import numpy

        if self.owns(obj) or isinstance(obj, numpy.ndarray | numpy.generic) or not hasattr(obj, "__dlpack__"):
            return obj
        on_gpu = int(obj.__dlpack_device__()[0]) in DLPACK_CUDA
        return self.cupy.from_dlpack(obj) if on_gpu else numpy.from_dlpack(obj)

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

    def memory_stats(self) -> dict[str, int]:
        """Bytes that arrays use and that the pool holds, and the current device's free and total memory."""
        pool = self.cupy.get_default_memory_pool()
        free, total = self.cupy.cuda.Device().mem_info
        return {"used": pool.used_bytes(), "reserved": pool.total_bytes(), "free": free, "total": total}


def import_cupy() -> Any:
    """The module `cupy`, of a version that this plugin is written for.

    Raises:
        BackendError: it is not installed, installed twice, does not import, or is of another version.
    """
    packages = installed_packages()
    if len(packages) > 1:
        raise BackendError(
            f"several CuPy packages are installed ({', '.join(packages)}) and overwrite each other: "
            f"pip uninstall {' '.join(packages)}, then {INSTALL}"
        )
    try:
        import cupy
    except ModuleNotFoundError as error:
        if error.name != "cupy":
            raise BackendError(f"CuPy is installed, but does not import: {error}. Try {INSTALL}") from error
        raise BackendError(f"CuPy is not installed: {INSTALL}") from error
    except ImportError as error:
        reason = " ".join(str(error).split())
        raise BackendError(f"CuPy is installed, but does not import: {reason}. Try {INSTALL}") from error
    version = cupy.__version__
    if version.split(".")[0] != str(SUPPORTED_MAJOR):
        raise BackendError(f"CuPy {version} is not supported, {SUPPORTED_MAJOR}.x is: {INSTALL}")
    return cupy


def installed_packages() -> list[str]:
    """The installed distributions that bring the module `cupy`."""
    from importlib import metadata

    found = []
    for name in PACKAGES:
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        found.append(name)
    return found


def count_devices(cupy: Any) -> int:
    """The number of GPUs that the process sees, at least 1.

    Raises:
        BackendError: there is no driver, it is older than CuPy needs, or there is no device.
    """
    runtime = cupy.cuda.runtime
    driver = runtime.driverGetVersion()
    if driver == 0:
        raise BackendError("there is no NVIDIA driver on this machine")
    needed = runtime.runtimeGetVersion()
    if driver // 1000 < needed // 1000:
        advice = f"update the driver, or {INSTALL_12}" if driver >= 12000 else "update the driver"
        raise BackendError(
            f"the NVIDIA driver runs CUDA {_version(driver)} at most, but the CuPy installed needs "
            f"CUDA {_version(needed)}: {advice}"
        )
    try:
        count = runtime.getDeviceCount()
    except runtime.CUDARuntimeError as error:
        raise BackendError(f"there is no usable CUDA device: {error}") from error
    if count == 0:
        raise BackendError("there is no CUDA device; is CUDA_VISIBLE_DEVICES set to none?")
    return int(count)


def _version(number: int) -> str:
    return f"{number // 1000}.{number % 1000 // 10}"
