"""One table of all modules and optimizers: each row is a module, inputs, and an optimizer that trains it.

A module is trained by SGD; an optimizer trains a small network. Who adds a module or an optimizer adds rows to
`module_table.py` or to `optimizer_cases.py`, and everything here is asked of them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from module_table import ROWS, Row
from optimizer_cases import VARIANTS

import framework as fw
from framework import nn, optim
from framework.autodiff import Tensor
from framework.errors import BackendError

FULL = os.environ.get("FW_TEST_CASES") == "full"


def backends() -> list[str]:
    """Those that work here: the CPU, the strict one of the tests, and whatever else is installed."""
    return [name for name in dict.fromkeys(("cpu", "strict", *fw.backend.names())) if works(name)]


def works(name: str) -> bool:
    try:
        fw.backend.get(name)
    except BackendError:
        return False
    return True


@dataclass(frozen=True)
class Entry:
    """A module with inputs, and an optimizer of its parameters."""

    name: str
    row: Row
    optimizer: Callable[[Any], optim.Optimizer]
    label: str
    reads: str = ""
    """What it reads of values, if it does: a compiled call of it stays eager."""

    @property
    def id(self) -> str:
        return f"{self.name}: {self.label}"

    def module(self) -> nn.Module:
        if self.row.name == "Sequential":
            return nn.Sequential(*[part.build() for part in self.row.args])
        return self.row.build()

    def inputs(self, backend: str, seed: int = 0) -> list[Tensor]:
        return [fw.tensor(a, backend=backend) for a in self.row.inputs("float32", seed)]

    def step(self, module: nn.Module, optimizer: optim.Optimizer | None) -> Callable[..., Tensor]:
        """A training step; of a module without parameters, its loss alone."""

        def closure(*inputs: Tensor) -> Tensor:
            if optimizer is not None:
                optimizer.zero_grad()
            out = self.row.run(module, *inputs)
            loss = (out * out).sum()
            if optimizer is not None:
                loss.backward()
            return loss

        def step(*inputs: Tensor) -> Tensor:
            if optimizer is not None and optimizer.needs_closure:
                return optimizer.step(lambda: closure(*inputs))
            loss = closure(*inputs)
            if optimizer is not None:
                optimizer.step()
            return loss.detach()

        return step

    def trained(self) -> tuple[nn.Module, optim.Optimizer | None]:
        """A new module, and its optimizer if it has parameters."""
        module = self.module()
        params = list(module.parameters())
        return module, self.optimizer(params) if params else None


def _of_module(row: Row) -> Entry:
    reads = {"BCELoss": "the range of its input", "Embedding": "max_norm" if "max_norm" in row.kwargs else ""}
    return Entry(row.name, row, lambda p: optim.SGD(p, 0.01, momentum=0.9), row.id, reads.get(row.name, ""))


NETWORK = Row("Sequential", (Row("Linear", (4, 5)), Row("Tanh"), Row("Linear", (5, 3))), shape=(6, 4))


def _of_optimizer(name: str, make: Callable[[Any], optim.Optimizer], label: str, reads: str = "") -> Entry:
    return Entry(name, NETWORK, make, label, reads)


def _made(name: str, kwargs: dict[str, Any]) -> Callable[[Any], optim.Optimizer]:
    return lambda params: getattr(optim, name)(params, **kwargs)


WITH_CLOSURE: list[tuple[str, dict[str, Any]]] = [
    ("LBFGS", {"lr": 0.05, "max_iter": 3}),
    ("LBFGS", {"max_iter": 3, "line_search_fn": "strong_wolfe", "history_size": 2}),
    ("SCG", {"max_iter": 3}),
    ("Rprop", {"variant": "irprop+"}),
]
MODULES = [_of_module(row) for row in [*ROWS, Row("Sequential", (Row("Linear", (4, 3)), Row("ReLU")))]]
OPTIMIZERS = [
    *[_of_optimizer(name, _made(name, kwargs), label) for label, (name, kwargs) in VARIANTS.items()],
    *[_of_optimizer(name, _made(name, kwargs), f"{kwargs}", "the closure's loss") for name, kwargs in WITH_CLOSURE],
]
REGISTRY: dict[str, list[Entry]] = {}
for _entry in (*MODULES, *OPTIMIZERS):
    REGISTRY.setdefault(_entry.name, []).append(_entry)


def entries(name: str, most: int = 1000) -> Iterator[Entry]:
    """The rows of a name; no more than `most` of them, spread over all, where not everything is run."""
    rows = REGISTRY[name]
    if len(rows) > most and not FULL:
        rows = [rows[(len(rows) - 1) * k // max(most - 1, 1)] for k in range(most)]
    for entry in rows:
        with about(entry):
            yield entry


@contextmanager
def about(entry: Entry) -> Iterator[None]:
    """Says which row it was, in an error."""
    try:
        yield
    except Exception as error:
        error.add_note(f"of {entry.id}")
        raise


def numbers(*tensors: Tensor | None) -> list[Any]:
    """Values as NumPy arrays; None for no gradient."""
    return [None if t is None else np.asarray(t.detach().numpy()) for t in tensors]


def assert_equal(found: list[Any], expected: list[Any]) -> None:
    """Bit for bit, NaN where NaN."""
    assert len(found) == len(expected)
    for a, b in zip(found, expected):
        np.testing.assert_array_equal(a, b)
