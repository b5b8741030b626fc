"""`fw plugins`: every backend that is installed, and whether it works here. `fw plugins check NAME`: does it conform.

Metadata says which there are. Each is then imported in a process of its own, all at once, so that one
that raises, exits, crashes or hangs shows in its own row and nowhere else.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import IO, Any

from framework.backend import Backend, registry
from framework.errors import BackendError, ConfigError

TIMEOUT_S = 20.0
"""How long a plugin may take to import, to set itself up and to run one operation."""

CHECK_TIMEOUT_S = 1800.0
"""How long the conformance kit may take on one backend."""

READY, MISSING, BROKEN = "ready", "missing", "broken"


@dataclass(frozen=True)
class Row:
    """One backend: where it comes from and how it is."""

    name: str
    distribution: str
    state: str
    devices: tuple[str, ...] = ()
    reason: str = ""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command's arguments."""
    parser.description = (
        "List the installed backends. ready: it works here. missing: it is sound, but what it needs is not here. "
        "broken: it fails. Each is tried in a process of its own. `check NAME` runs the conformance kit on one."
    )
    parser.add_argument("action", nargs="?", choices=["check"], help="run the conformance kit")
    parser.add_argument("name", nargs="?", help="the backend to check")
    parser.add_argument("-k", default="", metavar="EXPRESSION", help="check: only tests that match, as pytest -k")
    parser.add_argument(
        "--timeout",
        type=float,
        metavar="SECONDS",
        help=f"how long one may take to answer, {TIMEOUT_S:g} if not said; check: the whole kit, {CHECK_TIMEOUT_S:g}",
    )


def run(args: argparse.Namespace) -> int:
    """Print the table; 0, since a plugin that does not work here is an answer, not a failure. Or check one.

    Raises:
        ConfigError: `check` without a name, or of a backend that is not there or does not work.
    """
    if args.action is not None:
        if args.name is None:
            raise ConfigError("which backend? fw plugins check NAME")
        return int(import_module("framework.cli.plugins_check").run(args))
    rows = rows_of_all(args.timeout or TIMEOUT_S)
    print(table(rows))
    for line in remarks(rows):
        print(line)
    return 0


def rows_of_all(timeout_s: float = TIMEOUT_S) -> list[Row]:
    """A row for every installed backend, sorted by name; tried at the same time."""
    return rows_of(registry.entry_points(), timeout_s)


def rows_of(points: Sequence[EntryPoint], timeout_s: float = TIMEOUT_S) -> list[Row]:
    """A row for each of these, sorted by name; tried at the same time."""
    points = sorted(points, key=lambda point: (point.name, registry.distribution_of(point)))
    with tempfile.TemporaryDirectory(prefix="fw-plugins-") as folder:
        probes = [Probe(point, Path(folder) / str(i)) for i, point in enumerate(points)]
        try:
            deadline = time.monotonic() + timeout_s
            return [probe.row(deadline, timeout_s) for probe in probes]
        finally:
            for probe in probes:
                probe.end()


# -- the parent's side -----------------------------------------------------------------------------


class Probe:
    """A child process that tries one plugin and writes what it found into `folder`."""

    def __init__(self, point: EntryPoint, folder: Path) -> None:
        folder.mkdir()
        self.point = point
        self.result = folder / "result.json"
        self.errors = folder / "stderr"
        command = [sys.executable, "-P", "-m", "framework.cli.plugins", point.name, point.value, str(self.result)]
        with self.errors.open("wb") as stderr:
            self.process = started(command, stderr)

    def row(self, deadline: float, timeout_s: float) -> Row:
        """What came of it; waits until the deadline."""
        distribution = _distribution(self.point)
        try:
            code = self.process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return Row(self.point.name, distribution, BROKEN, reason=f"no answer within {timeout_s:g} s")
        kill_group(self.process)  # what it started does not outlive it
        found = read_result(self.result)
        if found is None:
            return Row(self.point.name, distribution, BROKEN, reason=how_it_ended(code, tail(self.errors)))
        return Row(self.point.name, distribution, found["state"], tuple(found["devices"]), one_line(found["reason"]))

    def end(self) -> None:
        """End the process, where it has not ended, and everything it started."""
        if self.process.poll() is None:
            ended(self.process)


def started(command: Sequence[str], stderr: IO[bytes]) -> subprocess.Popen[bytes]:
    """A child that finds what this process finds, says nothing, and has a group of its own."""
    return subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=stderr,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        start_new_session=True,  # so that what the plugin starts can be ended with it
    )


def ended(process: subprocess.Popen[bytes]) -> None:
    """End a child, where it has not ended, and everything it started."""
    kill_group(process)
    process.wait()


def kill_group(process: subprocess.Popen[bytes]) -> None:
    """End what a child started, and the child."""
    if not hasattr(os, "killpg"):
        process.kill()
        return
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)


def read_result(file: Path) -> dict[str, Any] | None:
    """What the child wrote; None where it wrote nothing, or something else."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    if not isinstance(found, dict) or found.get("state") not in (READY, MISSING, BROKEN):
        return None
    devices, reason = found.get("devices"), found.get("reason")
    if not isinstance(devices, list) or not all(isinstance(d, str) for d in devices) or not isinstance(reason, str):
        return None
    return found


def how_it_ended(code: int, stderr: str, when: str = "it was tried") -> str:
    """The reason of a process that ended without an answer."""
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        ending = f"killed by {name}"
    else:
        ending = f"exited with code {code}"
    lines = [line for line in stderr.splitlines() if line.strip()]
    return one_line(f"{ending} while {when}" + (f": {lines[-1]}" if lines else ""))


def one_line(text: str, limit: int = 400) -> str:
    """Text that keeps to one line of a terminal and cannot steer it."""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def tail(file: Path) -> str:
    """The end of a file, as text; nothing where it cannot be read."""
    try:
        with file.open("rb") as stream:
            stream.seek(max(0, file.stat().st_size - 4096))
            return stream.read().decode(errors="replace")
    except OSError:
        return ""


def _distribution(point: EntryPoint) -> str:
    try:
        version = "" if point.dist is None else str(point.dist.version or "")
    except Exception:  # metadata without a version
        version = ""
    return one_line(f"{registry.distribution_of(point)} {version}".strip())


# -- the table -------------------------------------------------------------------------------------


def table(rows: Sequence[Row]) -> str:
    """The rows as aligned text.

    Examples:
        >>> print(table([Row("cpu", "fw-framework 1.0", "ready", ("cpu",)), Row("x", "x 2", "broken", (), "it fails")]))
        name  distribution      state   devices  reason
        cpu   fw-framework 1.0  ready   cpu
        x     x 2               broken  -        it fails
    """
    cells = [("name", "distribution", "state", "devices", "reason")]
    cells += [
        (one_line(r.name), r.distribution, r.state, one_line(", ".join(r.devices)) or "-", r.reason) for r in rows
    ]
    widths = [max(len(row[i]) for row in cells) for i in range(4)]
    return "\n".join(
        "  ".join([*(cell.ljust(width) for cell, width in zip(row, widths)), row[4]]).rstrip() for row in cells
    )


def remarks(rows: Sequence[Row]) -> list[str]:
    """A line for every name that several distributions claim."""
    if not rows:
        return ["no backend is installed; `pip install fw-framework` brings cpu and cuda"]
    owners: dict[str, list[str]] = {}
    for row in rows:
        owners.setdefault(row.name, []).append(row.distribution.partition(" ")[0])
    return [
        f"{one_line(name)} is claimed by {' and '.join(claimed)}: "
        + (f"{registry.BUNDLED}'s is used" if registry.BUNDLED in claimed else "neither can be used")
        + f" unless `plugins: {{{one_line(name)}: DISTRIBUTION}}` settles it"
        for name, claimed in owners.items()
        if len(set(claimed)) > 1
    ]


# -- the child's side ------------------------------------------------------------------------------


def examine(name: str, value: str) -> dict[str, Any]:
    """Import a plugin, set it up, run one operation; runs in a process of its own."""
    try:
        cls = EntryPoint(name=name, value=value, group=registry.GROUP).load()
    except (Exception, SystemExit) as error:
        return _found(BROKEN, reason=f"does not import: {registry.last_line(error)}")
    if not (isinstance(cls, type) and issubclass(cls, Backend)):
        return _found(BROKEN, reason=f"{value} is not a subclass of framework.backend.Backend")
    if getattr(cls, "name", None) != name:
        return _found(BROKEN, reason=f"registered as {name!r}, but calls itself {getattr(cls, 'name', None)!r}")
    try:
        backend = cls()
    except BackendError as error:  # the plugin itself says what it lacks
        return _found(MISSING, reason=_with_install(str(error), cls))
    except ImportError as error:
        return _found(MISSING, reason=_with_install(registry.last_line(error), cls))
    except (Exception, SystemExit) as error:
        return _found(BROKEN, reason=f"could not be set up: {registry.last_line(error)}")
    try:
        registry.probe(backend)
        return _found(READY, devices=backend.devices)
    except Exception as error:
        return _found(BROKEN, reason=str(error) if isinstance(error, BackendError) else registry.last_line(error))


def _found(state: str, *, devices: Sequence[str] = (), reason: str = "") -> dict[str, Any]:
    return {"state": state, "devices": list(devices), "reason": reason}


def _with_install(reason: str, cls: type[Backend]) -> str:
    """The reason, with the install line where that would help: a requirement is absent."""
    absent = [module for module in cls.requirements if importlib.util.find_spec(module.partition(".")[0]) is None]
    return f"{reason} ({cls.install})" if absent and cls.install and cls.install not in reason else reason


def _child(name: str, value: str, file: str) -> None:
    try:
        found = examine(name, value)
    except BaseException as error:  # SystemExit too: whatever the plugin does is an answer
        found = _found(BROKEN, reason=registry.last_line(error))
    half = Path(file).with_suffix(".part")
    half.write_text(json.dumps(found))
    half.replace(file)
    os._exit(0)  # threads and exit handlers of the plugin have no say


if __name__ == "__main__":
    _child(*sys.argv[1:])
