"""Properties that hold for every shape, key and program; Hypothesis looks for one that does not."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from programs import Program, generate

import framework as fw
import framework.numpy as fnp
from framework.autodiff import Tensor, ops, vmap

FULL = os.environ.get("FW_TEST_CASES") == "full"


def examples(count: int) -> Any:
    """`count` examples, the same each time; in a full run eight times as many, new ones each time."""
    return settings(max_examples=8 * count if FULL else count, deadline=None, derandomize=not FULL, database=None)


def values(shape: tuple[int, ...], seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(-1.5, 1.5, shape)


SHAPES = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)

# -- programs ----------------------------------------------------------------------------------------------


def check(program: Program) -> None:
    """Reverse mode, forward mode and a central difference along one direction agree; so do their derivatives."""
    xs = [fw.tensor(x) for x in program.inputs]
    ts = [fw.tensor(values(x.shape, 1 + i)) for i, x in enumerate(xs)]

    def fn(*args: Any) -> Any:
        return program(fnp, *args)

    y, tangent = fw.jvp(fn, xs, ts)
    np.testing.assert_allclose(y.numpy(), program(np, *program.inputs), rtol=1e-12, atol=1e-13)
    c = fw.tensor(values(y.shape, 9))

    def along(fn: Any, eps: float) -> Any:
        plus, minus = (fn(*[x + sign * eps * t for x, t in zip(xs, ts)]) for sign in (1, -1))
        return [(p.numpy() - m.numpy()) / (2 * eps) for p, m in zip(plus, minus)]

    np.testing.assert_allclose(tangent.numpy(), along(lambda *a: [fn(*a)], 1e-6)[0], rtol=1e-5, atol=1e-6)
    grads = fw.vjp(fn, *xs)[1](c)
    assert sum(float((g * t).sum()) for g, t in zip(grads, ts)) == pytest.approx(
        float((tangent * c).sum()), rel=1e-9, abs=1e-10
    )

    def gradients(*args: Any) -> Any:
        return fw.vjp(fn, *args)[1](c)

    forward_over_reverse = fw.jvp(gradients, xs, ts)[1]
    reverse_over_forward = fw.vjp(lambda *a: fw.jvp(fn, a, ts)[1], *xs)[1](c)
    for a, b, difference in zip(forward_over_reverse, reverse_over_forward, along(gradients, 1e-6)):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-8, atol=1e-9)
        np.testing.assert_allclose(a.numpy(), difference, rtol=1e-4, atol=1e-4)


@examples(60)
@given(st.integers(0, 2**32))
def test_derivatives_of_programs(seed: int) -> None:
    program = generate(seed)
    try:
        check(program)
    except Exception as error:
        error.add_note(f"generate({seed}):\n{program}")
        raise


@examples(25)
@given(st.integers(0, 2**32))
def test_vmap_of_programs(seed: int) -> None:
    """A batch is its samples, and its derivatives are those of its samples."""
    program = generate(seed)
    batch = [np.stack([x, x * 0.9]) for x in program.inputs]

    def both(*xs: Any) -> Any:
        y, pull = fw.vjp(lambda *a: program(fnp, *a), *xs)
        return y, *pull(ops.ones_like(y) * 0.7)

    got = vmap(both)(*map(fw.tensor, batch))
    rows = [both(*[fw.tensor(x[i]) for x in batch]) for i in range(2)]
    for g, want in zip(got, zip(*rows)):
        np.testing.assert_allclose(
            g.numpy(), np.stack([w.numpy() for w in want]), rtol=1e-9, atol=1e-10, err_msg=str(program)
        )


@examples(25)
@given(st.integers(0, 2**32))
def test_programs_in_float32(seed: int) -> None:
    program = generate(seed)
    xs = [fw.tensor(x, dtype="float32") for x in program.inputs]

    class Namespace:
        """Ours, with tables in float32."""

        def __getattr__(self, name: str) -> Any:
            return getattr(fnp, name)

        def asarray(self, x: Any) -> Any:
            return fnp.asarray(x, dtype="float32" if x.dtype.kind == "f" else None)

    y, pull = fw.vjp(lambda *a: program(Namespace(), *a), *xs)
    assert {t.dtype.name for t in (y, *pull(ops.ones_like(y)))} == {"float32"}
    np.testing.assert_allclose(y.numpy(), program(np, *program.inputs), rtol=1e-3, atol=1e-4, err_msg=str(program))


@examples(15)
@given(st.integers(0, 2**32))
def test_programs_on_the_strict_backend(seed: int) -> None:
    program = generate(seed)

    def both(backend: str) -> list[Any]:
        with fw.use_backend(backend):
            xs = [fw.tensor(x) for x in program.inputs]
            y, pull = fw.vjp(lambda *a: program(fnp, *a), *xs)
            return [t.numpy() for t in (y, *pull(ops.ones_like(y)))]

    for got, want in zip(both("strict"), both("cpu")):
        np.testing.assert_allclose(got, want, rtol=1e-11, atol=1e-12, err_msg=str(program))


# -- indexing ----------------------------------------------------------------------------------------------


@st.composite
def keys(draw: Any) -> tuple[tuple[int, ...], Any]:
    """A shape and a key of it: integers, slices, None, Ellipsis, index arrays and masks in any order."""
    shape = draw(hnp.array_shapes(min_dims=1, max_dims=4, min_side=1, max_side=3))
    parts: list[Any] = []
    rank = draw(st.integers(0, 2))
    together = draw(hnp.array_shapes(min_dims=rank, max_dims=rank, max_side=2))
    for n in shape[: draw(st.integers(0, len(shape)))]:
        if draw(st.booleans()) and draw(st.booleans()):
            parts.append(None)
        kind = draw(st.sampled_from(("integer", "slice", "array", "mask")))
        if kind == "integer":
            parts.append(draw(st.integers(-n, n - 1)))
        elif kind == "slice":
            parts.append(draw(st.slices(n)))
        elif kind == "array":
            parts.append(draw(hnp.arrays(np.int64, together, elements=st.integers(-n, n - 1))))
        elif not rank:
            parts.append(slice(None))
        else:
            parts.append(draw(hnp.arrays(np.bool_, (n,))))
    if draw(st.booleans()) and draw(st.booleans()):
        parts.insert(draw(st.integers(0, len(parts))), ...)
    return shape, tuple(parts)


def ours(key: Any) -> Any:
    return tuple(fw.tensor(k) if isinstance(k, np.ndarray) else k for k in key)


def selected(x: Any, key: Any) -> Any:
    """`x[key]` where NumPy allows it."""
    try:
        return x[key]
    except IndexError:  # masks and arrays that do not broadcast
        assume(False)


def aligned(shape: tuple[int, ...], key: Any) -> bool:
    """Whether an Ellipsis left each part at the axis that it was drawn for."""
    if ... not in [k if k is ... else 0 for k in key]:
        return True
    return sum(k is not None and k is not ... for k in key) == len(shape)


@examples(150)
@given(keys())
def test_indexing(drawn: Any) -> None:
    shape, key = drawn
    assume(aligned(shape, key))
    a = values(shape)
    want = selected(a, key)
    x = fw.tensor(a, requires_grad=True)
    got = x[ours(key)]
    assert got.shape == want.shape
    np.testing.assert_array_equal(got.detach().numpy(), want)
    c = values(want.shape, 2)
    got.backward(fw.tensor(c))
    scattered = np.zeros(shape)
    np.add.at(scattered, key, c)
    np.testing.assert_allclose(x.grad.numpy(), scattered)


@examples(100)
@given(keys(), st.data())
def test_writing_by_index(drawn: Any, data: Any) -> None:
    shape, key = drawn
    assume(aligned(shape, key))
    places = np.arange(np.prod(shape)).reshape(shape)
    chosen = np.asarray(selected(places, key))
    assume(np.unique(chosen).size == chosen.size)  # a place written twice holds either value
    value_shape = data.draw(st.sampled_from([chosen.shape[i:] for i in range(chosen.ndim + 1)]))
    a, v, c = values(shape), values(value_shape, 1), values(shape, 2)
    want = a.copy()
    want[key] = v
    x, value = fw.tensor(a, requires_grad=True), fw.tensor(v, requires_grad=True)
    y = x * 1
    y[ours(key)] = value
    np.testing.assert_array_equal(y.detach().numpy(), want)
    (y * fw.tensor(c)).sum().backward()
    kept = c.copy()
    kept[key] = 0
    np.testing.assert_allclose(x.grad.numpy(), kept)
    extra = tuple(range(chosen.ndim - v.ndim))
    np.testing.assert_allclose(value.grad.numpy(), np.asarray(c[key]).sum(axis=extra))


@examples(80)
@given(keys(), st.booleans(), st.booleans())
def test_vmap_of_indexing(drawn: Any, x_batched: bool, key_batched: bool) -> None:
    shape, key = drawn
    arrays = [k for k in key if isinstance(k, np.ndarray)]
    assume(aligned(shape, key) and not any(k.dtype == bool for k in arrays))
    assume(x_batched or (key_batched and arrays))
    selected(np.zeros(shape), key)
    a = values((2, *shape)) if x_batched else values(shape)
    tables = [np.stack([k, np.roll(k, 1)]) if key_batched else k for k in arrays]

    def fn(x: Any, *tables: Any) -> Any:
        it = iter(tables)
        return x[tuple(next(it) if isinstance(k, np.ndarray) else k for k in key)]

    axes = (0 if x_batched else None, *(0 if key_batched else None for _ in arrays))
    got = vmap(fn, axes)(fw.tensor(a), *map(fw.tensor, tables))
    rows = [fn(a[i] if x_batched else a, *[t[i] if key_batched else t for t in tables]) for i in range(2)]
    np.testing.assert_array_equal(got.numpy(), np.stack(rows))
    grads = vmap(fw.grad(lambda x, *t: (fn(x, *t) ** 2).sum()), axes)(fw.tensor(a), *map(fw.tensor, tables))
    for i in range(2):
        base = a[i] if x_batched else a
        want = np.zeros(shape)
        it = iter([t[i] if key_batched else t for t in tables])
        np.add.at(want, tuple(next(it) if isinstance(k, np.ndarray) else k for k in key), 2 * rows[i])
        np.testing.assert_allclose(grads[i].numpy(), want, err_msg=str(base.shape))


# -- shapes ------------------------------------------------------------------------------------------------


@examples(80)
@given(hnp.mutually_broadcastable_shapes(num_shapes=3, min_dims=0, max_dims=3, min_side=0, max_side=3))
def test_gradients_have_the_shape_of_what_was_broadcast(shapes: Any) -> None:
    arrays = [fw.tensor(values(s, i), requires_grad=True) for i, s in enumerate(shapes.input_shapes)]
    a, b, c = arrays
    y = ops.where(a > 0, a * b, c) + b / (c * c + 1)
    assert y.shape == shapes.result_shape
    y.sum().backward()
    assert [t.grad.shape for t in arrays] == list(shapes.input_shapes)
    fw.gradcheck(lambda a, b, c: ops.where(a > 0, a * b, c) + b / (c * c + 1), [t.detach() for t in arrays])


@examples(60)
@given(SHAPES, st.data())
def test_reductions(shape: tuple[int, ...], data: Any) -> None:
    axes = data.draw(st.none() | st.sets(st.integers(-len(shape), len(shape) - 1)).map(tuple)) if shape else None
    assume(axes is None or len({a % len(shape) for a in axes}) == len(axes))
    keepdims = data.draw(st.booleans())
    a = values(shape)
    for name in ("sum", "prod", "mean", "var"):
        if name in ("mean", "var") and a.size == 0:
            continue
        got = getattr(ops, name)(fw.tensor(a), axis=axes, keepdims=keepdims)
        want = getattr(np, name)(a, axis=axes, keepdims=keepdims)
        assert got.shape == want.shape
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-12, atol=1e-14)


@examples(40)
@given(hnp.array_shapes(min_dims=1, max_dims=3, max_side=3), st.data())
def test_matrix_products(shape: tuple[int, ...], data: Any) -> None:
    rest = data.draw(hnp.broadcastable_shapes(shape[:-2], max_dims=2, max_side=2)) if len(shape) > 1 else ()
    other = data.draw(st.sampled_from(((shape[-1],), (shape[-1], 2), (*rest, shape[-1], 2))))
    a, b = values(shape), values(other, 1)
    got = fw.tensor(a) @ fw.tensor(b)
    np.testing.assert_allclose(got.numpy(), a @ b, rtol=1e-12, atol=1e-14)
    fw.gradcheck(ops.matmul, [fw.tensor(a), fw.tensor(b)])


@examples(60)
@given(SHAPES, st.data())
def test_shape_functions_are_linear(shape: tuple[int, ...], data: Any) -> None:
    """The pullback of a function that moves elements is its transpose: ⟨f(x), c⟩ = ⟨x, fᵀ(c)⟩ for every x."""
    a = values(shape)
    order = data.draw(st.permutations(range(len(shape))))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1)) if shape else None
    functions: list[Any] = [
        lambda x: ops.permute_dims(x, tuple(order)),
        lambda x: ops.broadcast_to(x, (2, *shape)),
        ops.flip,
        ops.ravel,
    ]
    if axis is not None:
        functions += [
            lambda x: ops.flip(x, axis=axis),
            lambda x: ops.cumulative_sum(x, axis=axis),
            lambda x: ops.concat([x, x * 2], axis=axis),
            lambda x: ops.stack([x, x], axis=axis),
            lambda x: ops.swapaxes(x, axis, 0),
            lambda x: ops.moveaxis(x, 0, axis),
            lambda x: ops.expand_dims(x, axis=axis),
        ]
    for f in functions:
        y, pull = fw.vjp(f, fw.tensor(a))
        c = values(y.shape, 1)
        (g,) = pull(fw.tensor(c))
        assert g.shape == shape
        assert float((g.numpy() * a).sum()) == pytest.approx(float((y.numpy() * c).sum()), rel=1e-10, abs=1e-12)
        assert isinstance(y, Tensor)
