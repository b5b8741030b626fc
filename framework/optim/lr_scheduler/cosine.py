"""Schedules along a cosine."""

from __future__ import annotations

import math

from framework.errors import ConfigError
from framework.optim.lr_scheduler.base import LRScheduler, check_number, check_steps
from framework.optim.optimizer import Optimizer


class CosineAnnealingLR(LRScheduler):
    """Half a cosine from the initial learning rate to `eta_min` in `T_max` steps, and back (Loshchilov & Hutter 2017).

    Examples:
        >>> import framework as fw
        >>> optimizer = fw.optim.SGD([fw.nn.Parameter([0.0])], lr=1.0)
        >>> scheduler = fw.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=2)
        >>> [round((scheduler.get_last_lr()[0], scheduler.step())[0], 6) for _ in range(3)]
        [1.0, 0.5, 0.0]
    """

    _saved = ("base_lrs", "last_epoch", "T_max", "eta_min")

    def __init__(self, optimizer: Optimizer, T_max: int, eta_min: float = 0.0, last_epoch: int = -1) -> None:
        check_steps("CosineAnnealingLR", "T_max", T_max)
        self.T_max = T_max
        self.eta_min = check_number("CosineAnnealingLR", "eta_min", eta_min)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """From the learning rates now, so that other changes of them carry over."""
        step, span, low = self.last_epoch, self.T_max, self.eta_min
        if self._is_initial:
            return self._lrs
        if (step - 1 - span) % (2 * span) == 0:
            return [
                lr + (base - low) * (1 - math.cos(math.pi / span)) / 2 for base, lr in zip(self.base_lrs, self._lrs)
            ]
        ratio = (1 + math.cos(math.pi * step / span)) / (1 + math.cos(math.pi * (step - 1) / span))
        return [ratio * (lr - low) + low for lr in self._lrs]

    def _closed_form(self) -> list[float]:
        share = (1 + math.cos(math.pi * self.last_epoch / self.T_max)) / 2
        return [self.eta_min + (base - self.eta_min) * share for base in self.base_lrs]


class CosineAnnealingWarmRestarts(LRScheduler):
    """Half a cosine down to `eta_min`, again and again, each time longer (SGDR: Loshchilov & Hutter 2017).

    Args:
        optimizer: whose groups are scheduled.
        T_0: the number of steps before the first restart.
        T_mult: by what each cycle is longer than the one before.
        eta_min: the lowest learning rate.
        last_epoch: the step to continue after; −1 starts anew.

    Examples:
        >>> import framework as fw
        >>> optimizer = fw.optim.SGD([fw.nn.Parameter([0.0])], lr=1.0)
        >>> scheduler = fw.optim.lr_scheduler.CosineAnnealingWarmRestarts(optimizer, T_0=2, T_mult=2)
        >>> [round((scheduler.get_last_lr()[0], scheduler.step())[0], 2) for _ in range(7)]
        [1.0, 0.5, 1.0, 0.85, 0.5, 0.15, 1.0]
    """

    _saved = ("base_lrs", "last_epoch", "T_0", "T_i", "T_mult", "T_cur", "eta_min")

    def __init__(
        self, optimizer: Optimizer, T_0: int, T_mult: int = 1, eta_min: float = 0.0, last_epoch: int = -1
    ) -> None:
        check_steps("CosineAnnealingWarmRestarts", "T_0", T_0)
        if not isinstance(T_mult, int) or T_mult < 1:
            raise ConfigError(f"CosineAnnealingWarmRestarts: T_mult must be a positive integer, got {T_mult!r}")
        self.T_0 = self.T_i = T_0
        self.T_mult = T_mult
        self.T_cur: float = last_epoch
        self.eta_min = check_number("CosineAnnealingWarmRestarts", "eta_min", eta_min)
        super().__init__(optimizer, last_epoch)

    def get_lr(self) -> list[float]:
        """The learning rates at `T_cur` of `T_i` steps."""
        share = 1 + math.cos(math.pi * self.T_cur / self.T_i)
        return [self.eta_min + (base - self.eta_min) * share / 2 for base in self.base_lrs]

    def step(self, epoch: float | None = None) -> None:
        """Go one step on, or to a place that may lie between two: `step(epoch + batch / batches)`.

        Raises:
            ConfigError: `epoch` is negative.
        """
        if epoch is None and self.last_epoch >= 0:
            self.T_cur += 1
            if self.T_cur >= self.T_i:
                self.T_cur %= self.T_i
                self.T_i *= self.T_mult
            self.last_epoch += 1
        else:
            self._go_to(0 if epoch is None else epoch)
        self._set(self.get_lr())

    def _go_to(self, epoch: float) -> None:
        if epoch < 0:
            raise ConfigError(f"CosineAnnealingWarmRestarts: step to a place of at least 0, got {epoch!r}")
        if epoch < self.T_0:
            self.T_i, self.T_cur = self.T_0, epoch
        elif self.T_mult == 1:
            self.T_cur = epoch % self.T_0
        else:
            cycles = int(math.log(epoch / self.T_0 * (self.T_mult - 1) + 1, self.T_mult))
            self.T_cur = epoch - self.T_0 * (self.T_mult**cycles - 1) / (self.T_mult - 1)
            self.T_i = self.T_0 * self.T_mult**cycles
        self.last_epoch = math.floor(epoch)
