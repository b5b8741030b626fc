"""elementwise_grad, jacobian, hessian and hvp: shapes, structures, modes, complex numbers, and their errors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import framework as fw
import framework.numpy as fnp
from framework.autodiff import Tensor, ops, vmap
from framework.errors import ConfigError, DTypeError, GradientError, ShapeError

MODES = ("auto", "forward", "reverse")
BY_MODE = pytest.mark.parametrize("mode", MODES)


def t(value: Any, **kwargs: Any) -> Tensor:
    return fw.tensor(value, **{"dtype": "float64", **kwargs})


def table(*shape: int, seed: int = 0) -> Any:
    return np.random.default_rng(seed).normal(size=shape)


def differences(f: Callable[..., Any], args: list[Any], k: int, eps: float = 1e-6) -> Any:
    """The derivative of `f` on NumPy arrays with respect to argument k, of shape result + argument."""
    x = args[k]
    columns = []
    for i in range(x.size):
        step = np.zeros(x.size)
        step[i] = eps
        plus, minus = ([*args[:k], x + s * step.reshape(x.shape), *args[k + 1 :]] for s in (1, -1))
        columns.append((np.asarray(f(*plus)) - np.asarray(f(*minus))) / (2 * eps))
    shape = np.asarray(f(*args)).shape
    return (np.stack(columns, -1) if columns else np.zeros((*shape, 0))).reshape((*shape, *x.shape))


FUNCTIONS: dict[str, tuple[Callable[..., Any], list[tuple[int, ...]]]] = {
    "elementwise": (lambda xp, x: xp.sin(x) * x, [(3,)]),
    "matrix to vector": (lambda xp, x: xp.sum(x * x, axis=0), [(3, 2)]),
    "vector to matrix": (lambda xp, x: x[:, None] * xp.exp(x), [(3,)]),
    "number to number": (lambda xp, x: x**3, [()]),
    "number to vector": (lambda xp, x: xp.stack([x, x * x, xp.sin(x)]), [()]),
    "vector to number": (lambda xp, x: xp.sum(x**3), [(4,)]),
    "one to one": (lambda xp, x: x * x, [(1, 1)]),
    "two arguments": (lambda xp, x, y: xp.tanh(x @ y), [(2, 3), (3, 2)]),
    "broadcast": (lambda xp, x, y: x * y + y, [(2, 3), (3,)]),
    "no elements in": (lambda xp, x: xp.sum(x * x, axis=1), [(2, 0)]),
    "no elements out": (lambda xp, x: x[3:] * 2, [(3,)]),
    "a constant": (lambda xp, x: xp.ones((2, 2)), [(3,)]),
}


@BY_MODE
@pytest.mark.parametrize("name", FUNCTIONS)
def test_jacobians(name: str, mode: Any, backend: str) -> None:
    f, shapes = FUNCTIONS[name]
    xs = [table(*shape, seed=k) for k, shape in enumerate(shapes)]
    with fw.use_backend(backend):
        tensors = [t(x) for x in xs]
        got = fw.jacobian(lambda *a: f(fnp, *a), tuple(range(len(xs))), mode)(*tensors)
        for k, x in enumerate(xs):
            want = differences(lambda *a: f(np, *a), xs, k)
            assert got[k].shape == (*want.shape[: want.ndim - x.ndim], *x.shape)
            assert got[k].backend == backend
            np.testing.assert_allclose(got[k].numpy(), want, rtol=1e-7, atol=1e-8)
            one = fw.jacobian(lambda *a: f(fnp, *a), k, mode)(*tensors)
            np.testing.assert_array_equal(one.numpy(), got[k].numpy())


@pytest.mark.parametrize("name", [name for name in FUNCTIONS if name != "a constant"])
def test_hessians_of_arrays(name: str, backend: str) -> None:
    f, shapes = FUNCTIONS[name]
    xs = [table(*shape, seed=k) for k, shape in enumerate(shapes)]
    numbers = tuple(range(len(xs)))
    with fw.use_backend(backend):
        tensors = [t(x) for x in xs]
        got = fw.hessian(lambda *a: f(fnp, *a), numbers)(*tensors)
        for i in numbers:

            def gradient(*arrays: Any, i: int = i) -> Any:
                return fw.jacobian(lambda *a: f(fnp, *a), i)(*map(t, arrays)).numpy()

            for k in numbers:
                want = differences(gradient, xs, k)
                assert got[i][k].shape == want.shape
                np.testing.assert_allclose(got[i][k].numpy(), want, rtol=1e-6, atol=1e-7)


@BY_MODE
def test_jacobians_of_trees(mode: Any) -> None:
    """The result's structure, with the argument's structure in place of each array."""
    w, b, x = table(2, 3), table(2), table(3)

    def f(p: Any, x: Any) -> Any:
        y = p["w"] @ x + p["b"]
        return {"y": y, "parts": (y.sum() ** 2, [y[0] * p["b"]], None)}

    params = {"w": t(w), "b": t(b)}
    got = fw.jacobian(f, 0, mode)(params, t(x))
    assert {k: v.shape for k, v in got["y"].items()} == {"w": (2, 2, 3), "b": (2, 2)}
    assert {k: v.shape for k, v in got["parts"][0].items()} == {"w": (2, 3), "b": (2,)}
    assert got["parts"][1][0]["w"].shape == (2, 2, 3)
    assert got["parts"][2] is None
    np.testing.assert_allclose(got["y"]["b"].numpy(), np.eye(2), rtol=1e-12)
    np.testing.assert_allclose(got["y"]["w"].numpy(), np.einsum("ik,j->ikj", np.eye(2), x), rtol=1e-12)
    y = w @ x + b
    np.testing.assert_allclose(got["parts"][0]["b"].numpy(), np.full(2, 2 * y.sum()), rtol=1e-12)
    np.testing.assert_allclose(got["parts"][1][0]["b"].numpy(), np.outer(b, [1.0, 0.0]) + y[0] * np.eye(2), rtol=1e-12)
    both = fw.jacobian(f, (1, 0), mode)(params, t(x))
    assert isinstance(both["y"], tuple)
    np.testing.assert_allclose(both["y"][0].numpy(), w, rtol=1e-12)
    np.testing.assert_allclose(both["y"][1]["w"].numpy(), got["y"]["w"].numpy(), rtol=1e-12)


def test_hessians_of_trees() -> None:
    a, b = table(2), table(3, seed=1)
    got = fw.hessian(lambda p: (p["a"].sum() ** 2 * p["b"] ** 2).sum())({"a": t(a), "b": t(b)})
    assert {(i, k): got[i][k].shape for i in "ab" for k in "ab"} == {
        ("a", "a"): (2, 2),
        ("a", "b"): (2, 3),
        ("b", "a"): (3, 2),
        ("b", "b"): (3, 3),
    }
    np.testing.assert_allclose(got["a"]["a"].numpy(), np.full((2, 2), 2 * (b**2).sum()), rtol=1e-12)
    np.testing.assert_allclose(got["a"]["b"].numpy(), np.tile(4 * a.sum() * b, (2, 1)), rtol=1e-12)
    np.testing.assert_allclose(got["b"]["a"].numpy(), got["a"]["b"].numpy().T, rtol=1e-12)
    np.testing.assert_allclose(got["b"]["b"].numpy(), 2 * a.sum() ** 2 * np.eye(3), rtol=1e-12)


def test_keyword_arguments_are_passed_on() -> None:
    x = t([1.0, 2.0])
    for mode in MODES:
        got = fw.jacobian(lambda x, *, power: x**power, mode=mode)(x, power=3)
        assert got.tolist() == [[3.0, 0.0], [0.0, 12.0]]
    assert fw.hessian(lambda x, *, power: (x**power).sum())(x, power=3).tolist() == [[6.0, 0.0], [0.0, 12.0]]
    assert fw.elementwise_grad(lambda x, *, power: x**power)(x, power=3).tolist() == [3.0, 12.0]


def test_the_function_runs_once_and_never_by_rows() -> None:
    calls = []

    def f(x: Any, rows: int) -> Any:
        calls.append(1)
        return ops.broadcast_to(x.sum() ** 2, (rows,))

    x = t(np.ones(100))
    for mode, rows, count in (("reverse", 50, 1), ("forward", 50, 1), ("auto", 50, 1), ("auto", 200, 2)):
        calls.clear()
        assert fw.jacobian(f, 0, mode)(x, rows).shape == (rows, 100)
        assert len(calls) == count
    calls.clear()
    assert fw.hessian(f)(x, 1).shape == (1, 100, 100)
    assert len(calls) == 1


def test_jacobian_of_jacobian() -> None:
    x = table(2)
    for outer in MODES:
        for inner in MODES:
            third = fw.jacobian(
                fw.jacobian(fw.jacobian(lambda x: x**3 + x[0] * x[1] * x, 0, inner), 0, outer), 0, inner
            )
            got = third(t(x)).numpy()
            want = np.zeros((2, 2, 2, 2))
            for i in range(2):
                want[i, i, i, i] += 6
            for i in range(2):  # x0 x1 x_i
                exponents = [1 + (i == 0), 1 + (i == 1)]
                for j in np.ndindex(2, 2, 2):
                    if [j.count(0), j.count(1)] == exponents:
                        want[(i, *j)] += 2
            np.testing.assert_allclose(got, want, rtol=1e-12, atol=1e-12)


@BY_MODE
def test_derivatives_inside_other_transforms(mode: Any) -> None:
    x = table(4, 3)

    def f(x: Any) -> Any:
        return ops.sin(x) * x.sum()

    def np_jacobian(x: Any) -> Any:
        return np.diag(np.cos(x) * x.sum()) + np.sin(x)[:, None]

    rows = np.stack([np_jacobian(v) for v in x])
    np.testing.assert_allclose(vmap(fw.jacobian(f, mode=mode))(t(x)).numpy(), rows, rtol=1e-12)
    whole = fw.jacobian(vmap(f), mode=mode)(t(x)).numpy()
    np.testing.assert_allclose(whole, np.einsum("nij,nm->nimj", rows, np.eye(4)), rtol=1e-12, atol=1e-14)

    def trace(x: Any) -> Any:
        return ops.sum(fw.jacobian(f, mode=mode)(x) * ops.eye(3, dtype="float64"))  # Σ cos(x)·Σx + Σ sin(x)

    want = -np.sin(x[0]) * x[0].sum() + np.cos(x[0]).sum() + np.cos(x[0])
    np.testing.assert_allclose(fw.grad(trace)(t(x[0])).numpy(), want, rtol=1e-12)
    np.testing.assert_allclose(fw.jvp(trace, (t(x[0]),), (t(np.ones(3)),))[1].item(), want.sum(), rtol=1e-12)
    w = t(x[0]).requires_grad_()
    trace(w).backward()
    np.testing.assert_allclose(w.grad.numpy(), want, rtol=1e-12)
    np.testing.assert_allclose(vmap(fw.grad(trace))(t(x)).numpy()[0], want, rtol=1e-12)


def test_hessian_under_vmap_and_hessian_of_vmap() -> None:
    x = table(4, 3)

    def f(x: Any) -> Any:
        return (ops.exp(x) * x.sum()).sum()

    rows = np.stack([fw.hessian(f)(t(v)).numpy() for v in x])
    np.testing.assert_allclose(rows, rows.swapaxes(1, 2), rtol=1e-12)
    np.testing.assert_allclose(vmap(fw.hessian(f))(t(x)).numpy(), rows, rtol=1e-12)
    whole = fw.hessian(lambda x: vmap(f)(x).sum())(t(x)).numpy()
    np.testing.assert_allclose(whole, np.einsum("nij,nm->nimj", rows, np.eye(4)), rtol=1e-12, atol=1e-14)


def test_results_are_plain() -> None:
    x = t([1.0, 2.0])
    f = lambda x: x * x.sum()  # noqa: E731
    products = (fw.hvp(lambda x: f(x).sum(), (x,), (x,)), fw.elementwise_grad(f)(x), fw.hessian(f)(x))
    for result in (*products, *(fw.jacobian(f, mode=m)(x) for m in MODES)):
        assert type(result) is Tensor
        assert not result.requires_grad


def test_jacobian_keeps_the_dtype() -> None:
    x = fw.tensor([1.0, 2.0], dtype="float32")
    for mode in MODES:
        assert fw.jacobian(lambda x: x * 2, mode=mode)(x).dtype == "float32"
    assert fw.jacobian(lambda x: x * 2)(np.array([1.0, 2.0])).dtype == "float64"
    assert fw.jacobian(lambda x: x * 2)(3.0).item() == 2.0


def test_random_functions_draw_once_for_all() -> None:
    before = fw.random.state_dict()
    x = t(np.ones(4))
    for mode in MODES:
        got = fw.jacobian(lambda x: x * fw.random.normal((4,), dtype="float64"), mode=mode)(x).numpy()
        assert (got == np.diag(np.diag(got))).all()
        assert len(set(np.diag(got))) == 4
    fw.random.load_state_dict(before)


# -- hvp -------------------------------------------------------------------------------------------------


def test_hvp_is_the_hessian_times_a_direction(backend: str) -> None:
    x, v = table(4), table(4, seed=1)

    def f(x: Any) -> Any:
        return (ops.sin(x) * x.sum() ** 2).sum()

    with fw.use_backend(backend):
        got = fw.hvp(f, (t(x),), (t(v),))
        np.testing.assert_allclose(got.numpy(), fw.hessian(f)(t(x)).numpy() @ v, rtol=1e-11)
    rows = vmap(lambda v: fw.hvp(f, (t(x),), (v,)))(t(np.eye(4)))
    np.testing.assert_allclose(rows.numpy(), fw.hessian(f)(t(x)).numpy(), rtol=1e-11)


def test_hvp_of_several_and_nested_primals() -> None:
    x, y = table(2), table(2, seed=1)
    dx, dy = table(2, seed=2), table(2, seed=3)

    def f(p: Any, y: Any) -> Any:
        return (p["x"] ** 2 * y**2).sum()

    got = fw.hvp(f, ({"x": t(x)}, t(y)), ({"x": t(dx)}, t(dy)))
    np.testing.assert_allclose(got[0]["x"].numpy(), 2 * y**2 * dx + 4 * x * y * dy, rtol=1e-12)
    np.testing.assert_allclose(got[1].numpy(), 4 * x * y * dx + 2 * x**2 * dy, rtol=1e-12)
    got = fw.hvp(lambda p: f(p, t(y)), ({"x": t(x)},), ({"x": t(dx)},))
    np.testing.assert_allclose(got["x"].numpy(), 2 * y**2 * dx, rtol=1e-12)


# -- elementwise_grad ------------------------------------------------------------------------------------


def test_elementwise_grad(backend: str) -> None:
    x, y = table(3, 2), table(2, seed=1)
    with fw.use_backend(backend):
        np.testing.assert_allclose(fw.elementwise_grad(ops.tanh)(t(x)).numpy(), 1 - np.tanh(x) ** 2, rtol=1e-12)
        second = fw.elementwise_grad(fw.elementwise_grad(ops.sin))(t(x))
        np.testing.assert_allclose(second.numpy(), -np.sin(x), rtol=1e-12)
        by_y = fw.elementwise_grad(lambda x, y: x * y**2, 1)(t(x), t(y))
        np.testing.assert_allclose(by_y.numpy(), 2 * y * x.sum(0), rtol=1e-12)
        gx, gy = fw.elementwise_grad(lambda x, y: {"a": x * y, "b": [x]}, argnum=(0, 1))(t(x), t(y))
        np.testing.assert_allclose(gx.numpy(), 1 + np.broadcast_to(y, x.shape), rtol=1e-12)
        np.testing.assert_allclose(gy.numpy(), x.sum(0), rtol=1e-12)
    f: Any = ops.sin
    for _ in range(5):
        f = fw.elementwise_grad(f)
    np.testing.assert_allclose(f(t(x)).numpy(), np.cos(x), rtol=1e-12)
    np.testing.assert_allclose(vmap(fw.elementwise_grad(ops.sin))(t(x)).numpy(), np.cos(x), rtol=1e-12)


def test_elementwise_grad_of_a_holomorphic_function() -> None:
    z = np.array([1.0 + 2.0j, -0.5j])
    got = fw.elementwise_grad(lambda z: z**3)(fw.tensor(z))
    np.testing.assert_allclose(got.numpy(), 3 * z**2, rtol=1e-12)


# -- complex numbers -------------------------------------------------------------------------------------


def test_the_gradient_of_a_real_function_of_complex_numbers() -> None:
    """∂f/∂x − i ∂f/∂y."""
    z = fw.tensor([1.0 + 2.0j, -0.5 + 0.25j], dtype="complex128")
    got = fw.grad(lambda z: (ops.real(z) ** 2 + 3 * ops.imag(z)).sum())(z)
    np.testing.assert_allclose(got.numpy(), 2 * z.numpy().real - 3j, rtol=1e-12)
    got = fw.grad(lambda z: (ops.abs(z) ** 2).sum())(z)
    np.testing.assert_allclose(got.numpy(), 2 * z.numpy().conj(), rtol=1e-12)
    rows = fw.jacobian(lambda z: ops.abs(z) ** 2)(z)
    np.testing.assert_allclose(rows.numpy(), np.diag(2 * z.numpy().conj()), rtol=1e-12, atol=1e-15)
    assert rows.dtype == z.dtype


def test_a_complex_function_of_real_numbers() -> None:
    x = t([0.5, 1.5])
    for mode in ("auto", "forward"):
        got = fw.jacobian(lambda x: ops.exp(x * 1j), mode=mode)(x)
        np.testing.assert_allclose(got.numpy(), np.diag(1j * np.exp(1j * x.numpy())), rtol=1e-12, atol=1e-15)


def test_complex_derivatives_that_are_no_number_teach() -> None:
    z, x = t([1.0 + 2.0j], dtype="complex128"), t([1.0])
    for call, message in (
        (lambda: fw.grad(lambda z: z.sum())(z), r"returned complex128.*real\(\), imag\(\) or abs\(\)"),
        (lambda: fw.jacobian(lambda z: z * z)(z), "by rows of a function with complex results"),
        (lambda: fw.jacobian(lambda x: x * 1j, mode="reverse")(x), "mode='forward' where the arguments are real"),
        (lambda: fw.jacobian(lambda z: z * z, mode="forward")(z), "mode='reverse' for real results"),
        (lambda: fw.vjp(lambda x: x, x)[1](z), "of float64 is real, got complex128"),
    ):
        with pytest.raises(DTypeError, match=message):
            call()  # type: ignore[no-untyped-call]


# -- errors ----------------------------------------------------------------------------------------------


def test_wrong_calls_teach() -> None:
    x = t([1.0, 2.0])
    for call, error, message in (
        (lambda: fw.jacobian(lambda x: x, mode="rows"), ConfigError, "one of 'auto', 'forward', 'reverse', got 'rows'"),
        (lambda: fw.jacobian(lambda x: x)(fw.tensor([1])), DTypeError, "jacobian needs floating-point inputs, got int64"),
        (lambda: fw.hessian(lambda x: x)(fw.tensor([1])), DTypeError, "got int64"),
        (lambda: fw.jacobian(lambda x: x, 1)(x), GradientError, "argnums=1, but the function was called with 1"),
        (lambda: fw.jacobian(lambda x: x, (0, 0))(x), GradientError, "names an argument twice"),
        (lambda: fw.grad(lambda x, y: x, (0, -2))(x, x), GradientError, "names an argument twice"),
        (lambda: fw.grad(lambda x: x, "x")(x), GradientError, "argnums=x, but"),
        (lambda: fw.elementwise_grad(lambda x: x)(fw.tensor([1])), DTypeError, "elementwise_grad needs floating-point"),
        (lambda: fw.hvp(lambda x: x, (x,), (x,)), GradientError, r"returned shape \(2,\)"),
        (lambda: fw.hvp(lambda x: x, x, x), GradientError, r"hvp\(f, \(x,\), \(t,\)\)"),
        (lambda: fw.hvp(lambda x: x.sum(), (x,), (x, x)), GradientError, "1 arrays needs as many tangents, got 2"),
        (lambda: fw.hvp(lambda x: x.sum(), (x,), (t(1.0),)), ShapeError, r"has that shape, got \(\)"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            call()  # type: ignore[no-untyped-call]


# -- against JAX -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def jax() -> Any:
    """JAX with 64-bit floats, for the time of these tests."""
    module = pytest.importorskip("jax", reason="JAX is not installed: pip install -e '.[reference]'")
    module.config.update("jax_enable_x64", True)
    yield module
    module.config.update("jax_enable_x64", False)


def network(xp: Any, p: Any, x: Any) -> Any:
    h = xp.tanh(x @ p["w"] + p["b"])
    return {"out": h @ p["v"], "norm": (xp.sum(h * h), [h * x[0]])}


@pytest.mark.reference
def test_structures_are_those_of_jax(jax: Any) -> None:
    p = {"w": table(3, 4), "b": table(4, seed=1), "v": table(4, 2, seed=2)}
    x = table(3, seed=3)
    tp, tx = {k: t(v) for k, v in p.items()}, t(x)

    def ours(*a: Any) -> Any:
        return network(fnp, *a)

    def theirs(*a: Any) -> Any:
        return network(jax.numpy, *a)

    def scalar(*a: Any) -> Any:
        return network(fnp, *a)["norm"][0]

    for argnums in (0, (0, 1), (1,)):
        rows, columns, second = jax.jit(
            lambda p, x, n=argnums: (
                jax.jacrev(theirs, n)(p, x),
                jax.jacfwd(theirs, n)(p, x),
                jax.hessian(lambda *a: theirs(*a)["norm"][0], n)(p, x),
            )
        )(p, x)
        cases = [
            (fw.jacobian(ours, argnums, "reverse")(tp, tx), rows),
            (fw.jacobian(ours, argnums, "forward")(tp, tx), columns),
            (fw.hessian(scalar, argnums)(tp, tx), second),
            (fw.hessian(ours, argnums)(tp, tx)["norm"][0], second),
        ]
        for got, want in cases:
            got, structure = jax.tree.flatten(got)
            want, expected = jax.tree.flatten(want)
            assert structure == expected
            for g, w in zip(got, want):
                np.testing.assert_allclose(g.numpy(), np.asarray(w), rtol=1e-9, atol=1e-10)


@pytest.mark.reference
def test_complex_gradients_are_those_of_jax(jax: Any) -> None:
    z, w = table(3) + 1j * table(3, seed=1), table(3, seed=2) + 1j * table(3, seed=3)

    def f(xp: Any, z: Any, w: Any) -> Any:
        y = xp.exp(z * w) / (z + 2.0) + xp.conj(z) * w**2
        return xp.sum(xp.abs(y) + xp.real(y * z) * xp.imag(w))

    def ours(*a: Any) -> Any:
        return f(fnp, *a)

    def theirs(*a: Any) -> Any:
        return f(jax.numpy, *a)

    tz, tw = fw.tensor(z), fw.tensor(w)
    results = (
        fw.grad(ours, (0, 1))(tz, tw),
        fw.jvp(ours, (tz, tw), (tw, tz)),
        fw.jvp(fw.grad(ours), (tz, tw), (tw, tz)),
        fw.vjp(fw.grad(ours), tz, tw)[1](tw),
        (fw.jacobian(lambda z: fnp.abs(z) * fnp.real(fnp.sum(z)))(tz),),
    )
    expected = jax.jit(
        lambda z, w: (
            jax.grad(theirs, (0, 1))(z, w),
            jax.jvp(theirs, (z, w), (w, z)),
            jax.jvp(jax.grad(theirs), (z, w), (w, z)),
            jax.vjp(jax.grad(theirs), z, w)[1](w),
            (jax.jacrev(lambda z: abs(z) * jax.numpy.real(z.sum()))(z),),
        )
    )(z, w)
    for got, want in zip(results, expected):
        for g, v in zip(got, want):
            np.testing.assert_allclose(g.numpy(), np.asarray(v), rtol=1e-9, atol=1e-10)
