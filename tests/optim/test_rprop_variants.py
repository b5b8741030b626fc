"""Rprop with weight backtracking, which compares losses."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework import nn, optim
from framework.errors import ConfigError

BACKENDS = ("cpu", "strict")
START = [np.array([[3.0, -2.0], [0.5, 0.0]]), np.array(1.5), np.array([-4.0, 0.1, 7.0])]
CURVES = [np.array([[1.0, 30.0], [0.2, 5.0]]), np.array(400.0), np.array([2.0, 0.01, 1.0])]


def loss_and_gradients(arrays: list[np.ndarray], up: bool = False) -> tuple[float, list[np.ndarray]]:
    """Narrow and wide parabolas that are tied together, in which steps soon go too far."""
    tie = sum(float(a.sum()) for a in arrays) - 1.0
    loss = sum(float((c * a * a).sum()) for a, c in zip(arrays, CURVES)) + tie * tie
    sign = -1.0 if up else 1.0
    return sign * loss, [sign * (2 * c * a + 2 * tie) for a, c in zip(arrays, CURVES)]


def closure_of(params: list[Any], up: bool = False) -> Callable[[], float]:
    def closure() -> float:
        loss, gradients = loss_and_gradients([np.asarray(p.tolist()) for p in params], up)
        for p, g in zip(params, gradients):
            p.grad = np.asarray(g, str(p.dtype))
        return loss

    return closure


def made(dtype: str = "float64", backend: str = "cpu", **kwargs: Any) -> tuple[list[nn.Parameter], Any]:
    params = [nn.Parameter(fw.tensor(a, dtype=dtype, backend=backend)) for a in START]
    return params, optim.Rprop(params, **{"lr": 0.1, "variant": "irprop+", **kwargs})


def values(params: list[Any]) -> list[Any]:
    return [p.tolist() for p in params]


def definition(steps: int, lr: float, etas: tuple[float, float], sizes: tuple[float, float]) -> list[np.ndarray]:
    """iRprop+ as the paper writes it, weight by weight, with the moves remembered."""
    arrays = [a.copy() for a in START]
    memory = [[{"d": lr, "g": 0.0, "move": 0.0} for _ in range(a.size)] for a in arrays]
    last = math.inf
    for _ in range(steps):
        loss, gradients = loss_and_gradients(arrays)
        for a, own, g in zip(arrays, memory, gradients):
            flat, slopes = a.reshape(-1), np.ravel(g)
            for i, m in enumerate(own):
                slope = float(slopes[i])
                if m["g"] * slope > 0:
                    m["d"] = min(m["d"] * etas[1], sizes[1])
                elif m["g"] * slope < 0:
                    m["d"] = max(m["d"] * etas[0], sizes[0])
                    if loss > last:
                        flat[i] -= m["move"]
                    m["g"] = m["move"] = 0.0
                    continue
                m["move"] = -float(np.sign(slope)) * m["d"]
                flat[i] += m["move"]
                m["g"] = slope
        last = loss
    return arrays


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("arguments", [{}, {"lr": 0.5, "etas": (0.4, 1.5), "step_sizes": (1e-3, 2.0)}])
def test_equals_its_definition(arguments: dict[str, Any], backend: str) -> None:
    params, optimizer = made(backend=backend, **arguments)
    closure = closure_of(params)
    full = {"lr": 0.1, "etas": (0.5, 1.2), "step_sizes": (1e-6, 50.0), **arguments}
    for step in range(1, 51):
        optimizer.step(closure)
        if step in (1, 2, 3, 10, 50):
            for p, expected in zip(params, definition(step, full["lr"], full["etas"], full["step_sizes"])):
                np.testing.assert_allclose(p.tolist(), expected, rtol=1e-9, atol=1e-12)


def test_a_step_that_went_too_far_is_taken_back() -> None:
    p = nn.Parameter(fw.tensor([1.0, 100.0], dtype="float64"))
    optimizer = optim.Rprop([p], lr=3.0, variant="irprop+")
    losses = iter([5.0, 9.0, 4.0, 4.5])
    slopes = iter([[1.0, 1.0], [-1.0, 1.0], [1.0, 1.0], [-1.0, -1.0]])

    def closure() -> float:
        p.grad = np.array(next(slopes))
        return next(losses)

    optimizer.step(closure)
    assert p.tolist() == [-2.0, 97.0]
    optimizer.step(closure)  # the loss has grown: the first goes back; the second goes on, faster
    assert p.tolist() == [1.0, 97.0 - 3.6]
    assert optimizer.step(closure) == 4.0
    assert p.tolist() == pytest.approx([1.0 - 1.5, 93.4 - 4.32])
    optimizer.step(closure)
    assert p.tolist() == pytest.approx([1.0, 93.4])


def test_without_growth_the_weight_stays() -> None:
    p = nn.Parameter(fw.tensor([1.0], dtype="float64"))
    optimizer = optim.Rprop([p], lr=3.0, variant="irprop+")
    losses, slopes = iter([5.0, 4.0]), iter([1.0, -1.0])

    def closure() -> float:
        p.grad = np.array([next(slopes)])
        return next(losses)

    optimizer.step(closure)
    optimizer.step(closure)
    assert p.tolist() == [-2.0]


@pytest.mark.parametrize("backend", BACKENDS)
def test_climbing_is_descending_the_other_way(backend: str) -> None:
    params, optimizer = made(backend=backend)
    others, climbing = made(backend=backend, maximize=True)
    for _ in range(30):
        assert optimizer.step(closure_of(params)) == -climbing.step(closure_of(others, up=True))
    assert values(params) == values(others)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_resume(dtype: str, backend: str) -> None:
    """Saved after seven steps and loaded into one of another variant, the next seven are the same bit for bit."""
    params, optimizer = made(dtype, backend)
    for _ in range(7):
        optimizer.step(closure_of(params))
    saved = optimizer.state_dict()
    copies = [copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))]
    others, twin = made(dtype, backend, variant="irprop-")
    for p, q in zip(params, others):
        q.assign(p)
    twin.load_state_dict(saved)
    assert twin.needs_closure
    for _ in range(7):
        optimizer.step(closure_of(params))
        twin.step(closure_of(others))
    assert values(params) == values(others)
    assert all(p.dtype == dtype for p in params)
    for copied in copies:
        own = copied.param_groups[0]["params"]
        for _ in range(7):
            copied.step(closure_of(own))
        assert values(own) == values(params)


def test_the_variants_go_their_own_ways_to_the_same_place() -> None:
    ends, paths = [], []
    for variant in ("irprop-", "rprop-", "irprop+"):
        params, optimizer = made(variant=variant)
        closure, losses = closure_of(params), []
        for _ in range(150):
            losses.append(optimizer.step(closure))
        ends.append(closure())
        paths.append(losses)
    lowest = 1 / (1 + sum(float((1 / c).sum()) for c in CURVES))  # of all tied parabolas
    assert ends == pytest.approx([lowest] * 3, rel=0.01)
    assert paths[0] != paths[1] != paths[2] != paths[0]


def test_a_false_flag_changes_nothing() -> None:
    params, optimizer = made()
    closure = closure_of(params)
    for _ in range(4):
        optimizer.step(closure)
    before, tree = values(params), str(plain(optimizer.state_dict()))
    optimizer.apply_if = params[0]._ns.backend.asarray(False)
    optimizer.step(closure)
    assert (values(params), str(plain(optimizer.state_dict()))) == (before, tree)
    optimizer.step(closure)
    assert values(params) != before


def plain(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: plain(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [plain(value) for value in tree]
    return tree.tolist() if hasattr(tree, "tolist") else tree


def test_what_is_refused() -> None:
    p = nn.Parameter([1.0])
    with pytest.raises(
        ConfigError, match="Rprop: variant is one of 'irprop-', 'rprop-', 'irprop\\+', got 'irprop'. Did"
    ):
        optim.Rprop([p], variant="irprop")
    optimizer = optim.Rprop([p], variant="irprop+")
    assert optimizer.needs_closure
    with pytest.raises(ConfigError, match=r"Rprop.step: variant='irprop\+' compares losses and needs a closure: def"):
        optimizer.step()
    assert not optim.Rprop([p]).needs_closure
    assert not optim.Rprop.needs_closure
