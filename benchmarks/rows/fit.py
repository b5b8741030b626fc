"""The throughput of `Trainer.fit` with all its defaults: logger, checkpoint, progress bar."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import figures
from benchmarks.children import Contender, started
from benchmarks.registry import Bar, Result, Settings, row
from benchmarks.rows.gradient import circumstances, microseconds

BATCH = 128
COMPILED, EAGER = "Trainer.fit, compiled", "Trainer.fit, eager"
BARS = {
    "Lightning's Trainer.fit": Bar(5.0, 7.0, at_least=True),
    "a PyTorch loop with DataLoader": Bar(2.5, 3.5, at_least=True),
    "a PyTorch loop with index slicing": Bar(1.7, 2.4, at_least=True),
}


def contenders(settings: Settings) -> list[Contender]:
    """All train the same network on the same images."""
    data = {
        "batch": BATCH,
        "data": None if settings.data is None else str(settings.data),
        "samples": 2560 if settings.quick else 38_400,
    }
    lightning, loader, slices = BARS
    return [
        Contender(COMPILED, "our_trainer:fit", settings={**data, "kind": "compiled"}),
        Contender(EAGER, "our_trainer:fit", settings={**data, "kind": "eager"}),
        Contender(lightning, "lightning_fit:fit", "lightning", data),
        Contender(loader, "pytorch:epoch_with_loader", "torch", data),
        Contender(slices, "pytorch:epoch_with_slices", "torch", data),
    ]


NOTES = """
    All defaults: logger, checkpoint and progress bar. A turn is an epoch of 300 batches of 128 images, from one
    `on_train_epoch_start` to the next, so the checkpoint, the rows and whatever else ends an epoch are in it; what the
    progress bar prints goes to a file. Lightning's logger is CSVLogger where TensorBoard is not installed. PyTorch and
    Lightning are given normalized float32 tensors in a TensorDataset and start no worker processes; we keep uint8 and
    normalize each batch.
"""


@row("fit", "throughput of Trainer.fit ÷ Lightning's, and ÷ bare PyTorch loops", minutes=1.5, notes=NOTES)
def fit(settings: Settings) -> Iterator[Result]:
    """Ratios of throughputs, so more is better; a turn is an epoch of 300 steps."""
    threads = settings.most_threads
    with started(contenders(settings), threads, settings.scratch) as group:
        times = group.interleave({}, settings.rounds_or(15), count=1)
    case, detail = circumstances(BATCH, threads), microseconds(times)
    for ours in (COMPILED, EAGER):
        for name, bar in BARS.items():
            result = Result("fit", f"{ours} ÷ {name}", case, unit="times the throughput", bar=bar)
            if ours in times and name in times:
                result.values = figures.ratios(times[name], times[ours])
                result.detail, detail = detail, {}
            else:
                result.skipped = group.why_not(ours, name)
            yield result
