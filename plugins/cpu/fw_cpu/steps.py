"""Acts as calls without arguments."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from framework.backend.program import Literal, filled, results
from fw_cpu.layouts import Layout
from fw_cpu.recipes import Thunk
from fw_cpu.rehearsal import Act

Array = Any


class ChangedError(Exception):
    """A function returned an array of another shape, dtype or order in memory than in the first run."""


class Step:
    """An act, and where its calls are: `make()` gives them for the arrays that the values have now."""

    __slots__ = ("act", "calls", "idle", "make")

    def __init__(self, act: Act, make: Callable[[], list[Thunk]]) -> None:
        self.act = act
        self.make = make
        self.calls = slice(0, 0)
        self.idle: list[Thunk] = []


def nothing() -> None:
    """In place of a call that is made again before it is needed."""


def maker_of(act: Act, env: dict[int, Any], layouts: dict[int, Layout], scratch: list[Array]) -> Callable[[], Any]:
    """The function that makes an act's calls from the arrays in `env`, or its views."""
    operation, instruction = act.operation, act.instruction
    entries, outputs, params, fn = operation.inputs, operation.outputs, operation.params, act.fn

    def instruct() -> list[Thunk]:
        return instruction.make(arguments(), [env[n] for n in outputs], scratch)  # type: ignore[union-attr]

    def view() -> list[Thunk]:
        env.update(zip(outputs, results(fn(*arguments(), **params))))
        return []

    def call() -> list[Thunk]:
        outs = [env.get(n) for n in outputs]
        if any(n in layouts and layouts[n].is_scalar for n in operation.reads):
            return [partial(_call_with_scalars, act, layouts, env, outs)]
        return [partial(_call, fn, arguments(), params, outs)]

    def arguments() -> Any:
        return filled(entries, env)

    if all(isinstance(a, int | Literal) for a in entries):
        keys = [a if isinstance(a, int) else ~i for i, a in enumerate(entries)]
        constants = {~i: a.value for i, a in enumerate(entries) if isinstance(a, Literal)}

        def arguments() -> Any:
            return [env[k] if k >= 0 else constants[k] for k in keys]

    return view if act.source is not None else call if instruction is None else instruct


def _call(fn: Callable[..., Any], args: Any, params: Any, outs: list[Array]) -> None:
    """Call a function and copy what it returns to its buffers."""
    for out, made in zip(outs, results(fn(*args, **params))):
        if out is None:
            continue
        if (out.shape, out.dtype) != (made.shape, made.dtype) or (out.strides != made.strides and out.size):
            raise ChangedError
        np.copyto(out, made)


def _call_with_scalars(act: Act, layouts: dict[int, Layout], env: dict[int, Any], outs: list[Array]) -> None:
    """As `_call`; the values that were NumPy's scalars in the first run are such again."""
    operation = act.operation
    known = {n: env[n][()] if n in layouts and layouts[n].is_scalar else env[n] for n in set(operation.reads)}
    _call(act.fn, filled(operation.inputs, known), operation.params, outs)
