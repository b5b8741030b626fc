"""GradientTape: what is watched, sources and targets, nested tapes, other transforms around and inside."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework.autodiff import Tensor, levels, ops, vmap
from framework.errors import ConfigError, DTypeError, GradientError, ShapeError


def t(value: Any, **kwargs: Any) -> Tensor:
    return fw.tensor(value, **{"dtype": "float64", **kwargs})


def leaf(value: Any) -> Tensor:
    return t(value, requires_grad=True)


# -- one tape ------------------------------------------------------------------------------------------------


def test_a_watched_tensor(backend: str) -> None:
    with fw.use_backend(backend):
        x = t([1.0, 2.0])
        with fw.GradientTape() as tape:
            tape.watch(x)
            y = ops.exp(x) * x
        g = tape.gradient(y, x)
    np.testing.assert_allclose(g.numpy(), np.exp([1.0, 2.0]) * [2.0, 3.0], rtol=1e-12)
    assert (g.backend, g.requires_grad) == (backend, False)


def test_the_elements_of_a_target_are_summed() -> None:
    x = leaf([1.0, 2.0])
    with fw.GradientTape(persistent=True) as tape:
        y = x[:, None] * x
    assert tape.gradient(y, x).tolist() == [6.0, 6.0]
    assert tape.gradient(y, x, output_gradients=np.array([[1.0, 0.0], [10.0, 0.0]])).tolist() == [2.0 + 20.0, 10.0]


def test_a_tensor_that_requires_a_gradient_is_watched_by_itself() -> None:
    x, b, data = leaf([1.0, 2.0]), leaf(3.0), t([5.0, 7.0])
    with fw.GradientTape() as tape:
        loss = (x * data + b).sum()
    assert [g.tolist() for g in tape.gradient(loss, (x, b))] == [[5.0, 7.0], 2.0]
    assert x.grad is None


def test_sources_that_are_not_connected_give_none() -> None:
    x, w, plain = t(2.0), leaf(3.0), t(1.0)
    with fw.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x * x * plain
        before = x * 3
    got = tape.gradient(y, {"w": w, "x": [x], "plain": plain, "other": before})
    assert (got["w"], got["x"][0].item(), got["plain"], got["other"]) == (None, 4.0, None, None)
    assert tape.gradient(y, [w, plain], unconnected_gradients="zero")[0].tolist() == 0.0
    assert tape.gradient([], x) is None
    assert tape.gradient(plain, x) is None
    assert tape.gradient(x.argmax(), x) is None
    assert tape.gradient(y, [fw.tensor([1, 2])]) == [None]
    with pytest.raises(ConfigError, match="'none' or 'zero', got 'zeros'"):
        tape.gradient(y, x, unconnected_gradients="zeros")  # type: ignore[arg-type]


def test_nothing_is_recorded_outside_the_block_of_what_was_watched() -> None:
    x = t(2.0)
    with fw.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x * x
    z = x * x
    assert not z.requires_grad
    assert tape.gradient(z, x) is None
    assert tape.gradient(y * y, x).item() == 32.0  # y remembers where it came from


def test_targets_and_sources_in_structures() -> None:
    p = {"a": t([1.0, 2.0]), "b": [t(3.0), None]}
    with fw.GradientTape() as tape:
        tape.watch(p)
        out = {"y": p["a"] * p["b"][0], "z": (p["b"][0] ** 2,)}
    g = tape.gradient(out, p, output_gradients={"z": (t(10.0),), "y": t([1.0, 2.0])})
    assert (g["a"].tolist(), g["b"][0].item(), g["b"][1]) == ([3.0, 6.0], 5.0 + 60.0, None)


def test_a_source_may_be_computed_on_the_tape() -> None:
    x = t(3.0)
    with fw.GradientTape() as tape:
        tape.watch(x)
        h = x * x
        y = h * h + x
    g = tape.gradient(y, [h, x, y])
    assert [v.item() for v in g] == [18.0, 4 * 27.0 + 1, 1.0]


def test_one_target_twice_counts_twice() -> None:
    x = t(3.0)
    with fw.GradientTape() as tape:
        tape.watch(x)
        y = x * x
    assert [g.item() for g in tape.gradient([y, y, x], [x, x])] == [13.0, 13.0]


def test_persistent_and_not() -> None:
    x = t(3.0)
    with fw.GradientTape() as tape:
        tape.watch(x)
        y = x * x
    assert tape.gradient(y, x).item() == 6.0
    with pytest.raises(GradientError, match=r"make it with persistent=True to call it again"):
        tape.gradient(y, x)
    with fw.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x * x
        z = y * y
    assert [tape.gradient(z, x).item(), tape.gradient(y, x).item(), tape.gradient(z, x).item()] == [108.0, 6.0, 108.0]


def test_a_tape_that_was_used_up_can_record_again() -> None:
    x = t(3.0)
    tape = fw.GradientTape()
    for k in (1.0, 2.0):
        with tape:
            tape.watch(x)
            y = x * x * k
        assert tape.gradient(y, x).item() == 6.0 * k


def test_what_was_kept_is_freed_with_the_gradient() -> None:
    x = leaf(np.ones(10))

    class Array(np.ndarray):
        """An array that can be referred to weakly."""

    with fw.GradientTape() as tape:
        h = ops.exp(x * 2)
        kept = weakref.ref(h._data)
        y = (h * h).sum()
    del h
    assert kept() is not None
    tape.gradient(y, x)
    assert kept() is None
    with fw.GradientTape(persistent=True) as tape:
        h = ops.exp(x * 2)
        kept = weakref.ref(h._data)
        y = (h * h).sum()
    del h
    tape.gradient(y, x)
    assert kept() is not None
    del y, tape
    gc.collect()
    assert kept() is None


def test_no_trace_is_left() -> None:
    """On what was watched, on the modes, and on the levels."""
    x, w = t([1.0, 2.0]), leaf(2.0)
    for error in (None, KeyError("mine")):
        tape = fw.GradientTape()
        try:
            with tape:
                tape.watch((x, w))
                assert x.requires_grad
                y = (x * w).sum()
                if error is not None:
                    raise error
        except KeyError:
            pass
        assert not x.requires_grad
        assert w.requires_grad
        assert (x.grad, w.grad) == (None, None)
        assert x.numpy().tolist() == [1.0, 2.0]
        assert not (x * 2).requires_grad
        assert tape.gradient(y, x).tolist() == [2.0, 2.0]
        assert (levels.active.get(), levels.recording.get()) == ((), None)
    refs = weakref.ref(x)
    del x, tape, y
    gc.collect()
    assert refs() is None


def test_the_tape_records_under_no_grad_and_no_grad_stops_it() -> None:
    x = t(3.0)
    with fw.no_grad():
        with fw.GradientTape() as tape:
            tape.watch(x)
            y = x * x
        assert not (leaf(1.0) * 2).requires_grad
        assert tape.gradient(y, x).item() == 6.0
    with fw.GradientTape() as tape:
        tape.watch(x)
        with fw.no_grad():
            held = x * x
        y = held * x
    assert tape.gradient(y, x).item() == 9.0


def test_in_place_operators_on_a_watched_tensor() -> None:
    x = t(3.0)
    with fw.GradientTape() as tape:
        tape.watch(x)
        x *= 2.0
        y = x * x
    assert (tape.gradient(y, x).item(), x.requires_grad, x.item()) == (24.0, False, 6.0)  # of 4x² at 3


def test_hooks_run() -> None:
    x = t(3.0)
    with fw.GradientTape() as tape:
        tape.watch(x)
        h = x * x
        h.register_hook(lambda g: g * 10)
        y = h * 2
    assert tape.gradient(y, x).item() == 120.0


def test_complex_targets_and_sources() -> None:
    z = t([1.0 + 2.0j], dtype="complex128")
    with fw.GradientTape(persistent=True) as tape:
        tape.watch(z)
        y = z * z
        size = ops.abs(z) ** 2
    with pytest.raises(DTypeError, match=r"complex target needs output_gradients"):
        tape.gradient(y, z)
    np.testing.assert_allclose(
        tape.gradient(y, z, output_gradients=np.array([1.0 + 0j])).numpy(), 2 * z.numpy(), rtol=1e-12
    )
    np.testing.assert_allclose(tape.gradient(size, z).numpy(), 2 * z.numpy().conj(), rtol=1e-12)


def test_wrong_calls_teach() -> None:
    x = t([1.0, 2.0])
    used = fw.GradientTape(persistent=True)
    with used:
        used.watch(x)
        y = x * x
    fresh = fw.GradientTape()

    def enter_twice() -> None:
        with used:
            pass

    def enter_inside() -> None:
        with fresh, fresh:
            pass

    for call, error, message in (
        (lambda: fw.GradientTape().watch(x), GradientError, r"inside the block, `with fw\.GradientTape\(\) as tape"),
        (lambda: used.watch(x), GradientError, "inside the block"),
        (lambda: fw.GradientTape().gradient(x, x), GradientError, "has recorded nothing"),
        (lambda: used.gradient(y, np.ones(2)), GradientError, "sources are Tensors, got ndarray"),
        (lambda: used.gradient(y, x, t([1.0])), ShapeError, r"has that shape, got \(1,\)"),
        (lambda: used.gradient([y], x, t([1.0, 2.0])), ShapeError, "output_gradients is to have 1 parts, got Tensor"),
        (enter_twice, GradientError, "has recorded already"),
        (enter_inside, GradientError, "has recorded already"),
    ):
        with pytest.raises(error, match=message):
            call()
    with fw.GradientTape() as tape:
        for what, error, message in (
            (fw.tensor([1]), DTypeError, "watch needs floating-point inputs, got int64"),
            (np.ones(2), GradientError, r"watch takes Tensors, got ndarray; make one with fw\.tensor"),
            (1.0, GradientError, "got float"),
        ):
            with pytest.raises(error, match=message):
                tape.watch(what)


def test_long_chains_and_diamonds() -> None:
    x = t(1.0)
    with fw.GradientTape(persistent=True) as tape:
        tape.watch(x)
        chain = x
        for _ in range(100_000):
            chain = chain + 1.0
        diamond = x
        for _ in range(60):
            diamond = diamond * 0.5 + diamond * 0.5
    assert tape.gradient(chain, x).item() == 1.0
    assert tape.gradient(diamond, x).item() == 1.0
    del chain, tape


# -- several tapes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", ["outer first", "inner first", "inner alone", "by itself"])
@pytest.mark.parametrize("around", ["nothing", "vmap", "jvp", "grad"])
def test_nested_tapes_give_the_second_derivative(order: str, around: str) -> None:
    def second(x: Any) -> Any:
        with fw.GradientTape() as outer:
            if order == "outer first":
                outer.watch(x)
            with fw.GradientTape() as inner:
                if order != "by itself":
                    inner.watch(x)
                if order == "inner first":
                    outer.watch(x)
                y = x**3
            if order == "inner alone":
                outer.watch(x)
            first = inner.gradient(y, x)
            z = first * x  # 3x³
        return outer.gradient(z, x)

    x = t(2.0, requires_grad=order == "by itself" and around == "nothing")
    if order == "by itself" and around in ("vmap", "jvp"):
        return  # an argument of these is no leaf
    if around == "nothing":
        assert second(x).item() == 36.0  # 9x²
        assert x.requires_grad == (order == "by itself")
    elif around == "vmap":
        assert vmap(second)(t([2.0, 3.0])).tolist() == [36.0, 81.0]
    elif around == "jvp":
        assert [v.item() for v in fw.jvp(second, (x,), (t(1.0),))] == [36.0, 36.0]
    else:
        assert fw.grad(second)(x).item() == 36.0


def test_a_persistent_tape_differentiates_its_own_gradients() -> None:
    x = t(2.0)
    with fw.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x**3
        first = tape.gradient(y, x)
        second = tape.gradient(first, x)
    assert [tape.gradient(v, x).item() for v in (y, first, second)] == [12.0, 12.0, 6.0]
    got = vmap(lambda x: own_third(x))(t([2.0, 3.0]))
    assert got.tolist() == [48.0, 72.0]


def own_third(x: Any) -> Any:
    with fw.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = x**4
        first = tape.gradient(y, x)
        second = tape.gradient(first, x)
    return tape.gradient(second, x)


def test_two_tapes_over_the_same_operations() -> None:
    x, w = t(2.0), t(3.0)
    with fw.GradientTape() as a, fw.GradientTape() as b:
        a.watch(x)
        b.watch(w)
        y = x * w * x
    assert a.gradient(y, x).item() == 12.0
    assert b.gradient(y, w).item() == 4.0
    assert not x.requires_grad
    assert not w.requires_grad


def test_a_tensor_stays_watched_by_the_outer_tape() -> None:
    x = t(2.0)
    with fw.GradientTape() as outer:
        with fw.GradientTape() as inner:
            inner.watch(x)
            outer.watch(x)
            y = x * x
        z = x * y
    assert outer.gradient(z, x).item() == 12.0
    assert inner.gradient(y, x).item() == 4.0
    assert not x.requires_grad


def test_a_gradient_is_plain_where_nobody_differentiates_it() -> None:
    w, b, x = leaf([1.0, 2.0]), leaf(3.0), t([5.0, 7.0])
    with fw.GradientTape(persistent=True) as tape:
        tape.watch(x)
        loss = (w * x * w + b).sum()
    assert not any(g.requires_grad for g in tape.gradient(loss, [w, b]))
    penalty = (tape.gradient(loss, x) ** 2).sum()  # Σ w⁴: a function of w, which is no source
    penalty.backward()
    assert w.grad.tolist() == [4.0, 32.0]
    with fw.no_grad():
        assert not tape.gradient(loss, x).requires_grad


# -- tapes and transforms ------------------------------------------------------------------------------------


def by_tape(f: Any) -> Any:
    def derivative(x: Any) -> Any:
        x = ops.clone(x)
        with fw.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        return tape.gradient(y, x)

    return derivative


def test_transforms_inside_a_tape() -> None:
    x = t([1.0, 2.0])
    with fw.GradientTape(persistent=True) as tape:
        tape.watch(x)
        y = vmap(lambda v: v**3)(x)
        tangent = fw.jvp(lambda v: v**3, (x,), (ops.ones_like(x),))[1]
        slope = fw.grad(lambda v: (v**3).sum())(x)
        rows = fw.jacobian(lambda v: v**3)(x)
    assert tape.gradient(y, x).tolist() == [3.0, 12.0]
    for v in (tangent, slope, rows):
        assert tape.gradient(v, x).tolist() == [6.0, 12.0]


def test_a_tape_inside_transforms() -> None:
    cube = by_tape(lambda x: x**3)
    x = t([1.0, 2.0])
    assert vmap(cube)(x).tolist() == [3.0, 12.0]
    assert fw.jvp(cube, (x,), (t([1.0, 10.0]),))[1].tolist() == [6.0, 120.0]
    assert fw.grad(lambda x: cube(x).sum())(x).tolist() == [6.0, 12.0]
    assert vmap(fw.grad(cube))(x).tolist() == [6.0, 12.0]
    assert fw.grad(lambda x: vmap(cube)(x).sum())(x).tolist() == [6.0, 12.0]
    assert fw.jacobian(cube, mode="forward")(x).tolist() == [[6.0, 0.0], [0.0, 12.0]]
    assert vmap(vmap(cube))(t([[1.0, 2.0], [3.0, 4.0]])).tolist() == [[3.0, 12.0], [27.0, 48.0]]
    for result in (vmap(cube)(x), vmap(fw.grad(cube))(x), fw.jvp(cube, (x,), (x,))[1]):
        assert type(result) is Tensor
        assert not result.requires_grad


def test_values_of_a_tape_inside_a_transform_live_on() -> None:
    """After the block they are values of the transform like any other."""

    def f(x: Any) -> Any:
        with fw.GradientTape() as tape:
            tape.watch(x)
            y = x * x
            z = y * x
        g = tape.gradient(z, x)
        return {"y": y, "sum": y + x + g, "g": [g, (z * 1.0).sum(), y[None]]}

    x = t([2.0, 3.0])
    got = vmap(f)(x)
    assert got["y"].tolist() == [4.0, 9.0]
    assert got["sum"].tolist() == [18.0, 39.0]
    assert [v.tolist() for v in got["g"]] == [[12.0, 27.0], [8.0, 27.0], [[4.0], [9.0]]]
    value, tangent = fw.jvp(f, (t(2.0),), (t(1.0),))
    assert (value["y"].item(), tangent["y"].item(), tangent["sum"].item()) == (4.0, 4.0, 4.0 + 1.0 + 12.0)
    assert fw.grad(lambda x: f(x)["sum"])(t(2.0)).item() == 17.0
    assert vmap(fw.grad(lambda x: f(x)["sum"]))(x).tolist() == [17.0, 25.0]
    assert vmap(lambda x: f(x)["y"].shape[0] if f(x)["y"].ndim else x)(x).tolist() == [2.0, 3.0]


def test_gradients_per_sample_of_weights_that_a_vmap_closes_over() -> None:
    rng = np.random.default_rng(0)
    model = fw.nn.Sequential(fw.nn.Linear(3, 4), fw.nn.Tanh(), fw.nn.Linear(4, 1))
    for p in model.parameters():
        p.data = t(rng.normal(size=p.shape))
    parameters = list(model.parameters())
    x = t(rng.normal(size=(5, 3)))

    def of_one(x: Any) -> Any:
        with fw.GradientTape() as tape:
            loss = (model(x[None]) ** 2).sum()
        return tape.gradient(loss, parameters)

    got = vmap(of_one)(x)
    for i in range(5):
        for g, want in zip(got, of_one(x[i])):
            np.testing.assert_allclose(g.detach().numpy()[i], want.numpy(), rtol=1e-11, atol=1e-13)
    assert all(p.grad is None for p in parameters)


def test_weights_used_before_the_samples_are_met() -> None:
    """Part of the way from the weight to the target is on the tape below the vmap."""
    w, x = leaf([1.0, 2.0]), t([1.0, 2.0, 3.0])

    def of_one(x: Any, watched: Any = w) -> Any:
        with fw.GradientTape() as tape:
            tape.watch(watched)
            doubled = watched * 2
            y = (doubled * (watched * x)).sum() + (watched**2).sum()
        return tape.gradient(y, watched)

    want = 4 * np.outer([1.0, 2.0, 3.0], [1.0, 2.0]) + 2 * np.array([1.0, 2.0])
    np.testing.assert_allclose(vmap(of_one)(x).detach().numpy(), want)
    plain = t([1.0, 2.0])
    np.testing.assert_allclose(vmap(lambda x: of_one(x, plain))(x).detach().numpy(), want)
    assert not plain.requires_grad
    y, dy = fw.jvp(lambda x: of_one(x, plain), (t(3.0),), (t(1.0),))
    assert (y.tolist(), dy.tolist()) == (want[2].tolist(), [4.0, 8.0])
    whole = fw.grad(lambda w: vmap(lambda x: of_one(x, w))(x).sum())(plain)
    np.testing.assert_allclose(whole.numpy(), np.full(2, 4 * 6.0 + 2 * 3))


def test_a_tape_around_a_transform_cannot_be_asked_inside_it() -> None:
    x = t([1.0, 2.0])
    with fw.GradientTape(persistent=True) as tape:
        tape.watch(x)

        def ask_target(v: Any) -> Any:
            return tape.gradient(v * x[0], x)

        def ask_source(v: Any) -> Any:
            return tape.gradient(x, v)

        def watch(v: Any) -> Any:
            tape.watch(v)

        for call in (ask_target, ask_source, watch):
            with pytest.raises(GradientError, match="entered inside the GradientTape"):
                vmap(call)(x)
            with pytest.raises(GradientError, match="entered inside the GradientTape"):
                fw.jvp(call, (x,), (x,))


def test_an_outer_tape_watches_first() -> None:
    x = t(3.0)

    def inside(v: Any) -> Any:
        with fw.GradientTape() as inner:
            inner.watch(x)
            with pytest.raises(GradientError, match="watch it outside first"):
                outer.watch(x)
        return v

    with fw.GradientTape() as outer:
        fw.jvp(inside, (t(1.0),), (t(1.0),))
    assert not x.requires_grad


def test_a_training_loop_as_in_tensorflow() -> None:
    rng = np.random.default_rng(1)
    x = t(rng.normal(size=(50, 3)))
    target = x @ t([1.0, -2.0, 0.5]) + 3.0
    w, b = leaf(np.zeros(3)), leaf(0.0)
    for _ in range(200):
        with fw.GradientTape() as tape:
            loss = ((x @ w + b - target) ** 2).mean()
        for p, g in zip((w, b), tape.gradient(loss, [w, b])):
            with fw.no_grad():
                p -= 0.1 * g
    np.testing.assert_allclose(w.detach().numpy(), [1.0, -2.0, 0.5], atol=1e-6)
    assert b.item() == pytest.approx(3.0, abs=1e-6)


# -- tapes and function-valued operations --------------------------------------------------------------------


@fw.custom_vjp
def cube_by_vjp(x: Any) -> Any:
    return x**3


cube_by_vjp.defvjp(lambda x: (x**3, x), lambda x, g: (3 * x * x * g,))


@fw.custom_jvp
def cube_by_jvp(x: Any) -> Any:
    return x**3


cube_by_jvp.defjvp(lambda primals, tangents: (primals[0] ** 3, 3 * primals[0] ** 2 * tangents[0]))


class Cube(fw.Function):
    """x³, with a backward of its own."""

    @staticmethod
    def forward(ctx: Any, x: Any) -> Any:
        ctx.save_for_backward(x)
        return x**3

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        (x,) = ctx.saved_tensors
        return 3 * x * x * g


CUBES = {
    "checkpoint": fw.checkpoint(lambda x: x**3),
    "custom_vjp": cube_by_vjp,
    "custom_jvp": cube_by_jvp,
    "Function": Cube.apply,
    "implicit": fw.implicit(lambda a: a**3, lambda y, a: y - a**3),
}


@pytest.mark.parametrize("name", CUBES)
def test_function_valued_operations_on_a_tape(name: str) -> None:
    f = CUBES[name]
    x, both = t(2.0), t([2.0, 1.0])

    def in_place(x: Any) -> Any:  # without a copy before: what is watched comes from outside
        with fw.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        return tape.gradient(y, x)

    assert in_place(x).item() == 12.0
    assert fw.grad(in_place)(x).item() == 12.0
    assert fw.jvp(in_place, (x,), (t(1.0),))[1].item() == 12.0
    assert vmap(in_place)(both).tolist() == [12.0, 3.0]
    assert by_tape(by_tape(f))(x).item() == 12.0
    assert vmap(by_tape(by_tape(f)))(both).tolist() == [12.0, 6.0]
    assert by_tape(fw.grad(f))(x).item() == 12.0
    assert vmap(by_tape(fw.grad(f)))(both).tolist() == [12.0, 6.0]
    assert vmap(fw.grad(by_tape(f)))(both).tolist() == [12.0, 6.0]
    assert by_tape(lambda x: vmap(f)(x * both).sum())(x).item() == 4 * 3 * (8 + 1)


@pytest.mark.parametrize("name", CUBES)
def test_function_valued_operations_on_values_of_a_tape_that_is_over(name: str) -> None:
    def f(x: Any) -> Any:
        with fw.GradientTape() as tape:
            tape.watch(x)
            y = x * x
        return CUBES[name](y) + tape.gradient(y, x)

    np.testing.assert_allclose(vmap(f)(t([1.0, 2.0])).numpy(), [3.0, 68.0], rtol=1e-12)
    assert fw.jvp(f, (t(2.0),), (t(1.0),))[1].item() == pytest.approx(6 * 32.0 + 2)


def test_a_checkpoint_is_computed_again_with_the_same_tensors_watched() -> None:
    w, x = t(2.0), t(3.0)
    with fw.GradientTape(persistent=True) as tape:
        tape.watch(w)
        y = fw.checkpoint(lambda v: v * w * w)(x)
    assert tape.gradient(y, w).item() == 12.0
    assert not w.requires_grad
    assert tape.gradient(y, w).item() == 12.0
    assert not w.requires_grad


def test_programs_of_functions_with_a_tape() -> None:
    x = t([1.0, 2.0])
    f = by_tape(lambda x: x**3)
    assert fw.graph(f, x)(t([3.0, 4.0]))[0].tolist() == [27.0, 48.0]
    assert [v.tolist() for v in (fw.linearize(f, x)[0], fw.linearize(f, x)[1](x))] == [[3.0, 12.0], [6.0, 24.0]]
