"""Matrix products by cuBLASLt, eagerly and within CUDA graphs alike."""

from __future__ import annotations

from threading import Lock
from typing import Any, NamedTuple

from fw_cuda import cublaslt
from fw_cuda.arrays import Array, by_rows, count, name_of, uses_tf32
from fw_cuda.namespace import narrow

MOST_WORKSPACE = 32 << 20
"""Bytes that an algorithm may use besides: what NVIDIA advises for Hopper, enough for older ones."""


class Operand(NamedTuple):
    """How a matrix, or many, lie in memory, seen by columns: BLAS's way."""

    is_turned: bool
    leading: int
    stride: int


class _Planned(NamedTuple):
    problem: cublaslt.Problem
    chosen: cublaslt.Heuristic


def operand(x: Array, batch: tuple[int, ...]) -> Operand | None:
    """How BLAS sees `x` (..., rows, columns) broadcast to `batch` in front; None where it has to be copied first.

    An array by rows is its transpose by columns. `is_turned` says that it is already by columns.
    """
    size = x.itemsize
    if any(s % size for s in x.strides):
        return None
    *lead, down, right = (s // size for s in x.strides)
    rows, columns = x.shape[-2:]
    if (columns == 1 or right == 1) and (rows == 1 or down >= columns):
        is_turned, leading = False, down if rows > 1 else columns
    elif (rows == 1 or down == 1) and (columns == 1 or right >= rows):
        is_turned, leading = True, right if columns > 1 else rows
    else:
        return None
    lengths = x.shape[:-2]
    steps = [0] * (len(batch) - len(lengths)) + [0 if n == 1 else s for n, s in zip(lengths, lead)]
    stride, expected = 0, None
    for length, step in zip(batch[::-1], steps[::-1]):  # all batch axes as one: each step what the ones before span
        if length == 1:
            continue
        if expected is None:
            stride, expected = step, step * length
        elif step == expected:
            expected = step * length
        else:
            return None
    return Operand(is_turned, max(1, leading), stride)


def alignment(pointer: int) -> int:
    """The largest power of two, to 16, that an address is a multiple of: no load is wider than 16 bytes."""
    return min(16, pointer & -pointer or 16)


class Products:
    """`matmul`, and what layers make of it.

    Each kind of product is described and its algorithm chosen when it is first met; from then on a product is one
    call of the library on the current stream, which is what a graph can record.

    Args:
        cupy: the module.
        library: cuBLASLt, as `cublaslt.load` gives it; None to let CuPy multiply.
    """

    def __init__(self, cupy: Any, library: Any) -> None:
        self._cupy = cupy
        self._library = library
        self._handles: dict[int, Any] = {}
        self._planned: dict[Any, _Planned] = {}
        self._lock = Lock()
        self.launches = 0

    @property
    def can_be_captured(self) -> bool:
        """Whether products can be part of a graph."""
        return self._library is not None

    # -- the contract's names ------------------------------------------------------------------------

    def matmul(self, x: Array, y: Array) -> Array:
        """The matrix product over the last two axes."""
        found = self.product(x, y)
        return self._cupy.matmul(x, y) if found is None else found

    def linear(self, x: Array, weight: Array, bias: Array = None) -> Array:
        """`x @ weight.T + bias`, the bias added by the product itself."""
        return self._linear(x, weight, bias, False)

    def linear_relu(self, x: Array, weight: Array, bias: Array = None) -> Array:
        """`max(x @ weight.T + bias, 0)` in one launch, where a program asks for one after the other."""
        return self._linear(x, weight, bias, True)

    def linear_dx(self, g: Array, weight: Array) -> Array:
        """`g @ weight`."""
        return self.matmul(g, weight)

    def linear_dw(self, g: Array, x: Array, out: Array | None = None) -> Array:
        """`g.T @ x` over all rows."""
        g2, x2 = by_rows(g), by_rows(x)
        found = self.product(g2.T, x2, out=out)
        return self._cupy.matmul(g2.T, x2) if found is None else found

    def rounded_matmul(self, x: Array, y: Array, dtype: str) -> Array:
        """`x @ y` of the operands rounded to `dtype`: sums and result keep the dtype of x."""
        kind = narrow(self._cupy, dtype)
        x2, y2 = x.astype(kind), y.astype(kind)
        found = self.product(x2, y2, made=name_of(x)) if name_of(x) == "float32" else None
        return self._cupy.matmul(x2.astype(x.dtype), y2.astype(x.dtype)) if found is None else found

    def _linear(self, x: Array, weight: Array, bias: Array, has_relu: bool) -> Array:
        rows = by_rows(x)
        fits = bias is None or (bias.shape == weight.shape[:1] and bias.dtype == x.dtype and bias.flags.c_contiguous)
        found = self.product(rows, weight.T, bias=bias, has_relu=has_relu) if fits else None
        if found is not None:
            return found.reshape(*x.shape[:-1], weight.shape[0])
        out = self._cupy.matmul(x, weight.T)
        if bias is not None:
            out = out + bias
        return self._cupy.maximum(out, 0) if has_relu else out

    # -- one product -----------------------------------------------------------------------------------

    def product(
        self,
        x: Array,
        y: Array,
        *,
        bias: Array = None,
        has_relu: bool = False,
        out: Array | None = None,
        made: str | None = None,
    ) -> Array | None:
        """`x @ y`, then plus a bias and made positive; None where cuBLASLt does not do it.

        Args:
            bias: one number for each column.
            has_relu: take the larger of each and zero; with a bias only.
            out: an array that the result may be written to.
            made: the name of the result's dtype, if not the operands'.
        """
        kind = name_of(x)
        given = kind if name_of(y) == kind else ""
        if self._library is None or given not in cublaslt.TYPES or min(x.ndim, y.ndim) < 2:
            return None
        if has_relu and bias is None:
            return None
        cupy = self._cupy
        lead = x.shape[:-2] if x.shape[:-2] == y.shape[:-2] else _broadcast(x.shape[:-2], y.shape[:-2])
        (m, k), n = x.shape[-2:], y.shape[-1]
        if not m * n * k * count(lead) or k != y.shape[-2]:
            return None
        if len(lead) and y.ndim == 2 and x.flags.c_contiguous:  # all matrices in x as one
            flat = self.product(by_rows(x), y, bias=bias, has_relu=has_relu, made=made)
            return None if flat is None else flat.reshape(*lead, m, n)
        x, left = self._ready(x, lead)
        y, right = self._ready(y, lead)
        made = made or given
        if out is None or out.shape != (*lead, m, n) or name_of(out) != made or not out.flags.c_contiguous:
            out = cupy.empty((*lead, m, n), dtype=x.dtype if made == given else made)
        self._run(x, y, out, (left, right), (m, n, k), count(lead), bias, has_relu)
        return out

    def _ready(self, x: Array, lead: tuple[int, ...]) -> tuple[Array, Operand]:
        """The array, or a copy of it, and how BLAS sees it."""
        found = operand(x, lead)
        if found is None and x.ndim > 2:
            x = self._cupy.broadcast_to(x, (*lead, *x.shape[-2:]))
        if found is None:
            x = self._cupy.ascontiguousarray(x)
            rows, columns = x.shape[-2:]
            found = Operand(False, columns, rows * columns if x.ndim > 2 else 0)
        return x, found

    def _run(
        self,
        x: Array,
        y: Array,
        out: Array,
        operands: tuple[Operand, Operand],
        sizes: tuple[int, int, int],
        batch: int,
        bias: Array,
        has_relu: bool,
    ) -> None:
        """The transposed product by columns is the product by rows: `outᵀ = yᵀ xᵀ`."""
        m, n, k = sizes
        left, right = operands
        pointers = (y.data.ptr, x.data.ptr, out.data.ptr)
        epilogue = cublaslt.EPILOGUE_DEFAULT
        if bias is not None:
            epilogue = cublaslt.EPILOGUE_RELU_BIAS if has_relu else cublaslt.EPILOGUE_BIAS
        types = (name_of(x), name_of(out))
        device = self._cupy.cuda.runtime.getDevice()
        alignments = tuple([alignment(p) for p in pointers])
        key = (device, types, sizes, operands, batch, epilogue, alignments, uses_tf32())
        with self._lock:
            planned = self._planned.get(key)
            handle = self._handle(device)
            if planned is None:
                problem = cublaslt.Problem(
                    self._library, types, compute_type(types[0]), (n, m, k), (right, left), batch, epilogue
                )
                planned = _Planned(problem, problem.choose(handle, MOST_WORKSPACE, alignments))  # type: ignore[arg-type]
                self._planned[key] = planned
            needed = planned.chosen.workspace
            workspace = self._cupy.empty(needed, dtype="uint8") if needed else None
            planned.problem.run(
                handle,
                planned.chosen,
                pointers,
                0 if bias is None else bias.data.ptr,
                0 if workspace is None else workspace.data.ptr,
                self._cupy.cuda.get_current_stream().ptr,
            )
            self.launches += 1

    def _handle(self, device: int) -> Any:
        found = self._handles.get(device)
        if found is None:
            found = cublaslt.c_void_p()
            cublaslt.check(self._library.cublasLtCreate(cublaslt.byref(found)), "starting")
            self._handles[device] = found
        return found


def compute_type(dtype: str) -> int:
    """In what sums are computed: always float32 of halves; of float32 by TF32 where CuPy is told to, too."""
    if dtype == "float64":
        return cublaslt.COMPUTE_64F
    return cublaslt.COMPUTE_32F_FAST_TF32 if dtype == "float32" and uses_tf32() else cublaslt.COMPUTE_32F


def _broadcast(a: tuple[int, ...], b: tuple[int, ...]) -> tuple[int, ...]:
    if len(a) < len(b):
        a, b = b, a
    b = (1,) * (len(a) - len(b)) + b
    return tuple([n if m == 1 else m for m, n in zip(a, b)])
