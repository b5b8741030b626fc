"""What the tests of the core share: the table of primitives, the backends, and one that refuses float64."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest

from framework.backend import registry

sys.path.insert(0, str(Path(__file__).parent))  # makes primitive_table importable

BACKENDS = ("cpu", "strict")


@pytest.fixture(params=BACKENDS)
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend in turn."""
    return str(request.param)


@pytest.fixture(scope="module")
def jax() -> Iterator[Any]:
    """JAX with 64-bit floats, for the time of a file's tests."""
    module = pytest.importorskip("jax", reason="JAX is not installed: pip install -e '.[reference]'")
    module.config.update("jax_enable_x64", True)
    yield module
    module.config.update("jax_enable_x64", False)


class NarrowArray(numpy.ndarray):
    """A NumPy array that is never of 64-bit floating point, not even for a moment."""

    def __array_finalize__(self, source: object) -> None:
        # NumPy's own mean of one number goes through a 0-d float64
        if self.ndim and self.dtype in (numpy.float64, numpy.complex128, numpy.longdouble):
            raise AssertionError(f"a {self.dtype} array of shape {self.shape} was made in a float32 computation")


@pytest.fixture
def narrow() -> Iterator[str]:
    """The CPU backend with arrays that refuse float64; its name."""
    cpu = type(registry.get("cpu"))

    class NarrowBackend(cpu):  # type: ignore[misc, valid-type]
        name = "narrow"

        def asarray(self, obj: object, **kwargs: object) -> numpy.ndarray:
            return super().asarray(obj, **kwargs).view(NarrowArray)

        def to_numpy(self, array: numpy.ndarray) -> numpy.ndarray:
            return numpy.asarray(array)

        def owns(self, array: object) -> bool:
            return isinstance(array, NarrowArray)

    registry.register(NarrowBackend)
    return NarrowBackend.name
