"""The 784-300-100-10 MLP written by hand in NumPy: what the framework is measured against.

Plain float32 expressions, no `out=`; weights (out, in), their gradients `d.T @ x`. Nothing here is
tuned beyond what a careful person writes at once, and nothing is left out: gather, forward,
softmax cross-entropy, backward, momentum update.
"""

from __future__ import annotations

from itertools import pairwise

import numpy as np

SIZES = (784, 300, 100, 10)


def init(seed: int = 0, sizes: tuple[int, ...] = SIZES) -> list[np.ndarray]:
    """Weights and biases in turn, float32, uniform as torch.nn.Linear's."""
    rng = np.random.default_rng(seed)
    params = []
    for n_in, n_out in pairwise(sizes):
        bound = 1.0 / np.sqrt(n_in)
        params.append(rng.uniform(-bound, bound, (n_out, n_in)).astype(np.float32))
        params.append(rng.uniform(-bound, bound, n_out).astype(np.float32))
    return params


def gradient(params: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> tuple[np.float32, list[np.ndarray]]:
    """Mean cross-entropy of a batch and its gradient: x (n, 784) float32, y (n,) class numbers."""
    w1, b1, w2, b2, w3, b3 = params
    n = len(x)
    h1 = np.maximum(x @ w1.T + b1, 0)
    h2 = np.maximum(h1 @ w2.T + b2, 0)
    z = h2 @ w3.T + b3
    z = z - z.max(axis=1, keepdims=True)
    e = np.exp(z)
    p = e / e.sum(axis=1, keepdims=True)
    rows = np.arange(n)
    loss = -np.log(p[rows, y]).mean()
    p[rows, y] -= 1
    d3 = p / np.float32(n)
    d2 = (d3 @ w3) * (h2 > 0)
    d1 = (d2 @ w2) * (h1 > 0)
    return loss, [d1.T @ x, d1.sum(axis=0), d2.T @ h1, d2.sum(axis=0), d3.T @ h2, d3.sum(axis=0)]


def deep_gradient(params: list[np.ndarray], x: np.ndarray, y: np.ndarray) -> tuple[np.float32, list[np.ndarray]]:
    """The same for any number of layers."""
    n, depth = len(x), len(params) // 2
    h = [x]
    for k in range(depth - 1):
        h.append(np.maximum(h[-1] @ params[2 * k].T + params[2 * k + 1], 0))
    z = h[-1] @ params[-2].T + params[-1]
    z = z - z.max(axis=1, keepdims=True)
    e = np.exp(z)
    p = e / e.sum(axis=1, keepdims=True)
    rows = np.arange(n)
    loss = -np.log(p[rows, y]).mean()
    p[rows, y] -= 1
    d = p / np.float32(n)
    grads: list[np.ndarray] = []
    for k in range(depth - 1, -1, -1):
        grads[:0] = [d.T @ h[k], d.sum(axis=0)]
        if k:
            d = (d @ params[2 * k]) * (h[k] > 0)
    return loss, grads


def step(
    params: list[np.ndarray],
    velocity: list[np.ndarray],
    images: np.ndarray,
    labels: np.ndarray,
    index: np.ndarray,
    lr: float,
    momentum: float = 0.9,
) -> np.float32:
    """One training step in place: gather a batch, its gradient, momentum update."""
    loss, grads = gradient(params, images[index], labels[index])
    for p, v, g in zip(params, velocity, grads):
        v *= momentum
        v += g
        p -= lr * v
    return loss
