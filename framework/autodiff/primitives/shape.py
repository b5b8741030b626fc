"""Primitives that give the same elements another shape or order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from framework.autodiff.convert import as_tensor
from framework.autodiff.kinds import integers, linear_map, negative_axes, negative_axis
from framework.autodiff.namespace import ops
from framework.autodiff.primitive import public
from framework.autodiff.tensor import Tensor
from framework.errors import ShapeError

# -- shape ---------------------------------------------------------------------------------------


def _reshape_forward(ns: Any, x: Any, shape: tuple[int, ...]) -> Any:
    return ns.xp.reshape(x, shape)


def _reshape_transpose(ns: Any, g: Any, before: Any, *, shape: Any) -> Any:
    return ns.reshape(g, before)


def _reshape_batch(ops: Any, n: int, is_batched: Any, inputs: Any, params: Any, fn: Any) -> Any:
    return fn(inputs[0], shape=(n, *params["shape"]))


_reshape = linear_map("reshape", _reshape_transpose, forward=_reshape_forward, batch=_reshape_batch, view=True)


@public
def reshape(x: Any, /, shape: Sequence[int] | int, *, copy: bool | None = None) -> Tensor:
    """The same elements in another shape; one -1 stands for what remains.

    Args:
        copy: True always copies, False never does, None where the library needs to.

    Raises:
        ShapeError: the numbers of elements differ.
        ValueError: `copy=False`, and the elements do not lie in memory so that a copy could be avoided.
    """
    x = as_tensor(x)
    shape = integers(shape)
    known = math.prod(n for n in shape if n != -1)
    if -1 in shape:
        if shape.count(-1) > 1 or known == 0 or x.size % known:
            raise ShapeError(f"cannot reshape {x.shape} ({x.size} elements) to {shape}")
        shape = tuple(x.size // known if n == -1 else n for n in shape)
    elif known != x.size:
        raise ShapeError(f"cannot reshape {x.shape} ({x.size} elements) to {shape} ({known} elements)")
    if copy is False:
        _check_no_copy(x, shape)
    out = _reshape(x, shape=shape)
    return ops.clone(out) if copy else out


def _check_no_copy(x: Tensor, shape: tuple[int, ...]) -> None:
    """Let the library raise where this shape needs a copy; transforms may hold axes in front."""
    raw: Any = x
    while isinstance(raw, Tensor):
        raw = raw._data
    front = tuple(raw.shape)[: len(raw.shape) - x.ndim]
    x._ns.xp.reshape(raw, (*front, *shape), copy=False)


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
def expand_dims(x: Any, /, axis: int | Sequence[int] = 0) -> Tensor:
    """With new axes of length one at `axis`, counted in the result.

    Raises:
        ShapeError: the result has no such axis, or it is named twice.
    """
    x = as_tensor(x)
    axes = integers(axis)
    ndim = x.ndim + len(axes)
    new = {a + ndim for a in negative_axes(axes, ndim)}
    old = iter(x.shape)
    return reshape(x, tuple(1 if i in new else next(old) for i in range(ndim)))


def _broadcast_forward(ns: Any, x: Any, shape: tuple[int, ...]) -> Any:
    return ns.xp.broadcast_to(x, shape)


def _broadcast_transpose(ns: Any, g: Any, before: Any, *, shape: Any) -> Any:
    return g  # the driver sums it to the input's shape


def _broadcast_batch(ops: Any, n: int, is_batched: Any, inputs: Any, params: Any, fn: Any) -> Any:
    x, shape = inputs[0], params["shape"]
    x = ops.reshape(x, (n,) + (1,) * (len(shape) + 1 - x.ndim) + x.shape[1:])
    return fn(x, shape=(n, *shape))


_broadcast_to = linear_map(
    "broadcast_to", _broadcast_transpose, forward=_broadcast_forward, batch=_broadcast_batch, view=True
)


@public
def broadcast_to(x: Any, /, shape: Sequence[int] | int) -> Tensor:
    """Repeated along axes of length one, without a copy, to `shape`.

    Raises:
        ShapeError: the shapes do not broadcast.
    """
    x = as_tensor(x)
    shape = integers(shape)
    if x.shape == shape:
        return x
    tail = shape[len(shape) - x.ndim :] if x.ndim <= len(shape) else ()
    if x.ndim > len(shape) or any(n not in (1, m) for n, m in zip(x.shape, tail)):
        raise ShapeError(f"cannot broadcast shape {x.shape} to {shape}")
    return _broadcast_to(x, shape=shape)


@public
def broadcast_shapes(*shapes: Sequence[int]) -> tuple[int, ...]:
    """The shape that arrays of these shapes have together.

    Raises:
        ShapeError: two lengths of one axis differ, and none is one.
    """
    out: list[int] = []
    for shape in shapes:
        out[:0] = (1,) * (len(shape) - len(out))
        for i, n in enumerate(shape, len(out) - len(shape)):
            if out[i] == 1:
                out[i] = n
            elif n not in (1, out[i]):
                raise ShapeError(f"shapes {', '.join(str(tuple(s)) for s in shapes)} do not broadcast")
    return tuple(out)


@public
def broadcast_arrays(*arrays: Any) -> list[Tensor]:
    """Each broadcast to the shape that all have together."""
    tensors = [as_tensor(a) for a in arrays]
    shape = broadcast_shapes(*[t.shape for t in tensors])
    return [broadcast_to(t, shape) for t in tensors]


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


_permute = linear_map("permute_dims", _permute_transpose, forward=_permute_forward, batch=_permute_batch, view=True)


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
def moveaxis(x: Any, source: int | Sequence[int], destination: int | Sequence[int], /) -> Tensor:
    """Axes moved to other places, those not named in their order.

    Raises:
        ShapeError: there is no such axis, one is named twice, or the two sequences differ in length.
    """
    x = as_tensor(x)
    come, go = negative_axes(source, x.ndim), negative_axes(destination, x.ndim)
    if len(come) != len(go):
        raise ShapeError(f"moveaxis needs as many destinations as sources, got {source} and {destination}")
    order = [a for a in range(-x.ndim, 0) if a not in come]
    for to, a in sorted(zip(go, come)):
        order.insert(to + x.ndim, a)
    return _permute(x, axes=tuple(order))


def _flip_forward(ns: Any, x: Any, *, axis: Any) -> Any:
    return ns.xp.flip(x, axis=axis)


def _flip_transpose(ns: Any, g: Any, before: Any, *, axis: Any) -> Any:
    return ns.flip(g, axis=axis)


_flip = linear_map("flip", _flip_transpose, forward=_flip_forward, view=True)


@public
def flip(x: Any, /, axis: int | Sequence[int] | None = None) -> Tensor:
    """Elements in reverse order along `axis`."""
    x = as_tensor(x)
    return _flip(x, axis=negative_axes(axis, x.ndim))


@public
def fliplr(x: Any, /) -> Tensor:
    """Columns in reverse order."""
    return flip(of_rank(x, 2, "fliplr"), axis=1)


@public
def flipud(x: Any, /) -> Tensor:
    """Rows in reverse order."""
    return flip(of_rank(x, 1, "flipud"), axis=0)


@public
def rot90(x: Any, /, k: int = 1, axes: Sequence[int] = (0, 1)) -> Tensor:
    """Turned `k` times by 90 degrees in the plane of two axes, from the first towards the second."""
    x = of_rank(x, 2, "rot90")
    if len(axes) != 2:
        raise ShapeError(f"rot90 turns in the plane of two axes, got {tuple(axes)}")
    a, b = negative_axes(axes, x.ndim)
    if k % 4 == 2:
        return flip(x, axis=(a, b))
    if k % 4 == 1:
        return swapaxes(flip(x, axis=b), a, b)
    return flip(swapaxes(x, a, b), axis=b) if k % 4 else x


def of_rank(x: Any, least: int, what: str) -> Tensor:
    """`x` as a Tensor of at least so many axes; `what` is the function that needs them."""
    x = as_tensor(x)
    if x.ndim < least:
        raise ShapeError(f"{what} needs at least {least} axes, got shape {x.shape}")
    return x


def _roll_forward(ns: Any, x: Any, shift: tuple[int, ...], axis: tuple[int, ...]) -> Any:
    return ns.xp.roll(x, shift, axis=axis)


def _roll_transpose(ns: Any, g: Any, before: Any, *, shift: tuple[int, ...], axis: tuple[int, ...]) -> Any:
    return ns.roll(g, tuple([-s for s in shift]), axis=axis)


_roll = linear_map("roll", _roll_transpose, forward=_roll_forward)


@public
def roll(x: Any, /, shift: int | Sequence[int], axis: int | Sequence[int] | None = None) -> Tensor:
    """Elements moved on by `shift` along `axis`; what leaves at one end enters at the other.

    Without an axis those of the flattened array move. One shift serves several axes.

    Raises:
        ShapeError: there are several shifts, and not one for each axis.
    """
    x = as_tensor(x)
    if axis is None:
        return reshape(roll(ravel(x), shift, axis=0), x.shape)
    axes = tuple([negative_axis(a, x.ndim) for a in integers(axis)])  # an axis may be named twice
    shifts = integers(shift)
    if len(shifts) == 1 or len(axes) == 1:
        shifts, axes = shifts * len(axes), axes * len(shifts)
    if len(shifts) != len(axes):
        raise ShapeError(f"roll by {tuple(shifts)} along {len(axes)} axes: one shift for each axis is needed")
    total = dict.fromkeys(axes, 0)
    for a, s in zip(axes, shifts):
        total[a] += s
    return _roll(x, shift=tuple(total.values()), axis=tuple(total)) if total else x
