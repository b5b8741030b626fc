"""Batch and layer normalisation: running statistics, evaluation, transforms, mistakes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework import nn
from framework.autodiff import Tensor, ops
from framework.errors import ConfigError, GradientError, ShapeError
from framework.nn import functional as F

SHAPES = ((6, 3), (4, 3, 5))


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(1.0, 2.0, shape)


def state(module: nn.Module) -> dict[str, Any]:
    return {name: value.tolist() for name, value in module.state_dict().items()}


# -- what it computes --------------------------------------------------------------------------------


def test_the_statistics_that_run() -> None:
    """After one batch: a tenth of its mean, and of its variance divided by n - 1."""
    layer = nn.BatchNorm1d(2).double()
    x = numbers(5, 2)
    layer(fw.tensor(x))
    np.testing.assert_allclose(layer.running_mean.tolist(), 0.1 * x.mean(axis=0))
    np.testing.assert_allclose(layer.running_var.tolist(), 0.9 + 0.1 * x.var(axis=0, ddof=1))
    assert layer.num_batches_tracked.item() == 1
    assert layer.num_batches_tracked.dtype == "int64"


def test_without_momentum_it_is_the_mean_over_all_batches() -> None:
    layer = nn.BatchNorm1d(3, momentum=None).double()
    batches = [numbers(4, 3, seed=k) for k in range(5)]
    for x in batches:
        layer(fw.tensor(x))
    np.testing.assert_allclose(layer.running_mean.tolist(), np.mean([x.mean(axis=0) for x in batches], axis=0))
    np.testing.assert_allclose(layer.running_var.tolist(), np.mean([x.var(axis=0, ddof=1) for x in batches], axis=0))


@pytest.mark.parametrize("backend", ["cpu", "strict"])
def test_evaluation_uses_them_and_leaves_them_alone(backend: str) -> None:
    with fw.use_backend(backend):
        layer = nn.BatchNorm1d(3).double()
        for k in range(3):
            layer(fw.tensor(numbers(8, 3, seed=k)))
        layer.weight.assign([1.0, 2.0, 3.0])
        layer.bias.assign([0.5, 0.0, -1.0])
        before = state(layer.eval())
        x = numbers(1, 3, 4)  # one sample is enough
        out = layer(fw.tensor(x))
    mean, var = (np.array(before[f"running_{name}"])[:, None] for name in ("mean", "var"))
    want = (x - mean) / np.sqrt(var + 1e-5) * np.array([[1.0], [2.0], [3.0]]) + np.array([[0.5], [0.0], [-1.0]])
    np.testing.assert_allclose(out.detach().numpy() if backend == "cpu" else out.tolist(), want, rtol=1e-12)
    assert state(layer) == before


def test_running_statistics_are_outside_of_every_derivative() -> None:
    layer = nn.BatchNorm1d(3).double()
    x = fw.tensor(numbers(5, 3), requires_grad=True)
    layer(x).sum().backward()
    assert not any(buffer.requires_grad for buffer in layer.buffers())
    once = state(layer)
    plain = fw.tensor(numbers(5, 3))

    def loss(x: Tensor) -> Tensor:
        return (layer(x) ** 3).sum()

    for transform in (
        lambda: fw.grad(loss)(plain),
        lambda: fw.jvp(loss, (plain,), (plain,)),
        lambda: fw.hvp(loss, (plain,), (plain,)),
        lambda: fw.vmap(lambda t: fw.jvp(loss, (plain,), (t,))[1])(fw.tensor(numbers(4, 5, 3))),
        lambda: fw.no_grad()(loss)(plain),
    ):
        layer.reset_running_stats()
        transform()
        assert state(layer) == once
        assert all(type(buffer) is Tensor and buffer._level is None for buffer in layer.buffers())


def test_they_run_under_a_tape_and_under_no_grad() -> None:
    layer, other = nn.BatchNorm1d(2).double(), nn.BatchNorm1d(2).double()
    x = fw.tensor(numbers(4, 2))
    with fw.no_grad():
        layer(x)
    with fw.GradientTape() as tape:
        tape.watch(x)
        y = (other(x) ** 3).sum()
    assert tape.gradient(y, x).shape == (4, 2)
    assert state(layer) == state(other)
    assert layer.num_batches_tracked.item() == 1


def test_a_graph_kept_from_before_is_not_disturbed() -> None:
    """Statistics are replaced, not overwritten: what an earlier evaluation keeps stays right."""
    layer = nn.BatchNorm1d(3).double()
    layer(fw.tensor(numbers(6, 3)))
    saved = layer.running_mean.detach()
    values = saved.tolist()
    x = fw.tensor(numbers(2, 3, seed=1), requires_grad=True)
    y = layer.eval()(x)
    layer.train()(fw.tensor(numbers(6, 3, seed=2)))
    y.sum().backward()
    np.testing.assert_allclose(x.grad.tolist(), np.tile(1 / np.sqrt(np.array(_var_before(layer)) + 1e-5), (2, 1)))
    assert saved.tolist() == values
    assert layer.running_mean.tolist() != values


def _var_before(layer: nn.BatchNorm1d) -> Any:
    """The running variance before the last batch of `numbers(6, 3, seed=2)`."""
    return (np.array(layer.running_var.tolist()) - 0.1 * numbers(6, 3, seed=2).var(axis=0, ddof=1)) / 0.9


def test_tracking_can_be_left_out() -> None:
    layer = nn.BatchNorm1d(3, track_running_stats=False).double()
    assert list(layer.state_dict()) == ["weight", "bias"]
    x = fw.tensor(numbers(5, 3))
    assert layer(x).tolist() == layer.eval()(x).tolist()


def test_reset() -> None:
    layer = nn.BatchNorm1d(3)
    fresh = state(layer)
    layer(fw.tensor(numbers(4, 3).astype(np.float32)))
    layer.weight.assign([2.0, 2.0, 2.0])
    held = layer.running_mean
    layer.reset_parameters()
    assert state(layer) == fresh
    assert layer.running_mean is held


def test_copies_have_statistics_of_their_own() -> None:
    layer = nn.BatchNorm1d(2)
    twin = copy.deepcopy(layer)
    twin(fw.tensor(numbers(4, 2).astype(np.float32)))
    assert state(layer) == state(nn.BatchNorm1d(2))
    assert state(twin) != state(layer)


def test_dtypes_of_a_layer_that_is_moved() -> None:
    layer = nn.BatchNorm1d(2).to("strict").double()
    assert [b.dtype.name for b in layer.buffers()] == ["float64", "float64", "int64"]
    assert {b.backend.name for b in layer.buffers()} == {"strict"}
    layer(fw.tensor(numbers(4, 2), backend="strict"))
    assert {b.backend.name for b in layer.buffers()} == {"strict"}


def test_a_layer_of_float32_on_float64_keeps_its_statistics_dtype() -> None:
    layer = nn.BatchNorm1d(2)
    assert layer(fw.tensor(numbers(4, 2))).dtype == "float64"
    assert layer.running_mean.dtype == "float32"


@pytest.mark.parametrize("backend", ["cpu", "strict"])
@pytest.mark.parametrize("affine", [True, False])
def test_integers_are_brought_to_the_default_dtype(backend: str, affine: bool) -> None:
    x = np.array([[0, 4], [2, 255]], np.uint8)
    with fw.use_backend(backend):
        for layer in (nn.BatchNorm1d(2, affine=affine), nn.LayerNorm(2, elementwise_affine=affine)):
            out = layer(fw.tensor(x))
            assert out.dtype == "float32"
            np.testing.assert_allclose(out.tolist(), layer(fw.tensor(x.astype(np.float32))).tolist(), rtol=1e-6)


def test_weights_that_do_not_fit_the_operation() -> None:
    for fn in (ops.batch_norm, ops.layer_norm):
        with pytest.raises(ShapeError, match=r"broadcast to the input's shape \(3,\), got \(2, 3\)"):
            fn(np.ones(3), np.ones((2, 3)), axis=-1)


@pytest.mark.parametrize("training", [True, False])
def test_inputs_are_not_written(training: bool) -> None:
    x, held = numbers(4, 3), numbers(4, 3)
    layer = nn.BatchNorm1d(3).double().train(training)
    given = ops.asarray(x)
    given.requires_grad = True
    layer(given).sum().backward()
    nn.LayerNorm(3).double()(given).sum().backward()
    np.testing.assert_array_equal(x, held)


# -- derivatives and batches ---------------------------------------------------------------------------


def modules() -> dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]]:
    return {
        "batch": (lambda: nn.BatchNorm1d(3).double(), (4, 3)),
        "batch of sequences": (lambda: nn.BatchNorm1d(2).double(), (2, 2, 3)),
        "batch, evaluated": (lambda: nn.BatchNorm1d(3).double().eval(), (2, 3)),
        "layer": (lambda: nn.LayerNorm(4).double(), (2, 4)),
        "layer, two axes": (lambda: nn.LayerNorm((2, 3)).double(), (2, 2, 3)),
    }


@pytest.mark.parametrize("name", modules())
def test_second_derivatives(name: str) -> None:
    """Of input, weight and bias, in all four mixes of modes, against differences of the first ones."""
    make, shape = modules()[name]
    layer = make()
    points = [fw.tensor(numbers(*shape)), *(fw.tensor(numbers(*p.shape, seed=9)) for p in layer.parameters())]
    seed = fw.tensor(numbers(*shape, seed=5))

    def run(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        layer.__dict__.update(weight=weight, bias=bias)
        return layer(x)

    assert fw.gradcheck(run, points)
    assert fw.gradcheck(lambda *a: fw.vjp(run, *a)[1](seed), points)
    assert fw.gradcheck(lambda *a: fw.jvp(run, a, points)[1], points)


@pytest.mark.parametrize("name", modules())
def test_gradients_by_sample_equal_a_loop(name: str) -> None:
    make, shape = modules()[name]
    layer = make()
    if "eval" not in name and isinstance(layer, nn.BatchNorm1d):
        layer.running_mean = layer.running_var = layer.num_batches_tracked = None
    stacked = fw.tensor(numbers(3, *shape))

    def gradient(x: Tensor) -> Tensor:
        return fw.grad(lambda x: (layer(x) ** 3).sum())(x)

    want = np.stack([gradient(stacked[i]).detach().numpy() for i in range(3)])
    np.testing.assert_allclose(fw.vmap(gradient)(stacked).detach().numpy(), want, rtol=1e-10, atol=1e-12)


def test_statistics_that_differ_by_sample_are_refused_and_nothing_has_changed() -> None:
    layer = nn.BatchNorm1d(3).double()
    before = state(layer)
    x = fw.tensor(numbers(2, 4, 3))
    for fn in (layer, fw.grad(lambda x: layer(x).sum()), lambda x: fw.jvp(layer, (x,), (x,))[1]):
        with pytest.raises(GradientError, match=r"one running_mean cannot follow them\s+all\. Call eval\(\)"):
            fw.vmap(fn)(x)
        assert state(layer) == before
    assert fw.vmap(layer.eval())(x).shape == (2, 4, 3)


def test_a_batch_that_is_the_same_for_every_sample_moves_them_once() -> None:
    layer = nn.BatchNorm1d(3).double()
    x = fw.tensor(numbers(4, 3))
    fw.vmap(lambda c: layer(x) * c)(fw.tensor([1.0, 2.0]))
    assert layer.num_batches_tracked.item() == 1


def test_an_ensemble_has_statistics_for_each_member() -> None:
    """Statistics that are batched themselves can follow batches that differ."""
    x = fw.tensor(numbers(2, 5, 3))
    means, variances = fw.tensor(np.zeros((2, 3))), fw.tensor(np.ones((2, 3)))

    def member(x: Tensor, mean: Tensor, var: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return F.batch_norm(x, mean, var, training=True), mean, var

    _, mean, var = fw.vmap(member)(x, means, variances)
    np.testing.assert_allclose(mean.numpy(), 0.1 * x.numpy().mean(axis=1))
    np.testing.assert_allclose(var.numpy(), 0.9 + 0.1 * x.numpy().var(axis=1, ddof=1))


# -- mistakes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 3), r"BatchNorm1d\(3\): in training each channel needs more than one value .* shape \(1, 3\)"),
        ((0, 3), r"more than one value"),
        ((1, 3, 1), r"more than one value"),
        ((3,), r"got input of shape \(3,\); expected \(N, C\) or \(N, C, L\) with C = 3"),
        ((2, 3, 4, 5), r"got input of shape \(2, 3, 4, 5\)"),
        ((2, 4), r"with C = 3"),
        ((2, 5, 3), r"Channels come second: permute its axes, or reshape\(-1, 3\)"),
    ],
)
def test_shapes(shape: tuple[int, ...], message: str) -> None:
    layer = nn.BatchNorm1d(3)
    before = state(layer)
    with pytest.raises(ShapeError, match=message):
        layer(fw.tensor(np.ones(shape, np.float32)))
    assert state(layer) == before


def test_the_function_says_what_is_wrong() -> None:
    x, three = np.ones((4, 3)), np.ones(3)
    with pytest.raises(ConfigError, match="needs running_mean and running_var"):
        F.batch_norm(x, None, None)
    with pytest.raises(ShapeError, match=r"has 3 channels, so weight has shape \(3,\), got \(4,\)"):
        F.batch_norm(x, None, None, np.ones(4), training=True)
    with pytest.raises(ShapeError, match=r"running_var has shape \(3,\), got \(1, 3\)"):
        F.batch_norm(x, three, np.ones((1, 3)))
    with pytest.raises(ConfigError, match="moved in place, so they are Tensors"):
        F.batch_norm(x, three, three, training=True)
    with pytest.raises(ShapeError, match=r"the input has shape \(N, C\)"):
        F.batch_norm(three, None, None, training=True)
    assert F.batch_norm(x, three, three).shape == (4, 3)  # host arrays will do where nothing is moved


def test_layer_norm_says_what_is_wrong() -> None:
    with pytest.raises(ShapeError, match=r"over axes of shape \(4,\): got input of shape \(4, 3\), which must end in"):
        nn.LayerNorm(4)(np.ones((4, 3), np.float32))
    with pytest.raises(ShapeError, match="weight has that shape"):
        F.layer_norm(np.ones((2, 3)), (3,), np.ones(2))
    with pytest.raises(ShapeError, match="must end in it"):
        F.layer_norm(np.ones(3), ())
    with pytest.raises(ConfigError, match="normalized_shape"):
        nn.LayerNorm(2.5)


@pytest.mark.parametrize("kwargs", [{"num_features": -1}, {"num_features": 2.0}, {"num_features": 2, "momentum": 2}])
def test_arguments(kwargs: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=r"BatchNorm1d: (num_features|momentum)"):
        nn.BatchNorm1d(**kwargs)


# -- against PyTorch -------------------------------------------------------------------------------


def arrays_of(module: Any) -> dict[str, np.ndarray]:
    return {name: value.detach().numpy() for name, value in module.state_dict().items()}


@pytest.mark.reference
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("momentum", [0.1, 0.7, None, 0.0, 1.0])
@pytest.mark.parametrize("affine", [True, False])
@pytest.mark.parametrize("tracks", [True, False])
@pytest.mark.parametrize("seed", range(2))
def test_training_then_evaluation_equal_torchs(
    shape: tuple[int, ...], momentum: float | None, affine: bool, tracks: bool, seed: int
) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    arguments = {"eps": 1e-3, "momentum": momentum, "affine": affine, "track_running_stats": tracks}
    ours, theirs = nn.BatchNorm1d(3, **arguments).double(), torch.nn.BatchNorm1d(3, **arguments).double()
    rng = np.random.default_rng(seed)
    start = {
        name: rng.uniform(0.5, 2, value.shape) if value.shape else np.array(2)
        for name, value in arrays_of(theirs).items()
    }
    theirs.load_state_dict({name: torch.tensor(value) for name, value in start.items()})
    ours.load_state_dict(start)
    for step in range(6):
        if step == 3:
            ours.eval(), theirs.eval()
        a = rng.normal(1, 3, shape)
        x, z = fw.tensor(a, requires_grad=True), torch.tensor(a, requires_grad=True)
        seeds = rng.normal(size=shape)
        y, w = ours(x), theirs(z)
        ours.zero_grad(), theirs.zero_grad()
        y.backward(fw.tensor(seeds))
        w.backward(torch.tensor(seeds))
        np.testing.assert_allclose(y.detach().numpy(), w.detach().numpy(), rtol=1e-9, atol=1e-11)
        np.testing.assert_allclose(x.grad.numpy(), z.grad.numpy(), rtol=1e-9, atol=1e-11)
        for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
            np.testing.assert_allclose(p.grad.numpy(), q.grad.numpy(), rtol=1e-9, atol=1e-11)
        for (name, s), (named, t) in zip(arrays_of(ours).items(), arrays_of(theirs).items(), strict=True):
            assert name == named
            np.testing.assert_allclose(s, t, rtol=1e-9, atol=1e-12)
    back = torch.nn.BatchNorm1d(3, **arguments).double().eval()
    back.load_state_dict({name: torch.tensor(value) for name, value in arrays_of(ours).items()})
    np.testing.assert_allclose(back(z).detach().numpy(), y.detach().numpy(), rtol=1e-9, atol=1e-11)


@pytest.mark.reference
@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("rank", [2, 3, 4, 5])
def test_the_function_takes_any_number_of_axes(training: bool, rank: int) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x = numbers(3, 2, *(2, 3, 2)[: rank - 2])
    rest = [np.array(v) for v in ([0.5, 1.0], [2.0, 3.0], [1.5, -1.0], [0.0, 1.0])]
    mean, var, weight, bias = (fw.tensor(v) for v in rest)
    theirs = [torch.tensor(v) for v in rest]
    got = F.batch_norm(x, mean, var, weight, bias, training, 0.3, 1e-2)
    want = torch.nn.functional.batch_norm(torch.tensor(x), *theirs, training, 0.3, 1e-2)
    np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(mean.numpy(), theirs[0].numpy(), rtol=1e-9)
    np.testing.assert_allclose(var.numpy(), theirs[1].numpy(), rtol=1e-9)


@pytest.mark.reference
def test_torch_refuses_the_same_batches() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for shape in ((1, 3), (1, 3, 1)):
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            torch.nn.BatchNorm1d(3)(torch.ones(shape))
        with pytest.raises(ValueError, match="more than one value"):
            nn.BatchNorm1d(3)(np.ones(shape, np.float32))
