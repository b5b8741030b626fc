"""A stand-in for cuBLASLt: products of matrices on the host, found by the addresses and dimensions it is told."""

from __future__ import annotations

import ctypes
from typing import Any

import cuda_stand_in
import numpy as np
from fw_cuda import cublaslt


class Blas:
    """cuBLASLt, as far as `fw_cuda.cublaslt` calls it: products of matrices by columns, found by their addresses."""

    def __init__(self) -> None:
        self.things: dict[int, dict[Any, Any]] = {}
        self.products = 0

    def _new(self, ref: Any, **values: Any) -> int:
        ref._obj.value = key = len(self.things) + 1
        self.things[key] = values
        return 0

    def cublasLtCreate(self, ref: Any) -> int:
        return self._new(ref)

    def cublasLtMatmulDescCreate(self, ref: Any, compute: int, scale: int) -> int:
        return self._new(ref, compute=compute, scale=scale)

    def cublasLtMatrixLayoutCreate(self, ref: Any, kind: int, rows: int, columns: int, leading: int) -> int:
        assert leading >= rows > 0 < columns
        return self._new(ref, kind=kind, shape=(rows, columns), leading=leading)

    def cublasLtMatmulPreferenceCreate(self, ref: Any) -> int:
        return self._new(ref)

    def _set(self, thing: Any, attribute: int, ref: Any, size: int) -> int:
        assert ctypes.sizeof(ref._obj) == size
        self.things[thing.value][attribute] = ref._obj.value
        return 0

    cublasLtMatmulDescSetAttribute = cublasLtMatrixLayoutSetAttribute = cublasLtMatmulPreferenceSetAttribute = _set

    def _destroy(self, thing: Any) -> int:
        return 0

    cublasLtMatmulDescDestroy = cublasLtMatrixLayoutDestroy = cublasLtMatmulPreferenceDestroy = _destroy

    def cublasLtMatmulAlgoGetHeuristic(self, *args: Any) -> int:
        found, count = args[-2:]
        found._obj.workspace, count._obj.value = 64, 1
        return 0

    def _matrix(self, pointer: int, layout: dict[Any, Any]) -> np.ndarray:
        dtype = np.dtype({v: k for k, v in cublaslt.TYPES.items()}[layout["kind"]])
        rows, columns = layout["shape"]
        batch, stride = layout.get(cublaslt.LAYOUT_BATCH_COUNT, 1), layout.get(cublaslt.LAYOUT_STRIDED_BATCH_OFFSET, 0)
        extent = (batch - 1) * stride + (columns - 1) * layout["leading"] + rows
        memory = (ctypes.c_char * (extent * dtype.itemsize)).from_address(pointer)
        steps = tuple(n * dtype.itemsize for n in (stride, 1, layout["leading"]))
        return np.ndarray((batch, rows, columns), dtype, memory, 0, steps)

    def cublasLtMatmul(self, *args: Any) -> int:
        _, operation, alpha, a, la, b, lb, beta, c, lc, d, ld, _, workspace, size, _ = args
        assert (c, lc.value) == (d, ld.value)
        assert workspace, "no workspace"
        assert size == 64
        values = dict(self.things[operation.value])
        layouts = [self.things[layout.value] for layout in (la, lb, ld)]
        kind = ctypes.c_double if values["compute"] == cublaslt.COMPUTE_64F else ctypes.c_float
        assert (kind.from_address(alpha).value, kind.from_address(beta).value) == (1.0, 0.0)

        left_is, right_is, out = (self._matrix(p, layout) for p, layout in zip((a, b, d), layouts))

        def run() -> None:
            wide = np.float64 if values["compute"] == cublaslt.COMPUTE_64F else np.float32
            left = left_is.mT if values[cublaslt.DESC_TRANSA] else left_is
            right = right_is.mT if values[cublaslt.DESC_TRANSB] else right_is
            found = np.matmul(left.astype(wide), right.astype(wide))
            if values[cublaslt.DESC_EPILOGUE] & 4:
                bias = (ctypes.c_char * (out.shape[1] * out.itemsize)).from_address(values[cublaslt.DESC_BIAS_POINTER])
                found += np.frombuffer(bias, out.dtype)[:, None]
            out[...] = np.maximum(found, 0) if values[cublaslt.DESC_EPILOGUE] & 2 else found

        self.products += 1
        cuda_stand_in.launch(run)
        return 0
