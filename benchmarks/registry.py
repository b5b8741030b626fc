"""Rows: their registry, what they measure, and the bars that they are held against."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import figures


@dataclass(frozen=True, slots=True)
class Bar:
    """What a figure is to reach: at most `limit` (or at least), and what is aimed at beyond it."""

    limit: float | None = None
    aim: float | None = None
    at_least: bool = False

    def holds(self, value: float) -> bool | None:
        """Whether the figure meets the limit; None where there is none."""
        if self.limit is None:
            return None
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        sign = "≥" if self.at_least else "≤"
        parts = [] if self.limit is None else [f"{sign} {self.limit:g}"]
        if self.aim is not None:
            parts.append(f"aim {self.aim:g}" if parts else f"aim {sign} {self.aim:g}")
        return ", ".join(parts)


@dataclass(slots=True)
class Result:
    """One measured figure, or the reason why there is none."""

    row: str
    what: str
    """What is compared, such as "compiled ÷ by hand"."""
    case: str = ""
    """In which circumstances, such as "batch 128, 1 thread"."""
    values: Sequence[float] = ()
    """A value for each round."""
    unit: str = "ratio"
    bar: Bar | None = None
    detail: dict[str, Any] = field(default_factory=dict)
    """Figures beside: by contender, the median in the row's own unit."""
    skipped: str = ""
    """Why it was not measured."""

    def to_json(self) -> dict[str, Any]:
        """What is written to a file."""
        told: dict[str, Any] = {"row": self.row, "what": self.what, "case": self.case, "unit": self.unit}
        if self.bar is not None:
            told["bar"] = {"limit": self.bar.limit, "aim": self.bar.aim, "at_least": self.bar.at_least}
        if self.skipped or not self.values:
            return told | {"skipped": self.skipped or "no value"}
        middle = figures.median(self.values)
        told |= {
            "median": middle,
            "quartiles": [figures.quantile(self.values, 0.25), figures.quantile(self.values, 0.75)],
            "rounds": len(self.values),
            "holds": None if self.bar is None else self.bar.holds(middle),
        }
        return told | ({"detail": self.detail} if self.detail else {})


@dataclass(frozen=True, slots=True)
class Settings:
    """How to measure.

    Args:
        rounds: of every row; None is as many as the row thinks right, at least 15.
        threads: the numbers of BLAS threads to measure with.
        quick: few rounds and small sizes, to see that everything runs.
        data: a folder with MNIST, or None.
        scratch: a folder that is emptied afterwards.
    """

    rounds: int | None
    threads: tuple[int, ...]
    quick: bool
    data: Path | None
    scratch: Path

    def rounds_or(self, default: int) -> int:
        """The number of rounds of a row."""
        return self.rounds if self.rounds is not None else 3 if self.quick else default

    @property
    def most_threads(self) -> int:
        """For rows that are measured with one number of threads only."""
        return max(self.threads)


Measure = Callable[[Settings], Iterator[Result]]


@dataclass(frozen=True, slots=True)
class Row:
    """A name of `fw bench`, and what it measures."""

    name: str
    purpose: str
    measure: Measure
    minutes: float
    """About how long it takes on two cores."""
    notes: str
    """What a reader has to know to trust the comparison."""


ROWS: dict[str, Row] = {}


def row(name: str, purpose: str, *, minutes: float, notes: str) -> Callable[[Measure], Measure]:
    """Register the decorated function, which yields results."""

    def register(measure: Measure) -> Measure:
        ROWS[name] = Row(name, purpose, measure, minutes, " ".join(notes.split()))
        return measure

    return register
