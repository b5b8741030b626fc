"""Rows of linear algebra and of Fourier transforms.

Factors that are determined up to a phase are compared in a form that does not depend on it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from generated import Call, Draw, call, resolve, row


def _square(name: str, *settings: Any) -> Callable[[Draw], Call]:
    def make(d: Draw) -> Call:
        n = d.integer(0 if name != "linalg.pinv" else 1, 3)
        x = d.spectrum(n, n, d.stack())
        if settings:
            setting = d.pick(settings)
            return Call(lambda xp, x: resolve(xp, name)(x, setting), (x,), f"{name} {setting}")
        return call(name, x)

    return make


for _name in ("inv", "det", "slogdet"):
    row(f"linalg.{_name}", _square(f"linalg.{_name}"), complex=True)
row("linalg.matrix_power", _square("linalg.matrix_power", -2, -1, 0, 1, 2, 3, 5), complex=True)


def _solve(d: Draw) -> Call:
    n = d.integer(0, 3)
    if d.chance(0.3):
        return call("linalg.solve", d.spectrum(n, n, d.stack()), d.either((n,)))
    a, b = d.broadcastable(2, 2) if d.chance() else ((), ())
    return call("linalg.solve", d.spectrum(n, n, a), d.either((*b, n, d.integer(0, 2))))


row("linalg.solve", _solve, complex=True)


def _pinv(d: Draw) -> Call:
    return call("linalg.pinv", d.spectrum(d.integer(1, 3), d.integer(1, 3), d.stack()))


row("linalg.pinv", _pinv, complex=True)


def _cholesky(d: Draw) -> Call:
    """Of the Hermitian part, so that every direction stays Hermitian."""
    x = d.hermitian(d.integer(0, 3), d.stack(), positive=True)
    upper = d.chance(0.3)
    return Call(lambda xp, x: xp.linalg.cholesky(_hermitian(xp, x), upper=upper), (x,), f"cholesky upper={upper}")


row("linalg.cholesky", _cholesky, complex=True)


def _adjoint(xp: Any, x: Any) -> Any:
    return xp.conj(xp.matrix_transpose(x))


def _hermitian(xp: Any, x: Any) -> Any:
    return (x + _adjoint(xp, x)) * 0.5


def _functions_of(xp: Any, w: Any, v: Any) -> list[Any]:
    """What is left of a basis when its phases are not: its projections of a fixed matrix."""
    return [w, (v * _weights(xp, w.shape[-1], v)) @ _adjoint(xp, v)]


def _weights(xp: Any, n: int, like: Any) -> Any:
    """Fixed factors for the columns of a basis, which tell one from the other."""
    return xp.asarray(np.cos(np.arange(n) + 1.0).astype(np.dtype(str(like.dtype))))


def _eigh(d: Draw) -> Call:
    def fn(xp: Any, x: Any) -> Any:
        x = _hermitian(xp, x)
        return _functions_of(xp, *xp.linalg.eigh(x))

    return Call(fn, (d.hermitian(d.integer(1, 3), d.stack()),), "eigh")


def _eigvalsh(d: Draw) -> Call:
    x = d.hermitian(d.integer(1, 3), d.stack())
    return Call(lambda xp, x: xp.linalg.eigvalsh(_hermitian(xp, x)), (x,), "eigvalsh")


row("linalg.eigh", _eigh, complex=True)
row("linalg.eigvalsh", _eigvalsh, complex=True)


def _svd(d: Draw) -> Call:
    def fn(xp: Any, x: Any) -> Any:
        u, s, vh = xp.linalg.svd(x, full_matrices=False)
        weights = _weights(xp, s.shape[-1], u)
        return [s, (u * weights) @ vh, (u * weights) @ _adjoint(xp, u)]

    return Call(fn, (d.spectrum(d.integer(1, 3), d.integer(1, 3), d.stack()),), "svd")


row("linalg.svd", _svd, complex=True)
row(
    "linalg.svdvals",
    lambda d: call("linalg.svdvals", d.spectrum(d.integer(1, 3), d.integer(1, 3), d.stack())),
    complex=True,
)


def _qr(d: Draw) -> Call:
    n = d.integer(1, 3)
    x = d.spectrum(d.integer(n, 3) if d.chance(0.7) else n, n, d.stack())

    def fn(xp: Any, x: Any) -> Any:
        q, r = xp.linalg.qr(x)
        weights = _weights(xp, n, q)
        return [(q * weights) @ _adjoint(xp, q), _adjoint(xp, r) @ (weights[:, None] * r), (q * weights) @ r]

    return Call(fn, (x,), "qr")


row("linalg.qr", _qr, complex=True)

# -- norms -------------------------------------------------------------------------------------------------


def _off_zero(d: Draw, shape: tuple[int, ...]) -> Any:
    return (
        d.distinct(shape)
        if not d.complex
        else d.polar(shape, 0.4, 2) * (1 + np.arange(int(np.prod(shape)))).reshape(shape)
    )


def _vector_norm(d: Draw) -> Call:
    shape = d.shape(1, 3, 1)
    order = d.pick((2, 2, 1, 3, 2.5, 0.5, -1, -2, float("inf"), -float("inf"), 0))
    settings = {} if order == 2 and d.chance() else {"ord": order}
    return call("linalg.vector_norm", _off_zero(d, shape), axis=d.axes(len(shape)), keepdims=d.chance(0.3), **settings)


def _matrix_norm(d: Draw) -> Call:
    n, m = d.integer(1, 3), d.integer(1, 3)
    order = d.pick(("fro", "fro", "nuc", 1, -1, 2, -2, float("inf"), -float("inf")))
    return call("linalg.matrix_norm", d.spectrum(n, m, d.stack()), ord=order, keepdims=d.chance(0.3))


def _norm(d: Draw) -> Call:
    if d.chance(0.3):
        return call("linalg.norm", d.spectrum(2, 3), ord=d.pick((None, "fro", 1, 2, "nuc")))
    shape = d.shape(1, 2, 1)
    x = _off_zero(d, shape)
    if d.chance(0.4):
        return call("linalg.norm", x)
    order = d.pick((None, 1, 2, 3, float("inf")))
    return Call(lambda xp, x, axis=d.axis(len(shape)): xp.linalg.norm(x, order, axis=axis), (x,), f"norm {order}")


row("linalg.vector_norm", _vector_norm, complex=True)
row("linalg.matrix_norm", _matrix_norm, complex=True)
row("linalg.norm", _norm, complex=True)

# -- Fourier transforms ------------------------------------------------------------------------------------


def _transform(name: str, real_input: bool = False) -> Callable[[Draw], Call]:
    def make(d: Draw) -> Call:
        shape = d.shape(1, 3, 1)
        axis = d.axis(len(shape))
        x = d.real(shape) if real_input else d.array(shape)
        settings: dict[str, Any] = {"axis": axis, "norm": d.pick(("backward", "ortho", "forward"))}
        if name in ("irfft", "hfft") or d.chance(0.5):  # of one frequency there is nothing to transform without `n`
            settings["n"] = d.integer(1, 5)
        return call(f"fft.{name}", x, **settings)

    return make


def _transforms(name: str, real_input: bool = False) -> Callable[[Draw], Call]:
    def make(d: Draw) -> Call:
        shape = d.shape(2, 3, 1)
        x = d.real(shape) if real_input else d.array(shape)
        count = d.integer(1, 2)
        axes = d.permutation(len(shape))[:count]
        settings: dict[str, Any] = {"norm": d.pick(("backward", "ortho", "forward"))}
        if name.endswith("2"):
            axes = axes if count == 2 else (-2, -1)
        if d.chance(0.7) or name == "irfftn":
            settings["axes"] = axes
            if d.chance() or name == "irfftn":
                settings["s"] = tuple(d.integer(1, 4) for _ in axes)
        return call(f"fft.{name}", x, **settings)

    return make


for _name in ("fft", "ifft", "irfft", "hfft"):
    row(f"fft.{_name}", _transform(_name), complex=True)
for _name in ("rfft", "ihfft"):
    row(f"fft.{_name}", _transform(_name, real_input=True))
for _name in ("fftn", "ifftn", "irfftn", "fft2", "ifft2"):
    row(f"fft.{_name}", _transforms(_name), complex=True)
row("fft.rfftn", _transforms("rfftn", real_input=True))


def _shifted(name: str) -> Callable[[Draw], Call]:
    def make(d: Draw) -> Call:
        shape = d.shape(1, 3)
        return call(name, d.array(shape), axes=d.axes(len(shape)))

    return make


for _name in ("fft.fftshift", "fft.ifftshift"):
    row(_name, _shifted(_name), complex=True)
