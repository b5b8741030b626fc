"""The gradient checker: both modes against central differences, in float64 and complex128."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from framework.autodiff import tree
from framework.autodiff.convert import as_tensor, asarray
from framework.autodiff.forward import jvp
from framework.autodiff.namespace import ops
from framework.autodiff.reverse import vjp
from framework.autodiff.tensor import Tensor
from framework.errors import ConfigError, DTypeError, GradientError

_ROUNDING = 16 * 2.0**-52  # a few units in the last place of a function's value


def gradcheck(
    fn: Callable[..., Any],
    inputs: Any,
    eps: float = 1e-6,
    atol: float = 1e-9,
    rtol: float = 1e-5,
    *,
    order: int = 1,
) -> bool:
    """Compare the reverse and the forward derivative of `fn` at `inputs` with central differences.

    Every element of every input is moved, so inputs should be small. The error allowed for an element
    is `atol + rtol * |expected|`, and what rounding the values of `fn` does to a difference. Complex
    elements are moved along both axes, and derivatives follow JAX's convention: the reverse derivative
    is the transpose, without a conjugate.

    Args:
        fn: a function of the inputs that returns one array or a nested structure of arrays.
        inputs: one array or a sequence of arguments: arrays of float64 or complex128, or nested dicts, lists
            and tuples of these; integer arrays are passed on as they are.
        order: 2 checks the derivatives of both derivatives, too, in both modes; 3 those of these; and so on.

    Raises:
        GradientError: a derivative differs; the message names the mode, the place and both values.
        DTypeError: an input is floating point but neither float64 nor complex128.

    Examples:
        >>> import framework as fw, framework.numpy as np
        >>> fw.gradcheck(np.sin, fw.tensor([0.5, 1.0], dtype="float64"), order=2)
        True
    """
    if order < 1:
        raise ConfigError(f"gradcheck: order must be at least 1, got {order}")
    args = list(inputs) if isinstance(inputs, list | tuple) else [inputs]
    leaves, structure = tree.flatten(args)
    fixed = [as_tensor(x).detach() for x in leaves]
    names = _names(args)
    moved = [i for i, x in enumerate(fixed) if x.dtype.is_differentiable]
    for i in moved:
        if fixed[i].dtype not in ("float64", "complex128"):
            raise DTypeError(
                f"gradcheck needs float64, input {names[i]} is {fixed[i].dtype.name}; use .astype('float64')"
            )

    def of_moved(*values: Tensor) -> list[Tensor]:
        full = list(fixed)
        for i, value in zip(moved, values):
            full[i] = value
        results, _ = tree.flatten(fn(*tree.unflatten(structure, full)))
        return [y for y in map(as_tensor, results) if y.dtype.is_differentiable]

    points = [fixed[i] for i in moved]
    before = [x.tolist() for x in points]
    check = _Check([names[i] for i in moved], atol, rtol)
    _check_first(of_moved, points, eps, check)
    if [x.tolist() for x in points] != before:
        raise GradientError("the function changed its inputs")
    if order > 1:
        for name, derivative, at in _derivatives(of_moved, points):
            try:
                gradcheck(derivative, at, eps, atol, rtol, order=order - 1)
            except GradientError as error:
                raise GradientError(f"in the {name} derivative, of its inputs and a direction: {error}") from error
    return True


class _Check(NamedTuple):
    """How one number is compared."""

    names: list[str]
    atol: float
    rtol: float

    def __call__(self, mode: str, place: _Place, o: int, position: int, got: Any, want: Any, noise: float) -> None:
        if not abs(got - want) <= self.atol + noise + self.rtol * abs(want):
            along = " along the imaginary axis" if place.direction == 1j else ""
            raise GradientError(
                f"gradcheck, {mode} mode: d output {o}[{position}] / d input {self.names[place.k]}[{place.element}]"
                f"{along} (flat positions) is {got!r}, central differences give {want!r}"
            )


class _Place(NamedTuple):
    """One element of one input, and the direction in which it is moved: 1 or 1j."""

    k: int
    element: int
    direction: complex


def _places(xs: Sequence[Tensor]) -> list[_Place]:
    return [
        _Place(k, element, direction)
        for k, x in enumerate(xs)
        for element in range(x.size)
        for direction in ((1.0, 1j) if x.dtype.kind == "complex" else (1.0,))
    ]


def _check_first(fn: Callable[..., list[Tensor]], points: list[Tensor], eps: float, check: _Check) -> None:
    outputs, pull = vjp(fn, *points)
    noise = [_ROUNDING * max(map(abs, _flat(y)), default=0.0) / eps for y in outputs]
    expected = {place: _difference(fn, points, place, eps) for place in _places(points)}
    for o, position, cotangent in _places(outputs):
        seeds = [ops.zeros_like(y.detach()) for y in outputs]
        seeds[o] = _unit(outputs[o], position, cotangent)
        grads = [_flat(g) for g in pull(seeds)]
        for place, rows in expected.items():
            got = grads[place.k][place.element] * place.direction
            want = rows[o][position] * cotangent
            if isinstance(got, complex) or isinstance(want, complex):  # the pairing is the real part of the product
                got, want = complex(got).real, complex(want).real
            check("reverse", place, o, position, got, want, noise[o])
    for place, rows in expected.items():
        directions = [ops.zeros_like(x) for x in points]
        directions[place.k] = _unit(points[place.k], place.element, place.direction)
        _, tangents = jvp(fn, points, directions)
        for o, tangent in enumerate(tangents):
            for position, got in enumerate(_flat(tangent)):
                check("forward", place, o, position, got, rows[o][position], noise[o])


def _difference(fn: Callable[..., list[Tensor]], points: list[Tensor], place: _Place, eps: float) -> list[list[Any]]:
    """Per output, the central difference of each element when one element of an input moves."""
    x = points[place.k]
    sides = []
    for sign in (1.0, -1.0):
        values = _flat(x)
        values[place.element] += sign * eps * place.direction
        args = list(points)
        args[place.k] = _shaped(values, x)
        sides.append([_flat(y) for y in fn(*args)])
    return [[(p - m) / (2 * eps) for p, m in zip(plus, minus)] for plus, minus in zip(*sides)]


def _derivatives(fn: Callable[..., list[Tensor]], points: list[Tensor]) -> list[tuple[str, Callable[..., Any], Any]]:
    """Both derivatives as functions of inputs and a direction, each with a place to check it at."""
    n = len(points)
    outputs = fn(*points)
    number = iter(range(1, 1_000_000))

    def direction_of(x: Tensor) -> Tensor:
        angles = [next(number) for _ in range(x.size)]  # nothing special about these directions
        if x.dtype.kind == "complex":
            return _shaped([complex(math.cos(a), math.sin(2.0 * a)) for a in angles], x)
        return _shaped([math.cos(a) for a in angles], x)

    def reverse(*values: Tensor) -> Any:
        return vjp(fn, *values[:n])[1](list(values[n:]))

    def forward(*values: Tensor) -> Any:
        return jvp(fn, values[:n], values[n:])[1]

    return [
        ("reverse", reverse, [*points, *map(direction_of, outputs)]),
        ("forward", forward, [*points, *map(direction_of, points)]),
    ]


def _unit(x: Tensor, position: int, value: complex) -> Tensor:
    values: list[complex] = [0.0] * x.size
    values[position] = value
    return _shaped(values, x)


def _shaped(values: list[Any], like: Tensor) -> Tensor:
    return ops.reshape(asarray(values, dtype=like.dtype, device=like.device), like.shape)


def _flat(x: Tensor) -> list[Any]:
    return ops.reshape(x.detach(), (x.size,)).tolist()


def _names(args: list[Any]) -> list[str]:
    """The leaves' places: `0` for the first argument, `1['w'][0]` inside a nested one."""
    names: list[str] = []

    def visit(node: Any, name: str) -> None:
        if isinstance(node, dict):
            for key, value in node.items():
                visit(value, f"{name}[{key!r}]")
        elif isinstance(node, list | tuple):
            for k, value in enumerate(node):
                visit(value, f"{name}[{k}]")
        elif node is not None:
            names.append(name)

    for k, arg in enumerate(args):
        visit(arg, str(k))
    return names


__all__: Sequence[str] = ["gradcheck"]
