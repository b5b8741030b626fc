"""Running a program so that an error names the operation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from framework.backend.program import filled, results
from framework.errors import FrameworkError

if TYPE_CHECKING:
    from framework.backend.program import Program


class RefusedError(FrameworkError):
    """A program cannot be a graph; the message says which operation, and why."""


def run(program: Program, arrays: Sequence[Any]) -> tuple[Any, ...]:
    """As `Program.run`.

    Raises:
        RefusedError: an operation raised something.
    """
    known: dict[int, Any] = {**program.constants, **dict(zip(program.inputs, arrays, strict=True))}
    for operation, dying in zip(program.operations, program.last_uses()):
        try:
            args = filled(operation.inputs, known)
            out = program.functions(operation.primitive)(*args, **operation.params)
        except Exception as error:
            reason = " ".join(str(error).split()) or "no reason given"
            raise RefusedError(f"{operation.primitive}: {type(error).__name__}: {reason}") from error
        del args
        known.update(zip(operation.outputs, results(out)))
        for number in dying:
            known.pop(number, None)
    return tuple([filled(a, known) for a in program.outputs])
