"""Clipping of gradients: what it computes, what it leaves alone, mistakes."""

from __future__ import annotations

import inspect
import math
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework import nn, optim
from framework.autodiff import Tensor
from framework.errors import ConfigError, DTypeError, NonFiniteError

SHAPES = ((3, 4), (5,), (), (2, 0))


def with_gradients(scale: float = 1.0, dtype: str = "float64", backend: str = "cpu", seed: int = 0) -> list[Tensor]:
    rng = np.random.default_rng(seed)
    made = [fw.tensor(np.ones(shape), dtype=dtype, backend=backend, requires_grad=True) for shape in SHAPES]
    for p in made:
        p.grad = scale * rng.normal(size=p.shape)
    return [*made, fw.tensor([1.0], requires_grad=True), fw.tensor([1.0])]  # and two without a gradient


def gradients(parameters: list[Tensor]) -> list[Any]:
    return [np.array(p.grad.tolist()) for p in parameters if p.grad is not None]


def norm(arrays: list[Any], p: float = 2.0) -> float:
    return float(np.linalg.norm(np.concatenate([np.ravel(a) for a in arrays]), p))


# -- what it computes --------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["cpu", "strict"])
@pytest.mark.parametrize("p", [1.0, 2.0, 3.0, 0.5, math.inf])
@pytest.mark.parametrize("max_norm", [0.3, 1e6, 0.0, math.inf])
def test_the_norm_of_all_gradients_together(backend: str, p: float, max_norm: float) -> None:
    parameters = with_gradients(backend=backend)
    before = gradients(parameters)
    total = optim.clip_grad_norm_(parameters, max_norm, norm_type=p)
    assert isinstance(total, Tensor)
    assert (total.shape, total.dtype, total.backend, total.requires_grad) == ((), "float64", backend, False)
    assert total.item() == pytest.approx(norm(before, p), rel=1e-12)
    factor = min(1.0, max_norm / (norm(before, p) + 1e-6))
    for g, old in zip(gradients(parameters), before, strict=True):
        np.testing.assert_allclose(g, old * factor, rtol=1e-12)
    assert parameters[-2].grad is None


@pytest.mark.parametrize("backend", ["cpu", "strict"])
def test_values_one_by_one(backend: str) -> None:
    parameters = with_gradients(backend=backend)
    parameters[1].grad = [math.nan, math.inf, -math.inf, 0.25, -0.5]
    before = gradients(parameters)
    assert optim.clip_grad_value_(parameters, 0.5) is None
    for g, old in zip(gradients(parameters), before, strict=True):
        np.testing.assert_array_equal(g, np.clip(old, -0.5, 0.5))
    assert math.isnan(gradients(parameters)[1][0])


def test_one_tensor_or_a_generator_will_do() -> None:
    p = with_gradients()[0]
    total = norm(gradients([p]))
    assert optim.clip_grad_norm_(p, 0.1).item() == pytest.approx(total)
    assert norm(gradients([p])) == pytest.approx(0.1, rel=1e-4)
    optim.clip_grad_value_(p, 0.01)
    assert np.abs(gradients([p])).max() == 0.01
    net = nn.Linear(2, 1)
    net(fw.tensor([[3.0, 4.0]])).sum().backward()
    assert optim.clip_grad_norm_(net.parameters(), 1.0).item() == pytest.approx(math.sqrt(26))


def test_without_a_gradient_the_norm_is_zero() -> None:
    for parameters in ([], [fw.tensor([1.0], requires_grad=True)], [fw.tensor([1])]):
        assert optim.clip_grad_norm_(parameters, 1.0).item() == 0.0
        optim.clip_grad_value_(parameters, 1.0)


def test_gradients_of_several_dtypes_keep_theirs() -> None:
    wide, narrow, half = (with_gradients(dtype=d)[0] for d in ("float64", "float32", "float16"))
    want = norm(gradients([wide, narrow, half]))
    assert optim.clip_grad_norm_([narrow, half, wide], 0.1).item() == pytest.approx(want, rel=1e-6)
    assert [p.grad.dtype.name for p in (wide, narrow, half)] == ["float64", "float32", "float16"]
    assert norm(gradients([wide, narrow, half])) == pytest.approx(0.1, rel=1e-3)


def test_half_precision_does_not_overflow_in_the_norm() -> None:
    p = fw.tensor(np.ones(4, np.float16), requires_grad=True)
    p.grad = np.full(4, 3e3, np.float16)
    assert optim.clip_grad_norm_(p, 1.0).item() == 6e3
    np.testing.assert_allclose(p.grad.tolist(), [0.5] * 4, rtol=1e-3)


def test_gradients_on_several_backends() -> None:
    parameters = [with_gradients()[0], with_gradients(backend="strict")[0]]
    before = gradients(parameters)
    total = optim.clip_grad_norm_(parameters, 0.5)
    assert total.backend == "cpu"
    assert total.item() == pytest.approx(norm(before))
    assert norm(gradients(parameters)) == pytest.approx(0.5, rel=1e-5)
    assert parameters[1].grad.backend == "strict"


# -- what is not finite ------------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("backend", ["cpu", "strict"])
def test_a_norm_that_is_not_finite(bad: float, backend: str) -> None:
    parameters = with_gradients(backend=backend)
    parameters[1].grad = [bad, 1.0, 1.0, 1.0, 1.0]
    before = gradients(parameters)
    with pytest.raises(NonFiniteError, match=r"the norm of 4 gradients is (nan|inf); nothing was clipped"):
        optim.clip_grad_norm_(parameters, 1.0, error_if_nonfinite=True)
    for g, old in zip(gradients(parameters), before, strict=True):
        np.testing.assert_array_equal(g, old)
    with np.errstate(invalid="ignore"):
        total = optim.clip_grad_norm_(parameters, 1.0)
    assert not math.isfinite(total.item())
    after = gradients(parameters)
    assert np.isnan(after[0]).all() if math.isnan(bad) else not after[0].any()
    assert math.isnan(after[1][0])


# -- what it leaves alone ----------------------------------------------------------------------------


@pytest.mark.parametrize("clip", [lambda p: optim.clip_grad_norm_(p, 0.1), lambda p: optim.clip_grad_value_(p, 0.1)])
def test_arrays_that_others_hold_keep_their_values(clip: Any) -> None:
    given = np.array([3.0, 4.0])
    p = fw.tensor([0.0, 0.0], dtype="float64", requires_grad=True)
    p.grad = given
    held = p.grad
    raw = held.data
    clip([p])
    assert given.tolist() == held.tolist() == raw.tolist() == [3.0, 4.0]
    assert p.grad.tolist() != [3.0, 4.0]
    a, b = (fw.tensor([1.0, 2.0], requires_grad=True) for _ in range(2))
    (a + b).sum().backward()  # one array may be the gradient of both
    clip([a])
    assert b.grad.tolist() == [1.0, 1.0]
    assert a.grad.tolist() != [1.0, 1.0]


def test_a_gradient_within_the_limit_is_the_same_object() -> None:
    p = with_gradients()[0]
    held = p.grad
    optim.clip_grad_norm_([p], 1e6)
    assert p.grad is held


def test_nothing_is_recorded() -> None:
    x = fw.tensor([2.0], requires_grad=True)
    (x**3).sum().backward(create_graph=True)
    assert x.grad.requires_grad
    total = optim.clip_grad_norm_([x], 1.0)
    assert not total.requires_grad
    assert not x.grad.requires_grad


def test_on_a_device_nothing_is_read(far: str, monkeypatch: pytest.MonkeyPatch) -> None:
    parameters = with_gradients(backend=far)
    before = gradients(parameters)
    backend = parameters[0].backend
    reads: list[Any] = []
    array = type(parameters[0].data)
    with monkeypatch.context() as patch:
        for owner, names in ((type(backend), ["to_numpy"]), (array, ["__float__", "__int__", "__bool__", "__array__"])):
            for name in names:
                read = getattr(owner, name)
                patch.setattr(owner, name, lambda *a, read=read, **k: reads.append(a) or read(*a, **k))
        for p in (2.0, 3.0, math.inf):
            total = optim.clip_grad_norm_(parameters, 0.5, p)
        optim.clip_grad_value_(parameters, 0.1)
        assert reads == []
    assert total.item() <= norm(before)
    assert np.abs(np.concatenate([g.ravel() for g in gradients(parameters)])).max() == 0.1


def test_an_update_with_clipped_gradients() -> None:
    net = nn.Linear(3, 2)
    start = [np.array(p.tolist()) for p in net.parameters()]
    optimizer = optim.SGD(net.parameters(), lr=1.0)
    net(fw.tensor([[10.0, 20.0, 30.0]])).sum().backward()
    grads = gradients(list(net.parameters()))
    factor = 1.0 / (norm(grads) + 1e-6)
    optim.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    for p, s, g in zip(net.parameters(), start, grads, strict=True):
        np.testing.assert_allclose(p.tolist(), s - g * factor, rtol=1e-6)


# -- mistakes ----------------------------------------------------------------------------------------


def test_arguments() -> None:
    p = with_gradients()
    for bad in (-1.0, math.nan):
        with pytest.raises(ConfigError, match="max_norm is the largest norm allowed"):
            optim.clip_grad_norm_(p, bad)
        with pytest.raises(ConfigError, match="clip_value is the largest value allowed"):
            optim.clip_grad_value_(p, bad)
    for bad in (0.0, -1.0, -math.inf):
        with pytest.raises(ConfigError, match="norm_type is the p of a norm"):
            optim.clip_grad_norm_(p, 1.0, bad)
    with pytest.raises(DTypeError, match=r"got Linear; pass its \.parameters\(\)"):
        optim.clip_grad_norm_(nn.Linear(1, 1), 1.0)
    with pytest.raises(DTypeError, match="got a str among them"):
        optim.clip_grad_value_(dict(nn.Linear(1, 1).named_parameters()), 1.0)


# -- against PyTorch -------------------------------------------------------------------------------


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
@pytest.mark.parametrize("p", [1, 1.5, 2, 3.0, math.inf])
@pytest.mark.parametrize("max_norm", [0.0, 0.1, 2, 1e4])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("bad", [None, math.nan, math.inf])
def test_equals_torch(p: float, max_norm: float, scale: float, bad: float | None) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    ours = [t for t in with_gradients(scale) if t.size]  # PyTorch knows no largest of no elements
    if bad is not None:
        ours[0].grad = np.where(np.arange(12).reshape(3, 4) == 5, bad, 1.0)
    theirs = []
    for t in ours:
        theirs.append(torch.ones(t.shape, dtype=torch.float64, requires_grad=True))
        if t.grad is not None:
            theirs[-1].grad = torch.tensor(t.grad.tolist(), dtype=torch.float64).reshape(t.shape)
    got = optim.clip_grad_norm_(ours, max_norm, p)
    want = torch.nn.utils.clip_grad_norm_(theirs, max_norm, p)
    np.testing.assert_allclose(got.item(), want.item(), rtol=1e-9)
    optim.clip_grad_value_(ours, scale / 2)
    torch.nn.utils.clip_grad_value_(theirs, scale / 2)
    for a, b in zip(ours, theirs, strict=True):
        assert (a.grad is None) == (b.grad is None)
        if a.grad is not None:
            np.testing.assert_allclose(a.grad.tolist(), b.grad.tolist(), rtol=1e-9, atol=1e-15)


@pytest.mark.reference
def test_the_arguments_are_torchs() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for name in ("clip_grad_norm_", "clip_grad_value_"):
        ours = [(p.name, p.default) for p in inspect.signature(getattr(optim, name)).parameters.values()]
        theirs = inspect.signature(getattr(torch.nn.utils, name)).parameters.values()
        assert ours == [(p.name, p.default) for p in theirs if p.name != "foreach"]
