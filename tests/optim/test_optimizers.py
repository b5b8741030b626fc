"""Optimizers: their numbers, their state, and what they leave alone."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from optimizer_cases import VARIANTS, all_variants, build, gradients, parameters, plain, run, values

import framework as fw
from framework import nn, optim
from framework.autodiff import Tensor
from framework.backend import registry
from framework.errors import CheckpointError, GradientError

COUNTING = ("adam", "nadam", "adagrad")
"""How the variants begin whose steps depend on how many there were before."""


@pytest.mark.parametrize("backend", ["cpu", "strict"])
@all_variants
def test_gradients_are_never_written(variant: str, backend: str) -> None:
    params = parameters(backend=backend)
    optimizer = build(variant, params)
    for step in range(3):
        given = gradients(step)
        for p, g in zip(params, given):
            p.grad = g
        optimizer.step()
        for p, g in zip(params, given):
            assert p.grad is None if g is None else p.grad.tolist() == g.tolist()


@all_variants
def test_left_alone(variant: str) -> None:
    """Without a gradient, or frozen, a parameter keeps its value and gets no state."""
    params = parameters()
    before = values(params)
    optimizer = build(variant, params)
    optimizer.step()
    assert values(params) == before
    assert optimizer.state_dict()["state"] == {}
    params[1].requires_grad = False
    run(optimizer, [params[0]], range(2))
    assert values(params)[1:] == before[1:]
    assert values(params)[0] != before[0]


@pytest.mark.parametrize("backend", ["cpu", "strict"])
@all_variants
def test_resume(variant: str, backend: str) -> None:
    """Saved after 7 steps and loaded into another optimizer, the next 7 are the same bit for bit."""
    params = parameters("float32", backend)
    optimizer = build(variant, params)
    run(optimizer, params, range(7), "float32")
    optimizer.param_groups[0]["lr"] = 0.025
    saved = copy.deepcopy(optimizer.state_dict())
    _check_tree(saved)
    others = [nn.Parameter(p.detach()) for p in params]
    run(optimizer, params, range(7, 14), "float32")
    twin = build(variant, others)
    as_numpy = _map(saved, lambda t: t.numpy() if isinstance(t, Tensor) else t)
    twin.load_state_dict(as_numpy)
    run(twin, others, range(7, 14), "float32")
    assert values(others) == values(params)
    assert _map(twin.state_dict(), plain) == _map(optimizer.state_dict(), plain)
    assert _map(as_numpy, plain) == _map(saved, plain)  # a loaded state is a copy


def _check_tree(tree: Any) -> None:
    if isinstance(tree, dict):
        assert all(type(key) is str for key in tree)
        for value in tree.values():
            _check_tree(value)
    elif isinstance(tree, list):
        for value in tree:
            _check_tree(value)
    else:
        assert type(tree) in (str, int, float, bool, type(None), Tensor)


def _map(tree: Any, fn: Callable[[Any], Any]) -> Any:
    if isinstance(tree, dict):
        return {key: _map(value, fn) for key, value in tree.items()}
    return [_map(value, fn) for value in tree] if isinstance(tree, list) else fn(tree)


@all_variants
def test_saved_state_does_not_move_on(variant: str) -> None:
    params = parameters()
    optimizer = build(variant, params)
    run(optimizer, params, range(2))
    saved = optimizer.state_dict()
    before = _map(saved, plain)
    run(optimizer, params, range(2, 5))
    assert _map(saved, plain) == before


@all_variants
def test_copies(variant: str) -> None:
    params = parameters()
    optimizer = build(variant, params)
    run(optimizer, params, range(3))
    for twin in (copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))):
        others = twin.param_groups[0]["params"]
        assert [p is q for p, q in zip(params, others)] == [False] * 4
        expected = copy.deepcopy(optimizer)
        run(twin, others, range(3, 6))
        run(expected, expected.param_groups[0]["params"], range(3, 6))
        assert values(others) == values(expected.param_groups[0]["params"])


# -- a step that is decided on the device ------------------------------------------------------------


@pytest.fixture(params=["cpu", "strict"])
def asynchronous(request: pytest.FixtureRequest) -> Iterator[str]:
    """A backend of which reading a value would cost: in-place kernels (cpu) or none (strict)."""
    base = type(registry.get(request.param))

    class Asynchronous(base):  # type: ignore[valid-type,misc]
        name = "asynchronous"
        synchronous = False

        def __init__(self) -> None:
            super().__init__()
            if hasattr(self, "_native_device"):
                self._native_device = {self.name: self._host}

    registry.register(Asynchronous)
    yield "asynchronous"
    registry._local.pop("asynchronous", None)
    registry._instances.pop("asynchronous", None)


def _flagged_run(variant: str, backend: str) -> tuple[list[Any], list[Any]]:
    """Parameters after steps of which some have bad gradients and a false flag; and without those steps."""
    flagged, plain = parameters(backend=backend), parameters(backend=backend)
    a, b = build(variant, flagged), build(variant, plain)
    run(a, flagged, range(1))
    run(b, plain, range(1))
    for step in range(1, 8):
        ok = step not in (2, 5)
        for p, g in zip(flagged, gradients(step)):
            p.grad = g if ok or g is None else g * math.nan
        a.apply_if = flagged[0]._ns.backend.asarray(ok)
        a.step()
        assert a.apply_if is None
        if ok:
            run(b, plain, range(step, step + 1))
    return values(flagged), values(plain)


@pytest.mark.parametrize("backend", ["cpu", "strict"])
@all_variants
def test_a_false_flag_changes_nothing(variant: str, backend: str) -> None:
    flagged, plain = _flagged_run(variant, backend)
    assert flagged == plain


@all_variants
def test_a_false_flag_changes_nothing_on_a_device(variant: str, asynchronous: str) -> None:
    flagged, plain = _flagged_run(variant, asynchronous)
    for a, b in zip(flagged, plain):
        if variant.startswith(COUNTING):  # the count of steps runs on
            assert np.isfinite(a).all()
        else:
            assert a == b


@all_variants
def test_a_false_flag_at_the_first_step(variant: str, asynchronous: str) -> None:
    params, plain = parameters(backend=asynchronous), parameters(backend=asynchronous)
    before = values(params)
    optimizer = build(variant, params)
    optimizer.apply_if = params[0]._ns.backend.asarray(False)
    for p, g in zip(params, gradients(0)):
        p.grad = g * math.nan  # type: ignore[operator]
    optimizer.step()
    assert values(params) == before
    run(optimizer, params, range(1, 4))
    run(build(variant, plain), plain, range(1, 4))
    for a, b in zip(values(params), values(plain)):
        if variant.startswith(COUNTING) or variant == "dampening":  # its first velocity is damped
            assert np.isfinite(a).all()
        else:
            assert a == b


# -- steps and the tape --------------------------------------------------------------------------------


def test_closure() -> None:
    p = nn.Parameter(fw.tensor([3.0], dtype="float64"))
    optimizer = optim.SGD([p], lr=0.5)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (p * p).sum()
        loss.backward()
        return loss

    with fw.no_grad():
        assert optimizer.step(closure).item() == 9.0
    assert p.tolist() == [0.0]
    assert optimizer.step() is None
    assert not optim.Optimizer.needs_closure


def test_gradients_with_a_graph() -> None:
    p = nn.Parameter([2.0])
    (p**3).sum().backward(create_graph=True)
    assert p.grad.requires_grad
    optim.SGD([p], lr=0.25).step()
    assert p.tolist() == [-1.0]
    assert not p.detach().requires_grad


def test_backward_after_a_step_says_so() -> None:
    """The product kept the weight that the step then overwrote."""
    p = nn.Parameter([2.0])
    optimizer = optim.SGD([p], lr=1.0)
    y = (p * p).sum()
    y.backward(retain_graph=True)
    optimizer.step()
    with pytest.raises(GradientError, match="overwritten in place"):
        y.backward()
    q = nn.Parameter(fw.tensor([2.0], backend="strict"))  # arrays are never overwritten: the old values are still there
    y = (q * q).sum()
    y.backward(retain_graph=True)
    optim.SGD([q], lr=1.0).step()
    y.backward()
    assert q.grad.tolist() == [8.0]


def test_zero_grad() -> None:
    p, q = nn.Parameter([1.0]), nn.Parameter([1.0])
    optimizer = optim.SGD([p, q], lr=1.0)
    p.grad = held = fw.tensor([2.0])
    optimizer.zero_grad(set_to_none=False)
    assert (p.grad.tolist(), q.grad, held.tolist()) == ([0.0], None, [2.0])
    optimizer.zero_grad()
    assert p.grad is None


def test_a_moved_parameter_goes_on() -> None:
    layer = nn.Linear(2, 2)
    optimizer = optim.SGD(layer.parameters(), lr=1.0)
    layer.double()
    layer.weight.grad = np.ones((2, 2))
    before = np.array(layer.weight.tolist())
    optimizer.step()
    np.testing.assert_allclose(layer.weight.tolist(), before - 1)
    assert layer.weight.dtype == "float64"


@pytest.mark.parametrize("variant", [name for name in VARIANTS if not name.endswith("-up")])
def test_a_parabola_is_descended(variant: str) -> None:
    p = nn.Parameter(fw.tensor([3.0, -2.0], dtype="float64"))
    optimizer = build(variant, [p])
    for _ in range(200):
        optimizer.zero_grad()
        (p * p).sum().backward()
        optimizer.step()
    assert abs(np.array(p.tolist())).max() < 0.05


# -- loading what does not fit -------------------------------------------------------------------------


def test_loading_what_does_not_fit() -> None:
    params = parameters()
    optimizer = optim.SGD(params, lr=0.1, momentum=0.9)
    run(optimizer, params, range(1))
    saved = optimizer.state_dict()
    with pytest.raises(CheckpointError, match=r"groups of \[3\] parameters, the saved one of \[4\]"):
        optim.SGD(params[:3]).load_state_dict(saved)
    other = optim.SGD(params[::-1], momentum=0.9)
    with pytest.raises(
        CheckpointError, match=r"momentum_buffer of parameter 0 has shape \(3, 4\), the parameter \(2, 1, 3\)"
    ):
        other.load_state_dict(saved)
    assert other.state == {}
    with pytest.raises(CheckpointError, match="differ in amsgrad, betas, dampening, eps, momentum, nesterov; is this"):
        optim.Adam(params).load_state_dict(saved)
    saved["state"]["9"] = {}
    with pytest.raises(CheckpointError, match="state of parameter 9, which is in no group"):
        optimizer.load_state_dict(saved)
