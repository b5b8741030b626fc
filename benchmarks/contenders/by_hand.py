"""NumPy by hand: `baselines/mlp_numpy.py`."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from benchmarks.baselines import arrays, mlp_numpy
from benchmarks.worker import Work


def norms(loss: float, gradients: Iterable[np.ndarray]) -> list[float]:
    """What all contenders of a gradient have to agree on."""
    return [float(loss), *(float(np.sqrt(np.sum(np.square(g, dtype=np.float64)))) for g in gradients)]


def gradient(threads: int, batch: int, sizes: tuple[int, ...] = mlp_numpy.SIZES) -> Work:
    """The loss of a batch and its gradient."""
    params = mlp_numpy.init(sizes=tuple(sizes))
    x, y = arrays.random_batch(batch, sizes[0], sizes[-1])
    compute = mlp_numpy.gradient if len(sizes) == 4 else mlp_numpy.deep_gradient
    return Work(lambda: compute(params, x, y), lambda: norms(*compute(params, x, y)))


def step(threads: int, batch: int, data: str | None, samples: int) -> Work:
    """A training step: gather from float32 images, gradient, momentum update."""
    x, y = arrays.images(samples, data)
    x = arrays.normalized(x)
    params = mlp_numpy.init()
    velocity = [np.zeros_like(p) for p in params]
    order = arrays.Order(samples, batch)

    def once() -> float:
        return float(mlp_numpy.step(params, velocity, x, y, order.next(), 0.01))

    return Work(once, lambda: [once() for _ in range(8)])
