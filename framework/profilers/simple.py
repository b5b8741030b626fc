"""How often each action ran, and how long it took."""

from __future__ import annotations

import time
from pathlib import Path

from framework.profilers.profiler import Profiler


class SimpleProfiler(Profiler):
    """Measures the wall time of each action and tells it in a table, the longest first.

    Actions lie within each other, so that the shares add up to more than a whole. On a device that
    works beside the host, times are those of handing work over, not of doing it.

    Args:
        dirpath: folder of the report; default the run's.
        filename: the report goes to `<dirpath>/<stage>-<filename>.txt`; without a name it is printed.
        extended: also tell the number of calls and the share of the whole.

    Examples:
        >>> profiler = SimpleProfiler()
        >>> for _ in range(3):
        ...     with profiler.profile("load"):
        ...         pass
        >>> print(profiler.summary().splitlines()[3].split("|")[1].strip())
        load
    """

    def __init__(self, dirpath: str | Path | None = None, filename: str | None = None, extended: bool = True) -> None:
        super().__init__(dirpath, filename)
        self.extended = extended
        self.reset()

    def reset(self) -> None:
        """Forget what was measured."""
        self._calls: dict[str, int] = {}
        self._seconds: dict[str, float] = {}
        self._open: dict[str, list[float]] = {}
        self._began = time.perf_counter()

    def start(self, action_name: str) -> None:
        """Note the time."""
        self._open.setdefault(action_name, []).append(time.perf_counter())

    def stop(self, action_name: str) -> None:
        """Add the time since the start."""
        began = self._open.get(action_name)
        if began:
            took = time.perf_counter() - began.pop()
            self._calls[action_name] = self._calls.get(action_name, 0) + 1
            self._seconds[action_name] = self._seconds.get(action_name, 0.0) + took

    def end_all(self) -> None:
        """Stop every action that is still open."""
        for name, began in self._open.items():
            while began:
                self.stop(name)

    def calls(self, action_name: str) -> int:
        """How often an action has ended."""
        return self._calls.get(action_name, 0)

    def seconds(self, action_name: str) -> float:
        """How long an action took, all calls together."""
        return self._seconds.get(action_name, 0.0)

    def summary(self) -> str:
        """The table; empty where nothing was measured."""
        if not self._calls:
            return ""
        whole = max(time.perf_counter() - self._began, 1e-12)
        rows = [["Action", "Mean duration (s)", "Num calls", "Total time (s)", "Percentage %"]]
        rows.append(["Total", "-", str(sum(self._calls.values())), f"{whole:.5g}", "100"])
        for name in sorted(self._seconds, key=self._seconds.__getitem__, reverse=True):
            total, calls = self._seconds[name], self._calls[name]
            rows.append([name, f"{total / calls:.5g}", str(calls), f"{total:.5g}", f"{100 * total / whole:.5g}"])
        if not self.extended:
            rows = [[row[0], row[1], row[3]] for row in rows]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        first, *others = widths
        lines = [f"| {row[0]:<{first}} | {' | '.join(map(str.rjust, row[1:], others))} |" for row in rows]
        return "\n".join([f"{self.stage.upper()} Profiler Report".strip(), *lines])
