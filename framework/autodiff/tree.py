"""Nested dicts, lists and tuples of arrays, flattened and put back together. None holds no array."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from framework.errors import ShapeError

LEAF = object()
"""Stands for a leaf in a structure."""


def flatten(tree: Any) -> tuple[list[Any], Any]:
    """The leaves in order, and the structure that `unflatten` needs."""
    leaves: list[Any] = []
    return leaves, _take_leaves(tree, leaves)


def _take_leaves(node: Any, leaves: list[Any]) -> Any:
    # a function of the module: one that refers to itself in its own scope would keep the leaves alive in a cycle
    if isinstance(node, dict):
        return {key: _take_leaves(value, leaves) for key, value in node.items()}
    if isinstance(node, tuple) and hasattr(node, "_fields"):  # a named tuple
        return type(node)(*[_take_leaves(value, leaves) for value in node])
    if isinstance(node, list | tuple):
        return type(node)([_take_leaves(value, leaves) for value in node])
    if node is None:
        return None
    leaves.append(node)
    return LEAF


def unflatten(structure: Any, leaves: list[Any]) -> Any:
    """The tree of this structure with these leaves."""
    return _put_leaves(structure, iter(leaves))


def _put_leaves(node: Any, leaves: Iterator[Any]) -> Any:
    if isinstance(node, dict):
        return {key: _put_leaves(value, leaves) for key, value in node.items()}
    if isinstance(node, tuple) and hasattr(node, "_fields"):
        return type(node)(*[_put_leaves(value, leaves) for value in node])
    if isinstance(node, list | tuple):
        return type(node)([_put_leaves(value, leaves) for value in node])
    return next(leaves) if node is LEAF else None


def map_leaves(fn: Callable[[Any], Any], tree: Any) -> Any:
    """The tree with `fn` applied to each leaf."""
    leaves, structure = flatten(tree)
    return unflatten(structure, [fn(leaf) for leaf in leaves])


def leaves_like(structure: Any, given: Any, name: str) -> list[Any]:
    """The leaves of `given` in the order of `structure`; dicts are matched by key, lists and tuples are alike.

    Raises:
        ShapeError: `given` is built otherwise; the message says where.
    """
    if structure is LEAF:
        if isinstance(given, dict | list | tuple) or given is None:
            raise ShapeError(f"{name} is to be one array, got {type(given).__name__}")
        return [given]
    if isinstance(structure, dict):
        if not isinstance(given, dict) or given.keys() != structure.keys():
            found: Any = sorted(map(str, given)) if isinstance(given, dict) else type(given).__name__
            raise ShapeError(f"{name} is to be a dict with keys {sorted(map(str, structure))}, got {found}")
        return [x for key, node in structure.items() for x in leaves_like(node, given[key], f"{name}[{key!r}]")]
    if isinstance(structure, list | tuple):
        if not isinstance(given, list | tuple) or len(given) != len(structure):
            found = len(given) if isinstance(given, list | tuple) else type(given).__name__
            raise ShapeError(f"{name} is to have {len(structure)} parts, got {found}")
        pairs = enumerate(zip(structure, given))
        return [x for i, (node, part) in pairs for x in leaves_like(node, part, f"{name}[{i}]")]
    if given is not None:
        raise ShapeError(f"{name} is to be None, got {type(given).__name__}")
    return []
