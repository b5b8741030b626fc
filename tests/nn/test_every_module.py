"""One table of every module; each row is driven through init, forward, backward and state dict."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework import nn
from framework.autodiff import Tensor, vmap

BACKENDS = ("cpu", "strict")


@dataclass
class Row:
    """A module, and inputs made from a generator; `kinds` are those of the inputs."""

    name: str
    args: tuple[Any, ...] = ()
    kwargs: dict[str, Any] = field(default_factory=dict)
    kinds: tuple[str, ...] = ("real",)
    shape: tuple[int, ...] = (3, 4)
    classes: int = 4

    @property
    def id(self) -> str:
        extra = ",".join([*map(str, self.args), *(f"{k}={v}" for k, v in self.kwargs.items())])
        return f"{self.name}({extra})-{'x'.join(map(str, self.shape))}-{self.kinds[-1]}"

    def build(self, library: Any = nn, convert: Callable[[Any], Any] = np.asarray) -> Any:
        kwargs = {k: convert(v) if isinstance(v, np.ndarray) else v for k, v in self.kwargs.items()}
        return getattr(library, self.name)(*self.args, **kwargs)

    def inputs(self, dtype: str = "float64", seed: int = 0) -> list[np.ndarray]:
        rng = np.random.default_rng(seed)
        return [self._input(kind, rng, dtype) for kind in self.kinds]

    def _input(self, kind: str, rng: np.random.Generator, dtype: str) -> np.ndarray:
        shape = self.shape
        if kind == "index":
            return rng.integers(0, self.args[0], shape)
        if kind in ("class", "class or -100", "class or 1"):
            lead = () if len(shape) == 1 else (shape[0], *shape[2:])
            out = rng.integers(0, self.classes, lead)
            if kind != "class":
                out[rng.random(lead) < 0.3] = -100 if "100" in kind else 1
            return out
        x = rng.normal(size=shape)
        if kind == "probability":
            x = 1 / (1 + np.exp(-x))
        elif kind in ("distribution", "log distribution"):
            x = np.exp(x) / np.exp(x).sum(axis=min(1, x.ndim - 1), keepdims=True)
            x = np.log(x) if kind.startswith("log") else x
        return x.astype(dtype)


def losses(name: str, kinds: tuple[str, ...], *kwargs: dict[str, Any], shape: tuple[int, ...] = (3, 4)) -> list[Row]:
    return [
        Row(name, (), {**extra, "reduction": reduction}, kinds, shape)
        for extra in ({}, *kwargs)
        for reduction in ("mean", "sum", "none")
    ]


W = np.array([0.5, 2.0, 1.0, 3.0])

LAYERS = [
    Row("Linear", (4, 3)),
    Row("Linear", (4, 3), {"bias": False}),
    Row("Linear", (4, 3), shape=(4,)),
    Row("Linear", (4, 3), shape=(2, 5, 4)),
    Row("Linear", (4, 3), shape=(1, 4)),
    Row("Flatten", shape=(2, 3, 4)),
    Row("Flatten", (0, 1), shape=(2, 3, 4)),
    Row("Identity"),
    Row("Identity", (54,), {"unused": 1}),
    Row("Dropout", (0.0,)),
    Row("Embedding", (5, 3), kinds=("index",), shape=(4,)),
    Row("Embedding", (5, 3), {"padding_idx": -5}, ("index",), (2, 0)),
    Row("Embedding", (5, 3), {"norm_type": 1.0}, ("index",), (2, 3)),
    Row("Embedding", (50, 3), {"scale_grad_by_freq": True}, ("index",), ()),
]
NORMALISATIONS = [
    *[Row("LayerNorm", (4,), {"elementwise_affine": affine}, shape=shape)
      for affine in (True, False) for shape in ((3, 4), (4,), (2, 1, 4), (0, 4))],
    Row("LayerNorm", ((3, 4),), {"eps": 0.1, "bias": False}, shape=(2, 3, 4)),
    *[Row("BatchNorm1d", (4,), {**kwargs, "track_running_stats": tracks}, shape=shape)
      for shape in ((3, 4), (2, 4, 3), (1, 4, 2))
      for tracks in (True, False)
      for kwargs in ({}, {"affine": False}, {"momentum": None, "eps": 0.1}, {"bias": False})],
]  # fmt: skip
ACTIVATIONS = [
    *[Row(name, shape=shape) for name in ("ReLU", "SiLU", "LeakyReLU", "ELU", "GELU", "Softplus", "Tanh", "Sigmoid")
      for shape in ((3, 4), (2, 3, 2), ())],
    Row("ReLU", (), {"inplace": True}),
    Row("LeakyReLU", (0.3,)),
    Row("ELU", (0.7,)),
    Row("GELU", (), {"approximate": "tanh"}),
    Row("Softplus", (2.0, 1.0)),
    *[Row(name, (dim,), shape=(2, 3, 4)) for name in ("Softmax", "LogSoftmax") for dim in (0, 1, -1)],
]  # fmt: skip
LOSSES = [
    *losses(
        "CrossEntropyLoss",
        ("real", "class"),
        {"weight": W},
        {"label_smoothing": 0.1},
        {"weight": W, "label_smoothing": 0.3},
        {"ignore_index": 1},
    ),
    *losses("CrossEntropyLoss", ("real", "class or -100"), {"weight": W, "label_smoothing": 0.2}),
    *losses("CrossEntropyLoss", ("real", "distribution"), {"weight": W}, {"label_smoothing": 0.1}),
    *losses("CrossEntropyLoss", ("real", "class"), {"weight": W}, shape=(2, 4, 3)),
    *losses("CrossEntropyLoss", ("real", "class or -100"), shape=(2, 4, 3, 2)),
    *losses("CrossEntropyLoss", ("real", "distribution"), {"label_smoothing": 0.1}, shape=(2, 4, 3)),
    *losses("CrossEntropyLoss", ("real", "class"), {"weight": W}, shape=(4,)),
    *losses("NLLLoss", ("log distribution", "class"), {"weight": W}),
    *losses("NLLLoss", ("log distribution", "class or 1"), {"weight": W, "ignore_index": 1}, {"ignore_index": 1}),
    *losses("NLLLoss", ("log distribution", "class or -100"), {"weight": W}, shape=(2, 4, 3)),
    *losses("MSELoss", ("real", "real")),
    *losses("L1Loss", ("real", "real")),
    *losses("HuberLoss", ("real", "real"), {"delta": 0.3}),
    *losses("SmoothL1Loss", ("real", "real"), {"beta": 0.3}, {"beta": 0.0}),
    *losses(
        "BCEWithLogitsLoss", ("real", "probability"), {"weight": W}, {"pos_weight": W}, {"weight": W, "pos_weight": W}
    ),
    *losses("BCELoss", ("probability", "probability"), {"weight": W}),
    *losses("KLDivLoss", ("log distribution", "distribution")),
    *losses("KLDivLoss", ("log distribution", "log distribution"), {"log_target": True})[3:],
    Row("KLDivLoss", (), {"reduction": "batchmean"}, ("log distribution", "distribution")),
]
ROWS = [*LAYERS, *NORMALISATIONS, *ACTIVATIONS, *LOSSES]
CONTAINERS = {"Sequential", "ModuleList", "ModuleDict"}  # have tests of their own

all_rows = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)


def tensors(arrays: list[np.ndarray], backend: str = "cpu", grad: bool = True) -> list[Tensor]:
    return [
        fw.tensor(a, backend=backend, requires_grad=grad and i == 0 and a.dtype.kind == "f")
        for i, a in enumerate(arrays)
    ]


def leaves_of(given: list[Tensor]) -> list[Tensor]:
    return [x for x in given if x.requires_grad]


def test_the_table_is_complete() -> None:
    exported = {
        name
        for name, value in vars(nn).items()
        if isinstance(value, type) and issubclass(value, nn.Module) and value is not nn.Module
    }
    assert {row.name for row in ROWS} | CONTAINERS == exported


@pytest.mark.parametrize("backend", BACKENDS)
@all_rows
def test_init_forward_backward_state_dict(row: Row, backend: str) -> None:
    with fw.use_backend(backend):
        fw.seed_everything(1)
        module = row.build()
        arrays = row.inputs("float32")
        given = tensors(arrays, backend)
        out = module(*given)
        assert out.backend == backend
        assert out.dtype == "float32"
        out.sum().backward()
        leaves = [*leaves_of(given), *module.parameters()]
        for leaf in leaves:
            assert leaf.grad is not None
            assert leaf.grad.shape == leaf.shape
            assert leaf.grad.dtype == "float32"
        saved = module.state_dict()
        fw.seed_everything(2)
        other = row.build()
        assert other.load_state_dict(saved) == ([], [])
        assert {k: v.tolist() for k, v in other.state_dict().items()} == {k: v.tolist() for k, v in saved.items()}
        again = other(*tensors(arrays, backend))
        assert again.tolist() == out.tolist()
        for a, t in zip(row.inputs("float32"), given):
            np.testing.assert_array_equal(t.detach().numpy(), a)


@all_rows
def test_backends_agree(row: Row) -> None:
    results = []
    for backend in BACKENDS:
        with fw.use_backend(backend):
            fw.seed_everything(3)
            module = row.build().double()
            given = tensors(row.inputs(), backend)
            out = module(*given)
            out.sum().backward()
            results.append([out.detach().numpy(), *(t.grad.numpy() for t in (*leaves_of(given), *module.parameters()))])
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@all_rows
def test_derivatives_in_both_modes(row: Row) -> None:
    module = row.build().double()
    arrays = row.inputs()
    names = [name for name, _ in module.named_parameters()]
    real = [a for a in arrays if a.dtype.kind == "f"]
    whole = [a for a in arrays if a.dtype.kind != "f"]

    def run(*values: Tensor) -> Tensor:
        for name, value in zip(names, values[len(real) :]):
            module.__dict__[name] = value
        return module(*values[: len(real)], *map(fw.tensor, whole))

    points = [*map(fw.tensor, real), *(p.detach().clone() for p in module.parameters())]
    assert fw.gradcheck(run, points, eps=1e-5, atol=1e-6)


def runs_under_vmap(row: Row) -> bool:
    """Not with the default ignore_index, which needs values, nor with running statistics, which there is one of."""
    return "100" not in row.kinds[-1] and not row.kwargs.get("track_running_stats")


@pytest.mark.parametrize("row", [row for row in ROWS if runs_under_vmap(row)], ids=lambda row: row.id)
def test_under_vmap(row: Row) -> None:
    """A batch at once gives what each input gives alone."""
    module = row.build().double()
    batches = [row.inputs(seed=seed) for seed in range(3)]
    stacked = [np.stack(arrays) for arrays in zip(*batches)]
    out = vmap(module)(*map(fw.tensor, stacked)).detach().numpy()
    alone = [module(*map(fw.tensor, arrays)).detach().numpy() for arrays in batches]
    np.testing.assert_allclose(out, np.stack(alone), rtol=1e-10, atol=1e-12)


@all_rows
def test_copies(row: Row) -> None:
    module = row.build()
    arrays = row.inputs("float32")
    expected = module(*tensors(arrays)).tolist()
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert repr(twin) == repr(module)
        assert twin(*tensors(arrays)).tolist() == expected
        for p, q in zip(module.parameters(), twin.parameters(), strict=True):
            assert p is not q
            assert type(q) is nn.Parameter
            assert q.requires_grad
            q.assign(np.zeros(q.shape))
        assert module(*tensors(arrays)).tolist() == expected


@all_rows
def test_host_arrays_are_taken(row: Row) -> None:
    module = row.build()
    arrays = row.inputs("float32")
    assert module(*arrays).tolist() == module(*tensors(arrays)).tolist()


# -- against PyTorch -------------------------------------------------------------------------------


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss by both")
@pytest.mark.parametrize("seed", range(3))
@all_rows
def test_equals_torch(row: Row, seed: int) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    theirs = row.build(torch.nn, torch.tensor).double()
    ours = row.build().double()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    arrays = row.inputs(seed=seed)
    xs = tensors(arrays)
    zs = [torch.tensor(a, requires_grad=t.requires_grad) for a, t in zip(arrays, xs)]
    inplace = getattr(theirs, "inplace", False)
    y, z = ours(*xs), theirs(*(v.clone() if inplace else v for v in zs))
    seeds = np.random.default_rng(seed + 9).normal(size=y.shape)
    y.backward(fw.tensor(seeds))
    z.backward(torch.tensor(seeds))
    pairs = [(y.detach(), z.detach()), *((x.grad, z.grad) for x, z in zip(xs, zs) if x.requires_grad)]
    pairs += [(p.grad, q.grad) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True)]
    pairs += zip(ours.buffers(), theirs.buffers(), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-9, atol=1e-12)
    assert repr(ours) == repr(theirs)


@pytest.mark.reference
def test_a_whole_model_equals_torch() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    def model(library: Any) -> Any:
        return library.Sequential(
            library.Flatten(),
            library.Linear(12, 7),
            library.GELU(),
            library.Sequential(library.Linear(7, 5), library.ReLU()),
        )

    ours, theirs = model(nn).double(), model(torch.nn).double()
    assert list(ours.state_dict()) == list(theirs.state_dict())
    ours.load_state_dict({name: value.numpy() for name, value in theirs.state_dict().items()})
    back = {name: torch.tensor(value.numpy()) for name, value in ours.state_dict().items()}
    theirs.load_state_dict(back)
    x = np.random.default_rng(0).normal(size=(6, 3, 4))
    np.testing.assert_allclose(
        ours(fw.tensor(x)).detach().numpy(), theirs(torch.tensor(x)).detach().numpy(), rtol=1e-12, atol=1e-14
    )
    assert repr(ours) == repr(theirs)
