"""How cost grows with batch, width, depth, rows and length of the graph: sweeps, and the exponents that fit them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from benchmarks import figures
from benchmarks.children import Contender, Group, started
from benchmarks.registry import Result, Settings, row

HAND, EAGER, COMPILED, TORCH = "by hand", "eager", "compiled", "PyTorch"
GRADIENT = (
    Contender(HAND, "by_hand:gradient"),
    Contender(EAGER, "ours:gradient", settings={"kind": "modules"}),
    Contender(COMPILED, "ours:gradient", settings={"kind": "compiled"}),
    Contender(TORCH, "pytorch:gradient", "torch"),
)
CHAIN = tuple(Contender(kind, "ours:chain", settings={"kind": kind}) for kind in (EAGER, COMPILED))
EPOCH = tuple(Contender(kind, "our_trainer:epoch", settings={"kind": kind}) for kind in (EAGER, COMPILED))

Sweep = tuple[str, str, Sequence[Contender], dict[int, dict[str, Any]]]


def sweeps(quick: bool) -> list[Sweep]:
    """Name, what is swept, who takes part, and the case of each size."""
    batches = [1, 4, 16, 64, 256, 1024]
    widths = [32, 64, 128, 256, 512, 1024]
    depths = [2, 4, 8, 16, 32, 64]
    rows = [1280, 2560, 5120, 10_240, 20_480, 40_960]
    lengths = [10, 30, 100, 300, 1000, 3000]
    batches, widths, depths, rows, lengths = (s[:3] if quick else s for s in (batches, widths, depths, rows, lengths))
    return [
        ("batch", "batch of the 784-300-100-10 MLP", GRADIENT, {n: {"batch": n} for n in batches}),
        ("width", "width of four square layers, batch 128", GRADIENT,
         {n: {"batch": 128, "sizes": [n] * 5} for n in widths}),
        ("depth", "layers of width 64, batch 128", GRADIENT,
         {n: {"batch": 128, "sizes": [64] * (n + 1)} for n in depths}),
        ("rows", "images of an epoch, batch 128", EPOCH, {n: {"samples": n} for n in rows}),
        ("graph", "operations in a chain", CHAIN, {n: {"length": n} for n in lengths}),
    ]  # fmt: skip


NOTES = """
    One thread. The exponent is the slope of log time over log size, by least squares over the larger half of the sizes,
    in each round; 1 is proportional growth. Batch, width and depth: the gradient of an MLP. Rows: `Trainer.fit` of two
    epochs, everything around them included. Graph: forward and backward of a chain of elementwise operations.
"""


@row("growth", "how cost grows with batch, width, depth, rows and graph length", minutes=1.5, notes=NOTES)
def growth(settings: Settings) -> Iterator[Result]:
    """One thread; the exponent is the slope over the larger half of the sizes in each round."""
    for name, what, contenders, cases in sweeps(settings.quick):
        with started(contenders, 1, settings.scratch) as group:
            by_size = [group.interleave(case, settings.rounds_or(15)) for case in cases.values()]
        yield from exponents(name, what, list(cases), by_size, group)


def exponents(
    name: str, what: str, sizes: list[int], by_size: list[dict[str, list[float]]], group: Group
) -> Iterator[Result]:
    """A result for each contender; `detail` has the curve."""
    half = len(sizes) // 2
    for contender in (HAND, EAGER, COMPILED, TORCH):
        label = f"exponent of {name}, {contender}"
        if contender in group.absent:
            yield Result("growth", label, what, unit="exponent", skipped=group.why_not(contender))
        if not all(contender in times for times in by_size):
            continue
        curve = [times[contender] for times in by_size]
        per_round = [figures.exponent(sizes[half:], costs) for costs in zip(*curve[half:])]
        seconds = [figures.median(times) for times in curve]
        whole = round(figures.exponent(sizes, seconds), 3)
        detail = {"sweep": name, "who": contender, "sizes": sizes, "seconds": seconds, "over all sizes": whole}
        yield Result("growth", label, what, per_round, "exponent", detail=detail)
