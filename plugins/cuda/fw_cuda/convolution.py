"""Convolution by cuDNN, through `nvidia-cudnn-frontend`; by matrix products where cuDNN has no way."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from fw_cuda.arrays import Array, name_of, uses_tf32
from fw_cuda.cudnn import ALIGNMENT, TYPES, Library
from fw_cuda.namespace import narrow

OF_ANY = ("conv2d", "conv2d_dx", "conv2d_dw")
OF_ROUNDED = ("rounded_conv2d", "rounded_conv2d_dx", "rounded_conv2d_dw")
NAMES = (*OF_ANY, *OF_ROUNDED)

MOST_WORKSPACE = 256 << 20
"""Bytes that a plan may use besides; one that needs more is not taken."""

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
    is_wide: bool = False
    """Whether the result is float32, whatever is multiplied."""

    def described(self, cudnn: Any, handle: Any) -> Any:
        """The graph, which nothing is planned for yet."""
        kind = KINDS[self.name]
        io, sums = getattr(cudnn.data_type, TYPES[self.dtype]), cudnn.data_type.FLOAT
        made = sums if self.is_wide else io
        graph = cudnn.pygraph(io_data_type=io, intermediate_data_type=sums, compute_data_type=sums, handle=handle)
        operands = {
            name: graph.tensor(dim=list(shape), stride=list(strides), data_type=io, name=name, uid=uid)
            for name, shape, strides, uid in zip(kind[1:], self.shapes, self.strides, (FIRST, SECOND))
        }
        result = getattr(graph, kind.builder)(
            **operands,
            pre_padding=[before for before, _ in self.padding],
            post_padding=[after for _, after in self.padding],
            stride=list(self.stride),
            dilation=list(self.dilation),
            compute_data_type=sums,
        )
        result.set_output(True).set_data_type(made).set_dim(list(self.shapes[2])).set_stride(list(self.strides[2]))
        result.set_uid(RESULT)
        return graph

    def narrow(self, cudnn: Any, graph: Any) -> None:
        """No algorithm that adds in another order each time, has fewer digits, or needs much memory."""
        graph.deselect_numeric_notes(refused_notes(cudnn, self.is_exact))
        graph.deselect_workspace_greater_than(MOST_WORKSPACE)


def refused_notes(cudnn: Any, is_exact: bool) -> list[Any]:
    """Properties of algorithms that are not taken: another sum each time, and fewer digits than were asked for."""
    note = cudnn.numerical_note
    always = [note.NONDETERMINISTIC, note.REDUCED_PRECISION_REDUCTION]
    return [*always, note.TENSOR_CORE, note.DOWN_CONVERT_INPUTS] if is_exact else always


class Convolutions:
    """`conv2d` and its two derivatives, each one launch of cuDNN's where it has a way, and always the same one.

    Of cuDNN's algorithms only those are taken which add in the same order each time.

    Args:
        cupy: the module.
        matmul: multiplies, where cuDNN has no way.
        library: cuDNN.
    """

    def __init__(self, cupy: Any, matmul: Callable[[Array, Array], Array], library: Library) -> None:
        self._cupy, self._matmul, self._library = cupy, matmul, library

    # -- the contract's names ------------------------------------------------------------------------

    def conv2d(
        self, x: Array, weight: Array, bias: Array, *, stride: Pair, padding: Sides, dilation: Pair, groups: int
    ) -> Array:
        """The sum of products of a kernel with each place of images, and a bias added."""
        size = _places(x.shape[2:], weight.shape[2:], stride, padding, dilation)
        out = self._by_cudnn("conv2d", x, weight, (len(x), len(weight), *size), (stride, padding, dilation))
        if out is None:
            out = self._composed(x, weight, size, stride, padding, dilation, groups)
        return _added(out, bias)

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

    # -- of operands rounded to a narrower dtype, with sums and results in theirs ----------------------

    def rounded_conv2d(
        self,
        x: Array,
        weight: Array,
        bias: Array,
        *,
        stride: Pair,
        padding: Sides,
        dilation: Pair,
        groups: int,
        dtype: str,
    ) -> Array:
        """`conv2d` of rounded images and a rounded kernel."""
        shape = (len(x), len(weight), *_places(x.shape[2:], weight.shape[2:], stride, padding, dilation))
        a, b, out = self._of_rounded("conv2d", x, weight, shape, (stride, padding, dilation), dtype)
        if out is None:
            return self.conv2d(a, b, bias, stride=stride, padding=padding, dilation=dilation, groups=groups)
        return _added(out, bias)

    def rounded_conv2d_dx(
        self,
        g: Array,
        weight: Array,
        *,
        size: Pair,
        stride: Pair,
        padding: Sides,
        dilation: Pair,
        groups: int,
        dtype: str,
    ) -> Array:
        """`conv2d_dx` of a rounded gradient and a rounded kernel."""
        shape = (len(g), weight.shape[1] * groups, *size)
        a, b, out = self._of_rounded("conv2d_dx", g, weight, shape, (stride, padding, dilation), dtype)
        if out is None:
            return self.conv2d_dx(a, b, size=size, stride=stride, padding=padding, dilation=dilation, groups=groups)
        return out

    def rounded_conv2d_dw(
        self,
        g: Array,
        x: Array,
        *,
        kernel: Pair,
        stride: Pair,
        padding: Sides,
        dilation: Pair,
        groups: int,
        dtype: str,
    ) -> Array:
        """`conv2d_dw` of a rounded gradient and rounded images."""
        shape = (g.shape[1], x.shape[1] // groups, *kernel)
        a, b, out = self._of_rounded("conv2d_dw", g, x, shape, (stride, padding, dilation), dtype)
        if out is None:
            return self.conv2d_dw(a, b, kernel=kernel, stride=stride, padding=padding, dilation=dilation, groups=groups)
        return out

    def _of_rounded(
        self, name: str, a: Array, b: Array, shape: tuple[int, ...], geometry: tuple[Pair, Sides, Pair], dtype: str
    ) -> tuple[Array, Array, Array | None]:
        """Both operands rounded, in the dtype that they had, and the result; None, where cuDNN has no way."""
        kind = narrow(self._cupy, dtype)
        halves = a.astype(kind), b.astype(kind)
        out = self._by_cudnn(name, *halves, shape, geometry, is_wide=True) if name_of(a) == "float32" else None
        return (a, b, out) if out is not None else (halves[0].astype(a.dtype), halves[1].astype(b.dtype), None)

    # -- by cuDNN --------------------------------------------------------------------------------------

    def _by_cudnn(
        self,
        name: str,
        a: Array,
        b: Array,
        shape: tuple[int, ...],
        geometry: tuple[Pair, Sides, Pair],
        is_wide: bool = False,
    ) -> Array | None:
        """The result by one launch, `is_wide` in float32; None where cuDNN has no way."""
        cupy, dtype = self._cupy, name_of(a)
        if dtype not in TYPES or name_of(b) != dtype or not (a.size and b.size and 0 not in shape):
            return None
        if self._library.reason:
            return None
        a, b = self._ready(a), self._ready(b)
        out = cupy.empty(shape, dtype="float32" if is_wide else a.dtype)
        strides = tuple([tuple([s // t.itemsize for s in t.strides]) for t in (a, b, out)])
        is_exact = dtype == "float32" and not uses_tf32()
        problem = Problem(name, dtype, (a.shape, b.shape, shape), strides, *geometry, is_exact, is_wide)  # type: ignore[arg-type]
        return out if self._library.run(problem, {FIRST: a, SECOND: b, RESULT: out}) else None

    def _ready(self, x: Array) -> Array:
        """The array with channels first or last and no gaps, or a copy that is so."""
        is_dense = x.flags.c_contiguous or x.transpose(0, 2, 3, 1).flags.c_contiguous
        return x if is_dense and x.data.ptr % ALIGNMENT == 0 else x.copy()

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


def _added(out: Array, bias: Array) -> Array:
    """With one number for each channel added, if there is one."""
    return out if bias is None else out + bias.reshape(-1, 1, 1)


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
