"""Adagrad."""

from __future__ import annotations

from typing import Any

from framework.autodiff.namespace import RawNamespace
from framework.optim.optimizer import Array, Optimizer, State, check_range


class Adagrad(Optimizer):
    """Steps divided by the root of the sum of all squared gradients (Duchi, Hazan & Singer 2011).

    Args:
        params: parameters, or groups of them.
        lr: the learning rate.
        lr_decay: the learning rate is divided by 1 + lr_decay · (steps before).
        weight_decay: added to the gradient, times the parameter.
        initial_accumulator_value: where the sum of squares starts.
        eps: added to the divisor.
        maximize: climb instead.

    Raises:
        ConfigError: an argument is out of range.

    Examples:
        >>> import framework as fw
        >>> p = fw.nn.Parameter(fw.tensor([1.0], dtype="float64"))
        >>> optimizer = fw.optim.Adagrad([p], lr=0.1)
        >>> (p * p).sum().backward()
        >>> optimizer.step()
        >>> round(p.item(), 6)
        0.9
    """

    elementwise = True

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        lr_decay: float = 0.0,
        weight_decay: float = 0.0,
        initial_accumulator_value: float = 0.0,
        eps: float = 1e-10,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr, "lr_decay": lr_decay, "eps": eps, "weight_decay": weight_decay,
            "initial_accumulator_value": initial_accumulator_value, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def check(self, group: dict[str, Any]) -> None:
        """Raise ConfigError where a group's arguments make no sense."""
        for key in ("lr", "lr_decay", "weight_decay", "initial_accumulator_value", "eps"):
            check_range("Adagrad", key, group[key], 0.0)

    def hyper(self, group: dict[str, Any]) -> tuple[Any, ...]:
        """lr, lr_decay, weight_decay, initial_accumulator_value, eps."""
        return (
            float(group["lr"]),
            float(group["lr_decay"]),
            float(group["weight_decay"]),
            float(group["initial_accumulator_value"]),
            float(group["eps"]),
        )

    def start(self, ns: RawNamespace, p: Array, hyper: tuple[Any, ...]) -> State:
        """No steps, and a sum of the value that it starts from."""
        return {"step": 0, "sum": ns.xp.full_like(p, hyper[3])}

    def update(self, ns: RawNamespace, p: Array, g: Array, state: State, hyper: tuple[Any, ...]) -> Array:
        """One step of one parameter."""
        lr, lr_decay, weight_decay, _, eps = hyper
        rate = lr / (1.0 + state["step"] * lr_decay)
        state["step"] += 1
        if weight_decay:
            g = g + weight_decay * p
        total = state["sum"] = state["sum"] + g * g
        return p - rate * (g / (ns.xp.sqrt(total) + eps))
