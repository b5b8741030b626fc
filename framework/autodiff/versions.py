"""A count of the changes that a recorded call cannot see: attributes of modules, flags, hooks.

A recording holds as long as the count stands still. When it has moved, what the call's modules look like is
compared with what they looked like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

count = 0

recorder: Any = None
"""Told of every change, and of every module that is called, while a call is recorded."""

_methods: list[tuple[type, dict[str, Any]]] = []

_SIMPLE = (int, float, bool, str, type(None), complex, bytes)


def changed(owner: Any, name: str) -> None:
    """Note that something was set that a recording may have frozen."""
    global count
    count += 1
    if (listener := recorder) is not None:
        listener.changed(owner, name)


def told(owner: Any, name: str) -> None:
    """Tell a recording of something that is set and that no replay would set."""
    if (listener := recorder) is not None:
        listener.changed(owner, name)


def refuse(reason: str) -> None:
    """Tell a recording that the call does what a replay cannot do."""
    if (listener := recorder) is not None and listener.listens():
        listener.give_up(reason)


def present(read: Callable[[], Any]) -> Any:
    """What `read` gives: a number or a few, which change between calls; a replay reads them again."""
    return read() if (listener := recorder) is None else listener.present(read(), read)


def while_recorded(kind: type, methods: dict[str, Any]) -> None:
    """Let a class have methods that tell recordings something, and cost nothing while there is none."""
    _methods.append((kind, methods))


def begin(new: Any) -> None:
    """Tell `new` from here on."""
    global recorder
    for kind, methods in _methods:
        for name, method in methods.items():
            setattr(kind, name, method)
    recorder = new


def end() -> None:
    """Tell nobody any more."""
    global recorder
    recorder = None
    for kind, methods in _methods:
        for name in methods:
            if name in vars(kind):
                delattr(kind, name)


def is_simple(x: Any) -> bool:
    """Whether something is a number, text or None, which is told apart by its value."""
    return isinstance(x, _SIMPLE)


def same(a: Any, b: Any) -> bool:
    """Whether an attribute has not changed: the same object, or an equal simple one."""
    if a is b:
        return True
    if type(a) is not type(b) or not isinstance(a, _SIMPLE):
        return False
    return repr(a) == repr(b) if isinstance(a, float | complex) else bool(a == b)  # -0.0 is not 0.0, and NaN is NaN


def appearance(modules: Iterable[Any]) -> list[tuple[int, dict[str, Any], list[Any]]]:
    """What recordings depend on, of modules: their attributes, and which of their parameters are trained."""
    looks = []
    for module in modules:
        own = dict(module.__dict__)
        leaves = [value._node if hasattr(type(value), "_node") else None for value in own.values()]
        looks.append((id(module), own, [*leaves, *hooks(module)]))
    return looks


def hooks(module: Any) -> list[Any]:
    """The hooks of a module and of its own parameters."""
    own = module.__dict__
    on_leaves = [hook for value in own.values() for hook in hooks_of_leaf(value)]
    return [*on_leaves, *(own.get("_forward_hooks") or {}).values()]


def hooks_of_leaf(x: Any) -> list[Any]:
    """The hooks of a Tensor; of something else none."""
    return list(getattr(x._node, "hooks", None) or ()) if hasattr(type(x), "_node") else []


def unchanged(before: list[Any], now: list[Any]) -> bool:
    """Whether two appearances are the same."""
    if len(before) != len(now):
        return False
    for (key, own, extra), (key_now, own_now, extra_now) in zip(before, now):
        if key != key_now or own.keys() != own_now.keys() or len(extra) != len(extra_now):
            return False
        if not all(same(value, own_now[name]) for name, value in own.items()):
            return False
        if not all(a is b for a, b in zip(extra, extra_now)):
            return False
    return True
