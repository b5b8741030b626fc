"""The gradient checker: both modes against central differences, in float64."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from framework.autodiff import tree
from framework.autodiff.convert import as_tensor, asarray
from framework.autodiff.namespace import ops
from framework.autodiff.tensor import Tensor
from framework.autodiff.transforms import jvp, vjp
from framework.errors import DTypeError, GradientError

_ROUNDING = 16 * 2.0**-52  # a few units in the last place of a function's value


def gradcheck(fn: Callable[..., Any], inputs: Any, eps: float = 1e-6, atol: float = 1e-9, rtol: float = 1e-5) -> bool:
    """Compare the reverse and the forward derivative of `fn` at `inputs` with central differences.

    Every element of every input is moved, so inputs should be small. The error allowed for an element
    is `atol + rtol * |expected|`, and what rounding the values of `fn` does to a difference.

    Args:
        fn: a function of the inputs that returns one array or a nested structure of arrays.
        inputs: one array or a sequence of arrays, float64; integer arrays are passed on as they are.

    Raises:
        GradientError: a derivative differs; the message names the mode, the place and both values.
        DTypeError: an input is floating point but not float64.

    Examples:
        >>> import framework as fw, framework.numpy as np
        >>> fw.gradcheck(np.sin, fw.tensor([0.5, 1.0], dtype="float64"))
        True
    """
    tensors = [as_tensor(x) for x in (inputs if isinstance(inputs, list | tuple) else [inputs])]
    moved = [i for i, x in enumerate(tensors) if x.dtype.kind == "float"]
    for i in moved:
        if tensors[i].dtype != "float64":
            raise DTypeError(f"gradcheck needs float64, input {i} is {tensors[i].dtype.name}; use .astype('float64')")
    fixed = [x.detach() for x in tensors]

    def of_moved(*values: Tensor) -> list[Tensor]:
        args = list(fixed)
        for i, value in zip(moved, values):
            args[i] = value
        leaves, _ = tree.flatten(fn(*args))
        return [y for y in map(as_tensor, leaves) if y.dtype.kind == "float"]

    points = [fixed[i] for i in moved]
    before = [x.tolist() for x in points]
    outputs, pull = vjp(of_moved, *points)
    noise = [atol + _ROUNDING * max(map(abs, _flat(y)), default=0.0) / eps for y in outputs]
    expected = [_differences(of_moved, points, k, eps) for k in range(len(points))]
    for o, y in enumerate(outputs):
        for position in range(y.size):
            seeds = [ops.zeros_like(z.detach()) for z in outputs]
            seeds[o] = _unit(y, position)
            for k, g in enumerate(pull(seeds)):
                for element, got in enumerate(_flat(g)):
                    want = expected[k][element][o][position]
                    _compare("reverse", moved[k], element, o, position, got, want, noise[o], rtol)
    for k, x in enumerate(points):
        for element in range(x.size):
            directions = [ops.zeros_like(z) for z in points]
            directions[k] = _unit(x, element)
            _, tangents = jvp(of_moved, points, directions)
            for o, t in enumerate(tangents):
                for position, got in enumerate(_flat(t)):
                    want = expected[k][element][o][position]
                    _compare("forward", moved[k], element, o, position, got, want, noise[o], rtol)
    if [x.tolist() for x in points] != before:
        raise GradientError("the function changed its inputs")
    return True


def _differences(fn: Callable[..., list[Tensor]], points: list[Tensor], k: int, eps: float) -> list[list[list[float]]]:
    """Per element of input k, per output, the central difference of each element."""
    flat = _flat(points[k])
    rows = []
    for element in range(len(flat)):
        sides: list[list[list[float]]] = []
        for sign in (1.0, -1.0):
            values = list(flat)
            values[element] += sign * eps
            args = list(points)
            shifted = asarray(values, dtype=points[k].dtype, device=points[k].device)
            args[k] = ops.reshape(shifted, points[k].shape)
            sides.append([_flat(y.detach()) for y in fn(*args)])
        rows.append([[(p - m) / (2 * eps) for p, m in zip(plus, minus)] for plus, minus in zip(*sides)])
    return rows


def _unit(x: Tensor, position: int) -> Tensor:
    values = [0.0] * x.size
    values[position] = 1.0
    return ops.reshape(asarray(values, dtype=x.dtype, device=x.device), x.shape)


def _flat(x: Tensor) -> list[float]:
    return ops.reshape(x.detach(), (x.size,)).tolist()


def _compare(
    mode: str, i: int, element: int, o: int, position: int, got: float, want: float, atol: float, rtol: float
) -> None:
    if not abs(got - want) <= atol + rtol * abs(want):
        raise GradientError(
            f"gradcheck, {mode} mode: d output {o}[{position}] / d input {i}[{element}] (flat positions) "
            f"is {got!r}, central differences give {want!r}"
        )


__all__: Sequence[str] = ["gradcheck"]
