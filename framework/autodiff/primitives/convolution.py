"""Convolution over two axes: three bilinear primitives, each the derivative of the others.

| primitive | of | gives |
|---|---|---|
| `conv2d` | images x, weight | results: the convolution, and a bias added |
| `conv2d_dx` | results g, weight | images: the transposed convolution |
| `conv2d_dw` | results g, images x | the weight |

With any two of images, results and weight contracted into the third, ⟨g, conv(x, w)⟩ = ⟨conv2d_dx(g, w), x⟩ =
⟨conv2d_dw(g, x), w⟩. So whatever is differentiated, the result is one of the three again. A batch axis is folded into
the samples, the channels or the groups, whichever the batched inputs call for.

Parameters: `stride` and `dilation` (rows, columns), `padding` ((above, below), (left, right)), `groups`.
"""

from __future__ import annotations

import math
from typing import Any

from framework.autodiff.convert import as_tensor
from framework.autodiff.primitive import primitive, public
from framework.autodiff.primitives.windows import Pair, apart, padded, places, taps
from framework.autodiff.tensor import Tensor
from framework.errors import ConfigError, ShapeError

# -- how a backend without a kernel computes them: slices, and one matrix product a tap -------------------


def _forward(
    ns: Any, x: Any, weight: Any, bias: Any, *, stride: Pair, padding: Any, dilation: Pair, groups: int
) -> Any:
    xp = ns.xp
    n, (o, c, *kernel) = x.shape[0], weight.shape
    h, w = (places(*args) for args in zip(x.shape[2:], kernel, stride, padding, dilation))
    x = padded(xp, x, padding)
    w5 = xp.reshape(weight, (groups, o // groups, c, kernel[0] * kernel[1]))
    out = None
    for t, (rows, columns) in enumerate(taps((kernel[0], kernel[1]), stride, dilation, (h, w))):
        part = xp.reshape(x[:, :, rows, columns], (n, groups, c, h * w))
        term = xp.matmul(w5[..., t], part)
        out = term if out is None else out + term
    out = xp.reshape(out, (n, o, h, w))
    return out if bias is None else out + xp.reshape(bias, (o, 1, 1))


def _dx_forward(
    ns: Any, g: Any, weight: Any, *, size: Pair, stride: Pair, padding: Any, dilation: Pair, groups: int
) -> Any:
    """A convolution again: of the results, with zeros between and around, by the flipped kernel."""
    xp = ns.xp
    o, c, *kernel = weight.shape
    g = apart(xp, g, stride)
    around = []
    for n, length, k, d, (before, _) in zip(size, g.shape[2:], kernel, dilation, padding):
        low = d * (k - 1) - before
        around.append((low, n + d * (k - 1) - low - length))
    turned = xp.flip(xp.reshape(weight, (groups, o // groups, c, *kernel)), axis=(-2, -1))
    turned = xp.reshape(xp.permute_dims(turned, (0, 2, 1, 3, 4)), (groups * c, o // groups, *kernel))
    return _forward(
        ns, padded(xp, g, around), turned, None, stride=(1, 1), padding=_NONE, dilation=dilation, groups=groups
    )


_NONE = ((0, 0), (0, 0))


def _dw_forward(
    ns: Any, g: Any, x: Any, *, kernel: Pair, stride: Pair, padding: Any, dilation: Pair, groups: int
) -> Any:
    xp = ns.xp
    n, o, h, w = g.shape
    c = x.shape[1] // groups
    x = padded(xp, x, padding)
    left = xp.reshape(xp.permute_dims(g, (1, 0, 2, 3)), (groups, o // groups, n * h * w))
    found = []
    for rows, columns in taps(kernel, stride, dilation, (h, w)):
        part = xp.permute_dims(x[:, :, rows, columns], (1, 0, 2, 3))
        right = xp.matrix_transpose(xp.reshape(part, (groups, c, n * h * w)))
        found.append(xp.matmul(left, right))
    return xp.reshape(xp.stack(found, axis=-1), (o, c, *kernel))


# -- derivatives: bilinear -------------------------------------------------------------------------------


def _vjp(
    ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any, weight: Any, bias: Any, **geometry: Any
) -> tuple[Any, ...]:
    return (
        None if needs[0] is None else ns.conv2d_dx(g, weight, size=tuple(needs[0].shape[2:]), **geometry),
        None if needs[1] is None else ns.conv2d_dw(g, x, kernel=tuple(needs[1].shape[2:]), **geometry),
        None if needs[2] is None else ns.colsum(_channels_last(ns, g)),
    )


def _channels_last(ns: Any, g: Any) -> Any:
    n, o, h, w = g.shape
    return ns.reshape(ns.permute_dims(g, axes=(-4, -2, -1, -3)), shape=(n * h * w, o))


def _jvp(ns: Any, tangents: Any, out: Any, x: Any, weight: Any, bias: Any, **geometry: Any) -> Any:
    tx, tw, tb = tangents
    total = None if tx is None else ns.conv2d(tx, weight, None, **geometry)
    if tw is not None:
        term = ns.conv2d(x, tw, None, **geometry)
        total = term if total is None else total + term
    if tb is not None:
        tb = ns.reshape(tb, (tb.shape[0], 1, 1))
        total = tb if total is None else total + tb
    return total


def _dx_vjp(
    ns: Any, g: Any, needs: Any, out: Any, residual: Any, y: Any, weight: Any, *, size: Pair, **geometry: Any
) -> tuple[Any, ...]:
    return (
        None if needs[0] is None else ns.conv2d(g, weight, None, **geometry),
        None if needs[1] is None else ns.conv2d_dw(y, g, kernel=tuple(needs[1].shape[2:]), **geometry),
    )


def _dw_vjp(
    ns: Any, g: Any, needs: Any, out: Any, residual: Any, y: Any, x: Any, *, kernel: Pair, **geometry: Any
) -> tuple[Any, ...]:
    return (
        None if needs[0] is None else ns.conv2d(x, g, None, **geometry),
        None if needs[1] is None else ns.conv2d_dx(y, g, size=tuple(needs[1].shape[2:]), **geometry),
    )


def _bilinear_jvp(name: str) -> Any:
    def jvp(ns: Any, tangents: Any, out: Any, a: Any, b: Any, **params: Any) -> Any:
        ta, tb = tangents
        total = None if ta is None else getattr(ns, name)(ta, b, **params)
        if tb is None:
            return total
        term = getattr(ns, name)(a, tb, **params)
        return term if total is None else total + term

    return jvp


# -- batches: one convolution of more samples, more channels or more groups ---------------------------------


def _into(ops: Any, x: Any, axis: int, groups: int = 1) -> Any:
    """The batch axis in front made part of axis `axis`: as a factor of it, behind the groups."""
    shape = x.shape[1:]
    x = ops.reshape(x, (x.shape[0], *shape[:axis], groups, shape[axis] // groups, *shape[axis + 1 :]))
    x = ops.moveaxis(x, 0, axis + 1)
    return ops.reshape(x, (*shape[:axis], math.prod(x.shape[axis : axis + 3]), *shape[axis + 1 :]))


def _out_of(ops: Any, x: Any, n: int, axis: int, groups: int = 1) -> Any:
    """The reverse of `_into`."""
    before, after = x.shape[:axis], x.shape[axis + 1 :]
    each = x.shape[axis] // (groups * n)
    x = ops.reshape(x, (*before, groups, n, each, *after))
    x = ops.moveaxis(x, axis + 1, 0)
    return ops.reshape(x, (n, *before, groups * each, *after))


def _batch(ops: Any, n: int, is_batched: Any, inputs: Any, params: Any, fn: Any) -> Any:
    x, weight, bias = inputs
    groups = params["groups"]
    if not any(is_batched[:2]):  # the bias alone
        out = fn(x, weight, None, **params)
    elif not is_batched[1]:
        if not is_batched[2]:
            return _out_of(ops, fn(_into(ops, x, 0), weight, bias, **params), n, 0)
        out = _out_of(ops, fn(_into(ops, x, 0), weight, None, **params), n, 0)
    elif not is_batched[0]:
        out = _out_of(ops, fn(x, _into(ops, weight, 0, groups), None, **params), n, 1, groups)
    else:
        out = fn(_into(ops, x, 1), _into(ops, weight, 0), None, **{**params, "groups": n * groups})
        out = _out_of(ops, out, n, 1)
    if bias is None:
        return out
    return out + (
        ops.reshape(bias, (n, 1, bias.shape[1], 1, 1)) if is_batched[2] else ops.reshape(bias, (*bias.shape, 1, 1))
    )


def _dx_batch(ops: Any, n: int, is_batched: Any, inputs: Any, params: Any, fn: Any) -> Any:
    g, weight = inputs
    groups = params["groups"]
    if not is_batched[1]:
        return _out_of(ops, fn(_into(ops, g, 0), weight, **params), n, 0)
    if not is_batched[0]:
        return _out_of(ops, fn(g, _into(ops, weight, 1), **params), n, 1, groups)
    out = fn(_into(ops, g, 1), _into(ops, weight, 0), **{**params, "groups": n * groups})
    return _out_of(ops, out, n, 1)


def _dw_batch(ops: Any, n: int, is_batched: Any, inputs: Any, params: Any, fn: Any) -> Any:
    g, x = inputs
    groups = params["groups"]
    if not is_batched[1]:
        return _out_of(ops, fn(_into(ops, g, 1, groups), x, **params), n, 0, groups)
    if not is_batched[0]:
        return _out_of(ops, fn(g, _into(ops, x, 1, groups), **params), n, 1)
    out = fn(_into(ops, g, 1), _into(ops, x, 1), **{**params, "groups": n * groups})
    return _out_of(ops, out, n, 0)


_conv2d = primitive(
    "conv2d", arity=3, forward=_forward, vjp=_vjp, jvp=_jvp, batch=_batch, keep=((1,), (0,), ()), promotes=True
)
_conv2d_dx = primitive(
    "conv2d_dx",
    arity=2,
    forward=_dx_forward,
    vjp=_dx_vjp,
    jvp=_bilinear_jvp("conv2d_dx"),
    batch=_dx_batch,
    keep=((1,), (0,)),
    promotes=True,
)
_conv2d_dw = primitive(
    "conv2d_dw",
    arity=2,
    forward=_dw_forward,
    vjp=_dw_vjp,
    jvp=_bilinear_jvp("conv2d_dw"),
    batch=_dw_batch,
    keep=((1,), (0,)),
    promotes=True,
)


# -- the functions ---------------------------------------------------------------------------------------


def _given(
    name: str, a: Any, b: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> tuple[Tensor, Tensor, dict[str, Any]]:
    """The two arrays as Tensors, and the geometry as it is stored."""
    like = next((t for t in (a, b) if isinstance(t, Tensor)), None)
    a, b = as_tensor(a, like), as_tensor(b, like)
    if a.ndim != 4 or b.ndim != 4:
        raise ShapeError(f"{name}: both arrays have four axes, got shapes {a.shape} and {b.shape}")
    stride, dilation, padding = tuple(stride), tuple(dilation), tuple(tuple(side) for side in padding)
    if min(*stride, *dilation, groups) < 1 or min(n for side in padding for n in side) < 0:
        raise ConfigError(
            f"{name}: stride, dilation and groups are at least 1 and padding is not negative, got stride {stride}, "
            f"dilation {dilation}, groups {groups}, padding {padding}"
        )
    return a, b, {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}


def out_size(size: Any, kernel: Any, stride: Pair, padding: Any, dilation: Pair, groups: int = 1) -> Pair:
    """Rows and columns of the result."""
    h, w = (places(*args) for args in zip(size, kernel, stride, padding, dilation))
    return h, w


@public
def conv2d(
    x: Any,
    weight: Any,
    bias: Any = None,
    /,
    *,
    stride: Pair = (1, 1),
    padding: tuple[Pair, Pair] = _NONE,
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Tensor:
    """The sum of products of a kernel with each place of images, not flipped: (N, C, H, W) gives (N, O, H', W').

    Args:
        x: (N, C, H, W).
        weight: (O, C / groups, rows, columns).
        bias: (O,), or None.
        padding: zeros ((above, below), (left, right)).

    Raises:
        ShapeError: the shapes do not fit, or the kernel is larger than the padded images.
        ConfigError: a number that is too small.
    """
    x, weight, geometry = _given("conv2d", x, weight, stride, padding, dilation, groups)
    o, c = weight.shape[:2]
    if x.shape[1] != c * groups or o % groups:
        raise ShapeError(
            f"conv2d: images of shape {x.shape} and a weight of shape {weight.shape} do not fit: with groups={groups} "
            f"the images have {c * groups} channels, and the results, {o}, are a multiple of groups"
        )
    if bias is not None and tuple(bias.shape) != (o,):
        raise ShapeError(f"conv2d: a weight of shape {weight.shape} has a bias of shape {(o,)}, got {bias.shape}")
    if min(out_size(x.shape[2:], weight.shape[2:], **geometry)) < 1:
        raise ShapeError(
            f"conv2d: a kernel of shape {weight.shape[2:]} with dilation {dilation} does not fit into images of shape "
            f"{x.shape} with padding {padding}; use a smaller kernel or more padding"
        )
    result: Tensor = _conv2d(x, weight, bias, **geometry)
    return result


@public
def conv2d_dx(
    g: Any,
    weight: Any,
    /,
    *,
    size: Pair,
    stride: Pair = (1, 1),
    padding: tuple[Pair, Pair] = _NONE,
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Tensor:
    """The transposed convolution: the gradient of `conv2d` with respect to images of `size` (H, W).

    Args:
        g: (N, O, H', W'), of the shape that `conv2d` gives of such images.
        weight: (O, C / groups, rows, columns).

    Raises:
        ShapeError: the shapes do not fit.
    """
    g, weight, geometry = _given("conv2d_dx", g, weight, stride, padding, dilation, groups)
    expected = (weight.shape[0], *out_size(size, weight.shape[2:], **geometry))
    if g.shape[1:] != expected or weight.shape[0] % groups:
        raise ShapeError(
            f"conv2d_dx: of images of size {tuple(size)} a weight of shape {weight.shape} gives results of shape "
            f"(N, {', '.join(map(str, expected))}), got {g.shape}"
        )
    out: Tensor = _conv2d_dx(g, weight, size=tuple(size), **geometry)
    return out


@public
def conv2d_dw(
    g: Any,
    x: Any,
    /,
    *,
    kernel: Pair,
    stride: Pair = (1, 1),
    padding: tuple[Pair, Pair] = _NONE,
    dilation: Pair = (1, 1),
    groups: int = 1,
) -> Tensor:
    """The gradient of `conv2d` with respect to a weight with a `kernel` (rows, columns).

    Args:
        g: (N, O, H', W'), of the shape that `conv2d` gives of x.
        x: images (N, C, H, W).

    Raises:
        ShapeError: the shapes do not fit.
    """
    g, x, geometry = _given("conv2d_dw", g, x, stride, padding, dilation, groups)
    fits = (g.shape[0], *g.shape[2:]) == (x.shape[0], *out_size(x.shape[2:], kernel, **geometry))
    if not fits or g.shape[1] % groups or x.shape[1] % groups:
        raise ShapeError(
            f"conv2d_dw: results of shape {g.shape} are not those of images of shape {x.shape} with a kernel {kernel}, "
            f"{geometry}"
        )
    out: Tensor = _conv2d_dw(g, x, kernel=tuple(kernel), **geometry)
    return out
