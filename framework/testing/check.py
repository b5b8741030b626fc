"""`python -m framework.testing.check NAME FILE [-k EXPRESSION]`: the conformance kit on one installed backend.

What comes of each test is appended to FILE as one line of JSON, and nothing else is written: so that whoever
started this process knows how far it came, even where the backend ends it.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any, TextIO

from framework.testing.kit import pytest

MODULE = """\
from framework.testing import BackendConformance


class TestBackend(BackendConformance):
    backend = {name!r}
"""


class Records:
    """A pytest plugin that writes one line when a test starts and one with its outcome."""

    def __init__(self, file: TextIO) -> None:
        self.file = file

    def write(self, **record: Any) -> None:
        """Append a line."""
        self.file.write(json.dumps(record) + "\n")
        self.file.flush()

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Say which tests there are; those of one class of the kit stand together."""
        self.write(event="collected", count=len(items))

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        """Say which test begins."""
        self.write(event="start", test=nodeid.rpartition("::")[2])

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Say what came of it."""
        if report.when == "call" or not report.passed:
            self.write(event="end", test=report.nodeid.rpartition("::")[2], outcome=_outcome(report), why=_why(report))

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        """Say why the tests could not be listed."""
        if report.failed:
            self.write(event="end", test="listing the tests", outcome="failed", why=_why(report))


def _outcome(report: pytest.TestReport) -> str:
    return "deviates" if hasattr(report, "wasxfail") and report.skipped else str(report.outcome)


def _why(report: Any) -> str:
    """The reason on one line: of a skip or a deviation what was stated, of a failure the error."""
    if report.passed:
        return ""
    if stated := getattr(report, "wasxfail", ""):
        return " ".join(str(stated).removeprefix("reason: ").split())
    if report.skipped and isinstance(report.longrepr, tuple):
        return " ".join(str(report.longrepr[2]).removeprefix("Skipped: ").split())
    crash = getattr(report.longrepr, "reprcrash", None)
    return " ".join((crash.message if crash is not None else str(report.longrepr)).split())


def run(name: str, file: str, *options: str) -> int:
    """Run the kit; gives pytest's exit code."""
    with tempfile.TemporaryDirectory(prefix="fw-check-") as folder, Path(file).open("a", encoding="utf-8") as stream:
        module = Path(folder) / "test_backend.py"
        module.write_text(MODULE.format(name=name))
        (Path(folder) / "pytest.ini").write_text("[pytest]\n")  # what stands in a project around is not asked
        own = ["-q", "-p", "no:cacheprovider", "-W", "error", "--rootdir", folder, "--import-mode=importlib"]
        return int(pytest.main([str(module), *own, *options], plugins=[Records(stream)]))


if __name__ == "__main__":
    sys.exit(run(*sys.argv[1:]))
