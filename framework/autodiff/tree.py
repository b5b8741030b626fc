"""Nested dicts, lists and tuples of arrays, flattened and put back together."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def flatten(tree: Any) -> tuple[list[Any], Any]:
    """The leaves in order, and the structure that `unflatten` needs."""
    leaves: list[Any] = []

    def walk(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: walk(value) for key, value in node.items()}
        if isinstance(node, tuple) and hasattr(node, "_fields"):  # a named tuple
            return type(node)(*[walk(value) for value in node])
        if isinstance(node, list | tuple):
            return type(node)(walk(value) for value in node)
        leaves.append(node)
        return None

    return leaves, walk(tree)


def unflatten(structure: Any, leaves: list[Any]) -> Any:
    """The tree of this structure with these leaves."""
    it = iter(leaves)

    def walk(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: walk(value) for key, value in node.items()}
        if isinstance(node, tuple) and hasattr(node, "_fields"):
            return type(node)(*[walk(value) for value in node])
        if isinstance(node, list | tuple):
            return type(node)(walk(value) for value in node)
        return next(it)

    return walk(structure)


def map_leaves(fn: Callable[[Any], Any], tree: Any) -> Any:
    """The tree with `fn` applied to each leaf."""
    leaves, structure = flatten(tree)
    return unflatten(structure, [fn(leaf) for leaf in leaves])
