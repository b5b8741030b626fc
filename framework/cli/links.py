"""Links: `${data.init_args.width}` as a value stands for the value at that key path."""

from __future__ import annotations

import re

from framework.cli.nodes import Node, join, refuse, walk
from framework.errors import nearest

_LINK = re.compile(r"\$\{\s*([^{}\s]+)\s*\}")


def resolve(sections: dict[str, Node]) -> dict[str, Node]:
    """The sections with every link replaced by what it names, after all layers were merged.

    Raises:
        ConfigError: there is no such value, or links go in a circle.
    """
    if not any(_target(node) for name, section in sections.items() for _, node in walk(section, name)):
        return sections
    return {name: _resolved(node, name, sections, ()) for name, node in sections.items()}


def _target(node: Node) -> str | None:
    """The key path that a value links to, if it does."""
    found = _LINK.fullmatch(node.value) if isinstance(node.value, str) else None
    return found.group(1) if found else None


def _resolved(node: Node, path: str, sections: dict[str, Node], passed: tuple[str, ...]) -> Node:
    if isinstance(node.value, dict):
        children = {key: _resolved(child, join(path, key), sections, passed) for key, child in node.value.items()}
        return Node(children, node.origin, node.text)
    if isinstance(node.value, list):
        items = [_resolved(child, join(path, str(i)), sections, passed) for i, child in enumerate(node.value)]
        return Node(items, node.origin, node.text)
    target = _target(node)
    if target is None:
        return node
    if target in passed or f"{path}.".startswith(f"{target}."):
        raise refuse(node, path, f"the link to {target} goes in a circle")
    found = _at(sections, target, (*passed, target))
    if found is None:
        known = [p for name, section in sections.items() for p, _ in walk(section, name)]
        near = nearest(target, known)
        hint = f" Did you mean ${{{near}}}?" if near else " Only what the config sets can be linked to"
        raise refuse(node, path, f"the config sets no {target}.{hint}")
    value = _resolved(found, target, sections, (*passed, target))
    return Node(value.value, node.origin, value.text)


def _at(sections: dict[str, Node], path: str, passed: tuple[str, ...]) -> Node | None:
    """The value at a key path, which may lead through links; None where there is none."""
    first, *rest = path.split(".")
    node, at = sections.get(first), first
    for key in rest:
        if node is None:
            return None
        node = _resolved(node, at, sections, passed) if _target(node) else node
        if isinstance(node.value, list):
            node = node.value[int(key)] if key.isdigit() and int(key) < len(node.value) else None
        else:
            node = node.mapping.get(key)
        at = join(at, key)
    return node
