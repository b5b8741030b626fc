"""One process, one device."""

from __future__ import annotations

from framework.autodiff.modes import use_backend
from framework.backend import Backend, registry
from framework.backend.dtypes import DType
from framework.nn import Module


class SingleDevice:
    """Everything happens in this process, on one device of one backend.

    Args:
        where: a backend's name, a device string such as `"cuda:1"`, or `"auto"` for the best
            backend that works here.

    Raises:
        BackendError: the backend or the device cannot be used.

    Examples:
        >>> SingleDevice("cpu").device
        'cpu'
    """

    name = "single_device"

    def __init__(self, where: str = "auto") -> None:
        self.is_automatic = where == "auto"
        if self.is_automatic:
            self.backend: Backend = registry.auto()
        else:
            self.backend = registry.get(where)
            registry.probe(self.backend)
        self.device = self.backend.check_device(where if ":" in where else None)

    def place(self, module: Module, dtype: DType) -> None:
        """Move a module's parameters and buffers here; floating-point ones get `dtype`."""
        module.to(device=self.device, dtype=dtype)

    def active(self) -> object:
        """A context manager in which new Tensors are made here."""
        return use_backend(self.backend.name)

    def __repr__(self) -> str:
        return f"SingleDevice({self.device!r})"
