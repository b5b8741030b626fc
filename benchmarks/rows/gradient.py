"""The gradient of the 784-300-100-10 MLP with softmax cross-entropy."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from benchmarks import figures
from benchmarks.children import Contender, Group, started
from benchmarks.registry import Bar, Result, Settings, row

HAND, FLOOR, EAGER, FUNCTIONS, COMPILED = "by hand", "products alone", "eager", "eager by functions", "compiled"
OTHERS = ("PyTorch", "JAX jit", "autograd")

CONTENDERS = (
    Contender(HAND, "by_hand:gradient"),
    Contender(FLOOR, "gemm:gradient"),
    Contender(EAGER, "ours:gradient", settings={"kind": "modules"}),
    Contender(FUNCTIONS, "ours:gradient", settings={"kind": "functions"}),
    Contender(COMPILED, "ours:gradient", settings={"kind": "compiled"}),
    Contender("PyTorch", "pytorch:gradient", "torch"),
    Contender("JAX jit", "jax_jit:gradient", "jax"),
    Contender("autograd", "hips:gradient", "autograd"),
)

EAGER_BARS = {1: Bar(0.45), 32: Bar(1.0), 128: Bar(1.0)}
COMPILED_BARS = {
    1: {1: Bar(0.30, 0.16), 32: Bar(0.85, 0.75), 128: Bar(0.96, 0.88)},
    2: {1: Bar(0.30), 32: Bar(0.92), 128: Bar(1.0)},
}


NOTES = """
    By hand is `benchmarks/baselines/mlp_numpy.py`: plain expressions, nothing left out. Eager is `nn.Sequential` with
    `CrossEntropyLoss`, `optimizer.zero_grad()` and `loss.backward()`; compiled is the same function under `fw.compile`.
    Products alone are the eight matrix products in preallocated arrays, in the memory layout that a search over all of
    them finds fastest, and nothing else. PyTorch runs eagerly. autograd is given the parameters as arguments of their
    own, which is quicker there than a list. All start from the same weights and see the same batch.
"""


def circumstances(batch: int, threads: int) -> str:
    """Batch and threads in words.

    Examples:
        >>> circumstances(32, 1)
        'batch 32, 1 thread'
    """
    return f"batch {batch}, {in_words(threads)}"


def in_words(threads: int) -> str:
    """The number of threads.

    Examples:
        >>> in_words(2)
        '2 threads'
    """
    return f"{threads} thread{'s' if threads > 1 else ''}"


def microseconds(times: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """The median of each contender."""
    return {name: round(figures.median(values) * 1e6, 2) for name, values in times.items()}


@row("gradient", "loss and gradient of a 784-300-100-10 MLP ÷ NumPy by hand", minutes=1.5, notes=NOTES)
def gradient(settings: Settings) -> Iterator[Result]:
    """Ratios to NumPy by hand, and of compiled to the faster of PyTorch and JAX."""
    for threads in settings.threads:
        with started(CONTENDERS, threads, settings.scratch) as group:
            for batch in (1, 32, 128):
                times = group.interleave({"batch": batch}, settings.rounds_or(61))
                yield from results(group, times, batch, threads)


def results(group: Group, times: dict[str, list[float]], batch: int, threads: int) -> Iterator[Result]:
    """The figures of one batch size."""
    case, detail = circumstances(batch, threads), microseconds(times)
    bars = {EAGER: EAGER_BARS[batch], COMPILED: COMPILED_BARS.get(threads, {}).get(batch)}
    for name in (EAGER, COMPILED, FUNCTIONS, FLOOR, *OTHERS):
        what = f"{name} ÷ {HAND}"
        if name not in group:
            yield Result("gradient", what, case, bar=bars.get(name), skipped=group.why_not(name))
            continue
        shown = detail if name == EAGER else {}
        yield Result("gradient", what, case, figures.ratios(times[name], times[HAND]), bar=bars.get(name), detail=shown)
    rivals = [times[name] for name in OTHERS[:2] if name in times]
    what = f"{COMPILED} ÷ the faster of PyTorch and JAX jit"
    if COMPILED in times and rivals:
        yield Result("gradient", what, case, figures.ratios(times[COMPILED], figures.faster(*rivals)), bar=Bar(1.0))
    else:
        reason = group.why_not(COMPILED, *OTHERS[:2])
        yield Result("gradient", what, case, bar=Bar(1.0), skipped=reason)
