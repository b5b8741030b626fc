"""`Program`: a recorded call as a flat list of operations in single-assignment form.

Every value has a number and is written once; operations read values, write new ones and change
nothing in place. What a call did is said by names of primitives, so a backend can run a program as
it likes: node by node (`Program.run`, the default of `Backend.capture`), or planned as a whole.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
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
    """`outputs = primitive(*inputs, **params)`; inputs are numbers of values, literals, or tuples and lists of these.

    A result that is a tuple or a list, nested or not, has an output for each array in it, in order; None is none.
    """

    primitive: str
    inputs: tuple[Any, ...]
    params: Mapping[str, Any]
    outputs: tuple[int, ...]

    @property
    def reads(self) -> tuple[int, ...]:
        """The values that it is given, in order; one that is given twice is named twice."""
        return tuple(_numbers(self.inputs))


def _numbers(entry: Any) -> Iterator[int]:
    """The numbers of values in an entry of inputs."""
    if isinstance(entry, int):
        yield entry
    elif not isinstance(entry, Literal):
        for part in entry:
            yield from _numbers(part)


def filled(entry: Any, known: Mapping[int, Any]) -> Any:
    """What an entry of an operation's inputs stands for: an array, a literal's value, a tuple or list of such.

    Examples:
        >>> filled((0, [1, Literal(2.0)]), {0: "x", 1: "y"})
        ('x', ['y', 2.0])
    """
    if isinstance(entry, int):
        return known[entry]
    if isinstance(entry, Literal):
        return entry.value
    made = [filled(part, known) for part in entry]
    return made if isinstance(entry, list) else tuple(made)


def results(out: Any) -> list[Any]:
    """The arrays of a function's result, one for each output of its operation; None stands for no array.

    Examples:
        >>> results(("loss", None, ("mean", "scale")))
        ['loss', 'mean', 'scale']
    """
    if isinstance(out, tuple | list):
        return [array for part in out for array in results(part)]
    return [] if out is None else [out]


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
        state: donated pairs, the numbers of an input that the caller gives away and of the output that takes its place.
            Where arrays can be written, other inputs may be parts of such an input: with them the new values are seen.
    """

    def __init__(
        self,
        inputs: tuple[int, ...],
        constants: Mapping[int, Array],
        operations: tuple[Operation, ...],
        outputs: tuple[int | Literal, ...],
        values: Mapping[int, Value],
        functions: Callable[[str], Callable[..., Any]],
        state: tuple[tuple[int, int], ...] = (),
    ) -> None:
        self.inputs = inputs
        self.constants = constants
        self.operations = operations
        self.outputs = outputs
        self.values = values
        self.functions = functions
        self.state = state

    @property
    def state_in(self) -> tuple[int, ...]:
        """The inputs that are given away."""
        return tuple([before for before, _ in self.state])

    @property
    def state_out(self) -> tuple[int, ...]:
        """The outputs that take their places, in the same order."""
        return tuple([after for _, after in self.state])

    def run(self, *arrays: Array) -> tuple[Array, ...]:
        """The outputs for these inputs, computed operation by operation; a value is dropped after its last use."""
        known: dict[int, Array] = {**self.constants, **dict(zip(self.inputs, arrays, strict=True))}
        for operation, dying in zip(self.operations, self.last_uses()):
            args = filled(operation.inputs, known)
            out = self.functions(operation.primitive)(*args, **operation.params)
            del args  # what dies here is not kept alive by it
            known.update(zip(operation.outputs, results(out)))
            for number in dying:
                known.pop(number, None)
        return tuple([filled(a, known) for a in self.outputs])

    __call__ = run

    def last_uses(self) -> list[list[int]]:
        """Per operation, the values that nothing reads after it."""
        seen = {a for a in self.outputs if isinstance(a, int)}
        dying: list[list[int]] = []
        for operation in reversed(self.operations):
            here = {*operation.reads, *operation.outputs} - seen
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
                needed.update(operation.reads)
        constants = {number: array for number, array in self.constants.items() if number in needed}
        written = {number for operation in kept for number in operation.outputs}
        values = {n: v for n, v in self.values.items() if n in needed or n in written or n in self.inputs}
        return Program(self.inputs, constants, tuple(kept[::-1]), self.outputs, values, self.functions, self.state)

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
        if self.state:
            lines.append(f"    state {', '.join(f'{names[a]} -> {names[b]}' for a, b in self.state)}")
        lines.append(f"    return {', '.join(_text(a, names) for a in self.outputs)}")
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
            lines += [f"    {source[a]} -> op{i}" for a in operation.reads]
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
    args = [_text(a, names) for a in operation.inputs]
    args += [f"{key}={value!r}" for key, value in operation.params.items()]
    return f"{operation.primitive}({', '.join(args)})"


def _text(entry: Any, names: Mapping[int, str]) -> str:
    if isinstance(entry, int):
        return names[entry]
    if isinstance(entry, Literal):
        return str(entry)
    inner = ", ".join(_text(part, names) for part in entry)
    return f"[{inner}]" if isinstance(entry, list) else f"({inner},)" if len(entry) == 1 else f"({inner})"


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')
