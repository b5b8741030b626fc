"""Primitives that read and write elements by index."""

from __future__ import annotations

import math
from typing import Any

from framework.autodiff.convert import as_tensor
from framework.autodiff.kinds import negative_axis
from framework.autodiff.namespace import ops
from framework.autodiff.primitive import expose, primitive, public
from framework.autodiff.primitives.keys import (
    HOLE,
    check_places,
    inside,
    lead,
    parse,
    places_of,
    selected_shape,
)
from framework.autodiff.primitives.shape import broadcast_shapes
from framework.autodiff.tensor import Tensor
from framework.backend import dtypes as dt
from framework.backend.kernels import beside
from framework.errors import AxisError, DTypeError, ShapeError


def _key(parts: tuple[Any, ...], indices: tuple[Any, ...]) -> Any:
    it = iter(indices)
    return tuple([next(it) if part is HOLE else part for part in parts])


def _getitem_forward(ns: Any, x: Any, *indices: Any, parts: tuple[Any, ...]) -> Any:
    return ns.get_item(x, _key(parts, indices))


def _getitem_vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any, *indices: Any, parts: Any) -> Any:
    return (ns.index_add_parts(g, *indices, shape=needs[0].shape, parts=parts), *(None for _ in indices))


def _getitem_jvp(ns: Any, tangents: Any, out: Any, x: Any, *indices: Any, parts: Any) -> Any:
    return None if tangents[0] is None else ns.getitem_parts(tangents[0], *indices, parts=parts)


# Batching. An index array of row numbers, for the batch, would part index arrays that are neighbours.


def _rank(indices: Any, is_batched: Any) -> int:
    """The axes that the index arrays of one sample have together."""
    return max(i.ndim - b for i, b in zip(indices, is_batched))


def _aligned(ops: Any, indices: Any, is_batched: Any) -> list[Any]:
    """The index arrays with the batch in front and one rank, so that they broadcast."""
    rank = _rank(indices, is_batched)
    return [
        ops.reshape(i, (i.shape[0],) + (1,) * (rank + 1 - i.ndim) + i.shape[1:]) if b else i
        for i, b in zip(indices, is_batched)
    ]


def _with_rows(ops: Any, n: int, indices: Any, is_batched: Any, device: str) -> list[Any]:
    """The row numbers of the batch, and the index arrays beside them."""
    rows = ops.reshape(ops.arange(n, dtype=dt.int64, device=device), (n,) + (1,) * _rank(indices, is_batched))
    return [rows, *_aligned(ops, indices, is_batched)]


def _moved(ops: Any, x: Any, source: int, destination: int, count: int) -> Any:
    """`x` with `count` neighbouring axes moved, the others in order."""
    order = list(range(x.ndim))
    block = order[source : source + count]
    del order[source : source + count]
    order[destination:destination] = block
    return x if order == sorted(order) else ops.permute_dims(x, tuple(order))


def _getitem_batch(ops: Any, n: int, is_batched: Any, inputs: Any, params: Any, fn: Any) -> Any:
    x, *indices = inputs
    parts = params["parts"]
    if not any(is_batched[1:]):
        out = fn(x, *indices, parts=(slice(None), *parts))
        apart = indices and not lead((slice(None), *parts))
        return _moved(ops, out, _rank(indices, is_batched[1:]), 0, 1) if apart else out
    if not is_batched[0]:
        return _moved(ops, fn(x, *_aligned(ops, indices, is_batched[1:]), parts=parts), lead(parts), 0, 1)
    out = fn(x, *_with_rows(ops, n, indices, is_batched[1:], x.device), parts=(HOLE, *parts))
    return _moved(ops, out, 1, 1 + lead(parts), _rank(indices, is_batched[1:]))


_getitem = primitive(
    "getitem_parts",
    arity=None,
    forward=_getitem_forward,
    vjp=_getitem_vjp,
    jvp=_getitem_jvp,
    batch=_getitem_batch,
    keep=((), (0,), ...),
    view=True,
)


def _index_add_forward(ns: Any, values: Any, *indices: Any, shape: tuple[int, ...], parts: tuple[Any, ...]) -> Any:
    """Zeros of `shape` with `values` added at the key; the transpose of indexing."""
    xp, backend = ns.xp, ns.backend
    if not indices and backend.writable:
        out = xp.zeros(shape, dtype=values.dtype, device=beside(values))
        out[_key(parts, indices)] = values
        return out
    zeros = xp.zeros(shape, dtype=values.dtype, device=beside(values))
    return ns.scatter_add(zeros, _key(parts, indices), values)


def _index_add_vjp(
    ns: Any, g: Any, needs: Any, out: Any, residual: Any, values: Any, *indices: Any, shape: Any, parts: Any
) -> Any:
    return (ns.getitem_parts(g, *indices, parts=parts), *(None for _ in indices))


def _index_add_jvp(ns: Any, tangents: Any, out: Any, values: Any, *indices: Any, shape: Any, parts: Any) -> Any:
    return None if tangents[0] is None else ns.index_add_parts(tangents[0], *indices, shape=shape, parts=parts)


def _index_add_batch(ops: Any, n: int, is_batched: Any, inputs: Any, params: Any, fn: Any) -> Any:
    values, *indices = inputs
    shape, parts = params["shape"], params["parts"]
    if not indices:
        return fn(values, shape=(n, *shape), parts=(slice(None), *parts))
    values = values if is_batched[0] else ops.broadcast_to(values, (n, *values.shape))
    values = _moved(ops, values, 1 + lead(parts), 1, _rank(indices, is_batched[1:]))
    full = _with_rows(ops, n, indices, is_batched[1:], values.device)
    return fn(values, *full, shape=(n, *shape), parts=(HOLE, *parts))


_index_add = primitive(
    "index_add_parts",
    arity=None,
    forward=_index_add_forward,
    vjp=_index_add_vjp,
    jvp=_index_add_jvp,
    batch=_index_add_batch,
    keep=((), (0,), ...),
)


def _setitem_forward(ns: Any, x: Any, value: Any, *indices: Any, parts: tuple[Any, ...]) -> Any:
    return ns.set_item(x, _key(parts, indices), value)


def _setitem_vjp(
    ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any, value: Any, *indices: Any, parts: Any
) -> Any:
    gx = gv = None
    if needs[0] is not None:
        gx = ns.setitem_parts(g, ns.zeros((), dtype=g.dtype, device=beside(g)), *indices, parts=parts)
    if needs[1] is not None:
        gv = ns.getitem_parts(g, *indices, parts=parts)
        if indices:  # of several values for one place, one was kept
            number = ns.reshape(ns.arange(math.prod(gv.shape), device=beside(g)), gv.shape)
            nobody = ns.zeros(g.shape, dtype=number.dtype, device=beside(g))
            kept = ns.getitem_parts(ns.setitem_parts(nobody, number, *indices, parts=parts), *indices, parts=parts)
            gv = gv * ns.astype(kept == number, gv.dtype)
    return (gx, gv, *(None for _ in indices))


def _setitem_jvp(ns: Any, tangents: Any, out: Any, x: Any, value: Any, *indices: Any, parts: Any) -> Any:
    tx, tv = tangents[:2]
    tx = ns.zeros_like(out) if tx is None else tx
    tv = ns.zeros((), dtype=out.dtype, device=beside(out)) if tv is None else tv
    return ns.setitem_parts(tx, tv, *indices, parts=parts)


def _setitem_batch(ops: Any, n: int, is_batched: Any, inputs: Any, params: Any, fn: Any) -> Any:
    x, value, *indices = inputs
    parts = params["parts"]
    x = x if is_batched[0] else ops.broadcast_to(x, (n, *x.shape))
    rank = _rank(indices, is_batched[2:]) if indices else 0
    free = len([p for p in parts if p is None or isinstance(p, slice)])
    value = ops.expand_dims(value, axis=0) if not is_batched[1] else value
    value = ops.reshape(value, value.shape[:1] + (1,) * (rank + free + 1 - value.ndim) + value.shape[1:])
    if not indices:
        return fn(x, value, parts=(slice(None), *parts))
    value = _moved(ops, value, 1 + lead(parts), 1, rank)
    return fn(x, value, *_with_rows(ops, n, indices, is_batched[2:], x.device), parts=(HOLE, *parts))


_setitem = primitive(
    "setitem_parts",
    arity=None,
    forward=_setitem_forward,
    vjp=_setitem_vjp,
    jvp=_setitem_jvp,
    batch=_setitem_batch,
    keep=((), (), (0, 1), ...),
)
expose("getitem_parts", _getitem)
expose("index_add_parts", _index_add)
expose("setitem_parts", _setitem)


# -- the user's functions ------------------------------------------------------------------------------


@public
def getitem(x: Any, key: Any, /) -> Tensor:
    """`x[key]`: integers, slices, None, Ellipsis, integer arrays and masks.

    Raises:
        AxisError: an index outside its axis, more indices than axes, a mask of another length than its axis.
        DTypeError: an index array that holds neither integers nor bools.
    """
    x = as_tensor(x)
    mask = _only_mask(x, key)
    if mask is not None and mask.shape == x.shape[: mask.ndim] and mask.ndim != 1:
        # its axes as one: places in one axis are faster. A mask without axes stands for one of length one
        x, key = ops.reshape(x, (mask.size, *x.shape[mask.ndim :])), ops.reshape(mask, (mask.size,))
    parts, indices = parse(x, key)
    return _getitem(x, *indices, parts=parts)


def _only_mask(x: Tensor, key: Any) -> Tensor | None:
    """The key, if it is one bool array."""
    if isinstance(key, tuple) and len(key) == 1:
        key = key[0]
    if isinstance(key, Tensor):
        return key if key.dtype is dt.bool_ else None
    if getattr(key, "shape", ()) and str(getattr(key, "dtype", "")).endswith("bool"):
        return as_tensor(key, x)
    return None


@public
def setitem(x: Any, key: Any, value: Any, /) -> Tensor:
    """A copy of `x` with `value`, broadcast and cast, at `key`.

    Where a key names a place several times the last value stands there, and the gradient goes to it alone. (A GPU
    writes in no fixed order: there name each place once.)

    Raises:
        AxisError: as `getitem`.
        ShapeError: the value does not broadcast to the selection.
        DTypeError: a complex value for real elements.
    """
    x = as_tensor(x)
    value = as_tensor(value, x)
    if value.dtype is not x.dtype:
        if value.dtype.kind == "complex" and x.dtype.kind != "complex":
            raise DTypeError(f"a complex value for an array of {x.dtype.name}; take its real, or cast the array")
        value = ops.astype(value, x.dtype)
    mask = _only_mask(x, key)
    if mask is not None:
        rest = x.shape[mask.ndim :]
        if mask.shape == x.shape[: mask.ndim] and value.ndim <= len(rest):  # no need to find the places
            _check_value(value, rest)
            return ops.where(ops.reshape(mask, (*mask.shape, *(1,) * len(rest))), value, x)
    parts, indices = parse(x, key)
    selected = selected_shape(x.shape, parts, indices)
    extra = value.ndim - len(selected)
    if extra > 0 and value.shape[:extra] == (1,) * extra:  # axes of length one in front, as NumPy allows
        value = ops.reshape(value, value.shape[extra:])
    _check_value(value, selected)
    return _setitem(x, value, *indices, parts=parts)


def _check_value(value: Tensor, selected: tuple[int, ...]) -> None:
    try:
        fits = broadcast_shapes(value.shape, selected) == selected
    except ShapeError:
        fits = False
    if not fits:
        raise ShapeError(f"a value of shape {value.shape} for a selection of shape {selected}")


@public
def take(x: Any, indices: Any, /, axis: int | None = None) -> Tensor:
    """Elements, or slices, at integer `indices` along `axis`; of the flattened array where none is given.

    Raises:
        AxisError: an index is outside the axis. Indices that are on a device already are not looked at there.
        DTypeError: the indices are no integers.
    """
    x = as_tensor(x)
    if axis is None:
        x, axis = (x, 0) if x.ndim == 1 else (ops.ravel(x), 0)
    a = negative_axis(axis, x.ndim) + x.ndim
    places = places_of(indices, x)
    check_places(indices, places, x.shape[a], f"take along axis {axis}")
    return _getitem(x, places, parts=(slice(None),) * a + (HOLE,))


@public
def take_along_axis(x: Any, indices: Any, /, axis: int = -1) -> Tensor:
    """Along `axis` the elements that `indices` name, for each place of the other axes; these broadcast.

    Raises:
        AxisError: an index is outside the axis; as in `take`.
        ShapeError: the numbers of axes differ, or the other axes do not broadcast.
        DTypeError: the indices are no integers.
    """
    x = as_tensor(x)
    places = places_of(indices, x)
    a = negative_axis(axis, x.ndim) + x.ndim
    if places.ndim != x.ndim:
        raise ShapeError(f"take_along_axis of shape {x.shape} by indices of shape {places.shape}: as many axes needed")
    check_places(indices, places, x.shape[a], f"take_along_axis {axis}")
    broadcast_shapes(x.shape[:a] + x.shape[a + 1 :], places.shape[:a] + places.shape[a + 1 :])
    full = []
    for i, n in enumerate(x.shape):
        if i == a:
            full.append(places)
        else:
            length = ops.arange(n, dtype=dt.int64, device=x.device)
            full.append(ops.reshape(length, tuple(n if j == i else 1 for j in range(x.ndim))))
    return _getitem(x, *full, parts=(HOLE,) * x.ndim)


@public
def scatter_add(x: Any, indices: Any, values: Any, /) -> Tensor:
    """A copy of `x` with `values`, broadcast and cast, added at rows `indices`; repeated indices add up.

    Raises:
        AxisError: an index is outside; as in `take`.
        ShapeError: the values do not broadcast to the rows.
        DTypeError: the indices are no integers.
    """
    x = as_tensor(x)
    if not x.ndim:
        raise AxisError("scatter_add adds rows to an array, got a 0-d one; reshape it to (1,)")
    places, values = places_of(indices, x), as_tensor(values, x)
    check_places(indices, places, x.shape[0], "scatter_add")
    rows = places.shape + x.shape[1:]
    _check_value(values, rows)
    values = ops.broadcast_to(values if values.dtype is x.dtype else ops.astype(values, x.dtype), rows)
    return ops.add(x, _index_add(values, places, shape=x.shape, parts=(HOLE,)))


@public
def diag(x: Any, /, k: int = 0) -> Tensor:
    """A matrix with the vector `x` on its k-th diagonal; of a matrix, the k-th diagonal.

    Raises:
        ShapeError: `x` is neither a vector nor a matrix.
    """
    x = as_tensor(x)
    if x.ndim == 2:
        rows, columns = x.shape
        return ops.ravel(x)[_diagonal(rows, columns, k)]
    if x.ndim != 1:
        raise ShapeError(f"diag is of a vector or a matrix, got shape {x.shape}")
    n = x.shape[0] + abs(k)
    flat = _index_add(x, shape=(n * n,), parts=(_diagonal(n, n, k),))
    return ops.reshape(flat, (n, n))


def _diagonal(rows: int, columns: int, k: int) -> slice:
    """The places of the k-th diagonal in a flattened matrix."""
    start = k if k >= 0 else -k * columns
    length = max(min(rows + min(k, 0), columns - max(k, 0)), 0)
    return inside(slice(start, start + length * (columns + 1), columns + 1), rows * columns) if length else slice(0, 0)
