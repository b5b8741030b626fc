"""Random transforms of whole batches of images: the same for a sample whatever it is read with."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from framework.data.reading import uniform
from framework.errors import ConfigError, ShapeError

Array = np.ndarray[Any, np.dtype[Any]]

_MODES = {"constant": "constant", "edge": "edge", "reflect": "reflect", "symmetric": "symmetric"}


class _ImageTransform:
    """A batch of images in, one out, in the same layout and dtype; never in place."""

    _channels_last: bool

    def __init__(self, channels_last: bool) -> None:
        self._channels_last = channels_last

    def __call__(self, x: Array) -> Array:
        """A transformed copy of a batch: (n, h, w), (n, c, h, w), or (n, h, w, c) with `channels_last`."""
        if x.ndim not in (3, 4) or (x.ndim == 3 and self._channels_last):
            layout = "(n, h, w, c)" if self._channels_last else "(n, h, w) or (n, c, h, w)"
            raise ShapeError(
                f"{type(self).__name__}: a batch of images has shape {layout}, got {x.shape}. "
                "Channels in the last axis: channels_last=True"
            )
        images = x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2) if self._channels_last else x
        out = self._apply(images)
        out = out[:, 0] if x.ndim == 3 else out.transpose(0, 2, 3, 1) if self._channels_last else out
        return np.ascontiguousarray(out)

    def _apply(self, x: Array) -> Array:
        """The result for a batch (n, c, h, w)."""
        raise NotImplementedError


class RandomCrop(_ImageTransform):
    """A window at a random place of each image, after padding.

    Args:
        size: (height, width) of the window, or one number for both.
        padding: pixels to add first: on all sides, (left and right, top and bottom), or (left, top, right, bottom).
        pad_if_needed: add what an image lacks to the window's size, on both sides.
        fill: value of added pixels, for the padding mode "constant".
        padding_mode: "constant", "edge" (the last pixel again), "reflect" (mirrored at the last pixel), or
            "symmetric" (mirrored behind it).
        channels_last: whether a batch is (n, h, w, c); else (n, h, w) or (n, c, h, w).

    Raises:
        ConfigError: an argument is wrong.
        ShapeError: images are smaller than the window.

    Examples:
        >>> RandomCrop(28, padding=2)(np.zeros((4, 28, 28), np.uint8)).shape
        (4, 28, 28)
    """

    def __init__(
        self,
        size: int | Sequence[int],
        padding: int | Sequence[int] | None = None,
        pad_if_needed: bool = False,
        fill: float = 0,
        padding_mode: str = "constant",
        *,
        channels_last: bool = False,
    ) -> None:
        super().__init__(channels_last)
        self.size = _pair("RandomCrop: size", size, lowest=1)
        self.padding = _sides(padding)
        self.pad_if_needed = pad_if_needed
        self.fill = fill
        if padding_mode not in _MODES:
            raise ConfigError(f"RandomCrop: padding_mode is one of {', '.join(_MODES)}, got {padding_mode!r}")
        self.padding_mode = padding_mode

    def _apply(self, x: Array) -> Array:
        left, top, right, bottom = self.padding
        x = self._padded(x, (top, bottom), (left, right))
        h, w = self.size
        if self.pad_if_needed:
            more_h, more_w = max(h - x.shape[2], 0), max(w - x.shape[3], 0)
            x = self._padded(x, (more_h, more_h), (more_w, more_w))
        free_h, free_w = x.shape[2] - h, x.shape[3] - w
        if free_h < 0 or free_w < 0:
            raise ShapeError(
                f"RandomCrop: images of {x.shape[2]} × {x.shape[3]} pixels (padded) have no window of {h} × {w}; "
                "give a padding, or pad_if_needed=True"
            )
        place = uniform(len(x), 2)
        tops = (place[:, 0] * (free_h + 1)).astype(np.int64)
        lefts = (place[:, 1] * (free_w + 1)).astype(np.int64)
        windows = np.lib.stride_tricks.sliding_window_view(x, (h, w), axis=(2, 3))
        return windows[np.arange(len(x)), :, tops, lefts]

    def _padded(self, x: Array, rows: tuple[int, int], columns: tuple[int, int]) -> Array:
        if not any((*rows, *columns)):
            return x
        sides = ((0, 0), (0, 0), rows, columns)
        if self.padding_mode == "constant":
            return np.pad(x, sides, constant_values=_filling(self.fill, x.dtype, "RandomCrop"))
        return np.pad(x, sides, mode=self.padding_mode)  # type: ignore[call-overload]

    def __repr__(self) -> str:
        return f"RandomCrop({self.size}, padding={self.padding})"


class RandomHorizontalFlip(_ImageTransform):
    """Each image mirrored, left to right, with probability `p`.

    Args:
        p: from 0 to 1.
        channels_last: whether a batch is (n, h, w, c); else (n, h, w) or (n, c, h, w).

    Examples:
        >>> RandomHorizontalFlip(p=1.0)(np.array([[[1, 2, 3]]])).tolist()
        [[[3, 2, 1]]]
    """

    def __init__(self, p: float = 0.5, *, channels_last: bool = False) -> None:
        super().__init__(channels_last)
        if isinstance(p, bool) or not isinstance(p, int | float) or not 0 <= p <= 1:
            raise ConfigError(f"RandomHorizontalFlip: a probability is from 0 to 1, got {p!r}")
        self.p = float(p)

    def _apply(self, x: Array) -> Array:
        flipped = uniform(len(x), 1)[:, 0] < self.p
        out = x.copy()
        out[flipped] = x[flipped][..., ::-1]
        return out

    def __repr__(self) -> str:
        return f"RandomHorizontalFlip({self.p})"


class RandomAffine(_ImageTransform):
    """Each image rotated, moved, scaled and sheared at random, about its centre.

    Args:
        degrees: rotates by an angle of (lowest, highest); a number is (−degrees, degrees). Positive is clockwise.
        translate: moves by up to these parts of (width, height), to either side, whole pixels.
        scale: enlarges by a factor of (lowest, highest).
        shear: shears along x by an angle, in degrees, of (lowest, highest), or a number; four numbers are the
            ranges along x and along y.
        interpolation: "nearest", or "bilinear" (integers are rounded).
        fill: value of pixels from outside the image.
        center: (x, y) of the fixed point in pixels from the upper left corner; the image's centre, if left out.
        channels_last: whether a batch is (n, h, w, c); else (n, h, w) or (n, c, h, w).

    Raises:
        ConfigError: an argument is wrong.

    Examples:
        >>> RandomAffine(10, translate=(0.1, 0.1))(np.ones((2, 28, 28), np.uint8)).shape
        (2, 28, 28)
    """

    def __init__(
        self,
        degrees: float | Sequence[float],
        translate: Sequence[float] | None = None,
        scale: Sequence[float] | None = None,
        shear: float | Sequence[float] | None = None,
        interpolation: str = "nearest",
        fill: float = 0,
        center: Sequence[float] | None = None,
        *,
        channels_last: bool = False,
    ) -> None:
        super().__init__(channels_last)
        self.degrees = _span("degrees", degrees)
        self.translate = None if translate is None else _numbers("translate", translate, 2)
        if self.translate is not None and not all(0 <= part <= 1 for part in self.translate):
            raise ConfigError(f"RandomAffine: translate holds parts of the image, from 0 to 1, got {translate!r}")
        self.scale = (1.0, 1.0) if scale is None else _numbers("scale", scale, 2)
        if not 0 < self.scale[0] <= self.scale[1]:
            raise ConfigError(f"RandomAffine: scale is (lowest, highest), both above zero, got {scale!r}")
        self.shear = _shears(shear)
        if interpolation not in ("nearest", "bilinear"):
            raise ConfigError(f"RandomAffine: interpolation is 'nearest' or 'bilinear', got {interpolation!r}")
        self.interpolation = interpolation
        self.fill = fill
        self.center = None if center is None else _numbers("center", center, 2)

    def _apply(self, x: Array) -> Array:
        n, _, h, w = x.shape
        u = uniform(n, 6)
        angle = _between(u[:, 0], self.degrees)
        moves = np.zeros((n, 2))
        if self.translate is not None:
            reach = np.array([self.translate[0] * w, self.translate[1] * h])
            moves = np.rint((2 * u[:, 1:3] - 1) * reach)
        scale = _between(u[:, 3], self.scale)
        shear = np.stack([_between(u[:, 4], self.shear[:2]), _between(u[:, 5], self.shear[2:])], axis=1)
        middle = (w - 1) / 2, (h - 1) / 2
        center = middle if self.center is None else (self.center[0] - 0.5, self.center[1] - 0.5)
        return warp(x, inverse_affine(angle, moves, scale, shear, center), self.interpolation, self.fill)

    def __repr__(self) -> str:
        return (
            f"RandomAffine({self.degrees}, translate={self.translate}, scale={self.scale}, shear={self.shear}, "
            f"interpolation={self.interpolation!r})"
        )


def inverse_affine(angle: Array, moves: Array, scale: Array, shear: Array, center: tuple[float, float]) -> Array:
    """Where each pixel of the result comes from: (n, 2, 3), applied to (x, y, 1).

    The forward map is: to the centre, shear along y then x, rotate, scale, back from the centre, move.
    """
    rotation, along_x, along_y = np.radians(angle), np.radians(shear[:, 0]), np.radians(shear[:, 1])
    a = np.cos(rotation - along_y) / np.cos(along_y)
    b = -np.cos(rotation - along_y) * np.tan(along_x) / np.cos(along_y) - np.sin(rotation)
    c = np.sin(rotation - along_y) / np.cos(along_y)
    d = -np.sin(rotation - along_y) * np.tan(along_x) / np.cos(along_y) + np.cos(rotation)
    matrix = np.stack([np.stack([d, -b], 1), np.stack([-c, a], 1)], 1) / scale[:, None, None]
    offset = np.array(center) - np.einsum("nij,nj->ni", matrix, np.array(center) + moves)
    return np.concatenate([matrix, offset[:, :, None]], axis=2)


def warp(x: Array, matrices: Array, interpolation: str, fill: float) -> Array:
    """Images (n, c, h, w), each pixel taken from where its image's matrix (2, 3) says."""
    n, c, h, w = x.shape
    value = _filling(fill, x.dtype, "RandomAffine")
    columns, rows = np.arange(w), np.arange(h)[:, None]
    m = matrices[:, :, :, None, None]
    source_x = m[:, 0, 0] * columns + m[:, 0, 1] * rows + m[:, 0, 2]
    source_y = m[:, 1, 0] * columns + m[:, 1, 1] * rows + m[:, 1, 2]
    flat = np.ascontiguousarray(x).reshape(n, c, h * w)
    if interpolation == "nearest":
        return _taken(flat, np.rint(source_x), np.rint(source_y), (h, w), value)
    left, top = np.floor(source_x), np.floor(source_y)
    part_x, part_y = source_x - left, source_y - top
    out = np.zeros((n, c, h, w))
    for dx, weight_x in ((0, 1 - part_x), (1, part_x)):
        for dy, weight_y in ((0, 1 - part_y), (1, part_y)):
            corner = _taken(flat, left + dx, top + dy, (h, w), value)
            out += corner * (weight_x * weight_y)[:, None]
    return (np.rint(out) if x.dtype.kind in "iub" else out).astype(x.dtype)


def _taken(flat: Array, xs: Array, ys: Array, size: tuple[int, int], fill: Any) -> Array:
    """Pixels (n, c, h, w) of images (n, c, pixels), at whole coordinates; `fill` outside."""
    h, w = size
    inside = (xs >= 0) & (xs < w) & (ys >= 0) & (ys < h)
    places = np.where(inside, ys * w + xs, 0).astype(np.int64).reshape(len(flat), 1, h * w)
    out = np.take_along_axis(flat, places, axis=2).reshape(*flat.shape[:2], h, w)
    return np.where(inside[:, None], out, fill)


def _filling(fill: float, dtype: np.dtype[Any], owner: str) -> Any:
    try:
        value = np.array(fill).astype(dtype)
        fits = value.shape == () and value == fill
    except (TypeError, ValueError):
        fits = False
    if not fits and dtype.kind in "iub":
        raise ConfigError(f"{owner}: fill={fill!r} is no value of {dtype} images")
    return value[()]


def _between(u: Array, span: Sequence[float]) -> Array:
    return span[0] + u * (span[1] - span[0])


def _span(name: str, value: Any) -> tuple[float, ...]:
    if isinstance(value, Sequence):
        low, high = _numbers(name, value, 2)
    else:
        (high,) = _numbers(name, (value,), 1)
        low = -high
    if low > high:
        raise ConfigError(f"RandomAffine: {name} is (lowest, highest) or a number that is not negative, got {value!r}")
    return low, high


def _shears(value: Any) -> tuple[float, ...]:
    if value is None:
        return (0.0,) * 4
    if isinstance(value, Sequence) and len(value) == 4:
        return (*_span("shear", value[:2]), *_span("shear", value[2:]))
    return (*_span("shear", value), 0.0, 0.0)


def _numbers(name: str, value: Any, count: int) -> tuple[float, ...]:
    given = tuple(value) if isinstance(value, Sequence) else ()
    if len(given) != count or not all(_is_number(v) for v in given):
        raise ConfigError(f"RandomAffine: {name} must be {count} finite number{'s' * (count > 1)}, got {value!r}")
    return tuple(float(v) for v in given)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _pair(name: str, value: Any, lowest: int) -> tuple[int, int]:
    given = tuple(value) if isinstance(value, Sequence) else (value, value)
    if len(given) != 2 or any(isinstance(v, bool) or not isinstance(v, int) or v < lowest for v in given):
        raise ConfigError(f"{name} must be a number of pixels, or two, got {value!r}")
    return given


def _sides(padding: Any) -> tuple[int, int, int, int]:
    """Left, top, right, bottom."""
    if padding is None:
        return 0, 0, 0, 0
    if isinstance(padding, Sequence) and len(padding) == 4:
        left, top = _pair("RandomCrop: padding", padding[:2], lowest=0)
        right, bottom = _pair("RandomCrop: padding", padding[2:], lowest=0)
        return left, top, right, bottom
    across, down = _pair("RandomCrop: padding", padding, lowest=0)
    return across, down, across, down
