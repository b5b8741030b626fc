"""Samples of shapes, joining, indexing, order and rows of tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from framework.autodiff.primitives.keys import HOLE
from framework.testing.sampling import Arrays, Draw, Sample, Table, also_complex, between, drawn, with_params

# -- shapes, joining, taking apart ---------------------------------------------------------------------

_SHAPES: Table = {
    "reshape": (
        Sample(drawn("signed", (2, 3, 2)), {"shape": (4, 3)}),
        Sample(drawn("signed", ()), {"shape": (1, 1)}),
        Sample(drawn("signed", (0, 3)), {"shape": (3, 0, 2)}),
        Sample(between(0, 9, (2, 3)), {"shape": (6,)}, kind="int"),
        Sample(drawn("bools", (2, 3)), {"shape": (6,)}, kind="bool"),
    ),
    "broadcast_to": (
        Sample(drawn("signed", (3, 1)), {"shape": (2, 3, 4)}),
        Sample(drawn("signed", ()), {"shape": (2, 3)}),
        Sample(drawn("signed", (1, 2)), {"shape": (0, 2)}),
    ),
    "permute_dims": (
        Sample(drawn("signed", (2, 3, 4)), {"axes": (-1, -3, -2)}),
        Sample(drawn("signed", (2, 3)), {"axes": (-1, -2)}),
        Sample(drawn("signed", (0, 3)), {"axes": (-1, -2)}),
    ),
    "flip": with_params(drawn("signed", (2, 3)), [{"axis": (-1,)}, {"axis": (-2, -1)}]),
    "roll": (
        Sample(drawn("signed", (4,)), {"shift": (1,), "axis": (-1,)}),
        Sample(drawn("signed", (2, 3)), {"shift": (-1, 5), "axis": (-2, -1)}),
        Sample(drawn("signed", (0, 3)), {"shift": (2,), "axis": (-2,)}),
        Sample(between(0, 9, (5,)), {"shift": (2,), "axis": (-1,)}, kind="int"),
    ),
    "concat_arrays": (
        Sample(drawn("signed", (2, 3), (2, 1)), {"axis": -1, "lengths": (3, 1)}),
        Sample(drawn("signed", (2, 3), (0, 3), (1, 3)), {"axis": -2, "lengths": (2, 0, 1)}),
        Sample(between(0, 9, (2,), (3,)), {"axis": -1, "lengths": (2, 3)}, kind="int"),
    ),
    "split_at": (
        Sample(drawn("signed", (2, 3)), {"at": 1, "axis": -1}),
        Sample(drawn("signed", (3, 2)), {"at": 3, "axis": -2}),
        Sample(drawn("signed", (0, 2)), {"at": 0, "axis": -2}),
        Sample(between(0, 9, (5,)), {"at": 2, "axis": -1}, kind="int"),
        Sample(drawn("bools", (2, 3)), {"at": 1, "axis": -1}, kind="bool"),
    ),
}

# -- indexing: parts hold the fixed items of a key, HOLE stands for the next index array -----------------

_ALL = slice(None)
_KEYS: tuple[tuple[tuple[Any, ...], tuple[tuple[int, ...], ...]], ...] = (
    ((1, slice(None, None, 2)), ()),
    ((slice(3, 0, -1), None, -1), ()),
    ((HOLE,), ((5,),)),
    ((HOLE, _ALL), ((2, 3),)),
    ((HOLE, HOLE), ((2, 1), (3,))),
    ((_ALL, HOLE), ((3,),)),
)


def _indexed(shapes: tuple[tuple[int, ...], ...]) -> Callable[[Draw], Arrays]:
    """An array of shape (4, 4) and index arrays, with repeated and negative indices."""
    return lambda d: (d.signed(4, 4), *(d.integers(-4, 4, *shape) for shape in shapes))


def _added(parts: tuple[Any, ...], shapes: tuple[tuple[int, ...], ...]) -> Callable[[Draw], Arrays]:
    """Values for the places that the key selects, and the index arrays."""
    selection = np.zeros((4, 4))[_fill(parts, tuple(np.zeros(s, np.int64) for s in shapes))].shape
    return lambda d: (d.signed(*selection), *_indexed(shapes)(d)[1:])


def _fill(parts: tuple[Any, ...], indices: Arrays) -> Any:
    rest = iter(indices)
    return tuple(next(rest) if part is HOLE else part for part in parts)


_INDEXING: Table = {
    "getitem_parts": (
        *(Sample(_indexed(shapes), {"parts": parts}) for parts, shapes in _KEYS),
        Sample(lambda d: (d.integers(0, 9, 4, 4), d.integers(0, 4, 3)), {"parts": (HOLE,)}, kind="int"),
    ),
    "index_add_parts": tuple(
        Sample(_added(parts, shapes), {"parts": parts, "shape": (4, 4)}) for parts, shapes in _KEYS
    ),
    "setitem_parts": (
        Sample(drawn("signed", (4, 4), (2,)), {"parts": (1, slice(None, None, 2))}),
        Sample(drawn("signed", (4, 4), ()), {"parts": (slice(1, 3), _ALL)}),
        Sample(lambda d: (d.signed(4, 4), d.signed(3, 4), d.rng.permutation(4)[:3]), {"parts": (HOLE, _ALL)}),
        Sample(
            lambda d: (d.signed(4, 4), d.signed(3), d.rng.permutation(4)[:3], d.integers(0, 4, 3)),
            {"parts": (HOLE, HOLE)},
        ),
    ),
    "nonzero_table": (Sample(drawn("bools", (3, 4)), kind="bool", rules=False, batch=False),),
}

# -- order and place -------------------------------------------------------------------------------------


def _separate(*shape: int) -> Callable[[Draw], Arrays]:
    return lambda d: (d.distinct(shape),)


def _places(*shape: int) -> Callable[[Draw], Arrays]:
    return lambda d: (np.sort(d.distinct((5,))), d.signed(*shape))


_ORDERS = tuple(
    Sample(_separate(*shape), {"axis": axis, "descending": down, "stable": True})
    for shape, axis in (((5,), -1), ((3, 4), -2), ((2, 0), -1))
    for down in (False, True)
)
_TIES = with_params(
    between(0, 3, (3, 5)),
    [{"axis": -1, "descending": down, "stable": True} for down in (False, True)],
    kind="int",
    rules=False,
)
_ORDERED: Table = {
    "sort": _ORDERS + _TIES,
    "argsort": tuple(replace(sample, rules=False) for sample in _ORDERS) + _TIES,
    "searchsorted": tuple(
        Sample(_places(*shape), {"side": side}, rules=False)
        for shape in ((3,), (2, 2), (), (0,))
        for side in ("left", "right")
    ),
}

# -- rows of a table; the row `padding_idx` is a constant, so the reference takes it as the zeros it is ---


def _table_with_padding(d: Draw) -> Arrays:
    weight = d.signed(4, 2)
    weight[1] = 0.0
    return weight, np.concatenate([d.integers(0, 4, 4), [1]])


def _rows(*shape: int) -> Callable[[Draw], Arrays]:
    return lambda d: (d.signed(4, 2), d.integers(0, 4, *shape))


def _into_rows(*shape: int) -> Callable[[Draw], Arrays]:
    return lambda d: (d.signed(*shape, 2), d.integers(0, 4, *shape))


_EMBEDDING: Table = {
    "embedding": (
        *(Sample(_rows(*shape), {"padding_idx": None}) for shape in ((6,), (2, 3), (), (0,))),
        Sample(_table_with_padding, {"padding_idx": 1}),
    ),
    "embedding_grad": tuple(
        Sample(_into_rows(*shape), {"rows": 4, "padding_idx": padding})
        for shape, padding in (((6,), None), ((2, 3), 1), ((), None), ((0,), None))
    ),
}

INDEXING = also_complex(
    {**_SHAPES, **_INDEXING, **_ORDERED, **_EMBEDDING},
    "reshape", "broadcast_to", "permute_dims", "flip", "roll", "concat_arrays", "split_at",
    "getitem_parts", "index_add_parts", "setitem_parts",
)  # fmt: skip
"""Name of a primitive to its samples."""

# -- references ------------------------------------------------------------------------------------------


def _getitem(x: Any, *indices: Any, parts: Any) -> Any:
    return x[_fill(parts, indices)]


def _index_add(values: Any, *indices: Any, shape: Any, parts: Any) -> Any:
    out = np.zeros(shape, values.dtype)
    np.add.at(out, _fill(parts, indices), values)
    return out


def _setitem(x: Any, value: Any, *indices: Any, parts: Any) -> Any:
    out = x.copy()
    out[_fill(parts, indices)] = value
    return out


def _sort(x: Any, *, axis: int, descending: bool, stable: bool) -> Any:
    out = np.sort(x, axis=axis)
    return np.flip(out, axis) if descending else out


def _argsort(x: Any, *, axis: int, descending: bool, stable: bool) -> Any:
    if not descending:
        return np.argsort(x, axis=axis, kind="stable")
    return x.shape[axis] - 1 - np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)


def _embedding(weight: Any, indices: Any, *, padding_idx: int | None) -> Any:
    rows = weight.copy()
    if padding_idx is not None:
        rows[padding_idx] = 0.0
    return rows[indices]


def _embedding_grad(values: Any, indices: Any, *, rows: int, padding_idx: int | None) -> Any:
    out = np.zeros((rows, values.shape[-1]), values.dtype)
    np.add.at(out, indices, values)
    if padding_idx is not None:
        out[padding_idx] = 0.0
    return out


INDEXING_REFERENCES: dict[str, Callable[..., Any]] = {
    "reshape": lambda x, *, shape: np.reshape(x, shape),
    "broadcast_to": lambda x, *, shape: np.broadcast_to(x, shape),
    "permute_dims": lambda x, *, axes: np.transpose(x, axes),
    "roll": lambda x, *, shift, axis: np.roll(x, shift, axis=axis),
    "concat_arrays": lambda *arrays, axis, lengths: np.concatenate(arrays, axis=axis),
    "split_at": lambda x, *, at, axis: tuple(np.split(x, [at], axis=axis)),
    "getitem_parts": _getitem,
    "index_add_parts": _index_add,
    "setitem_parts": _setitem,
    "nonzero_table": lambda x: np.stack(np.nonzero(x)),
    "sort": _sort,
    "argsort": _argsort,
    "searchsorted": lambda x1, x2, *, side: np.searchsorted(x1, x2, side=side),
    "embedding": _embedding,
    "embedding_grad": _embedding_grad,
}
