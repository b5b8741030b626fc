"""Derivatives of NumPy functions by central differences, of real and of complex numbers.

The convention is that of the rules: a gradient g of a function of z = x + iy is ∂/∂x − i ∂/∂y of the real
part of seed · output, without a conjugate.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Function = Callable[..., tuple[np.ndarray, ...]]


def gradients(
    fn: Function, inputs: Sequence[Any], i: int, seeds: Sequence[np.ndarray], eps: float = 1e-6
) -> list[np.ndarray]:
    """For each output of `fn`, the gradient of the real part of sum(seed · output) with respect to input `i`."""
    x = inputs[i]
    found = [np.zeros(x.shape, x.dtype) for _ in seeds]

    def totals(place: tuple[int, ...], step: complex) -> np.ndarray:
        moved = x.copy()
        moved[place] += step
        outs = fn(*inputs[:i], moved, *inputs[i + 1 :])
        return np.asarray([np.sum(seed * out).real for seed, out in zip(seeds, outs, strict=True)])

    for place in np.ndindex(*x.shape):
        for step, unit in ((eps, 1.0), (eps * 1j, -1j))[: 2 if x.dtype.kind == "c" else 1]:
            slopes = (totals(place, step) - totals(place, -step)) / (2 * eps)
            for g, slope in zip(found, slopes):
                g[place] += unit * slope
    return found


def tangents(
    fn: Function, inputs: Sequence[Any], directions: dict[int, np.ndarray], eps: float = 1e-6
) -> list[np.ndarray]:
    """The derivative of each output of `fn` along directions of some inputs."""

    def moved(step: float) -> tuple[np.ndarray, ...]:
        return fn(*(x + step * directions[i] if i in directions else x for i, x in enumerate(inputs)))

    return [np.asarray((plus - minus) / (2 * eps)) for plus, minus in zip(moved(eps), moved(-eps), strict=True)]
