"""Random programs of array functions, the same for every library that speaks the standard.

`generate(seed)` gives inputs and a function `run(xp, *inputs)`; its steps are the standard's functions,
with values away from poles, on random shapes: 0-d and zero-size, broadcast, transposed, indexed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

Step = Callable[..., Any]


@dataclass
class Program:
    """Inputs, and steps that each append a value computed from earlier ones."""

    inputs: list[Any]
    steps: list[tuple[str, Step, tuple[int, ...]]] = field(default_factory=list)

    def __call__(self, xp: Any, *inputs: Any) -> Any:
        values = list(inputs)
        for _, step, operands in self.steps:
            values.append(step(xp, *[values[i] for i in operands]))
        return values[-1]

    def __str__(self) -> str:
        lines = [f"v{i}: {x.shape}" for i, x in enumerate(self.inputs)]
        for name, _, operands in self.steps:
            lines.append(f"v{len(lines)} = {name}({', '.join(f'v{i}' for i in operands)})")
        return "\n".join(lines)


def softmax(xp: Any, x: Any, axis: int) -> Any:
    if hasattr(xp, "softmax"):
        return xp.softmax(x, axis=axis)
    e = xp.exp(x - xp.max(x, axis=axis, keepdims=True))
    return e / xp.sum(e, axis=axis, keepdims=True)


def logsumexp(xp: Any, x: Any, axis: Any) -> Any:
    return xp.logsumexp(x, axis=axis) if hasattr(xp, "softmax") else xp.log(xp.sum(xp.exp(x), axis=axis))


def relu(xp: Any, x: Any) -> Any:
    return xp.relu(x) if hasattr(xp, "softmax") else xp.where(x > 0, x, xp.zeros_like(x))


UNARY: dict[str, Step] = {
    "sin": lambda xp, x: xp.sin(x),
    "cos": lambda xp, x: xp.cos(x),
    "tanh": lambda xp, x: xp.tanh(x),
    "atan": lambda xp, x: xp.atan(x),
    "asinh": lambda xp, x: xp.asinh(x),
    "square": lambda xp, x: xp.square(x),
    "cube": lambda xp, x: x**3,
    "negative": lambda xp, x: -x,
    "abs": lambda xp, x: xp.abs(x),
    "relu": relu,
    "exp": lambda xp, x: xp.exp(xp.tanh(x)),
    "expm1": lambda xp, x: xp.expm1(xp.sin(x)),
    "log": lambda xp, x: xp.log(x * x + 0.5),
    "log1p": lambda xp, x: xp.log1p(x * x),
    "log2": lambda xp, x: xp.log2(x * x + 1.5),
    "sqrt": lambda xp, x: xp.sqrt(x * x + 0.3),
    "reciprocal": lambda xp, x: 1 / (x * x + 1),
    "power": lambda xp, x: (x * x + 0.5) ** -1.5,
    "exponential": lambda xp, x: 2.0 ** xp.sin(x),
    "acosh": lambda xp, x: xp.acosh(x * x + 1.5),
    "atanh": lambda xp, x: xp.atanh(0.9 * xp.sin(x)),
    "asin": lambda xp, x: xp.asin(0.8 * xp.cos(x)),
    "sinh": lambda xp, x: xp.sinh(xp.tanh(x)),
    "where": lambda xp, x: xp.where(x > 0.1, x * x, xp.sin(x)),
    "clip": lambda xp, x: xp.clip(x, -0.731, 0.817),
}

BINARY: dict[str, Step] = {
    "add": lambda xp, x, y: x + y,
    "subtract": lambda xp, x, y: x - y,
    "multiply": lambda xp, x, y: x * y,
    "divide": lambda xp, x, y: x / (y * y + 0.5),
    "pow": lambda xp, x, y: (x * x + 0.5) ** xp.sin(y),
    "maximum": lambda xp, x, y: xp.maximum(x, y),
    "minimum": lambda xp, x, y: xp.minimum(x, y),
    "logaddexp": lambda xp, x, y: xp.logaddexp(x, y),
    "hypot": lambda xp, x, y: xp.hypot(x, y * y + 0.2),
    "atan2": lambda xp, x, y: xp.atan2(x, y * y + 0.5),
    "where": lambda xp, x, y: xp.where(x > y, x * 2, y),
}


class Maker:
    """Draws one step after the other."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)

    def pick(self, options: Any) -> Any:
        options = list(options)
        return options[int(self.rng.integers(len(options)))]

    def axis(self, x: Any) -> int:
        return int(self.rng.integers(-x.ndim, x.ndim))

    def shape(self) -> tuple[int, ...]:
        rank = int(self.rng.choice(4, p=[0.15, 0.3, 0.35, 0.2]))
        return tuple(int(n) for n in self.rng.choice(4, size=rank, p=[0.04, 0.2, 0.4, 0.36]))

    def like(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """A shape that broadcasts with `shape`."""
        kept = shape[int(self.rng.integers(len(shape) + 1)) :]
        return tuple(1 if self.rng.random() < 0.3 else n for n in kept)

    def array(self, shape: tuple[int, ...]) -> Any:
        return self.rng.uniform(-1.5, 1.5, shape)

    # each gives a name and a step for one value, or None where it does not fit

    def unary(self, x: Any) -> Any:
        name = self.pick(UNARY)
        return name, UNARY[name]

    def reduction(self, x: Any) -> Any:
        name = self.pick(("sum", "mean", "prod", "max", "min", "var", "std"))
        axes: Any = None if x.ndim == 0 or self.rng.random() < 0.3 else self.axis(x)
        if x.ndim > 1 and self.rng.random() < 0.2 and name != "prod":  # prod of several axes: some have it not
            axes = tuple(int(a) for a in self.rng.permutation(x.ndim)[:2])
        count = (
            x.size if axes is None else math.prod(x.shape[a] for a in (axes if isinstance(axes, tuple) else (axes,)))
        )
        if (count == 0 and name not in ("sum", "prod")) or (count < 2 and name == "std"):
            return None
        keepdims = bool(self.rng.random() < 0.4)
        return f"{name} axis={axes} keepdims={keepdims}", lambda xp, x: getattr(xp, name)(
            x, axis=axes, keepdims=keepdims
        )

    def normalized(self, x: Any) -> Any:
        if not x.ndim or 0 in x.shape:
            return None
        axis = self.axis(x)
        if self.rng.random() < 0.5:
            return f"softmax axis={axis}", lambda xp, x: softmax(xp, x, axis)
        return f"logsumexp axis={axis}", lambda xp, x: logsumexp(xp, x, axis)

    def shaped(self, x: Any) -> Any:
        kind = self.pick(("flat", "permute", "expand", "squeeze", "flip", "broadcast", "cumulative", "tril", "rows"))
        order = tuple(int(a) for a in self.rng.permutation(x.ndim))
        if kind == "flat":
            return "flat", lambda xp, x: xp.reshape(x, (-1,)) if x.size else xp.reshape(x, (0,))
        if kind == "permute":
            return f"permute {order}", lambda xp, x: xp.permute_dims(x, order)
        if kind == "expand" and x.ndim < 4:
            at = int(self.rng.integers(-x.ndim - 1, x.ndim + 1))
            return f"expand {at}", lambda xp, x: xp.expand_dims(x, axis=at)
        if kind == "broadcast" and x.ndim < 4 and x.size < 60:
            target = (2, *x.shape)
            return f"broadcast {target}", lambda xp, x: xp.broadcast_to(x, target)
        if not x.ndim:
            return None
        axis = self.axis(x)
        if kind == "squeeze" and x.shape[axis] == 1:
            return f"squeeze {axis}", lambda xp, x: xp.squeeze(x, axis=axis)
        if kind == "flip":
            return f"flip {axis}", lambda xp, x: xp.flip(x, axis=axis)
        if kind == "cumulative":
            return f"cumulative {axis}", lambda xp, x: xp.cumulative_sum(x, axis=axis)
        if kind == "tril" and x.ndim > 1:
            return "tril", lambda xp, x: xp.tril(x, k=-1)
        if kind == "rows" and x.shape[0] > 1:
            return "x * x[::-1]", lambda xp, x: x * xp.flip(x, axis=0)
        return None

    def indexed(self, x: Any) -> Any:
        if not x.ndim:
            return None
        n = x.shape[0]
        kind = self.pick(("slice", "integer", "ellipsis", "take", "take along"))
        if kind == "slice":
            return "x[1:, ...]", lambda xp, x: x[1:, ...]
        if kind == "ellipsis":
            return "x[..., ::2]", lambda xp, x: x[..., ::2]
        if n == 0:
            return None
        if kind == "integer":
            at = int(self.rng.integers(-n, n))
            return f"x[{at}, ...]", lambda xp, x: x[at, ...]
        axis = self.axis(x)
        if kind == "take" and x.shape[axis]:
            places = self.rng.integers(0, x.shape[axis], int(self.rng.integers(0, 5)))
            return f"take {places} axis={axis}", lambda xp, x: xp.take(x, xp.asarray(places), axis=axis)
        if kind == "take along" and 0 not in x.shape:
            shape = list(x.shape)
            shape[axis] = 2
            table = self.rng.integers(0, x.shape[axis], shape)
            return f"take_along_axis {axis}", lambda xp, x: xp.take_along_axis(x, xp.asarray(table), axis=axis)
        return None

    def product(self, x: Any) -> Any:
        if x.ndim < 1 or x.ndim > 3:
            return None
        m = int(self.rng.integers(1, 4))
        table = self.array((x.shape[-1], m))
        if self.rng.random() < 0.5 and x.ndim > 1:
            return "x @ xᵀ", lambda xp, x: xp.matmul(x, xp.matrix_transpose(x))
        return f"x @ ({x.shape[-1]}, {m})", lambda xp, x: xp.matmul(x, xp.asarray(table))

    def joined(self, x: Any, y: Any) -> Any:
        if x.shape != y.shape or x.ndim > 3:
            return None
        if x.ndim and self.rng.random() < 0.5:
            axis = self.axis(x)
            return f"concat axis={axis}", lambda xp, x, y: xp.concat([x, y, x], axis=axis)
        return "stack", lambda xp, x, y: xp.stack([x, y], axis=-1)


def generate(seed: int, length: int = 5) -> Program:
    """A program of some `length` steps, and its inputs; the same for the same seed."""
    maker = Maker(seed)
    first = maker.array(maker.shape())
    inputs = [first, *(maker.array(maker.like(first.shape)) for _ in range(int(maker.rng.integers(0, 3))))]
    program = Program(inputs)
    values = list(inputs)
    while len(program.steps) < length:
        i = len(values) - 1 if maker.rng.random() < 0.8 else int(maker.rng.integers(len(values)))
        operands: tuple[int, ...] = (i,)
        if maker.rng.random() < 0.35:
            operands = (i, int(maker.rng.integers(len(values))))
            name = maker.pick(BINARY)
            made = (name, BINARY[name]) if maker.rng.random() < 0.8 else maker.joined(*[values[k] for k in operands])
        else:
            kinds = (
                ("unary",) * 4
                + ("reduction",) * 2
                + ("normalized", "shaped", "shaped", "indexed", "indexed", "product")
            )
            made = getattr(maker, maker.pick(kinds))(values[i])
        if made is None:
            continue
        try:
            value = made[1](np, *[values[k] for k in operands])
        except ValueError:  # shapes that do not broadcast
            continue
        if made[0].startswith("std") and np.any(value < 1e-2):  # at a kink, where others choose NaN
            continue
        if value.size > 200 or not np.all(np.isfinite(value)) or np.any(np.abs(value) > 30):
            continue
        values.append(np.asarray(value))
        program.steps.append((*made, operands))
    return program
