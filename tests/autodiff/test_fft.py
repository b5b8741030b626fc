"""Fourier transforms: values, both modes to second order, batches, the strict backend, JAX."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import derivative_checks as checks
import numpy as np
import pytest
from derivative_checks import FEW, Row, by_id, sample

import framework as fw
from framework.autodiff import ops
from framework.errors import ConfigError, DTypeError, ShapeError

ROWS: list[Row] = []

COMPLEX_TO_COMPLEX = ("fft", "ifft")
REAL_TO_COMPLEX = ("rfft", "ihfft")
COMPLEX_TO_REAL = ("irfft", "hfft")
KIND = {"rfft": "real", "ihfft": "real", "rfftn": "real"}


def row(name: str, shape: tuple[int, ...], kind: str = "", **kw: Any) -> None:
    kind = kind or KIND.get(name, "complex")
    text = " ".join(f"{k}={v}" for k, v in kw.items())
    x = sample(f"{name}{shape}{kind}", shape, kind)
    ROWS.append(Row(f"{name} {kind} {shape} {text}", lambda xp, x: getattr(xp.fft, name)(x, **kw), (x,)))


for _name in (*COMPLEX_TO_COMPLEX, *REAL_TO_COMPLEX, *COMPLEX_TO_REAL):
    for _n in (4, 5):
        row(_name, (_n,))
    row(_name, (2, 3), axis=0)
    for _norm in ("backward", "ortho", "forward"):
        row(_name, (4,), norm=_norm, n=5)
    for _n in (1, 2, 3, 6, 7):
        row(_name, (4,), n=_n)
    row(_name, (0, 3))
for _name in COMPLEX_TO_COMPLEX:
    row(_name, (3,), "real")
for _name in ("fftn", "ifftn", "rfftn", "irfftn"):
    row(_name, (2, 3))
    row(_name, (2, 1, 3), axes=(0, 2))
    row(_name, (2, 3), axes=(1, 0), norm="ortho")
    row(_name, (3, 2), s=(2, 5), axes=(0, 1), norm="forward")
    row(_name, (2, 2, 3), axes=(-1,))
for _name in ("fft2", "ifft2"):
    row(_name, (2, 3, 2))
    row(_name, (2, 3), s=(3, 2))
for _name in ("fftshift", "ifftshift"):
    for _shape, _axes in (
        ((5,), None),
        ((4,), None),
        ((2, 3), None),
        ((2, 3), (1,)),
        ((3, 2), (0, -1)),
        ((0, 2), None),
    ):
        row(_name, _shape, axes=_axes)
    row(_name, (3,), "real")


def jax_can(row: Row) -> bool:
    return 0 not in row.inputs[0].shape


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
    """Of the square, as the transforms are linear."""
    squared = Row(row.id, lambda xp, x: row.fn(xp, x * x), row.inputs)
    checks.check_second_derivatives(squared)


@by_id(ROWS, long=True)
def test_vmap(row: Row) -> None:
    checks.check_vmap(row)


@by_id(ROWS, long=True)
def test_strict(row: Row) -> None:
    checks.check_strict(row)


@pytest.mark.reference
@by_id([r for r in ROWS if jax_can(r)])
def test_jax(row: Row, jax: Any) -> None:
    checks.check_against_jax(row, jax)


@pytest.mark.parametrize("backend", ["cpu", "strict"])
@pytest.mark.parametrize("n", [1, 2, 5, 8])
def test_frequencies(n: int, backend: str) -> None:
    for name in ("fftfreq", "rfftfreq"):
        for d in (1.0, 0.25):
            got = getattr(ops.fft, name)(n, d=d, dtype="float64", backend=backend)
            np.testing.assert_allclose(got.numpy(), getattr(np.fft, name)(n, d=d), rtol=1e-15)
            assert got.backend == backend
        assert getattr(ops.fft, name)(n).dtype == "float32"


def test_half_precision_and_integers_are_transformed_in_single_precision() -> None:
    for x in (fw.tensor([1.0, 2.0], dtype="float16"), fw.tensor([1, 2])):
        assert ops.fft.fft(x).dtype == "complex64"
        assert ops.fft.rfft(x).dtype == "complex64"
        assert ops.fft.irfft(x).dtype == "float32"


def test_inverses() -> None:
    x = fw.tensor(sample("inverse", (3, 5)))
    for there, back in (("fft", "ifft"), ("rfft", "irfft"), ("ihfft", "hfft"), ("fftshift", "ifftshift")):
        kw = {} if "shift" in there else {"n": 5}
        np.testing.assert_allclose(getattr(ops.fft, back)(getattr(ops.fft, there)(x), **kw).numpy(), x.numpy())


def test_errors() -> None:
    x, z = fw.tensor([1.0, 2.0]), fw.tensor([1j, 2.0])
    with pytest.raises(DTypeError, match="real"):
        ops.fft.rfft(z)
    with pytest.raises(DTypeError, match="ihfft"):
        ops.fft.ihfft(z)
    with pytest.raises(ConfigError, match="'ortho'"):
        ops.fft.fft(x, norm="orthogonal")
    with pytest.raises(ShapeError, match="at least one element"):
        ops.fft.fft(x, n=0)
    with pytest.raises(ShapeError, match="at least one element"):
        ops.fft.fft(fw.tensor(np.zeros((2, 0))))
    with pytest.raises(ShapeError, match="at least 1"):
        ops.fft.irfft(fw.tensor([1.0]))
    with pytest.raises(ShapeError, match="axis 2"):
        ops.fft.fft(x, axis=2)
    with pytest.raises(ShapeError, match="the same axis twice"):
        ops.fft.fftn(fw.tensor(np.ones((2, 2))), axes=(0, -2))
    with pytest.raises(ShapeError, match="a length for each"):
        ops.fft.fftn(fw.tensor(np.ones((2, 2))), s=(2,), axes=(0, 1))
