"""Keys: the standard's rules, NumPy's conveniences, repeated places, what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from moves import examples, leaf, values

import framework as fw
from framework.autodiff import Tensor, ops, vmap
from framework.errors import AxisError, DTypeError, GradientError, ShapeError

A = values((3, 4, 2))

# -- keys --------------------------------------------------------------------------------------------------

TABLE = np.array([[0, 2], [1, 1]])

SAME_AS_NUMPY: tuple[Any, ...] = (
    [0, 2],
    [[0, 2], [1, 1]],
    ([0, 2], [1, 3]),
    (1, [0, 3]),
    ([0, 2], slice(None), 1),
    (0, slice(None), [1, 0]),
    (..., [1, 0]),
    (None, [2, 0], ..., None),
    range(2),
    (slice(None), range(3, 0, -1)),
    ((0, 1), (2, 3)),
    np.int64(1),
    (np.int32(-1), np.uint8(3)),
    np.array(2),
    TABLE,
    (TABLE, TABLE, TABLE // 2),
    TABLE.astype(np.uint8),
    TABLE.astype(np.int16),
    [],
    np.zeros((0, 2), np.int64),
    [True, False, True],
    (slice(None), [True, False, True, False]),
    A > 0,
    (0, A[0] > 0),
    (A[:, :, 0] > 0, 1),
    (A[..., 0] > 0, [0]),
    (..., A[0, 0] > 0),
    (None, A[:, 0, 0] > 0, None),
    slice(-100, 100),
    slice(10, 20),
    slice(None, None, -1),
    slice(-1, -100, -2),
    (slice(2, 0, -1), slice(3, None, -3)),
    (slice(np.int64(1), np.int64(3)),),
    (),
    ...,
    (..., 0, 0),
    (0, ..., 0, 0),
)


@pytest.mark.parametrize("key", SAME_AS_NUMPY, ids=lambda k: str(k).replace("\n", ""))
def test_keys_mean_what_they_mean_in_numpy(key: Any, backend: str) -> None:
    """Read, write and differentiate."""
    want = A[key]
    x = leaf(A, backend)
    got = x[key]
    assert got.backend == backend
    np.testing.assert_array_equal(got.detach().numpy(), want)
    c = values(want.shape, 1)
    got.backward(fw.tensor(c, backend=backend))
    scattered = np.zeros(A.shape)
    np.add.at(scattered, key, c)
    np.testing.assert_allclose(x.grad.numpy(), scattered)
    written = A.copy()
    written[key] = c
    got = ops.setitem(fw.tensor(A, backend=backend), key, fw.tensor(c, backend=backend))
    np.testing.assert_array_equal(got.numpy(), written)


def test_slices_by_tensors() -> None:
    x, one = fw.tensor(A), fw.tensor(1)
    np.testing.assert_array_equal(x[one:, : one + 1].numpy(), A[1:, :2])
    np.testing.assert_array_equal(x[one, fw.tensor(-1)].numpy(), A[1, -1])


@pytest.mark.parametrize("shape", [(), (2,), (0, 2)])
@pytest.mark.parametrize("truth", [True, False])
def test_a_mask_without_axes_adds_one(shape: tuple[int, ...], truth: bool, backend: str) -> None:
    """As the standard has it: of length one where it is true, else zero."""
    a = values(shape)
    x = leaf(a, backend)
    mask = fw.tensor(truth, backend=backend)
    for key in (mask, (mask,)):
        got = x[key]
        assert got.shape == (int(truth), *shape)
        np.testing.assert_array_equal(got.detach().numpy(), a[np.asarray(truth)])
    got.sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.full(shape, float(truth)))
    np.testing.assert_array_equal(ops.setitem(x, mask, 7.0).detach().numpy(), np.full(shape, 7.0) if truth else a)


def test_masks_of_length_zero_select_nothing(backend: str) -> None:
    """The standard allows a mask of length zero for an axis of any length."""
    x = fw.tensor(A, backend=backend)
    assert x[fw.tensor(np.zeros((0,), bool), backend=backend)].shape == (0, 4, 2)
    assert x[fw.tensor(np.zeros((3, 0), bool), backend=backend)].shape == (0, 2)
    np.testing.assert_array_equal(ops.setitem(x, fw.tensor(np.zeros((0,), bool), backend=backend), 5.0).numpy(), A)


def test_nine_axes(backend: str) -> None:
    """No limit on the number of index arrays but the library's."""
    shape = (2,) * 9
    a = values(shape)
    x = leaf(a, backend)
    places = [fw.tensor(np.array([0, 1, 1, k % 2]), backend=backend) for k in range(9)]
    got = x[tuple(places)]
    np.testing.assert_array_equal(got.detach().numpy(), a[tuple(p.numpy() for p in places)])
    (got**2).sum().backward()
    want = np.zeros(shape)
    np.add.at(want, tuple(p.numpy() for p in places), 2 * got.detach().numpy())
    np.testing.assert_allclose(x.grad.numpy(), want)
    order = ops.argsort(x, axis=4)
    np.testing.assert_array_equal(ops.take_along_axis(x, order, axis=4).detach().numpy(), np.sort(a, axis=4))


WRONG: tuple[tuple[Any, type[Exception], str], ...] = (
    (5, AxisError, r"index 5 is out of bounds for axis 0 of shape \(3, 4, 2\); it has 3 elements"),
    ((0, ..., -3), AxisError, "index -3 is out of bounds for axis 2"),
    ((0, 0, 0, 0), AxisError, r"4 indices for an array of shape \(3, 4, 2\)"),
    ((..., 0, ...), AxisError, "two Ellipses"),
    (([0, 1], [0, 1, 2]), AxisError, r"index arrays of shapes \(2,\), \(3,\) do not broadcast"),
    (True, IndexError, r"a single bool is no index.*where\(condition, x, y\)"),
    (np.True_, IndexError, "a single bool is no index"),
    ((0, True), IndexError, "a single bool is no index"),
    (fw.tensor([True, False]), AxisError, r"a mask of shape \(2,\) for axes of lengths \(3,\)"),
    (np.zeros((3, 4, 2, 1), bool), AxisError, "4 indices for an array"),
    ([1.0], DTypeError, r"an integer or a bool array, got float32.*astype"),
    (np.array([1.0]), DTypeError, "an integer or a bool array, got float64"),
    (fw.tensor(1.0), DTypeError, "an integer or a bool array, got float32"),
    ("rows", IndexError, "'rows' is no index; these are: integers, slices"),
    (1.0, IndexError, "1.0 is no index"),
    ({0: 1}, IndexError, "is no index"),
    (slice(1.5, None), TypeError, "slice indices must be integers"),
    (slice(None, None, 0), ValueError, "step cannot be zero"),
    ([0, 3], IndexError, "out of bounds"),
    ((slice(None), np.array([[-5]])), IndexError, "out of bounds"),
)


@pytest.mark.parametrize(("key", "error", "message"), WRONG, ids=lambda k: str(k)[:40] if isinstance(k, str) else None)
def test_what_is_refused(key: Any, error: type[Exception], message: str, backend: str) -> None:
    x = fw.tensor(A, backend=backend)
    if isinstance(key, Tensor):
        key = key.to(backend)
    for f in (lambda: x[key], lambda: ops.setitem(x, key, 0.0)):
        with pytest.raises(error, match=message):
            f()


def test_errors_of_indices_are_those_a_python_user_expects() -> None:
    """Iteration, `in` and fallbacks catch IndexError; shapes are ValueErrors."""
    assert issubclass(AxisError, IndexError)
    assert issubclass(AxisError, ShapeError)
    assert issubclass(ShapeError, ValueError)


def test_what_a_value_must_fit() -> None:
    x = fw.tensor(A)
    for key, value in (
        (0, values((3,))),
        (A > 5, values((2,))),
        ([0, 1], values((3, 4, 2))),
        ((0, 0, 0), values((2,))),
    ):
        with pytest.raises(ShapeError, match=r"a value of shape .* for a selection of shape"):
            ops.setitem(x, key, value)
    with pytest.raises(ShapeError, match=r"a value of shape \(5,\) for a selection of shape \(4, 2\)"):
        ops.setitem(x, A[:, 0, 0] > 0, values((5,)))
    with pytest.raises(DTypeError, match="a complex value for an array of float64"):
        ops.setitem(x, 0, 1j)
    assert ops.setitem(fw.tensor([1, 2]), 0, 1.7).tolist() == [1, 2]


# -- writing -----------------------------------------------------------------------------------------------


@examples(60)
@given(hnp.arrays("int64", hnp.array_shapes(max_dims=2, max_side=4), elements=st.integers(-3, 2)), st.booleans())
def test_of_values_for_one_place_the_last_counts(places: Any, over_rows: bool) -> None:
    a, v = values((3, 2)), values((*places.shape, 2), 1)
    key: Any = places if over_rows else (places[..., None], np.array([0, 1]))
    want = a.copy()
    want[key] = v
    for backend in ("cpu", "strict"):
        x, value = leaf(a, backend), leaf(v, backend)
        y = ops.setitem(x, key, value)
        np.testing.assert_array_equal(y.detach().numpy(), want)
        (y**2).sum().backward()
        np.testing.assert_allclose((x.grad.numpy() ** 2).sum() + (value.grad.numpy() ** 2).sum(), 4 * (want**2).sum())
    fw.gradcheck(lambda x, v: ops.setitem(x, key, v) ** 2, [fw.tensor(a), fw.tensor(v)])
    c = fw.tensor(values((3, 2), 2))
    fw.gradcheck(
        lambda x, v: fw.vjp(lambda x, v: ops.setitem(x, key, v) ** 2, x, v)[1](c),
        [fw.tensor(a), fw.tensor(v)],
        rtol=1e-4,
        atol=1e-7,
    )


def test_of_values_for_one_place_the_last_counts_in_a_batch() -> None:
    places, a, v = np.array([[0, 1, 0], [2, 2, 2]]), values((2, 3)), values((2, 3), 1)

    def fn(x: Any, i: Any, v: Any) -> Any:
        return fw.vjp(lambda x, v: ops.setitem(x, i, v) ** 2, x, v)[1](ops.ones_like(x))

    got = vmap(fn)(*map(fw.tensor, (a, places, v)))
    rows = [fn(*map(fw.tensor, row)) for row in zip(a, places, v)]
    for g, want in zip(got, zip(*rows)):
        np.testing.assert_allclose(g.numpy(), np.stack([w.numpy() for w in want]))
    assert got[1][0].tolist()[0] == 0.0


@pytest.mark.parametrize(
    ("rank", "value_shape"),
    [(rank, v) for rank in (1, 2, 3) for v in ((), (1,), (2,), (4, 2), (1, 2)) if len(v) <= 3 - rank],
)
def test_writing_where_a_mask_holds(rank: int, value_shape: tuple[int, ...], backend: str) -> None:
    mask = A.mean(axis=tuple(range(rank, 3))) > 0 if rank < 3 else A > 0
    a, v = A.copy(), values(value_shape, 1)
    a[mask] = v
    x, value = leaf(A, backend), leaf(v, backend)
    y = x * 1
    y[fw.tensor(mask, backend=backend)] = value
    np.testing.assert_array_equal(y.detach().numpy(), a)
    y.sum().backward()
    ones = np.ones(A.shape)
    ones[mask] = 0
    np.testing.assert_array_equal(x.grad.numpy(), ones)
    np.testing.assert_allclose(float(value.grad.sum()), A.size - ones.sum())
    y = x * 1
    y[mask] = 0.0  # a mask from the host
    np.testing.assert_array_equal(y.detach().numpy(), A * ones)


def test_a_mask_may_differ_by_sample_where_one_value_is_written() -> None:
    def fn(x: Any) -> Any:
        y = x * 1
        y[x > 0] = 0.0
        return y

    np.testing.assert_array_equal(vmap(fn)(fw.tensor(A)).numpy(), np.minimum(A, 0))
    with pytest.raises(GradientError, match=r"differs by sample; use where\(\)"):
        vmap(lambda x: ops.setitem(x, x[:, 0] > 0, x[:2, :2]))(fw.tensor(A))
