"""Rows of convolution, pooling, attention and activations."""

from __future__ import annotations

from typing import Any

from generated import Array, Call, Draw, call, row

Settings = dict[str, Any]


def _pair(d: Draw, low: int, high: int) -> tuple[int, int]:
    return d.integer(low, high), d.integer(low, high)


def _convolution(d: Draw) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], Settings]:
    """The shapes of images, weight and results, and the geometry."""
    groups, kernel, stride, dilation = d.integer(1, 2), _pair(d, 1, 2), _pair(d, 1, 2), _pair(d, 1, 2)
    padding = tuple(_pair(d, 0, 1) for _ in range(2))
    size = tuple(k + e + b for k, e, b in zip(kernel, _pair(d, 0, 1), dilation))
    x = (0 if d.chance(0.08) else d.integer(1, 2), groups * d.integer(1, 2), *size)
    w = (groups * d.integer(1, 2), x[1] // groups, *kernel)
    spans = zip(size, kernel, stride, dilation, padding)
    out = (x[0], w[0], *[(n + sum(p) - g * (k - 1) - 1) // s + 1 for n, k, s, g, p in spans])
    return x, w, out, {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


def _conv2d(d: Draw) -> Call:
    x, w, _, settings = _convolution(d)
    bias = (d.array(w[:1]),) if d.chance() else ()
    return call("conv2d", d.either(x), d.either(w), *bias, **settings)


def _conv2d_dx(d: Draw) -> Call:
    x, w, out, settings = _convolution(d)
    return call("conv2d_dx", d.either(out), d.either(w), size=x[2:], **settings)


def _conv2d_dw(d: Draw) -> Call:
    x, w, out, settings = _convolution(d)
    return call("conv2d_dw", d.either(out), d.either(x), kernel=w[2:], **settings)


_NO_JAX = "its convolutions and windows are of another library than jax.numpy"

row("conv2d", _conv2d, complex=True, no_jax=_NO_JAX)
row("conv2d_dx", _conv2d_dx, complex=True, no_jax=_NO_JAX)
row("conv2d_dw", _conv2d_dw, complex=True, no_jax=_NO_JAX)


def _windows(d: Draw) -> tuple[tuple[int, ...], tuple[int, ...], Settings]:
    """The shapes of an array and of one number for each window, and the windows."""
    kernel, stride, dilation = _pair(d, 1, 2), _pair(d, 1, 2), _pair(d, 1, 2)
    padding = tuple((d.integer(0, k - 1), d.integer(0, k - 1)) for k in kernel)
    size = tuple(g * (k - 1) + 1 + e for k, g, e in zip(kernel, dilation, _pair(d, 0, 2)))
    lead = d.shape(0, 2)
    spans = zip(size, kernel, stride, dilation, padding)
    out = tuple((n + sum(p) - g * (k - 1) - 1) // s + 1 for n, k, s, g, p in spans)
    windows = {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}
    return (*lead, *size), (*lead, *out), windows


def _max_pool2d(d: Draw) -> Call:
    x, _, windows = _windows(d)
    return call("max_pool2d", d.distinct(x), **windows)


def _chosen(name: str) -> Any:
    """Linear in the first input; the second one, which says where, is a constant of the call."""

    def make(d: Draw) -> Call:
        x, out, windows = _windows(d)
        first: Array = d.array(out if name == "max_pool2d_put" else x)
        where = d.distinct(x)

        def fn(xp: Any, t: Any) -> Any:
            return getattr(xp, name)(t, xp.asarray(where, dtype=t.dtype), **windows)

        return Call(fn, (first,), f"{name} {windows}")

    return make


def _window_sum(d: Draw) -> Call:
    x, _, windows = _windows(d)
    return call("window_sum", d.array(x), **windows)


def _window_spread(d: Draw) -> Call:
    x, out, windows = _windows(d)
    return call("window_spread", d.array(out), size=x[-2:], **windows)


row("max_pool2d", _max_pool2d, no_jax=_NO_JAX)
row("max_pool2d_put", _chosen("max_pool2d_put"), no_jax=_NO_JAX)
row("max_pool2d_take", _chosen("max_pool2d_take"), no_jax=_NO_JAX)
row("window_sum", _window_sum, complex=True, no_jax=_NO_JAX)
row("window_spread", _window_spread, complex=True, no_jax=_NO_JAX)


def _attention(d: Draw) -> Call:
    lead, queries, keys, width = d.shape(0, 2), d.integer(1, 3), d.integer(1, 3), d.integer(1, 2)
    bias = ()
    if d.chance():
        shape = (*lead, queries, keys)
        bias = (d.array(shape[d.integer(0, len(shape)) :]),)
    arrays = d.array((*lead, queries, width)), d.array((*lead, keys, width)), d.array((*lead, keys, d.integer(1, 2)))
    return call("attention", *arrays, *bias, scale=0.7, causal=d.chance())


row("attention", _attention)
row("gelu", lambda d: call("gelu", d.real(d.shape())), no_jax="its gelu is of another library than jax.numpy")
