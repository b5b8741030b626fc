"""Primitives: one block declares an operation's forward, reverse, forward-mode and batching rules.

    forward(ns, *inputs, **params) -> out, or (out, residual) where `residual=True`
    vjp(ns, g, needs, out, residual, *inputs, **params) -> one gradient or None per input
    jvp(ns, tangents, out, *inputs, **params) -> the tangent of out, or None
    batch(ops, n, is_batched, inputs, params, apply) -> out with the batch on axis 0

- `ns` offers the Array API on whatever the arrays are: raw arrays, or Tensors (see `namespace`).
- `needs` is the tuple of parent nodes: None where no gradient is wanted.
- Inputs and outputs that a rule did not ask to keep arrive as None (`keep`, `keep_out`).
- `residual` is a cache of forward's that may be absent: `p = softmax(z) if residual is None else residual`.
- Axes in `params` are negative numbers, so that a batch axis in front changes nothing.
- Un-broadcasting and casts of gradients happen once, in the driver.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from framework.autodiff.convert import as_tensor
from framework.autodiff.modes import get_default_dtype, grad_enabled
from framework.autodiff.namespace import PRIMITIVES, ops
from framework.autodiff.tape import Node
from framework.autodiff.tensor import Tensor
from framework.backend import dtypes as dt
from framework.errors import BackendError

Rule = Callable[..., Any]
Needs = tuple[Any, ...]


class Primitive:
    """An operation with its rules. Calling it applies it to Tensors, arrays and Python scalars."""

    def __init__(
        self,
        name: str,
        *,
        forward: Rule | None,
        vjp: Rule | None,
        jvp: Rule | None,
        batch: Rule,
        keep: tuple[tuple[int, ...], ...],
        keep_out: tuple[int, ...],
        residual: bool,
        promotes: bool,
    ) -> None:
        self.name = name
        self.forward = forward
        self.vjp: Any = vjp
        self.jvp: Any = jvp
        self.batch = batch
        self.keep = keep
        self.keep_out = keep_out
        self.residual = residual
        self.promotes = promotes
        self.apply: Any = None
        self._kept: dict[tuple[bool, ...], tuple[bool, ...]] = {}

    def kept(self, mask: tuple[bool, ...]) -> tuple[bool, ...]:
        """What to save, `(out, *inputs)`, when the inputs in `mask` need gradients."""
        try:
            return self._kept[mask]
        except KeyError:
            need = {i for i, wanted in enumerate(mask) if wanted}
            flags = [bool(need & set(self.keep_out))]
            for i in range(len(mask)):
                flags.append(bool(need & set(self.keep[i])) if i < len(self.keep) else False)
            self._kept[mask] = result = tuple(flags)
            return result

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"


def primitive(
    name: str,
    *,
    arity: int | None,
    forward: Rule | None = None,
    vjp: Rule | None = None,
    jvp: Rule | None = None,
    batch: Rule | None = None,
    keep: Sequence[Sequence[int]] = (),
    keep_out: Sequence[int] = (),
    residual: bool = False,
    promotes: bool = False,
) -> Callable[..., Tensor]:
    """Declare a primitive and get the function that applies it.

    Args:
        name: its name; without `forward`, that of the Array API function it is.
        arity: the number of inputs; None where it varies.
        keep: per input, the inputs whose gradients need it: `((1,), (0,))` for a product.
        keep_out: the inputs whose gradients need the output.
        residual: forward returns `(out, residual)`.
        promotes: inputs are brought to one dtype first.
    """
    p = Primitive(
        name,
        forward=forward,
        vjp=vjp,
        jvp=jvp,
        batch=batch or pass_through,
        keep=tuple(tuple(k) for k in keep),
        keep_out=tuple(keep_out),
        residual=residual,
        promotes=promotes,
    )
    PRIMITIVES[name] = p
    if arity == 1 and not residual:
        apply = _unary(p)
    elif arity == 2 and promotes and not residual:
        apply = _binary(p)
    else:
        apply = _nary(p)
    apply.__name__ = apply.__qualname__ = name
    p.apply = apply
    return apply


def public(fn: Rule) -> Rule:
    """Make a function part of the namespace of Tensors, under its own name without a final underscore."""
    setattr(ops, fn.__name__.rstrip("_"), fn)
    return fn


def expose(name: str, fn: Rule) -> Rule:
    """Make `fn` part of the namespace of Tensors under `name`."""
    setattr(ops, name, fn)
    return fn


def pass_through(ops: Any, n: int, is_batched: tuple[bool, ...], inputs: tuple[Any, ...], params: Any, fn: Rule) -> Any:
    """Batching of an operation on the last axes of one input: call it again."""
    return fn(*inputs, **params)


# -- applying ----------------------------------------------------------------------------------
# One closure per arity: the generic one costs three times as much as the operation on small arrays.


def _unary(p: Primitive) -> Callable[..., Tensor]:
    name = p.name
    differentiable = p.vjp is not None
    keep_out, keep_x = p.kept((True,))

    def apply(x: Any, **params: Any) -> Tensor:
        if not isinstance(x, Tensor):
            x = as_tensor(x)
        if x._level is not None:
            return x._level.process(p, (x,), params)
        data = x._data
        ns = x._ns
        out = getattr(ns, name)(data, **params)
        node = x._node
        if node is None or not differentiable or not grad_enabled.get():
            return Tensor(out, None, ns)
        saved = (out if keep_out else None, None, data if keep_x else None)
        return Tensor(out, Node(p, (node,), saved, params, out, ns), ns)

    return apply


def _binary(p: Primitive) -> Callable[..., Tensor]:
    name = p.name
    differentiable = p.vjp is not None

    def apply(x: Any, y: Any, **params: Any) -> Tensor:
        if not isinstance(x, Tensor):
            if isinstance(y, Tensor):
                return _with_scalar(p, y, x, True, params)
            if isinstance(x, float | int | complex):  # weak beside an array, too
                return _with_scalar(p, as_tensor(y), x, True, params)
            x = as_tensor(x)
        if not isinstance(y, Tensor):
            return _with_scalar(p, x, y, False, params)
        if x._level is not None or y._level is not None:
            return _highest((x, y)).process(p, (x, y), params)
        ns = x._ns
        a = x._data
        b = y._data
        if ns is not y._ns:
            x, y = _together((x, y))
            ns, a, b = x._ns, x._data, y._data
        if a.dtype is not b.dtype and a.dtype != b.dtype:
            a, b = _promoted(ns, a, b)
        out = getattr(ns, name)(a, b, **params)
        nx = x._node
        ny = y._node
        if (nx is None and ny is None) or not differentiable or not grad_enabled.get():
            return Tensor(out, None, ns)
        keep_out, keep_x, keep_y = p.kept((nx is not None, ny is not None))
        saved = (out if keep_out else None, None, a if keep_x else None, b if keep_y else None)
        return Tensor(out, Node(p, (nx, ny), saved, params, out, ns), ns)

    return apply


def _with_scalar(p: Primitive, x: Tensor, scalar: Any, on_left: bool, params: dict[str, Any]) -> Tensor:
    """A binary operation of a Tensor and something that is not one: a weak scalar, or an array."""
    if isinstance(scalar, float | int | complex):  # a NumPy float64 is a float, and as weak
        if scalar.__class__ not in (float, int, bool, complex):
            scalar = _python_scalar(scalar)
        target = dt.promote_scalar(x.dtype, scalar, get_default_dtype())
        if isinstance(scalar, bool) and target is not dt.bool_:
            scalar = int(scalar)  # the standard takes a bool beside bools only
        if x.dtype is not target:
            x = ops.astype(x, target)
        if x._level is None:
            ns = x._ns
            data = x._data
            inputs = (scalar, data) if on_left else (data, scalar)
            if not _takes_scalars(p):
                other = ns.backend.asarray(scalar, dtype=target, device=x.device)
                inputs = (other, data) if on_left else (data, other)
            out = getattr(ns, p.name)(*inputs, **params)
            node = x._node
            if node is None or p.vjp is None or not grad_enabled.get():
                return Tensor(out, None, ns)
            keep_out, *keep_in = p.kept((not on_left, on_left))
            saved = (out if keep_out else None, None, *(a if k else None for a, k in zip(inputs, keep_in)))
            parents = (None, node) if on_left else (node, None)
            return Tensor(out, Node(p, parents, saved, params, out, ns), ns)
        scalar = as_tensor(scalar, x)
    other = as_tensor(scalar, x)
    apply = getattr(ops, p.name)
    return apply(other, x, **params) if on_left else apply(x, other, **params)


def _python_scalar(scalar: Any) -> Any:
    kind = float if isinstance(scalar, float) else int if isinstance(scalar, int) else complex
    return kind(scalar)


_SCALARS_OK = frozenset(
    ("add", "subtract", "multiply", "divide", "pow", "maximum", "minimum", "floor_divide", "remainder",
     "greater", "greater_equal", "less", "less_equal", "equal", "not_equal")
)  # fmt: skip


def _takes_scalars(p: Primitive) -> bool:
    """Whether the standard's function takes a Python scalar beside an array (2024.12)."""
    return p.name in _SCALARS_OK


def _nary(p: Primitive) -> Callable[..., Tensor]:
    name = p.name
    differentiable = p.vjp is not None
    promotes = p.promotes
    has_residual = p.residual

    def apply(*inputs: Any, **params: Any) -> Tensor:
        ns = dtype = None
        raw: list[Any] = []
        parents: list[Any] = []
        tracked = False
        for x in inputs:
            if x is None:
                raw.append(None)
                parents.append(None)
                continue
            if not isinstance(x, Tensor) or x._level is not None:
                return _prepared(p, inputs, params)
            data = x._data
            if ns is None:
                ns, dtype = x._ns, data.dtype
            elif x._ns is not ns or (promotes and data.dtype is not dtype and data.dtype != dtype):
                return _prepared(p, inputs, params)
            raw.append(data)
            node = x._node
            parents.append(node)
            if node is not None:
                tracked = True
        out = getattr(ns, name)(*raw, **params)
        residual = None
        if has_residual:
            out, residual = out
        if not tracked or not differentiable or not grad_enabled.get():
            return Tensor(out, None, ns)  # type: ignore[arg-type]
        keep_out, *keep_in = p.kept(tuple([node is not None for node in parents]))
        saved = (out if keep_out else None, residual, *[a if k else None for a, k in zip(raw, keep_in)])
        return Tensor(out, Node(p, tuple(parents), saved, params, out, ns), ns)  # type: ignore[arg-type]

    return apply


def _prepared(p: Primitive, inputs: tuple[Any, ...], params: dict[str, Any]) -> Tensor:
    """The uncommon case: inputs of other kinds, levels, backends or dtypes are brought together first."""
    like = next((x for x in inputs if isinstance(x, Tensor)), None)
    tensors: tuple[Any, ...] = tuple([x if isinstance(x, Tensor) or x is None else as_tensor(x, like) for x in inputs])
    if any(x is not None and x._level is not None for x in tensors):
        return _highest(tensors).process(p, tensors, params)
    tensors = _together(tensors)
    if p.promotes:
        tensors = _all_promoted(tensors)
    return p.apply(*tensors, **params)


def _highest(inputs: Sequence[Any]) -> Any:
    """The innermost transform among the inputs."""
    levels = [x._level for x in inputs if isinstance(x, Tensor) and x._level is not None]
    return max(levels, key=lambda level: level.depth)


def _together(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The Tensors on one backend: 0-d ones follow the others.

    Raises:
        BackendError: arrays of several backends.
    """
    first = next((x for x in tensors if x is not None and x._data.shape), None)
    if first is None:
        first = next(x for x in tensors if x is not None)
    moved = []
    for x in tensors:
        if x is not None and x._ns is not first._ns:
            if x._data.shape:
                from_, to = x.device, first.device
                raise _mixed(from_, to)
            x = ops.to_device(x, first.device)
        moved.append(x)
    return tuple(moved)


def _mixed(a: str, b: str) -> Exception:
    return BackendError(f"one operation on arrays of {a!r} and {b!r}; move one of them with .to({b!r})")


def _promoted(ns: Any, a: Any, b: Any) -> tuple[Any, Any]:
    backend = ns.backend
    da, db = backend.dtype_of(a), backend.dtype_of(b)
    target = dt.promote(da, db)
    native = backend.native(target)
    return (a if da is target else ns.astype(a, native)), (b if db is target else ns.astype(b, native))


def _all_promoted(tensors: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    target = tensors[0].dtype
    for x in tensors[1:]:
        if x is not None:
            target = dt.promote(target, x.dtype)
    return tuple([x if x is None or x.dtype is target else ops.astype(x, target) for x in tensors])
