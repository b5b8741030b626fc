"""What our Trainer costs by itself: over a bare loop of the same operations, and in depth of the stack."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks.children import Contender, started
from benchmarks.registry import Bar, Result, Settings, row

FEW, MANY = 50, 1050
FULL, SAVING = "with checkpoints", "bare, saving"
EPOCH = (
    "cost per epoch over a bare loop",
    "cost per epoch over a bare loop that saves the same checkpoint",
    "cost per epoch without checkpoints over a bare loop",
)
BETWEEN = "time between two epochs of real length over a bare loop's"


def contenders(kind: str) -> list[Contender]:
    """A fit with and without checkpoints, and the bare loop, each with short and with long epochs."""
    found = []
    for steps in (FEW, MANY):
        common = {"steps": steps, "kind": kind}
        found += [
            Contender(f"bare {steps}", "our_trainer:bare_one_layer", settings=common),
            Contender(f"light {steps}", "our_trainer:fit_one_layer", settings={**common, "checkpoints": False}),
        ]
    full, saving = ({"steps": FEW, "kind": kind, **more} for more in ({"checkpoints": True}, {"saves": True}))
    return [
        *found,
        Contender(FULL, "our_trainer:fit_one_layer", settings=full),
        Contender(SAVING, "our_trainer:bare_one_layer", settings=saving),
    ]


NOTES = """
    A model of one layer, 8 to 2, at batch 8, so that a step is little but what is around it. The bare loop iterates
    over the same DataLoader and calls the model, the loss, `backward` and the optimizer. Epochs of 50 and of 1,050
    steps, without checkpoints, tell the cost of a step from that of an epoch. The Trainer logs, shows a progress bar
    and writes a checkpoint each epoch, whose files are synchronized with the disk: how long that takes is the disk's
    affair. A checkpoint is written in the background while the next epoch trains, for which epochs of 50 such steps
    are too short; the time between two epochs, from the end of one's last batch to the other's first, is therefore
    taken from a fit of the 784-300-100-10 MLP with 215 batches of 128 images.
"""


@row("trainer", "the Trainer's own cost over a bare loop of the same operations", minutes=0.8, notes=NOTES)
def trainer(settings: Settings) -> Iterator[Result]:
    """From epochs of 50 and of 1,050 steps of a one-layer model, with all defaults of the Trainer."""
    frames = 0
    for kind in ("eager", "compiled"):
        with started(contenders(kind), 1, settings.scratch) as group:
            times = group.interleave({}, settings.rounds_or(25), count=1, discard=2)
            if not group.absent:
                frames = frames or int(group.children[FULL].measure({})["frames"])
        reason = group.why_not(*group.absent)
        step, *by_epoch = costs(times) if not group.absent else [[]] * 4
        case = f"{kind}, 1 thread"
        yield Result("trainer", "cost per step over a bare loop", case, step, "µs", Bar(20.0), skipped=reason)
        for what, values in zip(EPOCH, by_epoch):
            yield Result("trainer", what, case, values, "ms", skipped=reason)
        yield between_epochs(settings, kind, case)
    yield Result("trainer", "stack at training_step, from and including Trainer.fit", "", [frames], "frames", Bar(6.0))


def between_epochs(settings: Settings, kind: str, case: str) -> Result:
    """Milliseconds between two epochs of real length over those of a loop by hand."""
    data = {"batch": 128, "data": None if settings.data is None else str(settings.data), "kind": kind}
    data["samples"] = 2560 if settings.quick else 27_520
    pair = [Contender("bare", "our_trainer:bare_boundary", settings=data)]
    pair.append(Contender("fit", "our_trainer:boundary", settings=data))
    with started(pair, 1, settings.scratch) as group:
        times = group.interleave({}, settings.rounds_or(15), count=1, discard=2)
        values = [] if group.absent else [(f - b) * 1e3 for f, b in zip(times["fit"], times["bare"])]
        reason = group.why_not(*group.absent)
    return Result("trainer", BETWEEN, case, values, "ms", Bar(5.0), skipped=reason)


def costs(times: dict[str, list[float]]) -> list[list[float]]:
    """Microseconds per step, and milliseconds per epoch as in `EPOCH`, round by round.

    The cost of an epoch of n steps is epoch + n * step; two lengths give both.
    """
    over = {n: [f - b for f, b in zip(times[f"light {n}"], times[f"bare {n}"])] for n in (FEW, MANY)}
    step = [(many - few) / (MANY - FEW) for few, many in zip(over[FEW], over[MANY])]
    light = [few - FEW * s for few, s in zip(over[FEW], step)]
    epoch = [f - b - FEW * s for f, b, s in zip(times[FULL], times[f"bare {FEW}"], step)]
    saving = [f - b - FEW * s for f, b, s in zip(times[FULL], times[SAVING], step)]
    return [[s * 1e6 for s in step], *([e * 1e3 for e in costs] for costs in (epoch, saving, light))]
