"""A program as a list of calls without arguments, on buffers that are there already.

A value lives in a buffer from the operation that makes it to the last that reads it; then its place is used
again. Views are made once. What touches an input is made again when the input is another array.
"""

from __future__ import annotations

from typing import Any
from weakref import ref

import numpy as np

from fw_cpu.layouts import Layout, aligned, borrowed, fresh, overlap, owner
from fw_cpu.places import Places
from fw_cpu.recipes import Thunk
from fw_cpu.rehearsal import Rehearsal, literal
from fw_cpu.steps import Step, maker_of, nothing

Array = Any

_SMALL = 1 << 15
"""Outputs of no more bytes are copied as they leave; larger ones are computed where they stay."""


_MADE, _LITERAL, _DIRECT, _INPUT = range(4)
"""How an output leaves: from a buffer, as it is, in its own array, or from an input or a constant."""


class Plan:
    """Buffers and calls for inputs of certain layouts.

    Args:
        met: the program's first run.
        arrays: the inputs.
        into: an array or None for each output. What overlaps an input, or lies in memory in another way than the
            output would, is copied to at the end; the others are written by the instruction that makes the output.
    """

    def __init__(self, met: Rehearsal, arrays: tuple[Array, ...], into: tuple[Any, ...]) -> None:
        self.met = met
        self.inputs = met.program.inputs
        self.outputs = met.program.outputs
        self.expected = [met.layouts[n][:3] for n in self.inputs]
        self._shapes = [met.layouts[n].shape for n in self.inputs]
        self._shown = self._shown_to_functions()
        self.direct = self._written_directly(arrays, into)
        self.places = Places(met, set(self.direct))
        self.env: dict[int, Any] = dict(met.constants)
        self.calls: list[Thunk] = []
        self.steps: list[Step] = []
        self._lay_out()
        self._touching = self._dependents()
        self._schedules: dict[tuple[int, ...], list[Step]] = {}
        leaves = [(j, *self._leaf(j, entry)) for j, entry in enumerate(self.outputs)]
        self._apart = [leaf for leaf in leaves if leaf[3] != _DIRECT]
        self._nowhere = (None,) * len(self.outputs)
        self._is_made = False
        self.forget()

    def forget(self) -> None:
        """Take nothing for granted at the next run, as after an error."""
        self._last: list[Any] = [_nobody] * len(self.inputs)
        self._given: dict[int, Any] = dict.fromkeys(self.direct, _nobody)
        self._owners: set[int] = set()
        self._seen: list[Any] = [_nobody] * len(self.inputs)
        self._moving: list[int] = []  # inputs that were other arrays than before, and will soon be again
        self._restless: list[int] = []  # those that are held for one run, which costs less than to borrow

    # -- once --------------------------------------------------------------------------------------

    def _shown_to_functions(self) -> set[int]:
        """The values whose arrays functions see that are called as they are, and might keep them."""
        acts = [act for act in self.met.acts if act.source is None and act.instruction is None]
        return {self.met.root[n] for act in acts for n in act.operation.reads}

    def _written_directly(self, arrays: tuple[Array, ...], into: tuple[Any, ...]) -> dict[int, int]:
        """The values that are computed where they leave, with the number of the output."""
        made = {n for act in self.met.acts if act.source is None for n in act.operation.outputs}
        apart = [*arrays, *self.met.constants.values()]
        direct: dict[int, int] = {}
        for j, number in enumerate(self.outputs):
            if literal(number) or number not in made or number in direct or number in self._shown:
                continue
            layout, target = self.met.layouts[number], into[j]
            if target is None:
                if layout.extent > _SMALL:
                    direct[number] = j
            elif is_such(target, layout) and not any(overlap(target, a) for a in apart):
                direct[number] = j
                apart.append(target)
        return direct

    def _lay_out(self) -> None:
        memory = aligned(self.places.size)
        layouts = self.met.layouts

        def array(layout: Layout, offset: int) -> Array:
            if not layout.size:
                return np.empty(layout.shape, layout.dtype)
            return np.ndarray(layout.shape, layout.dtype, memory, offset, layout.strides)

        for number, buffer in self.places.of.items():
            self.env[number] = array(layouts[number], buffer.offset)
        for act, buffers in zip(self.met.acts, self.places.scratch):
            needed = act.instruction.scratch if act.instruction else ()
            scratch = [array(layout, b.offset) for layout, b in zip(needed, buffers)]
            self.steps.append(Step(act, maker_of(act, self.env, layouts, scratch)))

    def _dependents(self) -> dict[int, list[int]]:
        """By the number of an input, or of an output written directly: the steps that touch its memory."""
        root = self.met.root
        touching: dict[int, list[int]] = {n: [] for n in (*self.inputs, *self.direct)}
        for i, step in enumerate(self.steps):
            operation = step.act.operation
            for number in {root[n] for n in (*operation.reads, *operation.outputs)}:
                if number in touching:
                    touching[number].append(i)
        return touching

    def _leaf(self, j: int, entry: Any) -> tuple[Any, Layout, int]:
        """How an output leaves: its value, its layout, and what kind of value that is."""
        if literal(entry):
            return entry.value, Layout((), np.dtype(bool), ()), _LITERAL
        if self.direct.get(entry) == j:
            kind = _DIRECT
        else:
            kind = _MADE if self.met.root[entry] in self.places.of else _INPUT
        return entry, self.met.layouts[entry], kind

    def describe(self) -> str:
        """What is called, and where its results are."""
        apart = sum(self.met.layouts[n].extent for n in self.places.of)
        lines = [f"{len(self.steps)} operations, {self.places.size} bytes of buffers; apart they would take {apart}"]
        for step in self.steps:
            act = step.act
            how = "view" if act.source is not None else "called" if act.instruction is None else act.instruction.name
            outputs = [n for n in act.operation.outputs if n in self.met.layouts]
            made = ", ".join([f"{self.met.layouts[n]} {self._where(n)}" for n in outputs])
            lines.append(f"    {act.operation.primitive}: {how} -> {made}")
        return "\n".join(lines)

    def _where(self, number: int) -> str:
        root = self.met.root[number]
        if root in self.places.of:
            return f"at {self.places.of[root].offset}"
        return f"in output {self.direct[root]}" if root in self.direct else "of an input"

    # -- making calls --------------------------------------------------------------------------------

    def _make_all(self) -> None:
        self.calls.clear()
        for step in self.steps:
            calls = step.make()
            step.calls = slice(len(self.calls), len(self.calls) + len(calls))
            step.idle = [nothing] * len(calls)
            self.calls += calls
        self._is_made = True

    def _make_again(self, changed: tuple[int, ...]) -> None:
        for step in self._scheduled(changed):
            self.calls[step.calls] = step.make()

    def _scheduled(self, changed: tuple[int, ...]) -> list[Step]:
        """The steps that touch the memory of these inputs and outputs, in order."""
        steps = self._schedules.get(changed)
        if steps is None:
            which = sorted({i for number in changed for i in self._touching[number]})
            steps = self._schedules[changed] = [self.steps[i] for i in which]
        return steps

    # -- each time -------------------------------------------------------------------------------------
    # Between runs a plan holds no array of the caller's: it knows them by weak references, and its calls work on
    # arrays that borrow their memory. So who counts references finds nobody here.

    def run(self, arrays: tuple[Array, ...], into: tuple[Any, ...] | None) -> tuple[Any, ...] | None:
        """The outputs; None where these arrays do not fit this plan, and nothing was done."""
        changed = [
            i
            for i, (array, last, shape) in enumerate(zip(arrays, self._last, self._shapes))
            if last() is not array or array.shape != shape
        ]
        if changed and not all(self._fits(i, arrays[i]) for i in changed):
            return None
        own: dict[int, Any] = {}  # outputs that are new arrays
        renewed = self._renewed(arrays, into, own) if self.direct else []
        if renewed is None:
            self.forget()
            return None
        try:
            if changed or renewed or not self._is_made:
                self._rebind(changed, arrays, renewed)
            for call in self.calls:
                call()
            left = self._leaving(into, own)
            if self._restless or own:
                self._let_go(*self._restless, *own)
            return left
        except BaseException:
            self.forget()
            raise

    def _fits(self, i: int, array: Any) -> bool:
        """Whether an array that was not there before may be input `i`."""
        if type(array) is not np.ndarray:
            if not isinstance(array, np.ndarray | np.generic):
                return False
            array = np.asarray(array)
        return (array.shape, array.dtype, array.strides) == self.expected[i] and not self._meets_output(array)

    def _meets_output(self, array: Array) -> bool:
        """Whether an input may lie where an output is written before the program ends."""
        if not self._owners:
            return False
        belongs_to = owner(array)
        if belongs_to is not None and self._owners.isdisjoint((id(None), id(belongs_to))):
            return False
        targets = [given() for given in self._given.values()]
        return any(t is not None and overlap(array, t) for t in targets)

    def _renewed(self, arrays: tuple[Array, ...], into: Any, own: dict[int, Any]) -> list[int] | None:
        """Give the outputs that are written directly their arrays: which have another one; None if one does not fit."""
        renewed: list[int] = []
        was_given = False
        for number, j in self.direct.items():
            target = None if into is None else into[j]
            if target is None:
                self.env[number] = own[number] = fresh(self.met.layouts[number])
                self._given[number] = _nobody
            elif self._given[number]() is target:
                continue
            elif not is_such(target, self.met.layouts[number]) or self._overlaps(target, number, arrays, into):
                return None
            else:
                self.env[number] = borrowed(target)
                self._given[number] = ref(target)
                was_given = True
            renewed.append(number)
        if was_given:
            targets = [into[j] for j in self.direct.values() if into[j] is not None]
            self._owners = {id(owner(t)) for t in targets}
        return renewed

    def _overlaps(self, target: Array, number: int, arrays: tuple[Array, ...], into: Any) -> bool:
        others = [into[j] for n, j in self.direct.items() if n != number and into[j] is not None]
        return any(overlap(target, np.asarray(a)) for a in (*arrays, *self.met.constants.values(), *others))

    def _rebind(self, changed: list[int], arrays: tuple[Array, ...], renewed: list[int]) -> None:
        """Take other arrays for inputs, and for outputs that are written directly."""
        numbers = [self.inputs[i] for i in changed]
        for i, number in zip(changed, numbers):
            array = arrays[i]
            if not isinstance(array, np.ndarray):  # a scalar
                array = np.asarray(array)
            elif number in self._shown or (number in self._moving and self._seen[i]() is not array):
                self._last[i] = _nobody  # held for this run alone
                self._restless.append(number)
                self._seen[i] = ref(array)
            else:
                self._last[i] = self._seen[i] = ref(array)
                array = borrowed(array)
            self.env[number] = array
        self._moving = numbers
        if self._is_made:
            self._make_again((*numbers, *renewed))
        else:
            self._make_all()

    def _leaving(self, into: tuple[Any, ...] | None, own: dict[int, Any]) -> tuple[Any, ...]:
        """The outputs: those written directly, and copies of the others."""
        if into is None:
            into = self._nowhere
        left: list[Any] = list(into)
        for number, array in own.items():
            left[self.direct[number]] = array
        copied: list[tuple[int, Array]] = []
        for j, number, layout, kind in self._apart:
            target = into[j]
            if target is None:
                left[j] = self._copy(number, layout) if kind != _LITERAL else number
            else:
                copied.append((j, target))
                value = number if kind == _LITERAL else self.env[number]
                left[j] = value.copy("K") if kind == _INPUT else value  # a target may overlap the input
        for j, target in copied:
            np.copyto(target, left[j], "unsafe")
            left[j] = target
        return tuple(left)

    def _copy(self, number: int, layout: Layout) -> Array:
        value = self.env[number]
        return value[()] if layout.is_scalar else value.copy("K")

    def _let_go(self, *numbers: int) -> None:
        """Hold these arrays no longer: they are the caller's alone."""
        self._restless.clear()
        for step in self._scheduled(numbers):
            self.calls[step.calls] = step.idle
            if step.act.source is not None:
                self.env.update(dict.fromkeys(step.act.operation.outputs))  # views of them
        self.env.update(dict.fromkeys(numbers))


def _nobody() -> None:
    """Like a weak reference to what is gone."""


def is_such(target: Any, layout: Layout) -> bool:
    """Whether an instruction that makes an array of this layout may write to the target instead."""
    return (
        type(target) is np.ndarray
        and (target.shape, target.dtype, target.strides) == layout[:3]
        and bool(target.flags.writeable)
    )
