"""Adam and AdamW."""

from __future__ import annotations

from typing import Any

from framework.autodiff.namespace import RawNamespace
from framework.errors import ConfigError
from framework.optim.optimizer import Array, Optimizer, State, UpdateNode, check_range, numbers


class Adam(Optimizer):
    """Steps scaled by running means of the gradient and of its square (Kingma & Ba 2015).

    Args:
        params: parameters, or groups of them.
        lr: the learning rate.
        betas: the shares of the two running means that are kept.
        eps: added to the divisor.
        weight_decay: added to the gradient, times the parameter.
        amsgrad: divide by the root of the largest mean square so far (Reddi, Kale & Kumar 2018).
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
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        defaults = {
            "lr": lr, "betas": tuple(betas), "eps": eps, "weight_decay": weight_decay, "amsgrad": amsgrad,
            "maximize": maximize,
        }  # fmt: skip
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
        """lr, betas, eps, weight_decay, amsgrad."""
        return (
            float(group["lr"]),
            numbers(group["betas"]),
            float(group["eps"]),
            float(group["weight_decay"]),
            bool(group["amsgrad"]),
        )

    def start(self, ns: RawNamespace, p: Array, hyper: tuple[Any, ...]) -> State:
        """No steps, and means of zero."""
        state = {"step": 0, "exp_avg": ns.xp.zeros_like(p), "exp_avg_sq": ns.xp.zeros_like(p)}
        if hyper[4]:
            state["max_exp_avg_sq"] = ns.xp.zeros_like(p)
        return state

    def updates_by_kernel(self) -> bool:
        """As every step is, but for those with the largest mean square."""
        return not any(group["amsgrad"] for group in self.param_groups)

    def as_node(self, group: dict[str, Any]) -> UpdateNode | None:
        """As every step is, but for those with the largest mean square."""
        lr, (b1, b2), eps, weight_decay, amsgrad = self.hyper(group)
        if amsgrad or type(self).update is not Adam.update or type(self).hyper is not Adam.hyper:
            return None
        decay = lr * weight_decay if self._decoupled else weight_decay

        def rates(step: int) -> list[float]:
            return [lr / (1.0 - b1**step), b1, 1.0 - b1, b2, 1.0 - b2, (1.0 - b2**step) ** 0.5, eps, decay]

        params = {"decays": weight_decay != 0, "decoupled": self._decoupled}
        return UpdateNode("adam_step", ("exp_avg", "exp_avg_sq"), params, rates)

    def update(self, ns: RawNamespace, p: Array, g: Array, state: State, hyper: tuple[Any, ...]) -> Array:
        """One step of one parameter."""
        step = state["step"] = state["step"] + 1
        if hyper[4]:
            return self._amsgrad(ns, p, g, state, hyper)
        p, state["exp_avg"], state["exp_avg_sq"] = ns.adam_update(
            p, g, state["exp_avg"], state["exp_avg_sq"], step, *hyper[:4], self._decoupled
        )
        return p

    def _amsgrad(self, ns: RawNamespace, p: Array, g: Array, state: State, hyper: tuple[Any, ...]) -> Array:
        """The same with the largest mean square so far."""
        lr, (b1, b2), eps, weight_decay, _ = hyper
        xp, step = ns.xp, state["step"]
        if weight_decay:
            if self._decoupled:
                p = p - (lr * weight_decay) * p
            else:
                g = g + weight_decay * p
        mean = state["exp_avg"] = b1 * state["exp_avg"] + (1.0 - b1) * g
        square = state["exp_avg_sq"] = b2 * state["exp_avg_sq"] + (1.0 - b2) * (g * g)
        largest = xp.maximum(state["max_exp_avg_sq"], square) if "max_exp_avg_sq" in state else square
        state["max_exp_avg_sq"] = largest = ns.backend.copy(largest) if largest is square else largest
        return p - (lr / (1.0 - b1**step)) * (mean / (xp.sqrt(largest) / (1.0 - b2**step) ** 0.5 + eps))


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
        amsgrad: bool = False,
        *,
        maximize: bool = False,
    ) -> None:
        super().__init__(params, lr, betas, eps, weight_decay, amsgrad, maximize=maximize)
