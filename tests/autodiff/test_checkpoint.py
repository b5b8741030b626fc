"""Checkpoint: the same derivatives in every transform, from operations that are computed again and not kept."""

from __future__ import annotations

import gc
import subprocess
import sys
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from ways import ONE, THREE, TWO, check_ways, names, t, values, wave

import framework as fw
from framework.autodiff import ops
from framework.errors import GradientError

nested = fw.checkpoint(lambda x, w: fw.checkpoint(lambda y: ops.sin(y * w))(x) * fw.checkpoint(ops.exp)(x))


def closing(x: Any, w: Any) -> Any:
    h = x * w
    return fw.checkpoint(lambda: ops.sin(h) * ops.exp(x))()


FORMS = {"plain": fw.checkpoint(wave), "nested": nested, "closing": closing}
forms = pytest.mark.parametrize("form", FORMS)


@forms
@pytest.mark.parametrize("ways", [*ONE, *TWO], ids=names)
def test_derivatives_of_one_and_two_orders(form: str, ways: Any) -> None:
    check_ways(FORMS[form], wave, ways, 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("ways", THREE, ids=names)
def test_derivatives_of_three_orders(ways: Any) -> None:
    check_ways(nested, wave, ways, 1e-12)


@pytest.mark.parametrize("ways", ONE, ids=names)
def test_on_the_strict_backend(ways: Any) -> None:
    with fw.use_backend("strict"):
        np.testing.assert_allclose(values(nested, ways), values(wave, ways), rtol=1e-12)


def net(w: Any, b: Any) -> Callable[[Any], Any]:
    return lambda x: ops.tanh(ops.matmul(x, w) + b) * x[..., :1]


def test_against_central_differences() -> None:
    w, b, x = t(np.linspace(-1, 1, 9).reshape(3, 3)), t([0.1, 0.2, 0.3]), t([[0.5, -0.2, 0.9], [1.0, 0.3, -0.4]])
    assert fw.gradcheck(lambda x, w, b: fw.checkpoint(net(w, b))(x), [x, w, b])


def test_hessian_through_a_checkpoint() -> None:
    w, b, x = t(np.linspace(-1, 1, 9).reshape(3, 3)), t([0.1, 0.2, 0.3]), t([0.5, -0.2, 0.9])
    f = net(w, b)
    got = fw.hessian(lambda x: fw.checkpoint(f)(x).sum())(x)
    np.testing.assert_allclose(got.numpy(), fw.hessian(lambda x: f(x).sum())(x).numpy(), rtol=1e-12)


@pytest.mark.parametrize("create_graph", [False, True])
def test_backward_gives_gradients_to_arguments_and_to_what_is_closed_over(create_graph: bool) -> None:
    def gradients(wrapper: Any) -> list[Any]:
        w, x = t(np.linspace(-1, 1, 9).reshape(3, 3), requires_grad=True), t([[0.5, -0.2, 0.9]], requires_grad=True)
        h = x * 2.0
        wrapper(lambda x: net(w, h)(x))(x).sum().backward(create_graph=create_graph)
        if create_graph:
            penalty = (x.grad**2).sum() + (w.grad**3).sum()
            x.grad = w.grad = None
            penalty.backward()
        return [x.grad.numpy(), w.grad.numpy()]

    for got, expected in zip(gradients(fw.checkpoint), gradients(lambda f: f)):
        np.testing.assert_allclose(got, expected, rtol=1e-12)


# -- memory ----------------------------------------------------------------------------------------------

SIZE = 1 << 15


def chain(depth: int) -> Callable[[Any], Any]:
    def f(x: Any) -> Any:
        for _ in range(depth):
            x = ops.sin(ops.sin(x))  # either keeps its input
        return x

    return f


def in_segments(depth: int, count: int, part: Callable[[int], Any] = chain) -> Callable[[Any], Any]:
    def f(x: Any) -> Any:
        for _ in range(count):
            x = fw.checkpoint(part(depth // count))(x)
        return x

    return f


def peak(f: Callable[[Any], Any]) -> float:
    """The most arrays of a layer that forward and backward hold at once."""
    x = fw.tensor(np.ones(SIZE), requires_grad=True)
    f(x).sum().backward()
    x.grad = None
    gc.collect()
    tracemalloc.start()
    try:
        f(x).sum().backward()
        return tracemalloc.get_traced_memory()[1] / (8 * SIZE)
    finally:
        tracemalloc.stop()


def test_memory_grows_with_the_root_of_the_depth() -> None:
    assert peak(chain(64)) >= 128
    assert peak(in_segments(64, 8)) <= 28
    assert peak(in_segments(64, 4, lambda n: in_segments(n, 4))) <= 20
    small, large = peak(in_segments(16, 4)), peak(in_segments(144, 12))
    assert large <= 3.5 * small  # 9 times the depth


@pytest.fixture
def no_gc() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Watched(np.ndarray):
    """An array that can be watched."""


@pytest.mark.parametrize("create_graph", [False, True])
def test_arguments_are_freed_by_backward_and_without_the_garbage_collector(no_gc: None, create_graph: bool) -> None:
    w = fw.tensor([1.0, 2.0], requires_grad=True)
    x = ops.asarray(np.array([1.0, 2.0]).view(Watched))
    seen = weakref.ref(x._data)
    y = fw.checkpoint(lambda x: ops.exp(x * w))(x)
    del x
    assert seen() is not None
    y.sum().backward(create_graph=create_graph)
    w.grad = None
    if create_graph:
        del y
    assert seen() is None
    assert gc.collect() == 0


def test_the_operations_of_the_call_are_not_kept(no_gc: None) -> None:
    x = ops.asarray(np.array([1.0, 2.0]).view(Watched)).requires_grad_()
    seen = []

    def f(x: Any) -> Any:
        h = ops.exp(x)
        seen.append(weakref.ref(h._data))
        return h * h

    y = fw.checkpoint(f)(x)
    assert seen[0]() is None
    y.sum().backward()
    assert len(seen) == 2
    assert seen[1]() is None


# -- the second computation sees what the first saw ------------------------------------------------------


def test_the_same_random_numbers_and_the_stream_goes_on() -> None:
    fw.seed_everything(3)
    own = fw.random.Generator(5)
    drawn = []

    def f(x: Any) -> Any:
        mask = fw.random.bernoulli(0.5, x.shape, dtype="float64")
        noise = fw.random.normal(x.shape, dtype="float64", generator=own)
        drawn.append((mask.tolist(), noise.tolist()))
        return ops.exp(x) * mask * noise

    x = t(np.zeros(20), requires_grad=True)
    y = fw.checkpoint(f)(x)  # the default generator is made inside
    fw.random.normal((7,))
    fw.random.normal((7,), generator=own)
    before = fw.random.state_dict(), own.state_dict()
    y.sum().backward()
    assert drawn[0] == drawn[1]
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())
    assert (fw.random.state_dict(), own.state_dict()) == before


def test_random_numbers_of_nested_checkpoints_and_of_dropout() -> None:
    fw.seed_everything(0)
    drop = fw.nn.Dropout(0.5)
    x = t(np.zeros(50), requires_grad=True)
    inner = fw.checkpoint(lambda x: drop(ops.exp(x)))
    y = fw.checkpoint(lambda x: drop(inner(drop(ops.exp(x)))) + drop(x + 1.0))(x)
    before = fw.random.state_dict()
    y.sum().backward()
    assert fw.random.state_dict() == before
    fw.seed_everything(0)
    z = t(np.zeros(50), requires_grad=True)
    plain = drop(drop(ops.exp(drop(ops.exp(z))))) + drop(z + 1.0)
    plain.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), z.grad.numpy())


def test_random_numbers_inside_vmap() -> None:
    f = fw.checkpoint(lambda x: ops.exp(x) * fw.random.normal((), dtype="float64"))
    for randomness in ("same", "different"):
        x = t(np.zeros(5), requires_grad=True)
        y = fw.vmap(f, randomness=randomness)(x)
        y.sum().backward()
        np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())
        assert len(set(y.tolist())) == (1 if randomness == "same" else 5)


def test_a_copied_generator_is_wound_back_too() -> None:
    import copy

    own = copy.deepcopy(fw.random.Generator(5))
    x = t(np.zeros(9), requires_grad=True)
    y = fw.checkpoint(lambda x: ops.exp(x) * fw.random.normal((9,), dtype="float64", generator=own))(x)
    y.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), y.detach().numpy())


def test_defaults_and_grad_mode_are_those_of_the_call() -> None:
    seen = []

    def f(x: Any) -> Any:
        ones = ops.ones(2)
        with fw.no_grad():
            inner = (x * 2.0).requires_grad
        seen.append((ones.dtype.name, ones.device, fw.get_default_dtype().name, inner, (x * 2.0).requires_grad))
        return x * 2.0

    before = fw.get_default_dtype()
    fw.set_default_dtype("float64")
    try:
        with fw.use_backend("strict"):
            x = fw.tensor([1.0, 2.0], requires_grad=True)
            y = fw.checkpoint(f)(x).sum()
    finally:
        fw.set_default_dtype(before)
    with fw.no_grad():
        y.backward()
    assert x.grad.tolist() == [2.0, 2.0]
    assert seen[0] == seen[1] == ("float64", "strict", "float64", False, True)
    assert fw.get_default_dtype() is before


def test_arguments_are_those_of_the_call() -> None:
    """What the caller, or the function itself, does to the Tensors afterwards changes nothing."""

    def f(x: Any) -> Any:
        x *= 3.0
        return ops.exp(x)

    x = t([0.5], requires_grad=True)
    a = x * 1.0
    y = fw.checkpoint(f)(a)
    assert a.tolist() == [1.5]  # as without a checkpoint
    a += 100.0
    y.sum().backward()
    assert x.grad.item() == pytest.approx(3.0 * np.exp(1.5))


# -- forms of call -----------------------------------------------------------------------------------------


def test_as_a_decorator_of_functions_and_methods() -> None:
    class Model:
        w = t(2.0, requires_grad=True)

        @fw.checkpoint
        def forward(self, x: Any, *, scale: Any = 1.0) -> Any:
            """Scaled."""
            return ops.exp(x * self.w) * scale

    model = Model()
    assert Model.forward.__doc__ == "Scaled."
    model.forward(t(0.5), scale=t(3.0)).backward()
    assert model.w.grad.item() == pytest.approx(1.5 * np.exp(1.0))


def test_of_a_module() -> None:
    fw.seed_everything(0)
    layer = fw.nn.Sequential(fw.nn.Linear(3, 4), fw.nn.ReLU(), fw.nn.Linear(4, 2))
    x = fw.tensor([[0.1, -0.2, 0.3]])
    grads = []
    for f in (layer, fw.checkpoint(layer)):
        layer.zero_grad()
        f(x).sum().backward()
        grads.append([p.grad.numpy().copy() for p in layer.parameters()])
    for got, expected in zip(*grads):
        np.testing.assert_array_equal(got, expected)


def test_nested_arguments_and_results() -> None:
    def f(pair: Any, name: str, n: int = 2) -> Any:
        x, y = pair["a"]
        return {"sum": [x + y, None], "product": (x * y * n, name), "same": x, "constant": ops.ones(2), "number": 3}

    x, y = t([1.0, 2.0], requires_grad=True), t([3.0, 4.0], requires_grad=True)
    out = fw.checkpoint(f)({"a": (x, y)}, "label", n=3)
    assert out["sum"][1] is None
    assert out["product"][1] == "label"
    assert out["number"] == 3
    assert not out["constant"].requires_grad
    (out["sum"][0] * 10.0 + out["product"][0] + out["same"] * 100.0).sum().backward()
    assert x.grad.tolist() == [119.0, 122.0]
    assert y.grad.tolist() == [13.0, 16.0]


def test_some_results_and_some_gradients_are_enough() -> None:
    x, w = t([1.0, 2.0], requires_grad=True), t([3.0, 4.0], requires_grad=True)
    a, b = fw.checkpoint(lambda x: (x * w, ops.exp(x)))(x)
    a.sum().backward(inputs=[w], retain_graph=True)
    assert x.grad is None
    assert w.grad.tolist() == [1.0, 2.0]
    b.sum().backward()
    np.testing.assert_allclose(x.grad.numpy(), np.exp([1.0, 2.0]))
    assert w.grad.tolist() == [1.0, 2.0]


def test_nothing_tracked_nothing_recorded() -> None:
    calls = []

    @fw.checkpoint
    def f(x: Any) -> Any:
        calls.append(1)
        return x * 2.0

    assert not f(t(1.0)).requires_grad
    with fw.no_grad():
        assert not f(t(1.0, requires_grad=True)).requires_grad
    assert len(calls) == 2


def test_the_same_tensor_twice_and_an_argument_that_depends_on_another() -> None:
    x = t(0.5, requires_grad=True)
    h = ops.exp(x)
    fw.checkpoint(lambda a, b, c: a * b * c * h)(x, h, h).backward()  # x e^3x
    assert x.grad.item() == pytest.approx(np.exp(1.5) * (1 + 1.5))


def test_gradients_inside_the_function() -> None:
    x, w = t(0.5, requires_grad=True), t(2.0, requires_grad=True)

    def f(x: Any) -> Any:
        return fw.grad(lambda y: ops.sin(y * w))(x) + fw.jvp(lambda y: ops.exp(y * w), (x,), (x,))[1]

    fw.checkpoint(f)(x).backward()
    got = x.grad.item(), w.grad.item()
    x.grad = w.grad = None
    f(x).backward()
    assert got == pytest.approx((x.grad.item(), w.grad.item()))


def test_hooks_of_what_is_outside_are_called_once() -> None:
    x, w = t(0.5, requires_grad=True), t(2.0, requires_grad=True)
    h = x * 3.0
    seen: list[tuple[str, float]] = []
    w.register_hook(lambda g: seen.append(("w", g.item())))
    h.register_hook(lambda g: seen.append(("h", g.item())))
    y = fw.checkpoint(lambda h: h * h * w)(h)
    y.register_hook(lambda g: seen.append(("y", g.item())))
    y.backward()
    assert sorted(seen) == [("h", 6.0), ("w", 2.25), ("y", 1.0)]


def test_a_long_chain_of_checkpoints_is_linear_and_without_recursion() -> None:
    f = fw.checkpoint(lambda x: x + 1.0)
    x = y = t(0.0, requires_grad=True)
    for _ in range(3000):
        y = f(y)
    y.backward()
    assert x.grad.item() == 1.0


def test_inside_a_gradient_tape() -> None:
    w = t(2.0)
    with fw.GradientTape() as tape:
        tape.watch(w)
        y = fw.checkpoint(lambda x: ops.exp(x * w))(t(0.5))
    assert tape.gradient(y, w).item() == pytest.approx(0.5 * np.exp(1.0))


# -- errors ------------------------------------------------------------------------------------------------


def test_a_function_that_does_something_else_the_second_time() -> None:
    x, seen = t(0.5, requires_grad=True), []

    def f(x: Any) -> Any:
        seen.append(x * 1.0)
        return x * seen[0]

    y = fw.checkpoint(f)(x)
    with pytest.raises(GradientError, match="used other Tensors than the first time"):
        y.backward()


def test_a_second_backward() -> None:
    x = t(0.5, requires_grad=True)
    y = fw.checkpoint(ops.exp)(x)
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.item() == pytest.approx(2 * np.exp(0.5))
    with pytest.raises(GradientError, match="second time"):
        y.backward()


def test_a_pullback_from_outside() -> None:
    x, g = t([1.0, 2.0], requires_grad=True), t([3.0, 4.0], requires_grad=True)
    for f in (ops.exp, fw.checkpoint(ops.exp)):
        x.grad = g.grad = None
        _, pull = fw.vjp(f, x)
        fw.checkpoint(lambda g, pull=pull: pull(g)[0])(g).sum().backward()
        np.testing.assert_allclose(x.grad.numpy(), np.exp([1.0, 2.0]) * [3.0, 4.0])
        np.testing.assert_allclose(g.grad.numpy(), np.exp([1.0, 2.0]))
    _, pull = fw.vjp(lambda x: fw.numpy.linalg.qr(x)[0], t([[2.0, 1.0], [0.5, 3.0]], requires_grad=True))
    with pytest.raises(GradientError, match="call the pullback outside"):
        fw.checkpoint(lambda g: pull(g)[0])(t([[1.0, 1.0], [0.0, 1.0]]))


def test_a_weight_that_was_overwritten() -> None:
    w = fw.nn.Parameter(t([2.0]))
    step = fw.optim.SGD([w], lr=0.1)
    y = fw.checkpoint(lambda x: x * w)(t([3.0]))
    w.grad = t([1.0])
    step.step()
    with pytest.raises(GradientError, match="overwritten"):
        y.sum().backward()


def test_an_error_leaves_everything_as_it_was() -> None:
    x, calls = t(0.5, requires_grad=True), []

    def f(x: Any) -> Any:
        calls.append(fw.random.normal(()))
        if len(calls) == 2:
            raise KeyError("again")
        return x * 2.0

    y = fw.checkpoint(f)(x)
    before, mode = fw.random.state_dict(), fw.get_default_dtype()
    with pytest.raises(KeyError, match="again"):
        y.backward()
    assert fw.random.state_dict() == before
    assert fw.get_default_dtype() is mode
    assert (x * 2.0).requires_grad


@pytest.fixture(scope="module")
def jax() -> Iterator[Any]:
    """JAX in float64."""
    module = pytest.importorskip("jax", reason="JAX is not installed: pip install -e '.[reference]'")
    module.config.update("jax_enable_x64", True)
    yield module
    module.config.update("jax_enable_x64", False)


@pytest.mark.reference
def test_against_jax(jax: Any) -> None:
    jnp = jax.numpy
    w, x = np.linspace(-1, 1, 9).reshape(3, 3), np.array([0.5, -0.2, 0.9])
    theirs = jax.checkpoint(lambda x, w: jnp.sum(jnp.tanh(x @ jax.checkpoint(jnp.sin)(w)) * x))
    ours = fw.checkpoint(lambda x, w: ops.sum(ops.tanh(x @ fw.checkpoint(ops.sin)(w)) * x))
    for got, expected in zip(fw.grad(ours, (0, 1))(t(x), t(w)), jax.grad(theirs, (0, 1))(x, w)):
        np.testing.assert_allclose(got.numpy(), expected, rtol=1e-12)
    np.testing.assert_allclose(fw.hessian(ours)(t(x), t(w)).numpy(), jax.hessian(theirs)(x, w), rtol=1e-12)
    batch = np.stack([x, 2 * x])
    got = fw.vmap(fw.grad(ours), in_axes=(0, None))(t(batch), t(w))
    np.testing.assert_allclose(got.numpy(), jax.vmap(jax.grad(theirs), in_axes=(0, None))(batch, w), rtol=1e-12)


def test_random_functions_that_are_first_imported_inside() -> None:
    """What is saved at the call cannot know a module that comes later."""
    code = """
import framework as fw
x = fw.tensor([0.0] * 9, requires_grad=True)
y = fw.checkpoint(lambda x: (x + 1.0) * fw.random.normal((9,)))(x)
y.sum().backward()
assert x.grad.tolist() == y.tolist(), (x.grad, y)
"""
    subprocess.run([sys.executable, "-c", code], check=True)
