"""What is chosen where there is no derivative: one element of the conservative field, the same in both modes."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from generated_references import Namespace
from kink_table import KINKS, Kink, parse

import framework as fw
import framework.numpy as fnp
from framework.autodiff import ops, vmap

NAMES = Namespace(fnp, {"nn": fw.nn.functional}, ops)


def identifier(kink: Kink) -> str:
    return f"{kink.expression} at {kink.at:g}"


FINITE = [kink for kink in KINKS if math.isfinite(kink.element)]


@pytest.mark.parametrize("kink", FINITE, ids=identifier)
def test_the_page_says_what_every_mode_chooses(kink: Kink, backend: str) -> None:
    f = kink.function(NAMES)
    with fw.use_backend(backend):
        x = fw.tensor(kink.at, dtype="float64")
        one = ops.ones_like(x)
        value = f(x).detach()
        assert value.shape == ()
        got = {"grad": fw.grad(f)(x), "jvp": fw.jvp(f, (x,), (one,))[1]}
        if "unique" not in kink.expression:  # its shape depends on values
            pairs = ops.stack([x, x])
            got["vmap of grad"] = vmap(fw.grad(f))(pairs)[1]
            got["grad of vmap"] = fw.grad(lambda x: vmap(f)(x)[0])(pairs)[0]
            got["vmap of jvp"] = vmap(lambda x: fw.jvp(f, (x,), (ops.ones_like(x),))[1])(pairs)[0]
    for mode, g in got.items():
        assert g.item() == pytest.approx(kink.element, rel=1e-9, abs=1e-15), mode


@pytest.mark.parametrize("kink", [kink for kink in KINKS if kink not in FINITE], ids=identifier)
@pytest.mark.filterwarnings("ignore:divide by zero")
def test_infinite_derivatives_are_so_in_both_modes(kink: Kink, backend: str) -> None:
    x = fw.tensor(kink.at, dtype="float64", backend=backend)
    f = kink.function(NAMES)
    assert fw.grad(f)(x).item() == fw.jvp(f, (x,), (ops.ones_like(x),))[1].item() == kink.element


@pytest.mark.parametrize("kink", FINITE, ids=identifier)
@pytest.mark.filterwarnings("ignore:divide by zero", "ignore:invalid value", "ignore:overflow")
def test_second_derivatives_agree_as_well(kink: Kink) -> None:
    """The derivative that was chosen is differentiated by the same rules in every mix of modes."""
    f = kink.function(NAMES)
    x = fw.tensor(kink.at, dtype="float64")
    one = ops.ones_like(x)
    over = fw.grad(lambda x: fw.jvp(f, (x,), (ops.ones_like(x),))[1])(x).item()
    assert over == pytest.approx(fw.jvp(fw.grad(f), (x,), (one,))[1].item(), nan_ok=True)
    assert over == pytest.approx(fw.grad(fw.grad(f))(x).item(), nan_ok=True)


def test_the_element_lies_between_the_slopes_of_both_sides() -> None:
    """A conservative field of a function of one number holds nothing outside of them."""
    for kink in [kink for kink in FINITE if math.isfinite(kink.at) and "sqrt" not in kink.names]:
        f = kink.function(NAMES)
        try:
            with np.errstate(all="ignore"):
                at, left, right = (f(fw.tensor(kink.at + h, dtype="float64")).item() for h in (0, -1e-7, 1e-7))
        except fw.errors.DataError:  # the end of its domain
            continue
        slopes = [(at - left) / 1e-7, (right - at) / 1e-7]
        if all(abs(s) < 1e3 for s in slopes):  # a step has no slope
            assert min(slopes) - 1e-5 <= kink.element <= max(slopes) + 1e-5, kink


POINTS = (0.0, 0.5, 1.0, -1.0, 2.0)
WITHOUT = {"cov", "empty_like", "nn.dropout"}
"""Functions whose values mean nothing (of one number), or are random."""


def kinked(f: Any, at: float) -> bool:
    """Whether the slopes of both sides differ."""
    at_it, left, right = (f(fw.tensor(at + h, dtype="float64")).item() for h in (0, -1e-6, 1e-6))
    return not abs((right - at_it) - (at_it - left)) < 1e-3 * 1e-6


def test_every_kink_of_a_function_of_one_number_is_on_the_page() -> None:
    """Found by trying them all at a few points."""
    listed = {name for kink in KINKS for name in kink.names}
    missing = set()
    for name, fn in [
        *((n, getattr(fnp, n)) for n in fnp.__all__),
        *((f"nn.{n}", f) for n, f in vars(fw.nn.functional).items()),
    ]:
        if not callable(fn) or isinstance(fn, type) or name.startswith("_") or name in WITHOUT:
            continue
        for at in POINTS:
            try:
                with np.errstate(all="ignore"):
                    y = fn(fw.tensor(at, dtype="float64"))
                    if y.dtype.kind == "float" and y.shape == () and kinked(fn, at):
                        missing |= {name} - listed
            except (TypeError, ValueError, AttributeError, IndexError, ArithmeticError, RuntimeError):
                break  # not a function of one number
    aliases = {name for name in missing if any(getattr(fnp, name, 0) is getattr(fnp, n, 1) for n in listed)}
    assert not missing - aliases, f"add to docs/kinks.md: {sorted(missing - aliases)}"


def test_a_line_that_is_none_fails() -> None:
    with pytest.raises(AssertionError, match="not a line"):
        parse("| `abs(x)` | x = 0 | 0 | 0 | 0 |")
    assert len(KINKS) > 80


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
