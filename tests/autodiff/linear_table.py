"""Rows of the table of primitives for linear algebra and Fourier transforms, of real arrays.

Complex ones, and more shapes, are in `test_linalg` and `test_fft`. Vectors of decompositions are unique up to
a sign, so the rows are of functions that do not see it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from primitive_table import case, random, text

from framework.autodiff import ops

Array = Any


def regular(shape: tuple[int, ...]) -> Array:
    """Matrices with singular values near 1, 2, 3, ..."""
    m, n = shape[-2:]
    k = min(m, n)
    main = np.zeros((m, n))
    main[:k, :k] = np.diag(1.0 + np.arange(k))
    return main + 0.2 * random(f"regular{shape}", shape)


def hermitian(x: Any) -> Any:
    return x + (np.swapaxes(x, -1, -2) if isinstance(x, np.ndarray) else x.mT)


def squares(name: str, ours: Any, theirs: Any, shapes: Any = ((2, 2), (3, 3), (2, 2, 2), (0, 0))) -> None:
    for shape in shapes:
        case(name, text(shape), ours, theirs, regular(shape))


squares("inv", ops.linalg.inv, np.linalg.inv)
squares("det", ops.linalg.det, np.linalg.det)
squares("cofactor", ops.cofactor, lambda x: np.linalg.det(x)[..., None, None] * np.swapaxes(np.linalg.inv(x), -1, -2))
squares("slogdet", lambda x: ops.linalg.slogdet(x).logabsdet, lambda x: np.linalg.slogdet(x).logabsdet)
squares("cholesky", lambda x: ops.linalg.cholesky(hermitian(x)), lambda x: np.linalg.cholesky(hermitian(x)))
squares("eigvalsh", lambda x: ops.linalg.eigvalsh(hermitian(x)), lambda x: np.linalg.eigvalsh(hermitian(x)))


def eigh(xp: Any, x: Any) -> Any:
    w, v = xp.linalg.eigh(hermitian(x))
    return xp.matmul(v * xp.cos(w)[..., None, :], xp.matrix_transpose(v))


def qr(xp: Any, x: Any) -> Any:
    q, r = xp.linalg.qr(x)
    return xp.matmul(q * r[..., :, 0][..., None, :], xp.abs(r))


def svd(xp: Any, x: Any) -> Any:
    u, s, vh = xp.linalg.svd(x, full_matrices=False)
    return xp.matmul(u * xp.cos(s)[..., None, :], vh)


RECTANGLES = ((3, 2), (2, 3), (2, 2, 2), (0, 2))

squares("eigh", lambda x: eigh(ops, x), lambda x: eigh(np, x))
squares("qr", lambda x: qr(ops, x), lambda x: qr(np, x), ((3, 2), (2, 3), (2, 2, 2), (2, 1)))
squares("svd", lambda x: svd(ops, x), lambda x: svd(np, x), RECTANGLES)
squares("svdvals", ops.linalg.svdvals, np.linalg.svdvals, RECTANGLES)
squares("pinv", ops.linalg.pinv, np.linalg.pinv, RECTANGLES)
for _a, _b in (((2, 2), (2, 1)), ((2, 2), (2,)), ((2, 1, 2, 2), (3, 2, 1)), ((2, 2), (2, 2, 2)), ((0, 0), (0, 2))):
    case("solve", f"{text(_a)}-{text(_b)}", ops.linalg.solve, np.linalg.solve, regular(_a), random("right side", _b))

# -- Fourier transforms: parts of them, as the table is of real arrays -------------------------------------

FFT_SHAPES = (((4,), (-1,)), ((5,), (0,)), ((2, 3), (0, 1)), ((3, 2), (0,)), ((0, 2), (-1,)))


def parts(xp: Any, z: Any) -> Any:
    return xp.real(z) + 2 * xp.imag(z)


for _name in ("fftn", "ifftn", "rfftn"):
    for _shape, _axes in FFT_SHAPES:
        case(
            _name,
            f"{text(_shape)} {_axes}",
            lambda x, n=_name, a=_axes: parts(ops, getattr(ops.fft, n)(x, axes=a)),
            lambda x, n=_name, a=_axes: parts(np, getattr(np.fft, n)(x, axes=a)),
            random("fft", _shape),
        )
for _shape, _n in (((3,), None), ((3,), 5), ((2, 2), None), ((0, 2), None)):
    case(
        "irfftn",
        f"{text(_shape)} {_n}",
        lambda x, n=_n: ops.fft.irfft(x, n=n),
        lambda x, n=_n: np.fft.irfft(x, n=n),
        random("irfft", _shape),
    )
