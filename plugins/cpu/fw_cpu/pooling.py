"""Pooling by rows, then by columns, in whatever layout the array has."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fw_cpu.sharing import each

Array = Any
Pair = tuple[int, int]


def _padded(x: Array, padding: Any, value: Any) -> Array:
    """`x` with a value around its last two axes, in its own layout."""
    if not any(padding[0] + padding[1]):
        return x
    (top, bottom), (left, right) = padding
    h, w = x.shape[-2:]
    out = np.empty_like(x, shape=(*x.shape[:-2], h + top + bottom, w + left + right))
    out[...] = value
    out[..., top : top + h, left : left + w] = x
    return out


def _lowest(x: Array) -> Any:
    return -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min


def _taps(n: int, kernel: int, stride: int, dilation: int) -> list[slice]:
    """For each element of the window along one axis, the places that it meets."""
    out = (n - dilation * (kernel - 1) - 1) // stride + 1
    return [slice(k * dilation, k * dilation + (out - 1) * stride + 1, stride) for k in range(kernel)]


def _all(x: Array, kernel: Pair, stride: Pair, dilation: Pair) -> tuple[list[Any], list[Any]]:
    """The taps along rows and along columns, as keys."""
    rows, columns = (_taps(*args) for args in zip(x.shape[-2:], kernel, stride, dilation))
    return [(..., r, slice(None)) for r in rows], [(..., c) for c in columns]


_BLOCK = 1 << 18
"""Elements that are in work at a time: what is computed in between stays in the cache."""


def _blocks(x: Array) -> list[slice]:
    """Blocks along the first axis."""
    if x.ndim == 2:
        return [slice(None)]
    step = max(1, _BLOCK // max(x[:1].size, 1))
    return [slice(i, i + step) for i in range(0, len(x), step)]


def _pooled(
    ufunc: Any, x: Array, value: Any, out: Array, *, kernel: Pair, stride: Pair, padding: Any, dilation: Pair
) -> Array:
    """Each window reduced by a ufunc, with `value` around; written to `out`, if that is an array."""
    size = tuple(
        (n + sum(around) - d * (k - 1) - 1) // s + 1
        for n, k, s, around, d in zip(x.shape[-2:], kernel, stride, padding, dilation)
    )
    if out is None:
        out = np.empty_like(x, shape=(*x.shape[:-2], *size))

    def pool(block: slice) -> None:
        part = _padded(x[block], padding, value)
        rows, columns = _all(part, kernel, stride, dilation)
        _reduced(ufunc, _reduced(ufunc, part, rows), columns, out[block])

    each(pool, _blocks(x))
    return out


def _reduced(ufunc: Any, x: Array, keys: list[Any], out: Array = None) -> Array:
    """The parts of x at the keys, reduced."""
    if len(keys) == 1:
        if out is None:
            return x[keys[0]]
        out[...] = x[keys[0]]
        return out
    out = ufunc(x[keys[0]], x[keys[1]], out=out)
    for key in keys[2:]:
        ufunc(out, x[key], out=out)
    return out


def max_pool2d(x: Array, *, kernel: Pair, stride: Pair, padding: Any, dilation: Pair) -> Array:
    """The largest element of each window."""
    return max_pool2d_to(None, x, kernel=kernel, stride=stride, padding=padding, dilation=dilation)


def max_pool2d_to(out: Array, x: Array, **windows: Any) -> Array:
    """`max_pool2d`, written to `out`."""
    return _pooled(np.maximum, x, _lowest(x), out, **windows)


def max_pool2d_put(g: Array, x: Array, *, kernel: Pair, stride: Pair, padding: Any, dilation: Pair) -> Array:
    """`g` at the places of the largest elements, the first one row by row: by columns of each row, then by rows."""
    out = np.empty_like(x, dtype=g.dtype)
    return max_pool2d_put_to(out, g, x, kernel=kernel, stride=stride, padding=padding, dilation=dilation)


def max_pool2d_put_to(
    out: Array, g: Array, x: Array, *, kernel: Pair, stride: Pair, padding: Any, dilation: Pair
) -> Array:
    """`max_pool2d_put`, written to `out`."""
    (top, _), (left, _) = padding
    h, w = x.shape[-2:]
    apart = [s >= d * (k - 1) + 1 for s, k, d in zip(stride, kernel, dilation)]

    def put(block: slice) -> None:
        part = _padded(x[block], padding, _lowest(x))
        rows, columns = _all(part, kernel, stride, dilation)
        best = _reduced(np.maximum, part, columns)
        over = np.empty_like(best, dtype=g.dtype)
        largest = _reduced(np.maximum, best, rows)
        _put(_in_order(g[block], largest), best, largest, rows, apart[0], over)
        whole = part.shape == out[block].shape
        into = out[block] if whole else np.empty_like(part, dtype=g.dtype)
        _put(over, part, best, columns, apart[1], into)
        if not whole:
            out[block] = into[..., top : top + h, left : left + w]

    each(put, _blocks(x))
    return out


def _in_order(g: Array, like: Array) -> Array:
    """`g` with its elements in memory as those of another array of this shape."""
    if g.strides == like.strides:
        return g
    made = np.empty_like(like, dtype=g.dtype)
    np.copyto(made, g)
    return made


def _put(g: Array, x: Array, best: Array, keys: list[Any], apart: bool, out: Array) -> None:
    """`g` where the first of the parts of `x` equals `best`; `apart`, no place is met twice."""
    if not apart or sum([x[key].size for key in keys]) < x.size:
        out[...] = 0
    rest = g
    for key in keys[:-1]:
        share = np.multiply(rest, np.equal(x[key], best))
        if apart:
            out[key] = share
        else:
            out[key] += share
        rest = np.subtract(rest, share, out[keys[-1]] if apart and key is keys[-2] else None)
    if not apart:
        out[keys[-1]] += rest
    elif rest is g:
        out[keys[-1]] = rest


def max_pool2d_take(t: Array, x: Array, *, kernel: Pair, stride: Pair, padding: Any, dilation: Pair) -> Array:
    """The elements of `t` at the places of the largest ones of `x`."""
    x, t = _padded(x, padding, _lowest(x)), _padded(t, padding, 0)
    rows, columns = _all(x, kernel, stride, dilation)
    best = _reduced(np.maximum, x, columns)
    along = _take(t, x, best, columns)
    return _take(along, best, _reduced(np.maximum, best, rows), rows)


def _take(t: Array, x: Array, best: Array, keys: list[Any]) -> Array:
    out = t[keys[-1]].copy(order="K")
    for key in keys[-2::-1]:
        np.copyto(out, t[key], where=x[key] == best)
    return out


def window_sum(x: Array, *, kernel: Pair, stride: Pair, padding: Any, dilation: Pair) -> Array:
    """The sum of each window."""
    return window_sum_to(None, x, kernel=kernel, stride=stride, padding=padding, dilation=dilation)


def window_sum_to(out: Array, x: Array, **windows: Any) -> Array:
    """`window_sum`, written to `out`."""
    return _pooled(np.add, x, 0, out, **windows)


def window_spread(g: Array, *, size: Pair, kernel: Pair, stride: Pair, padding: Any, dilation: Pair) -> Array:
    """`g` added wherever its window was."""
    (top, bottom), (left, right) = padding
    h, w = size
    like = np.empty_like(g, shape=(*g.shape[:-2], h + top + bottom, w + left + right))
    rows, columns = _all(like, kernel, stride, dilation)
    over = np.zeros_like(g, shape=(*like.shape[:-2], like.shape[-2], g.shape[-1]))
    for key in rows:
        place = over[key]
        place += g
    like[...] = 0
    for key in columns:
        place = like[key]
        place += over
    return like[..., top : top + h, left : left + w]


POOLING: dict[str, Callable[..., Any]] = {
    f.__name__: f for f in (max_pool2d, max_pool2d_put, max_pool2d_take, window_sum, window_spread)
}
"""Kernels by their names."""
