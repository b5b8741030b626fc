"""One table of every module; each row is driven through init, forward, backward and state dict."""

from __future__ import annotations

import copy
import os
import pickle
from typing import Any

import numpy as np
import pytest
from module_table import CONTAINERS, ROWS, Row

import framework as fw
from framework import nn
from framework.autodiff import Tensor, vmap

BACKENDS = ("cpu", "strict")
FULL = os.environ.get("FW_TEST_CASES") == "full"


all_rows = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.id)

IN_SHORT = 4
"""How many rows of a module the longest checks take where not everything is run."""


def shortened(rows: list[Row]) -> Any:
    """A test for each row; those of most rows only where everything is run."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        groups.setdefault(row.name, []).append(row)
    short = {id(group[len(group) * k // IN_SHORT]) for group in groups.values() for k in range(IN_SHORT)}
    params = [pytest.param(r, id=r.id, marks=[] if id(r) in short else [pytest.mark.slow]) for r in rows]
    return pytest.mark.parametrize("row", params)


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
        for name, value in ((name, getattr(nn, name)) for name in dir(nn))
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
        out = row.run(module, *given)
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
        again = row.run(other, *tensors(arrays, backend))
        assert again.tolist() == out.tolist()
        for a, t in zip(row.inputs("float32"), given):
            np.testing.assert_array_equal(t.detach().numpy(), a)


@shortened(ROWS)
def test_backends_agree(row: Row) -> None:
    results = []
    for backend in BACKENDS:
        with fw.use_backend(backend):
            fw.seed_everything(3)
            module = row.build().double()
            given = tensors(row.inputs(), backend)
            out = row.run(module, *given)
            out.sum().backward()
            results.append([out.detach().numpy(), *(t.grad.numpy() for t in (*leaves_of(given), *module.parameters()))])
    for a, b in zip(*results):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


@shortened(ROWS)
def test_derivatives_in_both_modes(row: Row) -> None:
    module = row.build().double()
    arrays = row.inputs()
    names = [name.rpartition(".") for name, _ in module.named_parameters()]
    owners = dict(module.named_modules())
    real = [a for a in arrays if a.dtype.kind == "f"]
    whole = [a for a in arrays if a.dtype.kind != "f"]

    def run(*values: Tensor) -> Tensor:
        for (owner, _, name), value in zip(names, values[len(real) :]):
            owners[owner].__dict__[name] = value
        return row.run(module, *values[: len(real)], *map(fw.tensor, whole))

    points = [*map(fw.tensor, real), *(p.detach().clone() for p in module.parameters())]
    if sum(p.size for p in points) <= 100:
        assert fw.gradcheck(run, points, eps=1e-5, atol=1e-6)
        return
    for seed in range(3):  # of many numbers, along three directions
        rng = np.random.default_rng(seed)
        along = [fw.tensor(rng.normal(size=p.shape)) for p in points]
        weights = fw.tensor(rng.normal(size=run(*points).shape))
        moved = fw.tensor(0.0, dtype="float64")
        assert fw.gradcheck(
            lambda t: (run(*(p + t * v for p, v in zip(points, along))) * weights).sum(), [moved], eps=1e-5, atol=1e-6
        )


def runs_under_vmap(row: Row) -> bool:
    """Not with the default ignore_index, which needs values, nor with running statistics, which there is one of."""
    return "100" not in row.kinds[-1] and not row.kwargs.get("track_running_stats")


@shortened([row for row in ROWS if runs_under_vmap(row)])
def test_under_vmap(row: Row) -> None:
    """A batch at once gives what each input gives alone."""
    module = row.build().double()
    batches = [row.inputs(seed=seed) for seed in range(3)]
    stacked = [np.stack(arrays) for arrays in zip(*batches)]
    out = vmap(lambda *inputs: row.run(module, *inputs))(*map(fw.tensor, stacked)).detach().numpy()
    alone = [row.run(module, *map(fw.tensor, arrays)).detach().numpy() for arrays in batches]
    np.testing.assert_allclose(out, np.stack(alone), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("backend", BACKENDS)
@shortened([row for row in ROWS if row.name != "BCELoss"])  # it looks at its input's range, which no replay can
def test_compiled_equals_eager(row: Row, backend: str) -> None:
    """The loss, and all gradients, of calls that are recorded and of those that are replayed, bit for bit."""
    with fw.use_backend(backend):
        module = row.build().eval()
        given = tensors(row.inputs("float32"), backend, grad=False)
        params = list(module.parameters())

        def step(*inputs: Tensor) -> Tensor:
            loss = (row.run(module, *inputs) ** 2).sum()
            if params:
                loss.backward()
            return loss.detach()

        def results(fn: Any) -> list[Any]:
            module.zero_grad()
            return [fn(*given).tolist(), *(p.grad.tolist() for p in params)]

        compiled = fw.compile(step)
        expected = results(step)
        for _ in range(4):
            np.testing.assert_equal(results(compiled), expected)


@all_rows
def test_copies(row: Row) -> None:
    module = row.build()
    arrays = row.inputs("float32")
    expected = row.run(module, *tensors(arrays)).tolist()
    for twin in (copy.deepcopy(module), pickle.loads(pickle.dumps(module))):
        assert repr(twin) == repr(module)
        assert row.run(twin, *tensors(arrays)).tolist() == expected
        for p, q in zip(module.parameters(), twin.parameters(), strict=True):
            assert p is not q
            assert type(q) is nn.Parameter
            assert q.requires_grad
            q.assign(np.zeros(q.shape))
        assert row.run(module, *tensors(arrays)).tolist() == expected


@all_rows
def test_host_arrays_are_taken(row: Row) -> None:
    module = row.build()
    arrays = row.inputs("float32")
    assert row.run(module, *arrays).tolist() == row.run(module, *tensors(arrays)).tolist()


# -- against PyTorch -------------------------------------------------------------------------------


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss by both")
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("seed", range(3 if FULL else 1))
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
    y, z = row.run(ours, *xs), row.run(theirs, *(v.clone() if inplace else v for v in zs))
    seeds = np.random.default_rng(seed + 9).normal(size=y.shape)
    y.backward(fw.tensor(seeds))
    z.backward(torch.tensor(seeds))
    pairs = [(y.detach(), z.detach()), *((x.grad, z.grad) for x, z in zip(xs, zs) if x.requires_grad)]
    pairs += [(p.grad, q.grad) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True)]
    pairs += zip(ours.buffers(), theirs.buffers(), strict=True)
    for a, b in pairs:
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-9, atol=1e-12)
    assert repr(ours) == repr(theirs).replace("NonDynamicallyQuantizableLinear", "Linear")


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
