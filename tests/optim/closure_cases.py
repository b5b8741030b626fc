"""What the tests of optimizers with closures share: problems in NumPy, and closures that take gradients from them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework import nn, optim

Problem = tuple[list[np.ndarray], Callable[[list[np.ndarray]], tuple[float, list[np.ndarray]]]]


def rosenbrock() -> Problem:
    """The valley of Rosenbrock in six variables, in two arrays."""

    def fn(arrays: list[np.ndarray]) -> tuple[float, list[np.ndarray]]:
        x = np.concatenate([a.ravel() for a in arrays])
        a, b = x[:-1], x[1:]
        g = np.zeros_like(x)
        g[:-1] = -2 * (1 - a) - 400 * a * (b - a**2)
        g[1:] += 200 * (b - a**2)
        return float(np.sum((1 - a) ** 2 + 100 * (b - a**2) ** 2)), [g[:4].reshape(2, 2), g[4:]]

    return [np.array([[-1.2, 1.0], [0.5, -0.3]]), np.array([0.8, 1.4])], fn


def network() -> Problem:
    """A network of one hidden layer on the curve of a sine."""
    rng = np.random.default_rng(0)
    x = np.linspace(-3, 3, 40)[:, None]
    y = np.sin(x)

    def fn(arrays: list[np.ndarray]) -> tuple[float, list[np.ndarray]]:
        w1, b1, w2, b2 = arrays
        h = np.tanh(x @ w1 + b1)
        e = h @ w2 + b2 - y
        d = 2 * e / len(x)
        dh = d @ w2.T * (1 - h**2)
        return float(np.mean(e**2)), [x.T @ dh, dh.sum(0), h.T @ d, d.sum()]

    return [rng.normal(size=(1, 5)), rng.normal(size=5), rng.normal(size=(5, 1)), np.zeros(())], fn


def logistic() -> Problem:
    """Logistic regression with a penalty: convex, so that rounding errors do not grow."""
    rng = np.random.default_rng(1)
    x = rng.normal(size=(60, 4)) * [3.0, 1.0, 0.5, 0.1]
    y = (x @ [1.0, -2.0, 0.5, 3.0] + rng.normal(size=60) > 0).astype(float)

    def fn(arrays: list[np.ndarray]) -> tuple[float, list[np.ndarray]]:
        w, b = arrays
        z = x @ w + b
        e = 1 / (1 + np.exp(-z)) - y
        loss = np.sum(np.logaddexp(0, z) - y * z) + 0.5 * (w @ w + b * b)
        return float(loss), [x.T @ e + w, np.asarray(e.sum() + b)]

    return [np.zeros(4), np.zeros(())], fn


PROBLEMS = {"rosenbrock": rosenbrock, "network": network, "logistic": logistic}
LBFGS: dict[str, dict[str, Any]] = {
    "plain": {"lr": 0.05, "max_iter": 3},
    "short": {"lr": 0.05, "max_iter": 4, "history_size": 3, "max_eval": 3},
    "wolfe": {"line_search_fn": "strong_wolfe", "max_iter": 2},
    "wolfe-1": {"line_search_fn": "strong_wolfe", "max_iter": 1, "max_eval": 4},
    "wolfe-short": {"lr": 0.5, "line_search_fn": "strong_wolfe", "max_iter": 5, "history_size": 2, "max_eval": 7},
    "wolfe-loose": {"line_search_fn": "strong_wolfe", "tolerance_grad": 1e-2, "tolerance_change": 1e-3},
    "wolfe-long": {"lr": 20.0, "line_search_fn": "strong_wolfe", "max_iter": 2, "max_eval": 20},
}
KINDS = {"lbfgs": lambda p: optim.LBFGS(p, max_iter=3, line_search_fn="strong_wolfe", history_size=4),
         "lbfgs-plain": lambda p: optim.LBFGS(p, lr=0.05, max_iter=3),
         "scg": lambda p: optim.SCG(p, max_iter=3)}  # fmt: skip
all_kinds = pytest.mark.parametrize("kind", KINDS)
all_problems = pytest.mark.parametrize("problem", PROBLEMS)
BACKENDS = ("cpu", "strict")


def closure_of(
    params: list[Any], fn: Callable[..., Any], array: Callable[[Any], Any] = np.asarray
) -> Callable[[], Any]:
    """A closure that takes loss and gradients from NumPy."""

    def closure() -> float:
        loss, gradients = fn([np.asarray(p.tolist()) for p in params])
        for p, g in zip(params, gradients):
            p.grad = array(np.asarray(g, dtype=str(p.dtype).removeprefix("torch.")))
        return loss

    return closure


def made(problem: str, dtype: str = "float64", backend: str = "cpu") -> tuple[list[Any], Callable[[], Any]]:
    start, fn = PROBLEMS[problem]()
    params = [nn.Parameter(fw.tensor(a, dtype=dtype, backend=backend)) for a in start]
    return params, closure_of(params, fn)


def values(params: list[Any]) -> list[Any]:
    return [p.tolist() for p in params]
