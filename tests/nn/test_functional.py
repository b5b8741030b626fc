"""Functions: edges of their domains, errors, and the fast path of cross-entropy."""

from __future__ import annotations

import math
import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import framework as fw
import framework.nn.functional as F
from framework.autodiff import ops
from framework.errors import ConfigError, DataError, DTypeError, ShapeError

EDGES = [-1e8, -1e4, -745.0, -104.0, -20.5, -1.0, -1e-6, 0.0, 1e-6, 1.0, 20.5, 104.0, 745.0, 1e4, 1e8]
SMOOTH = {
    "relu": {}, "leaky_relu": {}, "elu": {}, "silu": {}, "gelu": {}, "softplus": {}, "tanh": {}, "sigmoid": {},
    "softmax": {"dim": -1}, "log_softmax": {"dim": -1},
}  # fmt: skip


@pytest.mark.parametrize("name", SMOOTH)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_activations_are_finite_at_the_edges(name: str, dtype: str) -> None:
    """No overflow, no warning, and a finite gradient, out to the largest numbers."""
    x = fw.tensor(EDGES, dtype=dtype, requires_grad=True)
    y = getattr(F, name)(x, **SMOOTH[name])
    y.backward(fw.tensor(np.linspace(0.5, 1.5, len(EDGES)), dtype=dtype))
    assert np.isfinite(y.detach().numpy()).all()
    assert np.isfinite(x.grad.numpy()).all()
    assert y.dtype == x.grad.dtype == dtype


@pytest.mark.reference
@pytest.mark.parametrize("name", SMOOTH)
def test_activations_equal_torch_at_the_edges(name: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = fw.tensor(EDGES, dtype="float64", requires_grad=True)
    z = torch.tensor(EDGES, dtype=torch.float64, requires_grad=True)
    y, w = getattr(F, name)(x, **SMOOTH[name]), getattr(torch.nn.functional, name)(z, **SMOOTH[name])
    seeds = np.linspace(0.5, 1.5, len(EDGES))
    y.backward(fw.tensor(seeds))
    w.backward(torch.tensor(seeds))
    np.testing.assert_allclose(y.detach().numpy(), w.detach().numpy(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(x.grad.numpy(), z.grad.numpy(), rtol=1e-9, atol=1e-12)


def test_losses_are_finite_at_the_edges() -> None:
    x = fw.tensor(EDGES[1:-1], dtype="float32", requires_grad=True)
    for target in (0.0, 0.3, 1.0):
        loss = F.binary_cross_entropy_with_logits(x, ops.full_like(x.detach(), target))
        loss.backward()
        assert math.isfinite(loss.item())
    assert np.isfinite(x.grad.numpy()).all()
    p = fw.tensor([0.0, 1.0, 1e-30, 0.5], dtype="float32", requires_grad=True)
    loss = F.binary_cross_entropy(p, fw.tensor([1.0, 0.0, 1.0, 0.5]), reduction="none")
    loss.sum().backward()
    np.testing.assert_allclose(loss.detach().numpy(), [100.0, 100.0, 69.0776, math.log(2)], rtol=1e-4)
    assert not np.isnan(p.grad.numpy()).any()
    logits = fw.tensor([EDGES[1:-1]], requires_grad=True)
    for smoothing in (0.0, 0.1):
        F.cross_entropy(logits, fw.tensor([0]), label_smoothing=smoothing).backward()
    assert np.isfinite(logits.grad.numpy()).all()


def test_masked_classes() -> None:
    """Minus infinity as a logit takes a class out."""
    logits = fw.tensor([[0.0, -math.inf, 0.0]], requires_grad=True)
    loss = F.cross_entropy(logits, fw.tensor([0]))
    loss.backward()
    assert loss.item() == pytest.approx(math.log(2))
    assert logits.grad.tolist() == [[-0.5, 0.0, 0.5]]


def test_an_ignored_row_may_hold_anything() -> None:
    logits = fw.tensor([[0.0, 0.0], [math.nan, math.inf]], requires_grad=True)
    loss = F.nll_loss(logits, fw.tensor([1, -100]))
    loss.backward()
    assert loss.item() == 0.0
    assert logits.grad.tolist() == [[0.0, -1.0], [0.0, 0.0]]


def test_nothing_counts() -> None:
    logits = fw.tensor([[0.0, 1.0]])
    assert math.isnan(F.cross_entropy(logits, fw.tensor([-100])).item())
    assert F.cross_entropy(logits, fw.tensor([-100]), reduction="sum").item() == 0.0


@pytest.mark.parametrize("backend", ["cpu", "strict"])
def test_cross_entropy_of_class_numbers_is_the_primitive(backend: str) -> None:
    rng = np.random.default_rng(0)
    for shape, target_shape in (((5, 3), (5,)), ((3,), ()), ((2, 3, 4), (2, 4))):
        x = fw.tensor(rng.normal(size=shape), backend=backend, requires_grad=True)
        y = fw.tensor(rng.integers(0, 3, target_shape), backend=backend)
        loss = F.cross_entropy(x, y)
        assert loss._node.prim.name == "softmax_cross_entropy"
        last = ops.moveaxis(x, 1, -1) if len(shape) > 2 else x
        assert loss.item() == ops.softmax_cross_entropy(last, y).item()


@given(
    st.integers(1, 4), st.integers(1, 5), st.lists(st.integers(1, 3), max_size=2),
    st.sampled_from(["mean", "sum", "none"]), st.sampled_from([0.0, 0.25, 1.0]), st.booleans(), st.integers(0, 99),
)  # fmt: skip
def test_cross_entropy_equals_its_definition(
    n: int, classes: int, rest: list[int], reduction: str, smoothing: float, weighted: bool, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, classes, *rest)) * 3
    target = rng.integers(0, classes, (n, *rest))
    target[rng.random(target.shape) < 0.2] = -100
    weight = rng.random(classes) + 0.1 if weighted else np.ones(classes)
    log_p = np.moveaxis(logits, 1, -1) - np.log(np.exp(logits).sum(axis=1))[..., None]
    loss, total = np.zeros(target.shape), 0.0
    for at in np.ndindex(target.shape):
        if (t := target[at]) != -100:
            loss[at] = -(1 - smoothing) * weight[t] * log_p[at][t] - smoothing / classes * (weight * log_p[at]).sum()
            total += weight[t]
    expected = {"none": loss, "sum": loss.sum(), "mean": loss.sum() / total if total else math.nan}[reduction]
    got = F.cross_entropy(
        fw.tensor(logits), fw.tensor(target), weight if weighted else None,
        reduction=reduction, label_smoothing=smoothing,
    )  # fmt: skip
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-9, atol=1e-12)


def test_weights_do_not_change_the_dtype() -> None:
    """Weights are often made by NumPy, in float64."""
    x, w = fw.tensor([[1.0, 2.0]]), np.array([1.0, 2.0])
    assert F.cross_entropy(x, fw.tensor([1]), w).dtype == "float32"
    assert F.binary_cross_entropy_with_logits(x, fw.tensor([[0.0, 1.0]]), w, pos_weight=w).dtype == "float32"
    assert F.binary_cross_entropy(x * 0.1, fw.tensor([[0.0, 1.0]]), w).dtype == "float32"


def test_dropout() -> None:
    fw.seed_everything(0)
    x = fw.tensor(np.full((200, 100), 3.0, np.float32), requires_grad=True)
    y = F.dropout(x, 0.25)
    values, counts = np.unique(y.detach().numpy(), return_counts=True)
    np.testing.assert_allclose(values, [0.0, 4.0], rtol=1e-6)
    assert abs(counts[0] / 20_000 - 0.25) < 4 * math.sqrt(0.25 * 0.75 / 20_000)
    y.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), y.detach().numpy() / 3)
    assert F.dropout(x, 0.25).tolist() != y.tolist()
    assert F.dropout(x, 0.25, training=False) is x
    assert F.dropout(x, 0.0) is x
    assert F.dropout(x, 1.0).tolist() == np.zeros(x.shape).tolist()
    assert y.dtype == "float32"


@pytest.mark.parametrize("name", ["softmax", "log_softmax"])
def test_axis_left_out(name: str) -> None:
    """As in torch: axis 0 of inputs of 0, 1 or 3 axes, else axis 1."""
    for shape, axis in (((4,), 0), ((3, 4), 1), ((2, 3, 4), 0), ((2, 3, 4, 2), 1)):
        x = fw.random.normal(shape)
        f = getattr(F, name)
        assert f(x).tolist() == f(x, dim=axis).tolist()
    assert getattr(F, name)(fw.tensor([1, 2]), dim=0, dtype="float64").dtype == "float64"


def normal_cdf(x: Any) -> Any:
    return np.vectorize(lambda v: 0.5 * (1 + math.erf(v / math.sqrt(2))))(x)


def per_row(f: Any) -> Any:
    return lambda x, **kwargs: np.stack([f(row) for row in x])


ACTIVATIONS: dict[str, tuple[Any, dict[str, Any]]] = {
    "relu": (lambda x: np.maximum(x, 0), {}),
    "leaky_relu": (lambda x: np.where(x > 0, x, 0.2 * x), {"negative_slope": 0.2}),
    "elu": (lambda x: np.where(x > 0, x, 0.7 * (np.exp(x) - 1)), {"alpha": 0.7}),
    "silu": (lambda x: x / (1 + np.exp(-x)), {}),
    "gelu": (lambda x: x * normal_cdf(x), {}),
    "softplus": (lambda x: np.where(2 * x > 3, x, np.log(1 + np.exp(2 * x)) / 2), {"beta": 2, "threshold": 3}),
    "tanh": (np.tanh, {}),
    "sigmoid": (lambda x: 1 / (1 + np.exp(-x)), {}),
    "softmax": (per_row(lambda r: np.exp(r) / np.exp(r).sum()), {"dim": 1}),
    "log_softmax": (per_row(lambda r: np.log(np.exp(r) / np.exp(r).sum())), {"dim": 1}),
}
LOSSES: dict[str, tuple[Any, dict[str, Any]]] = {
    "mse_loss": (lambda p, q: (p - q) ** 2, {}),
    "l1_loss": (lambda p, q: abs(p - q), {}),
    "huber_loss": (
        lambda p, q: np.where(abs(p - q) <= 0.3, (p - q) ** 2 / 2, 0.3 * (abs(p - q) - 0.15)),
        {"delta": 0.3},
    ),
    "smooth_l1_loss": (
        lambda p, q: np.where(abs(p - q) < 0.3, (p - q) ** 2 / 0.6, abs(p - q) - 0.15),
        {"beta": 0.3},
    ),
    "binary_cross_entropy": (lambda p, q: -q * np.log(p) - (1 - q) * np.log(1 - p), {}),
    "binary_cross_entropy_with_logits": (lambda p, q: np.log(1 + np.exp(p)) - q * p, {}),
    "kl_div": (lambda p, q: q * (np.log(q) - p), {}),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_equal_their_definitions(name: str) -> None:
    definition, kwargs = ACTIVATIONS[name]
    x = np.random.default_rng(0).normal(size=(5, 6)) * 2
    np.testing.assert_allclose(getattr(F, name)(fw.tensor(x), **kwargs).numpy(), definition(x), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("name", LOSSES)
def test_losses_equal_their_definitions(name: str) -> None:
    definition, kwargs = LOSSES[name]
    p, q = np.random.default_rng(0).uniform(0.01, 0.99, (2, 5, 6))
    expected, loss = definition(p, q), getattr(F, name)
    for reduction, value in (("none", expected), ("sum", expected.sum()), ("mean", expected.mean())):
        got = loss(fw.tensor(p), fw.tensor(q), reduction=reduction, **kwargs)
        np.testing.assert_allclose(got.numpy(), value, rtol=1e-12)


X = np.zeros((4, 3), np.float32)
ERRORS: list[tuple[Any, type[Exception], str]] = [
    (
        lambda: F.cross_entropy(X, np.zeros((4, 1), int)),
        ShapeError,
        "cross_entropy: logits of shape (4, 3) need class numbers of shape (4,), got (4, 1). "
        "Reshape it: target.reshape(4)",
    ),
    (lambda: F.cross_entropy(X, np.zeros(5, int)), ShapeError, "need class numbers of shape (4,), got (5,)"),
    (
        lambda: F.cross_entropy(np.zeros((2, 3, 5)), np.zeros((2, 3), int)),
        ShapeError,
        "class numbers of shape (2, 5), got (2, 3)",
    ),
    (
        lambda: F.cross_entropy(X, np.zeros(4)),
        ShapeError,
        "class numbers need an integer dtype: target.astype('int64')",
    ),
    (lambda: F.cross_entropy(X, np.zeros(4, bool)), DTypeError, "integer dtype, got bool"),
    (
        lambda: F.cross_entropy(X, np.array([0, 1, 7, 2])),
        DataError,
        "cross_entropy: target 7 at flat position 2, but the logits have 3 classes; class numbers must be from 0 to 2",
    ),
    (lambda: F.cross_entropy(X, np.array([0, 1, -1, 2])), DataError, "target -1 at flat position 2"),
    (lambda: F.cross_entropy(X, np.array([0, 1, 3, 2]), np.ones(3)), DataError, "target 3 at flat position 2"),
    (lambda: F.nll_loss(X, np.array([0, 1, 3, 2])), DataError, "nll_loss: target 3 at flat position 2"),
    (
        lambda: F.cross_entropy(X, np.zeros(4, int), np.ones(4)),
        ShapeError,
        "3 classes need a weight of shape (3,), got (4,)",
    ),
    (lambda: F.cross_entropy(X[:0], np.zeros(0, int)), ShapeError, "got an empty batch"),
    (lambda: F.cross_entropy(X, np.zeros(4, int), reduction="avg"), ConfigError, "none, mean, sum; got 'avg'"),
    (
        lambda: F.cross_entropy(X, np.zeros(4, int), label_smoothing=1.5),
        ConfigError,
        "label_smoothing must be in [0, 1]",
    ),
    (
        lambda: F.mse_loss(np.zeros((4, 1)), np.zeros(4)),
        ShapeError,
        "mse_loss: input of shape (4, 1) needs a target of that shape, got (4,). Reshape it: target.reshape(4, 1)",
    ),
    (lambda: F.l1_loss(np.zeros(0), np.zeros(0)), ShapeError, "the mean of no losses has no value"),
    (lambda: F.huber_loss(X, X, delta=0.0), ConfigError, "delta must be positive, got 0.0"),
    (lambda: F.smooth_l1_loss(X, X, beta=-1.0), ConfigError, "beta must not be negative, got -1.0"),
    (lambda: F.binary_cross_entropy(X - 1, X), DataError, "probabilities in [0, 1], got values from -1 to -1"),
    (lambda: F.binary_cross_entropy_with_logits(X, X, reduction="batchmean"), ConfigError, "got 'batchmean'"),
    (lambda: F.gelu(X, approximate="erf"), ConfigError, "approximate is 'none' or 'tanh', got 'erf'"),
    (lambda: F.dropout(X, 1.5), ConfigError, "in [0, 1]; got 1.5"),
]


@pytest.mark.parametrize("case", range(len(ERRORS)))
def test_errors(case: int) -> None:
    call, kind, text = ERRORS[case]
    with pytest.raises(kind, match=re.escape(text)):
        call()


@pytest.mark.parametrize("loss", ["cross_entropy", "mse_loss", "l1_loss"])
def test_sums_of_empty_batches(loss: str) -> None:
    x = fw.tensor(X[:0], requires_grad=True)
    y = np.zeros(0, int) if loss == "cross_entropy" else X[:0]
    total = getattr(F, loss)(x, y, reduction="sum")
    total.backward()
    assert total.item() == 0.0
    assert x.grad.shape == (0, 3)
