"""Names the operation that went wrong first, when a loss or a gradient is not finite."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

from framework.autodiff import Tensor, lines
from framework.autodiff.namespace import PRIMITIVES, RawNamespace, namespace_of
from framework.autodiff.primitive import Primitive
from framework.autodiff.recorder import Recorder
from framework.backend import Backend
from framework.errors import NonFiniteError
from framework.optim import Optimizer
from framework.train.guard import HostGuard
from framework.train.optimization import loss_of
from framework.train.trial import everything_kept

if TYPE_CHECKING:
    from framework.train.fitstate import Fit

_FIRST = "The first result that was not finite, though all it was computed from was"

_UNSET = ("empty", "empty_like")


class Watcher(Recorder):
    """Looks at the result of every operation on a backend; keeps the first of a step that is not finite.

    An operation counts if all that it was given is finite: a mask of minus infinities is no mistake, and
    what follows from a first one is none of its own.
    """

    def __init__(self, ns: RawNamespace) -> None:
        super().__init__(ns)
        self.first = ""
        """What went wrong first, in words; empty while all is well."""
        self._inside = False
        self._rules: dict[Primitive, Callable[..., Any]] = {}

    def listens(self) -> bool:
        """Nothing is recorded."""
        return False

    def each_step(self, step: Callable[..., Any]) -> Callable[..., Any]:
        """`step`, which begins anew to look for the first."""

        def fresh(batch: Any, index: int) -> Any:
            self.first = ""
            self.watch_rules()
            return step(batch, index)

        return fresh

    def watch_rules(self) -> None:
        """Look at the gradients of each primitive, too: its rule may work on the arrays themselves."""
        for primitive in [*PRIMITIVES.values()]:
            if primitive.vjp is not None and primitive not in self._rules:
                self._rules[primitive] = primitive.vjp
                primitive.vjp = self._watched_rule(primitive.name, primitive.vjp)

    def leave_rules(self) -> None:
        """Look at them no longer."""
        while self._rules:
            primitive, rule = self._rules.popitem()
            primitive.vjp = rule

    def _watched_rule(self, name: str, rule: Callable[..., Any]) -> Callable[..., Any]:
        def watched(ns: Any, g: Any, needs: Any, *saved: Any, **params: Any) -> Any:
            if self.first or ns is not self.ns:
                return rule(ns, g, needs, *saved, **params)
            before = self._finite((g, *saved))
            pieces = tuple(rule(ns, g, needs, *saved, **params))
            if before and not self.first and not self._finite(pieces):
                self.first = f"the gradient of {name!r}{lines.at(_node_of_backward(sys._getframe(1)))}"
            return pieces

        return watched

    def wrapped(self, name: str, fn: Callable[..., Any]) -> Callable[..., Any]:
        """`fn`, with its result looked at."""

        def watched(*args: Any, **params: Any) -> Any:
            if self._inside or self.first or name in _UNSET:
                return fn(*args, **params)
            self._inside = True  # what it calls in turn is part of it
            try:
                before = self._finite((args, tuple(params.values())))  # now: it may be written over
                out = fn(*args, **params)
                if before and not self._finite(out):
                    self.first = self._words(name)
                return out
            finally:
                self._inside = False

        return watched

    def _finite(self, value: Any) -> bool:
        if isinstance(value, tuple | list):
            return all(map(self._finite, value))
        if isinstance(value, float):
            return value - value == 0.0
        backend = self.ns.backend
        if not backend.owns(value) or backend.dtype_of(value).kind not in ("float", "complex"):
            return True
        return bool(backend.xp.all(backend.xp.isfinite(value)))

    def _words(self, name: str) -> str:
        node = _node_of_backward(sys._getframe(2))
        if node is None:
            return f"{name!r} at {lines.text(lines.user_line())}"
        return f"{name!r} in the gradient of {node.name!r}{lines.at(node)}"


class WatchedGuard(HostGuard):
    """Stops at the first update that is not finite, and names the operation.

    Args:
        backend: the backend.
        watcher: looks at its operations.
    """

    def __init__(self, backend: Backend, watcher: Watcher) -> None:
        super().__init__(backend)
        self._watcher = watcher

    def check(self, loss: Tensor | None, optimizer: Optimizer, step: int) -> None:
        """Raise before the update.

        Raises:
            NonFiniteError: the loss or a gradient is NaN or infinite; the first operation to be so is named.
        """
        try:
            super().check(loss, optimizer, step)
        except NonFiniteError as error:
            first = self._watcher.first
            why = (
                f"{_FIRST}: {first}"
                if first
                else "Every operation was given something that is not finite already: look at the batch and the weights"
            )
            raise NonFiniteError(f"{error}. {why}") from None


def retold(fit: Fit, error: NonFiniteError, batch: Any, index: int) -> NonFiniteError:
    """The error of an update that was refused, with the operation that went wrong first, where that shows again.

    The step is made once more, with every operation looked at, and leaves no trace; what the user's code does beside
    is done twice.
    """
    if isinstance(fit.guard, WatchedGuard) or fit.whole_step is not None or not fit.move.backend.synchronous:
        return error
    watcher = Watcher(namespace_of(fit.move.backend))
    try:
        with everything_kept(fit, with_positions=False), watching(watcher), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            fit.optimizer.zero_grad()
            fit.port.results.begin_batch(batch)  # type: ignore[union-attr]
            loss = loss_of(watcher.each_step(fit.training_step)(batch, index), type(fit.module).__name__)
            if loss is not None:
                fit.backward(loss, None)
    except Exception:  # the user's code may not bear it
        return error
    return type(error)(f"{error}. {_FIRST}: {watcher.first}") if watcher.first else error


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Within the block the watcher sees all operations, and their lines are kept."""
    before = watcher.ns.recorder
    with lines.record_lines():
        watcher.ns.record(watcher)
        try:
            yield
        finally:
            watcher.ns.record(before)
            watcher.leave_rules()


def _node_of_backward(frame: FrameType | None) -> Any:
    """The node whose gradient is being computed; None outside a backward pass."""
    while frame is not None:
        if frame.f_globals.get("__name__") == "framework.autodiff.tape":
            return frame.f_locals.get("node")
        frame = frame.f_back
    return None
