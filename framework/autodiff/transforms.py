"""Backward on Tensors, and transforms of functions: grad, vjp, jvp, vmap."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from framework.autodiff import tape, tree
from framework.autodiff.convert import as_tensor
from framework.autodiff.kinds import negative_axis
from framework.autodiff.levels import Batch, Dual, LeveledTensor, Tape, active
from framework.autodiff.modes import enable_grad, grad_enabled
from framework.autodiff.namespace import PRIMITIVES, ops
from framework.autodiff.primitive import primitive, public
from framework.autodiff.tape import Node
from framework.autodiff.tensor import Tensor
from framework.errors import DTypeError, GradientError, ShapeError


def _wrap(array: Any, node: Node | None, ns: Any) -> Tensor:
    return Tensor(array, node, ns)


def _constant(array: Any, node: Node | None, ns: Any) -> Tensor:
    return Tensor(array, None, ns)


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
    if y._level is not None:
        raise GradientError("backward inside a transform would lose what surrounds it; use fw.grad or fw.vjp")
    if y._node is None:
        raise GradientError(
            "backward from a Tensor that depends on nothing that requires a gradient. Was it computed under no_grad, "
            "detached, or from data alone?"
        )
    seed = _seed(y, gradient)
    only = None
    if inputs is not None:
        inputs = (inputs,) if isinstance(inputs, Tensor) else inputs
        if any(t._node is None or t._node.prim is not None for t in inputs):
            raise GradientError("backward(inputs=…) takes leaves that require a gradient; for others use fw.vjp")
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
    """The tape of one call, from which gradients with respect to its inputs are pulled.

    That is the raw tape, that of the `Tape` level on top, which consecutive reverse-mode transforms
    share, or a new level above a transform of another kind.
    """

    def __init__(self, inputs: list[Tensor]) -> None:
        self.outer_grad = grad_enabled.get()
        self.start = tape.next_seq()
        top = next(reversed(active.get()), None)
        self.is_new = not (top is None or isinstance(top, Tape))
        self.level = Tape() if self.is_new else top
        self.tracked = any(x._node is not None and x._level is self.level for x in inputs)
        self.inputs = inputs
        self.aliases = [self._alias(x) for x in inputs]
        self.nodes = [a._node for a in self.aliases]  # an in-place operator may give the alias another one

    def _alias(self, x: Tensor) -> Tensor:
        """`x` on this tape; inputs that are one Tensor stay apart, and none is a leaf."""
        parent = x._node if x._level is self.level else None
        data = self._lower(x)
        node = Node(PRIMITIVES["alias"], (parent,), (None, None, None), {}, data, x._ns if self.level is None else ops)
        return self._wrap(data, node, x._ns)

    def _lower(self, x: Tensor) -> Any:
        return x._data if self.level is None else self.level.lower(x)

    def _wrap(self, array: Any, node: Node | None, ns: Any) -> Any:
        """A saved array as a Tensor on this tape; the inverse of `_lower`."""
        if self.level is None:
            return _wrap(array, node, ns)
        return array if node is None else LeveledTensor(array, self.level, node=node)

    def pull(self, outputs: list[Tensor], seeds: list[Tensor], retain: bool) -> list[Tensor]:
        """One gradient per input."""
        roots = [(y._node, s) for y, s in zip(outputs, seeds) if y._node is not None and y._level is self.level]
        if self._needs_graph([node for node, _ in roots], seeds):
            found = tape.backward(roots, retain=True, only=self.nodes, wrap=self._wrap, ops=ops)  # type: ignore[arg-type]
        elif self.level is None and any(s._level is not None for s in seeds):  # pulled inside another transform
            found = tape.backward(roots, retain=True, only=self.nodes, wrap=_constant, ops=ops)  # type: ignore[arg-type]
        else:
            below = [(node, self._lower(s)) for node, s in roots]
            found = tape.backward(below, retain=retain, only=self.nodes)  # type: ignore[arg-type]
        result = []
        for node, x in zip(self.nodes, self.inputs):
            g = found.get(node)  # type: ignore[arg-type]
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
        seen: set[Node] = set()
        stack = list(nodes)
        while stack:
            node = stack.pop()
            if node in seen:
                continue
            seen.add(node)
            if node.seq < self.start:
                return True  # something older than this call: a weight it closes over, say
            stack.extend(p for p in node.parents if p is not None)
        return False

    def result(self, y: Tensor) -> Tensor:
        """An output as the caller sees it: without this call's tape unless something outside is tracked."""
        if self.is_new:
            return self.level.lower(y)  # type: ignore[union-attr]
        if y._node is None or y._level is not self.level or self._needs_graph([y._node], []):
            return y
        return Tensor(y._data, None, y._ns) if self.level is None else y._data


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
        if len(seeds) != len(outputs):
            raise GradientError(f"vjp of a function with {len(outputs)} results needs as many, got {len(seeds)}")
        seeds = [_seed(y, s) for y, s in zip(outputs, seeds)]
        return tree.unflatten(structure, pullback.pull(outputs, seeds, retain=True))

    return tree.unflatten(out_structure, [pullback.result(y) for y in outputs]), pull


def _call(pullback: _Pullback, fn: Any, args: Any, kwargs: Any) -> tuple[list[Tensor], Any]:
    with enable_grad():
        if pullback.is_new:
            with pullback.level:  # type: ignore[union-attr]
                out = fn(*args, **kwargs)
        else:
            out = fn(*args, **kwargs)
    leaves, structure = tree.flatten(out)
    return [as_tensor(y) for y in leaves], structure


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
                if not isinstance(out, tuple) or len(out) != 2:
                    raise GradientError("with has_aux the function returns a pair, (element, aux)")
                out, extra = out
                aux.append(extra)
            return out

        outputs, _ = _call(pullback, run, full, kwargs)
        if len(outputs) != 1:
            raise GradientError(
                f"grad is for functions of one element, this one returned {len(outputs)} arrays; "
                "use has_aux=True for what is not differentiated"
            )
        (y,) = outputs
        if y.dtype.kind != "float":
            raise DTypeError(f"grad needs a function with a floating-point value, this one returned {y.dtype.name}")
        if y.size != 1:
            raise GradientError(
                f"grad is for functions of one element, this one returned shape {y.shape}; use jacobian or vjp"
            )
        result: Any = pullback.result(y)
        if has_aux:
            extra = tree.map_leaves(lambda t: pullback.result(t) if isinstance(t, Tensor) else t, aux[0])
            result = (result, extra)
        grads = tree.unflatten(structure, pullback.pull([y], [_seed(y, None)], retain=False))
        return result, grads[0] if single else tuple(grads)

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
    if not isinstance(primals, list | tuple) or not isinstance(tangents, list | tuple):
        raise GradientError("jvp takes a tuple of primals and one of tangents: jvp(f, (x,), (t,))")
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
        if len(axes) != len(args):
            raise ShapeError(f"vmap with in_axes of {len(axes)} arguments was called with {len(args)}")
        flat: list[tuple[Any, Any, int | None]] = []
        sizes: set[int] = set()
        for arg, axis in zip(args, axes):
            leaves, structure = tree.flatten(arg)
            tensors = [as_tensor(x) for x in leaves] if axis is not None else leaves
            if axis is not None:
                sizes.update(x.shape[negative_axis(axis, x.ndim)] for x in tensors)
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
            y = y if y._level is level else level.lift(y)
            results.append(ops.moveaxis(y._data, 0, out_axes))
        return tree.unflatten(out_structure, results)

    return wrapped
