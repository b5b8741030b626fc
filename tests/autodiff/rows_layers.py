"""Rows of what layers and losses are made of, which `framework.numpy` offers in part."""

from __future__ import annotations

from typing import Any

from generated import Array, Call, Draw, Shape, call, row


def _linear(d: Draw) -> Call:
    x, k, m = d.shape(0, 2), d.integer(1, 3), d.integer(1, 3)
    bias = (d.array((m,)),) if d.chance(0.6) else ()
    return call("linear", d.either((*x, k)), d.either((m, k)), *bias)


row("linear", _linear, complex=True)


def _cross_entropy(d: Draw) -> Call:
    lead, classes = d.shape(0, 2, 1), d.integer(1, 4)
    targets = d.integers(lead, 0, classes - 1)
    return call("softmax_cross_entropy", d.array((*lead, classes)), targets, reduction=d.pick(("mean", "sum", "none")))


row("softmax_cross_entropy", _cross_entropy)


def _affine(d: Draw, shape: Shape) -> list[Array]:
    """A weight, or a weight and a bias, or neither."""
    return [d.real(shape, 0.5, 1.5) for _ in range(d.integer(0, 2))]


def _layer_norm(d: Draw) -> Call:
    shape = d.shape(1, 3, 2)
    axis: Any = d.pick((-1, d.axis(len(shape)), tuple(range(-len(shape), 0))))
    return call("layer_norm", d.distinct(shape), *_affine(d, shape[d.integer(0, len(shape) - 1) :]), axis=axis)


def _batch_norm(d: Draw) -> Call:
    """The mean and the variance are results, too."""
    shape = d.shape(2, 3, 2)
    axis = tuple(i for i in range(len(shape)) if i != 1)
    affine = _affine(d, tuple(n if i == 1 else 1 for i, n in enumerate(shape)))
    return call("batch_norm", d.distinct(shape), *affine, axis=axis)


row("layer_norm", _layer_norm)
row("batch_norm", _batch_norm)


def _embedding(d: Draw) -> Call:
    rows = d.integer(1, 3)
    return call("embedding", d.array((rows, d.integer(0, 3))), d.integers(d.shape(0, 2), 0, rows - 1))


def _embedding_grad(d: Draw) -> Call:
    rows = d.integer(1, 3)
    indices = d.integers(d.shape(0, 2), 0, rows - 1)
    padding = d.pick((None, 0))

    def fn(xp: Any, values: Any, indices: Any) -> Any:
        return xp.embedding_grad(values, indices, rows=rows, padding_idx=padding)

    return Call(fn, (d.array((*indices.shape, d.integer(0, 3))), indices), f"embedding_grad rows={rows} {padding}")


row("embedding", _embedding)
row("embedding_grad", _embedding_grad)
