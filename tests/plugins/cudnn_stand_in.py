"""A stand-in for the part of `cudnn` that the CUDA plugin calls: graphs of one operation, computed by NumPy.

It holds the plugin to the order of calls, to the names of arguments (a test compares these with the real package), to
tensors that are described as they lie in memory, to an output of its own, and to the stream that is in use.
"""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import cuda_stand_in
import numpy as np
import streamed_attention

from framework.testing.samples_layers import _conv2d, _conv2d_dw, _conv2d_dx

DTYPES = {"FLOAT": "float32", "HALF": "float16", "BFLOAT16": "bfloat16"}
ORDER = (
    "validate", "build_operation_graph", "create_execution_plans", "deselect_numeric_notes",
    "deselect_workspace_greater_than", "check_support", "build_plans",
)  # fmt: skip
ORDER_OF_ATTENTION = tuple(name for name in ORDER if not name.startswith("deselect"))
PORTS = {
    "conv_fprop": ("image", "weight"), "conv_dgrad": ("loss", "filter"), "conv_wgrad": ("image", "loss"),
    "sdpa": ("q", "k", "v"), "sdpa_backward": ("q", "k", "v", "o", "dO", "stats"),
}  # fmt: skip
GEOMETRY = {"pre_padding", "post_padding", "stride", "dilation", "compute_data_type"}
BAND = {"diagonal_alignment": "TOP_LEFT", "diagonal_band_right_bound": 0}


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
    """A graph of one operation."""

    def __init__(
        self, owner: CuDNN, io_data_type: str, intermediate_data_type: str, compute_data_type: str, handle: Any
    ):
        assert intermediate_data_type == compute_data_type == "FLOAT"
        self.owner, self.io, self.handle = owner, io_data_type, handle
        self.calls: list[Any] = []
        self.tensors: dict[str, Tensor] = {}

    def tensor(self, dim: Any, stride: Any, data_type: str, name: str, uid: int) -> Tensor:
        assert data_type == ("FLOAT" if name == "stats" else self.io)
        self.tensors[name] = Tensor(dim=dim, stride=stride, uid=uid, data_type=data_type)
        return self.tensors[name]

    def _operation(self, builder: str, **given: Any) -> Any:
        self.builder, self.settings = builder, given
        self.operands = [given.pop(port) for port in PORTS[builder]]
        if builder.startswith("conv"):
            assert set(given) == GEOMETRY
            assert given.pop("compute_data_type") == "FLOAT"
            self.results = [Tensor(name="result")]
            return self.results[0]
        self.order = ORDER_OF_ATTENTION
        own = {"sdpa": "generate_stats", "sdpa_backward": "use_deterministic_algorithm"}[builder]
        causal = {key: value for key, value in given.items() if key in BAND}
        assert causal in ({}, BAND)
        assert set(given) == {"attn_scale", own, *causal}
        assert given[own] is True
        names = ("O", "Stats") if builder == "sdpa" else ("dQ", "dK", "dV")
        self.results = [Tensor(name=name) for name in names]
        return list(self.results)

    order = ORDER

    def __getattr__(self, name: str) -> Any:
        if name in PORTS:
            return lambda **given: self._operation(name, **given)
        if name not in self.order:
            raise AttributeError(name)

        def call(*args: Any) -> None:
            assert name == self.order[len(self.calls)]
            self.calls.append((name, args))
            if name == "validate":
                self._validate()
            if name == "check_support" and self.owner.refuses(self):
                raise NotSupportedError("no engine")

        return call

    def _validate(self) -> None:
        """As cuDNN's own: of attention, elements by eights that lie beside each other, and packed statistics."""
        if self.builder.startswith("conv"):
            return
        for t in (*self.operands, *self.results):
            is_stats = t.data_type == "FLOAT"
            if is_stats:
                b, h, rows, one = t.dim
                assert (one, t.stride) == (1, [h * rows, rows, 1, 1])
            elif t.dim[3] % 8 or t.dim[3] > 256:
                raise NotSupportedError("hidden_dim should be multiple of 8")
            else:
                assert t.stride[3] == 1
                assert all(s % 8 == 0 for s in t.stride[:3])

    def get_workspace_size(self) -> int:
        assert len(self.calls) == len(self.order)
        return self.owner.workspace

    def execute(self, pack: dict[int, int], workspace: Any, handle: Any) -> None:
        owner = self.owner
        assert handle is self.handle
        assert handle.stream == owner.cupy.stream.ptr
        assert workspace.nbytes >= owner.workspace
        assert all(type(p) is int and p % 16 == 0 for p in pack.values())
        assert set(pack) == {t.uid for t in (*self.operands, *self.results)}
        allowed = {"Stats": ("FLOAT",), "result": (self.io, "FLOAT")}  # the second, of a convolution
        for t in self.results:
            assert t.is_output
            assert t.data_type in allowed.get(t.name, (self.io,))
        operands = [_array(pack[t.uid], t) for t in self.operands]
        outs = [_array(pack[t.uid], t) for t in self.results]

        def run() -> None:
            for out, made in zip(outs, self._computed(*[a.astype("float64") for a in operands]), strict=True):
                np.copyto(out, made.astype(out.dtype))

        owner.executed += 1
        cuda_stand_in.launch(run)

    def _computed(self, *operands: np.ndarray) -> tuple[np.ndarray, ...]:
        if self.builder.startswith("conv"):
            return (self._convolved(*operands),)
        settings = self.settings["attn_scale"], "diagonal_alignment" in self.settings
        if self.builder == "sdpa":
            return streamed_attention.forward(*operands, None, *settings)
        q, k, v, out, g, stats = operands
        return streamed_attention.backward(g, q, k, v, None, out, stats, *settings)[:3]

    def _convolved(self, a: np.ndarray, b: np.ndarray) -> np.ndarray:
        pre, post = self.settings["pre_padding"], self.settings["post_padding"]
        shape = tuple(self.results[0].dim)
        channels = {"conv_fprop": (a.shape[1], b.shape[1])}.get(self.builder)
        if self.builder == "conv_dgrad":
            channels = shape[1], b.shape[1]
        elif self.builder == "conv_wgrad":
            channels = a.shape[1], shape[1]
        geometry = {
            "stride": tuple(self.settings["stride"]), "dilation": tuple(self.settings["dilation"]),
            "padding": tuple(zip(pre, post)), "groups": channels[0] // channels[1],
        }  # fmt: skip
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
        self.diagonal_alignment = SimpleNamespace(TOP_LEFT="TOP_LEFT")
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
