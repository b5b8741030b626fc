"""Fifty steps of every optimizer that PyTorch has, beside PyTorch's, with arguments drawn by chance."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from optimizer_cases import gradients, parameters, plain, starts

from framework import optim

SEEDS = 12 if os.environ.get("FW_TEST_CASES") == "full" else 4
SHARE = [0.0, 0.3, 0.9, 0.99]
DECAY = [0.0, 0.05]
EPS = [1e-8, 1e-3]
BETAS = [(0.9, 0.999), (0.5, 0.8), (0.0, 0.9), (0.9, 0.5)]
LR = [0.003, 0.05]
BOTH = [False, True]
ARGUMENTS: dict[str, dict[str, list[Any]]] = {
    "SGD": {"lr": LR, "momentum": SHARE, "dampening": [0.0, 0.4], "weight_decay": DECAY, "nesterov": BOTH},
    "Adam": {"lr": LR, "betas": BETAS, "eps": EPS, "weight_decay": DECAY, "amsgrad": BOTH},
    "AdamW": {"lr": LR, "betas": BETAS, "eps": EPS, "weight_decay": DECAY, "amsgrad": BOTH},
    "NAdam": {
        "lr": LR, "betas": BETAS, "eps": EPS, "weight_decay": DECAY, "momentum_decay": [0.0, 0.004, 0.2],
        "decoupled_weight_decay": BOTH,
    },
    "Adamax": {"lr": LR, "betas": BETAS, "eps": EPS, "weight_decay": DECAY},
    "RMSprop": {
        "lr": LR, "alpha": [0.0, 0.5, 0.99], "eps": [1e-6, 1e-2], "weight_decay": DECAY, "momentum": SHARE,
        "centered": BOTH,
    },
    "Adagrad": {
        "lr": LR, "lr_decay": [0.0, 0.1], "weight_decay": DECAY, "initial_accumulator_value": [0.0, 0.5], "eps": EPS,
    },
    "Adadelta": {"lr": [0.3, 1.0], "rho": [0.0, 0.5, 0.95], "eps": [1e-6, 1e-2], "weight_decay": DECAY},
    "Rprop": {"lr": LR, "etas": [(0.5, 1.2), (0.1, 3.0)], "step_sizes": [(1e-6, 50.0), (1e-3, 0.1)]},
}  # fmt: skip


def drawn(name: str, seed: int) -> dict[str, Any]:
    rng = np.random.default_rng(seed)
    given = {key: values[rng.integers(len(values))] for key, values in ARGUMENTS[name].items()}
    if given.get("nesterov") and (given["momentum"] == 0.0 or given["dampening"] != 0.0):
        given["nesterov"] = False
    if given.get("alpha") == 0.0:
        given["centered"] = False  # the variance of one number: PyTorch takes the root of its rounding error
    return {**given, "maximize": bool(rng.integers(2))}


@pytest.fixture
def wide_torch() -> Iterator[Any]:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(torch.float32)


@pytest.mark.reference
@pytest.mark.parametrize("seed", range(SEEDS))
@pytest.mark.parametrize("name", ARGUMENTS)
def test_drawn_arguments_equal_torch(name: str, seed: int, wide_torch: Any) -> None:
    given = drawn(name, seed)
    ours = parameters()
    theirs = [wide_torch.nn.Parameter(wide_torch.tensor(a)) for a in starts()]
    a, b = getattr(optim, name)(ours, **given), getattr(wide_torch.optim, name)(theirs, **given)
    for step in range(50):
        for p, q, g in zip(ours, theirs, gradients(step)):
            p.grad = g
            q.grad = None if g is None else wide_torch.tensor(g)
        a.step()
        b.step()
        mine, other = ([x for p in params for x in np.ravel(p.tolist())] for params in (ours, theirs))
        np.testing.assert_allclose(mine, other, rtol=1e-9, atol=1e-9, err_msg=str(given))
    states = a.state_dict()["state"]
    for number, state in b.state_dict()["state"].items():
        for key, value in state.items():
            if value is not None:
                np.testing.assert_allclose(plain(states[str(number)][key]), plain(value), rtol=1e-9, atol=1e-9)


@pytest.mark.reference
def test_defaults_are_those_of_torch(wide_torch: Any) -> None:
    for name in [*ARGUMENTS, "LBFGS"]:
        theirs = getattr(wide_torch.optim, name)([wide_torch.nn.Parameter(wide_torch.ones(1))]).defaults
        ours = getattr(optim, name)(parameters()).defaults
        shared = set(ours) & set(theirs)
        assert {key: ours[key] for key in shared} == {key: theirs[key] for key in shared}
        assert set(ours) - shared <= {"variant", "maximize"}
        unknown = set(theirs) - shared - {"foreach", "capturable", "differentiable", "fused"}
        assert unknown <= {"decoupled_weight_decay"}, name  # that is AdamW
