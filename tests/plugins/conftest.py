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


@pytest.fixture
def made_with_cudnn(host_kernels: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Makes a backend on the stand-ins with a room of kernels that are cuDNN's; gives it, and cuDNN as the plugin has it."""
    import cuda_stand_in
    from cuda_stand_in_blas import Blas
    from cudnn_stand_in import CuDNN
    from fw_cuda.cudnn import Library

    from framework.backend import registry

    def make(room: Any, names: Any, refuses: Any, **options: Any) -> Any:
        cupy = cuda_stand_in.StandIn(host_kernels)
        monkeypatch.setitem(sys.modules, "cudnn", CuDNN(cupy, refuses))
        backend = cuda_stand_in.backend_class(cupy, Blas(), "cuda", **options)()
        library = Library(cupy)
        found = room(cupy, backend.products.matmul, library)
        backend.kernels = {**backend.kernels, **{name: getattr(found, name) for name in names}}
        monkeypatch.setitem(registry._instances, "cuda", backend)
        return backend, library

    return make
