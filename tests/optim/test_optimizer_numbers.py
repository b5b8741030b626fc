"""The numbers of optimizers: by definition, on every backend, and PyTorch's."""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from optimizer_cases import VARIANTS, all_variants, build, gradients, parameters, plain, run, starts, values

from framework import optim

FULL = os.environ.get("FW_TEST_CASES") == "full"


def test_every_optimizer_is_here() -> None:
    offered = {name: getattr(optim, name) for name in dir(optim)}
    exported = {n for n, v in offered.items() if isinstance(v, type) and issubclass(v, optim.Optimizer)}
    with_closure = {name for name in exported if offered[name].needs_closure}
    assert {name for name, _ in VARIANTS.values()} == exported - {"Optimizer"} - with_closure


def sgd(p: float, g: float, s: dict[str, float], lr: float, momentum: float = 0.0, dampening: float = 0.0,
        weight_decay: float = 0.0, nesterov: bool = False) -> float:  # fmt: skip
    g += weight_decay * p
    if momentum:
        s["v"] = momentum * s["v"] + (1 - dampening) * g if "v" in s else g
        g = g + momentum * s["v"] if nesterov else s["v"]
    return p - lr * g


def adam(p: float, g: float, s: dict[str, float], lr: float = 1e-3, betas: Any = (0.9, 0.999), eps: float = 1e-8,
         weight_decay: float = 0.0, decoupled: bool = False, amsgrad: bool = False) -> float:  # fmt: skip
    t = s["t"] = s.get("t", 0) + 1
    if decoupled:
        p -= lr * weight_decay * p
    else:
        g += weight_decay * p
    s["m"] = betas[0] * s.get("m", 0.0) + (1 - betas[0]) * g
    s["v"] = betas[1] * s.get("v", 0.0) + (1 - betas[1]) * g * g
    s["top"] = max(s.get("top", 0.0), s["v"])
    square = s["top"] if amsgrad else s["v"]
    return p - lr * (s["m"] / (1 - betas[0] ** t)) / (math.sqrt(square / (1 - betas[1] ** t)) + eps)


def rprop(p: float, g: float, s: dict[str, float], lr: float = 0.01, etas: Any = (0.5, 1.2),
          step_sizes: Any = (1e-6, 50.0), variant: str = "irprop-") -> float:  # fmt: skip
    before, size = s.get("g", 0.0), s.get("size", lr)
    if g * before > 0:
        size = min(size * etas[1], step_sizes[1])
    elif g * before < 0:
        size = max(size * etas[0], step_sizes[0])
        g = g if variant == "rprop-" else 0.0
    s["g"], s["size"] = g, size
    return p - math.copysign(size, g) if g else p


def nadam(p: float, g: float, s: dict[str, float], lr: float = 2e-3, betas: Any = (0.9, 0.999), eps: float = 1e-8,
          weight_decay: float = 0.0, momentum_decay: float = 4e-3, decoupled_weight_decay: bool = False) -> float:  # fmt: skip
    t = s["t"] = s.get("t", 0) + 1
    if decoupled_weight_decay:
        p -= lr * weight_decay * p
    else:
        g += weight_decay * p
    mu = [betas[0] * (1 - 0.96 ** (k * momentum_decay) / 2) for k in range(1, t + 2)]
    s["m"] = betas[0] * s.get("m", 0.0) + (1 - betas[0]) * g
    s["v"] = betas[1] * s.get("v", 0.0) + (1 - betas[1]) * g * g
    m = mu[t] * s["m"] / (1 - math.prod(mu)) + (1 - mu[t - 1]) * g / (1 - math.prod(mu[:t]))
    return p - lr * m / (math.sqrt(s["v"] / (1 - betas[1] ** t)) + eps)


def adamax(p: float, g: float, s: dict[str, float], lr: float = 2e-3, betas: Any = (0.9, 0.999), eps: float = 1e-8,
           weight_decay: float = 0.0) -> float:  # fmt: skip
    t = s["t"] = s.get("t", 0) + 1
    g += weight_decay * p
    s["m"] = betas[0] * s.get("m", 0.0) + (1 - betas[0]) * g
    s["u"] = max(betas[1] * s.get("u", 0.0), abs(g) + eps)
    return p - lr / (1 - betas[0] ** t) * s["m"] / s["u"]


def rmsprop(p: float, g: float, s: dict[str, float], lr: float = 0.01, alpha: float = 0.99, eps: float = 1e-8,
            weight_decay: float = 0.0, momentum: float = 0.0, centered: bool = False) -> float:  # fmt: skip
    g += weight_decay * p
    s["v"] = alpha * s.get("v", 0.0) + (1 - alpha) * g * g
    s["m"] = alpha * s.get("m", 0.0) + (1 - alpha) * g
    s["b"] = momentum * s.get("b", 0.0) + g / (math.sqrt(s["v"] - (s["m"] ** 2 if centered else 0.0)) + eps)
    return p - lr * s["b"]


def adagrad(p: float, g: float, s: dict[str, float], lr: float = 0.01, lr_decay: float = 0.0, weight_decay: float = 0.0,
            initial_accumulator_value: float = 0.0, eps: float = 1e-10) -> float:  # fmt: skip
    g += weight_decay * p
    s["sum"] = s.get("sum", initial_accumulator_value) + g * g
    s["t"] = s.get("t", -1) + 1
    return p - lr / (1 + s["t"] * lr_decay) * g / (math.sqrt(s["sum"]) + eps)


def adadelta(p: float, g: float, s: dict[str, float], lr: float = 1.0, rho: float = 0.9, eps: float = 1e-6,
             weight_decay: float = 0.0) -> float:  # fmt: skip
    g += weight_decay * p
    s["g"] = rho * s.get("g", 0.0) + (1 - rho) * g * g
    step = math.sqrt(s.get("d", 0.0) + eps) / math.sqrt(s["g"] + eps) * g
    s["d"] = rho * s.get("d", 0.0) + (1 - rho) * step * step
    return p - lr * step


def lion(p: float, g: float, s: dict[str, float], lr: float = 1e-4, betas: Any = (0.9, 0.99),
         weight_decay: float = 0.0) -> float:  # fmt: skip
    m = s.get("m", 0.0)
    c = betas[0] * m + (1 - betas[0]) * g
    s["m"] = betas[1] * m + (1 - betas[1]) * g
    return p - lr * ((c > 0) - (c < 0) + weight_decay * p)


RULES: dict[str, Callable[..., float]] = {
    "SGD": sgd,
    "NAdam": nadam,
    "Adamax": adamax,
    "RMSprop": rmsprop,
    "Adagrad": adagrad,
    "Adadelta": adadelta,
    "Lion": lion,
    "Adam": adam,
    "AdamW": lambda *args, weight_decay=0.01, **kwargs: adam(
        *args, weight_decay=weight_decay, decoupled=True, **kwargs
    ),
    "Rprop": rprop,
}


@pytest.mark.parametrize("backend", ["cpu", "strict"])
@all_variants
def test_equals_its_definition(variant: str, backend: str) -> None:
    """Fifty steps of every element alone, in Python's numbers; fewer on the slow backend where not everything is run."""
    steps = 50 if FULL or backend == "cpu" else 20
    name, kwargs = VARIANTS[variant]
    kwargs = dict(kwargs)
    sign = -1.0 if kwargs.pop("maximize", False) else 1.0
    params = parameters(backend=backend)
    optimizer = build(variant, params)
    run(optimizer, params, range(steps))
    given = [gradients(step) for step in range(steps)]
    for i, (p, start) in enumerate(zip(params, starts())):
        found = np.asarray(p.tolist())
        for at in np.ndindex(start.shape):
            value, state = float(start[at]), {}
            for now in given:
                if (g := now[i]) is not None:
                    value = RULES[name](value, sign * float(g[at]), state, **kwargs)
            assert found[at] == pytest.approx(value, rel=1e-9, abs=1e-12)


@pytest.fixture
def wide_torch() -> Iterator[Any]:
    """PyTorch, whose default dtype is float64: it keeps some numbers of an optimizer in that."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch.set_default_dtype(torch.float64)
    yield torch
    torch.set_default_dtype(torch.float32)


@pytest.mark.reference
@all_variants
def test_equals_torch(variant: str, wide_torch: Any) -> None:
    torch = wide_torch
    if not hasattr(torch.optim, VARIANTS[variant][0]):
        pytest.skip(f"PyTorch has no {VARIANTS[variant][0]}")
    if "variant" in VARIANTS[variant][1]:
        pytest.skip("PyTorch's Rprop has no variants")
    ours = parameters()
    theirs = [torch.nn.Parameter(torch.tensor(a)) for a in starts()]
    a, b = build(variant, ours), build(variant, theirs, torch.optim)
    for step in range(50):
        for p, q, g in zip(ours, theirs, gradients(step)):
            p.grad = g
            q.grad = None if g is None else torch.tensor(g)
        if step % 10 == 9:  # a schedule
            for group in (*a.param_groups, *b.param_groups):
                group["lr"] *= 0.7
        a.step()
        b.step()
        for p, q in zip(ours, theirs):
            np.testing.assert_allclose(p.tolist(), q.tolist(), rtol=1e-9, atol=1e-12)
    mine, other = a.state_dict()["state"], b.state_dict()["state"]
    assert set(mine) == {str(number) for number in other}
    for number, state in other.items():
        for key, value in state.items():
            np.testing.assert_allclose(plain(mine[str(number)][key]), plain(value), rtol=1e-9, atol=1e-12)


@pytest.mark.reference
def test_groups_equal_torch() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    ours = parameters()
    theirs = [torch.nn.Parameter(torch.tensor(a)) for a in starts()]
    made = []
    for params, library in ((ours, optim), (theirs, torch.optim)):
        groups = [{"params": params[:2], "lr": 0.5}, {"params": params[2], "momentum": 0.0, "weight_decay": 0.1}]
        optimizer = library.SGD(groups, lr=0.1, momentum=0.9)
        optimizer.add_param_group({"params": params[3:], "nesterov": True})
        made.append(optimizer)
    for step in range(20):
        for p, q, g in zip(ours, theirs, gradients(step)):
            p.grad = g
            q.grad = None if g is None else torch.tensor(g)
        for optimizer in made:
            optimizer.step()
    for p, q in zip(ours, theirs):
        np.testing.assert_allclose(p.tolist(), q.tolist(), rtol=1e-12)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@all_variants
def test_backends_agree(variant: str, dtype: str) -> None:
    results = []
    for backend in ("cpu", "strict"):
        params = parameters(dtype, backend)
        optimizer = build(variant, params)
        for step in range(20):
            for p, g in zip(params, gradients(step, dtype)):
                p.grad = g
            optimizer.step()
        assert all(p.backend == backend and p.dtype == dtype for p in params)
        results.append(values(params))
    tolerance = 1e-5 if dtype == "float32" else 1e-12
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, rtol=tolerance, atol=tolerance)
