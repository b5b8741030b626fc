"""Arrays joined, parted, copied: against NumPy, as transposes, in batches, on every backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from moves import an_axis, as_list, check, examples, same, values

import framework as fw
from framework.autodiff import ops, vmap
from framework.errors import ShapeError

# -- joined and parted ---------------------------------------------------------------------------------------------


@examples(20)
@given(hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=3), st.data())
def test_joining(shape: tuple[int, ...], data: Any) -> None:
    axis = an_axis(data, shape)
    other = values(shape, 5)
    for name in ("concat", "stack"):
        check(
            lambda x, f=name: getattr(ops, f)([x, other, x * 2], axis=axis),
            lambda x, f=name: getattr(np, f)([x, other, x * 2], axis=axis),
            shape,
        )
    for name in ("vstack", "hstack", "dstack", "column_stack"):
        if len(shape) == 1 or name != "column_stack" or len(shape) < 3:
            check(
                lambda x, f=name: getattr(ops, f)([x, other, x]),
                lambda x, f=name: getattr(np, f)([x, other, x]),
                shape,
            )
    check(lambda x: ops.concat([x, other], axis=None), lambda x: np.concatenate([x, other], axis=None), shape)
    check(lambda x: ops.append(x, other, axis=axis), lambda x: np.append(x, other, axis=axis), shape)
    check(lambda x: ops.append(x, 1.5), lambda x: np.append(x, 1.5), shape)


def test_joining_nothing() -> None:
    with pytest.raises(ShapeError, match="one or more arrays"):
        ops.stack([])


def test_joining_numbers() -> None:
    x = fw.tensor([1.0, 2.0], dtype="float64")
    for name in ("hstack", "vstack", "dstack", "column_stack"):
        parts: list[Any] = [x, x] if name != "hstack" else [x, 3]
        got = getattr(ops, name)(parts)
        assert got.dtype == "float64"
        np.testing.assert_array_equal(got.numpy(), getattr(np, name)([np.asarray(p) for p in parts]))
    assert [t.shape for t in ops.atleast_2d(1.0, [2.0], x)] == [(1, 1), (1, 1), (1, 2)]
    assert isinstance(ops.atleast_1d(1.0, 2.0), tuple)


@examples(25)
@given(hnp.array_shapes(min_dims=1, max_dims=3, min_side=0, max_side=5), st.data())
def test_parting(shape: tuple[int, ...], data: Any) -> None:
    axis = an_axis(data, shape)
    n = shape[axis]
    count = data.draw(st.integers(1, 6))
    check(*same("array_split", count, axis=axis), shape)
    if n % count == 0:
        check(*same("split", count, axis=axis), shape)
    places = data.draw(st.lists(st.integers(-2, n + 2), max_size=4))
    check(*same("split", places, axis=axis), shape)
    check(*same("array_split", sorted(abs(p) for p in places), axis=axis), shape)
    check(lambda x: ops.unstack(x, axis=axis), lambda x: tuple(np.moveaxis(x, axis, 0)), shape)
    for name, rank in (("vsplit", 2), ("hsplit", 1), ("dsplit", 3)):
        if len(shape) >= rank:
            check(*same(name, [1]), shape)


def test_numbers_of_numpy_and_arrays_of_them_are_numbers() -> None:
    a = values((4, 6))
    x = fw.tensor(a)
    for f, args, kwargs in (
        ("split", (np.int64(3),), {"axis": np.int64(1)}),
        ("split", (np.cumsum([1, 2])[:1],), {}),
        ("array_split", (np.array([1, 3]),), {}),
        ("tile", (np.array([2, 1]),), {}),
        ("roll", (np.array([1, 2]), np.array([0, 1])), {}),
        ("roll", (np.int64(5),), {"axis": np.int64(-1)}),
        ("repeat", (np.int64(2),), {"axis": np.int64(0)}),
        ("expand_dims", (np.int64(1),), {}),
        ("reshape", (np.array([8, 3]),), {}),
        ("moveaxis", (np.int64(0), np.int64(1)), {}),
        ("pad", (np.array([[1, 2], [0, 1]]),), {}),
        ("broadcast_to", (np.array([2, 4, 6]),), {}),
    ):
        for g, w in zip(as_list(getattr(ops, f)(x, *args, **kwargs)), as_list(getattr(np, f)(a, *args, **kwargs))):
            np.testing.assert_array_equal(g.numpy(), w)
    assert [t.shape for t in ops.split(x, fw.tensor([1, 2]))] == [(1, 6), (1, 6), (2, 6)]
    with pytest.raises(TypeError, match="cannot be interpreted as an integer"):
        ops.roll(x, 1.5, axis=0)


def test_unstack_is_the_inverse_of_stack() -> None:
    x = fw.tensor(values((4, 3)))
    for axis in (0, 1, -1):
        parts = ops.unstack(x, axis=axis)
        assert isinstance(parts, tuple)
        np.testing.assert_array_equal(ops.stack(parts, axis=axis).numpy(), x.numpy())


@pytest.mark.parametrize("n", [1, 2, 7, 64])
def test_gradients_of_some_parts_only(n: int, backend: str) -> None:
    """Parts that nothing depends on have a gradient of zero."""
    x = fw.tensor(values((n, 2)), backend=backend, requires_grad=True)
    parts = ops.unstack(x)
    (parts[n // 2] * 3 + parts[0]).sum().backward()
    want = np.zeros((n, 2))
    want[n // 2] += 3
    want[0] += 1
    np.testing.assert_array_equal(x.grad.numpy(), want)


def test_the_gradients_of_many_parts_are_joined_in_few_sweeps() -> None:
    """Not one array of the whole shape for each part: the elements that backward makes are counted."""
    n = 256
    x = fw.tensor(np.ones((n, 8)), requires_grad=True)
    y = sum((part * k).sum() for k, part in enumerate(ops.unstack(x)))
    made = 0
    ns = x._ns
    concat, index_add = ns.concat, ns.index_add_parts

    def counted(fn: Any) -> Any:
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal made
            out = fn(*args, **kwargs)
            made += out.size
            return out

        return call

    ns.concat, ns.index_add_parts = counted(concat), counted(index_add)
    try:
        y.backward()
    finally:
        ns.concat, ns.index_add_parts = concat, index_add
    assert x.grad[:, 0].tolist() == list(range(n))
    assert made <= n * 8 * 16  # five sweeps that join blocks of eight, and eight parts in each of these


# -- copies ----------------------------------------------------------------------------------------------------------


def test_reshape_with_and_without_a_copy(backend: str) -> None:
    a = values((3, 4))
    x = fw.tensor(a, backend=backend)
    for copy in (None, True):
        np.testing.assert_array_equal(ops.reshape(x.mT, (12,), copy=copy).numpy(), a.T.reshape(12))
    np.testing.assert_array_equal(ops.reshape(x, (2, 6), copy=False).numpy(), a.reshape(2, 6))
    with pytest.raises((ValueError, AttributeError)):  # array-api-strict sets the shape of a view
        ops.reshape(x.mT, (12,), copy=False)
    fw.gradcheck(lambda x: ops.reshape(x, (12,), copy=True) ** 2, fw.tensor(a))


def test_reshape_without_a_copy_inside_transforms() -> None:
    x = fw.tensor(values((2, 3, 4)))
    got = vmap(fw.grad(lambda x: (ops.reshape(x, (12,), copy=False) ** 2).sum()))(x)
    np.testing.assert_allclose(got.numpy(), 2 * x.numpy())
    with pytest.raises(ValueError):
        vmap(lambda x: ops.reshape(x.mT, (12,), copy=False))(x)


def test_a_copy_shares_no_memory() -> None:
    a = np.zeros((2, 3))
    x = ops.asarray(a)
    assert np.shares_memory(ops.reshape(x, (6,), copy=False).numpy(), a)
    assert not np.shares_memory(ops.reshape(x, (6,), copy=True).numpy(), a)
