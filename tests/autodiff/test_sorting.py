"""Sorting, searching and sets: against NumPy, central differences and JAX, on every backend and in every transform."""

from __future__ import annotations

import os
from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import framework as fw
from framework.autodiff import Tensor, ops, vmap
from framework.errors import AxisError, DTypeError, GradientError, ShapeError

FULL = os.environ.get("FW_TEST_CASES") == "full"


def examples(count: int) -> Any:
    """`count` examples, the same each time; in a full run eight times as many, new ones each time."""
    return settings(max_examples=8 * count if FULL else count, deadline=None, derandomize=not FULL, database=None)


def distinct(shape: tuple[int, ...], seed: int = 0) -> Any:
    """Values far enough apart for a difference quotient."""
    return (np.random.default_rng(seed).permutation(int(np.prod(shape))) * 0.3 - 1).reshape(shape)


def direction(shape: tuple[int, ...], seed: int = 1) -> Tensor:
    return fw.tensor(np.random.default_rng(seed).uniform(-1, 1, shape))


def np_argsort(x: Any, axis: int = -1, descending: bool = False) -> Any:
    """Stable, also downwards; NaN is the largest."""
    if not descending:
        return np.argsort(x, axis=axis, kind="stable")
    n = x.shape[axis]
    return n - 1 - np.flip(np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)


SHAPES = hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=4)
NUMBERS = {
    "float64": st.sampled_from([-1.5, 0.0, 1.0, 1.5, np.inf, -np.inf, np.nan]),
    "float32": st.sampled_from([-1.5, 0.25, 2.0]),
    "int64": st.integers(-3, 3),
    "uint8": st.integers(0, 3),
    "bool": st.booleans(),
}

# -- values ----------------------------------------------------------------------------------------------


@examples(80)
@given(SHAPES, st.sampled_from(sorted(NUMBERS)), st.booleans(), st.booleans(), st.data())
def test_order(shape: tuple[int, ...], dtype: str, descending: bool, stable: bool, data: Any) -> None:
    a = data.draw(hnp.arrays(dtype, shape, elements=NUMBERS[dtype]))
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    want = np_argsort(a, axis, descending)
    for backend in ("cpu", "strict"):
        x = fw.tensor(a, backend=backend)
        ordered = ops.sort(x, axis=axis, descending=descending, stable=stable)
        order = ops.argsort(x, axis=axis, descending=descending, stable=stable)
        assert (ordered.dtype, order.dtype, ordered.backend) == (dtype, "int64", backend)
        np.testing.assert_array_equal(ordered.numpy(), np.take_along_axis(a, want, axis))
        if stable:
            np.testing.assert_array_equal(order.numpy(), want)
        np.testing.assert_array_equal(np.take_along_axis(a, order.numpy(), axis), ordered.numpy())


def test_what_has_no_order() -> None:
    for f in (ops.sort, ops.argsort):
        with pytest.raises(DTypeError, match="complex numbers have no order"):
            f(fw.tensor([1j, 2.0]))
        with pytest.raises(IndexError, match="axis -1 of an array with 0 axes"):
            f(fw.tensor(1.0))
        with pytest.raises(AxisError, match="axis 2 of an array with 1 axes"):
            f(fw.tensor([1.0]), axis=2)


# -- derivatives -----------------------------------------------------------------------------------------


@examples(25)
@given(hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3), st.booleans(), st.data())
def test_derivatives_of_sort(shape: tuple[int, ...], descending: bool, data: Any) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))

    def fn(x: Any) -> Any:
        return ops.sort(x * x * x, axis=axis, descending=descending) ** 2

    x = fw.tensor(distinct(shape) + 0.07)
    fw.gradcheck(fn, x)
    c = direction(shape)
    fw.gradcheck(lambda x: fw.vjp(fn, x)[1](c)[0], x, rtol=1e-4, atol=1e-6)
    fw.gradcheck(lambda x: fw.jvp(fn, (x,), (c,))[1], x, rtol=1e-4, atol=1e-6)


@examples(30)
@given(hnp.arrays("float64", SHAPES, elements=st.integers(0, 2)), st.booleans(), st.data())
def test_ties_keep_one_permutation_in_both_modes(a: Any, descending: bool, data: Any) -> None:
    axis = data.draw(st.integers(-a.ndim, a.ndim - 1))
    t = direction(a.shape)

    def fn(x: Any) -> Any:
        return ops.sort(x, axis=axis, descending=descending)

    _, tangent = fw.jvp(fn, (fw.tensor(a),), (t,))
    order = np_argsort(a, axis, descending)
    np.testing.assert_array_equal(tangent.numpy(), np.take_along_axis(t.numpy(), order, axis))
    (back,) = fw.vjp(fn, fw.tensor(a))[1](tangent)
    np.testing.assert_array_equal(back.numpy(), t.numpy())


def test_the_gradient_of_a_median(backend: str) -> None:
    x = fw.tensor([5.0, 1.0, 3.0], backend=backend, requires_grad=True)
    ops.sort(x)[1].backward()
    assert x.grad.tolist() == [0.0, 0.0, 1.0]


def test_argsort_is_a_constant() -> None:
    x = fw.tensor([2.0, 1.0], requires_grad=True)
    assert not ops.argsort(x).requires_grad
    out, tangent = fw.jvp(lambda x: ops.argsort(x) * 1.0, (x.detach(),), (fw.tensor([1.0, 1.0]),))
    assert (out.tolist(), tangent.tolist()) == ([1.0, 0.0], [0.0, 0.0])


@examples(20)
@given(hnp.array_shapes(min_dims=1, max_dims=2, max_side=3), st.booleans(), st.data())
def test_vmap_of_sort(shape: tuple[int, ...], descending: bool, data: Any) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    in_axis = data.draw(st.integers(0, len(shape)))
    a = np.random.default_rng(3).integers(0, 4, (3, *shape)) * 1.0
    c = direction(shape)

    def both(x: Any) -> Any:
        y, pull = fw.vjp(lambda x: ops.sort(x, axis=axis, descending=descending) ** 2, x)
        return y, pull(c)[0], ops.argsort(x, axis=axis, descending=descending)

    got = vmap(both, in_axis)(fw.tensor(np.moveaxis(a, 0, in_axis)))
    for g, want in zip(got, zip(*[both(fw.tensor(row)) for row in a])):
        np.testing.assert_array_equal(g.numpy(), np.stack([w.numpy() for w in want]))


# -- sets ------------------------------------------------------------------------------------------------


@examples(60)
@given(hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4), st.sampled_from([*sorted(NUMBERS)]), st.data())
def test_sets(shape: tuple[int, ...], dtype: str, data: Any) -> None:
    a = data.draw(hnp.arrays(dtype, shape, elements=NUMBERS[dtype]))
    want = np.unique_all(a)
    for backend in ("cpu", "strict"):
        x = fw.tensor(a, backend=backend)
        found = ops.unique_all(x)
        np.testing.assert_array_equal(found.values.numpy(), want.values)
        np.testing.assert_array_equal(found.counts.numpy(), want.counts)
        np.testing.assert_array_equal(a.reshape(-1)[found.indices.numpy()], want.values)
        assert found.inverse_indices.shape == a.shape
        np.testing.assert_array_equal(found.values.numpy()[found.inverse_indices.numpy()], a)
        if not np.isnan(a).any() if dtype == "float64" else True:
            np.testing.assert_array_equal(found.indices.numpy(), want.indices)
        assert [t.dtype for t in found] == [dtype, "int64", "int64", "int64"]
        np.testing.assert_array_equal(ops.unique_values(x).numpy(), want.values)
        assert [t.tolist() for t in ops.unique_counts(x)[1:]] == [want.counts.tolist()]
        assert ops.unique_inverse(x).inverse_indices.tolist() == found.inverse_indices.tolist()


def test_a_set_of_complex_numbers(backend: str) -> None:
    a = np.array([1 + 2j, 1 - 2j, 0, 1 + 2j, complex(np.nan, 1), complex(np.nan, 1), 1 - 2j])
    found = ops.unique_all(fw.tensor(a, backend=backend))
    np.testing.assert_array_equal(found.values.numpy(), [0, 1 - 2j, 1 + 2j, complex(np.nan, 1), complex(np.nan, 1)])
    assert found.counts.tolist() == [1, 2, 2, 1, 1]
    assert found.indices.tolist() == [2, 1, 0, 4, 5]
    assert found.inverse_indices.tolist() == [2, 1, 0, 2, 3, 4, 1]


@examples(30)
@given(hnp.arrays("float64", SHAPES, elements=NUMBERS["float64"]), st.booleans())
def test_unique_as_in_numpy(a: Any, equal_nan: bool) -> None:
    for asked in product((False, True), repeat=3):
        got, want = ops.unique(fw.tensor(a), *asked, equal_nan=equal_nan), np.unique(a, *asked, equal_nan=equal_nan)
        assert isinstance(got, tuple) == any(asked)
        for i, (g, w) in enumerate(zip(got if any(asked) else [got], want if any(asked) else [want])):
            if not i or equal_nan or not np.isnan(a).any():  # else it is open which NaN is which
                np.testing.assert_array_equal(g.numpy(), w)
    assert ops.unique(fw.tensor([3, 1, 3])).tolist() == [1, 3]


def test_the_results_of_sets_have_the_names_of_the_standard() -> None:
    x = fw.tensor([1.0, 1.0])
    assert ops.unique_all(x)._fields == ("values", "indices", "inverse_indices", "counts")
    assert ops.unique_counts(x)._fields == ("values", "counts")
    assert ops.unique_inverse(x)._fields == ("values", "inverse_indices")


def test_the_gradient_of_a_set_goes_to_the_first_occurrences(backend: str) -> None:
    x = fw.tensor([[3.0, 1.0], [3.0, 2.0]], dtype="float64", backend=backend, requires_grad=True)
    (ops.unique_values(x) * fw.tensor([1.0, 10.0, 100.0], dtype="float64", backend=backend)).sum().backward()
    assert x.grad.tolist() == [[100.0, 1.0], [0.0, 10.0]]
    fw.gradcheck(lambda x: ops.unique_all(x).values ** 2, fw.tensor([2.0, -1.0, 0.5], dtype="float64"))
    _, tangent = fw.jvp(ops.unique_counts, (x.detach(),), (x.detach() * 2,))
    assert tangent.values.tolist() == [2.0, 4.0, 6.0]


def test_a_set_has_no_batch() -> None:
    for f in (ops.unique_values, ops.unique_all, ops.nonzero, lambda x: x[x > 0]):
        with pytest.raises(GradientError, match="differs by sample"):
            vmap(f)(fw.tensor([[1.0, 2.0], [1.0, 1.0]]))


# -- places ----------------------------------------------------------------------------------------------


@examples(60)
@given(
    st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0, np.inf, np.nan]), max_size=6),
    hnp.arrays("float64", hnp.array_shapes(min_dims=0, max_dims=2, min_side=0, max_side=3),
               elements=st.sampled_from([-2.0, -1.0, 0.0, 0.25, 2.0, np.inf, np.nan])),
    st.sampled_from(["left", "right"]),
    st.booleans(),
)  # fmt: skip
def test_searchsorted(values: list[float], x2: Any, side: str, by_sorter: bool) -> None:
    x1 = np.asarray(values, np.float64)
    sorter = np.argsort(x1) if by_sorter else None
    x1 = x1 if by_sorter else np.sort(x1)
    want = np.searchsorted(x1, x2, side=side, sorter=sorter)
    for backend in ("cpu", "strict"):
        with fw.use_backend(backend):
            got = ops.searchsorted(fw.tensor(x1), fw.tensor(x2), side=side, sorter=None if sorter is None else sorter)
            assert (got.dtype, got.backend, got.shape) == ("int64", backend, x2.shape)
            np.testing.assert_array_equal(got.numpy(), want)


@examples(30)
@given(
    hnp.arrays("float64", (3, 4), elements=st.integers(0, 3)),
    st.sampled_from([(), (2,), (2, 2), (0,)]).flatmap(
        lambda s: hnp.arrays("float64", (3, *s), elements=st.sampled_from([-1.0, 0.0, 1.0, 1.5, 3.0, np.nan]))
    ),
    st.sampled_from(["left", "right"]),
    st.sampled_from([(0, 0), (0, None), (None, 0)]),
    st.booleans(),
)
def test_vmap_of_searchsorted(x1: Any, x2: Any, side: str, axes: Any, by_sorter: bool) -> None:
    """Also of one sorted array per sample, for which no library has a function."""
    sorter = np.argsort(x1, axis=-1)
    x1 = x1 if by_sorter else np.sort(x1, axis=-1)

    def fn(x1: Any, x2: Any, sorter: Any) -> Any:
        return ops.searchsorted(x1, x2, side=side, sorter=sorter if by_sorter else None)

    args = [fw.tensor(a if axis == 0 else a[0]) for a, axis in zip((x1, x2), axes)]
    got = vmap(fn, (*axes, axes[0]))(*args, fw.tensor(sorter if axes[0] == 0 else sorter[0]))
    for i in range(3):
        own1, own2 = i if axes[0] == 0 else 0, i if axes[1] == 0 else 0
        want = np.searchsorted(x1[own1], x2[own2], side=side, sorter=sorter[own1] if by_sorter else None)
        np.testing.assert_array_equal(got[i].numpy(), want)


def test_searchsorted_of_mixed_kinds() -> None:
    assert ops.searchsorted(fw.tensor([1, 2, 3]), 2.5).item() == 2
    assert ops.searchsorted([1.0, 2.0], fw.tensor([0, 2])).tolist() == [0, 1]
    assert ops.searchsorted(fw.tensor([False, True]), True).item() == 1
    x = fw.tensor([1.0, 2.0], requires_grad=True)
    assert not ops.searchsorted(x, x).requires_grad


def test_what_searchsorted_refuses() -> None:
    x = fw.tensor([1.0, 2.0])
    with pytest.raises(ShapeError, match=r"in a sorted vector, got shape \(1, 2\)"):
        ops.searchsorted(x[None], x)
    with pytest.raises(ValueError, match="the sides 'left' and 'right', got 'middle'"):
        ops.searchsorted(x, x, side="middle")
    with pytest.raises(DTypeError, match="no order"):
        ops.searchsorted(x, fw.tensor(1j))
    with pytest.raises(ShapeError, match=r"a sorter of shape \(1,\)"):
        ops.searchsorted(x, x, sorter=[0])
    with pytest.raises(DTypeError, match="indices are integers, got float32"):
        ops.searchsorted(x, x, sorter=[0.0, 1.0])


@examples(40)
@given(SHAPES, st.data())
def test_nonzero_elements(shape: tuple[int, ...], data: Any) -> None:
    dtype = data.draw(st.sampled_from(["bool", "int64", "float64"]))
    a = data.draw(hnp.arrays(dtype, shape, elements={"bool": st.booleans()}.get(dtype, st.integers(0, 2))))
    axis = data.draw(st.none() | st.integers(-len(shape), len(shape) - 1))
    for backend in ("cpu", "strict"):
        x = fw.tensor(a, backend=backend)
        found = ops.nonzero(x)
        assert len(found) == a.ndim
        for got, want in zip(found, np.nonzero(a)):
            np.testing.assert_array_equal(got.numpy(), want)
        np.testing.assert_array_equal(ops.argwhere(x).numpy(), np.argwhere(a))
        np.testing.assert_array_equal(ops.flatnonzero(x).numpy(), np.flatnonzero(a))
        for keepdims in (False, True):
            got = ops.count_nonzero(x, axis=axis, keepdims=keepdims)
            np.testing.assert_array_equal(got.numpy(), np.count_nonzero(a, axis=axis, keepdims=keepdims))


def test_a_number_has_no_places() -> None:
    for f in (ops.nonzero, ops.argwhere):
        with pytest.raises(ShapeError, match="of a 0-d array has no indices"):
            f(fw.tensor(1.0))
    assert ops.count_nonzero(fw.tensor(3.0)).item() == 1


# -- another library -------------------------------------------------------------------------------------


@pytest.mark.reference
@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("axis", [0, 1, -1])
def test_sort_as_in_jax(axis: int, descending: bool, jax: Any) -> None:
    """Values, both derivatives and the second ones; upwards with ties, of which JAX's sort downwards turns the order."""
    a = np.random.default_rng(4).normal(size=(3, 4, 2))
    a = a if descending else np.round(a, 1)
    c, t = (np.random.default_rng(k).normal(size=a.shape) for k in (5, 6))

    def everything(lib: Any, sort: Any, argsort: Any, x: Any, c: Any, t: Any) -> list[Any]:
        def fn(x: Any) -> Any:
            return sort(x * x * x, axis=axis, descending=descending) ** 2

        y, pull = lib.vjp(fn, x)
        dy = lib.jvp(fn, (x,), (t,))[1]
        second = lib.jvp(lambda x: lib.vjp(fn, x)[1](c)[0], (x,), (t,))[1]
        return [y, pull(c)[0], dy, second, argsort(x, axis=axis, descending=descending)]

    mine = everything(fw, ops.sort, ops.argsort, *map(fw.tensor, (a, c, t)))
    jnp = jax.numpy
    theirs = everything(jax, jnp.sort, jnp.argsort, *map(jnp.asarray, (a, c, t)))
    for m, w in zip(mine, theirs):
        np.testing.assert_allclose(m.numpy(), np.asarray(w), rtol=1e-12, atol=1e-13)


@pytest.mark.reference
def test_sets_and_places_as_in_jax(jax: Any) -> None:
    a = np.round(np.random.default_rng(8).normal(size=(4, 5)), 1)
    jnp = jax.numpy
    want = jnp.unique_all(jnp.asarray(a))
    for got, w in zip(ops.unique_all(fw.tensor(a)), want):
        np.testing.assert_array_equal(got.numpy(), np.asarray(w))
    x1 = np.sort(a, axis=-1)
    v = np.round(np.random.default_rng(9).normal(size=(4, 7)), 1)
    for side in ("left", "right"):
        got = vmap(lambda x, v, s=side: ops.searchsorted(x, v, side=s))(fw.tensor(x1), fw.tensor(v))
        w = jax.vmap(lambda x, v, s=side: jnp.searchsorted(x, v, side=s))(x1, v)
        np.testing.assert_array_equal(got.numpy(), np.asarray(w))
