"""NAdam."""

from __future__ import annotations

from typing import Any

from framework.autodiff.namespace import RawNamespace
from framework.optim.adamax import check_betas
from framework.optim.optimizer import Array, Optimizer, State, check_range, numbers

_WARM_UP = 0.96
"""What the warm-up of the momentum decays by; the paper's value."""


class NAdam(Optimizer):
    """Adam with Nesterov's momentum, whose share warms up (Dozat 2016).

    Args:
        params: parameters, or groups of them.
        lr: the learning rate.
        betas: the shares that the two running means keep.
        eps: added to the divisor.
        weight_decay: added to the gradient, times the parameter.
        momentum_decay: how fast the momentum warms up.
        decoupled_weight_decay: shrink the parameter itself, by lr·weight_decay, as AdamW does.
        maximize: climb instead.

    Raises:
        ConfigError: an argument is out of range.

    Examples:
        >>> import framework as fw
        >>> p = fw.nn.Parameter(fw.tensor([1.0], dtype="float64"))
        >>> optimizer = fw.optim.NAdam([p], lr=0.1)
        >>> (p * p).sum().backward()
        >>> optimizer.step()
        >>> round(p.item(), 6)
        0.894355
    """

    elementwise = True

    def __init__(
        self,
        params: Any,
        lr: float = 2e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
        momentum_decay: float = 4e-3,
        decoupled_weight_decay: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay,
            "momentum_decay": momentum_decay, "decoupled_weight_decay": decoupled_weight_decay, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def check(self, group: dict[str, Any]) -> None:
        """Raise ConfigError where a group's arguments make no sense."""
        for key in ("lr", "eps", "weight_decay", "momentum_decay"):
            check_range("NAdam", key, group[key], 0.0)
        check_betas("NAdam", group["betas"])

    def hyper(self, group: dict[str, Any]) -> tuple[Any, ...]:
        """lr, betas, eps, weight_decay, momentum_decay, decoupled_weight_decay."""
        return (
            float(group["lr"]),
            numbers(group["betas"]),
            float(group["eps"]),
            float(group["weight_decay"]),
            float(group["momentum_decay"]),
            bool(group["decoupled_weight_decay"]),
        )

    def start(self, ns: RawNamespace, p: Array, hyper: tuple[Any, ...]) -> State:
        """No steps, means of zero, and the empty product of the momenta so far."""
        return {"step": 0, "mu_product": 1.0, "exp_avg": ns.xp.zeros_like(p), "exp_avg_sq": ns.xp.zeros_like(p)}

    def update(self, ns: RawNamespace, p: Array, g: Array, state: State, hyper: tuple[Any, ...]) -> Array:
        """One step of one parameter."""
        lr, (b1, b2), eps, weight_decay, momentum_decay, decoupled = hyper
        step = state["step"] = state["step"] + 1
        if weight_decay:
            if decoupled:
                p = p * (1.0 - lr * weight_decay)
            else:
                g = g + weight_decay * p
        mu = b1 * (1.0 - 0.5 * _WARM_UP ** (step * momentum_decay))
        mu_next = b1 * (1.0 - 0.5 * _WARM_UP ** ((step + 1) * momentum_decay))
        product = state["mu_product"] = state["mu_product"] * mu
        mean = state["exp_avg"] = b1 * state["exp_avg"] + (1.0 - b1) * g
        square = state["exp_avg_sq"] = b2 * state["exp_avg_sq"] + (1.0 - b2) * (g * g)
        divisor = ns.xp.sqrt(square / (1.0 - b2**step)) + eps
        ahead = (lr * (1.0 - mu) / (1.0 - product)) * g + (lr * mu_next / (1.0 - product * mu_next)) * mean
        return p - ahead / divisor
