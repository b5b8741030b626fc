"""Backward on Tensors, and transforms of functions: grad, vjp, jvp, vmap."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from framework.autodiff import tape, tree
from framework.autodiff.convert import as_tensor
from framework.autodiff.levels import Batch, Dual, LeveledTensor, Tape, active
from framework.autodiff.modes import enable_grad, grad_enabled
from framework.autodiff.namespace import PRIMITIVES, ops
from framework.autodiff.primitive import primitive, public
from framework.autodiff.tape import Node
from framework.autodiff.tensor import Tensor
from framework.errors import DTypeError, GradientError, ShapeError


def _wrap(array: Any, node: Node | None, ns: Any) -> Tensor:
    return Tensor(array, node, ns)


def _seed(y: Tensor, gradient: Any) -> Tensor:
    if gradient is None:
        if y.size != 1:
            raise GradientError(
                f"backward from a Tensor of shape {y.shape} needs the gradient that starts there: "
                "pass backward(gradient), or reduce to one element first, with .sum() or .mean()"
            )
        return ops.ones_like(y.detach())
    gradient = as_tensor(gradient, y)
    if gradient.shape != y.shape:
        raise ShapeError(f"the gradient of a Tensor of shape {y.shape} has that shape, got {gradient.shape}")
    return gradient if gradient.dtype is y.dtype else ops.astype(gradient, y.dtype)


@public
def run_backward(
    y: Tensor, gradient: Any, create_graph: bool, retain_graph: bool, inputs: Sequence[Tensor] | None
) -> None:
    """What `Tensor.backward` does."""
    if y._node is None:
        raise GradientError(
            "backward from a Tensor that depends on nothing that requires a gradient. Was it computed under no_grad, "
            "detached, or from data alone?"
        )
    seed = _seed(y, gradient)
    only = None
    if inputs is not None:
        if any(t._node is None for t in inputs):
            raise GradientError("backward(inputs=…): each input must require a gradient")
        only = {t._node for t in inputs}
    if create_graph:
        found = tape.backward([(y._node, seed)], retain=True, only=only, wrap=_wrap, ops=ops)  # type: ignore[arg-type]
    else:
        found = tape.backward([(y._node, seed._data)], retain=retain_graph, only=only)  # type: ignore[arg-type]
    for node, g in found.items():
        before = node.grad
        if before is None:
            node.grad = g
        elif isinstance(before, Tensor) or isinstance(g, Tensor):
            lift = [t if isinstance(t, Tensor) else Tensor(t, None, node.ns) for t in (before, g)]
            node.grad = lift[0] + lift[1]
        else:
            node.grad = node.ns.add(before, g)


# -- reverse mode ----------------------------------------------------------------------------------

primitive("alias", arity=1, vjp=lambda ns, g, needs, out, residual, x: (g,), jvp=lambda ns, t, out, x: t[0])


def _check_differentiable(x: Any, what: str) -> Tensor:
    x = as_tensor(x)
    if not x.dtype.is_differentiable:
        raise DTypeError(f"{what} needs floating-point inputs, got {x.dtype.name}; use .astype('float32') or 1.0 for 1")
    return x


class _Pullback:
    """The tape of one call, from which gradients with respect to its inputs are pulled."""

    def __init__(self, inputs: list[Tensor]) -> None:
        self.outer_grad = grad_enabled.get()
        self.start = tape.next_seq()
        top = active.get()[-1:]
        self.level = Tape() if top and not isinstance(top[0], Tape) else None
        self.tracked = any(x._node is not None or x._level is not None for x in inputs)
        if self.level is not None:
            self.aliases: list[Tensor] = [LeveledTensor(x, self.level, node=tape.Leaf(x, ops)) for x in inputs]
        else:
            self.aliases = [self._alias(x) for x in inputs]

    def _alias(self, x: Tensor) -> Tensor:
        if x._level is not None:  # a Tape level's own
            node = Node(PRIMITIVES["alias"], (x._node,), (None, None, None), {}, x, ops)
            return LeveledTensor(x._data, x._level, node=node)
        if x._node is None:
            return Tensor(x._data, tape.Leaf(x._data, x._ns), x._ns)
        return Tensor(x._data, Node(PRIMITIVES["alias"], (x._node,), (None, None, None), {}, x._data, x._ns), x._ns)

    def pull(self, outputs: list[Tensor], seeds: list[Tensor], retain: bool) -> list[Tensor]:
        nodes = [a._node for a in self.aliases]
        if self.level is not None:
            roots = [(y._node, s) for y, s in zip(outputs, seeds) if y._level is self.level and y._node is not None]
            found = tape.backward(roots, retain=True, only=nodes)  # type: ignore[arg-type]
            return [found[n] if n in found else ops.zeros_like(a._data) for n, a in zip(nodes, self.aliases)]
        roots = [(y._node, s) for y, s in zip(outputs, seeds) if y._node is not None]
        on_tensors = self._needs_graph(roots)
        if on_tensors:
            found = tape.backward(roots, retain=True, only=nodes, wrap=_wrap, ops=ops)  # type: ignore[arg-type]
        else:
            raw = [(node, s._data) for node, s in roots]
            found = tape.backward(raw, retain=retain, only=nodes)  # type: ignore[arg-type]
        result = []
        for node, alias in zip(nodes, self.aliases):
            g = found.get(node)  # type: ignore[arg-type]
            if g is None:
                g = ops.zeros_like(alias.detach())
            result.append(g if isinstance(g, Tensor) else Tensor(g, None, alias._ns))
        return result

    def _needs_graph(self, roots: list[tuple[Any, Tensor]]) -> bool:
        """Whether the gradient itself may be differentiated: then the walk runs on Tensors."""
        if not self.outer_grad:
            return False
        if self.tracked or any(s._node is not None or s._level is not None for _, s in roots):
            return True
        seen: set[Node] = set()
        stack = [node for node, _ in roots]
        while stack:
            node = stack.pop()
            if node in seen:
                continue
            seen.add(node)
            if node.seq < self.start:
                return True  # something older than this call: a weight it closes over, say
            stack.extend(p for p in node.parents if p is not None)
        return False


def vjp(fn: Callable[..., Any], *primals: Any) -> tuple[Any, Callable[[Any], tuple[Any, ...]]]:
    """`fn(*primals)` and the function that maps a cotangent of the result to one per primal.

    Examples:
        >>> import framework as fw
        >>> y, pull = fw.vjp(lambda x: x * x, fw.tensor([1.0, 2.0]))
        >>> pull(fw.tensor([1.0, 1.0]))[0].tolist()
        [2.0, 4.0]
    """
    leaves, structure = tree.flatten(primals)
    pullback = _Pullback([_check_differentiable(x, "vjp") for x in leaves])
    outputs, out_structure = _call(pullback, fn, tree.unflatten(structure, list(pullback.aliases)), {})

    def pull(cotangent: Any) -> tuple[Any, ...]:
        seeds, _ = tree.flatten(cotangent)
        seeds = [_seed(y, s) for y, s in zip(outputs, seeds)]
        return tree.unflatten(structure, pullback.pull(outputs, seeds, retain=True))

    return tree.unflatten(out_structure, [_result(pullback, y) for y in outputs]), pull


def _call(pullback: _Pullback, fn: Any, args: Any, kwargs: Any) -> tuple[list[Tensor], Any]:
    with enable_grad():
        if pullback.level is None:
            out = fn(*args, **kwargs)
        else:
            with pullback.level:
                out = fn(*args, **kwargs)
    leaves, structure = tree.flatten(out)
    return [as_tensor(y) for y in leaves], structure


def _result(pullback: _Pullback, y: Tensor) -> Tensor:
    """An output as the caller sees it: without this call's tape unless something outside is tracked."""
    if pullback.level is not None:
        return pullback.level.lower(y)
    if y._node is None:
        return y
    if not pullback._needs_graph([(y._node, y.detach())]):
        return Tensor(y._data, None, y._ns)
    return y


def value_and_grad(
    fn: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False, *, argnum: Any = None
) -> Callable[..., Any]:
    """A function that returns `fn`'s value and its gradient with respect to the arguments `argnums`.

    `fn` returns one element, or `(element, aux)` with `has_aux`; arguments may be nested dicts, lists
    and tuples of arrays.

    Raises:
        GradientError: `fn` returned more than one element.
        DTypeError: an argument is not floating point.

    Examples:
        >>> import framework as fw
        >>> value, g = fw.value_and_grad(lambda x: (x * x).sum())(fw.tensor([1.0, 2.0]))
        >>> value.item(), g.tolist()
        (5.0, [2.0, 4.0])
    """
    argnums = argnums if argnum is None else argnum
    single = isinstance(argnums, int)
    numbers: tuple[int, ...] = (argnums,) if single else tuple(argnums)  # type: ignore[arg-type,assignment]

    @functools.wraps(fn)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        for n in numbers:
            if not -len(args) <= n < len(args):
                raise GradientError(
                    f"argnums={argnums}, but the function was called with {len(args)} positional arguments"
                )
        leaves, structure = tree.flatten([args[n] for n in numbers])
        pullback = _Pullback([_check_differentiable(x, "grad") for x in leaves])
        full = list(args)
        for n, value in zip(numbers, tree.unflatten(structure, list(pullback.aliases))):
            full[n] = value
        aux: list[Any] = []

        def run(*a: Any, **k: Any) -> Any:
            out = fn(*a, **k)
            if has_aux:
                out, extra = out
                aux.append(tree.map_leaves(lambda t: t.detach() if isinstance(t, Tensor) else t, extra))
            return out

        (y,), _ = _call(pullback, run, full, kwargs)
        if y.size != 1:
            raise GradientError(
                f"grad is for functions of one element, this one returned shape {y.shape}; use jacobian or vjp"
            )
        grads = tree.unflatten(
            structure, pullback.pull([y], [ops.ones_like(_result(pullback, y).detach())], retain=False)
        )
        value = _result(pullback, y)
        return (value if not has_aux else (value, aux[0])), grads[0] if single else tuple(grads)

    return wrapped


def grad(
    fn: Callable[..., Any], argnums: int | Sequence[int] = 0, has_aux: bool = False, *, argnum: Any = None
) -> Callable[..., Any]:
    """A function that returns the gradient of `fn` with respect to the arguments `argnums`.

    With `has_aux`, `fn` returns `(element, aux)` and the result is `(gradient, aux)`.

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


# -- forward mode ------------------------------------------------------------------------------------


def jvp(fn: Callable[..., Any], primals: Sequence[Any], tangents: Sequence[Any]) -> tuple[Any, Any]:
    """`fn(*primals)` and its derivative along `tangents`.

    Examples:
        >>> import framework as fw
        >>> y, t = fw.jvp(lambda x: x * x, (fw.tensor(3.0),), (fw.tensor(1.0),))
        >>> y.item(), t.item()
        (9.0, 6.0)
    """
    leaves, structure = tree.flatten(tuple(primals))
    directions, _ = tree.flatten(tuple(tangents))
    if len(leaves) != len(directions):
        raise GradientError(f"jvp of {len(leaves)} arrays needs as many tangents, got {len(directions)}")
    level = Dual()
    with level:
        duals = []
        for x, t in zip(leaves, directions):
            x = _check_differentiable(x, "jvp")
            duals.append(LeveledTensor(x, level, _seed(x, t)))
        out, out_structure = tree.flatten(fn(*tree.unflatten(structure, duals)))
        out = [as_tensor(y) for y in out]
    values = [level.lower(y) for y in out]
    derivatives = [y._extra if y._level is level else ops.zeros_like(y.detach()) for y in out]
    return tree.unflatten(out_structure, values), tree.unflatten(out_structure, derivatives)


# -- batching ----------------------------------------------------------------------------------------


def vmap(fn: Callable[..., Any], in_axes: Any = 0, out_axes: int = 0) -> Callable[..., Any]:
    """`fn` of one sample as a function of a batch, by batching rules: no loop over samples.

    Args:
        in_axes: the batch axis of each argument, or one for all; None for an argument without one.
        out_axes: where the batch axis of the results goes.
    """

    @functools.wraps(fn)
    def wrapped(*args: Any) -> Any:
        axes = in_axes if isinstance(in_axes, tuple | list) else (in_axes,) * len(args)
        flat: list[tuple[Any, Any, int | None]] = []
        sizes: set[int] = set()
        for arg, axis in zip(args, axes):
            leaves, structure = tree.flatten(arg)
            tensors = [as_tensor(x) for x in leaves] if axis is not None else leaves
            if axis is not None:
                sizes.update(x.shape[axis] for x in tensors)
            flat.append((tensors, structure, axis))
        if len(sizes) != 1:
            raise ShapeError(f"vmap needs one batch size over all mapped arguments, got {sorted(sizes) or 'none'}")
        level = Batch(sizes.pop())
        with level:
            full = [
                tree.unflatten(
                    structure,
                    leaves if axis is None else [LeveledTensor(ops.moveaxis(x, axis, 0), level) for x in leaves],
                )
                for leaves, structure, axis in flat
            ]
            out, out_structure = tree.flatten(fn(*full))
            out = [as_tensor(y) for y in out]
        results = []
        for y in out:
            y = level.lower(y) if y._level is level else ops.broadcast_to(y, (level.size, *y.shape))
            results.append(ops.moveaxis(y, 0, out_axes))
        return tree.unflatten(out_structure, results)

    return wrapped
