"""Optimizers: their numbers, their state, and what they leave alone."""

from __future__ import annotations

import copy
import math
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework import nn, optim
from framework.autodiff import Tensor
from framework.backend import registry
from framework.errors import CheckpointError, GradientError

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
    "rprop": ("Rprop", {}),
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


def values(params: list[Any]) -> list[Any]:
    return [p.tolist() for p in params]


def test_every_optimizer_is_here() -> None:
    exported = {n for n, v in vars(optim).items() if isinstance(v, type) and issubclass(v, optim.Optimizer)}
    assert {name for name, _ in VARIANTS.values()} == exported - {"Optimizer"}


@pytest.mark.reference
@all_variants
def test_equals_torch(variant: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
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
            np.testing.assert_allclose(_plain(mine[str(number)][key]), _plain(value), rtol=1e-9, atol=1e-12)


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


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
    assert _map(twin.state_dict(), _plain) == _map(optimizer.state_dict(), _plain)
    assert _map(as_numpy, _plain) == _map(saved, _plain)  # a loaded state is a copy


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
    before = _map(saved, _plain)
    run(optimizer, params, range(2, 5))
    assert _map(saved, _plain) == before


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
        if "adam" in variant:  # the count of steps runs on: only the bias corrections differ
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
        if "adam" in variant or variant == "dampening":  # the first velocity is damped too
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


@all_variants
def test_a_parabola_is_descended(variant: str) -> None:
    if VARIANTS[variant][1].get("maximize"):
        pytest.skip("climbs")
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
    with pytest.raises(CheckpointError, match="differ in betas, dampening, eps, momentum, nesterov; is this the state"):
        optim.Adam(params).load_state_dict(saved)
    saved["state"]["9"] = {}
    with pytest.raises(CheckpointError, match="state of parameter 9, which is in no group"):
        optimizer.load_state_dict(saved)
