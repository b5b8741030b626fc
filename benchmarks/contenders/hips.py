"""HIPS autograd: NumPy code, differentiated as it runs."""

from __future__ import annotations

from typing import Any

import autograd.numpy as anp
import numpy as np
from autograd import value_and_grad

from benchmarks.baselines import arrays, mlp_numpy
from benchmarks.contenders.by_hand import norms
from benchmarks.worker import Work


def gradient(threads: int, batch: int, sizes: tuple[int, ...] = mlp_numpy.SIZES) -> Work:
    """The loss of a batch and its gradient."""
    params = mlp_numpy.init(sizes=tuple(sizes))
    x, y = arrays.random_batch(batch, sizes[0], sizes[-1])
    rows = np.arange(batch)

    def loss_of(*params: Any) -> Any:
        h = x
        for w, b in zip(params[:-2:2], params[1:-2:2]):
            h = anp.maximum(anp.dot(h, w.T) + b, 0)
        z = anp.dot(h, params[-2].T) + params[-1]
        z = z - anp.max(z, axis=1, keepdims=True)
        return -anp.mean((z - anp.log(anp.sum(anp.exp(z), axis=1, keepdims=True)))[rows, y])

    compute = value_and_grad(loss_of, argnum=tuple(range(len(params))))  # arguments are cheaper than a list of them
    return Work(lambda: compute(*params), lambda: norms(*compute(*params)))
