"""The child's side: builds one contender and works when it is told to.

    python -P -m benchmarks.worker MODULE:FUNCTION SETTINGS

A line of JSON comes in on standard input for each turn; a line goes out on what was standard output. A
contender is a function of its settings and a case that gives `Work`; one that drives itself (a training
run with its own loop) is given the `Turns` and reports by `Turns.report`.
"""

from __future__ import annotations

import ctypes
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

GROUPS = 5
WARM = 10e-3  # seconds of work before the clock starts, to wake caches and threads


class UnavailableError(Exception):
    """The contender cannot run here, for the reason that the message gives."""


@dataclass(frozen=True, slots=True)
class Work:
    """What a contender does in a round.

    Args:
        once: the work, as often as it is asked for.
        check: numbers by which the parent sees that all contenders compute the same; before any other call.
        warm: whether to run it a little before the clock starts.
        scale: into how many pieces `once` is to be divided, such as the steps of an epoch.
        reports_itself: `once` gives the figure; the clock is not looked at.
    """

    once: Callable[[], Any]
    check: Callable[[], list[float]] | None = None
    warm: bool = True
    scale: int = 1
    reports_itself: bool = False


class Turns:
    """The conversation with the parent."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", buffering=1)
        os.dup2(2, 1)  # whatever a library prints goes to the log

    def wait(self) -> dict[str, Any]:
        """The next order; ends the process where there is none."""
        line = sys.stdin.readline()
        if not line or line == "stop\n":
            sys.stderr.flush()
            os._exit(0)  # a training run is left in its middle, with threads and loggers
        return json.loads(line)  # type: ignore[no-any-return]

    def report(self, **answer: Any) -> None:
        """Answer the order."""
        self._out.write(json.dumps(answer) + "\n")


def seconds(work: Work, count: int) -> float:
    """The time of one piece: `count` calls in five groups, the median of the groups' means.

    Where another process takes the processor for a while, a group or two are slow, not the turn.
    """
    once, clock = work.once, time.perf_counter
    if work.reports_itself:
        return sum(once() for _ in range(count)) / (count * work.scale)
    if work.warm:
        end = clock() + WARM
        once()
        while clock() < end:
            once()
    groups = min(count, GROUPS)
    means = []
    for calls in [count // groups + (k < count % groups) for k in range(groups)]:
        start = clock()
        for _ in range(calls):
            once()
        means.append((clock() - start) / calls)
    return sorted(means)[groups // 2] / work.scale


def serve(make: Callable[..., Work], settings: dict[str, Any], turns: Turns) -> None:
    """Work in turns, each in the case that the parent names."""
    made: dict[str, Work] = {}
    while True:
        order = turns.wait()
        key = json.dumps(order["case"], sort_keys=True)
        try:
            if key not in made:
                made[key] = make(**settings, **order["case"])
            if order["do"] == "check":
                check = made[key].check
                turns.report(check=None if check is None else [float(v) for v in check()])
            else:
                turns.report(seconds=seconds(made[key], order["count"]))
        except UnavailableError as reason:
            turns.report(unavailable=str(reason))


def end_with_parent() -> None:
    """On Linux: a process that is stopped would outlive a parent that was killed."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def main() -> None:
    """Import the contender, say that it is there, work."""
    end_with_parent()
    turns = Turns()
    place, settings = sys.argv[1], json.loads(sys.argv[2])
    module, _, name = place.partition(":")
    try:
        make = getattr(importlib.import_module(module), name)
    except UnavailableError as reason:
        turns.report(unavailable=str(reason))
        return
    turns.report(ready=True)
    if getattr(make, "drives_itself", False):
        try:
            make(turns, **settings)
        except UnavailableError as reason:
            turns.wait()
            turns.report(unavailable=str(reason))
    else:
        serve(make, settings, turns)


if __name__ == "__main__":
    importlib.import_module("benchmarks.worker").main()  # so that there is one `UnavailableError` only
