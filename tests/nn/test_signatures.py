"""Names, order and defaults of arguments are PyTorch's."""

from __future__ import annotations

import functools
import inspect
import re
import typing
from typing import Any

import pytest

import framework
from framework import nn, optim


def members(module: Any) -> list[tuple[str, Any]]:
    """The names of a module and what they are, those that are imported when they are asked for among them."""
    found = [(name, getattr(module, name)) for name in dir(module)]
    return [(name, v) for name, v in found if getattr(v, "__module__", "").startswith("framework")]


PAIRS = [
    *[("nn", name) for name, v in members(nn) if isinstance(v, type) and issubclass(v, nn.Module)],
    *[("nn.functional", name) for name, v in members(nn.functional) if inspect.isfunction(v) and name[0] != "_"],
    *[("nn.init", name) for name in vars(nn.init) if name.endswith("_") and not name.startswith("_")],
    ("nn.init", "calculate_gain"),
    *[("optim", name) for name, v in members(optim) if isinstance(v, type) and v is not optim.Optimizer],
    *[
        ("optim.lr_scheduler", name)
        for name, v in vars(optim.lr_scheduler).items()
        if isinstance(v, type) and issubclass(v, optim.lr_scheduler.LRScheduler)
    ],
]
OPAQUE = {"Sequential", "Module", "Identity", "linear", "tanh", "sigmoid", "Lion", "SCG"}  # no signature to read

OF_OURS = {"Rprop": {"variant"}}
"""Arguments beside torch's; to be named."""


def find(root: Any, path: str, name: str) -> Any:
    for part in path.split("."):
        root = getattr(root, part)
    return getattr(root, name)


def arguments(function: Any) -> dict[str, inspect.Parameter]:
    return {name: p for name, p in inspect.signature(function).parameters.items() if p.kind is not p.VAR_KEYWORD}


def declared(torch: Any, path: str, name: str) -> Any:
    """Torch's function, or one of its signature: of an overload, or of the first line of its documentation."""
    function = find(torch, path, name)
    if name == "max_pool2d":
        return torch.nn.functional.max_pool2d_with_indices
    overloads = typing.get_overloads(function.__init__) if isinstance(function, type) else ()
    if overloads:
        return functools.partial(overloads[0], None)
    if "builtin" in type(function).__name__:
        text = re.search(rf"{name}\((.*?)\) -> ", function.__doc__, re.DOTALL)
        assert text
        return eval(f"lambda {' '.join(text[1].split())}: None", {})
    return function


@pytest.mark.reference
@pytest.mark.parametrize(("path", "name"), [pair for pair in PAIRS if pair[1] not in OPAQUE])
def test_arguments_equal_torchs(path: str, name: str) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    ours, theirs = arguments(find(framework, path, name)), arguments(declared(torch, path, name))
    assert {key for key in ours if key not in theirs} == OF_OURS.get(name, set())
    order = list(theirs)
    for place, (key, argument) in enumerate(ours.items()):
        if key not in theirs:
            assert argument.kind is inspect.Parameter.KEYWORD_ONLY
            continue
        default = theirs[key].default
        if callable(default) and default is not argument.empty:  # an activation
            assert argument.default.__name__ == default.__name__, key
        else:
            assert argument.default == default, key
        if argument.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD:
            assert order.index(key) == place, key
