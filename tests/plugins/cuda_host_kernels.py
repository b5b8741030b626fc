"""The CUDA plugin's kernels as C++ functions of the host, for tests without a GPU.

All `.cu` files are compiled as they are behind a few definitions: `threadIdx` and its kind are variables of a thread,
`__shared__` is static, `__syncthreads` a barrier of real threads. Blocks run one after the other, with fewer threads
than on a GPU; what works on elements of a grid runs thread by thread.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
from fw_cuda import sources

COMPILER = next((path for path in map(shutil.which, ("g++", "c++", "clang++")) if path), None)

SHIM = r"""
#include <barrier>
#include <cmath>
#include <thread>
#include <vector>
struct Dim { unsigned x, y, z; };
static thread_local Dim threadIdx{0, 0, 0}, blockIdx{0, 0, 0};
static thread_local Dim blockDim{1, 1, 1}, gridDim{1, 1, 1};
static std::barrier<>* meeting;
#define __global__ static
#define __device__
#define __shared__ static
#define __syncthreads() meeting->arrive_and_wait()
using std::exp; using std::sqrt; using std::log; using std::erf; using std::tanh;
template <class V> void atomicAdd(V* place, V value) { *place += value; }
static float __fmul_rn(float a, float b) { return a * b; }
static double __dmul_rn(double a, double b) { return a * b; }
static float __fadd_rn(float a, float b) { return a + b; }
static double __dadd_rn(double a, double b) { return a + b; }
using Run = void (*)(void**);
static void each_alone(unsigned blocks, Run run, void** args) {
    for (unsigned b = 0; b < blocks; ++b)
        for (unsigned t = 0; t < 3; ++t) {
            gridDim = {blocks, 1, 1}; blockDim = {3, 1, 1}; blockIdx = {b, 0, 0}; threadIdx = {t, 0, 0};
            run(args);
        }
}
static void together(unsigned blocks, Run run, void** args) {
    const unsigned threads = 4;
    std::barrier<> all(threads);
    meeting = &all;
    std::vector<std::thread> running;
    for (unsigned t = 0; t < threads; ++t)
        running.emplace_back([=, &all] {
            gridDim = {blocks, 1, 1}; blockDim = {threads, 1, 1}; threadIdx = {t, 0, 0};
            for (unsigned b = 0; b < blocks; ++b) { blockIdx = {b, 0, 0}; run(args); all.arrive_and_wait(); }
        });
    for (auto& thread : running) thread.join();
}
"""

INDICES = {"indexing": ("int64", "int32"), "losses": ("int64", "uint8"), "batches": ("uint8", "float32", "float64")}
"""The dtypes of indices, or of data, that files are compiled for; int64 for all others."""

KERNEL = re.compile(r'extern "C" __global__ void (\w+)\(([^)]*)\) \{(.*?)\n\}', re.DOTALL)


def signature(text: str) -> list[tuple[str, str]]:
    """Type and name of each parameter of a kernel."""
    found = []
    for part in " ".join(text.split()).split(","):
        kind, name = re.fullmatch(r"(.*?)(\w+)", part.strip()).groups()
        found.append((kind.strip(), name))
    return found


def kernels() -> dict[str, tuple[str, list[tuple[str, str]], bool]]:
    """Kernel to its file, its parameters, and whether threads of a block work together."""
    return {
        name: (file, signature(parameters), "fw_block_" in body)
        for file in sources.files()
        for name, parameters, body in KERNEL.findall((sources.FOLDER / f"{file}.cu").read_text())
    }


def program() -> str:
    """One C++ file with every kernel in float and in double, and a function that launches each."""
    parts = [SHIM]
    launchers = []
    known = kernels()
    for dtype in ("float32", "float64"):
        for file in sources.files():
            for index in INDICES.get(file, ("int64",)):
                space = f"{file}_{dtype}_{index}"
                options = [option[2:].split("=") for option in sources.options(dtype, index)]
                text = sources.source(file).replace('extern "C" ', "")
                parts.append(f"namespace {space} {{")
                parts += [f"#define {key} {value}" for key, value in options]
                parts.append(text)
                for name, (of, parameters, is_joint) in known.items():
                    if of == file:
                        args = ", ".join(f"*({kind}*)args[{i}]" for i, (kind, _) in enumerate(parameters))
                        how = "together" if is_joint else "each_alone"
                        parts.append(f"static void run_{name}(void** args) {{ {name}({args}); }}")
                        launchers.append(
                            f'extern "C" void {name}_{dtype}_{index}(unsigned blocks, void** args) '
                            f"{{ {how}(blocks, {space}::run_{name}, args); }}"
                        )
                macros = (*[key for key, _ in options], *re.findall(r"#define (\w+)", text))
                parts += [f"#undef {macro}" for macro in dict.fromkeys(macros)]
                parts.append("}")
    return "\n".join([*parts, *launchers])


def built(folder: Path) -> ctypes.CDLL:
    """The kernels, compiled into a library."""
    source, library = folder / "kernels.cpp", folder / "kernels.so"
    source.write_text(program())
    flags = ["-std=c++20", "-O0", "-pthread", "-Wall", "-Werror", "-Wno-unused", "-ffp-contract=off"]
    done = subprocess.run(
        [str(COMPILER), *flags, "-shared", "-fPIC", str(source), "-o", str(library)], capture_output=True, text=True
    )
    assert not done.returncode, done.stderr[:4000]
    return ctypes.CDLL(str(library))


SCALARS = {
    "index_t": np.int64, "int": np.int32, "double": np.float64, "unsigned long long": np.uint64,
}  # fmt: skip

ELEMENTS = {"bool": np.bool_, "int": np.int32, "double": np.float64, "unsigned char": np.uint8}
"""What pointers are to, but for numbers of eight bytes."""


def arguments(parameters: list[tuple[str, str]], given: tuple[Any, ...], types: dict[str, Any]) -> Any:
    """A kernel's arguments as it takes them: pointers, and scalars of the declared types, which are checked."""
    assert len(given) == len(parameters), f"{len(given)} arguments for {len(parameters)} parameters"
    held = []
    for (kind, name), value in zip(parameters, given):
        if kind.endswith("*"):
            if not isinstance(value, np.ndarray):
                assert type(value) is np.uint64, f"{name} is a {type(value)}"
                assert value == 0, name
                held.append(ctypes.c_void_p(0))
                continue
            element = kind.removeprefix("const ").rstrip("*").strip()
            expected = np.dtype(types.get(element) or ELEMENTS.get(element, np.int64))
            assert value.dtype == expected, f"{name} is {value.dtype}, not {expected}"
            assert value.flags.c_contiguous or value.flags.f_contiguous, f"{name} has gaps"
            held.append(ctypes.c_void_p(value.ctypes.data))
        else:
            assert type(value) is SCALARS[kind], f"{name} is a {type(value)}, not {kind}"
            held.append(np.ctypeslib.as_ctypes(np.array(value)))
    pointers = (ctypes.c_void_p * len(held))(*[ctypes.addressof(h) for h in held])
    return pointers, held
