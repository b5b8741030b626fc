"""The floor: a step's matrix products alone, written to arrays that are there, in the best memory layout.

Each of the products could run on row-major or column-major operands and result. All are timed in all
layouts first; of the choices in which every matrix has one layout for all its products, the fastest is
taken. Nobody who multiplies with BLAS gets below this.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from benchmarks.baselines import mlp_numpy
from benchmarks.worker import Work

Product = tuple[str, str, str]
"""The names of left operand, right operand and result; `'` behind a name is its transpose."""


def products(layers: int) -> list[Product]:
    """Forward, gradients of activations, gradients of weights: 3 * layers - 1 products.

    Examples:
        >>> products(1)
        [('x0', "w1'", 'x1'), ("d1'", 'x0', 'g1')]
    """
    forward = [(f"x{k - 1}", f"w{k}'", f"x{k}") for k in range(1, layers + 1)]
    back = [(f"d{k}", f"w{k}", f"d{k - 1}") for k in range(layers, 1, -1)]
    weights = [(f"d{k}'", f"x{k - 1}", f"g{k}") for k in range(layers, 0, -1)]
    return [*forward, *back, *weights]


def shapes(batch: int, sizes: tuple[int, ...]) -> dict[str, tuple[int, int]]:
    """The shape of every matrix."""
    found = {f"x{k}": (batch, n) for k, n in enumerate(sizes)}
    found |= {f"d{k}": (batch, n) for k, n in enumerate(sizes)}
    for k, (n_in, n_out) in enumerate(pairwise(sizes), 1):
        found[f"w{k}"] = found[f"g{k}"] = (n_out, n_in)
    return found


def matrix(shape: tuple[int, int], column_major: bool) -> np.ndarray:
    """Random numbers in this layout."""
    values = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    return np.asarray(values, order="F" if column_major else "C")


def call(left: np.ndarray, right: np.ndarray, out: np.ndarray) -> Callable[[], object]:
    """`left @ right` into `out`; a column-major result is the row-major one of the transposed product."""
    if out.flags.c_contiguous:
        return lambda: np.matmul(left, right, out)
    return lambda: np.matmul(right.T, left.T, out.T)


def operand(arrays: dict[str, np.ndarray], name: str) -> np.ndarray:
    """The matrix, or its transpose."""
    return arrays[name[:-1]].T if name.endswith("'") else arrays[name]


def measured(fn: Callable[[], object], repeats: int = 15) -> float:
    """The median of a few calls, in seconds."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        fn()
        times.append(time.perf_counter() - start)
    return sorted(times)[repeats // 2]


def best_layout(batch: int, sizes: tuple[int, ...]) -> dict[str, bool]:
    """Matrix to whether it is column-major, so that the sum over the products is least."""
    shape, every = shapes(batch, sizes), products(len(sizes) - 1)
    cost: dict[tuple[Product, tuple[bool, ...]], float] = {}
    for product in every:
        for layout in itertools.product((False, True), repeat=3):
            plain = [name.rstrip("'") for name in product]
            arrays = {name: matrix(shape[name], major) for name, major in zip(plain, layout)}
            left, right = (operand(arrays, name) for name in product[:2])
            cost[product, layout] = measured(call(left, right, arrays[plain[2]]))
    chosen: dict[str, bool] = dict.fromkeys(shape, False)

    def total() -> float:
        return sum(cost[p, tuple(chosen[name.rstrip("'")] for name in p)] for p in every)

    starts = itertools.product(
        (False, True), repeat=3
    )  # all activations, all weights, all gradients alike: then descend
    found: list[tuple[float, dict[str, bool]]] = []
    for activations, weights, gradients in starts:
        chosen = {n: {"x": activations, "d": activations, "w": weights, "g": gradients}[n[0]] for n in shape}
        least = total()
        improved = True
        while improved:
            improved = False
            for name in shape:
                chosen[name] ^= True
                if total() < least:
                    least, improved = total(), True
                else:
                    chosen[name] ^= True
        found.append((least, dict(chosen)))
    return min(found, key=lambda pair: pair[0])[1]


def gradient(threads: int, batch: int, sizes: tuple[int, ...] = mlp_numpy.SIZES) -> Work:
    """The matrix products of a gradient."""
    sizes = tuple(sizes)
    layout, shape = best_layout(batch, sizes), shapes(batch, sizes)
    arrays = {name: matrix(shape[name], layout[name]) for name in shape}
    calls = [
        call(operand(arrays, left), operand(arrays, right), arrays[out])
        for left, right, out in products(len(sizes) - 1)
    ]

    def once() -> None:
        for multiply in calls:
            multiply()

    return Work(once)


def step(threads: int, batch: int, data: str | None, samples: int) -> Work:
    """The same: nothing else of a step is a matrix product."""
    return gradient(threads, batch)
