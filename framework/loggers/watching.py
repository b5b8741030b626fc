"""The norms of gradients and parameters, for a logger that watches a model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from framework.autodiff import Tensor, no_grad, ops
from framework.errors import ConfigError, did_you_mean

What = Literal["gradients", "parameters", "all"]
WHAT = ("gradients", "parameters", "all")


@dataclass(frozen=True, slots=True)
class Watch:
    """What is watched and how often.

    Args:
        what: "gradients", "parameters" or "all".
        every: at every so many updates, the first one among them.
        model: whose parameters; None for the module that is trained.

    Raises:
        ConfigError: an argument makes no sense.
    """

    what: str
    every: int
    model: Any = None

    def __post_init__(self) -> None:
        if self.what not in WHAT:
            hint = did_you_mean(str(self.what), WHAT)
            raise ConfigError(f"watch(log={self.what!r}): expected 'gradients', 'parameters', 'all' or None.{hint}")
        if not isinstance(self.every, int) or self.every < 1:
            raise ConfigError(f"watch(log_freq={self.every!r}): expected a whole number of updates from 1 on")

    def is_due(self, step: int) -> bool:
        """Whether to look at the update that makes `step`."""
        return step == 1 or step % self.every == 0

    def norms(self, module: Any) -> dict[str, float]:
        """The Euclidean norm of each gradient and of all together, and those of the parameters.

        All are computed where the arrays live; the host waits for them once.
        """
        squares: dict[str, Any] = {}
        with no_grad():
            for name, parameter in (self.model or module).named_parameters():
                gradient = parameter.grad
                if self.what != "parameters" and gradient is not None:
                    squares[f"grad_norm/{name}"] = _sum_of_squares(gradient.detach())
                if self.what != "gradients":
                    squares[f"param_norm/{name}"] = _sum_of_squares(parameter.detach())
            if not squares:
                return {}
            values = ops.stack(list(squares.values())).tolist()
        found = dict(zip(squares, values, strict=True))
        for kind in ("grad_norm", "param_norm"):
            parts = [value for name, value in found.items() if name.startswith(f"{kind}/")]
            if parts:
                found[f"{kind}/total"] = sum(parts)
        return {name: value**0.5 for name, value in found.items()}


def _sum_of_squares(values: Tensor) -> Tensor:
    if values.dtype.itemsize < 4:  # half precision ends at 65,504
        values = values.to("float32")
    return (values * values).sum()


def layers_of(model: Any) -> list[list[Any]]:
    """A row for each layer: its name, its class, the number of its own parameters."""
    return [
        [name or "(model)", type(part).__name__, sum(p.size for p in part._parameters.values() if p is not None)]
        for name, part in model.named_modules()
    ]
