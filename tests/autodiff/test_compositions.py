"""Random compositions of transforms over random programs: every order of modes gives the same derivative."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from programs import generate

import framework as fw
import framework.numpy as fnp
from framework.autodiff import ops, vmap

FULL = os.environ.get("FW_TEST_CASES") == "full"

Function = Callable[[Any], Any]


def examples(count: int) -> Any:
    """`count` examples, the same each time; in a full run eight times as many, new ones each time."""
    return settings(max_examples=8 * count if FULL else count, deadline=None, derandomize=not FULL, database=None)


# -- the derivative of a function of one array, of one element, along a direction ------------------------------


def dot(a: Any, b: Any) -> Any:
    return ops.sum(a * b)


def pair(x: Any) -> Any:
    return ops.stack([x * 0.5, x])


def pulled_by_tape(f: Function, x: Any) -> Any:
    x = ops.clone(x)
    with fw.GradientTape() as tape:
        tape.watch(x)
        y = f(x)
    return tape.gradient(y, x, unconnected_gradients="zero")


WAYS: dict[str, Callable[[Function, Any, Any], Any]] = {
    "grad": lambda f, v, x: dot(fw.grad(f)(x), v),
    "jvp": lambda f, v, x: fw.jvp(f, (x,), (v,))[1],
    "vjp": lambda f, v, x: dot(fw.vjp(f, x)[1](1.0)[0], v),
    "tape": lambda f, v, x: dot(pulled_by_tape(f, x), v),
    "linearize": lambda f, v, x: fw.linearize(f, x)[1](v),
    "jacobian": lambda f, v, x: dot(fw.jacobian(f, mode="forward")(x), v),
    "vmap of grad": lambda f, v, x: dot(vmap(fw.grad(f))(pair(x))[1], v),
    "grad of vmap": lambda f, v, x: dot(fw.grad(lambda xs: vmap(f)(xs)[1])(pair(x))[1], v),
    "vmap of jvp": lambda f, v, x: vmap(lambda u: fw.jvp(f, (x,), (u,))[1])(pair(v))[1],
    "jvp of vmap": lambda f, v, x: fw.jvp(vmap(f), (pair(x),), (pair(v),))[1][1],
    "vmap of tape": lambda f, v, x: dot(vmap(lambda x: pulled_by_tape(f, x))(pair(x))[1], v),
    "tape of vmap": lambda f, v, x: dot(pulled_by_tape(lambda xs: vmap(f)(xs)[1], pair(x))[1], v),
    "vmap of a pullback": lambda f, v, x: dot(vmap(fw.vjp(f, x)[1])(pair(t(1.0)))[0][1], v),
    "checkpoint of grad": lambda f, v, x: dot(fw.grad(fw.checkpoint(f))(x), v),
}


def t(value: Any) -> Any:
    return fw.tensor(value, dtype="float64")


def direction(shape: tuple[int, ...], k: int) -> Any:
    return np.cos(np.arange(np.prod(shape, dtype=int)) * 1.3 + k).reshape(shape)


def of_first(xp: Any, seed: int) -> tuple[Function, Any]:
    """A program as a function of its first input with one element, and that input."""
    program = generate(seed, length=4)
    first, *rest = program.inputs
    weights = direction(np.shape(program(np, *program.inputs)), 3)

    def f(x: Any) -> Any:
        y = program(xp, x, *[xp.asarray(r) for r in rest])
        return xp.sum(y * xp.asarray(weights))

    return f, first


def composed(f: Function, ways: tuple[str, ...], directions: list[Any]) -> Function:
    """The derivatives of `f` along the directions, the first of them innermost."""
    for way, v in zip(ways, directions):
        f = (lambda f, way, v: lambda x: WAYS[way](f, v, x))(f, way, v)
    return f


def check(seed: int, ways: tuple[str, ...]) -> None:
    f, point = of_first(fnp, seed)
    x = t(point)
    directions = [t(direction(point.shape, k)) for k in range(len(ways))]
    got = composed(f, ways, directions)(x)
    assert got.shape == ()
    assert not got.requires_grad
    want = composed(f, ("jvp",) * len(ways), directions)(x).item()
    assert got.item() == pytest.approx(want, rel=1e-8, abs=1e-9 * max(1.0, abs(want)))
    inner = composed(f, ways[:-1], directions)
    coarse, fine = (
        (inner(x + eps * directions[-1]).item() - inner(x - eps * directions[-1]).item()) / (2 * eps)
        for eps in (3e-5, 1e-5)
    )
    nearby = 1e-5 * max(1.0, abs(inner(x).item()) + abs(want))
    if coarse == pytest.approx(fine, rel=1e-4, abs=nearby):  # else there is a kink between
        assert got.item() == pytest.approx(fine, rel=1e-4, abs=nearby)


@examples(120)
@given(st.integers(0, 2**32), st.lists(st.sampled_from(sorted(WAYS)), min_size=1, max_size=3).map(tuple))
def test_derivatives_in_any_order(seed: int, ways: tuple[str, ...]) -> None:
    try:
        check(seed, ways)
    except Exception as error:
        error.add_note(f"{' of '.join(reversed(ways))}, of generate({seed}, length=4):\n{generate(seed, length=4)}")
        raise


@examples(40)
@given(st.integers(0, 2**32), st.lists(st.sampled_from(sorted(WAYS)), min_size=1, max_size=3).map(tuple))
def test_backward_to_a_weight_that_is_closed_over(seed: int, ways: tuple[str, ...]) -> None:
    of_point, point = of_first(fnp, seed)
    directions = [t(direction(point.shape, k)) for k in range(len(ways))]

    def derivatives(ways: tuple[str, ...]) -> tuple[float, float]:
        w = t(1.3).requires_grad_()
        y = composed(lambda x: of_point(x * w) * (w * 0.5), ways, directions)(t(point))
        if y.requires_grad:
            y.backward()
        return y.item(), 0.0 if w.grad is None else w.grad.item()

    value, slope = derivatives(("jvp",) * len(ways))
    scale = max(1.0, abs(value), abs(slope))
    assert derivatives(ways) == (
        pytest.approx(value, rel=1e-8, abs=1e-9 * scale),
        pytest.approx(slope, rel=1e-8, abs=1e-9 * scale),
    )


@examples(20)
@given(st.integers(0, 2**32), st.lists(st.sampled_from(sorted(WAYS)), min_size=2, max_size=2).map(tuple))
def test_derivatives_in_any_order_on_the_strict_backend(seed: int, ways: tuple[str, ...]) -> None:
    with fw.use_backend("strict"):
        check(seed, ways)


@pytest.mark.reference
@pytest.mark.parametrize("seed", range(30 if FULL else 10))
def test_derivatives_in_any_order_are_those_of_jax(seed: int, jax: Any) -> None:
    rng = np.random.default_rng(seed)
    f, point = of_first(jax.numpy, seed)
    directions = [direction(point.shape, k) for k in range(3)]
    for v in directions:
        f = (lambda f, v: lambda x: jax.jvp(f, (x,), (v,))[1])(f, v)
    want = float(jax.jit(f)(jax.numpy.asarray(point)))
    ours, _ = of_first(fnp, seed)
    for _ in range(3):
        ways = tuple(str(w) for w in rng.choice(sorted(WAYS), 3))
        got = composed(ours, ways, [t(v) for v in directions])(t(point)).item()
        assert got == pytest.approx(want, rel=1e-8, abs=1e-9 * max(1.0, abs(want))), ways


@pytest.fixture(scope="module")
def jax() -> Any:
    """JAX with 64-bit floats, for the time of these tests."""
    module = pytest.importorskip("jax", reason="JAX is not installed: pip install -e '.[reference]'")
    module.config.update("jax_enable_x64", True)
    yield module
    module.config.update("jax_enable_x64", False)
