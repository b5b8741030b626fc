"""Linear algebra at its edges: equal eigenvalues, singular matrices, kinks of norms, tolerances, errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from derivative_checks import constant, sample

import framework as fw
from framework.autodiff import ops, vmap
from framework.errors import ConfigError, ShapeError

KINDS = ("real", "complex")


def adjoint(x: Any) -> Any:
    return ops.conj(x.mT)


def positive(x: Any) -> Any:
    return x @ adjoint(x) + constant(ops, np.diag(1.0 + np.arange(x.shape[-1]) ** 2), x)


def test_results_have_names() -> None:
    x = fw.tensor(sample("names", (3, 3)))
    q, r = result = ops.linalg.qr(x)
    assert result.Q is q
    assert result.R is r
    assert ops.linalg.slogdet(x)._fields == ("sign", "logabsdet")
    assert ops.linalg.eigh(x)._fields == ("eigenvalues", "eigenvectors")
    assert ops.linalg.svd(x)._fields == ("U", "S", "Vh")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backend", ["cpu", "strict"])
def test_equal_eigenvalues(kind: str, backend: str) -> None:
    """Functions of all of a degenerate space are differentiable, and get their derivatives."""
    n = 4
    q = np.linalg.qr(sample("turn", (n, n), kind))[0]
    x = fw.tensor(q @ np.diag([1.0, 2.0, 2.0, 5.0]) @ q.conj().T, backend=backend)
    t = fw.tensor(sample("along", (n, n), kind), backend=backend)
    t = t + adjoint(t)

    def power(x: Any) -> Any:  # the trace of the cube
        return ops.sum(ops.linalg.eigh(x).eigenvalues ** 3)

    want = 3 * np.linalg.trace(x.numpy() @ x.numpy() @ t.numpy()).real
    assert fw.jvp(power, (x,), (t,))[1].item() == pytest.approx(want, rel=1e-12)
    np.testing.assert_allclose(fw.grad(power)(x).numpy(), 3 * (x @ x).numpy().T, rtol=1e-11, atol=1e-11)
    np.testing.assert_allclose(
        fw.grad(lambda x: ops.sum(ops.linalg.eigvalsh(x) ** 3))(x).numpy(),
        3 * (x @ x).numpy().T,
        rtol=1e-11,
        atol=1e-11,
    )

    def projector(x: Any) -> Any:  # onto the space of the two equal ones
        v = ops.linalg.eigh(x).eigenvectors[:, 1:3]
        return v @ adjoint(v)

    def plain(x: Any) -> Any:
        """The projector as a polynomial in x: (x − 1)(x − 5) / −3, which has that derivative where it matters."""
        one = np.eye(n)
        return ((x - one) @ (x - 5 * one)) / -3

    p = plain(x.numpy())
    np.testing.assert_allclose(projector(x).numpy(), p, atol=1e-12)
    # by perturbation theory: Σ P t R + R t P with the reduced resolvent R
    w, v = np.array([1.0, 5.0]), np.stack([q[:, 0], q[:, 3]], axis=-1)
    resolvent = (v / (2.0 - w)) @ v.conj().T
    want = p @ t.numpy() @ resolvent + resolvent @ t.numpy() @ p
    got = fw.jvp(projector, (x,), (t,))[1].numpy()
    np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-11)
    c = fw.tensor(sample("cotangent", (n, n), kind), backend=backend)
    (g,) = fw.vjp(projector, x)[1](c)
    assert np.sum(g.numpy() * t.numpy()).real == pytest.approx(np.sum(c.numpy() * want).real, rel=1e-9)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("full", [False, True])
def test_equal_and_absent_singular_values(kind: str, full: bool) -> None:
    u, v = (np.linalg.qr(sample(name, (4, 4), kind))[0] for name in "uv")
    x = fw.tensor((u[:, :3] * [2.0, 2.0, 0.0]) @ v[:3])

    def squares(x: Any) -> Any:
        return ops.sum(ops.linalg.svd(x, full_matrices=full).S ** 2)

    def again(x: Any) -> Any:
        u, s, vh = ops.linalg.svd(x, full_matrices=full)
        return (u[:, :2] * s[:2]) @ vh[:2]

    np.testing.assert_allclose(fw.grad(squares)(x).numpy(), 2 * x.numpy().conj(), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(
        fw.grad(lambda x: ops.sum(ops.linalg.svdvals(x) ** 2))(x).numpy(), 2 * x.numpy().conj(), rtol=1e-12, atol=1e-12
    )
    t = sample("along", (4, 4), kind)
    for g in (fw.jvp(again, (x,), (fw.tensor(t),))[1], fw.vjp(again, x)[1](fw.tensor(t))[0]):
        assert np.all(np.isfinite(g.numpy()))


@pytest.mark.parametrize("n", [4, 60])
def test_many_equal_eigenvalues(n: int) -> None:
    """Equal ones come out apart by rounding, which must not count as a gap; nor must a small gap be overlooked."""
    q = np.linalg.qr(sample("many", (n, n)))[0]
    values = np.array([0.5] * (n // 2) + [1.0] * (n - n // 2))
    x = fw.tensor((q * values) @ q.T)

    def projector(x: Any) -> Any:
        v = ops.linalg.eigh(x).eigenvectors[:, : n // 2]
        return v @ v.mT

    c, t = sample("c", (n, n)), sample("t", (n, n))
    t = t + t.T
    p = q[:, : n // 2] @ q[:, : n // 2].T
    want = -2 * (p @ t @ (np.eye(n) - p) + (np.eye(n) - p) @ t @ p)  # the gap is one half
    np.testing.assert_allclose(fw.jvp(projector, (x,), (fw.tensor(t),))[1].numpy(), want, rtol=1e-9, atol=1e-10)
    (g,) = fw.vjp(projector, x)[1](fw.tensor(c))
    assert np.sum(g.numpy() * t) == pytest.approx(np.sum(c * want), rel=1e-9)
    close = fw.tensor((q * (1.0 + 1e-12 * np.arange(n))) @ q.T)
    v = ops.linalg.eigh(close).eigenvectors
    change = v.mT @ fw.jvp(lambda x: ops.linalg.eigh(x).eigenvectors, (close,), (fw.tensor(t),))[1]
    assert np.all((np.abs(change.numpy()) > 1e6) | np.eye(n, dtype=bool))


def test_the_gradient_of_a_determinant_that_is_zero() -> None:
    """The cofactors, which a formula with the inverse misses; and their derivative."""
    x = fw.tensor(np.array([[1.0, 2.0, 3.0], [2.0, 4.0, 6.0], [1.0, 0.0, 1.0]]))

    def by_hand(m: Any) -> Any:
        return ops.sum(m[0] * ops.cross(m[1], m[2]))

    want, second = fw.grad(by_hand)(x), fw.jvp(fw.grad(by_hand), (x,), (x * x,))[1]
    np.testing.assert_allclose(fw.grad(ops.linalg.det)(x).numpy(), want.numpy(), atol=1e-13)
    got = fw.jvp(fw.grad(ops.linalg.det), (x,), (x * x,))[1]
    np.testing.assert_allclose(got.numpy(), second.numpy(), rtol=1e-12, atol=1e-12)
    for n in (1, 2, 3, 4):
        zeros = fw.tensor(np.zeros((n, n)))
        assert np.all(fw.grad(ops.linalg.det)(zeros).numpy() == (n == 1))
        one = fw.tensor(np.eye(n))
        np.testing.assert_allclose(fw.grad(ops.linalg.det)(one).numpy(), np.eye(n), atol=1e-14)


def test_norms_at_their_kinks() -> None:
    zero = fw.tensor(np.zeros((2, 2)))
    for name in ("vector_norm", "matrix_norm"):
        for ord in (1, 2, np.inf) if name == "matrix_norm" else (1, 2, np.inf, 3, 1.5):
            g = fw.grad(lambda x: getattr(ops.linalg, name)(x, ord=ord))(zero)
            assert np.all(np.isfinite(g.numpy()))
            if ord != np.inf and name == "vector_norm":
                assert not np.any(g.numpy())
    z = fw.tensor([0j, 1 + 1j], dtype="complex128")
    np.testing.assert_allclose(fw.grad(ops.linalg.vector_norm)(z).numpy(), [0, (1 - 1j) / 2**0.5])
    x = fw.tensor([1.0, -1.0, 0.5])
    assert fw.grad(lambda x: ops.linalg.vector_norm(x, ord=np.inf))(x).tolist() == [0.5, -0.5, 0.0]
    assert fw.grad(lambda x: ops.linalg.vector_norm(x, ord=1))(fw.tensor([0.0, -2.0])).tolist() == [0.0, -1.0]
    g = fw.grad(lambda x: ops.linalg.vector_norm(x, ord=3))(fw.tensor([0.0, -2.0], dtype="float64"))
    np.testing.assert_allclose(g.numpy(), [0.0, -1.0])


@pytest.mark.parametrize("backend", ["cpu", "strict"])
def test_matrix_rank(backend: str) -> None:
    x = np.stack([np.diag([1.0, 1e-3, 0.0]), np.diag([1.0, 1.0, 1e-3])])
    t = fw.tensor(x, backend=backend)
    assert ops.linalg.matrix_rank(t).tolist() == [2, 3]
    assert ops.linalg.matrix_rank(t, rtol=1e-2).tolist() == [1, 2]
    assert ops.linalg.matrix_rank(t, rtol=fw.tensor([1e-2, 1e-4], backend=backend)).tolist() == [1, 3]
    assert ops.linalg.matrix_rank(t[:, :, :2]).tolist() == [2, 2]
    assert ops.linalg.matrix_rank(t[:, :0]).tolist() == [0, 0]
    assert ops.linalg.matrix_rank(t).dtype == "int64"
    assert vmap(ops.linalg.matrix_rank)(t).tolist() == [2, 3]


@pytest.mark.parametrize("backend", ["cpu", "strict"])
def test_the_tolerance_of_a_pseudo_inverse(backend: str) -> None:
    x = fw.tensor(np.stack([np.diag([1.0, 1e-3])] * 2), backend=backend)
    rtol = fw.tensor([1e-2, 1e-4], backend=backend)
    want = np.stack([np.diag([1.0, 0.0]), np.diag([1.0, 1e3])])
    np.testing.assert_allclose(ops.linalg.pinv(x, rtol=rtol).numpy(), want)
    np.testing.assert_allclose(ops.linalg.pinv(x, rtol=1e-2).numpy(), want[[0, 0]])
    got = vmap(lambda x, r: ops.linalg.pinv(x, rtol=r))(x, rtol)
    np.testing.assert_allclose(got.numpy(), want)
    got = vmap(lambda r: ops.linalg.pinv(x, rtol=r))(rtol)
    np.testing.assert_allclose(got.numpy(), want[[[0, 0], [1, 1]]])


def test_only_the_hermitian_part_counts() -> None:
    """So gradients of Cholesky factors and eigenvalues are Hermitian, and agree with differences everywhere."""
    x = positive(fw.tensor(sample("part", (3, 3)))) + fw.tensor(np.triu(np.ones((3, 3)), 1) * 0.1)
    fw.gradcheck(ops.linalg.cholesky, x)
    fw.gradcheck(ops.linalg.eigvalsh, x)
    g = fw.grad(lambda x: ops.sum(ops.linalg.cholesky(x) ** 3))(x).numpy()
    np.testing.assert_allclose(g, g.T)


def test_vectors_alone_and_values_alone() -> None:
    """The gradient of one output of several."""
    x = fw.tensor(sample("alone", (3, 2)))
    fw.gradcheck(lambda x: ops.linalg.qr(x).R, x)
    fw.gradcheck(lambda x: ops.linalg.qr(x).Q, x)
    fw.gradcheck(lambda x: ops.linalg.svd(x).S, x)
    fw.gradcheck(lambda x: ops.abs(ops.linalg.svd(x).U), x)
    fw.gradcheck(lambda x: ops.abs(ops.linalg.svd(x, full_matrices=False).Vh), x)
    fw.gradcheck(lambda x: ops.linalg.slogdet(x).logabsdet, x[:2])
    fw.gradcheck(lambda x: ops.linalg.slogdet(x).sign * ops.sum(x), x[:2])
    fw.gradcheck(lambda x: ops.linalg.eigh(x).eigenvalues, x[:2])
    fw.gradcheck(lambda x: ops.abs(ops.linalg.eigh(x).eigenvectors), x[:2])


def test_integers_become_floats() -> None:
    x = fw.tensor([[2, 1], [1, 3]])
    assert ops.linalg.det(x).dtype == "float32"
    assert ops.linalg.solve(x, [1, 2]).dtype == "float32"
    assert ops.linalg.vector_norm([3, 4]).item() == 5.0
    assert ops.linalg.solve([[2.0, 0.0], [0.0, 4.0]], [2.0, 2.0]).tolist() == [1.0, 0.5]
    assert ops.linalg.solve(x, fw.tensor([1.0, 2.0], dtype="float64")).dtype == "float64"


@pytest.mark.parametrize("name", ["inv", "det", "slogdet", "cholesky", "eigh", "eigvalsh", "cofactor"])
def test_square_matrices_are_asked_for(name: str) -> None:
    with pytest.raises(ShapeError, match=rf"{name} needs square matrices.*\(2, 3\)"):
        getattr(ops, name)(fw.tensor(np.ones((2, 3))))
    with pytest.raises(ShapeError, match=rf"{name} needs a matrix.*\(3,\)"):
        getattr(ops, name)(fw.tensor(np.ones(3)))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda x: ops.linalg.solve(x, x[:1]), ShapeError, r"right sides \(..., 2, K\)"),
        (lambda x: ops.linalg.solve(x, x[0, 0]), ShapeError, "right sides"),
        (lambda x: ops.linalg.qr(x, mode="raw"), ConfigError, "'reduced' or 'complete'"),
        (lambda x: ops.linalg.matrix_norm(x, ord=3), ConfigError, "'nuc'"),
        (lambda x: ops.linalg.norm(x, ord="fro", axis=0), ConfigError, "ord is a number"),
        (lambda x: ops.linalg.norm(x[None], axis=(0, 1, 2), ord=1), ShapeError, "one axis or two"),
        (lambda x: ops.linalg.matrix_power(x, 0.5), ConfigError, "integer"),
        (lambda x: ops.linalg.svd(x[0]), ShapeError, "svd needs a matrix"),
        (lambda x: ops.matmul(ops.ones((2, 1, 2)), ops.ones((3, 2, 2))), ShapeError, "do not broadcast"),
    ],
)
def test_errors(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call(fw.tensor(np.eye(2)))
