"""Checks of arguments that several functions share."""

from __future__ import annotations

from typing import Any

from framework.autodiff import Tensor, ops
from framework.errors import ConfigError, DTypeError


def as_number(name: str, what: str, given: Any) -> float:
    """`given` as a float.

    Raises:
        ConfigError: it is none; the message names the function `name` and the argument `what`.
    """
    try:
        return float(given)
    except (TypeError, ValueError):
        raise ConfigError(f"{name}: {what} is a number, got {given!r}") from None


def check_probability(p: Any, name: str = "dropout", what: str = "p") -> None:
    """Raise ConfigError unless `p` is in [0, 1]."""
    try:
        fits = bool(0 <= p <= 1)
    except TypeError:
        fits = False
    if not fits:
        raise ConfigError(f"{name}: {what} is the probability that an element is dropped, in [0, 1]; got {p!r}")


def as_real(name: str, x: Tensor, like: Tensor | None = None) -> Tensor:
    """`x` in a real floating-point dtype: integers and bools in that of `like`, or in the default one.

    Raises:
        DTypeError: it is complex.
    """
    kind = x.dtype.kind
    if kind == "float":
        return x
    if kind == "complex":
        raise DTypeError(
            f"{name}: got input of dtype {x.dtype.name}; it is defined for real numbers. "
            "Use framework.numpy.real, imag or abs of it first"
        )
    return ops.astype(x, ops.get_default_dtype() if like is None else like.dtype)
