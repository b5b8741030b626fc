"""The CUDA backend's kernels without a GPU.

Their code for one element is plain C++: here it is compiled for the host, behind stand-ins for CuPy's
kernel classes that resolve types and broadcast as CuPy documents, and put through the conformance
kit's tests of kernels. What only a GPU can tell (atomic additions, launches) is left to `pytest -m cuda`.
"""

from __future__ import annotations

import ctypes
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from fw_cpu import CpuBackend
from fw_cuda.kernels import ELEMENTWISE, NAMES, CudaKernels

from framework.autodiff import PRIMITIVES
from framework.backend import KERNELS, host, registry
from framework.testing.kernel_tests import KernelTests
from framework.testing.kit import parameters_of

COMPILER = next((path for path in map(shutil.which, ("c++", "g++", "clang++")) if path), None)
C_TYPES = {"float32": "float", "float64": "double", "int64": "long long", "bool": "bool"}


class Param:
    """One parameter of a kernel, as CuPy's text names it: `T x`, `bool first`."""

    def __init__(self, text: str) -> None:
        self.type, self.name = text.split()

    @property
    def is_placeholder(self) -> bool:
        return len(self.type) == 1


def params(text: str) -> list[Param]:
    return [Param(part) for part in text.split(",")]


def functions() -> str:
    """C++ source with a loop for every elementwise kernel, in float and in double."""
    source = ["#include <cmath>", "using namespace std;"]
    for name, (inputs, outputs, code) in ELEMENTWISE.items():
        for dtype in ("float32", "float64"):
            types = {"T": C_TYPES[dtype], "I": "long long", "J": "long long"}
            ins = [(types.get(p.type, C_TYPES.get(p.type)), p.name) for p in params(inputs)]
            outs = [(types.get(p.type, C_TYPES.get(p.type)), p.name) for p in params(outputs)]
            arguments = [f"const {t}* _{n}" for t, n in ins] + [f"{t}* _{n}" for t, n in outs]
            elements = [f"const {t}& {n} = _{n}[_i];" for t, n in ins] + [f"{t}& {n} = _{n}[_i];" for t, n in outs]
            source.append(
                f'extern "C" void {name}_{dtype}(long long _n, {", ".join(arguments)}) {{\n'
                f"  typedef {types['T']} T; typedef long long I; typedef long long J;\n"
                f"  for (long long _i = 0; _i < _n; ++_i) {{ {' '.join(elements)} {code}; }}\n}}"
            )
    return "\n".join(source)


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    if COMPILER is None:
        pytest.skip("no C++ compiler here")
    folder = tmp_path_factory.mktemp("kernels")
    source, built = folder / "kernels.cpp", folder / "kernels.so"
    source.write_text(functions())
    subprocess.run(
        [COMPILER, "-O1", "-Wall", "-Werror", "-Wno-unused", "-shared", "-fPIC", source, "-o", built], check=True
    )
    return ctypes.CDLL(str(built))


class HostElementwiseKernel:
    """Types from the outputs first, then the inputs; Python numbers follow; all arrays broadcast."""

    def __init__(self, library: ctypes.CDLL, inputs: str, outputs: str, code: str, name: str) -> None:
        self.library, self.name = library, name.removeprefix("fw_")
        self.inputs, self.outputs = params(inputs), params(outputs)

    def __call__(self, *args):
        ins, outs = args[: len(self.inputs)], args[len(self.inputs) :]
        assert len(ins) == len(self.inputs)
        assert len(outs) in (0, len(self.outputs))
        types: dict[str, np.dtype] = {}
        for p, a in (*zip(self.outputs, outs), *zip(self.inputs, ins)):
            if not isinstance(a, np.ndarray):
                assert type(a) in (bool, int, float), f"{p.name} is a {type(a)}"
            elif p.is_placeholder:
                if types.setdefault(p.type, a.dtype) != a.dtype:
                    raise TypeError(f"{p.name} is {a.dtype}, {p.type} is {types[p.type]}")
            elif a.dtype != p.type:
                raise TypeError(f"{p.name} is {a.dtype}, not {p.type}")
        shape = np.broadcast_shapes(*(np.shape(a) for a in (*ins, *outs)))
        outs = outs or tuple(np.empty(shape, types[p.type]) for p in self.outputs)
        assert all(out.shape == shape for out in outs)
        arrays = [
            np.ascontiguousarray(np.broadcast_to(np.asarray(a, dtype=types.get(p.type, p.type)), shape))
            for p, a in zip((*self.inputs, *self.outputs), (*ins, *outs))
        ]
        arrays[len(ins) :] = [array.copy() for array in arrays[len(ins) :]]
        function = getattr(self.library, f"{self.name}_{types['T'].name}")
        count = int(np.prod(shape))
        function(ctypes.c_longlong(count), *(ctypes.c_void_p(array.ctypes.data) for array in arrays))
        for out, array in zip(outs, arrays[len(ins) :]):
            out[...] = array.reshape(shape)
        return outs[0] if len(outs) == 1 else outs


class HostReductionKernel:
    """Only the reduction that the plugin uses."""

    def __init__(self, *text: str) -> None:
        assert text[:6] == ("T x", "T y", "x * x", "a + b", "y = a", "0")

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.asarray(np.sum(x * x, dtype=x.dtype))


class HostCupy:
    """NumPy with CuPy's kernel classes."""

    ReductionKernel = HostReductionKernel

    def __init__(self, library: ctypes.CDLL) -> None:
        self.library = library

    def ElementwiseKernel(self, *text: str) -> HostElementwiseKernel:
        return HostElementwiseKernel(self.library, *text)

    def __getattr__(self, name: str):
        return getattr(np, name)


class TestCudaKernels(KernelTests):
    backend = "cuda_kernels_on_host"

    @pytest.fixture(autouse=True)
    def on_host(self, library: ctypes.CDLL):
        @registry.register
        class OnHost(CpuBackend):
            name = "cuda_kernels_on_host"
            kernels = CudaKernels(HostCupy(library), host.erf).table()

            @property
            def dtypes(self):
                return tuple(d for d in super().dtypes if d.name != "float16")  # not a type of every C++ compiler

    def pytest_generate_tests(self, metafunc) -> None:
        """The cases, known without building anything."""
        floats = [(name, dtype) for name in NAMES for dtype in ("float32", "float64")]
        updates = [name for name in NAMES if name.endswith("_update")]
        cases = {"test_kernel_signature": NAMES, "test_kernel_values": floats, "test_updates_in_a_row": updates}
        if metafunc.function.__name__ in cases:
            metafunc.parametrize(metafunc.function.over[0], cases[metafunc.function.__name__])


@pytest.mark.parametrize("name", NAMES)
def test_every_kernel_is_of_the_contract_with_its_signature(name: str) -> None:
    method = getattr(CudaKernels, name)
    fallback = KERNELS.get(name) or PRIMITIVES[name].forward
    own = parameters_of(method)[1:]
    if fallback is None:
        assert [p[0] for p in own] == ["x"]
    else:
        assert own == parameters_of(fallback)[1:]


def test_nan_passes_through_every_elementwise_kernel(library: ctypes.CDLL) -> None:
    kernels = CudaKernels(HostCupy(library), host.erf)
    nan, one = np.array([np.nan, 1.0]), np.array([1.0, 1.0])
    np.testing.assert_array_equal(kernels.relu(nan), nan)
    np.testing.assert_array_equal(kernels.relu_grad(nan, one), nan)
    np.testing.assert_array_equal(kernels.relu_grad(nan, -one), [0.0, 0.0])  # not NaN × 0
    updates = {
        "sgd_update": lambda g: (one.copy(), g, one.copy(), 0.1, 0.9, 0.0, 0.0, False),
        "adam_update": lambda g: (one.copy(), g, one.copy(), one.copy(), 1, 0.1, (0.9, 0.99), 1e-8, 0.0, False),
        "rprop_update": lambda g: (one.copy(), g, one.copy(), one.copy(), (0.5, 1.2), (1e-6, 50.0)),
    }
    for name, arguments in updates.items():
        p = getattr(kernels, name)(*arguments(nan))[0]
        assert np.isnan(p[0]), name
        assert np.isfinite(p[1]), name


def test_an_update_refuses_a_gradient_of_another_dtype(library: ctypes.CDLL) -> None:
    kernels = CudaKernels(HostCupy(library), host.erf)
    with pytest.raises(TypeError, match="g is float64, T is float32"):
        kernels.sgd_update(np.ones(3, np.float32), np.ones(3), None, 0.1, 0.0, 0.0, 0.0, False)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int32", "int64", "uint64", "complex64"])
def test_scatter_add_of_dtypes_without_an_atomic_addition(library: ctypes.CDLL, dtype: str) -> None:
    kernels = CudaKernels(HostCupy(library), host.erf)
    array = np.array([0, 1, 2, 3]).astype(dtype)
    values = np.array([1, 1, 5, -6 if np.dtype(dtype).kind in "ic" else 6]).astype(dtype)
    key = (np.array([0, 0, 3, 2]),)
    got = kernels.scatter_add(array, key, values)
    assert got.dtype == array.dtype
    np.testing.assert_array_equal(got, host.scatter_add(array, key, values))
    np.testing.assert_array_equal(array, np.array([0, 1, 2, 3]).astype(dtype))


def test_the_plugin_names_no_private_cupy_module(repository: Path) -> None:
    private = re.compile(r"cupyx?\._[^_]|cupy_backends|cupy\.fuse|cudnn|cupyx\.scatter_add")
    for file in (repository / "plugins" / "cuda").rglob("*.py"):
        assert not private.findall(file.read_text()), file.name


def test_kernel_code_uses_no_reserved_name() -> None:
    for name, (inputs, outputs, code) in ELEMENTWISE.items():
        names = [p.name for p in (*params(inputs), *params(outputs))]
        assert len(set(names)) == len(names), name
        assert not {"n", "i"} & set(names), name
        assert not any(n.startswith("_") for n in names), name
        assert "float(" not in code, f"{name} fixes a precision"
        assert "double" not in code, f"{name} fixes a precision"
