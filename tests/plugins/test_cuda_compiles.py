"""Every CUDA file compiles for the GPUs that are promised, by NVRTC; no GPU is needed for that."""

from __future__ import annotations

import ctypes
import importlib.util
from ctypes import POINTER, byref, c_char_p, c_int, c_size_t, c_void_p
from pathlib import Path
from typing import Any

import pytest
from fw_cuda import sources

ARCHITECTURES = ("sm_80", "sm_90")
INDICES = {"indexing": ("int64", "int32"), "losses": ("int64", "uint8"), "batches": ("uint8", "float32")}


def wheels(part: str) -> list[Path]:
    """Folders `nvidia/<part>` that wheels of NVIDIA's have installed."""
    spec = importlib.util.find_spec("nvidia")
    places = [] if spec is None else list(spec.submodule_search_locations or ())
    return [path for place in places for path in Path(place).glob(part)]


def libraries() -> list[str]:
    files = [
        str(path)
        for part in ("cuda_nvrtc/lib", "cu13/lib")
        for folder in wheels(part)
        for path in folder.glob("libnvrtc.so.*")
    ]
    return [*(f for f in files if "alt" not in f), "libnvrtc.so.13", "libnvrtc.so.12"]


@pytest.fixture(scope="module")
def nvrtc() -> Any:
    for name in libraries():
        try:
            found = ctypes.CDLL(name)
        except OSError:
            continue
        found.nvrtcCreateProgram.argtypes = (POINTER(c_void_p), c_char_p, c_char_p, c_int, c_void_p, c_void_p)
        found.nvrtcCompileProgram.argtypes = (c_void_p, c_int, POINTER(c_char_p))
        for name in ("nvrtcGetProgramLogSize", "nvrtcGetCUBINSize"):
            getattr(found, name).argtypes = (c_void_p, POINTER(c_size_t))
        found.nvrtcGetProgramLog.argtypes = (c_void_p, c_char_p)
        return found
    pytest.skip("NVRTC is not installed: pip install nvidia-cuda-nvrtc-cu12 nvidia-cuda-runtime-cu12")


def headers() -> list[str]:
    places = [*wheels("cuda_runtime/include"), *wheels("cu13/include"), Path("/usr/local/cuda/include")]
    return [str(path) for path in places if (path / "cuda_fp16.h").exists()]


def compiled(nvrtc: Any, code: str, options: tuple[str, ...]) -> tuple[int, str]:
    """The size of the machine code, and what the compiler says."""
    program, size = c_void_p(), c_size_t()
    assert nvrtc.nvrtcCreateProgram(byref(program), code.encode(), b"kernels.cu", 0, None, None) == 0
    given = (c_char_p * len(options))(*[option.encode() for option in options])
    status = nvrtc.nvrtcCompileProgram(program, len(options), given)
    nvrtc.nvrtcGetProgramLogSize(program, byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    if status == 0:
        nvrtc.nvrtcGetCUBINSize(program, byref(size))
    nvrtc.nvrtcDestroyProgram(byref(program))
    return size.value if status == 0 else 0, log.value.decode()


@pytest.mark.parametrize("architecture", ARCHITECTURES)
@pytest.mark.parametrize(
    "dtype", ["float32", "float16", *(pytest.param(d, marks=pytest.mark.slow) for d in ("float64", "bfloat16"))]
)
@pytest.mark.parametrize("file", sources.files())
def test_every_file_compiles(nvrtc: Any, file: str, dtype: str, architecture: str) -> None:
    """Without a warning, for every dtype."""
    if dtype in ("float16", "bfloat16") and not headers():
        pytest.skip("the headers of CUDA are not installed: pip install nvidia-cuda-runtime-cu12")
    include = [f"-I{headers()[0]}"] if headers() else []
    for index in INDICES.get(file, ("int64",)):
        options = (*sources.options(dtype, index), *include, f"-arch={architecture}", "-std=c++17", "-default-device")
        size, log = compiled(nvrtc, sources.source(file), options)
        assert size > 0, log
        assert not log.strip("\0 \n"), log


def test_all_dtypes_are_compiled() -> None:
    assert set(sources.TYPES) == {"float32", "float16", "float64", "bfloat16"}


def test_an_error_in_a_kernel_is_found(nvrtc: Any) -> None:
    size, log = compiled(nvrtc, sources.source("losses") + "\nnonsense", (*sources.options("float32"), "-arch=sm_90"))
    assert size == 0
    assert "nonsense" in log


def test_there_are_files_and_each_has_kernels() -> None:
    assert {"activations", "batches", "indexing", "losses", "normalization", "random", "updates"} <= set(
        sources.files()
    )
    for file in sources.files():
        assert 'extern "C" __global__ void fw_' in sources.source(file)
