"""Names, order and defaults of arguments are PyTorch's."""

from __future__ import annotations

import inspect
from typing import Any

import pytest

import framework
from framework import nn, optim

PAIRS = [
    *[("nn", name) for name, v in vars(nn).items() if isinstance(v, type) and issubclass(v, nn.Module)],
    *[("nn.functional", name) for name, v in vars(nn.functional).items() if inspect.isfunction(v)],
    *[("nn.init", name) for name in vars(nn.init) if name.endswith("_") and not name.startswith("_")],
    ("nn.init", "calculate_gain"),
    *[("optim", name) for name, v in vars(optim).items() if isinstance(v, type) and v is not optim.Optimizer],
    *[
        ("optim.lr_scheduler", name)
        for name, v in vars(optim.lr_scheduler).items()
        if isinstance(v, type) and issubclass(v, optim.lr_scheduler.LRScheduler)
    ],
]
OPAQUE = {"Sequential", "Module", "Identity", "linear", "tanh", "sigmoid", "gelu", "softplus"}  # no signature to read


def find(root: Any, path: str, name: str) -> Any:
    for part in path.split("."):
        root = getattr(root, part)
    return getattr(root, name)


def arguments(function: Any) -> dict[str, inspect.Parameter]:
    return {name: p for name, p in inspect.signature(function).parameters.items() if p.kind is not p.VAR_KEYWORD}


@pytest.mark.reference
@pytest.mark.parametrize(("path", "name"), [pair for pair in PAIRS if pair[1] not in OPAQUE])
def test_arguments_equal_torchs(path: str, name: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    ours, theirs = arguments(find(framework, path, name)), arguments(find(torch, path, name))
    assert [key for key in ours if key not in theirs] == []
    order = list(theirs)
    for place, (key, argument) in enumerate(ours.items()):
        assert argument.default == theirs[key].default, key
        if argument.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            assert order.index(key) == place, key
