"""CuPy's Array API namespace, with products that can be part of a CUDA graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from framework.errors import BackendError


class Namespace:
    """The functions and dtypes of `array_api_compat.cupy`, but for `matmul`; and bfloat16 where ml_dtypes is there.

    Args:
        xp: the namespace.
        matmul: multiplies.
    """

    def __init__(self, xp: Any, matmul: Callable[[Any, Any], Any]) -> None:
        self._xp = xp
        self.matmul = matmul
        found = bfloat16()
        if found is not None:
            self.bfloat16 = found

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._xp, name)
        setattr(self, name, value)
        return value

    def __dir__(self) -> list[str]:
        return sorted({*dir(self._xp), *self.__dict__})


def bfloat16() -> Any:
    """NumPy's dtype for it, which CuPy takes; None without the package that has it."""
    try:
        import ml_dtypes
        import numpy
    except ImportError:
        return None
    return numpy.dtype(ml_dtypes.bfloat16)


def narrow(cupy: Any, dtype: str) -> Any:
    """What CuPy calls the dtype that operands are rounded to.

    Raises:
        BackendError: bfloat16 without the package that has it.
    """
    found = cupy.dtype(dtype) if dtype != "bfloat16" else bfloat16()
    if found is None:
        raise BackendError("bfloat16 needs a package: pip install ml_dtypes")
    return found
