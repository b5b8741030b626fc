"""`LRScheduler`: the base class of schedules."""

from __future__ import annotations

from typing import Any, ClassVar

from framework.autodiff import versions
from framework.errors import CheckpointError, ConfigError
from framework.optim.optimizer import Optimizer


class LRScheduler:
    """Base class of schedules.

    Constructing one sets the first learning rate; each `step()` sets the next. `last_epoch` counts the
    steps, whatever they are taken by. A subclass defines `get_lr`, and names in `_saved` the numbers
    that make up its state.

    Args:
        optimizer: whose groups' learning rates are set.
        last_epoch: the step to continue after; −1 starts anew.

    Raises:
        ConfigError: an argument makes no sense, or the optimizer has no learning rate.
    """

    needs_metric: ClassVar[bool] = False
    """Whether `step` takes the value of a metric."""

    _saved: tuple[str, ...] = ("base_lrs", "last_epoch")

    def __init__(self, optimizer: Optimizer, last_epoch: int = -1) -> None:
        self._attach(optimizer)
        for i, group in enumerate(optimizer.param_groups):
            if last_epoch == -1:
                group.setdefault("initial_lr", group["lr"])
            elif "initial_lr" not in group:
                raise ConfigError(
                    f"{type(self).__name__}: last_epoch={last_epoch} continues a schedule, but group {i} has no "
                    "'initial_lr'; load the optimizer's state first"
                )
        self.base_lrs = [float(group["initial_lr"]) for group in optimizer.param_groups]
        self.last_epoch = last_epoch
        self._begin()

    def _attach(self, optimizer: Any) -> None:
        """Take the optimizer, if it is one whose learning rate can be set."""
        name = type(self).__name__
        if not isinstance(optimizer, Optimizer):
            raise ConfigError(f"{name}: needs an optimizer, got {type(optimizer).__name__}")
        if any("lr" not in group for group in optimizer.param_groups):
            raise ConfigError(f"{name}: {type(optimizer).__name__} has no learning rate to schedule; leave it out")
        self.optimizer = optimizer

    def get_lr(self) -> list[float]:
        """The learning rate of each group at `last_epoch`; defined by each subclass."""
        raise NotImplementedError

    def get_last_lr(self) -> list[float]:
        """The learning rate that was set last, per group."""
        rates: list[float] = versions.present(lambda: list(self._last_lr))
        return rates

    def step(self) -> None:
        """Go one step on and set the learning rates."""
        recorder = self.optimizer._listener()
        if recorder is not None:
            recorder.barrier("scheduler.step", self.step, self)
            return
        self.last_epoch += 1
        self._set(self.get_lr())

    def state_dict(self) -> dict[str, Any]:
        """The position and the numbers of the schedule, as a state tree."""
        state = {key: _copied(getattr(self, key)) for key in self._saved}
        return {**state, "last_lr": list(self._last_lr)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved position; the optimizer's learning rates are set to the saved ones.

        Raises:
            CheckpointError: the state is of another kind of schedule, or of another number of groups.
        """
        missing = [key for key in (*self._saved, "last_lr") if key not in state_dict]
        if missing:
            raise CheckpointError(f"{type(self).__name__}.load_state_dict: the state has no {', '.join(missing)}")
        if len(state_dict["last_lr"]) != len(self.optimizer.param_groups):
            raise CheckpointError(
                f"{type(self).__name__}.load_state_dict: the state is of {len(state_dict['last_lr'])} groups, "
                f"the optimizer has {len(self.optimizer.param_groups)}"
            )
        for key in self._saved:
            setattr(self, key, _copied(state_dict[key]))
        self._set(list(state_dict["last_lr"]))

    # -- for subclasses -----------------------------------------------------------------------------

    @property
    def _lrs(self) -> list[float]:
        """The learning rates that are set now."""
        return [float(group["lr"]) for group in self.optimizer.param_groups]

    def _set(self, lrs: list[float]) -> None:
        for group, lr in zip(self.optimizer.param_groups, lrs):
            group["lr"] = lr
        self._last_lr = lrs

    # -- for a schedule of schedules ------------------------------------------------------------------

    def _begin(self) -> None:
        """Take the step that sets the first learning rates."""
        self._is_initial = True
        self.step()
        self._is_initial = False

    def _undo(self) -> None:
        """Count the last step as not taken."""
        self.last_epoch -= 1

    def _restart(self) -> None:
        """Set the learning rates of step 0, whatever is set now."""
        self.last_epoch = 0
        self._set(self._closed_form())

    def _closed_form(self) -> list[float]:
        """The learning rates at `last_epoch` as a function of the initial ones, where there is such a form."""
        return self.get_lr()


def check_steps(name: str, what: str, value: Any) -> None:
    """Raise ConfigError unless `value` is a number of steps: a positive integer."""
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ConfigError(f"{name}: {what} is a number of steps, got {value!r}")


def check_number(name: str, what: str, value: Any) -> float:
    """`value` as a float; ConfigError where it is no number."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if number != number:
        raise ConfigError(f"{name}: {what} must be a number, got {value!r}")
    return number


def per_group(name: str, what: str, value: Any, count: int) -> list[float]:
    """One number for each group, from a list of them or from one number for all."""
    if isinstance(value, list | tuple):
        if len(value) != count:
            raise ConfigError(f"{name}: {what} has {len(value)} values, the optimizer {count} groups")
        return [check_number(name, what, v) for v in value]
    return [check_number(name, what, value)] * count


def _copied(value: Any) -> Any:
    return list(value) if isinstance(value, list) else value
