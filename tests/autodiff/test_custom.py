"""custom_jvp and custom_vjp: the user's rule is what every transform uses, in JAX's forms."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import pytest
from ways import BASIC, ONE, THREE, TWO, by_jvp, check_ways, names, t, values, wave

import framework as fw
from framework.autodiff import ops
from framework.errors import GradientError, ShapeError

by_jvp_rule = fw.custom_jvp(wave)


@by_jvp_rule.defjvp
def _wave_jvp(primals: Any, tangents: Any) -> Any:
    (x, w), (tx, tw) = primals, tangents
    e, s, c = ops.exp(x), ops.sin(x * w), ops.cos(x * w)
    return by_jvp_rule(x, w), tx * e * (w * c + s) + tw * x * c * e


by_partials = fw.custom_jvp(wave)
by_partials.defjvps(
    lambda t, out, x, w: t * (w * ops.cos(x * w) * ops.exp(x) + out),
    lambda t, out, x, w: t * x * ops.cos(x * w) * ops.exp(x),
)

by_vjp_rule = fw.custom_vjp(wave)


def _wave_fwd(x: Any, w: Any) -> Any:
    e, s, c = ops.exp(x), ops.sin(x * w), ops.cos(x * w)
    return s * e, {"parts": (e, s, c), "x": x, "w": w, "label": "wave"}


def _wave_bwd(residual: Any, g: Any) -> Any:
    (e, s, c), x, w = residual["parts"], residual["x"], residual["w"]
    return g * e * (w * c + s), g * x * c * e


by_vjp_rule.defvjp(_wave_fwd, _wave_bwd)

RULES = {"jvp": by_jvp_rule, "jvps": by_partials, "vjp": by_vjp_rule}
rules = pytest.mark.parametrize("rule", RULES)


@rules
@pytest.mark.parametrize("ways", [*ONE, *TWO], ids=names)
def test_derivatives_of_one_and_two_orders(rule: str, ways: Any) -> None:
    check_ways(RULES[rule], wave, ways, 1e-12)


@pytest.mark.slow
@rules
@pytest.mark.parametrize("ways", THREE, ids=names)
def test_derivatives_of_three_orders(rule: str, ways: Any) -> None:
    check_ways(RULES[rule], wave, ways, 1e-12)


@rules
@pytest.mark.parametrize("way", BASIC, ids=lambda w: w.__name__[3:])
def test_through_a_checkpoint_and_on_the_strict_backend(rule: str, way: Any) -> None:
    with fw.use_backend("strict"):
        np.testing.assert_allclose(values(fw.checkpoint(RULES[rule]), [way]), values(wave, [way]), rtol=1e-12)


@rules
def test_against_central_differences(rule: str) -> None:
    x, w = t([[0.3, -0.7, 1.1], [0.2, 0.4, -0.9]]), t([[1.3, 0.2, -0.4], [0.1, 0.5, 0.6]])
    assert fw.gradcheck(RULES[rule], [x, w])


@rules
def test_backward_and_create_graph(rule: str) -> None:
    def gradients(f: Any) -> list[float]:
        x, w = t(0.7, requires_grad=True), t(1.3, requires_grad=True)
        f(x, w).backward(create_graph=True)
        first = x.grad.item(), w.grad.item()
        penalty = x.grad**2 + w.grad**3
        x.grad = w.grad = None
        penalty.backward()
        return [*first, x.grad.item(), w.grad.item()]

    assert gradients(RULES[rule]) == pytest.approx(gradients(wave), rel=1e-12)


# -- the rule is what counts: rules that are wrong on purpose ---------------------------------------------------


def wrong_jvp() -> Any:
    f = fw.custom_jvp(lambda x: ops.sin(x))
    f.defjvp(lambda primals, tangents: (f(*primals), 10.0 * primals[0] * tangents[0]))
    return f


def wrong_vjp() -> Any:
    f = fw.custom_vjp(lambda x: ops.sin(x))
    f.defvjp(lambda x: (ops.sin(x), x), lambda x, g: (10.0 * x * g,))
    return f


@pytest.mark.parametrize("make", [wrong_jvp, wrong_vjp])
@pytest.mark.parametrize("ways", ONE, ids=names)
def test_every_transform_uses_the_rule(make: Any, ways: Any) -> None:
    f = make()
    derivative: Any = f
    for way in reversed(ways):
        derivative = way(derivative)
    assert derivative(t(0.7)).item() == pytest.approx(7.0)
    second: Any = derivative
    assert fw.grad(second)(t(0.7)).item() == pytest.approx(10.0)
    assert by_jvp(second)(t(0.7)).item() == pytest.approx(10.0)


def test_the_primal_comes_from_the_function_where_nothing_is_differentiated() -> None:
    f = fw.custom_vjp(lambda x: x * 1.0)
    f.defvjp(lambda x: (x * 2.0, None), lambda _, g: (g,))
    assert f(t(3.0)).item() == 3.0
    assert fw.vmap(f)(t([3.0, 4.0])).tolist() == [3.0, 4.0]
    assert fw.value_and_grad(f)(t(3.0))[0].item() == 6.0
    assert fw.vmap(lambda x: fw.vjp(f, x)[0])(t([3.0, 4.0])).tolist() == [6.0, 8.0]


# -- structures, arguments -------------------------------------------------------------------------------------


def test_nested_arguments_and_results() -> None:
    @fw.custom_vjp
    def f(pair: Any, scale: Any) -> Any:
        return {"p": pair["a"] * pair["b"][0], "q": [pair["a"] * scale]}

    def fwd(pair: Any, scale: Any) -> Any:
        return f(pair, scale), (pair, scale)

    def bwd(residual: Any, g: Any) -> Any:
        pair, scale = residual
        a = g["p"] * pair["b"][0] + g["q"][0] * scale
        return {"a": a, "b": (g["p"] * pair["a"], None)}, (g["q"][0] * pair["a"]).sum()

    f.defvjp(fwd, bwd)

    def loss(pair: Any, scale: Any) -> Any:
        out = f(pair, scale)
        return (out["p"] * 2.0 + out["q"][0] * 3.0).sum()

    pair = {"a": t([1.0, 2.0]), "b": (t([3.0, 4.0]), t([5.0, 6.0]))}
    of_pair, of_scale = fw.grad(loss, (0, 1))(pair, t(7.0))
    assert of_pair["a"].tolist() == [2 * 3 + 21, 2 * 4 + 21]
    assert of_pair["b"][0].tolist() == [2.0, 4.0]
    assert of_pair["b"][1].tolist() == [0.0, 0.0]
    assert of_scale.item() == 9.0


def test_nested_arguments_of_a_jvp_rule() -> None:
    @fw.custom_jvp
    def f(pair: Any) -> Any:
        return pair["a"] * pair["b"], [pair["a"]]

    @f.defjvp
    def rule(primals: Any, tangents: Any) -> Any:
        (p,), (d,) = primals, tangents
        return f(p), (d["a"] * p["b"] + p["a"] * d["b"], [None])

    pair = {"a": t(2.0), "b": t(3.0)}
    g = fw.grad(lambda p: f(p)[0] + f(p)[1][0])(pair)
    assert (g["a"].item(), g["b"].item()) == (3.0, 2.0)


def test_nondiff_arguments() -> None:
    @partial(fw.custom_jvp, nondiff_argnums=(0, 2))
    def apply(fn: Any, x: Any, n: int, y: Any) -> Any:
        return fn(x) * n + y

    @apply.defjvp
    def rule(fn: Any, n: int, primals: Any, tangents: Any) -> Any:
        (x, y), (tx, ty) = primals, tangents
        return apply(fn, x, n, y), 100.0 * n * tx + ty

    @partial(fw.custom_vjp, nondiff_argnums=0)
    def power(n: int, x: Any) -> Any:
        return x**n

    power.defvjp(lambda n, x: (power(n, x), x), lambda n, x, g: (n * x ** (n - 1) * g,))
    assert apply(ops.exp, t(0.0), 3, t(1.0)).item() == 4.0
    assert fw.grad(lambda x, y: apply(ops.exp, x, 3, y), (0, 1))(t(0.0), t(1.0))[0].item() == 300.0
    assert fw.jvp(lambda x: power(3, x), (t(2.0),), (t(1.0),))[1].item() == 12.0
    assert fw.grad(fw.grad(partial(power, 3)))(t(2.0)).item() == 12.0


def test_keywords_and_defaults_come_by_position() -> None:
    @fw.custom_vjp
    def f(x: Any, scale: Any = 2.0, *, unused: None = None) -> Any:
        return x * scale

    with pytest.raises(GradientError, match="by position"):
        f(t(1.0), unused=None)

    @fw.custom_vjp
    def g(x: Any, scale: Any = 2.0) -> Any:
        return x * scale

    seen = []

    def fwd(x: Any, scale: Any) -> Any:
        return x * scale, scale

    def bwd(scale: Any, g: Any) -> Any:
        seen.append(scale)
        return g * scale, None

    g.defvjp(fwd, bwd)
    assert fw.grad(lambda x: g(scale=3.0, x=x))(t(1.0)).item() == 3.0
    assert fw.grad(g)(t(1.0)).item() == 2.0
    assert seen == [3.0, 2.0]


def test_numpy_arrays_numbers_and_integers_among_the_arguments() -> None:
    @fw.custom_jvp
    def f(x: Any, table: Any, k: Any, factor: float) -> Any:
        return ops.sum(x * table) * factor + ops.sum(k), k

    @f.defjvp
    def rule(primals: Any, tangents: Any) -> Any:
        x, table, k, factor = primals
        tx, ttable, tk, tfactor = tangents
        assert tfactor == 0.0
        return f(x, table, k, factor), (ops.sum(tx * table + x * ttable) * factor, None)

    x, table, k = t([1.0, 2.0]), np.array([3.0, 4.0]), fw.tensor([1, 2])
    assert fw.grad(lambda x: f(x, table, k, 2.0)[0])(x).tolist() == [6.0, 8.0]
    assert f(x.requires_grad_(), table, k, 2.0)[1].dtype == "int64"
    assert not f(x, table, k, 2.0)[1].requires_grad


def test_broadcast_inside_and_shared_arguments_under_vmap() -> None:
    """What all samples share gets the sum of their gradients."""

    @fw.custom_vjp
    def f(x: Any, w: Any) -> Any:
        return ops.sum(x * w), w * 2.0

    f.defvjp(lambda x, w: (f(x, w), (x, w)), lambda res, g: (g[0] * res[1], g[0] * res[0] + 2.0 * g[1]))
    xs, w = t([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]]), t([0.5, -1.0])

    def loss(xs: Any, w: Any) -> Any:
        a, b = fw.vmap(f, in_axes=(0, None))(xs, w)
        return (a * t([1.0, 10.0, 100.0])).sum() + b.sum()

    of_xs, of_w = fw.grad(loss, (0, 1))(xs, w)
    np.testing.assert_allclose(of_xs.numpy(), np.outer([1.0, 10.0, 100.0], w.numpy()))
    np.testing.assert_allclose(of_w.numpy(), [1 + 30 + 500 + 6, 2 + 40 + 600 + 6])
    per_sample = fw.vmap(fw.grad(lambda w, x: f(x, w)[0]), in_axes=(None, 0))(w, xs)
    assert per_sample.tolist() == xs.tolist()


def test_a_closure_over_a_batched_value() -> None:
    def f(x: Any, w: Any) -> Any:
        g = fw.custom_vjp(lambda x: x * w)
        g.defvjp(lambda x: (x * w, None), lambda _, c: (3.0 * c * w,))
        h = fw.custom_jvp(lambda x: x * w)
        h.defjvp(lambda p, d: (h(*p), 3.0 * d[0] * w))
        return g(x) + h(x)

    xs, ws = t([1.0, 2.0]), t([5.0, 7.0])
    assert fw.vmap(fw.grad(f))(xs, ws).tolist() == [30.0, 42.0]
    assert fw.grad(lambda xs: fw.vmap(f)(xs, ws).sum())(xs).tolist() == [30.0, 42.0]
    assert fw.grad(lambda x: fw.vmap(f, in_axes=(None, 0))(x, ws).sum())(t(1.0)).item() == 72.0


def moving() -> dict[str, Any]:
    """x² on another backend."""

    def square(x: Any) -> Any:
        return (x * x).to("strict")

    class Square(fw.Function):
        @staticmethod
        def forward(ctx: Any, x: Any) -> Any:
            y = square(x)
            ctx.save_for_backward(x, y)
            return y

        @staticmethod
        def backward(ctx: Any, g: Any) -> Any:
            x, y = ctx.saved_tensors
            assert y.backend == "strict"
            return x * (2.0 * g).to("cpu")

    by_jvp, by_vjp = fw.custom_jvp(square), fw.custom_vjp(square)
    by_jvp.defjvp(lambda p, d: (by_jvp(*p), (2.0 * p[0] * d[0]).to("strict")))
    by_vjp.defvjp(lambda x: (by_vjp(x), x), lambda x, g: (x * (2.0 * g).to("cpu"),))
    return {"jvp": by_jvp, "vjp": by_vjp, "Function": Square.apply, "checkpoint": fw.checkpoint(square)}


@pytest.mark.parametrize("name", ["jvp", "vjp", "Function", "checkpoint"])
def test_results_on_another_backend(name: str) -> None:
    f, x = moving()[name], t([3.0, 4.0], requires_grad=True)
    y = f(x)
    y.sum().backward()
    assert (y.backend, x.grad.backend, x.grad.tolist()) == ("strict", "cpu", [6.0, 8.0])
    x.grad = None
    f(x).sum().backward(create_graph=True)
    first, x.grad = x.grad, None
    first.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]


def test_random_numbers_of_fwd_are_the_same_for_higher_orders() -> None:
    drawn = []

    def fwd(x: Any) -> Any:
        drawn.append(fw.random.normal(x.shape, dtype="float64"))
        return drawn[-1] * x**3, (drawn[-1], x)

    f = fw.custom_vjp(lambda x: fwd(x)[0])
    f.defvjp(fwd, lambda residual, g: (g * residual[0] * 3.0 * residual[1] ** 2,))
    x = t([1.0, 2.0], requires_grad=True)
    f(x).sum().backward(create_graph=True)
    first, x.grad = x.grad, None
    before = fw.random.state_dict()
    first.sum().backward()
    assert fw.random.state_dict() == before
    assert all(m.tolist() == drawn[0].tolist() for m in drawn)
    np.testing.assert_allclose(x.grad.numpy(), 6.0 * drawn[0].numpy() * [1.0, 2.0])


def test_inside_linearize_and_graph() -> None:
    for f in RULES.values():
        y, derivative = fw.linearize(lambda x, f=f: f(x, t(1.3)), t(0.7))
        expected = fw.jvp(lambda x: wave(x, t(1.3)), (t(0.7),), (t(2.0),))
        assert (y.item(), derivative(t(2.0)).item()) == pytest.approx([e.item() for e in expected])
    assert "sin" in str(fw.graph(lambda x: by_vjp_rule(x, t(1.3)), t(0.7)))
    program = fw.graph(fw.grad(lambda x: by_vjp_rule(x, t(1.3))), t(0.7))
    expected = fw.grad(lambda x: wave(x, t(1.3)))(t(0.2))
    assert program(t(0.2))[0].item() == pytest.approx(expected.item())


# -- memory ----------------------------------------------------------------------------------------------------


@pytest.fixture
def no_gc() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@rules
@pytest.mark.parametrize("way", ["backward", "vmap"])
def test_there_are_no_reference_cycles(rule: str, way: str, no_gc: None) -> None:
    def run() -> None:
        x, w = t([0.7, 0.2], requires_grad=True), t([1.3, 0.4], requires_grad=True)
        f = RULES[rule] if way == "backward" else fw.vmap(RULES[rule])
        f(x, w).sum().backward()

    run()
    gc.collect()
    run()
    assert gc.collect() == 0


# -- errors ----------------------------------------------------------------------------------------------------


def test_without_a_rule() -> None:
    with pytest.raises(GradientError, match=r"custom_jvp function 'wave' has no rule yet; .*defjvp"):
        fw.custom_jvp(wave)(t(1.0), t(1.0))
    with pytest.raises(GradientError, match=r"custom_vjp function 'wave' has no rule yet; .*defvjp"):
        fw.custom_vjp(wave)(t(1.0), t(1.0))


@pytest.mark.parametrize(
    ("bwd", "error", "match"),
    [
        (lambda _, g: g, GradientError, "tuple of one gradient per argument, 2 in all"),
        (lambda _, g: (g,), GradientError, "got tuple of 1"),
        (lambda _, g: (g, g, g), GradientError, "got tuple of 3"),
        (lambda _, g: ((g, g), None), GradientError, "structure of the arguments"),
        (lambda _, g: (g[:1], None), ShapeError, r"\(2,\), got \(1,\)"),
        (lambda _, g: (None, {"b": g, "c": g}), GradientError, r"\{'b': array\}.*\{'b': array, 'c': array\}"),
    ],
)
def test_gradients_that_do_not_fit(bwd: Any, error: Any, match: str) -> None:
    @fw.custom_vjp
    def f(x: Any, y: Any) -> Any:
        return x * y["b"]

    f.defvjp(lambda x, y: (f(x, y), None), bwd)
    with pytest.raises(error, match=match):
        fw.grad(lambda x, y: f(x, {"b": y}).sum(), (0, 1))(t([1.0, 2.0]), t([1.0, 2.0]))


@pytest.mark.parametrize(
    ("rule", "error", "match"),
    [
        (lambda p, d: d[0], GradientError, "returns a pair"),
        (lambda p, d: (p[0], (d[0], d[0])), GradientError, "structure of the result"),
        (lambda p, d: (p[0], d[0].sum()), ShapeError, r"shape of the result, \(2,\), got \(\)"),
    ],
)
def test_tangents_that_do_not_fit(rule: Any, error: Any, match: str) -> None:
    f = fw.custom_jvp(lambda x: x * 2.0)
    f.defjvp(rule)
    for way in (
        lambda: fw.jvp(f, (t([1.0, 2.0]),), (t([1.0, 2.0]),)),
        lambda: fw.grad(lambda x: f(x).sum())(t([1.0, 2.0])),
    ):
        with pytest.raises(error, match=match):
            way()


def test_fwd_that_returns_no_pair() -> None:
    f = fw.custom_vjp(lambda x: x * 2.0)
    f.defvjp(lambda x: x * 2.0, lambda _, g: (g,))
    with pytest.raises(GradientError, match="fwd of custom_vjp function .* returns a pair"):
        fw.grad(f)(t(1.0))


@pytest.mark.parametrize("way", BASIC, ids=lambda w: w.__name__[3:])
def test_closing_over_what_is_differentiated(way: Any) -> None:
    def with_vjp(w: Any) -> Any:
        f = fw.custom_vjp(lambda x: x * w)
        f.defvjp(lambda x: (x * w, None), lambda _, g: (g,))
        return f(t(2.0)) + f(w)

    def with_jvp(w: Any) -> Any:
        f = fw.custom_jvp(lambda x: x * w)
        f.defjvp(lambda p, d: (f(*p), d[0]))
        return f(t(2.0)) + f(w)

    for f in (with_vjp, with_jvp):
        with pytest.raises(
            GradientError, match=r"closes over a Tensor that is differentiated.*make that Tensor an arg"
        ):
            way(f)(t(3.0))


def test_a_reverse_rule_that_forward_mode_cannot_transpose() -> None:
    f = fw.custom_vjp(lambda x: x * 2.0)
    f.defvjp(lambda x: (x * 2.0, None), lambda _, g: (t(2.0),))
    with pytest.raises(GradientError, match="a rule for reverse mode only.*custom_jvp"):
        fw.jvp(f, (t(1.0),), (t(1.0),))


def test_gradients_of_zero_need_not_depend_on_the_cotangent() -> None:
    f = fw.custom_vjp(lambda x: x * 2.0)
    f.defvjp(lambda x: (x * 2.0, x), lambda x, g: (ops.zeros_like(x),))
    assert fw.jvp(f, (t(1.0),), (t(1.0),))[1].item() == 0.0
    assert fw.vmap(lambda x: fw.jvp(f, (x,), (x,))[1])(t([1.0, 2.0])).tolist() == [0.0, 0.0]


def test_bad_nondiff_arguments() -> None:
    f = fw.custom_vjp(lambda x: x, nondiff_argnums=(3,))
    f.defvjp(lambda x: (x, None), lambda _, g: (g,))
    with pytest.raises(GradientError, match=r"nondiff_argnums=\(3,\), but was called with 1 arguments"):
        f(t(1.0))


# -- JAX -------------------------------------------------------------------------------------------------------

SOURCE = """
@partial(custom_jvp, nondiff_argnums=(0,))
def scaled(n, x, y):
    return {"a": np.sin(x) * y * n, "b": (x * y,)}

@scaled.defjvp
def scaled_rule(n, primals, tangents):
    (x, y), (tx, ty) = primals, tangents
    out = scaled(n, x, y)
    return out, {"a": n * (np.cos(x) * y * tx * 2 + np.sin(x) * ty), "b": (tx * y + ty * x * 3,)}

@partial(custom_vjp, nondiff_argnums=(1,))
def clipped(x, bound):
    return np.exp(x) * bound

def clipped_fwd(x, bound):
    e = np.exp(x)
    return clipped(x, bound), (x, e)

def clipped_bwd(bound, res, g):
    x, e = res
    return (np.sin(x) * e * g * bound,)

clipped.defvjp(clipped_fwd, clipped_bwd)

def f(x, y):
    out = scaled(2.0, x, clipped(y, 1.5))
    return np.sum(out["a"] * out["b"][0]) + np.sum(clipped(x, 0.5) ** 2)
"""


@pytest.fixture(scope="module")
def jax() -> Iterator[Any]:
    """JAX in float64."""
    module = pytest.importorskip("jax", reason="JAX is not installed: pip install -e '.[reference]'")
    module.config.update("jax_enable_x64", True)
    yield module
    module.config.update("jax_enable_x64", False)


@pytest.mark.reference
def test_semantics_against_jax(jax: Any) -> None:
    """Rules that are no derivatives show which operations each transform differentiates."""
    theirs: dict[str, Any] = {
        "np": jax.numpy, "partial": partial, "custom_jvp": jax.custom_jvp, "custom_vjp": jax.custom_vjp,
    }  # fmt: skip
    ours: dict[str, Any] = {
        "np": fw.numpy,
        "partial": partial,
        "custom_jvp": fw.custom_jvp,
        "custom_vjp": fw.custom_vjp,
    }
    exec(SOURCE, theirs)
    exec(SOURCE, ours)
    f, g = ours["f"], theirs["f"]
    x, y = np.array([0.3, -0.8]), np.array([0.6, 1.2])
    xs, ys = np.stack([x, x + 1]), np.stack([y, y - 1])

    def same(got: Any, expected: Any) -> None:
        np.testing.assert_allclose(got.numpy(), np.asarray(expected), rtol=1e-12)

    same(f(t(x), t(y)), g(x, y))
    for n in (0, 1):
        same(fw.grad(f, n)(t(x), t(y)), jax.grad(g, n)(x, y))
        same(fw.vmap(fw.grad(f, n))(t(xs), t(ys)), jax.vmap(jax.grad(g, n))(xs, ys))
        same(
            fw.grad(lambda a, b, n=n: fw.grad(f, n)(a, b).sum(), n)(t(x), t(y)),
            jax.grad(lambda a, b, n=n: jax.grad(g, n)(a, b).sum(), n)(x, y),
        )
        same(
            fw.grad(lambda a, b: fw.vmap(f, in_axes=(0, None))(a, b).sum(), n)(t(xs), t(y)),
            jax.grad(lambda a, b: jax.vmap(g, in_axes=(0, None))(a, b).sum(), n)(xs, y),
        )
    h, k = ours["scaled"], theirs["scaled"]
    same(
        fw.jvp(fw.grad(lambda a: h(2.0, a, t(y))["a"].sum()), (t(x),), (t(y),))[1],
        jax.jvp(jax.grad(lambda a: k(2.0, a, y)["a"].sum()), (x,), (y,))[1],
    )
    for way in range(2):
        got = fw.jvp(partial(h, 3.0), (t(x), t(y)), (t(y), t(x)))[way]
        expected = jax.jvp(partial(k, 3.0), (x, y), (y, x))[way]
        same(got["a"], expected["a"])
        same(got["b"][0], expected["b"][0])
