"""Where elements are: nonzero, searchsorted, select."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from framework.autodiff.convert import as_tensor
from framework.autodiff.kinds import negative_axes
from framework.autodiff.namespace import ops
from framework.autodiff.primitive import primitive, public
from framework.autodiff.tensor import Tensor
from framework.backend import dtypes as dt
from framework.errors import DTypeError, GradientError, ShapeError


def _nonzero_forward(ns: Any, x: Any) -> Any:
    """One row for each axis."""
    return ns.xp.stack(ns.xp.nonzero(x), axis=0)


def _nonzero_batch(ops: Any, n: int, is_batched: Any, inputs: Any, params: Any, fn: Any) -> Any:
    raise GradientError(
        "inside vmap the number of elements that nonzero, unique or a mask finds differs by sample; "
        "use where() instead of a mask"
    )


_nonzero = primitive("nonzero_table", arity=1, forward=_nonzero_forward, batch=_nonzero_batch)


def _table(x: Any, what: str) -> Tensor:
    x = as_tensor(x)
    if not x.ndim:
        raise ShapeError(f"{what} of a 0-d array has no indices; use {what}(atleast_1d(x))")
    return _nonzero(x)


@public
def nonzero(x: Any, /) -> tuple[Tensor, ...]:
    """The indices of nonzero elements, one array per axis.

    Raises:
        ShapeError: `x` is 0-d.
        GradientError: inside `vmap`, where their number differs by sample.
    """
    table = _table(x, "nonzero")
    return tuple([table[i] for i in range(table.shape[0])])


@public
def argwhere(x: Any, /) -> Tensor:
    """The indices of nonzero elements, one row per element."""
    return ops.permute_dims(_table(x, "argwhere"), (1, 0))


@public
def flatnonzero(x: Any, /) -> Tensor:
    """The indices of nonzero elements of the flattened array."""
    return _table(ops.ravel(x), "flatnonzero")[0]


@public
def count_nonzero(x: Any, /, axis: int | Sequence[int] | None = None, keepdims: bool = False) -> Tensor:
    """The number of nonzero elements over `axis` (all by default)."""
    x = as_tensor(x)
    found = x if x.dtype is dt.bool_ else x != 0
    return ops.sum(ops.astype(found, dt.int64), axis=negative_axes(axis, x.ndim), keepdims=keepdims)


# -- searchsorted ----------------------------------------------------------------------------------


def _searchsorted_forward(ns: Any, x1: Any, x2: Any, *, side: str) -> Any:
    return ns.xp.searchsorted(x1, x2, side=side)


def _searchsorted_batch(ops: Any, n: int, is_batched: Any, inputs: Any, params: Any, fn: Any) -> Any:
    """With a sorted array per sample: the rank among these elements and all values, less that among the values."""
    x1, x2 = inputs
    if not is_batched[0]:
        return fn(x1, x2, **params)
    x2 = x2 if is_batched[1] else ops.broadcast_to(x2, (n, *x2.shape))
    flat = ops.reshape(x2, (n, -1) if x2.size else (n, 0))
    is_left = params["side"] == "left"
    both = ops.concat([flat, x1] if is_left else [x1, flat], axis=-1)
    place = _ranks(ops, both)
    own = slice(0, flat.shape[1]) if is_left else slice(x1.shape[1], None)
    return ops.reshape(place[:, own] - _ranks(ops, flat), x2.shape)


def _ranks(ops: Any, x: Any) -> Any:
    """The place of each element in the order along the last axis."""
    return ops.argsort(ops.argsort(x, axis=-1), axis=-1)


_searchsorted = primitive(
    "searchsorted", arity=2, forward=_searchsorted_forward, batch=_searchsorted_batch, promotes=True
)


@public
def searchsorted(x1: Any, x2: Any, /, side: str = "left", sorter: Any = None) -> Tensor:
    """For each element of `x2` the place in the sorted vector `x1` where it belongs.

    Args:
        side: among equal elements, before the first (`"left"`) or after the last (`"right"`).
        sorter: indices that sort `x1` where it is not sorted, as `argsort(x1)`.

    Raises:
        ShapeError: `x1` has not one axis.
        DTypeError: complex numbers, which have no order.
    """
    like = next((a for a in (x1, x2) if isinstance(a, Tensor)), None)
    x1 = as_tensor(x1, like)
    x2 = as_tensor(x2, x1)
    if x1.ndim != 1:
        raise ShapeError(f"searchsorted looks in a sorted vector, got shape {x1.shape}")
    if side not in ("left", "right"):
        raise ValueError(f"searchsorted has the sides 'left' and 'right', got {side!r}")
    if "complex" in (x1.dtype.kind, x2.dtype.kind):
        raise DTypeError("complex numbers have no order; search by their abs, real or imag")
    if sorter is not None:
        sorter = as_tensor(sorter, x1)
        if sorter.shape != x1.shape:
            raise ShapeError(f"a sorter of shape {sorter.shape} for an array of shape {x1.shape}")
        x1 = ops.take(x1, sorter)
    x1, x2 = (ops.astype(a, dt.uint8) if a.dtype is dt.bool_ else a for a in (x1, x2))
    return _searchsorted(x1, x2, side=side)


# -- choice ------------------------------------------------------------------------------------------


@public
def select(condlist: Sequence[Any], choicelist: Sequence[Any], default: Any = 0) -> Tensor:
    """Elements of the first choice whose condition holds there, else of `default`; all broadcast together.

    Raises:
        ShapeError: there is no condition, or not one for each choice.
    """
    if len(condlist) != len(choicelist) or not condlist:
        raise ShapeError(f"select of {len(choicelist)} choices by {len(condlist)} conditions; one for each is needed")
    out = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist)):
        out = ops.where(condition, choice, out)
    return out
