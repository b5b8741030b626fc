"""Python numbers that a compiled call receives anew each time: a batch index, an epoch, a rate."""

from __future__ import annotations

import gc
import math
import operator
from collections import deque
from collections.abc import Callable, Sequence
from sys import getrefcount
from types import CellType
from typing import Any

Read = Callable[[Sequence[Any]], Any]
"""Gives the number's present value, from those that the call was given."""


class Guards(list[tuple[Read, Any]]):
    """What must hold of a call's numbers for its recording to be used again, each with its outcome.

    Attributes:
        numbers: all stand-ins, while the call is recorded.
    """

    def __init__(self) -> None:
        super().__init__()
        self.numbers: list[HostNumber] = []


class HostNumber:
    """A number while a call is recorded: arithmetic on it is written down, a decision by it becomes a guard.

    It passes for the number that it stands for (`isinstance(n, int)` holds). Beside a Tensor it is a scalar of
    the program; compared, it adds the outcome to what must hold for the recording to be used again; where
    Python itself needs the number (an index, a key, text) its value is what must hold.
    """

    __slots__ = ("_guards", "_read", "_value")

    def __init__(self, value: Any, read: Read, guards: Guards) -> None:
        self._value = value
        self._read = read
        self._guards = guards
        guards.numbers.append(self)

    @property  # type: ignore[misc]
    def __class__(self) -> type:
        return type(self._value)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        plain = [x.settled() if type(x) is HostNumber else x for x in inputs]
        return getattr(ufunc, method)(*plain, **kwargs)

    def settled(self) -> Any:
        """The plain number; the recording holds for it alone."""
        mine = self._read
        self._guards.append((lambda n: repr(mine(n)), repr(self._value)))  # -0.0 is not 0.0, and NaN is NaN
        return self._value

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self._value), (self._value,)

    def __copy__(self) -> Any:
        return self._value

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self._value

    def __trunc__(self) -> int:
        return math.trunc(self.settled())

    def __floor__(self) -> int:
        return math.floor(self.settled())

    def __ceil__(self) -> int:
        return math.ceil(self.settled())

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
        try:
            result = fn(*values, self._value) if swapped else fn(self._value, *values)
        except ArithmeticError:  # whoever catches it has decided something
            for other in (self, *others):
                if type(other) is HostNumber:
                    other.settled()
            raise
        if isinstance(result, tuple):  # divmod
            return self._parts(fn, others, swapped)
        if swapped:
            return HostNumber(result, lambda n: fn(*[r(n) for r in reads], mine(n)), self._guards)
        return HostNumber(result, lambda n: fn(mine(n), *[r(n) for r in reads]), self._guards)

    def _parts(self, fn: Callable[..., Any], others: tuple[Any, ...], swapped: bool) -> tuple[Any, ...]:
        plain = [other.settled() if type(other) is HostNumber else other for other in others]
        return fn(*plain, self.settled()) if swapped else fn(self.settled(), *plain)

    def _decided(self, fn: Callable[[Any, Any], bool], other: Any) -> Any:
        """The outcome of a comparison, which a later call must share."""
        if type(other) is not HostNumber and hasattr(other, "_ns"):
            return NotImplemented
        if type(other) not in (int, float, bool, HostNumber):
            return fn(self.settled(), other)
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
        def forward(self: HostNumber, *others: Any) -> Any:  # pow may have two
            return self._derived(fn, *others)

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

    for name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "lshift", "rshift", "xor"):
        arithmetic(name, getattr(operator, name))
    for name, fn in (("and", operator.and_), ("or", operator.or_), ("pow", pow), ("divmod", divmod)):
        arithmetic(name, fn)
    for name in ("eq", "ne", "lt", "le", "gt", "ge"):
        comparison(name)
    for name in ("neg", "pos", "abs", "invert"):
        alone(name, getattr(operator, name))
    alone("round", round)


_add_operators()


def settle_kept(guards: Guards) -> None:
    """Put plain numbers where stand-ins were left behind by a call that has ended: in lists, dicts, attributes."""
    numbers, guards.numbers = guards.numbers, []
    while numbers:
        number = numbers.pop()
        if getrefcount(number) > 2:  # the name here and the argument of the count
            for holder in gc.get_referrers(number):
                _replace(holder, number)


def _replace(holder: Any, number: HostNumber) -> None:
    plain = number._value
    if isinstance(holder, list | deque):
        for i, x in enumerate(holder):
            if x is number:
                holder[i] = plain
    elif isinstance(holder, set):
        members = [plain if x is number else x for x in holder]
        holder.clear()
        holder.update(members)
    elif isinstance(holder, CellType):
        holder.cell_contents = plain
    elif isinstance(own := getattr(holder, "__dict__", holder), dict):
        items = [(plain if key is number else key, plain if x is number else x) for key, x in own.items()]
        if any(a is not b for (a, _), b in zip(items, own)):  # a key, whose place is to stay
            own.clear()
        own.update(items)
