"""Convolution and pooling: geometry, layouts, transforms, mistakes; generated cases against PyTorch."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import framework as fw
from framework import nn
from framework.autodiff import Tensor, ops
from framework.errors import ConfigError, ShapeError
from framework.nn import functional as F


def numbers(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape)


# -- what is computed --------------------------------------------------------------------------------


def test_a_kernel_of_one_is_a_linear_layer() -> None:
    x, w, b = numbers(3, 4, 2, 5), numbers(6, 4, 1, 1, seed=1), numbers(6, seed=2)
    got = F.conv2d(x, w, b).numpy()
    want = np.einsum("nchw,oc->nohw", x, w[:, :, 0, 0]) + b[:, None, None]
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_the_transpose_is_the_adjoint() -> None:
    """The product of results and g is that of images and the transposed convolution of g."""
    for stride, padding, dilation, groups in ((1, 0, 1, 1), (2, 1, 1, 2), ((3, 2), (0, 1), 1, 1), (1, 2, (2, 1), 2)):
        x, w = numbers(2, 4, 7, 6), numbers(6, 4 // groups, 3, 2, seed=1)
        y = F.conv2d(x, w, None, stride, padding, dilation, groups)
        g = numbers(*y.shape, seed=2)
        layer = nn.ConvTranspose2d(6, 4, (3, 2), stride, padding, groups=groups, bias=False, dilation=dilation).double()
        layer.weight.assign(w)
        back = layer(fw.tensor(g), output_size=(7, 6)) if stride != 1 else layer(fw.tensor(g))
        np.testing.assert_allclose((y.numpy() * g).sum(), (back.detach().numpy() * x).sum(), rtol=1e-10)


def test_same_padding_keeps_the_size() -> None:
    for kernel, dilation in (((3, 4), 1), (2, 3), ((1, 5), (2, 2))):
        layer = nn.Conv2d(2, 3, kernel, padding="same", dilation=dilation)
        assert layer(numbers(1, 2, 9, 8).astype(np.float32)).shape == (1, 3, 9, 8)


@pytest.mark.parametrize("groups", [1, 2, 6])
@pytest.mark.parametrize("layout", ["C", "channels last", "transposed", "every second", "read-only"])
def test_every_layout_gives_the_same(layout: str, groups: int) -> None:
    x = numbers(3, 6, 8, 7)
    w, g = numbers(6, 6 // groups, 3, 2, seed=1), numbers(3, 6, 6, 6, seed=2)

    def arranged(a: np.ndarray) -> np.ndarray:
        if layout == "channels last":
            return a.transpose(0, 2, 3, 1).copy().transpose(0, 3, 1, 2)
        if layout == "transposed":
            return a.T.copy().T
        if layout == "every second":
            wide = np.zeros((*a.shape[:3], 2 * a.shape[3]))
            wide[..., ::2] = a
            return wide[..., ::2]
        a = a.copy()
        a.flags.writeable = layout != "read-only"
        return a

    def results(x: np.ndarray, w: np.ndarray, g: np.ndarray) -> list[np.ndarray]:
        given = [ops.asarray(t) for t in (x, w)]
        for t in given:
            t.requires_grad = True
        y = F.conv2d(*given, groups=groups)
        pooled = F.max_pool2d(y, 2)
        y.backward(ops.asarray(g), retain_graph=True)
        pooled.sum().backward()
        return [y.detach().numpy(), pooled.detach().numpy(), *(t.grad.numpy() for t in given)]

    for a, b in zip(results(arranged(x), arranged(w), arranged(g)), results(x, w, g)):
        np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(("n", "size", "channels"), [(40, 24, 3), (3, 90, 16), (70, 6, 20), (1, 300, 1)])
def test_many_blocks_give_what_one_gives(n: int, size: int, channels: int) -> None:
    """Arrays that are larger than what is in work at a time: equal to their parts."""
    x, w = numbers(n, channels, size, size).astype(np.float32), numbers(8, channels, 3, 3, seed=1).astype(np.float32)

    def run(x: np.ndarray) -> tuple[np.ndarray, ...]:
        given, weight = fw.tensor(x, requires_grad=True), fw.tensor(w, requires_grad=True)
        out = F.max_pool2d(F.relu(F.conv2d(given, weight, padding=1)), 2)
        out.sum().backward()
        return out.detach().numpy(), given.grad.numpy(), weight.grad.numpy()

    out, gx, gw = run(x)
    parts = [run(x[i : i + 1]) for i in range(n)]
    np.testing.assert_allclose(out, np.concatenate([p[0] for p in parts]), rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(gx, np.concatenate([p[1] for p in parts]), rtol=1e-4, atol=1e-4)
    total = sum(p[2].astype(np.float64) for p in parts)
    np.testing.assert_allclose(gw, total, rtol=1e-3, atol=1e-3 * np.abs(total).max())


def test_ties_go_to_the_first_place_row_by_row() -> None:
    for backend in ("cpu", "strict"):
        x = fw.tensor(np.zeros((1, 4, 4)), backend=backend, requires_grad=True)
        F.max_pool2d(x, 2, 1).sum().backward()
        want = np.zeros((4, 4))
        want[:3, :3] = 1
        assert np.array(x.grad.tolist())[0].tolist() == want.tolist()


def test_a_nan_is_the_largest() -> None:
    x = numbers(1, 4, 4)
    x[0, 1, 1] = np.nan
    out = F.max_pool2d(x, 2).numpy()
    assert np.isnan(out).sum() == 1
    assert np.isnan(out[0, 0, 0])


def test_integers_are_pooled_in_the_default_dtype() -> None:
    x = np.arange(16, dtype=np.uint8).reshape(1, 4, 4)
    assert F.max_pool2d(x, 2).tolist() == [[[5.0, 7.0], [13.0, 15.0]]]
    assert F.avg_pool2d(x, 2).tolist() == [[[2.5, 4.5], [10.5, 12.5]]]
    assert F.avg_pool2d(x, 2).dtype == "float32"


def test_indices_are_of_the_largest_elements() -> None:
    x = numbers(2, 3, 6, 5)
    for backend in ("cpu", "strict"):
        with fw.use_backend(backend):
            out, places = F.max_pool2d(fw.tensor(x), 3, 2, 1, return_indices=True)
        assert places.dtype == "int64"
        flat = x.reshape(2, 3, 30)
        found = np.take_along_axis(flat, np.array(places.tolist()).reshape(2, 3, -1), axis=-1)
        assert found.reshape(out.shape).tolist() == out.tolist()


# -- transforms --------------------------------------------------------------------------------------


@pytest.mark.parametrize("axes", [(0, None), (None, 0), (0, 0), (1, 2)])
@pytest.mark.parametrize("groups", [1, 2])
def test_gradients_by_sample_equal_a_loop(axes: tuple[Any, Any], groups: int) -> None:
    xs, ws = numbers(3, 2, 4, 5, 4), numbers(3, 6, 4 // groups, 2, 3, seed=1)
    moved = [
        fw.tensor(a[0] if axis is None else np.ascontiguousarray(np.moveaxis(a, 0, axis)))
        for a, axis in ((xs, axes[0]), (ws, axes[1]))
    ]

    def gradient(x: Tensor, w: Tensor) -> tuple[Tensor, Tensor]:
        return fw.grad(lambda x, w: (F.conv2d(x, w, padding=1, groups=groups) ** 3).sum(), argnums=(0, 1))(x, w)

    got = fw.vmap(gradient, axes)(*moved)
    for k in range(3):
        want = gradient(*(fw.tensor(a[0 if axis is None else k]) for a, axis in zip((xs, ws), axes)))
        for a, b in zip(got, want):
            np.testing.assert_allclose(a[k].numpy(), b.numpy(), rtol=1e-9, atol=1e-11)


def test_second_derivatives_of_a_small_network() -> None:
    w1, w2 = fw.tensor(numbers(2, 1, 2, 2)), fw.tensor(numbers(1, 2, 2, 2, seed=1))
    x = fw.tensor(numbers(1, 1, 5, 5, seed=2))

    def loss(w1: Tensor, w2: Tensor) -> Tensor:
        hidden = F.avg_pool2d(ops.tanh(F.conv2d(x, w1, padding=1)), 2)
        return (F.conv_transpose2d(hidden, ops.swapaxes(w2, 0, 1), stride=2) ** 2).sum()

    assert fw.gradcheck(lambda *w: fw.grad(loss, argnums=(0, 1))(*w), [w1, w2])
    assert fw.gradcheck(lambda *w: fw.jvp(loss, w, (w1, w2))[1], [w1, w2])


def test_a_graph_has_one_operation_each() -> None:
    x, w, b = (fw.tensor(a) for a in (numbers(2, 2, 4, 4), numbers(3, 2, 3, 3), numbers(3)))

    def fn(x: Tensor, w: Tensor, b: Tensor) -> Any:
        return fw.grad(lambda *a: (F.max_pool2d(F.conv2d(*a), 2) ** 2).sum(), argnums=(0, 1, 2))(x, w, b)

    names = [operation.primitive for operation in fw.graph(fn, x, w, b).operations]
    for name in ("conv2d", "conv2d_dx", "conv2d_dw", "max_pool2d", "max_pool2d_put"):
        assert names.count(name) == 1, name


def test_inputs_are_not_written() -> None:
    x, w = numbers(2, 2, 6, 6), numbers(2, 2, 3, 3)
    held = x.copy(), w.copy()
    given = ops.asarray(x), ops.asarray(w)
    for t in given:
        t.requires_grad = True
    y = F.max_pool2d(F.conv2d(*given, padding=1), 3, 1, 1, return_indices=True)[0] + F.avg_pool2d(given[0], 3, 1, 1)
    (y + F.adaptive_avg_pool2d(given[0], (6, 6))).sum().backward()
    for a, b in zip((x, w), held):
        np.testing.assert_array_equal(a, b)


# -- mistakes ----------------------------------------------------------------------------------------

LAYER = {"in_channels": 2, "out_channels": 4, "kernel_size": 3}


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((5, 5), r"Conv2d\(2, 4\): got input of shape \(5, 5\); expected \(N, 2, H, W\) or \(2, H, W\)"),
        ((3, 1, 5, 5), r"Conv2d\(2, 4\): got input of shape \(3, 1, 5, 5\)"),
        ((3, 5, 5, 2), r"Channels come second: x\.permute\(0, 3, 1, 2\)"),
        (
            (3, 2, 2, 9),
            r"a kernel of shape \(3, 3\) with dilation \(1, 1\) does not fit into images of shape \(3, 2, 2, 9",
        ),
    ],
)
def test_shapes(shape: tuple[int, ...], message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        nn.Conv2d(2, 4, 3)(np.ones(shape, np.float32))


def test_other_shapes() -> None:
    with pytest.raises(ShapeError, match=r"Give them a channel: x\.reshape\(8, 1, 28, 28\)"):
        nn.Conv2d(1, 4, 3)(np.ones((8, 28, 28), np.float32))
    with pytest.raises(ShapeError, match=r"Conv1d\(2, 4\): .*expected \(N, 2, L\) or \(2, L\)"):
        nn.Conv1d(2, 4, 3)(np.ones((3, 4), np.float32))
    with pytest.raises(ShapeError, match="kernel of length 3 with dilation 2 does not fit"):
        nn.Conv1d(2, 4, 3, dilation=2)(np.ones((2, 4), np.float32))
    with pytest.raises(ShapeError, match=r"output_size is between \(9, 9\) and \(10, 10\), got \(11, 9\)"):
        nn.ConvTranspose2d(2, 4, 3, 2)(np.ones((1, 2, 4, 4), np.float32), output_size=(11, 9))
    with pytest.raises(ShapeError, match="would give an output of size"):
        F.conv_transpose2d(np.ones((1, 1, 1, 1)), np.ones((1, 1, 2, 2)), padding=1)
    with pytest.raises(ShapeError, match="bias has shape"):
        F.conv_transpose2d(np.ones((1, 1, 1, 1)), np.ones((1, 1, 2, 2)), np.ones(2))
    with pytest.raises(ShapeError, match="has a bias of shape"):
        F.conv2d(np.ones((1, 1, 3, 3)), np.ones((2, 1, 2, 2)), np.ones(3))
    with pytest.raises(ShapeError, match=r"takes 3\. Channels come second"):
        F.conv2d(np.ones((1, 5, 5, 3)), np.ones((2, 3, 2, 2)))
    with pytest.raises(ShapeError, match="the weight has 4 axes"):
        F.conv2d(np.ones((1, 5, 5, 3)), np.ones((2, 3, 2)))
    for pool in (nn.MaxPool2d(2), nn.AvgPool2d(2), nn.AdaptiveAvgPool2d(2)):
        with pytest.raises(ShapeError, match=r"got input of shape \(4, 4\); expected \(N, C, H, W\) or \(C, H, W\)"):
            pool(np.ones((4, 4), np.float32))
    for pool in (nn.MaxPool2d(3), nn.AvgPool2d(3)):
        with pytest.raises(ShapeError, match=r"a window of shape \(3, 3\) .* does not fit into its last two axes"):
            pool(np.ones((1, 2, 4), np.float32))
    with pytest.raises(ShapeError, match="nothing to take means of"):
        nn.AdaptiveAvgPool2d(2)(np.ones((1, 0, 4), np.float32))


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"in_channels": 0}, "in_channels is a number of channels, got 0"),
        ({"out_channels": 2.0}, "out_channels is a number of channels"),
        ({"groups": 3}, "groups divides in_channels and out_channels"),
        ({"kernel_size": 0}, "kernel_size is an integer, or 2 of them, from 1 on; got 0"),
        ({"kernel_size": (1, 2, 3)}, "kernel_size is an integer, or 2 of them"),
        ({"stride": 0}, "stride is an integer"),
        ({"padding": -1}, "padding is an integer, or 2 of them, from 0 on"),
        ({"padding": "full"}, "padding is a number for each axis, 'valid' or 'same', got 'full'"),
        ({"padding": "same", "stride": 2}, "padding='same' needs stride 1"),
        ({"padding_mode": "reflct"}, r"padding_mode is one of .*Did you mean 'reflect'\?"),
    ],
)
def test_arguments(kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=f"Conv2d: {message}"):
        nn.Conv2d(**{**LAYER, **kwargs})


def test_other_arguments() -> None:
    with pytest.raises(ConfigError, match="what is padded are zeros"):
        nn.ConvTranspose2d(2, 4, 3, padding_mode="reflect")
    with pytest.raises(ConfigError, match="output_padding is smaller than stride or dilation"):
        nn.ConvTranspose2d(2, 4, 3, output_padding=1)(np.ones((1, 2, 4, 4), np.float32))
    with pytest.raises(ConfigError, match="padding is at most half of the kernel"):
        F.max_pool2d(np.ones((1, 4, 4)), 2, padding=2)
    with pytest.raises(ConfigError, match="divisor_override is not zero"):
        F.avg_pool2d(np.ones((1, 4, 4)), 2, divisor_override=0)
    with pytest.raises(ConfigError, match="output_size is a number or two"):
        F.adaptive_avg_pool2d(np.ones((1, 4, 4)), (1, 2, 3))
    with pytest.raises(ConfigError, match="MaxPool2d: kernel_size is an integer"):
        nn.MaxPool2d(0)
    with pytest.raises(ConfigError, match="groups is a divisor"):
        F.conv2d(np.ones((1, 2, 4, 4)), np.ones((3, 1, 2, 2)), groups=2)
    with pytest.raises(ConfigError, match="stride, dilation and groups are at least 1"):
        ops.conv2d(np.ones((1, 2, 4, 4)), np.ones((3, 2, 2, 2)), stride=(0, 1))
    with pytest.raises(ConfigError, match="kernel, stride and dilation are at least 1"):
        ops.max_pool2d(np.ones((4, 4)), kernel=(2, 2), stride=(0, 1))
    with pytest.raises(ShapeError, match="gives results of shape"):
        ops.conv2d_dx(np.ones((1, 2, 4, 4)), np.ones((2, 1, 2, 2)), size=(4, 4))
    with pytest.raises(ShapeError, match="are not those of images"):
        ops.conv2d_dw(np.ones((1, 2, 4, 4)), np.ones((1, 2, 4, 4)), kernel=(2, 2))
    with pytest.raises(ShapeError, match="four axes"):
        ops.conv2d(np.ones((2, 4, 4)), np.ones((3, 2, 2, 2)))
    with pytest.raises(ShapeError, match="the last two axes"):
        ops.window_sum(np.ones(4), kernel=(1, 1), stride=(1, 1))


# -- against PyTorch: generated ------------------------------------------------------------------------


def _geometry(rng: np.random.Generator) -> dict[str, Any]:
    def pair(low: int, high: int) -> Any:
        return int(rng.integers(low, high)) if rng.random() < 0.5 else tuple(int(n) for n in rng.integers(low, high, 2))

    return {"kernel_size": pair(1, 4), "stride": pair(1, 4), "padding": pair(0, 3), "dilation": pair(1, 3)}


def _case(seed: int) -> tuple[str, tuple[Any, ...], dict[str, Any], tuple[int, ...]]:
    """A module by name, its arguments, and the shape of its input."""
    rng = np.random.default_rng(seed)
    name = ("Conv2d", "ConvTranspose2d", "Conv1d", "MaxPool2d", "AvgPool2d", "AdaptiveAvgPool2d")[seed % 6]
    groups = int(rng.integers(1, 4))
    channels = groups * int(rng.integers(1, 4)), groups * int(rng.integers(1, 4))
    kwargs = _geometry(rng)
    lead = (int(rng.integers(0, 4)),) if rng.random() < 0.8 else ()
    size = tuple(int(n) for n in rng.integers(9, 13, 2))
    if name.startswith("Conv"):
        kwargs |= {"groups": groups, "bias": bool(rng.random() < 0.7)}
        if name == "ConvTranspose2d":
            steps = np.broadcast_to(kwargs["stride"], 2)
            kwargs["output_padding"] = tuple(int(rng.integers(0, s)) for s in steps)
        if name == "Conv1d":
            kwargs = {k: v[0] if isinstance(v, tuple) else v for k, v in kwargs.items()}
            size = size[:1]
        return name, channels, kwargs, (*lead, channels[0], *size)
    shape = (*(lead or ()), channels[0], *size)
    if name == "AdaptiveAvgPool2d":
        return name, (tuple(None if n == 0 else int(n) for n in rng.integers(0, 15, 2)),), {}, shape
    kernel = np.broadcast_to(kwargs["kernel_size"], 2)
    kwargs["padding"] = tuple(int(rng.integers(0, k // 2 + 1)) for k in kernel)
    kwargs["ceil_mode"] = bool(rng.random() < 0.5)
    if name == "AvgPool2d":
        del kwargs["dilation"]
        kwargs["count_include_pad"] = bool(rng.random() < 0.5)
        kwargs["divisor_override"] = 3 if rng.random() < 0.2 else None
    return name, (), kwargs, shape


@pytest.mark.reference
@pytest.mark.parametrize("seed", range(240))
def test_generated_cases_equal_torch(seed: int) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    name, args, kwargs, shape = _case(seed)
    dtype, tolerance = ("float32", 2e-4) if seed % 4 == 3 else ("float64", 1e-9)
    theirs = getattr(torch.nn, name)(*args, **kwargs).to(getattr(torch, dtype))
    ours = getattr(nn, name)(*args, **kwargs).to(dtype)
    ours.load_state_dict({k: v.numpy() for k, v in theirs.state_dict().items()})
    a = np.random.default_rng(seed + 1).normal(size=shape).astype(dtype)
    if seed % 5 == 0:  # ties
        a = a.round()
    x, z = fw.tensor(a, requires_grad=True), torch.tensor(a, requires_grad=True)
    try:
        w = theirs(z)
    except RuntimeError as error:  # no batch, which some of torch's take and others do not
        assert "numel" in str(error) or "non-zero" in str(error) or "non-empty" in str(error), error
        return
    y = ours(x)
    assert y.shape == tuple(w.shape)
    seeds = np.random.default_rng(seed + 2).normal(size=y.shape).astype(dtype)
    y.backward(fw.tensor(seeds))
    w.backward(torch.tensor(seeds))
    pairs = [(y.detach(), w.detach()), (x.grad, z.grad)]
    pairs += [(p.grad, q.grad) for p, q in zip(ours.parameters(), theirs.parameters(), strict=True)]
    for got, want in pairs:
        assert got.dtype == dtype
        np.testing.assert_allclose(
            got.numpy(), want.numpy(), rtol=tolerance, atol=tolerance / 100 if tolerance < 1e-6 else 1e-4
        )
    assert repr(ours) == repr(theirs)
