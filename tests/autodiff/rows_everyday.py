"""Rows of NumPy's everyday functions that are no function of the standard under another name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from generated import Call, Draw, call, resolve, row

row("cbrt", lambda d: call("cbrt", d.away(d.shape(), -2, 2)))
row("copy", lambda d: call("copy", d.array(d.shape())))
row("heaviside", lambda d: call("heaviside", d.away((2, 3), -2, 2), d.array((3,))))
row("polyval", lambda d: call("polyval", d.array((d.integer(1, 4),)), d.array(d.shape(0, 2))))


def _vdot(d: Draw) -> Call:
    shape = d.shape(0, 2)
    return call("vdot", d.either(shape), d.either(shape))


row("vdot", _vdot, complex=True)


def _quantile(name: str, top: float) -> Callable[[Draw], Call]:
    def make(d: Draw) -> Call:
        shape = d.shape(1, 2, 2)
        axis = d.pick((None, d.axis(len(shape))))
        q = 0.3 * top if d.chance() else [0.25 * top, 0.6 * top]
        keepdims = d.chance(0.3)

        def fn(xp: Any, x: Any) -> Any:
            return resolve(xp, name)(x, np.asarray(q), axis=axis, keepdims=keepdims)

        return Call(fn, (d.distinct(shape),), f"{name} q={q} axis={axis} keepdims={keepdims}")

    return make


row("quantile", _quantile("quantile", 1.0))
row("percentile", _quantile("percentile", 100.0))


def _cov(d: Draw) -> Call:
    return call("cov", d.distinct((d.integer(2, 3), d.integer(3, 4))), rowvar=d.chance(0.7))


row("cov", _cov)


def _interp(d: Draw) -> Call:
    """Away from the places, where the slope changes."""
    places = np.sort(d.distinct((4,), 1.0))
    x = np.clip(d.away(d.shape(0, 2), -3, 3, 1.0) * 0.5 + places.mean(), places[0] - 2, places[-1] + 2)
    near = np.abs(x[..., None] - places).min(axis=-1) < 0.05
    return Call(lambda xp, x, p, f: xp.interp(x, p, f), (np.where(near, x + 0.12, x), places, d.array((4,))), "interp")


row("interp", _interp)
row(
    "unique",
    lambda d: call("unique", d.distinct(d.shape(1, 2, 1))),
    batchable="the number of distinct values differs by sample",
    no_jax="a compiled function of JAX has no results whose size depends on values",
)
