"""Rows of a table by number, and the sum of gradients into such rows: each the transpose of the other.

The row `padding_idx` counts as a constant: its values come out, no derivative goes in.
"""

from __future__ import annotations

from typing import Any

from framework.autodiff.convert import as_tensor
from framework.autodiff.namespace import ops
from framework.autodiff.primitive import primitive, public
from framework.autodiff.tensor import Tensor
from framework.backend import dtypes as dt
from framework.errors import AxisError, DTypeError, ShapeError


def _without_padding(ns: Any, x: Any, indices: Any, padding_idx: int | None) -> Any:
    """`x` (..., n) of the indices (...), with zeros where these are `padding_idx`."""
    if padding_idx is None:
        return x
    return ns.where(ns.expand_dims(indices != padding_idx, axis=-1), x, ns.zeros_like(x))


def _of_sample(ops: Any, n: int, indices: Any, is_batched: bool, rows: int) -> Any:
    """Indices into `n` tables of `rows` rows below each other, the k-th sample's into the k-th."""
    rank = indices.ndim - is_batched
    offsets = ops.arange(n, dtype=dt.int64, device=indices.device) * rows
    return indices + ops.reshape(offsets, (n,) + (1,) * rank)


# -- the rows ----------------------------------------------------------------------------------------


def _embedding_forward(ns: Any, weight: Any, indices: Any, *, padding_idx: int | None = None) -> Any:
    xp = ns.xp
    rows = xp.take(weight, xp.reshape(indices, (-1,)), axis=0)
    return xp.reshape(rows, (*indices.shape, weight.shape[1]))


def _embedding_vjp(
    ns: Any, g: Any, needs: Any, out: Any, residual: Any, weight: Any, indices: Any, *, padding_idx: Any
) -> Any:
    return ns.embedding_grad(g, indices, rows=needs[0].shape[0], padding_idx=padding_idx), None


def _embedding_jvp(ns: Any, tangents: Any, out: Any, weight: Any, indices: Any, *, padding_idx: Any) -> Any:
    if tangents[0] is None:
        return None
    return _without_padding(ns, ns.embedding(tangents[0], indices), indices, padding_idx)


def _embedding_batch(ops: Any, n: int, is_batched: Any, inputs: Any, params: Any, fn: Any) -> Any:
    weight, indices = inputs
    if not is_batched[0]:
        return fn(weight, indices, **params)
    rows, width = weight.shape[1:]
    of_sample = _of_sample(ops, n, indices, is_batched[1], rows)
    out = fn(ops.reshape(weight, (n * rows, width)), of_sample, padding_idx=None)
    padding_idx = params["padding_idx"]
    if padding_idx is None:
        return out
    return ops.where(ops.expand_dims(indices != padding_idx, axis=-1), out, ops.stop_gradient(out))


_embedding = primitive(
    "embedding",
    arity=2,
    forward=_embedding_forward,
    vjp=_embedding_vjp,
    jvp=_embedding_jvp,
    batch=_embedding_batch,
    keep=((), (0,)),
)


# -- the sum into the rows; its forward is the performance name of the same name -----------------------


def _embedding_grad_vjp(
    ns: Any, g: Any, needs: Any, out: Any, residual: Any, values: Any, indices: Any, *, rows: int, padding_idx: Any
) -> Any:
    return _without_padding(ns, ns.embedding(g, indices), indices, padding_idx), None


def _embedding_grad_jvp(
    ns: Any, tangents: Any, out: Any, values: Any, indices: Any, *, rows: int, padding_idx: Any
) -> Any:
    if tangents[0] is None:
        return None
    return ns.embedding_grad(tangents[0], indices, rows=rows, padding_idx=padding_idx)


def _embedding_grad_batch(ops: Any, n: int, is_batched: Any, inputs: Any, params: Any, fn: Any) -> Any:
    values, indices = inputs
    rows, padding_idx = params["rows"], params["padding_idx"]
    width = values.shape[-1]
    if not is_batched[1]:  # the samples are further columns
        wide = ops.reshape(ops.moveaxis(values, 0, -2), (*indices.shape, n * width))
        out = ops.reshape(fn(wide, indices, **params), (rows, n, width))
        return ops.permute_dims(out, (1, 0, 2))
    values = values if is_batched[0] else ops.broadcast_to(values, (n, *values.shape))
    values = _without_padding(ops, values, indices, padding_idx)
    out = fn(values, _of_sample(ops, n, indices, True, rows), rows=n * rows, padding_idx=None)
    return ops.reshape(out, (n, rows, width))


_embedding_grad = primitive(
    "embedding_grad",
    arity=2,
    vjp=_embedding_grad_vjp,
    jvp=_embedding_grad_jvp,
    batch=_embedding_grad_batch,
    keep=((), (0,)),
)


# -- the functions -------------------------------------------------------------------------------------


@public
def embedding(weight: Any, indices: Any, /, *, padding_idx: int | None = None) -> Tensor:
    """Rows of `weight` (rows, n) at integer `indices` (...): (..., n).

    Args:
        padding_idx: a row that is constant: no derivative with respect to it.

    Raises:
        AxisError: an index is not from 0 to rows − 1 (an IndexError; looked at where reading values costs nothing).
        DTypeError: the indices are no integers.
        ShapeError: the weight has not two axes.
    """
    weight = as_tensor(weight, indices if isinstance(indices, Tensor) else None)
    if weight.ndim != 2:
        raise ShapeError(f"embedding: the weight is a table of shape (rows, n), got shape {weight.shape}")
    places = row_numbers("embedding", indices, weight, weight.shape[0])
    out: Tensor = _embedding(weight, places, padding_idx=padding_idx)
    return out


@public
def embedding_grad(values: Any, indices: Any, /, *, rows: int, padding_idx: int | None = None) -> Tensor:
    """A table (rows, n) of zeros with `values` (..., n) added at the rows `indices` (...).

    Args:
        padding_idx: a row that stays zero.

    Raises:
        AxisError, DTypeError: as `embedding`.
        ShapeError: `values` are not of the shape of the indices and one axis more.
    """
    values = as_tensor(values, indices if isinstance(indices, Tensor) else None)
    places = row_numbers("embedding_grad", indices, values, rows)
    if values.shape[:-1] != places.shape or not values.ndim:
        raise ShapeError(
            f"embedding_grad: indices of shape {places.shape} need values of that shape and one axis more, "
            f"got {values.shape}"
        )
    out: Tensor = _embedding_grad(values, places, rows=rows, padding_idx=padding_idx)
    return out


def row_numbers(name: str, indices: Any, like: Tensor, rows: int) -> Tensor:
    """`indices` as a Tensor of integers from 0 to `rows` − 1 beside `like`.

    Raises:
        AxisError: one is outside; on a device that works behind our back only what comes from the host is looked at.
        DTypeError: they are no integers.
    """
    places = indices if isinstance(indices, Tensor) else ops.asarray(indices, device=like.device)
    if places.dtype.kind not in ("int", "uint"):
        hint = "" if places.size else "; of an empty list: indices of dtype 'int64'"
        raise DTypeError(f"{name}: indices are integers, got {places.dtype.name}{hint}")
    if places.dtype.kind == "uint":  # no library takes rows at 64 bits without a sign
        places = ops.astype(places, dt.int64)
    if not isinstance(indices, Tensor) or places.backend.synchronous:
        _check_range(name, places, rows)
    return places


def _check_range(name: str, places: Tensor, rows: int) -> None:
    array: Any = places
    while isinstance(array, Tensor):  # inside transforms, too: of a whole batch
        array, ns = array._data, array._ns
    if not places.size or 0 in array.shape:
        return
    if not ns.holds(lambda a: _is_within(ns.xp, a, rows), array):
        low, high = int(ns.xp.min(array)), int(ns.xp.max(array))
        wrong = low if low < 0 else high
        raise AxisError(f"{name}: index {wrong} is outside a table of {rows} rows; indices are from 0 to {rows - 1}")


def _is_within(xp: Any, array: Any, rows: int) -> bool:
    return bool(xp.min(array) >= 0) and bool(xp.max(array) < rows)
