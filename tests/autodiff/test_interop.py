"""Tensors and other libraries: NumPy's functions and scalars, DLPack, copies and pickles."""

from __future__ import annotations

import contextlib
import copy
import pickle
import subprocess
import sys
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
        lambda t: np.unwrap(t),
        lambda t: np.block([t, t]),
        lambda t: np.zeros(2) + np.asarray(t),
    )
    for call in calls:
        with pytest.raises(GradientError, match=r"\.detach\(\)\.numpy\(\)"):
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


@pytest.mark.parametrize("call", [np.sum, np.mean, np.max, np.min, np.prod, np.std, np.var])
def test_numpy_functions_that_call_methods_with_more(call: Any) -> None:
    keeps_the_gradient_or_teaches(call)


MATRIX = np.array([[2.0, 0.5], [0.25, 3.0]])
FUNCTIONS: dict[str, Any] = {
    "sum": lambda x: np.sum(x, axis=0, keepdims=True),
    "sum of all": lambda x: np.sum(x),
    "mean": lambda x: np.mean(x, 1),
    "std": lambda x: np.std(x, ddof=1),
    "var": lambda x: np.var(x, axis=-1),
    "max": lambda x: np.max(x, axis=1),
    "amin": lambda x: np.amin(x),
    "prod": lambda x: np.prod(x),
    "cumsum": lambda x: np.cumsum(x, axis=1),
    "concatenate": lambda x: np.concatenate([x, MATRIX], axis=1),
    "concatenate after": lambda x: np.concatenate((MATRIX, x)),
    "stack": lambda x: np.stack([x, x * 2], axis=-1),
    "vstack": lambda x: np.vstack([x, x]),
    "where": lambda x: np.where(x > 1, x, 0.0),
    "where of an array": lambda x: np.where(MATRIX > 1, MATRIX, x),
    "dot": lambda x: np.dot(x, MATRIX),
    "tensordot": lambda x: np.tensordot(MATRIX, x, axes=1),
    "einsum": lambda x: np.einsum("ij,kj->ik", MATRIX, x),
    "outer": lambda x: np.outer(x[0], MATRIX[1]),
    "transpose": lambda x: np.transpose(x),
    "reshape": lambda x: np.reshape(x, (4, 1)),
    "ravel": lambda x: np.ravel(x),
    "squeeze": lambda x: np.squeeze(x[None]),
    "expand_dims": lambda x: np.expand_dims(x, 0),
    "swapaxes": lambda x: np.swapaxes(x, 0, 1),
    "moveaxis": lambda x: np.moveaxis(x, 0, 1),
    "broadcast_to": lambda x: np.broadcast_to(x, (3, 2, 2)),
    "flip": lambda x: np.flip(x, axis=0),
    "roll": lambda x: np.roll(x, 1, axis=0),
    "take": lambda x: np.take(x, np.array([1, 1, 0]), axis=1),
    "clip": lambda x: np.clip(x, 0.3, 2.5),
    "tril": lambda x: np.tril(x),
    "trace": lambda x: np.trace(x),
    "split": lambda x: np.split(x, 2)[1],
    "linalg.inv": lambda x: np.linalg.inv(x),
    "linalg.det": lambda x: np.linalg.det(x),
    "linalg.solve": lambda x: np.linalg.solve(x, np.ones(2)),
    "linalg.cholesky": lambda x: np.linalg.cholesky(x @ x.T),
    "fft.fft": lambda x: np.abs(np.fft.fft(x)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_numpy_functions_become_ours(name: str) -> None:
    x = fw.tensor(MATRIX, requires_grad=True)
    for t in (x, x.detach()):
        got = FUNCTIONS[name](t)
        assert isinstance(got, Tensor)
        assert got.requires_grad == t.requires_grad
        np.testing.assert_allclose(got.detach().numpy(), FUNCTIONS[name](MATRIX), rtol=1e-12)
    assert fw.gradcheck(FUNCTIONS[name], x)


def test_shapes_by_numpy() -> None:
    x = tracked(1.0, 2.0)
    assert (np.shape(x), np.ndim(x), np.size(x)) == ((2,), 1, 2)


def test_numpy_functions_without_a_counterpart() -> None:
    x = tracked(3.0, 1.0, 2.0)
    for call in (np.unwrap, np.i0, lambda t: np.histogram(t)):
        with pytest.raises(GradientError, match=r"numpy\.\w+ on a Tensor would lose its gradient.*framework\.numpy"):
            call(x)
    assert np.unwrap(x.detach()).tolist() == [3.0, 1.0, 2.0]
    assert type(np.histogram(x.detach())[0]) is np.ndarray
    assert np.allclose(x.detach(), [3.0, 1.0, 2.0])


def test_arguments_that_ours_lacks_are_named() -> None:
    x = tracked(1.0, 2.0)
    for call in (lambda x: np.sum(x, where=np.array([True, False])), lambda x: np.sum(x, out=np.zeros(()))):
        with pytest.raises(
            GradientError, match=r"numpy\.sum on a Tensor would lose its gradient \(ours: .*(where|out)"
        ):
            call(x)
    assert np.sum(x.detach(), where=np.array([True, False])) == 1.0
    out = np.zeros(())
    np.sum(x.detach(), out=out)
    assert out == 3.0


def test_numpy_functions_do_not_write_into_tensors() -> None:
    t = fw.tensor([1.0, 2.0])
    for write in (lambda: np.copyto(t, 5.0), lambda: np.put(t, [0], 5.0), lambda: np.place(t, [True, False], [5.0])):
        with pytest.raises((ValueError, TypeError)):
            write()
    for target in (t, tracked(1.0, 2.0)):
        with pytest.raises(GradientError, match=r"NumPy does not write into Tensors; use t\.copy_"):
            np.add(np.ones(2), np.ones(2), out=target)
    assert t.tolist() == [1.0, 2.0]
    a = np.zeros(2)
    np.copyto(a, t)
    a += t
    np.exp(t, out=np.zeros(2))
    assert a.tolist() == [2.0, 4.0]
    assert np.add.reduce(t) == 3.0


def test_numpy_functions_inside_transforms() -> None:
    x = fw.tensor([1.0, 2.0], dtype="float64")
    f = lambda x: np.sum(np.concatenate([np.sin(x), x]) ** 2)  # noqa: E731
    want = (2 * np.sin([1.0, 2.0]) * np.cos([1.0, 2.0]) + [2.0, 4.0]).tolist()
    np.testing.assert_allclose(fw.grad(f)(x).tolist(), want)
    assert fw.gradcheck(f, x, order=2)
    np.testing.assert_allclose(fw.autodiff.vmap(fw.grad(f))(np.stack([x, x])).tolist(), [want, want])
    with pytest.raises(GradientError, match=r"numpy\.unwrap on a Tensor would lose its gradient"):
        fw.jvp(np.unwrap, (x,), (x,))


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


@pytest.mark.parametrize("name", ["arcsinh", "arctanh", "fabs", "rint", "arcsin", "arccos", "conjugate", "isnan"])
def test_unary_ufuncs_with_other_names(name: str) -> None:
    got = getattr(np, name)(tracked(0.5, 0.25))
    assert isinstance(got, Tensor)
    np.testing.assert_allclose(got.detach().numpy(), getattr(np, name)(np.array([0.5, 0.25])), rtol=1e-14)


def test_more_binary_ufuncs() -> None:
    x = tracked(1.5, 2.0)
    np.testing.assert_allclose(np.arctan2(np.array([1.0, 2.0]), x).detach().numpy(), np.arctan2([1.0, 2.0], [1.5, 2.0]))
    np.testing.assert_allclose(np.arccosh(x).detach().numpy(), np.arccosh([1.5, 2.0]))
    assert (np.array([1, 2]) << fw.tensor([1, 2])).tolist() == [2, 8]
    assert (np.int64(8) >> fw.tensor([1, 2])).tolist() == [4, 2]


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


def test_dlpack_out_of_a_full_reduction() -> None:
    s = fw.tensor([1.0, 2.0]).sum()
    assert np.from_dlpack(s).item() == 3.0
    assert isinstance(s.data, np.ndarray)
    assert s.__dlpack_device__() == (1, 0)


def test_dlpack_takes_the_standards_keywords() -> None:
    t = fw.tensor([1.0, 2.0])
    copied = np.from_dlpack(t, copy=True)
    copied[0] = 9.0
    assert t.tolist() == [1.0, 2.0]
    assert np.from_dlpack(t, device="cpu", copy=False).tolist() == [1.0, 2.0]
    assert t.__dlpack__(stream=None, max_version=(1, 0), dl_device=(1, 0), copy=None) is not None


def test_namespace() -> None:
    t = fw.tensor([1.0])
    assert t.__array_namespace__() is t.__array_namespace__(api_version="2024.12") is fw.numpy
    with pytest.raises(ValueError, match=r"api_version '1999\.12' is not offered.*2024\.12"):
        t.__array_namespace__(api_version="1999.12")


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
    assert (y.is_leaf, y.requires_grad) == (True, True)
    z = copy.copy(x * 2)
    z.sum().backward()
    assert x.grad.tolist() == [2.0, 2.0]
    assert y.grad is None


def test_a_result_is_not_pickled() -> None:
    y = fw.tensor([1.0], requires_grad=True) * 2
    with pytest.raises(GradientError, match=r"cannot be pickled.*use \.detach\(\)"):
        pickle.dumps(y)
    with pytest.raises(GradientError, match="cannot be deep-copied"):
        fw.jvp(copy.deepcopy, (y.detach(),), (y.detach(),))
    assert fw.jvp(copy.copy, (y.detach(),), (y.detach(),))[1].tolist() == [2.0]


# -- NumPy's warnings ------------------------------------------------------------------------------------

QUIET = """
import numpy, framework as fw
from framework.autodiff import ops
t = fw.tensor([0.0, 1e30, -1.0], requires_grad=True)
y = [ops.log(t), t / 0.0, t * t, ops.exp(t), 1 / t, ops.sqrt(t), (t * t).sum(), t @ t, ops.var(t), t - ops.log(t)]
y += [fw.grad(lambda x: ops.log(x).sum())(t), fw.jvp(ops.sqrt, (t,), (t,))[1], (t.detach() / 0).long()]
y[0].sum().backward()
assert numpy.geterr() == dict(divide="warn", over="warn", under="ignore", invalid="warn")
numpy.seterr(divide="raise")
try:
    ops.log(t)
except FloatingPointError:
    pass
else:
    raise AssertionError("NumPy's switch is the user's")
numpy.seterr(divide="warn")
numpy.log(numpy.zeros(1))
"""


def test_infinities_are_no_warnings_but_of_the_users_own_numpy() -> None:
    ran = subprocess.run([sys.executable, "-W", "error", "-c", QUIET], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 1
    *_, place, error = ran.stderr.splitlines()
    assert error == "RuntimeWarning: divide by zero encountered in log"
    last = len(QUIET.splitlines())
    assert f"line {last}, in <module>" in place or "numpy.log(numpy.zeros(1))" in place


# -- SciPy ------------------------------------------------------------------------------------------------


def test_numpys_conversions_give_arrays() -> None:
    for convert in (np.atleast_1d, np.atleast_2d, np.atleast_3d):
        got = convert(fw.tensor(2.0))
        assert type(got) is np.ndarray
        np.testing.assert_array_equal(got, convert(2.0))
        y = convert(tracked(1.0, 2.0))
        assert isinstance(y, Tensor)
        assert y.requires_grad
        assert fw.grad(lambda x, f=convert: f(x * 3.0).sum())(fw.tensor([1.0, 2.0])).tolist() == [3.0, 3.0]
    first, second = np.atleast_1d(fw.tensor(1.0), np.ones(2))
    assert type(first) is type(second) is np.ndarray


def rosenbrock(x: Any) -> Any:
    return fw.numpy.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


@pytest.mark.parametrize(
    "method", ["CG", "BFGS", "L-BFGS-B", "TNC", "SLSQP", "Newton-CG", "trust-krylov", "trust-exact"]
)
def test_scipy_minimizes_with_our_derivatives(method: str) -> None:
    optimize = pytest.importorskip("scipy.optimize", reason="SciPy is not installed")
    second: dict[str, Any] = {"trust-exact": {"hess": fw.hessian(rosenbrock)}}.get(method, {})
    if method in ("Newton-CG", "trust-krylov"):
        second = {"hessp": lambda x, v: fw.hvp(rosenbrock, (x,), (v,))}
    for start in (np.zeros(3), fw.tensor(np.zeros(3))):
        found = optimize.minimize(fw.value_and_grad(rosenbrock), start, jac=True, method=method, **second)
        assert type(found.x) is np.ndarray
        assert float(rosenbrock(found.x)) < 1e-5 < 2.0 == float(rosenbrock(np.zeros(3)))
        np.testing.assert_allclose(found.x, np.ones(3), atol=5e-3)


def test_scipy_solves_with_our_jacobian() -> None:
    optimize = pytest.importorskip("scipy.optimize", reason="SciPy is not installed")

    def residual(x: Any) -> Any:
        return fw.numpy.stack([x[0] ** 2 + x[1] - 3.0, x[0] - x[1]])

    want = (np.sqrt(13.0) - 1.0) / 2.0
    for solve in (optimize.root, optimize.least_squares):
        x = solve(residual, np.ones(2), jac=fw.jacobian(residual)).x
        assert type(x) is np.ndarray
        np.testing.assert_allclose(x, [want, want], rtol=1e-6)
