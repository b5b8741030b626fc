"""The Python values that a function can see: what it closes over, its globals, its object, and what these hold.

A recording of a call has turned them into constants and decisions, so that it holds as long as they stay.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterable, Mapping
from operator import is_
from types import CodeType, FunctionType, MemberDescriptorType, MethodType, ModuleType, SimpleNamespace
from typing import Any
from weakref import ref

from framework.autodiff import versions

_DEEP, _LONG, _MANY = 4, 32, 256
"""How far a search goes: functions and containers inside one another, entries of a container, places in all."""

_ABSENT = object()
_OPEN = ("types", "argparse")  # parts of the standard library whose objects hold what users put there


class Visible:
    """The places where functions find Python values; `values()` are those that are there now.

    Places are cells of closures, names among globals, attributes of plain objects that the code names, and entries
    of short lists and dicts. Simple values are compared, other objects are told apart by identity.
    """

    def __init__(self, functions: Iterable[Any]) -> None:
        self.streams: list[tuple[str, Callable[[], Any]]] = []
        self._cells: list[Any] = []
        self._entries: list[tuple[Callable[..., Any], Any]] = []
        self._sized: list[Any] = []
        self._names: tuple[list[str], list[str], list[str]] = [], [], []
        self._met: dict[int, Any] = {}  # kept, so that identities stay theirs
        self._places: set[tuple[int, Any]] = set()
        self._at = ""
        for fn in functions:
            self._walk(fn, None, 0)
        self._met.clear()

    def values(self) -> list[Any]:
        """What is in the places now; the entries of lists stand for their lengths, too."""
        try:
            found = [cell.cell_contents for cell in self._cells]
        except ValueError:  # one is empty
            found = [_contents(cell) for cell in self._cells]
        found += [get(key, _ABSENT) for get, key in self._entries]
        for container in self._sized:
            found.append(len(container))
            if type(container) is list:
                found += container[:_LONG]
        return found

    def difference(self, before: list[Any], now: list[Any]) -> str | None:
        """The name of a place whose value differs, and the line of who sees it; None where all are the same."""
        if unchanged(before, now):
            return None
        cells, entries, sized = self._names
        for name, a, b in zip((*cells, *entries), before, now):
            if not versions.same(a, b):
                return name
        return sized[0] if len(sized) == 1 else f"one of {', '.join(sized)}"

    # -- the search --------------------------------------------------------------------------------------

    def _walk(self, fn: Any, owner: Any, depth: int) -> None:
        """Look at what a function's code names."""
        while isinstance(fn, functools.partial):
            for i, value in enumerate((*fn.args, *fn.keywords.values())):
                self._look(f"argument {i} of {_name(fn.func)}", value, (), depth)
            fn = fn.func
        if isinstance(fn, MethodType):
            fn, owner = fn.__func__, fn.__self__
        if (weakly := getattr(fn, "of_weak_owner", None)) is not None:
            fn, owner = weakly[0], weakly[1]()
        if not isinstance(fn, FunctionType):
            call = type(fn).__call__ if callable(fn) else None
            if isinstance(call, FunctionType) and not _is_ours(type(fn)):
                self._walk(call, fn, depth + 1)
            else:
                self._look("the function", fn, (), depth)
            return
        if depth > _DEEP or _is_library(fn.__module__ if owner is None else type(owner).__module__):
            return
        key = id(fn) if owner is None else id(fn) ^ id(owner)
        if key in self._met:
            return
        self._met[key] = fn, owner
        named, attributes = _names_in(fn.__code__)
        above, self._at = self._at, f"{fn.__code__.co_filename}:{fn.__code__.co_firstlineno}"
        for name, cell in zip(fn.__code__.co_freevars, fn.__closure__ or ()):
            self._add(0, (id(cell), 0), cell, repr(name))
            self._look(repr(name), _contents(cell), attributes, depth)
        for name in named:
            if (value := fn.__globals__.get(name, _ABSENT)) is not _ABSENT and not _is_of_library(value):
                self._entry(fn.__globals__, name, repr(name))
                self._look(repr(name), value, attributes, depth)
        for value in (*(fn.__defaults__ or ()), *(fn.__kwdefaults__ or {}).values()):
            self._look(f"a default of {_name(fn)}", value, attributes, depth)
        if owner is not None and not isinstance(owner, type):
            self._look_at_object("self", owner, attributes, depth)
        self._at = above

    def _look(self, name: str, value: Any, attributes: Iterable[str], depth: int) -> None:
        """Look into one value."""
        kind = type(value)
        if depth > _DEEP or id(value) in self._met or versions.is_simple(value):
            return
        if kind in (FunctionType, MethodType, functools.partial):
            self._walk(value, None, depth + 1)
        elif _is_module(kind):
            self._met[id(value)] = value
            for module in value.modules():
                self._walk(getattr(type(module), "forward", None), module, depth + 1)
        elif kind is list or kind is dict or kind is set:
            self._met[id(value)] = value
            self._add(2, (id(value), len), value, name)
            if kind is dict and len(value) <= _LONG:
                for key in value:
                    self._entry(value, key, f"{name}[{key!r}]")
            for part in [] if len(value) > _LONG else list(value.values() if kind is dict else value):
                self._look(name, part, attributes, depth + 1)
        elif kind is tuple:
            for part in value[:_LONG]:
                self._look(name, part, attributes, depth + 1)
        elif kind is ref:
            self._look(name, value(), attributes, depth)
        elif kind.__module__ in ("random", "numpy.random._generator"):
            state = (lambda: value.getstate()) if kind.__module__ == "random" else (lambda: value.bit_generator.state)
            self.streams.append((name, state))
        elif kind.__module__ == "framework.autodiff.compiling":
            self._walk(value.fn, None, depth + 1)
        else:
            self._look_at_object(name, value, attributes, depth)

    def _look_at_object(self, name: str, value: Any, attributes: Iterable[str], depth: int) -> None:
        """Look at what code names of a plain object, a class, or a module of the user's."""
        kind = type(value)
        is_module = _is_module(kind)
        if _is_of_library(value) or (_is_ours(kind) and not is_module):
            return
        own = getattr(value, "__dict__", {})
        for attribute in attributes:
            if attribute in own:
                held = own[attribute]
                if isinstance(value, ModuleType) and not versions.is_simple(held):
                    continue
                if not is_module:  # whose attributes tell of being set
                    self._entry(own, attribute, f"{name}.{attribute}")
                self._look(f"{name}.{attribute}", held, attributes, depth + 1)
            elif not isinstance(value, type):
                self._look_at_class(name, value, attribute, depth)

    def _look_at_class(self, name: str, value: Any, attribute: str, depth: int) -> None:
        """Look at what an object has an attribute of by its class: a method, a property, a slot, a value."""
        above = next((base for base in type(value).__mro__ if attribute in base.__dict__), None)
        if above is None or _is_library(above.__module__):
            return
        held = above.__dict__[attribute]
        if isinstance(held, FunctionType):
            self._walk(held, value, depth + 1)
        elif isinstance(held, property):
            self._walk(held.fget, value, depth + 1)
        elif isinstance(held, MemberDescriptorType):
            get = functools.partial(getattr, value)
            self._add(1, (id(value), attribute), (get, attribute), f"{name}.{attribute}")
        else:
            self._entry(above.__dict__, attribute, f"{name}.{attribute}")

    def _entry(self, container: Mapping[Any, Any], key: Any, name: str) -> None:
        if not _is_of_library(container[key]):
            self._add(1, (id(container), key), (container.get, key), name)

    def _add(self, kind: int, place: tuple[int, Any], what: Any, name: str) -> None:
        if place not in self._places and len(self._places) < _MANY:
            self._places.add(place)
            (self._cells, self._entries, self._sized)[kind].append(what)
            self._names[kind].append(f"{name} ({self._at})")


def unchanged(before: list[Any], now: list[Any]) -> bool:
    """Whether all values are the same objects, or equal simple ones."""
    return len(before) == len(now) and (all(map(is_, before, now)) or all(map(versions.same, before, now)))


@functools.lru_cache(1024)
def _names_in(code: CodeType) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The globals that code names, and the attributes; those of functions inside it, too."""
    import dis

    named: dict[str, None] = {}
    attributes: dict[str, None] = {}
    codes = [code]
    while codes:
        code = codes.pop()
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        for instruction in dis.get_instructions(code):
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                named[instruction.argval] = None
            elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"):
                attributes[instruction.argval] = None
    return tuple(named), tuple(attributes)


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _ABSENT


def _is_module(kind: type) -> bool:
    return hasattr(kind, "named_parameters") and hasattr(kind, "buffers")


def _is_ours(kind: type) -> bool:
    """Whether a class is the framework's or NumPy's, or made of one that is."""
    return any(base.__module__.partition(".")[0] in ("framework", "numpy") for base in kind.__mro__)


def _is_library(module: str | None) -> bool:
    name = (module or "").partition(".")[0]
    if name in _OPEN or name == "__main__":
        return False
    return name in ("framework", "numpy") or name.startswith("fw_") or name in sys.stdlib_module_names


def _is_of_library(x: Any) -> bool:
    """Whether an object is a library's own: a module, a class or a function that nobody sets anew."""
    if isinstance(x, ModuleType):
        return _is_library(x.__name__)
    if isinstance(x, SimpleNamespace):
        return False
    return isinstance(x, type | FunctionType) and _is_library(x.__module__)


def _name(fn: Any) -> str:
    return str(getattr(fn, "__qualname__", fn))
