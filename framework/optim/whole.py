"""Optimizers that evaluate the loss themselves and see all parameters as one vector."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

from framework.autodiff import Tensor, enable_grad
from framework.autodiff.namespace import RawNamespace
from framework.errors import CheckpointError, ConfigError
from framework.optim.optimizer import Array, Optimizer

Closure = Callable[[], Any]


class Problem:
    """The loss of a closure as a function of one vector: the values of all parameters, one after the other.

    Attributes:
        x: the vector that was last accepted. The parameters go back to it where the closure raises.
        first: what the closure returned the first time.
        evaluations: how often the closure was called.

    Raises:
        ConfigError: the parameters do not share a dtype and a device.
    """

    def __init__(self, name: str, params: list[Tensor], closure: Closure) -> None:
        self.params = [p for p in params if p.requires_grad]
        self.closure = closure
        self.first: Any = None
        self.evaluations = 0
        first = self.params[0]
        self.ns: RawNamespace = first._ns
        self.dtype, self.device = first.dtype, first.device
        for p in self.params:
            if p.dtype != self.dtype or p.device != self.device:
                raise ConfigError(
                    f"{name}: all parameters are one vector, of one dtype on one device; got {self.dtype.name} on "
                    f"{self.device!r} and {p.dtype.name} on {p.device!r}. Bring them together: model.to(…)"
                )
        self.x = self._flat([p._data for p in self.params])

    def _flat(self, arrays: list[Array]) -> Array:
        xp = self.ns.xp
        return xp.concat([xp.reshape(a, (-1,)) for a in arrays])

    def evaluate(self, x: Array = None) -> tuple[float, Array]:
        """The loss, and its gradient as a vector, at `x`; at the accepted vector where none is given."""
        if x is not None:
            self._write(x)
        self.evaluations += 1
        with enable_grad():
            loss = self.closure()
        if self.first is None:
            self.first = loss
        gradients = []
        for p in self.params:
            g = None if p._node is None else p._node.grad
            g = self.ns.xp.zeros_like(p._data) if g is None else g
            gradients.append(g._data if isinstance(g, Tensor) else g)
        return float(loss), self._flat(gradients)

    def accept(self, x: Array) -> None:
        """Move the parameters to `x` for good."""
        self._write(x)
        self.x = x

    def restore(self) -> None:
        """Move the parameters back to where they were accepted."""
        self._write(self.x)

    def _write(self, x: Array) -> None:
        at = 0
        for p in self.params:
            values = self.ns.xp.reshape(x[at : at + p.size], p.shape)
            p.assign(Tensor(values, None, self.ns))
            at += p.size

    def dot(self, a: Array, b: Array) -> float:
        """The inner product of two vectors, read."""
        return float(self.ns.xp.vecdot(a, b))

    def largest(self, a: Array) -> float:
        """The largest absolute value in a vector, read."""
        return float(self.ns.xp.max(self.ns.xp.abs(a)))


class WholeOptimizer(Optimizer):
    """Base class of optimizers with one group, whose `step` calls the closure as often as it needs.

    A subclass defines `search`, and keeps what it remembers between steps in `memory`: numbers, vectors
    as long as all parameters together, and lists of these.
    """

    needs_closure: ClassVar[bool] = True

    def __init__(self, params: Any, defaults: dict[str, Any]) -> None:
        self.memory: dict[str, Any] = {}
        super().__init__(params, defaults)

    def search(self, problem: Problem, group: dict[str, Any]) -> None:
        """Move from `problem.x` to a better vector, and `accept` it."""
        raise NotImplementedError

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add the parameters; there is one group only.

        Raises:
            ConfigError: there is a group already.
        """
        if self.param_groups:
            name = type(self).__name__
            raise ConfigError(f"{name}: all parameters are one vector, in one group; got a second parameter group")
        super().add_param_group(param_group)

    def step(self, closure: Closure | None = None) -> Any:
        """Move all parameters; returns what `closure` returned at its first call.

        Where the closure raises, the parameters are as they were after the last good move.

        Args:
            closure: drops the gradients, computes the loss of all data, calls `backward`, returns the loss.
                Called several times with the same weights it must give the same loss.

        Raises:
            ConfigError: no closure is given.
        """
        name = type(self).__name__
        if closure is None:
            raise ConfigError(
                f"{name}.step: needs a closure, which it calls several times: "
                "def closure(): optimizer.zero_grad(); loss = …; loss.backward(); return loss"
            )
        recorder = self._listener()
        if recorder is not None:
            recorder.give_up("an optimizer steps with a closure")
            return recorder.barrier("optimizer.step", lambda: self.step(closure))
        flag, self.apply_if = self.apply_if, None
        if (flag is not None and not bool(flag)) or not any(p.requires_grad for p in self.param_groups[0]["params"]):
            with enable_grad():
                return closure()
        problem = Problem(name, self.param_groups[0]["params"], closure)
        self.memory = _mapped(self.memory, lambda a: _moved(a, problem))
        try:
            self.search(problem, self.param_groups[0])
        except BaseException:
            problem.restore()
            raise
        return problem.first

    def state_dict(self) -> dict[str, Any]:
        """A state tree of copies, laid out as that of the other optimizers; the memory is that of parameter 0."""
        tree = super().state_dict()
        first = self.param_groups[0]["params"][0]
        if self.memory:
            copied = _mapped(self.memory, lambda a: Tensor(first._ns.backend.copy(a), None, first._ns))
            tree["state"] = {"0": copied}
        return tree

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Continue from a saved state.

        Raises:
            CheckpointError: the groups or the number of weights differ, or the state is of another kind.
        """
        name = type(self).__name__
        states = state_dict["state"]
        if not set(map(str, states)) <= {"0"}:
            raise CheckpointError(
                f"{name}.load_state_dict: state of parameters {', '.join(map(str, states))}; the state of this "
                "optimizer belongs to parameter 0. Is this the state of another kind of optimizer?"
            )
        params = self.param_groups[0]["params"]
        size = sum(p.size for p in params)

        def restored(array: Any) -> Any:
            if tuple(array.shape) != (size,):
                raise CheckpointError(
                    f"{name}.load_state_dict: a saved vector has shape {tuple(array.shape)}, the parameters have "
                    f"{size} elements; is this the state of another model?"
                )
            held = Tensor(params[0]._ns.xp.concat([params[0]._ns.xp.reshape(p._data, (-1,)) for p in params]), None,
                          params[0]._ns)  # fmt: skip
            held.assign(array)
            return held._data

        memory: dict[str, Any] = next((_mapped(dict(own), restored) for own in states.values()), {})
        super().load_state_dict({**state_dict, "state": {}})
        self.memory = memory


def _mapped(value: Any, fn: Callable[[Any], Any]) -> Any:
    """The same tree with `fn` of its arrays."""
    if isinstance(value, dict):
        return {key: _mapped(item, fn) for key, item in value.items()}
    if isinstance(value, list):
        return [_mapped(item, fn) for item in value]
    return fn(value) if hasattr(value, "shape") else value


def _moved(array: Array, problem: Problem) -> Array:
    """A vector that is remembered, where the parameters are now and in their dtype."""
    ns = problem.ns
    if ns.backend.owns(array) and array.dtype == problem.x.dtype and ns.backend.device_of(array) == problem.device:
        return array
    held = Tensor(ns.backend.copy(problem.x), None, ns)
    held.assign(array)
    return held._data
