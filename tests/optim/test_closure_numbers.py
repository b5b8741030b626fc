"""The numbers of L-BFGS and of scaled conjugate gradients: PyTorch's, and the paper's."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from closure_cases import LBFGS, PROBLEMS, all_problems, closure_of, made

import framework as fw
from framework import nn, optim


def lbfgs_in_torch(variant: str, problem: str) -> tuple[Any, list[Any], Any, list[Any], Callable[..., Any]]:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    start, fn = PROBLEMS[problem]()
    ours = [nn.Parameter(fw.tensor(a)) for a in start]
    theirs = [torch.nn.Parameter(torch.tensor(a)) for a in start]
    a, b = optim.LBFGS(ours, **LBFGS[variant]), torch.optim.LBFGS(theirs, **LBFGS[variant])
    return a, ours, (b, closure_of(theirs, fn, torch.tensor)), theirs, closure_of(ours, fn)


@pytest.mark.reference
@pytest.mark.parametrize("variant", LBFGS)
def test_lbfgs_equals_torch(variant: str) -> None:
    a, ours, (b, their_closure), theirs, closure = lbfgs_in_torch(variant, "logistic")
    for _ in range(50):
        assert a.step(closure) == pytest.approx(b.step(their_closure), rel=1e-9)
        for p, q in zip(ours, theirs):
            np.testing.assert_allclose(p.tolist(), q.tolist(), rtol=1e-9, atol=1e-9)


@pytest.mark.reference
@all_problems
@pytest.mark.parametrize("variant", LBFGS)
def test_each_step_of_lbfgs_equals_torch(variant: str, problem: str) -> None:
    """From PyTorch's weights and state before each step, since these problems multiply rounding errors."""
    a, ours, (b, their_closure), theirs, closure = lbfgs_in_torch(variant, problem)
    for _ in range(50):
        for p, q in zip(ours, theirs):
            p.assign(q.detach().numpy())
        tree = a.state_dict()
        if memory := next(iter(b.state_dict()["state"].values()), None):
            kept = {key: numbers(value) for key, value in memory.items() if key != "al"}
            a.load_state_dict({**tree, "state": {"0": kept}})
        assert a.step(closure) == pytest.approx(b.step(their_closure), rel=1e-9)
        for p, q in zip(ours, theirs):
            np.testing.assert_allclose(p.tolist(), q.tolist(), rtol=1e-9, atol=1e-9)
        state = next(iter(b.state_dict()["state"].values()))
        mine = a.state_dict()["state"]["0"]
        assert (mine["func_evals"], mine["n_iter"]) == (state["func_evals"], state["n_iter"])
        assert len(mine["old_dirs"]) == len(state["old_dirs"])


def numbers(value: Any) -> Any:
    """What PyTorch remembers, in NumPy's arrays and Python's numbers."""
    if isinstance(value, list):
        return [numbers(item) for item in value]
    if not hasattr(value, "numpy"):
        return value
    return value.detach().numpy() if value.ndim else value.item()


def moller(start: np.ndarray, fn: Callable[[np.ndarray], tuple[float, np.ndarray]], iterations: int, sigma: float,
           scale: float) -> np.ndarray:  # fmt: skip
    """The algorithm as it stands in the paper, in nine steps."""
    w, success, bar, k = start.copy(), True, 0.0, 1
    r = -fn(w)[1]
    p = r.copy()
    delta = 0.0
    while k <= iterations and r.any():
        square = p @ p
        if success:
            s = sigma * max(1.0, math.sqrt(w @ w)) / math.sqrt(square)
            delta = p @ (fn(w + s * p)[1] + r) / s
        delta += (scale - bar) * square
        if delta <= 0:
            bar = 2 * (scale - delta / square)
            delta = -delta + scale * square
            scale = bar
        mu = p @ r
        alpha = mu / delta
        comparison = 2 * delta * (fn(w)[0] - fn(w + alpha * p)[0]) / mu**2
        if comparison >= 0:
            w = w + alpha * p
            before, r = r, -fn(w)[1]
            bar, success = 0.0, True
            p_next = r if k % len(w) == 0 else r + (r @ r - r @ before) / mu * p
            if comparison >= 0.75:
                scale /= 4
        else:
            bar, success, p_next = scale, False, p
        if comparison < 0.25:
            scale += delta * (1 - comparison) / square
        p = p_next
        k += 1
    return w


@pytest.mark.parametrize(
    ("problem", "iterations"),
    [(p, n) for p in PROBLEMS for n in (1, 2, 3, 5, 8)] + [("logistic", 15), ("logistic", 30), ("rosenbrock", 20)],
)
def test_scg_equals_the_paper(problem: str, iterations: int) -> None:
    """Not for longer where the problem multiplies rounding errors."""
    start, fn = PROBLEMS[problem]()
    shapes = [a.shape for a in start]
    cuts = np.cumsum([a.size for a in start])[:-1]

    def flat(x: np.ndarray) -> tuple[float, np.ndarray]:
        loss, g = fn([a.reshape(s) for a, s in zip(np.split(x, cuts), shapes)])
        return loss, np.concatenate([np.ravel(a) for a in g])

    params, closure = made(problem)
    optimizer = optim.SCG(params, max_iter=iterations, tolerance_grad=0.0, tolerance_change=0.0)
    optimizer.step(closure)
    expected = moller(np.concatenate([a.ravel() for a in start]), flat, iterations, 1e-4, 1e-6)
    found = np.concatenate([np.ravel(p.tolist()) for p in params])
    np.testing.assert_allclose(found, expected, rtol=1e-6, atol=1e-8)
