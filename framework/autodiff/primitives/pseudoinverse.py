"""The pseudo-inverse of matrices, and their rank."""

from __future__ import annotations

from typing import Any

from framework.autodiff.convert import as_tensor
from framework.autodiff.namespace import ops
from framework.autodiff.primitive import primitive, public
from framework.autodiff.primitives.matrices import adjoint, columns, conj, matrix
from framework.autodiff.tensor import Tensor
from framework.backend import dtypes as dt


def _pinv_forward(ns: Any, x: Any, rtol: Any) -> Any:
    u, s, vh = ns.svd(x, full_matrices=False)
    if not s.shape[-1]:
        return adjoint(ns, x)
    large = s > rtol[..., None] * ns.max(s, axis=-1, keepdims=True)
    inverse = ns.where(large, 1 / ns.where(large, s, ns.ones_like(s)), ns.zeros_like(s))
    return ns.matmul(adjoint(ns, vh) * columns(inverse), adjoint(ns, u))


def _pinv_vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any, rtol: Any) -> Any:
    """The transpose of the rule below."""
    if needs[0] is None:
        return None, None
    back = adjoint(ns, conj(ns, g))  # written for the conjugated gradient
    adj = adjoint(ns, out)
    # gᴴ with what lies in the row space of x, or in its column space, projected away
    outside = back - ns.matmul(x, ns.matmul(out, back))
    beside = back - ns.matmul(ns.matmul(back, out), x)
    total = ns.matmul(ns.matmul(outside, out), adj) + ns.matmul(ns.matmul(adj, out), beside)
    return conj(ns, total - ns.matmul(ns.matmul(adj, adjoint(ns, back)), adj)), None


def _pinv_jvp(ns: Any, tangents: Any, out: Any, x: Any, rtol: Any) -> Any:
    """G. Golub & V. Pereyra, "The differentiation of pseudo-inverses and nonlinear least squares problems
    whose variables separate" (1973): of matrices of constant rank."""
    t = tangents[0]
    if t is None:
        return None
    adj, back = adjoint(ns, out), adjoint(ns, t)
    outside = back - ns.matmul(ns.matmul(back, x), out)
    beside = back - ns.matmul(out, ns.matmul(x, back))
    total = ns.matmul(ns.matmul(out, adj), outside) + ns.matmul(ns.matmul(beside, adj), out)
    return total - ns.matmul(ns.matmul(out, t), out)


def _pinv_batch(ops: Any, n: int, is_batched: Any, inputs: Any, params: Any, fn: Any) -> Any:
    x, rtol = inputs
    if is_batched[1]:
        x = x if is_batched[0] else ops.broadcast_to(x, (n, *x.shape))
        rtol = ops.reshape(rtol, (n,) + (1,) * (x.ndim - 2 - rtol.ndim) + rtol.shape[1:])
    return fn(x, rtol)


_pinv = primitive(
    "pinv",
    arity=None,
    forward=_pinv_forward,
    vjp=_pinv_vjp,
    jvp=_pinv_jvp,
    batch=_pinv_batch,
    keep=((0,), ()),
    keep_out=(0,),
)


def _tolerance(x: Tensor, rtol: Any) -> Tensor:
    """`rtol` as a Tensor of the real dtype of x, without history."""
    kind = _real_dtype(x)
    if rtol is None:
        rtol = max(x.shape[-2:]) * 2.0 ** -(23 if kind.itemsize == 4 else 52)
    if isinstance(rtol, int | float):
        return ops.asarray(rtol, dtype=kind, device=x.device)
    return ops.astype(ops.stop_gradient(as_tensor(rtol, x)), kind)


def _real_dtype(x: Tensor) -> dt.DType:
    if x.dtype.kind == "float":
        return x.dtype
    return dt.float32 if x.dtype is dt.complex64 else dt.float64


@public
def pinv(x: Any, /, *, rtol: Any = None) -> Tensor:
    """The Moore-Penrose inverse (..., N, M) of matrices (..., M, N).

    Args:
        rtol: singular values not larger than this times the largest count as zero; max(M, N) times the
            dtype's rounding by default. A number or an array of shape (...).

    The gradient is that among matrices of equal rank, where the pseudo-inverse is smooth.
    """
    x = matrix("pinv", x)
    return _pinv(x, _tolerance(x, rtol))


@public
def matrix_rank(x: Any, /, *, rtol: Any = None) -> Tensor:
    """How many singular values are larger than `rtol` times the largest; without derivative. See `pinv`."""
    x = ops.stop_gradient(matrix("matrix_rank", x))
    s = ops.svdvals(x)
    if not s.shape[-1]:
        return ops.zeros(s.shape[:-1], dtype=dt.int64, device=x.device)
    large = s > _tolerance(x, rtol)[..., None] * ops.max(s, axis=-1, keepdims=True)
    return ops.sum(ops.astype(large, dt.int64), axis=-1)
