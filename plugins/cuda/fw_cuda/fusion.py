"""Programs with fewer launches."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from framework.backend.program import Operation, Program
from fw_cuda.elementwise import Elementwise

if TYPE_CHECKING:
    from fw_cuda.products import Products


WRITERS = {"linear_dw": 2, "colsum": 1}
"""Functions that write their result to an array that is given after so many others."""


def fused(program: Program, products: Products) -> Program:
    """The same program with fewer launches."""
    return _with_relu(_with_latch(_in_parts(program)), products)


def _in_parts(program: Program) -> Program:
    """With each gradient that only goes to a part of a whole computed there, if the function can do so."""
    fills = [operation for operation in program.operations if operation.primitive == "fill_parts"]
    read = {n for operation in program.operations if operation.primitive != "fill_parts" for n in operation.reads}
    outputs = {a for a in program.outputs if isinstance(a, int)}
    parts: dict[int, int] = {}
    for operation in fills:
        numbers: list[Any] = list(operation.inputs[1:])
        for part, value in zip(numbers[: len(numbers) // 2], numbers[len(numbers) // 2 :]):
            if part not in read and value not in outputs:  # what was there is wanted, or what is there then leaves
                parts[value] = part
    if not parts:
        return program
    operations = tuple([_written(operation, parts) for operation in program.operations])
    return replaced(program, operations, program.functions)


def _written(operation: Operation, parts: dict[int, int]) -> Operation:
    part = parts.get(operation.outputs[0])
    if part is None or len(operation.inputs) != WRITERS.get(operation.primitive):
        return operation
    return Operation(operation.primitive, (*operation.inputs, part), operation.params, operation.outputs)


def _with_latch(program: Program) -> Program:
    """With the flag and the count of an update written where they were, if they are given away for these."""
    latch = next((operation for operation in program.operations if operation.primitive == "latch"), None)
    own = None if latch is None else getattr(program.functions("latch"), "__self__", None)
    if latch is None or not isinstance(own, Elementwise):
        return program
    before, given = latch.inputs[-2:], dict(program.state)
    reads = Counter(n for operation in program.operations for n in operation.reads)
    if tuple([given.get(n) for n in before]) != latch.outputs or any(reads[n] > 1 for n in before):
        return program
    written = Operation("latch_in_place", latch.inputs, latch.params, latch.outputs)
    operations = tuple([written if operation is latch else operation for operation in program.operations])
    functions, in_place = program.functions, own.latch_in_place
    return replaced(program, operations, lambda name: in_place if name == "latch_in_place" else functions(name))


def _with_relu(program: Program, products: Products) -> Program:
    """With each `relu` of a `linear` that nothing else reads computed by the product itself."""
    reads = Counter(n for operation in program.operations for n in operation.reads)
    reads.update(a for a in program.outputs if isinstance(a, int))
    made = {operation.outputs[0]: operation for operation in program.operations if _is_linear(operation)}
    if not made or not _is_own(program, "linear", products.linear) or not products.can_be_captured:
        return program
    swallowed: set[int] = set()
    operations: list[Operation] = []
    for operation in program.operations:
        (source,) = operation.reads if operation.primitive == "relu" and len(operation.reads) == 1 else (None,)
        if source in made and reads[source] == 1:
            swallowed.add(source)
            linear = made[source]
            operation = Operation("linear_relu", linear.inputs, linear.params, operation.outputs)
        operations.append(operation)
    kept = [o for o in operations if not (_is_linear(o) and o.outputs[0] in swallowed)]
    functions = program.functions

    def found(name: str) -> Any:
        return products.linear_relu if name == "linear_relu" else functions(name)

    return replaced(program, tuple(kept), found)


def replaced(program: Program, operations: tuple[Operation, ...], functions: Callable[[str], Any]) -> Program:
    """The program with other operations and functions."""
    return Program(
        program.inputs, program.constants, operations, program.outputs, program.values, functions, program.state
    )


def _is_linear(operation: Operation) -> bool:
    """Whether it is a linear layer with a bias."""
    return operation.primitive == "linear" and len(operation.reads) == 3


def _is_own(program: Program, name: str, function: Any) -> bool:
    """Whether the program computes this operation by the function given, and not by something around it."""
    try:
        return bool(program.functions(name) == function)
    except (KeyError, AttributeError):
        return False
