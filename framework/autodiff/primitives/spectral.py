"""The discrete Fourier transforms, all linear maps.

Four primitives over several axes carry everything: the complex transform and its inverse, which are their
own transposes; the transform of real arrays, and its inverse, whose transposes are written with the others.
Lengths are brought about before, by cutting or padding with zeros, so that a primitive keeps shapes simple.
The public functions are in the table `ops.fft`, because their names also exist as primitives.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

from framework.autodiff.convert import as_tensor
from framework.autodiff.kinds import linear_map, negative_axes
from framework.autodiff.modes import get_default_dtype
from framework.autodiff.namespace import ops
from framework.autodiff.primitive import expose
from framework.autodiff.primitives.matrices import floating
from framework.autodiff.tensor import Tensor
from framework.backend import dtypes as dt
from framework.backend.kernels import beside
from framework.errors import ConfigError, DTypeError, ShapeError

Axes = int | Sequence[int] | None
Lengths = Sequence[int] | None

_SWAPPED = {"backward": "forward", "ortho": "ortho", "forward": "backward"}

# -- the primitives: `axes` are negative, `norm` one of _SWAPPED --------------------------------------


def _complex_forward(name: str) -> Any:
    def forward(ns: Any, x: Any, *, axes: tuple[int, ...], norm: str) -> Any:
        return getattr(ns.xp.fft, name)(x, axes=axes, norm=norm)

    return forward


def _fftn_transpose(ns: Any, g: Any, shape: Any, *, axes: Any, norm: str) -> Any:
    return ns.fftn(g, axes=axes, norm=norm)  # the matrix of the transform is symmetric


def _ifftn_transpose(ns: Any, g: Any, shape: Any, *, axes: Any, norm: str) -> Any:
    return ns.ifftn(g, axes=axes, norm=norm)


def _padded(ns: Any, x: Any, axis: int, n: int) -> Any:
    """`x` with zeros behind, `n` long along `axis`."""
    missing = list(x.shape)
    missing[axis] = n - x.shape[axis]
    return ns.concat([x, ns.zeros(tuple(missing), dtype=x.dtype, device=beside(x))], axis=axis)


def _rfftn_transpose(ns: Any, g: Any, shape: Any, *, axes: Any, norm: str) -> Any:
    """The real transform is the complex one with the second half of the last axis cut off."""
    n = shape[axes[-1]]
    return ns.real(ns.fftn(_padded(ns, g, axes[-1], n), axes=axes, norm=norm))


def _irfftn_forward(ns: Any, x: Any, *, axes: tuple[int, ...], norm: str, last: int) -> Any:
    lengths = [x.shape[a] for a in axes[:-1]] + [last]
    return ns.xp.fft.irfftn(x, s=tuple(lengths), axes=axes, norm=norm)


def _irfftn_transpose(ns: Any, g: Any, shape: Any, *, axes: Any, norm: str, last: int) -> Any:
    """Of the half spectrum, each element but those that are their own mirror images counts twice."""
    half = ns.conj(ns.rfftn(g, axes=axes, norm=_SWAPPED[norm]))
    axis, n = axes[-1], last // 2 + 1
    number = ns.arange(n, dtype=g.dtype, device=beside(g))
    weights = 2 - ns.astype((number == 0) | (number * 2 == last), g.dtype)
    return half * ns.reshape(weights, (n,) + (1,) * (-axis - 1))


_fftn = expose("fftn", linear_map("fftn", _fftn_transpose, forward=_complex_forward("fftn")))
_ifftn = expose("ifftn", linear_map("ifftn", _ifftn_transpose, forward=_complex_forward("ifftn")))
_rfftn = expose("rfftn", linear_map("rfftn", _rfftn_transpose, forward=_complex_forward("rfftn")))
_irfftn = expose("irfftn", linear_map("irfftn", _irfftn_transpose, forward=_irfftn_forward))

# -- preparing arguments -----------------------------------------------------------------------------


def _check_norm(norm: str | None) -> str:
    if norm is None:
        return "backward"
    if norm not in _SWAPPED:
        raise ConfigError(f"norm of a Fourier transform is 'backward', 'ortho' or 'forward', got {norm!r}")
    return norm


def _to_complex(x: Any) -> Tensor:
    x = floating(x)
    return x if x.dtype.kind == "complex" else ops.astype(x, dt.promote(x.dtype, dt.complex64))


def _to_real(name: str, x: Any) -> Tensor:
    x = floating(x)
    if x.dtype.kind == "complex":
        raise DTypeError(f"{name} transforms real arrays, got {x.dtype.name}; use fft, or the real part")
    return ops.astype(x, dt.float32) if x.dtype.itemsize < 4 else x


def _with_length(x: Tensor, axis: int, n: int) -> Tensor:
    """Cut or padded with zeros to length `n` along `axis`."""
    if n < 1:
        raise ShapeError(f"a Fourier transform needs at least one element, got {n} along axis {axis}")
    if n < x.shape[axis]:
        return x[(..., slice(0, n), *(slice(None),) * (-axis - 1))]
    return x if n == x.shape[axis] else _padded(ops, x, axis, n)


def _axes_and_lengths(x: Tensor, s: Lengths, axes: Axes) -> tuple[tuple[int, ...], list[int]]:
    """The axes as negative numbers, and how long each is to be; -1 in `s` keeps a length."""
    if axes is None and s is not None:
        axes = tuple(range(-len(s), 0))
    negative = negative_axes(axes, x.ndim)
    if len(set(negative)) < len(negative):
        raise ShapeError(f"a Fourier transform takes each axis once, got axes {axes}")
    lengths = [x.shape[a] for a in negative] if s is None else list(s)
    if len(lengths) != len(negative):
        raise ShapeError(f"a Fourier transform of axes {axes} needs a length for each, got {lengths}")
    return negative, [x.shape[a] if n == -1 else n for a, n in zip(negative, lengths)]


def _complex_transform(apply: Any, x: Any, s: Lengths, axes: Axes, norm: str | None) -> Tensor:
    x = _to_complex(x)
    negative, lengths = _axes_and_lengths(x, s, axes)
    for a, n in zip(negative, lengths):
        x = _with_length(x, a, n)
    return apply(x, axes=negative, norm=_check_norm(norm)) if negative else x


# -- one axis and several ----------------------------------------------------------------------------


def fft(x: Any, /, n: int | None = None, axis: int = -1, norm: str | None = "backward") -> Tensor:
    """The discrete Fourier transform along `axis`, complex.

    Args:
        n: the length to cut or to pad with zeros to.
        norm: which way divides by n: `"backward"`, `"forward"`, or `"ortho"` for both, by its root.

    Raises:
        ShapeError: no element along the axis.
    """
    return _complex_transform(_fftn, x, None if n is None else (n,), (axis,), norm)


def ifft(x: Any, /, n: int | None = None, axis: int = -1, norm: str | None = "backward") -> Tensor:
    """The inverse of `fft`; arguments as there."""
    return _complex_transform(_ifftn, x, None if n is None else (n,), (axis,), norm)


def fftn(x: Any, /, s: Lengths = None, axes: Axes = None, norm: str | None = "backward") -> Tensor:
    """The discrete Fourier transform over `axes` (all, or the last where `s` gives their lengths)."""
    return _complex_transform(_fftn, x, s, axes, norm)


def ifftn(x: Any, /, s: Lengths = None, axes: Axes = None, norm: str | None = "backward") -> Tensor:
    """The inverse of `fftn`; arguments as there."""
    return _complex_transform(_ifftn, x, s, axes, norm)


def fft2(x: Any, /, s: Lengths = None, axes: Axes = (-2, -1), norm: str | None = "backward") -> Tensor:
    """`fftn` over the last two axes."""
    return fftn(x, s, axes, norm)


def ifft2(x: Any, /, s: Lengths = None, axes: Axes = (-2, -1), norm: str | None = "backward") -> Tensor:
    """The inverse of `fft2`."""
    return ifftn(x, s, axes, norm)


def rfft(x: Any, /, n: int | None = None, axis: int = -1, norm: str | None = "backward") -> Tensor:
    """`fft` of a real array: the n // 2 + 1 elements that determine the others.

    Raises:
        DTypeError: the array is complex.
    """
    return rfftn(x, None if n is None else (n,), (axis,), norm)


def irfft(x: Any, /, n: int | None = None, axis: int = -1, norm: str | None = "backward") -> Tensor:
    """The inverse of `rfft`: `n` real elements, 2 (m − 1) of m by default."""
    return irfftn(x, None if n is None else (n,), (axis,), norm)


def rfftn(x: Any, /, s: Lengths = None, axes: Axes = None, norm: str | None = "backward") -> Tensor:
    """`fftn` of a real array, with the redundant half of the last of `axes` left out.

    Raises:
        DTypeError: the array is complex.
        ShapeError: no axis.
    """
    x = _to_real("rfft", x)
    negative, lengths = _axes_and_lengths(x, s, axes)
    if not negative:
        raise ShapeError("the Fourier transform of a real array needs at least one axis")
    for a, n in zip(negative, lengths):
        x = _with_length(x, a, n)
    return _rfftn(x, axes=negative, norm=_check_norm(norm))


def irfftn(x: Any, /, s: Lengths = None, axes: Axes = None, norm: str | None = "backward") -> Tensor:
    """The inverse of `rfftn`: real, the last of `axes` 2 (m − 1) long where `s` does not say."""
    x = _to_complex(x)
    negative, lengths = _axes_and_lengths(x, s, axes)
    if not negative:
        raise ShapeError("the Fourier transform to a real array needs at least one axis")
    last = 2 * (x.shape[negative[-1]] - 1) if s is None or s[-1] == -1 else s[-1]
    if last < 1:
        raise ShapeError(f"irfft of {x.shape[negative[-1]]} elements needs n, the length of the result, at least 1")
    for a, n in zip(negative, [*lengths[:-1], last // 2 + 1]):
        x = _with_length(x, a, n)
    return _irfftn(x, axes=negative, norm=_check_norm(norm), last=last)


def hfft(x: Any, /, n: int | None = None, axis: int = -1, norm: str | None = "backward") -> Tensor:
    """`fft` of a signal with Hermitian symmetry, of which `x` is the first half: real, 2 (m − 1) of m by default."""
    return irfft(ops.conj(_to_complex(x)), n, axis, _SWAPPED[_check_norm(norm)])


def ihfft(x: Any, /, n: int | None = None, axis: int = -1, norm: str | None = "backward") -> Tensor:
    """The inverse of `hfft`: the first n // 2 + 1 elements of a signal with Hermitian symmetry."""
    return ops.conj(rfft(_to_real("ihfft", x), n, axis, _SWAPPED[_check_norm(norm)]))


# -- frequencies and order ---------------------------------------------------------------------------


def fftfreq(n: int, /, d: float = 1.0, *, dtype: Any = None, device: str | None = None, backend: Any = None) -> Tensor:
    """The frequencies of `fft`'s elements, 0, 1, ..., −1 divided by n·d; `d` is the spacing of the samples."""
    dtype = dtype or get_default_dtype()
    where = {"dtype": dtype, "device": device, "backend": backend}
    half = (n + 1) // 2
    return ops.concat([ops.arange(0, half, **where), ops.arange(-(n // 2), 0, **where)]) / (n * d)


def rfftfreq(n: int, /, d: float = 1.0, *, dtype: Any = None, device: str | None = None, backend: Any = None) -> Tensor:
    """The frequencies of `rfft`'s elements, 0, 1, ..., n // 2 divided by n·d."""
    dtype = dtype or get_default_dtype()
    return ops.arange(0, n // 2 + 1, dtype=dtype, device=device, backend=backend) / (n * d)


def fftshift(x: Any, /, axes: Axes = None) -> Tensor:
    """The element of frequency 0 moved to the middle of `axes` (all by default)."""
    return _shifted(as_tensor(x), axes, up=True)


def ifftshift(x: Any, /, axes: Axes = None) -> Tensor:
    """The inverse of `fftshift`."""
    return _shifted(as_tensor(x), axes, up=False)


def _shifted(x: Tensor, axes: Axes, up: bool) -> Tensor:
    for a in negative_axes(axes, x.ndim):
        n = x.shape[a]
        start = n - n // 2 if up else n // 2  # what becomes the first element
        behind = (slice(None),) * (-a - 1)
        if n > 1:
            x = ops.concat([x[(..., slice(start, None), *behind)], x[(..., slice(0, start), *behind)]], axis=a)
    return x


_FUNCTIONS = (
    fft, ifft, fftn, ifftn, rfft, irfft, rfftn, irfftn, hfft, ihfft, fftfreq, rfftfreq, fftshift, ifftshift,
    fft2, ifft2,
)  # fmt: skip

ops.fft = SimpleNamespace(**{f.__name__: f for f in _FUNCTIONS})
"""The standard's extension `fft`, and NumPy's `fft2` and `ifft2`."""
