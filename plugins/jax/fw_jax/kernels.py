"""What the Array API standard lacks, so that a whole program can be compiled, and updates in one call each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from framework.backend import KERNELS

Array = Any

CONSTANT: dict[str, tuple[str, ...]] = {
    "sgd_update": ("momentum", "dampening", "weight_decay", "nesterov"),
    "adam_update": ("betas", "eps", "weight_decay", "decoupled"),
    "rprop_update": ("etas", "step_sizes"),
}
"""Updates of optimizers, which XLA makes one loop of, and those of their arguments that are compiled in."""


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

    kernels: dict[str, Callable[..., Any]] = {f.__name__: f for f in (erf, get_item, set_item, scatter_add)}
    for name, constant in CONSTANT.items():
        kernels[name] = jax.jit(partial(KERNELS[name], jax.numpy), static_argnames=constant)
    return kernels
