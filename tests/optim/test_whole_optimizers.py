"""Optimizers that evaluate the loss themselves: L-BFGS and scaled conjugate gradients."""

from __future__ import annotations

import copy
import math
import pickle
import re
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from closure_cases import BACKENDS, KINDS, PROBLEMS, all_kinds, all_problems, closure_of, made, values

import framework as fw
from framework import nn, optim
from framework.errors import CheckpointError, ConfigError


def test_scg_needs_no_more_evaluations_than_it_says() -> None:
    """Two of the closure in an iteration, one less after each that failed."""
    params, closure = made("network")
    calls: list[float] = []

    def counted() -> float:
        calls.append(closure())
        return calls[-1]

    optimizer = optim.SCG(params, max_iter=30, tolerance_change=0.0)
    optimizer.step(counted)
    state = optimizer.state_dict()["state"]["0"]
    assert state["func_evals"] == len(calls)
    assert state["n_iter"] == 30
    assert 30 < len(calls) <= 1 + 2 * 30


@all_problems
@pytest.mark.parametrize("kind", ["lbfgs", "scg"])
@pytest.mark.parametrize("backend", BACKENDS)
def test_the_loss_falls(kind: str, problem: str, backend: str) -> None:
    params, closure = made(problem, backend=backend)
    optimizer = KINDS[kind](params)
    losses = [float(optimizer.step(closure)) for _ in range(60)]
    assert all(b <= a for a, b in pairwise(losses))
    assert losses[-1] < {"rosenbrock": 1e-5, "network": 2e-3, "logistic": 16.31}[problem]
    assert optimizer.needs_closure


@all_kinds
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_dtypes_and_backends(kind: str, dtype: str, backend: str) -> None:
    """Every array is of the parameters' dtype; the gradients are never written."""
    params, closure = made("network", dtype, backend)
    optimizer = KINDS[kind](params)
    seen: list[tuple[Any, Any]] = []

    def watched() -> float:
        loss = closure()
        seen.extend((p.grad, p.grad.tolist()) for p in params)
        return loss

    first = optimizer.step(watched)
    for _ in range(4):
        optimizer.step(watched)
    assert optimizer.step(watched) < first
    assert all(p.dtype == dtype and p.backend == backend for p in params)
    arrays = [a for value in optimizer.memory.values() for a in (value if isinstance(value, list) else [value])]
    kinds = {str(a.dtype).rpartition(".")[2] for a in arrays if hasattr(a, "dtype")}
    assert kinds == {dtype}
    assert all(g.tolist() == before for g, before in seen)


@all_kinds
@pytest.mark.parametrize("backend", BACKENDS)
def test_resume(kind: str, backend: str) -> None:
    """Saved after three steps and loaded into another optimizer, the next three are the same bit for bit."""
    params, closure = made("network", "float32", backend)
    optimizer = KINDS[kind](params)
    for _ in range(3):
        optimizer.step(closure)
    saved = optimizer.state_dict()
    frozen = plain(saved)
    others, other_closure = made("network", "float32", backend)
    for p, q in zip(params, others):
        q.assign(p)
    twins = [copy.deepcopy(optimizer), pickle.loads(pickle.dumps(optimizer))]
    twin = KINDS[kind](others)
    twin.load_state_dict(as_numpy(saved))
    for _ in range(3):
        optimizer.step(closure)
        twin.step(other_closure)
    assert plain(saved) == frozen
    assert values(others) == values(params)
    assert plain(twin.state_dict()) == plain(optimizer.state_dict())
    for copied in twins:
        own = copied.param_groups[0]["params"]
        again = closure_of(own, PROBLEMS["network"]()[1])
        for _ in range(3):
            copied.step(again)
        assert values(own) == values(params)


def plain(tree: Any) -> Any:
    if isinstance(tree, dict):
        assert all(type(key) is str for key in tree)
        return {key: plain(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [plain(value) for value in tree]
    assert isinstance(tree, str | int | float | bool | None | fw.Tensor)
    return tree.tolist() if isinstance(tree, fw.Tensor) else tree


def as_numpy(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {key: as_numpy(value) for key, value in tree.items()}
    if isinstance(tree, list):
        return [as_numpy(value) for value in tree]
    return tree.numpy() if isinstance(tree, fw.Tensor) else tree


@all_kinds
def test_through_autodiff(kind: str) -> None:
    """With a module, gradients from the tape, under no_grad; the closure's first loss comes back."""
    fw.seed_everything(0)
    model = nn.Sequential(nn.Linear(2, 4), nn.Tanh(), nn.Linear(4, 1)).double()
    x = fw.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]], dtype="float64")
    y = fw.tensor([[0.0], [1.0], [1.0], [0.0]], dtype="float64")
    optimizer = KINDS[kind](model.parameters())

    def closure() -> fw.Tensor:
        optimizer.zero_grad()
        loss = ((model(x) - y) ** 2).mean()
        loss.backward()
        return loss

    with fw.no_grad():
        first = optimizer.step(closure)
        for _ in range(200 if kind == "lbfgs-plain" else 60):
            last = optimizer.step(closure)
    assert isinstance(first, fw.Tensor)
    assert last.item() < 0.5 * first.item()


@all_kinds
def test_frozen_and_unused_parameters_stay(kind: str) -> None:
    params, _ = made("network")
    _, fn = PROBLEMS["network"]()
    unused = nn.Parameter(fw.tensor([1.5, -2.5], dtype="float64"))
    frozen = nn.Parameter(fw.tensor([3], dtype="float32"), requires_grad=False)
    optimizer = KINDS[kind]([frozen, *params[:2], unused, *params[2:]])
    before = values(params)
    for _ in range(3):
        optimizer.step(closure_of(params, fn))
    assert (unused.tolist(), unused.grad, frozen.tolist()) == ([1.5, -2.5], None, [3.0])
    assert all(p != old for p, old in zip(values(params), before))
    if kind != "scg":  # to which the number of all weights matters
        twins, closure = made("network")
        twin = KINDS[kind](twins)
        for _ in range(3):
            twin.step(closure)
        for p, q in zip(values(params), values(twins)):
            np.testing.assert_allclose(p, q, rtol=1e-6)


@all_kinds
def test_nothing_to_move(kind: str) -> None:
    frozen = nn.Parameter([3.0], requires_grad=False)
    optimizer = KINDS[kind]([frozen])
    assert optimizer.step(lambda: 7.0) == 7.0
    still = nn.Parameter([3.0])
    assert KINDS[kind]([still]).step(lambda: 7.0) == 7.0
    assert (frozen.tolist(), still.tolist()) == ([3.0], [3.0])


@all_kinds
@pytest.mark.parametrize("at", [1, 2, 3, 5, 8])
def test_an_error_in_the_closure_leaves_the_last_good_weights(kind: str, at: int) -> None:
    params, closure = made("network")
    _, fn = PROBLEMS["network"]()
    optimizer = KINDS[kind](params)
    first = closure()
    calls = 0

    def failing() -> float:
        nonlocal calls
        calls += 1
        if calls == at:
            raise KeyboardInterrupt
        return closure()

    with pytest.raises(KeyboardInterrupt):
        while True:
            optimizer.step(failing)
    assert fn([np.asarray(p.tolist()) for p in params])[0] <= first
    before = optimizer.step(closure)
    assert optimizer.step(closure) < before


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_scg_steps_back_from_where_the_loss_is_not_finite(bad: float) -> None:
    p = nn.Parameter(fw.tensor([0.5], dtype="float64"))

    def closure() -> float:  # −log(1 − x) + x² − 4 x, of which the left part ends at 1
        x = p.item()
        if x >= 1:
            p.grad = np.array([bad])
            return bad
        p.grad = np.array([1 / (1 - x) + 2 * x - 4])
        return -math.log(1 - x) + x * x - 4 * x

    optimizer = optim.SCG([p], max_iter=50)
    optimizer.step(closure)
    assert abs(1 / (1 - p.item()) + 2 * p.item() - 4) < 1e-4
    p.assign([2.0])
    optimizer.step(closure)
    assert p.tolist() == [2.0]


def test_scg_on_a_parabola_ends_in_as_many_iterations_as_it_has_axes() -> None:
    rng = np.random.default_rng(3)
    root = rng.normal(size=(5, 5))
    matrix, target = root @ root.T + np.eye(5), rng.normal(size=5)
    p = nn.Parameter(fw.tensor(np.zeros(5)))

    def closure() -> float:
        e = np.asarray(p.tolist()) - target
        p.grad = matrix @ e
        return float(e @ matrix @ e / 2)

    optim.SCG([p], max_iter=6, lambda_init=1e-15).step(closure)
    np.testing.assert_allclose(p.tolist(), target, atol=1e-4)


@all_kinds
def test_a_false_flag_moves_nothing(kind: str) -> None:
    params, closure = made("network")
    optimizer = KINDS[kind](params)
    before = values(params)
    optimizer.apply_if = params[0]._ns.backend.asarray(False)
    assert optimizer.step(closure) == closure()
    assert values(params) == before
    assert optimizer.apply_if is None
    optimizer.step(closure)
    assert values(params) != before


@all_kinds
def test_a_moved_model_goes_on(kind: str) -> None:
    model = nn.Linear(2, 1)
    optimizer = KINDS[kind](model.parameters())
    x, y = np.array([[1.0, 2.0], [3.0, -1.0], [0.5, 0.5]]), np.array([[1.0], [0.0], [2.0]])

    def closure() -> Any:
        optimizer.zero_grad()
        loss = ((model(fw.tensor(x, dtype=model.weight.dtype)) - fw.tensor(y, dtype=model.weight.dtype)) ** 2).mean()
        loss.backward()
        return loss

    first = optimizer.step(closure).item()
    model.double()
    for _ in range(3):
        last = optimizer.step(closure).item()
    assert model.weight.dtype == "float64"
    assert last < first
    assert {a.dtype for a in optimizer.memory.values() if hasattr(a, "dtype")} == {np.dtype("float64")}


def one() -> nn.Parameter:
    return nn.Parameter([1.0])


def loaded(other: Any, params: list[Any]) -> None:
    kind = type(other)
    kind(params).load_state_dict(other.state_dict())


def stepped(kind: str = "scg") -> Any:
    params, closure = made("network")
    optimizer = KINDS[kind](params)
    optimizer.step(closure)
    return optimizer


def mixed() -> None:
    p, q = one(), nn.Parameter(fw.tensor([1.0], dtype="float64"))
    optim.SCG([p, q]).step(lambda: 0.0)


ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: optim.SCG([one()]).step(), ConfigError, "SCG.step: needs a closure, which it calls several times: def"),
    (lambda: optim.LBFGS([one()]).step(), ConfigError, "LBFGS.step: needs a closure"),
    (lambda: optim.LBFGS([{"params": [one()]}, {"params": [one()]}]), ConfigError, "got a second parameter group"),
    (lambda: optim.LBFGS([one()], max_iter=0), ConfigError, "LBFGS: max_iter must be a positive integer, got 0"),
    (lambda: optim.LBFGS([one()], max_eval=1.5), ConfigError, "LBFGS: max_eval must be a positive integer, got 1.5"),
    (lambda: optim.LBFGS([one()], history_size=True), ConfigError, "history_size must be a positive integer, got True"),
    (lambda: optim.LBFGS([one()], lr=-1), ConfigError, "LBFGS: lr must be at least 0, got -1"),
    (lambda: optim.LBFGS([one()], tolerance_grad=-1), ConfigError, "LBFGS: tolerance_grad must be at least 0, got -1"),
    (
        lambda: optim.LBFGS([one()], line_search_fn="wolfe"),
        ConfigError,
        "line_search_fn is None or 'strong_wolfe', got 'wolfe'",
    ),
    (lambda: optim.SCG([one()], sigma=0), ConfigError, "SCG: sigma must be at least 1e-12 and below 1, got 0"),
    (lambda: optim.SCG([one()], lambda_init=0), ConfigError, "SCG: lambda_init must be at least 1e-15, got 0"),
    (lambda: optim.SCG([one()], max_iter="20"), ConfigError, "SCG: max_iter must be a positive integer, got '20'"),
    (mixed, ConfigError, "of one dtype on one device; got float32 on 'cpu' and float64 on 'cpu'"),
    (
        lambda: loaded(stepped(), [nn.Parameter(np.zeros((1, 5))), nn.Parameter(np.zeros(5)), one(), one()]),
        CheckpointError,
        "SCG.load_state_dict: a saved vector has shape (16,), the parameters have 12 elements",
    ),
    (
        lambda: stepped().load_state_dict({**stepped().state_dict(), "state": {"1": {}}}),
        CheckpointError,
        "SCG.load_state_dict: state of parameters 1; the state of this optimizer belongs to parameter 0",
    ),
    (lambda: stepped().load_state_dict(stepped("lbfgs").state_dict()), CheckpointError, "the saved arguments differ in"),
]  # fmt: skip


@pytest.mark.parametrize("case", range(len(ERRORS)))
def test_errors(case: int) -> None:
    call, kind, text = ERRORS[case]
    with pytest.raises(kind, match=re.escape(text)):
        call()


def test_a_schedule_needs_a_rate() -> None:
    with pytest.raises(ConfigError, match="SCG has no learning rate to schedule"):
        optim.lr_scheduler.StepLR(optim.SCG([one()]), 1)
    scheduler = optim.lr_scheduler.StepLR(optim.LBFGS([one()], lr=0.5), 1)
    scheduler.step()
    assert scheduler.get_last_lr() == [0.05]
