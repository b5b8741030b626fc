"""What derivative rules run on while a backward is recorded: Tensors without history, whose operations are told of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from framework.autodiff.namespace import RawNamespace, ops
from framework.autodiff.tape import Node
from framework.autodiff.tensor import Tensor
from framework.backend import KERNELS

Array = Any


def raw(g: Any) -> Any:
    """The array of a gradient, or of each of several."""
    return tuple([None if part is None else part._data for part in g]) if isinstance(g, tuple) else g._data


def _arrays(a: Any) -> Any:
    """An argument with arrays for Tensors, within a tuple, too: a residual may be one."""
    if isinstance(a, Tensor):
        return a._data
    return tuple([_arrays(part) for part in a]) if type(a) is tuple else a


class Constants:
    """What a rule kept, as Tensors without history; a residual is handed on, too.

    Attributes:
        ops: the namespace in which rules run on them.
    """

    def __init__(self, rules: RecordedRules) -> None:
        self.ops = rules

    def __call__(self, array: Array, node: Node | None, ns: Any) -> Tensor:
        """A kept array as a constant."""
        return Tensor(array, None, ns)

    def residual(self, kept: Any, ns: Any) -> Any:
        """The arrays in a residual as Tensors."""
        if isinstance(kept, tuple):
            return tuple([self.residual(part, ns) for part in kept])
        return Tensor(kept, None, ns) if ns.backend.owns(kept) else kept


class RecordedRules:
    """The namespace of the rules in a recorded backward: kernels where the raw walk would use them, Tensors else."""

    recorder = None

    def __init__(self, ns: RawNamespace) -> None:
        self._ns = ns

    def __getattr__(self, name: str) -> Any:
        value = self._kernel(name) if name in KERNELS else getattr(ops, name)
        setattr(self, name, value)
        return value

    def _kernel(self, name: str) -> Callable[..., Any]:
        ns = self._ns

        def run(*args: Any, out: Any = None, **params: Any) -> Any:
            made = getattr(ns, name)(*map(_arrays, args), **params)
            if isinstance(made, tuple):
                return tuple([m if m is None else Tensor(m, None, ns) for m in made])
            return Tensor(made, None, ns)

        return run
