"""`Metric`: numbers that are gathered over batches and read at the end."""

from __future__ import annotations

from typing import Any

from framework.autodiff import Tensor, as_tensor


class Metric:
    """Base class of metrics.

    What is gathered stays on the device; only `compute` reads it, so `update` never waits. A subclass
    sets in `reset` the attributes that it names in `_state`, each a number or a 0-d Tensor, and defines
    `update` and `compute`.
    """

    _state: tuple[str, ...] = ()

    def __init__(self) -> None:
        self.reset()

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Add a batch."""
        raise NotImplementedError(f"{type(self).__name__} defines no update")

    def compute(self) -> float:
        """The value over all batches since `reset`; NaN where there were none."""
        raise NotImplementedError(f"{type(self).__name__} defines no compute")

    def reset(self) -> None:
        """Forget all batches."""
        raise NotImplementedError(f"{type(self).__name__} defines no reset")

    def state_dict(self) -> dict[str, Any]:
        """What was gathered, as a state tree."""
        return {key: getattr(self, key) for key in self._state}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what was gathered."""
        for key in self._state:
            value = state_dict[key]
            setattr(self, key, value if isinstance(value, bool | int | float) else as_tensor(value).detach())


def add(total: Any, more: Tensor) -> Any:
    """The sum, on the device of `more`, to which a total that was restored elsewhere follows."""
    if isinstance(total, Tensor) and total._ns is not more._ns:
        total = total.to(device=more.device)
    return total + more
