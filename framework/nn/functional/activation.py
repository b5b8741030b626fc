"""Activation functions."""

from __future__ import annotations

import math
from typing import Any

from framework.autodiff import Tensor, as_tensor, ops
from framework.errors import ConfigError
from framework.nn.functional.arguments import as_number, as_real

tanh = ops.tanh
sigmoid = ops.sigmoid


def relu(input: Any, inplace: bool = False) -> Tensor:
    """max(x, 0). `inplace` changes nothing: the input is never written.

    Examples:
        >>> import framework as fw
        >>> fw.nn.functional.relu(fw.tensor([-1.0, 2.0])).tolist()
        [0.0, 2.0]
    """
    return ops.relu(input)


def leaky_relu(input: Any, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where positive, else `negative_slope`·x."""
    x = as_tensor(input)
    return ops.where(x > 0, x, x * as_number("leaky_relu", "negative_slope", negative_slope))


def elu(input: Any, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where positive, else `alpha`·(eˣ − 1) (Clevert, Unterthiner & Hochreiter 2016)."""
    x = as_tensor(input)
    positive = x > 0
    below = ops.where(positive, 0.0, x)  # no overflow in the branch that is not taken
    return ops.where(positive, x, ops.expm1(below) * as_number("elu", "alpha", alpha))


def silu(input: Any, inplace: bool = False) -> Tensor:
    """x·sigmoid(x) (Hendrycks & Gimpel 2016; Elfwing, Uchibe & Doya 2018)."""
    x = as_tensor(input)
    return x * ops.sigmoid(x)


def gelu(input: Any, approximate: str = "none") -> Tensor:
    """x·Φ(x), with Φ the normal distribution function (Hendrycks & Gimpel 2016).

    Args:
        approximate: `"none"`, or `"tanh"` for the paper's approximation.
    """
    if approximate == "none":
        return ops.gelu(input)
    if approximate == "tanh":
        x = as_tensor(input)
        inner = (x + x * x * x * 0.044715) * math.sqrt(2 / math.pi)
        return x * 0.5 * (ops.tanh(inner) + 1)
    raise ConfigError(f"gelu: approximate is 'none' or 'tanh', got {approximate!r}")


def softplus(input: Any, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + e^(`beta`·x)) / `beta`; x itself where `beta`·x exceeds `threshold`."""
    x = as_real("softplus", as_tensor(input))
    beta, threshold = as_number("softplus", "beta", beta), as_number("softplus", "threshold", threshold)
    if beta == 0:
        raise ConfigError("softplus: it is divided by beta, which is not zero; got 0")
    scaled = x * beta
    return ops.where(scaled > threshold, x, ops.logaddexp(scaled, 0.0) / beta)


def _axis(dim: int | None, ndim: int) -> int:
    """`dim`; left out, axis 0 of an input of 0, 1 or 3 axes, else axis 1."""
    if dim is not None:
        return dim
    return 0 if ndim in (0, 1, 3) else 1


def softmax(input: Any, dim: int | None = None, *, dtype: Any = None) -> Tensor:
    """exp(x) divided by its sum along `dim`.

    Args:
        dim: the axis; where left out, 0 for inputs of 0, 1 or 3 axes, else 1. Better named.
        dtype: cast the input first.
    """
    x = as_tensor(input) if dtype is None else ops.astype(input, dtype)
    return ops.softmax(x, axis=_axis(dim, x.ndim))


def log_softmax(input: Any, dim: int | None = None, *, dtype: Any = None) -> Tensor:
    """The logarithm of `softmax`, without overflow; arguments as there."""
    x = as_tensor(input) if dtype is None else ops.astype(input, dtype)
    return ops.log_softmax(x, axis=_axis(dim, x.ndim))
