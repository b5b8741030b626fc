"""Recording a call as a `Program`, and what stands on it: `graph`, `linearize`.

A call is recorded by running it: its inputs are Tensors of a `Record` level, every primitive that
meets one is computed for real one level down and written to the program. So a program is recorded
for the values given: an `if` on a value takes the branch of that value.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from framework.autodiff import tree
from framework.autodiff.convert import as_tensor
from framework.autodiff.levels import Level, LeveledTensor
from framework.autodiff.namespace import PRIMITIVES, ops
from framework.autodiff.primitive import Primitive
from framework.autodiff.tensor import Tensor
from framework.autodiff.transforms import jvp
from framework.backend.program import Literal, Operation, Program, Value
from framework.errors import DTypeError, GradientError, ShapeError


class Record(Level):
    """Values of this level have a number, in `_extra`; operations on them are written down."""

    def __init__(self) -> None:
        super().__init__()
        self.inputs: list[int] = []
        self.constants: dict[int, Tensor] = {}
        self.operations: list[Operation] = []
        self.values: dict[int, Value] = {}
        self._constant_of: dict[int, int] = {}

    def _number(self, x: Tensor) -> int:
        number = len(self.values)
        self.values[number] = Value(x.shape, x.dtype.name)
        return number

    def input(self, x: Tensor) -> LeveledTensor:
        """A new input with the value `x` while recording."""
        number = self._number(x)
        self.inputs.append(number)
        return LeveledTensor(x, self, number)

    def constant(self, x: Tensor) -> int:
        """The number of a value from outside."""
        is_plain = x._level is None and x._node is None
        key = id(x._data if is_plain else x)  # .detach() makes a new Tensor of the same array
        found = self._constant_of.get(key)
        if found is None:
            found = self._constant_of[key] = self._number(x)
            self.constants[found] = x  # kept alive, so that its id stays its own
        return found

    def lift(self, x: Tensor) -> LeveledTensor:
        """A value from outside is a constant of the program."""
        return LeveledTensor(x, self, self.constant(x))

    def constant_of(self, x: LeveledTensor) -> Tensor:
        """A value without its derivatives is the same value of the program."""
        return LeveledTensor(ops.stop_gradient(x._data), self, x._extra)

    def apply(self, p: Primitive, inputs: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """The value, written down."""
        args = [self._argument(x) for x in inputs]
        out = p.apply(*[self.lower(x) for x in inputs], **params)
        outs = out if p.outputs > 1 else (out,)
        numbers = tuple([self._number(o) for o in outs])
        self.operations.append(Operation(p.name, tuple(args), params, numbers))
        made = tuple([LeveledTensor(o, self, n) for o, n in zip(outs, numbers)])
        return made if p.outputs > 1 else made[0]

    def _argument(self, x: Any) -> int | Literal:
        if not isinstance(x, Tensor):
            return Literal(x)
        return x._extra if x._level is self else self.constant(x)  # type: ignore[attr-defined]

    def program(self, outputs: list[Tensor]) -> Program:
        """What was recorded, without what no output depends on."""
        numbers = tuple([self._argument(as_tensor(y)) for y in outputs])
        whole = Program(tuple(self.inputs), self.constants, tuple(self.operations), numbers, self.values, _applied)
        return whole.pruned()


def _applied(name: str) -> Callable[..., Any]:
    """The function that applies a primitive to Tensors."""
    return PRIMITIVES[name].apply


def on_arrays(program: Program, ns: Any) -> Program:
    """A program of Tensors as one of the raw arrays of a backend, which its `capture` takes.

    Raises:
        GradientError: a constant belongs to a transform, or to another backend.
    """

    def function(name: str) -> Callable[..., Any]:
        forward = getattr(ns, name)
        return (lambda *a, **k: forward(*a, **k)[0]) if PRIMITIVES[name].residual else forward

    for c in program.constants.values():
        if c._level is not None or c._ns is not ns:
            raise GradientError(f"a program of arrays of {ns.backend.name!r} holds a constant that is none: {c!r}")
    raw = {n: c._data for n, c in program.constants.items()}
    return Program(program.inputs, raw, program.operations, program.outputs, program.values, function)


def graph(fn: Callable[..., Any], *args: Any) -> Program:
    """The program that `fn(*args)` runs: `str()` of it is text, `.dot()` a graph for Graphviz.

    Its inputs are the arrays in `args`, which may be nested in dicts, lists and tuples; other arrays that
    `fn` uses are constants. Calling the program runs it again, on other arrays of these shapes.

    Examples:
        >>> import framework as fw
        >>> print(fw.graph(lambda x: (x * x).sum(), fw.tensor([1.0, 2.0])))
        program(a: float32[2]):
            b: float32[2] = multiply(a, a)
            c: float32[] = sum(b, axis=(-1,), keepdims=False)
            return c
    """
    leaves, structure = tree.flatten(args)
    level = Record()
    with level:
        recorded = [level.input(as_tensor(x)) for x in leaves]
        outputs, _ = tree.flatten(fn(*tree.unflatten(structure, recorded)))
    return level.program(outputs)


def linearize(fn: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[..., Any]]:
    """`fn(*primals)` and its derivative there: a linear function of tangents, recorded once.

    Raises:
        ShapeError: a tangent has another shape than its primal.

    Examples:
        >>> import framework as fw
        >>> y, derivative = fw.linearize(lambda x: x * x, fw.tensor(3.0))
        >>> y.item(), derivative(fw.tensor(1.0)).item(), derivative(fw.tensor(2.0)).item()
        (9.0, 6.0, 12.0)
    """
    leaves, structure = tree.flatten(primals)
    points = [_point(x) for x in leaves]
    level = Record()
    with level:
        directions = [level.input(ops.zeros_like(x)) for x in points]
        out, tangent = jvp(fn, tree.unflatten(structure, points), tree.unflatten(structure, directions))
    derivatives, out_structure = tree.flatten(tangent)
    program = level.program(derivatives)

    def derivative(*tangents: Any) -> Any:
        given, _ = tree.flatten(tangents)
        if len(given) != len(points):
            raise GradientError(f"the derivative at {len(points)} arrays takes as many tangents, got {len(given)}")
        return tree.unflatten(out_structure, list(program(*map(_direction, given, points))))

    return tree.map_leaves(level.lower, out), derivative


def _point(x: Any) -> Tensor:
    x = as_tensor(x)
    if not x.dtype.is_differentiable:
        raise DTypeError(f"linearize needs floating-point inputs, got {x.dtype.name}; use .astype('float32')")
    return x


def _direction(t: Any, x: Tensor) -> Tensor:
    t = as_tensor(t, x)
    if t.shape != x.shape:
        raise ShapeError(f"the tangent of an array of shape {x.shape} has that shape, got {t.shape}")
    return t if t.dtype is x.dtype else ops.astype(t, x.dtype)
