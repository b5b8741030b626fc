"""take, take_along_axis, scatter_add and diag; derivatives of higher order; another library."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from moves import examples, values

import framework as fw
from framework.autodiff import ops, vmap
from framework.errors import AxisError, DTypeError, ShapeError

A = values((3, 4, 2))

# -- take, scatter_add, diag ---------------------------------------------------------------------------------


@examples(60)
@given(hnp.array_shapes(min_dims=1, max_dims=3, max_side=3), st.data())
def test_take(shape: tuple[int, ...], data: Any) -> None:
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    n = shape[axis]
    places = data.draw(
        hnp.arrays("int64", hnp.array_shapes(min_dims=0, max_dims=2, min_side=0), elements=st.integers(-n, n - 1))
    )
    a = values(shape)
    for backend in ("cpu", "strict"):
        x = fw.tensor(a, backend=backend)
        np.testing.assert_array_equal(ops.take(x, places, axis=axis).numpy(), np.take(a, places, axis=axis))
    x = fw.tensor(a)
    fw.gradcheck(lambda x: ops.take(x, places, axis=axis) ** 2, x)
    flat = data.draw(st.lists(st.integers(-a.size, a.size - 1), max_size=3))
    np.testing.assert_array_equal(ops.take(x, flat).numpy(), np.take(a, np.asarray(flat, np.int64)))
    np.testing.assert_array_equal(ops.take(x, n - 1, axis=axis).numpy(), np.take(a, n - 1, axis=axis))


@examples(60)
@given(hnp.array_shapes(min_dims=1, max_dims=3, max_side=3), st.data())
def test_take_along_axis(shape: tuple[int, ...], data: Any) -> None:
    """Repeated and negative indices; other axes of length one broadcast, on either side."""
    axis = data.draw(st.integers(-len(shape), len(shape) - 1))
    own = [data.draw(st.sampled_from([n, 1])) for n in shape]
    other = [data.draw(st.sampled_from([n, 1])) for n in shape]
    own[axis], other[axis] = shape[axis], data.draw(st.integers(0, 4))
    n = shape[axis]
    places = data.draw(hnp.arrays("int64", tuple(other), elements=st.integers(-n, n - 1)))
    a = values(tuple(own))
    want = np.take_along_axis(a, places, axis)
    for backend in ("cpu", "strict"):
        got = ops.take_along_axis(fw.tensor(a, backend=backend), fw.tensor(places, backend=backend), axis=axis)
        np.testing.assert_array_equal(got.numpy(), want)
    fw.gradcheck(lambda x: ops.take_along_axis(x, places, axis=axis) ** 2, fw.tensor(a))


def test_indices_outside(backend: str) -> None:
    x = fw.tensor([[1.0, 2.0], [3.0, 4.0]], backend=backend)
    for wrong in ([2], [0, -3], fw.tensor([5], backend=backend)):
        for f in (
            lambda i: ops.take(x, i, axis=0),
            lambda i: ops.take(x, i, axis=1),
            lambda i: x[i],
            lambda i: ops.scatter_add(x, i, 1.0),
            lambda i: ops.setitem(x, i, 1.0),
            lambda i: ops.take_along_axis(x, ops.reshape(ops.asarray(i, device=x.device), (-1, 1)), axis=0),
        ):
            with pytest.raises(IndexError, match="out of bounds"):
                f(wrong)
    with pytest.raises(IndexError, match="out of bounds"):
        ops.take(x, 4)


@pytest.fixture
def wrapping() -> Iterator[str]:
    """The CPU backend as a library that computes behind our back and wraps indices around, as CuPy does."""
    from framework.backend import registry

    cpu = type(registry.get("cpu"))

    class WrappingBackend(cpu):  # type: ignore[misc, valid-type]
        name = "wrapping"
        synchronous = False
        kernels: ClassVar = {
            **cpu.kernels,
            "get_item": lambda a, key: np.take(a, key[-1], axis=len(key) - 1, mode="wrap"),
        }

    registry.register(WrappingBackend)
    return WrappingBackend.name


def test_a_library_that_wraps_indices_around_is_not_asked(wrapping: str) -> None:
    x = fw.tensor([1.0, 2.0, 3.0], backend=wrapping)
    assert ops.take(x, [0, -3, 2], axis=0).tolist() == [1.0, 1.0, 3.0]
    assert ops.take(x, [], axis=0).shape == (0,)
    for f in (
        lambda: ops.take(x, [3], axis=0),
        lambda: ops.take(x, [1, -4]),
        lambda: x[3],
        lambda: ops.scatter_add(x, [3], 1.0),
        lambda: ops.take_along_axis(x, [5]),
    ):
        with pytest.raises(IndexError, match="out of bounds"):
            f()


def test_what_take_refuses() -> None:
    x = fw.tensor(A)
    for f in (ops.take, ops.take_along_axis, lambda x, i: ops.scatter_add(x, i, 1.0)):
        with pytest.raises(DTypeError, match="indices are integers, got float32"):
            f(x, [0.0])
        with pytest.raises(DTypeError, match=r"got bool; a mask goes in brackets: x\[mask\]"):
            f(x, [True])
    with pytest.raises(AxisError, match="axis 3 of an array with 3 axes"):
        ops.take(x, [0], axis=3)
    with pytest.raises(ShapeError, match="as many axes"):
        ops.take_along_axis(x, [0])
    with pytest.raises(ShapeError, match="do not broadcast"):
        ops.take_along_axis(x, np.zeros((2, 4, 2), np.int64), axis=1)
    with pytest.raises(AxisError, match="got a 0-d one"):
        ops.scatter_add(fw.tensor(1.0), 0, 1.0)


@pytest.mark.parametrize("value_shape", [(), (2,), (1, 2), (3, 1), (3, 2)])
def test_scatter_add_broadcasts(value_shape: tuple[int, ...], backend: str) -> None:
    a, v, places = values((3, 2)), values(value_shape, 1), np.array([2, 0, 2])
    want = a.copy()
    np.add.at(want, places, v)
    got = ops.scatter_add(*[fw.tensor(t, backend=backend) for t in (a, places, v)])
    np.testing.assert_allclose(got.numpy(), want)
    fw.gradcheck(lambda x, v: ops.scatter_add(x, places, v) ** 2, [fw.tensor(a), fw.tensor(v)])
    batch = np.stack([v, v * 2])
    got = vmap(lambda v: ops.scatter_add(a, places, v))(fw.tensor(batch))
    for row, b in zip(got.numpy(), batch):
        want = a.copy()
        np.add.at(want, places, b)
        np.testing.assert_allclose(row, want)


def test_scatter_add_keeps_the_dtype() -> None:
    x = fw.tensor([1.0, 2.0], dtype="float32")
    assert ops.scatter_add(x, [0], fw.tensor([1.0], dtype="float64")).dtype == "float32"
    assert ops.scatter_add(x, 0, 5).tolist() == [6.0, 2.0]
    with pytest.raises(ShapeError, match=r"a value of shape \(3,\) for a selection of shape \(2,\)"):
        ops.scatter_add(x, [0, 1], [1.0, 2.0, 3.0])


@pytest.mark.parametrize("k", range(-4, 5))
def test_diag(k: int, backend: str) -> None:
    for shape in ((3,), (3, 3), (2, 4), (4, 2), (0,), (0, 3), (1, 1)):
        a = values(shape)
        x = fw.tensor(a, backend=backend)
        np.testing.assert_array_equal(ops.diag(x, k).numpy(), np.diag(a, k))
        if backend == "cpu":
            fw.gradcheck(lambda x: ops.diag(x, k) ** 2, x)
            np.testing.assert_array_equal(vmap(lambda x: ops.diag(x, k))(x[None])[0].numpy(), np.diag(a, k))


def test_diag_is_of_vectors_and_matrices() -> None:
    for shape in ((), (1, 1, 1)):
        with pytest.raises(ShapeError, match="a vector or a matrix"):
            ops.diag(fw.tensor(values(shape)))


# -- derivatives of higher order ------------------------------------------------------------------------------


@examples(25)
@given(st.data())
def test_second_derivatives_with_repeated_places(data: Any) -> None:
    """Of reads, all four mixes of modes; and of sums of writes."""
    places = data.draw(hnp.arrays("int64", hnp.array_shapes(max_dims=2, max_side=4), elements=st.integers(-3, 2)))
    column = data.draw(st.sampled_from([0, slice(None), None, ..., slice(None, None, -1)]))
    key = (places, column)
    a = values((3, 2))
    assume(a[key].size)

    def fn(x: Any) -> Any:
        return ops.scatter_add(x**3, [0, 0, 2], x[[1, 1, 0]] ** 2)[key] ** 2

    x = fw.tensor(a)
    c, t = fw.tensor(values(a[key].shape, 1)), fw.tensor(values((3, 2), 2))
    fw.gradcheck(fn, x, rtol=1e-4, atol=1e-6)
    fw.gradcheck(lambda x: fw.vjp(fn, x)[1](c)[0], x, rtol=1e-4, atol=1e-5)
    fw.gradcheck(lambda x: fw.jvp(fn, (x,), (t,))[1], x, rtol=1e-4, atol=1e-5)


# -- another library ------------------------------------------------------------------------------------------


JAX_CALLS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "read": (lambda np_, x, v: x[I0, :, I1] ** 2, lambda np_, x, v: x[I0, :, I1] ** 2),
    "write once each": (
        lambda np_, x, v: ops.setitem(x, (slice(None), [3, 0]), v[:, None] ** 2) ** 2,
        lambda np_, x, v: x.at[:, np.array([3, 0])].set(v[:, None] ** 2) ** 2,
    ),
    "add": (
        lambda np_, x, v: ops.scatter_add(x, [0, 2, 0], v[0] * x[:, ::-1]) ** 2,
        lambda np_, x, v: x.at[np.array([0, 2, 0])].add(v[0] * x[:, ::-1]) ** 2,
    ),
    "take along": (
        lambda np_, x, v: ops.take_along_axis(x, I2, axis=1) ** 2,
        lambda np_, x, v: np_.take_along_axis(x, I2, axis=1) ** 2,
    ),
}
I0, I1, I2 = np.array([0, 2, 0]), np.array([1, 1, 0]), np.array([[[0], [0], [3]]])


@pytest.mark.reference
@pytest.mark.parametrize("name", JAX_CALLS)
def test_as_in_jax(name: str, jax: Any) -> None:
    mine, theirs = JAX_CALLS[name]
    a, v, t, s = A, values((3, 2), 1), values(A.shape, 2), values((3, 2), 3)

    def everything(lib: Any, fn: Any, *args: Any) -> Any:
        x, v, t, s = args
        y, pull = lib.vjp(fn, x, v)
        dy = lib.jvp(fn, (x, v), (t, s))[1]
        second = lib.jvp(lambda x, v: lib.vjp(fn, x, v)[1](y), (x, v), (t, s))[1]
        return [y, dy, *pull(y), *second]

    got = everything(fw, lambda x, v: mine(ops, x, v), *map(fw.tensor, (a, v, t, s)))
    want = everything(jax, lambda x, v: theirs(jax.numpy, x, v), *map(jax.numpy.asarray, (a, v, t, s)))
    for g, w in zip(got, want):
        np.testing.assert_allclose(g.numpy(), np.asarray(w), rtol=1e-12, atol=1e-13)
