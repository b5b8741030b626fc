"""As much of SVG as the plots need, so that drawing them needs no library."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

INK, FAINT, PAPER = "#1f2328", "#d0d7de", "#ffffff"
FONT = "font-family='Helvetica, Arial, sans-serif'"


class Canvas:
    """A picture that grows by one shape at a time; y runs downwards.

    Args:
        title: for those who cannot see it.
    """

    def __init__(self, width: float, height: float, title: str) -> None:
        self._head = (
            f"<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 {width:g} {height:g}' width='{width:g}' "
            f"height='{height:g}' role='img' {FONT}><title>{escape(title)}</title>"
            f"<rect width='{width:g}' height='{height:g}' fill='{PAPER}'/>"
        )
        self._shapes: list[str] = []

    def text(self, x: float, y: float, text: str, *, size: int = 12, anchor: str = "start", ink: str = INK) -> None:
        """Text whose base line begins, ends or has its middle (`anchor`) at (x, y)."""
        where = f"x='{x:.1f}' y='{y:.1f}' font-size='{size}' text-anchor='{anchor}'"
        self._shapes.append(f"<text {where} fill='{ink}'>{escape(text)}</text>")

    def line(self, points: Sequence[tuple[float, float]], ink: str, *, width: float = 1.0, dash: str = "") -> None:
        """A line through points."""
        dashes = f" stroke-dasharray='{dash}'" if dash else ""
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._shapes.append(f"<polyline points='{path}' fill='none' stroke='{ink}' stroke-width='{width:g}'{dashes}/>")

    def dot(self, x: float, y: float, ink: str, radius: float = 4.0) -> None:
        """A filled circle."""
        self._shapes.append(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='{radius:g}' fill='{ink}'/>")

    def box(self, x: float, y: float, width: float, height: float, ink: str) -> None:
        """A filled rectangle."""
        self._shapes.append(f"<rect x='{x:.1f}' y='{y:.1f}' width='{width:.1f}' height='{height:.1f}' fill='{ink}'/>")

    def __str__(self) -> str:
        return "\n".join([self._head, *self._shapes, "</svg>\n"])


class LogScale:
    """Positive numbers to places on a logarithmic axis."""

    def __init__(self, low: float, high: float, start: float, end: float) -> None:
        self.low, self.high = low, high
        self._start = start
        self._per_unit = (end - start) / math.log(high / low)

    def __call__(self, value: float) -> float:
        return self._start + math.log(value / self.low) * self._per_unit

    def ticks(self, steps: Sequence[float] = (1, 2, 5)) -> list[float]:
        """Round numbers within the scale.

        Examples:
            >>> LogScale(0.1, 2.0, 0, 1).ticks()
            [0.1, 0.2, 0.5, 1.0, 2.0]
        """
        exponents = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        found = [float(f"{step}e{e}") for e in exponents for step in steps]
        return [value for value in found if self.low * 0.999 <= value <= self.high * 1.001]
