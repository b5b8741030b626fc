"""The rows of the table of primitives that order, find, move and part elements."""

from __future__ import annotations

from typing import Any

import numpy as np
from primitive_table import Array, bools, case, random

from framework.autodiff import ops

TIES = np.array([[2, 0, 2], [1, 1, 0], [0, 0, 0]])


def distinct(shape: tuple[int, ...]) -> Array:
    n = int(np.prod(shape))
    return (np.argsort(random(f"sort{shape}", (n,))) * 0.37 - 0.6).reshape(shape)


def np_argsort(x: Array, axis: int, descending: bool) -> Array:
    return np.argsort(-x if descending else x, axis=axis, kind="stable")


for _shape, _axis in (((5,), -1), ((3, 4), 0), ((2, 3, 2), 1), ((2, 0), -1), ((0, 2), -1), ((3, 1), 1)):
    for _descending in (False, True):
        _label = f"{_shape} axis={_axis} {'down' if _descending else 'up'}"
        _kw = {"axis": _axis, "descending": _descending}
        case(
            "sort",
            _label,
            lambda x, kw=_kw: ops.sort(x, **kw),
            lambda x, kw=_kw: np.take_along_axis(x, np_argsort(x, **kw), kw["axis"]),
            distinct(_shape),
        )
        case(
            "argsort",
            _label,
            lambda x, kw=_kw: ops.argsort(x, **kw),
            lambda x, kw=_kw: np_argsort(x, **kw),
            distinct(_shape),
        )
for _axis in (0, 1):
    for _descending in (False, True):
        _kw = {"axis": _axis, "descending": _descending}
        case(
            "argsort",
            f"ties axis={_axis} {'down' if _descending else 'up'}",
            lambda x, kw=_kw: ops.argsort(x, **kw),
            lambda x, kw=_kw: np_argsort(x, **kw),
            TIES,
        )

_SORTED = np.array([-1.0, 0.5, 0.5, 2.0])
for _side in ("left", "right"):
    for _shape in ((3,), (), (2, 2), (0,)):
        case(
            "searchsorted",
            f"{_side} {_shape}",
            # moved alike, so that the rows of a batch stay sorted and their ties stay ties
            lambda x, v, s=_side: ops.searchsorted(x, v, side=s),
            lambda x, v, s=_side: np.searchsorted(x, v, side=s),
            _SORTED,
            np.resize([0.5, -3.0, 2.0, 5.0], _shape),
        )
case("searchsorted", "in nothing", ops.searchsorted, np.searchsorted, np.zeros(0), np.array([1.0, 2.0]))

for _shape, _shift, _axis in (
    ((4,), 1, 0),
    ((2, 3), (1, -2), (0, 1)),
    ((2, 3), 5, -1),
    ((3, 2), 2, None),
    ((0, 2), 1, 0),
    ((2, 2, 2), (1, 1, 1), (0, 2, 0)),
):
    case(
        "roll",
        f"{_shape} by {_shift} along {_axis}",
        lambda x, s=_shift, a=_axis: ops.roll(x, s, axis=a),
        lambda x, s=_shift, a=_axis: np.roll(x, s, axis=a),
        random("roll", _shape),
    )


def parts(which: str, at: int, axis: int, xp: Any) -> Any:
    def fn(x: Any) -> Any:
        first, second = xp.split(x, [at], axis=axis)
        if which == "both":
            return xp.concat([second * second, first], axis=axis)
        return first if which == "first" else second

    return fn


for _shape, _at, _axis in (((5,), 2, 0), ((2, 3), 1, -1), ((2, 3, 2), 0, 1), ((0, 2), 1, 1), ((3, 2), 3, 0)):
    for _which in ("both", "first", "second"):
        case(
            "split_at",
            f"{_shape} at {_at} of {_axis}, {_which}",
            parts(_which, _at, _axis, ops),
            parts(_which, _at, _axis, np),
            random("split", _shape),
        )

for _label, _x in (
    ("matrix", bools((2, 3))),
    ("floats", np.array([[0.0, 1.0], [0.0, 2.0]])),
    ("none", np.zeros((2, 0))),
):
    case("nonzero_table", _label, lambda x: ops.nonzero(x)[1], lambda x: np.nonzero(x)[1], _x, batchable=False)
