"""Programs for the tests of capture, made by calling functions of a backend's raw namespace."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from framework.autodiff.namespace import namespace_of
from framework.backend import Program, registry
from framework.backend.program import Literal, Operation, Value, results


class Recording:
    """Builds a program from calls that are made for real.

    `record.input(array)` and `record.constant(array)` give the number of a value, `record(name, *entries, **params)`
    that of the result, or a tuple of them; an entry is such a number, a `Literal`, or a list or tuple of entries.
    """

    def __init__(self, functions: dict[str, Any] | None = None) -> None:
        self.ns = namespace_of(registry.get("cpu"))
        self.own = functions or {}
        self.inputs: list[int] = []
        self.arrays: list[np.ndarray] = []
        self.constants: dict[int, np.ndarray] = {}
        self.operations: list[Operation] = []
        self.known: dict[int, Any] = {}

    def function(self, name: str) -> Any:
        return self.own[name] if name in self.own else getattr(self.ns, name)

    def _meet(self, array: Any) -> int:
        number = len(self.known)
        self.known[number] = array
        return number

    def input(self, array: Any) -> int:
        self.arrays.append(array)
        self.inputs.append(self._meet(array))
        return self.inputs[-1]

    def constant(self, array: Any) -> int:
        number = self._meet(array)
        self.constants[number] = array
        return number

    def __call__(self, name: str, *entries: Any, **params: Any) -> Any:
        made = results(self.function(name)(*self._filled(entries), **params))
        numbers = tuple([self._meet(a) for a in made])
        self.operations.append(Operation(name, entries, params, numbers))
        return numbers if len(numbers) > 1 else numbers[0]

    def _filled(self, entry: Any) -> Any:
        if isinstance(entry, int):
            return self.known[entry]
        if isinstance(entry, Literal):
            return entry.value
        return type(entry)([self._filled(e) for e in entry])

    def program(self, *outputs: Any) -> Program:
        values = {n: Value(np.shape(a), str(np.asarray(a).dtype)) for n, a in self.known.items()}
        return Program(tuple(self.inputs), self.constants, tuple(self.operations), outputs, values, self.function)


def mlp(
    batch: int, sizes: tuple[int, ...] = (20, 12, 7, 5), dtype: str = "float32"
) -> tuple[Program, list[np.ndarray]]:
    """Loss and gradients of a small network, as a compiled step has them: inputs are x, targets, weights and biases."""
    rng = np.random.default_rng(batch)
    record = Recording()
    x = record.input(rng.standard_normal((batch, sizes[0])).astype(dtype))
    targets = record.input(rng.integers(0, sizes[-1], batch))
    params = []
    for n_in, n_out in pairwise(sizes):
        params.append(record.input((rng.standard_normal((n_out, n_in)) / n_in**0.5).astype(dtype)))
        params.append(record.input(rng.standard_normal(n_out).astype(dtype)))
    one = record.constant(np.ones((), dtype))
    hidden = [x]
    for i in range(0, len(params), 2):
        h = record("linear", hidden[-1], params[i], params[i + 1])
        hidden.append(record("relu", h) if i + 2 < len(params) else h)
    loss, p = record("softmax_cross_entropy", hidden.pop(), targets, reduction="mean")
    g = record("xent_grad", p, targets, record("divide", one, Literal(batch)))
    grads: list[int] = []
    for i in range(len(params) - 2, -1, -2):
        h = hidden.pop()
        grads[:0] = [record("linear_dw", g, h), record("colsum", g)]
        if i:
            g = record("relu_grad", record("linear_dx", g, params[i]), h)
    return record.program(loss, *grads), record.arrays
