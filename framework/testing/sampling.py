"""What samples are made of: draws of pseudo-random arrays, and `Sample`, one way to call a primitive."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from framework.backend.host import HostGenerator

Arrays = tuple[Any, ...]


class Draw:
    """NumPy arrays of fixed pseudo-random values, each kind away from what it must avoid."""

    def __init__(self, *stream: int | str) -> None:
        self.rng = HostGenerator(0, "samples", *stream)

    def uniform(self, shape: tuple[int, ...], low: float, high: float) -> np.ndarray:
        """float64 in [low, high)."""
        return low + self.rng.uniform(shape) * (high - low)

    def signed(self, *shape: int) -> np.ndarray:
        """Of either sign, with a magnitude in [0.3, 1.7)."""
        sign = np.where(self.rng.uniform(shape) < 0.5, -1.0, 1.0)
        return sign * self.uniform(shape, 0.3, 1.7)

    def positive(self, *shape: int) -> np.ndarray:
        """In [0.4, 2)."""
        return self.uniform(shape, 0.4, 2.0)

    def inside(self, *shape: int) -> np.ndarray:
        """In (−0.9, 0.9), 0.1 away from 0."""
        return np.where(self.rng.uniform(shape) < 0.5, -1.0, 1.0) * self.uniform(shape, 0.1, 0.9)

    def complex(self, *shape: int) -> np.ndarray:
        """complex128 with both parts away from 0."""
        return np.asarray(self.signed(*shape) + 1j * self.inside(*shape))

    def distinct(self, *shapes: tuple[int, ...]) -> Any:
        """Arrays in which no two values, within one or across them, come close."""
        sizes = [math.prod(shape) for shape in shapes]
        values = np.linspace(-2.0, 2.0, sum(sizes) + 2)[1:-1][self.rng.permutation(sum(sizes))]
        parts = np.split(values, np.cumsum(sizes)[:-1])
        arrays = tuple(part.reshape(shape) for part, shape in zip(parts, shapes))
        return arrays[0] if len(arrays) == 1 else arrays

    def integers(self, low: int, high: int, *shape: int) -> np.ndarray:
        """int64 in [low, high)."""
        return self.rng.integers(low, high, shape)

    def bools(self, *shape: int) -> np.ndarray:
        """True or False."""
        return self.rng.uniform(shape) < 0.5

    def unitary(self, *shape: int, kind: str = "float") -> np.ndarray:
        """Square matrices with orthonormal columns."""
        numbers = self.complex(*shape) if kind == "complex" else self.signed(*shape)
        return np.asarray(np.linalg.qr(numbers + 2.0 * np.eye(shape[-1]))[0])

    def matrix(self, *shape: int, kind: str = "float") -> np.ndarray:
        """Matrices whose singular values are far apart, and far from 0."""
        (m, n), lead, k = shape[-2:], shape[:-2], min(shape[-2:])
        left = self.unitary(*lead, m, m, kind=kind)[..., :k]
        right = self.unitary(*lead, n, n, kind=kind)[..., :k, :]
        return np.asarray(left * np.linspace(2.0, 0.7, k) @ right)

    def spectral(self, low: float, high: float, *shape: int, kind: str = "float") -> np.ndarray:
        """Matrices whose Hermitian part has eigenvalues far apart, from `low` to `high`; the rest is not zero."""
        vectors = self.unitary(*shape, kind=kind)
        rest = self.complex(*shape) if kind == "complex" else self.signed(*shape)
        hermitian = vectors * np.linspace(low, high, shape[-1]) @ np.conj(vectors.mT)
        return np.asarray(hermitian + 0.3 * (rest - np.conj(rest.mT)))


@dataclass(frozen=True)
class Sample:
    """One way to call a primitive.

    `kind` says which inputs follow the dtype under test: the float64 ones for "float", the complex128 ones
    (and the float64 ones as their parts) for "complex", the int64 ones for "int", none for "bool"; the name
    of a dtype is "float" in this one alone. `gives` is the kind of the outputs where it is another.

    With `rules`, the derivative rules are checked here too, with `batch` the batching rule, over every choice
    of batched inputs; with `half`, half precision. `tangent` draws the directions to move the inputs along,
    where not every array is one.
    """

    draw: Callable[[Draw], Arrays]
    params: dict[str, Any] = field(default_factory=dict)
    kind: str = "float"
    gives: str = ""
    rules: bool = True
    batch: bool = True
    half: bool = True
    reference: Callable[..., Any] | None = None
    tangent: Callable[[Draw], Arrays] | None = None


Table = dict[str, tuple[Sample, ...]]


def drawn(how: str, *shapes: tuple[int, ...]) -> Callable[[Draw], Arrays]:
    """One array of each shape, all drawn in one way."""
    return lambda d: tuple(getattr(d, how)(*shape) for shape in shapes)


def between(low: int, high: int, *shapes: tuple[int, ...]) -> Callable[[Draw], Arrays]:
    """One int64 array of each shape with values in [low, high)."""
    return lambda d: tuple(d.integers(low, high, *shape) for shape in shapes)


def with_params(draw: Callable[[Draw], Arrays], params: Iterable[dict[str, Any]], **kw: Any) -> tuple[Sample, ...]:
    """One sample for each choice of parameters."""
    return tuple(Sample(draw, p, **kw) for p in params)


def also_complex(table: Table, *names: str) -> Table:
    """The table with one more sample of these primitives: the first one, of complex numbers."""

    def turned(sample: Sample) -> Sample:
        def draw(d: Draw) -> Arrays:
            return tuple(x + 1j * d.inside(*x.shape) if _is_float(x) else x for x in sample.draw(d))

        return replace(sample, draw=draw, kind="complex")

    return {**table, **{name: (*table[name], turned(table[name][0])) for name in names}}


def _is_float(x: Any) -> bool:
    return isinstance(x, np.ndarray | np.generic) and x.dtype.kind == "f"
