"""Making Tensors of other things, and what an in-place operator does."""

from __future__ import annotations

from typing import Any

from framework.autodiff.hostnumber import HostNumber
from framework.autodiff.modes import default_backend, get_default_dtype
from framework.autodiff.namespace import namespace_of, ops
from framework.autodiff.tensor import KINDS, Tensor, check_inplace
from framework.backend import Backend, registry
from framework.backend import dtypes as dt
from framework.backend.dtypes import DType
from framework.errors import BackendError, DTypeError, GradientError, ShapeError


def resolve_backend(backend: Any = None, device: str | None = None) -> Backend:
    """The backend that arguments `backend` and `device` mean; the default one for neither."""
    if device is not None and not isinstance(device, str):
        raise BackendError(f"a device is a string such as 'cpu' or 'cuda:1', got {device!r}")
    if backend is not None:
        found = backend if isinstance(backend, Backend) else registry.get(backend)
        if device is not None and device.partition(":")[0] != found.name:
            raise BackendError(f"backend={found.name!r} and device={device!r} contradict each other")
        return found
    return registry.get(device.partition(":")[0]) if device is not None else default_backend()


def named_device(backend: Backend, device: str | None) -> str | None:
    """`device` if it names one of the backend's; None if it only names the backend."""
    return device if device is not None and (":" in device or device in backend.devices) else None


def named_dtype(d: Any) -> DType:
    """The dtype that `d` is or names; Python's `float` and `complex` mean the default precision."""
    if d is float:
        return get_default_dtype()
    return dt.promote(get_default_dtype(), dt.complex64) if d is complex else dt.dtype(d)


def tensor(
    data: Any,
    *,
    dtype: DType | str | None = None,
    backend: Any = None,
    device: str | None = None,
    requires_grad: bool = False,
) -> Tensor:
    """A Tensor with a copy of `data`: nested lists, a number, a NumPy array, a Tensor, anything with DLPack.

    Python floats get the default dtype; arrays keep theirs.

    Raises:
        DTypeError: `requires_grad` with a dtype that is not floating point.
        BackendError: no such backend or device.

    Examples:
        >>> import framework as fw
        >>> fw.tensor([[1.0, 2.0]]).shape
        (1, 2)
        >>> fw.tensor([1, 2]).dtype
        fw.int64
    """
    made = asarray(data, dtype=dtype, backend=backend, device=device, copy=True)
    if requires_grad:
        made.requires_grad = True
    return made


def asarray(
    data: Any,
    *,
    dtype: DType | str | None = None,
    backend: Any = None,
    device: str | None = None,
    copy: bool | None = None,
) -> Tensor:
    """A Tensor of `data` without history; shares memory with it where it can, unless `copy`."""
    if type(data) is HostNumber:
        data = data.settled()
    if isinstance(data, Tensor):
        if backend is None and device is None:
            device = data.device
        data._lend()
        source = data._ns.backend
        target = resolve_backend(backend, device)
        if data._ns.listener() is not None and target is source:
            return _recorded_copy(data, dtype, copy)
        data = data._data if target is source else source.to_numpy(data._data)
    else:
        target = resolve_backend(backend, device)
        if isinstance(data, list | tuple):
            data = _plain(data)
    own = named_dtype(dtype) if dtype is not None else python_dtype(data)
    array = target.asarray(data, dtype=own, device=named_device(target, device), copy=copy)
    if own is None:
        _check_numbers(target, array, data)
    return Tensor(array, None, namespace_of(target))


def _recorded_copy(t: Tensor, dtype: Any, copy: bool | None) -> Tensor:
    """`asarray` of a Tensor in a call that `compile` records, by functions that it is told of."""
    t = Tensor(t._data, None, t._ns)
    if dtype is not None and named_dtype(dtype) is not t.dtype:
        return ops.astype(t, dtype)
    return ops.clone(t) if copy else t


def _check_numbers(backend: Backend, array: Any, data: Any) -> None:
    try:
        backend.dtype_of(array)
    except DTypeError:
        raise DTypeError(f"a Tensor is made of numbers, got {type(data).__name__} {data!r:.60}") from None


def _plain(data: Any) -> Any:
    """Nested sequences with Tensors replaced by their values."""
    if isinstance(data, Tensor):
        return data.detach().numpy().tolist()
    if isinstance(data, list | tuple):
        return [_plain(item) for item in data]
    return data.settled() if type(data) is HostNumber else data


def python_dtype(data: Any) -> DType | None:
    """The dtype of plain Python data; None for arrays, which know their own."""
    if hasattr(data, "dtype"):
        return None
    kinds: set[str] = set()
    stack = [data]
    while stack:
        item = stack.pop()
        if isinstance(item, list | tuple):
            stack.extend(item)
        elif hasattr(item, "dtype"):  # a NumPy scalar or array among them: let the library decide
            kinds.add("float" if "float" in str(item.dtype) else "library")
        else:
            kinds.add(type(item).__name__)
    if "complex" in kinds:
        return dt.promote(get_default_dtype(), dt.complex64)
    if "library" in kinds:
        return None
    if kinds == {"bool"}:
        return dt.bool_
    if kinds and kinds <= {"int", "bool"}:
        return dt.int64
    return get_default_dtype() if kinds <= {"int", "bool", "float"} else None


def as_tensor(x: Any, like: Tensor | None = None) -> Tensor:
    """`x` as a Tensor, on the backend and device of `like` or on the default one; shares memory."""
    if isinstance(x, Tensor):
        return x if x._level is None else x._level.settled(x)
    if like is not None:
        ns = like._ns
        if isinstance(x, bool | int | float | complex):  # a NumPy float64 is a float, and as weak
            d = dt.promote_scalar(like.dtype, x, get_default_dtype())
            return Tensor(ns.backend.asarray(x, dtype=d, device=like.device), None, ns)
        if ns.backend.owns(x):
            return Tensor(x, None, ns)
        return asarray(x, device=like.device)
    backend = default_backend()
    return Tensor(x, None, namespace_of(backend)) if backend.owns(x) else asarray(x)


def rebind(t: Tensor, result: Tensor) -> Tensor:
    """What an in-place operator does: `t` becomes `result`; a leaf stays the same leaf.

    A Tensor from outside a transform cannot hold a value inside it; then it stays, and `result` is returned.

    Raises:
        GradientError: `t` is a leaf that requires a gradient, and operations are recorded.
        DTypeError: the result's dtype is of a higher kind.
        ShapeError: the result has another shape.
    """
    check_inplace(t)
    if result.shape != t.shape:
        raise ShapeError(f"an in-place operation gave shape {result.shape} for a Tensor of shape {t.shape}")
    if result.dtype != t.dtype:
        if KINDS.index(result.dtype.kind) > KINDS.index(t.dtype.kind):
            raise DTypeError(
                f"an in-place operation gave {result.dtype.name} for a Tensor of {t.dtype.name}; use .astype"
            )
        result = ops.astype(result, t.dtype)
    level = t._level
    if result._level is not level:
        if level is None or (result._level is not None and result._level.depth > level.depth):
            return result
        result = level.lift(result)
    is_leaf = t._node is not None and t._node.prim is None
    if t._ns.recorder is not None:
        t._ns.recorder.writes(t)
    if is_leaf:
        t._write(result._array())
    else:
        t._data = result._data
    if level is not None:
        t._extra = result._extra  # type: ignore[attr-defined]
    if not is_leaf:
        t._node = result._node
    return t


def write(t: Tensor, result: Tensor) -> Tensor:
    """`rebind` where nothing can be handed back but `t`.

    Raises:
        GradientError: `t` cannot hold the result.
    """
    if rebind(t, result) is not t:
        raise GradientError(
            "a value inside a transform is written into a Tensor from outside, which cannot hold it; "
            "stack the parts, or use where()"
        )
    return t


for _function in (tensor, asarray, as_tensor, named_dtype, rebind, write, get_default_dtype):
    setattr(ops, _function.__name__, _function)
