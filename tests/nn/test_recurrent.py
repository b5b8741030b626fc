"""Recurrent layers: states handed on, directions, transforms, mistakes; generated cases against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import framework as fw
from framework import nn
from framework.autodiff import Tensor, ops
from framework.errors import ConfigError, ShapeError

NAMES = ("RNN", "LSTM", "GRU")


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


def first(state: Any) -> list[Tensor]:
    return list(state) if isinstance(state, tuple) else [state]


@pytest.mark.parametrize("name", NAMES)
def test_a_sequence_in_two_parts(name: str) -> None:
    layer = getattr(nn, name)(3, 4, num_layers=2).double()
    x = numbers(7, 2, 3)
    whole, last = layer(x)
    one, middle = layer(x[:3])
    two, end = layer(x[3:], middle)
    np.testing.assert_allclose(np.concatenate([one.detach().numpy(), two.detach().numpy()]), whole.detach().numpy())
    for a, b in zip(first(end), first(last)):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy())
    np.testing.assert_allclose(first(last)[0].detach().numpy()[-1], whole.detach().numpy()[-1])


@pytest.mark.parametrize("name", NAMES)
def test_the_other_direction_reads_from_the_end(name: str) -> None:
    both = getattr(nn, name)(3, 4, bidirectional=True).double()
    one = getattr(nn, name)(3, 4).double()
    one.load_state_dict({k.removesuffix("_reverse"): v for k, v in both.state_dict().items() if k.endswith("_reverse")})
    x = numbers(5, 2, 3)
    out = both(x)[0].detach().numpy()
    np.testing.assert_allclose(out[..., 4:], one(x[::-1].copy())[0].detach().numpy()[::-1])


@pytest.mark.parametrize("name", NAMES)
def test_batches_and_single_sequences(name: str) -> None:
    layer = getattr(nn, name)(3, 4, num_layers=2, bidirectional=True).double()
    x = numbers(5, 3, 3)
    out, state = layer(x)
    layer.batch_first = True
    turned, same = layer(x.transpose(1, 0, 2).copy())
    np.testing.assert_allclose(turned.detach().numpy(), out.detach().numpy().transpose(1, 0, 2))
    for i in range(3):
        alone, own = layer(x[:, i])
        assert alone.shape == (5, 8)
        np.testing.assert_allclose(alone.detach().numpy(), out.detach().numpy()[:, i])
        for s, t, u in zip(first(state), first(own), first(same)):
            np.testing.assert_allclose(t.detach().numpy(), s.detach().numpy()[:, i])
            np.testing.assert_allclose(u.detach().numpy(), s.detach().numpy())


def test_dropout_is_between_layers_and_for_training() -> None:
    x = numbers(4, 2, 3).astype(np.float32)
    layer = nn.GRU(3, 4, num_layers=2, dropout=0.5)
    assert layer(x)[0].tolist() != layer(x)[0].tolist()
    assert layer.eval()(x)[0].tolist() == layer(x)[0].tolist()
    single = nn.GRU(3, 4, dropout=0.5)
    assert single(x)[0].tolist() == single(x)[0].tolist()


@pytest.mark.parametrize("name", NAMES)
def test_gradients_by_sample_equal_a_loop(name: str) -> None:
    layer = getattr(nn, name)(2, 3, bias=False).double()
    weights = {k: p.detach() for k, p in layer.named_parameters()}
    x = fw.tensor(numbers(4, 5, 2))

    def gradient(x: Tensor) -> Any:
        def loss(w: dict[str, Tensor]) -> Tensor:
            layer.__dict__.update(w)
            return (layer(x)[0] ** 2).sum()

        return fw.grad(loss)(weights)

    got = fw.vmap(gradient)(x)
    for i in range(4):
        for key, want in gradient(x[i]).items():
            np.testing.assert_allclose(got[key][i].numpy(), want.numpy(), rtol=1e-9, atol=1e-12)


def test_a_long_sequence_costs_what_its_steps_cost() -> None:
    """No step's gradient is as large as the sequence: then the elements would grow with the square of the length."""
    layer = nn.RNN(2, 3)
    elements = []
    for length in (50, 200):
        x = fw.tensor(numbers(length, 1, 2).astype(np.float32))
        program = fw.graph(lambda x: fw.grad(lambda x: layer(x)[0].sum())(x), x)
        elements.append(sum(int(np.prod(v.shape)) for v in program.values.values()))
    assert elements[1] < 6 * elements[0]


def test_training_on_the_strict_backend_equals_training_on_the_cpu() -> None:
    found = []
    for backend in ("cpu", "strict"):
        with fw.use_backend(backend):
            fw.seed_everything(0)
            layer = nn.LSTM(2, 3)
            optimizer = fw.optim.SGD(layer.parameters(), lr=0.1)
            for step in range(3):
                optimizer.zero_grad()
                (layer(numbers(4, 2, 2, seed=step).astype(np.float32))[0] ** 2).sum().backward()
                optimizer.step()
            found.append(np.array(layer.weight_hh_l0.tolist()))
    np.testing.assert_allclose(*found, rtol=1e-4, atol=1e-6)


def test_inputs_are_not_written() -> None:
    x, h = numbers(4, 2, 3), np.zeros((1, 2, 4))
    held = x.copy()
    given = ops.asarray(x)
    given.requires_grad = True
    nn.GRU(3, 4).double()(given, h)[0].sum().backward()
    np.testing.assert_array_equal(x, held)
    assert not h.any()


# -- mistakes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_shapes(name: str) -> None:
    layer = getattr(nn, name)(3, 4)
    with pytest.raises(ShapeError, match=rf"{name}\(3, 4\): got input of shape \(5, 2, 4\); expected \(L, N, 3\), or"):
        layer(numbers(5, 2, 4))
    with pytest.raises(ShapeError, match=r"got input of shape \(3,\)"):
        layer(numbers(3))
    with pytest.raises(ShapeError, match="a sequence of no steps"):
        layer(numbers(0, 2, 3))
    bad = np.zeros((1, 3, 4))
    with pytest.raises(ShapeError, match=r"h_0 has shape \(1, 2, 4\) here, got \(1, 3, 4\)"):
        layer(numbers(5, 2, 3), (bad, bad) if name == "LSTM" else bad)
    with pytest.raises(ShapeError, match=r"One number a step\? x\.reshape\(5, 2, 1\)"):
        getattr(nn, name)(1, 4, batch_first=True)(numbers(5, 2))


def test_a_pair_is_needed() -> None:
    with pytest.raises(ShapeError, match=r"the first state is a pair \(h, c\), got 1 arrays"):
        nn.LSTM(3, 4)(numbers(5, 2, 3), np.zeros((1, 2, 4)))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"input_size": 0}, "input_size is a number from 1 on, got 0"),
        ({"hidden_size": 1.5}, "hidden_size is a number"),
        ({"num_layers": 0}, "num_layers is a number"),
        ({"dropout": -0.1}, "dropout is the probability"),
        ({"proj_size": 4}, "proj_size is smaller than hidden_size 4, got 4"),
    ],
)
def test_arguments(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"LSTM: {message}"):
        nn.LSTM(**{"input_size": 3, "hidden_size": 4, **kwargs})
    with pytest.raises(ConfigError, match="nonlinearity is 'tanh' or 'relu', got 'sigmoid'"):
        nn.RNN(3, 4, nonlinearity="sigmoid")


# -- against PyTorch -------------------------------------------------------------------------------


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore:LSTM with projections is not supported with oneDNN")
@pytest.mark.parametrize("seed", range(90))
def test_generated_cases_equal_torch(seed: int) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(seed)
    name = NAMES[seed % 3]
    n_in, hidden, layers = (int(n) for n in rng.integers(1, 5, 3))
    kwargs: dict[str, Any] = {"num_layers": layers, **{k: bool(rng.random() < 0.5) for k in ("bias", "batch_first")}}
    kwargs["bidirectional"] = bool(rng.random() < 0.4)
    if name == "RNN" and rng.random() < 0.4:
        kwargs["nonlinearity"] = "relu"
    if name == "LSTM" and hidden > 1 and rng.random() < 0.4:
        kwargs["proj_size"] = int(rng.integers(1, hidden))
    dtype, tolerance = ("float32", 1e-4) if seed % 4 == 3 else ("float64", 1e-9)
    ours, theirs = (getattr(library, name)(n_in, hidden, **kwargs) for library in (nn, torch.nn))
    ours, theirs = ours.to(dtype), theirs.to(getattr(torch, dtype))
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    length, batch, count = int(rng.integers(1, 6)), int(rng.integers(1, 4)), layers * (1 + kwargs["bidirectional"])
    has_batch = bool(rng.random() < 0.7)
    x = rng.normal(
        size=(*((batch, length) if kwargs["batch_first"] else (length, batch)), n_in) if has_batch else (length, n_in)
    ).astype(dtype)
    sizes = (kwargs.get("proj_size") or hidden, hidden)[: 1 + (name == "LSTM")]
    starts = [rng.normal(size=(count, batch, s) if has_batch else (count, s)).astype(dtype) for s in sizes]
    with_start = bool(rng.random() < 0.6)

    def run(module: Any, make: Any) -> list[Any]:
        given = [make(a) for a in (x, *(starts if with_start else ()))]
        for t in given:
            t.requires_grad = True
        state = () if not with_start else ((tuple(given[1:]),) if name == "LSTM" else (given[1],))
        out, last = module(given[0], *state)
        rng = np.random.default_rng(seed)
        total = 0
        for y in (out, *first(last)):
            total = total + (y * make(rng.normal(size=tuple(y.shape)).astype(dtype))).sum()
        total.backward()
        return [
            out.detach(),
            *(s.detach() for s in first(last)),
            *(t.grad for t in given),
            *(p.grad for p in module.parameters()),
        ]

    for a, b in zip(run(ours, fw.tensor), run(theirs, torch.tensor), strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=tolerance, atol=tolerance)
    assert repr(ours) == repr(theirs)
