"""The rows of the table of primitives that read and write by index."""

from __future__ import annotations

from typing import Any

import numpy as np
from primitive_table import Array, bools, case, random

from framework.autodiff import ops
from framework.autodiff.primitives.keys import HOLE

# -- indexing: a key may hold the places of index arrays, which are inputs ---------------------------

I = object()


def filled(key: tuple[Any, ...], indices: tuple[Any, ...]) -> tuple[Any, ...]:
    it = iter(indices)
    return tuple(next(it) if part is I else part for part in key)


KEYS: tuple[tuple[str, tuple[int, ...], tuple[Any, ...], tuple[Any, ...]], ...] = (
    ("integer", (3, 2), (1,), ()),
    ("negative", (3, 2), (-1, -2), ()),
    ("slice", (4,), (slice(1, 3),), ()),
    ("step", (5,), (slice(4, None, -2),), ()),
    ("empty slice", (3,), (slice(2, 2),), ()),
    ("ellipsis", (2, 2, 2), (..., 0), ()),
    ("new axis", (2, 2), (None, slice(None), None, 1), ()),
    ("scalar", (), (), ()),
    ("rows", (3, 2), (I,), ([2, 0],)),
    ("repeated", (3, 2), (I,), ([1, 1, 0, 1],)),
    ("negative rows", (3,), (I,), ([-1, 0, -1],)),
    ("no rows", (3, 2), (I,), (np.zeros(0, np.int64),)),
    ("table of rows", (3, 2), (I,), ([[0, 1], [2, 2]],)),
    ("columns", (2, 3), (slice(None), I), ([2, 0, 2],)),
    ("pairs", (3, 3), (I, I), ([0, 2, 0], [1, 1, 1])),
    ("broadcast pairs", (3, 3), (I, I), ([[0], [2]], [1, 0])),
    ("row and integer", (3, 2, 2), (I, 1), ([2, 0],)),
    ("arrays apart", (2, 2, 3), (I, slice(None), I), ([0, 1, 0], [2, 2, 2])),
    ("integer apart", (2, 2, 3), (0, slice(None), I), ([2, 0, 2],)),
    ("in the middle", (2, 3, 2), (slice(None), I, slice(0, 1)), ([0, 2, 0],)),
    ("after a new axis", (3, 2), (None, I), ([0, 2],)),
    ("apart by a new axis", (2, 3), (I, None, I), ([0, 1], [2, 2])),
    ("last of many", (2, 1, 3), (..., I), ([2, 0],)),
    ("one number", (3, 2), (I,), (1,)),
)

for _label, _shape, _key, _idx in KEYS:
    case(
        "getitem_parts",
        _label,
        lambda x, *i, k=_key: x[filled(k, i)],
        lambda x, *i, k=_key: x[filled(k, i)],
        random("g", _shape),
        *(np.asarray(i, np.int64) for i in _idx),
    )
case("getitem_parts", "mask", lambda x, m: x[m], lambda x, m: x[m], random("g", (2, 3)), bools((2, 3)), batchable=False)
case(
    "getitem_parts",
    "mask of rows",
    lambda x, m: x[m],
    lambda x, m: x[m],
    random("g", (3, 2)),
    np.array([True, False, True]),
    batchable=False,
)
case(
    "getitem_parts",
    "mask after an ellipsis",
    lambda x, m: x[..., m],
    lambda x, m: x[..., m],
    random("g", (2, 3)),
    np.array([True, False, True]),
    batchable=False,
)


def np_setitem(x: Array, value: Array, key: Any) -> Array:
    out = np.array(x)
    out[key] = value
    return out


for _label, _shape, _key, _idx in KEYS:
    if _label in ("repeated", "negative rows", "columns", "pairs", "arrays apart", "integer apart", "in the middle"):
        _idx = tuple(np.unique(i)[::-1][: 2 if len(_idx) == 1 else 1] for i in _idx)  # each place once
    if _label == "table of rows":
        _idx = ([[0], [2]],)
    if _label == "last of many" or _label == "apart by a new axis":
        _idx = tuple(np.unique(i)[:1] for i in _idx)
    _indices = [np.asarray(i, np.int64) for i in _idx]
    _selected = np.zeros(_shape)[filled(_key, tuple(_indices))].shape
    _values = {"full": _selected, "one": (), "last axis": _selected[-1:], "leading ones": (1, 1, *_selected)}
    if _selected == ():
        del _values["leading ones"]  # NumPy refuses these where one element is named
    for _what, _value in _values.items():
        case(
            "setitem_parts",
            f"{_label}, {_what}",
            lambda x, v, *i, k=_key: ops.setitem(x, filled(k, i), v),
            lambda x, v, *i, k=_key: np_setitem(x, v, filled(k, i)),
            random("s", _shape),
            random("v", _value),
            *_indices,
        )
case(
    "setitem_parts",
    "mask",
    lambda x, v, m: ops.setitem(x, m, v),
    lambda x, v, m: np_setitem(x, v, m),
    random("g", (2, 3)),
    random("v", (int(bools((2, 3)).sum()),)),
    bools((2, 3)),
    batchable=False,
)
case(
    "setitem_parts",
    "places named twice",
    lambda x, v, i, j: ops.setitem(x, (i, j), v),
    lambda x, v, i, j: np_setitem(x, v, (i, j)),
    random("g", (2, 3)),
    random("v", (5,)),
    np.asarray([0, 1, 0, 0, -1]),
    np.asarray([2, 1, 2, -1, 1]),
)


def np_index_add(values: Array, key: Any, shape: tuple[int, ...]) -> Array:
    out = np.zeros(shape, values.dtype)
    np.add.at(out, key, values)
    return out


def index_add(values: Any, *indices: Any, key: tuple[Any, ...], shape: tuple[int, ...]) -> Any:
    """The primitive itself, with a key that names each axis."""
    free = len(shape) - len([k for k in key if k is not None and k is not Ellipsis])
    at = key.index(...) if ... in key else len(key)
    full = (*key[:at], *(slice(None),) * free, *key[at + 1 :])
    return ops.index_add_parts(values, *indices, shape=shape, parts=tuple(HOLE if k is I else k for k in full))


for _label, _shape, _key, _idx in KEYS:
    _indices = [np.asarray(i, np.int64) for i in _idx]
    _selected = np.zeros(_shape)[filled(_key, tuple(_indices))].shape
    case(
        "index_add_parts",
        _label,
        lambda v, *i, k=_key, s=_shape: index_add(v, *i, key=k, shape=s),
        lambda v, *i, k=_key, s=_shape: np_index_add(v, filled(k, i), s),
        random("v", _selected),
        *_indices,
    )
