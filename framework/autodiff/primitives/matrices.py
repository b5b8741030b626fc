"""What the rules of linear algebra share: adjoints, diagonals and checks, for raw arrays and Tensors alike."""

from __future__ import annotations

from typing import Any

from framework.autodiff.convert import as_tensor
from framework.autodiff.modes import get_default_dtype
from framework.autodiff.namespace import ops
from framework.autodiff.tensor import Tensor
from framework.backend import dtypes as dt
from framework.backend.kernels import beside
from framework.errors import ShapeError

# -- in rules: the first argument is the namespace of the arrays -------------------------------------


def dtype_of(ns: Any, x: Any) -> dt.DType:
    """The backend-neutral dtype."""
    return x.dtype if isinstance(x, Tensor) else ns.backend.dtype_of(x)


def is_complex(ns: Any, x: Any) -> bool:
    """Whether the elements are complex."""
    return dtype_of(ns, x).kind == "complex"


def conj(ns: Any, x: Any) -> Any:
    """The complex conjugate; a real array is returned as it is."""
    return ns.conj(x) if is_complex(ns, x) else x


def real(ns: Any, x: Any) -> Any:
    """The real part; a real array is returned as it is."""
    return ns.real(x) if is_complex(ns, x) else x


def times_i(ns: Any, x: Any) -> Any:
    """The complex array i·x of a real one."""
    return x * ns.asarray(1j, dtype=_complex_like(ns, x), device=beside(x))


def _complex_like(ns: Any, x: Any) -> Any:
    d = dt.promote(dtype_of(ns, x), dt.complex64)
    return d if isinstance(x, Tensor) else ns.backend.native(d)


def adjoint(ns: Any, x: Any) -> Any:
    """The conjugate transpose of matrices."""
    return ns.matrix_transpose(conj(ns, x))


def hermitian_part(ns: Any, x: Any) -> Any:
    """(x + xᴴ) / 2, halved first so that nothing overflows."""
    half = x * 0.5
    return half + adjoint(ns, half)


def diagonal_of(ns: Any, x: Any) -> Any:
    """The main diagonal of square matrices."""
    n = x.shape[-1]
    return ns.reshape(x, (*x.shape[:-2], n * n))[..., :: n + 1]


def identity(ns: Any, n: int, like: Any) -> Any:
    """The identity matrix, of the dtype and on the device of `like`."""
    return ns.eye(n, dtype=like.dtype, device=beside(like))


def columns(v: Any) -> Any:
    """Vectors as factors of the columns of matrices: `x * columns(v)` is `x @ diag(v)`."""
    return v[..., None, :]


def rows(v: Any) -> Any:
    """Vectors as factors of the rows of matrices: `rows(v) * x` is `diag(v) @ x`."""
    return v[..., :, None]


def rounding(ns: Any, x: Any, n: int) -> float:
    """How far apart equal eigenvalues of `n` x `n` matrices of a real dtype come out, relative to the largest.

    A few times what LAPACK was measured to do: half of ε√n for n from 4 to 600.
    """
    bits = {2: 10, 4: 23, 8: 52}[dtype_of(ns, x).itemsize]
    return float(2.0 * n**0.5 * 2.0**-bits)


def safe_reciprocal(ns: Any, x: Any, threshold: Any) -> Any:
    """1 / x, and 0 where |x| does not exceed the threshold, below which x is zero up to rounding."""
    is_zero = ns.abs(x) <= threshold
    return ns.where(is_zero, ns.zeros_like(x), 1 / ns.where(is_zero, ns.ones_like(x), x))


# -- in public functions ---------------------------------------------------------------------------


def floating(x: Any, like: Tensor | None = None) -> Tensor:
    """A Tensor with floating-point or complex elements; integers get the default dtype."""
    x = as_tensor(x, like)
    return x if x.dtype.is_differentiable else ops.astype(x, get_default_dtype())


def pair(x1: Any, x2: Any) -> tuple[Tensor, Tensor]:
    """Both as Tensors, of one backend where one of them is none yet."""
    like = x1 if isinstance(x1, Tensor) else x2 if isinstance(x2, Tensor) else None
    return as_tensor(x1, like), as_tensor(x2, like)


def matrix(name: str, x: Any, like: Tensor | None = None) -> Tensor:
    """`x` as matrices, a Tensor of floating-point or complex numbers.

    Raises:
        ShapeError: fewer than two axes.
    """
    x = floating(x, like)
    if x.ndim < 2:
        raise ShapeError(f"{name} needs a matrix or a stack of them, (..., M, N); got shape {x.shape}")
    return x


def square_matrix(name: str, x: Any, like: Tensor | None = None) -> Tensor:
    """`x` as square matrices.

    Raises:
        ShapeError: the last two axes differ.
    """
    x = matrix(name, x, like)
    if x.shape[-1] != x.shape[-2]:
        raise ShapeError(f"{name} needs square matrices, (..., M, M); got shape {x.shape}")
    return x
