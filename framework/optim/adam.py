"""Adam and AdamW."""

from __future__ import annotations

from typing import Any

from framework.autodiff.namespace import RawNamespace
from framework.errors import ConfigError
from framework.optim.optimizer import Array, Optimizer, State, check_range, numbers


class Adam(Optimizer):
    """Steps scaled by running means of the gradient and of its square (Kingma & Ba 2015).

    Args:
        params: parameters, or groups of them.
        lr: the learning rate.
        betas: the shares of the two running means that are kept.
        eps: added to the divisor.
        weight_decay: added to the gradient, times the parameter.
        maximize: climb instead.

    Examples:
        >>> import framework as fw
        >>> p = fw.nn.Parameter(fw.tensor([1.0], dtype="float64"))
        >>> optimizer = fw.optim.Adam([p], lr=0.1)
        >>> (p * p).sum().backward()
        >>> optimizer.step()
        >>> round(p.item(), 6)
        0.9
    """

    elementwise = True
    _decoupled = False

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
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
        name = type(self).__name__
        for key in ("lr", "eps", "weight_decay"):
            check_range(name, key, group[key], 0.0)
        if len(group["betas"]) != 2:
            raise ConfigError(f"{name}: betas are two numbers, got {group['betas']!r}")
        for i, beta in enumerate(group["betas"]):
            check_range(name, f"betas[{i}]", beta, 0.0, 1.0)

    def hyper(self, group: dict[str, Any]) -> tuple[Any, ...]:
        """lr, betas, eps, weight_decay."""
        return float(group["lr"]), numbers(group["betas"]), float(group["eps"]), float(group["weight_decay"])

    def start(self, ns: RawNamespace, p: Array, hyper: tuple[Any, ...]) -> State:
        """No steps, and means of zero."""
        return {"step": 0, "exp_avg": ns.xp.zeros_like(p), "exp_avg_sq": ns.xp.zeros_like(p)}

    def update(self, ns: RawNamespace, p: Array, g: Array, state: State, hyper: tuple[Any, ...]) -> Array:
        """One step of one parameter."""
        step = state["step"] = state["step"] + 1
        p, state["exp_avg"], state["exp_avg_sq"] = ns.adam_update(
            p, g, state["exp_avg"], state["exp_avg_sq"], step, *hyper, self._decoupled
        )
        return p


class AdamW(Adam):
    """Adam whose weight decay shrinks the parameter itself, by lr·weight_decay (Loshchilov & Hutter 2019).

    Arguments as for `Adam`.
    """

    _decoupled = True

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 1e-2,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, maximize=maximize)
