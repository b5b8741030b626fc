"""A stand-in for the part of `cudnn` that the CUDA plugin calls: graphs of one convolution, computed by NumPy.

It holds the plugin to the order of calls, to the names of arguments (a test compares these with the real package), to
tensors that are described as they lie in memory, to an output of its own, and to the stream that is in use.
"""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import cuda_stand_in
import numpy as np

from framework.testing.samples_layers import _conv2d, _conv2d_dw, _conv2d_dx

DTYPES = {"FLOAT": "float32", "HALF": "float16", "BFLOAT16": "bfloat16"}
ORDER = (
    "validate", "build_operation_graph", "create_execution_plans", "deselect_numeric_notes",
    "deselect_workspace_greater_than", "check_support", "build_plans",
)  # fmt: skip
PORTS = {"conv_fprop": ("image", "weight"), "conv_dgrad": ("loss", "filter"), "conv_wgrad": ("image", "loss")}


class NotSupportedError(Exception):
    """`cudnnGraphNotSupportedError`, which is no RuntimeError either."""


class Tensor:
    """A tensor's description; setters return it."""

    def __init__(self, **given: Any) -> None:
        self.is_output = False
        self.__dict__.update(given)

    def set_output(self, value: bool) -> Tensor:
        self.is_output = value
        return self

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("set_"):
            raise AttributeError(name)

        def setter(value: Any) -> Tensor:
            setattr(self, name[4:], value)
            return self

        return setter


class Graph:
    """A graph of one convolution."""

    def __init__(
        self, owner: CuDNN, io_data_type: str, intermediate_data_type: str, compute_data_type: str, handle: Any
    ):
        assert intermediate_data_type == compute_data_type == "FLOAT"
        self.owner, self.io, self.handle = owner, io_data_type, handle
        self.calls: list[Any] = []
        self.tensors: dict[str, Tensor] = {}

    def tensor(self, dim: Any, stride: Any, data_type: str, name: str, uid: int) -> Tensor:
        assert data_type == self.io
        self.tensors[name] = Tensor(dim=dim, stride=stride, uid=uid, data_type=data_type)
        return self.tensors[name]

    def _convolution(self, builder: str, compute_data_type: str, **given: Any) -> Tensor:
        self.builder, self.geometry = builder, given
        assert compute_data_type == "FLOAT"
        self.operands = [given.pop(port) for port in PORTS[builder]]
        assert set(given) == {"pre_padding", "post_padding", "stride", "dilation"}
        self.result = Tensor(name="result")
        return self.result

    def __getattr__(self, name: str) -> Any:
        if name in PORTS:
            return lambda **given: self._convolution(name, **given)
        if name not in ORDER:
            raise AttributeError(name)

        def call(*args: Any) -> None:
            assert name == ORDER[len(self.calls)]
            self.calls.append((name, args))
            if name == "check_support" and self.owner.refuses(self):
                raise NotSupportedError("no engine")

        return call

    def get_workspace_size(self) -> int:
        assert len(self.calls) == len(ORDER)
        return self.owner.workspace

    def execute(self, pack: dict[int, int], workspace: Any, handle: Any) -> None:
        owner = self.owner
        assert handle is self.handle
        assert handle.stream == owner.cupy.stream.ptr
        assert workspace.nbytes >= owner.workspace
        assert all(type(p) is int and p % 16 == 0 for p in pack.values())
        assert self.result.is_output
        assert self.result.data_type == self.io
        a, b = (_array(pack[t.uid], t) for t in self.operands)
        out = _array(pack[self.result.uid], self.result)

        def run() -> None:
            np.copyto(out, self._computed(a, b))

        owner.executed += 1
        if cuda_stand_in._log is None:
            run()
        cuda_stand_in.record(None, run)

    def _computed(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        pre, post = self.geometry["pre_padding"], self.geometry["post_padding"]
        shape = tuple(self.result.dim)
        channels = {"conv_fprop": (a.shape[1], b.shape[1])}.get(self.builder)
        if self.builder == "conv_dgrad":
            channels = shape[1], b.shape[1]
        elif self.builder == "conv_wgrad":
            channels = a.shape[1], shape[1]
        geometry = {
            "stride": tuple(self.geometry["stride"]), "dilation": tuple(self.geometry["dilation"]),
            "padding": tuple(zip(pre, post)), "groups": channels[0] // channels[1],
        }  # fmt: skip
        a, b = a.astype("float64"), b.astype("float64")
        if self.builder == "conv_fprop":
            return _conv2d(a, b, None, **geometry)
        if self.builder == "conv_dgrad":
            return _conv2d_dx(a, b, size=shape[2:], **geometry)
        return _conv2d_dw(b, a, kernel=shape[2:], **geometry)


def _array(pointer: int, tensor: Tensor) -> np.ndarray:
    """The memory of a tensor, as its description says that it lies."""
    dtype = np.dtype(DTYPES[tensor.data_type])
    size = dtype.itemsize * (1 + sum((n - 1) * s for n, s in zip(tensor.dim, tensor.stride)))
    memory = np.frombuffer((ctypes.c_ubyte * size).from_address(pointer), dtype)
    strides = [s * dtype.itemsize for s in tensor.stride]
    return np.lib.stride_tricks.as_strided(memory, tensor.dim, strides)


class CuDNN:
    """The module `cudnn`."""

    cudnnGraphNotSupportedError = NotSupportedError

    def __init__(self, cupy: Any, refuses: Any = lambda graph: False) -> None:
        self.cupy, self.refuses, self.workspace = cupy, refuses, 4096
        self.executed, self.graphs = 0, []
        self.data_type = SimpleNamespace(**{name: name for name in DTYPES})
        self.heur_mode = SimpleNamespace(A="A", FALLBACK="FALLBACK")
        self.numerical_note = SimpleNamespace(**{
            name: name for name in ("NONDETERMINISTIC", "REDUCED_PRECISION_REDUCTION", "TENSOR_CORE", "DOWN_CONVERT_INPUTS")
        })  # fmt: skip

    def create_handle(self) -> Any:
        return SimpleNamespace(stream=None)

    def set_stream(self, handle: Any, stream: int) -> None:
        handle.stream = stream

    def pygraph(self, **given: Any) -> Graph:
        self.graphs.append(Graph(self, **given))
        return self.graphs[-1]
