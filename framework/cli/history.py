"""`fw runs`: what the runs of a folder were and how they went, from their own files."""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from framework.cli.curves import short, sparkline
from framework.cli.report import DONE, FAILED, note
from framework.cli.runrecords import RunRecord, choose, differences, find_runs, spelled
from framework.cli.runspage import page
from framework.cli.wandbsync import offline_runs, sync
from framework.errors import ConfigError, did_you_mean
from framework.train.checkpoint import write_atomically

ACTIONS = ("list", "show", "compare", "sync")
FIRST = ("test_acc", "test_loss", "val_acc", "val_loss")
"""Metrics that get a column before others do."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the arguments of `fw runs`."""
    parser.description = (
        "List, show, compare and plot runs from the files in their folders; upload their offline W&B runs. "
        "A RUN is name/version_N, a name (its newest run), or a folder."
    )
    parser.add_argument("words", nargs="*", metavar="list|show|compare|sync [RUN ...]", help="what to do; default list")
    parser.add_argument("--root", metavar="DIR", default=".", help="the folder that has runs/; default the current one")
    parser.add_argument("--html", metavar="FILE", help="also write a page with the curves, which needs no network")
    parser.add_argument("--metric", metavar="NAME", action="append", help="only this metric; may be repeated")


def run(args: argparse.Namespace) -> int:
    """Run the command; gives the exit code.

    Raises:
        ConfigError: an unknown action or run, or a page that cannot be written.
    """
    action, *names = args.words or ["list"]
    if action not in ACTIONS:
        hint = did_you_mean(action, ACTIONS) or f" There are {', '.join(ACTIONS)}"
        raise ConfigError(f"fw runs {action}: no such action.{hint}")
    runs = find_runs(Path(args.root))
    if action == "compare" and len(names) < 2:
        raise ConfigError("fw runs compare takes two runs or more: fw runs compare A B")
    if action == "show" and not names:
        raise ConfigError("which run? fw runs show RUN")
    chosen = [choose(runs, name) for name in names] if names else runs
    if action == "sync":
        return FAILED if sync(offline_runs(run.path for run in chosen), note) else DONE
    chosen = _with_metrics(chosen, args.metric)
    show = {"list": table, "show": lambda shown: "\n\n".join(map(details, shown)), "compare": comparison}[action]
    text = show(chosen)
    if args.html:
        write_page(Path(args.html), chosen)
    print(text)
    return DONE


def write_page(file: Path, runs: Sequence[RunRecord]) -> None:
    """Write the page and say so.

    Raises:
        ConfigError: it cannot be written.
    """
    try:
        write_atomically(file, page(runs, file.parent))
    except OSError as error:
        raise ConfigError(f"--html {file}: {error.strerror}") from None
    note(f"wrote {file}")


def _with_metrics(runs: Sequence[RunRecord], wanted: Sequence[str] | None) -> list[RunRecord]:
    """The runs with these metrics alone.

    Raises:
        ConfigError: no run has one of them.
    """
    if not wanted:
        return list(runs)
    known = sorted({name for run in runs for name in (*run.metrics, *run.curves)})
    for name in wanted:
        if name not in known:
            hint = did_you_mean(name, known) or f" There are {', '.join(known) or 'none'}"
            raise ConfigError(f"--metric {name}: no run has logged it.{hint}")
    return [run.only(wanted) for run in runs]


# -- text -----------------------------------------------------------------------------------------


def table(runs: Sequence[RunRecord]) -> str:
    """A line for each run."""
    if not runs:
        return "no runs here; fw train makes them in runs/ of the current folder"
    columns = _columns(runs)
    head = ["run", "status", "epochs", "steps", "time", "began", *columns]
    lines = [head]
    for run in runs:
        told = [str(run.summary.get(name, "")) for name in ("epochs", "steps")]
        began = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.started)) if run.started else ""
        values = [value(run, name) for name in columns]
        lines.append([run.name, run.status, *told, duration(run.summary.get("wall_s")), began, *values])
    text = aligned(lines, right=range(2, 5))
    broken = [f"{run.path}: {run.problem}" for run in runs if run.problem]
    return "\n".join([text, *broken])


def _columns(runs: Sequence[RunRecord]) -> list[str]:
    """The metrics that get a column: known names first, then those of most runs, as many as the window holds."""
    counts: dict[str, int] = {}
    for run in runs:
        for name, values in run.metrics.items():
            if "best" in values or name.startswith("test_"):
                counts[name] = counts.get(name, 0) + 1
    names = sorted(counts, key=lambda name: (name not in FIRST, FIRST.index(name) if name in FIRST else -counts[name]))
    room = shutil.get_terminal_size((110, 24)).columns - 50 - max(len(run.name) for run in runs)
    columns: list[str] = []
    for name in names:
        room -= max(len(name), 7) + 2
        if room < 0 and columns:
            break
        columns.append(name)
    return columns


def value(run: RunRecord, name: str, kind: str = "best") -> str:
    """A metric's best value, or the last where no end is the good one; empty where the run has none."""
    values = run.metrics.get(name)
    if not values:
        return ""
    found = values.get(kind, values.get("last"))
    return "" if found is None else short(found)


def duration(seconds: object) -> str:
    """A time as people say it.

    Examples:
        >>> duration(7.25), duration(75), duration(7300), duration(None)
        ('7.2 s', '1 m 15 s', '2 h 01 m', '')
    """
    if not isinstance(seconds, int | float):
        return ""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} m {rest:02d} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} m"


def aligned(lines: Sequence[Sequence[str]], right: Sequence[int] = ()) -> str:
    """Columns of equal width.

    Examples:
        >>> print(aligned([["a", "bb"], ["ccc", "d"]]))
        a    bb
        ccc  d
    """
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join(
        "  ".join(f"{c:>{w}}" if i in right else f"{c:<{w}}" for i, (c, w) in enumerate(zip(line, widths))).rstrip()
        for line in lines
    )


def details(run: RunRecord) -> str:
    """Everything about one run."""
    about = {
        "run": run.name,
        "folder": str(run.path),
        "status": f"{run.status}: {run.problem}" if run.problem else run.status,
        "epochs": run.summary.get("epochs"),
        "steps": run.summary.get("steps"),
        "time": duration(run.summary.get("wall_s")),
        "data": run.summary.get("dataset"),
        "backend": run.summary.get("backend"),
        "model": run.config.get("model.class_path"),
    }
    width = max(map(len, about))
    lines = [f"{name:<{width}}  {told}" for name, told in about.items() if told not in (None, "")]
    rows = [["metric", "last", "best", "curve"]]
    for name in dict.fromkeys((*run.metrics, *run.curves)):
        best = value(run, name) if "best" in run.metrics.get(name, {}) else ""
        points = run.curves.get(name, [])
        last = value(run, name, "last") or (short(points[-1][1]) if points else "")
        rows.append([name, last, best, sparkline(points) if len(points) > 1 else ""])
    if len(rows) > 1:
        lines += ["", aligned(rows)]
    marks = [f"  {path}{f'  ({mark})' if mark else ''}" for path, mark in run.checkpoints]
    return "\n".join([*lines, *(["", "checkpoints", *marks] if marks else [])])


def comparison(runs: Sequence[RunRecord]) -> str:
    """In what runs differ: their configurations, then their metrics."""
    heads = [run.name if [r.name for r in runs].count(run.name) == 1 else str(run.path) for run in runs]
    lines = [["", *heads], ["status", *(run.status for run in runs)]]
    lines += [[name, *(str(run.summary.get(name, "")) for run in runs)] for name in ("epochs", "steps")]
    lines.append(["time", *(duration(run.summary.get("wall_s")) for run in runs)])
    changed = differences([run.config for run in runs])
    rows = [[key, *map(spelled, row)] for key, row in changed.items()]
    equal = "no run has a configuration" if not any(run.config for run in runs) else "the configurations are equal"
    metrics = [
        [name, *(_both(run, name) for run in runs), _gain(runs, name)]
        for name in sorted({name for run in runs for name in run.metrics})
    ]
    parts = [aligned(lines)]
    parts.append("config\n" + (aligned([["", *heads], *rows]) if rows else equal))
    if metrics:
        parts.append("metrics\n" + aligned([["", *heads, "difference" if len(runs) == 2 else ""], *metrics]))
    curves = [
        [name, *(sparkline(run.curves.get(name, [])) for run in runs)]
        for name in sorted({name for run in runs for name, points in run.curves.items() if len(points) > 1})
    ]
    if curves:
        parts.append("curves\n" + aligned([["", *heads], *curves]))
    return "\n\n".join(parts)


def _both(run: RunRecord, name: str) -> str:
    last, best = value(run, name, "last"), value(run, name)
    return last if last == best else f"{last} (best {best})"


def _gain(runs: Sequence[RunRecord], name: str) -> str:
    """How the second of two runs differs from the first, by their best values."""
    if len(runs) != 2:
        return ""
    one, other = (run.metrics.get(name) or {} for run in runs)
    if "last" not in one or "last" not in other:
        return ""
    return f"{other.get('best', other['last']) - one.get('best', one['last']):+.4g}"
