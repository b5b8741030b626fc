"""The rows of the table of the primitives that layers are made of: normalisation and embedding."""

from __future__ import annotations

from typing import Any

import numpy as np
from primitive_table import Array, case, ints, random, text

from framework.autodiff import ops

# -- normalisation ---------------------------------------------------------------------------------


def np_normal(x: Array, weight: Any = 1, bias: Any = 0, *, axis: Any, eps: float = 1e-5) -> tuple[Array, Array, Array]:
    mean, var = x.mean(axis=axis, keepdims=True), x.var(axis=axis, keepdims=True)
    return (x - mean) / np.sqrt(var + eps) * weight + bias, mean, var


def all_three(out: Any, mean: Any, var: Any) -> Any:
    """One array that depends on each of the results in its own way."""
    return out * (1 + 0.25 * mean) + 0.5 * var


BATCH_NORMS = (
    ((4, 3), (0,), (3,)),
    ((3, 2, 2), (0, 2), (2, 1)),
    ((2, 2, 2, 2), (0, 2, 3), (2, 1, 1)),
    ((2, 3), (1,), (2, 1)),
    ((3, 0), (0,), (0,)),
)
for _shape, _axis, _affine in BATCH_NORMS:
    _x, _w, _b = random("bnx", _shape), random("bnw", _affine, 0.5, 2), random("bnb", _affine)
    for _label, _rest, _names in (
        ("", (), ()),
        (" weight", (_w,), ("weight",)),
        (" bias", (_b,), ("bias",)),
        (" affine", (_w, _b), ("weight", "bias")),
    ):

        def _ours(x: Any, *rest: Any, axis: Any = _axis, names: Any = _names) -> Any:
            given = dict(zip(names, rest))
            return all_three(*ops.batch_norm(x, given.get("weight"), given.get("bias"), axis=axis, eps=0.3))

        def _numpy(x: Any, *rest: Any, axis: Any = _axis, names: Any = _names) -> Any:
            return all_three(*np_normal(x, **dict(zip(names, rest)), axis=axis, eps=x.dtype.type(0.3)))

        case("batch_norm", f"{text(_shape)} axis {_axis}{_label}", _ours, _numpy, _x, *_rest)
for _label, _pick in (("only the result", 0), ("only the mean", 1), ("only the variance", 2)):
    case(
        "batch_norm",
        _label,
        lambda x, w, k=_pick: ops.batch_norm(x, w, axis=0, eps=0.1)[k],
        lambda x, w, k=_pick: np_normal(x, w, axis=0, eps=x.dtype.type(0.1))[k],
        random("bnp", (3, 2)),
        random("bnw", (2,)),
    )

for _shape, _axis, _affine in (
    ((3, 4), (-1,), (4,)),
    ((2, 2, 3), (-2, -1), (2, 3)),
    ((2, 3, 2), (1,), (3, 1)),
    ((4,), (-1,), (4,)),
    ((0, 3), (-1,), (3,)),
):
    _x, _w, _b = random("lnx", _shape), random("lnw", _affine), random("lnb", _affine)
    for _label, _rest, _names in (
        ("", (), ()),
        (" weight", (_w,), ("weight",)),
        (" bias", (_b,), ("bias",)),
        (" affine", (_w, _b), ("weight", "bias")),
    ):

        def _ours(x: Any, *rest: Any, axis: Any = _axis, names: Any = _names) -> Any:
            given = dict(zip(names, rest))
            return ops.layer_norm(x, given.get("weight"), given.get("bias"), axis=axis, eps=0.2)

        def _numpy(x: Any, *rest: Any, axis: Any = _axis, names: Any = _names) -> Any:
            return np_normal(x, **dict(zip(names, rest)), axis=axis, eps=x.dtype.type(0.2))[0]

        case("layer_norm", f"{text(_shape)} axis {_axis}{_label}", _ours, _numpy, _x, *_rest)

# -- embedding: the derivative does not see the row padding_idx, so that it has a row of its own ---------


def np_embedding_grad(values: Array, indices: Array, rows: int) -> Array:
    out = np.zeros((rows, values.shape[-1]), values.dtype)
    np.add.at(out, indices, values)
    return out


for _indices in ((4,), (2, 3), (), (0,), (2, 0)):
    case(
        "embedding",
        text(_indices),
        ops.embedding,
        lambda w, i: w[i],
        random("table", (5, 2)),
        ints(_indices, 0, 5),
    )
    case(
        "embedding_grad",
        text(_indices),
        lambda g, i: ops.embedding_grad(g, i, rows=5),
        lambda g, i: np_embedding_grad(g, i, 5),
        random("rows", (*_indices, 2)),
        ints(_indices, 0, 5),
    )
case("embedding", "no columns", ops.embedding, lambda w, i: w[i], np.zeros((3, 0)), np.array([2, 0, 2]))
case(
    "embedding",
    "padding that is not named",
    lambda w, i: ops.embedding(w, i, padding_idx=3),
    lambda w, i: w[i],
    random("table", (5, 2)),
    np.array([[0, 2], [4, 0]]),
)
case(
    "embedding_grad",
    "padding",
    lambda g, i: ops.embedding_grad(g, i, rows=4, padding_idx=1),
    lambda g, i: np_embedding_grad(g * (i != 1)[..., None], i, 4),
    random("rows", (2, 3, 2)),
    np.array([[0, 1, 1], [3, 0, 1]]),
)
case(
    "embedding_grad",
    "one row often",
    lambda g, i: ops.embedding_grad(g, i, rows=3),
    lambda g, i: np_embedding_grad(g, i, 3),
    random("rows", (20, 1)),
    np.array([2] * 18 + [0, 2]),
)
