"""Order: sort, argsort and the sets that rest on them.

Sorting moves elements, so its derivative moves tangents and gradients alike: by the order, and by its inverse.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from framework.autodiff.convert import as_tensor
from framework.autodiff.kinds import negative_axis
from framework.autodiff.namespace import ops
from framework.autodiff.primitive import primitive, public
from framework.autodiff.tensor import Tensor
from framework.backend import dtypes as dt
from framework.errors import DTypeError

# Descending is ascending read backwards, because NumPy offers no more. NaN counts as the largest value.


def _sort_forward(ns: Any, x: Any, *, axis: int, descending: bool, stable: bool) -> Any:
    out = ns.xp.sort(x, axis=axis, stable=stable)
    return ns.xp.flip(out, axis=axis) if descending else out


def _sort_vjp(
    ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any, *, axis: int, descending: bool, stable: bool
) -> Any:
    order = ns.argsort(x, axis=axis, descending=descending, stable=stable)
    inverse = ns.argsort(order, axis=axis, descending=False, stable=False)
    return (ns.take_along_axis(g, inverse, axis=axis),)


def _sort_jvp(ns: Any, tangents: Any, out: Any, x: Any, *, axis: int, descending: bool, stable: bool) -> Any:
    order = ns.argsort(x, axis=axis, descending=descending, stable=stable)
    return ns.take_along_axis(tangents[0], order, axis=axis)


def _argsort_forward(ns: Any, x: Any, *, axis: int, descending: bool, stable: bool) -> Any:
    xp = ns.xp
    if not descending:
        return xp.argsort(x, axis=axis, stable=stable)
    backwards = xp.argsort(xp.flip(x, axis=axis), axis=axis, stable=stable)  # so that equal elements keep their order
    return (x.shape[axis] - 1) - xp.flip(backwards, axis=axis)


_sort = primitive("sort", arity=1, forward=_sort_forward, vjp=_sort_vjp, jvp=_sort_jvp, keep=((0,),))
_argsort = primitive("argsort", arity=1, forward=_argsort_forward)


@public
def sort(x: Any, /, axis: int = -1, *, descending: bool = False, stable: bool = True) -> Tensor:
    """The elements along `axis` in order; NaN counts as the largest. The gradient goes where the element came from.

    Raises:
        DTypeError: `x` is complex.
        ShapeError: there is no such axis.
    """
    x = _ordered(x)
    stable = stable and x.dtype.kind == "float"  # equal integers can't be told apart; zeros have signs
    out = _sort(_as_numbers(x), axis=negative_axis(axis, x.ndim), descending=descending, stable=stable)
    return ops.astype(out, dt.bool_) if x.dtype is dt.bool_ else out


@public
def argsort(x: Any, /, axis: int = -1, *, descending: bool = False, stable: bool = True) -> Tensor:
    """The indices that sort `x` along `axis`; with `stable` equal elements keep their order.

    Raises:
        DTypeError: `x` is complex.
        ShapeError: there is no such axis.
    """
    x = _ordered(x)
    return _argsort(_as_numbers(x), axis=negative_axis(axis, x.ndim), descending=descending, stable=stable)


def _ordered(x: Any) -> Tensor:
    x = as_tensor(x)
    if x.dtype.kind == "complex":
        raise DTypeError("complex numbers have no order; sort their abs, real or imag")
    return x


def _as_numbers(x: Tensor) -> Tensor:
    """Bools as 0 and 1: the standard orders numbers only."""
    return ops.astype(x, dt.uint8) if x.dtype is dt.bool_ else x


# -- sets --------------------------------------------------------------------------------------------


class UniqueAllResult(NamedTuple):
    """What `unique_all` returns."""

    values: Tensor
    indices: Tensor
    inverse_indices: Tensor
    counts: Tensor


class UniqueCountsResult(NamedTuple):
    """What `unique_counts` returns."""

    values: Tensor
    counts: Tensor


class UniqueInverseResult(NamedTuple):
    """What `unique_inverse` returns."""

    values: Tensor
    inverse_indices: Tensor


def _order(flat: Tensor) -> Tensor:
    """An order in which equal elements are neighbours, the first of them in front."""
    if flat.dtype.kind != "complex":
        return argsort(flat)
    by_imag = argsort(ops.imag(flat))
    return ops.take(by_imag, argsort(ops.take(ops.real(flat), by_imag)))


def _runs(flat: Tensor, order: Tensor, equal_nan: bool = False) -> Tensor:
    """Whether an element, in this order, differs from the one before."""
    ordered = ops.take(flat, order)
    first = ops.ones((min(flat.size, 1),), dtype=dt.bool_, device=flat.device)
    differs = ordered[1:] != ordered[:-1]
    if equal_nan and flat.dtype.is_differentiable:
        differs = differs & ~(ops.isnan(ordered[1:]) & ops.isnan(ordered[:-1]))
    return ops.concat([first, differs])


@public
def unique_all(x: Any, /) -> UniqueAllResult:
    """The different elements of `x` in order, where each occurs first, which one each element is, and how often.

    Gradients flow from `values` to the first occurrences. Each NaN is different from all others. The shapes depend
    on values, so there is no batch of them under `vmap`.
    """
    return _unique_all(as_tensor(x), equal_nan=False)


def _unique_all(x: Tensor, equal_nan: bool) -> UniqueAllResult:
    flat = ops.ravel(x)
    order = _order(ops.stop_gradient(flat))
    is_new = _runs(ops.stop_gradient(flat), order, equal_nan)
    starts = ops.nonzero(is_new)[0]
    indices = ops.take(order, starts)
    number = ops.cumulative_sum(ops.astype(is_new, dt.int64), axis=0) - 1
    inverse = ops.take(number, argsort(order))
    end = ops.full((1,), flat.size, dtype=dt.int64, device=flat.device)
    counts = ops.concat([starts[1:], end]) - starts
    return UniqueAllResult(ops.take(flat, indices), indices, ops.reshape(inverse, x.shape), counts)


@public
def unique(
    x: Any,
    /,
    return_index: bool = False,
    return_inverse: bool = False,
    return_counts: bool = False,
    *,
    equal_nan: bool = True,
) -> Any:
    """NumPy's form of `unique_all`: the values, or a tuple of them and what is asked for. All NaN are one."""
    found = _unique_all(as_tensor(x), equal_nan)
    asked = (return_index, return_inverse, return_counts)
    out = (found.values, *[t for t, wanted in zip(found[1:], asked) if wanted])
    return out if len(out) > 1 else out[0]


@public
def unique_counts(x: Any, /) -> UniqueCountsResult:
    """The different elements of `x` in order, and how often each occurs; see `unique_all`."""
    found = unique_all(x)
    return UniqueCountsResult(found.values, found.counts)


@public
def unique_inverse(x: Any, /) -> UniqueInverseResult:
    """The different elements of `x` in order, and for each element of `x` which one it is; see `unique_all`."""
    found = unique_all(x)
    return UniqueInverseResult(found.values, found.inverse_indices)


@public
def unique_values(x: Any, /) -> Tensor:
    """The different elements of `x` in order; see `unique_all`."""
    flat = ops.ravel(as_tensor(x))
    order = _order(ops.stop_gradient(flat))
    starts = ops.nonzero(_runs(ops.stop_gradient(flat), order))[0]
    return ops.take(flat, ops.take(order, starts))
