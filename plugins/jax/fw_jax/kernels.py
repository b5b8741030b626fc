"""What the Array API standard lacks, so that a whole program can be compiled: by the contract's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Array = Any


def table(jax: Any) -> dict[str, Callable[..., Any]]:
    """Name to kernel, for a given `jax`, so that this module imports without it."""

    def erf(x: Array) -> Array:
        return jax.scipy.special.erf(x)

    def get_item(array: Array, key: Any) -> Array:
        return array[key]

    def set_item(array: Array, key: Any, values: Array) -> Array:
        return array.at[key].set(values)

    def scatter_add(array: Array, key: Any, values: Array) -> Array:
        return array.at[key].add(values)

    return {f.__name__: f for f in (erf, get_item, set_item, scatter_add)}
