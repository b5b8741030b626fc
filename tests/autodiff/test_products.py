"""Products beside matmul, diagonals and einsum: values, both modes to second order, batches, strict, JAX."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import derivative_checks as checks
import numpy as np
import pytest
from derivative_checks import FEW, Row, by_id, sample

import framework as fw
from framework.autodiff import ops
from framework.errors import ShapeError

ROWS: list[Row] = []
KINDS = ("real", "complex")


def row(name: str, fn: Any, *shapes: tuple[int, ...], kinds: tuple[str, ...] = KINDS, **kw: Any) -> None:
    for kind in kinds:
        inputs = tuple(sample(f"{name}{i}", s, kind) for i, s in enumerate(shapes))
        ROWS.append(Row(f"{name} {' '.join(map(str, shapes))} {kind}", fn, inputs, **kw))


# -- matmul of complex numbers; its other cases are in primitive_table ------------------------------------

for _a, _b in (((2, 3), (3, 2)), ((3,), (3,)), ((2, 1, 1, 2), (3, 2, 2)), ((0, 2), (2, 1))):
    row("matmul", lambda xp, x, y: xp.matmul(x, y), _a, _b, kinds=("complex",))
ROWS.append(
    Row(
        "matmul real with complex",
        lambda xp, x, y: xp.matmul(x, y),
        (sample("mixed", (2, 3)), sample("mixed", (3, 2), "complex")),
    )
)

# -- named products ----------------------------------------------------------------------------------------

for _a, _b, _axes in (
    ((2, 3), (2, 3), 2),
    ((2, 3), (3, 2), 1),
    ((2,), (3,), 0),
    ((), (2,), 0),
    ((2, 3, 2), (3, 2), ((1, 0), (0, 1))),
    ((2, 3), (2, 3), ((-1,), (-1,))),
    ((0, 2), (2, 2), 1),
    ((2, 0), (0, 2), 1),
):
    row(f"tensordot {_axes}", lambda xp, x, y, axes=_axes: xp.tensordot(x, y, axes=axes), _a, _b)
for _a, _b, _axis in (
    ((3,), (3,), -1),
    ((2, 3), (2, 3), -1),
    ((2, 1, 3), (2, 3), -1),
    ((3, 2), (3, 1), -2),
    ((2, 0), (0,), -1),
):
    row(f"vecdot {_axis}", lambda xp, x, y, axis=_axis: xp.linalg.vecdot(x, y, axis=axis), _a, _b)
row("outer", lambda xp, x, y: xp.linalg.outer(x, y), (2,), (3,))
row("outer", lambda xp, x, y: xp.linalg.outer(x, y), (0,), (3,))
row("outer flat", lambda xp, x, y: xp.outer(x, y), (2, 2), (3,))
for _a, _b in (((3,), (3,)), ((2, 3), (3,)), ((2, 2), (3, 2)), ((), (2,)), ((2,), ())):
    row("inner", lambda xp, x, y: xp.inner(x, y), _a, _b)
for _a, _b in (((3,), (3,)), ((2, 3), (3,)), ((2,), (3, 2, 2)), ((2, 3), (3, 2)), ((), (2,)), ((2, 2), ())):
    row("dot", lambda xp, x, y: xp.dot(x, y), _a, _b)
for _a, _b, _axis in (((3,), (3,), -1), ((2, 3), (3,), -1), ((2, 3), (1, 3), -1), ((3, 2), (3, 2), -2)):
    row(f"cross {_axis}", lambda xp, x, y, axis=_axis: xp.linalg.cross(x, y, axis=axis), _a, _b)
row("cross numpy", lambda xp, x, y: xp.cross(x, y, axis=0), (3, 2), (3, 2))
for _a, _b in (((2, 2), (1, 3)), ((2,), (3,)), ((2,), (2, 2)), ((), (2,)), ((0, 2), (2, 1))):
    row("kron", lambda xp, x, y: xp.kron(x, y), _a, _b)

# -- diagonals ---------------------------------------------------------------------------------------------

for _shape in ((3, 3), (2, 3), (3, 2), (2, 2, 3), (0, 2), (2, 0)):
    for _offset in (0, 1, -1, 3):
        row(f"diagonal {_offset}", lambda xp, x, k=_offset: xp.linalg.diagonal(x, offset=k), _shape)
    row("trace", lambda xp, x: xp.linalg.trace(x), _shape)
row("trace 1", lambda xp, x: xp.linalg.trace(x, offset=1), (2, 3))
row("diagonal numpy", lambda xp, x: xp.diagonal(x), (2, 3, 2))
row("diagonal numpy axes", lambda xp, x: xp.diagonal(x, 1, 2, 0), (2, 2, 3))
row("trace numpy", lambda xp, x: xp.trace(x, -1, axis1=0, axis2=-1), (2, 2, 3))

# -- einsum --------------------------------------------------------------------------------------------------

for _subscripts, *_shapes in (
    ("i->i", (3,)),
    ("i->", (3,)),
    ("ij->ji", (2, 3)),
    ("ba", (2, 3)),
    ("ii", (3, 3)),
    ("ii->i", (3, 3)),
    ("iij->ij", (2, 2, 3)),
    ("iii->i", (2, 2, 2)),
    ("iji->j", (2, 3, 2)),
    ("i,i", (3,), (3,)),
    ("i,j", (2,), (3,)),
    ("i,j->ji", (2,), (3,)),
    ("ij,jk", (2, 3), (3, 2)),
    ("ij,jk->ik", (2, 3), (3, 2)),
    ("ij,kj->ik", (2, 3), (2, 3)),
    ("ij,ij->i", (2, 3), (2, 3)),
    ("ij,ij->", (2, 3), (2, 3)),
    ("ij,k->i", (2, 3), (2,)),
    ("ij,jj->i", (2, 3), (3, 3)),
    ("bij,bjk->bik", (2, 2, 3), (2, 3, 1)),
    ("bij,jk->kbi", (2, 2, 3), (3, 2)),
    ("...ij,...jk->...ik", (2, 1, 2, 3), (3, 3, 2)),
    ("...i,...i->...", (2, 3), (3,)),
    ("i...->...", (2, 3)),
    ("...", (2, 3)),
    ("i...j", (2, 3, 2)),
    ("...a,...b->...", (2, 2), (2, 3)),
    (",i->i", (), (3,)),
    ("ij , jk -> ki", (2, 3), (3, 2)),
    ("ij,jk,kl->il", (2, 3), (3, 2), (2, 2)),
    ("i,j,k->kij", (2,), (3,), (2,)),
    ("ab,bc,ca", (2, 3), (3, 2), (2, 2)),
    ("a,ab,abc,cd->bd", (2,), (2, 3), (2, 3, 2), (2, 2)),
    ("ij,jk", (0, 2), (2, 2)),
    ("ij,jk", (2, 0), (0, 2)),
    ("ij,j->ij", (2, 3), (1,)),
):
    row(f"einsum {_subscripts!r}", lambda xp, *x, s=_subscripts: xp.einsum(s, *x), *_shapes, jax=_shapes[-1] != (1,))
row("einsum lists", lambda xp, x, y: xp.einsum(x, [0, 1], y, [1, 2], [2, 0]), (2, 3), (3, 2))
row("einsum lists implicit", lambda xp, x, y: xp.einsum(x, [..., 1], y, [1, 2]), (2, 3), (3, 2))

# -- powers --------------------------------------------------------------------------------------------------

for _n in (-2, -1, 0, 1, 2, 3, 5):
    row(f"matrix_power {_n}", lambda xp, x, n=_n: xp.linalg.matrix_power(x, n), (2, 2))
    row(f"matrix_power {_n}", lambda xp, x, n=_n: xp.linalg.matrix_power(x, n), (2, 2, 2), kinds=("real",))


@pytest.fixture(scope="module")
def jax() -> Iterator[Any]:
    yield from checks.import_jax()


@by_id(ROWS)
def test_values(row: Row) -> None:
    checks.check_values(row)


@by_id(ROWS, most=FEW)
def test_derivatives(row: Row) -> None:
    checks.check_derivatives(row)


@by_id(ROWS, long=True)
def test_second_derivatives(row: Row) -> None:
    checks.check_second_derivatives(row)


@by_id(ROWS, long=True)
def test_vmap(row: Row) -> None:
    checks.check_vmap(row)


@by_id(ROWS, long=True)
def test_strict(row: Row) -> None:
    checks.check_strict(row)


@pytest.mark.reference
@by_id([r for r in ROWS if r.jax])
def test_jax(row: Row, jax: Any) -> None:
    checks.check_against_jax(row, jax)


@pytest.mark.parametrize("backend", ["cpu", "strict"])
def test_integers_keep_their_dtype(backend: str) -> None:
    x = np.arange(6, dtype=np.int32).reshape(2, 3)
    y = np.arange(9, dtype=np.int32).reshape(3, 3)
    a, b = fw.tensor(x, backend=backend), fw.tensor(y, backend=backend)
    for name, ours, theirs in (
        ("einsum", ops.einsum("ij,jk->k", a, b), np.einsum("ij,jk->k", x, y)),
        ("tensordot", ops.tensordot(a, b, axes=1), np.tensordot(x, y, axes=1)),
        ("vecdot", ops.vecdot(a, b[:2]), np.linalg.vecdot(x, y[:2])),
        ("cross", ops.cross(a, b[:2]), np.cross(x, y[:2])),
        ("kron", ops.kron(a, b), np.kron(x, y)),
        ("matrix_power", ops.linalg.matrix_power(b, 3), np.linalg.matrix_power(y, 3)),
        ("diagonal", ops.linalg.diagonal(b), np.linalg.diagonal(y)),
    ):
        assert ours.dtype == "int32", name
        np.testing.assert_array_equal(ours.numpy(), theirs)
    assert ops.linalg.trace(b).dtype == "int64"
    assert ops.linalg.trace(b, dtype=fw.int32).dtype == "int32"


def test_lists_and_numbers_are_arrays() -> None:
    assert ops.dot([1.0, 2.0], [3.0, 4.0]).item() == 11.0
    assert ops.dot(2.0, fw.tensor([1.0, 2.0])).tolist() == [2.0, 4.0]
    assert ops.einsum("i,i", [1, 2], [3, 4]).item() == 11
    assert ops.outer([1, 2], fw.tensor([3, 4])).tolist() == [[3, 4], [6, 8]]


def test_a_long_chain_is_contracted_by_size() -> None:
    """From the left the third product would hold 300 x 300 x 300 elements."""
    shapes = [(300, 1), (1, 300), (300, 1), (1, 2)]
    arrays = [sample(f"chain{i}", s) for i, s in enumerate(shapes)]
    got = ops.einsum("ab,cd,de,bf->acef", arrays[0], arrays[1], arrays[2], arrays[3])
    np.testing.assert_allclose(got.numpy(), np.einsum("ab,cd,de,bf->acef", *arrays, optimize=True))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x, y: ops.einsum("ij,jk->ik", x), "2 terms for 1 operands"),
        (lambda x, y: ops.einsum("ij,jk->ik", x, x), "'j' is 3 long in one operand and 2"),
        (lambda x, y: ops.einsum("ijk", x), "is for 3 axes"),
        (lambda x, y: ops.einsum("i", x), "is for 1 axes"),
        (lambda x, y: ops.einsum("ij->ik", x), "each label of the result"),
        (lambda x, y: ops.einsum("ij->ii", x), "each label of the result"),
        (lambda x, y: ops.einsum("i1", x), "labels are letters"),
        (lambda x, y: ops.tensordot(x, x, axes=1), "must be as long"),
        (lambda x, y: ops.tensordot(x, x, axes=3), "over 3 axes"),
        (lambda x, y: ops.tensordot(x, x, axes=((0, 1), (0,))), "as many axes"),
        (lambda x, y: ops.vecdot(x, y), "lengths differ"),
        (lambda x, y: ops.cross(y, y), "length 3"),
        (lambda x, y: ops.linalg.outer(x, y), "two vectors"),
        (lambda x, y: ops.linalg.diagonal(y), "two axes"),
        (lambda x, y: ops.diagonal(x, 0, 1, -1), "twice"),
        (lambda x, y: ops.linalg.matrix_power(x, 2), "square"),
    ],
)
def test_errors(call: Any, message: str) -> None:
    with pytest.raises(ShapeError, match=message):
        call(fw.tensor(np.ones((2, 3))), fw.tensor(np.ones(2)))
