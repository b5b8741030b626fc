"""State trees: what a `state_dict` may hold, taken apart into plain JSON values and named arrays.

A state tree is a dict with string keys, a list, str, int, float, bool, None, or an array (a Tensor or
a NumPy array), nested at will. Nothing else.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from framework.autodiff import Tensor
from framework.errors import CheckpointError

_ARRAY, _FLOAT, _DICT = "$array", "$float", "$dict"
_STORABLE = frozenset(
    ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32", "float64")
)
"""The dtypes that the file format has and NumPy too."""


def lift(
    tree: Any, *, owner: str, prefix: str, arrays: dict[str, np.ndarray], known: dict[int, dict[str, Any]] | None = None
) -> Any:
    """`tree` as JSON values; its arrays are put into `arrays`, under names made from their place.

    An array that is in several places is put there once, under the first one's name; `known` remembers it.

    Raises:
        CheckpointError: a value is no part of a state tree; its place and `owner` are named.
    """
    kind = type(tree)
    known = {} if known is None else known
    if tree is None or kind is str or kind is bool or kind is int:
        return tree
    if isinstance(tree, Tensor | np.ndarray | np.generic) and kind is not np.float64:
        if id(tree) not in known:
            array = tree.detach().numpy() if isinstance(tree, Tensor) else np.asarray(tree)
            known[id(tree)] = _put(array, owner, prefix, arrays)
        return known[id(tree)]
    if isinstance(tree, float):
        return float(tree) if math.isfinite(tree) else {_FLOAT: repr(float(tree))}
    if isinstance(tree, dict):
        return _lift_dict(tree, owner, prefix, arrays, known)
    if kind is list:
        items = enumerate(tree)
        return [lift(v, owner=owner, prefix=_join(prefix, i), arrays=arrays, known=known) for i, v in items]
    if isinstance(tree, str | int):  # of a subclass, such as an enumeration's member
        raise _refused(owner, prefix, tree, "store its plain value")
    raise _refused(owner, prefix, tree, "make it a list" if isinstance(tree, tuple | set) else "leave it out")


def lower(tree: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The tree that `lift` took apart; its arrays are NumPy arrays.

    Raises:
        CheckpointError: an array that the tree refers to is missing.
    """
    if isinstance(tree, list):
        return [lower(value, arrays) for value in tree]
    if not isinstance(tree, dict):
        return tree
    if _ARRAY in tree:
        return _get(tree, arrays)
    if _FLOAT in tree:
        return float(tree[_FLOAT])
    return {key: lower(value, arrays) for key, value in tree.get(_DICT, tree).items()}


def _lift_dict(
    tree: dict[Any, Any], owner: str, prefix: str, arrays: dict[str, np.ndarray], known: dict[int, dict[str, Any]]
) -> Any:
    lifted = {}
    for key, value in tree.items():
        if type(key) is not str:
            raise CheckpointError(
                f"{_place(owner, prefix)} has the key {key!r} of type {type(key).__name__}; "
                f"keys of a state_dict are strings: write {str(key)!r}"
            )
        lifted[key] = lift(value, owner=owner, prefix=_join(prefix, key), arrays=arrays, known=known)
    return {_DICT: lifted} if any(key.startswith("$") for key in lifted) else lifted


def _put(array: np.ndarray, owner: str, name: str, arrays: dict[str, np.ndarray]) -> dict[str, Any]:
    if array.dtype.hasobject or array.dtype.names:
        raise _refused(owner, name, array, "arrays in a state_dict hold numbers")
    while name in arrays:  # {"a.b": x, "a": {"b": y}}
        name += "+"
    note: dict[str, Any] = {_ARRAY: name}
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    contiguous = np.ascontiguousarray(array).reshape(array.shape)  # the first makes 0-d arrays 1-d
    if array.dtype.name not in _STORABLE:  # the file has no such dtype: keep the bytes
        note |= {"dtype": array.dtype.name, "shape": list(array.shape)}
        contiguous = np.frombuffer(contiguous.tobytes(), dtype=np.uint8)
    arrays[name] = contiguous
    return note


def _get(note: dict[str, Any], arrays: dict[str, np.ndarray]) -> np.ndarray:
    try:
        array = arrays[note[_ARRAY]]
    except KeyError:
        raise CheckpointError(f"the checkpoint refers to an array {note[_ARRAY]!r} that it does not hold") from None
    if "dtype" not in note:
        return array
    return np.frombuffer(bytearray(array.tobytes()), dtype=_dtype(note["dtype"])).reshape(note["shape"])


def _dtype(name: str) -> np.dtype[Any]:
    try:
        return np.dtype(name)
    except TypeError:
        import ml_dtypes

        return np.dtype(getattr(ml_dtypes, name))


def _join(prefix: str, key: str | int) -> str:
    return f"{prefix}.{key}" if prefix else str(key)


def _place(owner: str, name: str) -> str:
    return f"{owner}: {name!r}" if name and name != owner else owner


def _refused(owner: str, name: str, value: Any, advice: str) -> CheckpointError:
    shown = type(value).__qualname__
    return CheckpointError(
        f"{_place(owner, name)} is of type {shown}, which a checkpoint cannot hold: a state_dict is made of dicts with "
        f"string keys, lists, str, int, float, bool, None and arrays; {advice}"
    )
