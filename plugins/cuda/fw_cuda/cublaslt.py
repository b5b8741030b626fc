"""cuBLASLt through ctypes: the few functions and numbers that one matrix product needs.

CuPy refuses its own cuBLAS while a stream is captured. cuBLASLt has no stream of its own: it is given one with each
product, and its choice of an algorithm is made once, before. See docs/gpu.md.
"""

from __future__ import annotations

import ctypes
from ctypes import POINTER, byref, c_float, c_int, c_int32, c_int64, c_size_t, c_uint64, c_void_p, sizeof
from typing import Any

from framework.errors import BackendError

# Numbers of cublasLt.h, cublas_api.h and library_types.h of CUDA 12 and 13.
TYPES = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}
"""cudaDataType_t."""
COMPUTE_32F, COMPUTE_32F_FAST_TF32, COMPUTE_64F = 68, 77, 70
"""cublasComputeType_t."""
DESC_TRANSA, DESC_TRANSB, DESC_EPILOGUE, DESC_BIAS_POINTER, DESC_BIAS_DATA_TYPE = 3, 4, 7, 8, 26
"""cublasLtMatmulDescAttributes_t."""
LAYOUT_BATCH_COUNT, LAYOUT_STRIDED_BATCH_OFFSET = 5, 6
"""cublasLtMatrixLayoutAttribute_t."""
PREF_MAX_WORKSPACE_BYTES = 1
PREF_MIN_ALIGNMENT = (5, 6, 7, 8)
"""cublasLtMatmulPreferenceAttributes_t: the alignments in bytes of A, B, C and D."""
OP_N, OP_T = 0, 1
"""cublasOperation_t."""
EPILOGUE_DEFAULT, EPILOGUE_BIAS, EPILOGUE_RELU_BIAS = 1, 4, 6
"""cublasLtEpilogue_t."""

STATUS = {
    1: "not initialised", 3: "no memory", 7: "a value is invalid", 8: "not offered on this device",
    11: "an access to memory failed", 13: "execution failed", 14: "an internal error", 15: "not supported",
}  # fmt: skip
"""cublasStatus_t, in words."""


class Algorithm(ctypes.Structure):
    """cublasLtMatmulAlgo_t: 64 bytes that only the library reads."""

    _fields_ = (("data", c_uint64 * 8),)


class Heuristic(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t: 96 bytes."""

    _fields_ = (
        ("algorithm", Algorithm),
        ("workspace", c_size_t),
        ("state", c_int),
        ("waves", c_float),
        ("reserved", c_int * 4),
    )


SIGNATURES: dict[str, tuple[Any, ...]] = {
    "cublasLtCreate": (POINTER(c_void_p),),
    "cublasLtDestroy": (c_void_p,),
    "cublasLtMatmulDescCreate": (POINTER(c_void_p), c_int, c_int),
    "cublasLtMatmulDescDestroy": (c_void_p,),
    "cublasLtMatmulDescSetAttribute": (c_void_p, c_int, c_void_p, c_size_t),
    "cublasLtMatmulDescGetAttribute": (c_void_p, c_int, c_void_p, c_size_t, POINTER(c_size_t)),
    "cublasLtMatrixLayoutCreate": (POINTER(c_void_p), c_int, c_uint64, c_uint64, c_int64),
    "cublasLtMatrixLayoutDestroy": (c_void_p,),
    "cublasLtMatrixLayoutSetAttribute": (c_void_p, c_int, c_void_p, c_size_t),
    "cublasLtMatrixLayoutGetAttribute": (c_void_p, c_int, c_void_p, c_size_t, POINTER(c_size_t)),
    "cublasLtMatmulPreferenceCreate": (POINTER(c_void_p),),
    "cublasLtMatmulPreferenceDestroy": (c_void_p,),
    "cublasLtMatmulPreferenceSetAttribute": (c_void_p, c_int, c_void_p, c_size_t),
    "cublasLtMatmulAlgoGetHeuristic": (
        *((c_void_p,) * 7), c_int, POINTER(Heuristic), POINTER(c_int),
    ),
    "cublasLtMatmul": (
        c_void_p, c_void_p,  # handle, operation
        c_void_p, c_void_p, c_void_p, c_void_p, c_void_p,  # alpha, A and its layout, B and its layout
        c_void_p, c_void_p, c_void_p, c_void_p, c_void_p,  # beta, C and its layout, D and its layout
        POINTER(Algorithm), c_void_p, c_size_t, c_void_p,  # algorithm, workspace and its size, stream
    ),
}  # fmt: skip
"""Functions to the types of their arguments; all return a cublasStatus_t."""


def load(major: int) -> Any:
    """The library of a CUDA major version, with its functions declared.

    Raises:
        BackendError: it is not there.
    """
    library = _from_pathfinder(major) or _by_name(f"libcublasLt.so.{major}")
    if library is None:
        raise BackendError(f"libcublasLt.so.{major} is not found: pip install 'cupy-cuda{major}x[ctk]'")
    return declared(library)


def declared(library: Any) -> Any:
    """A loaded library with the types of its functions."""
    for name, arguments in SIGNATURES.items():
        function = getattr(library, name)
        function.argtypes, function.restype = arguments, c_int
    return library


def _from_pathfinder(major: int) -> Any:
    """As NVIDIA's own finder, which CuPy comes with, has it: from wheels, conda or the system, if of this version."""
    try:
        from cuda import pathfinder

        path = str(pathfinder.load_nvidia_dynamic_lib("cublasLt").abs_path)
        return ctypes.CDLL(path) if f".so.{major}" in path else None
    except Exception:  # not installed, or of another version: its errors are its own
        return None


def _by_name(name: str) -> Any:
    try:
        return ctypes.CDLL(name)
    except OSError:
        return None


def check(status: int, what: str) -> None:
    """Raise BackendError where a function did not succeed."""
    if status:
        raise BackendError(f"cuBLASLt: {what}: {STATUS.get(status, 'status')} ({status})")


class Problem:
    """Descriptors of one kind of product, `D = op(A) op(B)`, matrices by columns as BLAS has them.

    Args:
        library: what `load` gave.
        types: the names of the dtypes of A and B, and of D.
        compute: a cublasComputeType_t.
        sizes: rows and columns of D, and the length of the sums.
        operands: of A and of B: whether it is transposed, its leading dimension, its distance between batches.
        batch: the number of products; those of D lie one after the other.
        epilogue: a cublasLtEpilogue_t.
    """

    def __init__(
        self,
        library: Any,
        types: tuple[str, str],
        compute: int,
        sizes: tuple[int, int, int],
        operands: tuple[tuple[bool, int, int], tuple[bool, int, int]],
        batch: int,
        epilogue: int,
    ) -> None:
        self.library = library
        self.batch = batch
        given, made = (TYPES[t] for t in types)
        scale = TYPES["float64" if compute == COMPUTE_64F else "float32"]
        rows, columns, inner = sizes
        self.operation = self._made("cublasLtMatmulDescCreate", compute, scale)
        for attribute, (is_turned, _, _) in zip((DESC_TRANSA, DESC_TRANSB), operands):
            self._set(attribute, c_int32(OP_T if is_turned else OP_N))
        self._set(DESC_EPILOGUE, c_int32(epilogue))
        if epilogue != EPILOGUE_DEFAULT:
            self._set(DESC_BIAS_DATA_TYPE, c_int32(made))
        shapes = ((rows, inner), (inner, columns))
        self.layouts = [
            self._layout(given, shape[::-1] if is_turned else shape, leading, stride)
            for shape, (is_turned, leading, stride) in zip(shapes, operands)
        ]
        self.layouts.append(self._layout(made, (rows, columns), rows, rows * columns))
        self.scalars: Any = (ctypes.c_double * 2 if compute == COMPUTE_64F else c_float * 2)(1.0, 0.0)

    def _made(self, name: str, *args: Any) -> c_void_p:
        found = c_void_p()
        check(getattr(self.library, name)(byref(found), *args), name)
        return found

    def _set(self, attribute: int, value: Any) -> None:
        status = self.library.cublasLtMatmulDescSetAttribute(self.operation, attribute, byref(value), sizeof(value))
        check(status, f"attribute {attribute} of a product")

    def _layout(self, kind: int, shape: tuple[int, int], leading: int, stride: int) -> c_void_p:
        layout = self._made("cublasLtMatrixLayoutCreate", kind, *shape, leading)
        if self.batch > 1:
            for attribute, value in (
                (LAYOUT_BATCH_COUNT, c_int32(self.batch)),
                (LAYOUT_STRIDED_BATCH_OFFSET, c_int64(stride)),
            ):
                status = self.library.cublasLtMatrixLayoutSetAttribute(layout, attribute, byref(value), sizeof(value))
                check(status, f"attribute {attribute} of a layout")
        return layout

    def choose(self, handle: Any, most_workspace: int, alignments: tuple[int, int, int]) -> Heuristic:
        """The algorithm that the library thinks the fastest, with the workspace that it needs.

        Raises:
            BackendError: there is none.
        """
        preference = self._made("cublasLtMatmulPreferenceCreate")
        try:
            a, b, d = alignments
            wanted = [(PREF_MAX_WORKSPACE_BYTES, c_uint64(most_workspace))]
            wanted += [(p, ctypes.c_uint32(x)) for p, x in zip(PREF_MIN_ALIGNMENT, (a, b, d, d))]  # type: ignore[misc]
            for attribute, value in wanted:
                status = self.library.cublasLtMatmulPreferenceSetAttribute(
                    preference, attribute, byref(value), sizeof(value)
                )
                check(status, f"attribute {attribute} of a preference")
            found, count = Heuristic(), c_int()
            status = self.library.cublasLtMatmulAlgoGetHeuristic(
                handle, self.operation, *self.layouts, self.layouts[2], preference, 1, byref(found), byref(count)
            )
            check(status, "choosing an algorithm")
            if not count.value:
                raise BackendError("cuBLASLt: there is no algorithm for this product")
            return found
        finally:
            self.library.cublasLtMatmulPreferenceDestroy(preference)

    def run(
        self, handle: Any, chosen: Heuristic, pointers: tuple[int, int, int], bias: int, workspace: int, stream: int
    ) -> None:
        """Queue the product on a stream: A, B and D, and the bias, are addresses on the device."""
        a, b, d = pointers
        if bias:
            self._set(DESC_BIAS_POINTER, c_void_p(bias))
        first, second, third = self.layouts
        alpha = ctypes.addressof(self.scalars)
        beta = alpha + sizeof(self.scalars) // 2
        status = self.library.cublasLtMatmul(
            handle, self.operation, alpha, a, first, b, second, beta, d, third, d, third,
            byref(chosen.algorithm), workspace, chosen.workspace, stream,
        )  # fmt: skip
        check(status, "a product")

    def __del__(self) -> None:
        for layout in getattr(self, "layouts", ()):
            self.library.cublasLtMatrixLayoutDestroy(layout)
        if hasattr(self, "operation"):
            self.library.cublasLtMatmulDescDestroy(self.operation)
