"""Rows of the functions that make, move, join and pick elements."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from generated import Call, Draw, Shape, call, resolve, row

# -- making ------------------------------------------------------------------------------------------------


def _copied(name: str) -> Callable[[Draw], Call]:
    return lambda d: call(name, d.array(d.shape()))


for _name in ("asarray", "array", "ravel", "atleast_1d", "atleast_2d", "atleast_3d"):
    row(_name, _copied(_name), complex=True)


def _to_device(d: Draw) -> Call:
    """To where it is; between backends is a matter for `test_devices`."""
    return Call(lambda xp, x: xp.to_device(x, getattr(x, "device", "")), (d.array(d.shape()),), "to_device")


row("to_device", _to_device, complex=True)


def _triangle(name: str) -> Callable[[Draw], Call]:
    return lambda d: call(name, d.array(d.shape(2, 3)), k=d.integer(-2, 2))


for _name in ("tril", "triu"):
    row(_name, _triangle(_name), complex=True)


def _meshgrid(d: Draw) -> Call:
    arrays = [d.array((d.integer(0, 3),)) for _ in range(d.integer(1, 3))]
    return call("meshgrid", *arrays, indexing=d.pick(("xy", "ij")))


row("meshgrid", _meshgrid, complex=True)


def _linspace(d: Draw) -> Call:
    num, endpoint = d.integer(0, 4), d.chance(0.7)
    if d.chance(0.3):
        return Call(lambda xp, x: xp.linspace(x, 3.0, num, endpoint=endpoint), (d.array(()),), f"linspace to 3, {num}")
    return Call(
        lambda xp, x, y: xp.linspace(x, y, num, endpoint=endpoint),
        (d.array(()), d.array(())),
        f"linspace {num} endpoint={endpoint}",
    )


row("linspace", _linspace, complex=True)


def _logspace(d: Draw) -> Call:
    num, base = d.integer(1, 4), d.pick((2.0, 10.0))
    return Call(lambda xp, x, y: xp.logspace(x, y, num, base=base), (d.real(()), d.real(())), f"logspace {num} {base}")


row("logspace", _logspace)


def _full(d: Draw) -> Call:
    shape = d.shape()
    return Call(lambda xp, x: xp.full(shape, x), (d.array(()),), f"full {shape}")


def _full_like(d: Draw) -> Call:
    other = np.zeros(d.shape())
    return Call(lambda xp, x: xp.full_like(xp.asarray(other, dtype=x.dtype), x), (d.array(()),), "full_like")


row("full", _full, complex=True)
row("full_like", _full_like, complex=True)


# -- other shapes, other orders ----------------------------------------------------------------------------


def _factors(d: Draw, n: int) -> Shape:
    """A shape of `n` elements."""
    if n == 0:
        return d.pick(((0,), (2, 0), (0, 1, 3)))
    shape = []
    while n > 1:
        divisor = d.pick([k for k in range(1, n + 1) if n % k == 0])
        shape.append(divisor)
        n //= divisor
    return (*shape, *((1,) if d.chance(0.3) else ()))


def _reshape(d: Draw) -> Call:
    x = d.array(d.shape())
    shape = list(_factors(d, x.size))
    if x.size and shape and d.chance(0.4):
        shape[d.integer(0, len(shape) - 1)] = -1
    return Call(lambda xp, x: xp.reshape(x, tuple(shape)), (x,), f"reshape to {shape}")


def _flatten(d: Draw) -> Call:
    x = d.array(d.shape(1, 4))
    start = d.integer(0, x.ndim - 1)
    end = d.integer(start, x.ndim - 1) - (x.ndim if d.chance() else 0)
    return call("flatten", x, start_dim=start, end_dim=end)


def _squeeze(d: Draw) -> Call:
    shape = list(d.shape(0, 2))
    at = sorted(d.integer(0, len(shape)) for _ in range(d.integer(1, 2)))
    for i in reversed(at):
        shape.insert(i, 1)
    ones = [i for i, n in enumerate(shape) if n == 1]
    axis = tuple(i - (len(shape) if d.chance() else 0) for i in ones)
    return call("squeeze", d.array(tuple(shape)), axis=axis if d.chance() else axis[0])


def _expand_dims(d: Draw) -> Call:
    x = d.array(d.shape())
    return call("expand_dims", x, axis=d.integer(-x.ndim - 1, x.ndim))


def _broadcast_to(d: Draw) -> Call:
    shape = d.shape()
    before = tuple(1 if d.chance(0.4) else n for n in shape[d.integer(0, len(shape)) :])
    return Call(lambda xp, x: xp.broadcast_to(x, shape), (d.array(before),), f"broadcast_to {shape}")


def _broadcast_arrays(d: Draw) -> Call:
    return call("broadcast_arrays", *[d.array(s) for s in d.broadcastable(d.integer(1, 3))])


def _permute_dims(d: Draw) -> Call:
    x = d.array(d.shape(0, 4))
    return Call(lambda xp, x, axes=d.permutation(x.ndim): xp.permute_dims(x, axes), (x,), "permute_dims")


def _moveaxis(d: Draw) -> Call:
    x = d.array(d.shape(1, 4))
    n = d.integer(1, x.ndim)
    source, to = d.permutation(x.ndim)[:n], d.permutation(x.ndim)[:n]
    if n == 1:
        source, to = source[0], to[0]
    return Call(lambda xp, x: xp.moveaxis(x, source, to), (x,), f"moveaxis {source} {to}")


def _swapaxes(d: Draw) -> Call:
    x = d.array(d.shape(1, 3))
    a, b = d.axis(x.ndim), d.axis(x.ndim)
    return Call(lambda xp, x: xp.swapaxes(x, a, b), (x,), f"swapaxes {a} {b}")


def _flip(d: Draw) -> Call:
    x = d.array(d.shape())
    return call("flip", x, axis=d.axes(x.ndim))


def _roll(d: Draw) -> Call:
    x = d.array(d.shape())
    axis = d.axes(x.ndim)
    shift: Any = d.integer(-4, 4) if axis is None or isinstance(axis, int) or d.chance(0.3) else None
    if shift is None:
        shift = tuple(d.integer(-4, 4) for _ in axis)
    return Call(lambda xp, x: xp.roll(x, shift, axis=axis), (x,), f"roll {shift} axis={axis}")


def _rot90(d: Draw) -> Call:
    x = d.array(d.shape(2, 3))
    axes = tuple(int(a) for a in d.rng.permutation(x.ndim)[:2])
    return call("rot90", x, k=d.integer(-1, 4), axes=axes)


for _maker in (
    _reshape, _flatten, _squeeze, _expand_dims, _broadcast_to, _broadcast_arrays, _permute_dims, _moveaxis, _swapaxes,
    _flip, _roll, _rot90,
):  # fmt: skip
    row(_maker.__name__[1:], _maker, complex=True)
for _name in ("matrix_transpose", "fliplr", "flipud"):
    row(_name, lambda d, name=_name: call(name, d.array(d.shape(2, 3))), complex=True)

# -- more and fewer ----------------------------------------------------------------------------------------


def _pieces(d: Draw, axis: int, shape: Shape, count: int) -> list[Any]:
    """Arrays that differ along one axis."""
    arrays = []
    for _ in range(count):
        lengths = list(shape)
        lengths[axis] = d.integer(0, 3)
        arrays.append(d.either(tuple(lengths)))
    return arrays


def _concat(d: Draw) -> Call:
    if d.chance(0.2):
        arrays = [d.array(d.shape(1, 2)) for _ in range(2)]
        return Call(lambda xp, *xs: xp.concat(xs, axis=None), tuple(arrays), "concat axis=None")
    shape = d.shape(1, 3)
    axis = d.axis(len(shape))
    arrays = _pieces(d, axis, shape, d.integer(1, 3))
    return Call(lambda xp, *xs: xp.concat(xs, axis=axis), tuple(arrays), f"concat axis={axis}")


def _stack(d: Draw) -> Call:
    shape = d.shape()
    axis = d.integer(-len(shape) - 1, len(shape))
    arrays = [d.either(shape) for _ in range(d.integer(1, 3))]
    return Call(lambda xp, *xs: xp.stack(xs, axis=axis), tuple(arrays), f"stack axis={axis}")


def _stacked(name: str) -> Callable[[Draw], Call]:
    def make(d: Draw) -> Call:
        shape = d.shape(1 if name == "column_stack" else 0, 2 if name == "column_stack" else 3)
        arrays = [d.array(shape) for _ in range(d.integer(1, 3))]
        return Call(lambda xp, *xs: resolve(xp, name)(xs), tuple(arrays), name)

    return make


def _append(d: Draw) -> Call:
    shape = d.shape(1, 3)
    axis = d.axis(len(shape))
    x, y = _pieces(d, axis, shape, 2)
    return call("append", x, y, axis=axis if d.chance(0.7) else None)


def _unstack(d: Draw) -> Call:
    shape = d.shape(1, 3, 1)
    return call("unstack", d.array(shape), axis=d.axis(len(shape)))


def _split(name: str) -> Callable[[Draw], Call]:
    def make(d: Draw) -> Call:
        shape = d.shape(1, 3, 1)
        axis = d.axis(len(shape))
        n = shape[axis]
        equal = [k for k in range(1, n + 1) if n % k == 0] if name == "split" else [1, 2, 3]
        where = d.pick(equal) if d.chance() else sorted(d.integer(0, n) for _ in range(2))
        return Call(
            lambda xp, x: resolve(xp, name)(x, where, axis=axis), (d.array(shape),), f"{name} {where} axis={axis}"
        )

    return make


def _split_along(name: str, rank: int) -> Callable[[Draw], Call]:
    return lambda d: Call(lambda xp, x: resolve(xp, name)(x, [1]), (d.array(d.shape(rank, 3, 1)),), name)


def _repeat(d: Draw) -> Call:
    x = d.array(d.shape(0, 3))
    axis = None if not x.ndim or d.chance(0.3) else d.axis(x.ndim)
    n = x.size if axis is None else x.shape[axis]
    repeats: Any = d.integer(0, 3)
    if d.chance() and x.ndim:
        repeats = d.integers((n,), 0, 2)
    return Call(lambda xp, x: xp.repeat(x, repeats, axis=axis), (x,), f"repeat {repeats} axis={axis}")


def _tile(d: Draw) -> Call:
    x = d.array(d.shape(0, 2))
    times = tuple(d.integer(0, 2) for _ in range(d.integer(0, 3)))
    return Call(lambda xp, x: xp.tile(x, times), (x,), f"tile {times}")


def _pad(d: Draw) -> Call:
    x = d.array(d.shape(1, 2, 2))
    mode = d.pick(("constant", "constant", "edge", "reflect", "wrap", "symmetric"))
    width = d.pick((1, (1, 0), tuple((d.integer(0, 1), d.integer(0, 1)) for _ in x.shape)))
    settings = {"constant_values": 0.5} if mode == "constant" and d.chance() else {}
    return Call(lambda xp, x: xp.pad(x, width, mode=mode, **settings), (x,), f"pad {width} {mode} {settings}")


for _maker in (_concat, _stack, _append, _unstack, _repeat, _tile, _pad):
    row(_maker.__name__[1:], _maker, complex=True)
for _name in ("vstack", "hstack", "dstack", "column_stack"):
    row(_name, _stacked(_name))
for _name in ("split", "array_split"):
    row(_name, _split(_name))
for _name, _rank in (("hsplit", 2), ("vsplit", 2), ("dsplit", 3)):
    row(_name, _split_along(_name, _rank))

# -- by index ----------------------------------------------------------------------------------------------


def _take(d: Draw) -> Call:
    shape = d.shape(1, 3, 1)
    axis = d.axis(len(shape))
    indices = d.integers(d.shape(1, 1) if d.chance(0.7) else d.shape(0, 2), -shape[axis], shape[axis] - 1)
    return Call(lambda xp, x, i: xp.take(x, i, axis=axis), (d.array(shape), indices), f"take axis={axis}")


def _take_along_axis(d: Draw) -> Call:
    shape = d.shape(1, 3, 1)
    axis = d.axis(len(shape))
    lengths = list(shape)
    lengths[axis] = d.integer(0, 4)
    indices = d.integers(tuple(lengths), 0, shape[axis] - 1)
    return Call(lambda xp, x, i: xp.take_along_axis(x, i, axis=axis), (d.array(shape), indices), f"axis={axis}")


def _key(d: Draw, shape: Shape) -> tuple[tuple[Any, ...], list[Any]]:
    """Parts of a key, with `HOLE` where index arrays belong, and these arrays."""
    parts: list[Any] = []
    arrays: list[Any] = []
    together = d.shape(0, 2)
    for n in shape[: d.integer(0, len(shape))]:
        if d.chance(0.15):
            parts.append(None)
        kind = d.pick(("integer", "slice", "slice", "array", "all"))
        if kind == "integer" and n:
            parts.append(d.integer(-n, n - 1))
        elif kind == "array" and n:
            parts.append(HOLE)
            arrays.append(d.integers(together[d.integer(0, len(together)) :], -n, n - 1))
        elif kind == "slice":
            step = d.pick((1, 2, -1, -2))
            parts.append(slice(None, None, step) if d.chance() else slice(d.integer(-n, n), d.integer(-n, n), step))
        else:
            parts.append(slice(None))
    if len(parts) < len(shape) and d.chance(0.3):
        parts.append(...)
    return tuple(parts), arrays


HOLE = "index array"


def _filled(parts: tuple[Any, ...], arrays: Any) -> tuple[Any, ...]:
    it = iter(arrays)
    return tuple(next(it) if p is HOLE else p for p in parts)


def _getitem(d: Draw) -> Call:
    shape = d.shape(0, 4)
    parts, arrays = _key(d, shape)
    return Call(lambda xp, x, *i: xp.getitem(x, _filled(parts, i)), (d.array(shape), *arrays), f"x[{parts}]")


def _getitem_mask(d: Draw) -> Call:
    shape = d.shape(1, 3)
    mask = d.bools(shape[: d.integer(1, len(shape))])
    return Call(lambda xp, x: xp.getitem(x, mask), (d.array(shape),), "x[mask]")


def _setitem(d: Draw) -> Call:
    """No place is written twice, as either value might remain."""
    shape = d.shape(0, 3)
    parts, arrays = _key(d, shape)
    places = np.arange(math.prod(shape)).reshape(shape)
    chosen = places[_filled(parts, arrays)]
    if np.unique(chosen).size != chosen.size:
        parts, arrays = parts[:0], []
        chosen = places[parts]
    value = d.array(tuple(1 if d.chance(0.2) else n for n in chosen.shape[d.integer(0, chosen.ndim) :]))
    return Call(
        lambda xp, x, v, *i: xp.setitem(x, _filled(parts, i), v), (d.array(shape), value, *arrays), f"x[{parts}] = v"
    )


def _scatter_add(d: Draw) -> Call:
    shape = d.shape(1, 3, 1)
    indices = d.integers(d.shape(0, 2), -shape[0], shape[0] - 1)
    return call("scatter_add", d.array(shape), indices, d.array((*indices.shape, *shape[1:])))


for _maker in (_take, _take_along_axis, _getitem, _setitem, _scatter_add):
    row(_maker.__name__[1:], _maker, complex=True)
row("getitem by mask", _getitem_mask, batchable="the size of a selection differs by sample")


def _diagonals(name: str) -> Callable[[Draw], Call]:
    def make(d: Draw) -> Call:
        shape = d.shape(2, 3)
        a, b = (int(i) for i in d.rng.permutation(len(shape))[:2])
        return call(name, d.array(shape), offset=d.integer(-2, 2), axis1=a, axis2=b - (len(shape) if d.chance() else 0))

    return make


for _name in ("diagonal", "trace"):
    row(_name, _diagonals(_name), complex=True)


def _select(d: Draw) -> Call:
    shapes = d.broadcastable(5)
    conditions, choices = [d.bools(s) for s in shapes[:2]], [d.array(s) for s in shapes[2:]]
    if d.chance(0.3):
        choices[2] = d.array(())
    return Call(lambda xp, c0, c1, x, y, z: xp.select([c0, c1], [x, y], z), (*conditions, *choices), "select")


row("select", _select, complex=True)
row("diag", lambda d: call("diag", d.array(d.shape(1, 2, 1)), k=d.integer(-1, 1)), complex=True)
