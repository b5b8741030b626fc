"""NumPy's everyday functions of data: statistics, curves, indices; all transforms apply."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from framework.autodiff import Tensor, as_tensor, ops
from framework.autodiff.kinds import integers
from framework.errors import ShapeError

__all__ = [
    "cov", "diag_indices", "interp", "percentile", "polyval", "quantile", "tril_indices", "triu_indices", "unique",
    "unravel_index",
]  # fmt: skip

# -- statistics ------------------------------------------------------------------------------------


def cov(m: Any, /, *, rowvar: bool = True, ddof: int = 1) -> Tensor:
    """The covariance matrix of variables in rows, or in columns, over n − ddof; of one variable its variance.

    Raises:
        ShapeError: `m` has more than two axes.
    """
    m = as_tensor(m)
    if m.ndim > 2:
        raise ShapeError(f"cov takes a matrix of variables and observations, got shape {m.shape}")
    rows = ops.atleast_2d(m) if rowvar or m.ndim < 2 else ops.matrix_transpose(m)
    apart = rows - ops.mean(rows, axis=1, keepdims=True)
    return ops.squeeze(apart @ ops.conj(ops.matrix_transpose(apart)) / (rows.shape[1] - ddof))


def quantile(a: Any, q: Any, /, axis: int | None = None, *, keepdims: bool = False) -> Tensor:
    """The value below which a part `q` of the elements along `axis` lies, between neighbours by a straight line.

    Several parts, a list say, make a first axis of the result.

    Raises:
        ShapeError: there is no element along `axis`.
        ValueError: a part is not from 0 to 1.
    """
    a = as_tensor(a)
    if axis is None:
        flat = quantile(ops.reshape(a, (-1,)), q, axis=0)
        return ops.reshape(flat, flat.shape + (1,) * a.ndim) if keepdims else flat
    q = _numbers(q)
    if isinstance(q, list | tuple):
        return ops.stack([quantile(a, part, axis=axis, keepdims=keepdims) for part in q])
    n = a.shape[axis]
    if n == 0:
        raise ShapeError(f"quantile over axis {axis} of shape {a.shape}, which holds no element")
    if not 0 <= q <= 1:
        raise ValueError(f"quantile needs parts from 0 to 1, got {q}")
    place = q * (n - 1)
    below = min(math.floor(place), max(n - 2, 0))
    two = ops.take(ops.sort(a, axis=axis), ops.asarray([below, min(below + 1, n - 1)], device=a.device), axis=axis)
    if a.dtype.is_differentiable:  # sorting puts NaN last
        two = ops.where(ops.any(a != a, axis=axis, keepdims=True), math.nan, two)
    low, high = ops.unstack(two, axis=axis)
    out = low + (high - low) * (place - below)
    return ops.expand_dims(out, axis=axis) if keepdims else out


def percentile(a: Any, q: Any, /, axis: int | None = None, *, keepdims: bool = False) -> Tensor:
    """`quantile` with parts in hundredths."""
    return quantile(a, _hundredths(_numbers(q)), axis=axis, keepdims=keepdims)


def _numbers(q: Any) -> Any:
    """Python numbers, in lists where there are several."""
    return q.tolist() if hasattr(q, "tolist") else q


def _hundredths(q: Any) -> Any:
    return [_hundredths(part) for part in q] if isinstance(q, list | tuple) else q / 100


def unique(
    ar: Any, /, return_index: bool = False, return_inverse: bool = False, return_counts: bool = False
) -> Tensor | tuple[Tensor, ...]:
    """The sorted elements, each once; where asked for, their first places, the elements' places among them, and counts.

    Their number depends on values, so `vmap` does not apply.
    """
    values, *rest = ops.unique_all(ar)
    wanted = [x for x, is_wanted in zip(rest, (return_index, return_inverse, return_counts)) if is_wanted]
    return (values, *wanted) if wanted else values


# -- curves ----------------------------------------------------------------------------------------


def polyval(p: Any, x: Any, /) -> Tensor:
    """The polynomial at `x` whose coefficients are `p`, that of the highest power first."""
    x = as_tensor(x)
    out = ops.zeros_like(x)
    for coefficient in p:
        out = out * x + coefficient
    return out


def interp(x: Any, xp: Any, fp: Any, /, left: Any = None, right: Any = None) -> Tensor:
    """The values at `x` of the straight lines between points (xp, fp), `xp` increasing; outside `left` and `right`.

    Where these are not given, the curve goes on as it ends.

    Raises:
        ShapeError: `xp` and `fp` are not of one length, at least one.
    """
    x = as_tensor(x)
    xp, fp = as_tensor(xp, x), as_tensor(fp, x)
    if xp.ndim != 1 or xp.shape != fp.shape or xp.size == 0:
        raise ShapeError(f"interp takes as many values as places along one axis, got shapes {xp.shape} and {fp.shape}")
    left, right = fp[0] if left is None else left, fp[-1] if right is None else right
    if xp.size == 1:
        out = ops.where(x == x, fp[0], x)
    else:
        after = ops.clip(ops.searchsorted(xp, x), 1, xp.size - 1)
        x0, x1, y0, y1 = xp[after - 1], xp[after], fp[after - 1], fp[after]
        out = y0 + (x - x0) * ((y1 - y0) / (x1 - x0))
    return ops.where(x < xp[0], left, ops.where(x > xp[-1], right, out))


# -- indices ---------------------------------------------------------------------------------------


def tril_indices(n: int, k: int = 0, m: int | None = None) -> tuple[Tensor, ...]:
    """Rows and columns of the elements on and below the k-th diagonal of an n x m matrix."""
    return ops.nonzero(ops.tril(ops.ones((n, n if m is None else m)), k=k))


def triu_indices(n: int, k: int = 0, m: int | None = None) -> tuple[Tensor, ...]:
    """Rows and columns of the elements on and above the k-th diagonal of an n x m matrix."""
    return ops.nonzero(ops.triu(ops.ones((n, n if m is None else m)), k=k))


def diag_indices(n: int, ndim: int = 2) -> tuple[Tensor, ...]:
    """The indices of the main diagonal of an array with `ndim` axes of length n."""
    return (ops.arange(n),) * ndim


def unravel_index(indices: Any, shape: int | Sequence[int], /) -> tuple[Tensor, ...]:
    """Places in a flattened array of `shape` as one index per axis."""
    rest = as_tensor(indices)
    places = []
    for n in reversed(integers(shape)):
        places.append(rest % n)
        rest = rest // n
    return tuple(reversed(places))
