"""A configuration as it was written: values that remember the file and line they come from."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from framework.errors import ConfigError

Scalar = None | bool | int | float | str


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a value was written: a line of a file, or an option of the command line."""

    file: str = ""
    line: int = 0
    flag: str = ""

    def __str__(self) -> str:
        if self.flag:
            return f"--{self.flag}"
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(slots=True)
class Node:
    """One value of a configuration: a scalar, a mapping of names to nodes or a list of nodes."""

    value: Scalar | dict[str, Node] | list[Node]
    origin: Origin = field(default_factory=Origin)
    text: str | None = None
    """What was typed, where that is more than the value: `1_000` or `true`, should a string be wanted."""

    @property
    def mapping(self) -> dict[str, Node]:
        """The children by name; empty for anything but a mapping."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def is_class(self) -> bool:
        """Whether this describes an object: a mapping with a `class_path`."""
        return "class_path" in self.mapping


def plain(node: Any, *, as_text: bool = False) -> Any:
    """A node's value as plain Python data; with `as_text` every scalar as it was typed."""
    if not isinstance(node, Node):
        return node
    if isinstance(node.value, dict):
        return {key: plain(child, as_text=as_text) for key, child in node.value.items()}
    if isinstance(node.value, list):
        return [plain(child, as_text=as_text) for child in node.value]
    if as_text and node.text is not None and node.value is not None:
        return node.text
    return node.value


def walk(node: Node, path: str) -> Iterator[tuple[str, Node]]:
    """The node and everything below it, each with its key path."""
    yield path, node
    if isinstance(node.value, dict):
        for key, child in node.value.items():
            yield from walk(child, join(path, key))
    elif isinstance(node.value, list):
        for index, child in enumerate(node.value):
            yield from walk(child, join(path, str(index)))


def join(path: str, key: str) -> str:
    """A key path one step longer."""
    return f"{path}.{key}" if path else key


def where(node: Node, path: str) -> str:
    """The start of a message about a value: `file:line: key.path`, or the option that set it."""
    place, flag = str(node.origin), node.origin.flag
    if not path or f"{flag}.".startswith(f"{path}.") or path == f"{flag}.class_path":
        return place
    return f"{place}: {path}" if place else path


def shown(value: Any, limit: int = 60) -> str:
    """A value, or what a node holds, as a message shows it: short, on one line."""
    if isinstance(value, dict | list):
        value = plain(Node(value))
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    text = " ".join(repr(value).split())
    return text if len(text) <= limit else text[: limit - 1] + "…"


def article(noun: str) -> str:
    """The noun with "a" or "an"."""
    is_spelled = noun[:2].isupper()  # an SGD, an LRScheduler
    return f"{'an' if noun[:1] in ('AEFHILMNORSX' if is_spelled else 'AEIOUaeiou') else 'a'} {noun}"


class UserCodeError(ConfigError):
    """The user's own code failed while it was imported or an object was made; its exception is the cause."""


def failed(node: Node, path: str, what: str, cause: BaseException) -> UserCodeError:
    """The error that says whose code failed, to be raised from `cause`."""
    return UserCodeError(f"{where(node, path)}: {what} {type(cause).__name__}: {cause}")


def refuse(node: Node, path: str, message: str) -> ConfigError:
    """The error that says what is wrong with the value at a key path."""
    return ConfigError(f"{where(node, path)}: {message}")
