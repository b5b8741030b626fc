"""Implicit functions: the derivatives that an equation gives its solution, whatever found it."""

from __future__ import annotations

import gc
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from ways import BASIC, ONE, THREE, TWO, check_ways, names, t, values

import framework as fw
from framework.autodiff import ops
from framework.errors import DTypeError, GradientError, ShapeError


def kepler(y: Any, x: Any, w: Any) -> Any:
    """The residual of y + 0.3 sin(w y) = x."""
    return y + 0.3 * ops.sin(y * w) - x


def by_python(x: Any, w: Any) -> Any:
    """Newton's method on Python numbers."""
    a, b = float(x), w.item()
    y = a
    while abs(step := (y + 0.3 * math.sin(y * b) - a) / (1 + 0.3 * b * math.cos(y * b))) > 1e-15:
        y -= step
    return t(y)


def by_iteration(x: Any, w: Any) -> Any:
    """Newton's method on Tensors, a fixed number of steps; its own derivatives are what is expected."""
    y = x
    for _ in range(12):
        y = y - kepler(y, x, w) / (1 + 0.3 * w * ops.cos(y * w))
    return y


def closing(x: Any, w: Any) -> Any:
    """The residual closes over w and over a value computed from x."""
    h = x * 1.0
    return fw.implicit(by_python, lambda y, x, _: kepler(y, h, w))(x.detach(), w.detach())


def nested(x: Any, w: Any) -> Any:
    """Two unknowns in a dict, two equations in one array."""

    def solver(args: Any) -> Any:
        y = by_python(args["x"], args["w"])
        return {"y": [y], "z": y * 2.0}

    def residual(s: Any, args: Any) -> Any:
        first = kepler(s["y"][0], args["x"], args["w"]) + s["z"] - 2.0 * s["y"][0]
        return ops.stack([first, s["z"] * s["y"][0] - 2.0 * s["y"][0] ** 2])

    s = fw.implicit(solver, residual)({"x": x, "w": w})
    return 0.25 * s["z"] + 0.5 * s["y"][0]


FORMS = {"python": fw.implicit(by_python, kepler), "tensors": fw.implicit(by_iteration, kepler), "closing": closing}
forms = pytest.mark.parametrize("form", FORMS)


@forms
@pytest.mark.parametrize("ways", ONE, ids=names)
def test_first_derivatives(form: str, ways: Any) -> None:
    check_ways(FORMS[form], by_iteration, ways, 1e-9)


@pytest.mark.parametrize("ways", ONE, ids=names)
def test_first_derivatives_of_nested_unknowns(ways: Any) -> None:
    check_ways(nested, by_iteration, ways, 1e-9)


@pytest.mark.parametrize("ways", TWO, ids=names)
def test_second_derivatives(ways: Any) -> None:
    check_ways(FORMS["tensors"], by_iteration, ways, 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["closing", "python"])
@pytest.mark.parametrize("ways", TWO, ids=names)
def test_second_derivatives_of_other_forms(form: str, ways: Any) -> None:
    check_ways(FORMS[form], by_iteration, ways, 1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("ways", THREE[::2], ids=names)
def test_third_derivatives(ways: Any) -> None:
    check_ways(FORMS["tensors"], by_iteration, ways, 1e-8)


@pytest.mark.parametrize("way", BASIC, ids=lambda w: w.__name__[3:])
def test_through_a_checkpoint_and_on_the_strict_backend(way: Any) -> None:
    with fw.use_backend("strict"):
        f = fw.checkpoint(fw.implicit(by_iteration, kepler))
        np.testing.assert_allclose(values(f, [way]), values(by_iteration, [way]), rtol=1e-9)


@forms
def test_backward_and_create_graph(form: str) -> None:
    def gradients(f: Any) -> list[float]:
        x, w = t(0.7, requires_grad=True), t(1.3, requires_grad=True)
        f(x, w).backward(create_graph=True)
        first = x.grad.item(), w.grad.item()
        penalty = x.grad**2 + w.grad**3
        x.grad = w.grad = None
        penalty.backward()
        return [*first, x.grad.item(), w.grad.item()]

    assert gradients(FORMS[form]) == pytest.approx(gradients(by_iteration), rel=1e-9)


# -- systems -------------------------------------------------------------------------------------------------


def linear_system(a: Any, b: Any) -> Any:
    return fw.tensor(np.linalg.solve(a.numpy(), b.numpy()))


solve = fw.implicit(linear_system, lambda x, a, b: ops.matmul(a, x) - b)
A, B = t([[3.0, 1.0, 0.2], [0.5, 2.0, -0.3], [0.1, -0.4, 4.0]]), t([[1.0, 2.0], [0.5, -1.0], [3.0, 0.3]])


def test_a_linear_system_against_central_differences() -> None:
    assert fw.gradcheck(solve, [A, B])
    assert fw.gradcheck(lambda a, b: fw.grad(lambda a: (solve(a, b) ** 2).sum())(a), [A, B])


def test_a_linear_system_has_the_derivatives_of_solve() -> None:
    for f in (lambda g: fw.hessian(lambda a: (g(a, B) ** 3).sum()), lambda g: fw.jacobian(lambda a: g(a, B))):
        np.testing.assert_allclose(f(solve)(A).numpy(), f(ops.solve)(A).numpy(), rtol=1e-9)
    batch = ops.stack([A, A + 0.1, A * 2.0])
    for axes in ((0, None), (None, 0), (0, 0)):
        args = (batch if axes[0] == 0 else A, ops.stack([B, B * 2.0, B - 1.0]) if axes[1] == 0 else B)
        got = fw.vmap(fw.grad(lambda a, b: (solve(a, b) ** 2).sum(), (0, 1)), in_axes=axes)(*args)
        expected = fw.vmap(fw.grad(lambda a, b: (ops.solve(a, b) ** 2).sum(), (0, 1)), in_axes=axes)(*args)
        for x, y in zip(got, expected):
            np.testing.assert_allclose(x.numpy(), y.numpy(), rtol=1e-9)


def test_unknowns_of_several_shapes() -> None:
    """x (2, 2) and y () with x = a y, y = b sum(a)."""

    def solver(a: Any, b: Any) -> Any:
        y = b * a.sum()
        return a * y, y

    f = fw.implicit(solver, lambda s, a, b: {"r": s[1] - b * a.sum(), "q": ops.reshape(s[0] - a * s[1], (4,))})
    a, b = t([[1.0, 2.0], [3.0, 4.0]]), t(0.5)
    np.testing.assert_allclose(
        fw.jacobian(lambda a: f(a, b)[0])(a).numpy(), fw.jacobian(lambda a: solver(a, b)[0])(a).numpy(), rtol=1e-12
    )
    x, y = f(a, b)
    assert (x.shape, y.shape) == ((2, 2), ())


def test_the_solver_sees_plain_values_and_is_not_differentiated() -> None:
    calls = []

    def solver(a: Any) -> Any:
        calls.append((type(a), a.requires_grad, a.tolist()))
        return fw.tensor(np.sqrt(a.numpy()))

    root = fw.implicit(solver, lambda x, a: x * x - a)
    a = t([4.0, 9.0], requires_grad=True)
    root(a).sum().backward()
    assert a.grad.tolist() == pytest.approx([0.25, 1 / 6])
    fw.jvp(root, (a.detach(),), (a.detach(),))
    fw.grad(lambda a: root(a).sum())(a.detach())
    fw.jvp(fw.grad(lambda a: root(a).sum()), (a.detach(),), (a.detach(),))
    assert calls == [(type(a), False, [4.0, 9.0])] * 4


def test_under_vmap_a_solver_is_called_with_the_batch_or_once_per_sample() -> None:
    calls = []

    def of_tensors(a: Any) -> Any:
        calls.append("batch")
        return ops.sqrt(a)

    def of_numbers(a: Any) -> Any:
        calls.append(float(a))
        return t(math.sqrt(float(a)))

    def of_numpy(a: Any, b: Any) -> Any:
        return fw.tensor(np.sqrt(a.numpy() * b.numpy()))

    xs = t([1.0, 4.0, 9.0])
    assert fw.vmap(fw.implicit(of_tensors, lambda x, a: x * x - a))(xs).tolist() == [1.0, 2.0, 3.0]
    assert calls == ["batch"]
    calls.clear()
    assert fw.vmap(fw.implicit(of_numbers, lambda x, a: x * x - a))(xs).tolist() == [1.0, 2.0, 3.0]
    assert calls == [1.0, 4.0, 9.0]
    f = fw.implicit(of_numpy, lambda x, a, b: x * x - a * b)
    two = fw.vmap(lambda a: fw.vmap(lambda b: fw.grad(lambda a: f(a, b))(a))(xs))(xs)
    np.testing.assert_allclose(two.numpy(), 0.5 * np.sqrt(np.outer(1 / xs.numpy(), xs.numpy())), rtol=1e-12)


def test_a_layer_that_closes_over_weights() -> None:
    """z = tanh(W z + x), a deep equilibrium layer of one sample in a batch."""
    w, x = t(0.3 * np.linspace(-1, 1, 9).reshape(3, 3), requires_grad=True), t([[0.5, -0.2, 0.9], [0.1, 0.3, -0.5]])

    def step(z: Any, x: Any) -> Any:
        return ops.tanh(ops.matmul(z, w) + x)

    def solver(x: Any) -> Any:
        z = ops.zeros_like(x)
        for _ in range(80):
            z = step(z, x)
        return z

    def gradients(layer: Any) -> Any:
        w.grad = None
        (layer(x) ** 2).sum().backward()
        return w.grad.numpy()

    got = gradients(fw.implicit(solver, lambda z, x: step(z, x) - z))
    np.testing.assert_allclose(got, gradients(solver), rtol=1e-9)
    per_sample = gradients(fw.vmap(fw.implicit(solver, lambda z, x: step(z, x) - z)))
    np.testing.assert_allclose(per_sample, got, rtol=1e-9)


# -- gradients of hyper-parameters ---------------------------------------------------------------------------

RNG = np.random.default_rng(0)
X, Y = t(RNG.normal(size=(20, 4))), t(RNG.normal(size=20))
X_VAL, Y_VAL = t(RNG.normal(size=(10, 4))), t(RNG.normal(size=10))


def ridge_gradient(beta: Any, log_lam: Any) -> Any:
    return ops.matmul(ops.matmul(X, beta) - Y, X) + ops.exp(log_lam) * beta


def ridge_closed_form(log_lam: Any) -> Any:
    return ops.solve(ops.matmul(X.mT, X) + ops.exp(log_lam) * ops.eye(4, dtype="float64"), ops.matmul(Y, X))


def validation_loss(beta: Any) -> Any:
    return ((ops.matmul(X_VAL, beta) - Y_VAL) ** 2).sum()


def test_ridge_regression_against_the_closed_form() -> None:
    def by_descent(log_lam: Any) -> Any:
        x, y, beta, lam = X.numpy(), Y.numpy(), np.zeros(4), math.exp(log_lam.item())
        rate = 1.0 / (np.linalg.norm(x, 2) ** 2 + lam)
        for _ in range(3000):
            beta = beta - rate * ((x @ beta - y) @ x + lam * beta)
        return fw.tensor(beta)

    fit = fw.implicit(by_descent, ridge_gradient)

    def outer(fit: Any) -> Any:
        return lambda s: validation_loss(fit(s))

    for s in (t(-1.0), t(1.5)):
        assert fit(s).tolist() == pytest.approx(ridge_closed_form(s).tolist())
        assert fw.grad(outer(fit))(s).item() == pytest.approx(fw.grad(outer(ridge_closed_form))(s).item(), rel=1e-9)
        got, expected = (fw.hessian(outer(f))(s).item() for f in (fit, ridge_closed_form))
        assert got == pytest.approx(expected, rel=1e-8)


def test_the_residual_may_be_a_gradient() -> None:
    """Logistic regression: the optimum is where the gradient of the loss is zero; against finite differences."""
    labels = ops.astype(Y > 0.0, "float64")

    def loss(beta: Any, log_lam: Any) -> Any:
        z = ops.matmul(X, beta)
        return ops.sum(ops.logaddexp(z, ops.zeros_like(z)) - labels * z) + 0.5 * ops.exp(log_lam) * ops.sum(beta * beta)

    def newton(log_lam: Any) -> Any:
        beta = ops.zeros(4, dtype="float64")
        for _ in range(12):
            h = fw.hessian(loss)(beta, log_lam)
            beta = beta - ops.solve(h, fw.grad(loss)(beta, log_lam))
        return beta

    fit = fw.implicit(newton, fw.grad(loss))
    assert fw.gradcheck(lambda s: validation_loss(fit(s)), t(0.3), rtol=1e-6)
    derivative = fw.grad(lambda s: validation_loss(fit(s)))
    second = (derivative(t(0.3 + 1e-5)).item() - derivative(t(0.3 - 1e-5)).item()) / 2e-5
    assert fw.grad(derivative)(t(0.3)).item() == pytest.approx(second, rel=1e-6)
    assert fw.jvp(derivative, (t(0.3),), (t(1.0),))[1].item() == pytest.approx(second, rel=1e-6)


# -- small matters -------------------------------------------------------------------------------------------


def test_keywords_and_arguments_that_are_no_arrays() -> None:
    def solver(a: Any, kind: str, *, n: int, table: Any) -> Any:
        assert (kind, n, table["none"]) == ("root", 3, None)
        return fw.tensor(np.cbrt(a.numpy() * table["k"]))

    f = fw.implicit(solver, lambda x, a, kind, *, n, table: x**n - a * table["k"])
    g = fw.grad(lambda a: f(a, "root", n=3, table={"k": 1.0, "none": None}))(t(8.0))
    assert g.item() == pytest.approx(1 / 12)
    assert f.__name__ == "solver"


def test_nothing_tracked_no_residual_of_integers_and_no_unknowns() -> None:
    f = fw.implicit(lambda a, n: a * n, lambda x, a, n: x - a * n)
    assert f(t(3.0), 2).item() == 6.0
    assert not f(t(3.0), 2).requires_grad
    with fw.no_grad():
        assert not f(t(3.0, requires_grad=True), 2).requires_grad
    a = t([], requires_grad=True)
    f(a, 2).sum().backward()
    assert a.grad.shape == (0,)
    assert fw.jvp(lambda a: f(a, 2), (a.detach(),), (a.detach(),))[1].shape == (0,)


def test_complex_solutions_have_the_derivatives_of_the_square_root() -> None:
    root = fw.implicit(ops.sqrt, lambda x, a: x * x - a)
    a, g = fw.tensor([3 + 4j, 1 - 2j], dtype="complex128"), fw.tensor([1 + 1j, 2 - 1j], dtype="complex128")
    for way in (lambda f: fw.vjp(f, a)[1](g)[0], lambda f: fw.jvp(f, (a,), (g,))[1]):
        np.testing.assert_allclose(way(root).numpy(), way(ops.sqrt).numpy(), rtol=1e-12)


def test_an_argument_that_is_changed_afterwards() -> None:
    a = t([4.0], requires_grad=True)
    h = a * 1.0
    y = fw.implicit(ops.sqrt, lambda x, a: x * x - a)(h)
    h += 100.0
    y.sum().backward()
    assert a.grad.tolist() == [0.25]


@pytest.fixture
def no_gc() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.parametrize("way", ["backward", "jvp", "vmap"])
def test_there_are_no_reference_cycles(way: str, no_gc: None) -> None:
    def run() -> None:
        f = fw.implicit(ops.sqrt, lambda x, a: x * x - a)
        a = t([4.0, 9.0], requires_grad=True)
        if way == "jvp":
            fw.jvp(f, (a.detach(),), (a.detach(),))
        else:
            (fw.vmap(f) if way == "vmap" else f)(a).sum().backward()

    run()
    gc.collect()
    run()
    assert gc.collect() == 0


# -- errors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", [fw.grad, lambda f: lambda x: fw.jvp(f, (x,), (x,)), lambda f: fw.grad(fw.vmap(f))])
def test_a_singular_jacobian(way: Any) -> None:
    f = fw.implicit(lambda a: a * 0.0, lambda x, a: x**2 * a)
    with pytest.raises(GradientError, match="Jacobian of the residual .* is singular"):
        way(f)(t([3.0]) if way is not fw.grad else t(3.0))


def test_a_singular_system() -> None:
    f = fw.implicit(
        lambda a: ops.stack([a, a]), lambda x, a: ops.stack([x[0] + x[1] - 2 * a, 2 * x[0] + 2 * x[1] - 4 * a])
    )
    with pytest.raises(GradientError, match="does every unknown|Does every unknown"):
        fw.grad(lambda a: f(a)[0])(t(1.0))


def test_a_solution_of_integers() -> None:
    with pytest.raises(DTypeError, match="floating point, the solver returned int64"):
        fw.implicit(lambda a: 2, lambda x, a: x * x - a)(t(4.0))


def test_a_residual_of_another_size() -> None:
    f = fw.implicit(lambda a: ops.stack([a, a]), lambda x, a: x[0] - a)
    with pytest.raises(ShapeError, match=r"the residual has shape \(\), the solution \(2,\)"):
        fw.grad(lambda a: f(a).sum())(t(1.0))


def test_errors_of_the_solver_and_of_the_residual_are_passed_on() -> None:
    def no_solver(a: Any) -> Any:
        raise ArithmeticError("no convergence")

    with pytest.raises(ArithmeticError, match="no convergence"):
        fw.vmap(fw.implicit(no_solver, kepler))(t([1.0]))
    with pytest.raises(GradientError, match=r"NumPy would lose"):
        fw.grad(fw.implicit(lambda a: a, lambda x, a: fw.tensor(np.sin(x.numpy() + a.numpy()))))(t(1.0))


@pytest.fixture(scope="module")
def jax() -> Iterator[Any]:
    """JAX in float64."""
    module = pytest.importorskip("jax", reason="JAX is not installed: pip install -e '.[reference]'")
    module.config.update("jax_enable_x64", True)
    yield module
    module.config.update("jax_enable_x64", False)


@pytest.mark.reference
def test_against_jax_on_unrolled_iterations(jax: Any) -> None:
    solver = fw.implicit(by_python, kepler)

    def theirs(x: Any, w: Any) -> Any:
        y = x
        for _ in range(12):
            y = y - (y + 0.3 * jax.numpy.sin(y * w) - x) / (1 + 0.3 * w * jax.numpy.cos(y * w))
        return y

    expected = jax.hessian(theirs, (0, 1))(0.7, 1.3)
    got = [[fw.grad(fw.grad(solver, i), j)(t(0.7), t(1.3)).item() for j in (0, 1)] for i in (0, 1)]
    np.testing.assert_allclose(got, [[float(e) for e in row] for row in expected], rtol=1e-9)
