"""Functions that make Tensors, move them between backends, and cut them off the tape."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from framework.autodiff import convert
from framework.autodiff.convert import as_tensor
from framework.autodiff.levels import LeveledTensor
from framework.autodiff.modes import get_default_dtype, grad_enabled
from framework.autodiff.namespace import PRIMITIVES, namespace_of, ops
from framework.autodiff.primitive import primitive, public
from framework.autodiff.tape import Node
from framework.autodiff.tensor import Tensor
from framework.backend import dtypes as dt
from framework.backend import registry


def _make(name: str, *args: Any, dtype: Any, device: str | None, backend: Any, **kwargs: Any) -> Tensor:
    target = convert.resolve_backend(backend, device)
    if isinstance(dtype, dt.DType | str):
        dtype = target.native(dtype)
    made = getattr(target.xp, name)(*args, dtype=dtype, **kwargs)
    where = convert.named_device(target, device)
    if where is not None and where != target.device_of(made):
        made = target.asarray(made, device=where)
    return Tensor(made, None, namespace_of(target))


def _shape(shape: int | Sequence[int]) -> tuple[int, ...]:
    return (shape,) if isinstance(shape, int) else tuple(shape)


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
    """One value everywhere; its dtype follows the value where none is given."""
    if dtype is None:
        dtype = convert.python_dtype(fill_value)
    return _make("full", _shape(shape), fill_value, dtype=dtype, device=device, backend=backend)


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
    if dtype is None:
        dtype = dt.int64 if all(isinstance(v, int) for v in (start, stop, step)) else get_default_dtype()
    return _make("arange", start, stop, step, dtype=dtype, device=device, backend=backend)


@public
def linspace(
    start: float,
    stop: float,
    /,
    num: int,
    *,
    dtype: Any = None,
    device: str | None = None,
    endpoint: bool = True,
    backend: Any = None,
) -> Tensor:
    """`num` equally spaced numbers from `start` to `stop`."""
    dtype = dtype or get_default_dtype()
    return _make("linspace", start, stop, num, dtype=dtype, device=device, backend=backend, endpoint=endpoint)


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
    return ops.where(_below(x, k), x, 0)


@public
def triu(x: Any, /, *, k: int = 0) -> Tensor:
    """The upper triangle of matrices; zeros below the k-th diagonal."""
    x = as_tensor(x)
    return ops.where(_below(x, k - 1), 0, x)


def _below(x: Tensor, k: int) -> Tensor:
    rows = ops.reshape(arange(x.shape[-2], device=x.device), (-1, 1))
    return arange(x.shape[-1], device=x.device) <= rows + k


# -- moves ---------------------------------------------------------------------------------------


def _transfer(x: Tensor, device: str) -> Tensor:
    source, target = x.backend, registry.get(device.partition(":")[0])
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
    below = stop_gradient(x._data)
    return LeveledTensor(below, x._level) if x._level.is_batch else below
