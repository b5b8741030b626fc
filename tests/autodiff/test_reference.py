"""Values and derivatives against JAX and PyTorch, on the same random programs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from programs import Program, generate

import framework as fw
import framework.numpy as fnp
from framework.autodiff import vmap

pytestmark = pytest.mark.reference

FULL = os.environ.get("FW_TEST_CASES") == "full"
JAX_SEEDS = range(700 if FULL else 40)
TORCH_SEEDS = range(5000, 7000 if FULL else 5050)


@pytest.fixture(scope="module")
def jax() -> Iterator[Any]:
    """JAX with 64-bit floats, for the time of these tests."""
    module = pytest.importorskip("jax", reason="JAX is not installed: pip install -e '.[reference]'")
    module.config.update("jax_enable_x64", True)
    yield module
    module.config.update("jax_enable_x64", False)


@pytest.fixture(scope="module")
def torch() -> Any:
    return pytest.importorskip("torch", reason="PyTorch is not installed")


def direction(shape: tuple[int, ...], k: int) -> Any:
    return np.cos(np.arange(np.prod(shape, dtype=int)) * 1.3 + k).reshape(shape)


def ours(program: Program) -> dict[str, list[Any]]:
    xs = [fw.tensor(x) for x in program.inputs]
    ts = [fw.tensor(direction(x.shape, k)) for k, x in enumerate(xs)]

    def fn(*args: Any) -> Any:
        return program(fnp, *args)

    y, dy = fw.jvp(fn, xs, ts)
    c = fw.tensor(direction(y.shape, 7))
    grads, second = fw.jvp(lambda *a: fw.vjp(fn, *a)[1](c), xs, ts)
    batch = vmap(lambda *a: fw.vjp(fn, *a)[1](c))(*[fnp.stack([x, x * 0.9]) for x in xs])
    lists = {"value": [y], "jvp": [dy], "vjp": grads, "second order": second, "vmap": batch}
    return {name: [t.numpy() for t in ts] for name, ts in lists.items()}


def compare(program: Program, got: dict[str, Any], want: dict[str, Any]) -> None:
    for name, expected in want.items():
        for i, (g, w) in enumerate(zip(got[name], expected)):
            w = np.asarray(w)
            assert g.shape == w.shape, f"{name} of input {i}\n{program}"
            scale = max(1.0, float(np.max(np.abs(w), initial=0.0)))
            np.testing.assert_allclose(g, w, rtol=1e-9, atol=1e-10 * scale, err_msg=f"{name} of input {i}\n{program}")


@pytest.mark.parametrize("seed", JAX_SEEDS)
def test_jax(seed: int, jax: Any) -> None:
    program = generate(seed)
    jnp = jax.numpy
    xs = [jnp.asarray(x) for x in program.inputs]
    ts = [jnp.asarray(direction(x.shape, k)) for k, x in enumerate(xs)]

    def fn(*args: Any) -> Any:
        return program(jnp, *args)

    c = jnp.asarray(direction(jax.eval_shape(fn, *xs).shape, 7))

    @jax.jit  # compiled as one: operation by operation takes ten times as long
    def everything(xs: Any, ts: Any) -> dict[str, Any]:
        y, dy = jax.jvp(fn, xs, ts)
        grads, second = jax.jvp(lambda *a: jax.vjp(fn, *a)[1](c), xs, ts)
        batch = jax.vmap(lambda *a: jax.vjp(fn, *a)[1](c))(*[jnp.stack([x, x * 0.9]) for x in xs])
        return {"value": [y], "jvp": [dy], "vjp": grads, "second order": second, "vmap": batch}

    compare(program, ours(program), everything(xs, ts))


@pytest.mark.filterwarnings("ignore:var.*degrees of freedom")
@pytest.mark.parametrize("seed", TORCH_SEEDS)
def test_torch(seed: int, torch: Any) -> None:
    xp = pytest.importorskip("array_api_compat.torch")
    program = generate(seed)
    xs = [torch.tensor(x, requires_grad=True) for x in program.inputs]
    y = program(xp, *xs)
    if not y.requires_grad:
        pytest.skip("the result does not depend on the inputs")
    grads = torch.autograd.grad(y, xs, torch.tensor(direction(tuple(y.shape), 7)), create_graph=True, allow_unused=True)
    full = [torch.zeros_like(x) if g is None else g for g, x in zip(grads, xs)]
    want = {"value": [y], "vjp": full}
    along = sum((g * torch.tensor(direction(tuple(x.shape), k))).sum() for k, (g, x) in enumerate(zip(full, xs)))
    if along.requires_grad:
        second = torch.autograd.grad(along, xs, allow_unused=True)
        want["second order"] = [torch.zeros_like(x) if g is None else g for g, x in zip(second, xs)]
    compare(program, ours(program), {k: [v.numpy(force=True) for v in vs] for k, vs in want.items()})


@pytest.mark.filterwarnings("ignore:Using backward.. with create_graph")
def test_backward_as_in_torch(torch: Any) -> None:
    """The tape's own behaviour, step for step."""

    def script(lib: Any, leaf: Any) -> list[Any]:
        x, w = leaf([1.0, -2.0, 3.0]), leaf([[0.5, 1.0, -1.0], [2.0, 0.0, 1.0]])
        seen = []
        h = w @ x
        h.register_hook(lambda g: g * 2)
        y = lib.tanh(h) * x[:2]
        y.backward(y.detach() * 0 + 1, retain_graph=True)
        seen += [x.grad.tolist(), w.grad.tolist()]
        y.sum().backward(inputs=[x])
        seen += [x.grad.tolist(), w.grad.tolist()]
        z = (x.detach() * w).sum() + (w**2).sum()
        w.grad = None
        z.backward(create_graph=True)
        (w.grad**2).sum().backward(inputs=[w])
        return [*seen, w.grad.tolist()]

    mine = script(fnp, lambda v: fw.tensor(v, dtype="float64", requires_grad=True))
    theirs = script(torch, lambda v: torch.tensor(v, dtype=torch.float64, requires_grad=True))
    for a, b in zip(mine, theirs):
        np.testing.assert_allclose(a, b, rtol=1e-12)


KINKS = {
    "sign": ("sign", [0.0]),
    "maximum": ("maximum", [1.0, 1.0]),
    "minimum": ("minimum", [1.0, 1.0]),
    "max": ("max", [[2.0, 2.0, 1.0]]),
    "min": ("min", [[1.0, 2.0, 1.0]]),
}


@pytest.mark.parametrize("name", KINKS)
def test_kinks_as_in_jax(name: str, jax: Any) -> None:
    function, inputs = KINKS[name]
    xs = [np.asarray(x) for x in inputs]
    _, pull = fw.vjp(getattr(fnp, function), *map(fw.tensor, xs))
    _, theirs = jax.vjp(getattr(jax.numpy, function), *xs)
    for g, w in zip(pull(1.0), theirs(np.float64(1.0))):
        np.testing.assert_allclose(g.numpy(), w)


def test_relu_at_zero_as_in_jax(jax: Any) -> None:
    assert fw.grad(fnp.relu)(fw.tensor(0.0)).item() == float(jax.grad(jax.nn.relu)(0.0)) == 0.0


def test_promotion_as_in_jax_for_floats_beside_integers(jax: Any) -> None:
    for a in ("float32", "float64"):
        for b in ("int8", "uint8", "int32", "int64", "bool"):
            want = str((jax.numpy.ones(1, a) * jax.numpy.ones(1, b)).dtype)
            assert (fw.tensor([1.0], dtype=a) * fw.tensor([1], dtype=b)).dtype == want
