"""NumPy and JAX under the names of `framework.numpy`: what they call differently, or don't have, is defined here."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from window_table import np_conv, np_gelu, np_take, np_transposed, np_windows

import framework.numpy as fnp
from framework.autodiff import ops


class Namespace:
    """A library's module with other definitions before it; a missing name is looked up in `then`."""

    def __init__(self, module: Any, own: dict[str, Any], then: Any = None) -> None:
        self._module = module
        self._then = then
        self.__dict__.update(own)

    def __getattr__(self, name: str) -> Any:
        if hasattr(self._module, name):
            return getattr(self._module, name)
        if self._then is not None:
            return getattr(self._then, name)
        raise AttributeError(f"{self._module.__name__} has no {name!r}")


OURS = Namespace(fnp, {}, ops)
"""`framework.numpy`, and what else there is for Tensors."""


def _common(xp: Any) -> dict[str, Any]:
    """Definitions by formula, in either library."""

    def softmax(x: Any, axis: Any = -1) -> Any:
        if 0 in x.shape:
            return x * 1
        e = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
        return e / xp.sum(e, axis=axis, keepdims=True)

    def log_softmax(x: Any, axis: Any = -1) -> Any:
        if 0 in x.shape:
            return x * 1
        x = x - xp.max(x, axis=axis, keepdims=True)
        return x - xp.log(xp.sum(xp.exp(x), axis=axis, keepdims=True))

    def cross_entropy(logits: Any, targets: Any, reduction: str = "mean") -> Any:
        loss = -xp.take_along_axis(log_softmax(logits), targets[..., None], axis=-1)[..., 0]
        return loss if reduction == "none" else xp.sum(loss) if reduction == "sum" else xp.mean(loss)

    def standardised(x: Any, weight: Any, bias: Any, axis: Any, eps: float) -> Any:
        mean, var = xp.mean(x, axis=axis, keepdims=True), xp.var(x, axis=axis, keepdims=True)
        return (x - mean) / xp.sqrt(var + eps) * weight + bias, mean, var

    def attention(q: Any, k: Any, v: Any, bias: Any = 0.0, *, scale: float, causal: bool) -> Any:
        e = xp.exp(q @ xp.matrix_transpose(k) * scale + bias)
        e = xp.tril(e) if causal else e
        return e / xp.sum(e, axis=-1, keepdims=True) @ v

    return {
        "relu": lambda x: xp.where(x > 0, x, xp.zeros_like(x)),
        "sigmoid": lambda x: 1 / (1 + xp.exp(-x)),
        "softmax": softmax,
        "log_softmax": log_softmax,
        "logsumexp": lambda x, **kw: xp.log(xp.sum(xp.exp(x), **kw)),
        "softmax_cross_entropy": cross_entropy,
        "linear": lambda x, w, b=0.0: x @ xp.matrix_transpose(w) + b,
        "clone": lambda x: x * 1,
        "to_device": lambda x, device: x * 1,
        "getitem": lambda x, key: x[key],
        "flatten": lambda x, start_dim=0, end_dim=-1: _flatten(xp, x, start_dim, end_dim),
        "layer_norm": lambda x, w=1.0, b=0.0, axis=-1, eps=1e-5: standardised(x, w, b, axis, eps)[0],
        "batch_norm": lambda x, w=1.0, b=0.0, axis=0, eps=1e-5: standardised(x, w, b, axis, eps),
        "embedding": lambda weight, indices: weight[indices],
        "attention": attention,
    }


def _flatten(xp: Any, x: Any, start: int, end: int) -> Any:
    start, end = start % x.ndim, end % x.ndim
    return xp.reshape(x, (*x.shape[:start], math.prod(x.shape[start : end + 1]), *x.shape[end + 1 :]))


def _embedding_grad(xp: Any, add: Any) -> Any:
    """Rows added at indices, by a library's own way to add."""

    def embedding_grad(values: Any, indices: Any, rows: int, padding_idx: int | None) -> Any:
        if padding_idx is not None:
            values = xp.where((indices != padding_idx)[..., None], values, 0.0)
        return add(xp.zeros((rows, values.shape[-1])), indices, values)

    return embedding_grad


def _numpy_set(x: Any, key: Any, value: Any) -> Any:
    out = np.array(x)
    out[key] = value
    return out


def _numpy_add_at(x: Any, key: Any, values: Any) -> Any:
    out = np.array(x)
    np.add.at(out, key, values)
    return out


def _erf(x: Any) -> Any:
    return np.vectorize(math.erf, otypes=[float])(x) if x.size else x * 1.0


def _dx(g: Any, weight: Any, *, size: Any, **p: Any) -> Any:
    shape = (g.shape[0], weight.shape[1] * p["groups"], *size)
    return np_transposed(lambda x: np_conv(x.astype(g.dtype), weight, **p), g * np.ones_like(weight, shape=()), shape)


def _dw(g: Any, x: Any, *, kernel: Any, **p: Any) -> Any:
    shape = (g.shape[1], x.shape[1] // p["groups"], *kernel)
    return np_transposed(lambda w: np_conv(x, w, **p), g * np.ones_like(x, shape=()), shape)


NUMPY = Namespace(
    np,
    {
        **_common(np),
        "gelu": np_gelu,
        "conv2d": np_conv,
        "conv2d_dx": _dx,
        "conv2d_dw": _dw,
        "max_pool2d": lambda x, **p: np_windows(x, -np.inf, **p).max(axis=-1),
        "max_pool2d_take": lambda t, x, **p: np_take(t, x, p),
        "max_pool2d_put": lambda g, x, **p: np_transposed(lambda t: np_take(t, x, p), g, x.shape),
        "window_sum": lambda x, **p: np_windows(x, 0, **p).sum(axis=-1),
        "window_spread": lambda g, *, size, **p: np_transposed(
            lambda x: np_windows(x, 0, **p).sum(axis=-1), g, (*g.shape[:-2], *size)
        ),
        "erf": _erf,
        "setitem": _numpy_set,
        "scatter_add": _numpy_add_at,
        "embedding_grad": _embedding_grad(np, _numpy_add_at),
        "sort": lambda x, axis=-1, descending=False, stable=True: (
            np.flip(np.sort(x, axis=axis), axis=axis) if descending else np.sort(x, axis=axis)
        ),
    },
)


def jax_namespace() -> Namespace:
    """`jax.numpy` under our names."""
    import jax
    import jax.numpy as jnp

    own = _common(jnp)
    own.update(
        erf=jax.scipy.special.erf,
        setitem=lambda x, key, value: jnp.asarray(x).at[key].set(value),
        scatter_add=lambda x, key, values: jnp.asarray(x).at[key].add(values),
        # its own gives a scalar an axis
        median=lambda x, **kw: jnp.median(x, **kw) if x.ndim else x * 1,
        # its own has the derivative 0 for complex numbers, too
        sign=lambda x: x / jnp.abs(x) if jnp.iscomplexobj(x) else jnp.sign(x),
        linalg=Namespace(jnp.linalg, {"det": lambda x: jnp.linalg.det(x) if x.size else jnp.ones(x.shape[:-2])}),
        embedding_grad=_embedding_grad(jnp, lambda x, key, values: x.at[key].add(values)),
        # axes counted from the end
        permute_dims=lambda x, axes: jnp.permute_dims(x, tuple(a % x.ndim for a in axes)),
        ravel=lambda x: jnp.reshape(x, (-1,)),
    )
    return Namespace(jnp, own)


__all__ = ["NUMPY", "OURS", "Namespace", "jax_namespace"]
