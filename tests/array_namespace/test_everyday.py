"""NumPy's everyday functions: those of and to Python values, and corners of the others."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import framework as fw
import framework.numpy as fnp
from framework.errors import ShapeError


def test_what_an_array_is() -> None:
    for a in (fw.tensor([[1.0, 2.0, 3.0]]), np.ones((1, 3)), [[1, 2, 3]]):
        assert (fnp.shape(a), fnp.ndim(a), fnp.size(a), fnp.size(a, 1)) == ((1, 3), 2, 3, 3)
    assert (fnp.shape(3.0), fnp.ndim(3.0), fnp.size(3.0)) == ((), 0, 1)
    assert [fnp.isscalar(a) for a in (1, 2.0, True, 1j, np.float64(1), fw.tensor(1.0), [1])] == [True] * 5 + [False] * 2
    assert fnp.iscomplexobj(fw.tensor([1j]))
    assert not fnp.iscomplexobj(1.0)
    assert fnp.isrealobj(fw.tensor([1, 2]))
    assert fnp.ndarray is fw.Tensor
    assert isinstance(fnp.zeros(2), fnp.ndarray)
    assert fnp.broadcast_shapes((2, 1), (3,)) == (2, 3)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ([1.0, 2.0], [1.0, 2.0 + 1e-6]),
        ([1.0, 2.0], [1.0, 2.1]),
        ([math.inf, -math.inf], [math.inf, -math.inf]),
        ([math.inf], [-math.inf]),
        ([math.inf], [1.0]),
        ([math.nan], [math.nan]),
        ([0.0], [1e-9]),
        ([1, 100000], [1, 100001]),
        ([1, 2], [1, 3]),
        ([[1.0], [2.0]], [1.0, 2.0]),
        ([1 + 1j], [1 + 1.000001j]),
    ],
)
@pytest.mark.parametrize("equal_nan", [False, True])
def test_closeness(a: Any, b: Any, equal_nan: bool, backend: str) -> None:
    a, b = np.asarray(a), np.asarray(b)
    ours = fw.tensor(a, backend=backend), fw.tensor(b, backend=backend)
    assert fnp.isclose(*ours, equal_nan=equal_nan).tolist() == np.isclose(a, b, equal_nan=equal_nan).tolist()
    assert fnp.allclose(*ours, equal_nan=equal_nan) is np.allclose(a, b, equal_nan=equal_nan)
    assert fnp.array_equal(*ours) is np.array_equal(a, b)


def test_arrays_of_other_shapes_are_not_equal() -> None:
    assert not fnp.array_equal([1, 2], [[1, 2]])
    assert fnp.array_equal([], [])


def test_a_nan_beside_a_number(backend: str) -> None:
    a = fw.tensor([1.0, math.nan, 3.0, math.nan], backend=backend)
    b = fw.tensor([2.0, 2.0, math.nan, math.nan], backend=backend)
    np.testing.assert_array_equal(fnp.fmax(a, b).numpy(), [2.0, 2.0, 3.0, math.nan])
    np.testing.assert_array_equal(fnp.fmin(a, b).numpy(), [1.0, 2.0, 3.0, math.nan])
    assert fnp.fmax(1.0, a).tolist() == [1.0, 1.0, 3.0, 1.0]
    np.testing.assert_array_equal(fnp.median(a[:3], axis=0).numpy(), math.nan)


def test_gradients_where_there_are_nans() -> None:
    x = fw.tensor([1.0, math.nan, 3.0])
    for f, want in (
        (fnp.nansum, [1.0, 0.0, 1.0]),
        (fnp.nanmean, [0.5, 0.0, 0.5]),
        (fnp.nanmax, [0.0, 0.0, 1.0]),
        (fnp.nanmin, [1.0, 0.0, 0.0]),
    ):
        assert fw.grad(f)(x).tolist() == want


def test_sinc_at_zero() -> None:
    x = fw.tensor([0.0, 0.5, 1e-5], dtype="float64")
    np.testing.assert_allclose(fnp.sinc(x).numpy(), np.sinc(x.numpy()), rtol=1e-14)
    assert fw.grad(fnp.sinc)(fw.tensor(0.0, dtype="float64")).item() == 0.0
    second = fw.grad(fw.grad(fnp.sinc))(fw.tensor(0.0, dtype="float64"))
    np.testing.assert_allclose(second.item(), -(math.pi**2) / 3, rtol=1e-14)


def test_median_of_one_and_of_none() -> None:
    assert fnp.median([3, 1, 2]).item() == 2.0
    assert fnp.median([[4.0]], keepdims=True).tolist() == [[4.0]]
    with pytest.raises(ShapeError, match=r"median over axis 0 of shape \(0,\), which holds no element"):
        fnp.median([])


def test_weights_of_another_shape() -> None:
    with pytest.raises(ShapeError, match=r"weights of shape \(2,\) for an average of \(2, 3\) over axis 1"):
        fnp.average(fw.tensor(np.ones((2, 3))), axis=1, weights=[1.0, 2.0])


def test_stop_gradient_is_a_constant() -> None:
    x = fw.tensor([1.0, 2.0], requires_grad=True)
    assert not fnp.stop_gradient(x).requires_grad
    assert fw.grad(lambda x: fnp.sum(fnp.stop_gradient(x) * x))(fw.tensor([3.0])).tolist() == [3.0]


def test_integers_with_a_dtype() -> None:
    assert fnp.logspace(0, 2, 3, dtype="int64").tolist() == [1, 10, 100]
    assert fnp.identity(2, dtype=int).tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_infinities_as_numbers(dtype: str, backend: str) -> None:
    a = np.array([1.0, math.nan, math.inf, -math.inf], dtype)
    x = fw.tensor(a, backend=backend)
    np.testing.assert_array_equal(fnp.nan_to_num(x).numpy(), np.nan_to_num(a))
    got = fnp.nan_to_num(x, nan=7.0, posinf=8.0, neginf=9.0)
    assert (got.dtype, got.tolist()) == (dtype, [1.0, 7.0, 8.0, 9.0])
    assert fw.grad(lambda x: fnp.sum(fnp.nan_to_num(x)))(x).tolist() == [1.0, 0.0, 0.0, 0.0]
    z = fnp.nan_to_num(fw.tensor([complex(math.nan, 1.0), complex(2.0, math.inf)], backend=backend), posinf=5.0)
    assert z.tolist() == [1j, 2 + 5j]
    assert fnp.nansum(x[:3]).item() == math.inf  # no missing value


def test_data_that_does_not_fit() -> None:
    t = fw.tensor(np.ones((2, 0, 3)))
    for call, message in (
        (lambda: fnp.cov(t), r"cov takes a matrix of variables and observations, got shape \(2, 0, 3\)"),
        (lambda: fnp.quantile(t, 0.5, axis=1), r"quantile over axis 1 of shape \(2, 0, 3\), which holds no element"),
        (lambda: fnp.interp(1.0, [1.0, 2.0], [1.0]), r"as many values as places.*\(2,\) and \(1,\)"),
    ):
        with pytest.raises(ShapeError, match=message):
            call()
    with pytest.raises(ValueError, match=r"quantile needs parts from 0 to 1, got 1\.01"):
        fnp.percentile([1.0, 2.0], 101)
