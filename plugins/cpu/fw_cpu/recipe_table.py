"""All recipes: how a plan finds the one for a call."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from fw_cpu.layer_recipes import LAYERS, embedding
from fw_cpu.recipes import SIMPLE, Recipe, concatenate, index_add, reshape, sigmoid, ufunc

_FUNCTIONS: dict[Any, Recipe] = SIMPLE | LAYERS

_FORWARDS: dict[str, Recipe] = {
    "concat_arrays": concatenate, "embedding": embedding, "index_add_parts": index_add, "reshape": reshape,
    "sigmoid": sigmoid,
}  # fmt: skip
"""By the name of a primitive whose forward is the framework's own, given the namespace."""


def recipe_of(fn: Any, name: str) -> Recipe | None:
    """The recipe for a function that a program knows by this name; None for one that is called as it is."""
    if type(fn) is np.ufunc:
        return ufunc
    if type(fn) is partial:
        return _FORWARDS.get(name)
    try:
        return _FUNCTIONS.get(fn)
    except TypeError:  # not hashable
        return None
