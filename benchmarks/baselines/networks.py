"""Shapes and weights of the two larger networks, a CNN and a character-level transformer: NumPy alone."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

CHARACTERS, LAYERS, WIDTH, HEADS, CONTEXT = 96, 4, 128, 4, 128


def init(shapes: Iterable[tuple[int, ...]]) -> list[np.ndarray]:
    """Weights for parameters of these shapes, the same in every process: vectors are near 0, or near 1 by their place.

    Of two vectors that follow one another, as the weight and bias of a layer norm do, the first is near 1.
    """
    rng = np.random.default_rng(4)
    values: list[np.ndarray] = []
    for shape in shapes:
        fan = int(np.prod(shape[1:])) or 1
        value = rng.standard_normal(shape) * (fan**-0.5 if len(shape) > 1 else 0.02)
        values.append(value.astype(np.float32))
    for k, value in enumerate(values[:-1]):
        if value.ndim == 1 and values[k + 1].shape == value.shape and (k == 0 or values[k - 1].shape != value.shape):
            value += 1.0
    return values


def image_batch(n: int) -> tuple[np.ndarray, np.ndarray]:
    """x (n, 1, 28, 28) float32, y (n,) class numbers."""
    rng = np.random.default_rng(5)
    return rng.standard_normal((n, 1, 28, 28)).astype(np.float32), rng.integers(0, 10, n)


def text_batch(n: int) -> tuple[np.ndarray, np.ndarray]:
    """Characters (n, context), and those that follow each."""
    text = np.random.default_rng(6).integers(0, CHARACTERS, (n, CONTEXT + 1))
    return np.ascontiguousarray(text[:, :-1]), np.ascontiguousarray(text[:, 1:])
