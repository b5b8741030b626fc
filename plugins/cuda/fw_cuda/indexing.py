"""Reading and writing at indices, and the gradient of an embedding."""

from __future__ import annotations

from typing import Any

from fw_cuda.arrays import Array, computes, integer, name_of, put
from fw_cuda.sources import OTHERS, Kernels, blocks_for

NAMES = ("scatter_add", "set_item", "get_item", "embedding_grad", "fill_parts")

MOST_INDICES = 4096
"""Up to so many indices every row of the gradient looks at all of them, which makes the order of its sum fixed."""


class Indexing:
    """Kernels of indexing.

    Args:
        cupy: the module.
        kernels: launches.
    """

    def __init__(self, cupy: Any, kernels: Kernels) -> None:
        self._cupy, self._kernels = cupy, kernels

    def fill_parts(self, whole: Array, *parts_and_values: Array) -> Array:
        """Copies of those values that are not where they belong already."""
        n = len(parts_and_values) // 2
        for part, value in zip(parts_and_values[:n], parts_and_values[n:]):
            put(value, part)
        return whole

    def embedding_grad(self, g: Array, indices: Array, rows: int, padding_idx: int | None = None) -> Array:
        """Zeros (rows, n) with `g` added at rows `indices`: one launch, or by atomic additions for many indices."""
        cupy = self._cupy
        width = g.shape[-1]
        if not computes(g) or name_of(indices) not in OTHERS:
            if padding_idx is not None:
                g = cupy.where((indices != padding_idx)[..., None], g, cupy.zeros_like(g))
            return self.scatter_add(cupy.zeros((rows, width), dtype=g.dtype), (indices,), g)
        g, indices = cupy.ascontiguousarray(g), cupy.ascontiguousarray(indices)
        n = indices.size
        is_small = n <= MOST_INDICES
        y = (cupy.empty if is_small else cupy.zeros)((rows, width), dtype=g.dtype)
        if y.size:
            padding = -1 if padding_idx is None else padding_idx
            args = g, indices, y, integer(n), integer(width), integer(padding)
            name = "fw_embedding_grad" if is_small else "fw_embedding_grad_atomic"
            blocks = rows if is_small else blocks_for(n * width)
            self._kernels.launch("indexing", name, name_of(g), blocks, *args, index=name_of(indices))
        return y

    def scatter_add(self, array: Array, key: Any, values: Array) -> Array:
        """A copy of `array` with `values` added at `key`, by atomic additions."""
        cupy = self._cupy
        values = cupy.asarray(values, dtype=array.dtype)
        kind, size = array.dtype.kind, array.dtype.itemsize
        if kind in "iub" and size < 4:  # no atomic addition on fewer bytes
            wide = self.scatter_add(array.astype("int32"), key, values.astype("int32"))
            return wide.astype(array.dtype)
        out = array.copy()
        if kind == "c":
            cupy.add.at(out.real, key, values.real)
            cupy.add.at(out.imag, key, values.imag)
        elif kind == "i" and size == 8:  # two's complement: the same bits as unsigned addition
            cupy.add.at(out.view("uint64"), key, values.view("uint64"))
        else:
            cupy.add.at(out, key, values)
        return out

    def set_item(self, array: Array, key: Any, values: Array) -> Array:
        """A copy of `array` with `values` at `key`."""
        out = array.copy()
        out[key] = values
        return out

    def get_item(self, array: Array, key: Any) -> Array:
        """`array[key]`."""
        return array[key]
