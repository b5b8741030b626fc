"""Minor page faults: memory that is asked for from the system again and again."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.children import Contender, started
from benchmarks.registry import Bar, Result, Settings, row
from benchmarks.rows.gradient import circumstances

BATCH = 128


NOTES = """
    What `getrusage` counts over 100 steps as in `step`, after 200 that are not counted. A fault is a page of memory
    that was given back to the system and is asked for again.
"""


@row("faults", "minor page faults of a steady training step", minutes=0.2, notes=NOTES)
def faults(settings: Settings) -> Iterator[Result]:
    """As `getrusage` counts them, over 100 steps a round."""
    data = {"data": None if settings.data is None else str(settings.data), "samples": 12_800}
    both = [Contender(k, "ours:faults", settings={**data, "kind": k}) for k in ("compiled", "eager")]
    threads = settings.most_threads
    with started(both, threads, settings.scratch) as group:
        found = group.interleave({"batch": BATCH}, settings.rounds_or(15), count=1)
        for contender in both:
            bar = Bar(100.0) if contender.name == "compiled" else None
            values, reason = found.get(contender.name, []), group.why_not(contender.name)
            what = f"minor page faults per step, {contender.name}"
            yield Result("faults", what, circumstances(BATCH, threads), values, "faults", bar, skipped=reason)
