"""Python numbers that a compiled call receives anew each time: a batch index, an epoch, a rate."""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any

Read = Callable[[Sequence[Any]], Any]
"""Gives the number's present value, from those that the call was given."""


class HostNumber:
    """A number while a call is recorded: arithmetic on it is written down, a decision by it becomes a guard.

    It passes for the number that it stands for (`isinstance(n, int)` holds). Beside a Tensor it is a scalar of
    the program; compared, it adds the outcome to what must hold for the recording to be used again; where
    Python itself needs the number (an index, a key, text) its value is what must hold.
    """

    __slots__ = ("_guards", "_read", "_value")

    __array_ufunc__ = None  # NumPy arrays beside it ask us first

    def __init__(self, value: Any, read: Read, guards: list[tuple[Read, Any]]) -> None:
        self._value = value
        self._read = read
        self._guards = guards

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self._value)

    def settled(self) -> Any:
        """The plain number; the recording holds for it alone."""
        self._guards.append((self._read, self._value))
        return self._value

    def _derived(self, fn: Callable[..., Any], *others: Any, swapped: bool = False) -> Any:
        """`fn(self, *others)`, which stays a number of the call where all are numbers."""
        if not all(type(other) in (int, float, bool, HostNumber) for other in others):
            if others and hasattr(others[0], "_ns"):
                return NotImplemented  # a Tensor has its own arithmetic
            plain = [other.settled() if type(other) is HostNumber else other for other in others]
            return fn(*plain, self.settled()) if swapped else fn(self.settled(), *plain)
        values = [other._value if type(other) is HostNumber else other for other in others]
        reads = [_read_of(other) for other in others]
        mine = self._read
        if swapped:
            return HostNumber(fn(*values, self._value), lambda n: fn(*[r(n) for r in reads], mine(n)), self._guards)
        return HostNumber(fn(self._value, *values), lambda n: fn(mine(n), *[r(n) for r in reads]), self._guards)

    def _decided(self, fn: Callable[[Any, Any], bool], other: Any) -> Any:
        """The outcome of a comparison, which a later call must share."""
        if type(other) is not HostNumber and hasattr(other, "_ns"):
            return NotImplemented
        mine, read = self._read, _read_of(other)
        value = other._value if type(other) is HostNumber else other
        outcome = fn(self._value, value)
        self._guards.append((lambda n: fn(mine(n), read(n)), outcome))
        return outcome

    def __bool__(self) -> bool:
        mine, outcome = self._read, bool(self._value)
        self._guards.append((lambda n: bool(mine(n)), outcome))
        return outcome

    def __hash__(self) -> int:
        return hash(self.settled())

    def __int__(self) -> int:
        return int(self.settled())

    def __float__(self) -> float:
        return float(self.settled())

    def __complex__(self) -> complex:
        return complex(self.settled())

    def __index__(self) -> int:
        return operator.index(self.settled())

    def __repr__(self) -> str:
        return repr(self.settled())

    def __str__(self) -> str:
        return str(self.settled())

    def __format__(self, spec: str) -> str:
        return format(self.settled(), spec)

    def __getattr__(self, name: str) -> Any:  # what else a number has: bit_length, is_integer, real
        if not hasattr(type(self._value), name):
            raise AttributeError(name)
        return getattr(self.settled(), name)


def _read_of(x: Any) -> Read:
    return x._read if type(x) is HostNumber else lambda n: x


def _add_operators() -> None:
    def arithmetic(name: str, fn: Callable[..., Any]) -> None:
        def forward(self: HostNumber, other: Any) -> Any:
            return self._derived(fn, other)

        def reflected(self: HostNumber, other: Any) -> Any:
            return self._derived(fn, other, swapped=True)

        setattr(HostNumber, f"__{name}__", forward)
        setattr(HostNumber, f"__r{name}__", reflected)

    def comparison(name: str) -> None:
        fn = getattr(operator, name)

        def compare(self: HostNumber, other: Any) -> Any:
            return self._decided(fn, other)

        setattr(HostNumber, f"__{name}__", compare)

    def alone(name: str, fn: Callable[..., Any]) -> None:
        def apply(self: HostNumber, *others: Any) -> Any:
            return self._derived(fn, *others)

        setattr(HostNumber, f"__{name}__", apply)

    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "pow"):
        arithmetic(name, getattr(operator, name))
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        comparison(name)
    for name, fn in (("neg", operator.neg), ("pos", operator.pos), ("abs", abs), ("round", round)):
        alone(name, fn)


_add_operators()
