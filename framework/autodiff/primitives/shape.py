"""Primitives that move elements: shapes, joining, indexing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from framework.autodiff import convert
from framework.autodiff.convert import as_tensor
from framework.autodiff.kinds import linear_map, negative_axes, negative_axis
from framework.autodiff.namespace import ops
from framework.autodiff.primitive import primitive, public
from framework.autodiff.tensor import Tensor
from framework.errors import ShapeError

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
    shape = (shape,) if isinstance(shape, int) else tuple(n.__index__() for n in shape)
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
        raise ShapeError(
            f"flatten from axis {start_dim} to axis {end_dim} of {x.shape}: the first comes after the last"
        )
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
def expand_dims(x: Any, /, axis: int = 0) -> Tensor:
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
    return ns.xp.permute_dims(x, tuple([a + x.ndim for a in axes]))


def _permute_transpose(ns: Any, g: Any, before: Any, *, axes: tuple[int, ...]) -> Any:
    n = len(axes)
    inverse = [0] * n
    for i, a in enumerate(axes):
        inverse[a] = i - n
    return ns.permute_dims(g, tuple(inverse))


def _permute_batch(ops: Any, n: int, is_batched: Any, inputs: Any, params: Any, fn: Any) -> Any:
    axes = params["axes"]
    return fn(inputs[0], axes=(-len(axes) - 1, *axes))


_permute = linear_map("permute_dims", _permute_transpose, forward=_permute_forward, batch=_permute_batch)


@public
def permute_dims(x: Any, /, axes: Sequence[int] | None = None) -> Tensor:
    """The axes in another order; reversed where none is given.

    Raises:
        ShapeError: `axes` is not a permutation of all axes.
    """
    x = as_tensor(x)
    axes = range(-1, -x.ndim - 1, -1) if axes is None else axes
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
def flip(x: Any, /, axis: int | Sequence[int] | None = None) -> Tensor:
    """Elements in reverse order along `axis`."""
    x = as_tensor(x)
    return _flip(x, axis=negative_axes(axis, x.ndim))


# -- making arrays of arrays ---------------------------------------------------------------------


@public
def asarray(
    obj: Any, /, *, dtype: Any = None, device: str | None = None, copy: bool | None = None, backend: Any = None
) -> Tensor:
    """A Tensor of `obj`. Unlike in `fw.tensor`, gradients flow through Tensors, also those in nested lists."""
    if isinstance(obj, list | tuple):
        like = _first_tensor(obj)
        if like is not None:
            obj = stack([a if _is_number(a) else asarray(a, device=like.device) for a in obj])
    if not isinstance(obj, Tensor):
        return convert.asarray(obj, dtype=dtype, device=device, copy=copy, backend=backend)
    moved = obj.to(device=str(backend) if device is None and backend is not None else device, dtype=dtype)
    return ops.clone(moved) if copy and moved is obj else moved


def _is_number(a: Any) -> bool:
    return isinstance(a, bool | int | float | complex)


def _first_tensor(obj: Any) -> Tensor | None:
    if isinstance(obj, Tensor):
        return obj
    found = map(_first_tensor, obj) if isinstance(obj, list | tuple) else ()
    return next((t for t in found if t is not None), None)


@public
def array(
    obj: Any, /, *, dtype: Any = None, device: str | None = None, copy: bool | None = True, backend: Any = None
) -> Tensor:
    """A copy of `obj` as a Tensor; see `asarray`."""
    return asarray(obj, dtype=dtype, device=device, copy=copy, backend=backend)


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


def _tensors(arrays: Sequence[Any]) -> list[Tensor]:
    """Each as a Tensor; numbers among them are weak, and join the backend of the first Tensor."""
    arrays = list(arrays)
    like = next((a for a in arrays if isinstance(a, Tensor)), None)
    made = [a if _is_number(a) else as_tensor(a, like) for a in arrays]
    beside = next((a for a in made if isinstance(a, Tensor)), None)
    return [as_tensor(a, beside) for a in made]


@public
def concat(arrays: Sequence[Any], /, axis: int | None = 0) -> Tensor:
    """Arrays joined along an existing axis, or flattened first for None.

    Raises:
        ShapeError: nothing to join, or the other axes differ.
    """
    tensors = _tensors(arrays)
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
def stack(arrays: Sequence[Any], /, axis: int = 0) -> Tensor:
    """Arrays of one shape joined along a new axis.

    Raises:
        ShapeError: the shapes differ.
    """
    tensors = _tensors(arrays)
    if len({t.shape for t in tensors}) != 1:
        raise ShapeError(f"stack needs arrays of one shape, got {[t.shape for t in tensors]}")
    return concat([expand_dims(t, axis=axis) for t in tensors], axis=axis)
