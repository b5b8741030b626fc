"""Samples of convolution, pooling, attention and activations."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from framework.testing.sampling import Arrays, Draw, Sample, Table, also_complex, drawn

_NONE = ((0, 0), (0, 0))

# -- convolution -----------------------------------------------------------------------------------------


def _geometry(
    stride: tuple[int, int] = (1, 1), padding: Any = _NONE, dilation: tuple[int, int] = (1, 1), groups: int = 1
) -> dict[str, Any]:
    return {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


def _size(shape: tuple[int, ...], kernel: Any, p: dict[str, Any]) -> tuple[int, ...]:
    spans = zip(shape[-2:], kernel, p["stride"], p["padding"], p["dilation"])
    return tuple((n + sum(pad) - d * (k - 1) - 1) // s + 1 for n, k, s, pad, d in spans)


_CONVOLUTIONS: tuple[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]], ...] = (
    ((2, 2, 4, 3), (3, 2, 3, 2), _geometry()),
    ((2, 3, 3, 4), (2, 3, 1, 1), _geometry()),
    ((1, 2, 4, 5), (2, 2, 2, 3), _geometry((2, 1), ((1, 1), (0, 2)))),
    ((2, 2, 5, 4), (2, 2, 2, 2), _geometry((2, 3), ((1, 0), (2, 1)), (2, 1))),
    ((2, 4, 3, 3), (6, 2, 2, 2), _geometry(padding=((1, 1), (1, 1)), groups=2)),
    ((2, 3, 3, 3), (3, 1, 2, 2), _geometry((2, 2), groups=3)),
    ((0, 2, 3, 3), (3, 2, 2, 2), _geometry()),
)
"""Shapes of images and weight, and the geometry."""


def _conv_sample(number: int, x: tuple[int, ...], w: tuple[int, ...], p: dict[str, Any]) -> Sample:
    """Every second one without a bias."""
    if number % 2 == 0:
        return Sample(drawn("signed", x, w, (w[0],)), p)
    return Sample(lambda d: (d.signed(*x), d.signed(*w), None), p)


def _result(x: tuple[int, ...], w: tuple[int, ...], p: dict[str, Any]) -> tuple[int, ...]:
    return (x[0], w[0], *_size(x, w[2:], p))


def _conv_places(
    shape: tuple[int, ...], w: tuple[int, ...], p: dict[str, Any]
) -> Iterator[tuple[tuple[int, int], tuple[Any, ...]]]:
    """Each result's row and column, and the part of padded images (N, groups, C, H, W) that it is made of."""
    (sh, sw), (dh, dw) = p["stride"], p["dilation"]
    for i, j in np.ndindex(*_size(shape, w[2:], p)):
        rows, columns = (
            slice(k * s, k * s + d * (n - 1) + 1, d) for k, s, d, n in zip((i, j), (sh, sw), (dh, dw), w[2:])
        )
        yield (i, j), (..., rows, columns)


def _in_groups(x: Any, groups: int, axis: int = 1) -> Any:
    """Axis `axis` parted into the groups and the channels of each."""
    return x.reshape(*x.shape[:axis], groups, x.shape[axis] // groups, *x.shape[axis + 1 :])


def _conv2d(x: Any, weight: Any, bias: Any, **p: Any) -> Any:
    images = _in_groups(np.pad(x, ((0, 0), (0, 0), *p["padding"])), p["groups"])
    w = _in_groups(weight, p["groups"], 0)
    out = np.zeros((*images.shape[:2], w.shape[1], *_size(x.shape, weight.shape[2:], p)), np.result_type(x, weight))
    for (i, j), part in _conv_places(x.shape, weight.shape, p):
        out[..., i, j] = np.einsum("ngcij,gocij->ngo", images[part], w)
    out = out.reshape(len(x), len(weight), *out.shape[3:])
    return out if bias is None else out + bias[:, None, None]


def _conv2d_dx(g: Any, weight: Any, *, size: Any, **p: Any) -> Any:
    shape = (len(g), weight.shape[1] * p["groups"], *size)
    (top, _), (left, _) = p["padding"]
    images = _in_groups(
        np.pad(np.zeros(shape, np.result_type(g, weight)), ((0, 0), (0, 0), *p["padding"])), p["groups"]
    )
    g, w = _in_groups(g, p["groups"]), _in_groups(weight, p["groups"], 0)
    for (i, j), part in _conv_places(shape, weight.shape, p):
        images[part] += np.einsum("ngo,gocij->ngcij", g[..., i, j], w)
    return images[..., top : top + size[0], left : left + size[1]].reshape(shape)


def _conv2d_dw(g: Any, x: Any, *, kernel: Any, **p: Any) -> Any:
    images = _in_groups(np.pad(x, ((0, 0), (0, 0), *p["padding"])), p["groups"])
    shape = (g.shape[1], images.shape[2], *kernel)
    g = _in_groups(g, p["groups"])
    total = np.zeros((p["groups"], g.shape[2], *shape[1:]), np.result_type(g, x))
    for (i, j), part in _conv_places(x.shape, shape, p):
        total += np.einsum("ngo,ngcij->gocij", g[..., i, j], images[part])
    return total.reshape(shape)


_CONVOLUTION: Table = {
    "conv2d": tuple(_conv_sample(i, *shapes) for i, shapes in enumerate(_CONVOLUTIONS)),
    "conv2d_dx": tuple(Sample(drawn("signed", _result(x, w, p), w), {**p, "size": x[2:]}) for x, w, p in _CONVOLUTIONS),
    "conv2d_dw": tuple(
        Sample(drawn("signed", _result(x, w, p), x), {**p, "kernel": w[2:]}) for x, w, p in _CONVOLUTIONS
    ),
}

# -- pooling ---------------------------------------------------------------------------------------------


def _windows(
    kernel: tuple[int, int], stride: tuple[int, int], padding: Any = _NONE, dilation: tuple[int, int] = (1, 1)
) -> dict[str, Any]:
    return {"kernel": kernel, "stride": stride, "padding": padding, "dilation": dilation}


_POOLS: tuple[tuple[tuple[int, ...], dict[str, Any]], ...] = (
    ((2, 4, 4), _windows((2, 2), (2, 2))),
    ((1, 2, 4, 3), _windows((3, 2), (1, 2), ((1, 0), (1, 1)))),
    ((5, 5), _windows((2, 3), (3, 1), dilation=(2, 1))),
    ((2, 3, 3), _windows((2, 2), (1, 1))),
    ((2, 0, 3, 3), _windows((2, 2), (2, 2))),
)


def _parts(x: Any, value: float, p: dict[str, Any]) -> Any:
    """The windows as two further axes."""
    x = np.pad(x, (*((0, 0),) * (x.ndim - 2), *p["padding"]), constant_values=value)
    span = tuple(d * (k - 1) + 1 for k, d in zip(p["kernel"], p["dilation"]))
    view = np.lib.stride_tricks.sliding_window_view(x, span, axis=(-2, -1))
    (sh, sw), (dh, dw) = p["stride"], p["dilation"]
    return view[..., ::sh, ::sw, ::dh, ::dw]


def _chosen(t: Any, x: Any, p: dict[str, Any]) -> Any:
    """The elements of `t` where `x` is largest."""
    flat = _parts(x, -np.inf, p)
    at = flat.reshape(*flat.shape[:-2], math.prod(p["kernel"])).argmax(axis=-1)[..., None]
    values = _parts(t, 0, p).reshape(*at.shape[:-1], math.prod(p["kernel"]))
    return np.take_along_axis(values, at, axis=-1)[..., 0]


def _pooled(x: tuple[int, ...], p: dict[str, Any]) -> tuple[int, ...]:
    return (*x[:-2], *_size(x, p["kernel"], {**p, "groups": 1}))


def _around_maximum(x: tuple[int, ...], p: dict[str, Any], put: bool) -> Callable[[Draw], Arrays]:
    """What goes to, or is read from, the places of the largest elements of an array, and that array."""
    return lambda d: (d.signed(*(_pooled(x, p) if put else x)), d.distinct(x))


def _spread(x: tuple[int, ...]) -> Callable[[Draw], Arrays]:
    return lambda d: (d.distinct(x),)


_POOLING: Table = {
    "max_pool2d": tuple(Sample(_spread(x), p) for x, p in _POOLS),
    "max_pool2d_put": tuple(Sample(_around_maximum(x, p, put=True), p) for x, p in _POOLS),
    "max_pool2d_take": tuple(Sample(_around_maximum(x, p, put=False), p) for x, p in _POOLS),
    "window_sum": tuple(Sample(drawn("signed", x), p) for x, p in _POOLS),
    "window_spread": tuple(Sample(drawn("signed", _pooled(x, p)), {**p, "size": x[-2:]}) for x, p in _POOLS),
}

# -- attention -------------------------------------------------------------------------------------------


def _attended(
    lead: tuple[int, ...], queries: int, keys: int, bias: tuple[int, ...] | None = None
) -> Callable[[Draw], Arrays]:
    def draw(d: Draw) -> Arrays:
        q, k, v = d.signed(*lead, queries, 2), d.signed(*lead, keys, 2), d.signed(*lead, keys, 3)
        return q, k, v, None if bias is None else d.signed(*bias)

    return draw


_ATTENTION: Table = {
    "attention": (
        Sample(_attended((2,), 3, 4), {"scale": 0.7, "causal": False}),
        Sample(_attended((2, 2), 2, 3, (2, 3)), {"scale": 0.5, "causal": False}),
        Sample(_attended((), 3, 3, (3,)), {"scale": 0.7, "causal": True}),
        Sample(_attended((2,), 3, 2, (2, 1, 2)), {"scale": 0.7, "causal": True}),
        Sample(_attended((0,), 2, 3), {"scale": 0.7, "causal": False}),
    ),
}


def _attention(q: Any, k: Any, v: Any, bias: Any, *, scale: float, causal: bool) -> Any:
    scores = q @ k.mT * scale + (0.0 if bias is None else bias)
    e = np.exp(scores)
    if causal:
        e = np.tril(e)
    return e / e.sum(axis=-1, keepdims=True) @ v


_ACTIVATIONS: Table = {"gelu": tuple(Sample(drawn("signed", shape)) for shape in ((3, 4), (), (0, 2), (2, 3, 2)))}


def _gelu(x: Any) -> Any:
    return x * 0.5 * (1 + np.vectorize(math.erf, otypes=[np.float64])(x / math.sqrt(2))) if x.size else x


LAYERS: Table = {
    **also_complex(_CONVOLUTION, "conv2d", "conv2d_dx", "conv2d_dw"),
    **_POOLING,
    **_ATTENTION,
    **_ACTIVATIONS,
}
"""Name of a primitive to its samples."""


def _adjoint(forward: Callable[[Any], Any], g: Any, shape: tuple[int, ...]) -> Any:
    """The transpose of a linear function, applied to g: one unit vector at a time."""
    out = np.zeros(shape, g.dtype)
    for at in np.ndindex(*shape):
        unit = np.zeros(shape, g.dtype)
        unit[at] = 1.0
        out[at] = (forward(unit) * g).sum()
    return out


def _window_spread(g: Any, *, size: Any, **p: Any) -> Any:
    return _adjoint(lambda x: _parts(x, 0, p).sum(axis=(-2, -1)), g, (*g.shape[:-2], *size))


def _max_pool2d_put(g: Any, x: Any, **p: Any) -> Any:
    return _adjoint(lambda t: _chosen(t, x, p), g, x.shape)


LAYER_REFERENCES: dict[str, Callable[..., Any]] = {
    "conv2d": _conv2d,
    "conv2d_dx": _conv2d_dx,
    "conv2d_dw": _conv2d_dw,
    "max_pool2d": lambda x, **p: _parts(x, -np.inf, p).max(axis=(-2, -1)),
    "max_pool2d_put": _max_pool2d_put,
    "max_pool2d_take": lambda t, x, **p: _chosen(t, x, p),
    "window_sum": lambda x, **p: _parts(x, 0, p).sum(axis=(-2, -1)),
    "window_spread": _window_spread,
    "attention": _attention,
    "gelu": _gelu,
}
"""Their definitions in NumPy."""
