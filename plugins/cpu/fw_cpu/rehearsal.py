"""The first run of a program: what its functions return tells how a plan must make it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from framework.backend.program import Literal, filled, results
from fw_cpu.layouts import Layout, layout_of
from fw_cpu.recipe_table import recipe_of
from fw_cpu.recipes import Call, Instruction

if TYPE_CHECKING:
    from framework.backend.program import Operation, Program

Array = Any

_CREATION = (np.zeros, np.ones, np.full, np.arange, np.eye, np.linspace)
"""Functions that give the same array whenever they are given the same numbers."""


class Act(NamedTuple):
    """One operation as it was met.

    Args:
        fn: its function.
        source: where the outputs are views of one value, that value.
        instruction: how to write the outputs into given arrays; None where the function must be called.
    """

    operation: Operation
    fn: Callable[..., Any]
    source: int | None
    instruction: Instruction | None


class Rehearsal:
    """A run of a program, with what a plan needs to know of it.

    Args:
        program: the program.
        arrays: its inputs.

    Attributes:
        outputs: what the program returned; dropped by whoever takes it.
        acts: the operations, in order, but for those that made a constant.
        layouts: of every array, by the number of its value.
        constants: arrays that are the same in every run.
        root: by the number of a value, the one whose memory it is a view of, or itself.
    """

    def __init__(self, program: Program, arrays: tuple[Array, ...]) -> None:
        self.program = program
        self.acts: list[Act] = []
        self.layouts: dict[int, Layout] = {}
        self.constants: dict[int, Array] = dict(program.constants)
        self.root: dict[int, int] = {}
        self.reason = ""
        known: dict[int, Any] = {**self.constants, **dict(zip(program.inputs, arrays, strict=True))}
        for number, array in known.items():
            self._meet(number, array)
        for operation, dying in zip(program.operations, program.last_uses()):
            self._run(operation, known)
            for number in dying:
                known.pop(number, None)
        self.outputs = tuple([filled(a, known) for a in program.outputs])

    def _run(self, operation: Operation, known: dict[int, Any]) -> None:
        fn = self.program.functions(operation.primitive)
        args = filled(operation.inputs, known)
        made = results(fn(*args, **operation.params))[: len(operation.outputs)]
        del args
        reads = set(operation.reads)
        if len(made) == len(reads) == 1 and self._is_spread(made[0], known[operation.reads[0]]):
            known[operation.reads[0]] = np.asarray(known[operation.reads[0]])
            made = results(fn(*filled(operation.inputs, known), **operation.params))
        if not reads and fn in _CREATION:
            self.constants.update(zip(operation.outputs, made))
        source = self._viewed(reads, made, known)
        for number, array in zip(operation.outputs, made):
            known[number] = array
            self._meet(number, array)
            if source is not None:
                self.root[number] = self.root[source]
            elif number in self.layouts and not self.layouts[number].can_be_made:
                self.reason = f"{operation.primitive} gives an array of strides {array.strides}"
        if reads or fn not in _CREATION:
            instruction = None if source is not None else self._instruction(operation, fn)
            self.acts.append(Act(operation, fn, source, instruction))

    def _is_spread(self, made: Any, given: Any) -> bool:
        """Whether a scalar was broadcast: in a plan it is an array, and what was made a view of that."""
        return isinstance(given, np.generic) and isinstance(made, np.ndarray) and not layout_of(made).can_be_made

    def _meet(self, number: int, array: Any) -> None:
        if isinstance(array, np.ndarray | np.generic):
            self.layouts[number] = layout_of(array)
        elif array is not None:
            self.reason = f"a value is of {type(array)}"
        self.root[number] = number

    def _viewed(self, reads: set[int], made: list[Any], known: dict[int, Any]) -> int | None:
        """The one value that an operation read, if its results are views of that: where they lie is known then."""
        if len(reads) != 1:
            return None
        (number,) = reads
        array = known[number]
        if not isinstance(array, np.ndarray) or not made:
            return None
        return number if all(isinstance(a, np.ndarray) and np.may_share_memory(a, array) for a in made) else None

    def _instruction(self, operation: Operation, fn: Callable[..., Any]) -> Instruction | None:
        recipe = recipe_of(fn, operation.primitive)
        numbers = {*operation.reads, *operation.outputs}
        if recipe is None or not all(n in self.layouts and self.layouts[n].size for n in numbers):
            return None
        outs = tuple([self.layouts[n] for n in operation.outputs])
        return recipe(Call(fn, filled(operation.inputs, self.layouts), dict(operation.params), outs))


def literal(entry: Any) -> bool:
    """Whether an output of a program is no value of it."""
    return isinstance(entry, Literal)
