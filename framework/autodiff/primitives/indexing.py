"""Primitives that read and write elements by index."""

from __future__ import annotations

from typing import Any

from framework.autodiff.convert import as_tensor
from framework.autodiff.kinds import negative_axis
from framework.autodiff.namespace import ops
from framework.autodiff.primitive import expose, primitive, public
from framework.autodiff.tensor import Tensor
from framework.backend import dtypes as dt
from framework.errors import DTypeError, GradientError, ShapeError

# A key is a tuple of integers, slices, None, Ellipsis and index arrays. The arrays are inputs of the
# primitive (they may be batched); the rest is a parameter with holes where they belong.

HOLE = "array"


def _key(parts: tuple[Any, ...], indices: tuple[Any, ...]) -> Any:
    it = iter(indices)
    return tuple([next(it) if part is HOLE else part for part in parts])


def _getitem_forward(ns: Any, x: Any, *indices: Any, parts: tuple[Any, ...]) -> Any:
    return ns.get_item(x, _key(parts, indices))


def _getitem_vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any, *indices: Any, parts: Any) -> Any:
    return (ns.index_add_parts(g, *indices, shape=needs[0].shape, parts=parts), *(None for _ in indices))


def _getitem_jvp(ns: Any, tangents: Any, out: Any, x: Any, *indices: Any, parts: Any) -> Any:
    return None if tangents[0] is None else ns.getitem_parts(tangents[0], *indices, parts=parts)


# Batching. As in NumPy, the axes of index arrays stand where the arrays stand if these (and integers)
# are neighbours, else in front. An index array of row numbers, for the batch, would part them.


def _lead(parts: tuple[Any, ...]) -> int:
    """How many axes of the selection stand in front of those of its index arrays."""
    at = [i for i, p in enumerate(parts) if p is HOLE or isinstance(p, int)]
    return len([p for p in parts[: at[0]] if p is not Ellipsis]) if at[-1] - at[0] + 1 == len(at) else 0


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
        apart = indices and not _lead((slice(None), *parts))
        return _moved(ops, out, _rank(indices, is_batched[1:]), 0, 1) if apart else out
    if not is_batched[0]:
        return _moved(ops, fn(x, *_aligned(ops, indices, is_batched[1:]), parts=parts), _lead(parts), 0, 1)
    out = fn(x, *_with_rows(ops, n, indices, is_batched[1:], x.device), parts=(HOLE, *parts))
    return _moved(ops, out, 1, 1 + _lead(parts), _rank(indices, is_batched[1:]))


_getitem = primitive(
    "getitem_parts",
    arity=None,
    forward=_getitem_forward,
    vjp=_getitem_vjp,
    jvp=_getitem_jvp,
    batch=_getitem_batch,
    keep=((), *(((0,),) * 8)),
)


def _index_add_forward(ns: Any, values: Any, *indices: Any, shape: tuple[int, ...], parts: tuple[Any, ...]) -> Any:
    """Zeros of `shape` with `values` added at the key; the transpose of indexing."""
    xp, backend = ns.xp, ns.backend
    if not indices and backend.writable:
        out = xp.zeros(shape, dtype=values.dtype, device=values.device)
        out[_key(parts, indices)] = values
        return out
    zeros = xp.zeros(shape, dtype=values.dtype, device=values.device)
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
    values = _moved(ops, values, 1 + _lead(parts), 1, _rank(indices, is_batched[1:]))
    full = _with_rows(ops, n, indices, is_batched[1:], values.device)
    return fn(values, *full, shape=(n, *shape), parts=(HOLE, *parts))


_index_add = primitive(
    "index_add_parts",
    arity=None,
    forward=_index_add_forward,
    vjp=_index_add_vjp,
    jvp=_index_add_jvp,
    batch=_index_add_batch,
    keep=((), *(((0,),) * 8)),
)


def _setitem_forward(ns: Any, x: Any, value: Any, *indices: Any, parts: tuple[Any, ...]) -> Any:
    return ns.set_item(x, _key(parts, indices), value)


def _setitem_vjp(
    ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any, value: Any, *indices: Any, parts: Any
) -> Any:
    gx = gv = None
    if needs[0] is not None:
        gx = ns.setitem_parts(g, ns.zeros((), dtype=g.dtype, device=g.device), *indices, parts=parts)
    if needs[1] is not None:
        gv = ns.getitem_parts(g, *indices, parts=parts)
    return (gx, gv, *(None for _ in indices))


def _setitem_jvp(ns: Any, tangents: Any, out: Any, x: Any, value: Any, *indices: Any, parts: Any) -> Any:
    tx, tv = tangents[:2]
    tx = ns.zeros_like(out) if tx is None else tx
    tv = ns.zeros((), dtype=out.dtype, device=out.device) if tv is None else tv
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
    value = _moved(ops, value, 1 + _lead(parts), 1, rank)
    return fn(x, value, *_with_rows(ops, n, indices, is_batched[2:], x.device), parts=(HOLE, *parts))


_setitem = primitive(
    "setitem_parts",
    arity=None,
    forward=_setitem_forward,
    vjp=_setitem_vjp,
    jvp=_setitem_jvp,
    batch=_setitem_batch,
    keep=((), (), *(((0, 1),) * 8)),
)
expose("getitem_parts", _getitem)
expose("index_add_parts", _index_add)
expose("setitem_parts", _setitem)


_NO_INDEX = "{} is no index; these are: integers, slices, None, ..., integer arrays, and masks as long as their axes"


def _parse_key(x: Tensor, key: Any) -> tuple[tuple[Any, ...], list[Tensor]]:
    """A key as static parts with holes, one for each axis, and the index arrays that belong in them."""
    parts: list[Any] = []
    indices: list[Tensor] = []
    masks: list[tuple[int, tuple[int, ...]]] = []
    for item in key if isinstance(key, tuple) else (key,):
        if item is None or item is Ellipsis or (isinstance(item, int | slice) and not isinstance(item, bool)):
            parts.append(_static(item))
        elif isinstance(item, Tensor | list) or hasattr(item, "shape"):
            is_empty = isinstance(item, list) and not item
            index = as_tensor(item, x) if not is_empty else ops.zeros((0,), dtype=dt.int64, device=x.device)
            if index.dtype is dt.bool_:  # a mask: its size depends on values
                if not index.ndim:
                    raise IndexError(_NO_INDEX.format("a single bool"))
                masks.append((len(parts), index.shape))
                indices.extend(ops.nonzero(index))
                parts.extend([HOLE] * index.ndim)
            elif index.dtype.kind in ("int", "uint"):
                indices.append(index)
                parts.append(HOLE)
            else:
                raise DTypeError(f"an index is an integer or a bool array, got {index.dtype.name}")
        elif isinstance(item, bool) or not hasattr(item, "__index__"):
            raise IndexError(_NO_INDEX.format(repr(item)))
        else:
            parts.append(item.__index__())
    free = x.ndim - len([p for p in parts if p is not None and p is not Ellipsis])
    if free < 0:
        raise ShapeError(f"{x.ndim - free} indices for an array of shape {x.shape}")
    at = parts.index(Ellipsis) if Ellipsis in parts else len(parts)
    for start, shape in masks:
        axis = len([p for p in parts[:start] if p is not None and p is not Ellipsis]) + (free if start > at else 0)
        if x.shape[axis : axis + len(shape)] != shape:
            raise IndexError(f"a mask of shape {shape} for axes of lengths {x.shape[axis : axis + len(shape)]}")
    if free:  # an Ellipsis of no axes stays, as it parts index arrays, too
        parts[at : at + 1] = [slice(None)] * free
    axis = 0
    for i, p in enumerate(parts):
        if isinstance(p, slice) and p != _ALL:
            parts[i] = _inside(p, x.shape[axis])
        axis += p is not None and p is not Ellipsis
    return tuple(parts), indices


_ALL = slice(None)


def _inside(s: slice, n: int) -> slice:
    """The slice without what lies outside an axis of length `n`, which the standard leaves open."""
    start, stop, step = s.indices(n)
    if not range(start, stop, step):
        return slice(0, 0)
    return slice(start, stop if stop >= 0 else None, step)


def _static(item: Any) -> Any:
    if isinstance(item, slice):
        return slice(*(None if v is None else v.__index__() for v in (item.start, item.stop, item.step)))
    return item


@public
def getitem(x: Any, key: Any, /) -> Tensor:
    """`x[key]`: integers, slices, None, Ellipsis, integer arrays and masks.

    Raises:
        IndexError: an index outside its axis.
        ShapeError: more indices than axes.
    """
    x = as_tensor(x)
    parts, indices = _parse_key(x, key)
    return _getitem(x, *indices, parts=parts)


@public
def setitem(x: Any, key: Any, value: Any, /) -> Tensor:
    """A copy of `x` with `value` at `key`."""
    x = as_tensor(x)
    value = as_tensor(value, x)
    if value.dtype is not x.dtype:
        value = ops.astype(value, x.dtype)
    parts, indices = _parse_key(x, key)
    rank = len([p for p in parts if p is None or isinstance(p, slice)]) + max([i.ndim for i in indices], default=0)
    if value.ndim > rank:  # axes of length one in front, as NumPy allows
        value = ops.squeeze(value, axis=tuple(range(value.ndim - rank)))
    return _setitem(x, value, *indices, parts=parts)


@public
def take(x: Any, indices: Any, /, axis: int | None = None) -> Tensor:
    """Elements, or slices, at integer `indices` along `axis`."""
    x = as_tensor(x)
    if axis is None:
        x, axis = (x, 0) if x.ndim == 1 else (ops.ravel(x), 0)
    a = negative_axis(axis, x.ndim) + x.ndim
    return _getitem(x, as_tensor(indices, x), parts=(slice(None),) * a + (HOLE,))


@public
def take_along_axis(x: Any, indices: Any, /, axis: int = -1) -> Tensor:
    """Along `axis` the elements that `indices`, of the same rank, name."""
    x = as_tensor(x)
    indices = as_tensor(indices, x)
    a = negative_axis(axis, x.ndim) + x.ndim
    full = []
    for i, n in enumerate(x.shape):
        if i == a:
            full.append(indices)
        else:
            length = ops.arange(n, dtype=dt.int64, device=x.device)
            full.append(ops.reshape(length, tuple(n if j == i else 1 for j in range(x.ndim))))
    return _getitem(x, *full, parts=(HOLE,) * x.ndim)


@public
def scatter_add(x: Any, indices: Any, values: Any, /) -> Tensor:
    """A copy of `x` with `values` added at rows `indices`; repeated indices add up."""
    x = as_tensor(x)
    indices, values = as_tensor(indices, x), as_tensor(values, x)
    return ops.add(x, _index_add(values, indices, shape=x.shape, parts=(HOLE,)))


def _nonzero_forward(ns: Any, x: Any, *, axis: int) -> Any:
    return ns.xp.nonzero(x)[axis]


def _nonzero_batch(ops: Any, n: int, is_batched: Any, inputs: Any, params: Any, fn: Any) -> Any:
    raise GradientError("inside vmap the number of nonzero elements differs by sample; use where() instead of a mask")


_nonzero = primitive("nonzero_axis", arity=1, forward=_nonzero_forward, batch=_nonzero_batch)


@public
def nonzero(x: Any, /) -> tuple[Tensor, ...]:
    """The indices of nonzero elements, one array per axis."""
    x = as_tensor(x)
    return tuple(_nonzero(x, axis=i) for i in range(x.ndim))
