"""What the Array API standard lacks, so that a whole program can be compiled, and updates in one call each."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from framework.backend import KERNELS

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

    own = {f.__name__: f for f in (erf, get_item, set_item, scatter_add)}
    return {**own, **updates(jax)}


def updates(jax: Any) -> dict[str, Callable[..., Any]]:
    """Updates of optimizers, of which XLA makes one loop each. What a schedule changes is not compiled in."""

    def sgd_update(
        p: Array,
        g: Array,
        velocity: Array | None,
        lr: float,
        momentum: float,
        dampening: float,
        weight_decay: float,
        nesterov: bool,
    ) -> tuple[Array, Array | None]:
        if not momentum:
            return plain(p, g, lr, weight_decay), velocity
        return with_momentum(p, g, velocity, lr, momentum, dampening, weight_decay, nesterov=nesterov)

    @jax.jit
    def plain(p: Array, g: Array, lr: Any, weight_decay: Any) -> Array:
        return p - lr * (g + weight_decay * p)

    @partial(jax.jit, static_argnames=("nesterov",))
    def with_momentum(
        p: Array, g: Array, velocity: Any, lr: Any, momentum: Any, dampening: Any, weight_decay: Any, nesterov: bool
    ) -> tuple[Array, Array]:
        g = g + weight_decay * p
        velocity = g if velocity is None else momentum * velocity + (1.0 - dampening) * g
        return p - lr * (g + momentum * velocity if nesterov else velocity), velocity

    constant = {"adam_update": ("weight_decay", "decoupled"), "rprop_update": ()}
    compiled = {
        name: jax.jit(partial(KERNELS[name], jax.numpy), static_argnames=fixed) for name, fixed in constant.items()
    }
    return {"sgd_update": sgd_update, **compiled}
