"""Makes the table of names importable."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture(scope="module")
def jax() -> Iterator[Any]:
    """JAX with 64-bit floats, for the time of a file's tests."""
    module = pytest.importorskip("jax", reason="JAX is not installed: pip install -e '.[reference]'")
    module.config.update("jax_enable_x64", True)
    yield module
    module.config.update("jax_enable_x64", False)


@pytest.fixture(params=["cpu", "strict"])
def backend(request: pytest.FixtureRequest) -> str:
    """Each backend in turn."""
    return str(request.param)
