"""The ways to take a derivative of a function of one number, and what is the same for all functions with rules."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework.autodiff import Tensor, ops, vmap

Scalar = Callable[[Any], Any]


def t(value: Any, **kwargs: Any) -> Tensor:
    return fw.tensor(value, dtype="float64", **kwargs)


def by_grad(f: Scalar) -> Scalar:
    return fw.grad(f)


def by_jvp(f: Scalar) -> Scalar:
    return lambda x: fw.jvp(f, (x,), (ops.ones_like(x),))[1]


def by_vjp(f: Scalar) -> Scalar:
    return lambda x: fw.vjp(f, x)[1](ops.ones_like(x))[0]


def by_vmap_of_grad(f: Scalar) -> Scalar:
    return lambda x: vmap(fw.grad(f))(ops.stack([x * 0.5, x]))[1]


def by_grad_of_vmap(f: Scalar) -> Scalar:
    return lambda x: fw.grad(lambda xs: vmap(f)(xs).sum())(ops.stack([x * 0.5, x]))[1]


def by_vmap_of_jvp(f: Scalar) -> Scalar:
    return lambda x: vmap(lambda v: fw.jvp(f, (x,), (v,))[1])(t([2.0, 1.0]))[1]


def by_jvp_of_vmap(f: Scalar) -> Scalar:
    return lambda x: fw.jvp(vmap(f), (ops.stack([x * 0.5, x]),), (t([0.0, 1.0]),))[1][1]


def by_vmap_of_a_pullback(f: Scalar) -> Scalar:
    return lambda x: vmap(fw.vjp(f, x)[1])(t([2.0, 1.0]))[0][1]


def by_jvp_of_a_pullback(f: Scalar) -> Scalar:
    return lambda x: fw.jvp(fw.vjp(f, x)[1], (t(3.0),), (t(1.0),))[1][0]


BASIC = (by_grad, by_jvp, by_vmap_of_grad, by_grad_of_vmap)
WAYS = (*BASIC, by_vjp, by_vmap_of_jvp, by_jvp_of_vmap, by_vmap_of_a_pullback, by_jvp_of_a_pullback)
ONE = [(way,) for way in WAYS]
_PAIRS = enumerate(product(WAYS, repeat=2))
TWO = [pytest.param(pair, marks=[pytest.mark.slow] if k % 2 else []) for k, pair in _PAIRS]  # as on a chessboard
THREE = list(product(WAYS, repeat=3))[::5]


def names(ways: Any) -> str:
    return " of ".join(way.__name__[3:] for way in ways)


def values(f: Callable[[Any, Any], Any], ways: Any, **kwargs: Any) -> tuple[float, float, float]:
    """The derivative of f(x, w) by x taken in these ways; and by `backward` its own derivatives by x and w."""
    x, w = t(0.7, requires_grad=True, **kwargs), t(1.3, requires_grad=True, **kwargs)

    def derivative(x: Any) -> Any:
        return f(x, w)

    for way in reversed(ways):
        derivative = way(derivative)
    y = derivative(x)
    assert y.requires_grad
    y.backward()
    return y.item(), x.grad.item(), w.grad.item()


def check_ways(f: Callable[[Any, Any], Any], expected: Callable[[Any, Any], Any], ways: Any, rtol: float) -> None:
    """`f` has the derivatives of `expected`; and nothing of them stays on the tape where nothing is tracked."""
    np.testing.assert_allclose(values(f, ways), values(expected, ways), rtol=rtol)
    derivative: Any = lambda x: f(x, t(1.3))  # noqa: E731
    for way in reversed(ways):
        derivative = way(derivative)
    assert not derivative(t(0.7)).requires_grad


def wave(x: Any, w: Any) -> Any:
    return ops.sin(x * w) * ops.exp(x)
