"""Functions defined by an equation: x with residual(x, *args) = 0, differentiable in args."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from framework.autodiff import tree
from framework.autodiff.calls import (
    attach,
    entering,
    lowered,
    node_of,
    older_than,
    put_together,
    resumed,
    same,
    start,
    take_apart,
    walked,
)
from framework.autodiff.convert import as_tensor
from framework.autodiff.levels import Batch, Dual, Level, LeveledTensor, Tape, active
from framework.autodiff.modes import enable_grad, grad_enabled, no_grad
from framework.autodiff.namespace import ops
from framework.autodiff.tensor import Tensor
from framework.autodiff.transforms import jvp, vmap
from framework.errors import DTypeError, GradientError, ShapeError

Tensors = list[Tensor]


def implicit(solver: Callable[..., Any], residual: Callable[..., Any]) -> Callable[..., Any]:
    """A function with the value x of `solver(*args)` and the derivatives that `residual(x, *args) = 0` gives it.

    These are dx = −(∂r/∂x)⁻¹ ∂r/∂args, the implicit function theorem, in both modes and of all orders,
    by linear systems with the dense Jacobian ∂r/∂x. The solver gets Tensors without history and may be any
    Python, with NumPy and loops until convergence; inside `vmap` it is called with the whole batch, or,
    if it reads values, once per sample. Arguments and solution may be nested; the residual has as many
    elements as the solution and is made of differentiable functions. What the residual closes over gets
    gradients, too.

    Raises:
        DTypeError: the solution is not floating point.
        ShapeError: the residual has another number of elements than the solution.
        GradientError: the Jacobian is singular at the solution.

    Examples:
        >>> import framework as fw
        >>> def newton(a):
        ...     x = 1.0
        ...     while abs(x * x - a.item()) > 1e-12:
        ...         x = (x + a.item() / x) / 2.0
        ...     return fw.tensor(x)
        >>> sqrt = fw.implicit(newton, lambda x, a: x * x - a)
        >>> a = fw.tensor(4.0)
        >>> sqrt(a).item(), fw.grad(sqrt)(a).item(), fw.grad(fw.grad(sqrt))(a).item()
        (2.0, 0.25, -0.03125)
    """

    @functools.wraps(solver, updated=())
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        leaves, structure = tree.flatten((args, kwargs))
        held = [same(x) if isinstance(x, Tensor) else x for x in leaves]
        of_solution: list[Any] = []

        def value() -> Tensors:
            with no_grad():
                outs, found = _solved(solver, structure, [_plain(x) for x in held])
            of_solution[:] = [found]
            for y in outs:
                if not y.dtype.is_differentiable:
                    raise DTypeError(f"implicit: a solution is floating point, the solver returned {y.dtype.name}")
            return [_plain(y) for y in outs]

        def equation(x: Tensors) -> Tensors:
            a, k = tree.unflatten(structure, [same(y) if isinstance(y, Tensor) else y for y in held])
            outs = [as_tensor(y) for y in tree.flatten(residual(tree.unflatten(of_solution[0], x), *a, **k))[0]]
            if sum(y.size for y in outs) != sum(y.size for y in x):
                raise ShapeError(
                    f"implicit: the residual has shape {_shapes(outs)}, the solution {_shapes(x)}; "
                    "there must be one equation for each unknown"
                )
            return outs

        outs = _apply(_Problem(value, equation, functools.partial(_linear, equation)), active.get())
        return tree.unflatten(of_solution[0], outs)

    return wrapped


def _shapes(tensors: Tensors) -> str:
    return ", ".join(str(y.shape) for y in tensors)


# -- the solver ------------------------------------------------------------------------------------


def _plain(x: Any) -> Any:
    """`x` without tangents and history; a batch it keeps."""
    if not isinstance(x, LeveledTensor):
        return Tensor(x._data, None, x._ns) if isinstance(x, Tensor) else x
    data = _plain(x._data)
    return data if isinstance(x._level, Dual | Tape) else LeveledTensor(data, x._level, x._extra)


def _solved(solver: Callable[..., Any], structure: Any, leaves: Sequence[Any]) -> tuple[Tensors, Any]:
    """The leaves of the solver's result, and their structure."""
    batches = [x._level for x in leaves if isinstance(x, Tensor) and isinstance(x._level, Batch)]
    try:
        args, kwargs = tree.unflatten(structure, [same(x) if isinstance(x, Tensor) else x for x in leaves])
        outs, found = tree.flatten(solver(*args, **kwargs))
        return [as_tensor(y) for y in outs], found
    except GradientError:
        if not batches:
            raise
    level = max(batches, key=lambda level: level.depth)  # it reads values, of which there are many
    samples = [
        _solved(solver, structure, [x._data[i] if isinstance(x, Tensor) and x._level is level else x for x in leaves])
        for i in range(level.size)
    ]
    return [LeveledTensor(ops.stack(ys), level) for ys in zip(*[outs for outs, _ in samples])], samples[0][1]


# -- the derivatives -------------------------------------------------------------------------------


class _Problem:
    """An equation as seen at one level: what solves it, its residual, and its Jacobian's inverse."""

    def __init__(self, value: Callable[[], Tensors], residual: Callable[[Tensors], Tensors], linear: Any) -> None:
        self.value = value
        self.residual = residual
        self.linear: Callable[[Tensors, Tensors, bool], Tensors] = linear

    def without(self, level: Level) -> _Problem:
        """The problem below a level of derivatives."""

        def residual(x: Tensors) -> Tensors:
            with resumed(level):
                return [lowered(level, y) for y in self.residual(x)]

        def linear(x: Tensors, b: Tensors, transposed: bool) -> Tensors:
            with resumed(level):
                return [lowered(level, y) for y in self.linear(x, b, transposed)]

        return _Problem(self.value, residual, linear)

    def inside(self, level: Level, marks: list[Any]) -> _Problem:
        """The problem below a batch; `marks` tell what of the solution belongs to the level."""

        def value() -> Tensors:
            outs = self.value()
            if any(y._level is level for y in outs):
                outs = [y if y._level is level else level.lift(y) for y in outs]
            parts, marks[:] = take_apart(level, outs)
            return parts

        def below(y: Tensor) -> Tensor:
            if marks[0] is not None and y._level is not level:
                y = level.lift(y)
            if marks[0] is None and y._level is level:
                raise GradientError(
                    "implicit: the residual differs by sample of vmap, but the solver gave one solution for all; "
                    "the solver must use what the residual uses"
                )
            return level.lower(y)

        def residual(x: Tensors) -> Tensors:
            with resumed(level):
                return [below(y) for y in self.residual(put_together(level, x, marks))]

        def linear(x: Tensors, b: Tensors, transposed: bool) -> Tensors:
            with resumed(level):
                right: Any = b if marks[0] is None else [entering(level, y) for y in b]
                return [below(y) for y in self.linear(put_together(level, x, marks), right, transposed)]

        return _Problem(value, residual, linear)


def _apply(problem: _Problem, levels: Sequence[Level]) -> Tensors:
    level = levels[-1] if levels else None
    below = levels[:-1]
    if level is None or isinstance(level, Tape):
        return _on_tape(problem, level, below)
    if not isinstance(level, Dual):
        marks: list[Any] = []
        return put_together(level, _apply(problem.inside(level, marks), below), marks)
    xs = _apply(problem.without(level), below)
    rs = problem.residual(xs)
    if not any(r._level is level for r in rs):
        return xs
    tangents = [-r._extra if r._level is level else ops.zeros_like(r) for r in rs]  # type: ignore[attr-defined]
    return [level._with_tangent(x, lowered(level, t)) for x, t in zip(xs, problem.linear(xs, tangents, False))]


def _on_tape(problem: _Problem, level: Tape | None, below: Sequence[Level]) -> Tensors:
    xs = problem.value() if level is None else _apply(problem.without(level), below)
    if not grad_enabled.get():
        return xs
    began = start()
    parents = older_than(began, [node_of(level, r) for r in problem.residual(xs)], level)
    if not parents:
        return xs
    levels = active.get()

    def pull(g: Sequence[Tensor | None], needs: Any, inputs: Any, out: Any, wrap: Any = None) -> list[Any]:
        since = start()
        right = [ops.zeros_like(x) if y is None else y for x, y in zip(out, g)]
        with resumed(*levels):
            us = problem.linear(out, right, True)
            with enable_grad():
                nodes = [node_of(level, r) for r in problem.residual(out)]
        if wrap is None:
            us = [lowered(level, u) for u in us]
        elif out[0]._node is None:  # nobody differentiates this walk again
            us = [_untracked(u) for u in us]
        return walked(level, nodes, [-u for u in us], needs, wrap, since)

    return attach("implicit", level, xs, parents, pull, tracked=[True] * len(xs), keep_out=True)


def _untracked(x: Tensor) -> Tensor:
    """`x` without a node on the raw tape."""
    if isinstance(x, LeveledTensor):
        return LeveledTensor(_untracked(x._data), x._level, x._extra, x._node)
    return Tensor(x._data, None, x._ns)


def _vector(tensors: Tensors) -> Tensor:
    return ops.concat([ops.reshape(y, (-1,)) for y in tensors])


def _like(v: Tensor, tensors: Tensors) -> Tensors:
    """A vector as arrays of these shapes."""
    parts, at = [], 0
    for y in tensors:
        parts.append(ops.reshape(v[at : at + y.size], y.shape))
        at += y.size
    return parts


def _linear(residual: Callable[[Tensors], Tensors], x: Tensors, b: Tensors, transposed: bool) -> Tensors:
    """J⁻¹ b, or J⁻ᵀ b, with the Jacobian J of the residual at x."""
    point = _vector(x)
    outs: Tensors = []

    def flat(v: Tensor) -> Tensor:
        outs[:] = residual(_like(v, x))
        return _vector(outs)

    with enable_grad():
        columns = vmap(lambda t: jvp(flat, (point,), (t,))[1])(
            ops.eye(point.size, dtype=point.dtype, device=point.device)
        )
        matrix = columns if transposed else ops.matrix_transpose(columns)
        try:
            found = ops.solve(matrix, _vector(b))
        except ValueError as error:  # what NumPy and its kin raise
            raise GradientError(
                "implicit: the Jacobian of the residual with respect to the solution is singular, so the solution is "
                "no differentiable function of the arguments there. Does every unknown appear in the residual, and "
                "is the solution no double root?"
            ) from error
    return _like(found, outs if transposed else x)
