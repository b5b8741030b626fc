"""Arguments of optimizers: what is refused, and the forms in which parameters may come."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework import nn, optim
from framework.errors import CompileWarning, ConfigError, DTypeError

P = [[1.0]]
ERRORS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: optim.SGD([]), ConfigError, "SGD: got no parameters; pass model.parameters()"),
    (lambda: optim.SGD(nn.Linear(1, 1)), ConfigError, "or dicts with them, got Linear; pass model.parameters()"),
    (lambda: optim.Adam(nn.Sequential(nn.Linear(1, 1))), ConfigError, "Adam: params are parameters, or dicts with"),
    (lambda: optim.SGD(0.1), ConfigError, "SGD: params are parameters, or dicts with them, got float"),
    (lambda: optim.SGD([np.ones(2)]), DTypeError, "SGD: parameters are Tensors, got ndarray"),
    (lambda: optim.SGD([fw.tensor([1])]), DTypeError, "floating point, got one of int64 and shape (1,)"),
    (lambda: optim.SGD([nn.Parameter(P) * 2]), ConfigError, "is the result of operations; pass leaves"),
    (lambda: optim.SGD([nn.Parameter(P)] * 2), ConfigError, "a parameter is given twice"),
    (
        lambda: optim.SGD([{"params": [nn.Parameter(P)], "momentun": 1}]),
        ConfigError,
        "SGD: unknown argument 'momentun' in a parameter group. Did you mean 'momentum'?",
    ),
    (lambda: optim.SGD([{"lr": 1}]), ConfigError, "a parameter group needs 'params', got ['lr']"),
    (lambda: optim.SGD([nn.Parameter(P)], lr=-1.0), ConfigError, "SGD: lr must be at least 0, got -1.0"),
    (lambda: optim.SGD([nn.Parameter(P)], lr="fast"), ConfigError, "SGD: lr must be at least 0, got 'fast'"),
    (lambda: optim.SGD([nn.Parameter(P)], lr=math.nan), ConfigError, "SGD: lr must be at least 0, got nan"),
    (lambda: optim.SGD([nn.Parameter(P)], momentum=-0.1), ConfigError, "SGD: momentum must be at least 0"),
    (lambda: optim.SGD([nn.Parameter(P)], nesterov=True), ConfigError, "nesterov needs momentum > 0 and dampening = 0"),
    (
        lambda: optim.Adam([nn.Parameter(P)], betas=(0.9, 1.0)),
        ConfigError,
        "Adam: betas[1] must be at least 0 and below 1",
    ),
    (lambda: optim.AdamW([nn.Parameter(P)], betas=(0.9,)), ConfigError, "AdamW: betas are two numbers, got (0.9,)"),
    (lambda: optim.AdamW([nn.Parameter(P)], eps=-1), ConfigError, "AdamW: eps must be at least 0, got -1"),
    (
        lambda: optim.Rprop([nn.Parameter(P)], etas=(1.2, 0.5)),
        ConfigError,
        "etas must be (below 1, above 1), got (1.2, 0.5)",
    ),
    (
        lambda: optim.NAdam([nn.Parameter(P)], momentum_decay=-1),
        ConfigError,
        "NAdam: momentum_decay must be at least 0",
    ),
    (
        lambda: optim.NAdam([nn.Parameter(P)], betas=(1, 0)),
        ConfigError,
        "NAdam: betas[0] must be at least 0 and below 1",
    ),
    (lambda: optim.Adamax([nn.Parameter(P)], betas=(0.9, 0.9, 0.9)), ConfigError, "Adamax: betas are two numbers, got"),
    (lambda: optim.Adamax([nn.Parameter(P)], eps=-1e-8), ConfigError, "Adamax: eps must be at least 0, got -1e-08"),
    (lambda: optim.RMSprop([nn.Parameter(P)], alpha=1.0), ConfigError, "RMSprop: alpha must be at least 0 and below 1"),
    (
        lambda: optim.RMSprop([nn.Parameter(P)], momentum=-1),
        ConfigError,
        "RMSprop: momentum must be at least 0, got -1",
    ),
    (
        lambda: optim.Adagrad([nn.Parameter(P)], lr_decay=-1),
        ConfigError,
        "Adagrad: lr_decay must be at least 0, got -1",
    ),
    (
        lambda: optim.Adagrad([nn.Parameter(P)], initial_accumulator_value=None),
        ConfigError,
        "Adagrad: initial_accumulator_value must be at least 0, got None",
    ),
    (
        lambda: optim.Adadelta([nn.Parameter(P)], rho=2),
        ConfigError,
        "Adadelta: rho must be at least 0 and below 1, got 2",
    ),
    (
        lambda: optim.Lion([nn.Parameter(P)], weight_decay=-1),
        ConfigError,
        "Lion: weight_decay must be at least 0, got -1",
    ),
    (lambda: optim.Lion([nn.Parameter(P)], lr="slow"), ConfigError, "Lion: lr must be at least 0, got 'slow'"),
    (lambda: optim.Rprop([nn.Parameter(P)], step_sizes=(1, 0)), ConfigError, "(smallest, largest), got (1, 0)"),
]


@pytest.mark.parametrize("case", range(len(ERRORS)))
def test_errors(case: int) -> None:
    call, kind, text = ERRORS[case]
    with pytest.raises(kind, match=re.escape(text)):
        call()


def test_parameters_in_many_forms() -> None:
    layer = nn.Linear(2, 2)
    for given in (layer.parameters(), list(layer.named_parameters()), [{"params": layer.parameters(), "name": "all"}]):
        assert optim.SGD(given).param_groups[0]["params"] == [layer.weight, layer.bias]
    assert len(optim.SGD(layer.weight).param_groups[0]["params"]) == 1


def _taken_out(group: Any) -> None:
    group["lr"], _ = group.pop("lr") / 2, group.pop("name", None)


def _put_back(group: Any) -> None:
    kept = dict(group)
    group.clear()
    assert group.setdefault("lr", kept["lr"] / 2) == kept["lr"] / 2
    group.update(kept | dict(group))


def _last_of_all(group: Any) -> None:
    group["late"] = 0
    del group["late"]
    group["late"] = 0
    assert group.popitem() == ("late", 0)
    assert group.setdefault("lr", 7.0) != 7.0
    group |= {"lr": group["lr"] / 2}


@pytest.mark.parametrize(
    "change", [lambda group: group.__ior__({"lr": group["lr"] / 2}), _taken_out, _put_back, _last_of_all]
)
def test_compile_replays_no_call_that_changes_a_group_in_whatever_way(change: Callable[[Any], Any]) -> None:
    def trained(wrap: Callable[[Any], Any]) -> list[float]:
        p = nn.Parameter([1.0])
        optimizer = optim.SGD([p])

        def step(x: fw.Tensor) -> None:
            optimizer.zero_grad()
            (p * x).sum().backward()
            change(optimizer.param_groups[0])
            optimizer.step()

        call, found = wrap(step), []
        for rate in (0.1, 0.2, 0.3, 0.4, 0.5):
            optimizer.param_groups[0]["lr"] = rate
            call(fw.tensor([1.0]))
            found.append(p.item())
        return found

    eager = trained(lambda step: step)
    with pytest.warns(CompileWarning, match="of Group is set"):
        assert trained(fw.compile) == eager


def test_text() -> None:
    text = repr(optim.SGD([nn.Parameter(P)], lr=0.5))
    assert text.startswith("SGD (\nParameter Group 0\n    dampening: 0.0\n    lr: 0.5\n")
