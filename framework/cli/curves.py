"""Curves for people: as a line of text, and as a drawing."""

from __future__ import annotations

import math
from collections.abc import Sequence

Points = Sequence[tuple[float, float]]

BARS = "▁▂▃▄▅▆▇█"
MOST = 400
"""Points of a curve that are drawn."""
LOG_RANGE = 50.0
"""Values that span more than this factor are drawn on a logarithmic axis."""


def sparkline(points: Points, width: int = 24) -> str:
    """A curve in one line of text, low to high (by the logarithm, where values span much); `·` where nothing is finite.

    Examples:
        >>> sparkline([(step, step) for step in range(8)], width=8)
        '▁▂▃▄▅▆▇█'
        >>> sparkline([(0, 1.0), (1, float("nan")), (2, 1.0)])
        '▄·▄'
    """
    buckets = _buckets([value for _, value in points], width)
    means = [sum(found) / len(found) if (found := [v for v in b if math.isfinite(v)]) else None for b in buckets]
    finite = [mean for mean in means if mean is not None]
    if not finite:
        return "·" * len(means)
    if wants_log(finite):
        means = [None if mean is None else math.log(mean) for mean in means]
        finite = [mean for mean in means if mean is not None]
    low, span = min(finite), max(finite) - min(finite)
    top = len(BARS) - 1
    return "".join(
        "·" if mean is None else BARS[round((mean - low) / span * top) if span > 0 else top // 2] for mean in means
    )


def _buckets(values: Sequence[float], count: int) -> list[Sequence[float]]:
    """The values in order, in at most `count` parts of nearly equal length."""
    count = min(count, len(values))
    return [values[len(values) * i // count : len(values) * (i + 1) // count] for i in range(count)]


def thinned(points: Points, most: int = MOST) -> list[tuple[float, float]]:
    """At most about `most` points: of each part of the curve its first, its lowest and its highest.

    Examples:
        >>> len(thinned([(step, step % 7) for step in range(10_000)])) <= 400
        True
    """
    if len(points) <= most:
        return list(points)
    kept: list[tuple[float, float]] = []
    parts = most // 3
    for i in range(parts):
        part = list(enumerate(points[len(points) * i // parts : len(points) * (i + 1) // parts]))
        finite = [item for item in part if math.isfinite(item[1][1])] or part
        chosen = {part[0][0], *(pick(finite, key=lambda item: item[1][1])[0] for pick in (min, max))}
        kept += [point for index, point in part if index in chosen]
    kept[-1] = points[-1]
    return kept


def wants_log(values: Sequence[float]) -> bool:
    """Whether values are better drawn on a logarithmic axis."""
    return bool(values) and min(values) > 0 and max(values) / min(values) >= LOG_RANGE


def ticks(low: float, high: float, count: int = 5) -> list[float]:
    """Round numbers between two values, about `count` of them.

    Examples:
        >>> ticks(0.0, 1.0), ticks(3, 97)
        ([0.0, 0.2, 0.4, 0.6, 0.8, 1.0], [20.0, 40.0, 60.0, 80.0])
    """
    if not low < high:
        return [low]
    raw = (high - low) / count
    scale = 10.0 ** math.floor(math.log10(raw))
    step = next(factor * scale for factor in (1, 2, 5, 10) if factor * scale >= raw * 0.999)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{index * step:.10g}") for index in range(first, last + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """The powers of ten between two positive values, every so many of them; two values at least."""
    first, last = math.ceil(math.log10(low) - 1e-9), math.floor(math.log10(high) + 1e-9)
    found = [10.0**power for power in range(first, last + 1, max(1, (last - first) // 5))]
    return found if len(found) > 1 else [low, high]


def short(value: float) -> str:
    """A number in few characters.

    Examples:
        >>> short(0.98123), short(12000.0), short(1e-7), short(float("nan"))
        ('0.9812', '12000', '1e-07', 'nan')
    """
    return f"{value:.4g}" if not value.is_integer() or abs(value) >= 1e6 else f"{value:.0f}"
