"""Whole derivatives, by vmap of vjp and jvp: jacobian, hessian, hvp."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from itertools import accumulate, pairwise
from typing import Any, Literal

from framework.autodiff import tree
from framework.autodiff.arguments import argument_numbers, check_differentiable, replaced
from framework.autodiff.batching import vmap
from framework.autodiff.forward import jvp, paired
from framework.autodiff.namespace import ops
from framework.autodiff.reverse import Pullback, grad
from framework.autodiff.tensor import Tensor
from framework.errors import ConfigError, DTypeError

MODES = ("auto", "forward", "reverse")


def jacobian(
    fn: Callable[..., Any],
    argnums: int | Sequence[int] = 0,
    mode: Literal["auto", "forward", "reverse"] = "auto",
    *,
    argnum: Any = None,
) -> Callable[..., Any]:
    """A function that returns all derivatives of `fn`'s results with respect to the arguments `argnums`.

    For an array it has shape `result.shape + argument.shape`. Nested results and arguments give the result's
    structure with the argument's structure in place of each array (and a tuple of those for several `argnums`).

    Args:
        mode: by columns (`"forward"`) or by rows (`"reverse"`), all at once; `"auto"` takes columns where the
            arguments have fewer elements than the results, for which `fn` is called once more. Random
            functions in `fn` draw once for all.

    Raises:
        DTypeError: an argument is not floating point; or it is complex in forward mode, or a result in reverse
            mode, where the derivative is no single number in general.

    Examples:
        >>> import framework as fw
        >>> fw.jacobian(lambda x: x * x)(fw.tensor([1.0, 2.0])).tolist()
        [[2.0, 0.0], [0.0, 4.0]]
    """
    if mode not in MODES:
        raise ConfigError(f"jacobian: mode is one of {', '.join(map(repr, MODES))}, got {mode!r}")

    @functools.wraps(fn)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        numbers, single = argument_numbers(argnums, argnum, args)
        selected = args[numbers[0]] if single else tuple([args[n] for n in numbers])
        leaves, structure = tree.flatten(selected)
        points = [check_differentiable(x, "jacobian") for x in leaves]

        def of_points(*values: Any) -> Any:
            part = tree.unflatten(structure, list(values))
            return fn(*replaced(args, numbers, [part] if single else part), **kwargs)

        rows, out_structure = (_forward if mode == "forward" else _reverse)(of_points, points, mode)
        return tree.unflatten(out_structure, [tree.unflatten(structure, row) for row in rows])

    return wrapped


def hessian(fn: Callable[..., Any], argnums: int | Sequence[int] = 0, *, argnum: Any = None) -> Callable[..., Any]:
    """A function that returns the second derivatives of `fn`, forward over reverse.

    For arrays of shape `result.shape + argument.shape + argument.shape`; nested ones as in `jacobian`.

    Examples:
        >>> import framework as fw
        >>> fw.hessian(lambda x: (x**3).sum())(fw.tensor([1.0, 2.0])).tolist()
        [[6.0, 0.0], [0.0, 12.0]]
    """
    return jacobian(jacobian(fn, argnums, "reverse", argnum=argnum), argnums, "forward", argnum=argnum)


def hvp(fn: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> Any:
    """The Hessian of `fn`, of one real element, at `primals` times `tangents`; the Hessian itself is never made.

    Returns what has the structure of the primal, or a tuple of those for several primals.

    Examples:
        >>> import framework as fw
        >>> fw.hvp(lambda x: (x**3).sum(), (fw.tensor([1.0, 2.0]),), (fw.tensor([1.0, 10.0]),)).tolist()
        [6.0, 120.0]
    """
    paired(primals, tangents, "hvp")
    _, product = jvp(grad(fn, tuple(range(len(primals)))), primals, tangents)
    return product[0] if len(primals) == 1 else product


# -- by rows, by columns -------------------------------------------------------------------------------


def _reverse(fn: Callable[..., Any], points: list[Tensor], mode: str) -> tuple[list[list[Tensor]], Any]:
    """Per result, per point, the derivative."""
    pullback = Pullback(points)
    outputs, structure = pullback.call(fn, pullback.aliases, {})
    has_complex_result = any(y.dtype.kind == "complex" for y in outputs)
    if mode == "auto" and (_count(points) < _count(outputs) or has_complex_result) and not _are_complex(points):
        return _forward(fn, points, mode)
    if has_complex_result:
        raise DTypeError(
            "jacobian by rows of a function with complex results: the derivative is no single number in general; "
            "use mode='forward' where the arguments are real, else vjp and jvp"
        )
    rows = []
    for y in outputs:

        def pull(seed: Any, y: Tensor = y) -> list[Tensor]:
            return pullback.pull([y], [seed], retain=True)

        if y.size == 1:
            row = pull(ops.ones_like(y.detach()))
        else:
            units = ops.reshape(ops.eye(y.size, dtype=y.dtype, device=y.device), (y.size, *y.shape))
            row = vmap(pull, randomness="same")(units)
        rows.append([ops.reshape(g, (*y.shape, *x.shape)) for g, x in zip(row, points)])
    return rows, structure


def _forward(fn: Callable[..., Any], points: list[Tensor], mode: str) -> tuple[list[list[Tensor]], Any]:
    """Per result, per point, the derivative."""
    if _are_complex(points):
        raise DTypeError(
            "jacobian by columns of a function with complex arguments: the derivative is no single number in general; "
            "use mode='reverse' for real results, else vjp and jvp"
        )
    ends = list(accumulate([x.size for x in points], initial=0))
    units = []  # one direction per element of all points
    for x, start in zip(points, ends):
        block = ops.eye(ends[-1], x.size, k=-start, dtype=x.dtype, device=x.device)
        units.append(ops.reshape(block, (ends[-1], *x.shape)))

    def push(*directions: Any) -> Any:
        return jvp(fn, points, directions)[1]

    columns, structure = tree.flatten(vmap(push, out_axes=-1, randomness="same")(*units))
    rows = []
    for t in columns:
        parts = [t[..., start:end] for start, end in pairwise(ends)]
        rows.append([ops.reshape(part, (*t.shape[:-1], *x.shape)) for part, x in zip(parts, points)])
    return rows, structure


def _count(tensors: list[Tensor]) -> int:
    return sum(x.size for x in tensors)


def _are_complex(tensors: list[Tensor]) -> bool:
    return any(x.dtype.kind == "complex" for x in tensors)
