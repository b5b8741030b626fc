"""One step of an optimizer as an effect of a call that `compile` records."""

from __future__ import annotations

import functools
from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

from framework.autodiff import versions

if TYPE_CHECKING:
    from framework.autodiff.sequel import Sequel

Optimizer = Any
"""Of the module above this one."""


class Step:
    """Makes the step; or says how a replay makes it within the program before it."""

    def __init__(self, optimizer: Optimizer, closure: Callable[[], Any] | None) -> None:
        self._optimizer, self._closure = optimizer, closure

    def __call__(self) -> Any:
        """Make it."""
        return self._optimizer.step(self._closure)

    def sequel(self) -> Sequel | None:
        """The step as what follows on a program; None where it is not."""
        found: Sequel | None = import_module("framework.optim.captured").update_of(self._optimizer)
        return found


def is_replaced(optimizer: Optimizer) -> bool:
    """Whether it, or its class, was given a `step` that is not the framework's."""
    return "step" in vars(optimizer) or not type(optimizer).step.__module__.startswith("framework.")


def as_effect(step: Callable[..., Any]) -> Callable[..., Any]:
    """A `step` of one's own as one effect of a call that is recorded: all of it is done again in a replay."""

    @functools.wraps(step)
    def own(self: Optimizer, *args: Any, **kwargs: Any) -> Any:
        recorder = self._listener()
        if recorder is None or any(given is not None for given in (*args, *kwargs.values())):
            return step(self, *args, **kwargs)
        return recorder.barrier("optimizer.step", functools.partial(step, self), self, self._params())

    return own


def told_attribute(optimizer: Optimizer, name: str, value: Any) -> None:
    """Set an attribute, while a call is recorded: a replay would not set it."""
    if name[0] != "_" and hasattr(optimizer, name):
        versions.told(optimizer, name)
    object.__setattr__(optimizer, name, value)
