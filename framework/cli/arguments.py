"""The arguments of one class: their names, types and defaults, and the typing of values given for them.

jsonargparse finds and applies the types, one argument at a time; what is said of a wrong value is said here.
"""

from __future__ import annotations

import collections.abc
import enum
import functools
import inspect
import sys
import types
import typing
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from framework.cli.nodes import Node, plain, refuse, shown
from framework.errors import did_you_mean

MISSING: Any = inspect.Parameter.empty


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of a class's constructor."""

    name: str
    hint: Any
    default: Any

    @property
    def required(self) -> bool:
        """Whether the class has no default for it."""
        return self.default is MISSING


@dataclass(frozen=True, slots=True)
class Arguments:
    """The arguments of a class; `open` where it takes any others too."""

    cls: type
    known: dict[str, Argument]
    open: bool


@functools.cache
def arguments_of(cls: type) -> Arguments:
    """The arguments of a class, those that it hands on to its bases as `**kwargs` among them."""
    import jsonargparse

    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    names = parser.add_class_arguments(cls, fail_untyped=False, sub_configs=False)
    actions = {action.dest: action for action in parser._actions}
    given = _parameters(cls)
    known = {}
    for name in names:
        action = actions[name]
        hint = getattr(action, "_typehint", None) or action.type or Any
        if any(repr(part) == "Untyped" for part in union_parts(hint)):
            hint = Any  # jsonargparse guesses a type from the default
        default = MISSING if action.required else action.default
        known[name] = Argument(name, hint, default)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in given.values())
    return Arguments(cls, known, takes_any and known.keys() <= given.keys())


def _parameters(cls: type) -> dict[str, inspect.Parameter]:
    try:
        return dict(inspect.signature(cls).parameters)
    except (TypeError, ValueError):
        return {}


def typed(argument: Argument, node: Node, path: str) -> Any:
    """The value of a node as the argument's type.

    A string is wanted where the type has `str`, so a number or `true` is then taken as it was typed.

    Raises:
        ConfigError: it is of another type.
    """
    value = plain(node)
    parts = union_parts(argument.hint)
    if Any in parts or object in parts or _same(value, argument.default):
        return value
    if value is None and (type(None) in parts or None in _literals(parts)):
        return value
    if isinstance(value, str) and str in parts:
        return value
    found = _parse(argument.hint, value)
    if found is _WRONG and _mentions_str(argument.hint):
        found = _parse(argument.hint, node.text if str in parts and node.text else plain(node, as_text=True))
    if found is _WRONG:
        words = [word for word in _literals(parts) if isinstance(word, str)]
        close = did_you_mean(value, words) if isinstance(value, str) else ""
        raise refuse(node, path, f"expected {describe(argument.hint)}, got {shown(value)}{close and '.'}{close}")
    return found


_WRONG: Any = object()


def _parse(hint: Any, value: Any) -> Any:
    import jsonargparse

    if value is None:
        return _WRONG
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--value", type=hint)
    try:
        found = parser.parse_object({"value": value}, defaults=False)["value"]
    except (jsonargparse.ArgumentError, TypeError, ValueError):
        return _WRONG
    return _WRONG if _holds(found, jsonargparse.Namespace) else found


def _holds(value: Any, kind: type) -> bool:
    """Whether a value is, or has inside, an object of a class."""
    if isinstance(value, dict | list | tuple | set):
        return any(_holds(item, kind) for item in (value.values() if isinstance(value, dict) else value))
    return isinstance(value, kind)


def _same(value: Any, default: Any) -> bool:
    return type(value) is type(default) and isinstance(value, bool | int | float | str | None) and value == default


def _literals(parts: Iterable[Any]) -> list[Any]:
    return [value for part in parts if typing.get_origin(part) is typing.Literal for value in typing.get_args(part)]


def _mentions_str(hint: Any) -> bool:
    return hint is str or any(_mentions_str(part) for part in typing.get_args(hint))


# -- types in words -------------------------------------------------------------------------------


def union_parts(hint: Any) -> tuple[Any, ...]:
    """The alternatives of a type; the type itself where it has none."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return tuple(part for option in typing.get_args(hint) for part in union_parts(option))
    if typing.get_origin(hint) is typing.Annotated:
        return union_parts(typing.get_args(hint)[0])
    return (hint,)


def class_parts(hint: Any) -> set[type]:
    """The classes whose objects a type accepts, alone or in a list or mapping."""
    found: set[type] = set()
    for part in union_parts(hint):
        if typing.get_origin(part) not in (None, typing.Literal, type, collections.abc.Callable):
            found |= {cls for option in typing.get_args(part) for cls in class_parts(option)}
        elif inspect.isclass(part) and part.__module__.partition(".")[0] not in sys.stdlib_module_names:
            found.add(part)
    return {cls for cls in found if not issubclass(cls, enum.Enum)}


def accepts_anything(hint: Any) -> bool:
    """Whether no class can be told to be wrong for a type: `Any`, callables, protocols."""
    for part in union_parts(hint):
        origin = typing.get_origin(part)
        if part in (Any, object, typing.Callable) or origin is collections.abc.Callable:
            return True
        if part is collections.abc.Callable or isinstance(part, typing.TypeVar | str):
            return True
        if getattr(part, "_is_protocol", False):
            return True
        if origin not in (None, typing.Literal, type) and any(map(accepts_anything, typing.get_args(part))):
            return True
    return False


def describe(hint: Any) -> str:
    """A type in words.

    Examples:
        >>> describe(float | None), describe(list[int] | int), describe(typing.Literal["min", "max"])
        ('float or null', 'a list of int, or int', "'min' or 'max'")
    """
    parts = []
    for part in union_parts(hint):
        is_literal = typing.get_origin(part) is typing.Literal
        parts += [shown(value) for value in typing.get_args(part)] if is_literal else [_describe_one(part)]
    parts = list(dict.fromkeys(parts))
    if "null" in parts:
        parts = [part for part in parts if part != "null"] + ["null"]
    comma = "," if any(" " in part for part in parts[:-1]) else ""
    return f"{', '.join(parts[:-1])}{comma} or {parts[-1]}" if comma else " or ".join(parts)


def _describe_one(hint: Any) -> str:
    origin, options = typing.get_origin(hint), typing.get_args(hint)
    if hint in (None, type(None)):
        return "null"
    if origin is tuple and options and options[-1] is not Ellipsis:
        return f"a list of {len(options)}: {', '.join(map(describe, options))}"
    container = origin or hint
    if container in (dict, collections.abc.Mapping, collections.abc.MutableMapping):
        return f"a mapping of {describe(options[0])} to {describe(options[1])}" if options else "a mapping"
    if inspect.isclass(container) and container is not str and issubclass(container, Iterable) and options:
        return f"a list of {describe(options[0])}"
    if container in (list, tuple, set):
        return "a list"
    if container is bool:
        return "true or false"
    if container is collections.abc.Callable:
        return "a function"
    if inspect.isclass(hint) and issubclass(hint, enum.Enum):
        return " or ".join(hint.__members__)
    return str(getattr(hint, "__name__", hint))
