"""The whole training step: gather, forward, backward, momentum update."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import figures
from benchmarks.children import Contender, started
from benchmarks.registry import Bar, Result, Settings, row
from benchmarks.rows.gradient import circumstances, microseconds

FLOOR, HAND = "its eight products alone", "by hand"
BATCH = 128


def contenders(settings: Settings) -> list[Contender]:
    """All work on the same images, in the same order."""
    data = {
        "data": None if settings.data is None else str(settings.data),
        "samples": 2560 if settings.quick else 12_800,
    }
    return [
        Contender(HAND, "by_hand:step", settings=data),
        Contender(FLOOR, "gemm:step", settings=data),
        Contender("eager", "ours:step", settings={**data, "kind": "eager"}),
        Contender("compiled", "ours:step", settings={**data, "kind": "compiled"}),
        Contender("PyTorch", "pytorch:step", "torch", data),
    ]


NOTES = """
    A batch of 128 is gathered by index from 12,800 images, in the same order for all. By hand and PyTorch gather from
    float32 images that were normalized beforehand; we gather uint8 and normalize it. The products are those of
    `gradient`; gather and update have none.
"""


@row("step", "gather, forward, backward, momentum update ÷ the step's matrix products alone", minutes=0.5, notes=NOTES)
def step(settings: Settings) -> Iterator[Result]:
    """Ratios to the products alone, and to the loop by hand."""
    for threads in settings.threads:
        with started(contenders(settings), threads, settings.scratch) as group:
            times = group.interleave({"batch": BATCH}, settings.rounds_or(61))
        case, detail = circumstances(BATCH, threads), microseconds(times)
        for name in ("compiled", "eager", "PyTorch", HAND):
            bar = Bar(1.35, 1.2) if name == "compiled" else None
            if name not in times:
                yield Result("step", f"{name} ÷ {FLOOR}", case, bar=bar, skipped=group.why_not(name))
                continue
            ratios = figures.ratios(times[name], times[FLOOR])
            yield Result("step", f"{name} ÷ {FLOOR}", case, ratios, bar=bar, detail=detail if name == HAND else {})
        for name in ("compiled", "eager"):
            if name in times:
                yield Result("step", f"{name} ÷ {HAND}", case, figures.ratios(times[name], times[HAND]))
