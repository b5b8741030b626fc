"""JAX: `jit` of `value_and_grad`."""

from __future__ import annotations

import os

from benchmarks.baselines import arrays, mlp_numpy
from benchmarks.contenders.by_hand import norms
from benchmarks.worker import Work


def limit(threads: int) -> None:
    """JAX has as many threads as the process has CPUs, and no other setting."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    os.environ.setdefault("JAX_PLATFORMS", "cpu")


def gradient(threads: int, batch: int, sizes: tuple[int, ...] = mlp_numpy.SIZES) -> Work:
    """The loss of a batch and its gradient."""
    limit(threads)
    import jax
    import jax.numpy as jnp

    def loss_of(params: list[jax.Array], x: jax.Array, y: jax.Array) -> jax.Array:
        h = x
        for w, b in zip(params[:-2:2], params[1:-2:2]):
            h = jax.nn.relu(h @ w.T + b)
        log_p = jax.nn.log_softmax(h @ params[-2].T + params[-1])
        return -jnp.mean(jnp.take_along_axis(log_p, y[:, None], axis=1))

    params = [jnp.asarray(p) for p in mlp_numpy.init(sizes=tuple(sizes))]
    x, y = map(jnp.asarray, arrays.random_batch(batch, sizes[0], sizes[-1]))
    compiled = jax.jit(jax.value_and_grad(loss_of))

    def once() -> tuple[jax.Array, list[jax.Array]]:
        return jax.block_until_ready(compiled(params, x, y))  # type: ignore[no-any-return]

    return Work(once, lambda: norms(*once()))
