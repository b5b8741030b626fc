"""Running a program so that an error names the operation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from framework.backend.program import Program
from framework.errors import FrameworkError
from fw_cuda.fusion import replaced


class RefusedError(FrameworkError):
    """A program cannot be a graph; the message says which operation, and why."""


def naming(program: Program) -> Program:
    """The same program; where an operation raises something, it raises RefusedError."""

    def found(primitive: str) -> Callable[..., Any]:
        def computed(*args: Any, **params: Any) -> Any:
            try:
                return program.functions(primitive)(*args, **params)
            except Exception as error:
                reason = " ".join(str(error).split()) or "no reason given"
                raise RefusedError(f"{primitive}: {type(error).__name__}: {reason}") from error

        return computed

    return replaced(program, program.operations, found)
