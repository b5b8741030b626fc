"""Schedules: their sequences, and continuing them."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from framework import nn, optim
from framework.errors import CheckpointError, ConfigError
from framework.optim import lr_scheduler

SCHEDULES: dict[str, tuple[str, dict[str, Any]]] = {
    "step": ("StepLR", {"step_size": 7}),
    "step-1": ("StepLR", {"step_size": 1, "gamma": 0.97}),
    "cosine": ("CosineAnnealingLR", {"T_max": 50}),
    "cosine-low": ("CosineAnnealingLR", {"T_max": 13, "eta_min": 0.01}),
    "cosine-1": ("CosineAnnealingLR", {"T_max": 1}),
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
    return getattr(library, name)(optimizer, **kwargs)


def row(optimizer: Any) -> list[float]:
    return [
        value
        for group in optimizer.param_groups
        for value in (group["lr"], group.get("momentum", 0.0), *group.get("betas", ()))
    ]


def test_every_schedule_is_here() -> None:
    exported = {
        n for n, v in vars(lr_scheduler).items() if isinstance(v, type) and issubclass(v, lr_scheduler.LRScheduler)
    }
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
    for _ in range(200):
        assert row(ours) == row(theirs)
        assert a.get_last_lr() == b.get_last_lr()
        assert a.last_epoch == b.last_epoch
        a.step()
        b.step()


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
        scheduler.step()
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
            for _ in range(at, 60):
                again.append(row(other))
                twin.step()
            assert again == rows[at:]


@all_schedules
def test_numbers_are_pythons(schedule: str) -> None:
    optimizer = make_optimizer()
    for group in optimizer.param_groups:
        group["lr"] = np.float64(group["lr"])
    scheduler = make(schedule, optimizer)
    for _ in range(3):
        scheduler.step()
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
