"""`Program`: a recorded call as a flat list of operations in single-assignment form.

Every value has a number and is written once; operations read values, write new ones and change
nothing in place. What a call did is said by names of primitives, so a backend can run a program as
it likes: node by node (`Program.run`, the default of `Backend.capture`), or planned as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

Array = Any


class Value(NamedTuple):
    """What is known of a value before the program runs."""

    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


class Literal(NamedTuple):
    """A Python number among the inputs of an operation, or None for an input that is not given."""

    value: Any

    def __str__(self) -> str:
        return repr(self.value)


class Operation(NamedTuple):
    """`outputs = primitive(*inputs, **params)`; inputs are numbers of values, or literals."""

    primitive: str
    inputs: tuple[int | Literal, ...]
    params: Mapping[str, Any]
    outputs: tuple[int, ...]


class Program:
    """A pure function of arrays: `inputs` and `constants` in, `outputs` out.

    Args:
        inputs: the numbers of the values that `run` takes.
        constants: the arrays that are the same in every run, by number.
        operations: what is done, in order.
        outputs: the numbers of the values that `run` returns.
        values: shape and dtype of every value, by number.
        functions: gives the function of a primitive's name; what it is called with are arrays of one
            kind, and it returns one array, or a tuple where the operation has several outputs.
    """

    def __init__(
        self,
        inputs: tuple[int, ...],
        constants: Mapping[int, Array],
        operations: tuple[Operation, ...],
        outputs: tuple[int | Literal, ...],
        values: Mapping[int, Value],
        functions: Callable[[str], Callable[..., Any]],
    ) -> None:
        self.inputs = inputs
        self.constants = constants
        self.operations = operations
        self.outputs = outputs
        self.values = values
        self.functions = functions

    def run(self, *arrays: Array) -> tuple[Array, ...]:
        """The outputs for these inputs, computed operation by operation; a value is dropped after its last use."""
        known: dict[int, Array] = {**self.constants, **dict(zip(self.inputs, arrays, strict=True))}
        for operation, dying in zip(self.operations, self._last_uses()):
            args = [a.value if isinstance(a, Literal) else known[a] for a in operation.inputs]
            out = self.functions(operation.primitive)(*args, **operation.params)
            for number, array in zip(operation.outputs, out if isinstance(out, tuple) else (out,)):
                known[number] = array
            for number in dying:
                known.pop(number, None)
        return tuple([a.value if isinstance(a, Literal) else known[a] for a in self.outputs])

    __call__ = run

    def _last_uses(self) -> list[list[int]]:
        """Per operation, the values that nothing reads after it."""
        seen = {a for a in self.outputs if isinstance(a, int)}
        dying: list[list[int]] = []
        for operation in reversed(self.operations):
            here = {a for a in (*operation.inputs, *operation.outputs) if isinstance(a, int)} - seen
            seen |= here
            dying.append(list(here))
        return dying[::-1]

    def pruned(self) -> Program:
        """The same program without operations and constants that no output depends on."""
        needed = {a for a in self.outputs if isinstance(a, int)}
        kept: list[Operation] = []
        for operation in reversed(self.operations):
            if needed.intersection(operation.outputs):
                kept.append(operation)
                needed.update(a for a in operation.inputs if isinstance(a, int))
        constants = {number: array for number, array in self.constants.items() if number in needed}
        written = {number for operation in kept for number in operation.outputs}
        values = {n: v for n, v in self.values.items() if n in needed or n in written or n in self.inputs}
        return Program(self.inputs, constants, tuple(kept[::-1]), self.outputs, values, self.functions)

    # -- to look at ------------------------------------------------------------------------------

    def __str__(self) -> str:
        names = {n: _letters(i) for i, n in enumerate(sorted(self.values))}

        def typed(numbers: Sequence[int]) -> str:
            return ", ".join(f"{names[n]}: {self.values[n]}" for n in numbers)

        lines = [f"program({typed(self.inputs)}):"]
        if self.constants:
            lines.append(f"    constants {typed(tuple(self.constants))}")
        for operation in self.operations:
            lines.append(f"    {typed(operation.outputs)} = {_call(operation, names)}")
        lines.append(f"    return {', '.join(names[a] if isinstance(a, int) else str(a) for a in self.outputs)}")
        return "\n".join(lines)

    def dot(self) -> str:
        """The program as a graph in the DOT language, for Graphviz."""
        lines = ["digraph program {", "    node [shape=box, fontname=monospace]"]
        for title, numbers in (("input", self.inputs), ("constant", tuple(self.constants))):
            style = "ellipse" if title == "input" else "ellipse, style=dashed"
            lines += [f'    v{n} [label="{title}\\n{self.values[n]}", shape={style}]' for n in numbers]
        source: dict[int, str] = {n: f"v{n}" for n in (*self.inputs, *self.constants)}
        for i, operation in enumerate(self.operations):
            shapes = "\\n".join(str(self.values[n]) for n in operation.outputs)
            lines.append(f'    op{i} [label="{operation.primitive}{_escaped(_settings(operation))}\\n{shapes}"]')
            lines += [f"    {source[a]} -> op{i}" for a in operation.inputs if isinstance(a, int)]
            source.update(dict.fromkeys(operation.outputs, f"op{i}"))
        for i, a in enumerate(self.outputs):
            lines.append(f'    out{i} [label="output {i}", shape=ellipse]')
            lines += [f"    {source[a]} -> out{i}"] if isinstance(a, int) else []
        return "\n".join([*lines, "}"])


def _letters(i: int) -> str:
    """a … z, aa, ab …"""
    name = ""
    i += 1
    while i:
        i, letter = divmod(i - 1, 26)
        name = chr(97 + letter) + name
    return name


def _settings(operation: Operation) -> str:
    return "".join(f" {key}={value!r}" for key, value in operation.params.items())


def _call(operation: Operation, names: Mapping[int, str]) -> str:
    args = [names[a] if isinstance(a, int) else str(a) for a in operation.inputs]
    args += [f"{key}={value!r}" for key, value in operation.params.items()]
    return f"{operation.primitive}({', '.join(args)})"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
