"""RMSprop."""

from __future__ import annotations

from typing import Any

from framework.autodiff.namespace import RawNamespace
from framework.optim.optimizer import Array, Optimizer, State, check_range


class RMSprop(Optimizer):
    """Steps divided by the root of a running mean of the squared gradient (Tieleman & Hinton 2012).

    Args:
        params: parameters, or groups of them.
        lr: the learning rate.
        alpha: the share of the running mean that is kept.
        eps: added to the divisor.
        weight_decay: added to the gradient, times the parameter.
        momentum: the share of the velocity that is kept.
        centered: divide by the root of an estimate of the gradient's variance instead (Graves 2013).
        maximize: climb instead.

    Raises:
        ConfigError: an argument is out of range.

    Examples:
        >>> import framework as fw
        >>> p = fw.nn.Parameter(fw.tensor([1.0], dtype="float64"))
        >>> optimizer = fw.optim.RMSprop([p], lr=0.01)
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
        alpha: float = 0.99,
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum: float = 0.0,
        centered: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr, "momentum": momentum, "alpha": alpha, "eps": eps, "centered": centered,
            "weight_decay": weight_decay, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def check(self, group: dict[str, Any]) -> None:
        """Raise ConfigError where a group's arguments make no sense."""
        for key in ("lr", "eps", "weight_decay", "momentum"):
            check_range("RMSprop", key, group[key], 0.0)
        check_range("RMSprop", "alpha", group["alpha"], 0.0, 1.0)

    def hyper(self, group: dict[str, Any]) -> tuple[Any, ...]:
        """lr, alpha, eps, weight_decay, momentum, centered."""
        return (
            float(group["lr"]),
            float(group["alpha"]),
            float(group["eps"]),
            float(group["weight_decay"]),
            float(group["momentum"]),
            bool(group["centered"]),
        )

    def start(self, ns: RawNamespace, p: Array, hyper: tuple[Any, ...]) -> State:
        """No steps, and means of zero."""
        momentum, centered = hyper[4:]
        state = {"step": 0, "square_avg": ns.xp.zeros_like(p)}
        if momentum:
            state["momentum_buffer"] = ns.xp.zeros_like(p)
        if centered:
            state["grad_avg"] = ns.xp.zeros_like(p)
        return state

    def update(self, ns: RawNamespace, p: Array, g: Array, state: State, hyper: tuple[Any, ...]) -> Array:
        """One step of one parameter."""
        lr, alpha, eps, weight_decay, momentum, centered = hyper
        xp = ns.xp
        state["step"] += 1
        if weight_decay:
            g = g + weight_decay * p
        square = state["square_avg"] = alpha * state["square_avg"] + (1.0 - alpha) * (g * g)
        if centered:
            mean = alpha * state["grad_avg"] + (1.0 - alpha) * g if "grad_avg" in state else (1.0 - alpha) * g
            state["grad_avg"] = mean
            square = xp.maximum(square - mean * mean, xp.zeros_like(square))  # rounding may make it negative
        step = g / (xp.sqrt(square) + eps)
        if momentum:  # a schedule may have begun it later
            step = momentum * state["momentum_buffer"] + step if "momentum_buffer" in state else step
            state["momentum_buffer"] = step
        return p - lr * step
