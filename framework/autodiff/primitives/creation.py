"""Functions that make Tensors, move them between backends, and cut them off the tape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from framework.autodiff import convert
from framework.autodiff.convert import as_tensor
from framework.autodiff.hostnumber import HostNumber
from framework.autodiff.kinds import integers
from framework.autodiff.modes import get_default_dtype, grad_enabled
from framework.autodiff.namespace import PRIMITIVES, namespace_of, ops
from framework.autodiff.primitive import primitive, public
from framework.autodiff.tape import Node
from framework.autodiff.tensor import Tensor
from framework.backend import dtypes as dt
from framework.backend import registry
from framework.errors import GradientError, ShapeError


def _make(name: str, *args: Any, dtype: Any, device: str | None, backend: Any, **kwargs: Any) -> Tensor:
    target = convert.resolve_backend(backend, device)
    native = None if dtype is None else target.native(convert.named_dtype(dtype))
    args = tuple([a.settled() if type(a) is HostNumber else a for a in args])
    made = getattr(target.xp, name)(*args, dtype=native, **kwargs)
    where = convert.named_device(target, device)
    if where is not None and where != target.device_of(made):
        made = target.asarray(made, device=where)
    return Tensor(made, None, namespace_of(target))


def _shape(shape: int | Sequence[int]) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else integers(shape)


@public
def empty(shape: int | Sequence[int], *, dtype: Any = None, device: str | None = None, backend: Any = None) -> Tensor:
    """An array whose values are whatever was there, of the default dtype or of `dtype`."""
    return _make("empty", _shape(shape), dtype=dtype or get_default_dtype(), device=device, backend=backend)


@public
def zeros(shape: int | Sequence[int], *, dtype: Any = None, device: str | None = None, backend: Any = None) -> Tensor:
    """Zeros of the default dtype, or of `dtype`."""
    return _make("zeros", _shape(shape), dtype=dtype or get_default_dtype(), device=device, backend=backend)


@public
def ones(shape: int | Sequence[int], *, dtype: Any = None, device: str | None = None, backend: Any = None) -> Tensor:
    """Ones of the default dtype, or of `dtype`."""
    return _make("ones", _shape(shape), dtype=dtype or get_default_dtype(), device=device, backend=backend)


@public
def full(
    shape: int | Sequence[int], fill_value: Any, *, dtype: Any = None, device: str | None = None, backend: Any = None
) -> Tensor:
    """One value everywhere; its dtype follows the value where none is given. Gradients flow to a Tensor's value."""
    if hasattr(fill_value, "dtype") and not isinstance(fill_value, float | complex):
        value = ops.asarray(fill_value, dtype=dtype, device=device, backend=backend)
        return ops.broadcast_to(value, _shape(shape))
    if dtype is None:
        dtype = convert.python_dtype(fill_value) or get_default_dtype()
    return _make("full", _shape(shape), fill_value, dtype=dtype, device=device, backend=backend)


@public
def full_like(x: Any, /, fill_value: Any, *, dtype: Any = None, device: str | None = None) -> Tensor:
    """An array of `x`'s shape, and of its dtype and device where no others are given, filled with one value."""
    x = as_tensor(x)
    if x._level is not None or device is not None or isinstance(fill_value, Tensor):
        return full(x.shape, fill_value, dtype=dtype or x.dtype, device=device or x.device)
    native = x._ns.backend.native(convert.named_dtype(dtype)) if dtype is not None else None
    return Tensor(x._ns.xp.full_like(x._data, fill_value, dtype=native), None, x._ns)


@public
def empty_like(x: Any, /, *, dtype: Any = None, device: str | None = None) -> Tensor:
    """An array of `x`'s shape, dtype and device, whose values are whatever was there."""
    x = as_tensor(x)
    return empty(x.shape, dtype=dtype or x.dtype, device=device or x.device)


@public
def zeros_like(x: Any, /, *, dtype: Any = None, device: str | None = None) -> Tensor:
    """Zeros of `x`'s shape, dtype and device."""
    return full_like(x, 0, dtype=dtype, device=device)


@public
def ones_like(x: Any, /, *, dtype: Any = None, device: str | None = None) -> Tensor:
    """Ones of `x`'s shape, dtype and device."""
    return full_like(x, 1, dtype=dtype, device=device)


@public
def from_dlpack(x: Any, /, *, device: str | None = None, copy: bool | None = None) -> Tensor:
    """A Tensor of an array of any library that speaks DLPack; shares memory with it where it can, unless `copy`.

    Raises:
        GradientError: `x` is a Tensor on the tape, which the new one would not be.
    """
    if isinstance(x, Tensor):
        x.__dlpack_device__()
        if x.requires_grad or x._level is not None:
            raise GradientError("from_dlpack makes arrays without history; use asarray, or .detach() first")
    return convert.asarray(x, device=device, copy=copy)


# -- grids ---------------------------------------------------------------------------------------


@public
def arange(
    start: float,
    /,
    stop: float | None = None,
    step: float = 1,
    *,
    dtype: Any = None,
    device: str | None = None,
    backend: Any = None,
) -> Tensor:
    """Numbers from `start` (0 if only one bound is given) up to `stop`, `step` apart."""
    if stop is None:
        start, stop = 0, start
    start, stop, step = [v.item() if hasattr(v, "item") else v for v in (start, stop, step)]  # a NumPy number, say
    if dtype is None:
        dtype = dt.int64 if all(isinstance(v, int) for v in (start, stop, step)) else get_default_dtype()
    return _make("arange", start, stop, step, dtype=dtype, device=device, backend=backend)


@public
def linspace(
    start: Any,
    stop: Any,
    /,
    num: int,
    *,
    dtype: Any = None,
    device: str | None = None,
    endpoint: bool = True,
    backend: Any = None,
) -> Tensor:
    """`num` equally spaced numbers from `start` to `stop`; gradients flow to ends that are Tensors."""
    if isinstance(start, Tensor) or isinstance(stop, Tensor):
        return _linspace(start, stop, num, endpoint=endpoint, dtype=dtype)
    if dtype is None:
        dtype = get_default_dtype()
        if isinstance(start, complex) or isinstance(stop, complex):
            dtype = dt.promote(dtype, dt.complex64)
    return _make("linspace", start, stop, num, dtype=dtype, device=device, backend=backend, endpoint=endpoint)


def _linspace(start: Any, stop: Any, num: int, *, endpoint: bool, dtype: Any) -> Tensor:
    like = start if isinstance(start, Tensor) else stop
    start, stop = as_tensor(start, like), as_tensor(stop, like)
    d = dt.promote_scalar(dt.promote(start.dtype, stop.dtype), 1.0, get_default_dtype())
    steps = ops.arange(num, dtype=dt.real_of(d), device=like.device)
    steps = ops.reshape(steps, (num,) + (1,) * max(start.ndim, stop.ndim)) / max(num - 1 if endpoint else num, 1)
    made = start * (1 - steps) + stop * steps  # both ends exact
    return made if dtype is None else ops.astype(made, dtype)


@public
def meshgrid(*arrays: Any, indexing: str = "xy") -> list[Tensor]:
    """The coordinates of a grid over one-dimensional arrays, one array per axis of the grid.

    With "xy" the first array runs along the second axis, as in plots; with "ij" along the first.

    Raises:
        ShapeError: an array has more than one axis.
    """
    if indexing not in ("xy", "ij"):
        raise ValueError(f"meshgrid's indexing is 'xy' or 'ij', got {indexing!r}")
    tensors = [as_tensor(a) for a in arrays]
    if any(t.ndim > 1 for t in tensors):
        raise ShapeError(f"meshgrid takes one-dimensional arrays, got shapes {[t.shape for t in tensors]}")
    places = list(range(len(tensors)))
    if indexing == "xy" and len(places) > 1:
        places[:2] = 1, 0
    shape = [0] * len(places)
    for t, place in zip(tensors, places):
        shape[place] = t.size
    return [
        ops.broadcast_to(ops.reshape(t, [t.size if i == place else 1 for i in range(len(places))]), shape)
        for t, place in zip(tensors, places)
    ]


@public
def eye(
    n_rows: int,
    n_cols: int | None = None,
    /,
    *,
    k: int = 0,
    dtype: Any = None,
    device: str | None = None,
    backend: Any = None,
) -> Tensor:
    """Ones on the k-th diagonal, zeros elsewhere."""
    return _make("eye", n_rows, n_cols, k=k, dtype=dtype or get_default_dtype(), device=device, backend=backend)


@public
def tril(x: Any, /, *, k: int = 0) -> Tensor:
    """The lower triangle of matrices; zeros above the k-th diagonal."""
    x = as_tensor(x)
    return ops.where(_below(x, k), x, _zero(x))


@public
def triu(x: Any, /, *, k: int = 0) -> Tensor:
    """The upper triangle of matrices; zeros below the k-th diagonal."""
    x = as_tensor(x)
    return ops.where(_below(x, k - 1), _zero(x), x)


def _zero(x: Tensor) -> int:
    return False if x.dtype is dt.bool_ else 0


def _below(x: Tensor, k: int) -> Tensor:
    if x.ndim < 2:
        raise ShapeError(f"a triangle is one of matrices; got shape {x.shape}")
    rows = ops.reshape(arange(x.shape[-2], device=x.device), (-1, 1))
    return arange(x.shape[-1], device=x.device) <= rows + k


# -- moves ---------------------------------------------------------------------------------------


def _transfer(x: Tensor, device: str) -> Tensor:
    source, target = x.backend, registry.get(device.partition(":")[0])
    if device == x.device:
        return Tensor(x._ns.clone(x._data), None, x._ns)
    for listener in (x._ns.listener(), namespace_of(target).listener()):
        if listener is not None:
            listener.give_up("a Tensor moves between devices")
    array = x._data if source is target else source.to_numpy(x._data)
    moved = target.asarray(array, dtype=x.dtype, device=convert.named_device(target, device), copy=True)
    return Tensor(moved, None, namespace_of(target))


def _to_device_vjp(
    ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any, *, device: str, back: str
) -> tuple[Any, ...]:
    if isinstance(g, Tensor):
        return (to_device(g, back),)
    return (_transfer(Tensor(g, None, ns), back)._data,)


def _to_device_jvp(ns: Any, tangents: Any, out: Any, x: Any, *, device: str, back: str) -> Any:
    return to_device(tangents[0], device)


def _apply_to_device(x: Tensor, *, device: str, back: str) -> Tensor:
    """Applied by hand, because input and output are of different namespaces."""
    if x._level is not None:
        return x._level.process(_move, (x,), {"device": device, "back": back})
    moved = _transfer(x, device)
    if x._node is not None and grad_enabled.get():
        params = {"device": device, "back": back}
        moved._node = Node(_move, (x._node,), (None, None, None), params, moved._data, moved._ns)
    return moved


primitive("to_device", arity=1, vjp=_to_device_vjp, jvp=_to_device_jvp)
_move = PRIMITIVES["to_device"]
_move.apply = _apply_to_device


@public
def to_device(x: Any, device: str) -> Tensor:
    """The values on another backend or device; gradients come back the same way."""
    x = as_tensor(x)
    return _apply_to_device(x, device=device, back=x.device)


@public
def stop_gradient(x: Any, /) -> Tensor:
    """`x` as a constant: no gradient of any order, in any mode, flows through."""
    x = as_tensor(x)
    if x._level is None:
        return x.detach()
    return x._level.constant_of(x)
