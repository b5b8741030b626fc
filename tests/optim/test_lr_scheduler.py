"""Schedules: their sequences, and continuing them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework import nn, optim
from framework.errors import CheckpointError, ConfigError
from framework.optim import lr_scheduler

SCHEDULES: dict[str, tuple[str, dict[str, Any]]] = {
    "step": ("StepLR", {"step_size": 7}),
    "step-1": ("StepLR", {"step_size": 1, "gamma": 0.97}),
    "cosine": ("CosineAnnealingLR", {"T_max": 50}),
    "cosine-low": ("CosineAnnealingLR", {"T_max": 13, "eta_min": 0.01}),
    "cosine-1": ("CosineAnnealingLR", {"T_max": 1}),
    "restarts": ("CosineAnnealingWarmRestarts", {"T_0": 7}),
    "restarts-longer": ("CosineAnnealingWarmRestarts", {"T_0": 5, "T_mult": 2, "eta_min": 0.01}),
    "restarts-1": ("CosineAnnealingWarmRestarts", {"T_0": 1, "T_mult": 3}),
    "milestones": ("MultiStepLR", {"milestones": [3, 40, 12, 12]}),
    "milestones-0": ("MultiStepLR", {"milestones": (0, 1), "gamma": 0.7}),
    "exponential": ("ExponentialLR", {"gamma": 0.97}),
    "constant": ("ConstantLR", {}),
    "constant-0.1": ("ConstantLR", {"factor": 0.1, "total_iters": 17}),
    "linear": ("LinearLR", {}),
    "linear-down": ("LinearLR", {"start_factor": 0.9, "end_factor": 0.0, "total_iters": 30}),
    "polynomial": ("PolynomialLR", {}),
    "polynomial-2": ("PolynomialLR", {"total_iters": 53, "power": 1.7}),
    "lambda": ("LambdaLR", {"lr_lambda": lambda step: 0.9**step}),
    "lambdas": ("LambdaLR", {"lr_lambda": [lambda step: 1 / (1 + step), lambda step: step % 3]}),
    "plateau": ("ReduceLROnPlateau", {"patience": 3}),
    "plateau-max": ("ReduceLROnPlateau", {"mode": "max", "factor": 0.7, "patience": 0, "threshold": 0.05}),
    "plateau-abs": (
        "ReduceLROnPlateau",
        {"factor": 0.5, "patience": 2, "threshold": 0.02, "threshold_mode": "abs", "cooldown": 4, "min_lr": [0.01, 0.0]},
    ),
    "plateau-max-abs": (
        "ReduceLROnPlateau",
        {"mode": "max", "patience": 1, "threshold_mode": "abs", "min_lr": 1e-3, "eps": 1e-2},
    ),
    "sequence": (
        "SequentialLR",
        {"schedulers": ["linear", "exponential"], "milestones": [5]},
    ),
    "sequence-of-three": (
        "SequentialLR",
        {"schedulers": ["constant-0.1", "cosine-low", "step"], "milestones": [10, 31]},
    ),
    "sequence-of-all": (
        "SequentialLR",
        {
            "schedulers": ["restarts-longer", "milestones", "linear-down", "polynomial-2", "lambda", "constant"],
            "milestones": [9, 20, 33, 41, 60],
        },
    ),
    "sequence-at-0": ("SequentialLR", {"schedulers": ["linear", "step-1"], "milestones": [0]}),
    "sequence-in-sequence": ("SequentialLR", {"schedulers": ["sequence", "cosine"], "milestones": [25]}),
    "one-cycle": ("OneCycleLR", {"max_lr": 0.7, "total_steps": 200}),
    "one-cycle-3": ("OneCycleLR", {"max_lr": 0.7, "total_steps": 200, "three_phase": True, "pct_start": 0.37}),
    "one-cycle-line": ("OneCycleLR", {"max_lr": 0.7, "epochs": 20, "steps_per_epoch": 11, "anneal_strategy": "linear"}),
    "one-cycle-odd": (
        "OneCycleLR",
        {
            "max_lr": 0.7, "total_steps": 203, "pct_start": 0.123, "div_factor": 7.0, "final_div_factor": 3.0,
            "base_momentum": 0.1, "max_momentum": 0.99,
        },
    ),
    "one-cycle-still": ("OneCycleLR", {"max_lr": 0.7, "total_steps": 200, "cycle_momentum": False}),
    "one-cycle-down": ("OneCycleLR", {"max_lr": 0.7, "total_steps": 200, "pct_start": 0.0}),
}  # fmt: skip
OPTIMIZERS: dict[str, tuple[str, dict[str, Any]]] = {
    "sgd": ("SGD", {"lr": 0.3, "momentum": 0.9}),
    "adam": ("Adam", {"lr": 0.3}),
}
all_schedules = pytest.mark.parametrize("schedule", SCHEDULES)
both_optimizers = pytest.mark.parametrize("kind", OPTIMIZERS)


def make_optimizer(kind: str = "sgd", library: Any = optim, parameter: Callable[[Any], Any] = nn.Parameter) -> Any:
    name, kwargs = OPTIMIZERS[kind]
    groups = [{"params": [parameter(1.0)]}, {"params": [parameter(1.0)], "lr": 0.05}]
    return getattr(library, name)(groups, **kwargs)


def make(schedule: str, optimizer: Any, library: Any = lr_scheduler) -> Any:
    name, kwargs = SCHEDULES[schedule]
    if name == "SequentialLR":
        kwargs = {**kwargs, "schedulers": [make(part, optimizer, library) for part in kwargs["schedulers"]]}
    return getattr(library, name)(optimizer, **kwargs)


def advance(scheduler: Any, k: int) -> None:
    """Step number `k`; with a metric that goes down, comes back a little and stays, where one is watched."""
    if type(scheduler).__name__ == "ReduceLROnPlateau":
        scheduler.step(math.nan if k == 8 else 2 / (1 + k) + 0.3 * math.sin(k))
    else:
        scheduler.step()


def row(optimizer: Any) -> list[float]:
    return [
        value
        for group in optimizer.param_groups
        for value in (group["lr"], group.get("momentum", 0.0), *group.get("betas", ()))
    ]


def test_every_schedule_is_here() -> None:
    offered = {name: getattr(lr_scheduler, name) for name in dir(lr_scheduler)}
    exported = {n for n, v in offered.items() if isinstance(v, type) and issubclass(v, lr_scheduler.LRScheduler)}
    assert {name for name, _ in SCHEDULES.values()} == exported - {"LRScheduler"}


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore:Detected call of")
@both_optimizers
@all_schedules
def test_equals_torch(schedule: str, kind: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    ours = make_optimizer(kind)
    theirs = make_optimizer(kind, torch.optim, lambda v: torch.nn.Parameter(torch.tensor(v)))
    a, b = make(schedule, ours), make(schedule, theirs, torch.optim.lr_scheduler)
    for k in range(200):
        assert row(ours) == row(theirs)
        assert a.get_last_lr() == b.get_last_lr()
        assert a.last_epoch == b.last_epoch
        advance(a, k)
        advance(b, k)


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore:Detected call of")
@pytest.mark.parametrize("last_epoch", [0, 3, 6, 11])
@all_schedules
def test_continued_equals_torch(schedule: str, last_epoch: int) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    name, kwargs = SCHEDULES[schedule]
    if name in ("ReduceLROnPlateau", "SequentialLR", "OneCycleLR"):
        pytest.skip("PyTorch's takes no last_epoch, makes nothing of it, or takes its rates from the groups")
    rows = []
    for library, schedules, parameter in (
        (optim, lr_scheduler, nn.Parameter),
        (torch.optim, torch.optim.lr_scheduler, lambda v: torch.nn.Parameter(torch.tensor(v))),
    ):
        optimizer = make_optimizer("sgd", library, parameter)
        for group in optimizer.param_groups:
            group["initial_lr"] = group["lr"] * 2
        scheduler = getattr(schedules, name)(optimizer, **kwargs, last_epoch=last_epoch)
        rows.append([])
        for _ in range(30):
            rows[-1].append([group["lr"] for group in optimizer.param_groups])
            scheduler.step()
    assert rows[0] == rows[1]


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore:Detected call of")
def test_places_between_steps_equal_torch() -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for schedule in ("restarts", "restarts-longer", "restarts-1"):
        ours = make_optimizer()
        theirs = make_optimizer("sgd", torch.optim, lambda v: torch.nn.Parameter(torch.tensor(v)))
        a, b = make(schedule, ours), make(schedule, theirs, torch.optim.lr_scheduler)
        for epoch in (0, 0.25, 3.5, 8, 8.75, 30.1, None, None, 2):
            a.step(epoch)
            b.step(epoch)
            assert row(ours) == row(theirs)
            assert a.last_epoch == b.last_epoch


@both_optimizers
@all_schedules
def test_resume(schedule: str, kind: str) -> None:
    """Saved at any step and loaded into new objects, the sequence goes on, whatever was constructed first."""
    optimizer = make_optimizer(kind)
    scheduler = make(schedule, optimizer)
    rows, saved = [], []
    for _ in range(60):
        rows.append(row(optimizer))
        saved.append(json.loads(json.dumps((optimizer.state_dict(), scheduler.state_dict()))))
        advance(scheduler, len(rows))
    for at in (0, 1, 12, 13, 37):
        for optimizer_first in (True, False):
            other = make_optimizer(kind)
            if optimizer_first:
                other.load_state_dict(saved[at][0])
            twin = make(schedule, other)
            if not optimizer_first:
                other.load_state_dict(saved[at][0])
            twin.load_state_dict(saved[at][1])
            again = []
            for k in range(at, 60):
                again.append(row(other))
                advance(twin, k + 1)
            assert again == rows[at:]


@all_schedules
def test_numbers_are_pythons(schedule: str) -> None:
    optimizer = make_optimizer()
    for group in optimizer.param_groups:
        group["lr"] = np.float64(group["lr"])
    scheduler = make(schedule, optimizer)
    for k in range(3):
        advance(scheduler, k)
        assert all(type(value) is float for value in row(optimizer))
        assert all(type(value) is float for value in scheduler.get_last_lr())


def test_known_values() -> None:
    optimizer = make_optimizer()
    scheduler = lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=12, pct_start=0.5)
    rates, momenta = [], []
    for _ in range(12):
        rates.append(optimizer.param_groups[0]["lr"])
        momenta.append(optimizer.param_groups[0]["momentum"])
        scheduler.step()
    assert rates[0] == pytest.approx(1 / 25)
    assert rates.index(max(rates)) == 5
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(1 / 25 / 1e4)
    assert (momenta[0], momenta[5], momenta[-1]) == pytest.approx((0.95, 0.85, 0.95))
    cosine = lr_scheduler.CosineAnnealingLR(make_optimizer(), T_max=4)
    for k in range(5):
        assert cosine.get_last_lr()[0] == pytest.approx(0.3 * (1 + math.cos(math.pi * k / 4)) / 2, abs=1e-15)
        cosine.step()


def test_other_changes_carry_over() -> None:
    """StepLR scales the rate that is set, so it works beside other schedules and changes by hand."""
    optimizer = make_optimizer()
    scheduler = lr_scheduler.StepLR(optimizer, 2, gamma=0.5)
    optimizer.param_groups[0]["lr"] = 8.0
    scheduler.step()
    scheduler.step()
    assert optimizer.param_groups[0]["lr"] == 4.0


def test_continue_from_last_epoch() -> None:
    optimizer = make_optimizer()
    with pytest.raises(ConfigError, match="group 0 has no 'initial_lr'; load the optimizer's state first"):
        lr_scheduler.StepLR(optimizer, 3, last_epoch=4)
    lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=10)
    scheduler = lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=10, last_epoch=1)
    assert scheduler.last_epoch == 2
    assert optimizer.param_groups[0]["lr"] == 1.0


def one_cycle(**kwargs: Any) -> lr_scheduler.OneCycleLR:
    return lr_scheduler.OneCycleLR(make_optimizer(), **{"max_lr": 1.0, "total_steps": 5, **kwargs})


def past_the_end() -> None:
    scheduler = one_cycle()
    for _ in range(6):
        scheduler.step()


def sequence(parts: Callable[[Any], list[Any]], milestones: list[int]) -> None:
    optimizer = make_optimizer()
    lr_scheduler.SequentialLR(optimizer, parts(optimizer), milestones)


ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        past_the_end,
        ConfigError,
        "step 6 of a cycle of 5 steps. Give total_steps the number of updates of the whole run",
    ),
    (lambda: one_cycle(total_steps=None), ConfigError, "give total_steps, or both epochs and steps_per_epoch"),
    (lambda: one_cycle(total_steps=0), ConfigError, "total_steps must be a positive integer, got 0"),
    (lambda: one_cycle(total_steps=None, epochs=2.5), ConfigError, "epochs must be a positive integer, got 2.5"),
    (lambda: one_cycle(pct_start=1.5), ConfigError, "pct_start must be in [0, 1], got 1.5"),
    (lambda: one_cycle(anneal_strategy="cosine"), ConfigError, "'cos' or 'linear', got 'cosine'"),
    (lambda: one_cycle(max_lr=[1.0]), ConfigError, "max_lr has 1 values, the optimizer 2 groups"),
    (
        lambda: lr_scheduler.OneCycleLR(optim.Rprop([nn.Parameter(1.0)]), 1.0, 5),
        ConfigError,
        "Rprop has no momentum and no betas; pass cycle_momentum=False",
    ),
    (lambda: lr_scheduler.StepLR(make_optimizer(), 0), ConfigError, "step_size is a number of steps, got 0"),
    (lambda: lr_scheduler.CosineAnnealingLR(make_optimizer(), 2.5), ConfigError, "T_max is a number of steps, got 2.5"),
    (
        lambda: lr_scheduler.StepLR(make_optimizer(), 2, gamma="0.1x"),
        ConfigError,
        "StepLR: gamma must be a number, got",
    ),
    (lambda: lr_scheduler.MultiStepLR(make_optimizer(), [1.5]), ConfigError, "are numbers of steps, got [1.5]"),
    (lambda: lr_scheduler.MultiStepLR(make_optimizer(), 3), ConfigError, "milestones are numbers of steps, got 3"),
    (lambda: lr_scheduler.ConstantLR(make_optimizer(), 1.5), ConfigError, "ConstantLR: factor must be in [0, 1], got"),
    (lambda: lr_scheduler.ConstantLR(make_optimizer(), total_iters=0), ConfigError, "total_iters is a number of steps"),
    (lambda: lr_scheduler.LinearLR(make_optimizer(), 0.0), ConfigError, "LinearLR: start_factor must be above 0"),
    (lambda: lr_scheduler.LinearLR(make_optimizer(), end_factor=2), ConfigError, "end_factor must be in [0, 1], got 2"),
    (lambda: lr_scheduler.LinearLR(make_optimizer(), total_iters=True), ConfigError, "is a number of steps, got True"),
    (lambda: lr_scheduler.PolynomialLR(make_optimizer(), power=-1), ConfigError, "power must be at least 0, got -1"),
    (lambda: lr_scheduler.PolynomialLR(make_optimizer(), 0), ConfigError, "total_iters is a number of steps, got 0"),
    (lambda: lr_scheduler.CosineAnnealingWarmRestarts(make_optimizer(), 0), ConfigError, "T_0 is a number of steps"),
    (
        lambda: lr_scheduler.CosineAnnealingWarmRestarts(make_optimizer(), 5, 0),
        ConfigError,
        "T_mult must be a positive",
    ),
    (lambda: lr_scheduler.CosineAnnealingWarmRestarts(make_optimizer(), 5).step(-1), ConfigError, "at least 0, got -1"),
    (lambda: lr_scheduler.LambdaLR(make_optimizer(), 0.9), ConfigError, "a function of the number of steps, got 0.9"),
    (lambda: lr_scheduler.LambdaLR(make_optimizer(), [abs]), ConfigError, "has 1 functions, the optimizer 2 groups"),
    (
        lambda: lr_scheduler.LambdaLR(make_optimizer(), abs).load_state_dict(
            lr_scheduler.ExponentialLR(make_optimizer(), 0.9).state_dict()
        ),
        CheckpointError,
        "LambdaLR.load_state_dict: the state has no lr_lambdas",
    ),
    (lambda: lr_scheduler.ReduceLROnPlateau(make_optimizer(), "low"), ConfigError, "mode is 'min' or 'max', got 'low'"),
    (lambda: lr_scheduler.ReduceLROnPlateau(make_optimizer(), factor=1), ConfigError, "factor must be below 1, got 1"),
    (
        lambda: lr_scheduler.ReduceLROnPlateau(make_optimizer(), patience=-1),
        ConfigError,
        "patience is a number of steps",
    ),
    (
        lambda: lr_scheduler.ReduceLROnPlateau(make_optimizer(), threshold_mode="both"),
        ConfigError,
        "threshold_mode is 'rel' or 'abs', got 'both'",
    ),
    (
        lambda: lr_scheduler.ReduceLROnPlateau(make_optimizer(), min_lr=[0.1]),
        ConfigError,
        "min_lr has 1 values, the optimizer 2 groups",
    ),
    (lambda: sequence(lambda o: [lr_scheduler.StepLR(o, 1)], [3]), ConfigError, "1 schedules need a milestone between"),
    (lambda: sequence(lambda o: [], []), ConfigError, "0 schedules need a milestone between each two, 0 in all; got 0"),
    (
        lambda: sequence(lambda o: [lr_scheduler.StepLR(make_optimizer(), 1)], []),
        ConfigError,
        "schedulers[0] belongs to another optimizer",
    ),
    (
        lambda: sequence(lambda o: [lr_scheduler.StepLR(o, 1), lr_scheduler.ReduceLROnPlateau(o)], [3]),
        ConfigError,
        "schedulers[1] must be a schedule whose step() needs no metric, got ReduceLROnPlateau",
    ),
    (
        lambda: make("sequence", make_optimizer()).load_state_dict(
            make("sequence-of-three", make_optimizer()).state_dict()
        ),
        CheckpointError,
        "SequentialLR.load_state_dict: the state is of 3 schedules, this one has 2",
    ),
    (lambda: lr_scheduler.StepLR(nn.Linear(1, 1), 1), ConfigError, "StepLR: needs an optimizer, got Linear"),
    (lambda: one_cycle().load_state_dict({"last_epoch": 1}), CheckpointError, "the state has no base_lrs, total_steps"),
    (
        lambda: lr_scheduler.StepLR(optim.SGD([nn.Parameter(1.0)]), 1).load_state_dict(
            lr_scheduler.StepLR(make_optimizer(), 1).state_dict()
        ),
        CheckpointError,
        "is of 2 groups, the optimizer has 1",
    ),
]


@pytest.mark.parametrize("case", range(len(ERRORS)))
def test_errors(case: int) -> None:
    call, kind, text = ERRORS[case]
    with pytest.raises(kind, match=re.escape(text)):
        call()


def test_short_cycles() -> None:
    """One step, and a rise that ends where it begins."""
    for total, share in ((1, 0.3), (2, 0.5), (10, 0.1), (3, 1.0)):
        optimizer = make_optimizer()
        scheduler = lr_scheduler.OneCycleLR(optimizer, max_lr=1.0, total_steps=total, pct_start=share)
        for _ in range(total):
            assert all(math.isfinite(value) for value in row(optimizer))
            scheduler.step()


def test_a_rate_per_group() -> None:
    scheduler = lr_scheduler.OneCycleLR(make_optimizer(), max_lr=[1.0, 2.0], total_steps=10)
    assert scheduler.get_last_lr() == pytest.approx([1 / 25, 2 / 25])


def test_a_constant_factor_of_zero_ends() -> None:
    optimizer = make_optimizer()
    scheduler = lr_scheduler.ConstantLR(optimizer, factor=0.0, total_iters=2)
    rates = []
    for _ in range(4):
        rates.append(scheduler.get_last_lr())
        scheduler.step()
    assert rates == [[0.0, 0.0], [0.0, 0.0], [0.3, 0.05], [0.3, 0.05]]


def test_a_callable_keeps_its_own_state() -> None:
    class Counting:
        def __init__(self) -> None:
            self.calls = 0

        def __call__(self, step: int) -> float:
            self.calls += 1
            return 1.0 / self.calls

    scheduler = lr_scheduler.LambdaLR(make_optimizer(), [Counting(), lambda step: 2.0])
    scheduler.step()
    saved = scheduler.state_dict()
    assert saved["lr_lambdas"] == [{"calls": 2}, None]
    twin = lr_scheduler.LambdaLR(make_optimizer(), [Counting(), lambda step: 2.0])
    twin.load_state_dict(saved)
    twin.step()
    assert twin.get_last_lr() == pytest.approx([0.3 / 3, 0.1])


def test_plateau_reads_a_tensor_and_follows_added_groups() -> None:
    optimizer = make_optimizer()
    scheduler = lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, factor=0.5, min_lr=0.2)
    assert scheduler.needs_metric
    assert not lr_scheduler.StepLR.needs_metric
    optimizer.add_param_group({"params": [nn.Parameter(1.0)], "lr": 8.0})
    for loss in (1.0, 1.0):
        scheduler.step(fw.tensor(loss))
    assert scheduler.get_last_lr() == [0.2, 0.05, 4.0]
    apart = lr_scheduler.ReduceLROnPlateau(optimizer, patience=0, min_lr=[0.1, 0.2, 0.3])
    optimizer.add_param_group({"params": [nn.Parameter(1.0)]})
    apart.step(1.0)
    with pytest.raises(ConfigError, match="min_lr has 3 values, the optimizer now 4 groups; append those of the new"):
        apart.step(1.0)


def test_a_sequence_in_the_middle_of_a_sequence_begins_anew() -> None:
    """PyTorch refuses it."""
    optimizer = make_optimizer()
    first = lr_scheduler.ExponentialLR(optimizer, 0.5)
    second = make("sequence", optimizer)
    scheduler = lr_scheduler.SequentialLR(optimizer, [first, second], [3])
    rates = []
    for _ in range(9):
        rates.append(scheduler.get_last_lr()[0])
        scheduler.step()
    assert rates[:3] == [0.3, 0.15, 0.075]
    assert rates[3:9] == pytest.approx([0.1, 0.14, 0.18, 0.22, 0.26, 0.3])
    assert scheduler.get_last_lr()[0] == pytest.approx(0.3 * 0.97)
