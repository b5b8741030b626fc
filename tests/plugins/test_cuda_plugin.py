"""The CUDA plugin where there is no GPU: it imports, and its row says what is missing."""

from __future__ import annotations

import importlib.metadata
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from fw_cuda import CudaBackend
from fw_cuda.installation import PACKAGES

from framework.backend import registry
from framework.cli import plugins
from framework.errors import BackendError

NOT_THERE = "raise ModuleNotFoundError(\"No module named 'cupy'\", name='cupy')"

CUPY = """
__version__ = {version!r}

class cuda:
    class runtime:
        class CUDARuntimeError(RuntimeError): pass
        @staticmethod
        def driverGetVersion(): return {driver}
        @staticmethod
        def runtimeGetVersion(): return 13020
        @classmethod
        def getDeviceCount(cls):
            if isinstance({count!r}, str):
                raise cls.CUDARuntimeError({count!r})
            return {count!r}
"""


def cupy(version: str = "14.2.0", driver: int = 13000, count: object = 1) -> str:
    """The text of a module that answers as CuPy does where the plugin asks what there is."""
    return CUPY.format(version=version, driver=driver, count=count)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in front of `sys.path`, in which no CuPy distribution is hidden behind it."""
    for name in PACKAGES:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        pytest.skip(f"{name} is installed here; its metadata would count too")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def distribution(site: Path, name: str) -> None:
    info = site / f"{name.replace('-', '_')}-14.2.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 14.2.0\n")


def row(folder: Path) -> plugins.Row:
    """The bundled plugin's row in `fw plugins`."""
    points = [p for p in registry.entry_points() if p.value == "fw_cuda:CudaBackend"]
    probe = plugins.Probe(points[0], folder / "probe")
    try:
        return probe.row(time.monotonic() + 60.0, 60.0)
    finally:
        probe.end()


@pytest.mark.parametrize(
    ("module", "reason"),
    [
        (NOT_THERE, "CuPy is not installed: pip install 'fw-framework[cuda]'"),
        (
            "import no_such_part",
            "CuPy is installed, but does not import: No module named 'no_such_part'. "
            "Try pip install 'fw-framework[cuda]'",
        ),
        (
            "raise ImportError('libnvrtc.so.13: cannot open\\nshared object file')",
            "CuPy is installed, but does not import: libnvrtc.so.13: cannot open shared object file. "
            "Try pip install 'fw-framework[cuda]'",
        ),
        (cupy(version="13.6.0"), "CuPy 13.6.0 is not supported, 14.x is: pip install 'fw-framework[cuda]'"),
        (cupy(driver=0), "there is no NVIDIA driver on this machine"),
        (
            cupy(driver=12040),
            "the NVIDIA driver runs CUDA 12.4 at most, but the CuPy installed needs CUDA 13.2: "
            "update the driver, or pip install 'fw-framework[cuda12]'",
        ),
        (
            cupy(driver=11080),
            "the NVIDIA driver runs CUDA 11.8 at most, but the CuPy installed needs CUDA 13.2: update the driver",
        ),
        (cupy(count="cudaErrorNoDevice: none"), "there is no usable CUDA device: cudaErrorNoDevice: none"),
        (cupy(count=0), "there is no CUDA device; is CUDA_VISIBLE_DEVICES set to none?"),
    ],
)
def test_the_row_says_what_is_missing(site: Path, module: str, reason: str) -> None:
    (site / "cupy.py").write_text(module)
    found = row(site)
    assert (found.state, found.reason) == ("missing", reason)


def test_two_cupy_packages_are_refused_before_either_is_imported(site: Path) -> None:
    (site / "cupy.py").write_text("raise SystemExit('imported')")
    distribution(site, "cupy-cuda12x")
    distribution(site, "cupy-cuda13x")
    assert row(site).reason.startswith(
        "several CuPy packages are installed (cupy-cuda13x, cupy-cuda12x) and overwrite each other: "
        "pip uninstall cupy-cuda13x cupy-cuda12x, then pip install"
    )


def test_importing_the_plugin_imports_no_library() -> None:
    code = "import fw_cuda, sys; print(sorted({'cupy', 'cupyx', 'array_api_compat'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        timeout=60,
    )
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_device_names() -> None:
    backend = CudaBackend.__new__(CudaBackend)  # names need no GPU
    backend._devices = ("cuda", "cuda:1")
    assert backend.check_device("cuda:0") == backend.check_device(None) == "cuda"
    assert backend.check_device("cuda:1") == "cuda:1"
    with pytest.raises(BackendError, match=r"'cuda' has no device 'cuda:2'; it has cuda, cuda:1"):
        backend.check_device("cuda:2")


USED = (
    "RawModule", "ndarray", "add.at", "arange", "array", "asarray", "ascontiguousarray", "asnumpy", "broadcast_to", "dtype",
    "empty", "empty_like", "exp", "from_dlpack", "get_default_memory_pool", "isfinite", "log", "logical_and", "matmul", "minimum",
    "maximum", "sqrt", "sum", "take_along_axis", "where", "zeros", "zeros_like", "cuda.Device", "cuda.MemoryPool",
    "cuda.MemoryPool.malloc", "cuda.MemoryPool.total_bytes", "cuda.MemoryPool.free_bytes", "cuda.Stream",
    "cuda.Stream.begin_capture", "cuda.Stream.end_capture", "cuda.Stream.record", "cuda.Stream.wait_event",
    "cuda.Stream.synchronize", "cuda.Graph.launch", "cuda.get_allocator", "cuda.get_current_stream",
    "cuda.using_allocator", "cuda.runtime.getDevice", "cuda.runtime.getDeviceCount", "cuda.runtime.runtimeGetVersion",
    "cuda.runtime.driverGetVersion", "cuda.runtime.memcpyAsync", "cuda.alloc", "cuda.alloc_pinned_memory", "cuda.Event",
    "cuda.Event.record", "cuda.Event.synchronize", "cuda.UnownedMemory", "cuda.MemoryPointer",
)  # fmt: skip
"""What the plugin asks CuPy for."""


def test_cupy_has_what_the_plugin_asks_for() -> None:
    """Where CuPy is installed, with a GPU or without."""
    cupy = pytest.importorskip("cupy", exc_type=ImportError)
    for name in USED:
        found = cupy
        for part in name.split("."):
            found = getattr(found, part)
        assert callable(found), name
    assert cupy.cuda.runtime.memcpyHostToDevice == 1
    assert hasattr(cupy.cuda.Event, "done")
    assert cupy.ndarray.__weakrefoffset__, "graphs and arenas refer to arrays without holding them"
