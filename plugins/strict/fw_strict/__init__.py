"""array-api-strict as a backend: it has nothing but the Array API standard, so it keeps the core inside it.

For tests. It is slow, offers no kernels, and refuses what a lenient library would let pass: names outside
the standard, silent casts, arrays of two devices in one operation.
"""

from __future__ import annotations

from typing import Any

from framework.backend import Backend
from framework.backend.dtypes import DType
from framework.errors import BackendError

STANDARD = "2024.12"


class StrictBackend(Backend):
    """array-api-strict, held to version 2024.12 of the standard, with a second device that is as strict."""

    name = "strict"
    synchronous = True
    requirements = ("array_api_strict",)
    install = "pip install array-api-strict"

    def __init__(self) -> None:
        try:
            import array_api_strict as xp
        except ImportError as error:
            raise BackendError(f"backend 'strict' needs array-api-strict: {self.install}") from error
        xp.set_array_api_strict_flags(api_version=STANDARD)
        self.xp = xp
        self._host = xp.Device("CPU_DEVICE")
        self._native_device = {"strict": self._host, "strict:1": xp.Device("device1")}

    @property
    def devices(self) -> tuple[str, ...]:
        """`"strict"`, and `"strict:1"`, which is the same memory under another name."""
        return tuple(self._native_device)

    def asarray(
        self, obj: Any, *, dtype: DType | None = None, device: str | None = None, copy: bool | None = None
    ) -> Any:
        """An array from nested lists, a scalar, a NumPy array, an own array, or one that speaks DLPack."""
        native = None if dtype is None else self.native(dtype)
        if hasattr(obj, "__dlpack__"):
            obj = obj if hasattr(obj, "__array_namespace__") else self.xp.from_dlpack(obj)
        if not self.owns(obj):
            return self.xp.asarray(obj, dtype=native, device=self._native_device[self.check_device(device)], copy=copy)
        if device is not None and self._native_device[self.check_device(device)] != obj.device:
            if copy is False:
                raise ValueError(f"an array of {self.device_of(obj)!r} cannot be had on {device!r} without a copy")
            obj = obj.to_device(self._native_device[device])
        return self.xp.asarray(obj, dtype=native, copy=copy)

    def to_numpy(self, array: Any) -> Any:
        """The values as a NumPy array."""
        import numpy

        return numpy.asarray(array.to_device(self._host))

    def owns(self, array: Any) -> bool:
        """Whether `array` is array-api-strict's."""
        return hasattr(array, "__array_namespace__") and array.__array_namespace__() is self.xp

    def synchronize(self) -> None:
        """Nothing to wait for."""

    def device_of(self, array: Any) -> str:
        """`"strict"` or `"strict:1"`."""
        return next(name for name, native in self._native_device.items() if native == array.device)
