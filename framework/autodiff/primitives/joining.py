"""Arrays made of arrays, and arrays taken apart."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from framework.autodiff import convert
from framework.autodiff.convert import as_tensor
from framework.autodiff.kinds import integers, negative_axis
from framework.autodiff.namespace import ops
from framework.autodiff.primitive import expose, primitive, public
from framework.autodiff.primitives.shape import of_rank
from framework.autodiff.tensor import Tensor
from framework.errors import ShapeError

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
        grads.append(None if need is None else g[_range(start, start + n, axis)])
        start += n
    return tuple(grads)


def _range(start: int, stop: int, axis: int) -> tuple[Any, ...]:
    """The key of the elements from `start` up to `stop` along an axis, a negative number."""
    return (..., slice(start, stop), *(slice(None),) * (-axis - 1))


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
        tensors, axis = [ops.ravel(t) for t in tensors], 0
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
        raise ShapeError(f"stack needs one or more arrays of one shape, got {[t.shape for t in tensors]}")
    return concat([ops.expand_dims(t, axis=axis) for t in tensors], axis=axis)


@public
def append(x: Any, values: Any, /, axis: int | None = None) -> Tensor:
    """`values` joined to the end of `x`; both are flattened where no axis is given."""
    return concat([x, values], axis=axis)


@public
def atleast_1d(*arrays: Any) -> Any:
    """A 0-d array with one axis, others as they are; a tuple for several arrays."""
    made = tuple([ops.reshape(t, (1,)) if not t.ndim else t for t in _tensors(arrays)])
    return made if len(made) != 1 else made[0]


@public
def atleast_2d(*arrays: Any) -> Any:
    """Arrays of fewer than two axes as a row; a tuple for several arrays."""
    made = tuple([ops.reshape(t, (1,) * (2 - t.ndim) + t.shape) if t.ndim < 2 else t for t in _tensors(arrays)])
    return made if len(made) != 1 else made[0]


@public
def atleast_3d(*arrays: Any) -> Any:
    """A vector of n as (1, n, 1), a matrix as (m, n, 1), a number as (1, 1, 1); a tuple for several arrays."""
    made = []
    for t in _tensors(arrays):
        shape = (t.shape if t.ndim > 1 else (1, *t.shape) if t.ndim else (1, 1)) + (1,)
        made.append(ops.reshape(t, shape) if t.ndim < 3 else t)
    return tuple(made) if len(made) != 1 else made[0]


@public
def vstack(arrays: Sequence[Any], /) -> Tensor:
    """Arrays below each other; vectors are rows."""
    return concat([atleast_2d(t) for t in _tensors(arrays)], axis=0)


@public
def hstack(arrays: Sequence[Any], /) -> Tensor:
    """Arrays beside each other: along the second axis, vectors along their only one."""
    tensors = [atleast_1d(t) for t in _tensors(arrays)]
    return concat(tensors, axis=0 if tensors and tensors[0].ndim == 1 else 1)


@public
def dstack(arrays: Sequence[Any], /) -> Tensor:
    """Arrays behind each other, along the third axis."""
    return concat([atleast_3d(t) for t in _tensors(arrays)], axis=2)


@public
def column_stack(arrays: Sequence[Any], /) -> Tensor:
    """Vectors as the columns of a matrix; matrices beside each other."""
    tensors = [atleast_1d(t) for t in _tensors(arrays)]
    return concat([ops.expand_dims(t, axis=1) if t.ndim == 1 else t for t in tensors], axis=1)


# -- taking apart ----------------------------------------------------------------------------------
# In two, and these in two again: the gradients of n parts are joined in log n sweeps over the array, where
# the transposes of n slices would fill an array of the whole shape for each.


def _split_forward(ns: Any, x: Any, *, at: int, axis: int) -> Any:
    return x[_range(0, at, axis)], x[_range(at, x.shape[axis], axis)]


def _split_vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any, *, at: int, axis: int) -> Any:
    first, second = g
    if first is not None and second is not None:
        return (ns.concat([first, second], axis=axis),)
    shape = needs[0].shape
    whole = (slice(None),) * (len(shape) + axis)
    part = slice(0, at) if second is None else slice(at, shape[axis])
    parts = (*whole, part, *(slice(None),) * (-axis - 1))
    return (ns.index_add_parts(first if second is None else second, shape=shape, parts=parts),)


def _split_jvp(ns: Any, tangents: Any, out: Any, x: Any, *, at: int, axis: int) -> Any:
    return ns.split_at(tangents[0], at=at, axis=axis)


_split_at = primitive("split_at", arity=1, outputs=2, forward=_split_forward, vjp=_split_vjp, jvp=_split_jvp, view=True)
expose("split_at", _split_at)


def _cut(x: Tensor, places: Sequence[int], axis: int) -> list[Tensor]:
    """The parts of `x` between neighbouring `places`, which rise from 0 to its length."""
    if len(places) == 2:
        return [x]
    middle = len(places) // 2
    first, second = _split_at(x, at=places[middle] - places[0], axis=axis)
    return [*_cut(first, places[: middle + 1], axis), *_cut(second, places[middle:], axis)]


_BLOCK = 8  # so many slices of a block cost less than parting it further


@public
def unstack(x: Any, /, axis: int = 0) -> tuple[Tensor, ...]:
    """The slices of `x` along `axis`, without it: what `stack` joins."""
    x = as_tensor(x)
    a = negative_axis(axis, x.ndim)
    n = x.shape[a]
    blocks = _cut(x, [*range(0, n, _BLOCK), n], a) if n else []
    rest = (slice(None),) * (-a - 1)
    return tuple([block[(..., i, *rest)] for block in blocks for i in range(block.shape[a])])


def _plain(given: Any) -> Any:
    """An array, such as the sums that end the parts, as a number or a list."""
    return given.tolist() if hasattr(given, "tolist") else given


@public
def split(x: Any, indices_or_sections: int | Sequence[int], /, axis: int = 0) -> list[Tensor]:
    """A number of equal parts along `axis`, or the parts between the places given.

    Raises:
        ShapeError: the axis has no such number of equal parts.
    """
    x = as_tensor(x)
    count = _plain(indices_or_sections)
    if isinstance(count, int):
        n = x.shape[negative_axis(axis, x.ndim)]
        if count < 1 or n % count:
            raise ShapeError(f"axis {axis} of shape {x.shape} has no {count} equal parts; array_split allows unequal")
    return array_split(x, indices_or_sections, axis=axis)


@public
def array_split(x: Any, indices_or_sections: int | Sequence[int], /, axis: int = 0) -> list[Tensor]:
    """As `split`; where a number of parts does not divide the axis the first ones are longer by one."""
    x = as_tensor(x)
    a = negative_axis(axis, x.ndim)
    n = x.shape[a]
    count = _plain(indices_or_sections)
    if not isinstance(count, int):
        places = [0, *integers(count), n]
        if sorted(places) != places or places[-2] > n:
            return [x[_range(i, j, a)] for i, j in pairwise(places)]
        return _cut(x, places, a)
    if count < 1:
        raise ShapeError(f"array_split into {count} parts; at least 1 is needed")
    return _cut(x, [i * (n // count) + min(i, n % count) for i in range(count + 1)], a)


@public
def vsplit(x: Any, indices_or_sections: int | Sequence[int], /) -> list[Tensor]:
    """`split` along the first axis, of at least two."""
    return split(of_rank(x, 2, "vsplit"), indices_or_sections, axis=0)


@public
def hsplit(x: Any, indices_or_sections: int | Sequence[int], /) -> list[Tensor]:
    """`split` along the second axis; that of a vector along its only one."""
    x = of_rank(x, 1, "hsplit")
    return split(x, indices_or_sections, axis=1 if x.ndim > 1 else 0)


@public
def dsplit(x: Any, indices_or_sections: int | Sequence[int], /) -> list[Tensor]:
    """`split` along the third axis."""
    return split(of_rank(x, 3, "dsplit"), indices_or_sections, axis=2)
