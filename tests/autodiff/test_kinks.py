"""What is chosen where there is no derivative: one element of the conservative field, the same in both modes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import framework as fw
import framework.numpy as fnp
from framework.autodiff import ops, vmap

# function of one number, where, the derivative that is chosen
KINKS: dict[str, tuple[Any, float, float]] = {
    "abs": (fnp.abs, 0.0, 0.0),
    "relu": (fnp.relu, 0.0, 0.0),
    "sign": (fnp.sign, 0.0, 0.0),
    "floor": (fnp.floor, 1.0, 0.0),
    "ceil": (fnp.ceil, 1.0, 0.0),
    "round": (fnp.round, 0.5, 0.0),
    "trunc": (fnp.trunc, 1.0, 0.0),
    "sqrt at 0": (fnp.sqrt, 0.0, 0.0),
    "maximum at a tie": (lambda x: fnp.maximum(x, 1.0), 1.0, 0.5),
    "maximum at a tie, on the right": (lambda x: fnp.maximum(1.0, x), 1.0, 0.5),
    "minimum at a tie": (lambda x: fnp.minimum(x, 1.0), 1.0, 0.5),
    "maximum with itself": (lambda x: fnp.maximum(x, x), 1.0, 1.0),
    "clip at its lower end": (lambda x: fnp.clip(x, 1.0, 2.0), 1.0, 1.0),
    "clip at its upper end": (lambda x: fnp.clip(x, 1.0, 2.0), 2.0, 1.0),
    "clip outside": (lambda x: fnp.clip(x, 1.0, 2.0), 3.0, 0.0),
    "max at a tie": (lambda x: fnp.max(fnp.stack([x, 1.0])), 1.0, 0.5),
    "min at a tie of three": (lambda x: fnp.min(fnp.stack([x, 1.0, 1.0])), 1.0, 1 / 3),
    "hypot at the origin": (lambda x: fnp.hypot(x, 0.0 * x), 0.0, 0.0),
    "std of equals": (lambda x: fnp.std(fnp.stack([x, x])), 1.0, 0.0),
    "power 0 at 0": (lambda x: x**0, 0.0, 0.0),
    "power 1 at 0": (lambda x: x**1, 0.0, 1.0),
    "power 2 at 0": (lambda x: x**2, 0.0, 0.0),
    "exponent at base 0": (lambda x: fnp.pow(fnp.asarray(0.0, dtype="float64"), x), 2.0, 0.0),
    "exponent at number 0": (lambda x: 0.0**x, 2.0, 0.0),
    "exponent 0 at base 0": (lambda x: fnp.pow(x, fnp.zeros_like(x)), 0.0, 0.0),
    "product with a zero": (lambda x: fnp.prod(fnp.stack([x, 3.0, 2.0])), 0.0, 6.0),
    "product with two zeros": (lambda x: fnp.prod(fnp.stack([x, 0.0, 2.0])), 0.0, 0.0),
    "where the condition flips": (lambda x: fnp.where(x > 0, x * 2, x * 3), 0.0, 3.0),
    "logaddexp at minus infinity": (lambda x: fnp.logaddexp(x, -math.inf), 1.0, 1.0),
    "logsumexp beside minus infinity": (lambda x: fnp.logsumexp(fnp.stack([x, -math.inf])), 1.0, 1.0),
}


@pytest.mark.parametrize("name", KINKS)
def test_the_choice_is_the_same_in_every_mode(name: str, backend: str) -> None:
    f, at, want = KINKS[name]
    x = fw.tensor(at, dtype="float64", backend=backend)
    assert fw.grad(f)(x).item() == pytest.approx(want, abs=1e-15)
    assert fw.jvp(f, (x,), (ops.ones_like(x),))[1].item() == pytest.approx(want, abs=1e-15)
    assert vmap(fw.grad(f))(ops.stack([x, x])).tolist() == pytest.approx([want, want], abs=1e-15)
    over = fw.grad(lambda x: fw.jvp(f, (x,), (ops.ones_like(x),))[1])(x).item()
    assert over == pytest.approx(fw.jvp(fw.grad(f), (x,), (ops.ones_like(x),))[1].item(), nan_ok=True)


@pytest.mark.parametrize(
    "f",
    [
        lambda x: fnp.where(x > 0, fnp.sqrt(fnp.where(x > 0, x, 1.0)), 0.0),
        lambda x: fnp.where(x > 0, x, fnp.full_like(x, math.nan))[0],
        lambda x: fnp.where(x > 0, fnp.log(fnp.where(x > 0, x, 1.0)), x),
    ],
)
def test_unused_branches_do_not_poison(f: Any) -> None:
    x = fw.tensor([1.0, -1.0], dtype="float64")
    for g in (fw.vjp(lambda x: f(x).sum(), x)[1](1.0)[0], fw.jvp(f, (x,), (x,))[1]):
        assert np.isfinite(g.numpy()).all()


@pytest.mark.parametrize("big", [100.0, 1e4])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_large_values_neither_overflow_nor_warn(big: float, dtype: str) -> None:
    x = fw.tensor([big, 0.0, -big], dtype=dtype)
    for f in (fnp.sigmoid, fnp.softmax, fnp.log_softmax, fnp.logsumexp, fnp.tanh, lambda x: fnp.logaddexp(x, -x),
              lambda x: ops.softmax_cross_entropy(x, fw.tensor(0)), fnp.relu):  # fmt: skip
        y, pull = fw.vjp(f, x)
        assert np.isfinite(y.numpy()).all()
        assert np.isfinite(pull(ops.ones_like(y))[0].numpy()).all()


def test_sigmoid_is_precise_in_both_tails() -> None:
    x = fw.tensor([-80.0, -20.0, -5.0, 0.0, 5.0, 20.0])
    want = 1 / (1 + np.exp(-x.numpy().astype(np.float64)))
    np.testing.assert_allclose(fnp.sigmoid(x).numpy(), want, rtol=3e-7)
    grads = fw.grad(lambda x: fnp.sigmoid(x).sum())(x).numpy()
    np.testing.assert_allclose(grads[:3], (want * (1 - want))[:3], rtol=1e-6)


def test_averages_of_nothing_are_nan_without_a_warning(backend: str) -> None:
    x = fw.tensor(np.zeros((2, 0)), backend=backend)
    for f in (fnp.mean, fnp.var, fnp.std):
        assert np.isnan(f(x).numpy()).all()
        assert np.isnan(f(x, axis=1).numpy()).all()
        assert f(x, axis=0).shape == (0,)
        assert fw.grad(f)(x).shape == (2, 0)
    assert np.isnan(fnp.var(fw.tensor([1.0], backend=backend), correction=1).numpy())
