"""Resilient backpropagation."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from framework.autodiff import enable_grad
from framework.autodiff.namespace import RawNamespace
from framework.errors import ConfigError, did_you_mean
from framework.optim.optimizer import Array, Optimizer, State, UpdateNode, check_range, numbers

VARIANTS = ("irprop-", "rprop-", "irprop+")


class Rprop(Optimizer):
    """A step size for each weight, adapted by the signs of its gradients alone; for full batches.

    Riedmiller & Braun 1993, in the forms of Igel & Hüsken 2000, which differ where the sign of a gradient
    changes, so that the last step went too far. In all of them the step shrinks; then, in

    - `"irprop-"`, the default, the weight stays, and the next step is taken as a first one;
    - `"rprop-"`, the weight moves back by the smaller step;
    - `"irprop+"`, the weight goes back to where it was if the loss has grown, and stays if it has not.
      `step` needs a closure, whose loss it reads.

    Args:
        params: parameters, or groups of them.
        lr: the first step size.
        etas: the factors by which steps shrink and grow.
        step_sizes: the smallest and the largest step.
        variant: what happens where the sign of a gradient changes; see above.
        maximize: climb instead.

    Raises:
        ConfigError: an argument is out of range.

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
        variant: str = "irprop-",
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr, "etas": tuple(etas), "step_sizes": tuple(step_sizes), "variant": variant, "maximize": maximize,
        }  # fmt: skip
        self._loss = math.nan
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
        if group["variant"] not in VARIANTS:
            raise ConfigError(
                f"Rprop: variant is one of {', '.join(map(repr, VARIANTS))}, got {group['variant']!r}."
                f"{did_you_mean(str(group['variant']), VARIANTS)}"
            )
        if group["variant"] == "irprop+":
            self.needs_closure = True  # type: ignore[misc]  # of this one

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Move all parameters that have a gradient; returns what `closure` returned, which is called first.

        Raises:
            ConfigError: a group's variant is `"irprop+"`, and no closure is given.
        """
        if all(group["variant"] != "irprop+" for group in self.param_groups):
            return super().step(closure)
        recorder = self._listener()
        if recorder is not None:
            recorder.give_up("an optimizer steps with a closure")
            return recorder.barrier("optimizer.step", lambda: self.step(closure))
        if closure is None:
            raise ConfigError(
                "Rprop.step: variant='irprop+' compares losses and needs a closure: "
                "def closure(): optimizer.zero_grad(); loss = …; loss.backward(); return loss"
            )
        with enable_grad():
            loss = closure()
        self._loss = float(loss)
        super().step()
        return loss

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved state, with the saved arguments of each group.

        Raises:
            CheckpointError: the groups, or the shapes of the parameters, differ.
        """
        super().load_state_dict(state_dict)
        for group in self.param_groups:
            self.check(group)

    def hyper(self, group: dict[str, Any]) -> tuple[Any, ...]:
        """lr, etas, step_sizes, variant, the loss where it is compared: less is better."""
        loss = None if group["variant"] != "irprop+" else -self._loss if group["maximize"] else self._loss
        return float(group["lr"]), numbers(group["etas"]), numbers(group["step_sizes"]), group["variant"], loss

    def start(self, ns: RawNamespace, p: Array, hyper: tuple[Any, ...]) -> State:
        """No steps, no gradient before, and step sizes of `lr`."""
        return {"step": 0, "prev": ns.xp.zeros_like(p), "step_size": ns.xp.full_like(p, hyper[0])}

    def updates_by_kernel(self) -> bool:
        """As every step of iRprop− is."""
        return all(group["variant"] == "irprop-" for group in self.param_groups)

    def as_node(self, group: dict[str, Any]) -> UpdateNode | None:
        """As every step of iRprop− is."""
        _, etas, step_sizes, variant, _ = self.hyper(group)
        if variant != "irprop-" or type(self).update is not Rprop.update or type(self).hyper is not Rprop.hyper:
            return None
        return UpdateNode("rprop_step", ("prev", "step_size"), {}, lambda _: [*etas, *step_sizes])

    def update(self, ns: RawNamespace, p: Array, g: Array, state: State, hyper: tuple[Any, ...]) -> Array:
        """One step of one parameter."""
        _, etas, step_sizes, variant, loss = hyper
        state["step"] += 1
        if variant == "irprop-":
            p, state["prev"], state["step_size"] = ns.rprop_update(
                p, g, state["prev"], state["step_size"], etas, step_sizes
            )
            return p
        xp = ns.xp
        way, before, size = xp.sign(g), xp.sign(state["prev"]), state["step_size"]
        same, turned = way * before > 0, way * before < 0
        state["step_size"] = xp.where(same, xp.clip(size * etas[1], *step_sizes), size)
        state["step_size"] = xp.where(turned, xp.clip(size * etas[0], *step_sizes), state["step_size"])
        move = way * state["step_size"]
        if variant == "rprop-":
            state["prev"] = ns.backend.copy(g)
            return p - move
        still = xp.zeros_like(size)
        back = before * size if loss > state.get("prev_loss", math.inf) else still
        state["prev"], state["prev_loss"] = xp.where(turned, still, g), loss
        return p - xp.where(turned, -back, move)
