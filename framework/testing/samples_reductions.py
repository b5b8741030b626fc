"""Samples of reductions, softmax and its loss, and normalisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from framework.testing.sampling import Arrays, Draw, Sample, Table, also_complex, between, drawn, with_params

_AXES: tuple[dict[str, Any], ...] = (
    {"axis": (-1,), "keepdims": False},
    {"axis": (-2,), "keepdims": True},
    {"axis": (-2, -1), "keepdims": False},
    {"axis": (-3, -1), "keepdims": True},
)
_ONE_AXIS: tuple[dict[str, Any], ...] = ({"axis": -1, "keepdims": False}, {"axis": -2, "keepdims": True})
_BOTH: tuple[dict[str, Any], ...] = ({"axis": -1}, {"axis": -2})
_several = drawn("signed", (2, 3, 2))


def _spread(d: Draw) -> Arrays:
    return (d.distinct((2, 3, 2)),)


def _with_zeros(d: Draw) -> Arrays:
    x = d.signed(3, 4)
    x[0, 1] = x[1, 0] = x[1, 2] = 0.0  # a row with one zero, a row with two
    return (x,)


_EMPTY = Sample(drawn("signed", (0, 3)), {"axis": (-2,), "keepdims": False})
_POINT = Sample(drawn("signed", ()), {"axis": (), "keepdims": False})
_WHOLE = with_params(
    between(1, 4, (2, 3, 2)), [{"axis": (-1,), "keepdims": keep} for keep in (False, True)], kind="int"
)
_LOGICAL = with_params(drawn("bools", (2, 3, 2)), _AXES, kind="bool", rules=False)
_CUMULATIVE = (
    Sample(drawn("signed", (0, 3)), {"axis": -2}),
    Sample(between(1, 4, (2, 3)), {"axis": -1}, kind="int"),
)


def _targeted(*shape: int) -> Callable[[Draw], Arrays]:
    """Scores of three classes, and the right ones."""
    return lambda d: (d.signed(*shape, 3), d.integers(0, 3, *shape))


# -- normalisation: input, weight and bias -------------------------------------------------------------


def _affine(shape: tuple[int, ...], weights: tuple[int, ...], absent: str = "") -> Callable[[Draw], Arrays]:
    def draw(d: Draw) -> Arrays:
        # spread out, so that in half precision the variance is no difference of rounding
        x = d.distinct(shape) + 0.1 * d.signed(*shape)
        weight, bias = d.signed(*weights), d.signed(*weights)
        return x, None if absent else weight, None if absent == "both" else bias

    return draw


_NORMALIZATION: Table = {
    "batch_norm": (
        Sample(_affine((4, 3), (1, 3)), {"axis": (-2,), "eps": 0.1}),
        Sample(_affine((3, 2, 2), (2, 1)), {"axis": (-3, -1), "eps": 0.1}),
        Sample(_affine((4, 2), (1, 2), "weight"), {"axis": (-2,), "eps": 0.1}),
        Sample(_affine((4, 2), (1, 2), "both"), {"axis": (-2,), "eps": 0.1}),
        Sample(_affine((1, 2), (1, 2)), {"axis": (-2,), "eps": 0.1}),
        Sample(_affine((0, 2), (1, 2)), {"axis": (-2,), "eps": 0.1}),
    ),
    "layer_norm": (
        Sample(_affine((2, 4), (4,)), {"axis": (-1,), "eps": 0.1}),
        Sample(_affine((2, 3, 2), (3, 2)), {"axis": (-2, -1), "eps": 0.1}),
        Sample(_affine((2, 3), (3,), "weight"), {"axis": (-1,), "eps": 0.1}),
        Sample(_affine((3,), (3,), "both"), {"axis": (-1,), "eps": 0.1}),
        Sample(_affine((0, 3), (3,)), {"axis": (-1,), "eps": 0.1}),
    ),
}

REDUCTIONS: Table = also_complex(
    {
        "sum": (*with_params(_several, _AXES), _EMPTY, _POINT, *_WHOLE),
        "prod": (
            *with_params(_several, _AXES),
            Sample(_with_zeros, {"axis": (-1,), "keepdims": False}),
            _EMPTY,
            _POINT,
            *_WHOLE,
        ),
        "max": (*with_params(_spread, _AXES), _POINT, *_WHOLE),
        "min": (*with_params(_spread, _AXES), _POINT, *_WHOLE),
        "argmax": with_params(_spread, _ONE_AXIS, rules=False),
        "argmin": with_params(_spread, _ONE_AXIS, rules=False),
        "any": _LOGICAL,
        "all": _LOGICAL,
        "cumulative_sum": (*with_params(drawn("signed", (2, 3)), _BOTH), *_CUMULATIVE),
        "cumulative_prod": (
            Sample(drawn("signed", (2, 3)), {"axis": -1}),
            Sample(_with_zeros, {"axis": -2}),
            *_CUMULATIVE,
        ),
        "softmax": with_params(_several, _BOTH),
        "log_softmax": with_params(_several, _BOTH),
        "softmax_cross_entropy": tuple(
            Sample(_targeted(*shape), {"reduction": reduction})
            for shape in ((4,), (1,), (2, 2), ())
            for reduction in ("mean", "sum", "none")
        ),
        **_NORMALIZATION,
    },
    "sum",
    "prod",
    "cumulative_sum",
    "cumulative_prod",
)
"""Name of a primitive to its samples."""

# -- references ----------------------------------------------------------------------------------------


def _log_softmax(x: Any, *, axis: int) -> Any:
    z = x - x.max(axis=axis, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=axis, keepdims=True))


def _cross_entropy(logits: Any, targets: Any, *, reduction: str) -> Any:
    loss = -np.take_along_axis(_log_softmax(logits, axis=-1), targets[..., None], axis=-1)[..., 0]
    return loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.mean()


def moments(x: Any, axis: tuple[int, ...]) -> tuple[Any, Any]:
    """Mean and variance over `axis`, with axes of length one; zeros of no elements."""
    n = max(np.prod([x.shape[a] for a in axis]), 1)
    mean = x.sum(axis=axis, keepdims=True) / n
    return mean, ((x - mean) ** 2).sum(axis=axis, keepdims=True) / n


def _normalized(x: Any, weight: Any, bias: Any, axis: tuple[int, ...], eps: float) -> Any:
    mean, var = moments(x, axis)
    out = (x - mean) / np.sqrt(var + eps)
    return out * (1.0 if weight is None else weight) + (0.0 if bias is None else bias)


REDUCTION_REFERENCES: dict[str, Callable[..., Any]] = {
    "cumulative_sum": lambda x, *, axis: np.cumsum(x, axis=axis),
    "cumulative_prod": lambda x, *, axis: np.cumprod(x, axis=axis),
    "softmax": lambda x, *, axis: np.exp(_log_softmax(x, axis=axis)),
    "log_softmax": _log_softmax,
    "softmax_cross_entropy": _cross_entropy,
    "batch_norm": lambda x, w, b, *, axis, eps: (_normalized(x, w, b, axis, eps), *moments(x, axis)),
    "layer_norm": lambda x, w, b, *, axis, eps: _normalized(x, w, b, axis, eps),
}
