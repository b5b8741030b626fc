"""Applying a primitive: one closure per arity, because the generic one costs three times a small operation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from framework.autodiff import lines
from framework.autodiff.convert import as_tensor
from framework.autodiff.modes import get_default_dtype, grad_enabled
from framework.autodiff.namespace import ops
from framework.autodiff.tape import Node, Output, next_seq
from framework.autodiff.tensor import Tensor
from framework.backend import dtypes as dt
from framework.errors import BackendError

if TYPE_CHECKING:
    from framework.autodiff.primitive import Primitive


_new: Any = object.__new__


def recorded(
    p: Primitive, parents: tuple[Any, ...], saved: tuple[Any, ...], params: dict[str, Any], out: Any, ns: Any
) -> Tensor:
    """`Tensor(out, Node(p, parents, saved, params, out, ns), ns)`, in two thirds of its time."""
    node = _new(Node)
    node.seq = next_seq()
    node.prim = p
    node.parents = parents
    node.saved = saved
    node.params = params
    node.shape = out.shape
    node.dtype = out.dtype
    node.ns = ns
    node.hooks = None
    if lines.recording:
        node.line = lines.user_line()
    made = _new(Tensor)
    made._data = out
    made._node = node
    made._ns = ns
    return made


def lending(apply: Callable[..., Any]) -> Callable[..., Any]:
    """For an operation whose result may be a view: an optimizer is to look whether its parameter is still held."""

    def lend(x: Any, *others: Any, **params: Any) -> Any:
        if isinstance(x, Tensor) and ((node := x._node) is None or node.prim is None):
            x._lend()
        return apply(x, *others, **params)

    return lend


def unary(p: Primitive) -> Callable[..., Tensor]:
    """One input."""
    name = p.name
    differentiable = p.vjp is not None
    floating = p.floating
    keep_out, keep_x = p.kept((True,))

    def apply(x: Any, **params: Any) -> Tensor:
        try:
            level = x._level
        except AttributeError:  # not a Tensor
            x = as_tensor(x)
            level = x._level
        if level is not None:
            return level.process(p, (x,), params)
        data = x._data
        ns = x._ns
        node = x._node
        if floating and node is None and data.dtype not in ns.floats:  # what is tracked is of a floating dtype
            data = ns.as_floating(data)
        out = getattr(ns, name)(data, **params)
        if node is None or not differentiable or not grad_enabled.get():
            return Tensor(out, None, ns)
        saved = (out if keep_out else None, None, data if keep_x else None)
        return recorded(p, (node,), saved, params, out, ns)

    return apply


def binary(p: Primitive) -> Callable[..., Tensor]:
    """Two inputs that are promoted together; a Python number beside an array is weak."""
    name = p.name
    differentiable = p.vjp is not None
    floating = p.floating

    def apply(x: Any, y: Any, **params: Any) -> Tensor:
        if not isinstance(x, Tensor):
            if isinstance(y, Tensor):
                return _with_scalar(p, y, x, True, params)
            if isinstance(x, _NUMBERS):  # weak beside an array, too
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
        if floating and a.dtype not in ns.floats:
            a, b = ns.as_floating(a), ns.as_floating(b)
        out = getattr(ns, name)(a, b, **params)
        nx = x._node
        ny = y._node
        if (nx is None and ny is None) or not differentiable or not grad_enabled.get():
            return Tensor(out, None, ns)
        keep_out, keep_x, keep_y = p.kept((nx is not None, ny is not None))
        saved = (out if keep_out else None, None, a if keep_x else None, b if keep_y else None)
        return recorded(p, (nx, ny), saved, params, out, ns)

    return apply


def _with_scalar(p: Primitive, x: Tensor, scalar: Any, on_left: bool, params: dict[str, Any]) -> Tensor:
    """A binary operation of a Tensor and something that is not one: a weak scalar, or an array."""
    kind = scalar.__class__
    if (kind is float or kind is int) and x._level is None and x._data.dtype in x._ns.floats and p.name in _SCALARS_OK:
        return _with_weak(p, x, scalar, on_left, params)
    if isinstance(scalar, _NUMBERS):  # a NumPy float64 is a float, and as weak
        if scalar.__class__ not in (float, int, bool, complex):
            scalar = _python_scalar(scalar)
        target = dt.promote_scalar(x.dtype, scalar, get_default_dtype())
        if isinstance(scalar, bool) and target is not dt.bool_:
            scalar = int(scalar)  # the standard takes a bool beside bools only
        if p.floating and not target.is_differentiable:
            target = get_default_dtype()
        if x.dtype is not target:
            x = ops.astype(x, target)
        if x._level is None:
            if target.is_differentiable:
                x._ns.floats.add(x._data.dtype)  # the next time is faster
            if p.name not in _SCALARS_OK:
                scalar = x._ns.backend.asarray(scalar, dtype=target, device=x.device)
            return _with_weak(p, x, scalar, on_left, params)
        scalar = as_tensor(scalar, x)
    other = as_tensor(scalar, x)
    apply = getattr(ops, p.name)
    return apply(other, x, **params) if on_left else apply(x, other, **params)


def _with_weak(p: Primitive, x: Tensor, scalar: Any, on_left: bool, params: dict[str, Any]) -> Tensor:
    """A binary operation of a raw Tensor and a scalar that does not change its dtype."""
    ns = x._ns
    data = x._data
    out = getattr(ns, p.name)(scalar, data, **params) if on_left else getattr(ns, p.name)(data, scalar, **params)
    node = x._node
    if node is None or p.vjp is None or not grad_enabled.get():
        return Tensor(out, None, ns)
    if on_left:
        keep_out, keep_scalar, keep_x = p.kept(_RIGHT)
        saved = (out if keep_out else None, None, scalar if keep_scalar else None, data if keep_x else None)
        return recorded(p, (None, node), saved, params, out, ns)
    keep_out, keep_x, keep_scalar = p.kept(_LEFT)
    saved = (out if keep_out else None, None, data if keep_x else None, scalar if keep_scalar else None)
    return recorded(p, (node, None), saved, params, out, ns)


_LEFT, _RIGHT = (True, False), (False, True)
_NUMBERS = (float, int, complex)


def _python_scalar(scalar: Any) -> Any:
    kind = float if isinstance(scalar, float) else int if isinstance(scalar, int) else complex
    return kind(scalar)


_SCALARS_OK = frozenset(
    ("add", "subtract", "multiply", "divide", "pow", "maximum", "minimum", "floor_divide", "remainder",
     "greater", "greater_equal", "less", "less_equal", "equal", "not_equal")
)  # fmt: skip
"""The standard's functions that take a Python scalar beside an array (2024.12)."""


def pair(p: Primitive) -> Callable[..., Tensor]:
    """Two inputs that are not promoted together, or have a residual."""
    name = p.name
    differentiable = p.vjp is not None
    promotes = p.promotes
    has_residual = p.residual
    general = nary(p)
    kept = [p.kept((bool(k & 1), bool(k & 2))) for k in range(4)]

    def apply(x: Any, y: Any, **params: Any) -> Tensor:
        try:
            ns = x._ns
            if y._ns is not ns or x._level is not None or y._level is not None:
                return general(x, y, **params)
            a = x._data
            b = y._data
            nx = x._node
            ny = y._node
        except AttributeError:  # not a Tensor
            return general(x, y, **params)
        if promotes and a.dtype is not b.dtype:
            return general(x, y, **params)
        out = getattr(ns, name)(a, b, **params)
        residual = None
        if has_residual:
            out, residual = out
        if (nx is None and ny is None) or not differentiable or not grad_enabled.get():
            return Tensor(out, None, ns)
        keep_out, keep_x, keep_y = kept[(nx is not None) + 2 * (ny is not None)]
        saved = (out if keep_out else None, residual, a if keep_x else None, b if keep_y else None)
        return recorded(p, (nx, ny), saved, params, out, ns)

    return apply


def triple(p: Primitive) -> Callable[..., Tensor]:
    """Three inputs that are promoted together, of which the last may be left out or None."""
    name = p.name
    two = pair(p)
    general = nary(p)
    kept = [p.kept((bool(k & 1), bool(k & 2), bool(k & 4))) for k in range(8)]

    def apply(x: Any, y: Any, z: Any = None, /) -> Tensor:
        if z is None:
            return two(x, y)
        try:
            ns = x._ns
            if (
                y._ns is not ns
                or z._ns is not ns
                or x._level is not None
                or y._level is not None
                or z._level is not None
            ):
                return general(x, y, z)
            a = x._data
            b = y._data
            c = z._data
            nx = x._node
            ny = y._node
            nz = z._node
        except AttributeError:  # not a Tensor
            return general(x, y, z)
        dtype = a.dtype
        if b.dtype is not dtype or c.dtype is not dtype:
            return general(x, y, z)
        out = getattr(ns, name)(a, b, c)
        need = 0 if nx is None else 1
        if ny is not None:
            need += 2
        if nz is not None:
            need += 4
        if not need or not grad_enabled.get():
            return Tensor(out, None, ns)
        keep_out, keep_x, keep_y, keep_z = kept[need]
        saved = (out if keep_out else None, None, a if keep_x else None, b if keep_y else None, c if keep_z else None)
        return recorded(p, (nx, ny, nz), saved, {}, out, ns)

    return apply


def nary(p: Primitive) -> Callable[..., Tensor]:
    """Any number of inputs, of which some may be None, and a residual."""
    name = p.name
    differentiable = p.vjp is not None
    promotes = p.promotes
    has_residual = p.residual

    flags = p.flags

    def apply(*inputs: Any, **params: Any) -> Tensor:
        ns = dtype = None
        raw: list[Any] = []
        parents: list[Any] = []
        try:
            for x in inputs:
                if x is None:
                    raw.append(None)
                    parents.append(None)
                    continue
                if x._level is not None:
                    return _prepared(p, inputs, params)
                data = x._data
                if ns is None:
                    ns, dtype = x._ns, data.dtype
                elif x._ns is not ns or (promotes and data.dtype is not dtype and data.dtype != dtype):
                    return _prepared(p, inputs, params)
                raw.append(data)
                parents.append(x._node)
        except AttributeError:  # not a Tensor
            return _prepared(p, inputs, params)
        out = getattr(ns, name)(*raw, **params)
        residual = None
        if has_residual:
            out, residual = out
        mask = tuple([node is not None for node in parents])
        if True not in mask or not differentiable or not grad_enabled.get():
            return Tensor(out, None, ns)  # type: ignore[arg-type]
        keep_out, *keep_in = flags.get(mask) or p.kept(mask)
        saved = (out if keep_out else None, residual, *[a if k else None for a, k in zip(raw, keep_in)])
        return recorded(p, tuple(parents), saved, params, out, ns)

    return apply


def multiple(p: Primitive) -> Callable[..., tuple[Tensor, ...]]:
    """Several outputs: one node for the operation and one for each output, which hands its gradient on."""

    def apply(*inputs: Any, **params: Any) -> tuple[Tensor, ...]:
        tensors = _brought_together(p, inputs)
        if any(x is not None and x._level is not None for x in tensors):
            return _highest(tensors).process(p, tensors, params)
        ns = next(x._ns for x in tensors if x is not None)
        raw = [None if x is None else x._data for x in tensors]
        outs = tuple(getattr(ns, p.name)(*raw, **params))
        parents = tuple([None if x is None else x._node for x in tensors])
        if p.vjp is None or not any(parents) or not grad_enabled.get():
            return tuple([Tensor(out, None, ns) for out in outs])
        keep_out, *keep_in = p.kept(tuple([node is not None for node in parents]))
        saved = (outs if keep_out else None, None, *[a if k else None for a, k in zip(raw, keep_in)])
        node = Node(p, parents, saved, params, outs[0], ns)
        return tuple([Tensor(out, Output(node, i, out), ns) for i, out in enumerate(outs)])

    return apply


def _prepared(p: Primitive, inputs: tuple[Any, ...], params: dict[str, Any]) -> Tensor:
    """The uncommon case: inputs of other kinds, levels, backends or dtypes are brought together first."""
    tensors = _brought_together(p, inputs)
    if any(x is not None and x._level is not None for x in tensors):
        return _highest(tensors).process(p, tensors, params)
    return p.apply(*tensors, **params)


def _brought_together(p: Primitive, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """The inputs as Tensors, of one backend and one dtype unless a transform will take them."""
    like = next((x for x in inputs if isinstance(x, Tensor)), None)
    tensors: tuple[Any, ...] = tuple([x if isinstance(x, Tensor) or x is None else as_tensor(x, like) for x in inputs])
    if any(x is not None and x._level is not None for x in tensors):
        return tensors
    tensors = _together(tensors)
    return _all_promoted(tensors) if p.promotes else tensors


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
