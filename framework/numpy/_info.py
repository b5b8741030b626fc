"""Inspection of the namespace, as the standard defines it."""

from __future__ import annotations

from typing import Any

from framework.autodiff import default_backend, get_default_dtype
from framework.backend import Backend, registry
from framework.backend import dtypes as dt
from framework.backend.dtypes import DType

VERSION = "2024.12"
"""The version of the Array API standard."""


class Info:
    """What the default backend, or the one of a device, offers."""

    def capabilities(self) -> dict[str, Any]:
        """What the standard leaves to a library."""
        return {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}

    def default_device(self) -> str:
        """The device of new arrays."""
        return default_backend().devices[0]

    def devices(self) -> list[str]:
        """The devices of the default backend, that of new arrays first."""
        return list(default_backend().devices)

    def default_dtypes(self, *, device: str | None = None) -> dict[str, DType]:
        """The dtypes of arrays made of Python numbers."""
        real = get_default_dtype()
        return {
            "real floating": real,
            "complex floating": dt.promote(real, dt.complex64),
            "integral": dt.int64,
            "indexing": dt.int64,
        }

    def dtypes(self, *, device: str | None = None, kind: str | tuple[str, ...] | None = None) -> dict[str, DType]:
        """The standard's dtypes that the backend computes in, by name; all, or those of a kind."""
        kinds = ("bool", "numeric") if kind is None else (kind,) if isinstance(kind, str) else kind
        wanted = {d for k in kinds for d in dt.of_kind(k)} - {dt.float16, dt.bfloat16}
        return {d.name: d for d in _backend_of(device).dtypes if d in wanted}

    def __repr__(self) -> str:
        return f"<framework.numpy on {default_backend().name}: Array API {VERSION}>"


def _backend_of(device: str | None) -> Backend:
    return default_backend() if device is None else registry.get(device)


def array_namespace_info() -> Info:
    """Inspection functions: `capabilities devices default_device dtypes default_dtypes`."""
    return Info()
