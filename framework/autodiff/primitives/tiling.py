"""Elements that occur more than once: repeat, tile, pad."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import index
from typing import Any

from framework.autodiff.convert import as_tensor
from framework.autodiff.kinds import integers, negative_axis
from framework.autodiff.namespace import ops
from framework.autodiff.primitive import public
from framework.autodiff.tensor import Tensor
from framework.backend import dtypes as dt
from framework.errors import DTypeError, GradientError, ShapeError, did_you_mean


@public
def repeat(x: Any, repeats: Any, /, axis: int | None = None) -> Tensor:
    """Each element `repeats` times in a row: along `axis`, or of the flattened array.

    Args:
        repeats: one number for all, or an integer array with one for each element of the axis. The shape of
            the result depends on its values, so that an array of them cannot be batched by `vmap`.

    Raises:
        ShapeError: a number is negative, or there are not as many as elements.
    """
    x = as_tensor(x)
    if axis is None:
        x, axis = ops.ravel(x), 0
    a = negative_axis(axis, x.ndim) + x.ndim
    if isinstance(repeats, int):
        if repeats < 0:
            raise ShapeError(f"repeat {repeats} times; a number of repeats is not negative")
        wide = ops.broadcast_to(ops.expand_dims(x, axis=a + 1), (*x.shape[: a + 1], repeats, *x.shape[a + 1 :]))
        return ops.reshape(wide, (*x.shape[:a], x.shape[a] * repeats, *x.shape[a + 1 :]))
    return ops.take(x, _repeated(as_tensor(repeats, x), x.shape[a], x), axis=a)


def _repeated(counts: Tensor, n: int, x: Tensor) -> Tensor:
    """The places 0 … n−1, each as often as `counts` says."""
    if counts.dtype.kind not in ("int", "uint"):
        raise DTypeError(f"repeats are integers, got {counts.dtype.name}")
    if counts.shape not in ((), (1,), (n,)):
        raise ShapeError(f"repeats of shape {counts.shape} for an axis of length {n}; needed is one for each element")
    if counts._level is not None and counts._level.is_batch:
        raise GradientError("inside vmap the length of repeat() would differ by sample; use one number of repeats")
    counts = ops.broadcast_to(ops.astype(counts, dt.int64), (n,))
    ends = ops.cumulative_sum(counts, axis=0)
    if n and int(ops.min(counts)) < 0:
        raise ShapeError("a number of repeats is not negative")
    total = int(ends[-1]) if n else 0
    return ops.searchsorted(ends, ops.arange(total, dtype=dt.int64, device=x.device), side="right")


@public
def tile(x: Any, repetitions: int | Sequence[int], /) -> Tensor:
    """Copies of `x` beside each other, so many along each axis; the shorter shape gets ones in front."""
    x = as_tensor(x)
    counts = integers(repetitions)
    if any(r < 0 for r in counts):
        raise ShapeError(f"tile with {counts} repetitions; a number of repetitions is not negative")
    rank = max(x.ndim, len(counts))
    counts = (1,) * (rank - len(counts)) + counts
    lengths = (1,) * (rank - x.ndim) + x.shape
    apart = ops.reshape(x, tuple(m for n in lengths for m in (1, n)))
    wide = ops.broadcast_to(apart, tuple(m for r, n in zip(counts, lengths) for m in (r, n)))
    return ops.reshape(wide, tuple(r * n for r, n in zip(counts, lengths)))


# -- pad ---------------------------------------------------------------------------------------------
# Per mode, the element that stands at place i of an axis of length n, also for i < 0 and i >= n.


def _mirrored(i: int, n: int, period: int, last: int) -> int:
    i %= period
    return i if i < n else last - i


_SOURCE: dict[str, Callable[[int, int], int]] = {
    "edge": lambda i, n: min(max(i, 0), n - 1),
    "reflect": lambda i, n: _mirrored(i, n, max(2 * n - 2, 1), 2 * n - 2),
    "symmetric": lambda i, n: _mirrored(i, n, 2 * n, 2 * n - 1),
    "wrap": lambda i, n: i % n,
}


@public
def pad(x: Any, pad_width: Any, /, mode: str = "constant", *, constant_values: Any = 0) -> Tensor:
    """`x` with elements added before and after along each axis.

    Args:
        pad_width: a number for all ends, a pair (before, after) for all axes, or a pair for each axis.
        mode: `"constant"`; `"edge"`, the outermost element; `"reflect"` and `"symmetric"`, mirrored without and
            with the outermost element; `"wrap"`, periodic.
        constant_values: what `"constant"` adds: one value for all ends, or as `pad_width`.

    Raises:
        ShapeError: a width is negative, the widths do not fit the axes, or an axis without elements is continued.
        ValueError: no such mode.
    """
    x = as_tensor(x)
    widths = [(index(b), index(a)) for b, a in _pairs(pad_width, x.ndim, "pad_width")]
    if any(min(w) < 0 for w in widths):
        raise ShapeError(f"pad by {pad_width}; a width is not negative, cut with a slice instead")
    if mode == "constant":
        return _pad_constant(x, widths, constant_values)
    if mode not in _SOURCE:
        known = ["constant", *_SOURCE]
        raise ValueError(f"pad has no mode {mode!r}.{did_you_mean(str(mode), known)} Known: {', '.join(known)}")
    for axis, (before, after) in enumerate(widths):
        n = x.shape[axis]
        if not n and before + after:
            raise ShapeError(f"pad with mode {mode!r} continues elements, but axis {axis} of {x.shape} has none")
        if before or after:
            places = [_SOURCE[mode](i, n) for i in range(-before, n + after)]
            x = ops.take(x, ops.asarray(places, dtype=dt.int64, device=x.device), axis=axis)
    return x


def _pad_constant(x: Tensor, widths: list[tuple[int, int]], values: Any) -> Tensor:
    shape = tuple(b + n + a for n, (b, a) in zip(x.shape, widths))
    inside = tuple(slice(b, b + n) for n, (b, _) in zip(x.shape, widths))
    if isinstance(values, bool | int | float | complex | Tensor):
        if not isinstance(values, Tensor) and values == 0:
            return ops.index_add_parts(x, shape=shape, parts=inside)
        value = ops.astype(as_tensor(values, x), x.dtype)
        return ops.setitem(ops.broadcast_to(value, shape), inside, x)
    for axis, (width, ends) in enumerate(zip(widths, _pairs(values, x.ndim, "constant_values"))):
        sides = []
        for count, value in zip(width, ends):
            block = (*x.shape[:axis], count, *x.shape[axis + 1 :])
            sides.append(ops.broadcast_to(ops.astype(as_tensor(value, x), x.dtype), block))
        x = ops.concat([sides[0], x, sides[1]], axis=axis)
    return x


def _pairs(given: Any, ndim: int, what: str) -> list[tuple[Any, Any]]:
    """One value, a pair, or a pair for each axis, as a pair for each axis."""
    if hasattr(given, "tolist"):
        given = given.tolist()
    if not isinstance(given, list | tuple):
        return [(given, given)] * ndim
    rows = [tuple(r) if isinstance(r, list | tuple) else r for r in given]
    if not any(isinstance(r, tuple) for r in rows):
        rows = [tuple(rows)]
    pairs = [r * 2 if len(r) == 1 else r for r in rows if isinstance(r, tuple)]
    if len(pairs) != len(rows) or len(pairs) not in (1, ndim) or any(len(p) != 2 for p in pairs):
        raise ShapeError(f"{what}={given} for {ndim} axes: a number, a pair, or a pair for each axis is needed")
    return pairs * ndim if len(pairs) == 1 else pairs
