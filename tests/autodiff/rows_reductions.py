"""Rows of reductions, cumulative functions, statistics, and what depends on an order: maxima, sorting, searching."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from generated import Array, Call, Draw, Shape, call, resolve, row

Values = Callable[[Draw, Shape], Array]


def array(d: Draw, shape: Shape) -> Array:
    return d.array(shape)


def distinct(d: Draw, shape: Shape) -> Array:
    return d.distinct(shape)


def reduction(name: str, draw: Values = array, least: int = 0, several: bool = True, **options: Any) -> None:
    """Over no, one or several axes; `least` is the shortest axis that it takes."""

    def make(d: Draw) -> Call:
        shape = d.shape(0 if least < 2 else 1, 3, least)
        axis: Any = d.axes(len(shape)) if several else d.pick((None, d.axis(len(shape)))) if shape else None
        settings = {} if axis is None and d.chance() else {"axis": axis}
        if d.chance(0.4):
            settings["keepdims"] = True
        if name in ("var", "std") and d.chance(0.4):
            settings["correction"] = 1
        return call(name, draw(d, shape), **settings)

    row(name, make, **options)


reduction("sum", complex=True)
reduction("mean", complex=True, least=1)
reduction("prod", complex=True)
reduction("var", least=2, complex=True)
reduction("std", distinct, least=2)
reduction("max", distinct, least=1)
reduction("min", distinct, least=1)
reduction("logsumexp", least=1)
reduction("median", distinct, least=1, several=False)


def _ptp(d: Draw) -> Call:
    shape = d.shape(1, 3, 2)
    axis = d.pick((None, d.axis(len(shape))))
    return call("ptp", d.distinct(shape), axis=axis)


row("ptp", _ptp)


def _nan_reduction(name: str) -> Callable[[Draw], Call]:
    """Reductions that leave out NaN; of three numbers in a line two remain."""

    def make(d: Draw) -> Call:
        shape = d.shape(1, 3, 3)
        axis = d.axes(len(shape))
        hole = np.zeros(shape, bool)
        hole.reshape(-1)[d.integer(0, hole.size - 1)] = True
        keepdims = d.chance()

        def fn(xp: Any, x: Any) -> Any:
            return resolve(xp, name)(xp.where(xp.asarray(hole), xp.nan, x), axis=axis, keepdims=keepdims)

        return Call(fn, (d.distinct(shape),), f"{name} axis={axis} keepdims={keepdims}")

    return make


for _name in ("nansum", "nanmean", "nanmax", "nanmin"):
    row(_name, _nan_reduction(_name))


def _average(d: Draw) -> Call:
    shape = d.shape(1, 3, 1)
    axis = d.axis(len(shape))
    x = d.array(shape)
    if d.chance(0.3):
        return call("average", x, axis=axis)
    weights = d.real(shape if d.chance() else (shape[axis],), 0.3, 1.5)
    return Call(lambda xp, x, w: xp.average(x, axis=axis, weights=w), (x, weights), f"average axis={axis} weights")


row("average", _average)


# -- cumulative --------------------------------------------------------------------------------------------


def cumulative(name: str) -> None:
    def make(d: Draw) -> Call:
        shape = d.shape(1, 3)
        if len(shape) == 1 and d.chance(0.3):
            return call(name, d.array(shape))
        settings: dict[str, Any] = {"axis": d.axis(len(shape))}
        if d.chance(0.3):
            settings["include_initial"] = True
        return call(name, d.array(shape), **settings)

    row(name, make, complex=True)


cumulative("cumulative_sum")
cumulative("cumulative_prod")


def _diff(d: Draw) -> Call:
    shape = d.shape(1, 3, 1)
    axis = d.axis(len(shape))
    n = d.integer(0, shape[axis])
    if n and d.chance(0.3):
        end = list(shape)
        end[axis] = d.integer(1, 2)
        return Call(
            lambda xp, x, a, b: xp.diff(x, axis=axis, n=n, prepend=a, append=b),
            (d.array(shape), d.array(tuple(end)), d.array(tuple(end))),
            f"diff n={n} axis={axis} prepend append",
        )
    return call("diff", d.array(shape), axis=axis, n=n)


row("diff", _diff, complex=True)


def _normalized(name: str) -> Callable[[Draw], Call]:
    def make(d: Draw) -> Call:
        shape = d.shape(1, 3)
        return call(name, d.array(shape), axis=d.axis(len(shape)))

    return make


for _name in ("softmax", "log_softmax"):
    row(_name, _normalized(_name))


def _trapezoid(d: Draw) -> Call:
    shape = d.shape(1, 2, 2)
    axis = d.axis(len(shape))
    if d.chance(0.4):
        return call("trapezoid", d.array(shape), dx=0.7, axis=axis)
    x = np.sort(d.distinct((shape[axis],)))
    return Call(lambda xp, y, x: xp.trapezoid(y, x, axis=axis), (d.array(shape), x), f"trapezoid axis={axis}")


row("trapezoid", _trapezoid)


# -- by order ----------------------------------------------------------------------------------------------


def _sort(d: Draw) -> Call:
    shape = d.shape(1, 3)
    axis = d.axis(len(shape))
    x = d.distinct(shape)
    if d.chance(0.4):
        return call("sort", x, axis=axis, descending=True)
    return call("sort", x, axis=axis) if d.chance() else call("sort", x)


row("sort", _sort)


def _unique(name: str) -> Callable[[Draw], Call]:
    """Of distinct values: which one of equal ones gets the gradient is a matter for the page of kinks."""
    return lambda d: call(name, d.distinct(d.shape(0, 2)))


for _name in ("unique_values", "unique_counts", "unique_inverse", "unique_all"):
    row(
        _name,
        _unique(_name),
        batchable="the number of distinct values differs by sample",
        no_jax="a compiled function of JAX has no results whose size depends on values",
    )
