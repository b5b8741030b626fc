"""The plots: a gradient's cost beside others', training beside Lightning's, and how cost grows."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.report import number
from benchmarks.svg import FAINT, INK, Canvas, LogScale

COLOURS = {
    "compiled": "#0550ae",
    "eager": "#54aeff",
    "by hand": "#57606a",
    "products alone": "#afb8c1",
    "PyTorch": "#d4550d",
    "JAX jit": "#1a7f37",
    "autograd": "#8250df",
    "Lightning": "#953800",
}
WIDTH = 820
Results = Sequence[Mapping[str, Any]]


def draw(told: Mapping[str, Any], folder: Path) -> dict[str, Path]:
    """Write the plots for which there are figures; row to file."""
    folder.mkdir(parents=True, exist_ok=True)
    plots: dict[str, Callable[[Results], Canvas | None]] = {"gradient": gradient, "fit": training, "growth": growth}
    written = {}
    for name, make in plots.items():
        canvas = make([result for result in told["results"] if "skipped" not in result])
        if canvas is not None:
            written[name] = folder / f"bench-{name}.svg"
            written[name].write_text(str(canvas), encoding="utf-8")
    return written


# -- the gradient ----------------------------------------------------------------------------------


def gradient(results: Results) -> Canvas | None:
    """A line for each batch and number of threads; a dot with quartiles for each contender, on a log scale."""
    found = [r for r in results if r["row"] == "gradient" and r["what"].endswith(" ÷ by hand")]
    found = [r for r in found if _who(r) in COLOURS]
    cases = list(dict.fromkeys(r["case"] for r in found))
    if not found:
        return None
    top, step, left = 84, 34, 150
    bottom = top + step * len(cases)
    low, high = min(r["quartiles"][0] for r in found), max(r["quartiles"][1] for r in found)
    scale = LogScale(min(low, 0.5) * 0.9, max(high, 2.0) * 1.1, left, WIDTH - 30)
    canvas = Canvas(WIDTH, bottom + 46, "Cost of a gradient as a ratio to NumPy by hand")
    canvas.text(20, 28, "Gradient of a 784-300-100-10 network: time ÷ NumPy by hand (less is better)", size=16)
    _legend(canvas, 20, 54, list(dict.fromkeys(map(_who, found))))
    for tick in scale.ticks():
        canvas.line([(scale(tick), top - 8), (scale(tick), bottom)], INK if tick == 1 else FAINT)
        canvas.text(scale(tick), bottom + 18, f"{tick:g}", anchor="middle")
    for k, case in enumerate(cases):
        y = top + step * k + step / 2
        canvas.text(20, y + 4, case)
        canvas.line([(left, y + step / 2), (WIDTH - 30, y + step / 2)], FAINT, dash="2 4")
        here = [r for r in found if r["case"] == case]
        for j, result in enumerate(here):
            _whisker(canvas, scale, y + 3.2 * (j - (len(here) - 1) / 2), result)
    return canvas


def _who(result: Mapping[str, Any]) -> str:
    return str(result["what"].partition(" ÷ ")[0])


def _whisker(canvas: Canvas, scale: LogScale, y: float, result: Mapping[str, Any]) -> None:
    ink = COLOURS[_who(result)]
    canvas.line([(scale(q), y) for q in result["quartiles"]], ink, width=2)
    canvas.dot(scale(result["median"]), y, ink)


def _legend(canvas: Canvas, x: float, y: float, names: Sequence[str]) -> None:
    for name in names:
        canvas.dot(x + 5, y - 4, COLOURS[name])
        canvas.text(x + 14, y, name)
        x += 34 + 6.6 * len(name)


# -- training --------------------------------------------------------------------------------------

Bars = list[tuple[str, float, str]]


def training(results: Results) -> Canvas | None:
    """Bars: throughput, whole programs, peak memory."""
    panels: list[tuple[str, Bars]] = []
    times = next((r["detail"] for r in results if r["row"] == "fit" and "detail" in r), {})
    batch = 128
    if times:
        bars = [(_short(name), batch / (us * 1e-6), _colour(name)) for name, us in times.items()]
        panels.append(("Training, images a second (more is better)", bars))
    for result in results:
        if result["row"] == "train" and "detail" in result:
            unit = "megabytes" if "memory" in result["what"] else "seconds"
            pairs = [(_program(who), result["detail"][who], _colour(who)) for who in ("fw", "Lightning")]
            title = result["what"].partition(",")[0]
            panels.append((f"{title[0].upper()}{title[1:]}, {result['case']}: {unit} (less is better)", pairs))
    if not panels:
        return None
    height = sum(46 + 26 * len(bars) for _, bars in panels) + 60
    canvas = Canvas(WIDTH, height, "Training beside Lightning and PyTorch")
    canvas.text(20, 28, "Training a 784-300-100-10 network on MNIST, batch 128", size=16)
    y = 60.0
    for title, bars in panels:
        y = _bars(canvas, y, title, bars)
    return canvas


def _bars(canvas: Canvas, y: float, title: str, bars: Bars) -> float:
    canvas.text(20, y, title, size=13)
    left, longest = 270, max(value for _, value, _ in bars)
    for k, (name, value, ink) in enumerate(bars):
        base = y + 14 + 26 * k
        canvas.text(left - 10, base + 13, name, anchor="end")
        canvas.box(left, base, (WIDTH - left - 100) * value / longest, 18, ink)
        canvas.text(left + 8 + (WIDTH - left - 100) * value / longest, base + 13, number(value))
    return y + 46 + 26 * len(bars)


def _short(name: str) -> str:
    return {"Trainer.fit, compiled": "fw.Trainer, compiled", "Trainer.fit, eager": "fw.Trainer, eager"}.get(
        name, name.replace("a PyTorch loop", "PyTorch").replace("Lightning's Trainer.fit", "Lightning's Trainer")
    )


def _program(who: str) -> str:
    return "fw train" if who == "fw" else "the equal Lightning script"


def _colour(name: str) -> str:
    for key in ("Lightning", "PyTorch", "eager"):
        if key in name:
            return COLOURS[key]
    return COLOURS["compiled"]


# -- growth ----------------------------------------------------------------------------------------


def growth(results: Results) -> Canvas | None:
    """A panel for each sweep, time over size, both logarithmic, with the exponents."""
    found = [r for r in results if r["row"] == "growth" and "sizes" in r.get("detail", {})]
    sweeps = list(dict.fromkeys(r["detail"]["sweep"] for r in found))
    if not found:
        return None
    across, wide, high = 3, WIDTH / 3, 270
    canvas = Canvas(WIDTH, 84 + high * -(-len(sweeps) // across), "How cost grows with size")
    canvas.text(20, 28, "How cost grows: seconds over size, and the exponent over the larger half", size=16)
    _legend(canvas, 20, 54, [name for name in COLOURS if any(r["detail"]["who"] == name for r in found)])
    for k, sweep in enumerate(sweeps):
        here = [r for r in found if r["detail"]["sweep"] == sweep]
        _panel(canvas, (k % across) * wide + 54, 84 + (k // across) * high, wide - 70, high - 80, here)
    return canvas


def _panel(canvas: Canvas, x: float, y: float, width: float, height: float, results: Results) -> None:
    sizes = results[0]["detail"]["sizes"]
    seconds = [s for r in results for s in r["detail"]["seconds"]]
    across = LogScale(sizes[0], sizes[-1], x, x + width)
    up = LogScale(min(seconds) * 0.8, max(seconds) * 1.25, y + height, y)
    for tick in up.ticks((1,)) if len(up.ticks((1,))) > 1 else up.ticks():
        canvas.line([(x, up(tick)), (x + width, up(tick))], FAINT)
        canvas.text(x - 4, up(tick) + 4, _seconds(tick), size=10, anchor="end")
    for size in dict.fromkeys((sizes[0], sizes[len(sizes) // 2], sizes[-1])):
        canvas.text(across(size), y + height + 14, f"{size:,}", size=10, anchor="middle")
    canvas.text(x + width / 2, y + height + 30, results[0]["case"], size=11, anchor="middle")
    for k, result in enumerate(results):
        ink = COLOURS[result["detail"]["who"]]
        points = [(across(n), up(s)) for n, s in zip(sizes, result["detail"]["seconds"])]
        canvas.line(points, ink, width=2)
        for place in points:
            canvas.dot(*place, ink, 2.5)
        canvas.text(x + 6, y + 12 + 13 * k, f"n^{result['median']:.2f}", size=11, ink=ink)


def _seconds(value: float) -> str:
    """A power of ten of seconds.

    Examples:
        >>> _seconds(1e-05), _seconds(0.1), _seconds(1.0)
        ('10 µs', '100 ms', '1 s')
    """
    for unit, factor in (("s", 1.0), ("ms", 1e-3)):
        if value >= factor * 0.999:
            return f"{value / factor:.0f} {unit}"
    return f"{value * 1e6:.0f} µs"
