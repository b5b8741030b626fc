"""The rows of the table of primitives for convolution, pooling, attention and activations."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from primitive_table import Array, case, random, text, unary

from framework.autodiff import ops

NONE = ((0, 0), (0, 0))

# -- convolution ---------------------------------------------------------------------------------------


def np_conv(x: Array, w: Array, b: Any = None, *, stride: Any, padding: Any, dilation: Any, groups: int) -> Array:
    """One result at a time."""
    x = np.pad(x, ((0, 0), (0, 0), *padding))
    (o, c, kh, kw), n = w.shape, x.shape[0]
    h, v = ((x.shape[2 + i] - dilation[i] * (w.shape[2 + i] - 1) - 1) // stride[i] + 1 for i in (0, 1))
    out = np.zeros((n, o, h, v), np.result_type(x, w))
    for k, i, j in np.ndindex(o, h, v):
        first = k // (o // groups) * c
        rows = i * stride[0] + dilation[0] * np.arange(kh)
        columns = j * stride[1] + dilation[1] * np.arange(kw)
        part = x[:, first : first + c][:, :, rows][:, :, :, columns]
        out[:, k, i, j] = (part * w[k]).sum(axis=(1, 2, 3))
    return out if b is None else out + b[:, None, None]


def np_transposed(fn: Any, g: Array, shape: tuple[int, ...]) -> Array:
    """The transpose of a linear function of arrays of a shape."""
    out = np.zeros(shape, g.dtype)
    for at in np.ndindex(*shape):
        unit = np.zeros(shape, g.dtype)
        unit[at] = 1
        out[at] = (fn(unit) * g).sum()
    return out


CONVOLUTIONS: tuple[tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]], ...] = (
    ((2, 2, 3, 4), (3, 2, 2, 2), {}),
    ((1, 2, 4, 3), (2, 2, 3, 1), {"stride": (2, 1), "padding": ((1, 0), (0, 1))}),
    ((2, 1, 4, 4), (1, 1, 2, 2), {"stride": (2, 3), "dilation": (1, 2), "padding": ((1, 1), (2, 2))}),
    ((2, 4, 2, 2), (2, 2, 1, 2), {"groups": 2}),
    ((1, 3, 3, 2), (3, 1, 2, 2), {"groups": 3, "padding": ((0, 1), (1, 0))}),
    ((0, 1, 2, 2), (2, 1, 2, 1), {}),
)
for _x, _w, _given in CONVOLUTIONS:
    _p = {"stride": (1, 1), "padding": NONE, "dilation": (1, 1), "groups": 1, **_given}
    _label = f"{text(_x)} {text(_w)} {_given}"
    _images, _weight, _bias = random("images", _x), random("weight", _w), random("bias", _w[:1])
    _g = random("results", np_conv(_images, _weight, **_p).shape)
    for _rest in ((), (_bias,)):
        case(
            "conv2d",
            f"{_label} {len(_rest)}",
            lambda *a, p=_p: ops.conv2d(*a, **p),
            lambda *a, p=_p: np_conv(*a, **p),
            _images,
            _weight,
            *_rest,
        )
    case(
        "conv2d_dx",
        _label,
        lambda g, w, p=_p, s=_x[2:]: ops.conv2d_dx(g, w, size=s, **p),
        lambda g, w, p=_p, s=_x: np_transposed(lambda x: np_conv(x, w, **p), g, s),
        _g,
        _weight,
    )
    case(
        "conv2d_dw",
        _label,
        lambda g, x, p=_p, s=_w[2:]: ops.conv2d_dw(g, x, kernel=s, **p),
        lambda g, x, p=_p, s=_w: np_transposed(lambda w: np_conv(x, w, **p), g, s),
        _g,
        _images,
    )

# -- pooling -------------------------------------------------------------------------------------------


def np_windows(x: Array, value: float, *, kernel: Any, stride: Any, padding: Any, dilation: Any) -> Array:
    """(..., H', W', elements of the window)."""
    x = np.pad(x, (*[(0, 0)] * (x.ndim - 2), *padding), constant_values=value)
    size = [(x.shape[i - 2] - dilation[i] * (kernel[i] - 1) - 1) // stride[i] + 1 for i in (0, 1)]
    rows = np.arange(size[0])[:, None] * stride[0] + dilation[0] * np.arange(kernel[0])
    columns = np.arange(size[1])[:, None] * stride[1] + dilation[1] * np.arange(kernel[1])
    found = x[..., rows[:, None, :, None], columns[None, :, None, :]]
    return found.reshape(*found.shape[:-2], kernel[0] * kernel[1])


def np_take(t: Array, x: Array, p: dict[str, Any]) -> Array:
    at = np_windows(x, -np.inf, **p).argmax(axis=-1)[..., None]
    return np.take_along_axis(np_windows(t, 0, **p), at, axis=-1)[..., 0]


def apart(label: str, shape: tuple[int, ...]) -> Array:
    """Numbers no two of which are close."""
    size = int(np.prod(shape))
    return (np.argsort(random(label, (size,))) - size / 2 + 0.3).reshape(shape) * 0.11


POOLS: tuple[tuple[tuple[int, ...], dict[str, Any]], ...] = (
    ((2, 2, 4, 4), {"kernel": (2, 2), "stride": (2, 2)}),
    ((1, 2, 5, 5), {"kernel": (2, 3), "stride": (2, 1), "padding": ((1, 0), (1, 1))}),
    ((4, 4), {"kernel": (2, 2), "stride": (1, 2), "dilation": (2, 1), "padding": ((1, 1), (0, 1))}),
    ((2, 3, 3), {"kernel": (3, 3), "stride": (3, 3)}),
    ((0, 1, 2, 2), {"kernel": (1, 2), "stride": (1, 1)}),
)
for _x, _given in POOLS:
    _p = {"padding": NONE, "dilation": (1, 1), **_given}
    _label = f"{text(_x)} {_given}"
    _images = apart("pooled", _x)
    _out = np_windows(_images, 0, **_p).shape[:-1]
    case(
        "max_pool2d",
        _label,
        lambda x, p=_p: ops.max_pool2d(x, **p),
        lambda x, p=_p: np_windows(x, -np.inf, **p).max(axis=-1),
        _images,
    )
    case(
        "max_pool2d_take",
        _label,
        lambda t, x=_images, p=_p: ops.max_pool2d_take(t, ops.asarray(x, dtype=t.dtype, device=t.device), **p),
        lambda t, x=_images, p=_p: np_take(t, x, p),
        random("taken", _x),
    )
    case(
        "max_pool2d_put",
        _label,
        lambda g, x=_images, p=_p: ops.max_pool2d_put(g, ops.asarray(x, dtype=g.dtype, device=g.device), **p),
        lambda g, x=_images, p=_p: np_transposed(lambda t: np_take(t, x, p), g, x.shape).astype(g.dtype),
        random("put", _out),
    )
    case(
        "window_sum",
        _label,
        lambda x, p=_p: ops.window_sum(x, **p),
        lambda x, p=_p: np_windows(x, 0, **p).sum(axis=-1),
        random("summed", _x),
    )
    case(
        "window_spread",
        _label,
        lambda g, p=_p, s=_x[-2:]: ops.window_spread(g, size=s, **p),
        lambda g, p=_p, s=_x: np_transposed(lambda x: np_windows(x, 0, **p).sum(axis=-1), g, s),
        random("spread", _out),
    )

# -- attention -----------------------------------------------------------------------------------------


def np_attention(q: Array, k: Array, v: Array, bias: Any = None, *, scale: float, causal: bool = False) -> Array:
    scores = q @ np.swapaxes(k, -1, -2) * q.dtype.type(scale) + (0 if bias is None else bias)
    e = np.exp(scores)
    e = np.tril(e) if causal else e
    return e / e.sum(axis=-1, keepdims=True) @ v


for _lead, _queries, _keys, _bias, _causal in (
    ((), 3, 2, None, False),
    ((2,), 2, 3, (2, 3), False),
    ((2, 1), 3, 3, (2, 1, 1, 3), True),
    ((2,), 2, 4, None, True),
    ((0,), 2, 2, None, False),
):
    _qkv = [
        random(label, (*_lead, *shape)) for label, shape in (("q", (_queries, 2)), ("k", (_keys, 2)), ("v", (_keys, 3)))
    ]
    case(
        "attention",
        f"{text(_lead)} {_queries}-{_keys} {_bias} {_causal}",
        lambda *a, c=_causal: ops.attention(*a, scale=0.6, causal=c),
        lambda *a, c=_causal: np_attention(*a, scale=0.6, causal=c),
        *_qkv,
        *(() if _bias is None else (random("ab", _bias),)),
    )


# -- activations ---------------------------------------------------------------------------------------


def np_gelu(x: Array) -> Array:
    return np.vectorize(lambda v: v * 0.5 * (1 + math.erf(v / math.sqrt(2))), otypes=[x.dtype])(x) if x.size else x


unary("gelu", ref=np_gelu)
