"""Samples of the contract's performance names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from framework.testing.samples import Draw
from framework.testing.samples_reductions import moments

Args = tuple[Any, ...]


def _rows(*shapes: tuple[int, ...]) -> Callable[[Draw], Args]:
    return lambda d: tuple(d.signed(*shape) for shape in shapes)


def _probabilities(d: Draw, *shape: int) -> Any:
    p = d.positive(*shape, 3)
    return p / p.sum(axis=-1, keepdims=True)


def _sgd(velocity: bool, *hyper: Any) -> Callable[[Draw], Args]:
    return lambda d: (d.signed(3, 4), d.signed(3, 4), d.signed(3, 4) if velocity else None, 0.1, *hyper)


def _adam(step: int, weight_decay: float, decoupled: bool) -> Callable[[Draw], Args]:
    hyper = (step, 0.05, (0.9, 0.99), 1e-6, weight_decay, decoupled)
    return lambda d: (d.signed(3, 4), d.signed(3, 4), d.signed(3, 4), d.positive(3, 4), *hyper)


def _rprop(d: Draw) -> Args:
    g, previous = d.signed(3, 4), d.signed(3, 4)
    g[0, 0] = previous[1, 1] = 0.0
    return d.signed(3, 4), g, previous, d.uniform((3, 4), 0.2, 1.0), (0.5, 1.2), (0.25, 0.9)


_INDEX_SAMPLES: tuple[Callable[[Draw], tuple[Any, tuple[int, ...]]], ...] = (
    lambda d: ((d.integers(-4, 4, 6),), (6, 3)),
    lambda d: ((d.integers(0, 4, 2, 2),), (2, 2, 3)),
    lambda d: ((slice(1, 4), d.integers(0, 3, 5)), (3, 5)),
    lambda d: ((d.integers(0, 4, 5), d.integers(0, 3, 5)), (5,)),
    lambda d: ((2, slice(None)), (3,)),
)


def _latched(squares: float, loss: float | None, before: Any) -> Callable[[Draw], Args]:
    """A sum of squares, a loss, a flag and a count."""
    return lambda d: (np.asarray(squares), None if loss is None else np.asarray(loss), before, np.asarray(3, np.int32))


def _scaled(squares: float, ok: bool) -> Callable[[Draw], Args]:
    """A gradient, the square of a norm, whether it is used, and what the norm is to be."""
    return lambda d: (d.signed(3, 4), np.asarray(squares), np.asarray(ok), 0.5, 1e-6)


def _at(values: bool, unique: bool = False) -> list[Callable[[Draw], Args]]:
    def draw(d: Draw, pick: Any) -> Args:
        key, shape = pick(d)
        if unique:  # which of several values stays is not defined
            key = tuple(d.rng.permutation(3)[: k.shape[0]] if isinstance(k, np.ndarray) else k for k in key)
            shape = np.zeros((4, 3))[key].shape
        return (d.signed(4, 3), key, d.signed(*shape)) if values else (d.signed(4, 3), key)

    return [lambda d, pick=pick: draw(d, pick) for pick in _INDEX_SAMPLES]  # type: ignore[misc]


def _into_rows(*shape: int) -> Callable[[Draw], Args]:
    return lambda d: (d.signed(*shape, 2), d.integers(0, 4, *shape), 4)


def _padded_rows(d: Draw) -> Args:
    return d.signed(6, 2), d.integers(0, 4, 6), 4, 1


def _normalized(
    shape: tuple[int, ...], axis: tuple[int, ...], weight: tuple[int, ...] | None = None
) -> Callable[[Draw], Args]:
    """A gradient, what was normalised, its mean and the inverse of its spread, and the weight."""

    def draw(d: Draw) -> Args:
        x = d.signed(*shape)
        mean, var = moments(x, axis)
        return d.signed(*shape), x, mean, 1.0 / np.sqrt(var + 0.1), weight and d.signed(*weight), axis

    return draw


def _attended(lead: tuple[int, ...], queries: int, keys: int, width: int, values: int) -> Callable[[Draw], Args]:
    """A gradient, queries, keys, values, the weights of the values, and the factor of the scores."""

    def draw(d: Draw) -> Args:
        w = d.positive(*lead, queries, keys)
        shapes = ((queries, values), (queries, width), (keys, width), (keys, values))
        return *(d.signed(*lead, *shape) for shape in shapes), w / w.sum(axis=-1, keepdims=True), 0.7

    return draw


def _stepped(ok: bool, arrays: str, *numbers: float, **params: Any) -> Callable[[Draw], Args]:
    """Arguments of an update within a program; `arrays` says of each after `p` what it is: signed, positive or none."""

    def draw(d: Draw) -> Args:
        kinds = {"s": lambda: d.signed(3, 4), "p": lambda: d.positive(3, 4), "-": lambda: None}
        given = [d.signed(3, 4), *[kinds[kind]() for kind in arrays]]
        return (*given, np.asarray(ok), np.asarray([7.0, *numbers]), 1, *params.values())

    return draw


class Attended(NamedTuple):
    """A case for `attention` and then `attention_grad`: shapes, that of a bias, and what is asked for."""

    lead: tuple[int, ...]
    queries: int
    keys: int
    width: int
    values: int
    causal: bool = False
    bias: tuple[int, ...] | None = None
    has_bias: bool = False

    def draw(self, d: Draw) -> tuple[Any, ...]:
        """A gradient, and queries, keys, values and a bias, of which the first key of the last query is hidden."""
        shapes = ((self.queries, self.values), (self.queries, self.width), (self.keys, self.width))
        arrays = [d.signed(*self.lead, *shape) for shape in (*shapes, (self.keys, self.values))]
        if self.bias is None:
            return *arrays, None
        bias = d.signed(*self.bias)
        bias[..., -1, 0] = -np.inf
        return *arrays, bias


ATTENDED = (
    Attended((), 3, 4, 2, 5),
    Attended((2,), 1, 3, 4, 4, causal=True),
    Attended((2, 3), 5, 7, 8, 16),
    Attended((2, 3), 7, 7, 16, 16, causal=True),
    Attended((2, 1, 2), 7, 5, 8, 8, causal=True),
    Attended((2, 2), 5, 5, 8, 8, causal=True, bias=(5, 5), has_bias=True),
    Attended((2, 3), 4, 6, 8, 8, bias=(2, 1, 1, 6)),
    Attended((2,), 1, 1, 8, 8, bias=(1, 1), has_bias=True),  # a query that sees no key
    Attended((0, 2), 3, 3, 8, 8),
    Attended((2,), 0, 3, 8, 8),
)


KERNEL_SAMPLES: dict[str, list[Callable[[Draw], Args]]] = {
    "relu_grad": [_rows((3, 4), (3, 4)), _rows((2, 3, 2), (2, 3, 2)), _rows((0, 2), (0, 2)), _rows((), ())],
    "linear_dx": [_rows(shape, (2, 3)) for shape in ((4, 2), (1, 2), (2, 2, 2), (0, 2), (2,))],
    "linear_dw": [_rows((*lead, 2), (*lead, 3)) for lead in ((4,), (1,), (2, 2), (0,), ())],
    "colsum": [_rows(shape) for shape in ((4, 3), (1, 3), (2, 2, 3), (0, 3), (3,))],
    "xent_grad": [
        lambda d: (_probabilities(d, 4), d.integers(0, 3, 4), d.signed()),
        lambda d: (_probabilities(d, 4), d.integers(0, 3, 4), d.signed(4, 1)),
        lambda d: (_probabilities(d, 1), d.integers(0, 3, 1), d.signed()),
        lambda d: (_probabilities(d, 2, 2), d.integers(0, 3, 2, 2), d.signed(2, 2, 1)),
        lambda d: (_probabilities(d), d.integers(0, 3), d.signed()),
    ],
    "embedding_grad": [*(_into_rows(*shape) for shape in ((6,), (2, 3), (), (0,))), _padded_rows],
    "batch_norm_grad": [
        _normalized((4, 3), (-2,)),
        _normalized((4, 3), (-2,), (1, 3)),
        _normalized((3, 2, 2), (-3, -1), (2, 1)),
        _normalized((0, 2), (-2,), (1, 2)),
    ],
    "layer_norm_grad": [
        _normalized((2, 4), (-1,)),
        _normalized((2, 4), (-1,), (4,)),
        _normalized((2, 3, 2), (-2, -1), (3, 2)),
        _normalized((3,), (-1,), (3,)),
        _normalized((0, 3), (-1,), (3,)),
    ],
    "attention_grad": [
        _attended((), 3, 4, 2, 5),
        _attended((2,), 1, 3, 4, 4),
        _attended((2, 2), 3, 3, 2, 2),
        _attended((0, 2), 3, 3, 2, 2),
    ],
    "rounded_matmul": [
        lambda d: (d.signed(3, 4), d.signed(4, 2), "float16"),
        lambda d: (d.signed(2, 3, 4), d.signed(4, 2), "float16"),
        lambda d: (d.signed(0, 4), d.signed(4, 2), "float16"),
    ],
    "gather_normalized": [
        lambda d: (d.integers(0, 256, 5, 2, 3).astype(np.uint8), d.integers(0, 5, 4), d.signed(), d.signed()),
        lambda d: (d.integers(0, 256, 5, 2, 3).astype(np.uint8), d.integers(0, 5, 4), d.signed(2), d.signed(2)),
        lambda d: (d.integers(0, 256, 5, 4).astype(np.uint8), d.integers(0, 5, 0), d.signed(), d.signed()),
        lambda d: (d.signed(5, 3), d.integers(0, 5, 7), d.signed(), d.signed()),
    ],
    "scatter_add": _at(values=True),
    "set_item": _at(values=True, unique=True),
    "get_item": _at(values=False),
    "erf": [_rows((3, 4)), _rows(()), _rows((0,))],
    "sum_of_squares": [_rows((3, 4)), _rows(()), _rows((0, 3))],
    "squares_of_parts": [
        lambda d: (d.signed(12), None, ((0, 3), (4, 5), (5, 5), (6, 12))),
        lambda d: (d.signed(2500), d.positive(), ((0, 1300), (1301, 2500))),
        lambda d: (d.signed(4), None, ((0, 4),)),
    ],
    "scaled_to_norm": [
        _scaled(squares, ok)
        for squares, ok in ((4.0, True), (0.01, True), (0.0, True), (np.nan, True), (4.0, False), (np.inf, False))
    ],
    "latch": [
        _latched(a, b, c)
        for a in (1.5, np.inf, np.nan)
        for b in (None, 2.0, -np.inf, np.nan)
        for c in (None, np.asarray(True), np.asarray(False))
    ],
    "sgd_update": [
        _sgd(False, 0.0, 0.0, 0.0, False),
        _sgd(False, 0.0, 0.0, 0.02, False),
        _sgd(False, 0.9, 0.1, 0.02, False),
        _sgd(True, 0.9, 0.0, 0.0, False),
        _sgd(True, 0.9, 0.1, 0.02, False),
        _sgd(True, 0.9, 0.0, 0.02, True),
        _sgd(False, 0.9, 0.0, 0.0, True),
    ],
    "adam_update": [_adam(1, 0.0, False), _adam(7, 0.02, False), _adam(7, 0.02, True)],
    "rprop_update": [_rprop],
    "sgd_step": [
        _stepped(ok, arrays, 0.1, 0.9, 0.8, 0.02, decays=decays, nesterov=nesterov)
        for ok, arrays, decays, nesterov in (
            (True, "s-", False, False),
            (True, "s-", True, False),
            (True, "ss", True, False),
            (True, "ss", False, True),
            (False, "ss", True, False),
        )
    ],
    "adam_step": [
        _stepped(ok, "ssp", 0.05, 0.9, 0.1, 0.99, 0.01, 0.4, 1e-6, 0.02, decays=decays, decoupled=decoupled)
        for ok, decays, decoupled in (
            (True, False, False),
            (True, True, False),
            (True, True, True),
            (False, True, True),
        )
    ],
    "rprop_step": [_stepped(ok, "ssp", 0.5, 1.2, 1e-6, 1.5) for ok in (True, False)],
}
"""Performance name to arguments, floating-point arrays in float64."""
