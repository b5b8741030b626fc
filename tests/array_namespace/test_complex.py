"""Complex numbers: JAX's convention, that of no conjugation, in every transform; and what is kept apart from real ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import framework as fw
import framework.numpy as fnp
from framework.autodiff import vmap

Function = Callable[..., Any]

Z = np.array([[0.4 - 0.3j, -0.7 + 0.9j], [1.1 + 0.2j, -0.2 - 1.3j]])

HOLOMORPHIC = (
    "acos", "acosh", "asin", "asinh", "atan", "atanh", "cos", "cosh", "exp", "expm1", "log", "log10", "log1p", "log2",
    "negative", "reciprocal", "sin", "sinh", "sqrt", "square", "tan", "tanh",
)  # fmt: skip
"""Functions with a derivative in the plane."""

TO_REAL: dict[str, Function] = {
    "real": lambda np, z: np.sum(np.real(z * z)),
    "imag": lambda np, z: np.sum(np.imag(z * z * z)),
    "abs": lambda np, z: np.sum(np.abs(z) ** 3),
    "abs of a holomorphic function": lambda np, z: np.sum(np.abs(np.sin(z) * z)),
    "conj": lambda np, z: np.sum(np.real(np.conj(z) * z * z)),
    "sign": lambda np, z: np.sum(np.real(z / np.abs(z)) * np.imag(z)),
    "angle": lambda np, z: np.sum(np.atan2(np.imag(z), np.real(z)) * np.real(z)),
    "var": lambda np, z: np.sum(np.var(z, axis=0)),
    "pow": lambda np, z: np.sum(np.real(z ** (1 + 2j)) + np.imag((2.0 - 1j) ** z)),
    "prod": lambda np, z: np.abs(np.prod(z)),
    "where": lambda np, z: np.sum(np.abs(np.where(np.real(z) > 0, z * z, np.conj(z)))),
    "mean": lambda np, z: np.abs(np.mean(z * np.conj(z) * z)),
}


def by_differences(f: Function, z: Any, step: float = 1e-6) -> Any:
    """∂f/∂x − i ∂f/∂y, point by point."""
    out = np.zeros_like(z)
    for at in np.ndindex(z.shape):
        for direction, factor in ((1.0, 1.0), (1j, -1j)):
            shift = np.zeros_like(z)
            shift[at] = direction * step
            out[at] += factor * (f(z + shift) - f(z - shift)) / (2 * step)
    return out


@pytest.mark.parametrize("name", HOLOMORPHIC)
def test_the_derivative_of_a_holomorphic_function_is_the_complex_one(name: str, backend: str) -> None:
    def f(z: Any) -> Any:
        return getattr(fnp, name)(z)

    z, step = fw.tensor(Z, backend=backend), 1e-6
    want = (getattr(np, name)(Z + step) - getattr(np, name)(Z - step)) / (2 * step)
    y, pull = fw.vjp(f, z)
    np.testing.assert_allclose(y.numpy(), getattr(np, name)(Z), rtol=1e-13)
    g = np.array([[1 + 1j, 2 - 1j], [0.5j, -1.0]])
    np.testing.assert_allclose(pull(fw.tensor(g, backend=backend))[0].numpy(), g * want, rtol=1e-8)
    _, tangent = fw.jvp(f, (z,), (fw.tensor(g, backend=backend),))
    np.testing.assert_allclose(tangent.numpy(), want * g, rtol=1e-8)
    each = vmap(vmap(lambda w: fw.jvp(f, (w,), (fnp.ones_like(w),))[1]))(z)
    np.testing.assert_allclose(each.numpy(), want, rtol=1e-8)


@pytest.mark.parametrize("name", TO_REAL)
def test_the_gradient_of_a_real_function(name: str, backend: str) -> None:
    """∂f/∂x − i ∂f/∂y; of z's dtype; the tangent in a direction is Re(gradient · direction)."""
    f = TO_REAL[name]
    z = fw.tensor(Z, backend=backend)
    got = fw.grad(lambda z: f(fnp, z))(z)
    assert got.dtype == "complex128"
    np.testing.assert_allclose(got.numpy(), by_differences(lambda z: f(np, z), Z), rtol=1e-7, atol=1e-8)
    direction = fw.tensor(np.array([[1j, 2.0], [-1 + 1j, 0.3]]), backend=backend)
    y, tangent = fw.jvp(lambda z: f(fnp, z), (z,), (direction,))
    assert (y.dtype, tangent.dtype) == ("float64", "float64")
    np.testing.assert_allclose(tangent.item(), (got * direction).sum().numpy().real, rtol=1e-12)


@pytest.mark.parametrize("name", TO_REAL)
def test_second_derivatives_of_a_real_function(name: str) -> None:
    """Forward over reverse is the difference of gradients in a direction."""
    f = TO_REAL[name]
    grad = fw.grad(lambda z: f(fnp, z))
    direction, step = np.array([[1j, 2.0], [-1 + 1j, 0.3]]), 1e-6
    want = (grad(fw.tensor(Z + step * direction)).numpy() - grad(fw.tensor(Z - step * direction)).numpy()) / (2 * step)
    _, got = fw.jvp(grad, (fw.tensor(Z),), (fw.tensor(direction),))
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-6, atol=1e-8)


@pytest.mark.reference
@pytest.mark.parametrize("name", TO_REAL)
def test_gradients_are_those_of_jax(name: str, jax: Any) -> None:
    f = TO_REAL[name]
    want = jax.grad(lambda z: f(jax.numpy, z))(jax.numpy.asarray(Z))
    pulled = jax.vjp(lambda z: jax.numpy.exp(jax.numpy.conj(z)) * z, jax.numpy.asarray(Z))[1](want)[0]
    got = fw.grad(lambda z: f(fnp, z))(fw.tensor(Z))
    np.testing.assert_allclose(got.numpy(), np.asarray(want), rtol=1e-10, atol=1e-12)
    ours = fw.vjp(lambda z: fnp.exp(fnp.conj(z)) * z, fw.tensor(Z))[1](got)[0]
    np.testing.assert_allclose(ours.numpy(), np.asarray(pulled), rtol=1e-10, atol=1e-12)


def test_a_real_input_of_a_complex_computation_has_a_real_gradient(backend: str) -> None:
    x = fw.tensor([0.5, -1.5], dtype="float64", backend=backend)

    def f(x: Any) -> Any:
        return fnp.sum(fnp.abs(fnp.exp(1j * x) + x) ** 2)  # 1 + 2 x cos x + x²

    got = fw.grad(f)(x)
    assert got.dtype == "float64"
    want = 2 * np.cos([0.5, -1.5]) - 2 * np.array([0.5, -1.5]) * np.sin([0.5, -1.5]) + 2 * np.array([0.5, -1.5])
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-12)
    fw.gradcheck(f, [x])


def test_at_zero(backend: str) -> None:
    """The kink of the absolute value: its derivative there is 0, as for real numbers."""
    z = fw.tensor([0j, 1j], backend=backend)
    assert fw.grad(lambda z: fnp.sum(fnp.abs(z)))(z).tolist() == [0, -1j]
    assert fw.jvp(fnp.abs, (z,), (fnp.ones_like(z),))[1].tolist() == [0, 0]
    assert fw.jvp(fnp.sign, (z,), (fnp.ones_like(z),))[1].tolist() == [0, 1]
    assert fnp.sign(z).tolist() == [0, 1j]


def test_parts_of_a_real_array_are_the_array() -> None:
    x = fw.tensor([1.0, -2.0])
    assert fnp.real(x) is x
    assert fnp.conj(x) is x
    assert fnp.imag(x).tolist() == [0.0, 0.0]
    n = fw.tensor([1, 2])
    assert (fnp.real(n).dtype, fnp.imag(n).dtype) == ("int64", "int64")
    assert fnp.real(fw.tensor([1 + 2j])).dtype == "float32"
    assert fnp.imag(fw.tensor([1 + 2j], dtype="complex128")).dtype == "float64"


def test_backward_gives_a_leaf_a_complex_gradient() -> None:
    z = fw.tensor([3 + 4j], requires_grad=True)
    fnp.sum(fnp.abs(z)).backward()
    assert z.grad is not None
    np.testing.assert_allclose(z.grad.numpy(), [0.6 - 0.8j], rtol=1e-6)
