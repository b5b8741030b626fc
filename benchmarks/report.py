"""What was measured, as text and as Markdown."""

from __future__ import annotations

import os
import textwrap
from pathlib import Path
from typing import Any

from benchmarks import machine
from benchmarks.registry import ROWS, Bar

BEGIN, END = "<!-- fw bench: begin -->", "<!-- fw bench: end -->"
HOW = """
    Each contender lives in a process of its own, with `OPENBLAS_CORETYPE` removed and the number of threads as said;
    the processes take turns, those that wait are stopped, and a figure is the median of the rounds' ratios, with its
    quartiles. Short work is timed in five parts, of which the median counts. Before they are timed, gradients and steps
    are checked to give the same numbers. JAX has no setting for its threads and is bound to as many CPUs. A bar is what
    the framework sets itself, and *missed* where it does not reach it.
"""
VERDICTS = {True: "holds", False: "missed", None: ""}


def number(value: float) -> str:
    """Three digits that say something.

    Examples:
        >>> number(0.16234), number(15.04), number(812.4), number(266610.0)
        ('0.162', '15.0', '812', '266,610')
    """
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"


def bar_of(result: dict[str, Any]) -> str:
    """The bar in words, or nothing."""
    unit = unit_of(result)
    return f"{Bar(**result['bar'])}{unit}" if "bar" in result else ""


def unit_of(result: dict[str, Any]) -> str:
    """The unit behind a number; ratios have none."""
    return "" if result["unit"] in ("ratio", "exponent", "times the throughput") else f" {result['unit']}"


def figure(result: dict[str, Any]) -> str:
    """The median, the quartiles where there are rounds, and the unit."""
    if "skipped" in result:
        return f"not measured: {result['skipped']}"
    unit = unit_of(result)
    if result["rounds"] == 1:
        return f"{number(result['median'])}{unit}"
    low, high = map(number, result["quartiles"])
    return f"{number(result['median'])} [{low} {high}]{unit}"


def detail_of(result: dict[str, Any]) -> str:
    """The figures beside."""
    shown = {k: v for k, v in result.get("detail", {}).items() if not isinstance(v, list | str)}
    return ", ".join(f"{name} {number(value)}" for name, value in shown.items())


def line(result: dict[str, Any]) -> str:
    """One result in the terminal."""
    name = f"{result['what']} ({result['case']})" if result["case"] else result["what"]
    parts = [f"  {name:<78}", f"{figure(result):<26}", f"{bar_of(result):<20}", VERDICTS[result.get("holds")]]
    detail = detail_of(result)
    unit = "µs: " if result["row"] in ("gradient", "step", "fit") else ""
    return " ".join(parts).rstrip() + (f"\n      {unit}{detail}" if detail else "")


# -- Markdown --------------------------------------------------------------------------------------


def cell(text: str) -> str:
    """Text for a table."""
    return text.replace("|", "\\|").replace("\n", " ")


def table(results: list[dict[str, Any]]) -> list[str]:
    """A Markdown table: a line for each comparison, a column for each case where several have the same cases."""
    cases = list(dict.fromkeys(result["case"] for result in results))
    found = {(result["what"], result["case"]): result for result in results}
    names = list(dict.fromkeys(result["what"] for result in results))
    if len(cases) > 1 and len(found) == len(names) * len(cases):
        lines = [f"| what | {' | '.join(map(cell, cases))} |", f"|---|{'---|' * len(cases)}"]
        for name in names:
            told = [found[name, case] for case in cases]
            bars = list(dict.fromkeys(map(bar_of, told)))
            own = [bar_of(r) if len(bars) > 1 else "" for r in told]
            cells = [cell(_figure_and_mark(r)) + (f"<br>{bar}" if bar else "") for r, bar in zip(told, own)]
            head = f"{cell(name)}<br>{bars[0]}" if bars[0] and len(bars) == 1 else cell(name)
            lines.append(f"| {head} | {' | '.join(cells)} |")
        return lines
    lines = ["| what | bar | median [quartiles] |", "|---|---|---|"]
    for result in results:
        name = f"{result['what']}, {result['case']}" if result["case"] else result["what"]
        lines.append(f"| {cell(name)} | {cell(bar_of(result))} | {cell(_figure_and_mark(result))} |")
    return lines


def short_table(results: list[dict[str, Any]]) -> list[str]:
    """A Markdown table with a line for all cases of a comparison together."""
    lines = ["| what | bar | median [quartiles] |", "|---|---|---|"]
    grouped: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for result in results:
        grouped.setdefault((result["row"], result["what"]), []).append(result)
    for (row, what), group in grouped.items():
        bars = list(dict.fromkeys(map(bar_of, group)))
        shown = bars if len(bars) == 1 else list(map(bar_of, group))
        alone = len(group) == 1
        told = [("" if alone or not r["case"] else f"{r['case']}: ") + _figure_and_mark(r) for r in group]
        if len({figure(r) for r in group}) == 1 and "skipped" in group[0]:
            shown, told = bars[:1], [figure(group[0])]
        name = f"{row}: {what}" + (f", {group[0]['case']}" if alone and group[0]["case"] else "")
        lines.append(f"| {cell(name)} | {cell('<br>'.join(shown))} | {cell('<br>'.join(told))} |")
    return lines


def _figure_and_mark(result: dict[str, Any]) -> str:
    return figure(result) + (" **missed**" if result.get("holds") is False else "")


def sentence(text: str) -> str:
    """With a capital, unless a name of ours comes first.

    Examples:
        >>> sentence("time to import"), sentence("fw train")
        ('Time to import', 'fw train')
    """
    return text if text.startswith("fw ") else text[:1].upper() + text[1:]


def page(told: dict[str, Any], images: dict[str, str]) -> str:
    """The whole of `docs/performance.md`; `images` maps a plot's name to its address."""
    lines = [
        "# Performance",
        "",
        f"Made by {_runs(told)}; nothing on this page is written by hand:",
        "",
        "```sh",
        told["command"],
        "```",
        "",
        *_how(told),
    ]
    for name in dict.fromkeys(result["row"] for result in told["results"]):
        results = [result for result in told["results"] if result["row"] == name]
        lines += ["", f"## {name}", "", f"{sentence(ROWS[name].purpose)}.", ""]
        lines += [f"![{title}]({images[name]})\n" for title in [f"{name}: {ROWS[name].purpose}"] if name in images]
        lines += [*table(results), "", *textwrap.wrap(ROWS[name].notes, 116, break_on_hyphens=False)]
        told_beside = [f"- {_title(r)}: {detail_of(r)}" for r in results if detail_of(r) and name != "growth"]
        if told_beside:
            unit = ", microseconds" if name in ("gradient", "step", "fit") else ""
            lines += ["", f"Medians beside{unit}:", "", *told_beside]
    return "\n".join(lines) + "\n"


def _runs(told: dict[str, Any]) -> str:
    count = told["command"].count("\n") + 1
    return "one command from one run" if count == 1 else f"{count} commands, the later ones in place of some rows"


def _title(result: dict[str, Any]) -> str:
    return result["case"] or result["what"]  # type: ignore[no-any-return]


def _how(told: dict[str, Any]) -> list[str]:
    return [
        *textwrap.wrap(" ".join(HOW.split()), 116),
        "",
        *[f"- {line}" for line in machine.lines(told["environment"])],
        f"- {told['date']}, {sum(told['minutes'].values()):.0f} minutes"
        + (", **quick: too few rounds to rely on**" if told["quick"] else ""),
    ]


def summary(told: dict[str, Any], images: dict[str, str]) -> str:
    """What stands in the README: the bars, and the plots."""
    env = told["environment"]
    kernels = next((library["architecture"] for found in env["blas"].values() for library in found), "unknown")
    lines = [
        f"{env['cpu']}, {env['cpus']} CPUs, {kernels} kernels in NumPy's BLAS, Python {env['python']}, "
        f"{', '.join(f'{n} {v}' for n, v in env['versions'].items() if n != 'fw-framework')}. "
        + ("**Too few rounds to rely on**, by" if told["quick"] else f"Medians and quartiles, made by {_runs(told)}:"),
        "",
        "```sh",
        told["command"],
        "```",
        "",
        *short_table([result for result in told["results"] if "bar" in result]),
        "",
        *[f"![{name}: {ROWS[name].purpose}]({address})\n" for name, address in images.items()],
    ]
    return "\n".join(lines)


def write_page(file: Path, told: dict[str, Any], plots: dict[str, Path]) -> None:
    """Write the page; where the file has the two comments, write the summary between them instead."""
    images = {name: Path(os.path.relpath(plot, file.parent)).as_posix() for name, plot in plots.items()}
    before = file.read_text(encoding="utf-8") if file.exists() else ""
    if BEGIN in before and END in before:
        head, _, rest = before.partition(BEGIN)
        tail = rest.partition(END)[2]
        file.write_text(f"{head}{BEGIN}\n{summary(told, images)}\n{END}{tail}", encoding="utf-8")
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(page(told, images), encoding="utf-8")
