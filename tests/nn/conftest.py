"""A backend that works like a device."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from fw_strict import StrictBackend

from framework.backend import registry

for folder in ("optim", "nn"):  # the tables of modules and optimizers are importable
    sys.path.insert(0, str(Path(__file__).parents[1] / folder))


@pytest.fixture(autouse=True)
def one_thread(request: pytest.FixtureRequest) -> Iterator[None]:
    """PyTorch beside ours in one thread: waking others costs more than arrays of these sizes."""
    torch = sys.modules.get("torch") if request.node.get_closest_marker("reference") else None
    threads = torch.get_num_threads() if torch else 0
    if torch:
        torch.set_num_threads(1)
    yield
    if torch:
        torch.set_num_threads(threads)


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
