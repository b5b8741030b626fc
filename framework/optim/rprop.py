"""Resilient backpropagation."""

from __future__ import annotations

from typing import Any

from framework.autodiff.namespace import RawNamespace
from framework.errors import ConfigError
from framework.optim.optimizer import Array, Optimizer, State, check_range, numbers


class Rprop(Optimizer):
    """A step size for each weight, adapted by the signs of its gradients alone; for full batches.

    Riedmiller & Braun 1993, in the form iRprop− of Igel & Hüsken 2000: where the sign of a gradient
    changes, the step shrinks and the weight stays.

    Args:
        params: parameters, or groups of them.
        lr: the first step size.
        etas: the factors by which steps shrink and grow.
        step_sizes: the smallest and the largest step.
        maximize: climb instead.

    Examples:
        >>> import framework as fw
        >>> p = fw.nn.Parameter([1.0])
        >>> optimizer = fw.optim.Rprop([p], lr=0.25)
        >>> (p * p).sum().backward()
        >>> optimizer.step()
        >>> p.tolist()
        [0.75]
    """

    elementwise = True

    def __init__(
        self,
        params: Any,
        lr: float = 1e-2,
        etas: tuple[float, float] = (0.5, 1.2),
        step_sizes: tuple[float, float] = (1e-6, 50.0),
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {"lr": lr, "etas": tuple(etas), "step_sizes": tuple(step_sizes), "maximize": maximize}
        super().__init__(params, defaults)

    def check(self, group: dict[str, Any]) -> None:
        """Raise ConfigError where a group's arguments make no sense."""
        check_range("Rprop", "lr", group["lr"], 0.0)
        shrink, grow = group["etas"]
        if not 0.0 < shrink < 1.0 < grow:
            raise ConfigError(f"Rprop: etas must be (below 1, above 1), got {group['etas']!r}")
        low, high = group["step_sizes"]
        if not 0.0 <= low <= high:
            raise ConfigError(f"Rprop: step_sizes must be (smallest, largest), got {group['step_sizes']!r}")

    def hyper(self, group: dict[str, Any]) -> tuple[Any, ...]:
        """lr, etas, step_sizes."""
        return float(group["lr"]), numbers(group["etas"]), numbers(group["step_sizes"])

    def start(self, ns: RawNamespace, p: Array, hyper: tuple[Any, ...]) -> State:
        """No steps, no gradient before, and step sizes of `lr`."""
        return {"step": 0, "prev": ns.xp.zeros_like(p), "step_size": ns.xp.full_like(p, hyper[0])}

    def update(self, ns: RawNamespace, p: Array, g: Array, state: State, hyper: tuple[Any, ...]) -> Array:
        """One step of one parameter."""
        _, etas, step_sizes = hyper
        state["step"] += 1
        p, state["prev"], state["step_size"] = ns.rprop_update(
            p, g, state["prev"], state["step_size"], etas, step_sizes
        )
        return p
