"""What stands between the brackets of `x[...]`, taken apart.

A key is a tuple of integers, slices, None, Ellipsis and index arrays. The arrays are inputs of the
primitive (they may be batched); the rest is a parameter with holes where they belong.
"""

from __future__ import annotations

from typing import Any

from framework.autodiff.convert import as_tensor
from framework.autodiff.namespace import ops
from framework.autodiff.primitives.shape import broadcast_shapes
from framework.autodiff.tensor import Tensor
from framework.backend import dtypes as dt
from framework.errors import AxisError, DTypeError, ShapeError

HOLE = "array"
ALL = slice(None)

_NO_INDEX = "{} is no index; these are: integers, slices, None, ..., integer arrays, and masks as long as their axes"
_BOOL_LESSON = (
    "a single bool is no index; these are: integers, slices, None, ..., integer arrays, and masks as long as "
    "their axes. To choose by one condition write where(condition, x, y)"
)

Parts = tuple[Any, ...]


def parse(x: Tensor, key: Any) -> tuple[Parts, list[Tensor]]:
    """A key as static parts with holes, one for each axis, and the index arrays that belong in them.

    Raises:
        AxisError: an index outside its axis, more indices than axes, a mask of another length than its axis.
        DTypeError: an index array that holds neither integers nor bools.
    """
    parts: list[Any] = []
    indices: list[Tensor] = []
    masks: list[tuple[int, tuple[int, ...]]] = []
    for item in key if isinstance(key, tuple) else (key,):
        if item is None or item is Ellipsis or isinstance(item, slice):
            parts.append(item)
            continue
        index = _index(x, item)
        if isinstance(index, int):
            parts.append(index)
        elif index.dtype is dt.bool_:  # its size depends on values
            if not index.ndim:
                raise IndexError(_BOOL_LESSON)
            masks.append((len(parts), index.shape))
            indices.extend(ops.nonzero(index))
            parts.extend([HOLE] * index.ndim)
        else:
            indices.append(index)
            parts.append(HOLE)
    if len(indices) > 1:
        _check_together(indices)
    return _for_each_axis(x.shape, parts, masks), indices


def _index(x: Tensor, item: Any) -> Tensor | int:
    """One item of a key that is not static: an integer, or an array of integers or bools."""
    if isinstance(item, bool):
        raise IndexError(_BOOL_LESSON)
    if isinstance(item, list | tuple | range):
        item = ops.asarray(list(item), device=x.device) if len(item) else places_of((), x)
    if not isinstance(item, Tensor):
        if not hasattr(item, "shape"):
            if hasattr(item, "__index__"):
                return int(item.__index__())
            raise IndexError(_NO_INDEX.format(repr(item)))
        if item.shape == () and "int" in str(item.dtype):  # a scalar of an array library
            return int(item)
        item = as_tensor(item, x)
    if item.dtype.kind not in ("int", "uint", "bool"):
        raise DTypeError(f"an index is an integer or a bool array, got {item.dtype.name}; round() and astype('int64')")
    return item


def _check_together(indices: list[Tensor]) -> None:
    try:
        broadcast_shapes(*[i.shape for i in indices])
    except ShapeError:
        shapes = ", ".join(str(i.shape) for i in indices)
        raise AxisError(f"index arrays of shapes {shapes} do not broadcast; they name places together") from None


def _for_each_axis(shape: tuple[int, ...], parts: list[Any], masks: list[tuple[int, tuple[int, ...]]]) -> Parts:
    """The parts with slices for the axes that no part names, checked against the lengths of the axes."""
    at = next((i for i, p in enumerate(parts) if p is Ellipsis), len(parts))
    named = 0
    for i, p in enumerate(parts):
        if p is Ellipsis:
            if i != at:
                raise AxisError("a key has two Ellipses (...); which axes each stands for is open")
        elif p is not None:
            named += 1
    free = len(shape) - named
    if free < 0:
        raise AxisError(f"{named} indices for an array of shape {shape}")
    for start, mask in masks:
        axis = len([p for p in parts[:start] if p is not None and p is not Ellipsis]) + (free if start > at else 0)
        lengths = shape[axis : axis + len(mask)]
        if any(m not in (n, 0) for m, n in zip(mask, lengths)):
            raise AxisError(f"a mask of shape {mask} for axes of lengths {lengths}")
    if free:  # an Ellipsis of no axes stays, as it parts index arrays, too
        parts[at : at + 1] = [ALL] * free
    axis = 0
    for i, p in enumerate(parts):
        if p is None or p is Ellipsis:
            continue
        n = shape[axis]
        if isinstance(p, slice):
            parts[i] = inside(p, n)
        elif p is not HOLE and not -n <= p < n:
            raise AxisError(f"index {p} is out of bounds for axis {axis} of shape {shape}; it has {n} elements")
        axis += 1
    return tuple(parts)


def inside(s: slice, n: int) -> slice:
    """The slice without what lies outside an axis of length `n`, which the standard leaves open."""
    if s.start is None and s.stop is None and s.step is None:
        return ALL
    start, stop, step = s.indices(n)
    if not range(start, stop, step):
        return slice(0, 0)
    return slice(start, stop if stop >= 0 else None, step)


# -- what a key selects --------------------------------------------------------------------------------
# As in NumPy, the axes of index arrays stand where the arrays stand if these (and integers) are neighbours,
# else in front.


def lead(parts: Parts) -> int:
    """How many axes of the selection stand in front of those of its index arrays."""
    at = [i for i, p in enumerate(parts) if p is HOLE or isinstance(p, int)]
    return len([p for p in parts[: at[0]] if p is not Ellipsis]) if at[-1] - at[0] + 1 == len(at) else 0


def selected_shape(shape: tuple[int, ...], parts: Parts, indices: list[Tensor]) -> tuple[int, ...]:
    """The shape of `x[key]` for `x` of this shape; `parts` name each axis."""
    out: list[int] = []
    axis = 0
    for p in parts:
        if p is None:
            out.append(1)
        elif p is not Ellipsis:
            if isinstance(p, slice):
                out.append(len(range(*p.indices(shape[axis]))))
            axis += 1
    if indices:
        at = lead(parts)
        out[at:at] = broadcast_shapes(*[i.shape for i in indices])
    return tuple(out)


# -- index arrays of functions -------------------------------------------------------------------------


def places_of(indices: Any, x: Tensor) -> Tensor:
    """Indices given to a function as a Tensor of integers beside `x`.

    Raises:
        DTypeError: they are no integers.
    """
    if not isinstance(indices, Tensor):
        is_empty = isinstance(indices, list | tuple | range) and not len(indices)
        if isinstance(indices, range):
            indices = list(indices)
        if isinstance(indices, bool | int | float | complex | list | tuple):
            dtype = dt.int64 if is_empty else None
            indices = ops.asarray(indices, dtype=dtype, device=x.device)
        else:
            indices = as_tensor(indices, x)
    if indices.dtype.kind not in ("int", "uint"):
        hint = "a mask goes in brackets: x[mask]" if indices.dtype is dt.bool_ else "round() and astype('int64')"
        raise DTypeError(f"indices are integers, got {indices.dtype.name}; {hint}")
    return indices


def check_places(indices: Any, places: Tensor, n: int, what: str) -> None:
    """Refuse indices from the host that are outside an axis of length `n`, where the library might not.

    On a backend that computes behind our back (`synchronous` is False) a library such as CuPy wraps around
    instead of raising. To look at indices that are on the device already would mean to wait for it.

    Raises:
        AxisError: an index is outside.
    """
    if isinstance(indices, Tensor) or places.backend.synchronous or not places.size:
        return
    low, high = int(ops.min(places)), int(ops.max(places))
    if low < -n or high >= n:
        wrong = low if low < -n else high
        raise AxisError(f"{what}: index {wrong} is out of bounds for an axis of {n} elements")
