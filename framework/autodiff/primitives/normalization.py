"""Normalisation to mean 0 and variance 1: batch and layer normalisation, each a single primitive.

The axes over which mean and variance are taken are a parameter, as negative numbers, and weight and bias
come in a shape that broadcasts to the input. So one rule serves every number of axes after the channels,
and a batch axis in front. Weight and bias of `batch_norm` have length one along those axes; of `layer_norm`
they may differ along them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from framework.autodiff.convert import as_tensor
from framework.autodiff.kinds import align_ranks, negative_axes
from framework.autodiff.namespace import ops
from framework.autodiff.primitive import primitive, public
from framework.autodiff.primitives.shape import broadcast_shapes
from framework.autodiff.tensor import Tensor
from framework.errors import ShapeError


def _count(shape: tuple[int, ...], axis: tuple[int, ...]) -> int:
    """The elements that make one mean; 1 where there are none, so that nothing is divided by zero."""
    n = 1
    for a in axis:
        n *= shape[a]
    return n or 1


def _total(ns: Any, x: Any, axis: tuple[int, ...]) -> Any:
    return ns.sum(x, axis=axis, keepdims=True)


def _moments(ns: Any, x: Any, axis: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """Mean and variance over `axis`, with axes of length one, and `x` minus the mean: two passes, for exactness."""
    n = _count(x.shape, axis)
    mean = _total(ns, x, axis) / n
    centered = x - mean
    return mean, _total(ns, centered * centered, axis) / n, centered


def _affine(normal: Any, weight: Any, bias: Any) -> Any:
    if weight is not None:
        normal = normal * weight
    return normal if bias is None else normal + bias


def _plus(a: Any, b: Any) -> Any:
    """The sum of what may be absent."""
    return b if a is None else a if b is None else a + b


def _normal_tangent(ns: Any, t: Any, centered: Any, inverse: Any, axis: tuple[int, ...]) -> tuple[Any, Any, Any]:
    """The tangents of what is normalised, of the mean and of the variance."""
    n = _count(t.shape, axis)
    t_mean = _total(ns, t, axis) / n
    half = _total(ns, centered * t, axis) / n
    return (t - t_mean - centered * (half * inverse * inverse)) * inverse, t_mean, half * 2


def _affine_tangent(normal: Any, t_normal: Any, weight: Any, tangents: Any) -> Any:
    t = t_normal if t_normal is None or weight is None else t_normal * weight
    if tangents[1] is not None:
        t = _plus(t, normal * tangents[1])
    return _plus(t, tangents[2])


def _whole_batch(ops: Any, n: int, is_batched: Any, inputs: Any, params: Any, fn: Any) -> Any:
    """Batching: the input gets its batch whatever else has one, since mean and variance are its own."""
    x, *rest = inputs
    if not is_batched[0]:
        x = ops.broadcast_to(x, (n, *x.shape))
    return align_ranks(ops, n, (True, *is_batched[1:]), (x, *rest), params, fn)


def _fitting(name: str, x: Any, weight: Any, bias: Any) -> Tensor:
    """`x` as a Tensor of a floating-point dtype that weight and bias broadcast to."""
    x = as_tensor(x, next((t for t in (weight, bias) if isinstance(t, Tensor)), None))
    if not x.dtype.is_differentiable:
        x = ops.astype(x, ops.get_default_dtype())
    for t in (weight, bias):
        if t is not None and broadcast_shapes(x.shape, tuple(t.shape)) != x.shape:
            raise ShapeError(f"{name}: weight and bias broadcast to the input's shape {x.shape}, got {tuple(t.shape)}")
    return x


# -- batch normalisation: also gives the mean and the variance, whose derivatives are known, too ---------


def _batch_norm_forward(ns: Any, x: Any, weight: Any, bias: Any, *, axis: tuple[int, ...], eps: float) -> Any:
    mean, var, centered = _moments(ns, x, axis)
    scale = 1.0 / ns.sqrt(var + eps)
    if weight is not None:
        scale = scale * weight
    return _affine(centered, scale, bias), mean, var


def _batch_norm_vjp(
    ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any, weight: Any, bias: Any, *, axis: Any, eps: float
) -> Any:
    g_out, g_mean, g_var = g
    if needs[0] is None and needs[1] is None:
        return None, None, None if g_out is None else _total(ns, g_out, axis)
    _, mean, var = out
    n = _count(x.shape, axis)
    gx = gw = gb = None
    if g_out is not None:
        gx, gw, gb = ns.batch_norm_grad(g_out, x, mean, 1.0 / ns.sqrt(var + eps), weight, axis)
    if g_var is not None:
        gx = _plus(gx, (x - mean) * (g_var * (2.0 / n)))
    if g_mean is not None:
        gx = _plus(gx, ns.broadcast_to(g_mean / n, x.shape))
    return gx, gw, gb


def _batch_norm_jvp(ns: Any, tangents: Any, out: Any, x: Any, weight: Any, bias: Any, *, axis: Any, eps: float) -> Any:
    _, mean, var = out
    inverse = 1.0 / ns.sqrt(var + eps)
    centered = x - mean
    t_normal = t_mean = t_var = None
    if tangents[0] is not None:
        t_normal, t_mean, t_var = _normal_tangent(ns, tangents[0], centered, inverse, axis)
    return _affine_tangent(centered * inverse, t_normal, weight, tangents), t_mean, t_var


_batch_norm = primitive(
    "batch_norm",
    arity=3,
    forward=_batch_norm_forward,
    vjp=_batch_norm_vjp,
    jvp=_batch_norm_jvp,
    batch=_whole_batch,
    keep=((0, 1), (0,), ()),
    keep_out=(0, 1),
    promotes=True,
    outputs=3,
)


@public
def batch_norm(
    x: Any, weight: Any = None, bias: Any = None, /, *, axis: int | Sequence[int], eps: float = 1e-5
) -> tuple[Tensor, Tensor, Tensor]:
    """`(x - mean) / sqrt(var + eps) * weight + bias`, with that mean and that variance (Ioffe & Szegedy 2015).

    Args:
        weight: broadcasts to `x`, with length one along `axis`; likewise `bias`.
        axis: the axes over which mean and variance are taken, all but that of the channels.

    Returns:
        The normalised array, and mean and variance (divided by n) with length one along `axis`.

    Raises:
        ShapeError: weight or bias do not broadcast to `x`.
    """
    x = _fitting("batch_norm", x, weight, bias)
    out, mean, var = _batch_norm(x, weight, bias, axis=negative_axes(axis, x.ndim), eps=float(eps))
    return out, mean, var


# -- layer normalisation -----------------------------------------------------------------------------


def _layer_norm_forward(ns: Any, x: Any, weight: Any, bias: Any, *, axis: tuple[int, ...], eps: float) -> Any:
    mean, var, centered = _moments(ns, x, axis)
    inverse = 1.0 / ns.sqrt(var + eps)
    return _affine(centered * inverse, weight, bias), (mean, inverse)


def _layer_norm_vjp(
    ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any, weight: Any, bias: Any, *, axis: Any, eps: float
) -> Any:
    if needs[0] is None and needs[1] is None:
        return None, None, g
    if residual is None:
        mean, var, _ = _moments(ns, x, axis)
        residual = mean, 1.0 / ns.sqrt(var + eps)
    return *ns.layer_norm_grad(g, x, *residual, weight, axis), g


def _layer_norm_jvp(ns: Any, tangents: Any, out: Any, x: Any, weight: Any, bias: Any, *, axis: Any, eps: float) -> Any:
    if tangents[0] is None and tangents[1] is None:
        return tangents[2]
    _, var, centered = _moments(ns, x, axis)
    inverse = 1.0 / ns.sqrt(var + eps)
    t_normal = None
    if tangents[0] is not None:
        t_normal = _normal_tangent(ns, tangents[0], centered, inverse, axis)[0]
    return _affine_tangent(centered * inverse, t_normal, weight, tangents)


_layer_norm = primitive(
    "layer_norm",
    arity=3,
    forward=_layer_norm_forward,
    vjp=_layer_norm_vjp,
    jvp=_layer_norm_jvp,
    batch=_whole_batch,
    keep=((0, 1), (0,), ()),
    residual=True,
    promotes=True,
)


@public
def layer_norm(
    x: Any, weight: Any = None, bias: Any = None, /, *, axis: int | Sequence[int] = -1, eps: float = 1e-5
) -> Tensor:
    """`(x - mean) / sqrt(var + eps) * weight + bias`, mean and variance over `axis` (Ba, Kiros & Hinton 2016).

    Args:
        weight: broadcasts to `x`; likewise `bias`.

    Raises:
        ShapeError: weight or bias do not broadcast to `x`.
    """
    x = _fitting("layer_norm", x, weight, bias)
    out: Tensor = _layer_norm(x, weight, bias, axis=negative_axes(axis, x.ndim), eps=float(eps))
    return out
