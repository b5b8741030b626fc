"""Activations, softmax cross-entropy and sums: one launch each, or two where a sum is over all elements."""

from __future__ import annotations

import math
from functools import reduce
from operator import add
from typing import Any

import numpy as np

from fw_cuda.arrays import NULL, Array, alike, by_rows, computes, count, double, flag, integer, is_c, name_of
from fw_cuda.sources import OTHERS, Kernels, blocks_for

NAMES = (
    "relu", "relu_grad", "gelu", "softmax_cross_entropy", "xent_grad", "colsum", "sum_of_squares", "squares_of_parts",
    "latch", "erf",
)  # fmt: skip

_PARTS = 256
"""Most parts of a sum over all elements, which a second launch adds up."""


class Elementwise:
    """Kernels on elements and rows.

    Args:
        cupy: the module.
        kernels: launches.
        erf: the error function of CuPy's arrays.
    """

    def __init__(self, cupy: Any, kernels: Kernels, erf: Any) -> None:
        self._cupy, self._kernels, self._erf = cupy, kernels, erf
        self._tables: dict[Any, tuple[Array, Array]] = {}

    def erf(self, x: Array) -> Array:
        """The error function."""
        return self._erf(x)

    def relu(self, x: Array) -> Array:
        """max(x, 0); NaN stays."""
        if not computes(x):
            return self._cupy.maximum(x, x.dtype.type(0))
        return self._same("fw_relu", x)

    def relu_grad(self, g: Array, out: Array) -> Array:
        """`g` where `out > 0`, else zero."""
        if not computes(g) or g.dtype != out.dtype or g.shape != out.shape:
            return g * (out > 0).astype(g.dtype)
        return self._same("fw_relu_grad", g, out)

    def gelu(self, x: Array) -> tuple[Array, Array]:
        """x·Φ(x), and its slope."""
        if not computes(x):
            share = (self._erf(x * math.sqrt(0.5)) + 1) * 0.5
            return x * share, share + x * self._cupy.exp(x * x * -0.5) * (1 / math.sqrt(2 * math.pi))
        x = x if alike(x) else self._cupy.ascontiguousarray(x)
        y, slope = self._cupy.empty_like(x), self._cupy.empty_like(x)
        self._each("activations", "fw_gelu", x, x, y, slope)
        return y, slope

    def _same(self, name: str, *arrays: Array) -> Array:
        """A kernel of activations on arrays of one shape."""
        if not alike(*arrays):
            arrays = tuple([self._cupy.ascontiguousarray(a) for a in arrays])
        y = self._cupy.empty_like(arrays[0])
        self._each("activations", name, y, *arrays, y)
        return y

    def _each(self, file: str, name: str, like: Array, *args: Any) -> None:
        n = like.size
        if n:
            self._kernels.launch(file, name, name_of(like), blocks_for(n), *args, integer(n))

    # -- cross-entropy -------------------------------------------------------------------------------

    def softmax_cross_entropy(self, logits: Array, targets: Array, *, reduction: str) -> tuple[Array, Array]:
        """Loss and probabilities: one launch, and one for the sum."""
        cupy = self._cupy
        classes = logits.shape[-1]
        if not computes(logits) or name_of(targets) not in OTHERS or not classes:
            return self._composed(logits, targets, reduction)
        logits, targets = cupy.ascontiguousarray(logits), cupy.ascontiguousarray(targets)
        rows, dtype = count(targets.shape), name_of(logits)
        p, losses = cupy.empty_like(logits), cupy.empty(targets.shape, dtype=logits.dtype)
        if rows:
            args = logits, targets, p, losses, integer(classes)
            self._kernels.launch("losses", "fw_xent", dtype, rows, *args, index=name_of(targets))
        if reduction == "none":
            return losses, p
        loss = cupy.empty((), dtype=logits.dtype)
        factor = 1.0 if reduction == "sum" else 1.0 / rows if rows else math.nan
        self._kernels.launch("losses", "fw_total", dtype, 1, losses, loss, integer(rows), double(factor))
        return loss, p

    def _composed(self, logits: Array, targets: Array, reduction: str) -> tuple[Array, Array]:
        cupy = self._cupy
        z = logits - logits.max(axis=-1, keepdims=True)
        e = cupy.exp(z)
        total = e.sum(axis=-1, keepdims=True)
        loss = (cupy.log(total) - cupy.take_along_axis(z, targets[..., None], axis=-1))[..., 0]
        return loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.mean(), e / total

    def xent_grad(self, probabilities: Array, targets: Array, g: Array) -> Array:
        """`(probabilities − one_hot(targets)) * g` without the one-hot array."""
        cupy = self._cupy
        classes = probabilities.shape[-1]
        if not computes(probabilities) or name_of(targets) not in OTHERS:
            labels = cupy.arange(classes, dtype=targets.dtype)
            return (probabilities - (targets[..., None] == labels).astype(probabilities.dtype)) * g
        p, targets = cupy.ascontiguousarray(probabilities), cupy.ascontiguousarray(targets)
        g = cupy.ascontiguousarray(g.astype(p.dtype, copy=False)) if g.ndim else g.astype(p.dtype, copy=False)
        y = cupy.empty_like(p)
        if p.size:
            args = p, targets, g, y, integer(p.size), integer(classes), flag(g.size > 1)
            blocks = blocks_for(p.size)
            self._kernels.launch("losses", "fw_xent_grad", name_of(p), blocks, *args, index=name_of(targets))
        return y

    # -- sums ----------------------------------------------------------------------------------------

    def colsum(self, g: Array, out: Array | None = None) -> Array:
        """Sum over all axes but the last, in `out` where that fits: CuPy's own reduction."""
        rows = by_rows(g)
        if out is not None and (out.shape != rows.shape[1:] or out.dtype != g.dtype):
            out = None
        return rows.sum(axis=0, out=out)

    def latch(self, squares: Array, loss: Array | None, before: Array | None, good: Array) -> tuple[Array, Array]:
        """Whether both are finite and `before` holds, and `good` plus one if so: one launch."""
        cupy = self._cupy
        if not _latches(squares, loss, good):
            ok = cupy.isfinite(squares)
            for other in (None if loss is None else cupy.isfinite(loss), before):
                ok = ok if other is None else cupy.logical_and(ok, other)
            return ok, good + ok.astype(good.dtype)
        ok, count = cupy.empty((), dtype="bool"), cupy.empty((), dtype="int32")
        return self._latched(squares, loss, before, good, ok, count)

    def latch_in_place(self, squares: Array, loss: Array | None, before: Array, good: Array) -> tuple[Array, Array]:
        """The same in the place of flag and count, which are given away."""
        if not _latches(squares, loss, good):
            return self.latch(squares, loss, before, good)
        return self._latched(squares, loss, before, good, before, good)

    def _latched(
        self, squares: Array, loss: Array | None, before: Array | None, good: Array, ok: Array, count: Array
    ) -> tuple[Array, Array]:
        args = (squares, *[NULL if a is None else a for a in (loss, before)], good, ok, count)
        self._kernels.launch("losses", "fw_latch", name_of(squares), 1, *args)
        return ok, count

    def sum_of_squares(self, x: Array) -> Array:
        """The sum of x², 0-d, in the same order each time."""
        cupy = self._cupy
        if not computes(x):
            return cupy.sum(x * x)
        x = x if alike(x) else cupy.ascontiguousarray(x)
        dtype = name_of(x)
        blocks = _parts_for(x.size)
        parts = cupy.empty(blocks, dtype="float64" if dtype == "float64" else "float32")
        total = cupy.empty((), dtype=x.dtype)
        self._kernels.launch("losses", "fw_squares", dtype, blocks, x, parts, integer(x.size))
        self._kernels.launch("losses", "fw_total_of_parts", dtype, 1, parts, total, integer(blocks))
        return total

    def squares_of_parts(self, whole: Array, before: Array | None, bounds: tuple[tuple[int, int], ...]) -> Array:
        """The sum of x² of parts of a vector, each added up as by `sum_of_squares`: three launches for all parts."""
        cupy = self._cupy
        if not computes(whole) or not is_c(whole) or (before is not None and before.dtype != whole.dtype):
            sums = [self.sum_of_squares(whole[start:stop]) for start, stop in bounds]
            return reduce(add, sums if before is None else [before, *sums])
        blocks, firsts = self._table(bounds)
        dtype, launch = name_of(whole), self._kernels.launch
        parts = cupy.empty(len(blocks), dtype="float64" if dtype == "float64" else "float32")
        totals, total = cupy.empty(len(bounds), dtype=whole.dtype), cupy.empty((), dtype=whole.dtype)
        launch("losses", "fw_squares_of_pieces", dtype, len(blocks), whole, parts, blocks)
        launch("losses", "fw_totals_of_pieces", dtype, len(bounds), parts, totals, firsts)
        first = NULL if before is None else before
        launch("losses", "fw_sum_in_order", dtype, 1, first, totals, total, integer(len(bounds)))
        return total

    def _table(self, bounds: tuple[tuple[int, int], ...]) -> tuple[Array, Array]:
        """What each block does, and each piece's first block. Kept for good: a graph reads them where they are."""
        key = self._cupy.cuda.runtime.getDevice(), bounds
        found = self._tables.get(key)
        if found is None:
            counts = [_parts_for(stop - start) for start, stop in bounds]
            rows = [(a, b - a, i, n) for (a, b), n in zip(bounds, counts) for i in range(n)]
            firsts = np.cumsum([0, *counts], dtype=np.int64)
            found = self._cupy.asarray(np.array(rows, np.int64)), self._cupy.asarray(firsts)
            self._tables[key] = found
        return found


def _parts_for(n: int) -> int:
    """The parts of a sum over so many elements."""
    return min(_PARTS, blocks_for(n))


def _latches(squares: Array, loss: Array | None, good: Array) -> bool:
    """Whether the kernel is there for these."""
    return computes(squares) and (loss is None or loss.dtype == squares.dtype) and name_of(good) == "int32"
