from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest
from fw_strict import StrictBackend

from framework.backend import registry

sys.path.insert(0, str(Path(__file__).parent))  # makes the helpers beside these tests importable


@pytest.fixture(scope="session")
def toy() -> ModuleType:
    """The module toy_run.py beside this file."""
    path = Path(__file__).with_name("toy_run.py")
    spec = importlib.util.spec_from_file_location("toy_run", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["toy_run"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def far() -> str:
    """A backend that works like a device: nothing is known to be finished when it returns."""

    class FarBackend(StrictBackend):
        name = "far"
        synchronous = False

        def __init__(self) -> None:
            super().__init__()
            self._native_device = {"far": self._host}

    registry.register(FarBackend)
    return "far"
