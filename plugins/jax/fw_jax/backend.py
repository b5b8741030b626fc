"""JAX as a backend. Its own transforms are not used: it computes values, and compiles programs of them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from framework.backend import Backend
from framework.backend.dtypes import DType
from framework.errors import BackendError
from fw_jax.kernels import table
from fw_jax.namespace import Namespace

if TYPE_CHECKING:
    from framework.backend import Program

INSTALL = "pip install fw-jax"


class JaxBackend(Backend):
    """JAX arrays on the devices of its default platform: `"jax"`, `"jax:1"`, …

    Constructing it lets JAX compute in 64 bits (`jax_enable_x64`), without which it has no int64: that holds for
    all of the process. Arrays stay in the dtype that they are made in.
    """

    name = "jax"
    captures_updates = True
    requirements = ("jax",)
    install = INSTALL

    def __init__(self) -> None:
        try:
            import jax
            import jax.numpy
        except ImportError as error:
            raise BackendError(f"backend 'jax' needs JAX: {INSTALL} ({error})") from error
        jax.config.update("jax_enable_x64", True)
        self.jax = jax
        self.xp = Namespace(jax.numpy)
        self.kernels = table(jax)
        self._native_device = {("jax" if i == 0 else f"jax:{i}"): d for i, d in enumerate(jax.local_devices())}
        self._name_of_device = {native: name for name, native in self._native_device.items()}

    @property
    def devices(self) -> tuple[str, ...]:
        """`"jax"`, `"jax:1"`, … for every device of the default platform."""
        return tuple(self._native_device)

    def asarray(
        self, obj: Any, *, dtype: DType | None = None, device: str | None = None, copy: bool | None = None
    ) -> Any:
        """An array from nested lists, a scalar, a NumPy array, an own array, or one that speaks DLPack."""
        native = None if dtype is None else self.native(dtype)
        place = None if device is None else self._native_device[self.check_device(device)]
        if self.owns(obj):
            if copy is False and native not in (None, obj.dtype):
                raise ValueError(f"an array of {obj.dtype} is not one of {native} without a copy")
            made = self.xp.asarray(obj, dtype=native, copy=True if copy else None)
            return made if place is None else self.jax.device_put(made, place)
        if copy is False:
            raise ValueError("JAX makes its own array of anything else; that is a copy")
        return self.xp.array(self._taken(obj), dtype=native, device=place or self._native_device["jax"])

    def _taken(self, obj: Any) -> Any:
        """Another library's array as one that JAX takes."""
        import numpy

        if isinstance(obj, numpy.ndarray | numpy.generic) or not hasattr(obj, "__dlpack__"):
            return obj
        on_host = int(obj.__dlpack_device__()[0]) == 1
        return numpy.from_dlpack(obj) if on_host else self.xp.from_dlpack(obj)

    def to_numpy(self, array: Any) -> Any:
        """The values as a NumPy array that is read-only; waits for them."""
        import numpy

        return numpy.asarray(array)

    def owns(self, array: Any) -> bool:
        """Whether it is a JAX array, or stands for one while a program is compiled."""
        return isinstance(array, self.jax.Array)

    def synchronize(self) -> None:
        """Wait for all arrays that there are."""
        self.jax.block_until_ready(self.jax.live_arrays())

    def device_of(self, array: Any) -> str:
        """`"jax"`, `"jax:1"`, …"""
        if isinstance(array, self.jax.core.Tracer):
            return self.devices[0]
        return self._name_of_device[array.device]

    def copy(self, array: Any) -> Any:
        """A copy."""
        return self.xp.array(array, copy=True)

    def capture(self, program: Program) -> Callable[..., tuple[Any, ...]]:
        """The program as one function compiled by XLA, anew for other shapes and dtypes; state is donated."""
        donated = tuple([program.inputs.index(number) for number in program.state_in])
        run = self.jax.jit(program.run, donate_argnums=donated)

        def replay(*arrays: Any, into: tuple[Any, ...] | None = None) -> tuple[Any, ...]:
            return tuple(run(*arrays))

        return replay
