"""Every test of the conformance kit fails a backend that is wrong in just what it is about."""

from __future__ import annotations

import inspect
from functools import partial

import numpy as np
import pytest
import streamed_attention
from fw_cpu import CpuBackend

import framework as fw
from framework.autodiff import ops
from framework.backend import KERNELS, Backend, registry
from framework.backend import dtypes as dt
from framework.testing import BackendConformance


@pytest.fixture
def stand_in(monkeypatch):
    """Makes a backend that takes the place of `cpu`, with other attributes."""

    def make(attributes: dict) -> CpuBackend:
        made = type("StandIn", (CpuBackend,), attributes)()
        monkeypatch.setitem(registry._instances, "cpu", made)
        return made

    return make


def asarray(changed, keeps=("dtype", "device", "copy")):
    """An `asarray` that hands on only some of what it is asked for, and whose result is then changed."""

    def made(self, obj, *, dtype=None, device=None, copy=None):
        asked = {"dtype": dtype, "device": device, "copy": copy}
        return changed(CpuBackend.asarray(self, obj, **{name: asked[name] for name in keeps}))

    return {"asarray": made}


def kernels(**table):
    return {"kernels": table}


def _as_it_is(array):
    return array


def _floats_rounded(array):
    return np.round(array, 2) if array.dtype.kind == "f" else array


def _dlpack_dropped(self, obj, *, dtype=None, device=None, copy=None):
    foreign = not isinstance(obj, np.ndarray | np.generic) and hasattr(obj, "__dlpack__")
    return CpuBackend.asarray(self, np.zeros((3, 4)) if foreign else obj, dtype=dtype, device=device, copy=copy)


def _keeps_nothing(g):
    return np.multiply(g, 0, out=g).sum(axis=tuple(range(g.ndim - 1)))


def _adds_in_place(x, y):
    return np.add(x, y, out=x) if x.dtype.kind == "i" and x.shape == np.broadcast_shapes(x.shape, y.shape) else x + y


def _swapped_svd(x, *, full_matrices):
    """The values in another order than the vectors."""
    u, s, vh = np.linalg.svd(x, full_matrices=full_matrices)
    return u, s, np.flip(vh, axis=-2)


def _steps_anyway(p, g, velocity, ok, numbers, at, decays, nesterov):
    return KERNELS["sgd_step"](np, p, g, velocity, np.asarray(True), numbers, at, decays, nesterov)


def _fills_a_copy(whole, *parts_and_values):
    whole = whole.copy()
    count = len(parts_and_values) // 2
    for value in parts_and_values[count:]:
        whole[: value.size] = value.reshape(-1)
    return whole


def _forgets_its_velocity(p, g, velocity, lr, momentum, dampening, weight_decay, nesterov):
    return p - lr * g, velocity


def _attends(q, k, v, bias, *, scale, causal):
    """With a residual of its own."""
    out, stats = streamed_attention.forward(q, k, v, bias, scale, causal)
    return out, (out, stats, 0.0 if bias is None else bias)


def _attention_grad(g, q, k, v, residual, scale, causal=False, has_bias=True):
    out, stats, bias = residual
    return streamed_attention.backward(g, q, k, v, bias, out, stats, scale, causal)[: 3 + has_bias]


def _of_a_bias_forgotten(g, q, k, v, residual, scale, causal=False, has_bias=True):
    out, stats, _ = residual
    return streamed_attention.backward(g, q, k, v, None, out, stats, scale, causal)[: 3 + has_bias]


def _to_another_base(g, q, k, v, residual, scale, causal=False, has_bias=True):
    out, stats, bias = residual
    return streamed_attention.backward(g, q, k, v, bias, out, stats / np.float32(np.log(2)), scale, causal)[
        : 3 + has_bias
    ]


def _in_the_place_of_g(g, q, k, v, residual, scale, causal=False, has_bias=True):
    found = _attention_grad(g, q, k, v, residual, scale, causal, has_bias)
    g[...] = 0.0
    return found


def _once_only(g, q, k, v, residual, scale, causal=False, has_bias=True):
    """Uses the memory of its residual for something else."""
    found = _attention_grad(g, q, k, v, residual, scale, causal, has_bias)
    residual[1][...] = 0.0
    return found


def _always_the_same():
    """What sends each array to the place of the one before."""
    places = {}

    def send(array):
        place = places.setdefault((array.dtype, array.shape), np.array(array))
        np.copyto(place, array)
        return place

    return send


def _in_the_same_place():
    """What gives each batch where the one before was."""
    places = [_always_the_same() for _ in range(3)]
    return lambda batch: [send(array) for send, array in zip(places, batch)]


def _gatherer(rounded=lambda x: x, held=lambda batch: batch):
    """A gatherer of NumPy arrays whose products go through `rounded`, and whose batches through `held`."""

    def gatherer(self, arrays, affine):
        def gather(order, start, stop):
            batch = [array[order[start:stop]] for array in arrays]
            if affine is not None:
                factor, offset = (t.reshape(-1, 1) for t in affine)
                batch[0] = rounded(batch[0] * factor) + offset
            return held(batch)

        return lambda order: partial(gather, order)

    return gatherer


def _native_of_anything(self, d):
    return np.dtype(str(d))


TWO_DEVICES = {
    "devices": ("cpu", "cpu:1"),
    "device_of": lambda self, array: "cpu",
}
"""The second device is one in name alone."""


# -- capture -------------------------------------------------------------------------------------------


def _once(self, program):
    """Recorded values, whatever the inputs."""
    kept = []
    return lambda *arrays, into=None: kept[0] if kept else kept.append(program.run(*arrays)) or kept[0]


def _backwards(self, program):
    """The right values in the wrong order."""
    return lambda *arrays: program.run(*arrays)[::-1]


def _into_one_buffer(self, program):
    """The right values, which the next call overwrites."""
    buffers = []

    def run(*arrays):
        outs = program.run(*arrays)
        if not buffers:
            buffers.extend(np.array(out) for out in outs)
        for buffer, out in zip(buffers, outs):
            buffer[...] = out
        return tuple(buffers)

    return run


def _in_place(self, program):
    """The right values, once: a constant is used as working memory."""

    def run(*arrays):
        outs = program.run(*arrays)
        for constant in program.constants.values():
            if constant.ndim:
                constant[...] = 0
        return outs

    return run


def _nowhere(self, program):
    """New arrays, whatever is given to put the results into."""
    return lambda *arrays, into=None: program.run(*arrays)


def _of_as_many_as_it_takes(self, program):
    """What is given too much is dropped, and what is missing is one."""
    count = len(program.inputs)
    return lambda *arrays, into=None: program.run(*(*arrays, *[np.ones((2, 3))] * count)[:count])


UNSOUND = [
    # what an array is
    ({"dtypes": (dt.float32,)}, "test_contract", ()),
    ({"devices": ("gpu",)}, "test_contract", ()),
    ({"memory_stats": lambda self: {"used": -1}}, "test_contract", ()),
    ({"copy": lambda self, x: np.array(x)}, "test_method_signature", ("copy",)),
    ({"check_device": lambda self, device=None: "cpu"}, "test_method_signature", ("check_device",)),
    (asarray(np.atleast_1d), "test_lists_and_scalars", ()),
    (asarray(_as_it_is, keeps=("device", "copy")), "test_dtype_asked_for", ("float32",)),
    ({"dtypes": (dt.bool_, dt.int64, dt.float32), "native": _native_of_anything}, "test_dtype_not_offered", ()),
    ({"to_numpy": lambda self, array: np.asarray(array, dtype="f4")}, "test_numpy_round_trip", ("int8", (3, 4))),
    (asarray(np.atleast_1d), "test_numpy_zero_dimensional", ("float64",)),
    ({"sender": lambda self, device: np.asarray}, "test_sent_arrays_keep_their_values", ()),
    ({"sender": lambda self, device: _always_the_same()}, "test_sent_arrays_keep_their_values", ()),
    ({"overwrite": lambda self, array, values: None}, "test_overwrite", ()),
    ({"gatherer": _gatherer(np.floor)}, "test_gathered_batches_keep_their_values", ()),
    ({"gatherer": _gatherer(held=_in_the_same_place())}, "test_gathered_batches_keep_their_values", ()),
    ({"copy": lambda self, array: array}, "test_copy_is_a_copy", ()),
    (asarray(_as_it_is, keeps=("dtype", "device")), "test_no_copy_where_one_is_forbidden", ()),
    ({"copy": lambda self, array: np.ravel(array, "K").reshape(array.shape)}, "test_copy_of_a_view", ()),
    ({"buffer": lambda self, size, native, device: np.ones(size, native)}, "test_segments", ("float32",)),
    ({"owns": lambda self, array: True}, "test_owns", ()),
    (TWO_DEVICES, "test_devices", ()),
    ({"check_device": lambda self, device: "cpu"}, "test_unknown_device", ()),
    (TWO_DEVICES, "test_tensors_move_and_gradients_come_back", ()),
    ({"asarray": _dlpack_dropped}, "test_dlpack", ("float32",)),
    # primitives, and the rules that are made of them
    (kernels(exp=lambda x: np.exp(x) * 1.001), "test_forward", ("exp", "float64")),
    (kernels(exp=lambda x: np.exp(x).tolist()), "test_forward", ("exp", "float64")),
    (kernels(exp=lambda x: np.exp(x.real)), "test_forward", ("exp", "complex64")),
    (kernels(abs=lambda x: np.abs(x).astype("f8")), "test_forward", ("abs", "int8")),
    (
        kernels(cumulative_prod=lambda x, *, axis: np.cumprod(x, axis, x.dtype)),
        "test_forward",
        ("cumulative_prod", "uint32"),
    ),
    (kernels(sum=lambda x, *, axis, keepdims: np.sum(x, axis=axis)), "test_forward", ("sum", "float32")),
    (kernels(add=_adds_in_place), "test_forward", ("add", "int64")),
    (kernels(svd=_swapped_svd), "test_forward", ("svd", "float64")),
    (kernels(add=lambda x, y: np.asarray(np.add(x, y), "f8")), "test_python_scalars_are_weak", ("add",)),
    (kernels(relu_grad=lambda g, out: g * (out > 1)), "test_reverse_rule", ("relu",)),
    (kernels(sin=np.cos), "test_forward_rule", ("cos",)),
    (kernels(sin=np.cos), "test_second_order", ("cos",)),
    (TWO_DEVICES, "test_other_devices", ("exp",)),
    (kernels(exp=lambda x: np.exp(x) * (x.ndim < 3)), "test_batch_rule", ("exp",)),
    # kernels against their fallback
    (kernels(relu_gard=max), "test_kernel_names", ()),
    (kernels(relu_grad=lambda g, output: g * (output > 0)), "test_kernel_signature", ("relu_grad",)),
    (kernels(linear=lambda x, weight, bias: x), "test_kernel_signature", ("linear",)),
    (kernels(exp=lambda: 1.0), "test_kernel_signature", ("exp",)),
    (kernels(relu_grad=lambda g, out: g * (out > 1)), "test_kernel_values", ("relu_grad", "float32")),
    (kernels(colsum=_keeps_nothing), "test_kernel_values", ("colsum", "float32")),
    (kernels(colsum=lambda g: g.astype("f8").sum(0)), "test_kernel_values", ("colsum", "float32")),
    (kernels(svd=_swapped_svd), "test_kernel_values", ("svd", "float32")),
    (kernels(attention=_attends), "test_kernel_values", ("attention", "float32")),  # nobody else knows its residual
    (
        kernels(attention=_attends, attention_grad=_of_a_bias_forgotten),
        "test_kernel_pairs",
        ("attention", "attention_grad", "float32"),
    ),
    (
        kernels(attention=_attends, attention_grad=_to_another_base),
        "test_kernel_pairs",
        ("attention", "attention_grad", "float32"),
    ),
    (
        kernels(attention=_attends, attention_grad=_in_the_place_of_g),
        "test_kernel_pairs",
        ("attention", "attention_grad", "float32"),
    ),
    (
        kernels(attention=_attends, attention_grad=_once_only),
        "test_kernel_pairs",
        ("attention", "attention_grad", "float32"),
    ),
    (kernels(sgd_update=_forgets_its_velocity), "test_updates_in_a_row", ("sgd_update",)),
    (kernels(fill_parts=lambda whole, *parts_and_values: whole), "test_parts_of_a_whole_are_filled", ()),
    (kernels(fill_parts=_fills_a_copy), "test_parts_of_a_whole_are_filled", ()),
    # capture against eager
    ({"capture": _backwards}, "test_capture_of_primitive", ("relu",)),
    ({"capture": _once}, "test_capture_of_primitive", ("exp",)),
    ({"capture": _once}, "test_capture_of_a_gradient", ()),
    ({"capture": _into_one_buffer}, "test_capture_shares_nothing", ()),
    ({"capture": _in_place}, "test_capture_shares_nothing", ()),
    ({"capture": _nowhere}, "test_capture_into", ()),
    ({"capture": _once}, "test_capture_of_an_update", (True,)),
    (kernels(sgd_step=_steps_anyway), "test_capture_of_an_update", (False,)),
    ({"capture": _of_as_many_as_it_takes}, "test_capture_counts_its_inputs", ()),
    # random
    (asarray(_floats_rounded), "test_random_floats", ("normal", "float32")),
    (asarray(lambda array: array + 1), "test_random_integers", ()),
    ({"bernoulli": lambda self, key, counter, shape, *_: np.ones(shape, "f4")}, "test_random_bernoulli", (0.3,)),
    (asarray(np.zeros_like), "test_random_streams_continue", ()),
]
"""What is wrong with a backend, the test that is to find it, and the case of that test."""

OF_THE_KIT_ITSELF = {
    "test_every_deviation_names_a_test",
    "test_every_primitive_has_samples",
    "test_every_performance_name_has_samples",
}
"""They hold the kit's own tables to account, not a backend; see test_kit.py."""


@pytest.mark.parametrize(
    ("attributes", "test", "case"), UNSOUND, ids=[f"{i}-{test}" for i, (_, test, _) in enumerate(UNSOUND)]
)
def test_an_unsound_backend_fails_where_it_is_unsound(stand_in, attributes: dict, test: str, case: tuple) -> None:
    kit = type("Kit", (BackendConformance,), {"backend": "cpu"})()
    unsound = stand_in({"kernels": {}, **attributes})
    with pytest.raises((AssertionError, pytest.fail.Exception)):
        getattr(kit, test)(unsound, *case)


def test_what_is_found_is_what_is_wrong(stand_in) -> None:
    """A backend with nothing wrong passes each of the same cases: these do not fail for another reason."""
    sound = stand_in({"kernels": {}})
    kit = type("Kit", (BackendConformance,), {"backend": "cpu"})()
    of_an_attribute = (
        "test_method_signature", "test_kernel_signature", "test_kernel_values", "test_kernel_pairs",
        "test_updates_in_a_row",
    )  # fmt: skip
    for test, case in {(test, case) for _, test, case in UNSOUND if test not in of_an_attribute}:
        getattr(kit, test)(sound, *case)


def test_a_sound_gatherer_passes(stand_in) -> None:
    kit = type("Kit", (BackendConformance,), {"backend": "cpu"})()
    kit.test_gathered_batches_keep_their_values(stand_in({"kernels": {}, "gatherer": _gatherer()}))


def test_every_test_of_the_kit_has_a_backend_that_it_fails() -> None:
    tests = {name for name, _ in inspect.getmembers(BackendConformance, inspect.isfunction) if name.startswith("test_")}
    assert tests == {test for _, test, _ in UNSOUND} | OF_THE_KIT_ITSELF


def _turned_svd(x, *, full_matrices):
    """Vectors of the other sign, or other phase: as good as NumPy's."""
    u, s, vh = np.linalg.svd(x, full_matrices=full_matrices)
    unit = np.asarray(0.6 + 0.8j if x.dtype.kind == "c" else -1.0).astype(x.dtype)
    return u * unit, s, vh / unit


def test_signs_of_singular_vectors_are_free(stand_in) -> None:
    turned = stand_in({"kernels": {"svd": _turned_svd}})
    kit = type("Kit", (BackendConformance,), {"backend": "cpu"})()
    for dtype in ("float32", "float64", "complex64", "complex128"):
        kit.test_forward(turned, "svd", dtype)
    kit.test_kernel_values(turned, "svd", "float64")
    kit.test_reverse_rule(turned, "svd")
    kit.test_forward_rule(turned, "svd")
    kit.test_batch_rule(turned, "svd")


def test_what_attention_keeps_is_the_backend_s_own(stand_in) -> None:
    """A residual that is no weights: eagerly, compiled, differentiated twice."""
    own = stand_in({"kernels": {"attention": _attends, "attention_grad": _attention_grad}, "capture": Backend.capture})
    kit = type("Kit", (BackendConformance,), {"backend": "cpu"})()
    for dtype in ("float32", "float64"):
        kit.test_kernel_pairs(own, "attention", "attention_grad", dtype)
        kit.test_kernel_values(own, "attention", dtype)
    kit.test_kernel_signature(own, "attention_grad")
    for test in (kit.test_reverse_rule, kit.test_forward_rule, kit.test_second_order, kit.test_batch_rule):
        test(own, "attention")

    def loss(q, k, v):
        return (ops.attention(q, k, v, scale=0.5, causal=True) ** 2).sum()

    rng = np.random.default_rng(0)
    given = [fw.tensor(rng.standard_normal((2, 4, 3)), backend="cpu") for _ in range(3)]
    eager = fw.grad(loss, argnums=(0, 1, 2))(*given)
    compiled = fw.compile(fw.grad(loss, argnums=(0, 1, 2)))
    for _ in range(4):
        for a, b in zip(compiled(*given), eager, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())
