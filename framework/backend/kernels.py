"""Performance names: small pieces of rules and updates that a backend may do faster.

Each function here is the reference: it states the signature and computes the result with the Array
API alone. A plugin offers a faster one under the same name in `Backend.kernels`; every argument
after `xp` is passed on. A backend with `writable = True` may write into the arrays that an update
is about (parameter and state, never the gradient) and return them; callers use what is returned.

None of these is a derivative rule: the rules, in `framework.autodiff`, are written with them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from framework.backend import host
from framework.backend.update_kernels import (
    adam_step,
    adam_update,
    fill_parts,
    latch,
    rprop_step,
    rprop_update,
    scaled_to_norm,
    sgd_step,
    sgd_update,
    squares_of_parts,
    sum_of_squares,
)

Array = Any


def beside(x: Any) -> Any:
    """Where to create an array beside another: on its device.

    None, the default device, where it names none: within a function that JAX compiles, arrays are nowhere yet.
    """
    return getattr(x, "device", None)


# -- pieces of derivative rules --------------------------------------------------------------------


def relu_grad(xp: Any, g: Array, out: Array) -> Array:
    """`g` where `out > 0`, else zero. Shapes equal."""
    return g * xp.astype(out > 0, g.dtype)


def linear_dx(xp: Any, g: Array, weight: Array) -> Array:
    """Gradient of `x @ weight.T` with respect to x: (..., out) and (out, in) give (..., in)."""
    return xp.matmul(g, weight)


def linear_dw(xp: Any, g: Array, x: Array, out: Array | None = None) -> Array:
    """Gradient of `x @ weight.T` with respect to the weight: (..., out) and (..., in) give (out, in).

    `out` is an array that the result may be written to, and need not be.
    """
    g2 = xp.reshape(g, (-1, g.shape[-1]))
    x2 = xp.reshape(x, (-1, x.shape[-1]))
    return xp.matmul(g2.mT, x2)


def colsum(xp: Any, g: Array, out: Array | None = None) -> Array:
    """Sum over all axes but the last: (..., n) gives (n,); it may be written to `out`."""
    return xp.sum(g, axis=tuple(range(g.ndim - 1)))


def xent_grad(xp: Any, probabilities: Array, targets: Array, g: Array) -> Array:
    """`(probabilities − one_hot(targets)) * g`: (..., classes), integer (...), and g 0-d or (..., 1)."""
    classes = xp.arange(probabilities.shape[-1], dtype=targets.dtype, device=beside(targets))
    one_hot = xp.astype(targets[..., None] == classes, probabilities.dtype)
    return (probabilities - one_hot) * g


def embedding_grad(xp: Any, g: Array, indices: Array, rows: int, padding_idx: int | None = None) -> Array:
    """Zeros (rows, n) with `g` (..., n) added at rows `indices` (...), from 0 to rows − 1.

    Row `padding_idx`, where one is given, stays zero.
    """
    if padding_idx is not None:
        g = xp.where(xp.expand_dims(indices != padding_idx, axis=-1), g, xp.zeros_like(g))
    zeros = xp.zeros((rows, g.shape[-1]), dtype=g.dtype, device=beside(g))
    return xp.scatter_add(zeros, (indices,), g)


def _elements(x: Array, axis: tuple[int, ...]) -> int:
    """The elements that make one mean; 1 where there are none, so that nothing is divided by zero."""
    n = 1
    for a in axis:
        n *= x.shape[a]
    return n or 1


def batch_norm_grad(
    xp: Any, g: Array, x: Array, mean: Array, inverse: Array, weight: Array | None, axis: tuple[int, ...]
) -> tuple[Array, Array, Array]:
    """Gradients of `(x − mean) · inverse · weight + bias` with respect to x, weight and bias.

    `mean` and `inverse`, 1/√(variance + ε), are x's own over the negative `axis`, with length one there, as
    `weight` has, and as the gradients of weight and bias do.
    """
    n = _elements(x, axis)
    centered = x - mean
    gb = xp.sum(g, axis=axis, keepdims=True)
    gw = xp.sum(g * centered, axis=axis, keepdims=True) * inverse
    scale = inverse if weight is None else inverse * weight
    return (g - gb / n - centered * (gw * inverse / n)) * scale, gw, gb


def layer_norm_grad(
    xp: Any, g: Array, x: Array, mean: Array, inverse: Array, weight: Array | None, axis: tuple[int, ...]
) -> tuple[Array, Array]:
    """Gradients of `(x − mean) · inverse · weight` with respect to x, and to a weight of x's shape.

    `mean` and `inverse`, 1/√(variance + ε), are x's own over the negative `axis`, with length one there;
    `weight` broadcasts to x.
    """
    n = _elements(x, axis)
    normal = (x - mean) * inverse
    gn = g if weight is None else g * weight
    even = xp.sum(gn, axis=axis, keepdims=True) / n
    along = xp.sum(gn * normal, axis=axis, keepdims=True) / n
    return (gn - even - normal * along) * inverse, g * normal


def attention_grad(
    xp: Any,
    g: Array,
    q: Array,
    k: Array,
    v: Array,
    residual: Any,
    scale: float,
    causal: bool = False,
    has_bias: bool = True,
) -> tuple[Array, ...]:
    """Gradients of `weights @ v`, weights = softmax(q kᵀ · scale + bias), with respect to q, k, v and the bias.

    Queries (..., L, E), keys (..., S, E), values (..., S, V), weights (..., L, S), the same axes in front;
    the gradient of the bias has the shape of the weights. Without `has_bias` it is left out.

    `residual` is what `attention` returned second: the weights. A backend that offers both kernels, `attention` and
    `attention_grad`, may return there what its own `attention_grad` wants to see again instead: an array, or a tuple
    of arrays, such as the output and a sum for each query. Nobody else looks at it.

    `causal` says that the weights of keys that come after their query are zero, as the gradient of the bias is
    there, so that these need not be looked at.
    """
    weights = residual
    along = xp.matmul(g, v.mT)
    along = weights * (along - xp.sum(along * weights, axis=(-1,), keepdims=True))
    found = xp.matmul(along, k) * scale, xp.matmul(along.mT, q) * scale, xp.matmul(weights.mT, g)
    return (*found, along) if has_bias else found


def rounded_matmul(xp: Any, x: Array, y: Array, dtype: str) -> Array:
    """`x @ y` with both operands rounded to the narrower dtype of this name; sums and result have the dtype of x."""
    return xp.matmul(*_rounded(xp, dtype, x, y))


def _rounded(xp: Any, dtype: str, *arrays: Array) -> list[Array]:
    """The arrays, in their dtypes, with the values that the narrower one of this name has."""
    narrow = xp.backend.native(dtype) if hasattr(xp, "backend") else dtype
    return [xp.astype(xp.astype(x, narrow), x.dtype) for x in arrays]


def rounded_attention(
    xp: Any, q: Array, k: Array, v: Array, bias: Array | None, *, scale: float, causal: bool, dtype: str
) -> tuple[Array, Any]:
    """`attention` of q, k and v rounded to the narrower dtype of this name, with sums in that of q.

    The weights and the result, which has the dtype of q, may be rounded, too. The residual is as `attention_grad`
    says, and each of both gradients takes it.
    """
    found: tuple[Array, Any] = xp.attention(*_rounded(xp, dtype, q, k, v), bias, scale=scale, causal=causal)
    return found


def rounded_attention_grad(
    xp: Any,
    g: Array,
    q: Array,
    k: Array,
    v: Array,
    residual: Any,
    scale: float,
    causal: bool = False,
    has_bias: bool = True,
    *,
    dtype: str,
) -> tuple[Array, ...]:
    """`attention_grad` of g, q, k and v rounded to the narrower dtype of this name; see `rounded_attention`."""
    operands = _rounded(xp, dtype, g, q, k, v)
    found: tuple[Array, ...] = xp.attention_grad(*operands, residual, scale, causal, has_bias)
    return found


Pair = tuple[int, int]


def rounded_conv2d(
    xp: Any,
    x: Array,
    weight: Array,
    bias: Array | None,
    *,
    stride: Pair,
    padding: tuple[Pair, Pair],
    dilation: Pair,
    groups: int,
    dtype: str,
) -> Array:
    """`conv2d` of x and weight rounded to the narrower dtype of this name; sums and result have the dtype of x."""
    operands = _rounded(xp, dtype, x, weight)
    return xp.conv2d(*operands, bias, stride=stride, padding=padding, dilation=dilation, groups=groups)


def rounded_conv2d_dx(
    xp: Any,
    g: Array,
    weight: Array,
    *,
    size: Pair,
    stride: Pair,
    padding: tuple[Pair, Pair],
    dilation: Pair,
    groups: int,
    dtype: str,
) -> Array:
    """`conv2d_dx` of g and weight rounded to the narrower dtype of this name; sums and result have the dtype of g."""
    operands = _rounded(xp, dtype, g, weight)
    return xp.conv2d_dx(*operands, size=size, stride=stride, padding=padding, dilation=dilation, groups=groups)


def rounded_conv2d_dw(
    xp: Any,
    g: Array,
    x: Array,
    *,
    kernel: Pair,
    stride: Pair,
    padding: tuple[Pair, Pair],
    dilation: Pair,
    groups: int,
    dtype: str,
) -> Array:
    """`conv2d_dw` of g and x rounded to the narrower dtype of this name; sums and result have the dtype of g."""
    operands = _rounded(xp, dtype, g, x)
    return xp.conv2d_dw(*operands, kernel=kernel, stride=stride, padding=padding, dilation=dilation, groups=groups)


# -- data that are kept on the device ----------------------------------------------------------------


def gather_normalized(xp: Any, data: Array, indices: Array, factor: Array, offset: Array) -> Array:
    """Entries of `data` (samples, …) at `indices` (n,), times `factor` plus `offset`, in the dtype of the factor.

    Both are 0-d, or have one number for each channel (axis 1); product and sum are rounded one after the other.
    """
    batch = xp.astype(xp.take(data, indices, axis=0), factor.dtype)
    around = (1,) * (data.ndim - 2)
    factor, offset = (xp.reshape(t, (t.shape[0], *around)) if t.ndim else t for t in (factor, offset))
    return batch * factor + offset


# -- extended primitives: what the standard lacks. Through the host; `xp.backend` is the backend ------


def scatter_add(xp: Any, array: Array, key: Any, values: Array) -> Array:
    """A copy of `array` with `values` added at `key`; repeated indices add up."""
    b = xp.backend
    host_key = tuple([b.to_numpy(k) if b.owns(k) else k for k in key])
    out = host.scatter_add(b.to_numpy(array), host_key, b.to_numpy(values))
    return b.asarray(out, dtype=b.dtype_of(array), device=b.device_of(array))


def set_item(xp: Any, array: Array, key: Any, values: Array) -> Array:
    """A copy of `array` with `values` at `key`."""
    b = xp.backend
    host_key = tuple([b.to_numpy(k) if b.owns(k) else k for k in key])
    out = host.set_item(b.to_numpy(array), host_key, b.to_numpy(values))
    return b.asarray(out, dtype=b.dtype_of(array), device=b.device_of(array))


def get_item(xp: Any, array: Array, key: Any) -> Array:
    """`array[key]` for keys that the standard does not define, such as several index arrays."""
    b = xp.backend
    if not any(b.owns(k) for k in key):
        return array[key]
    host_key = tuple([b.to_numpy(k) if b.owns(k) else k for k in key])
    out = b.to_numpy(array)[host_key]
    return b.asarray(out, dtype=b.dtype_of(array), device=b.device_of(array))


def erf(xp: Any, x: Array) -> Array:
    """The error function, element by element."""
    b = xp.backend
    return b.asarray(host.erf(b.to_numpy(x)), dtype=b.dtype_of(x), device=b.device_of(x))


IN_PLACE: dict[str, Callable[..., Any]] = {"fill_parts": fill_parts}
"""Name to reference implementation of what only programs contain that write where their inputs are."""

KERNELS: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        relu_grad, linear_dx, linear_dw, colsum, xent_grad, embedding_grad, batch_norm_grad, layer_norm_grad,
        attention_grad, rounded_matmul, rounded_attention, rounded_attention_grad, rounded_conv2d, rounded_conv2d_dx,
        rounded_conv2d_dw, gather_normalized, scatter_add, set_item, get_item, erf,
        sum_of_squares, squares_of_parts, scaled_to_norm, latch, sgd_update, adam_update, rprop_update, sgd_step,
        adam_step, rprop_step,
    )
}  # fmt: skip
"""Name to reference implementation of every performance name."""
