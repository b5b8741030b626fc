"""Transforms inside transforms: every mix of modes gives the same derivative, and none confuses two variables."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework.autodiff import Tensor, ops, vmap

Scalar = Callable[[Any], Any]


def t(value: Any) -> Tensor:
    return fw.tensor(value, dtype="float64")


# -- the ways to take a derivative of a function of one number -----------------------------------------------


def by_grad(f: Scalar) -> Scalar:
    return fw.grad(f)


def by_jvp(f: Scalar) -> Scalar:
    return lambda x: fw.jvp(f, (x,), (ops.ones_like(x),))[1]


def by_vjp(f: Scalar) -> Scalar:
    return lambda x: fw.vjp(f, x)[1](ops.ones_like(x))[0]


def by_vmap_of_grad(f: Scalar) -> Scalar:
    return lambda x: vmap(fw.grad(f))(ops.stack([x * 0.5, x]))[1]


def by_grad_of_vmap(f: Scalar) -> Scalar:
    return lambda x: fw.grad(lambda xs: vmap(f)(xs).sum())(ops.stack([x * 0.5, x]))[1]


def by_vmap_of_jvp(f: Scalar) -> Scalar:
    return lambda x: vmap(lambda v: fw.jvp(f, (x,), (v,))[1])(t([2.0, 1.0]))[1]


def by_jvp_of_vmap(f: Scalar) -> Scalar:
    return lambda x: fw.jvp(vmap(f), (ops.stack([x * 0.5, x]),), (t([0.0, 1.0]),))[1][1]


def by_vmap_of_a_pullback(f: Scalar) -> Scalar:
    return lambda x: vmap(fw.vjp(f, x)[1])(t([2.0, 1.0]))[0][1]


def by_jvp_of_a_pullback(f: Scalar) -> Scalar:
    """A pullback is linear: its own derivative is the pullback of the direction."""
    return lambda x: fw.jvp(fw.vjp(f, x)[1], (t(3.0),), (t(1.0),))[1][0]


def by_tape(f: Scalar) -> Scalar:
    def derivative(x: Any) -> Any:
        x = ops.clone(x)  # apart from what the function closes over
        with fw.GradientTape() as tape:
            tape.watch(x)
            y = f(x)
        return tape.gradient(y, x)

    return derivative


def by_linearize(f: Scalar) -> Scalar:
    return lambda x: fw.linearize(f, x)[1](ops.ones_like(x))


def by_jacobian(f: Scalar) -> Scalar:
    return lambda x: fw.jacobian(lambda x: ops.stack([f(x), f(x * 0.5)]), mode="auto")(x)[0]


def by_elementwise_grad(f: Scalar) -> Scalar:
    return lambda x: fw.elementwise_grad(lambda xs: ops.stack([f(xs[0]), f(xs[1])]))(ops.stack([x, x * 0.5]))[0]


BASIC = (by_grad, by_jvp, by_vmap_of_grad, by_grad_of_vmap)
SINGLE = (by_grad, by_jvp, by_vjp, by_tape, by_linearize)
WAYS = (
    *BASIC,
    by_vjp,
    by_tape,
    by_linearize,
    by_jacobian,
    by_elementwise_grad,
    by_vmap_of_jvp,
    by_jvp_of_vmap,
    by_vmap_of_a_pullback,
    by_jvp_of_a_pullback,
)


def wave(x: Any) -> Any:
    return ops.sin(x) * ops.exp(x)


def wave_derivative(order: int, x: float) -> float:
    return float((2 ** (order / 2)) * np.exp(x) * np.sin(x + order * np.pi / 4))


def names(ways: Any) -> str:
    return " of ".join(way.__name__[3:] for way in ways)


@pytest.mark.parametrize("ways", [w for n in (1, 2) for w in product(WAYS, repeat=n)], ids=names)
def test_one_and_two_derivatives(ways: Any) -> None:
    check_derivatives(ways)


@pytest.mark.parametrize("ways", sorted({*product(BASIC, repeat=3), *product(SINGLE, repeat=3)}, key=names), ids=names)
def test_three_derivatives(ways: Any) -> None:
    check_derivatives(ways)


@pytest.mark.slow
@pytest.mark.parametrize("ways", list(product(WAYS, repeat=3)), ids=names)
def test_three_derivatives_in_all_ways(ways: Any) -> None:
    check_derivatives(ways)


@pytest.mark.slow
@pytest.mark.parametrize("ways", list(product(BASIC, repeat=4)), ids=names)
def test_four_derivatives(ways: Any) -> None:
    check_derivatives(ways)


def check_derivatives(ways: Any) -> None:
    f = wave
    for way in reversed(ways):
        f = way(f)
    got = f(t(0.7))
    assert got.shape == ()
    assert not got.requires_grad
    assert got.item() == pytest.approx(wave_derivative(len(ways), 0.7), rel=1e-12)


@pytest.mark.parametrize("ways", list(product(BASIC, repeat=2)), ids=names)
def test_two_derivatives_on_the_strict_backend(ways: Any) -> None:
    with fw.use_backend("strict"):
        check_derivatives(ways)


@pytest.mark.parametrize("way", WAYS, ids=lambda w: w.__name__[3:])
def test_backward_through_a_derivative(way: Any) -> None:
    """The outermost derivative is taken by the tape of Tensors."""
    x = t(0.7).requires_grad_()
    way(wave)(x).backward()
    assert x.grad.item() == pytest.approx(wave_derivative(2, 0.7), rel=1e-12)


@pytest.mark.parametrize("way", WAYS, ids=lambda w: w.__name__[3:])
def test_a_derivative_of_a_gradient_that_was_recorded(way: Any) -> None:
    def f(x: Any) -> Any:
        return way(lambda x: x**3 * 2)(x)

    x = t(2.0).requires_grad_()
    f(x).backward(create_graph=True)
    first = x.grad
    x.grad = None
    first.backward()
    assert (first.item(), x.grad.item()) == (24.0, 12.0)


# -- perturbation confusion ----------------------------------------------------------------------------------

PAIRS = pytest.mark.parametrize(("outer", "inner"), list(product(WAYS, WAYS)), ids=lambda w: w.__name__[3:])


@PAIRS
def test_the_derivative_of_a_sum_is_no_function_of_the_other_variable(outer: Any, inner: Any) -> None:
    """d/dx [x · d/dy (x + y)] is 1."""

    def f(x: Any) -> Any:
        return x * inner(lambda y: x + y)(x)

    assert outer(f)(t(1.0)).item() == 1.0
    assert outer(lambda x: x * inner(lambda y: x + y)(t(1.0)))(t(1.0)).item() == 1.0


@PAIRS
def test_an_inner_derivative_carries_the_outer_variable(outer: Any, inner: Any) -> None:
    def at_a_constant(x: Any) -> Any:
        return inner(lambda y: x * x * y)(t(5.0))

    def at_itself(x: Any) -> Any:
        return inner(lambda y: x * y * y)(x)  # 2x²

    def around(x: Any) -> Any:
        held = x * 3
        return inner(lambda y: held * y)(x * 2) * x  # 3x²

    assert outer(at_a_constant)(t(3.0)).item() == pytest.approx(6.0)
    assert outer(at_itself)(t(3.0)).item() == pytest.approx(12.0)
    assert outer(around)(t(3.0)).item() == pytest.approx(18.0)


@pytest.mark.parametrize("ways", sorted({*product(BASIC, repeat=3), *product(SINGLE, repeat=3)}, key=names), ids=names)
def test_three_variables_stay_apart(ways: Any) -> None:
    """d/dx [x · d/dy (y · d/dz (x·y·z))] at y = 2: the innermost is xy, then d/dy xy² = 4x, then d/dx 4x² = 8x."""
    a, b, c = ways
    got = a(lambda x: x * b(lambda y: y * c(lambda z: x * y * z)(t(7.0)))(t(2.0)))(t(3.0))
    assert got.item() == pytest.approx(24.0)


@pytest.mark.parametrize("ways", list(product(SINGLE, repeat=2)), ids=names)
def test_backward_keeps_variables_apart_too(ways: Any) -> None:
    """The outermost derivatives by backward, of a graph that `create_graph` makes."""
    b, c = ways
    x = t(1.0).requires_grad_()
    (x * b(lambda y: x + y)(t(1.0))).backward()
    assert x.grad.item() == 1.0
    x = t(1.0).requires_grad_()
    (x * b(lambda y: x + y)(x)).backward()
    assert x.grad.item() == 1.0
    x = t(3.0).requires_grad_()
    (x * b(lambda y: y * c(lambda z: x * y * z)(t(7.0)))(t(2.0))).backward()
    assert x.grad.item() == pytest.approx(24.0)
    x = t(3.0).requires_grad_()
    (x * b(lambda y: x * y * c(lambda z: x * y * z)(x))(x)).backward(create_graph=True)  # x · 2x³
    first = x.grad
    x.grad = None
    (first * b(lambda y: x * y)(x)).backward()  # 8x³ · x
    assert (first.item(), x.grad.item()) == (pytest.approx(8 * 27.0), pytest.approx(32 * 27.0))


def test_a_gradient_of_the_same_tensor_twice() -> None:
    x = t(3.0)
    assert fw.grad(lambda x: fw.grad(lambda y: x * y + y * y)(x))(x).item() == 3.0


# -- functions of arrays -------------------------------------------------------------------------------------


def rosenbrock(x: Any) -> Any:
    return (100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


def np_hessian(x: Any) -> Any:
    n = len(x)
    h = np.zeros((n, n))
    for i in range(n - 1):
        h[i, i] += 1200 * x[i] ** 2 - 400 * x[i + 1] + 2
        h[i + 1, i + 1] += 200
        h[i, i + 1] = h[i + 1, i] = -400 * x[i]
    return h


HESSIANS: dict[str, Callable[[Any, Any], Any]] = {
    "forward over reverse": lambda x, unit: vmap(lambda v: fw.jvp(fw.grad(rosenbrock), (x,), (v,))[1])(unit),
    "reverse over reverse": lambda x, unit: vmap(fw.vjp(fw.grad(rosenbrock), x)[1])(unit)[0],
    "reverse over forward": lambda x, unit: vmap(fw.grad(lambda x, v: fw.jvp(rosenbrock, (x,), (v,))[1]), (None, 0))(
        x, unit
    ),
    "forward over forward": lambda x, unit: vmap(
        lambda u: vmap(lambda v: fw.jvp(lambda x: fw.jvp(rosenbrock, (x,), (u,))[1], (x,), (v,))[1])(unit)
    )(unit),
    "one row at a time": lambda x, unit: ops.stack(
        [fw.grad(lambda x, v=v: (fw.grad(rosenbrock)(x) * v).sum())(x) for v in unit]
    ),
}


@pytest.mark.parametrize("way", HESSIANS)
def test_hessians(way: str, backend: str) -> None:
    x = np.array([0.3, -1.2, 0.8, 1.5])
    with fw.use_backend(backend):
        got = HESSIANS[way](t(x), t(np.eye(4)))
    np.testing.assert_allclose(got.numpy(), np_hessian(x), rtol=1e-12, atol=1e-10)


def test_per_sample_gradients_of_a_network() -> None:
    rng = np.random.default_rng(0)
    params = {"w": t(rng.normal(size=(4, 3))), "b": t(rng.normal(size=4)), "v": t(rng.normal(size=(2, 4)))}
    x, y = t(rng.normal(size=(6, 3))), fw.tensor(rng.integers(0, 2, 6))

    def loss(p: Any, x: Any, y: Any) -> Any:
        return ops.softmax_cross_entropy(ops.linear(ops.relu(ops.linear(x, p["w"], p["b"])), p["v"]), y)

    batched = vmap(fw.grad(loss), (None, 0, 0))(params, x, y)
    rows = [fw.grad(loss)(params, x[i], y[i]) for i in range(6)]
    whole = fw.grad(loss)(params, x, y)
    for name in params:
        np.testing.assert_allclose(batched[name].numpy(), np.stack([r[name].numpy() for r in rows]), rtol=1e-12)
        np.testing.assert_allclose(batched[name].numpy().mean(0), whole[name].numpy(), rtol=1e-10, atol=1e-14)


# -- transforms and the tape of Tensors ------------------------------------------------------------------------


def test_gradient_penalty() -> None:
    """fw.grad with respect to the input, inside a loss whose backward goes to the weights."""
    w = t([1.0, 2.0, 3.0]).requires_grad_()
    x = t([0.5, -1.0, 2.0])

    def f(x: Any) -> Any:
        return ops.tanh(x * w).sum()

    penalty = (fw.grad(f)(x) ** 2).sum()
    assert penalty.requires_grad
    penalty.backward()
    fw.gradcheck(lambda w: (fw.grad(lambda x: ops.tanh(x * w).sum())(x) ** 2).sum(), w.detach())
    want = fw.grad(lambda w: (fw.grad(lambda x: ops.tanh(x * w).sum())(x) ** 2).sum())(w.detach())
    np.testing.assert_allclose(w.grad.numpy(), want.numpy(), rtol=1e-13)


@pytest.mark.parametrize("way", WAYS, ids=lambda w: w.__name__[3:])
def test_closures_over_parameters(way: Any) -> None:
    w = t(2.0).requires_grad_()
    y = way(lambda x: w * w * x**3)(t(3.0))  # 3 w² x²
    assert y.item() == 108.0
    y.backward()
    assert w.grad.item() == 108.0  # 6 w x²


def test_a_value_returned_beside_the_gradient_is_tracked_too() -> None:
    w = t(2.0).requires_grad_()
    value, g = fw.value_and_grad(lambda x: w * x * x)(t(3.0))
    (value + g).backward()
    assert w.grad.item() == 9.0 + 6.0


def test_without_tracked_weights_nothing_is_recorded() -> None:
    w = t(2.0).requires_grad_()
    with fw.no_grad():
        value, g = fw.value_and_grad(lambda x: w * x * x)(t(3.0))
        batch = vmap(fw.value_and_grad(lambda x: w * x * x))(t([3.0, 4.0]))
        twice = fw.grad(fw.grad(lambda x: w * x**3))(t(3.0))
        inside = vmap(fw.grad(fw.grad(lambda x: w * x**3)))(t([3.0, 4.0]))
    assert [v.tolist() for v in (value, g, *batch, twice, inside)] == [
        18.0,
        12.0,
        [18.0, 32.0],
        [12.0, 16.0],
        36.0,
        [36.0, 48.0],
    ]
    assert not any(v.requires_grad for v in (value, g, *batch, twice, inside))


def test_grad_of_a_tracked_tensor_inside_a_loss() -> None:
    x = t(3.0).requires_grad_()
    (fw.grad(lambda x: x**3)(x) * x).backward()  # 3x³
    assert x.grad.item() == 81.0


def test_an_inner_loop_of_updates_is_differentiated() -> None:
    """Gradient descent on the inner problem, differentiated with respect to the learning rate."""

    def after(lr: Any, w: Any) -> Any:
        for _ in range(3):
            w = w - lr * fw.grad(lambda w: (w * w).sum())(w)
        return (w * w).sum()

    lr, w = t(0.1), t([1.0, 2.0])
    want = 5.0 * 6 * (1 - 2 * 0.1) ** 5 * -2
    assert fw.grad(after)(lr, w).item() == pytest.approx(want, rel=1e-12)
    assert fw.jvp(lambda lr: after(lr, w), (lr,), (t(1.0),))[1].item() == pytest.approx(want, rel=1e-12)
    lr.requires_grad = True
    after(lr, w).backward()
    assert lr.grad.item() == pytest.approx(want, rel=1e-12)


def test_no_grad_inside_grad_makes_a_constant() -> None:
    def f(x: Any) -> Any:
        with fw.no_grad():
            held = x * x
        return held * x

    assert fw.grad(f)(t(3.0)).item() == 9.0
    assert vmap(fw.grad(f))(t([3.0, 4.0])).tolist() == [9.0, 16.0]


def test_grad_inside_no_grad_inside_grad() -> None:
    def f(x: Any) -> Any:
        with fw.no_grad():
            slope = fw.grad(lambda y: y**3)(x)
        return slope * x

    assert fw.grad(f)(t(2.0)).item() == 12.0
    assert vmap(fw.grad(f))(t([2.0, 3.0])).tolist() == [12.0, 27.0]
    x = t(2.0).requires_grad_()
    f(x).backward()
    assert x.grad.item() == 12.0


# -- hooks ---------------------------------------------------------------------------------------------------


def hooked(x: Any) -> Any:
    """x³, whose gradient is 21x² by a hook on x²."""
    h = x * x
    h.register_hook(lambda g: g * 10)
    return h * x


@pytest.mark.parametrize("way", WAYS, ids=lambda w: w.__name__[3:])
def test_a_hook_is_part_of_its_gradient_alone(way: Any) -> None:
    """A derivative of the gradient is that of 21x²: the hook does not run again there."""
    assert fw.grad(hooked)(t(2.0)).item() == 84.0
    assert way(fw.grad(hooked))(t(2.0)).item() == pytest.approx(84.0)
    assert way(way(fw.grad(hooked)))(t(2.0)).item() == pytest.approx(42.0)
    x = t(2.0).requires_grad_()
    way(fw.grad(hooked))(x).backward()
    assert x.grad.item() == pytest.approx(42.0)


def test_a_hook_from_outside_runs_in_backward_only() -> None:
    x = t(2.0).requires_grad_()
    seen = []
    x.register_hook(lambda g: seen.append(g.item()))
    z = fw.grad(lambda y: y**3 * x)(x)  # 3x³
    assert seen == []
    z.backward()
    assert (seen, x.grad.item()) == ([36.0], 36.0)


def test_a_pullback_runs_its_hooks_each_time() -> None:
    seen = []

    def f(x: Any) -> Any:
        h = x * 2
        h.register_hook(lambda g: seen.append(g.item()))
        return h * 3

    _, pull = fw.vjp(f, t(1.0))
    assert [pull(1.0)[0].item(), pull(2.0)[0].item()] == [6.0, 12.0]
    assert seen == [3.0, 6.0]
