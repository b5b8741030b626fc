"""Tensors and other libraries: NumPy's functions and scalars, DLPack, copies and pickles."""

from __future__ import annotations

import contextlib
import copy
import pickle
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework.autodiff import Tensor
from framework.errors import BackendError, GradientError


def tracked(*values: float) -> Tensor:
    return fw.tensor(values, dtype="float64", requires_grad=True)


# -- values for NumPy ------------------------------------------------------------------------------------


def test_numpy_of_a_tracked_tensor_teaches(backend: str) -> None:
    x = fw.tensor([1.0, 2.0], backend=backend, requires_grad=True)
    calls: tuple[Any, ...] = (
        Tensor.numpy,
        np.asarray,
        np.array,
        lambda t: np.asarray(t * 2),
        lambda t: np.array([t[0], 1.0]),
        lambda t: np.concatenate([t, t]),
        lambda t: np.linalg.norm(t),
        lambda t: np.zeros(2) + np.asarray(t),
    )
    for call in calls:
        with pytest.raises(GradientError, match=r"use \.detach\(\)\.numpy\(\)"):
            call(x)
    np.testing.assert_array_equal(np.asarray(x.detach()), [1.0, 2.0])


def test_asarray(backend: str) -> None:
    t = fw.tensor([1.0, 2.0], backend=backend)
    assert np.asarray(t).dtype == np.float32
    assert np.asarray(t, dtype=np.float64).tolist() == [1.0, 2.0]
    copied = np.array(t, copy=True)
    copied[0] = 9.0
    assert t.tolist() == [1.0, 2.0]
    assert np.asarray(t, copy=False).tolist() == [1.0, 2.0]
    with pytest.raises(ValueError, match="copy"):
        np.asarray(t, dtype=np.float64, copy=False)


def keeps_the_gradient_or_teaches(call: Any) -> None:
    with contextlib.suppress(GradientError):  # which says what to do: see the tests above
        result = call(tracked(1.0, 2.0))
        assert isinstance(result, Tensor)
        assert result.requires_grad


@pytest.mark.parametrize(
    "call", [np.cumsum, np.transpose, np.squeeze, lambda x: np.clip(x, 0, 1), lambda x: np.reshape(x, (2, 1))]
)
def test_numpy_functions_that_call_methods(call: Any) -> None:
    keeps_the_gradient_or_teaches(call)


@pytest.mark.xfail(reason="NumPy calls the method with `out`, and the error is Python's")
@pytest.mark.parametrize("call", [np.sum, np.mean, np.max, np.min, np.prod, np.std, np.var])
def test_numpy_functions_that_call_methods_with_more(call: Any) -> None:
    keeps_the_gradient_or_teaches(call)


# -- NumPy's functions become ours -----------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["exp", "log", "sin", "tanh", "sqrt", "absolute", "negative", "square", "arctan", "log1p", "sign", "floor"]
)
def test_unary_ufuncs(name: str) -> None:
    x = tracked(0.5, 2.0)
    y = getattr(np, name)(x)
    assert isinstance(y, Tensor)
    np.testing.assert_allclose(y.detach().numpy(), getattr(np, name)(np.array([0.5, 2.0])), rtol=1e-14)
    assert y.requires_grad == (name not in ("sign", "floor"))


@pytest.mark.xfail(reason="these have other names here")
@pytest.mark.parametrize("name", ["arcsinh", "arctanh", "fabs", "rint"])
def test_unary_ufuncs_with_other_names(name: str) -> None:
    assert isinstance(getattr(np, name)(tracked(0.5, 0.25)), Tensor)


@pytest.mark.parametrize(
    "name", ["add", "subtract", "multiply", "true_divide", "power", "maximum", "logaddexp", "hypot", "less", "matmul"]
)
def test_binary_ufuncs(name: str) -> None:
    x, a = tracked(0.5, 2.0), np.array([3.0, 0.25])
    want = getattr(np, name)
    for got, values in ((want(x, a), want([0.5, 2.0], a)), (want(a, x), want(a, [0.5, 2.0]))):
        assert isinstance(got, Tensor)
        np.testing.assert_allclose(got.detach().numpy(), values, rtol=1e-14)
        assert got.requires_grad == (name != "less")


@pytest.mark.parametrize(
    "call",
    [
        lambda x: np.frexp(x),
        lambda x: np.add.reduce(x),
        lambda x: np.multiply.outer(x, x),
        lambda x: np.exp(x, out=np.zeros(2)),
        lambda x: np.add(x, 1.0, where=np.array([True, False])),
        lambda x: np.add(x, 1.0, dtype=np.float32),
    ],
)
def test_what_is_not_ours_teaches(call: Any) -> None:
    with pytest.raises(
        GradientError, match=r"would lose its gradient; use framework\.numpy, or \.detach\(\)\.numpy\(\)"
    ):
        call(tracked(1.0, 2.0))


def test_an_array_is_not_written_by_an_in_place_operator() -> None:
    a = np.ones(2)
    with pytest.raises(GradientError, match="would lose its gradient"):
        a += tracked(1.0, 2.0)
    assert a.tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    "scalar",
    [np.float64(2.0), np.float32(2.0), np.int64(2), np.uint8(2), np.array(2.0), np.bool_(True)],
    ids=lambda s: f"{type(s).__name__}-{s.dtype}",
)
def test_numpy_scalars_on_either_side(scalar: Any, backend: str) -> None:
    x = fw.tensor([1.0, 2.0], dtype="float64", backend=backend, requires_grad=True)
    value = float(scalar)
    for y in (scalar * x, x * scalar):
        assert isinstance(y, Tensor)
        assert (y.backend, y.dtype) == (backend, "float64")
        x.grad = None
        y.sum().backward()
        assert x.grad.tolist() == [value, value]
    assert ((scalar < x) | (x < scalar) | (x == scalar)).tolist() == [True, True]


@pytest.mark.parametrize(
    "scalar",
    [np.float64(2.0), np.float16(2.0), np.float32(2.0), np.int64(2), 2, 2.0, True, np.array(2)],
    ids=lambda s: f"{type(s).__name__}-{s}",
)
def test_scalars_leave_float32_alone(scalar: Any, narrow: str) -> None:
    x = fw.tensor([1.0, 2.0], dtype="float32", backend=narrow, requires_grad=True)
    for y in (
        scalar + x,
        x - scalar,
        scalar * x,
        x / scalar,
        scalar / x,
        x**scalar,
        fw.numpy.maximum(x, scalar),
        fw.numpy.where(x > 1, x, scalar),
    ):
        assert y.dtype == "float32"
        x.grad = None
        y.sum().backward()
        assert x.grad.dtype == "float32"


def test_arrays_on_the_left_of_operators(backend: str) -> None:
    x = fw.tensor([1.0, 2.0], dtype="float64", backend=backend, requires_grad=True)
    a = np.array([[3.0, 4.0], [5.0, 6.0]])
    for y in (a * x, a + x, a - x, a / x, a**x, a @ x):
        assert isinstance(y, Tensor)
        assert y.backend == backend
        assert y.requires_grad


# -- DLPack ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64", "int64", "uint8", "bool"])
def test_dlpack_out(dtype: str, backend: str) -> None:
    t = fw.tensor([[1, 0], [1, 1]], dtype=dtype, backend=backend)
    a = np.from_dlpack(t)
    assert a.dtype == dtype
    assert a.tolist() == t.tolist()
    assert t.__dlpack_device__() == a.__dlpack_device__()


@pytest.mark.xfail(reason="a full reduction holds a NumPy scalar, which has no DLPack")
def test_dlpack_out_of_a_full_reduction() -> None:
    assert np.from_dlpack(fw.tensor([1.0, 2.0]).sum()).item() == 3.0


def test_dlpack_of_a_tracked_tensor_teaches() -> None:
    with pytest.raises(GradientError, match=r"use \.detach\(\)"):
        np.from_dlpack(tracked(1.0))
    assert np.from_dlpack(tracked(1.0).detach()).tolist() == [1.0]


class Exporter:
    """An array of a library that has nothing but DLPack."""

    def __init__(self, array: Any) -> None:
        self._array = array

    def __dlpack__(self, **kwargs: Any) -> Any:
        return self._array.__dlpack__(**kwargs)

    def __dlpack_device__(self) -> Any:
        return self._array.__dlpack_device__()


def test_dlpack_in() -> None:
    source = np.array([[1.0, 2.0]], np.float32)
    t = fw.tensor(Exporter(source))
    source[...] = 9.0
    assert (t.tolist(), t.dtype) == ([[1.0, 2.0]], "float32")
    assert (fw.tensor([[2.0, 2.0]]) * Exporter(np.array([[1.0, 2.0]], np.float32))).tolist() == [[2.0, 4.0]]


@pytest.mark.reference
def test_dlpack_with_torch() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    t = fw.tensor(torch.arange(6).reshape(2, 3))
    assert (t.tolist(), t.dtype) == ([[0, 1, 2], [3, 4, 5]], "int64")
    back = torch.from_dlpack(fw.tensor([[1.0, 2.0]]))
    assert back.tolist() == [[1.0, 2.0]]
    with pytest.raises((GradientError, BufferError, BackendError, RuntimeError)):
        fw.tensor(torch.ones(2, requires_grad=True))


# -- copies ----------------------------------------------------------------------------------------------


def test_deepcopy_of_a_leaf(backend: str) -> None:
    x = fw.tensor([1.0, 2.0], backend=backend, requires_grad=True)
    (x * x).sum().backward()
    y, again = copy.deepcopy([x, x])
    assert y is again
    assert (y.tolist(), y.requires_grad, y.is_leaf, y.grad.tolist()) == ([1.0, 2.0], True, True, [2.0, 4.0])
    with fw.no_grad():
        y += 5.0
    (y * 1.0).sum().backward()
    assert (x.tolist(), x.grad.tolist()) == ([1.0, 2.0], [2.0, 4.0])


def test_deepcopy_of_a_result_is_refused() -> None:
    y = fw.tensor([1.0], requires_grad=True) * 2
    with pytest.raises(GradientError, match=r"use \.detach\(\) or \.clone\(\)"):
        copy.deepcopy(y)
    assert copy.deepcopy(y.detach()).tolist() == [2.0]


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_pickle(protocol: int, backend: str) -> None:
    for t in (
        fw.tensor([[1.0, 2.0]], backend=backend, requires_grad=True),
        fw.tensor(3, backend=backend),
        fw.tensor([1.0, 2.0], backend=backend).sum(),
        fw.tensor(np.zeros((0, 2)), backend=backend),
    ):
        made = pickle.loads(pickle.dumps(t, protocol))
        assert (made.tolist(), made.dtype, made.shape) == (t.tolist(), t.dtype, t.shape)
        assert (made.device, made.requires_grad) == (t.device, t.requires_grad)


def test_copy_copy() -> None:
    x = fw.tensor([1.0, 2.0], requires_grad=True)
    y = copy.copy(x)
    with fw.no_grad():
        y += 1.0
    assert x.tolist() == [1.0, 2.0]
