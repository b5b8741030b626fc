"""What transforms do with a function's arguments and results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from framework.autodiff import tree
from framework.autodiff.convert import as_tensor
from framework.autodiff.tensor import Tensor
from framework.errors import DTypeError, GradientError


def check_differentiable(x: Any, what: str) -> Tensor:
    """`x` as a Tensor of floating-point or complex numbers.

    Raises:
        DTypeError: it holds others.
    """
    x = as_tensor(x)
    if not x.dtype.is_differentiable:
        raise DTypeError(f"{what} needs floating-point inputs, got {x.dtype.name}; use .astype('float32') or 1.0 for 1")
    return x


class Aux:
    """A function whose second result is put aside: what is returned, but not differentiated."""

    def __init__(self, fn: Callable[..., Any], has_aux: bool) -> None:
        self.fn = fn
        self.has_aux = has_aux
        self.value: Any = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """The first result."""
        out = self.fn(*args, **kwargs)
        if self.has_aux:
            if not isinstance(out, tuple) or len(out) != 2:
                raise GradientError("with has_aux the function returns a pair, (element, aux)")
            out, self.value = out
        return out

    def of(self, lower: Callable[[list[Tensor]], list[Tensor]]) -> Any:
        """The second result as it is outside the transform."""
        return tree.map_leaves(lambda t: lower([as_tensor(t)])[0] if isinstance(t, Tensor) else t, self.value)


def argument_numbers(argnums: Any, argnum: Any, args: tuple[Any, ...]) -> tuple[tuple[int, ...], bool]:
    """The positions of the arguments to differentiate, from 0 on, and whether one was given as a number.

    Raises:
        GradientError: there is no such argument, or one is named twice.
    """
    argnums = argnums if argnum is None else argnum
    single = hasattr(argnums, "__index__")
    given = (argnums,) if single else tuple(argnums)
    if any(not hasattr(n, "__index__") or not -len(args) <= n < len(args) for n in given):
        raise GradientError(f"argnums={argnums}, but the function was called with {len(args)} positional arguments")
    numbers = tuple([int(n) % len(args) for n in given])
    if len(set(numbers)) != len(numbers):
        raise GradientError(f"argnums={argnums} names an argument twice")
    return numbers, single


def replaced(args: tuple[Any, ...], numbers: Sequence[int], values: Sequence[Any]) -> list[Any]:
    """The arguments with those at `numbers` replaced."""
    full = list(args)
    for n, value in zip(numbers, values):
        full[n] = value
    return full
