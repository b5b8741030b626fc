"""What is done with the parameters of an optimizer, or the gradients of an update, as a whole."""

from __future__ import annotations

from typing import Any

from framework.autodiff import Tensor
from framework.autodiff.namespace import RawNamespace
from framework.optim import Optimizer


def parameters_of(optimizer: Any) -> list[Tensor]:
    """The parameters of all groups, in their order."""
    return [p for group in optimizer.param_groups for p in group["params"]]


def scale_gradients(optimizer: Optimizer, factor: float | Tensor) -> None:
    """Multiply the gradients of all parameters."""
    for p in parameters_of(optimizer):
        if p.grad is not None:
            p.grad = p.grad.detach() * factor


def sum_of_squares(ns: RawNamespace, optimizer: Optimizer) -> Any:
    """The sum of the squares of all gradients, a raw 0-d array where they live; None where there is no gradient."""
    total: Any = None
    for g in optimizer.gradients():
        squares = ns.sum_of_squares(g)
        total = squares if total is None else total + squares
    return total
