"""Initial values: their distributions, their order, and that every backend starts alike."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from module_table import ROWS

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


@pytest.mark.parametrize("backend", ["cpu", "strict"])
def test_orthogonal_rows_or_columns(backend: str) -> None:
    with fw.use_backend(backend):
        for shape in ((3, 5), (5, 3), (4, 2, 3), (2, 2)):
            t = init.orthogonal_(fw.tensor(np.zeros(shape)), gain=2.0)
            m = np.array(t.tolist()).reshape(shape[0], -1) / 2.0
            small = m @ m.T if m.shape[0] <= m.shape[1] else m.T @ m
            np.testing.assert_allclose(small, np.eye(len(small)), atol=1e-12)
        first = [init.orthogonal_(fw.tensor(np.zeros((2, 2)))).tolist()[0][0] for _ in range(40)]
    assert min(first) < -0.1
    assert max(first) > 0.1
    assert init.orthogonal_(fw.tensor(np.zeros((0, 3)))).shape == (0, 3)
    with pytest.raises(ShapeError, match="at least two axes"):
        init.orthogonal_(fw.tensor(np.zeros(3)))


@pytest.mark.parametrize("shape", [(4, 3, 3), (2, 5, 3, 4), (6, 2, 1, 3, 2)])
@pytest.mark.parametrize("groups", [1, 2])
def test_dirac_gives_channels_back(shape: tuple[int, ...], groups: int) -> None:
    got = init.dirac_(fw.tensor(np.ones(shape)), groups).numpy()
    want = np.zeros(shape)
    each = shape[0] // groups
    for g in range(groups):
        for d in range(min(each, shape[1])):
            want[(g * each + d, d, *(n // 2 for n in shape[2:]))] = 1.0
    np.testing.assert_array_equal(got, want)
    with pytest.raises(ShapeError, match="equal groups"):
        init.dirac_(fw.tensor(np.ones((3, 2, 2))), 2)
    with pytest.raises(ShapeError, match="dirac_ is for weights"):
        init.dirac_(fw.tensor(np.ones((3, 2))))


def test_sparse_columns() -> None:
    fw.seed_everything(0)
    values = init.sparse_(fw.tensor(np.ones((40, 30))), 0.31, std=0.5).numpy()
    assert ((values == 0).sum(axis=0) == 13).all()
    assert abs(values[values != 0].std() - 0.5) < 0.05
    assert len({tuple(column) for column in (values == 0).T.tolist()}) == 30  # another choice for each
    with pytest.raises(ShapeError, match="matrices"):
        init.sparse_(fw.tensor(np.ones(3)), 0.1)


STARTS: dict[str, Any] = {
    "Linear": lambda library: library.Linear(300, 200),
    "Embedding": lambda library: library.Embedding(300, 200),
    "Conv1d": lambda library: library.Conv1d(40, 60, 9),
    "Conv2d": lambda library: library.Conv2d(32, 64, (3, 5), groups=2),
    "ConvTranspose2d": lambda library: library.ConvTranspose2d(32, 64, (3, 5), groups=2),
    "RNN": lambda library: library.RNN(80, 150, num_layers=2),
    "LSTM": lambda library: library.LSTM(60, 90, bidirectional=True, proj_size=40),
    "GRU": lambda library: library.GRU(60, 90),
    "MultiheadAttention": lambda library: library.MultiheadAttention(160, 4, add_bias_kv=True),
    "MultiheadAttention with other keys": lambda library: library.MultiheadAttention(160, 4, kdim=90, vdim=120),
    "TransformerEncoderLayer": lambda library: library.TransformerEncoderLayer(120, 4, 300),
    "BatchNorm1d": lambda library: library.BatchNorm1d(7),
    "BatchNorm2d": lambda library: library.BatchNorm2d(7),
    "LayerNorm": lambda library: library.LayerNorm((3, 7)),
    "GroupNorm": lambda library: library.GroupNorm(2, 8),
    "RMSNorm": lambda library: library.RMSNorm(7),
}


def test_every_start_is_here() -> None:
    with_parameters = {row.name for row in ROWS if list(row.build().parameters())}
    assert with_parameters == {name.partition(" ")[0] for name in STARTS}


@pytest.mark.reference
@pytest.mark.parametrize("name", STARTS)
def test_modules_start_as_torchs(name: str) -> None:
    """Mean, variance and range of each parameter, and what is not random exactly."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    torch.manual_seed(0)
    fw.seed_everything(0)
    ours, theirs = STARTS[name](nn).state_dict(), STARTS[name](torch.nn).state_dict()
    assert list(ours) == list(theirs)
    for key in ours:
        a, b = ours[key].numpy(), theirs[key].numpy()
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        if b.std() == 0:
            np.testing.assert_array_equal(a, b)
            continue
        n, spread = a.size, b.std()
        assert abs(a.mean() - b.mean()) < 7 * spread / math.sqrt(n), key
        assert abs(a.std() / spread - 1) < 5 / math.sqrt(n), key
        assert abs(np.abs(a).max() / np.abs(b).max() - 1) < (0.1 if np.abs(b).max() < 2 * spread else 1.0), key
