"""Contenders on a device that take turns, and the table of what they took."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from benchmarks import figures


class Place(NamedTuple):
    """Where is measured, and how much."""

    backend: str
    device: str
    """What PyTorch calls it."""
    scale: int
    """By how much sizes are divided; 1 on a GPU."""
    has_gpu: bool
    """Whether it is a GPU."""


class Contender(NamedTuple):
    """Somebody who takes a turn: `run(n)` does n steps and waits for them; it may return how long they took."""

    name: str
    run: Callable[[int], float | None]


class Row(NamedTuple):
    """What is compared: seconds a step of the first contender, against those of the others."""

    name: str
    steps: int
    contenders: Callable[[Place], Iterator[Contender]]


class Clock:
    """Takes the time at the end of each epoch; the first one, with all that is made in it, does not count."""

    def __init__(self, wait: Callable[[], Any]) -> None:
        self._wait = wait
        self._ends: list[float] = []

    def end_epoch(self) -> None:
        """An epoch has ended."""
        self._wait()
        self._ends.append(time.perf_counter())

    def seconds(self) -> float:
        """The time of all epochs but the first."""
        return self._ends[-1] - self._ends[0]


def measured(row: Row, place: Place, rounds: int) -> list[tuple[str, list[float]]]:
    """Seconds a step, by contender, a value for each round."""
    found = [(contender, []) for contender in row.contenders(place)]  # type: ignore[var-annotated]
    steps = max(1, row.steps // place.scale)
    for contender, _ in found:
        contender.run(min(steps, 5))  # compiles, chooses, records
    for turn in range(rounds):
        for contender, values in found if turn % 2 else found[::-1]:
            start = time.perf_counter()
            own = contender.run(steps)
            values.append((time.perf_counter() - start if own is None else own) / steps)
    return [(contender.name, values) for contender, values in found]


def lines(row: Row, found: list[tuple[str, list[float]]]) -> Iterator[str]:
    """Rows of a table: contender, median, quartiles, and how many times ours it takes."""
    ours = figures.median(found[0][1])
    for name, values in found:
        middle, low, high = figures.median(values), figures.quantile(values, 0.25), figures.quantile(values, 0.75)
        spread = f"{low * 1e6:,.1f} to {high * 1e6:,.1f}"
        yield f"| {row.name} | {name} | {middle * 1e6:,.1f} | {spread} | {middle / ours:.2f} |"
