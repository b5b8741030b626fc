"""`Metric`: numbers that are gathered over batches and read at the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import copy
from functools import wraps
from typing import Any

from framework.autodiff import Tensor, as_tensor, versions
from framework.autodiff.effects import effect_of_call
from framework.errors import ConfigError


class Metric:
    """Base class of metrics.

    What is gathered stays on the device; only `compute` reads it, so `update` never waits. A subclass
    sets in `reset` the attributes that it names in `_state`, each a number, a Tensor that is summed up or
    a list of Tensors, and defines `update` and `compute`.
    """

    _state: tuple[str, ...] = ()

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if "update" in cls.__dict__:
            cls.update = effect_of_call(cls.__dict__["update"])  # type: ignore[method-assign]
        for name in ("compute", "reset"):
            if name in cls.__dict__:
                setattr(cls, name, _refused(cls.__dict__[name]))

    def __init__(self) -> None:
        self.reset()

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Add a batch."""
        raise NotImplementedError(f"{type(self).__name__} defines no update")

    def compute(self) -> Any:
        """The value over all batches since `reset`; NaN where there were none."""
        raise NotImplementedError(f"{type(self).__name__} defines no compute")

    def reset(self) -> None:
        """Forget all batches."""
        raise NotImplementedError(f"{type(self).__name__} defines no reset")

    def merge(self, *others: Metric | Mapping[str, Any]) -> None:
        """Add what others of the same kind have gathered: of other processes, or of parts of the data.

        Args:
            others: metrics, or their state dicts, as they come from elsewhere.

        Raises:
            ConfigError: one is of another kind.

        Examples:
            >>> import framework as fw
            >>> first, second = fw.metrics.Accuracy(), fw.metrics.Accuracy()
            >>> first.update(fw.tensor([1, 1]), fw.tensor([1, 0]))
            >>> second.update(fw.tensor([2, 2]), fw.tensor([2, 2]))
            >>> first.merge(second)
            >>> first.compute()
            0.75
        """
        name = type(self).__name__
        for given in others:
            other = given
            if isinstance(given, Mapping):
                if missing := [key for key in self._state if key not in given]:
                    raise ConfigError(f"{name}.merge: the state has no {', '.join(missing)}")
                other = copy(self)
                other.load_state_dict(dict(given))
            if type(other) is not type(self):
                raise ConfigError(f"{name}.merge: takes others of its kind or their states, got {type(other).__name__}")
            self._add(other)

    def _add(self, other: Metric) -> None:
        """Add what another metric of this kind has gathered."""
        for key in self._state:
            mine, more = getattr(self, key), getattr(other, key)
            setattr(self, key, add(mine, more) if isinstance(more, Tensor) else mine + more)

    def state_dict(self) -> dict[str, Any]:
        """What was gathered, as a state tree."""
        values = {key: getattr(self, key) for key in self._state}
        return {key: list(value) if isinstance(value, list) else value for key, value in values.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from what was gathered."""
        for key in self._state:
            setattr(self, key, _restored(state_dict[key]))


def _refused(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn`, a method that uses what `update` has gathered, which `compile` cannot replay."""

    @wraps(fn)
    def call(self: Metric, *args: Any, **kwargs: Any) -> Any:
        versions.refuse(f"{type(self).__name__}.{fn.__name__} is called; log the metric, or call it outside")
        return fn(self, *args, **kwargs)

    return call


def _restored(value: Any) -> Any:
    if isinstance(value, list):
        return [_restored(item) for item in value]
    return value if value is None or isinstance(value, bool | int | float) else as_tensor(value).detach()


def add(total: Any, more: Tensor) -> Any:
    """The sum, on the device of `more`, to which a total that was restored elsewhere follows."""
    if isinstance(total, Tensor) and total._ns is not more._ns:
        total = total.to(device=more.device)
    return total + more


def wide(like: Tensor) -> str:
    """The widest floating-point dtype of a Tensor's backend: sums over many batches keep their digits."""
    return "float64" if any(d == "float64" for d in like.backend.dtypes) else "float32"
