"""Initial values: their distributions, their order, and that every backend starts alike."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework import nn
from framework.errors import ConfigError, ShapeError
from framework.nn import init

SHAPE = (400, 300)
U = math.sqrt(3.0)  # a uniform distribution of standard deviation 1 reaches this far
FILLERS: dict[str, tuple[Any, float, float, float | None]] = {
    # call, mean, standard deviation, bound
    "uniform": (lambda t: init.uniform_(t, -1.0, 3.0), 1.0, 4 / math.sqrt(12), None),
    "normal": (lambda t: init.normal_(t, 1.0, 0.5), 1.0, 0.5, None),
    "xavier_uniform": (lambda t: init.xavier_uniform_(t, 2.0), 0.0, 2 * math.sqrt(2 / 700), 2 * math.sqrt(6 / 700)),
    "xavier_normal": (lambda t: init.xavier_normal_(t), 0.0, math.sqrt(2 / 700), None),
    "kaiming_uniform": (
        lambda t: init.kaiming_uniform_(t, a=math.sqrt(5)),
        0.0,
        1 / math.sqrt(900),
        1 / math.sqrt(300),
    ),
    "kaiming_out": (
        lambda t: init.kaiming_uniform_(t, mode="fan_out", nonlinearity="relu"),
        0.0,
        math.sqrt(2 / 400),
        U * math.sqrt(2 / 400),
    ),
    "kaiming_normal": (lambda t: init.kaiming_normal_(t, nonlinearity="tanh"), 0.0, 5 / 3 / math.sqrt(300), None),
    "trunc_normal": (lambda t: init.trunc_normal_(t), 0.0, 0.8796, 2.0),
    "trunc_normal_off": (lambda t: init.trunc_normal_(t, 0.0, 1.0, 0.5, 1.0), 0.7362, 0.1437, 1.0),
}


@pytest.mark.parametrize("name", FILLERS)
def test_distributions(name: str) -> None:
    fill, mean, std, bound = FILLERS[name]
    fw.seed_everything(5)
    p = nn.Parameter(np.zeros(SHAPE, np.float32))
    assert fill(p) is p
    values = p.detach().numpy().astype(np.float64)
    n = values.size
    assert p.dtype == "float32"
    assert p.requires_grad
    assert abs(values.mean() - mean) < 5 * std / math.sqrt(n) + 1e-4 * abs(mean)
    assert abs(values.std() / std - 1) < 0.01
    if bound is not None:
        assert np.abs(values).max() <= bound
        assert np.abs(values).max() > 0.99 * bound
    assert len(np.unique(values)) > 0.9 * n or name.startswith("trunc")


@pytest.mark.reference
@pytest.mark.parametrize(
    "name",
    [
        *("uniform_", "normal_", "trunc_normal_"),
        *("xavier_uniform_", "xavier_normal_", "kaiming_uniform_", "kaiming_normal_"),
    ],
)
@pytest.mark.parametrize("shape", [(300, 400), (64, 16, 3, 5)])
def test_distributions_equal_torch(name: str, shape: tuple[int, ...]) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch.manual_seed(0)
    fw.seed_everything(0)
    theirs = getattr(torch.nn.init, name)(torch.empty(shape, dtype=torch.float64)).numpy()
    ours = getattr(init, name)(fw.tensor(np.zeros(shape))).numpy()
    assert abs(ours.std() / theirs.std() - 1) < 0.02
    assert abs(ours.mean() - theirs.mean()) < 8 * theirs.std() / math.sqrt(theirs.size)
    for q in (0.01, 0.1, 0.5, 0.9, 0.99):
        assert abs(np.quantile(ours, q) - np.quantile(theirs, q)) < 0.15 * theirs.std()


@pytest.mark.reference
def test_default_of_linear_equals_torch() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch.manual_seed(0)
    fw.seed_everything(0)
    ours, theirs = nn.Linear(500, 300), torch.nn.Linear(500, 300)
    for a, b in ((ours.weight, theirs.weight), (ours.bias, theirs.bias)):
        a, b = a.detach().numpy(), b.detach().numpy()
        assert abs(a.std() / b.std() - 1) < (0.01 if a.ndim == 2 else 0.15)
        assert abs(np.abs(a).max() / np.abs(b).max() - 1) < 0.02


@pytest.mark.reference
def test_gains_equal_torch() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for name in ("linear", "conv2d", "conv_transpose1d", "sigmoid", "tanh", "relu", "leaky_relu", "selu"):
        assert init.calculate_gain(name) == torch.nn.init.calculate_gain(name)
    assert init.calculate_gain("leaky_relu", 0.3) == torch.nn.init.calculate_gain("leaky_relu", 0.3)


def test_constants() -> None:
    p = nn.Parameter(np.zeros((2, 3), np.float32))
    assert init.constant_(p, 1.5).tolist() == [[1.5] * 3] * 2
    assert init.ones_(p).tolist() == [[1.0] * 3] * 2
    assert init.eye_(p).tolist() == [[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]
    assert init.zeros_(p).tolist() == [[0.0] * 3] * 2
    assert p.dtype == "float32"


def test_one_seed_one_start_on_every_backend() -> None:
    starts = []
    for backend in ("cpu", "strict"):
        fw.seed_everything(11)
        with fw.use_backend(backend):
            m = nn.Sequential(nn.Linear(5, 7), nn.Linear(7, 2))
            init.trunc_normal_(m[0].weight)
        starts.append([p.tolist() for p in m.parameters()])
    fw.seed_everything(11)
    m = nn.Sequential(nn.Linear(5, 7, device="strict"), nn.Linear(7, 2, device="strict"))
    init.trunc_normal_(m[0].weight)
    starts.append([p.tolist() for p in m.parameters()])
    assert starts[0] == starts[1] == starts[2]
    fw.seed_everything(12)
    assert nn.Linear(5, 7).weight.tolist() != starts[0][0]


def test_a_generator_of_ones_own() -> None:
    a = init.normal_(fw.tensor([0.0] * 4), generator=fw.random.Generator(3)).tolist()
    fw.random.normal((5,))
    assert init.normal_(fw.tensor([0.0] * 4), generator=fw.random.Generator(3)).tolist() == a


def test_empty_layers() -> None:
    assert nn.Linear(0, 3).bias.tolist() == [0.0] * 3
    assert nn.Linear(3, 0)(fw.tensor([[1.0, 2.0, 3.0]])).shape == (1, 0)


def test_errors() -> None:
    p = nn.Parameter([1.0, 2.0])
    with pytest.raises(ShapeError, match=r"at least two axes \(out, in, …\), got shape \(2,\)"):
        init.kaiming_uniform_(p)
    with pytest.raises(ShapeError, match=r"eye_ is for matrices, got shape \(2,\)"):
        init.eye_(p)
    with pytest.raises(ConfigError, match=r"no gain for nonlinearity 'rleu'\. Did you mean 'relu'\?"):
        init.calculate_gain("rleu")
    with pytest.raises(ConfigError, match="mode is 'fan_in' or 'fan_out', got 'fan'"):
        init.kaiming_normal_(nn.Parameter([[1.0]]), mode="fan")
    with pytest.raises(ConfigError, match=r"\[5.0, 6.0\] holds 0.00% of a normal distribution"):
        init.trunc_normal_(p, a=5.0, b=6.0)
