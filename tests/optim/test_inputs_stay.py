"""A step writes parameters and its own state, nothing that it was given: gradients, hyper-parameters, sample arrays."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
from closure_cases import rosenbrock
from optimizer_cases import VARIANTS, all_variants, build, gradients, starts

import framework as fw
from framework import nn, optim


@all_variants
@pytest.mark.parametrize("kind", ["tensors", "arrays"])
def test_gradients_and_hyperparameters_stay(variant: str, kind: str) -> None:
    given = starts()
    params = [nn.Parameter(fw.tensor(a)) for a in given]
    kwargs = copy.deepcopy(VARIANTS[variant][1])
    optimizer = build(variant, params)
    for step in range(4):
        handed = [None if g is None else fw.tensor(g) if kind == "tensors" else g for g in gradients(step)]
        for p, g in zip(params, handed):
            p.grad = g
        optimizer.step()
        for p, g, expected in zip(params, handed, gradients(step)):
            if expected is None:
                assert p.grad is None
                continue
            np.testing.assert_array_equal(p.grad.numpy(), expected)
            np.testing.assert_array_equal(np.asarray(g.numpy() if kind == "tensors" else g), expected)
    assert VARIANTS[variant][1] == kwargs
    for a, b in zip(given, starts()):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("make", [
    lambda p: optim.LBFGS(p, lr=0.1, max_iter=4),
    lambda p: optim.LBFGS(p, max_iter=4, line_search_fn="strong_wolfe"),
    lambda p: optim.SCG(p, max_iter=4),
    lambda p: optim.Rprop(p, variant="irprop+"),
])  # fmt: skip
def test_gradients_of_a_closure_stay(make: Any) -> None:
    begin, fn = rosenbrock()
    params = [nn.Parameter(fw.tensor(a)) for a in begin]
    optimizer = make(params)
    handed: list[tuple[np.ndarray, np.ndarray]] = []

    def closure() -> float:
        loss, grads = fn([p.detach().numpy() for p in params])
        for p, g in zip(params, grads):
            handed.append((g, g.copy()))
            p.grad = g
        return loss

    for _ in range(3):
        optimizer.step(closure)
    assert len(handed) >= 6
    for g, kept in handed:
        np.testing.assert_array_equal(g, kept)
    for a, b in zip(begin, rosenbrock()[0]):
        np.testing.assert_array_equal(a, b)


def test_clipping_writes_gradients_alone() -> None:
    for clip in (lambda p: optim.clip_grad_norm_(p, 0.1), lambda p: optim.clip_grad_value_(p, 0.1)):
        params = [nn.Parameter(fw.tensor(a)) for a in starts()]
        handed = gradients(0)
        for p, g in zip(params, handed):
            p.grad = g
        clip(params)
        assert max(float(np.abs(p.grad.numpy()).max()) for p in params) <= 0.1 + 1e-12
        for g, expected in zip(handed, gradients(0)):
            np.testing.assert_array_equal(g, expected)  # a NumPy array is copied when it is set
        for p, a in zip(params, starts()):
            np.testing.assert_array_equal(p.detach().numpy(), a)
