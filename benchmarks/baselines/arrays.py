"""The arrays that all contenders work on: random batches, and MNIST from its files; NumPy alone."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np

MEAN, STD = 0.1307, 0.3081


def random_batch(n: int, width: int = 784, classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """x (n, width) float32, standard normal; y (n,) int64 class numbers; the same in every process."""
    rng = np.random.default_rng(1)
    return rng.standard_normal((n, width)).astype(np.float32), rng.integers(0, classes, n)


def read_idx(folder: Path, name: str) -> np.ndarray:
    """A file of the MNIST database, gzipped or not: uint8."""
    for file in (folder / name, folder / f"{name}.gz"):
        if file.exists():
            content = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
            shape = np.frombuffer(content, ">i4", content[3], 4)
            return np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(shape)
    raise FileNotFoundError(f"no {name} in {folder}")


def mnist(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images uint8 (n, 28, 28) and labels int64 (n,); `part` is "train" or "t10k"."""
    return read_idx(folder, f"{part}-images-idx3-ubyte"), read_idx(folder, f"{part}-labels-idx1-ubyte").astype(np.int64)


def images(n: int, folder: str | None = None) -> tuple[np.ndarray, np.ndarray]:
    """The first `n` training images of MNIST where `folder` holds it, else as many random ones."""
    if folder is not None:
        x, y = mnist(Path(folder), "train")
        if n <= len(x):
            return x[:n], y[:n]
    rng = np.random.default_rng(2)
    return rng.integers(0, 256, (n, 28, 28), dtype=np.uint8), rng.integers(0, 10, n)


def normalized(x: np.ndarray) -> np.ndarray:
    """Images uint8 (n, 28, 28) as float32 (n, 784)."""
    values = x.reshape(len(x), -1).astype(np.float32)
    values *= 1 / 255
    values -= MEAN
    values /= STD
    return values


class Order:
    """The samples of one batch after another, in a new random order for each pass; the same in every process."""

    def __init__(self, n: int, batch: int) -> None:
        self._rng = np.random.default_rng(3)
        self._n, self._batch = n, batch
        self._left: list[np.ndarray] = []

    def next(self) -> np.ndarray:
        """The next batch's numbers."""
        if not self._left:
            order, size = self._rng.permutation(self._n), self._batch
            self._left = [order[i : i + size] for i in range(0, self._n - size + 1, size)][::-1]
        return self._left.pop()
