"""Programs with fewer launches."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from framework.backend.program import Operation, Program

if TYPE_CHECKING:
    from fw_cuda.products import Products


def fused(program: Program, products: Products) -> Program:
    """The same program with each `relu` of a `linear` that nothing else reads computed by the product itself."""
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

    return Program(program.inputs, program.constants, tuple(kept), program.outputs, program.values, found)


def _is_linear(operation: Operation) -> bool:
    """Whether it is a linear layer with a bias."""
    return operation.primitive == "linear" and len(operation.reads) == 3


def _is_own(program: Program, name: str, function: Any) -> bool:
    """Whether the program computes this operation by the function given, and not by something around it."""
    try:
        return bool(program.functions(name) == function)
    except (KeyError, AttributeError):
        return False
