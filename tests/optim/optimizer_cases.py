"""What the tests of optimizers share: the table of variants, and runs on the same gradients."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import framework as fw
from framework import nn, optim

VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {"lr": 0.1}),
    "sgd-decay": ("SGD", {"lr": 0.1, "weight_decay": 0.05}),
    "momentum": ("SGD", {"lr": 0.1, "momentum": 0.9}),
    "dampening": ("SGD", {"lr": 0.1, "momentum": 0.9, "dampening": 0.3, "weight_decay": 0.05}),
    "nesterov": ("SGD", {"lr": 0.1, "momentum": 0.9, "nesterov": True, "weight_decay": 0.01}),
    "sgd-up": ("SGD", {"lr": 0.1, "momentum": 0.9, "maximize": True}),
    "adam": ("Adam", {"lr": 0.1}),
    "adam-decay": ("Adam", {"lr": 0.1, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1}),
    "adam-up": ("Adam", {"maximize": True}),
    "adamw": ("AdamW", {"lr": 0.1}),
    "adamw-decay": ("AdamW", {"lr": 0.1, "betas": (0.5, 0.9), "weight_decay": 0.3}),
    "adam-amsgrad": ("Adam", {"lr": 0.1, "betas": (0.8, 0.9), "weight_decay": 0.05, "amsgrad": True}),
    "adamw-amsgrad": ("AdamW", {"lr": 0.1, "betas": (0.8, 0.9), "weight_decay": 0.3, "amsgrad": True}),
    "adam-amsgrad-up": ("Adam", {"amsgrad": True, "maximize": True}),
    "nadam": ("NAdam", {"lr": 0.05}),
    "nadam-decay-up": (
        "NAdam",
        {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3, "weight_decay": 0.1, "momentum_decay": 0.05, "maximize": True},
    ),
    "nadam-decoupled": ("NAdam", {"lr": 0.05, "weight_decay": 0.3, "decoupled_weight_decay": True}),
    "adamax": ("Adamax", {"lr": 0.05}),
    "adamax-decay": ("Adamax", {"lr": 0.05, "betas": (0.7, 0.9), "eps": 1e-3, "weight_decay": 0.1}),
    "adamax-up": ("Adamax", {"maximize": True}),
    "rmsprop": ("RMSprop", {"lr": 0.03}),
    "rmsprop-decay": ("RMSprop", {"lr": 0.02, "alpha": 0.8, "eps": 1e-3, "weight_decay": 0.1}),
    "rmsprop-momentum": ("RMSprop", {"lr": 0.005, "momentum": 0.9, "weight_decay": 0.01}),
    "rmsprop-centered": ("RMSprop", {"lr": 0.01, "centered": True, "alpha": 0.9, "eps": 1e-2}),
    "rmsprop-all-up": ("RMSprop", {"centered": True, "momentum": 0.5, "weight_decay": 0.1, "maximize": True}),
    "adagrad": ("Adagrad", {"lr": 0.5}),
    "adagrad-decay": (
        "Adagrad",
        {"lr": 0.7, "lr_decay": 0.01, "weight_decay": 0.1, "initial_accumulator_value": 0.3, "eps": 1e-3},
    ),
    "adagrad-up": ("Adagrad", {"maximize": True}),
    "adadelta": ("Adadelta", {"lr": 10.0}),
    "adadelta-decay": ("Adadelta", {"lr": 1.0, "rho": 0.7, "eps": 1e-2, "weight_decay": 0.1}),
    "adadelta-up": ("Adadelta", {"maximize": True}),
    "lion": ("Lion", {"lr": 0.02, "betas": (0.5, 0.8)}),
    "lion-decay": ("Lion", {"lr": 0.03, "betas": (0.6, 0.7), "weight_decay": 0.3}),
    "lion-up": ("Lion", {"maximize": True}),
    "rprop": ("Rprop", {}),
    "rprop-minus": ("Rprop", {"variant": "rprop-", "lr": 0.1}),
    "rprop-minus-up": ("Rprop", {"variant": "rprop-", "etas": (0.3, 1.4), "maximize": True}),
    "rprop-tight": ("Rprop", {"lr": 0.3, "etas": (0.4, 1.5), "step_sizes": (0.01, 0.5)}),
    "rprop-up": ("Rprop", {"maximize": True}),
}
SHAPES = [(3, 4), (4,), (), (2, 1, 3)]
all_variants = pytest.mark.parametrize("variant", VARIANTS)


def build(variant: str, params: Any, library: Any = optim) -> Any:
    name, kwargs = VARIANTS[variant]
    return getattr(library, name)(params, **kwargs)


def starts(dtype: str = "float64") -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [np.asarray(rng.normal(size=shape), dtype) for shape in SHAPES]


def gradients(step: int, dtype: str = "float64") -> list[np.ndarray | None]:
    """Gradients of one step: signs that change, zeros, and now and then none at all."""
    rng = np.random.default_rng(1000 + step)
    out: list[np.ndarray | None] = [np.asarray(rng.normal(size=shape) + 0.5, dtype) for shape in SHAPES]
    out[0][0, 0] = 0.0  # type: ignore[index]
    if step % 7 == 3:
        out[1] = None
    return out


def run(optimizer: Any, params: list[Any], steps: range, dtype: str = "float64") -> None:
    for step in steps:
        for p, g in zip(params, gradients(step, dtype)):
            p.grad = g
        optimizer.step()


def parameters(dtype: str = "float64", backend: str = "cpu") -> list[nn.Parameter]:
    return [nn.Parameter(fw.tensor(a, backend=backend)) for a in starts(dtype)]


def plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


def values(params: list[Any]) -> list[Any]:
    return [p.tolist() for p in params]
