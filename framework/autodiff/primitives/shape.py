"""Primitives that move elements: shapes, joining, indexing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from framework.autodiff.namespace import ops
from framework.autodiff.primitive import linear_map, negative_axes, negative_axis, primitive, public, expose
from framework.autodiff.tensor import Tensor, as_tensor
from framework.backend import dtypes as dt
from framework.errors import DTypeError, GradientError, ShapeError

# -- shape ---------------------------------------------------------------------------------------


def _reshape_forward(ns: Any, x: Any, shape: tuple[int, ...]) -> Any:
    return ns.xp.reshape(x, shape)


def _reshape_transpose(ns: Any, g: Any, before: Any, *, shape: Any) -> Any:
    return ns.reshape(g, before)


def _reshape_batch(ops: Any, n: int, is_batched: Any, inputs: Any, params: Any, fn: Any) -> Any:
    return fn(inputs[0], shape=(n, *params["shape"]))


_reshape = linear_map("reshape", _reshape_transpose, forward=_reshape_forward, batch=_reshape_batch)


@public
def reshape(x: Any, /, shape: Sequence[int] | int, *, copy: bool | None = None) -> Tensor:
    """The same elements in another shape; one -1 stands for what remains.

    Raises:
        ShapeError: the numbers of elements differ.
    """
    x = as_tensor(x)
    shape = (shape,) if isinstance(shape, int) else tuple(int(n) for n in shape)
    known = math.prod(n for n in shape if n != -1)
    if -1 in shape:
        if shape.count(-1) > 1 or known == 0 or x.size % known:
            raise ShapeError(f"cannot reshape {x.shape} ({x.size} elements) to {shape}")
        shape = tuple(x.size // known if n == -1 else n for n in shape)
    elif known != x.size:
        raise ShapeError(f"cannot reshape {x.shape} ({x.size} elements) to {shape} ({known} elements)")
    return _reshape(x, shape=shape)


@public
def flatten(x: Any, /, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """Axes `start_dim` to `end_dim`, both included, as one."""
    x = as_tensor(x)
    if x.ndim == 0:
        return reshape(x, (1,))
    start, end = (negative_axis(a, x.ndim) + x.ndim for a in (start_dim, end_dim))
    if start > end:
        raise ShapeError(f"flatten from axis {start_dim} to axis {end_dim} of {x.shape}: the first comes after the last")
    return reshape(x, (*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :]))


@public
def ravel(x: Any, /) -> Tensor:
    """All elements along one axis."""
    return reshape(x, (-1,)) if as_tensor(x).size else reshape(x, (0,))


@public
def squeeze(x: Any, /, axis: int | Sequence[int] | None = None) -> Tensor:
    """Without the axes named (or all) of length one.

    Raises:
        ShapeError: a named axis is longer.
    """
    x = as_tensor(x)
    axes = [a + x.ndim for a in (negative_axes(axis, x.ndim) if axis is not None else range(-x.ndim, 0))]
    if axis is None:
        axes = [a for a in axes if x.shape[a] == 1]
    for a in axes:
        if x.shape[a] != 1:
            raise ShapeError(f"cannot squeeze axis {a} of length {x.shape[a]} out of shape {x.shape}")
    return reshape(x, tuple(n for i, n in enumerate(x.shape) if i not in axes))


@public
def expand_dims(x: Any, /, *, axis: int = 0) -> Tensor:
    """With a new axis of length one at `axis`."""
    x = as_tensor(x)
    at = negative_axis(axis, x.ndim + 1) + x.ndim + 1
    return reshape(x, (*x.shape[:at], 1, *x.shape[at:]))


def _broadcast_forward(ns: Any, x: Any, shape: tuple[int, ...]) -> Any:
    return ns.xp.broadcast_to(x, shape)


def _broadcast_transpose(ns: Any, g: Any, before: Any, *, shape: Any) -> Any:
    return g  # the driver sums it to the input's shape


def _broadcast_batch(ops: Any, n: int, is_batched: Any, inputs: Any, params: Any, fn: Any) -> Any:
    x, shape = inputs[0], params["shape"]
    x = ops.reshape(x, (n,) + (1,) * (len(shape) + 1 - x.ndim) + x.shape[1:])
    return fn(x, shape=(n, *shape))


_broadcast_to = linear_map("broadcast_to", _broadcast_transpose, forward=_broadcast_forward, batch=_broadcast_batch)


@public
def broadcast_to(x: Any, /, shape: Sequence[int]) -> Tensor:
    """Repeated along axes of length one, without a copy, to `shape`.

    Raises:
        ShapeError: the shapes do not broadcast.
    """
    x = as_tensor(x)
    shape = tuple(shape)
    if x.shape == shape:
        return x
    tail = shape[len(shape) - x.ndim :] if x.ndim <= len(shape) else ()
    if x.ndim > len(shape) or any(n not in (1, m) for n, m in zip(x.shape, tail)):
        raise ShapeError(f"cannot broadcast shape {x.shape} to {shape}")
    return _broadcast_to(x, shape=shape)


@public
def expand(x: Any, /, shape: Sequence[int]) -> Tensor:
    """As `broadcast_to`; -1 keeps the length of an axis."""
    x = as_tensor(x)
    offset = len(shape) - x.ndim
    return broadcast_to(x, tuple(x.shape[i - offset] if n == -1 else n for i, n in enumerate(shape)))


def _permute_forward(ns: Any, x: Any, axes: tuple[int, ...]) -> Any:
    n = len(axes)  # negative axes; the axes in front of them (a batch) stay
    extra = x.ndim - n
    return ns.xp.permute_dims(x, (*range(extra), *(a + x.ndim for a in axes)))


def _permute_transpose(ns: Any, g: Any, before: Any, *, axes: tuple[int, ...]) -> Any:
    n = len(axes)
    inverse = [0] * n
    for i, a in enumerate(axes):
        inverse[a] = i - n
    return ns.permute_dims(g, tuple(inverse))


_permute = linear_map("permute_dims", _permute_transpose, forward=_permute_forward)


@public
def permute_dims(x: Any, /, axes: Sequence[int]) -> Tensor:
    """The axes in another order.

    Raises:
        ShapeError: `axes` is not a permutation of all axes.
    """
    x = as_tensor(x)
    negative = tuple(negative_axis(a, x.ndim) for a in axes)
    if sorted(negative) != list(range(-x.ndim, 0)):
        raise ShapeError(f"permute_dims of shape {x.shape} needs each axis once, got {tuple(axes)}")
    return _permute(x, axes=negative)


@public
def matrix_transpose(x: Any, /) -> Tensor:
    """The last two axes swapped."""
    x = as_tensor(x)
    if x.ndim < 2:
        raise ShapeError(f"matrix_transpose needs two axes, got shape {x.shape}")
    return _permute(x, axes=(*range(-x.ndim, -2), -1, -2))


@public
def swapaxes(x: Any, /, axis1: int, axis2: int) -> Tensor:
    """Two axes swapped."""
    x = as_tensor(x)
    order = list(range(-x.ndim, 0))
    a, b = negative_axis(axis1, x.ndim), negative_axis(axis2, x.ndim)
    order[a], order[b] = order[b], order[a]
    return _permute(x, axes=tuple(order))


@public
def moveaxis(x: Any, source: int, destination: int, /) -> Tensor:
    """One axis moved, the others in order."""
    x = as_tensor(x)
    order = list(range(-x.ndim, 0))
    a = order.pop(negative_axis(source, x.ndim))
    order.insert(negative_axis(destination, x.ndim) + x.ndim, a)
    return _permute(x, axes=tuple(order))


def _flip_forward(ns: Any, x: Any, *, axis: Any) -> Any:
    return ns.xp.flip(x, axis=axis)


def _flip_transpose(ns: Any, g: Any, before: Any, *, axis: Any) -> Any:
    return ns.flip(g, axis=axis)


_flip = linear_map("flip", _flip_transpose, forward=_flip_forward)


@public
def flip(x: Any, /, *, axis: int | Sequence[int] | None = None) -> Tensor:
    """Elements in reverse order along `axis`."""
    x = as_tensor(x)
    return _flip(x, axis=negative_axes(axis, x.ndim))


# -- joining -------------------------------------------------------------------------------------


def _concat_forward(ns: Any, *arrays: Any, axis: int, lengths: tuple[int, ...]) -> Any:
    return ns.xp.concat(arrays, axis=axis)


def _concat_vjp(
    ns: Any, g: Any, needs: Any, out: Any, residual: Any, *arrays: Any, axis: int, lengths: tuple[int, ...]
) -> Any:
    grads, start = [], 0
    for need, n in zip(needs, lengths):
        key = (..., slice(start, start + n), *(slice(None),) * (-axis - 1))
        grads.append(None if need is None else g[key])
        start += n
    return tuple(grads)


def _concat_jvp(ns: Any, tangents: Any, out: Any, *arrays: Any, axis: int, lengths: tuple[int, ...]) -> Any:
    return ns.concat([ns.zeros_like(a) if t is None else t for t, a in zip(tangents, arrays)], axis=axis)


def _all_batched(ops: Any, n: int, is_batched: Any, inputs: Any, params: Any, fn: Any) -> Any:
    full = [x if b else ops.broadcast_to(x, (n, *x.shape)) for x, b in zip(inputs, is_batched)]
    return fn(*full, **params)


_concat = primitive(
    "concat_arrays",  # the standard's concat takes a list
    arity=None,
    forward=_concat_forward,
    vjp=_concat_vjp,
    jvp=_concat_jvp,
    batch=_all_batched,
    promotes=True,
)


@public
def concat(arrays: Sequence[Any], /, *, axis: int | None = 0) -> Tensor:
    """Arrays joined along an existing axis, or flattened first for None.

    Raises:
        ShapeError: nothing to join, or the other axes differ.
    """
    tensors = [as_tensor(a) for a in arrays]
    if not tensors:
        raise ShapeError("concat needs at least one array")
    if axis is None:
        tensors, axis = [ravel(t) for t in tensors], 0
    a = negative_axis(axis, tensors[0].ndim)
    rest = {t.shape[:a] + (t.shape[a + 1 :] if a != -1 else ()) if t.ndim else None for t in tensors}
    if len(rest) > 1 or len({t.ndim for t in tensors}) > 1:
        raise ShapeError(f"concat along axis {axis}: the other axes must be equal, got {[t.shape for t in tensors]}")
    return _concat(*tensors, axis=a, lengths=tuple(t.shape[a] for t in tensors))


@public
def stack(arrays: Sequence[Any], /, *, axis: int = 0) -> Tensor:
    """Arrays of one shape joined along a new axis.

    Raises:
        ShapeError: the shapes differ.
    """
    tensors = [as_tensor(a) for a in arrays]
    if len({t.shape for t in tensors}) != 1:
        raise ShapeError(f"stack needs arrays of one shape, got {[t.shape for t in tensors]}")
    return concat([expand_dims(t, axis=axis) for t in tensors], axis=axis)


# -- indexing ------------------------------------------------------------------------------------
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


def _batched_indices(ops: Any, n: int, is_batched: Any, indices: Any, parts: Any, device: str) -> list[Any]:
    """The row numbers of the batch, and the index arrays at the rank they need beside them."""
    if any(p is not HOLE for p in parts[: len(indices)]):
        raise GradientError("vmap over an index array needs the indexed axes in front; use moveaxis first")
    rank = max(i.ndim - b for i, b in zip(indices, is_batched))
    rows = ops.reshape(ops.arange(n, dtype=dt.int64, device=device), (n,) + (1,) * rank)
    return [rows] + [
        ops.reshape(i, (n,) + (1,) * (rank + 1 - i.ndim) + i.shape[1:]) if b else i
        for i, b in zip(indices, is_batched)
    ]


def _getitem_batch(ops: Any, n: int, is_batched: Any, inputs: Any, params: Any, fn: Any) -> Any:
    x, *indices = inputs
    parts = params["parts"]
    if not any(is_batched[1:]):
        if not indices:
            return fn(x, parts=(slice(None), *parts))
        first = parts.index(HOLE)  # arrays that are apart would move to the front; so does the batch axis
        if all(p is HOLE for p in parts[first : first + len(indices)]):
            return fn(x, *indices, parts=(slice(None), *parts))
    x = x if is_batched[0] else ops.broadcast_to(x, (n, *x.shape))
    return fn(x, *_batched_indices(ops, n, is_batched[1:], indices, parts, x.device), parts=(HOLE, *parts))


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
    full = _batched_indices(ops, n, is_batched[1:], indices, parts, values.device)
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
    if is_batched[1]:  # the value's own rank must be that of the selection, the batch in front
        target = ops.getitem_parts(x[0], *[i[0] if b else i for i, b in zip(indices, is_batched[2:])], parts=parts)
        value = ops.reshape(value, (n,) + (1,) * (target.ndim + 1 - value.ndim) + value.shape[1:])
    if not any(is_batched[2:]) and not indices:
        return fn(x, value, parts=(slice(None), *parts))
    return fn(x, value, *_batched_indices(ops, n, is_batched[2:], indices, parts, x.device), parts=(HOLE, *parts))


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


def _parse_key(x: Tensor, key: Any) -> tuple[tuple[Any, ...], list[Tensor]]:
    """A key as static parts with holes, and the index arrays that belong in them."""
    parts: list[Any] = []
    indices: list[Tensor] = []
    key = key if isinstance(key, tuple) else (key,)
    for item in key:
        if item is None or item is Ellipsis or isinstance(item, int | slice) and not isinstance(item, bool):
            parts.append(_static(item))
        elif isinstance(item, Tensor | list) or hasattr(item, "shape") or isinstance(item, bool):
            index = as_tensor(item, x)
            if index.dtype is dt.bool_:  # a mask: its size depends on values
                indices.extend(ops.nonzero(index))
                parts.extend([HOLE] * index.ndim)
            elif index.dtype.kind in ("int", "uint"):
                indices.append(index)
                parts.append(HOLE)
            else:
                raise DTypeError(f"an index is an integer or a bool array, got {index.dtype.name}")
        else:
            parts.append(item.__index__())
    used = len([p for p in parts if p is not None and p is not Ellipsis])
    if used > x.ndim:
        raise ShapeError(f"{used} indices for an array of shape {x.shape}")
    # an explicit Ellipsis at the end, so that a batch axis may come in front
    if Ellipsis in [p for p in parts if p is Ellipsis]:
        at = next(i for i, p in enumerate(parts) if p is Ellipsis)
        parts[at : at + 1] = [slice(None)] * (x.ndim - used)
    return tuple(parts), indices


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
    return _setitem(x, value, *indices, parts=parts)


@public
def take(x: Any, indices: Any, /, *, axis: int | None = None) -> Tensor:
    """Elements, or slices, at integer `indices` along `axis`."""
    x = as_tensor(x)
    if axis is None:
        x, axis = (x, 0) if x.ndim == 1 else (ravel(x), 0)
    a = negative_axis(axis, x.ndim) + x.ndim
    return _getitem(x, as_tensor(indices, x), parts=(slice(None),) * a + (HOLE,))


@public
def take_along_axis(x: Any, indices: Any, /, *, axis: int = -1) -> Tensor:
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
    return ops.add(x, _index_add(values, indices, shape=x.shape, parts=(HOLE,)))  # type: ignore[no-any-return]


def _nonzero_forward(ns: Any, x: Any, *, axis: int) -> Any:
    return ns.xp.nonzero(x)[axis]


_nonzero = primitive("nonzero_axis", arity=1, forward=_nonzero_forward)


@public
def nonzero(x: Any, /) -> tuple[Tensor, ...]:
    """The indices of nonzero elements, one array per axis."""
    x = as_tensor(x)
    return tuple(_nonzero(x, axis=i) for i in range(x.ndim))
