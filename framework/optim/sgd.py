"""Stochastic gradient descent."""

from __future__ import annotations

from typing import Any

from framework.autodiff.namespace import RawNamespace
from framework.errors import ConfigError
from framework.optim.optimizer import Array, Optimizer, State, UpdateNode, check_range


class SGD(Optimizer):
    """Gradient descent with momentum (Polyak 1964) or Nesterov's (Sutskever, Martens, Dahl & Hinton 2013).

    Args:
        params: parameters, or groups of them.
        lr: the learning rate.
        momentum: the share of the velocity that is kept; the first velocity is the gradient.
        dampening: the share of each later gradient that the velocity does not take.
        weight_decay: added to the gradient, times the parameter.
        nesterov: step from where the momentum leads; needs momentum, and no dampening.
        maximize: climb instead.

    Examples:
        >>> import framework as fw
        >>> p = fw.nn.Parameter([1.0])
        >>> optimizer = fw.optim.SGD([p], lr=0.5)
        >>> (p * p).sum().backward()
        >>> optimizer.step()
        >>> p.tolist()
        [0.0]
    """

    elementwise = True

    def __init__(
        self,
        params: Any,
        lr: float = 1e-3,
        momentum: float = 0.0,
        dampening: float = 0.0,
        weight_decay: float = 0.0,
        nesterov: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr, "momentum": momentum, "dampening": dampening, "weight_decay": weight_decay,
            "nesterov": nesterov, "maximize": maximize,
        }  # fmt: skip
        super().__init__(params, defaults)

    def check(self, group: dict[str, Any]) -> None:
        """Raise ConfigError where a group's arguments make no sense."""
        for key in ("lr", "momentum", "weight_decay"):
            check_range("SGD", key, group[key], 0.0)
        if group["nesterov"] and (group["momentum"] <= 0 or group["dampening"] != 0):
            raise ConfigError(
                f"SGD: nesterov needs momentum > 0 and dampening = 0, "
                f"got momentum={group['momentum']!r} and dampening={group['dampening']!r}"
            )

    def hyper(self, group: dict[str, Any]) -> tuple[Any, ...]:
        """lr, momentum, dampening, weight_decay, nesterov."""
        return (
            float(group["lr"]),
            float(group["momentum"]),
            float(group["dampening"]),
            float(group["weight_decay"]),
            bool(group["nesterov"]),
        )

    def updates_by_kernel(self) -> bool:
        """As every step is."""
        return True

    def as_node(self, group: dict[str, Any]) -> UpdateNode | None:
        """Every step but the first with momentum."""
        if type(self).update is not SGD.update or type(self).hyper is not SGD.hyper:
            return None
        lr, momentum, dampening, weight_decay, nesterov = self.hyper(group)
        rates = [lr, momentum, 1.0 - dampening, weight_decay]
        state = "momentum_buffer" if momentum else None
        return UpdateNode("sgd_step", (state,), {"decays": weight_decay != 0, "nesterov": nesterov}, lambda _: rates)

    def update(self, ns: RawNamespace, p: Array, g: Array, state: State, hyper: tuple[Any, ...]) -> Array:
        """One step of one parameter."""
        p, velocity = ns.sgd_update(p, g, state.get("momentum_buffer"), *hyper)
        if velocity is not None:
            state["momentum_buffer"] = velocity
        return p
