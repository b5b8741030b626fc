"""Where NumPy, used with care, is faster than the plain composition.

Two-dimensional activations are kept feature-major: the result of `linear` is the transpose of a
C-contiguous (out, batch) array, which makes its product and those of its gradients the fastest
that BLAS has. Updates are written in place, in blocks that stay in the cache.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from fw_cpu.normalization import NORMALIZATION

Array = Any


def linear(x: Array, weight: Array, bias: Array = None) -> Array:
    """`x @ weight.T + bias`."""
    if x.ndim != 2:
        out = np.matmul(x, weight.T)
        if bias is not None:
            out += bias
        return out
    if len(x) == 1:  # a K = 1 product in the backward pass; here a matrix times a vector
        out = np.matmul(weight, x[0])
        if bias is not None:
            out += bias
        return out[None]
    out = np.matmul(weight, x.T)
    if bias is not None:
        out += bias[:, None]
    return out.T


def linear_dx(g: Array, weight: Array) -> Array:
    """`g @ weight`."""
    if g.ndim != 2:
        return np.matmul(g, weight)
    return np.matmul(weight.T, g.T).T


def linear_dw(g: Array, x: Array) -> Array:
    """`g.T @ x` over all rows."""
    if g.ndim != 2:
        g = g.reshape(-1, g.shape[-1])
        x = x.reshape(-1, x.shape[-1])
    if len(g) == 1:  # an outer product is not a GEMM, but one padded with a row of zeros is a fast one
        g2 = np.zeros((2, g.shape[1]), g.dtype)
        x2 = np.zeros((2, x.shape[1]), x.dtype)
        g2[0] = g[0]
        x2[0] = x[0]
        return np.matmul(g2.T, x2)
    return np.matmul(g.T, x)


_ones: dict[tuple[int, Any], Array] = {}


def _ones_of(n: int, dtype: Any) -> Array:
    key = (n, dtype)
    found = _ones.get(key)
    if found is None:
        if len(_ones) > 64:
            _ones.clear()
        found = _ones[key] = np.ones(n, dtype)
    return found


def colsum(g: Array) -> Array:
    """Sum over all axes but the last."""
    if g.ndim == 2 and g.dtype.kind == "f":
        return np.matmul(g.T, _ones_of(g.shape[0], g.dtype))
    return g.sum(axis=tuple(range(g.ndim - 1)))


_rows: dict[int, Array] = {}


def _rows_of(n: int) -> Array:
    found = _rows.get(n)
    if found is None:
        if len(_rows) > 64:
            _rows.clear()
        found = _rows[n] = np.arange(n)
    return found


_zeros: dict[tuple[Any, ...], Array] = {}


def relu(x: Array) -> Array:
    """max(x, 0): with an array of zeros, because NumPy does not vectorise the scalar form."""
    if x.ndim == 0:
        return np.maximum(x, x.dtype.type(0))
    key = (x.shape, x.dtype, x.flags.f_contiguous)
    zeros = _zeros.get(key)
    if zeros is None:
        if len(_zeros) > 16:
            _zeros.clear()
        zeros = np.zeros(x.shape, x.dtype, order="F" if x.flags.f_contiguous else "C")
        if zeros.nbytes <= 1 << 22:
            _zeros[key] = zeros
    return np.maximum(x, zeros)


def relu_grad(g: Array, out: Array) -> Array:
    """`g` where `out > 0`."""
    return g * (out > 0)


def softmax_cross_entropy(logits: Array, targets: Array, *, reduction: str) -> tuple[Array, Array]:
    """Loss and probabilities, with as few temporaries as NumPy allows."""
    if logits.ndim != 2 or logits.dtype.kind != "f" or targets.shape[0] == 0:
        return _xent_reference(logits, targets, reduction)
    z = logits.T  # (classes, rows): reductions over the first axis are the fast ones
    z = z - np.maximum.reduce(z, axis=0)
    n = targets.shape[0]
    picked = z[targets, _rows_of(n)]
    np.exp(z, out=z)
    total = np.add.reduce(z, axis=0)
    loss = np.log(total)
    loss -= picked
    z /= total
    if reduction == "mean":
        loss = np.add.reduce(loss) / n
    elif reduction == "sum":
        loss = np.add.reduce(loss)
    return loss, z.T


def _xent_reference(logits: Array, targets: Array, reduction: str) -> tuple[Array, Array]:
    z = logits - logits.max(axis=-1, keepdims=True)
    e = np.exp(z)
    total = e.sum(axis=-1, keepdims=True)
    loss = (np.log(total) - np.take_along_axis(z, targets[..., None], axis=-1))[..., 0]
    loss = loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.mean()
    return loss, e / total


def xent_grad(probabilities: Array, targets: Array, g: Array) -> Array:
    """`(probabilities − one_hot(targets)) * g` without the one-hot array."""
    if probabilities.ndim != 2:
        classes = np.arange(probabilities.shape[-1])
        return (probabilities - (targets[..., None] == classes)) * np.asarray(g, probabilities.dtype)
    out = probabilities.T.copy()
    out[targets, _rows_of(targets.shape[0])] -= 1
    out *= g if np.ndim(g) == 0 else g.T
    return out.T


_FREQUENT = 16
"""Rows named more often than this are summed one by one; the others side by side, a value of each at a time."""


def embedding_grad(g: Array, indices: Array, rows: int, padding_idx: int | None = None) -> Array:
    """Zeros (rows, n) with `g` (..., n) added at rows `indices` (...): grouped by a sort, then whole rows are added."""
    n, width = indices.size, g.shape[-1]
    out = np.zeros((rows, width), g.dtype)
    if not n:
        return out
    g = g.reshape(n, width)
    named = indices.reshape(n)
    order = np.argsort(named.astype(np.uint16) if rows <= 1 << 16 else named, kind="stable")  # 16 bits sort by radix
    named = named[order]
    starts = np.append(0, np.flatnonzero(named[1:] != named[:-1]) + 1)
    counts = np.diff(starts, append=n)
    falling = np.argsort(-counts, kind="stable")
    starts, counts = starts[falling], counts[falling]
    names = named[starts]
    alone = int(np.searchsorted(-counts, -_FREQUENT))  # how many are named more often
    for row, start, count in zip(names[:alone].tolist(), starts[:alone].tolist(), counts[:alone].tolist()):
        np.add.reduce(g.take(order[start : start + count], axis=0), axis=0, out=out[row])
    names, starts, counts = names[alone:], starts[alone:], counts[alone:]
    if len(names):
        sums = g.take(order[starts], axis=0)
        for k in range(1, int(counts[0])):
            live = int(np.searchsorted(-counts, -k))
            sums[:live] += g.take(order[starts[:live] + k], axis=0)
        out[names] = sums
    if padding_idx is not None:
        out[padding_idx] = 0
    return out


def scatter_add(array: Array, key: Any, values: Array) -> Array:
    """A copy of `array` with `values` added at `key`."""
    out = np.array(array)  # a scalar, which NumPy makes of 0-d results, cannot be written to
    np.add.at(out, key, values)
    return out


def set_item(array: Array, key: Any, values: Array) -> Array:
    """A copy of `array` with `values` at `key`; where a place is named several times, the last of them.

    NumPy writes in the order of memory, so that it is the last only if all lie in memory as they are read.
    """
    out = np.array(array)  # a scalar, which NumPy makes of 0-d results, cannot be written to
    key = tuple([np.asarray(k, order="C") if isinstance(k, np.ndarray) else k for k in key])
    out[key] = np.asarray(values, order="C")
    return out


def get_item(array: Array, key: Any) -> Array:
    """`array[key]`."""
    return array[key]


def sum_of_squares(x: Array) -> Array:
    """The sum of x², by BLAS."""
    flat = x.ravel(order="K")
    return np.dot(flat, flat)


# -- updates, in place -------------------------------------------------------------------------------


def _is_flat(*arrays: Array) -> bool:
    first = arrays[0].flags
    return (first.c_contiguous or first.f_contiguous) and all(
        a.flags.c_contiguous == first.c_contiguous and a.flags.f_contiguous == first.f_contiguous for a in arrays[1:]
    )


def sgd_update(
    p: Array,
    g: Array,
    velocity: Array | None,
    lr: float,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
) -> tuple[Array, Array | None]:
    """One step of SGD in place: three passes over memory in the plain momentum case."""
    if not p.flags.writeable:
        p = p.copy()
    if weight_decay:
        g = g + weight_decay * p
    if not momentum:
        p -= lr * g
        return p, velocity
    if velocity is None:
        velocity = np.array(g, copy=True, order="K")
    else:
        velocity *= momentum
        velocity += g if dampening == 0 else (1.0 - dampening) * g
    if nesterov:
        p -= lr * (g + momentum * velocity)
    else:
        p -= lr * velocity
    return p, velocity


def adam_update(
    p: Array,
    g: Array,
    m: Array,
    v: Array,
    step: int,
    lr: float,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    decoupled: bool,
) -> tuple[Array, Array, Array]:
    """One step of Adam in place."""
    if not p.flags.writeable:
        p = p.copy()
    if weight_decay:
        if decoupled:
            p *= 1.0 - lr * weight_decay
        else:
            g = g + weight_decay * p
    b1, b2 = betas
    m *= b1
    m += (1.0 - b1) * g
    v *= b2
    t = np.asarray(g * g)  # of 0-d arrays NumPy returns a scalar
    t *= 1.0 - b2
    v += t
    np.sqrt(v, out=t)
    t /= (1.0 - b2**step) ** 0.5
    t += eps
    np.divide(m, t, out=t)
    t *= lr / (1.0 - b1**step)
    p -= t
    return p, m, v


# -- without the functions that NumPy wraps its own methods in -------------------------------------------


_reduce: Any = np.add.reduce


def sum(x: Array, *, axis: Any = None, keepdims: bool = False) -> Array:
    """Sum over `axis`."""
    return _reduce(x, axis=axis, keepdims=keepdims)


def min(x: Array, *, axis: Any, keepdims: bool) -> Array:
    """Minimum over `axis`, without NumPy's wrapper."""
    return np.minimum.reduce(x, axis=axis, keepdims=keepdims)


def max(x: Array, *, axis: Any, keepdims: bool) -> Array:
    """Maximum over `axis`, without NumPy's wrapper."""
    return np.maximum.reduce(x, axis=axis, keepdims=keepdims)


def astype(x: Array, dtype: Any) -> Array:
    """A copy cast to `dtype`."""
    return x.astype(dtype)


KERNELS: dict[str, Callable[..., Any]] = NORMALIZATION | {
    f.__name__: f
    for f in (
        linear, linear_dx, linear_dw, colsum, relu, relu_grad, softmax_cross_entropy, xent_grad, embedding_grad,
        scatter_add, set_item, get_item, sum_of_squares, sgd_update, adam_update, sum, min, max, astype,
    )
}  # fmt: skip
