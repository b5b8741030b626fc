"""Samples of products, linear algebra and Fourier transforms.

Eigenvectors, singular vectors and the columns of Q are unique up to a factor of absolute value 1, or up to a
basis of their space. `OBSERVED` makes of such outputs what does not depend on that choice: the matrix put
together again with weights for its parts, and projections. Values and rules are compared after it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from framework.testing.sampling import Arrays, Draw, Sample, Table, also_complex, between, drawn

_FIELDS = ("float", "complex")

# -- products ------------------------------------------------------------------------------------------

_PRODUCTS: Table = {
    "matmul": (
        Sample(drawn("signed", (2, 3), (3, 4))),
        Sample(drawn("signed", (2, 2, 3), (3, 2))),
        Sample(drawn("signed", (2, 1, 2, 3), (3, 3, 1))),
        Sample(drawn("signed", (0, 3), (3, 2))),
        Sample(between(0, 4, (2, 3), (3, 2)), kind="int"),
    ),
    "linear": (
        Sample(drawn("signed", (4, 3), (2, 3), (2,))),
        Sample(drawn("signed", (4, 3), (2, 3))),
        Sample(drawn("signed", (1, 3), (2, 3), (2,))),
        Sample(drawn("signed", (3,), (2, 3), (2,))),
        Sample(drawn("signed", (2, 2, 3), (2, 3), (2,))),
        Sample(drawn("signed", (0, 3), (2, 3), (2,))),
    ),
}

# -- linear algebra: no library has it in half precision -----------------------------------------------


def _matrices(*shapes: tuple[int, ...], **params: Any) -> tuple[Sample, ...]:
    """A sample of each shape, and one of complex numbers of the first."""

    def draw(shape: tuple[int, ...], kind: str) -> Callable[[Draw], Arrays]:
        return lambda d: (d.matrix(*shape, kind=kind),)

    choices = [(shape, "float") for shape in shapes] + [(shapes[0], "complex")]
    return tuple(Sample(draw(shape, kind), params, kind=kind, half=False) for shape, kind in choices)


def _hermitian(low: float) -> tuple[Sample, ...]:
    """As `_matrices`, with eigenvalues from `low` to 2."""

    def draw(shape: tuple[int, ...], kind: str) -> Callable[[Draw], Arrays]:
        return lambda d: (d.spectral(low, 2.0, *shape, kind=kind),)

    choices = [((3, 3), "float"), ((2, 2, 2), "float"), ((0, 2, 2), "float"), ((3, 3), "complex")]
    return tuple(Sample(draw(shape, kind), kind=kind, half=False) for shape, kind in choices)


def _systems(kind: str, matrix: tuple[int, ...], right: tuple[int, ...]) -> Sample:
    def draw(d: Draw) -> Arrays:
        return d.matrix(*matrix, kind=kind), d.complex(*right) if kind == "complex" else d.signed(*right)

    return Sample(draw, kind=kind, half=False)


def _deficient(d: Draw) -> Arrays:
    """A matrix of rank 1 but for what the tolerance leaves out, and the tolerance."""
    left, right = d.unitary(3, 3), d.unitary(2, 2)
    return left[:, :2] * np.asarray([2.0, 0.02]) @ right, np.asarray(0.1)


def _with_tolerance(kind: str, *shape: int) -> Sample:
    return Sample(lambda d: (d.matrix(*shape, kind=kind), np.asarray(1e-3)), kind=kind, half=False)


_SQUARE = _matrices((3, 3), (2, 2, 2), (0, 2, 2))
_ANY_SHAPE = ((3, 2), (2, 3), (2, 2, 2), (0, 2, 2))

_ALGEBRA: Table = {
    "inv": _SQUARE,
    "det": _SQUARE,
    "cofactor": (*_SQUARE, Sample(lambda d: (np.outer(d.signed(3), d.signed(3)),), half=False, rules=False)),
    "slogdet": _SQUARE,
    "solve": (
        _systems("float", (3, 3), (3, 2)),
        _systems("float", (2, 1, 2, 2), (3, 2, 1)),
        _systems("float", (0, 2, 2), (2, 1)),
        _systems("complex", (2, 2), (2, 1)),
    ),
    "cholesky": _hermitian(0.6),
    "eigh": _hermitian(-1.5),
    "eigvalsh": _hermitian(-1.5),
    "qr": (*_matrices(*_ANY_SHAPE, mode="reduced"), *_matrices((3, 2), (2, 3), mode="complete")),
    "svd": (*_matrices(*_ANY_SHAPE, full_matrices=False), *_matrices((3, 2), (2, 3), full_matrices=True)),
    "svdvals": _matrices(*_ANY_SHAPE),
    "pinv": (
        _with_tolerance("float", 3, 2),
        _with_tolerance("float", 2, 2, 3),
        _with_tolerance("complex", 2, 3),
        Sample(_deficient, half=False, rules=False),
    ),
}

# -- Fourier transforms --------------------------------------------------------------------------------

_TRANSFORMS: tuple[tuple[tuple[int, ...], tuple[int, ...], str], ...] = (
    ((4,), (-1,), "backward"),
    ((2, 3), (-2, -1), "ortho"),
    ((3, 2), (-2,), "forward"),
)


def _half_spectrum(shape: tuple[int, ...], axes: tuple[int, ...], last: int, norm: str) -> Sample:
    """The inverse of what the transform of a real array gives: of other halves the standard says nothing."""

    def draw(d: Draw) -> Arrays:
        return (np.fft.rfftn(d.signed(*shape), axes=axes),)

    params = {"axes": axes, "norm": norm, "last": last}
    return Sample(draw, params, kind="complex", half=False, tangent=draw)


_FOURIER: Table = {
    name: tuple(
        Sample(drawn(how, shape), {"axes": axes, "norm": norm}, kind=kind, gives="complex", half=False)
        for shape, axes, norm in _TRANSFORMS
    )
    for name, how, kind in (
        ("fftn", "complex", "complex"),
        ("ifftn", "complex", "complex"),
        ("rfftn", "signed", "float"),
    )
}
_FOURIER["irfftn"] = (
    _half_spectrum((4,), (-1,), 4, "backward"),
    _half_spectrum((2, 3), (-2, -1), 3, "ortho"),
    _half_spectrum((5, 2), (-2,), 5, "forward"),
)

LINEAR: Table = {**also_complex(_PRODUCTS, "matmul", "linear"), **_ALGEBRA, **_FOURIER}
"""Name of a primitive to its samples."""

# -- what is unique in a decomposition; `xp` is NumPy, or the namespace of Tensors -----------------------


def _adjoint(xp: Any, x: Any) -> Any:
    return xp.matrix_transpose(xp.conj(x))


def _weighted(xp: Any, columns: Any, k: int) -> Any:
    """The columns with weights: the first `k` different ones, all others another."""
    weights = np.asarray([1.0 / (2 + min(i, k)) for i in range(columns.shape[-1])])
    return columns * xp.asarray(weights, dtype=columns.dtype, device=columns.device)


def _projections(xp: Any, columns: Any, k: int) -> Any:
    return xp.matmul(_weighted(xp, columns, k), _adjoint(xp, columns))


def _observed_eigh(xp: Any, values: Any, vectors: Any) -> Any:
    return values, _projections(xp, vectors, values.shape[-1])


def _observed_qr(xp: Any, q: Any, r: Any) -> Any:
    k = min(q.shape[-2], r.shape[-1])
    return xp.matmul(_weighted(xp, q, k), r), _projections(xp, q, k), _projections(xp, _adjoint(xp, r), k)


def _observed_svd(xp: Any, u: Any, s: Any, vh: Any) -> Any:
    k, v = s.shape[-1], _adjoint(xp, vh)
    whole = xp.matmul(_weighted(xp, u[..., :k], k), vh[..., :k, :])
    return whole, s, _projections(xp, u, k), _projections(xp, v, k)


OBSERVED: dict[str, Callable[..., Any]] = {"eigh": _observed_eigh, "qr": _observed_qr, "svd": _observed_svd}
"""Name of a primitive to `(xp, *outputs) -> tuple`, for those whose outputs are not unique."""

# -- references ----------------------------------------------------------------------------------------


def _of_hermitian_part(fn: Callable[..., Any]) -> Callable[..., Any]:
    return lambda x: fn((x + np.conj(x.mT)) / 2)


def _cofactor(x: Any) -> Any:
    """The determinants of what is left without a row and a column, with their signs."""
    n = x.shape[-1]
    out = np.empty_like(x)
    for i, j in np.ndindex(n, n):
        minor = np.delete(np.delete(x, i, axis=-2), j, axis=-1)
        out[..., i, j] = (-1) ** (i + j) * np.linalg.det(minor)
    return out


def _irfftn(x: Any, *, axes: tuple[int, ...], norm: Any, last: int) -> Any:
    return np.fft.irfftn(x, s=[*(x.shape[a] for a in axes[:-1]), last], axes=axes, norm=norm)


LINEAR_REFERENCES: dict[str, Callable[..., Any]] = {
    "linear": lambda x, weight, bias=0.0: x @ weight.T + bias,
    "inv": np.linalg.inv,
    "det": np.linalg.det,
    "cofactor": _cofactor,
    "slogdet": np.linalg.slogdet,
    "solve": np.linalg.solve,
    "cholesky": _of_hermitian_part(np.linalg.cholesky),
    "eigh": _of_hermitian_part(np.linalg.eigh),
    "eigvalsh": _of_hermitian_part(np.linalg.eigvalsh),
    "qr": lambda x, *, mode: np.linalg.qr(x, mode=mode),
    "svd": np.linalg.svd,
    "svdvals": np.linalg.svdvals,
    "pinv": lambda x, rtol: np.linalg.pinv(x, rcond=rtol),
    "fftn": np.fft.fftn,
    "ifftn": np.fft.ifftn,
    "rfftn": np.fft.rfftn,
    "irfftn": _irfftn,
}
