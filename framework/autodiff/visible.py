"""The Python values that a function can see: what it closes over, its globals, its object, and what these hold.

A recording of a call has turned them into constants and decisions, so that it holds as long as they stay.
"""

from __future__ import annotations

import builtins
import functools
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from operator import is_
from types import (
    CodeType,
    FunctionType,
    MappingProxyType,
    MemberDescriptorType,
    MethodType,
    ModuleType,
    SimpleNamespace,
)
from typing import Any, NamedTuple
from weakref import ref

from framework.autodiff import versions

_DEEP, _LONG, _MANY, _MOST = 4, 32, 512, 2000
"""How far a search goes: functions and containers inside one another, entries of a container, places and values in all.

What is near comes first, so that it is the inner parts of large libraries that are left out."""

_FEW = 4096
"""Bytes of arrays that are compared."""

_ABSENT = object()
_OPEN = ("types", "argparse", "collections")  # parts of the standard library whose objects hold what users put there
_CONTAINERS: tuple[Any, ...] = (dict, list, set, deque, bytearray, MappingProxyType)
_UNUSED = frozenset(("__init__", "__new__", "__del__", "__repr__", "__setattr__", "__delattr__", "__post_init__"))


class _Names(NamedTuple):
    """What code names: globals, attributes, and attributes that it may ask for by their names as texts."""

    globals: tuple[str, ...] = ()
    attributes: tuple[str, ...] = ()
    asked: tuple[str, ...] = ()


class _Found(NamedTuple):
    """A value that is still to be looked into.

    Attributes:
        depth: through how many others it was found.
        at: the file and line of the code that sees it.
        owner: the object whose method it is.
    """

    name: str
    value: Any
    depth: int
    at: str
    owner: Any = None


class Visible:
    """The places where functions find Python values; `values()` are those that are there now.

    Places are cells of closures, names among globals, attributes of plain objects and classes that the code names, and
    entries of short containers and small arrays of NumPy. Simple values and arrays are compared, other objects are told
    apart by identity.

    Attributes:
        streams: random numbers that the code can draw from: a name, and what gives their state.
        modules: those that the code sees; to be let go of after the call.
        reason: what the code sees that no replay could do again, if there is such a thing.
    """

    def __init__(self, functions: Iterable[Any]) -> None:
        roots = [_Found("the function", fn, 0, "") for fn in functions]
        self._packages: set[str] = set()  # installed ones that are the user's
        self._attributes: dict[str, None] = {}
        self._asked: dict[str, None] = {}
        for _ in range(_DEEP):
            known = len(self._attributes) + len(self._asked)
            self._search(roots)
            if known == len(self._attributes) + len(self._asked):
                break  # what one function names, another may have been given
        self._met.clear()

    def _search(self, roots: Iterable[_Found]) -> None:
        self.streams: list[tuple[str, Callable[[], Any]]] = []
        self.modules: dict[int, Any] = {}
        self.reason = ""
        self._cells: list[Any] = []
        self._entries: list[tuple[Callable[..., Any], Any]] = []
        self._sized: list[tuple[Callable[..., int], Callable[..., Iterator[Any]], Any]] = []
        self._arrays: list[Any] = []
        self._names: tuple[list[str], list[str], list[str], list[str]] = [], [], [], []
        self._met: dict[Any, _Found] = {}  # kept, so that identities stay theirs
        self._places: set[tuple[int, Any]] = set()
        self._waiting = deque(roots)
        while self._waiting and len(self._met) < _MOST:
            self._look(self._waiting.popleft())

    def values(self) -> list[Any]:
        """What is in the places now; a container stands for its length and its first entries or keys."""
        try:
            found = [cell.cell_contents for cell in self._cells]
        except ValueError:  # one is empty
            found = [_contents(cell) for cell in self._cells]
        found += [get(key, _ABSENT) for get, key in self._entries]
        for length, entries, container in self._sized:
            found.append(length(container))
            found += islice(entries(container), _LONG)
        found += [array.tobytes() for array in self._arrays]
        return found

    def leave_out(self, arrays: Iterable[Any]) -> None:
        """Arrays that the call reads anew each time may change."""
        read = {id(part) for array in arrays for part in (array, getattr(array, "base", None))}
        self._arrays = [array for array in self._arrays if id(array) not in read]

    def difference(self, before: list[Any], now: list[Any]) -> str | None:
        """The name of a place whose value differs, and the line of who sees it; None where all are the same."""
        if unchanged(before, now):
            return None
        cells, entries, *others = self._names
        for name, a, b in zip((*cells, *entries), before, now):
            if not versions.same(a, b):
                return name
        rest = [name for names in others for name in names]
        return rest[0] if len(rest) == 1 else f"one of {', '.join(rest)}"

    # -- the search --------------------------------------------------------------------------------------

    def _look(self, found: _Found) -> None:
        """Look into one value."""
        name, value, depth = found[:3]
        kind = type(value)
        key = id(value), id(found.owner)
        if depth > _DEEP or key in self._met or versions.is_simple(value):
            return
        self._met[key] = found
        if kind is FunctionType:
            self._look_at_function(found)
        elif kind is MethodType:
            self._later(found, name, value.__func__, value.__self__)
        elif issubclass(kind, functools.partial):
            for i, part in enumerate((*value.args, *value.keywords.values())):
                self._later(found, f"argument {i} of {_name(value.func)}", part)
            self._later(found, name, value.func)
        elif issubclass(kind, ref):
            self._later(found, name, value())
        elif issubclass(kind, tuple):
            for part in value[:_LONG]:
                self._later(found, name, part)
        elif _is_module(kind):
            self.modules[id(value)] = value
            for module in value.modules():
                self._look_at_class(found, module, "forward")
                self._hooks_later(found, versions.hooks(module))
        elif kind.__module__ == "framework.autodiff.compiling":
            self._later(found, name, value.fn)
        elif issubclass(kind, _CONTAINERS):
            self._look_at_container(found)
            self._look_at_object(found)
        elif hasattr(kind, "tobytes") and hasattr(kind, "nbytes"):
            if value.nbytes <= _FEW:
                self._add(3, (id(value), len), value, name, found.at)
        elif not self._is_stream(name, value, found.at):
            self._look_at_object(found)
            self._hooks_later(found, versions.hooks_of_leaf(value))

    def _later(self, above: _Found, name: str, value: Any, owner: Any = None) -> None:
        self._waiting.append(_Found(name, value, above.depth + 1, above.at, owner))

    def _hooks_later(self, above: _Found, hooks: Iterable[Any]) -> None:
        for hook in hooks:
            self._later(above, f"a hook of {above.name}", getattr(hook, "__wrapped__", hook))

    def _look_at_function(self, found: _Found) -> None:
        """Look at what a function's code names."""
        fn, owner = found.value, found.owner
        if (weakly := getattr(fn, "of_weak_owner", None)) is not None:
            fn, owner = weakly[0], weakly[1]()
        code, package = fn.__code__, str(fn.__module__).partition(".")[0]
        if not found.at:  # no other function has named it
            self._packages.add(package)
        if _is_library(fn.__module__) or (package not in self._packages and "site-packages" in code.co_filename):
            return
        names = _names_in(code)
        self._attributes |= dict.fromkeys(names.attributes)
        self._asked |= dict.fromkeys(names.asked)
        # what a function sees is as near as the function itself
        here = _Found(_name(fn), fn, found.depth - 1, f"{code.co_filename}:{code.co_firstlineno}", owner)
        for name, cell in zip(code.co_freevars, fn.__closure__ or ()):
            self._add(0, (id(cell), 0), cell, repr(name), here.at)
            self._later(here, repr(name), _contents(cell))
        for name in names.globals:
            if not hasattr(builtins, name):
                self._entry(here, repr(name), fn.__globals__.get, name, id(fn.__globals__))
        for value in (*(fn.__defaults__ or ()), *(fn.__kwdefaults__ or {}).values()):
            self._later(here, f"a default of {_name(fn)}", value)
        self._look_at_object(here)
        if owner is not None:
            self._look_at_object(here._replace(name="self", value=owner, depth=found.depth))

    def _look_at_container(self, found: _Found) -> None:
        name, value = found.name, found.value
        base = next(kind for kind in _CONTAINERS if isinstance(value, kind))
        self._add(2, (id(value), len), (base.__len__, base.__iter__, value), name, found.at)
        if base.__len__(value) > _LONG:
            return
        for part in list(base.__iter__(value)):
            if base in (dict, MappingProxyType):
                self._entry(found, f"{name}[{part!r}]", functools.partial(base.get, value), part, id(value))
            else:
                self._later(found, name, part)

    def _look_at_object(self, found: _Found) -> None:
        """Look at what code names of a plain object, a class, a function, or a module of the user's."""
        name, value = found[:2]
        kind: Any = type(value)
        if _is_module(kind):
            self.modules[id(value)] = value
        if _is_of_library(value):
            return
        if _keeps_its_own(kind):
            is_told = hasattr(kind, "update") or not hasattr(value, "__dict__")
            for attribute, held in () if is_told else vars(value).items():
                is_named = attribute in self._attributes and versions.is_simple(held)
                if is_named or isinstance(held, FunctionType):  # a rule of the user's
                    self._entry(found, f"{name}.{attribute}", vars(value).get, attribute, id(vars(value)))
            return
        is_plain = not isinstance(value, ModuleType | FunctionType | type)
        own = getattr(value, "__dict__", None) if not isinstance(value, type) else None
        attributes = self._attributes | self._asked
        if is_plain and ("__dict__" in attributes or kind.__module__ == "collections"):
            attributes |= dict.fromkeys(own or ())
        if is_plain:
            attributes |= dict.fromkeys(_specials(kind))
        for attribute in attributes:
            if own is None or (attribute not in own and (attribute not in self._asked or _is_module(kind))):
                self._look_at_class(found, value, attribute)
            elif _is_module(kind):  # whose attributes tell of being set
                self._later(found, f"{name}.{attribute}", own[attribute])
            else:
                self._entry(found, f"{name}.{attribute}", own.get, attribute, id(own))

    def _look_at_class(self, found: _Found, value: Any, attribute: str) -> None:
        """Look at what an object, or a class, has by its class: a method, a property, a slot, a value."""
        name = f"{found.name}.{attribute}"
        is_class = isinstance(value, type)
        bases = _of_users(value if is_class else type(value))
        place = next((i for i, base in enumerate(bases) if attribute in vars(base)), None)
        if place is None:
            return
        if not is_class and hasattr(value, "__dict__") and not _is_module(type(value)):
            self._entry(found, name, vars(value).get, attribute, id(vars(value)))  # which comes before the class's
        for base in bases[: place + 1]:
            held = vars(base).get(attribute)
            self._add(1, (id(base), attribute), (vars(base).get, attribute), name, found.at)
        if isinstance(held, MemberDescriptorType) and not is_class:
            self._entry(found, name, functools.partial(getattr, value), attribute, id(value))
            return
        for part in ("fget", "func", "__func__"):  # of properties, cached ones, static and class methods
            held = getattr(held, part, held)
        self._later(found, name, held, value)

    def _is_stream(self, name: str, value: Any, at: str) -> bool:
        """Whether something gives other values each time: random numbers, or an iterator."""
        kind = type(value)
        random = sys.modules.get("random")
        if random is not None and isinstance(value, random.SystemRandom):
            self.reason = self.reason or f"{name} draws noise that nobody can draw again ({at})"
        elif random is not None and isinstance(value, random.Random):
            self.streams.append((name, value.getstate))
        elif kind.__module__ == "numpy.random._generator":
            self.streams.append((name, lambda: value.bit_generator.state))
        elif kind.__module__ == "numpy.random.mtrand":
            self.streams.append((name, lambda: value.get_state(legacy=False)))
        elif kind.__module__ in ("builtins", "itertools") and hasattr(kind, "__next__"):
            self.reason = self.reason or f"{name} is an iterator; pass what it gives as an argument ({at})"
        else:
            return False
        return True

    def _entry(self, found: _Found, name: str, get: Callable[..., Any], key: Any, place: int) -> None:
        """A place where a value is found by a key, or none is."""
        value = get(key, _ABSENT)
        if not _is_of_library(value):
            self._add(1, (place, key), (get, key), name, found.at)
            self._later(found, name, value)

    def _add(self, kind: int, place: tuple[int, Any], what: Any, name: str, at: str) -> None:
        if place not in self._places and len(self._places) < _MANY:
            self._places.add(place)
            (self._cells, self._entries, self._sized, self._arrays)[kind].append(what)
            self._names[kind].append(f"{name} ({at})")


def unchanged(before: list[Any], now: list[Any]) -> bool:
    """Whether all values are the same objects, or equal simple ones."""
    return len(before) == len(now) and (all(map(is_, before, now)) or all(map(versions.same, before, now)))


@functools.lru_cache(1024)
def _names_in(code: CodeType) -> _Names:
    """What code names, and functions inside it."""
    import dis

    named: dict[str, None] = {}
    attributes: dict[str, None] = {}
    texts: dict[str, None] = {}
    codes = [code]
    while codes:
        code = codes.pop()
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
        parts = (part for x in code.co_consts for part in (x if isinstance(x, tuple) else (x,)))
        texts |= dict.fromkeys(part for part in parts if isinstance(part, str) and part.isidentifier())
        for instruction in dis.get_instructions(code):
            if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
                named[instruction.argval] = None
            elif instruction.opname in ("LOAD_ATTR", "LOAD_METHOD", "LOAD_SUPER_ATTR"):
                attributes[instruction.argval] = None
    if "vars" in named:
        attributes["__dict__"] = None
    return _Names(tuple(named), tuple(attributes), tuple(texts) if {"getattr", "hasattr"} & named.keys() else ())


@functools.lru_cache(1024)
def _specials(kind: Any) -> tuple[str, ...]:
    """The special methods of a user's class, which code may call without naming them."""
    return tuple(
        name
        for base in _of_users(kind)
        for name, held in vars(base).items()
        if name.startswith("__") and name not in _UNUSED and isinstance(held, FunctionType)
    )


def _of_users(kind: type) -> list[type]:
    """A class and those above it that are no library's."""
    return [base for base in kind.__mro__ if not _is_library(base.__module__)]


def _contents(cell: Any) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return _ABSENT


def _is_module(kind: type) -> bool:
    return hasattr(kind, "named_parameters") and hasattr(kind, "buffers")


def _keeps_its_own(kind: type) -> bool:
    """Whether a class is one of ours or NumPy's, or one that is told of what it does: a metric, an optimizer."""
    if _is_module(kind) or not any(
        base.__module__.partition(".")[0] in ("framework", "numpy") for base in kind.__mro__
    ):
        return False
    return _is_library(kind.__module__) or hasattr(kind, "update") or hasattr(kind, "step")


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
