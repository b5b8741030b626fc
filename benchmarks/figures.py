"""Medians, quartiles, ratios and exponents; plain Python, so that the measuring process stays small."""

from __future__ import annotations

import math
from collections.abc import Sequence


def quantile(values: Sequence[float], q: float) -> float:
    """The `q`-quantile, linear between the two nearest values.

    Examples:
        >>> quantile([4.0, 1.0, 3.0, 2.0], 0.5)
        2.5
    """
    ordered = sorted(values)
    place = q * (len(ordered) - 1)
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def median(values: Sequence[float]) -> float:
    """The middle value."""
    return quantile(values, 0.5)


def ratios(above: Sequence[float], below: Sequence[float]) -> list[float]:
    """Round by round."""
    return [a / b for a, b in zip(above, below, strict=True)]


def faster(*several: Sequence[float]) -> list[float]:
    """The contender with the smaller median, as it is: a minimum per round would favour whoever is noisier."""
    return list(min(several, key=median))


def exponent(sizes: Sequence[float], costs: Sequence[float]) -> float:
    """The slope of log(cost) over log(size), by least squares.

    Examples:
        >>> round(exponent([1, 2, 4, 8], [3, 12, 48, 192]), 6)
        2.0
    """
    xs, ys = [math.log(s) for s in sizes], [math.log(c) for c in costs]
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    spread = sum((x - x_mean) ** 2 for x in xs)
    return sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys)) / spread
