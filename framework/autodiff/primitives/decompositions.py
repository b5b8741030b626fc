"""QR, symmetric eigenvalues and singular values of (stacks of) matrices: primitives with several outputs.

Vectors are unique up to a sign, or for complex matrices a factor of absolute value 1; derivatives are right
for functions that do not depend on it. Where eigenvalues (singular values) are equal up to rounding their
vectors are any basis of one space. There 1/(λi − λj) is taken as 0, so the gradient of a function in which
it meets a zero, such as one of the eigenvalues or of the whole space, is finite and right; others have none.

Reverse rules are written for the conjugated gradient, in which they read as in the literature.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from framework.autodiff.primitive import primitive, public
from framework.autodiff.primitives.matrices import (
    adjoint,
    columns,
    conj,
    diagonal_of,
    hermitian_part,
    identity,
    is_complex,
    matrix,
    real,
    rounding,
    rows,
    safe_reciprocal,
    square_matrix,
)
from framework.autodiff.tensor import Tensor
from framework.errors import ConfigError


class QRResult(NamedTuple):
    """What `qr` returns: orthonormal columns, and an upper triangle."""

    Q: Tensor
    R: Tensor


class EighResult(NamedTuple):
    """What `eigh` returns: eigenvalues in ascending order, and their vectors as columns."""

    eigenvalues: Tensor
    eigenvectors: Tensor


class SVDResult(NamedTuple):
    """What `svd` returns: `(U * S[..., None, :]) @ Vh` is the matrix, with the first columns of U, rows of Vh."""

    U: Tensor
    S: Tensor
    Vh: Tensor


def _plus(a: Any, b: Any) -> Any:
    """The sum of what may be absent."""
    return b if a is None else a if b is None else a + b


def _strict_lower(ns: Any, x: Any) -> Any:
    return ns.tril(x, k=-1)


def _completed(ns: Any, g: Any, u: Any, k: int) -> Any:
    """Gradient of all columns of a square unitary matrix as one of its first `k`.

    The others follow the first: their own rotations among each other are free, and taken as zero.
    """
    first, rest = u[..., :k], u[..., k:]
    return g[..., :k] - ns.matmul(rest, ns.matmul(adjoint(ns, g[..., k:]), first))


def _completion(ns: Any, change: Any, u: Any, k: int) -> Any:
    """The derivative of all columns, given that of the first `k`."""
    first, rest = u[..., :k], u[..., k:]
    other = -ns.matmul(first, ns.matmul(adjoint(ns, change), rest))
    return ns.concat([change, other], axis=-1)


# -- QR ------------------------------------------------------------------------------------------------
# H.-J. Liao et al., "Differentiable programming tensor networks" (2019), and S. Walter & L. Lehmann,
# "Algorithmic differentiation of linear algebra functions" (2010). Wide matrices: D. Roberts & L. Roberts,
# "QR and LQ decomposition matrix backpropagation algorithms for square, wide, and deep matrices" (2020).


def _qr_forward(ns: Any, x: Any, *, mode: str) -> Any:
    return tuple(ns.xp.linalg.qr(x, mode=mode))


def _over(ns: Any, x: Any, r: Any) -> Any:
    """x R⁻¹."""
    return ns.matrix_transpose(ns.solve(ns.matrix_transpose(r), ns.matrix_transpose(x)))


def _qr_vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any, *, mode: str) -> Any:
    q, r = out
    m, n = x.shape[-2:]
    k = min(m, n)
    gq, gr = (None if part is None else conj(ns, part) for part in g)
    if gq is not None and q.shape[-1] > k:
        gq = _completed(ns, gq, q, k)
    q, r = q[..., :k], r[..., :k, :]
    gr = None if gr is None else gr[..., :k, :]
    rest = None
    if n > m:  # the columns behind: R₂ = Qᴴ X₂
        if gr is not None:
            rest = ns.matmul(q, gr[..., m:])
            gq = _plus(gq, ns.matmul(x[..., m:], adjoint(ns, gr[..., m:])))
            gr = gr[..., :m]
        r = r[..., :m]
    inside = None if gr is None else ns.matmul(r, adjoint(ns, ns.triu(gr)))
    if gq is not None:
        inside = _plus(inside, -ns.matmul(adjoint(ns, gq), q))
    lower = _strict_lower(ns, inside)
    one = identity(ns, k, inside)
    symmetric = lower + adjoint(ns, lower) + real(ns, inside) * one
    gx = _plus(gq, ns.matmul(q, symmetric))
    gx = conj(ns, _over_adjoint(ns, gx, r))
    if n == k:
        return (gx,)
    return (ns.concat([gx, ns.zeros_like(x[..., m:]) if rest is None else conj(ns, rest)], axis=-1),)


def _over_adjoint(ns: Any, x: Any, r: Any) -> Any:
    """x R⁻ᴴ."""
    return adjoint(ns, ns.solve(r, adjoint(ns, x)))


def _qr_jvp(ns: Any, tangents: Any, out: Any, x: Any, *, mode: str) -> Any:
    q, r = out
    t = tangents[0]
    m, n = x.shape[-2:]
    k = min(m, n)
    q1, r1 = q[..., :k], r[..., :k, :k]
    scaled = _over(ns, t[..., :k], r1)
    inside = ns.matmul(adjoint(ns, q1), scaled)
    lower = _strict_lower(ns, inside)
    turn = lower - adjoint(ns, lower)
    if is_complex(ns, x):  # keeps the diagonal of R real
        turn = turn + (inside - ns.real(inside)) * identity(ns, k, inside)
    tq = scaled + ns.matmul(q1, turn - inside)
    tr = ns.matmul(inside - turn, r1)
    if n > m:
        behind = ns.matmul(adjoint(ns, tq), x[..., m:]) + ns.matmul(adjoint(ns, q1), t[..., m:])
        tr = ns.concat([tr, behind], axis=-1)
    if q.shape[-1] > k:
        tq = _completion(ns, tq, q, k)
        tr = ns.concat([tr, ns.zeros_like(r[..., k:, :])], axis=-2)
    return tq, tr


_qr = primitive("qr", arity=1, outputs=2, forward=_qr_forward, vjp=_qr_vjp, jvp=_qr_jvp, keep=((0,),), keep_out=(0,))


@public
def qr(x: Any, /, *, mode: Literal["reduced", "complete"] = "reduced") -> QRResult:
    """x (..., M, N) as Q R: Q with orthonormal columns, R an upper triangle.

    Derivatives need the first min(M, N) columns of x to be independent.

    Args:
        mode: `"reduced"` for Q (..., M, K) and R (..., K, N), K = min(M, N); `"complete"` for
            Q (..., M, M) and R (..., M, N).
    """
    if mode not in ("reduced", "complete"):
        raise ConfigError(f"qr: mode is 'reduced' or 'complete', got {mode!r}")
    return QRResult(*_qr(matrix("qr", x), mode=mode))


# -- eigenvalues of Hermitian matrices: Giles 2008 -----------------------------------------------------


def _gaps(ns: Any, values: Any) -> Any:
    """1 / (λj − λi) at (i, j); 0 where they are equal up to rounding."""
    n = values.shape[-1]
    if not n:
        return values[..., None]
    threshold = ns.max(ns.abs(values), axis=-1, keepdims=True)[..., None] * rounding(ns, values, n)
    return safe_reciprocal(ns, columns(values) - rows(values), threshold)


def _eigh_forward(ns: Any, x: Any) -> Any:
    return tuple(ns.xp.linalg.eigh(hermitian_part(ns, x)))


def _between(ns: Any, left: Any, middle: Any, right: Any) -> Any:
    """left · middle · rightᴴ."""
    return ns.matmul(ns.matmul(left, middle), adjoint(ns, right))


def _eigh_vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any) -> Any:
    values, vectors = out
    g_values, g_vectors = g
    inside = None
    if g_vectors is not None:
        inside = _gaps(ns, values) * ns.matmul(adjoint(ns, vectors), conj(ns, g_vectors))
    if g_values is not None:
        inside = _plus(inside, rows(g_values) * identity(ns, values.shape[-1], vectors))
    return (conj(ns, hermitian_part(ns, _between(ns, vectors, inside, vectors))),)


def _eigh_jvp(ns: Any, tangents: Any, out: Any, x: Any) -> Any:
    values, vectors = out
    back = adjoint(ns, vectors)
    turned = _between(ns, back, hermitian_part(ns, tangents[0]), back)
    return real(ns, diagonal_of(ns, turned)), ns.matmul(vectors, _gaps(ns, values) * turned)


_eigh = primitive("eigh", arity=1, outputs=2, forward=_eigh_forward, vjp=_eigh_vjp, jvp=_eigh_jvp, keep_out=(0,))


@public
def eigh(x: Any, /) -> EighResult:
    """Eigenvalues, ascending and real, and eigenvectors of Hermitian matrices (..., M, M).

    The Hermitian part of x is taken, so the gradient is Hermitian.

    Raises:
        ShapeError: the matrices are not square.
    """
    return EighResult(*_eigh(square_matrix("eigh", x)))


def _eigvalsh_forward(ns: Any, x: Any) -> Any:
    return ns.xp.linalg.eigvalsh(hermitian_part(ns, x))


def _eigvalsh_vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any) -> Any:
    vectors = ns.eigh(x)[1]
    return (conj(ns, ns.matmul(vectors * columns(g), adjoint(ns, vectors))),)


def _eigvalsh_jvp(ns: Any, tangents: Any, out: Any, x: Any) -> Any:
    back = adjoint(ns, ns.eigh(x)[1])
    return real(ns, diagonal_of(ns, _between(ns, back, hermitian_part(ns, tangents[0]), back)))


_eigvalsh = primitive(
    "eigvalsh", arity=1, forward=_eigvalsh_forward, vjp=_eigvalsh_vjp, jvp=_eigvalsh_jvp, keep=((0,),)
)


@public
def eigvalsh(x: Any, /) -> Tensor:
    """The eigenvalues alone of Hermitian matrices, ascending; see `eigh`. The vectors are computed for gradients."""
    return _eigvalsh(square_matrix("eigvalsh", x))


# -- singular values -----------------------------------------------------------------------------------
# J. Townsend, "Differentiating the singular value decomposition" (2016); complex matrices: Z.-Q. Wan &
# S.-X. Zhang, "Automatic differentiation for complex valued SVD" (2019).


def _svd_forward(ns: Any, x: Any, *, full_matrices: bool) -> Any:
    return tuple(ns.xp.linalg.svd(x, full_matrices=full_matrices))


def _svd_factors(ns: Any, s: Any, size: int) -> tuple[Any, Any]:
    """1 / (sj² − si²) at (i, j), and 1 / si; 0 where the denominator is zero up to rounding."""
    if not s.shape[-1]:
        return s[..., None], s
    error = rounding(ns, s, size)
    top = ns.max(s, axis=-1, keepdims=True)
    inverse = safe_reciprocal(ns, s, top * error)
    difference = safe_reciprocal(ns, columns(s) - rows(s), top[..., None] * error)
    total = safe_reciprocal(ns, columns(s) + rows(s), top[..., None] * error)
    return difference * total, inverse


def _svd_vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any, *, full_matrices: bool) -> Any:
    u, s, vh = out
    (m, n), k = x.shape[-2:], s.shape[-1]
    gu, gs, gv = g
    gu = None if gu is None else conj(ns, gu)
    gv = None if gv is None else ns.matrix_transpose(gv)  # that of V is the adjoint of that of Vᴴ
    v = adjoint(ns, vh)
    if full_matrices:
        gu = None if gu is None else _completed(ns, gu, u, k)
        gv = None if gv is None else _completed(ns, gv, v, k)
        u, v = u[..., :k], v[..., :k]
    gaps, inverse = _svd_factors(ns, s, max(m, n))
    one = identity(ns, k, u)
    inside = None if gs is None else rows(gs) * one
    outside = None
    if gu is not None:
        turned = ns.matmul(adjoint(ns, u), gu)
        scaled = gaps * turned
        inside = _plus(inside, (scaled + adjoint(ns, scaled)) * columns(s))
        if is_complex(ns, x):
            inside = inside + (turned - ns.real(turned)) * rows(inverse) * one
        if m > k:
            outside = ns.matmul((gu - ns.matmul(u, turned)) * columns(inverse), adjoint(ns, v))
    if gv is not None:
        turned = ns.matmul(adjoint(ns, v), gv)
        scaled = gaps * turned
        inside = _plus(inside, rows(s) * (scaled + adjoint(ns, scaled)))
        if n > k:
            beyond = gv - ns.matmul(v, turned)
            outside = _plus(outside, ns.matmul(u * columns(inverse), adjoint(ns, beyond)))
    return (conj(ns, _plus(_between(ns, u, inside, v), outside)),)


def _svd_jvp(ns: Any, tangents: Any, out: Any, x: Any, *, full_matrices: bool) -> Any:
    u, s, vh = out
    t = tangents[0]
    (m, n), k = x.shape[-2:], s.shape[-1]
    v = adjoint(ns, vh)
    u1, v1 = u[..., :k], v[..., :k]
    gaps, inverse = _svd_factors(ns, s, max(m, n))
    right = ns.matmul(t, v1)
    inside = ns.matmul(adjoint(ns, u1), right)
    ts = real(ns, diagonal_of(ns, inside))
    scaled = inside * columns(s)
    turn = gaps * (scaled + adjoint(ns, scaled))
    if is_complex(ns, x):  # the phase of each pair of vectors: all of it goes to U
        turn = turn + (inside - ns.real(inside)) * rows(inverse) * identity(ns, k, inside)
    tu = ns.matmul(u1, turn)
    if m > k:
        tu = tu + (right - ns.matmul(u1, inside)) * columns(inverse)
    scaled = rows(s) * inside
    tv = ns.matmul(v1, gaps * (scaled + adjoint(ns, scaled)))
    if n > k:
        left = ns.matmul(adjoint(ns, t), u1)
        tv = tv + (left - ns.matmul(v1, adjoint(ns, inside))) * columns(inverse)
    if full_matrices:
        tu = _completion(ns, tu, u, k) if m > k else tu
        tv = _completion(ns, tv, v, k) if n > k else tv
    return tu, ts, adjoint(ns, tv)


_svd = primitive(
    "svd", arity=1, outputs=3, forward=_svd_forward, vjp=_svd_vjp, jvp=_svd_jvp, keep=((0,),), keep_out=(0,)
)


@public
def svd(x: Any, /, *, full_matrices: bool = True) -> SVDResult:
    """x (..., M, N) as U S Vh: singular vectors as columns of U and rows of Vh, and K = min(M, N) values, descending.

    Args:
        full_matrices: U (..., M, M) and Vh (..., N, N), else U (..., M, K) and Vh (..., K, N). The
            vectors beyond K are any basis; they turn with the others, as little as they can.
    """
    return SVDResult(*_svd(matrix("svd", x), full_matrices=bool(full_matrices)))


def _svdvals_forward(ns: Any, x: Any) -> Any:
    return ns.xp.linalg.svdvals(x)


def _svdvals_vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any) -> Any:
    u, _, vh = ns.svd(x, full_matrices=False)
    return (conj(ns, ns.matmul(u * columns(g), vh)),)


def _svdvals_jvp(ns: Any, tangents: Any, out: Any, x: Any) -> Any:
    u, _, vh = ns.svd(x, full_matrices=False)
    return real(ns, diagonal_of(ns, _between(ns, adjoint(ns, u), tangents[0], vh)))


_svdvals = primitive("svdvals", arity=1, forward=_svdvals_forward, vjp=_svdvals_vjp, jvp=_svdvals_jvp, keep=((0,),))


@public
def svdvals(x: Any, /) -> Tensor:
    """The singular values alone of matrices (..., M, N), descending. The vectors are computed for gradients."""
    return _svdvals(matrix("svdvals", x))
