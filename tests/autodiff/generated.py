"""Generated cases: random calls of every differentiable function, the same for the same name and seed.

A row of the table is a function's name and a maker, which draws the arguments of one call: shapes (0-d and zero-size
among them), axes of either sign, settings, and values away from kinks, poles and branch cuts. The rows are in the
modules `rows_…`, which fill `ROWS` when they are imported; `generated_checks` proves the derivatives of a case.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Shape = tuple[int, ...]


class Draw:
    """Random numbers, shapes and settings for one case."""

    def __init__(self, name: str, seed: int, is_complex: bool = False) -> None:
        self.rng = np.random.default_rng([zlib.crc32(name.encode()), seed])
        self.complex = is_complex and self.chance(0.4)
        """Whether `array` draws complex numbers."""

    # -- choices

    def chance(self, probability: float = 0.5) -> bool:
        return bool(self.rng.random() < probability)

    def pick(self, options: Sequence[Any]) -> Any:
        return options[int(self.rng.integers(len(options)))]

    def integer(self, low: int, high: int) -> int:
        """From `low` to `high`, both included."""
        return int(self.rng.integers(low, high + 1))

    # -- shapes and axes

    def shape(self, low: int = 0, high: int = 3, least: int = 0) -> Shape:
        """From `low` to `high` axes, each of length `least` to 3."""
        chances = np.array([0.12, 0.3, 0.36, 0.22, 0.1])[low : high + 1]
        rank = low + int(self.rng.choice(len(chances), p=chances / chances.sum()))
        lengths = np.array([0.06, 0.17, 0.4, 0.37])
        lengths[:least] = 0
        return tuple(int(n) for n in self.rng.choice(4, size=rank, p=lengths / lengths.sum()))

    def broadcastable(self, count: int, high: int = 3) -> list[Shape]:
        """Shapes that broadcast together: leading axes missing, others of length one."""
        full = self.shape(0, high)
        shapes = [full]
        for _ in range(count - 1):
            kept = full[self.integer(0, len(full)) if self.chance(0.6) else 0 :]
            shapes.append(tuple(1 if self.chance(0.25) else n for n in kept))
        return [shapes[int(i)] for i in self.rng.permutation(count)]

    def axis(self, ndim: int) -> int:
        return self.integer(-ndim, ndim - 1)

    def axes(self, ndim: int) -> Any:
        """None, one axis or several, of either sign."""
        if ndim == 0 or self.chance(0.25):
            return None
        if self.chance(0.6):
            return self.axis(ndim)
        count = self.integer(1, ndim)
        return tuple(int(a) - (ndim if self.chance() else 0) for a in self.rng.permutation(ndim)[:count])

    def permutation(self, n: int) -> tuple[int, ...]:
        """The axes in another order, of either sign."""
        return tuple(int(a) - (n if self.chance(0.3) else 0) for a in self.rng.permutation(n))

    # -- values

    def real(self, shape: Shape, low: float = -2.0, high: float = 2.0) -> Array:
        return np.asarray(self.rng.uniform(low, high, shape))

    def array(self, shape: Shape, low: float = -2.0, high: float = 2.0) -> Array:
        """Real, or complex where the case is."""
        x = self.real(shape, low, high)
        return x + 1j * self.real(shape) if self.complex else x

    def either(self, shape: Shape) -> Array:
        """As `array`, but in a complex case real now and then, so that both kinds meet."""
        return self.real(shape) if self.chance(0.25) else self.array(shape)

    def polar(self, shape: Shape, low: float = 0.4, high: float = 2.0, angle: float = 2.6) -> Array:
        """Complex numbers by modulus and argument: away from 0 and from the cut along the negative axis."""
        return np.asarray(self.real(shape, low, high) * np.exp(1j * self.real(shape, -angle, angle)))

    def away(self, shape: Shape, low: float = -2.0, high: float = 2.0, step: float = math.inf) -> Array:
        """Real numbers away from 0 and the multiples of `step`, and nearer to 0 than `gap` nowhere."""
        gap = 0.1
        if step == math.inf:
            x = self.real(shape, low, high)
            return np.asarray(np.where(x < 0, x - gap, x + gap))
        cell = np.floor(self.real(shape, low, high) / step)
        return np.asarray((cell + self.real(shape, 0.15, 0.85)) * step)

    def distinct(self, shape: Shape, gap: float = 0.37) -> Array:
        """Real numbers no two of which are nearer than about `gap`, none of them near 0."""
        n = math.prod(shape)
        x = (self.rng.permutation(n) - n // 2 + 0.5) * gap
        return np.asarray(x.reshape(shape) + self.real(shape, -0.1, 0.1) * gap)

    def integers(self, shape: Shape, low: int, high: int) -> Array:
        """Integers from `low` to `high`, both included; repeated ones are likely."""
        return np.asarray(self.rng.integers(low, high + 1, shape))

    def bools(self, shape: Shape) -> Array:
        return np.asarray(self.rng.random(shape) < 0.5)

    # -- matrices, well conditioned

    def stack(self, high: int = 2) -> Shape:
        """The leading axes of a stack of matrices."""
        return self.shape(0, high) if self.chance(0.5) else ()

    def spectrum(self, rows: int, columns: int, lead: Shape = ()) -> Array:
        """Matrices with distinct singular values, from 0.6 upwards."""
        rank = min(rows, columns)
        q, r = (np.linalg.qr(self._normal((*lead, n, n)))[0] for n in (rows, columns))
        s = 0.6 + 0.5 * np.arange(rank) + self.real((*lead, rank), 0.0, 0.2)
        return np.asarray((q[..., :, :rank] * s[..., None, :]) @ r[..., :rank, :])

    def hermitian(self, n: int, lead: Shape = (), positive: bool = False) -> Array:
        """Hermitian matrices with distinct eigenvalues, of either sign unless `positive`."""
        q = np.linalg.qr(self._normal((*lead, n, n)))[0]
        w = 0.5 + 0.6 * np.arange(n) + self.real((*lead, n), 0.0, 0.2)
        w = w if positive else w - 0.6 * (n // 2) - 0.9
        return np.asarray((q * w[..., None, :]) @ np.conj(np.swapaxes(q, -1, -2)))

    def _normal(self, shape: Shape) -> Array:
        x = self.rng.standard_normal(shape)
        return np.asarray(x + 1j * self.rng.standard_normal(shape) if self.complex else x)


@dataclass(frozen=True)
class Call:
    """A function of a namespace and arrays, and the arrays; those of integers and bools are not differentiated."""

    fn: Callable[..., Any]
    arrays: tuple[Any, ...]
    label: str = ""


def resolve(xp: Any, name: str) -> Any:
    """The function of a dotted name: `linalg.inv`."""
    for part in name.split("."):
        xp = getattr(xp, part)
    return xp


def call(name: str, *arrays: Any, **settings: Any) -> Call:
    """The call of the function `name` with these arrays and settings."""
    return Call(lambda xp, *xs: resolve(xp, name)(*xs, **settings), arrays, f"{name} {settings or ''}")


Maker = Callable[[Draw], Call]


@dataclass(frozen=True)
class Row:
    """How one function is called, and what does not apply to it."""

    name: str
    make: Maker
    complex: bool = False
    """Its cases may be complex."""
    batchable: str = ""
    """Why it can't be batched, if so: vmap is not checked then."""
    no_jax: str = ""
    """Why JAX is no reference for it, if so."""
    narrow: str = ""
    """Why it makes 64-bit numbers of 32-bit ones, if it may."""


ROWS: dict[str, Row] = {}


def row(name: str, make: Maker, **options: Any) -> None:
    """Add a function to the table."""
    assert name not in ROWS, name
    ROWS[name] = Row(name, make, **options)


@dataclass(frozen=True)
class Case:
    """One call of a row, with all that its checks need; equal for equal names and seeds."""

    row: Row
    call: Call
    wanted: tuple[int, ...]
    """The inputs that derivatives are taken with respect to."""
    rng: np.random.Generator

    @property
    def inputs(self) -> list[Array]:
        """The arrays that derivatives are taken with respect to."""
        return [self.call.arrays[i] for i in self.wanted]

    def function(self, xp: Any, convert: Callable[[Array], Any]) -> Callable[..., Any]:
        """The call as a function of the wanted inputs, the others made constants by `convert`."""
        constants = [None if i in self.wanted else convert(x) for i, x in enumerate(self.call.arrays)]

        def fn(*xs: Any) -> Any:
            it = iter(xs)
            return self.call.fn(xp, *[next(it) if i in self.wanted else x for i, x in enumerate(constants)])

        return fn

    def direction(self, like: Array) -> Array:
        """Random numbers of the shape and the kind of `like`, of absolute value at most 1."""
        t = self.rng.uniform(-1.0, 1.0, like.shape)
        if like.dtype.kind == "c":
            t = (t + 1j * self.rng.uniform(-1.0, 1.0, like.shape)) / math.sqrt(2)
        return np.asarray(t)

    def __str__(self) -> str:
        shapes = ", ".join(f"{x.dtype.name}{x.shape}" for x in self.call.arrays)
        return f"{self.call.label or self.row.name} of {shapes}, derivatives of inputs {self.wanted}"


def case_of(row: Row, seed: int) -> Case:
    """The case of this row and seed."""
    draw = Draw(row.name, seed, row.complex)
    made = row.make(draw)
    arrays = tuple(np.asarray(x) for x in made.arrays)
    candidates = [i for i, x in enumerate(arrays) if x.dtype.kind in "fc"]
    assert candidates, f"{row.name} has no input to differentiate"
    wanted = [i for i in candidates if draw.chance(0.7)] if draw.chance(0.4) else candidates
    return Case(row, Call(made.fn, arrays, made.label), tuple(wanted or candidates[:1]), draw.rng)
