"""Recipes of the layers' kernels: affine maps and the cross-entropy."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from framework.backend.program import results
from fw_cpu import activations, attention, convolution, indexing, linear, losses, normalization, pooling, sharing
from fw_cpu.constants import ones_of, rows_of
from fw_cpu.layouts import Layout
from fw_cpu.recipes import Call, Instruction, Recipe, Thunk, floating, vector

Array = Any


def _linear(call: Call) -> Instruction | None:
    x, weight, bias = call.args if len(call.args) == 3 else (*call.args, None)
    out = call.outs[0]
    if not floating(x, weight, out) or (bias is not None and not floating(x, bias)):
        return None
    if x.ndim == 2 and not _transposed(out).is_c:
        return None

    def make(args: Any, outs: Any, scratch: Any) -> list[Thunk]:
        x, weight, out = args[0], args[1], outs[0]
        bias = args[2] if len(args) == 3 else None
        if x.ndim != 2:
            return _by_rows(x, weight.T, out, bias)
        out, bias = out.T, None if bias is None else bias[:, None]
        return _added(_product(weight, x.T, out), out, bias)

    return Instruction(make, name="dot" if bias is None else "dot, add")


def _by_rows(x: Array, matrix: Array, out: Array, bias: Array = None) -> list[Thunk]:
    """As `linear` has it."""
    if x.ndim > 2 and matrix.ndim == 2 and x.flags.c_contiguous:
        return _product(x.reshape(-1, x.shape[-1]), matrix, out.reshape(-1, out.shape[-1]), bias)
    return _added([partial(np.matmul, x, matrix, out)], out, bias)


def _product(a: Array, b: Array, out: Array, bias: Array = None) -> list[Thunk]:
    """As `sharing.product`, which is asked only where it may cut: a small product is one call of BLAS."""
    if a.size * b.shape[1] > sharing.LARGE:
        return [partial(sharing.product, a, b, out, bias)]
    return _added([partial(a.dot, b, out)], out, bias)


def _added(calls: list[Thunk], out: Array, bias: Array) -> list[Thunk]:
    """The calls that make `out`, and then a bias added, if there is one."""
    return calls if bias is None else [*calls, partial(np.add, out, bias, out)]


def _transposed(x: Layout) -> Layout:
    return Layout(x.shape[::-1], x.dtype, x.strides[::-1])


def _linear_dx(call: Call) -> Instruction | None:
    g, weight = call.args
    out = call.outs[0]
    if not floating(g, weight, out) or (g.ndim == 2 and not _transposed(out).is_c):
        return None
    if g.ndim != 2:
        return Instruction(lambda args, outs, _: _by_rows(args[0], args[1], outs[0]), name="dot")
    return Instruction(lambda args, outs, _: _product(args[1].T, args[0].T, outs[0].T), name="dot")


def _linear_dw(call: Call) -> Instruction | None:
    g, x = call.args[:2]
    out = call.outs[0]
    if not floating(g, x, out) or not out.is_c or (g.ndim != 2 and not (g.is_c and x.is_c)):
        return None

    def make(args: Any, outs: Any, scratch: Any) -> list[Thunk]:
        g, x = args[0], args[1]
        if g.ndim != 2:
            g, x = g.reshape(-1, g.shape[-1]), x.reshape(-1, x.shape[-1])
        if linear.is_large_outer(g, x):
            return [partial(np.einsum, linear.OUTER, g[0], x[0], out=outs[0])]
        return _product(g.T, x, outs[0])

    return Instruction(make, name="dot")


def _rows_of(g: Array, n: int) -> Array:
    return g if g.ndim == 2 else g.reshape(-1, n)


def _colsum(call: Call) -> Instruction | None:
    g, out = call.args[0], call.outs[0]
    if (g.ndim == 2 or (g.ndim > 2 and g.is_c)) and floating(g, out):
        ones, n = ones_of(g.size // g.shape[-1], g.dtype), g.shape[-1]
        return Instruction(lambda args, outs, _: [partial(_rows_of(args[0], n).T.dot, ones, outs[0])], name="dot")
    axes = tuple(range(g.ndim - 1))
    return Instruction(
        lambda args, outs, _: [partial(np.add.reduce, args[0], axes, None, outs[0], False)], name="add.reduce"
    )


# -- cross-entropy -----------------------------------------------------------------------------------


def _softmax_cross_entropy(call: Call) -> Instruction | None:
    logits, targets = call.args
    if len(call.outs) != 2 or logits.ndim != 2 or not floating(logits, *call.outs) or logits.dtype.itemsize < 4:
        return None
    n, reduction = targets.shape[0], call.params["reduction"]
    count = np.array(n, logits.dtype)

    def make(args: Any, outs: Any, scratch: Any) -> list[Thunk]:
        (logits, targets), (loss, p) = args, outs
        total = loss if reduction == "none" else scratch[0]
        z, named = _named(p, targets)
        calls: list[Thunk] = [
            partial(np.maximum.reduce, logits.T, 0, None, total),
            partial(_cross_entropy, logits.T, p.T, z, named, total),
        ]
        if reduction != "none":
            calls.append(partial(np.add.reduce, total, 0, None, loss))
        if reduction == "mean" and n > 1:
            calls.append(partial(np.divide, loss, count, loss))
        return calls

    return Instruction(make, (vector(n, logits.dtype),), ((0, 1),), "softmax_cross_entropy")


def _named(p: Array, targets: Array) -> tuple[Array, Any]:
    """A view of the probabilities and what picks those of the targets from it; of one row the targets do."""
    n = len(targets)
    return (p[0], targets) if n == 1 else (p.T, (targets, rows_of(n)))


def _cross_entropy(logits: Array, z: Array, rows: Array, named: Any, total: Array) -> None:
    """The losses into `total`, which holds the maxima, the probabilities into `z`, of which `rows` is a view."""
    np.subtract(logits, total, z)
    picked = rows[named]
    np.exp(z, z)
    np.add.reduce(z, 0, None, total)
    np.divide(z, total, z)
    np.log(total, total)
    np.subtract(total, picked, total)


def _xent_grad(call: Call) -> Instruction | None:
    p, _, g = call.args
    if p.ndim != 2 or not isinstance(g, Layout) or not floating(p, g, call.outs[0]):
        return None

    def make(args: Any, outs: Any, scratch: Any) -> list[Thunk]:
        p, targets, g = args
        scale = g[:, 0] if g.ndim else g
        to, named = _named(outs[0], targets)
        return [partial(_scaled_difference, p.T, outs[0].T, _named(p, targets)[0], to, named, scale)]

    return Instruction(make, shared=((0, 0),), name="xent_grad")


def _scaled_difference(p: Array, out: Array, rows: Array, to: Array, named: Any, scale: Array) -> None:
    """`(p − one_hot) * scale`; `rows` and `to` are views of `p` and `out` that `named` picks the targets from."""
    picked = rows[named]
    np.multiply(p, scale, out)
    picked -= 1
    picked *= scale
    to[named] = picked


# -- normalisation -----------------------------------------------------------------------------------


def _first_to(fn: Any) -> Recipe:
    """A kernel that is given the array for its first result, and returns small ones beside it."""

    def recipe(call: Call) -> Instruction | None:
        arrays = [a for a in call.args if isinstance(a, Layout)]
        if not floating(*arrays, *call.outs) or call.outs[0].shape != arrays[0].shape:
            return None

        def make(args: Any, outs: Any, scratch: Any) -> list[Thunk]:
            return [partial(_with_small, partial(fn, outs[0], *args, **call.params), outs[1:])]

        return Instruction(make, name=call.fn.__name__)

    return recipe


def _to_all(fn: Any) -> Recipe:
    """A kernel that is given arrays for all of its results."""

    def recipe(call: Call) -> Instruction | None:
        arrays = [a for a in call.args if isinstance(a, Layout)]
        if not floating(*arrays, *call.outs):
            return None
        params = call.params
        return Instruction(lambda args, outs, _: [partial(fn, outs, *args, **params)], name=call.fn.__name__)

    return recipe


def _to_one(fn: Any, channels_last: bool = False) -> Recipe:
    """A kernel that is given the array for its result, which may have to have channels last in memory."""

    def recipe(call: Call) -> Instruction | None:
        arrays = [a for a in call.args if isinstance(a, Layout)]
        out = call.outs[0]
        if not floating(*arrays, out) or (channels_last and not _channels_last(out).is_c):
            return None
        params = call.params
        return Instruction(lambda args, outs, _: [partial(fn, outs[0], *args, **params)], name=call.fn.__name__)

    return recipe


def _channels_last(x: Layout) -> Layout:
    order = (0, 2, 3, 1)
    return Layout(tuple([x.shape[a] for a in order]), x.dtype, tuple([x.strides[a] for a in order]))


def _with_small(kernel: Thunk, outs: list[Array]) -> None:
    for out, made in zip(outs, results(kernel())[1:]):
        np.copyto(out, made)


# -- rows of a table ---------------------------------------------------------------------------------


def embedding(call: Call) -> Instruction | None:
    """Rows of a table: a weight (rows, n), and their numbers."""
    weight, indices = call.args
    if not (isinstance(indices, Layout) and call.outs[0].is_c and weight.ndim == 2) or indices.dtype.kind not in "iu":
        return None
    rows, width = weight.shape

    def make(args: Any, outs: Any, scratch: Any) -> list[Thunk]:
        return [partial(_take_rows, args[0], args[1].reshape(-1), outs[0].reshape(-1, width), rows)]

    return Instruction(make, name="take") if indices.is_c else None


def _take_rows(table: Array, indices: Array, out: Array, rows: int) -> None:
    """`take` writes to `out` at once only if it need not refuse an index."""
    if np.minimum.reduce(indices) < -rows or np.maximum.reduce(indices) >= rows:
        np.take(table, indices, axis=0)  # refuses it
    np.take(table, indices, 0, out, "wrap")


def _embedding_grad(call: Call) -> Instruction | None:
    if len(call.args) != 2 or not floating(call.args[0], call.outs[0]) or not call.outs[0].is_c:
        return None
    fn, params = indexing.embedding_grad_to, call.params
    return Instruction(lambda args, outs, _: [partial(fn, outs[0], *args, **params)], name="embedding_grad")


LAYERS: dict[Any, Recipe] = {
    linear.linear: _linear,
    linear.linear_dx: _linear_dx,
    linear.linear_dw: _linear_dw,
    linear.colsum: _colsum,
    losses.softmax_cross_entropy: _softmax_cross_entropy,
    losses.xent_grad: _xent_grad,
    indexing.embedding_grad: _embedding_grad,
    normalization.layer_norm: _first_to(normalization.layer_norm_to),
    normalization.batch_norm: _first_to(normalization.batch_norm_to),
    normalization.batch_norm_grad: _first_to(normalization.batch_norm_grad_to),
    normalization.layer_norm_grad: _to_all(normalization.layer_norm_grad_to),
    activations.gelu: _to_all(activations.gelu_to),
    convolution.conv2d: _to_one(convolution.conv2d_to, channels_last=True),
    convolution.conv2d_dx: _to_one(convolution.conv2d_dx_to, channels_last=True),
    convolution.conv2d_dw: _to_one(convolution.conv2d_dw_to),
    pooling.max_pool2d: _to_one(pooling.max_pool2d_to),
    pooling.max_pool2d_put: _to_one(pooling.max_pool2d_put_to),
    pooling.window_sum: _to_one(pooling.window_sum_to),
    attention.attention: _to_all(attention.attention_to),
    attention.attention_grad: _to_all(attention.attention_grad_to),
}
