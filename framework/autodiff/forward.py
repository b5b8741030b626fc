"""Forward mode: jvp."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from framework.autodiff import tree
from framework.autodiff.arguments import Aux, check_differentiable
from framework.autodiff.convert import as_tensor
from framework.autodiff.levels import Dual, LeveledTensor
from framework.autodiff.namespace import ops
from framework.autodiff.reverse import seed_of
from framework.errors import GradientError


def jvp(fn: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any], has_aux: bool = False) -> Any:
    """`fn(*primals)` and its derivative along `tangents`.

    With `has_aux`, `fn` returns `(result, aux)`, and a third value returned is aux.

    Raises:
        GradientError: there are not as many tangents as primals.
        ShapeError: a tangent has another shape than its primal, or another place in the structure.
        DTypeError: a primal is not floating point or complex.

    Examples:
        >>> import framework as fw
        >>> y, t = fw.jvp(lambda x: x * x, (fw.tensor(3.0),), (fw.tensor(1.0),))
        >>> y.item(), t.item()
        (9.0, 6.0)
    """
    leaves, directions, structure = paired(primals, tangents, "jvp")
    points = [check_differentiable(x, "jvp") for x in leaves]
    aux = Aux(fn, has_aux)
    level = Dual()
    with level:
        duals = [LeveledTensor(x, level, seed_of(x, t)) for x, t in zip(points, directions)]
        out, out_structure = tree.flatten(aux(*tree.unflatten(structure, duals)))
        out = [as_tensor(y) for y in out]
    values = tree.unflatten(out_structure, [level.lower(y) for y in out])
    derivatives = [y._extra if y._level is level else ops.zeros_like(y.detach()) for y in out]
    results = values, tree.unflatten(out_structure, derivatives)
    return (*results, aux.of(lambda ys: [level.lower(y) for y in ys])) if has_aux else results


def paired(primals: Any, tangents: Any, what: str) -> tuple[list[Any], list[Any], Any]:
    """The leaves of the primals, those of the tangents in the same order, and the structure of both."""
    if not isinstance(primals, list | tuple) or not isinstance(tangents, list | tuple):
        raise GradientError(f"{what} takes a tuple of primals and one of tangents: {what}(f, (x,), (t,))")
    leaves, structure = tree.flatten(tuple(primals))
    directions, _ = tree.flatten(tuple(tangents))
    if len(leaves) != len(directions):
        raise GradientError(f"{what} of {len(leaves)} arrays needs as many tangents, got {len(directions)}")
    return leaves, tree.leaves_like(structure, tuple(tangents), "tangents"), structure
