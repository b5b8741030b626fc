"""Transforms of a whole batch at a time.

Images are (n, h, w) or (n, c, h, w), channels first, as convolutions take them; the transforms of images take
(n, h, w, c) with `channels_last=True`. Dtypes are kept (uint8 in, uint8 out), except by `Normalize`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.errors import ConfigError, ShapeError

if TYPE_CHECKING:
    from framework.data.imagetransforms import RandomAffine as RandomAffine
    from framework.data.imagetransforms import RandomCrop as RandomCrop
    from framework.data.imagetransforms import RandomHorizontalFlip as RandomHorizontalFlip

Array = np.ndarray[Any, np.dtype[Any]]

# Rows are converted and scaled in pieces that stay in a core's second-level cache.
_PIECE = 128 * 1024


class Normalize:
    """`(x * scale - mean) / std`, in float32 (float64 data stays float64), never in place.

    It is data, not code: computed as `x * factor + offset` (see `affine`), so that it can run with the
    same rounding wherever the batch lives.

    Args:
        mean: a number, or a list with one for each channel (axis 1 of the batch).
        std: likewise; not zero.
        scale: applied first; left out, 1/255 for uint8 data and 1 for any other.

    Raises:
        ConfigError: `std` holds a zero, or a value is not finite.
        ShapeError: `mean` and `std` differ in length, or do not fit the batch's channels.

    Examples:
        >>> Normalize(0.5, 0.5)(np.array([[0, 255]], np.uint8))
        array([[-1.,  1.]], dtype=float32)
    """

    def __init__(self, mean: float | Sequence[float], std: float | Sequence[float], scale: float | None = None) -> None:
        self._given = mean, std, scale
        self._mean = _values("mean", mean)
        self._std = _values("std", std)
        if scale is not None:
            _values("scale", scale)
        if not self._std.all():
            raise ConfigError(f"Normalize: std must not be zero, got {std}")
        if self._mean.size != self._std.size and 1 not in (self._mean.size, self._std.size):
            raise ShapeError(f"Normalize: got {self._mean.size} values of mean, but {self._std.size} of std")
        self._affine: dict[Any, tuple[Array, Array]] = {}

    @property
    def mean(self) -> Any:
        """The mean, as given."""
        return self._given[0]

    @property
    def std(self) -> Any:
        """The standard deviation, as given."""
        return self._given[1]

    @property
    def scale(self) -> float | None:
        """The scale, as given; None means by dtype."""
        return self._given[2]

    def affine(self, dtype: Any) -> tuple[Array, Array]:
        """`(factor, offset)` for data of this dtype, in the result's dtype: 0-d, or one for each channel."""
        dtype = np.dtype(dtype)
        found = self._affine.get(dtype)
        if found is None:
            scale = self.scale if self.scale is not None else 1 / 255 if dtype == np.uint8 else 1.0
            result = np.float64 if dtype == np.float64 else np.float32
            found = np.asarray(scale / self._std, result), np.asarray(-self._mean / self._std, result)
            self._affine[dtype] = found
        return found

    def __call__(self, x: Array, out: Array | None = None) -> Array:
        """A normalized copy of a batch (n, …): in `out`, a C-contiguous array, or else a new one."""
        if x.dtype.kind == "c":
            raise ConfigError(f"Normalize: data must be real, got {x.dtype}")
        factor, offset = self.affine(x.dtype)
        if factor.ndim or offset.ndim:
            factor, offset = self._fit(factor, x), self._fit(offset, x)
        if out is None:
            out = np.empty(x.shape, factor.dtype)
        if x.size <= _PIECE:
            return self._apply(x, out, factor, offset)
        rows = max(1, _PIECE * len(x) // x.size)
        for start in range(0, len(x), rows):
            self._apply(x[start : start + rows], out[start : start + rows], factor, offset)
        return out

    @staticmethod
    def _apply(x: Array, out: Array, factor: Array, offset: Array) -> Array:
        # Converting first, then scaling in place, is faster than an operation that converts as it goes.
        out[...] = x
        out *= factor
        out += offset
        return out

    def _fit(self, value: Array, x: Array) -> Array:
        """A value for each channel, shaped to broadcast along axis 1 of the batch."""
        if value.ndim == 0:
            return value
        channels = x.shape[1] if x.ndim > 1 else None
        if value.size not in (1, channels):
            raise ShapeError(
                f"Normalize: got {value.size} values of mean or std for a batch of shape {x.shape}, whose axis 1 "
                f"should be the channels; give one value, or {channels if channels is not None else 'a 2-D batch'}"
            )
        return value.reshape(-1, *(1,) * max(0, x.ndim - 2))

    def __repr__(self) -> str:
        scale = "" if self.scale is None else f", scale={self.scale!r}"
        return f"Normalize({self.mean!r}, {self.std!r}{scale})"


class Compose:
    """Transforms one after the other.

    Examples:
        >>> Compose([Normalize(0.0, 1.0, scale=2.0), np.abs])(np.array([[-1.0]], np.float32))
        array([[2.]], dtype=float32)
    """

    def __init__(self, transforms: Sequence[Callable[[Any], Any]]) -> None:
        for k, transform in enumerate(transforms):
            if not callable(transform):
                raise ConfigError(f"Compose: transform {k} must be callable, got {type(transform).__name__}")
        self.transforms = list(transforms)

    def __call__(self, x: Any) -> Any:
        """The batch after every transform."""
        for transform in self.transforms:
            x = transform(x)
        return x

    def __repr__(self) -> str:
        return f"Compose({self.transforms!r})"


def only_normalizes(transform: Any) -> bool:
    """Whether a transform is Normalizes and nothing else: cheap, and never writes to its input."""
    if type(transform) is Compose:
        return bool(transform.transforms) and all(only_normalizes(t) for t in transform.transforms)
    return type(transform) is Normalize


def _values(name: str, value: Any) -> Array:
    try:
        array = np.asarray(value, np.float64)
    except (TypeError, ValueError):
        raise ConfigError(f"Normalize: {name} must be a number or a list of numbers, got {value!r}") from None
    if array.ndim > 1 or not np.isfinite(array).all():
        raise ConfigError(f"Normalize: {name} must be a finite number or a flat list of them, got {value!r}")
    return array


_LATER = ("RandomAffine", "RandomCrop", "RandomHorizontalFlip")
"""Names whose module is imported when they are first asked for."""


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'framework.data.transforms' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module("framework.data.imagetransforms"), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
