"""Convolution by cuDNN, through `nvidia-cudnn-frontend`; by matrix products where cuDNN has no way."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from importlib.util import find_spec
from threading import Lock
from typing import Any, NamedTuple

from fw_cuda.arrays import Array, name_of, uses_tf32

NAMES = ("conv2d", "conv2d_dx", "conv2d_dw")

TYPES = {"float16": "HALF", "bfloat16": "BFLOAT16", "float32": "FLOAT"}
"""What cuDNN's convolutions compute in, by cuDNN's names; sums are float32."""

MOST_WORKSPACE = 256 << 20
"""Bytes that a plan may use besides; one that needs more is not taken."""

ALIGNMENT = 16
"""Bytes; cuDNN takes it for granted that tensors begin at a multiple of it."""

Pair = tuple[int, int]
Sides = tuple[Pair, Pair]

FIRST, SECOND, RESULT = 1, 2, 3
"""The numbers of the tensors of a graph."""


class Kind(NamedTuple):
    """One of the three convolutions: the builder's name in cuDNN, and what it calls the two operands."""

    builder: str
    first: str
    second: str


KINDS = {
    "conv2d": Kind("conv_fprop", "image", "weight"),
    "conv2d_dx": Kind("conv_dgrad", "loss", "filter"),
    "conv2d_dw": Kind("conv_wgrad", "loss", "image"),
}


class Problem(NamedTuple):
    """What a graph is made for, and found by: shapes and strides in elements, dtype, geometry."""

    name: str
    dtype: str
    shapes: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    strides: tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]
    stride: Pair
    padding: Sides
    dilation: Pair
    is_exact: bool
    """Whether float32 may not be rounded to TF32."""


class _Plan(NamedTuple):
    graph: Any
    workspace: int


def is_installed() -> bool:
    """Whether there is a package `cudnn`; it is not imported."""
    return find_spec("cudnn") is not None


def described(cudnn: Any, problem: Problem, handle: Any) -> Any:
    """The graph of a problem, which nothing is planned for yet."""
    kind = KINDS[problem.name]
    io, sums = getattr(cudnn.data_type, TYPES[problem.dtype]), cudnn.data_type.FLOAT
    graph = cudnn.pygraph(io_data_type=io, intermediate_data_type=sums, compute_data_type=sums, handle=handle)
    operands = {
        name: graph.tensor(dim=list(shape), stride=list(strides), data_type=io, name=name, uid=uid)
        for name, shape, strides, uid in zip(kind[1:], problem.shapes, problem.strides, (FIRST, SECOND))
    }
    result = getattr(graph, kind.builder)(
        **operands,
        pre_padding=[before for before, _ in problem.padding],
        post_padding=[after for _, after in problem.padding],
        stride=list(problem.stride),
        dilation=list(problem.dilation),
        compute_data_type=sums,
    )
    result.set_output(True).set_data_type(io).set_dim(list(problem.shapes[2])).set_stride(list(problem.strides[2]))
    result.set_uid(RESULT)
    return graph


def refused_notes(cudnn: Any, is_exact: bool) -> list[Any]:
    """Properties of algorithms that are not taken: another sum each time, and fewer digits than were asked for."""
    note = cudnn.numerical_note
    always = [note.NONDETERMINISTIC, note.REDUCED_PRECISION_REDUCTION]
    return [*always, note.TENSOR_CORE, note.DOWN_CONVERT_INPUTS] if is_exact else always


def planned(cudnn: Any, problem: Problem, handle: Any) -> Any:
    """The graph of a problem with the algorithm that cuDNN's heuristics put first.

    Raises:
        Exception: there is none, or cuDNN cannot be used.
    """
    graph = described(cudnn, problem, handle)
    graph.validate()
    graph.build_operation_graph()
    graph.create_execution_plans([cudnn.heur_mode.A, cudnn.heur_mode.FALLBACK])
    graph.deselect_numeric_notes(refused_notes(cudnn, problem.is_exact))
    graph.deselect_workspace_greater_than(MOST_WORKSPACE)
    graph.check_support()
    graph.build_plans()
    return graph


def kernels(cupy: Any, matmul: Callable[[Array, Array], Array]) -> dict[str, Callable[..., Array]]:
    """Name to kernel; none without the package, so that the framework composes convolutions of its products."""
    if not is_installed():
        return {}
    found = Convolutions(cupy, matmul)
    return {name: getattr(found, name) for name in NAMES}


class Convolutions:
    """`conv2d` and its two derivatives, each one launch of cuDNN's where it has a way, and always the same one.

    A graph is built and its algorithm chosen when a problem is first met. A program is run before it is recorded, so
    then both are there, and the pool of the CUDA graph has the memory for the workspace. Of cuDNN's algorithms only
    those are taken which add in the same order each time.

    Args:
        cupy: the module.
        matmul: multiplies, where cuDNN has no way.
    """

    def __init__(self, cupy: Any, matmul: Callable[[Array, Array], Array]) -> None:
        self._cupy, self._matmul = cupy, matmul
        self._cudnn: Any = None
        self._handles: dict[int, Any] = {}
        self._plans: dict[Any, _Plan | None] = {}
        self._lock = Lock()
        self.reason = ""
        """Why cuDNN is not used at all, if it is not."""
        self.launches = 0
        """Convolutions by cuDNN so far."""

    # -- the contract's names ------------------------------------------------------------------------

    def conv2d(
        self, x: Array, weight: Array, bias: Array, *, stride: Pair, padding: Sides, dilation: Pair, groups: int
    ) -> Array:
        """The sum of products of a kernel with each place of images, and a bias added."""
        size = _places(x.shape[2:], weight.shape[2:], stride, padding, dilation)
        out = self._by_cudnn("conv2d", x, weight, (len(x), len(weight), *size), (stride, padding, dilation))
        if out is None:
            out = self._composed(x, weight, size, stride, padding, dilation, groups)
        return out if bias is None else out + bias.reshape(-1, 1, 1)

    def conv2d_dx(
        self,
        g: Array,
        weight: Array,
        *,
        size: Pair,
        stride: Pair,
        padding: Sides,
        dilation: Pair,
        groups: int,
    ) -> Array:
        """The gradient with respect to images of `size`."""
        shape = (len(g), weight.shape[1] * groups, *size)
        out = self._by_cudnn("conv2d_dx", g, weight, shape, (stride, padding, dilation))
        return self._composed_dx(g, weight, shape, stride, padding, dilation, groups) if out is None else out

    def conv2d_dw(
        self, g: Array, x: Array, *, kernel: Pair, stride: Pair, padding: Sides, dilation: Pair, groups: int
    ) -> Array:
        """The gradient with respect to a weight with a `kernel`."""
        shape = (g.shape[1], x.shape[1] // groups, *kernel)
        out = self._by_cudnn("conv2d_dw", g, x, shape, (stride, padding, dilation))
        return self._composed_dw(g, x, shape, stride, padding, dilation, groups) if out is None else out

    # -- by cuDNN --------------------------------------------------------------------------------------

    def _by_cudnn(
        self, name: str, a: Array, b: Array, shape: tuple[int, ...], geometry: tuple[Pair, Sides, Pair]
    ) -> Array | None:
        """The result by one launch; None where cuDNN has no way."""
        cupy, dtype = self._cupy, name_of(a)
        if self.reason or dtype not in TYPES or name_of(b) != dtype or not (a.size and b.size and 0 not in shape):
            return None
        a, b = self._ready(a), self._ready(b)
        out = cupy.empty(shape, dtype=a.dtype)
        strides = tuple([tuple([s // t.itemsize for s in t.strides]) for t in (a, b, out)])
        is_exact = dtype == "float32" and not uses_tf32()
        problem = Problem(name, dtype, (a.shape, b.shape, shape), strides, *geometry, is_exact)  # type: ignore[arg-type]
        device = cupy.cuda.runtime.getDevice()
        with self._lock:
            plan = self._plan(device, problem)
            if plan is None:
                return None
            handle = self._handles[device]
            self._cudnn.set_stream(handle=handle, stream=cupy.cuda.get_current_stream().ptr)
            workspace = cupy.empty(max(1, plan.workspace), dtype="uint8")
            pointers = {FIRST: a.data.ptr, SECOND: b.data.ptr, RESULT: out.data.ptr}
            plan.graph.execute(pointers, workspace=workspace, handle=handle)
            self.launches += 1
        return out

    def _ready(self, x: Array) -> Array:
        """The array with channels first or last and no gaps, or a copy that is so."""
        is_dense = x.flags.c_contiguous or x.transpose(0, 2, 3, 1).flags.c_contiguous
        return x if is_dense and x.data.ptr % ALIGNMENT == 0 else x.copy()

    def _plan(self, device: int, problem: Problem) -> _Plan | None:
        key = (device, problem)
        if key not in self._plans:
            handle = self._handle(device)
            self._plans[key] = None
            if handle is not None:
                try:
                    graph = planned(self._cudnn, problem, handle)
                    self._plans[key] = _Plan(graph, int(graph.get_workspace_size()))
                except (RuntimeError, ValueError, self._cudnn.cudnnGraphNotSupportedError):
                    pass  # cuDNN has no algorithm, or none that is allowed
        return self._plans[key]

    def _handle(self, device: int) -> Any:
        """cuDNN's handle for a device; None, with one warning, where cuDNN cannot be used."""
        found = self._handles.get(device)
        if found is None and not self.reason:
            try:
                self._cudnn = import_module("cudnn")
                found = self._handles[device] = self._cudnn.create_handle()
            except (ImportError, OSError, RuntimeError) as error:
                self.reason = " ".join(f"{type(error).__name__}: {error}".split())
                warnings.warn(f"convolution is done without cuDNN: {self.reason}", RuntimeWarning, stacklevel=6)
        return found

    # -- by matrix products: one for each place of the kernel ------------------------------------------

    def _composed(
        self, x: Array, weight: Array, size: Pair, stride: Pair, padding: Sides, dilation: Pair, groups: int
    ) -> Array:
        n, (o, c, *kernel) = len(x), weight.shape
        x = self._padded(x, padding)
        w = weight.reshape(groups, o // groups, c, kernel[0] * kernel[1])
        out = 0
        for tap, (rows, columns) in enumerate(_taps(kernel, size, stride, dilation)):
            out = out + self._matmul(w[..., tap], x[:, :, rows, columns].reshape(n, groups, c, size[0] * size[1]))
        return out.reshape(n, o, *size)  # type: ignore[attr-defined]

    def _composed_dx(
        self,
        g: Array,
        weight: Array,
        shape: tuple[int, ...],
        stride: Pair,
        padding: Sides,
        dilation: Pair,
        groups: int,
    ) -> Array:
        n, o, *size = g.shape
        c, kernel = weight.shape[1], weight.shape[2:]
        (top, bottom), (left, right) = padding
        out = self._cupy.zeros((*shape[:2], shape[2] + top + bottom, shape[3] + left + right), dtype=g.dtype)
        w = weight.reshape(groups, o // groups, c, kernel[0] * kernel[1]).swapaxes(1, 2)
        g = g.reshape(n, groups, o // groups, size[0] * size[1])
        for tap, (rows, columns) in enumerate(_taps(kernel, size, stride, dilation)):
            out[:, :, rows, columns] += self._matmul(w[..., tap], g).reshape(n, groups * c, *size)
        return out[:, :, top : top + shape[2], left : left + shape[3]]

    def _composed_dw(
        self, g: Array, x: Array, shape: tuple[int, ...], stride: Pair, padding: Sides, dilation: Pair, groups: int
    ) -> Array:
        n, o, *size = g.shape
        x = self._padded(x, padding)
        out = self._cupy.empty((groups, o // groups, shape[1], shape[2] * shape[3]), dtype=g.dtype)
        left = g.transpose(1, 0, 2, 3).reshape(groups, o // groups, n * size[0] * size[1])
        for tap, (rows, columns) in enumerate(_taps(shape[2:], size, stride, dilation)):
            part = x[:, :, rows, columns].transpose(1, 0, 2, 3).reshape(groups, shape[1], n * size[0] * size[1])
            out[..., tap] = self._matmul(left, part.swapaxes(1, 2))
        return out.reshape(shape)

    def _padded(self, x: Array, padding: Sides) -> Array:
        (top, bottom), (left, right) = padding
        if not any((top, bottom, left, right)):
            return x
        n, c, h, w = x.shape
        out = self._cupy.zeros((n, c, h + top + bottom, w + left + right), dtype=x.dtype)
        out[:, :, top : top + h, left : left + w] = x
        return out


def _places(size: Any, kernel: Any, stride: Pair, padding: Sides, dilation: Pair) -> Pair:
    """The rows and columns of a result."""
    h, w = (
        (n + sum(around) - d * (k - 1) - 1) // s + 1
        for n, k, s, around, d in zip(size, kernel, stride, padding, dilation)
    )
    return h, w


def _taps(kernel: Any, size: Any, stride: Pair, dilation: Pair) -> list[tuple[slice, slice]]:
    """For each place of a kernel, the rows and columns of padded images that it is multiplied with."""
    rows, columns = (
        [slice(i * d, i * d + (n - 1) * s + 1, s) for i in range(k)]
        for k, n, s, d in zip(kernel, size, stride, dilation)
    )
    return [(r, c) for r in rows for c in columns]
