"""`fw plugins check NAME`: the conformance kit on one backend, in a process of its own, as a readable table."""

from __future__ import annotations

import argparse
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from framework.backend import registry
from framework.cli import plugins
from framework.cli.report import DONE, FAILED
from framework.errors import ConfigError, did_you_mean

OUTCOMES = ("passed", "failed", "deviates", "skipped")
SHOWN = 20
"""How many failures are told apart; the others are counted."""


@dataclass
class Result:
    """What came of the kit: of each test the outcome and the reason, and how the process ended."""

    outcomes: dict[str, tuple[str, str]] = field(default_factory=dict)
    collected: int = 0
    running: str = ""
    ending: str = ""

    @property
    def sound(self) -> bool:
        """Whether everything that was to be run was run, and nothing failed."""
        return not self.ending and self.collected > 0 and not self.reasons("failed")

    def reasons(self, outcome: str) -> list[tuple[str, str]]:
        """The tests with this outcome, and why."""
        return [(test, why) for test, (found, why) in self.outcomes.items() if found == outcome]


def run(args: argparse.Namespace) -> int:
    """Check one backend: 0 where it conforms, 1 where it does not.

    Raises:
        ConfigError: there is no such backend, several claim the name, it cannot run here, or pytest is absent.
    """
    row = sound_row(args.name)
    print(plugins.table([row]), flush=True)
    result = checked(args.name, args.timeout or plugins.CHECK_TIMEOUT_S, args.k)
    print()
    print(summary(result))
    print()
    print(verdict(args.name, result))
    return DONE if result.sound else FAILED


def sound_row(name: str) -> plugins.Row:
    """The row of a backend that works here.

    Raises:
        ConfigError: there is none.
    """
    if importlib.util.find_spec("pytest") is None:
        raise ConfigError("fw plugins check needs pytest: pip install 'fw-framework[test]'")
    points = [point for point in registry.entry_points() if point.name == name]
    if not points:
        known = sorted({point.name for point in registry.entry_points()})
        raise ConfigError(f"no backend {name!r} is installed.{did_you_mean(name, known)} There are {', '.join(known)}")
    rows = plugins.rows_of(points)
    ready = [row for row in rows if row.state == plugins.READY]
    if len(ready) < len(rows):
        wrong = next(row for row in rows if row.state != plugins.READY)
        raise ConfigError(f"backend {name!r} of {wrong.distribution} is {wrong.state}: {wrong.reason}")
    if len(rows) > 1 and registry.BUNDLED not in {registry.distribution_of(point) for point in points}:
        raise ConfigError(plugins.remarks(rows)[0])
    return rows[0]


def checked(name: str, timeout_s: float, expression: str = "") -> Result:
    """Run the kit in a child process, which may crash or hang without harm."""
    with tempfile.TemporaryDirectory(prefix="fw-check-") as folder:
        file, errors = Path(folder) / "records.jsonl", Path(folder) / "stderr"
        file.touch()
        command = [sys.executable, "-P", "-m", "framework.testing.check", name, str(file)]
        with errors.open("wb") as stderr:
            child = plugins.started([*command, *(["-k", expression] if expression else [])], stderr)
        try:
            code = child.wait(timeout_s)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            plugins.ended(child)
        result = read_records(file.read_text(encoding="utf-8").splitlines())
        if code is None:
            result.ending = f"no end within {timeout_s:g} s"
        elif code not in (0, 1) or result.running or not result.collected:  # pytest's own codes for done
            result.ending = plugins.how_it_ended(code, plugins.tail(errors), "the kit ran")
        if result.ending and result.running:
            result.ending += f", in {result.running}"
        return result


def read_records(lines: Iterable[str]) -> Result:
    """What a child wrote, up to where it came."""
    result = Result()
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:  # cut off in the middle
            continue
        if record["event"] == "collected":
            result.collected = record["count"]
        elif record["event"] == "start":
            result.running = record["test"]
        else:
            result.running = "" if record["test"] == result.running else result.running
            result.outcomes[record["test"]] = record["outcome"], record["why"]
    return result


def summary(result: Result) -> str:
    """How many tests of each kind passed, failed, deviate and were skipped.

    Examples:
        >>> print(summary(Result({"test_forward[abs-int8]": ("passed", ""), "test_owns": ("failed", "no")})))
        test          passed  failed  deviates  skipped
        test_forward       1       0         0        0
        test_owns          0       1         0        0
        all                1       1         0        0
    """
    counts: dict[str, Counter[str]] = {}
    for test, (outcome, _) in result.outcomes.items():
        counts.setdefault(test.partition("[")[0], Counter())[outcome] += 1
    counts["all"] = sum(counts.values(), Counter())
    width = max(map(len, counts))
    lines = ["  ".join(["test".ljust(width), *OUTCOMES])]
    lines += [
        "  ".join([name.ljust(width), *(str(found[outcome]).rjust(len(outcome)) for outcome in OUTCOMES)])
        for name, found in counts.items()
    ]
    return "\n".join(lines)


def verdict(name: str, result: Result) -> str:
    """What deviates and what failed, each on a line with its reason, and the conclusion."""
    deviating, failed = result.reasons("deviates"), result.reasons("failed")
    lines = [*_listed("deviates, as the backend states", deviating), *_listed("failed", failed)]
    if result.ending:
        lines.append(f"backend {name!r} does not conform: {result.ending}")
    elif not result.collected:
        lines.append("no test was run")
    elif failed:
        lines.append(f"backend {name!r} does not conform: {len(failed)} of {len(result.outcomes)} tests failed")
    else:
        lines.append(f"backend {name!r} conforms")
    return "\n".join(lines)


def _listed(title: str, tests: Sequence[tuple[str, str]]) -> list[str]:
    if not tests:
        return []
    lines = [f"  {test}: {plugins.one_line(why, 200)}" for test, why in tests[:SHOWN]]
    more = [f"  … and {len(tests) - SHOWN} more"] if len(tests) > SHOWN else []
    return [f"{title}:", *lines, *more, ""]
