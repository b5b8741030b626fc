"""Adamax."""

from __future__ import annotations

from typing import Any

from framework.autodiff.namespace import RawNamespace
from framework.errors import ConfigError
from framework.optim.optimizer import Array, Optimizer, State, check_range, numbers


class Adamax(Optimizer):
    """Adam with a decaying maximum of the gradient's size in place of its mean square (Kingma & Ba 2015, section 7.1).

    Args:
        params: parameters, or groups of them.
        lr: the learning rate.
        betas: the shares that the mean and the maximum keep.
        eps: added to the gradient's size.
        weight_decay: added to the gradient, times the parameter.
        maximize: climb instead.

    Raises:
        ConfigError: an argument is out of range.

    Examples:
        >>> import framework as fw
        >>> p = fw.nn.Parameter(fw.tensor([1.0], dtype="float64"))
        >>> optimizer = fw.optim.Adamax([p], lr=0.1)
        >>> (p * p).sum().backward()
        >>> optimizer.step()
        >>> round(p.item(), 6)
        0.9
    """

    elementwise = True

    def __init__(
        self,
        params: Any,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {"lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults)

    def check(self, group: dict[str, Any]) -> None:
        """Raise ConfigError where a group's arguments make no sense."""
        for key in ("lr", "eps", "weight_decay"):
            check_range("Adamax", key, group[key], 0.0)
        check_betas("Adamax", group["betas"])

    def hyper(self, group: dict[str, Any]) -> tuple[Any, ...]:
        """lr, betas, eps, weight_decay."""
        return float(group["lr"]), numbers(group["betas"]), float(group["eps"]), float(group["weight_decay"])

    def start(self, ns: RawNamespace, p: Array, hyper: tuple[Any, ...]) -> State:
        """No steps, a mean and a maximum of zero."""
        return {"step": 0, "exp_avg": ns.xp.zeros_like(p), "exp_inf": ns.xp.zeros_like(p)}

    def update(self, ns: RawNamespace, p: Array, g: Array, state: State, hyper: tuple[Any, ...]) -> Array:
        """One step of one parameter."""
        lr, (b1, b2), eps, weight_decay = hyper
        xp = ns.xp
        step = state["step"] = state["step"] + 1
        if weight_decay:
            g = g + weight_decay * p
        mean = state["exp_avg"] = b1 * state["exp_avg"] + (1.0 - b1) * g
        size = state["exp_inf"] = xp.maximum(b2 * state["exp_inf"], xp.abs(g) + eps)
        return p - (lr / (1.0 - b1**step)) * (mean / size)


def check_betas(name: str, betas: Any) -> None:
    """Raise ConfigError unless `betas` are two shares, from 0 and below 1."""
    if len(betas) != 2:
        raise ConfigError(f"{name}: betas are two numbers, got {betas!r}")
    for i, beta in enumerate(betas):
        check_range(name, f"betas[{i}]", beta, 0.0, 1.0)
