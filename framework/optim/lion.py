"""Lion."""

from __future__ import annotations

from typing import Any

from framework.autodiff.namespace import RawNamespace
from framework.optim.adamax import check_betas
from framework.optim.optimizer import Array, Optimizer, State, check_range, numbers


class Lion(Optimizer):
    """Steps of one size along the sign of an interpolated momentum (Chen et al. 2023).

    One array of state per parameter. The paper advises a learning rate 3 to 10 times smaller than
    AdamW's, and a weight decay as many times larger.

    Args:
        params: parameters, or groups of them.
        lr: the learning rate: every element moves by it.
        betas: the share of the momentum in the step, and the share of it that is kept.
        weight_decay: shrinks the parameter itself, by lr·weight_decay.
        maximize: climb instead.

    Raises:
        ConfigError: an argument is out of range.

    Examples:
        >>> import framework as fw
        >>> p = fw.nn.Parameter([1.0, -2.0])
        >>> optimizer = fw.optim.Lion([p], lr=0.25)
        >>> (p * p).sum().backward()
        >>> optimizer.step()
        >>> p.tolist()
        [0.75, -1.75]
    """

    elementwise = True

    def __init__(
        self,
        params: Any,
        lr: float = 1e-4,
        betas: tuple[float, float] = (0.9, 0.99),
        weight_decay: float = 0.0,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {"lr": lr, "betas": tuple(betas), "weight_decay": weight_decay, "maximize": maximize}
        super().__init__(params, defaults)

    def check(self, group: dict[str, Any]) -> None:
        """Raise ConfigError where a group's arguments make no sense."""
        for key in ("lr", "weight_decay"):
            check_range("Lion", key, group[key], 0.0)
        check_betas("Lion", group["betas"])

    def hyper(self, group: dict[str, Any]) -> tuple[Any, ...]:
        """lr, betas, weight_decay."""
        return float(group["lr"]), numbers(group["betas"]), float(group["weight_decay"])

    def start(self, ns: RawNamespace, p: Array, hyper: tuple[Any, ...]) -> State:
        """A momentum of zero."""
        return {"exp_avg": ns.xp.zeros_like(p)}

    def update(self, ns: RawNamespace, p: Array, g: Array, state: State, hyper: tuple[Any, ...]) -> Array:
        """One step of one parameter."""
        lr, (b1, b2), weight_decay = hyper
        mean = state["exp_avg"]
        if weight_decay:
            p = p * (1.0 - lr * weight_decay)
        p = p - lr * ns.xp.sign(b1 * mean + (1.0 - b1) * g)
        state["exp_avg"] = b2 * mean + (1.0 - b2) * g
        return p
