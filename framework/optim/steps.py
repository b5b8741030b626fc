"""One step of an optimizer as an effect of a call that `compile` records."""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from framework.autodiff.sequel import Sequel
    from framework.optim.optimizer import Optimizer


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
