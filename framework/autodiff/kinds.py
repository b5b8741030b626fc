"""The kinds of declaration that give all rules from one derivative."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import index
from typing import Any

from framework.autodiff.primitive import Needs, Rule, expose, primitive
from framework.autodiff.tensor import Tensor
from framework.errors import AxisError, ShapeError


def align_ranks(ops: Any, n: int, is_batched: tuple[bool, ...], inputs: tuple[Any, ...], params: Any, fn: Rule) -> Any:
    """Batching of an element-by-element operation: batched inputs get the rank of the others plus one."""
    rank = max((x.ndim - 1 if b else x.ndim) for x, b in zip(inputs, is_batched) if isinstance(x, Tensor))
    aligned = [
        ops.reshape(x, (x.shape[0],) + (1,) * (rank + 1 - x.ndim) + x.shape[1:])
        if b and isinstance(x, Tensor) and x.ndim < rank + 1
        else x
        for x, b in zip(inputs, is_batched)
    ]
    return fn(*aligned, **params)


def elementwise(
    name: str,
    *partials: Rule | None,
    forward: Rule | None = None,
    keep: Sequence[Sequence[int]] = (),
    keep_out: Sequence[int] = (),
    floating: bool = False,
    fits: bool = False,
) -> Rule:
    """Declare an element-by-element operation by its partial derivatives.

    Each partial is a function `(ns, t, out, *inputs)`: the derivative with respect to that input
    times `t`. As the Jacobian is diagonal it serves as vjp and jvp alike; None means zero everywhere.
    """
    arity = len(partials)
    partial: Any = partials[0]

    def vjp(ns: Any, g: Any, needs: Needs, out: Any, residual: Any, *inputs: Any, **params: Any) -> tuple[Any, ...]:
        return tuple(
            [
                f(ns, g, out, *inputs, **params) if need is not None and f is not None else None
                for f, need in zip(partials, needs)
            ]
        )

    def vjp1(ns: Any, g: Any, needs: Needs, out: Any, residual: Any, x: Any, **params: Any) -> tuple[Any, ...]:
        return (partial(ns, g, out, x, **params) if params else partial(ns, g, out, x),)

    def jvp(ns: Any, tangents: tuple[Any, ...], out: Any, *inputs: Any, **params: Any) -> Any:
        total = None
        for f, t in zip(partials, tangents):
            if t is not None and f is not None:
                term = f(ns, t, out, *inputs, **params)
                total = term if total is None else total + term
        return total

    differentiable = any(f is not None for f in partials)
    apply = primitive(
        name,
        arity=arity,
        forward=forward,
        vjp=(vjp1 if arity == 1 else vjp) if differentiable else None,
        jvp=jvp if differentiable else None,
        batch=align_ranks,
        keep=keep,
        keep_out=keep_out,
        promotes=arity > 1,
        floating=floating,
        fits=fits,
    )
    return expose(name, apply)


def linear_map(
    name: str, transpose: Rule, *, forward: Rule | None = None, batch: Rule | None = None, view: bool = False
) -> Callable[..., Tensor]:
    """Declare a linear operation on one input by its transpose `(ns, g, shape, **params)`; shape is the input's."""

    def vjp(ns: Any, g: Any, needs: Needs, out: Any, residual: Any, x: Any, **params: Any) -> tuple[Any, ...]:
        return (transpose(ns, g, needs[0].shape, **params),)

    def jvp(ns: Any, tangents: tuple[Any, ...], out: Any, x: Any, **params: Any) -> Any:
        return getattr(ns, name)(tangents[0], **params)

    return expose(name, primitive(name, arity=1, forward=forward, vjp=vjp, jvp=jvp, batch=batch, view=view))


def negative_axis(axis: int, ndim: int) -> int:
    """The axis as a negative number.

    Raises:
        AxisError: there is no such axis.
    """
    axis = index(axis)
    if not -ndim <= axis < ndim:
        allowed = f"; it must be from {-ndim} to {ndim - 1}" if ndim else ""
        raise AxisError(f"axis {axis} of an array with {ndim} axes{allowed}")
    return axis if axis < 0 else axis - ndim


def negative_axes(axis: int | Sequence[int] | None, ndim: int) -> tuple[int, ...]:
    """One axis, several, or all (None) as negative numbers.

    Raises:
        AxisError: there is no such axis.
        ShapeError: an axis is named twice.
    """
    if axis is None:
        return tuple(range(-ndim, 0))
    if isinstance(axis, int):
        return (negative_axis(axis, ndim),)
    axes = tuple([negative_axis(a, ndim) for a in integers(axis)])
    if len(set(axes)) < len(axes):
        raise ShapeError(f"axis={axis} of an array with {ndim} axes: the same axis twice")
    return axes


def integers(given: Any) -> tuple[int, ...]:
    """One integer or several, in a sequence or an array, as a tuple."""
    if hasattr(given, "tolist"):
        given = given.tolist()
    return tuple([index(n) for n in given]) if hasattr(given, "__iter__") else (index(given),)
