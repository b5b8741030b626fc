"""PyTorch as a backend, through array-api-compat. Its autograd is not used: it computes values."""

from __future__ import annotations

from typing import Any

from framework.backend import Backend
from framework.backend import dtypes as dt
from framework.backend.dtypes import DType
from framework.errors import BackendError
from fw_torch.kernels import table

INSTALL = "pip install fw-torch"

COMPUTES_IN = (
    dt.bool_, dt.int8, dt.int16, dt.int32, dt.int64, dt.uint8, dt.float32, dt.float64, dt.complex64, dt.complex128,
)  # fmt: skip
"""PyTorch has more dtypes, but not every operation for them: wide unsigned integers, half precision."""

DEVIATIONS = {
    f"test_forward[{name}-uint8]": "PyTorch adds and multiplies uint8 up in int64, the standard in uint64"
    for name in ("sum", "prod", "cumulative_sum", "cumulative_prod")
}


class TorchBackend(Backend):
    """Torch Tensors on the accelerator of this machine, where it has one, else on the CPU.

    `"torch"` is the accelerator that `torch.accelerator` finds (MPS, XPU, CUDA, ROCm), `"torch:1"`, … are further
    ones, and `"torch:cpu"` is main memory. Without one, `"torch"` is main memory, and the only device.
    """

    name = "torch"
    requirements = ("torch", "array_api_compat")
    install = INSTALL
    deviations = DEVIATIONS

    def __init__(self) -> None:
        try:
            import torch
            from array_api_compat import torch as xp
        except ImportError as error:
            raise BackendError(f"backend 'torch' needs PyTorch and array-api-compat: {INSTALL} ({error})") from error
        self.torch = torch
        self.xp = xp
        self.kernels = table(torch)
        self._native_device = _devices_of(torch)
        self._default = self._native_device["torch"].type
        self.synchronous = self._default == "cpu"
        self._name_of_device = {native: name for name, native in self._native_device.items()}

    @property
    def devices(self) -> tuple[str, ...]:
        """`"torch"`, and with an accelerator `"torch:1"`, … and `"torch:cpu"`."""
        return tuple(self._native_device)

    @property
    def dtypes(self) -> tuple[DType, ...]:
        """What every operation has; on Apple's GPUs without 64-bit floating point."""
        wide = (dt.float64, dt.complex128) if self._default == "mps" else ()
        return tuple(d for d in COMPUTES_IN if d not in wide)

    def native(self, d: DType | str) -> Any:
        """Torch's dtype object."""
        d = dt.dtype(d)
        return super().native(d) if d in self.dtypes else _refused(self, d)

    def asarray(
        self, obj: Any, *, dtype: DType | None = None, device: str | None = None, copy: bool | None = None
    ) -> Any:
        """A Tensor from nested lists, a scalar, a NumPy array, an own array, or one that speaks DLPack."""
        native = None if dtype is None else self.native(dtype)
        place = None if device is None else self._native_device[self.check_device(device)]
        if not self.owns(obj):
            obj, copy = self._taken(obj, copy)
            place = place or self._native_device["torch"]
        return self.torch.asarray(obj, dtype=native, device=place, copy=copy)

    def _taken(self, obj: Any, copy: bool | None) -> tuple[Any, bool | None]:
        """What torch takes without a warning, and whether it is still to be copied."""
        import numpy

        if hasattr(obj, "__dlpack__") and not isinstance(obj, numpy.ndarray | numpy.generic):
            on_host = int(obj.__dlpack_device__()[0]) == 1
            obj = numpy.from_dlpack(obj) if on_host else self.torch.from_dlpack(obj)
        if not isinstance(obj, numpy.ndarray | numpy.generic):
            return obj, copy
        array = numpy.asarray(obj)
        if array.flags.writeable and min(array.strides, default=0) >= 0 and array.dtype.isnative:
            return self.torch.from_numpy(array), copy
        if copy is False:
            raise ValueError("torch shares no memory with a NumPy array that is read-only or runs backwards")
        return self.torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C", copy=True)), None

    def to_numpy(self, array: Any) -> Any:
        """The values as a NumPy array; on the CPU it shares memory."""
        return array.resolve_conj().resolve_neg().cpu().numpy()

    def owns(self, array: Any) -> bool:
        """Whether it is a torch Tensor."""
        return isinstance(array, self.torch.Tensor)

    def synchronize(self) -> None:
        """Wait for the accelerator."""
        if not self.synchronous:
            self.torch.accelerator.synchronize()

    def device_of(self, array: Any) -> str:
        """The name of the array's device."""
        return self._name_of_device[array.device]

    def copy(self, array: Any) -> Any:
        """A contiguous copy."""
        return array.clone(memory_format=self.torch.contiguous_format)


def _devices_of(torch: Any) -> dict[str, Any]:
    """Names to torch's devices; the default first."""
    cpu = torch.device("cpu")
    found = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
    if found is None:
        return {"torch": cpu}
    names = {("torch" if i == 0 else f"torch:{i}"): i for i in range(torch.accelerator.device_count())}
    return {**{name: torch.device(found.type, i) for name, i in names.items()}, "torch:cpu": cpu}


def _refused(b: Backend, d: DType) -> Any:
    raise dt.DTypeError(f"backend {b.name!r} does not offer {d.name}; it computes in {', '.join(map(str, b.dtypes))}")
