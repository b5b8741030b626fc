"""A count of the changes that a recorded call cannot see: attributes of modules, flags, hooks.

A recording holds as long as the count stands still. When it has moved, what the call's modules look like is
compared with what they looked like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

count = 0

watch: Callable[[Any, str], None] | None = None
"""Told of every change while a call is recorded."""

called: Callable[[Any], None] | None = None
"""Told of every module that is called while a call is recorded."""

_SIMPLE = (int, float, bool, str, type(None), complex, bytes)


def changed(owner: Any, name: str) -> None:
    """Note that something was set that a recording may have frozen."""
    global count
    count += 1
    if watch is not None:
        watch(owner, name)


def told(owner: Any, name: str) -> None:
    """Tell a recording of something that is set and that no replay would set."""
    if watch is not None:
        watch(owner, name)


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
        hooks = own.get("_forward_hooks")
        leaves = [value._node if hasattr(type(value), "_node") else None for value in own.values()]
        on_leaves = [hook for leaf in leaves for hook in getattr(leaf, "hooks", None) or ()]
        looks.append((id(module), own, [*leaves, *on_leaves, *(hooks or {}).values()]))
    return looks


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
