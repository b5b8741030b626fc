"""Makes the helpers beside these tests importable; of a slow backend's conformance tests, leaves a share."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

sys.path.insert(0, str(Path(__file__).parent))

FULL = os.environ.get("FW_TEST_CASES") == "full"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of a class with `one_in`, pairs of the beginning of a name and n, keep one in n of the cases; FW_TEST_CASES=full: all."""
    left_out = [item for item in items if not FULL and crc32(item.name.encode()) % _one_in(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        gone = set(left_out)
        items[:] = [item for item in items if item not in gone]


def _one_in(item: pytest.Item) -> int:
    shares = getattr(getattr(item, "cls", None), "one_in", ()) if "[" in item.name else ()
    return next((n for beginning, n in shares if item.name.startswith(beginning)), 1)


@pytest.fixture(scope="session")
def host_kernels(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The CUDA plugin's kernels as functions of the host."""
    import cuda_host_kernels

    if cuda_host_kernels.COMPILER is None:
        pytest.skip("no C++ compiler here")
    return cuda_host_kernels.built(tmp_path_factory.mktemp("kernels"))
