"""Every module: both modes, second order, batches, copies, host arrays, and PyTorch's numbers."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from module_table import Row
from registry_table import FULL, MODULES, entries

import framework as fw
from framework import nn
from framework.autodiff import Tensor, vmap

each_name = pytest.mark.parametrize("name", sorted({entry.name for entry in MODULES} - {"Sequential"}))
MANY = 1000


def rows(name: str, most: int = MANY) -> Iterator[Row]:
    """The rows of a module, or `most` of them."""
    return (entry.row for entry in entries(name, most))


def tensors(arrays: list[np.ndarray], backend: str = "cpu", grad: bool = True) -> list[Tensor]:
    return [
        fw.tensor(a, backend=backend, requires_grad=grad and i == 0 and a.dtype.kind == "f")
        for i, a in enumerate(arrays)
    ]


def leaves_of(given: list[Tensor]) -> list[Tensor]:
    return [x for x in given if x.requires_grad]


@each_name
def test_backends_agree(name: str) -> None:
    for row in rows(name, 3):
        results = []
        for backend in ("cpu", "strict"):
            with fw.use_backend(backend):
                fw.seed_everything(3)
                module = row.build().double()
                given = tensors(row.inputs(), backend)
                out = row.run(module, *given)
                out.sum().backward()
                leaves = (*leaves_of(given), *module.parameters())
                results.append([out.detach().numpy(), *(t.grad.numpy() for t in leaves)])
        for a, b in zip(*results):
            np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)


class Bound:
    """A module as a function of its inputs and parameters, near a point."""

    def __init__(self, row: Row) -> None:
        self.row, self.module = row, row.build().double()
        names = [name.rpartition(".") for name, _ in self.module.named_parameters()]
        owners = dict(self.module.named_modules())
        self.places = [(owners[owner].__dict__, name) for owner, _, name in names]
        arrays = row.inputs()
        self.is_real = [a.dtype.kind == "f" for a in arrays]
        self.whole = [fw.tensor(a) for a in arrays if a.dtype.kind != "f"]
        real = [fw.tensor(a) for a in arrays if a.dtype.kind == "f"]
        self.points = [*real, *(p.detach().clone() for p in self.module.parameters())]

    def __call__(self, *values: Tensor) -> Tensor:
        real, whole = iter(values), iter(self.whole)
        inputs = [next(real if is_real else whole) for is_real in self.is_real]
        for place, name in self.places:
            place[name] = next(real)
        return self.row.run(self.module, *inputs)

    def along(self, seed: int) -> Any:
        """A weighted sum of the results, on a line through the point in a direction drawn by chance."""
        rng = np.random.default_rng(seed)
        directions = [fw.tensor(rng.normal(size=p.shape)) for p in self.points]
        weights = fw.tensor(rng.normal(size=self(*self.points).shape))
        return lambda t: (self(*(p + t * v for p, v in zip(self.points, directions))) * weights).sum()


@each_name
def test_derivatives_in_both_modes(name: str) -> None:
    for row in rows(name, 3):
        bound = Bound(row)
        if sum(p.size for p in bound.points) <= 60:
            assert fw.gradcheck(bound, bound.points, eps=1e-5, atol=1e-6)
            continue
        for seed in range(3):
            assert fw.gradcheck(bound.along(seed), [fw.tensor(0.0, dtype="float64")], eps=1e-5, atol=1e-6)


@each_name
def test_second_order_in_both_modes(name: str) -> None:
    for row in rows(name, 3):
        line = Bound(row).along(7)
        assert fw.gradcheck(fw.grad(line), [fw.tensor(0.0, dtype="float64")], eps=1e-5, atol=1e-5)


def runs_under_vmap(row: Row) -> bool:
    """Not with the default ignore_index, which needs values, nor with running statistics, which there is one of."""
    return "100" not in row.kinds[-1] and not row.kwargs.get("track_running_stats")


@each_name
def test_under_vmap(name: str) -> None:
    """A batch at once gives what each input gives alone."""
    for row in filter(runs_under_vmap, rows(name, 4)):
        module = row.build().double()
        batches = [row.inputs(seed=seed) for seed in range(3)]
        stacked = [np.stack(arrays) for arrays in zip(*batches)]
        out = vmap(lambda *inputs: row.run(module, *inputs))(*map(fw.tensor, stacked)).detach().numpy()
        alone = [row.run(module, *map(fw.tensor, arrays)).detach().numpy() for arrays in batches]
        np.testing.assert_allclose(out, np.stack(alone), rtol=1e-10, atol=1e-12)


@each_name
def test_copies(name: str) -> None:
    for row in rows(name, 4):
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


@each_name
def test_host_arrays_are_taken_and_not_written(name: str) -> None:
    for row in rows(name, 6):
        module = row.build()
        arrays = row.inputs("float32")
        given = [a.copy() for a in arrays]
        out = row.run(module, *given)
        assert out.tolist() == row.run(module.train(), *tensors(arrays)).tolist()
        if isinstance(out, Tensor) and out.requires_grad:
            out.sum().backward()
        for a, b in zip(given, arrays):
            np.testing.assert_array_equal(a, b)


# -- against PyTorch -------------------------------------------------------------------------------


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides the total loss by both")
@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@each_name
def test_equals_torch(name: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for row in rows(name):
        for seed in range(3 if FULL else 1):
            check_against(torch, row, seed)


def check_against(torch: Any, row: Row, seed: int) -> None:
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
