"""A backend that works like a device."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
from fw_strict import StrictBackend

from framework.backend import registry

sys.path.insert(0, str(Path(__file__).parent))  # makes module_table importable


@pytest.fixture
def far() -> str:
    """A backend where nothing is known to be finished when it returns; its name."""

    class FarBackend(StrictBackend):
        name = "far"
        synchronous = False

        def __init__(self) -> None:
            super().__init__()
            self._native_device = {"far": self._host}

    registry.register(FarBackend)
    return "far"
