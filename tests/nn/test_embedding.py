"""Embedding: rows, padding, norms, frequencies, transforms, mistakes, and the kernel of its gradient."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import framework as fw
from framework import nn
from framework.autodiff import Tensor, ops
from framework.autodiff.namespace import namespace_of
from framework.backend import KERNELS, registry
from framework.errors import ConfigError, DTypeError, GradientError, ShapeError
from framework.nn import functional as F

ROWS = np.random.default_rng(0).normal(size=(6, 3))
NUMBERS = np.array([[1, 4, 1], [0, 1, 5]])


def counted(numbers: np.ndarray, rows: int) -> np.ndarray:
    return np.bincount(numbers.ravel(), minlength=rows)


# -- the module ------------------------------------------------------------------------------------


def test_the_start_is_normal_with_a_row_of_zeros() -> None:
    fw.seed_everything(0)
    weight = np.array(nn.Embedding(2000, 50, padding_idx=-1).weight.tolist())
    assert not weight[-1].any()
    assert abs(weight[:-1].mean()) < 0.01
    assert abs(weight[:-1].std() - 1) < 0.01


def test_the_row_for_padding_gets_no_gradient() -> None:
    layer = nn.Embedding(6, 3, padding_idx=1)
    layer(NUMBERS).sum().backward()
    want = counted(NUMBERS, 6)
    want[1] = 0
    assert layer.weight.grad.tolist() == np.repeat(want[:, None], 3, axis=1).tolist()
    layer.reset_parameters()
    assert layer.weight.tolist()[1] == [0.0, 0.0, 0.0]


def test_from_pretrained() -> None:
    table = ROWS.copy()
    layer = nn.Embedding.from_pretrained(table, padding_idx=2)
    assert not layer.weight.requires_grad
    assert layer.weight.tolist() == ROWS.tolist()  # the padding row, too
    assert repr(layer) == "Embedding(6, 3, padding_idx=2)"
    trained = nn.Embedding.from_pretrained(table, freeze=False, scale_grad_by_freq=True)
    (trained(NUMBERS) * 1.0).sum().backward()
    np.testing.assert_allclose(trained.weight.grad.numpy(), np.repeat((counted(NUMBERS, 6) > 0)[:, None], 3, axis=1))
    fw.optim.SGD(trained.parameters(), lr=1.0).step()
    np.testing.assert_array_equal(table, ROWS)


@pytest.mark.parametrize("backend", ["cpu", "strict"])
@pytest.mark.parametrize(
    "numbers", [NUMBERS.tolist(), NUMBERS.astype(np.uint8), NUMBERS.astype(np.int32), NUMBERS.astype(np.uint64)]
)
def test_numbers_may_be_of_any_integer_dtype(backend: str, numbers: Any) -> None:
    with fw.use_backend(backend):
        weight = fw.tensor(ROWS, requires_grad=True)
        out = F.embedding(numbers, weight)
        out.sum().backward()
    assert out.tolist() == ROWS[NUMBERS].tolist()
    assert weight.grad.tolist() == np.repeat(counted(NUMBERS, 6)[:, None] * 1.0, 3, axis=1).tolist()


def test_max_norm_scales_only_rows_that_are_asked_for_and_too_long() -> None:
    weight = nn.Parameter(ROWS * 2)
    held = weight.detach()
    out = F.embedding(NUMBERS, weight, max_norm=1.5)
    norms = np.linalg.norm(ROWS * 2, axis=1)
    factor = np.where((counted(NUMBERS, 6) > 0) & (norms > 1.5), 1.5 / (norms + 1e-7), 1.0)
    assert (factor == 1).any()
    assert (factor < 1).any()
    np.testing.assert_allclose(weight.tolist(), ROWS * 2 * factor[:, None], rtol=1e-12)
    assert out.tolist() == np.array(weight.tolist())[NUMBERS].tolist()
    assert held.tolist() == (ROWS * 2).tolist()  # whoever has the old values keeps them
    out.sum().backward()
    np.testing.assert_allclose(weight.grad.tolist(), np.repeat(counted(NUMBERS, 6)[:, None], 3, axis=1))


def test_frequencies_change_gradients_and_not_values() -> None:
    weight = fw.tensor(ROWS, requires_grad=True)
    out = F.embedding(NUMBERS, weight, scale_grad_by_freq=True)
    assert out.tolist() == ROWS[NUMBERS].tolist()
    seeds = np.random.default_rng(1).normal(size=out.shape)
    out.backward(fw.tensor(seeds))
    want = np.zeros((6, 3))
    np.add.at(want, NUMBERS, seeds)
    np.testing.assert_allclose(weight.grad.tolist(), want / np.maximum(counted(NUMBERS, 6), 1)[:, None], atol=1e-14)


def test_training_on_the_strict_backend_equals_training_on_the_cpu() -> None:
    found = []
    for backend in ("cpu", "strict"):
        with fw.use_backend(backend):
            fw.seed_everything(0)
            net = nn.Sequential(nn.Embedding(9, 4, padding_idx=0), nn.Flatten(), nn.Linear(12, 2))
            optimizer = fw.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
            for step in range(5):
                numbers = np.random.default_rng(step).integers(0, 9, (7, 3))
                optimizer.zero_grad()
                F.cross_entropy(net(numbers), np.arange(7) % 2).backward()
                optimizer.step()
            found.append(np.array(net[0].weight.tolist()))
    np.testing.assert_allclose(*found, rtol=1e-5, atol=1e-6)
    assert not found[0][0].any()


# -- derivatives and batches -------------------------------------------------------------------------


def test_both_modes_and_second_order_without_padding() -> None:
    weight, direction = fw.tensor(ROWS), fw.tensor(ROWS[::-1].copy())

    def fn(w: Tensor) -> Tensor:
        return F.embedding(NUMBERS, w) ** 3

    seed = fw.tensor(np.random.default_rng(2).normal(size=(2, 3, 3)))
    assert fw.gradcheck(fn, [weight])
    assert fw.gradcheck(lambda w: fw.vjp(fn, w)[1](seed), [weight])
    assert fw.gradcheck(lambda w: fw.jvp(fn, (w,), (direction,))[1], [weight])


@pytest.mark.parametrize("kwargs", [{"padding_idx": 1}, {"scale_grad_by_freq": True}])
def test_the_modes_agree_about_derivatives_that_are_held_back(kwargs: dict[str, Any]) -> None:
    """Those are none of the function as such; what one mode leaves out the other leaves out, in both orders."""
    weight, direction = fw.tensor(ROWS), fw.tensor(np.cos(ROWS))

    def fn(w: Tensor) -> Tensor:
        return (F.embedding(NUMBERS, w, **kwargs) ** 3).sum()

    slope = fw.grad(fn)(weight)
    forward = fw.jvp(fn, (weight,), (direction,))[1]
    np.testing.assert_allclose(forward.numpy(), (slope * direction).sum().numpy(), rtol=1e-12)
    curved = [
        fw.jvp(fw.grad(fn), (weight,), (direction,))[1],
        fw.grad(lambda w: fw.jvp(fn, (w,), (direction,))[1])(weight),
        fw.grad(lambda w: (fw.grad(fn)(w) * direction).sum())(weight),
    ]
    for other in curved[1:]:
        np.testing.assert_allclose(other.numpy(), curved[0].numpy(), rtol=1e-12)
    if "padding_idx" in kwargs:
        assert not slope.numpy()[1].any()
        assert not curved[0].numpy()[1].any()


@pytest.mark.parametrize("kwargs", [{}, {"padding_idx": 1}, {"scale_grad_by_freq": True}])
@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0)])
def test_gradients_by_sample_equal_a_loop(kwargs: dict[str, Any], axes: tuple[int | None, int | None]) -> None:
    numbers = np.stack([np.roll(NUMBERS, k) for k in range(4)]) if axes[0] == 0 else NUMBERS
    weights = np.stack([ROWS * k for k in (1, 2, 3, 4)]) if axes[1] == 0 else ROWS

    def gradient(i: Tensor, w: Tensor) -> Tensor:
        return fw.grad(lambda w: (F.embedding(i, w, **kwargs) ** 3).sum())(w)

    got = fw.vmap(gradient, axes)(fw.tensor(numbers), fw.tensor(weights))
    for k in range(4):
        want = gradient(
            fw.tensor(numbers[k] if axes[0] == 0 else numbers), fw.tensor(weights[k] if axes[1] == 0 else weights)
        )
        np.testing.assert_allclose(got[k].numpy(), want.numpy(), rtol=1e-12, atol=1e-14)


def test_a_graph_has_one_operation_each_way() -> None:
    program = fw.graph(lambda w: fw.grad(lambda w: (F.embedding(NUMBERS, w) ** 2).sum())(w), fw.tensor(ROWS))
    names = [operation.primitive for operation in program.operations]
    assert names.count("embedding_grad") == 1
    assert not {"getitem_parts", "index_add_parts"} & set(names)


# -- mistakes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("numbers", "wrong"), [([0, 6], 6), ([[-1], [2]], -1), (7, 7)])
def test_numbers_outside_the_table(numbers: Any, wrong: int) -> None:
    layer = nn.Embedding(6, 3)
    message = f"index {wrong} is outside a table of 6 rows; indices are from 0 to 5"
    for given in (numbers, np.array(numbers), fw.tensor(numbers)):
        with pytest.raises(IndexError, match=message):
            layer(given)
    with pytest.raises(IndexError, match=message):
        fw.vmap(layer)(fw.tensor([numbers]))
    with pytest.raises(IndexError, match=message):
        fw.vmap(lambda w, i: F.embedding(i, w), (0, None))(fw.tensor(np.stack([ROWS, ROWS])), fw.tensor(numbers))


def test_on_a_device_only_numbers_from_the_host_are_looked_at(far: str, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = registry.get(far)
    with fw.use_backend(far):
        layer = nn.Embedding(6, 3)
        with pytest.raises(IndexError, match="index 6 is outside a table of 6 rows"):
            layer(np.array([6]))
        numbers = fw.tensor([2, 0])
        reads: list[Any] = []
        array = type(numbers.data)
        for owner, names in ((type(backend), ["to_numpy"]), (array, ["__float__", "__int__", "__bool__"])):
            for name in names:
                read = getattr(owner, name)
                monkeypatch.setattr(owner, name, lambda *a, read=read, **k: reads.append(a) or read(*a, **k))
        layer(numbers)
        assert reads == []


def test_what_is_said_of_other_mistakes() -> None:
    with pytest.raises(DTypeError, match="indices are integers, got float32"):
        nn.Embedding(4, 2)(fw.tensor([1.0]))
    with pytest.raises(DTypeError, match="empty list"):
        nn.Embedding(4, 2)([])
    with pytest.raises(ConfigError, match=r"sparse=True is not offered\. Gradients are dense"):
        nn.Embedding(4, 2, sparse=True)
    with pytest.raises(ConfigError, match="sparse=True is not offered"):
        F.embedding([0], ROWS, sparse=True)
    with pytest.raises(IndexError, match="padding_idx 4 is outside a table of 4 rows"):
        nn.Embedding(4, 2, padding_idx=4)
    with pytest.raises(ConfigError, match="num_embeddings is a number of rows or columns, got 4.0"):
        nn.Embedding(4.0, 2)
    with pytest.raises(ShapeError, match=r"a table of shape \(rows, n\), got shape \(3,\)"):
        F.embedding([0], np.ones(3))
    with pytest.raises(ShapeError, match=r"the weight given has shape \(2, 2\)"):
        nn.Embedding(3, 2, _weight=fw.tensor(np.ones((2, 2))))
    with pytest.raises(ShapeError, match="a table has two axes"):
        nn.Embedding.from_pretrained(np.ones(3))
    assert nn.Embedding(4, 2)(np.zeros((0, 3), np.int64)).shape == (0, 3, 2)


def test_max_norm_needs_a_weight_that_can_be_written() -> None:
    x = fw.tensor(ROWS, requires_grad=True)
    for weight, got in ((x * 2, "a result"), (ROWS, "ndarray")):
        with pytest.raises(ConfigError, match=f"the weight in place.*got {got}"):
            F.embedding([0], weight, max_norm=1.0)
    with pytest.raises(ConfigError, match="got a result"):
        fw.grad(lambda w: F.embedding([0], w, max_norm=1.0).sum())(fw.tensor(ROWS))
    with pytest.raises(GradientError, match="scale them before it"):
        fw.jvp(lambda w: F.embedding([0], w, max_norm=1.0), (fw.tensor(ROWS),), (fw.tensor(ROWS),))
    layer = nn.Embedding(6, 3, max_norm=0.1)
    before = layer.weight.tolist()
    with pytest.raises(GradientError, match="scale them before it"):
        fw.vmap(layer)(fw.tensor(NUMBERS))
    assert layer.weight.tolist() == before


# -- the kernel --------------------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["cpu", "strict"])
@pytest.mark.parametrize("rows", [1, 7, 300, 70_000])
@pytest.mark.parametrize("count", [0, 1, 2, 17, 600])
@pytest.mark.parametrize("width", [0, 1, 5])
@pytest.mark.parametrize("padding_idx", [None, 0])
def test_the_sum_of_gradients(backend: str, rows: int, count: int, width: int, padding_idx: int | None) -> None:
    """Rows named once, a few times and often; more rows than 16 bits count; the gradient in any memory order."""
    rng = np.random.default_rng(rows + count)
    numbers = np.minimum(rng.geometric(0.02, count) - 1, rows - 1) * (1 if rows < 1000 else rows // 300 - 3)
    numbers = np.minimum(numbers, rows - 1)
    g = rng.normal(size=(width, count)).T
    want = np.zeros((rows, width))
    np.add.at(want, numbers, g)
    if padding_idx is not None:
        want[padding_idx] = 0
    b = registry.get(backend)
    ns = namespace_of(b)
    args = b.asarray(g), b.asarray(numbers)
    for got in (
        ns.embedding_grad(*args, rows=rows, padding_idx=padding_idx),
        KERNELS["embedding_grad"](ns, *args, rows, padding_idx),
    ):
        np.testing.assert_allclose(b.to_numpy(got), want, rtol=1e-12, atol=1e-12)
    assert (b.to_numpy(args[0]) == g).all()


def test_the_sum_of_gradients_of_several_axes() -> None:
    ns = namespace_of(registry.get("cpu"))
    g = np.random.default_rng(3).normal(size=(4, 5, 2)).astype(np.float32)
    numbers = np.random.default_rng(3).integers(0, 6, (5, 4)).T  # not contiguous
    got = ns.embedding_grad(g, numbers, 6)
    want = np.zeros((6, 2), np.float32)
    np.add.at(want, numbers, g)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


# -- against PyTorch -------------------------------------------------------------------------------


@pytest.mark.reference
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shape", [(), (5,), (4, 3), (2, 3, 2)])
@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"padding_idx": 2},
        {"padding_idx": -1},
        {"scale_grad_by_freq": True},
        {"scale_grad_by_freq": True, "padding_idx": 1},
        {"max_norm": 1.0},
        {"max_norm": 1.0, "norm_type": 1.0},
        {"max_norm": 0.5, "norm_type": 3.0, "padding_idx": 0},
        {"max_norm": 0.5, "norm_type": float("inf")},
    ],
)
def test_equals_torch(arguments: dict[str, Any], shape: tuple[int, ...], seed: int) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    rng = np.random.default_rng(seed)
    ours, theirs = nn.Embedding(7, 3, **arguments).double(), torch.nn.Embedding(7, 3, **arguments).double()
    assert repr(ours) == repr(theirs)
    ours.load_state_dict({name: value.numpy().copy() for name, value in theirs.state_dict().items()})
    numbers = rng.integers(0, 7, shape)
    y, z = ours(numbers), theirs(torch.tensor(numbers))
    seeds = rng.normal(size=y.shape)
    y.backward(fw.tensor(seeds))
    z.backward(torch.tensor(seeds))
    np.testing.assert_allclose(y.detach().numpy(), z.detach().numpy(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours.weight.grad.numpy(), theirs.weight.grad.numpy(), rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(ours.weight.detach().numpy(), theirs.weight.detach().numpy(), rtol=1e-9, atol=1e-12)
    theirs.load_state_dict({name: torch.tensor(value.numpy()) for name, value in ours.state_dict().items()})
    np.testing.assert_allclose(theirs.weight.detach().numpy(), ours.weight.detach().numpy())


@pytest.mark.reference
def test_from_pretrained_has_torchs_arguments() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    import inspect

    def arguments(f: Any) -> list[tuple[str, Any]]:
        return [(p.name, p.default) for p in inspect.signature(f).parameters.values()]

    assert arguments(nn.Embedding.from_pretrained) == arguments(torch.nn.Embedding.from_pretrained)


def test_weights_of_the_operation_itself() -> None:
    with pytest.raises(ShapeError, match="values of that shape and one axis more"):
        ops.embedding_grad(np.ones((2, 3)), [0, 1, 2], rows=3)
    assert ops.embedding_grad(np.ones((2, 1)), [2, 2], rows=3).tolist() == [[0.0], [0.0], [2.0]]
