"""The arrays of one recorded call, told apart by identity and numbered."""

from __future__ import annotations

from typing import Any

from framework.autodiff import lines
from framework.autodiff.hostnumber import HostNumber
from framework.autodiff.namespace import RawNamespace
from framework.autodiff.tensor import Tensor
from framework.backend.program import Literal, Value

Array = Any


class CallValues:
    """Numbers for arrays, and where those come from that no operation made.

    Attributes:
        values: shape and dtype, by number.
        origin: by number, for what no operation made: "argument" with its place, "state" with the Tensor that has it,
            "outside" with the array, "scalar" with how to read it, "source" or "effect".
        stale: numbers of state that was replaced in the call.
        shared: numbers of arrays from outside that others than Tensors hold, and may write.
        broken: why the call cannot be replayed, if so.
    """

    def __init__(self, ns: RawNamespace) -> None:
        self.ns = ns
        self.values: dict[int, Value] = {}
        self.origin: dict[int, tuple[str, Any]] = {}
        self.stale: set[int] = set()
        self.shared: set[int] = set()
        self.broken: str | None = None
        self._numbers: dict[int, int] = {}  # of arrays, by identity
        self._held: dict[int, Array] = {}  # keeps identities unique
        self._arguments: dict[int, Any] = {}
        self._gradients: dict[int, Any] = {}

    def give_up(self, reason: str) -> None:
        """The call goes on as it is, and will not be replayed; the first reason counts."""
        if self.broken is None:
            self.broken = f"{reason} ({lines.text(lines.user_line())})"

    def _scalar(self, a: HostNumber, dtype: Any) -> Any:
        """A number of the call beside an array: a 0-d array of its dtype, made anew for each call."""
        if dtype is None:
            return Literal(a.settled())
        number = self._number(self.ns.backend.asarray(a._value, dtype=self._named(dtype)))
        self.origin[number] = ("scalar", (a._read, dtype))
        return number

    def _named(self, native: Any) -> Any:
        return self.ns.backend.dtype_of(self.ns.xp.empty((), dtype=native))

    def _is_array(self, a: Any) -> bool:
        return self.ns.backend.owns(a)

    def _number(self, array: Array) -> int:
        number = len(self.values)
        self.values[number] = Value(tuple(array.shape), self.ns.backend.dtype_of(array).name)
        self._numbers[id(array)] = number
        self._held[number] = array
        return number

    def _made(self, array: Array) -> int:
        """The number of a result; one that is an argument, handed through, keeps the number it has."""
        if id(array) in self._numbers:
            number = len(self.values)
            self.values[number] = self.values[self._numbers[id(array)]]
            return number
        return self._number(array)

    def number(self, array: Array) -> int:
        """The number of an array; one not met before comes from outside."""
        found = self._numbers.get(id(array))
        if found is None:
            found = self._number(array)
            self.origin[found] = ("outside", array)
        elif found in self.stale:
            self.give_up("values of a parameter from before an optimizer's step are used after it")
        return found

    def array(self, number: int) -> Array:
        """The array of a number."""
        return self._held[number]

    def add_argument(self, array: Array, i: int, argument: Tensor) -> None:
        """The array of the call's argument number `i`."""
        self.add_input(array, ("argument", i))
        self._arguments[id(argument)] = argument._node

    def add_state(self, t: Tensor) -> None:
        """A Tensor that outlives the call: its array is read anew each time."""
        if t._ns is not self.ns or t._level is not None or not t.is_leaf:
            return
        t._data = t._array()  # NumPy's scalars have no identity
        found = self._numbers.get(id(t._data))
        if found is None:
            self.add_input(t._data, ("state", t))
            return
        kind, what = self.origin.get(found, ("operation", None))
        if kind == "outside":
            self.origin[found] = ("state", t)
        elif kind == "argument" and id(t) not in self._arguments:
            self.give_up("an argument shares its array with a parameter or a buffer")
        elif kind == "state" and what is not t:
            self.give_up("two parameters or buffers share one array")

    def array_of(self, value: Any) -> Array:
        """The array of a Tensor, or of a number of the call."""
        if type(value) is HostNumber:
            return self.array(self._scalar(value, self.ns.backend.native("float64")))
        return value._array()

    def leaf_of(self, t: Tensor) -> Any:
        """The leaf that has this Tensor as its gradient, if the call has seen it."""
        return self._gradients.get(id(t))

    def states(self) -> list[Tensor]:
        """The Tensors that are read anew."""
        return [what for kind, what in self.origin.values() if kind == "state"]

    def add_input(self, array: Array, origin: tuple[str, Any]) -> int:
        """A value that each call receives anew, or state that is read anew; one array has one number."""
        found = self._numbers.get(id(array))
        if found is None:
            found = self._number(array)
            self.origin[found] = origin
        return found

    def intermediates(self) -> list[tuple[int, Array]]:
        """The arrays that operations made."""
        return [(n, a) for n, a in self._held.items() if n not in self.origin]
