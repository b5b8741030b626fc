"""Inverses, linear systems and determinants of (stacks of) square matrices.

The differentials are those of M. Giles, "An extended collection of matrix derivative results for forward
and reverse mode algorithmic differentiation" (2008); other sources stand with their rules. Rules of
holomorphic functions transpose and never conjugate.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from framework.autodiff.convert import as_tensor
from framework.autodiff.kinds import align_ranks
from framework.autodiff.namespace import ops
from framework.autodiff.primitive import primitive, public
from framework.autodiff.primitives.matrices import (
    adjoint,
    columns,
    conj,
    diagonal_of,
    floating,
    hermitian_part,
    identity,
    is_complex,
    rows,
    square_matrix,
    times_i,
)
from framework.autodiff.tensor import Tensor
from framework.errors import ConfigError, ShapeError

# -- inverse -----------------------------------------------------------------------------------------


def _inv_forward(ns: Any, x: Any) -> Any:
    return ns.xp.linalg.inv(x)


def _inv_vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any) -> Any:
    inverse = ns.matrix_transpose(out)
    return (-ns.matmul(ns.matmul(inverse, g), inverse),)


def _inv_jvp(ns: Any, tangents: Any, out: Any, x: Any) -> Any:
    return -ns.matmul(ns.matmul(out, tangents[0]), out)


_inv = primitive("inv", arity=1, forward=_inv_forward, vjp=_inv_vjp, jvp=_inv_jvp, keep_out=(0,))


@public
def inv(x: Any, /) -> Tensor:
    """The inverse of square matrices (..., M, M).

    Raises:
        ShapeError: the matrices are not square.
    """
    return _inv(square_matrix("inv", x))


# -- linear systems; both inputs of the primitive have at least two axes -----------------------------


def _solve_forward(ns: Any, a: Any, b: Any) -> Any:
    return ns.xp.linalg.solve(a, b)


def _solve_vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, a: Any, b: Any) -> Any:
    gb = ns.solve(ns.matrix_transpose(a), g)
    return None if needs[0] is None else -ns.matmul(gb, ns.matrix_transpose(out)), gb


def _solve_jvp(ns: Any, tangents: Any, out: Any, a: Any, b: Any) -> Any:
    ta, tb = tangents
    if ta is None:
        return ns.solve(a, tb)
    change = ns.matmul(ta, out)
    return ns.solve(a, -change if tb is None else tb - change)


_solve = primitive(
    "solve",
    arity=2,
    forward=_solve_forward,
    vjp=_solve_vjp,
    jvp=_solve_jvp,
    batch=align_ranks,
    keep=((0, 1),),
    keep_out=(0,),
    promotes=True,
)


@public
def solve(x1: Any, x2: Any, /) -> Tensor:
    """The solution of `x1 @ x = x2`: x1 (..., M, M), x2 (..., M, K), or one vector (M,).

    Raises:
        ShapeError: x1 is not square, or x2 has other rows.
    """
    like = x1 if isinstance(x1, Tensor) else x2 if isinstance(x2, Tensor) else None
    x1 = square_matrix("solve", x1, like)
    x2 = floating(x2, x1)
    vector = x2.ndim == 1
    if not x2.ndim or x2.shape[0 if vector else -2] != x1.shape[-1]:
        raise ShapeError(
            f"solve with matrices of shape {x1.shape} needs right sides (..., {x1.shape[-1]}, K) or "
            f"({x1.shape[-1]},), got shape {x2.shape}"
        )
    out = _solve(x1, ops.expand_dims(x2, axis=-1) if vector else x2)
    return ops.squeeze(out, axis=-1) if vector else out


# -- determinant: its gradient is the cofactor matrix, which exists for singular matrices, too ---------


def _det_forward(ns: Any, x: Any) -> Any:
    return ns.xp.linalg.det(x)


def _det_vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any) -> Any:
    return (g[..., None, None] * ns.cofactor(x),)


def _det_jvp(ns: Any, tangents: Any, out: Any, x: Any) -> Any:
    return ns.sum(ns.cofactor(x) * tangents[0], axis=(-2, -1), keepdims=False)


_det = primitive("det", arity=1, forward=_det_forward, vjp=_det_vjp, jvp=_det_jvp, keep=((0,),))


def _without(ns: Any, s: Any, masks: Any) -> Any:
    """Products of the elements of vectors, those in the boolean masks (k, ..., n) left out: (..., k, ...)."""
    lead = s.shape[:-1]
    wide = ns.reshape(s, (*lead, *(1,) * (len(masks.shape) - 1), s.shape[-1]))
    wide = ns.broadcast_to(wide, (*lead, *masks.shape))
    return ns.prod(ns.where(masks, ns.ones_like(wide), wide), axis=(-1,), keepdims=False)


def _cofactor_forward(ns: Any, x: Any) -> Any:
    """Of U S Vᴴ: det(U) det(Vᴴ) conj(U) C conj(Vᴴ), where C holds the products of all but one singular value."""
    u, s, vh, sign = _rotations(ns, x)
    others = _without(ns, s, identity(ns, s.shape[-1], s) > 0)
    return sign * ns.matmul(conj(ns, u) * columns(others), conj(ns, vh))


def _rotations(ns: Any, x: Any) -> tuple[Any, Any, Any, Any]:
    u, s, vh = ns.svd(x, full_matrices=False)
    return u, s, vh, (ns.det(u) * ns.det(vh))[..., None, None]


def _cofactor_change(ns: Any, t: Any, x: Any) -> Any:
    """The derivative along t. In the bases of the singular vectors it is made of the products of all but two."""
    u, s, vh, sign = _rotations(ns, x)
    n = s.shape[-1]
    one = identity(ns, n, s)
    either = (one[:, None, :] + one[None, :, :]) > 0
    pairs = _without(ns, s, either) * (1 - one)
    turned = ns.matmul(ns.matmul(adjoint(ns, u), t), adjoint(ns, vh))
    diagonal = ns.sum(pairs * columns(diagonal_of(ns, turned)), axis=-1, keepdims=False)
    change = rows(diagonal) * one - ns.matrix_transpose(pairs * turned)
    return sign * ns.matmul(ns.matmul(conj(ns, u), change), conj(ns, vh))


def _cofactor_vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any) -> Any:
    return (_cofactor_change(ns, g, x),)  # a second derivative, so symmetric


def _cofactor_jvp(ns: Any, tangents: Any, out: Any, x: Any) -> Any:
    return _cofactor_change(ns, tangents[0], x)


_cofactor = primitive(
    "cofactor", arity=1, forward=_cofactor_forward, vjp=_cofactor_vjp, jvp=_cofactor_jvp, keep=((0,),)
)


@public
def cofactor(x: Any, /) -> Tensor:
    """The matrix of signed minors of square matrices: the gradient of `det`, also where that is 0.

    Its derivative is exact for every matrix; those of higher order need distinct singular values.
    """
    return _cofactor(square_matrix("cofactor", x))


@public
def det(x: Any, /) -> Tensor:
    """The determinant of square matrices (..., M, M), of shape (...).

    Raises:
        ShapeError: the matrices are not square.
    """
    return _det(square_matrix("det", x))


# -- sign and logarithm of the determinant -------------------------------------------------------------


class SlogdetResult(NamedTuple):
    """What `slogdet` returns; `sign * exp(logabsdet)` is the determinant."""

    sign: Tensor
    logabsdet: Tensor


def _slogdet_forward(ns: Any, x: Any) -> Any:
    return tuple(ns.xp.linalg.slogdet(x))


def _slogdet_vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any) -> Any:
    """d log|det| + i d arg(det) = tr(x⁻¹ dx); the sign of a real matrix is constant."""
    g_sign, g_log = g
    factor = g_log
    if is_complex(ns, x) and g_sign is not None:
        turn = times_i(ns, ns.imag(g_sign * out[0]))
        factor = turn if factor is None else factor + turn
    if factor is None:
        return (None,)
    return (factor[..., None, None] * ns.matrix_transpose(ns.inv(x)),)


def _slogdet_jvp(ns: Any, tangents: Any, out: Any, x: Any) -> Any:
    change = ns.sum(diagonal_of(ns, ns.solve(x, tangents[0])), axis=-1, keepdims=False)
    if not is_complex(ns, x):
        return None, change
    return out[0] * times_i(ns, ns.imag(change)), ns.real(change)


_slogdet = primitive(
    "slogdet",
    arity=1,
    outputs=2,
    forward=_slogdet_forward,
    vjp=_slogdet_vjp,
    jvp=_slogdet_jvp,
    keep=((0,),),
    keep_out=(0,),
)


@public
def slogdet(x: Any, /) -> SlogdetResult:
    """The sign of the determinant (of absolute value 1, or 0) and the logarithm of its absolute value.

    Raises:
        ShapeError: the matrices are not square.
    """
    return SlogdetResult(*_slogdet(square_matrix("slogdet", x)))


# -- Cholesky ------------------------------------------------------------------------------------------


def _cholesky_forward(ns: Any, x: Any) -> Any:
    return ns.xp.linalg.cholesky(hermitian_part(ns, x))


def _lower_half(ns: Any, x: Any) -> Any:
    """The lower triangle with half of the diagonal."""
    return ns.tril(x) - x * (identity(ns, x.shape[-1], x) * 0.5)


def _cholesky_vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any) -> Any:
    """I. Murray, "Differentiation of the Cholesky decomposition" (2016), eq. 10."""
    back = adjoint(ns, out)
    inside = hermitian_part(ns, _lower_half(ns, ns.matmul(back, conj(ns, g))))
    left = ns.solve(back, inside)  # L⁻ᴴ inside L⁻¹, the second factor from the right
    return (conj(ns, adjoint(ns, ns.solve(back, adjoint(ns, left)))),)


def _cholesky_jvp(ns: Any, tangents: Any, out: Any, x: Any) -> Any:
    left = ns.solve(out, hermitian_part(ns, tangents[0]))
    both = adjoint(ns, ns.solve(out, adjoint(ns, left)))
    return ns.matmul(out, _lower_half(ns, both))


_cholesky = primitive(
    "cholesky", arity=1, forward=_cholesky_forward, vjp=_cholesky_vjp, jvp=_cholesky_jvp, keep_out=(0,)
)


@public
def cholesky(x: Any, /, *, upper: bool = False) -> Tensor:
    """The triangular L with L Lᴴ = x, or U with Uᴴ U = x where `upper`: x (..., M, M), positive definite.

    The Hermitian part of x is taken, so the gradient is Hermitian.

    Raises:
        ShapeError: the matrices are not square.
    """
    lower = _cholesky(square_matrix("cholesky", x))
    return adjoint(ops, lower) if upper else lower


# -- powers --------------------------------------------------------------------------------------------


@public
def matrix_power(x: Any, n: int, /) -> Tensor:
    """Square matrices multiplied `n` times, by repeated squaring; the inverse where `n` is negative.

    Raises:
        ShapeError: the matrices are not square.
        ConfigError: `n` is not an integer.
    """
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise ConfigError(f"matrix_power takes a Python integer as exponent, got {n!r}")
    n = n.__index__()
    x = as_tensor(x)
    x = square_matrix("matrix_power", x) if n < 0 or x.dtype.is_differentiable else x
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise ShapeError(f"matrix_power needs square matrices, (..., M, M); got shape {x.shape}")
    if n == 0:
        return ops.broadcast_to(identity(ops, x.shape[-1], x), x.shape)
    base, n = (inv(x), -n) if n < 0 else (x, n)
    result = None
    while n:
        if n & 1:
            result = base if result is None else ops.matmul(result, base)
        n >>= 1
        if n:
            base = ops.matmul(base, base)
    return result  # type: ignore[return-value]
