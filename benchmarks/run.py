"""Measuring: the rows that were asked for, one after the other, printed as they come."""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks import machine, report
from benchmarks.children import FAILED, HERE, ChildFailedError, NotHereError
from benchmarks.registry import ROWS, Result, Settings

FORMAT = 1
"""The version of the JSON's form."""

Say = Callable[[str], None]


def find_mnist() -> Path | None:
    """A folder with MNIST's files: below `$FW_DATA`, else the cache, else `shared/data` beside the checkout."""
    roots = [os.environ.get("FW_DATA"), Path.home() / ".cache" / "framework", HERE.parent.parent / "shared" / "data"]
    for root in filter(None, roots):
        for folder in (Path(root), Path(root, "mnist"), Path(root, "MNIST", "raw")):
            if len({file.name.removesuffix(".gz") for file in folder.glob("*-ubyte*")}) == 4:
                return folder
    return None


def measure(
    names: Sequence[str], *, rounds: int | None, threads: tuple[int, ...], quick: bool, command: str, say: Say = print
) -> dict[str, Any]:
    """Measure the rows of these names; gives what is written as JSON."""
    environment = machine.describe(threads)
    for line in machine.lines(environment):
        say(line)
    begun = time.monotonic()
    results: list[dict[str, Any]] = []
    minutes: dict[str, float] = {}
    with tempfile.TemporaryDirectory(prefix="fw-bench-", ignore_cleanup_errors=True) as scratch:
        settings = Settings(rounds, threads, quick, find_mnist(), Path(scratch))
        for name in names:
            start = time.monotonic()
            say(f"\n{name}: {ROWS[name].purpose}")
            for result in _results(name, settings):
                results.append(result)
                say(report.line(result))
            minutes[name] = round((time.monotonic() - start) / 60, 2)
    say(f"\n{(time.monotonic() - begun) / 60:.1f} minutes")
    return {
        "format": FORMAT,
        "command": command,
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "quick": quick,
        "environment": environment,
        "minutes": minutes,
        "results": results,
    }


def _results(name: str, settings: Settings) -> Iterator[dict[str, Any]]:
    try:
        for result in ROWS[name].measure(settings):
            yield result.to_json()
    except NotHereError as reason:
        yield Result(name, ROWS[name].purpose, skipped=str(reason)).to_json()
    except ChildFailedError as error:
        yield Result(name, ROWS[name].purpose, skipped=f"{FAILED}{error}").to_json()


def has_failed(told: dict[str, Any]) -> bool:
    """Whether something broke that should have been measured."""
    return any(FAILED in result.get("skipped", "") for result in told["results"])


def replaced(before: dict[str, Any], told: dict[str, Any]) -> dict[str, Any]:
    """Earlier figures with the rows that were measured again in place of theirs; both commands are told."""
    results = {row: [r for r in before["results"] if r["row"] == row] for row in ROWS}
    results |= {row: [r for r in told["results"] if r["row"] == row] for row in told["minutes"]}
    return {
        **told,
        "command": f"{before['command']}\n{told['command']}",
        "quick": before["quick"] or told["quick"],
        "minutes": {**before["minutes"], **told["minutes"]},
        "results": [r for row in ROWS for r in results[row]],
    }
