"""Convolution by matrix products, with channels last in memory.

Arrays are (N, C, H, W) to the outside; in memory those that are made here are (N, H, W, C). As in `linear`, the layout
is part of the speed: what a row of the kernel meets is then one piece of memory, and copying it costs little beside the
product. Samples are taken in blocks whose copies stay in the cache. Arrays that come in another layout are copied once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.lib.stride_tricks import as_strided

from fw_cpu.sharing import each, in_order

Array = Any
Pair = tuple[int, int]

_BLOCK = 1 << 19
"""Elements of the copies that one product reads: of more, they leave the cache; of fewer, calls begin to cost."""


def channels_last(x: Array) -> Array:
    """(N, C, H, W) as (N, H, W, C), contiguous; of the array's own memory if it can be."""
    x = x.transpose(0, 2, 3, 1)
    return x if x.flags.c_contiguous else x.copy(order="C")


def _images(x: Array, padding: Any) -> Array:
    """As `channels_last`, with zeros around."""
    (top, bottom), (left, right) = padding
    if not (top or bottom or left or right):
        return channels_last(x)
    n, c, h, w = x.shape
    out = np.zeros_like(x, shape=(n, h + top + bottom, w + left + right, c), order="C")
    out[:, top : top + h, left : left + w] = x.transpose(0, 2, 3, 1)
    return out


def _places(images: Array, kernel: Pair, stride: Pair, dilation: Pair) -> Array:
    """What the kernel meets at each place, without a copy: (N, H', W', rows, columns, C)."""
    n, h, w, c = images.shape
    (kh, kw), (sh, sw), (dh, dw) = kernel, stride, dilation
    p, q = (h - dh * (kh - 1) - 1) // sh + 1, (w - dw * (kw - 1) - 1) // sw + 1
    a, b, d, e = images.strides
    return as_strided(images, (n, p, q, kh, kw, c), (a, b * sh, d * sw, b * dh, d * dw, e))


def _blocks(n: int, rows: int, row: int) -> Iterator[tuple[slice, slice]]:
    """Samples, or rows of one, that belong to one product; `row` is the size of a copied row."""
    sample = max(rows * row, 1)
    if sample > 2 * _BLOCK:
        step = max(1, _BLOCK // row)
        for i in range(n):
            for j in range(0, rows, step):
                yield slice(i, i + 1), slice(j, min(j + step, rows))
        return
    step = max(1, _BLOCK // sample)
    for i in range(0, n, step):
        yield slice(i, min(i + step, n)), slice(0, rows)


def _copied(places: Array, groups: int) -> tuple[Array, bool]:
    """Places of a block as a matrix a group, and whether these are transposed: (groups, M, K), or (1, K, M)."""
    n, p, q, kh, kw, c = places.shape
    if groups > 1:
        a, b, d, e, f, s = places.strides
        own = c // groups
        parted = as_strided(places, (groups, n, p, q, kh, kw, own), (own * s, a, b, d, e, f, s))
        return parted.copy(order="C").reshape(groups, n * p * q, kh * kw * own), False
    if kw * c < q:  # runs along a row of the images are longer than along channels
        return places.transpose(3, 4, 5, 0, 1, 2).copy(order="C").reshape(1, kh * kw * c, n * p * q), True
    if places.flags.c_contiguous:
        return places.reshape(1, n * p * q, kh * kw * c), False
    return places.copy(order="C").reshape(1, n * p * q, kh * kw * c), False


def _by_tap(weight: Array, groups: int) -> Array:
    """(O, C, rows, columns) as (groups, rows · columns · C, O / groups)."""
    o, c, kh, kw = weight.shape
    parted = weight.reshape(groups, o // groups, c, kh, kw)
    return parted.transpose(0, 3, 4, 2, 1).reshape(groups, kh * kw * c, o // groups)


# Each function that ends in `_to` is given the array for its result, or None.


def conv2d(x: Array, weight: Array, bias: Array, *, stride: Pair, padding: Any, dilation: Pair, groups: int) -> Array:
    """The convolution, and a bias added."""
    return conv2d_to(None, x, weight, bias, stride=stride, padding=padding, dilation=dilation, groups=groups)


def conv2d_to(
    out: Array, x: Array, weight: Array, bias: Array, *, stride: Pair, padding: Any, dilation: Pair, groups: int
) -> Array:
    """`conv2d`, written to `out`, which has channels last in memory."""
    o, c, kh, kw = weight.shape
    places = _places(_images(x, padding), (kh, kw), stride, dilation)
    n, p, q = places.shape[:3]
    out = np.empty_like(x, shape=(n, p, q, o), order="C") if out is None else out.transpose(0, 2, 3, 1)
    if groups > 1 and c == o // groups == 1:
        return _depthwise(places, weight, bias, out)
    by_tap = _by_tap(weight, groups)
    row = None if bias is None else np.concatenate([bias] * q)

    def convolve(where: tuple[slice, slice]) -> None:
        samples, rows = where
        block, turned = _copied(places[samples, rows], groups)
        part = out[samples, rows]
        if groups > 1:
            found = np.matmul(block, by_tap)
            part[...] = found.transpose(1, 0, 2).reshape(part.shape)
        else:
            np.matmul(block[0].T if turned else block[0], by_tap[0], out=part.reshape(-1, o))
        if row is not None:
            whole = part.reshape(-1, q * o)
            whole += row

    each(convolve, _blocks(n, p, q * kh * kw * c * groups))
    return out.transpose(0, 3, 1, 2)


def _depthwise(places: Array, weight: Array, bias: Array, out: Array) -> Array:
    """A kernel for each channel: products without sums over channels."""
    by_tap = weight.reshape(len(weight), -1).T.copy()
    kw = places.shape[4]

    def convolve(where: tuple[slice, slice]) -> None:
        samples, rows = where
        part = out[samples, rows]
        for t, factors in enumerate(by_tap):
            met = places[samples, rows, :, t // kw, t % kw]
            if t:
                part += met * factors
            else:
                np.multiply(met, factors, out=part)
        if bias is not None:
            part += bias

    each(convolve, _blocks(len(out), out.shape[1], out.shape[2] * out.shape[3]))
    return out.transpose(0, 3, 1, 2)


def conv2d_dx(g: Array, weight: Array, *, size: Pair, stride: Pair, padding: Any, dilation: Pair, groups: int) -> Array:
    """The gradient of the images: each result times the kernel, added where the kernel was."""
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return conv2d_dx_to(None, g, weight, size=size, **geometry)


def conv2d_dx_to(
    out: Array,
    g: Array,
    weight: Array,
    *,
    size: Pair,
    stride: Pair,
    padding: Any,
    dilation: Pair,
    groups: int,
) -> Array:
    """`conv2d_dx`, written to `out`, which has channels last in memory."""
    o, c, kh, kw = weight.shape
    (top, bottom), (left, right) = padding
    h, w = size
    g = channels_last(g)
    n, p, q, _ = g.shape
    if out is not None:
        out = out.transpose(0, 2, 3, 1)
    if groups == kh == kw == 1 and (p, q) == tuple(size) and stride == (1, 1):
        rows_out = None if out is None else out.reshape(-1, c)
        out = np.matmul(g.reshape(-1, o), weight.reshape(o, c), out=rows_out)
        return out.reshape(n, h, w, c).transpose(0, 3, 1, 2)
    if out is None or top or bottom or left or right:
        whole = np.zeros_like(g, shape=(n, h + top + bottom, w + left + right, groups * c), order="C")
    else:
        whole = out
        whole.fill(0)
    _spread(g, weight, _places(whole, (kh, kw), stride, dilation)[:, :p, :q], groups)
    inner = whole[:, top : top + h, left : left + w]
    if out is None:
        out = np.ascontiguousarray(inner)
    elif whole is not out:
        np.copyto(out, inner)
    return out.transpose(0, 3, 1, 2)


def _spread(g: Array, weight: Array, met: Array, groups: int) -> None:
    """Each result times the kernel, added to what the kernel met."""
    o, c, kh, kw = weight.shape
    n, p, q, _ = g.shape
    per_tap = weight.reshape(groups, o // groups, c, kh * kw).transpose(3, 0, 1, 2).copy(order="C")

    def spread(where: tuple[slice, slice]) -> None:
        samples, rows = where
        part, target = g[samples, rows], met[samples, rows]
        results = part.reshape(-1, groups, o // groups).transpose(1, 0, 2) if groups > 1 else part.reshape(1, -1, o)
        found = np.empty((groups, results.shape[1], c), g.dtype)
        for t in range(kh * kw):
            np.matmul(results, per_tap[t], out=found)
            place = target[:, :, :, t // kw, t % kw]
            place += (found.transpose(1, 0, 2) if groups > 1 else found).reshape(place.shape)

    blocks = list(_blocks(n, p, 2 * q * max(groups * c, o)))
    if blocks and blocks[0][1] == slice(0, p):
        each(spread, blocks)
    else:  # what rows of one image meet overlaps
        of_one = len(blocks) // max(n, 1)
        each(lambda i: [spread(where) for where in blocks[i * of_one : (i + 1) * of_one]], range(n))


def conv2d_dw(g: Array, x: Array, *, kernel: Pair, stride: Pair, padding: Any, dilation: Pair, groups: int) -> Array:
    """The gradient of the weight."""
    geometry = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    return conv2d_dw_to(None, g, x, kernel=kernel, **geometry)


def conv2d_dw_to(
    out: Array, g: Array, x: Array, *, kernel: Pair, stride: Pair, padding: Any, dilation: Pair, groups: int
) -> Array:
    """`conv2d_dw`, written to `out`."""
    kh, kw = kernel
    places = _places(_images(x, padding), kernel, stride, dilation)
    g = channels_last(g)
    n, p, q, o = g.shape
    places = places[:, :p, :q]
    c = places.shape[5] // groups
    total = np.zeros_like(x, shape=(groups, o // groups, kh * kw * c), order="C")

    def multiply(where: tuple[slice, slice]) -> Array:
        samples, rows = where
        block, turned = _copied(places[samples, rows], groups)
        part = g[samples, rows].reshape(-1, groups, o // groups).transpose(1, 2, 0)
        return np.matmul(part, block.transpose(0, 2, 1) if turned else block)

    for part in in_order(multiply, _blocks(n, p, 2 * q * kh * kw * c * groups)):
        total += part
    found = total.reshape(o, kh, kw, c).transpose(0, 3, 1, 2)
    if out is None:
        return found.copy(order="C")
    np.copyto(out, found)
    return out


CONVOLUTION: dict[str, Callable[..., Any]] = {f.__name__: f for f in (conv2d, conv2d_dx, conv2d_dw)}
"""Kernels by their names."""
