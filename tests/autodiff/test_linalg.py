"""Linear algebra: values, both modes to second order, batches, the strict backend, JAX; and what has no answer.

Vectors of decompositions are unique up to a sign or a phase, so the rows are of functions that do not see it.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import derivative_checks as checks
import numpy as np
import pytest
from derivative_checks import FEW, Row, by_id, constant, sample

ROWS: list[Row] = []
KINDS = ("real", "complex")


def row(name: str, fn: Any, *shapes: tuple[int, ...], kinds: tuple[str, ...] = KINDS, **kw: Any) -> None:
    for kind in kinds:
        inputs = tuple(sample(f"{name}{i}{kind}", s, kind) for i, s in enumerate(shapes))
        ROWS.append(Row(f"{name} {' '.join(map(str, shapes))} {kind}", fn, inputs, **kw))


def adjoint(xp: Any, x: Any) -> Any:
    return xp.conj(xp.matrix_transpose(x))


def positive(xp: Any, x: Any) -> Any:
    """A Hermitian matrix with eigenvalues from 1 on, far from each other."""
    n = x.shape[-1]
    return xp.matmul(x, adjoint(xp, x)) + constant(xp, np.diag(1.0 + np.arange(n) ** 2), x)


def hermitian(xp: Any, x: Any) -> Any:
    return x + adjoint(xp, x)


SQUARE = ((2, 2), (3, 3), (2, 2, 2), (1, 1), (0, 0), (0, 2, 2), (2, 0, 0))

for _shape in SQUARE:
    row("inv", lambda xp, x: xp.linalg.inv(x), _shape)
    row("det", lambda xp, x: xp.linalg.det(x), _shape, jax=_shape[-1] > 0)
    row("slogdet", lambda xp, x: tuple(xp.linalg.slogdet(x)), _shape, jax=_shape[-1] > 0)
    row("cholesky", lambda xp, x: xp.linalg.cholesky(positive(xp, x)), _shape)
    row("cholesky upper", lambda xp, x: xp.linalg.cholesky(positive(xp, x), upper=True), _shape)
    row("eigvalsh", lambda xp, x: xp.linalg.eigvalsh(positive(xp, x)), _shape)
row("det", lambda xp, x: xp.linalg.det(x), (4, 4))
for _a, _b in (
    ((2, 2), (2, 3)),
    ((2, 2), (2,)),
    ((3, 3), (3, 1)),
    ((2, 2, 2), (2, 1)),
    ((2, 2), (3, 2, 1)),
    ((2, 1, 2, 2), (3, 2, 1)),
    ((0, 0), (0, 2)),
    ((2, 2), (2, 0)),
    ((0, 2, 2), (2, 1)),
):
    row("solve", lambda xp, a, b: xp.linalg.solve(a, b), _a, _b)
row("solve positive", lambda xp, a, b: xp.linalg.solve(positive(xp, a), b), (3, 3), (3, 2))


def eigh(xp: Any, x: Any) -> Any:
    w, v = xp.linalg.eigh(hermitian(xp, x))
    return w, xp.abs(v) ** 2, xp.matmul(v * xp.cos(w)[..., None, :], adjoint(xp, v))


for _shape in SQUARE:
    row("eigh", eigh, _shape)


def qr(mode: str) -> Any:
    def fn(xp: Any, x: Any) -> Any:
        q, r = xp.linalg.qr(x, mode=mode)
        k = min(x.shape[-2:])
        q1, q2 = q[..., :k], q[..., k:]
        scale = constant(xp, np.cos(np.arange(q1.shape[-1])), x)
        return (
            xp.matmul(q1 * scale, adjoint(xp, q1)),
            xp.abs(r) ** 2,
            xp.matmul(adjoint(xp, r), r * constant(xp, np.sin(1.0 + np.arange(r.shape[-2])), x)[:, None]),
            xp.matmul(q2, adjoint(xp, q2)),
        )

    return fn


def svd(full: bool) -> Any:
    def fn(xp: Any, x: Any) -> Any:
        u, s, vh = xp.linalg.svd(x, full_matrices=full)
        k = min(x.shape[-2:])
        u1, u2, v1, v2 = u[..., :k], u[..., k:], vh[..., :k, :], vh[..., k:, :]
        return (
            s,
            xp.matmul(u1 * xp.cos(s)[..., None, :], v1),
            xp.abs(u1) ** 2,
            xp.abs(v1) ** 2,
            xp.matmul(u2, adjoint(xp, u2)),
            xp.matmul(adjoint(xp, v2), v2),
        )

    return fn


RECTANGLES = (
    (3, 2),
    (2, 3),
    (2, 2),
    (3, 3),
    (4, 2),
    (2, 4),
    (2, 3, 2),
    (2, 2, 3),
    (1, 3),
    (3, 1),
    (0, 2),
    (2, 0),
    (0, 3, 2),
)

for _shape in RECTANGLES:
    _empty = 0 in _shape
    row("qr", qr("reduced"), _shape, jax=not _empty)
    row("qr complete", qr("complete"), _shape, jax=False)
    row("svd", svd(False), _shape, jax=not _empty)
    row("svd full", svd(True), _shape, jax=False)
    row("svdvals", lambda xp, x: xp.linalg.svdvals(x), _shape, jax=not _empty)
    row("pinv", lambda xp, x: xp.linalg.pinv(x), _shape, jax=not _empty)
row("qr itself", lambda xp, x: tuple(xp.linalg.qr(x)), (3, 2))
row("qr itself", lambda xp, x: tuple(xp.linalg.qr(x)), (2, 3))


def low_rank(xp: Any, a: Any, b: Any) -> Any:
    return xp.linalg.pinv(xp.matmul(a, b))


row("pinv of rank 1", low_rank, (3, 1), (1, 2), jax=False)
row("pinv of rank 2", low_rank, (4, 2), (2, 3), jax=False)

# -- norms -------------------------------------------------------------------------------------------------

for _ord in (2, 1, np.inf, -np.inf, 3, 0.5, -1, 0, 1.5):
    _order = 0 if _ord == 0 else 2
    for _axis in (None, 0, -1, (0, 1)):
        row(
            f"vector_norm {_ord} {_axis}",
            lambda xp, x, o=_ord, a=_axis: xp.linalg.vector_norm(x, ord=o, axis=a),
            (2, 3),
            order=_order,
        )
    row(
        f"vector_norm {_ord} keepdims",
        lambda xp, x, o=_ord: xp.linalg.vector_norm(x, ord=o, axis=-1, keepdims=True),
        (2, 2),
    )
    row(f"vector_norm {_ord}", lambda xp, x, o=_ord: xp.linalg.vector_norm(x, ord=o, axis=-1), (0, 2))
row("vector_norm of a number", lambda xp, x: xp.linalg.vector_norm(x), ())
row("vector_norm of nothing", lambda xp, x: xp.linalg.vector_norm(x), (0,), jax=False)
for _ord in ("fro", "nuc", 2, -2, 1, -1, np.inf, -np.inf):
    for _shape in ((2, 3), (3, 2), (2, 2, 2)):
        row(f"matrix_norm {_ord}", lambda xp, x, o=_ord: xp.linalg.matrix_norm(x, ord=o), _shape)
    row(f"matrix_norm {_ord} keepdims", lambda xp, x, o=_ord: xp.linalg.matrix_norm(x, ord=o, keepdims=True), (2, 2))
for _kw in (
    {},
    {"axis": 0},
    {"axis": (0, 1)},
    {"ord": 1},
    {"ord": 1, "axis": -1},
    {"axis": (1, 0), "ord": np.inf, "keepdims": True},
):
    row(f"norm {_kw}", lambda xp, x, kw=_kw: xp.linalg.norm(x, **kw), (2, 3))
row("norm all", lambda xp, x: xp.linalg.norm(x), (2, 2, 2))
row("norm all keepdims", lambda xp, x: xp.linalg.norm(x, keepdims=True), (2, 2, 2))


@pytest.fixture(scope="module")
def jax() -> Iterator[Any]:
    yield from checks.import_jax()


@by_id(ROWS)
def test_values(row: Row) -> None:
    checks.check_values(row)


@by_id([r for r in ROWS if r.order], most=FEW)
def test_derivatives(row: Row) -> None:
    checks.check_derivatives(row)


@by_id([r for r in ROWS if r.order > 1], long=True)
def test_second_derivatives(row: Row) -> None:
    checks.check_second_derivatives(row)


@by_id(ROWS, long=True)
def test_vmap(row: Row) -> None:
    checks.check_vmap(row)


@by_id(ROWS, long=True)
def test_strict(row: Row) -> None:
    checks.check_strict(row)


@pytest.mark.reference
@by_id([r for r in ROWS if r.jax and r.order])
def test_jax(row: Row, jax: Any) -> None:
    checks.check_against_jax(row, jax)
