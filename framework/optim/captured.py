"""The update of an optimizer, with clipping and the check for non-finite values, as a part of a program.

For backends that capture programs and ask for it. It gives what `Optimizer.step` would have given.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from operator import is_
from typing import Any, NamedTuple, Protocol

from framework.autodiff import Tensor
from framework.autodiff.sequel import MOST, Nodes
from framework.autodiff.tape import Leaf
from framework.backend.dtypes import DType, dtype
from framework.backend.program import Literal
from framework.optim.captured_parts import Part, parts_of, summed
from framework.optim.clip import ROUNDING
from framework.optim.neighbours import Run
from framework.optim.optimizer import Optimizer, UpdateNode
from framework.optim.steps import is_replaced

Array = Any


class Flags(Protocol):
    """On the device: whether all updates so far were finite, and how many were."""

    def begin(self, like: Tensor) -> tuple[Array, Array]:
        """The flag and the count, for the next update; where arrays are written, these are."""

    def settle(self, ok: Array, good: Array) -> None:
        """What the update has made of them."""


class Update:
    """What follows on a backward: clipping and one step.

    Args:
        optimizer: whose step.
        clip: the largest norm or value, 0 for none, and which of the two it is.
        flags: where a value that is NaN or infinite is noted; None where every update is made, whatever its values.

    Attributes:
        is_done: whether the last call was followed by the update.
        by_norm: whether it clips by the norm of all gradients.
    """

    def __init__(
        self, optimizer: Optimizer, clip: tuple[float, str] = (0.0, "norm"), flags: Flags | None = None
    ) -> None:
        self.optimizer, self.clip, self.flags = optimizer, clip, flags
        self.is_done = False
        self.by_norm = bool(clip[0]) and clip[1] == "norm"
        self._plans: dict[Any, _Plan] = {}
        self._latest: _Latest | None = None
        self._rates: tuple[list[float], Array] = ([], None)
        self._always: Array = None
        self._wide: DType | None = None

    def done(self) -> None:
        """It was done."""
        self.optimizer._show_state()
        self.is_done = True

    def plan(self, leaves: Collection[Leaf]) -> _Plan | None:
        """How the call goes on; None where the update is to be made by itself."""
        optimizer = self.optimizer
        if optimizer.apply_if is not None or not steps_as_it_is(optimizer):
            return None
        again = self._again(leaves)
        if again is not None or not optimizer.updates_by_kernel():
            return again
        self._latest = None
        nodes: list[Any] = [optimizer.as_node(group) for group in optimizer.param_groups]
        if None in nodes:
            return None
        rates: list[float] = []
        rows: list[tuple[int, Run]] = []
        parts = parts_of(optimizer, nodes, set(leaves), rates, rows)
        if not parts:
            return None
        key = tuple([part.key() for part in parts])
        found = self._plans.get(key)
        if found is None:
            if len(self._plans) >= MOST or not self._takes(parts):
                return None
            found = self._plans[key] = _Plan(self)
        runs = optimizer.runs_as_before()
        if runs is not None:
            signs = [group["maximize"] for group in optimizer.param_groups]
            self._latest = _Latest(found, leaves, runs, nodes, signs, parts, rows)
        found.begin(parts, self._on_device(rates, parts[0].like))
        return found

    def _again(self, leaves: Collection[Leaf]) -> _Plan | None:
        """The plan of the last call, if nothing has changed but rates: most often so, and soon seen."""
        last, optimizer = self._latest, self.optimizer
        if last is None or last.leaves is not leaves:
            return None
        runs, groups = optimizer.runs_as_before(), optimizer.param_groups
        if runs is None or len(runs) != len(last.runs) or not all(map(is_, runs, last.runs)):
            return None
        nodes = []
        for group, before, sign in zip(groups, last.nodes, last.signs):
            node = optimizer.as_node(group)
            if node is None or node[:3] != before[:3] or group["maximize"] is not sign:
                return None
            nodes.append(node)
        rates = [rate for number, run in last.rows for rate in nodes[number].rates(run.steps + 1)]
        last.plan.begin(last.parts, self._on_device(rates, last.parts[0].like))
        return last.plan

    def _takes(self, parts: list[Part]) -> bool:
        """Whether all is in one place, and wide enough for the squares of a norm."""
        first = parts[0].like
        return all(
            p._ns is first._ns and p.device == first.device and (p.dtype.itemsize >= 4 or not self.by_norm)
            for p in [part.like for part in parts]
        )

    def _on_device(self, rates: list[float], p: Tensor) -> Array:
        """The rates as an array, which is written, or made, where they are not those of the last step."""
        if rates != self._rates[0]:
            backend = p._ns.backend
            self._wide = self._wide or next((d for d in backend.dtypes if d.name == "float64"), p.dtype)
            before, array = self._rates
            if backend.writable and len(rates) == len(before) and backend.device_of(array) == p.device:
                backend.overwrite(array, rates)
            else:
                array = backend.asarray(rates, dtype=self._wide, device=p.device)
            self._rates = rates, array
        return self._rates[1]

    def begin_flags(self, like: Tensor) -> tuple[Array, ...]:
        """Whether to update, on the device; and how many updates were made, where that is counted."""
        if self.flags is not None:
            return self.flags.begin(like)
        backend = like._ns.backend
        if self._always is None or backend.device_of(self._always) != like.device:
            self._always = backend.asarray(True, dtype=dtype("bool"), device=like.device)
        return (self._always,)


class _Latest(NamedTuple):
    """What the last plan was made of."""

    plan: _Plan
    leaves: Collection[Leaf]
    runs: list[list[Run]]
    nodes: list[UpdateNode]
    signs: list[bool]
    parts: list[Part]
    rows: list[tuple[int, Run]]


class _Plan:
    """One kind of update, each time with the arrays that are there then.

    Attributes:
        leaves: those whose gradients are taken, which have them afterwards.
        is_in_place: whether all that is given away is written where it is.
    """

    def __init__(self, update: Update) -> None:
        self._update = update

    def begin(self, parts: list[Part], rates: Array) -> None:
        """The next call is of these parts, with these rates."""
        self._parts, self._rates = parts, rates
        self.leaves: Sequence[Leaf] = [leaf for part in parts for leaf in part.leaves]
        self.is_in_place = parts[0].is_in_place
        self._flags = self._update.begin_flags(parts[0].like)

    def inputs(self) -> list[Array]:
        """What the parts need, the flag and the count, the rates."""
        return [*[array for part in self._parts for array in part.inputs()], *self._flags, self._rates]

    def targets(self) -> list[Array]:
        """Where the results are wanted."""
        targets = [array for part in self._parts for array in part.targets()]
        if self._update.flags is not None:
            targets += self._flags if self.is_in_place else (None, None)
        return targets

    def record(
        self, nodes: Nodes, gradients: Sequence[int], value: int | None
    ) -> tuple[list[int], list[tuple[int, int]]]:
        """The nodes of an update; returns the results, and the pairs that are given away."""
        left, found = list(gradients), []
        for part in self._parts:
            own, left = left[: len(part.leaves)], left[len(part.leaves) :]
            found.append(part.gradient(nodes, own))
        ok, *counted, rates = [nodes.input(array) for array in (*self._flags, self._rates)]
        total = self._squares(nodes, found) if counted or self._update.by_norm else None
        flags: list[int] = []
        pairs: list[tuple[int, int]] = []
        if counted:
            before = (ok, *counted)
            flags = list(nodes("latch", total, value, *before, like=before))
            ok = flags[0]
            pairs = list(zip(before, flags)) if self.is_in_place else []
        results: list[int] = []
        for part, g in zip(self._parts, self._clipped(nodes, found, total, ok)):
            made, given = part.update(nodes, g, ok, rates)
            results += made
            pairs += given
        return results + flags, pairs

    def _squares(self, nodes: Nodes, gradients: list[int]) -> int:
        """The sum of squares of all gradients: of a norm one by one, else of neighbours together."""
        total: int | None = None
        for part, g in zip(self._parts, gradients):
            if self._update.by_norm:
                total = part.squares(nodes, g, total)
            else:
                total = summed(nodes, total, nodes("sum_of_squares", g, like=(nodes.scalar(g),))[0])
        assert total is not None  # there is a part
        return total

    def _clipped(self, nodes: Nodes, gradients: list[int], total: int | None, ok: int) -> list[int]:
        """The gradients as `clip_grad_norm_` or `clip_grad_value_` leaves them."""
        limit, algorithm = self._update.clip
        if not limit:
            return gradients
        if algorithm == "value":
            return [nodes("clip", g, Literal(-limit), Literal(limit), like=(g,))[0] for g in gradients]
        # Between gradients that lie side by side are zeros, which NaN may not be multiplied into: `ok` sees to that.
        of = {"limit": limit, "rounding": ROUNDING}
        return [nodes("scaled_to_norm", g, total, ok, like=(g,), **of)[0] for g in gradients]

    def commit(self, arrays: list[Array]) -> None:
        """Gradients, parameters, state, the flag and the count are there."""
        parts, first = self._parts, 0
        self._parts = []  # a plan that comes no more is not to keep arrays
        for part in parts:
            part.commit(arrays[first : first + part.count])
            first += part.count
        if self._update.flags is not None:
            self._update.flags.settle(*arrays[first:])


def update_of(optimizer: Optimizer) -> Update | None:
    """A step of an optimizer as what follows on a call; None where it is more than what `as_node` says."""
    return Update(optimizer) if steps_as_it_is(optimizer) else None


def steps_as_it_is(optimizer: Optimizer) -> bool:
    """Whether nobody has given it, or its class, another `step`, or it a part of one."""
    return not is_replaced(optimizer) and vars(optimizer).keys().isdisjoint(("update", "hyper"))
