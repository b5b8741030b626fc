"""What the conformance kit cannot ask of the CPU's kernels: exactness of erf, and blocks of large arrays."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from fw_cpu import losses, normalization, special, updates

from framework.backend import KERNELS

RNG = np.random.default_rng(0)


def dense() -> np.ndarray:
    """Arguments over the whole range, and close to where one approximation takes over from the other."""
    tiny = 10 ** RNG.uniform(-300, 0, 5_000)
    return np.concatenate([np.linspace(-7, 7, 40_001), np.linspace(0.999, 1.001, 5_001), tiny, -tiny])


@pytest.mark.parametrize(("dtype", "ulps"), [("float64", 2.0), ("float32", 0.6), ("float16", 0.6)])
def test_erf_is_exact_to_the_last_places(dtype: str, ulps: float) -> None:
    x = dense().astype(dtype)
    got = special.erf(x)
    expected = np.array([math.erf(v) for v in x.astype(np.float64).tolist()])
    assert got.dtype == dtype
    spacing = np.spacing(np.abs(expected).astype(dtype)).astype(np.float64)
    assert (np.abs(got.astype(np.float64) - expected) / spacing).max() <= ulps
    assert np.abs(got).max() == 1


@pytest.mark.parametrize("dtype", ["float64", "float32", "float16"])
def test_erf_at_the_ends(dtype: str) -> None:
    smallest = np.finfo(dtype).smallest_subnormal
    x = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, np.finfo(dtype).max, smallest], dtype)
    got = special.erf(x)
    expected = np.array([np.nan, 1, -1, 0, -0.0, 1, smallest * dtype_of(dtype)(2 / math.sqrt(math.pi))], dtype)
    np.testing.assert_array_equal(got, expected)
    np.testing.assert_array_equal(np.signbit(got[3:5]), [False, True])


def dtype_of(name: str) -> Any:
    return np.dtype(name).type


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_erf_of_every_shape_and_layout(dtype: str) -> None:
    x = RNG.normal(size=(3, 50, 200)).astype(dtype)
    expected = special.erf(x.reshape(-1)).reshape(x.shape)
    for view in (x, x.T, x[:, ::2], x.transpose(1, 0, 2), x[0, 0, 0], x[:0], np.broadcast_to(x[0], x.shape)):
        got = special.erf(view)
        assert isinstance(got, np.ndarray)
        assert got.shape == view.shape
        np.testing.assert_array_equal(got, special.erf(np.array(view, order="C").reshape(-1)).reshape(view.shape))
    np.testing.assert_array_equal(special.erf(x.T), expected.T)


def state(n: int, order: Any = "C") -> list[np.ndarray]:
    arrays = [np.asarray(RNG.normal(size=(n, 7)).astype(np.float32), order=order) for _ in range(4)]
    arrays[3] = np.abs(arrays[3])
    return arrays


def run(name: str, arrays: list[np.ndarray], *hyper: Any) -> list[Any]:
    p, g, *rest = [a.copy("K") for a in arrays]
    count = {"sgd_update": 1, "adam_update": 2, "rprop_update": 2}[name]
    state: list[Any] = rest[:count]
    for _ in range(2):
        p, *state = getattr(updates, name)(p, g, *state, *hyper)
    return [p, *state]


CASES = [
    ("sgd_update", 0.1, 0.0, 0.0, 0.02, False),
    ("sgd_update", 0.1, 0.9, 0.0, 0.0, False),
    ("sgd_update", 0.1, 0.9, 0.2, 0.02, True),
    ("adam_update", 3, 0.01, (0.9, 0.99), 1e-8, 0.0, False),
    ("adam_update", 3, 0.01, (0.9, 0.99), 1e-8, 0.1, True),
    ("rprop_update", (0.5, 1.2), (1e-3, 1.0)),
]


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("order", ["C", "F"])
def test_blocks_change_no_bit_of_an_update(monkeypatch, case: tuple, order: str) -> None:
    arrays = state(1000, order)
    whole = run(case[0], arrays, *case[1:])
    monkeypatch.setattr(updates, "_LARGE", 100)
    monkeypatch.setattr(updates, "_BLOCK", 64)
    for x, y in zip(whole, run(case[0], arrays, *case[1:])):
        np.testing.assert_array_equal(x, y)
    arrays[1] = np.asarray(arrays[1], order="F" if order == "C" else "C")  # memory not alike: no blocks
    for x, y in zip(whole, run(case[0], arrays, *case[1:])):
        np.testing.assert_array_equal(x, y)


def test_a_first_step_with_momentum_in_blocks(monkeypatch) -> None:
    p, g, *_ = state(100)
    hyper = (0.1, 0.9, 0.3, 0.02, True)
    expected = updates.sgd_update(p.copy(), g, None, *hyper)
    monkeypatch.setattr(updates, "_LARGE", 100)
    monkeypatch.setattr(updates, "_BLOCK", 64)
    got = updates.sgd_update(p.copy(), g, None, *hyper)
    for x, y in zip(got, expected):
        np.testing.assert_array_equal(x, y)
    assert not np.shares_memory(got[1], g)


def test_rprop_equals_the_reference_at_special_values() -> None:
    values = np.array([0.0, -0.0, 1.0, -1.0, np.inf, -np.inf, np.nan], np.float32)
    g, previous = (a.reshape(-1).copy() for a in np.meshgrid(values, values))
    p, size = np.ones_like(g), np.full_like(g, 0.25)
    hyper = (0.5, 1.2), (0.2, 0.28)
    with np.errstate(invalid="ignore"):
        expected = KERNELS["rprop_update"](np, p.copy(), g, previous.copy(), size.copy(), *hyper)
        got = updates.rprop_update(p.copy(), g, previous.copy(), size.copy(), *hyper)
    for x, y in zip(got, expected):
        np.testing.assert_array_equal(x, y)


@pytest.mark.parametrize(("shape", "axis"), [((40, 6), (-1,)), ((5, 8, 3, 2), (-2, -1)), ((5, 8, 6), (-1,))])
@pytest.mark.parametrize("affine", [True, False])
def test_blocks_of_rows_change_layer_norm_by_rounding_alone(monkeypatch, shape: Any, axis: Any, affine: bool) -> None:
    x, g = RNG.normal(size=(2, *shape)) + 3.0
    weight, bias = RNG.normal(size=(2, *shape[-len(axis) :])) if affine else (None, None)
    out, moments = normalization.layer_norm(x, weight, bias, axis=axis, eps=1e-5)
    grads = normalization.layer_norm_grad(g, x, *moments, weight, axis)
    monkeypatch.setattr(normalization, "_LARGE", 10)
    monkeypatch.setattr(normalization, "_BLOCK", 30)
    out2, moments2 = normalization.layer_norm(x, weight, bias, axis=axis, eps=1e-5)
    grads2 = normalization.layer_norm_grad(g, x, *moments, weight, axis)
    for a, b in zip((out, *moments, *grads), (out2, *moments2, *grads2)):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("shape", [(6, 5), (2, 3, 5)])
def test_gradient_of_large_cross_entropy_has_the_same_bits(monkeypatch, shape: Any, each: bool) -> None:
    p = RNG.uniform(size=shape).astype(np.float32)
    targets = RNG.integers(0, 5, shape[:-1])
    g = RNG.normal(size=(*shape[:-1], 1) if each else ()).astype(np.float32)
    expected = losses.xent_grad(p, targets, np.asarray(g))
    monkeypatch.setattr(losses, "_SMALL", 0)
    np.testing.assert_array_equal(losses.xent_grad(p, targets, np.asarray(g)), expected)
