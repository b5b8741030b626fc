"""The arguments of a compiled call, taken apart: what is new in each call, and what tells kinds of calls apart."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterator
from operator import is_
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

from framework.autodiff.hostnumber import Guards, HostNumber
from framework.autodiff.modes import default_backend, get_default_dtype, grad_enabled
from framework.autodiff.namespace import RawNamespace, namespace_of
from framework.autodiff.tensor import Tensor
from framework.backend import Backend
from framework.backend.dtypes import DType

Array = Any

_PLAIN = (str, bool, type(None), complex, bytes, type, range)
_BY_IDENTITY = (FunctionType, MethodType, BuiltinFunctionType)  # equal only where they are the same


class _Same:
    """An object as a part of a key: equal to itself alone, whatever its class says."""

    __slots__ = ("what",)

    def __init__(self, what: Any) -> None:
        self.what = what

    def __hash__(self) -> int:
        return id(self.what)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.what is self.what


class Call:
    """One call's arguments.

    Attributes:
        arguments: the Tensors.
        arrays: their arrays.
        numbers: the ints and floats among the arguments, and in tuples of them.
        key: equal for calls that may share a recording.
        containers: lists and dicts, with what they held.
        functions: functions and other callables.
        reason: why the call cannot be recorded, if so.
    """

    __slots__ = ("arguments", "arrays", "containers", "functions", "key", "numbers", "reason")

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.arguments: list[Any] = []
        self.arrays: list[Array] = []
        self.numbers: list[Any] = []
        self.containers: list[tuple[Any, list[Any]]] = []
        self.functions: list[Any] = []
        self.reason = ""
        key: list[Any] = [grad_enabled.get(), get_default_dtype(), default_backend()]
        for a in args:
            self._take(a, key)
        for name, a in kwargs.items():
            key += (Call, name)
            self._take(a, key)
        if len({id(a) for a in self.arrays}) < len(self.arrays):  # the same array several times
            first: dict[int, int] = {}
            key.append(tuple([first.setdefault(id(a), i) for i, a in enumerate(self.arrays)]))
        self.key = tuple(key)

    def _take(self, x: Any, key: list[Any], is_inside: bool = False) -> None:
        """Take one argument apart, or, where `is_inside`, an entry of a list or dict.

        These the function may change: their numbers are those of the recording.
        """
        kind = x.__class__
        if isinstance(x, Tensor):
            data = x._data
            if not hasattr(data, "__dlpack__"):  # NumPy's scalars have no identity
                data = x._data = x._array()
            self.arguments.append(x)
            self.arrays.append(data)
            key += (kind, x._ns, x._ns.around, x._node is None, data.shape, data.dtype)
        elif is_inside and (kind is int or kind is float):
            key += (kind, x or repr(x))  # -0.0 is not 0.0
        elif kind is int or kind is float:
            self.numbers.append(x)
            key.append(kind)
        elif kind is tuple or (isinstance(x, tuple) and hasattr(x, "_fields")):
            key += (kind, len(x))
            for part in x:
                self._take(part, key, is_inside)
        elif isinstance(x, dict):
            self.containers.append((x, list(x.values())))
            key += (kind, tuple(x))
            for part in x.values():
                self._take(part, key, True)
        elif kind is list:
            self.containers.append((x, list(x)))
            key += (kind, len(x))
            for part in x:
                self._take(part, key, True)
        else:
            self._take_other(x, kind, key)

    def _take_other(self, x: Any, kind: type, key: list[Any]) -> None:
        if kind is slice:
            key.append(kind)
            for part in (x.start, x.stop, x.step):
                self._take(part, key, True)
        elif isinstance(x, _PLAIN) and not isinstance(x, tuple):
            key += (kind, repr(x) if kind is complex else x)
        elif isinstance(x, DType | Backend | enum.Enum):
            key.append(x)
        elif callable(x):
            self.functions.append(x)
            key.append(x if isinstance(x, _BY_IDENTITY) else _Same(x))
        else:
            key.append(kind)
            hint = "; pass a Tensor" if hasattr(x, "__array__") else "; pass Tensors, numbers or text"
            self.reason = f"an argument is a {kind.__name__}, which may change unseen{hint}"

    def objection(self, out: Any) -> str | None:
        """Why a call that did this to its lists and dicts, and returned `out`, cannot be replayed, if so."""
        for container, held in self.containers:
            now = list(container.values()) if isinstance(container, dict) else container
            if len(now) != len(held) or any(a is not b for a, b in zip(now, held)):
                return "a list or dict among the arguments is changed"
        return _objection(out, {id(container) for container, _ in self.containers})

    def namespace(self) -> RawNamespace | None:
        """The namespace of all Tensors; None for those of several backends, or results of what is derived."""
        tensors = self.arguments
        found = {x._ns for x in tensors}
        if len(found) > 1 or any(x._level is not None or not x.is_leaf for x in tensors):
            return None
        return next(iter(found)) if found else namespace_of(default_backend())

    def host_numbers(self, guards: Guards) -> Iterator[HostNumber]:
        """The numbers as the function gets them while it is recorded."""
        return iter([HostNumber(n, _reader(i), guards) for i, n in enumerate(self.numbers)])


def _objection(out: Any, met: set[int]) -> str | None:
    """What a replay would not return again, if there is such a thing."""
    if not isinstance(out, dict | list | tuple):
        return None
    if id(out) in met:
        return "a list or dict is returned that is an argument, or is returned twice; return a copy"
    if isinstance(out, dict | list):
        met.add(id(out))
    if isinstance(out, dict) and type(out) is not dict:
        return f"a {type(out).__name__} is returned; return a dict"
    parts = out.values() if isinstance(out, dict) else out
    return next((found for part in parts if (found := _objection(part, met)) is not None), None)


def _reader(i: int) -> Callable[..., Any]:
    return lambda numbers: numbers[i]


def with_numbers(x: Any, numbers: Iterator[HostNumber]) -> Any:
    """An argument with numbers of the call in their places."""
    kind = x.__class__
    if kind is int or kind is float:
        return next(numbers)
    if kind is tuple:
        return tuple([with_numbers(part, numbers) for part in x])
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return kind(*[with_numbers(part, numbers) for part in x])
    return x


def settled(out: Any) -> Any:
    """A result with plain numbers; lists and dicts stay the same objects."""
    if type(out) is HostNumber:
        return out._value
    if isinstance(out, tuple):
        parts = [settled(part) for part in out]
        if all(map(is_, parts, out)):
            return out
        return type(out)(*parts) if hasattr(out, "_fields") else type(out)(parts)
    if isinstance(out, list):
        out[:] = map(settled, out)
    elif isinstance(out, dict):
        for key, part in out.items():
            out[key] = settled(part)
    return out
