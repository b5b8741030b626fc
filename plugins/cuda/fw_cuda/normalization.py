"""Layer and batch normalisation, forward and backward: one launch each."""

from __future__ import annotations

from typing import Any

from framework.backend import kernels
from fw_cuda.arrays import NULL, Array, computes, count, double, integer, name_of
from fw_cuda.sources import Kernels

NAMES = ("layer_norm", "layer_norm_grad", "batch_norm", "batch_norm_grad")


class Normalization:
    """Kernels for the layouts that layers use; CuPy's own functions for all others.

    Args:
        cupy: the module.
        kernels: launches.
    """

    def __init__(self, cupy: Any, kernels: Kernels) -> None:
        self._cupy, self._kernels = cupy, kernels

    # -- over the last axes ----------------------------------------------------------------------------

    def layer_norm(
        self, x: Array, weight: Array | None, bias: Array | None, *, axis: tuple[int, ...], eps: float
    ) -> tuple[Array, tuple[Array, Array]]:
        """`(x − mean) / √(variance + ε) · weight + bias`, and the mean and the inverse of the root."""
        cupy = self._cupy
        width = _width(x, axis)
        if not width or not x.size or not all(_spans(t, x, width) for t in (weight, bias)):
            mean, variance, centered = self._moments(x, axis)
            inverse = 1.0 / cupy.sqrt(variance + eps)
            return _affine(centered * inverse, weight, bias), (mean, inverse)
        x, weight, bias = (None if t is None else cupy.ascontiguousarray(t) for t in (x, weight, bias))
        shape = _kept(x.shape, axis)
        y, mean, inverse = cupy.empty_like(x), cupy.empty(shape, dtype=x.dtype), cupy.empty(shape, dtype=x.dtype)
        args = x, _or_null(weight), _or_null(bias), y, mean, inverse, integer(width), double(eps)
        self._kernels.launch("normalization", "fw_layer_norm", name_of(x), mean.size, *args)
        return y, (mean, inverse)

    def layer_norm_grad(
        self, g: Array, x: Array, mean: Array, inverse: Array, weight: Array | None, axis: tuple[int, ...]
    ) -> tuple[Array, Array]:
        """Gradients with respect to x, and to a weight of x's shape."""
        cupy = self._cupy
        width = _width(x, axis)
        if not width or not x.size or g.shape != x.shape or not _spans(weight, x, width):
            return kernels.layer_norm_grad(cupy, g, x, mean, inverse, weight, axis)
        g, x, mean, inverse = (cupy.ascontiguousarray(t) for t in (g, x, mean, inverse))
        weight = None if weight is None else cupy.ascontiguousarray(weight)
        gx, gw = cupy.empty_like(x), cupy.empty_like(x)
        args = g, x, mean, inverse, _or_null(weight), gx, gw, integer(width)
        self._kernels.launch("normalization", "fw_layer_norm_grad", name_of(x), mean.size, *args)
        return gx, gw

    # -- of channels -----------------------------------------------------------------------------------

    def batch_norm(
        self, x: Array, weight: Array | None, bias: Array | None, *, axis: tuple[int, ...], eps: float
    ) -> tuple[Array, Array, Array]:
        """The normalised array, and mean and variance with length one along `axis`."""
        cupy = self._cupy
        sizes = _around_channels(x, axis)
        if sizes is None or not all(t is None or (t.size == sizes[1] and t.dtype == x.dtype) for t in (weight, bias)):
            mean, variance, centered = self._moments(x, axis)
            scale = 1.0 / cupy.sqrt(variance + eps)
            return _affine(centered, scale if weight is None else scale * weight, bias), mean, variance
        outer, channels, inner = sizes
        x, weight, bias = (None if t is None else cupy.ascontiguousarray(t) for t in (x, weight, bias))
        shape = _kept(x.shape, axis)
        y, mean, variance = cupy.empty_like(x), cupy.empty(shape, dtype=x.dtype), cupy.empty(shape, dtype=x.dtype)
        args = x, _or_null(weight), _or_null(bias), y, mean, variance, integer(outer), integer(inner), double(eps)
        self._kernels.launch("normalization", "fw_batch_norm", name_of(x), channels, *args)
        return y, mean, variance

    def batch_norm_grad(
        self, g: Array, x: Array, mean: Array, inverse: Array, weight: Array | None, axis: tuple[int, ...]
    ) -> tuple[Array, Array, Array]:
        """Gradients with respect to x, weight and bias."""
        cupy = self._cupy
        sizes = _around_channels(x, axis)
        fits = sizes is not None and g.shape == x.shape and g.dtype == x.dtype
        if not fits or not (weight is None or (weight.size == sizes[1] and weight.dtype == x.dtype)):  # type: ignore[index]
            return kernels.batch_norm_grad(cupy, g, x, mean, inverse, weight, axis)
        outer, channels, inner = sizes  # type: ignore[misc]
        g, x, mean, inverse = (cupy.ascontiguousarray(t) for t in (g, x, mean, inverse))
        weight = None if weight is None else cupy.ascontiguousarray(weight)
        gx, gw, gb = cupy.empty_like(x), cupy.empty_like(mean), cupy.empty_like(mean)
        args = g, x, mean, inverse, _or_null(weight), gx, gw, gb, integer(outer), integer(inner)
        self._kernels.launch("normalization", "fw_batch_norm_grad", name_of(x), channels, *args)
        return gx, gw, gb

    def _moments(self, x: Array, axis: tuple[int, ...]) -> tuple[Array, Array, Array]:
        n = _elements(x, axis)
        mean = x.sum(axis=axis, keepdims=True) / n
        centered = x - mean
        return mean, (centered * centered).sum(axis=axis, keepdims=True) / n, centered


def _or_null(x: Array | None) -> Any:
    return NULL if x is None else x


def _affine(normal: Array, weight: Array | None, bias: Array | None) -> Array:
    normal = normal if weight is None else normal * weight
    return normal if bias is None else normal + bias


def _elements(x: Array, axis: tuple[int, ...]) -> int:
    """The elements that make one mean; 1 where there are none."""
    return count(tuple([x.shape[a] for a in axis])) or 1


def _kept(shape: tuple[int, ...], axis: tuple[int, ...]) -> tuple[int, ...]:
    """The shape with length one along `axis`."""
    return tuple([1 if i - len(shape) in axis else n for i, n in enumerate(shape)])


def _width(x: Array, axis: tuple[int, ...]) -> int:
    """The elements of a row, where `axis` are the last axes and kernels are there; else 0."""
    if not computes(x) or sorted(axis) != list(range(-len(axis), 0)):
        return 0
    return _elements(x, axis)


def _spans(t: Array | None, x: Array, width: int) -> bool:
    """Whether a weight has one number for each element of a row."""
    if t is None:
        return True
    lead = t.ndim - x.ndim
    ends = x.shape[-t.ndim :] if t.ndim else ()
    same_end = lead <= 0 and all(a in (b, 1) for a, b in zip(t.shape, ends))
    last = tuple([n for n in t.shape if n != 1]) == tuple([n for n in _last(x.shape, width) if n != 1])
    return same_end and t.size == width and last and t.dtype == x.dtype


def _last(shape: tuple[int, ...], width: int) -> tuple[int, ...]:
    """The last lengths of a shape, as many as make `width` elements."""
    found: list[int] = []
    for n in shape[::-1]:
        if count(tuple(found)) == width:
            break
        found.append(n)
    return tuple(found[::-1])


def _around_channels(x: Array, axis: tuple[int, ...]) -> tuple[int, int, int] | None:
    """The elements before, of and after the one axis that is not in `axis`; None where kernels do not do it."""
    left = [a for a in range(-x.ndim, 0) if a not in axis]
    if not computes(x) or not x.size or len(left) != 1:
        return None
    (a,) = left
    return count(x.shape[:a]), x.shape[a], count(x.shape[a + 1 :] if a != -1 else ())
