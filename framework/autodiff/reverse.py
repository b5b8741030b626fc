"""Reverse mode: what `Tensor.backward` does, and the transforms vjp, grad, value_and_grad, elementwise_grad."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

from framework.autodiff import tape, tree
from framework.autodiff.arguments import Aux, argument_numbers, check_differentiable, replaced
from framework.autodiff.convert import as_tensor
from framework.autodiff.levels import LeveledTensor, Tape, active
from framework.autodiff.modes import enable_grad, grad_enabled
from framework.autodiff.namespace import PRIMITIVES, ops
from framework.autodiff.primitive import primitive, public
from framework.autodiff.tape import Node
from framework.autodiff.tensor import Tensor
from framework.errors import DTypeError, GradientError, ShapeError

Roots = list[tuple[Any, Tensor]]
"""Nodes, and the gradients that start there."""


def _wrap(array: Any, node: Node | None, ns: Any) -> Tensor:
    return Tensor(array, node, ns)


def _constant(array: Any, node: Node | None, ns: Any) -> Tensor:
    return Tensor(array, None, ns)


def seed_of(y: Tensor, gradient: Any) -> Tensor:
    """The gradient that starts at `y`, checked and cast; one for None, where `y` has one element.

    Raises:
        GradientError: `gradient` is None and `y` has several elements.
        ShapeError: `gradient` has another shape.
        DTypeError: `gradient` is complex and `y` is not.
    """
    if gradient is None:
        if y.size != 1:
            raise GradientError(
                f"backward from a Tensor of shape {y.shape} needs the gradient that starts there: "
                "pass backward(gradient), or reduce to one element first, with .sum() or .mean()"
            )
        return ops.ones_like(y.detach()) if y._level is not None else Tensor(y._ns.one_like(y._data), None, y._ns)
    gradient = as_tensor(gradient, y)
    if gradient.shape != y.shape:
        raise ShapeError(f"the gradient of a Tensor of shape {y.shape} has that shape, got {gradient.shape}")
    if gradient.dtype is y.dtype:
        return gradient
    if gradient.dtype.kind == "complex" and y.dtype.kind != "complex":
        raise DTypeError(f"the gradient of a Tensor of {y.dtype.name} is real, got {gradient.dtype.name}")
    return ops.astype(gradient, y.dtype)


@public
def run_backward(
    y: Tensor, gradient: Any, create_graph: bool, retain_graph: bool, inputs: Sequence[Tensor] | None
) -> None:
    """What `Tensor.backward` does."""
    if y._level is not None:
        raise GradientError("backward inside a transform would lose what surrounds it; use fw.grad or fw.vjp")
    if y._node is None:
        raise GradientError(
            "backward from a Tensor that depends on nothing that requires a gradient. Was it computed under no_grad, "
            "detached, or from data alone?"
        )
    ns = y._ns
    if gradient is None and not create_graph and inputs is None and not y._data.shape and ns.recorder is None:
        seed: Any = ns.one_like(y._data)  # what most calls are
        for leaf, g in tape.backward(((y._node, seed),), retain=retain_graph).items():
            if leaf.grad is None:
                leaf.grad = g
            else:
                tape.accumulate(leaf, g)
        return
    seed = seed_of(y, gradient)
    if seed._level is not None:
        raise GradientError("the gradient given to backward belongs to a transform; use fw.vjp inside a transform")
    only = None
    if inputs is not None:
        inputs = (inputs,) if isinstance(inputs, Tensor) else inputs
        if not inputs:
            raise GradientError("backward(inputs=…) names no Tensor; leave it out to reach all leaves")
        if any(t._node is None or t._node.prim is not None for t in inputs):
            raise GradientError("backward(inputs=…) takes leaves that require a gradient; for others use fw.vjp")
        only = {t._node for t in inputs}
    if create_graph:
        found = tape.backward([(y._node, seed)], retain=True, only=only, wrap=_wrap, ops=ops)  # type: ignore[arg-type]
    else:
        found = tape.backward([(y._node, seed._data)], retain=retain_graph, only=only)  # type: ignore[arg-type]
    recorder = y._ns.recorder
    add = tape.accumulate if recorder is None or not recorder.listens() else recorder.accumulate
    for node, g in found.items():
        add(node, g)


def walk(level: Tape | None, roots: Roots, only: Collection[Node], *, graph: bool, retain: bool) -> dict[Node, Any]:
    """Gradients of the nodes in `only`, all of one tape: Tensors, or raw arrays.

    Args:
        level: the tape's level; None for the raw tape.
        graph: whether the gradients may be differentiated on this tape again.
        retain: keep what the rules need, for another walk.
    """
    if graph:
        wrap = _wrap if level is None else functools.partial(_wrap_on, level)
        return tape.backward(roots, retain=True, only=only, wrap=wrap, ops=ops)
    if level is None:
        if any(s._level is not None for _, s in roots):  # pulled inside another transform
            return tape.backward(roots, retain=True, only=only, wrap=_constant, ops=ops)
        return tape.backward([(node, s._data) for node, s in roots], retain=retain, only=only)
    return tape.backward([(node, level.lower(s)) for node, s in roots], retain=retain, only=only)


def _wrap_on(level: Tape, array: Tensor, node: Node | None, ns: Any) -> Tensor:
    return array if node is None else LeveledTensor(array, level, node=node)


def reaches(roots: Iterable[Node], is_wanted: Callable[[Node], bool], known: set[Node] | None = None) -> bool:
    """Whether an ancestor of the roots, or one of them, is wanted; `known` are nodes for which that is not so."""
    known = set() if known is None else known
    seen: set[Node] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node in seen or node in known:
            continue
        seen.add(node)
        if is_wanted(node):
            return True
        stack.extend([p for p in node.parents if p is not None])
    known |= seen
    return False


# -- one reverse-mode transform ----------------------------------------------------------------------

primitive("alias", arity=1, vjp=lambda ns, g, needs, out, residual, x: (g,), jvp=lambda ns, t, out, x: t[0], view=True)


def alias_node(x: Any, parent: Node | None, ns: Any) -> Node:
    """A node whose gradient is wanted, which is no leaf: nothing accumulates there."""
    return Node(PRIMITIVES["alias"], (parent,), (None, None, None), {}, x, ns)


class Pullback:
    """The tape of one call, from which gradients with respect to its inputs are pulled.

    That is the raw tape, that of the `Tape` level on top, which consecutive reverse-mode transforms
    share, or a new level above a transform of another kind.
    """

    def __init__(self, inputs: list[Tensor]) -> None:
        self.outer_grad = grad_enabled.get()
        self.owner = object()
        self.inside: set[Node] = set()  # nodes that depend on nothing older than this call
        self.start = tape.next_seq()
        top = next(reversed(active.get()), None)
        self.is_new = not (top is None or type(top) is Tape)
        self.level: Any = Tape() if self.is_new else top
        self.tracked = any(x._node is not None and x._level is self.level for x in inputs)
        self.inputs = inputs
        self.aliases = [self._alias(x) for x in inputs]
        self.nodes: list[Any] = [a._node for a in self.aliases]  # an in-place operator may give the alias another one

    def _alias(self, x: Tensor) -> Tensor:
        """`x` on this tape; inputs that are one Tensor stay apart, and none is a leaf."""
        parent = x._node if x._level is self.level else None
        if self.level is None:
            return Tensor(x._data, alias_node(x._data, parent, x._ns), x._ns)
        data = self.level.lower(x)
        return LeveledTensor(data, self.level, node=alias_node(data, parent, ops))

    def call(self, fn: Callable[..., Any], args: Sequence[Any], kwargs: dict[str, Any]) -> tuple[list[Tensor], Any]:
        """The leaves of `fn(*args, **kwargs)`, recorded, and their structure."""
        with enable_grad(), self._owning(), self.level if self.is_new else nullcontext():
            out = fn(*args, **kwargs)
        leaves, structure = tree.flatten(out)
        return [as_tensor(y) for y in leaves], structure

    @contextmanager
    def _owning(self) -> Iterator[None]:
        """Inside, hooks are set for this transform, and those of others stay silent."""
        token = tape.owner.set(self.owner)
        try:
            yield
        finally:
            tape.owner.reset(token)

    def pull(self, outputs: list[Tensor], seeds: list[Tensor], retain: bool) -> list[Tensor]:
        """One gradient per input."""
        roots = [(y._node, s) for y, s in zip(outputs, seeds) if y._node is not None and y._level is self.level]
        graph = self._needs_graph([node for node, _ in roots], seeds)
        with self._owning():
            found = walk(self.level, roots, self.nodes, graph=graph, retain=retain)
        result = []
        for node, x in zip(self.nodes, self.inputs):
            g = found.get(node)
            if g is None:
                g = ops.zeros_like(x.detach())
            result.append(g if isinstance(g, Tensor) else Tensor(g, None, x._ns))
        return result

    def _needs_graph(self, nodes: list[Any], seeds: list[Tensor]) -> bool:
        """Whether the gradient itself may be differentiated: then the walk runs on Tensors of this tape."""
        if self.is_new:
            return False  # it runs on Tensors one level down, which is all that there is outside
        if not self.outer_grad:
            return False
        if self.tracked or any(s._node is not None and s._level is self.level for s in seeds):
            return True
        # a weight that the function closes over, say
        return reaches(nodes, lambda node: node.seq < self.start, self.inside)

    def results(self, outputs: list[Tensor]) -> list[Tensor]:
        """The outputs as the caller sees them: without this call's tape unless something outside is tracked."""
        if self.is_new:
            return [self.level.lower(y) for y in outputs]
        return [self._result(y) for y in outputs]

    def _result(self, y: Tensor) -> Tensor:
        if y._node is None or y._level is not self.level or self._needs_graph([y._node], []):
            return y
        return Tensor(y._data, None, y._ns) if self.level is None else y._data


def vjp(fn: Callable[..., Any], *primals: Any, has_aux: bool = False) -> Any:
    """`fn(*primals)` and the function that maps a cotangent of the result to one per primal.

    The pullback is the transpose of the derivative, not conjugated where numbers are complex. With
    `has_aux`, `fn` returns `(result, aux)`, and a third value returned is aux.

    Raises:
        DTypeError: a primal is not floating point or complex.

    Examples:
        >>> import framework as fw
        >>> y, pull = fw.vjp(lambda x: x * x, fw.tensor([1.0, 2.0]))
        >>> pull(fw.tensor([1.0, 1.0]))[0].tolist()
        [2.0, 4.0]
    """
    leaves, structure = tree.flatten(primals)
    pullback = Pullback([check_differentiable(x, "vjp") for x in leaves])
    aux = Aux(fn, has_aux)
    outputs, out_structure = pullback.call(aux, tree.unflatten(structure, list(pullback.aliases)), {})

    def pull(cotangent: Any) -> tuple[Any, ...]:
        seeds, _ = tree.flatten(cotangent)
        if len(seeds) != len(outputs):
            raise GradientError(f"vjp of a function with {len(outputs)} results needs as many, got {len(seeds)}")
        seeds = tree.leaves_like(out_structure, cotangent, "the cotangent")
        seeds = [seed_of(y, s) for y, s in zip(outputs, seeds)]
        return tree.unflatten(structure, pullback.pull(outputs, seeds, retain=True))

    result = tree.unflatten(out_structure, pullback.results(outputs))
    return (result, pull, aux.of(pullback.results)) if has_aux else (result, pull)


def _one_element(outputs: list[Tensor]) -> Tensor:
    if len(outputs) != 1:
        raise GradientError(
            f"grad is for functions of one element, this one returned {len(outputs)} arrays; "
            "use has_aux=True for what is not differentiated"
        )
    (y,) = outputs
    if y.dtype.kind == "complex":
        raise DTypeError(
            f"grad needs a function with a real value, this one returned {y.dtype.name}, whose derivative is no single "
            "number in general; take its real(), imag() or abs(), or use vjp or jvp"
        )
    if y.dtype.kind != "float":
        raise DTypeError(f"grad needs a function with a floating-point value, this one returned {y.dtype.name}")
    if y.size != 1:
        raise GradientError(
            f"grad is for functions of one element, this one returned shape {y.shape}; use jacobian or vjp"
        )
    return y


def value_and_grad(
    fn: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False, *, argnum: Any = None
) -> Callable[..., Any]:
    """A function that returns `fn`'s value and its gradient with respect to the arguments `argnums`.

    `fn` returns one real element, or `(element, aux)` with `has_aux`; arguments may be nested dicts, lists
    and tuples of arrays. The gradient with respect to a complex x + iy is ∂/∂x − i ∂/∂y, as in JAX: a step
    downhill goes along its conjugate.

    Raises:
        GradientError: `fn` returned more than one element.
        DTypeError: an argument is not floating point or complex, or the value is not real.

    Examples:
        >>> import framework as fw
        >>> value, g = fw.value_and_grad(lambda x: (x * x).sum())(fw.tensor([1.0, 2.0]))
        >>> value.item(), g.tolist()
        (5.0, [2.0, 4.0])
    """

    @functools.wraps(fn)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        numbers, single = argument_numbers(argnums, argnum, args)
        leaves, structure = tree.flatten([args[n] for n in numbers])
        pullback = Pullback([check_differentiable(x, "grad") for x in leaves])
        aux = Aux(fn, has_aux)
        full = replaced(args, numbers, tree.unflatten(structure, list(pullback.aliases)))
        outputs, _ = pullback.call(aux, full, kwargs)
        y = _one_element(outputs)
        result: Any = pullback.results([y])[0]
        if has_aux:
            result = (result, aux.of(pullback.results))
        grads = tree.unflatten(structure, pullback.pull([y], [seed_of(y, None)], retain=False))
        return result, grads[0] if single else tuple(grads)

    return wrapped


def grad(
    fn: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False, *, argnum: Any = None
) -> Callable[..., Any]:
    """A function that returns the gradient of `fn` with respect to the arguments `argnums`.

    With `has_aux`, `fn` returns `(element, aux)` and the result is `(gradient, aux)`. See `value_and_grad`.

    Examples:
        >>> import framework as fw
        >>> fw.grad(lambda x: x**3)(fw.tensor(2.0)).item()
        12.0
    """
    both = value_and_grad(fn, argnums, has_aux, argnum=argnum)

    @functools.wraps(fn)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        value, g = both(*args, **kwargs)
        return (g, value[1]) if has_aux else g

    return wrapped


def elementwise_grad(
    fn: Callable[..., Any], argnums: int | Sequence[int] = 0, *, argnum: Any = None
) -> Callable[..., Any]:
    """A function that returns the gradient of the sum of `fn`'s results, of the argument's shape.

    Where each element of the result depends on the same element of the argument alone, that is the
    derivative element by element.

    Examples:
        >>> import framework as fw
        >>> fw.elementwise_grad(lambda x: x**3)(fw.tensor([1.0, 2.0])).tolist()
        [3.0, 12.0]
    """

    @functools.wraps(fn)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        numbers, single = argument_numbers(argnums, argnum, args)
        leaves, structure = tree.flatten([args[n] for n in numbers])
        pullback = Pullback([check_differentiable(x, "elementwise_grad") for x in leaves])
        full = replaced(args, numbers, tree.unflatten(structure, list(pullback.aliases)))
        outputs, _ = pullback.call(fn, full, kwargs)
        grads = pullback.pull(outputs, [ops.ones_like(y.detach()) for y in outputs], retain=False)
        result = tree.unflatten(structure, grads)
        return result[0] if single else tuple(result)

    return wrapped
