"""Schedules that scale the learning rate by a factor: by steps, by a line, by a power, by any function."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import Any

from framework.errors import CheckpointError, ConfigError
from framework.optim.lr_scheduler.base import LRScheduler, check_number, check_steps
from framework.optim.optimizer import Optimizer


class LambdaLR(LRScheduler):
    """The initial learning rate times a function of the number of steps.

    Functions are not saved; of other callables, their attributes are.

    Args:
        optimizer: whose groups are scheduled.
        lr_lambda: takes the number of steps and returns a factor; or one such function per group.
        last_epoch: the step to continue after; −1 starts anew.

    Examples:
        >>> import framework as fw
        >>> optimizer = fw.optim.SGD([fw.nn.Parameter([0.0])], lr=1.0)
        >>> scheduler = fw.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5**step)
        >>> [(scheduler.get_last_lr()[0], scheduler.step())[0] for _ in range(3)]
        [1.0, 0.5, 0.25]
    """

    def __init__(
        self,
        optimizer: Optimizer,
        lr_lambda: Callable[[int], float] | list[Callable[[int], float]],
        last_epoch: int = -1,
    ) -> None:
        self._attach(optimizer)
        count = len(optimizer.param_groups)
        self.lr_lambdas = list(lr_lambda) if isinstance(lr_lambda, list | tuple) else [lr_lambda] * count
        if len(self.lr_lambdas) != count:
            raise ConfigError(f"LambdaLR: lr_lambda has {len(self.lr_lambdas)} functions, the optimizer {count} groups")
        for fn in self.lr_lambdas:
            if not callable(fn):
                raise ConfigError(f"LambdaLR: lr_lambda is a function of the number of steps, got {fn!r}")
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The initial learning rates times the functions' values."""
        return [base * float(fn(self.last_epoch)) for base, fn in zip(self.base_lrs, self.lr_lambdas)]

    def state_dict(self) -> dict[str, Any]:
        """The position, and the attributes of callables that are no functions, as a state tree."""
        return {**super().state_dict(), "lr_lambdas": [_attributes(fn) for fn in self.lr_lambdas]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved position.

        Raises:
            CheckpointError: the state is of another kind of schedule, or of another number of groups.
        """
        if "lr_lambdas" not in state_dict:
            raise CheckpointError("LambdaLR.load_state_dict: the state has no lr_lambdas")
        super().load_state_dict(state_dict)
        for fn, saved in zip(self.lr_lambdas, state_dict["lr_lambdas"]):
            if saved is not None:
                vars(fn).update(saved)


def _attributes(fn: Callable[[int], float]) -> dict[str, Any] | None:
    """What a callable object holds; None of a function."""
    return None if hasattr(fn, "__code__") or not hasattr(fn, "__dict__") else dict(vars(fn))


class StepLR(LRScheduler):
    """Multiplies the learning rate by `gamma` every `step_size` steps.

    Examples:
        >>> import framework as fw
        >>> optimizer = fw.optim.SGD([fw.nn.Parameter([0.0])], lr=1.0)
        >>> scheduler = fw.optim.lr_scheduler.StepLR(optimizer, step_size=2, gamma=0.5)
        >>> [(scheduler.get_last_lr()[0], scheduler.step())[0] for _ in range(5)]
        [1.0, 1.0, 0.5, 0.5, 0.25]
    """

    _saved = ("base_lrs", "last_epoch", "step_size", "gamma")

    def __init__(self, optimizer: Optimizer, step_size: int, gamma: float = 0.1, last_epoch: int = -1) -> None:
        check_steps("StepLR", "step_size", step_size)
        self.step_size = step_size
        self.gamma = check_number("StepLR", "gamma", gamma)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The learning rates now, times gamma at every `step_size`-th step."""
        if self.last_epoch == 0 or self.last_epoch % self.step_size:
            return self._lrs
        return [lr * self.gamma for lr in self._lrs]

    def _closed_form(self) -> list[float]:
        return [base * self.gamma ** (self.last_epoch // self.step_size) for base in self.base_lrs]


class MultiStepLR(LRScheduler):
    """Multiplies the learning rate by `gamma` at each of the given steps.

    Args:
        optimizer: whose groups are scheduled.
        milestones: the numbers of steps; one that is there twice counts twice.
        gamma: the factor.
        last_epoch: the step to continue after; −1 starts anew.

    Examples:
        >>> import framework as fw
        >>> optimizer = fw.optim.SGD([fw.nn.Parameter([0.0])], lr=1.0)
        >>> scheduler = fw.optim.lr_scheduler.MultiStepLR(optimizer, milestones=[1, 3], gamma=0.5)
        >>> [(scheduler.get_last_lr()[0], scheduler.step())[0] for _ in range(5)]
        [1.0, 0.5, 0.5, 0.25, 0.25]
    """

    _saved = ("base_lrs", "last_epoch", "milestones", "gamma")

    def __init__(
        self, optimizer: Optimizer, milestones: Iterable[int], gamma: float = 0.1, last_epoch: int = -1
    ) -> None:
        given = list(milestones) if isinstance(milestones, Iterable) else [milestones]
        if not all(isinstance(m, int) for m in given) or not isinstance(milestones, Iterable):
            raise ConfigError(f"MultiStepLR: milestones are numbers of steps, got {milestones!r}")
        self.milestones = sorted(given)
        self.gamma = check_number("MultiStepLR", "gamma", gamma)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The learning rates now, times gamma at a milestone."""
        times = self.milestones.count(self.last_epoch)
        return [lr * self.gamma**times for lr in self._lrs] if times else self._lrs

    def _closed_form(self) -> list[float]:
        return [base * self.gamma ** bisect_right(self.milestones, self.last_epoch) for base in self.base_lrs]


class ExponentialLR(LRScheduler):
    """Multiplies the learning rate by `gamma` at every step.

    Examples:
        >>> import framework as fw
        >>> optimizer = fw.optim.SGD([fw.nn.Parameter([0.0])], lr=1.0)
        >>> scheduler = fw.optim.lr_scheduler.ExponentialLR(optimizer, gamma=0.5)
        >>> [(scheduler.get_last_lr()[0], scheduler.step())[0] for _ in range(3)]
        [1.0, 0.5, 0.25]
    """

    _saved = ("base_lrs", "last_epoch", "gamma")

    def __init__(self, optimizer: Optimizer, gamma: float, last_epoch: int = -1) -> None:
        self.gamma = check_number("ExponentialLR", "gamma", gamma)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The learning rates now, times gamma."""
        return self._lrs if self._is_initial else [lr * self.gamma for lr in self._lrs]

    def _closed_form(self) -> list[float]:
        return [base * self.gamma**self.last_epoch for base in self.base_lrs]


class ConstantLR(LRScheduler):
    """The learning rate times `factor` for the first `total_iters` steps, then without it.

    Examples:
        >>> import framework as fw
        >>> optimizer = fw.optim.SGD([fw.nn.Parameter([0.0])], lr=1.0)
        >>> scheduler = fw.optim.lr_scheduler.ConstantLR(optimizer, factor=0.5, total_iters=2)
        >>> [(scheduler.get_last_lr()[0], scheduler.step())[0] for _ in range(4)]
        [0.5, 0.5, 1.0, 1.0]
    """

    _saved = ("base_lrs", "last_epoch", "factor", "total_iters")

    def __init__(
        self, optimizer: Optimizer, factor: float = 1.0 / 3, total_iters: int = 5, last_epoch: int = -1
    ) -> None:
        check_steps("ConstantLR", "total_iters", total_iters)
        self.factor = check_share("ConstantLR", "factor", factor)
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The learning rates now, scaled at the first step and scaled back at the last."""
        if self.last_epoch == 0:
            return [lr * self.factor for lr in self._lrs]
        if self.last_epoch != self.total_iters:
            return self._lrs
        return [lr * (1.0 / self.factor) for lr in self._lrs] if self.factor else list(self.base_lrs)

    def _closed_form(self) -> list[float]:
        over = self.last_epoch >= self.total_iters
        return [base * (self.factor + over * (1 - self.factor)) for base in self.base_lrs]


class LinearLR(LRScheduler):
    """The learning rate times a factor that goes from `start_factor` to `end_factor` in `total_iters` steps.

    Examples:
        >>> import framework as fw
        >>> optimizer = fw.optim.SGD([fw.nn.Parameter([0.0])], lr=1.0)
        >>> scheduler = fw.optim.lr_scheduler.LinearLR(optimizer, start_factor=0.5, total_iters=2)
        >>> [(scheduler.get_last_lr()[0], scheduler.step())[0] for _ in range(4)]
        [0.5, 0.75, 1.0, 1.0]
    """

    _saved = ("base_lrs", "last_epoch", "start_factor", "end_factor", "total_iters")

    def __init__(
        self,
        optimizer: Optimizer,
        start_factor: float = 1.0 / 3,
        end_factor: float = 1.0,
        total_iters: int = 5,
        last_epoch: int = -1,
    ) -> None:
        check_steps("LinearLR", "total_iters", total_iters)
        self.start_factor = check_share("LinearLR", "start_factor", start_factor)
        self.end_factor = check_share("LinearLR", "end_factor", end_factor)
        if self.start_factor == 0:
            raise ConfigError("LinearLR: start_factor must be above 0, since each step scales the rate before it")
        self.total_iters = total_iters
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """From the learning rates now, so that other changes of them carry over."""
        step, total, start = self.last_epoch, self.total_iters, self.start_factor
        if step == 0:
            return [lr * start for lr in self._lrs]
        if self._is_initial or step > total:
            return self._lrs
        rise = self.end_factor - start
        return [lr * (1.0 + rise / (total * start + (step - 1) * rise)) for lr in self._lrs]

    def _closed_form(self) -> list[float]:
        start, total = self.start_factor, self.total_iters
        rise = (self.end_factor - start) * min(total, self.last_epoch) / total
        return [base * (start + rise) for base in self.base_lrs]


class PolynomialLR(LRScheduler):
    """The learning rate times (1 − steps/total_iters) to the power `power`; zero from `total_iters` on.

    Examples:
        >>> import framework as fw
        >>> optimizer = fw.optim.SGD([fw.nn.Parameter([0.0])], lr=1.0)
        >>> scheduler = fw.optim.lr_scheduler.PolynomialLR(optimizer, total_iters=4, power=1.0)
        >>> [round((scheduler.get_last_lr()[0], scheduler.step())[0], 6) for _ in range(6)]
        [1.0, 0.75, 0.5, 0.25, 0.0, 0.0]
    """

    _saved = ("base_lrs", "last_epoch", "total_iters", "power")

    def __init__(self, optimizer: Optimizer, total_iters: int = 5, power: float = 1.0, last_epoch: int = -1) -> None:
        check_steps("PolynomialLR", "total_iters", total_iters)
        self.total_iters = total_iters
        self.power = check_number("PolynomialLR", "power", power)
        if self.power < 0:
            raise ConfigError(f"PolynomialLR: power must be at least 0, got {power!r}")
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """From the learning rates now, so that other changes of them carry over."""
        step, total = self.last_epoch, self.total_iters
        if self._is_initial or step > total:
            return self._lrs
        factor = ((1.0 - step / total) / (1.0 - (step - 1) / total)) ** self.power
        return [lr * factor for lr in self._lrs]

    def _closed_form(self) -> list[float]:
        done = min(self.total_iters, self.last_epoch) / self.total_iters
        return [base * (1.0 - done) ** self.power for base in self.base_lrs]


def check_share(name: str, what: str, value: Any) -> float:
    """`value` as a float; ConfigError unless it is in [0, 1]."""
    number = check_number(name, what, value)
    if not 0.0 <= number <= 1.0:
        raise ConfigError(f"{name}: {what} must be in [0, 1], got {value!r}")
    return number
