"""The layers of a configuration, files first and the command line last, and how they become one."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from framework.cli import yaml12
from framework.cli.nodes import Node, Origin, join, refuse, shown
from framework.errors import ConfigError, did_you_mean, nearest

TOP_LEVEL = ("seed", "trainer", "model", "data", "optimizer", "lr_scheduler", "plugins", "sys_path")
CLASS_SECTIONS = ("model", "data", "optimizer", "lr_scheduler")
ALIASES = {"seed_everything": "seed"}

Accepts = Callable[[Node, str], Collection[str] | None]
"""The arguments of the class that a `class_path` node at a key path names; None for any."""


def read_file(file: str) -> Node:
    """The nodes of one configuration file.

    Raises:
        ConfigError: it is missing, unreadable, not YAML, or has an unknown section.
    """
    path = Path(file)
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ConfigError(f"no config file {file}.{_similar_file(path)}") from None
    except IsADirectoryError:
        raise ConfigError(f"{file} is a folder; name the config file in it") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file}: not a text file in UTF-8 (byte {error.start})") from None
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from None
    root = yaml12.load(text, file)
    if not isinstance(root.value, dict):
        raise refuse(root, "", f"a config is a mapping of {', '.join(TOP_LEVEL[:-1])}; got {shown(root.value)}")
    return checked(root)


def _similar_file(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f" There is no folder {folder} either"
    near = nearest(path.name, [f.name for f in folder.iterdir() if f.suffix in (".yaml", ".yml")])
    return f" Did you mean '{folder / near}'?" if near else ""


def read_overrides(pairs: Sequence[tuple[str, str]]) -> Node:
    """The layer of the command line, from (dotted name, text) pairs; the order does not matter.

    Raises:
        ConfigError: the first part of a name is no section.
    """
    root = Node({}, Origin(flag="the command line"))
    for flag, text in pairs:
        *parents, last = flag.split(".")
        if not all((*parents, last)):
            raise ConfigError(f"--{flag}: an empty name between the dots")
        branch = root
        for depth, name in enumerate(parents):
            branch = _child_mapping(branch, name, Origin(flag=".".join(parents[: depth + 1])))
        value = yaml12.parse_value(text, flag)
        children = branch.mapping
        old = children.get(last)
        if old is not None and isinstance(old.value, dict) and old.text is None and isinstance(value.value, str):
            old.mapping["class_path"] = value  # --trainer.logger.init_args.x 1 --trainer.logger NAME
        else:
            children[last] = value
    return checked(root)


def _child_mapping(parent: Node, name: str, origin: Origin) -> Node:
    children = parent.mapping
    child = children.get(name)
    if child is None:
        child = children[name] = Node({}, origin)
    elif isinstance(child.value, str):  # --trainer.logger NAME --trainer.logger.init_args.x 1
        child = children[name] = Node({"class_path": child}, origin)
    elif not isinstance(child.value, dict):
        raise ConfigError(f"--{origin.flag}: set both as a whole and in parts")
    child.text = None
    return child


def checked(root: Node) -> Node:
    """A layer with aliases replaced and its sections in their full form.

    Raises:
        ConfigError: an unknown section, or one of the wrong shape.
    """
    sections: dict[str, Node] = {}
    for given, node in root.mapping.items():
        name = ALIASES.get(given, given)
        if name in sections:
            raise refuse(node, given, f"{given!r} is another name of {name!r}; give one of them")
        if name not in TOP_LEVEL:
            raise refuse(node, given, f"unknown key {given!r}.{_hint(given)}")
        sections[name] = class_form(node) if name in CLASS_SECTIONS else node
        check_shape(name, sections[name])
    return Node(sections, root.origin)


def _hint(given: str) -> str:
    close = did_you_mean(given, TOP_LEVEL)
    return close or f" A config has {', '.join(TOP_LEVEL[:-1])}"


def class_form(node: Node) -> Node:
    """A bare class name in its long form, `{class_path: NAME}`."""
    if isinstance(node.value, str):
        return Node({"class_path": Node(node.value, node.origin, node.text)}, node.origin)
    return node


def check_shape(name: str, node: Node) -> None:
    """Refuse a section that is not the mapping it must be.

    Raises:
        ConfigError: it is not, or it has other keys than it may.
    """
    if name in ("seed", "plugins", "sys_path") or node.value is None:
        return
    if not isinstance(node.value, dict):
        wanted = "a mapping of its arguments" if name == "trainer" else "a class: class_path and init_args"
        is_torn = isinstance(node.value, str) and " " in node.value
        hint = ". Is a colon missing after a name?" if is_torn else ""
        raise refuse(node, name, f"expected {wanted}, got {shown(node.value)}{hint}")
    if name != "trainer":
        extra = ("interval", "frequency", "monitor") if name == "lr_scheduler" else ()
        check_class_keys(node, name, extra)


def check_class_keys(node: Node, path: str, extra: tuple[str, ...] = ()) -> None:
    """Refuse keys other than `class_path` and `init_args` in the description of an object.

    Raises:
        ConfigError: there are some.
    """
    allowed = ("class_path", "init_args", *extra)
    for key, child in node.mapping.items():
        if key not in allowed:
            close = did_you_mean(key, allowed)
            raise refuse(
                child,
                join(path, key),
                f"unknown key {key!r}.{close or f' Arguments of the class go under {path}.init_args'}",
            )
    init_args = node.mapping.get("init_args")
    if init_args is not None and not isinstance(init_args.value, dict | None):
        raise refuse(init_args, join(path, "init_args"), f"expected a mapping, got {shown(init_args.value)}")
    class_path = node.mapping.get("class_path")
    if class_path is not None and not isinstance(class_path.value, str):
        raise refuse(class_path, join(path, "class_path"), f"expected a class name, got {shown(class_path.value)}")


@dataclass(slots=True)
class Merger:
    """Lays one layer over another.

    `same` says whether two class names mean one class; `accepts` what a class takes. What a change of
    class drops is noted in `notes`.
    """

    same: Callable[[str, str], bool]
    accepts: Accepts
    notes: list[str] = field(default_factory=list)

    def merge(self, base: Node | None, over: Node, path: str = "") -> Node:
        """`over` laid over `base`; neither is changed."""
        if base is None:
            return over
        if isinstance(over.value, dict):
            if isinstance(base.value, str) and over.mapping.keys() <= {"class_path", "init_args"}:
                base = class_form(base)
            if isinstance(base.value, list) and over.value and all(key.isdigit() for key in over.value):
                return self._merge_items(base, over, path)
            if isinstance(base.value, dict):
                base = self._without_dropped(base, over, path)
                return self._merge_keys(base, over, path)
        return over

    def _merge_keys(self, base: Node, over: Node, path: str) -> Node:
        merged = dict(base.mapping)
        for key, child in over.mapping.items():
            merged[key] = self.merge(merged.get(key), child, join(path, key))
        return Node(merged, base.origin)

    def _merge_items(self, base: Node, over: Node, path: str) -> Node:
        items = list(base.value) if isinstance(base.value, list) else []
        for key, child in over.mapping.items():
            if int(key) >= len(items):
                raise refuse(child, join(path, key), f"{path} has {len(items)} items; the first is 0")
            items[int(key)] = self.merge(items[int(key)], child, join(path, key))
        return Node(items, base.origin)

    def _without_dropped(self, base: Node, over: Node, path: str) -> Node:
        """`base` less the arguments that the class named in `over`, if it is another, does not take."""
        old, new = base.mapping.get("class_path"), over.mapping.get("class_path")
        arguments = base.mapping.get("init_args")
        if old is None or new is None or arguments is None or not isinstance(new.value, str):
            return base
        if self.same(str(old.value), new.value):
            return base
        known = self.accepts(new, join(path, "class_path"))
        dropped = [key for key in arguments.mapping if known is not None and key not in known]
        if not dropped:
            return base
        self.notes.append(f"{path} is now {new.value}, not {old.value}: dropped init_args {', '.join(dropped)}")
        kept = {key: child for key, child in arguments.mapping.items() if key not in dropped}
        return Node({**base.mapping, "init_args": Node(kept, arguments.origin)}, base.origin)
