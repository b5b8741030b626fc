"""Attention: masks, hidden rows, transforms, mistakes; generated cases against PyTorch."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework import nn
from framework.autodiff import Tensor, ops
from framework.errors import ConfigError, DTypeError, ShapeError
from framework.nn import functional as F


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def qkv(*lead: int, queries: int = 3, keys: int = 4, width: int = 2, values: int = 5) -> list[np.ndarray]:
    shapes = ((queries, width), (keys, width), (keys, values))
    return [numbers(*lead, *shape, seed=i) for i, shape in enumerate(shapes)]


# -- what is computed --------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["cpu", "strict"])
def test_a_query_that_sees_no_key_gets_zeros_and_no_gradient(backend: str) -> None:
    mask = np.array([[True, True, False, True], [False] * 4, [True, False, False, False]])
    with fw.use_backend(backend):
        q, k, v = (fw.tensor(a, requires_grad=True) for a in qkv(2))
        out = F.scaled_dot_product_attention(q, k, v, fw.tensor(mask))
        out.sum().backward()
    assert np.array(out.tolist())[:, 1].tolist() == [[0.0] * 5] * 2
    assert np.array(q.grad.tolist())[:, 1].tolist() == [[0.0] * 2] * 2
    for t in (q, k, v):
        assert np.isfinite(np.array(t.grad.tolist())).all()
    np.testing.assert_allclose(np.array(out.tolist())[:, 2], np.array(v.tolist())[:, 0], rtol=1e-12)


def test_hidden_keys_do_not_matter() -> None:
    q, k, v = qkv(2, 3)
    mask = numbers(2, 1, 3, 4, seed=5) > -0.5
    mask[..., 0] = True
    other_k, other_v = k.copy(), v.copy()
    hidden = ~mask.any(axis=-2)
    other_k[np.broadcast_to(hidden, other_k.shape[:-1])] = 7.0
    other_v[np.broadcast_to(hidden, other_v.shape[:-1])] = -9.0
    a = F.scaled_dot_product_attention(q, k, v, mask)
    b = F.scaled_dot_product_attention(q, other_k, other_v, mask)
    np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-12)


def test_causal_attention_does_not_look_ahead() -> None:
    q, k, v = qkv(2, queries=5, keys=5)
    out = F.scaled_dot_product_attention(q, k, v, is_causal=True).numpy()
    for n in range(1, 6):
        part = F.scaled_dot_product_attention(q[:, :n], k[:, :n], v[:, :n], is_causal=True)
        np.testing.assert_allclose(out[:, :n], part.numpy(), rtol=1e-12)


def test_dropout_drops_weights() -> None:
    fw.seed_everything(0)
    q, k, v = qkv(200, keys=8)
    whole = F.scaled_dot_product_attention(q, k, v)
    mean = sum(F.scaled_dot_product_attention(q, k, v, dropout_p=0.3).numpy() for _ in range(60)) / 60
    assert np.abs(mean - whole.numpy()).mean() < 0.1
    assert F.scaled_dot_product_attention(q, k, v, dropout_p=1.0).numpy().any() == False  # noqa: E712


@pytest.mark.parametrize(("n", "heads", "length"), [(9, 3, 100), (2, 1, 400), (300, 2, 10)])
@pytest.mark.parametrize("causal", [True, False])
def test_many_blocks_give_what_one_gives(n: int, heads: int, length: int, causal: bool) -> None:
    """Scores of more elements than are in work at a time, and heads as views of what a linear layer gave."""
    arrays = [numbers(n, length, heads, 4, seed=i).astype(np.float32) for i in range(3)]

    def run(arrays: list[np.ndarray]) -> list[np.ndarray]:
        given = [fw.tensor(a, requires_grad=True) for a in arrays]
        out = F.scaled_dot_product_attention(*(ops.swapaxes(t, 1, 2) for t in given), is_causal=causal)
        (out * out).sum().backward()
        return [out.detach().numpy(), *(t.grad.numpy() for t in given)]

    whole = run(arrays)
    for i in (0, n // 2, n - 1):
        for a, b in zip(whole, run([a[i : i + 1] for a in arrays])):
            np.testing.assert_allclose(a[i : i + 1], b, rtol=2e-3, atol=1e-4)


def test_the_weights_are_what_the_values_were_weighted_with() -> None:
    layer = nn.MultiheadAttention(6, 2, batch_first=True).double()
    q, k, v = numbers(2, 3, 6), numbers(2, 4, 6, seed=1), numbers(2, 4, 6, seed=2)
    hidden = np.array([[False, True, False, False], [True, False, False, True]])
    out, weights = layer(q, k, v, key_padding_mask=hidden, average_attn_weights=False)
    fast, nothing = layer(q, k, v, key_padding_mask=hidden, need_weights=False)
    assert nothing is None
    np.testing.assert_allclose(out.detach().numpy(), fast.detach().numpy(), rtol=1e-10)
    w = weights.detach().numpy()
    assert w.shape == (2, 2, 3, 4)
    np.testing.assert_allclose(w.sum(axis=-1), 1.0)
    assert not w[np.broadcast_to(hidden[:, None, None], w.shape)].any()
    _, mean = layer(q, k, v, key_padding_mask=hidden)
    np.testing.assert_allclose(mean.detach().numpy(), w.mean(axis=1), rtol=1e-12)


def test_a_causal_mask_may_be_given_twice() -> None:
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.0, batch_first=True).double()
    x = numbers(2, 5, 4)
    mask = np.triu(np.ones((5, 5), bool), 1)
    a, b = layer(x, mask), layer(x, mask, is_causal=True)
    np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-10)
    again = layer(x[:, :3], mask[:3, :3]).detach().numpy()
    np.testing.assert_allclose(a.detach().numpy()[:, :3], again, rtol=1e-10)


def test_dropout_is_for_training() -> None:
    layer = nn.TransformerEncoderLayer(4, 2, 8, dropout=0.5, batch_first=True)
    x = numbers(2, 5, 4).astype(np.float32)
    assert layer(x).tolist() != layer(x).tolist()
    assert layer.eval()(x).tolist() == layer(x).tolist()
    attention = nn.MultiheadAttention(4, 2, dropout=0.5)
    assert attention(x, x, x)[1].tolist() != attention(x, x, x)[1].tolist()
    assert attention.eval()(x, x, x)[1].tolist() == attention(x, x, x)[1].tolist()


# -- transforms --------------------------------------------------------------------------------------


def test_second_derivatives() -> None:
    points = [fw.tensor(a) for a in (*qkv(2), numbers(3, 4, seed=8))]
    seed = fw.tensor(numbers(2, 3, 5, seed=9))

    def fn(q: Tensor, k: Tensor, v: Tensor, bias: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(q, k, v, bias)

    assert fw.gradcheck(fn, points)
    assert fw.gradcheck(lambda *a: fw.vjp(fn, *a)[1](seed), points)
    assert fw.gradcheck(lambda *a: fw.jvp(fn, a, points)[1], points)


@pytest.mark.parametrize("axes", [(0, None, None, None), (None, 0, 0, None), (0, 0, 0, 0), (None, None, None, 0)])
def test_gradients_by_sample_equal_a_loop(axes: tuple[Any, ...]) -> None:
    stacked = [*qkv(3, 2), numbers(3, 3, 4, seed=7)]
    given = [fw.tensor(a if axis == 0 else a[0]) for a, axis in zip(stacked, axes)]

    def gradient(*a: Tensor) -> Any:
        return fw.grad(lambda *a: (F.scaled_dot_product_attention(*a) ** 2).sum(), argnums=(0, 1, 2, 3))(*a)

    got = fw.vmap(gradient, axes)(*given)
    for i in range(3):
        want = gradient(*(fw.tensor(a[i if axis == 0 else 0]) for a, axis in zip(stacked, axes)))
        for a, b in zip(got, want):
            np.testing.assert_allclose(a[i].numpy(), b.numpy(), rtol=1e-9, atol=1e-12)


def test_inputs_are_not_written() -> None:
    arrays = [*qkv(2), np.zeros((3, 4))]
    held = [a.copy() for a in arrays]
    given = [ops.asarray(a) for a in arrays]
    for t in given:
        t.requires_grad = True
    F.scaled_dot_product_attention(*given).sum().backward()
    for a, b in zip(arrays, held):
        np.testing.assert_array_equal(a, b)


# -- mistakes ----------------------------------------------------------------------------------------


def test_what_is_said_of_functions() -> None:
    q, k, v = qkv(2)
    with pytest.raises(ShapeError, match=r"got shapes \(2, 3, 2\), \(2, 4, 1\), \(2, 4, 5\)"):
        F.scaled_dot_product_attention(q, k[..., :1], v)
    with pytest.raises(ShapeError, match="key"):
        F.scaled_dot_product_attention(q, k, v[:, :3])
    with pytest.raises(ConfigError, match="is_causal=True makes a mask of its own"):
        F.scaled_dot_product_attention(q, k, v, np.ones((3, 4), bool), is_causal=True)
    with pytest.raises(ShapeError, match=r"the bias broadcasts to the scores' shape \(2, 3, 4\), got \(5, 4\)|do not"):
        F.scaled_dot_product_attention(q, k, v, np.ones((5, 4)))
    with pytest.raises(DTypeError, match="a mask is of bools, or floating point and added; got int64"):
        F.scaled_dot_product_attention(q, k, v, np.ones((3, 4), np.int64))
    with pytest.raises(ShapeError, match="with enable_gqa the number of heads"):
        F.scaled_dot_product_attention(numbers(1, 3, 2, 2), numbers(1, 2, 4, 2), numbers(1, 2, 4, 2), enable_gqa=True)
    with pytest.raises(ShapeError, match="attention: queries"):
        ops.attention(q, k, v[..., 0], scale=1.0)


def test_what_is_said_of_modules() -> None:
    layer = nn.MultiheadAttention(4, 2)
    x = numbers(3, 2, 4).astype(np.float32)
    with pytest.raises(ConfigError, match="4 features do not make 3 equal heads"):
        nn.MultiheadAttention(4, 3)
    with pytest.raises(ConfigError, match="num_heads is a number from 1 on"):
        nn.MultiheadAttention(4, 0)
    with pytest.raises(ConfigError, match="dropout is the probability"):
        nn.MultiheadAttention(4, 2, dropout=1.5)
    with pytest.raises(
        ShapeError, match=r"MultiheadAttention\(4, 2\): the last axes are embed_dim 4.*query \(3, 2, 3\)"
    ):
        layer(x[..., :3], x, x)
    with pytest.raises(ShapeError, match="three axes, or two without a batch"):
        layer(x[0, 0], x, x)
    with pytest.raises(ShapeError, match="one batch size on axis 1"):
        layer(x, x[:, :1], x[:, :1])
    with pytest.raises(ShapeError, match="as many values as keys"):
        layer(x, x, x[:2])
    with pytest.raises(ShapeError, match="no key to attend to"):
        layer(x, x[:0], x[:0])
    with pytest.raises(ShapeError, match=r"attn_mask has shape \(3, 3\) or \(4, 3, 3\), got \(2, 3\)"):
        layer(x, x, x, attn_mask=np.ones((2, 3), bool))
    with pytest.raises(ShapeError, match=r"key_padding_mask has shape \(2, 3\), got \(3, 2\)"):
        layer(x, x, x, key_padding_mask=np.ones((3, 2), bool))
    with pytest.raises(ConfigError, match="is_causal=True is a hint about attn_mask"):
        layer(x, x, x, is_causal=True)
    with pytest.raises(ConfigError, match="activation is 'relu', 'gelu' or a function, got 'tanh'"):
        nn.TransformerEncoderLayer(4, 2, activation="tanh")


# -- against PyTorch -------------------------------------------------------------------------------


@pytest.mark.reference
@pytest.mark.parametrize("seed", range(60))
def test_generated_calls_equal_torch(seed: int) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(seed)
    lead = tuple(int(n) for n in rng.integers(1, 4, rng.integers(0, 3)))
    queries, keys, width, values = (int(n) for n in rng.integers(1, 7, 4))
    dtype, tolerance = ("float32", 1e-4) if seed % 4 == 3 else ("float64", 1e-9)
    arrays = [rng.normal(size=(*lead, *s)).astype(dtype) for s in ((queries, width), (keys, width), (keys, values))]
    kwargs: dict[str, Any] = {"scale": float(rng.uniform(0.1, 2)) if seed % 2 else None}
    mask: Any = None
    if seed % 3 == 0:
        kwargs["is_causal"] = True
    elif seed % 3 == 1:
        shape = (*lead, queries, keys)[int(rng.integers(0, len(lead) + 1)) :]
        mask = rng.random(shape) < 0.7 if seed % 2 else rng.normal(size=shape).astype(dtype)
    xs, zs = ([make(a) for a in arrays] for make in (fw.tensor, torch.tensor))
    for t in (*xs, *zs):
        t.requires_grad = True
    masks = [None if mask is None else make(mask) for make in (fw.tensor, torch.tensor)]
    y = F.scaled_dot_product_attention(*xs, masks[0], **kwargs)
    w = torch.nn.functional.scaled_dot_product_attention(*zs, masks[1], **kwargs)
    seeds = rng.normal(size=y.shape).astype(dtype)
    y.backward(fw.tensor(seeds))
    w.backward(torch.tensor(seeds))
    for a, b in ((y.detach(), w.detach()), *((x.grad, z.grad) for x, z in zip(xs, zs))):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=tolerance, atol=tolerance)


@pytest.mark.reference
def test_grouped_queries_equal_torch() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    q, k, v = numbers(2, 6, 3, 4), numbers(2, 2, 5, 4, seed=1), numbers(2, 2, 5, 3, seed=2)
    got = F.scaled_dot_product_attention(q, k, v, enable_gqa=True)
    want = torch.nn.functional.scaled_dot_product_attention(*(torch.tensor(a) for a in (q, k, v)), enable_gqa=True)
    np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-9)


def test_the_default_scale_is_one_over_the_root_of_the_width() -> None:
    q, k, v = qkv()
    a = F.scaled_dot_product_attention(q, k, v)
    b = F.scaled_dot_product_attention(q, k, v, scale=1 / math.sqrt(2))
    assert a.tolist() == b.tolist()
