"""Complex numbers: their parts, and the functions that are not holomorphic.

The convention is JAX's: a vjp is the transposed linear map, without conjugation. So the gradient of a
real function of z = x + iy is ∂f/∂x − i ∂f/∂y, and a holomorphic function needs no rule of its own.
"""

from __future__ import annotations

from typing import Any

from framework.autodiff.convert import as_tensor
from framework.autodiff.kinds import align_ranks
from framework.autodiff.namespace import ops
from framework.autodiff.primitive import expose, primitive, public
from framework.autodiff.tensor import Tensor

X = ((0,),)

# -- the parts -------------------------------------------------------------------------------------
# The public functions return a real array as it is; the primitives take one, too, as they may meet one in a rule.


def _conj_forward(ns: Any, x: Any) -> Any:
    return ns.xp.conj(x) if ns.is_complex(x) else x


def _conj_vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any) -> Any:
    return (ns.conj(g),)


def _conj_jvp(ns: Any, tangents: Any, out: Any, x: Any) -> Any:
    return ns.conj(tangents[0])


_conj = primitive("conj", arity=1, forward=_conj_forward, vjp=_conj_vjp, jvp=_conj_jvp)


def _real_forward(ns: Any, x: Any) -> Any:
    return ns.xp.real(x) if ns.is_complex(x) else x


def _real_vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any) -> Any:
    return (g,)  # the driver makes it complex


def _real_jvp(ns: Any, tangents: Any, out: Any, x: Any) -> Any:
    return ns.real(tangents[0])


_real = primitive("real", arity=1, forward=_real_forward, vjp=_real_vjp, jvp=_real_jvp)


def _imag_forward(ns: Any, x: Any) -> Any:
    return ns.xp.imag(x) if ns.is_complex(x) else ns.xp.zeros_like(x)


def _imag_vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any) -> Any:
    return (g * -1j,)


def _imag_jvp(ns: Any, tangents: Any, out: Any, x: Any) -> Any:
    return ns.imag(tangents[0])


_imag = primitive("imag", arity=1, forward=_imag_forward, vjp=_imag_vjp, jvp=_imag_jvp)


@public
def conj(x: Any, /) -> Tensor:
    """The complex conjugate; a real array itself."""
    x = as_tensor(x)
    return _conj(x) if ops.is_complex(x) else x


@public
def real(x: Any, /) -> Tensor:
    """The real part; a real array itself."""
    x = as_tensor(x)
    return _real(x) if ops.is_complex(x) else x


@public
def imag(x: Any, /) -> Tensor:
    """The imaginary part; zeros for a real array."""
    x = as_tensor(x)
    return _imag(x) if ops.is_complex(x) else ops.zeros_like(x)


@public
def angle(x: Any, /) -> Tensor:
    """The angle of a complex number in the plane, in radians from −π to π."""
    x = as_tensor(x)
    return ops.atan2(imag(x), real(x))


# -- size and direction: 0 is a kink, and its derivative there is 0 --------------------------------


def _abs_vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any) -> Any:
    sign = ns.sign(x)
    return (g * (ns.conj(sign) if ns.is_complex(x) else sign),)


def _abs_jvp(ns: Any, tangents: Any, out: Any, x: Any) -> Any:
    sign = ns.sign(x)
    return ns.real(ns.conj(sign) * tangents[0]) if ns.is_complex(x) else sign * tangents[0]


expose("abs", primitive("abs", arity=1, vjp=_abs_vjp, jvp=_abs_jvp, batch=align_ranks, keep=X))


# d(z / |z|) = (t − s · Re(s̄ t)) / |z|: what of t is orthogonal to z. For real numbers it is zero.


def _complex_sign_forward(ns: Any, x: Any) -> Any:
    return ns.xp.sign(x)


def _over_size(ns: Any, t: Any, x: Any) -> Any:
    size = ns.abs(x)
    zero = size == 0
    return ns.where(zero, ns.zeros_like(t), t / ns.where(zero, ns.ones_like(size), size))


def _complex_sign_vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any) -> Any:
    return (_over_size(ns, g - ns.real(g * out) * ns.conj(out), x),)


def _complex_sign_jvp(ns: Any, tangents: Any, out: Any, x: Any) -> Any:
    t = tangents[0]
    return _over_size(ns, t - ns.real(ns.conj(out) * t) * out, x)


_complex_sign = primitive(
    "complex_sign",
    arity=1,
    forward=_complex_sign_forward,
    vjp=_complex_sign_vjp,
    jvp=_complex_sign_jvp,
    keep=X,
    keep_out=(0,),
)
_sign = primitive("sign", arity=1, batch=align_ranks)


@public
def sign(x: Any, /) -> Tensor:
    """−1, 0 or 1; for complex numbers x / |x|, and 0 at 0."""
    x = as_tensor(x)
    return _complex_sign(x) if ops.is_complex(x) else _sign(x)
