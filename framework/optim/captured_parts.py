"""What one node of an update moves: a parameter by itself, or neighbours in an arena as one array."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from framework.autodiff import Tensor
from framework.autodiff.lines import user_line
from framework.autodiff.sequel import Nodes
from framework.autodiff.tape import Leaf, mark_written
from framework.backend.program import Literal
from framework.optim.arena import can_house
from framework.optim.neighbours import Run
from framework.optim.optimizer import Optimizer, State, UpdateNode

Array = Any
Made = tuple[list[int], list[tuple[int, int]]]
"""Results of an update, the gradient first, and the pairs of what is given away and what takes its place."""


class Part(ABC):
    """What one node updates.

    Attributes:
        leaves: the leaves of its parameters.
        like: one of its parameters.
        keys: the names of the arrays of its state.
        count: how many results there are.
    """

    is_in_place: bool
    like: Tensor
    leaves: Sequence[Leaf]

    def __init__(self, node: UpdateNode, at: int, maximize: bool) -> None:
        self.node, self.at, self.maximize = node, at, maximize
        self.keys = [key for key in node.state if key is not None]
        self.count = 2 + len(self.keys)

    def key(self) -> Any:
        """What makes it another program."""
        node = self.node
        return node.kernel, node.state, *node.params.values(), self.at, self.maximize, *self._own_key()

    @abstractmethod
    def _own_key(self) -> tuple[Any, ...]: ...

    @abstractmethod
    def inputs(self) -> list[Array]:
        """The arrays that come in beside those of Tensors, in the order in which `gradient` asks for them."""

    @abstractmethod
    def targets(self) -> list[Array]:
        """Where the results are wanted; None for those that may lie anywhere."""

    @abstractmethod
    def gradient(self, nodes: Nodes, numbers: list[int]) -> int:
        """Those of the leaves as one value, given what a backward has found."""

    @abstractmethod
    def squares(self, nodes: Nodes, g: int, before: int | None) -> int:
        """The sum of squares, added up gradient by gradient as `clip_grad_norm_` does, behind one before."""

    @abstractmethod
    def update(self, nodes: Nodes, g: int, ok: int, rates: int) -> Made:
        """The results, the gradient first."""

    @abstractmethod
    def commit(self, arrays: list[Array]) -> None:
        """The results are there."""

    def _made(self, nodes: Nodes, p: int, state: list[int], g: int, ok: int, rates: int) -> Made:
        """Append the kernel."""
        kept = g
        if self.maximize:
            (g,) = nodes("negative", g, like=(g,))
        left = list(state)
        own = [left.pop(0) if key is not None else Literal(None) for key in self.node.state]
        given = [p, *state]
        made = nodes(self.node.kernel, p, g, *own, ok, rates, like=given, at=self.at, **self.node.params)
        return [kept, *made], list(zip(given, made))


class Single(Part):
    """A parameter by itself, whose array, state and gradient are other ones after the update."""

    is_in_place = False

    def __init__(self, p: Tensor, state: State, node: UpdateNode, at: int, maximize: bool) -> None:
        super().__init__(node, at, maximize)
        self.like, self._state = p, state
        leaf: Any = p._node
        self.leaves = (leaf,)
        self._leaf: Leaf = leaf
        self._adds = leaf.grad is not None

    def _own_key(self) -> tuple[Any, ...]:
        return self.like._node, self._adds

    def inputs(self) -> list[Array]:
        """A gradient that is added to, and the state."""
        own = [self._state[key] for key in self.keys]
        return [self._leaf.grad, *own] if self._adds else own

    def targets(self) -> list[Array]:
        """Anywhere."""
        return [None] * self.count

    def gradient(self, nodes: Nodes, numbers: list[int]) -> int:
        """The gradient found, and the one before."""
        (g,) = numbers
        self._pairs: list[tuple[int, int]] = []
        self._numbers = [nodes.input(array) for array in self.inputs()]
        if self._adds:
            before = self._numbers.pop(0)
            (g,) = nodes("add", before, g, like=(g,))
            self._pairs = [(before, g)]
        return g

    def squares(self, nodes: Nodes, g: int, before: int | None) -> int:
        """With that of the gradient."""
        return summed(nodes, before, nodes("sum_of_squares", g, like=(nodes.scalar(g),))[0])

    def update(self, nodes: Nodes, g: int, ok: int, rates: int) -> Made:
        """The gradient, the parameter and its state."""
        made, pairs = self._made(nodes, nodes.of_tensor(self.like), self._numbers, g, ok, rates)
        return made, pairs + self._pairs

    def commit(self, arrays: list[Array]) -> None:
        """Keep them."""
        self._leaf.grad, self.like._data, *state = arrays
        self._state.update(zip(self.keys, state))
        if "step" in self._state:
            self._state["step"] += 1


class Neighbours(Part):
    """Neighbours in an arena, all of which is written where it is."""

    is_in_place = True

    def __init__(self, run: Run, node: UpdateNode, at: int, maximize: bool) -> None:
        super().__init__(node, at, maximize)
        self._run = run
        self.leaves = run.leaves
        self.like = run.first
        self._adds = run.leaves[0].grad is not None

    def _own_key(self) -> tuple[Any, ...]:
        return *self._run.signature, self._adds

    def _state(self) -> list[Array]:
        state: Any = self._run.state
        return [state[key] for key in self.keys]

    def inputs(self) -> list[Array]:
        """The gradients as one array and one by one, the values, the state."""
        run = self._run
        return [run.g, *[leaf.slot for leaf in run.leaves], run.p, *self._state()]

    def targets(self) -> list[Array]:
        """Where they are."""
        return [self._run.g, self._run.p, *self._state()]

    def gradient(self, nodes: Nodes, numbers: list[int]) -> int:
        """The gradients found, with those before where there were some, in their slots."""
        self._flat, *rest = [nodes.input(array) for array in self.inputs()]
        slots, self._values, self._numbers = rest[: len(numbers)], rest[len(numbers)], rest[len(numbers) + 1 :]
        if self._adds:
            numbers = [nodes("add", slot, g, like=(g,))[0] for slot, g in zip(slots, numbers)]
        return nodes("fill_parts", self._flat, *slots, *numbers, like=(self._flat,))[0]

    def squares(self, nodes: Nodes, g: int, before: int | None) -> int:
        """With those of all, by one node."""
        goes_on = before is not None and nodes.values[before].dtype == nodes.values[g].dtype
        given = before if goes_on else Literal(None)
        (found,) = nodes("squares_of_parts", g, given, like=(nodes.scalar(g),), bounds=self._run.bounds)
        return found if goes_on else summed(nodes, before, found)

    def update(self, nodes: Nodes, g: int, ok: int, rates: int) -> Made:
        """The gradients, the values and their state."""
        made, pairs = self._made(nodes, self._values, self._numbers, g, ok, rates)
        return made, [(self._flat, g), *pairs]

    def commit(self, arrays: list[Array]) -> None:
        """They are where they were."""
        run = self._run
        for leaf in run.leaves:
            leaf.grad = leaf.slot
        run.count_step()
        mark_written(run.leaves, user_line())


def parts_of(
    optimizer: Optimizer,
    nodes: Sequence[UpdateNode],
    computed: set[Leaf],
    rates: list[float],
    counted: list[tuple[int, Run]],
) -> list[Part]:
    """What is updated once these leaves have their gradients; nothing where that cannot be said.

    Args:
        optimizer: whose parameters.
        nodes: the update of each group.
        computed: the leaves.
        rates: gets the rates of all parts, one after the other.
        counted: gets, for each piece of them, the number of the group and a run whose steps they depend on.
    """
    groups = optimizer.param_groups
    first = next((p for group in groups for p in group["params"]), None)
    if first is None:
        return []
    found = _runs(optimizer, computed) if can_house(first) else _params(optimizer, computed)
    rows: dict[tuple[int, int], int] = {}
    parts: list[Part] = []
    for number, member, state in found:
        node, step = nodes[number], state.get("step", 0) + 1
        if not {None, *state}.issuperset(node.state):
            return []
        at = rows.get((number, step))
        if at is None:
            at = rows[number, step] = len(rates)
            rates += node.rates(step)
            if isinstance(member, Run):
                counted.append((number, member))
        maximize = groups[number]["maximize"]
        if isinstance(member, Run):
            parts.append(Neighbours(member, node, at, maximize))
        else:
            parts.append(Single(member, state, node, at, maximize))
    return parts


def summed(nodes: Nodes, total: int | None, found: int) -> int:
    """The sum of values without axes, in the wider of their dtypes; the second alone where there is no first."""
    if total is None:
        return found
    wide = max((nodes.values[total], nodes.values[found]), key=lambda value: value.dtype)
    return nodes("add", total, found, like=(wide,))[0]


def _runs(optimizer: Optimizer, computed: set[Leaf]) -> list[tuple[int, Run, State]]:
    """The runs that these leaves will make, each with the number of its group and its state; none if others come."""
    runs = optimizer.runs_to_come(computed) or []
    found = [(number, run, run.state or {}) for number, of_group in enumerate(runs) for run in of_group]
    is_even = all(len({leaf.grad is None for leaf in run.leaves}) == 1 for _, run, _ in found)
    return found if is_even else []


def _params(optimizer: Optimizer, computed: set[Leaf]) -> list[tuple[int, Tensor, State]]:
    """The parameters of these leaves, each with the number of its group and its state; none if others come."""
    states = optimizer._written()
    found = []
    for number, group in enumerate(optimizer.param_groups):
        for p in group["params"]:
            leaf: Any = p._node
            if leaf is None or (leaf not in computed and leaf.grad is None):
                continue
            if leaf not in computed or isinstance(leaf.grad, Tensor) or p not in states:
                return []
            found.append((number, p, states[p]))
    return found
