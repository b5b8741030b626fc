"""Whole training steps of a CNN and of a character-level transformer, and the gradient of an embedding."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import figures
from benchmarks.children import Contender, started
from benchmarks.registry import Bar, Result, Settings, row
from benchmarks.rows.gradient import circumstances, in_words, microseconds

COMPILED, EAGER, TORCH = "compiled", "eager", "PyTorch"


def _steps(settings: Settings, name: str, batch: int) -> Iterator[Result]:
    both = [Contender(kind, f"our_networks:{name}_step", settings={"kind": kind}) for kind in (COMPILED, EAGER)]
    contenders = (*both, Contender(TORCH, f"torch_networks:{name}_step", "torch"))
    for threads in settings.threads:
        with started(contenders, threads, settings.scratch) as group:
            times = group.interleave({"batch": batch}, settings.rounds_or(31))
        case, detail = circumstances(batch, threads), microseconds(times)
        for kind in (COMPILED, EAGER):
            what, bar = f"{kind} ÷ {TORCH}", Bar(1.0, 0.7) if kind == COMPILED else None
            if kind in times and TORCH in times:
                ratios = figures.ratios(times[kind], times[TORCH])
                yield Result(name, what, case, ratios, bar=bar, detail=detail if kind == COMPILED else {})
            else:
                yield Result(name, what, case, bar=bar, skipped=group.why_not(kind, TORCH))
    faults = [Contender(COMPILED, f"our_networks:{name}_step", settings={"kind": "faults"})]
    with started(faults, settings.most_threads, settings.scratch) as group:
        found = group.interleave({"batch": batch}, settings.rounds_or(15), count=1)
        reason = group.why_not(COMPILED)
    case, what = circumstances(batch, settings.most_threads), "minor page faults per step, compiled"
    yield Result(name, what, case, found.get(COMPILED, []), "faults", Bar(100.0), skipped=reason)


CNN_NOTES = """
    Convolutions of 32 and 64 channels with 3 × 3 kernels, each with ReLU and pooling by 2, then 1600-128-10; SGD
    without momentum, softmax cross-entropy, the same batch of random 28 × 28 images in every step. All start from the
    same weights. PyTorch runs eagerly, as it does unless it is told otherwise.
"""


@row("cnn", "a training step of a small CNN ÷ PyTorch", minutes=1.0, notes=CNN_NOTES)
def cnn(settings: Settings) -> Iterator[Result]:
    """Ratios to PyTorch."""
    yield from _steps(settings, "cnn", 16 if settings.quick else 128)


TRANSFORMER_NOTES = """
    Four layers of width 128 with four heads, a context of 128 of 96 characters, layer norm before each part, GELU;
    AdamW. The same batch in every step, and the same weights at the start. PyTorch runs eagerly, its attention by
    `scaled_dot_product_attention`.
"""


@row("transformer", "a training step of a character-level transformer ÷ PyTorch", minutes=3.0, notes=TRANSFORMER_NOTES)
def transformer(settings: Settings) -> Iterator[Result]:
    """Ratios to PyTorch."""
    yield from _steps(settings, "transformer", 2 if settings.quick else 16)


@row(
    "embedding",
    "the gradient of an embedding of 5,000 × 128 ÷ numpy.add.at",
    minutes=0.2,
    notes="Random indices; the table of the gradient, filled with zeros, is part of both.",
)
def embedding(settings: Settings) -> Iterator[Result]:
    """How many times as fast as `add.at`."""
    both = [Contender(k, "our_networks:embedding_gradient", settings={"kind": k}) for k in ("kernel", "add.at")]
    threads = settings.most_threads
    with started(both, threads, settings.scratch) as group:
        for lookups in (2048, 16384):
            case = {"rows": 5000, "width": 128, "lookups": lookups}
            times = group.interleave(case, settings.rounds_or(31))
            ratios = figures.ratios(times["add.at"], times["kernel"])
            where = f"{lookups} lookups, {in_words(threads)}"
            yield Result("embedding", "add.at ÷ kernel", where, ratios, bar=Bar(5.0, at_least=True))
