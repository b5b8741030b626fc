"""`fw runs --html`: one page that needs nothing but itself: curves, differences of configurations, checkpoints."""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from urllib.parse import quote

from framework._version import __version__
from framework.cli.curves import Points, log_ticks, short, thinned, ticks, wants_log
from framework.cli.pagestyle import SCRIPT, STYLE
from framework.cli.runrecords import RunRecord, differences, spelled

WIDTH, HEIGHT = 460, 240
LEFT, RIGHT, TOP, BOTTOM = 54, 12, 10, 26
COLOURS = 8
"""Colours before a curve gets dashes."""


def page(runs: Sequence[RunRecord], folder: Path, title: str = "fw runs") -> str:
    """The page as HTML. Links are relative to `folder`, where the page will lie."""
    policy = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:"
    parts = [
        "<!DOCTYPE html>",
        '<html lang="en"><head><meta charset="utf-8"/>',
        f'<meta http-equiv="Content-Security-Policy" content="{policy}"/>',
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>',
        '<meta name="color-scheme" content="light dark"/><link rel="icon" href="data:,"/>',
        f"<title>{escape(title)}</title><style>{STYLE}</style></head><body>",
        f"<h1>{escape(title)}</h1>",
        f"<p class='quiet'>{len(runs)} run{'s' * (len(runs) != 1)}, fw {__version__}, "
        f"{time.strftime('%Y-%m-%d %H:%M')}</p>",
        _runs_table(runs, folder),
        *_charts(runs),
        _metrics_table(runs),
        _config_table(runs),
        f"<script>{SCRIPT}</script></body></html>",
    ]
    return "\n".join(filter(None, parts)) + "\n"


# -- tables ---------------------------------------------------------------------------------------


def _runs_table(runs: Sequence[RunRecord], folder: Path) -> str:
    names = ("run", "status", "epochs", "steps", "seconds", "data", "checkpoints", "pictures")
    head = f"<tr>{''.join(f'<th>{name}</th>' for name in names)}</tr>"
    rows = [_run_row(index, run, folder) for index, run in enumerate(runs)]
    return f"<section><h2>Runs</h2><div class='wide'><table>{head}{''.join(rows)}</table></div></section>"


def _run_row(index: int, run: RunRecord, folder: Path) -> str:
    told = [run.summary.get(name) for name in ("epochs", "steps", "wall_s", "dataset")]
    cells = "".join(f"<td>{escape('' if value is None else str(value))}</td>" for value in told)
    if run.problem:
        cells = f"<td colspan='4'>{escape(run.problem)}</td>"
    links = [_link(path, folder, f"{path.name}{f' ({mark})' if mark else ''}") for path, mark in run.checkpoints]
    box = f"<label><input type='checkbox' checked='' data-run='{index}'/>{_swatch(index)} "
    return (
        f"<tr><td>{box}{_link(run.path, folder, run.name)}</label></td>"
        f"<td class='{escape(run.status)}'>{escape(run.status)}</td>{cells}<td>{', '.join(links)}</td>"
        f"<td>{', '.join(_link(path, folder, path.name) for path in run.pictures)}</td></tr>"
    )


def _link(target: Path, folder: Path, text: str) -> str:
    try:
        address = os.path.relpath(target.absolute(), folder.absolute())
    except ValueError:  # on another drive
        address = str(target)
    end = "/" if target.is_dir() else ""
    return f"<a href='{quote(Path(address).as_posix(), safe='/=._-')}{end}'>{escape(text)}</a>"


def _swatch(index: int) -> str:
    return f"<svg class='swatch' width='26' height='8'><path class='{_class(index)}' d='M0 4H26'/></svg>"


def _class(index: int) -> str:
    return f"c{index % COLOURS} d{index // COLOURS % 4}"


def _metrics_table(runs: Sequence[RunRecord]) -> str:
    """Each metric's best value, or the last where no end is the good one."""
    names = sorted({name for run in runs for name in run.metrics})
    if not names:
        return ""
    head = "".join(f"<th>{_swatch(index)} {escape(run.name)}</th>" for index, run in enumerate(runs))
    rows = []
    for name in names:
        cells = "".join(f"<td>{escape(_told(run.metrics.get(name)))}</td>" for run in runs)
        rows.append(f"<tr><th>{escape(name)}</th>{cells}</tr>")
    return (
        "<section><h2>Metrics</h2><p class='quiet'>the last value, and the best one where it is another</p>"
        f"<div class='wide'><table><tr><th></th>{head}</tr>{''.join(rows)}</table></div></section>"
    )


def _told(values: dict[str, float] | None) -> str:
    if not values:
        return ""
    last = short(values.get("last", math.nan))
    best = short(values["best"]) if "best" in values else last
    return last if best == last else f"{last} (best {best})"


def _config_table(runs: Sequence[RunRecord]) -> str:
    with_config = [run for run in runs if run.config]
    if len(with_config) < 2:
        return ""
    rows = [
        f"<tr><th>{escape(key)}</th>{''.join(f'<td>{escape(spelled(value))}</td>' for value in values)}</tr>"
        for key, values in differences([run.config for run in with_config]).items()
    ]
    head = "".join(f"<th>{escape(run.name)}</th>" for run in with_config)
    table = f"<div class='wide'><table><tr><th></th>{head}</tr>{''.join(rows)}</table></div>"
    none = "<p>The configurations are equal.</p>"
    return f"<section id='config'><h2>Differences of the configurations</h2>{table if rows else none}</section>"


# -- charts ---------------------------------------------------------------------------------------


def _charts(runs: Sequence[RunRecord]) -> Iterator[str]:
    names = sorted({name for run in runs for name, points in run.curves.items() if len(points) > 1})
    if not names:
        return
    yield "<section><h2>Curves</h2><p class='quiet'>against steps, that is, optimizer updates</p><div class='charts'>"
    for name in names:
        curves = {i: run.curves[name] for i, run in enumerate(runs) if len(run.curves.get(name, ())) > 1}
        drawn = {index: thinned(points) for index, points in curves.items()}
        finite = [value for points in drawn.values() for _, value in points if math.isfinite(value)]
        if finite:
            yield _chart(name, drawn, [run.name for run in runs], Frame.around(drawn, finite))
    yield "</div></section>"


@dataclass(frozen=True, slots=True)
class Frame:
    """Where values lie in a drawing."""

    first: float
    last: float
    low: float
    high: float
    is_log: bool

    @classmethod
    def around(cls, curves: dict[int, list[tuple[float, float]]], finite: Sequence[float]) -> Frame:
        """The frame that holds all points of the curves."""
        steps = [step for points in curves.values() for step, _ in points]
        low, high, is_log = min(finite), max(finite), wants_log(finite)
        if low == high:
            room = abs(low) * 0.1 or 1.0
            low, high = low - room, high + room
        elif not is_log:
            room = 0.04 * (high - low)
            low, high = low - room, high + room
        last = max(steps)
        return cls(min(steps), last if last > min(steps) else last + 1, low, high, is_log)

    def x(self, step: float) -> float:
        """The place of a step, from the left."""
        return round(LEFT + (step - self.first) / (self.last - self.first) * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        """The place of a value, from above."""
        low, high = (math.log(self.low), math.log(self.high)) if self.is_log else (self.low, self.high)
        share = ((math.log(value) if self.is_log else value) - low) / (high - low)
        return round(HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM), 1)


def _chart(name: str, curves: dict[int, list[tuple[float, float]]], titles: Sequence[str], frame: Frame) -> str:
    marks = log_ticks(frame.low, frame.high) if frame.is_log else ticks(frame.low, frame.high)
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    grid = "".join(
        f"<path class='grid' d='M{LEFT} {frame.y(v)}H{right}'/>"
        f"<text class='mark' x='{LEFT - 6}' y='{frame.y(v) + 3.5:.1f}' text-anchor='end'>{short(v)}</text>"
        for v in marks
    )
    grid += "".join(
        f"<path class='grid' d='M{frame.x(s)} {bottom}v4'/>"
        f"<text class='mark' x='{frame.x(s)}' y='{HEIGHT - 8}' text-anchor='middle'>{short(s)}</text>"
        for s in ticks(frame.first, frame.last, 4)
    )
    drawn = "".join(
        f"<path class='curve {_class(index)}' data-run='{index}' d='{path_data(points, frame)}'>"
        f"<title>{escape(titles[index])}</title></path>"
        for index, points in curves.items()
    )
    values = {
        index: {"name": titles[index], "points": [[s, v if math.isfinite(v) else None] for s, v in points]}
        for index, points in curves.items()
    }
    data = escape(json.dumps({"first": frame.first, "last": frame.last, "runs": values}), quote=True)
    scale = " <span class='quiet'>(logarithmic)</span>" if frame.is_log else ""
    return (
        f"<figure data-values='{data}'><figcaption>{escape(name)}{scale}</figcaption>"
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='{escape(name, quote=True)} against steps'>"
        f"{grid}{drawn}<path class='cursor' d=''/></svg><p class='reading quiet'>&#160;</p></figure>"
    )


def path_data(points: Points, frame: Frame) -> str:
    """The points as an SVG path, broken where a value is not finite; a lone point becomes a dot."""
    parts: list[str] = []
    is_open = False
    for step, value in points:
        if not math.isfinite(value):
            is_open = False
            continue
        parts.append(f"{'L' if is_open else 'M'}{frame.x(step)} {frame.y(value)}" + ("" if is_open else "h.1"))
        is_open = True
    return "".join(parts)
