"""Nothing that is NaN or infinite reaches the weights."""

from __future__ import annotations

import math
from typing import Any, Protocol

from framework.autodiff import Tensor
from framework.autodiff.namespace import namespace_of
from framework.backend import Backend
from framework.backend.dtypes import dtype
from framework.errors import NonFiniteError
from framework.optim import Optimizer
from framework.train.gradients import sum_of_squares


class Guard(Protocol):
    """Checks the loss and the gradients of each update."""

    def check(self, loss: Tensor | None, optimizer: Optimizer, step: int) -> None:
        """Keep the update that is about to be made as number `step` from the weights if it is not finite.

        May be asked again before the update is made.
        """

    def read(self) -> None:
        """Raise if an update was kept away that has not been reported."""


class HostGuard:
    """Reads loss and gradients before each update, where reading costs nothing."""

    def __init__(self, backend: Backend) -> None:
        self._sum_of_squares = namespace_of(backend).sum_of_squares

    def check(self, loss: Tensor | None, optimizer: Optimizer, step: int) -> None:
        """Raise before the update.

        Raises:
            NonFiniteError: the loss or a gradient is NaN or infinite.
        """
        value = 0.0 if loss is None else float(loss._data)
        squares = 0.0
        sum_of_squares = self._sum_of_squares
        for g in optimizer.gradients():
            squares += float(sum_of_squares(g))
        if not math.isfinite(value + squares):
            raise NonFiniteError(f"step {step}: {_culprit(value, squares)}. {ADVICE}")

    def read(self) -> None:
        """Nothing is outstanding."""


class DeviceGuard:
    """Selects each update on the device, without waiting; the host learns of it when it reads a row.

    From the first bad update on all are kept away, so that the weights stay those of the last good one.
    """

    def __init__(self, backend: Backend) -> None:
        self._ns = namespace_of(backend)
        self.backend = backend
        self.upcoming = 0
        """The step that a program makes next."""
        self._ok: Any = None
        """On the device: whether all updates since the last look were finite."""
        self._good: Any = None
        """On the device: how many were."""
        self._before: Any = None
        """On the device: how many were before the step that was asked about last."""
        self._held: tuple[Any, Any] | None = None
        """On the device: the flag and the count of programs; where arrays are not written, true and zero."""
        self._first = self._last = 0
        """The step of the first of them, and the one that was asked about last."""

    def check(self, loss: Tensor | None, optimizer: Optimizer, step: int) -> None:
        """Let the device decide whether the update is applied."""
        total = sum_of_squares(self._ns, optimizer)
        if total is not None:
            self.latch(total, loss, optimizer, step)

    def latch(self, total: Any, loss: Tensor | None, optimizer: Optimizer, step: int) -> None:
        """Let the update be applied if this total and this loss are finite, as all since the last look."""
        ns = self._ns
        if self._ok is None:
            self._first, self._before = step, ns.xp.zeros_like(total, dtype=ns.xp.int32)
        elif step != self._last:
            self._before = self._good
        value = None if loss is None else ns.reshape(loss._data, ())
        self._ok, self._good = ns.latch(total, value, self._ok, self._before)
        self._last = step
        optimizer.apply_if = self._ok

    def begin(self, like: Tensor) -> tuple[Any, Any]:
        """The flag and the count, for a program that makes the update; where arrays are written, always the same."""
        backend, ok, good = self.backend, self._ok, self._good
        if self._held is None:
            self._held = (
                backend.asarray(True, dtype=dtype("bool"), device=like.device),
                backend.asarray(0, dtype=dtype("int32"), device=like.device),
            )
        if ok is None:
            self._first = self.upcoming
        if not backend.writable:
            return self._held if ok is None else (ok, good)
        if ok is not self._held[0]:
            self._held[0][...], self._held[1][...] = (True, 0) if ok is None else (ok, good)
        return self._held

    def settle(self, ok: Any, good: Any) -> None:
        """The flag and the count after that update."""
        self._ok, self._good, self._last = ok, good, self.upcoming

    def read(self) -> None:
        """Look at the flag.

        Raises:
            NonFiniteError: an update was kept from the weights; its step is named.
        """
        if self._ok is None:
            return
        ok, self._ok = bool(self.backend.to_numpy(self._ok)), None
        if not ok:
            step = self._first + int(self.backend.to_numpy(self._good))
            raise NonFiniteError(f"step {step}: the loss or a gradient is NaN or infinite. {ADVICE}")


ADVICE = (
    "The update was not applied: the weights are those of the step before. "
    "Lower the learning rate, or look at the batch of this step"
)


def make_guard(backend: Backend) -> Guard:
    """The guard for a backend."""
    return HostGuard(backend) if backend.synchronous else DeviceGuard(backend)


def _culprit(loss: float, squares: float) -> str:
    if not math.isfinite(loss):
        return f"the loss is {loss}"
    return f"the loss is {loss:g}, but its gradient is not finite (sum of squares {squares})"
