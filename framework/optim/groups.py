"""Parameter groups: what may be in one, and what a recording is told of its arguments."""

from __future__ import annotations

from typing import Any, Self

from framework.autodiff import Tensor, versions
from framework.errors import ConfigError, DTypeError

BESIDE = ("initial_lr", "name")
"""Keys of a group that are no arguments: a schedule's, and the user's label."""


class Group(dict[str, Any]):
    """A parameter group: a dict that tells a recording of what is set in it, which a replay would not do."""

    def __setitem__(self, key: str, value: Any) -> None:
        versions.told(self, key)
        super().__setitem__(key, value)

    def update(self, *args: Any, **kwargs: Any) -> None:
        """Set several arguments."""
        versions.told(self, "update")
        super().update(*args, **kwargs)

    def __ior__(self, other: Any) -> Self:  # type: ignore[misc, override]
        self.update(other)
        return self

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The argument, which is set first where there is none."""
        if key not in self:
            self[key] = default
        return self[key]

    def __delitem__(self, key: str) -> None:
        versions.told(self, key)
        super().__delitem__(key)

    def pop(self, key: str, *default: Any) -> Any:
        """Take an argument out."""
        versions.told(self, key)
        return super().pop(key, *default)

    def popitem(self) -> tuple[str, Any]:
        """Take the last argument out."""
        versions.told(self, "popitem")
        return super().popitem()

    def clear(self) -> None:
        """Take all arguments out."""
        versions.told(self, "clear")
        super().clear()


def _told(group: Group, key: str) -> Any:
    """An argument, while a call is recorded: one that is a number is read anew in each replay."""
    return versions.present(lambda: dict.__getitem__(group, key))


def _told_or(group: Group, key: str, default: Any = None) -> Any:
    return _told(group, key) if key in group else default


def _told_items(group: Group) -> Any:
    return {key: _told(group, key) for key in dict.keys(group)}.items()


def _told_values(group: Group) -> Any:
    return dict(_told_items(group)).values()


def _told_keys(group: Group) -> Any:
    """Of the class itself, so that `dict(group)` asks for each item."""
    return dict.__iter__(group)


versions.while_recorded(
    Group, {"__getitem__": _told, "get": _told_or, "items": _told_items, "values": _told_values, "__iter__": _told_keys}
)


def check_parameter(name: str, p: Any) -> None:
    """Raise where an optimizer of this name cannot move `p`.

    Raises:
        ConfigError: it is no leaf.
        DTypeError: it is not a floating-point Tensor.
    """
    if not isinstance(p, Tensor):
        raise DTypeError(f"{name}: parameters are Tensors, got {type(p).__name__}; pass model.parameters()")
    if p.dtype.kind != "float":
        raise DTypeError(f"{name}: parameters are floating point, got one of {p.dtype.name} and shape {p.shape}")
    if not p.is_leaf:
        raise ConfigError(f"{name}: a parameter of shape {p.shape} is the result of operations; pass leaves")


def plain(value: Any) -> Any:
    """A group's argument as it may stand in a state tree."""
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if value is None or isinstance(value, bool | str):
        return value
    return int(value) if isinstance(value, int) else float(value)
