"""Adadelta."""

from __future__ import annotations

from typing import Any

from framework.autodiff.namespace import RawNamespace
from framework.optim.optimizer import Array, Optimizer, State, check_range


class Adadelta(Optimizer):
    """Steps scaled by running means of the squared gradient and of the squared step (Zeiler 2012).

    Args:
        params: parameters, or groups of them.
        lr: a factor of every step; the method has no learning rate of its own.
        rho: the share of both running means that is kept.
        eps: added under both roots; it makes the first step.
        weight_decay: added to the gradient, times the parameter.
        maximize: climb instead.

    Raises:
        ConfigError: an argument is out of range.

    Examples:
        >>> import framework as fw
        >>> p = fw.nn.Parameter(fw.tensor([1.0], dtype="float64"))
        >>> optimizer = fw.optim.Adadelta([p])
        >>> (p * p).sum().backward()
        >>> optimizer.step()
        >>> round(p.item(), 6)
        0.996838
    """

    elementwise = True

    def __init__(
        self,
        params: Any,
        lr: float = 1.0,
        rho: float = 0.9,
        eps: float = 1e-6,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {"lr": lr, "rho": rho, "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults)

    def check(self, group: dict[str, Any]) -> None:
        """Raise ConfigError where a group's arguments make no sense."""
        for key in ("lr", "eps", "weight_decay"):
            check_range("Adadelta", key, group[key], 0.0)
        check_range("Adadelta", "rho", group["rho"], 0.0, 1.0)

    def hyper(self, group: dict[str, Any]) -> tuple[Any, ...]:
        """lr, rho, eps, weight_decay."""
        return float(group["lr"]), float(group["rho"]), float(group["eps"]), float(group["weight_decay"])

    def start(self, ns: RawNamespace, p: Array, hyper: tuple[Any, ...]) -> State:
        """No steps, and means of zero."""
        return {"step": 0, "square_avg": ns.xp.zeros_like(p), "acc_delta": ns.xp.zeros_like(p)}

    def update(self, ns: RawNamespace, p: Array, g: Array, state: State, hyper: tuple[Any, ...]) -> Array:
        """One step of one parameter."""
        lr, rho, eps, weight_decay = hyper
        sqrt = ns.xp.sqrt
        state["step"] += 1
        if weight_decay:
            g = g + weight_decay * p
        square = state["square_avg"] = rho * state["square_avg"] + (1.0 - rho) * (g * g)
        step = sqrt(state["acc_delta"] + eps) / sqrt(square + eps) * g
        state["acc_delta"] = rho * state["acc_delta"] + (1.0 - rho) * (step * step)
        return p - lr * step
