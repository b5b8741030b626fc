"""Convolution, pooling, attention and GELU on the CPU: against plain NumPy, and replayed bit for bit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from capture_programs import Recording
from fw_cpu import activations, attention, linear, pooling
from test_capture import check

from framework.backend.program import Literal

NO_PADDING = ((0, 0), (0, 0))


def drawn(*shape: int, seed: int = 0, scale: float = 1.0) -> np.ndarray:
    return (np.random.default_rng([seed, *shape]).standard_normal(shape) * scale).astype(np.float32)


def channels_last(x: np.ndarray) -> np.ndarray:
    return x.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)


# -- replays ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("padding", [NO_PADDING, ((1, 0), (2, 1))])
@pytest.mark.parametrize("stride", [(1, 1), (2, 1)])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("order", [np.ascontiguousarray, channels_last])
def test_convolution_is_replayed(padding: Any, stride: Any, groups: int, order: Any) -> None:
    geometry = {"stride": stride, "padding": padding, "dilation": (1, 1), "groups": groups}
    record = Recording()
    x, weight = record.input(order(drawn(3, 4, 7, 6))), record.input(drawn(8, 4 // groups, 3, 2))
    out = record("conv2d", x, weight, record.input(drawn(8)), **geometry)
    dx = record("conv2d_dx", out, weight, size=(7, 6), **geometry)
    dw = record("conv2d_dw", out, x, kernel=(3, 2), **geometry)
    replay = check(record.program(out, dx, dw, record("conv2d", x, weight, Literal(None), **geometry)), record.arrays)
    assert "called" not in str(replay)


@pytest.mark.parametrize("order", [np.ascontiguousarray, channels_last])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 0), (3, 2, 1), (2, 1, 0), (2, 3, 1), (1, 1, 0)])
def test_pooling_is_replayed(order: Any, kernel: int, stride: int, padding: int) -> None:
    around = ((padding, padding),) * 2
    windows = {"kernel": (kernel,) * 2, "stride": (stride,) * 2, "padding": around, "dilation": (1, 1)}
    record = Recording()
    x = record.input(order(np.round(drawn(2, 3, 7, 8))))
    out = record("max_pool2d", x, **windows)
    put = record("max_pool2d_put", out, x, **windows)
    replay = check(record.program(out, put, record("window_sum", put, **windows)), record.arrays)
    assert "called" not in str(replay)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("has_bias", [False, True])
@pytest.mark.parametrize("queries", [5, 300])
def test_attention_is_replayed(causal: bool, has_bias: bool, queries: int) -> None:
    record = Recording()
    whole = record.input(drawn(2, queries, 3, 2, 4))
    heads = [record("permute_dims", record("getitem_parts", whole, parts=(slice(None),) * 2 + (i,)), axes=(-4, -2, -3, -1))
             for i in range(3)]  # fmt: skip
    bias = record.input(drawn(queries, queries)) if has_bias else Literal(None)
    out, weights = record("attention", *heads, bias, scale=0.5, causal=causal)
    flags = Literal(0.5), Literal(causal), Literal(has_bias)
    grads = record("attention_grad", out, *heads, weights, *flags)
    assert len(grads) == 3 + has_bias
    shape = (2, queries, 3, 2, 4)
    parts = (slice(None), slice(None), 1)
    back = record("index_add_parts", record("permute_dims", grads[0], axes=(-4, -2, -3, -1)), shape=shape, parts=parts)
    replay = check(record.program(out, *grads, back, record("reshape", out, shape=(-1, 8))), record.arrays, rounds=4)
    assert "called" not in str(replay)


def test_gelu_and_products_of_many_axes_are_replayed() -> None:
    record = Recording()
    x, weight = record.input(drawn(7, 90, 40)), record.input(drawn(33, 40))
    h = record("linear", x, weight, record.input(drawn(33)))
    out, slope = record("gelu", h)
    dx, dw = record("linear_dx", slope, weight), record("linear_dw", slope, x)
    replay = check(record.program(out, slope, dx, dw), record.arrays)
    assert "called" not in str(replay)


# -- values ----------------------------------------------------------------------------------------------


def weighted(q: Any, k: Any, v: Any, bias: Any, scale: float, causal: bool) -> tuple[Any, Any]:
    """Attention and its weights in double precision."""
    scores = q @ k.swapaxes(-1, -2) * scale + (0 if bias is None else bias)
    if causal:
        scores[..., np.arange(k.shape[-2]) > np.arange(q.shape[-2])[:, None]] = -np.inf
    e = np.exp(scores - scores.max(-1, keepdims=True))
    e /= e.sum(-1, keepdims=True)
    return e @ v, e


@pytest.mark.parametrize(("queries", "keys"), [(1, 1), (128, 128), (129, 129), (300, 300), (300, 140), (140, 300)])
@pytest.mark.parametrize("size", [1.0, 40.0])
@pytest.mark.parametrize("has_bias", [False, True])
def test_causal_attention_of_long_sequences(queries: int, keys: int, size: float, has_bias: bool) -> None:
    q, k, v = drawn(2, queries, 4, seed=1, scale=size), drawn(2, keys, 4, seed=2), drawn(2, keys, 3, seed=3)
    bias = drawn(1, keys, seed=4) if has_bias else None
    g = drawn(2, queries, 3, seed=5)
    out, weights = attention.attention(q, k, v, bias, scale=0.5, causal=True)
    double = [np.float64(a) for a in (q, k, v)]
    want, e = weighted(*double, bias, 0.5, True)
    np.testing.assert_allclose(out, want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(weights, e, rtol=2e-4, atol=1e-6)
    along = e * (g @ double[2].swapaxes(-1, -2))
    along -= e * along.sum(-1, keepdims=True)
    wanted = along @ k * 0.5, along.swapaxes(-1, -2) @ q * 0.5, e.swapaxes(-1, -2) @ g, along
    for causal in (True, False):
        found = attention.attention_grad(g, q, k, v, weights, 0.5, causal)
        for got, right in zip(found, wanted, strict=True):
            np.testing.assert_allclose(got, right, rtol=1e-3, atol=3e-4 * max(1, np.abs(right).max()))
    without = attention.attention_grad(g, q, k, v, weights, 0.5, True, False)
    assert [a.tobytes() for a in without] == [a.tobytes() for a in attention.attention_grad(
        g, q, k, v, weights, 0.5, True)[:3]]  # fmt: skip


def test_attention_without_queries_gives_gradients_of_zero() -> None:
    q, k, v = drawn(2, 0, 4), drawn(2, 5, 4), drawn(2, 5, 3)
    for causal in (True, False):
        out, weights = attention.attention(q, k, v, None, scale=1.0, causal=causal)
        grads = attention.attention_grad(out, q, k, v, weights, 1.0, causal)
        assert out.shape == (2, 0, 3)
        assert not any(g.any() for g in grads)


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
def test_gelu_in_single_precision() -> None:
    x = np.concatenate([np.linspace(-12, 12, 100_001), [1e18, -1e18, np.inf, -0.0]]).astype(np.float32)
    out, slope = activations.gelu(x)
    assert out.dtype == slope.dtype == np.float32
    double = x[:100_001].astype(np.float64)
    share = np.array([math.erfc(-t / math.sqrt(2)) / 2 for t in double])
    np.testing.assert_allclose(out[:100_001], double * share, rtol=0, atol=5e-7)
    density = np.exp(-double * double / 2) / math.sqrt(2 * math.pi)
    np.testing.assert_allclose(slope[:100_001], share + double * density, rtol=0, atol=4e-7)
    far = np.abs(double) > 5.6  # where single precision has no number nearer to the value; at 5.4 it still has
    assert np.array_equal(out[:100_001][far], np.where(double > 0, x[:100_001], -0.0)[far])
    assert out[-4:].tolist() == [np.float32(1e18), 0.0, np.inf, 0.0]


@pytest.mark.parametrize("shape", [(3, 5, 4), (1, 1, 4), (2, 3, 2, 4)])
def test_linear_of_many_axes(shape: tuple[int, ...]) -> None:
    x, weight, bias = drawn(*shape), drawn(6, 4), drawn(6)
    for given in (x, np.asfortranarray(x), np.broadcast_to(x[:1], shape)):
        out = linear.linear(given, weight, bias)
        np.testing.assert_allclose(out, given @ weight.T + bias, rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(linear.linear_dx(out, weight), out @ weight, rtol=1e-5, atol=1e-5)


def test_the_gradient_of_pooling_in_any_order_of_memory() -> None:
    windows = {"kernel": (2, 2), "stride": (2, 2), "padding": NO_PADDING, "dilation": (1, 1)}
    x = channels_last(np.round(drawn(3, 8, 7, 6)))
    g = drawn(*pooling.max_pool2d(x, **windows).shape)
    want = pooling.max_pool2d_put(g, np.ascontiguousarray(x), **windows)
    for given in (g, channels_last(g), np.asfortranarray(g)):
        assert np.array_equal(pooling.max_pool2d_put(given, x, **windows), want)
    assert not want[..., 6:, :].any()  # the last row is in no window
