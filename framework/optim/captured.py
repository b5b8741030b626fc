"""The update of an optimizer, with clipping and the check for non-finite values, as a part of a program.

For backends that capture programs and ask for it. It gives what `Optimizer.step` would have given.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from framework.autodiff import Tensor
from framework.autodiff.sequel import MOST, Nodes
from framework.autodiff.tape import Leaf
from framework.backend.dtypes import DType
from framework.backend.program import Literal, Value
from framework.optim.captured_parts import Part, parts_of
from framework.optim.clip import ROUNDING
from framework.optim.optimizer import Optimizer

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
        flags: where a value that is NaN or infinite is noted.

    Attributes:
        is_done: whether the last call was followed by the update.
        by_norm: whether it clips by the norm of all gradients.
    """

    def __init__(self, optimizer: Optimizer, clip: tuple[float, str], flags: Flags) -> None:
        self.optimizer, self.clip, self.flags = optimizer, clip, flags
        self.is_done = False
        self.by_norm = bool(clip[0]) and clip[1] == "norm"
        self._plans: dict[Any, _Plan] = {}
        self._rates: tuple[list[float], Array] = ([], None)
        self._wide: DType | None = None

    def done(self) -> None:
        """It was done."""
        self.optimizer._show_state()
        self.is_done = True

    def plan(self, leaves: Sequence[Leaf]) -> _Plan | None:
        """How the call goes on; None where the update is to be made by itself."""
        optimizer = self.optimizer
        if optimizer.apply_if is not None or not optimizer.updates_by_kernel():
            return None
        rates: list[float] = []
        parts = parts_of(optimizer, set(leaves), rates)
        if not parts:
            return None
        key = tuple([part.key() for part in parts])
        found = self._plans.get(key)
        if found is None:
            if len(self._plans) >= MOST or not self._takes(parts):
                return None
            found = self._plans[key] = _Plan(self)
        found.begin(parts, self._on_device(rates, parts[0].like))
        return found

    def _takes(self, parts: list[Part]) -> bool:
        """Whether all is in one place, and wide enough for the squares of a norm."""
        first = parts[0].like
        return all(
            p._ns is first._ns and p.device == first.device and (p.dtype.itemsize >= 4 or not self.by_norm)
            for p in [part.like for part in parts]
        )

    def _on_device(self, rates: list[float], p: Tensor) -> Array:
        """The rates as an array, which is made where they are not those of the last step."""
        if rates != self._rates[0]:
            backend = p._ns.backend
            self._wide = self._wide or next((d for d in backend.dtypes if d.name == "float64"), p.dtype)
            self._rates = rates, backend.asarray(rates, dtype=self._wide, device=p.device)
        return self._rates[1]


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
        self._flags = self._update.flags.begin(parts[0].like)

    def inputs(self) -> list[Array]:
        """What the parts need, the flag and the count, the rates."""
        return [*[array for part in self._parts for array in part.inputs()], *self._flags, self._rates]

    def targets(self) -> list[Array]:
        """Where the results are wanted."""
        flags = self._flags if self.is_in_place else (None, None)
        return [*[array for part in self._parts for array in part.targets()], *flags]

    def record(self, nodes: Nodes, gradients: Sequence[int], value: int) -> tuple[list[int], list[tuple[int, int]]]:
        """The nodes of an update; returns the results, and the pairs that are given away."""
        left, apart, found = list(gradients), [], []
        for part in self._parts:
            own, left = left[: len(part.leaves)], left[len(part.leaves) :]
            own, g = part.gradient(nodes, own)
            apart += own
            found.append(g)
        ok_before, good_before, rates = [nodes.input(array) for array in (*self._flags, self._rates)]
        summed = apart if self._update.by_norm else found  # a norm is added up gradient by gradient
        squares = [nodes("sum_of_squares", g, like=(_scalar(nodes, g),))[0] for g in summed]
        total = _sum(nodes, squares)
        ok, good = nodes("latch", total, value, ok_before, good_before, like=(ok_before, good_before))
        pairs = [(ok_before, ok), (good_before, good)] if self.is_in_place else []
        results: list[int] = []
        for part, g in zip(self._parts, self._clipped(nodes, found, total, ok)):
            made, given = part.update(nodes, g, ok, rates)
            results += made
            pairs += given
        return [*results, ok, good], pairs

    def _clipped(self, nodes: Nodes, gradients: list[int], total: int, ok: int) -> list[int]:
        """The gradients as `clip_grad_norm_` or `clip_grad_value_` leaves them."""
        limit, algorithm = self._update.clip
        if not limit:
            return gradients
        if algorithm == "value":
            return [nodes("clip", g, Literal(-limit), Literal(limit), like=(g,))[0] for g in gradients]
        (norm,) = nodes("sqrt", total, like=(total,))
        (norm,) = nodes("add", norm, Literal(ROUNDING), like=(total,))
        (factor,) = nodes("divide", Literal(limit), norm, like=(total,))
        (factor,) = nodes("minimum", factor, Literal(1.0), like=(total,))
        if self.is_in_place:  # between gradients that lie side by side are zeros, which NaN may not be multiplied into
            (factor,) = nodes("where", ok, factor, Literal(1.0), like=(total,))
        clipped: list[int] = []
        for g in gradients:
            scale = factor
            if nodes.values[g].dtype != nodes.values[factor].dtype:
                native = nodes.ns.backend.native(nodes.values[g].dtype)
                (scale,) = nodes("astype", factor, Literal(native), like=(_scalar(nodes, g),))
            clipped += nodes("multiply", g, scale, like=(g,))
        return clipped

    def commit(self, arrays: Sequence[Array]) -> None:
        """Gradients, parameters, state, the flag and the count are there."""
        rest, parts = list(arrays), self._parts
        self._parts = []  # a plan that comes no more is not to keep arrays
        for part in parts:
            own, rest = rest[: part.count], rest[part.count :]
            part.commit(own)
        self._update.flags.settle(*rest)


def _scalar(nodes: Nodes, number: int) -> Value:
    return Value((), nodes.values[number].dtype)


def _sum(nodes: Nodes, numbers: list[int]) -> int:
    """The sum of values without axes, one after the other; the widest dtype is that of all."""
    total = numbers[0]
    for number in numbers[1:]:
        wide = max((nodes.values[total], nodes.values[number]), key=lambda value: value.dtype)
        (total,) = nodes("add", total, number, like=(wide,))
    return total
