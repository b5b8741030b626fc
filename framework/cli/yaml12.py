"""Reading and writing YAML with the scalars of YAML 1.2.

`no`, `on` and `off` are strings; `1e-3`, `1E5`, `.5` and `1_000` are numbers; a key given twice is an
error; every value remembers its line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from framework.cli.nodes import Node, Origin, Scalar, shown
from framework.errors import ConfigError

if TYPE_CHECKING:
    import yaml

NULL: Final = re.compile(r"(?:|~|null|Null|NULL)\Z")
BOOL: Final = re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")
INT: Final = re.compile(r"[-+]?[0-9]+(?:_[0-9]+)*\Z")
BASED: Final = re.compile(r"(?:0o[0-7]+|0x[0-9a-fA-F]+)\Z")
FLOAT: Final = re.compile(
    r"[-+]?(?:\.[0-9]+(?:_[0-9]+)*|[0-9]+(?:_[0-9]+)*(?:\.(?:[0-9]+(?:_[0-9]+)*)?)?)(?:[eE][-+]?[0-9]+)?\Z"
)
SPECIAL: Final = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")


def scalar(text: str) -> Scalar:
    """The value of an unquoted scalar.

    Examples:
        >>> [scalar(s) for s in ("no", "1e-3", ".5", "1_000", "true", "~", "0x10", "1.2.3")]
        ['no', 0.001, 0.5, 1000, True, None, 16, '1.2.3']
    """
    if NULL.match(text):
        return None
    if BOOL.match(text):
        return text.lower() == "true"
    if INT.match(text):
        return int(text)
    if BASED.match(text):
        return int(text, 0)
    if FLOAT.match(text):
        return float(text)
    if SPECIAL.match(text):
        return float(text.replace(".", ""))
    return text


def load(text: str, file: str) -> Node:
    """The nodes of one YAML document.

    Raises:
        ConfigError: it is not YAML, a key is repeated or is no string, or a tag is used.
    """
    import yaml

    try:
        root = yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{file}:{mark.line + 1}" if mark else file
        problem = error.problem or error.context or "cannot be read"
        advice = ". Indent with spaces, not tabs" if "'\\t'" in problem else ""
        raise ConfigError(f"{place}: not valid YAML: {problem}{advice}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{file}: not valid YAML: {shown(str(error), 120)}") from None
    if root is None:
        return Node({}, Origin(file, 1))
    return _Reader(file, lambda node: Origin(file, node.start_mark.line + 1)).read(root)


def parse_value(text: str, flag: str) -> Node:
    """The value of a command-line option, read as YAML where it is that, else as a string."""
    import yaml

    origin = Origin(flag=flag)
    try:
        root = yaml.compose(text, Loader=yaml.BaseLoader)
        node = Node(None, origin) if root is None else _Reader(str(origin), lambda _: origin).read(root)
    except (yaml.YAMLError, ConfigError):
        return Node(text, origin)
    node.text = text
    return node


class _Reader:
    """Turns PyYAML's tree into ours."""

    def __init__(self, file: str, origin: Callable[[yaml.Node], Origin]) -> None:
        self.file = file
        self.origin = origin
        self.open: set[int] = set()
        self.known: dict[int, Node] = {}

    def read(self, node: yaml.Node, origin: Origin | None = None) -> Node:
        """Our node for PyYAML's; an anchor's aliases share one."""
        origin = origin or self.origin(node)
        if id(node) in self.open:
            raise ConfigError(f"{origin}: this anchor contains itself")
        if id(node) not in self.known:
            self.open.add(id(node))
            self.known[id(node)] = Node(self._value(node), origin, self._text(node))
            self.open.discard(id(node))
        found = self.known[id(node)]
        return Node(found.value, origin, found.text)

    def _text(self, node: yaml.Node) -> str | None:
        return str(node.value) if isinstance(node.value, str) else None

    def _value(self, node: yaml.Node) -> Any:
        kind = node.tag.removeprefix("tag:yaml.org,2002:")
        if isinstance(node.value, str):
            if kind != "str":
                raise ConfigError(f"{self.origin(node)}: the tag {node.tag} is not supported; write the plain value")
            return scalar(node.value) if getattr(node, "style", None) is None else node.value
        if kind not in ("map", "seq"):
            raise ConfigError(f"{self.origin(node)}: the tag {node.tag} is not supported; write the plain value")
        if kind == "seq":
            return [self.read(child) for child in node.value]
        found: dict[str, Node] = {}
        for key, child in node.value:
            at = self.origin(key)
            if not isinstance(key.value, str):
                raise ConfigError(f"{at}: a key must be a name, not a list or a mapping")
            if key.value in found:
                raise ConfigError(f"{at}: the key {key.value!r} is given twice; first at {found[key.value].origin}")
            found[key.value] = self.read(child, at)
        return found


def dump(tree: Any) -> str:
    """Plain data as YAML that `load` and any other YAML reader give back unchanged.

    Examples:
        >>> print(dump({"lr": 1e-3, "name": "no", "hidden": [300, 100], "version": "1e-3"}), end="")
        lr: 0.001
        name: 'no'
        hidden: [300, 100]
        version: '1e-3'
    """
    import yaml

    class Dumper(yaml.SafeDumper):
        """Quotes strings that either version of YAML would read as something else; writes lists on one line."""

        def ignore_aliases(self, data: Any) -> bool:
            return True

        def represent_text(self, data: str) -> yaml.Node:
            lost = any(mark in data for mark in "\x85\u2028\u2029\ufeff")  # line ends that unescaped become others
            return self.represent_scalar("tag:yaml.org,2002:str", data, style='"' if lost else None)

        def represent_flat(self, data: Any) -> yaml.Node:
            short = all(item is None or isinstance(item, str | int | float) for item in data)
            return self.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=short)

    for kind, pattern in (("null", NULL), ("bool", BOOL), ("int", INT), ("int", BASED), ("float", FLOAT)):
        Dumper.add_implicit_resolver(f"tag:yaml.org,2002:{kind}", pattern, None)
    Dumper.add_representer(str, Dumper.represent_text)
    Dumper.add_representer(list, Dumper.represent_flat)
    text = yaml.dump(tree, Dumper=Dumper, sort_keys=False, allow_unicode=True, default_flow_style=False, width=120)
    return str(text)
