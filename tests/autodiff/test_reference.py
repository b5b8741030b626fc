"""Values and derivatives against JAX and PyTorch, on the same random programs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from generated import ROWS
from generated_cases import cases, ids, made
from generated_checks import check_against_jax
from generated_references import Namespace, jax_namespace
from kink_table import KINKS, Kink, jax_names, torch_names
from programs import Program, generate

import framework as fw
import framework.numpy as fnp
from framework.autodiff import vmap

pytestmark = pytest.mark.reference

FULL = os.environ.get("FW_TEST_CASES") == "full"
GENERATED = cases(count=12 if FULL else 1, keep=lambda name: not ROWS[name].no_jax)
JAX_SEEDS = range(150 if FULL else 40)
TORCH_SEEDS = range(5000, 5400 if FULL else 5050)


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


@pytest.fixture(scope="module")
def jit(jax: Any) -> Iterator[Any]:
    """`jax.jit` with little optimisation: each case is compiled, and runs once."""
    options = {"xla_cpu_use_fusion_emitters": False, "xla_cpu_parallel_codegen_split_count": 1}
    try:
        jax.jit(lambda x: x + 1, compiler_options=options)(1.0)
    except Exception:  # other versions have other options
        options = {}
    jax.config.update("jax_disable_most_optimizations", True)
    yield lambda fn: jax.jit(fn, compiler_options=options or None)
    jax.config.update("jax_disable_most_optimizations", False)


@pytest.mark.parametrize(("name", "seed"), GENERATED, ids=ids(GENERATED))
def test_every_function_against_jax(name: str, seed: int, jax: Any, jit: Any) -> None:
    with made(name, seed) as case:
        check_against_jax(case, jax, jit, jax_namespace())


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


@pytest.mark.parametrize("kink", [k for k in KINKS if k.jax is not None], ids=lambda k: f"{k.expression} at {k.at:g}")
def test_what_the_page_of_kinks_says_of_jax(kink: Kink, jax: Any) -> None:
    names = Namespace(jax.numpy, jax_names(jax))
    assert float(jax.grad(kink.function(names))(np.float64(kink.at))) == pytest.approx(kink.jax, nan_ok=True)


@pytest.mark.filterwarnings("ignore:reduction. 'mean' divides")
@pytest.mark.parametrize("kink", [k for k in KINKS if k.torch is not None], ids=lambda k: f"{k.expression} at {k.at:g}")
def test_what_the_page_of_kinks_says_of_torch(kink: Kink, torch: Any) -> None:
    xp = pytest.importorskip("array_api_compat.torch")
    x = torch.tensor(kink.at, dtype=torch.float64, requires_grad=True)
    kink.function(Namespace(xp, torch_names(torch), torch))(x).backward()
    assert float(x.grad) == pytest.approx(kink.torch, nan_ok=True)


def test_promotion_as_in_jax_for_floats_beside_integers(jax: Any) -> None:
    for a in ("float32", "float64"):
        for b in ("int8", "uint8", "int32", "int64", "bool"):
            want = str((jax.numpy.ones(1, a) * jax.numpy.ones(1, b)).dtype)
            assert (fw.tensor([1.0], dtype=a) * fw.tensor([1], dtype=b)).dtype == want
