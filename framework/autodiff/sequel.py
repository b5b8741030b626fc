"""What follows on a replayed call within the same program: an update, say, after forward and backward.

Nothing is recorded for it. Whoever knows what follows appends nodes to the program of the recording, and says at each
call which arrays go in and what is done with those that come out.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from sys import getrefcount
from typing import Any, Protocol

from framework.autodiff import tape
from framework.autodiff.namespace import PRIMITIVES, RawNamespace
from framework.autodiff.tape import Leaf
from framework.autodiff.tensor import Tensor
from framework.backend.kernels import IN_PLACE
from framework.backend.program import Operation, Program, Value

Array = Any

MOST = 8
"""Programs that follow on one recording; calls of yet another kind go on as without."""


class Nodes:
    """Appends nodes to a program.

    Attributes:
        inputs: the numbers of values that come in beside those of the program.
        tensors: the Tensors whose arrays are inputs of the program, in order, and others that were asked for.
    """

    def __init__(self, program: Program, tensors: Sequence[Tensor], ns: RawNamespace) -> None:
        self.ns = ns
        self.values = dict(program.values)
        self.inputs: list[int] = []
        self.operations: list[Operation] = []
        self.tensors = list(tensors)
        self._of_tensors = dict(zip(map(id, tensors), program.inputs))
        self._next = max(self.values) + 1

    def _number(self, value: Value) -> int:
        number = self._next
        self._next += 1
        self.values[number] = value
        return number

    def input(self, array: Array) -> int:
        """An input like this array."""
        self.inputs.append(self._number(Value(tuple(array.shape), self.ns.backend.dtype_of(array).name)))
        return self.inputs[-1]

    def of_tensor(self, t: Tensor) -> int:
        """The input that is the array of this Tensor."""
        if id(t) not in self._of_tensors:
            self.tensors.append(t)
            self._of_tensors[id(t)] = self._number(Value(t.shape, t.dtype.name))
        return self._of_tensors[id(t)]

    def numbers_of_tensors(self) -> tuple[int, ...]:
        """The inputs that are arrays of Tensors."""
        return tuple([self._of_tensors[id(t)] for t in self.tensors])

    def function(self, name: str) -> Any:
        """What computes the operations of this name that were appended."""
        if name in IN_PLACE:
            return self.ns.backend.kernels.get(name) or partial(IN_PLACE[name], self.ns)
        return getattr(self.ns, name)

    def scalar(self, number: int) -> Value:
        """A value without axes, in the dtype of another."""
        return Value((), self.values[number].dtype)

    def __call__(self, name: str, *entries: Any, like: Sequence[int | Value], **params: Any) -> tuple[int, ...]:
        """The outputs of one operation, whose shapes and dtypes are as those of other values."""
        made = [self._number(self.values[x] if isinstance(x, int) else x) for x in like]
        self.operations.append(Operation(name, entries, params, tuple(made)))
        return tuple(made)


class Plan(Protocol):
    """One way in which a call goes on; the same object each time that it goes on so.

    Attributes:
        leaves: those whose gradients it takes; it gives them what they are to have afterwards.
        is_in_place: whether all that is given away is written where it is, and nobody else holds it.
    """

    leaves: Sequence[Leaf]
    is_in_place: bool

    def record(
        self, nodes: Nodes, gradients: Sequence[int], value: int | None
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """Append what follows; returns its results, and the pairs that are given away."""

    def inputs(self) -> list[Array]:
        """The arrays that come in now, in the order in which `record` asked for them."""

    def targets(self) -> list[Array]:
        """Where the results are wanted; None for those that may lie anywhere."""

    def commit(self, arrays: list[Array]) -> None:
        """The results are there."""


class Sequel(Protocol):
    """What may follow on a call."""

    def plan(self, leaves: Collection[Leaf]) -> Plan | None:
        """How it goes on with the gradients of these leaves; None where it does not within a program.

        Calls that are alike give the same collection.
        """

    def done(self) -> None:
        """It was done."""


class Continued:
    """The program of a recording with what follows.

    Args:
        ns: the backend's functions.
        program: that of the recording.
        tensors: those whose arrays are its first inputs.
        plan: what follows.
        numbers: the gradients of the plan's leaves.
        kept: the outputs of the recording that are wanted beside those.
        value: the number of the loss, where that is asked for.

    Attributes:
        is_spoilt: whether a run has failed that had written where its inputs are: that call cannot be made again.
    """

    def __init__(
        self,
        ns: RawNamespace,
        program: Program,
        tensors: Sequence[Tensor],
        plan: Plan,
        numbers: Sequence[int],
        kept: Sequence[int],
        value: int | None,
    ) -> None:
        nodes = Nodes(program, tensors, ns)
        results, state = plan.record(nodes, numbers, value)
        rest = program.inputs[len(tensors) :]
        inputs = (*nodes.numbers_of_tensors(), *rest, *nodes.inputs)
        operations = (*program.operations, *nodes.operations)
        own, functions = {o.primitive for o in program.operations}, program.functions
        self._written = written = [False]

        def function(name: str) -> Any:
            if name in IN_PLACE:  # whoever asks is about to call it
                written[0] = True
            return functions(name) if name in own else nodes.function(name)

        self.ns, self.plan, self.kept = ns, plan, tuple(kept)
        outputs = (*kept, *results)
        self.program = Program(inputs, program.constants, operations, outputs, nodes.values, function, tuple(state))
        self.tensors = nodes.tensors
        self._donated = frozenset([inputs.index(before) for before, _ in state])
        self._run = ns.backend.capture(self.program)
        self._has_run = self.is_spoilt = False

    def __call__(self, rest: Sequence[Array]) -> list[Array]:
        """Run it with these arrays beside those of Tensors; what was wanted of the recording."""
        plan = self.plan
        targets = plan.targets()
        given = plan.inputs()
        if plan.is_in_place:
            arrays = [t._data for t in self.tensors]
        else:  # whoever else holds what is given away keeps it
            copy, donated, at = self.ns.backend.copy, self._donated, len(self.tensors) + len(rest)
            arrays = [copy(t._data) if i in donated and _is_held(t) else t._data for i, t in enumerate(self.tensors)]
            given = [copy(a) if i in donated and getrefcount(a) > _HELD else a for i, a in enumerate(given, at)]
        before = [] if self._has_run or not plan.is_in_place else self._copies([*arrays, *rest, *given])
        self._written[0] = False
        try:
            outputs = self._run(*arrays, *rest, *given, into=(*[None] * len(self.kept), *targets))
        except Exception:
            for array, values in before:
                array[...] = values
            self.is_spoilt = self._written[0] and not before
            raise
        self._has_run = True
        del arrays, given, targets, before
        plan.commit(list(outputs[len(self.kept) :]))
        return list(outputs[: len(self.kept)])

    def _copies(self, inputs: Sequence[Array]) -> list[tuple[Array, Array]]:
        """What is given away, with its values: a first run, in which something may be refused, can be undone."""
        return [(inputs[i], self.ns.backend.copy(inputs[i])) for i in self._donated]


def continued(
    ns: RawNamespace,
    program: Program,
    tensors: Sequence[Tensor],
    plan: Plan,
    numbers: Sequence[int],
    kept: Sequence[int],
    value: int | None,
) -> Continued | None:
    """A program with what follows; None where one of its outputs may be a part of what is overwritten."""
    made = {n for operation in program.operations for n in operation.outputs}
    asked = numbers if value is None else (*numbers, value)
    if len(set(numbers)) < len(numbers) or not made.issuperset(asked):
        return None
    views = set(program.inputs)
    for operation in program.operations:
        primitive = PRIMITIVES.get(operation.primitive)
        may_view = primitive is None or primitive.view
        if may_view and operation.primitive not in _NO_VIEWS and views.intersection(operation.reads):
            views.update(operation.outputs)
    if views.intersection((*numbers, *kept)):
        return None
    return Continued(ns, program, tensors, plan, numbers, kept, value)


_NO_VIEWS = frozenset(
    ("relu_grad", "linear_dx", "linear_dw", "colsum", "xent_grad", "embedding_grad", "batch_norm_grad",
     "layer_norm_grad", "attention_grad", "rounded_matmul", "gather_normalized", "scatter_add", "set_item")
)  # fmt: skip
"""Names that are no primitives, and whose results are arrays of their own."""


def _is_held(t: Tensor) -> bool:
    """Whether somebody beside the Tensor holds its array."""
    return not tape.counts_are_exact or getrefcount(t._data) > _ALONE


_box = [object()]
_ALONE = getrefcount(_box[0])


def _count_given() -> int:
    """The count of references to an array that one object holds and that stands in a list, while that is walked."""
    held = {"a": object()}
    given = [held["a"]]
    return next(getrefcount(a) for i, a in enumerate(given, 1))


_HELD = _count_given() if tape.counts_are_exact else 0
