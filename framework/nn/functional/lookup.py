"""Rows of a table by number."""

from __future__ import annotations

from typing import Any

from framework.autodiff import Tensor, as_tensor, no_grad, ops
from framework.autodiff.primitives.embedding import row_numbers
from framework.errors import AxisError, ConfigError, GradientError, ShapeError

_ROUNDING = 1e-7
"""Keeps the factor of a row with norm 0 finite."""


def embedding(
    input: Any,
    weight: Any,
    padding_idx: int | None = None,
    max_norm: float | None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """Rows of `weight` (rows, n) at integer `input` (...): (..., n).

    Args:
        padding_idx: a row that gets no gradient; negative ones count from the end.
        max_norm: rows that are asked for and have a larger norm are first scaled down to it, in place.
        norm_type: the p of that norm.
        scale_grad_by_freq: divide a row's gradient by how often it was asked for.
        sparse: must be False; gradients are dense here.

    Raises:
        AxisError: an index is not from 0 to rows − 1 (an IndexError; looked at where reading values costs nothing).
        DTypeError: the indices are no integers.
        ShapeError: the weight has not two axes.

    Examples:
        >>> import framework as fw
        >>> fw.nn.functional.embedding([2, 0], fw.tensor([[1.0], [2.0], [3.0]])).tolist()
        [[3.0], [1.0]]
    """
    refuse_sparse(sparse)
    table = as_tensor(weight, input if isinstance(input, Tensor) else None)
    if table.ndim != 2:
        raise ShapeError(f"embedding: the weight is a table of shape (rows, n), got shape {table.shape}")
    rows = table.shape[0]
    padding_idx = padding_row(padding_idx, rows)
    indices = row_numbers("embedding", input, table, rows)
    if max_norm is not None:
        _renormalise(weight, indices, float(max_norm), float(norm_type))
        table = as_tensor(weight)
    out: Tensor = ops.embedding(table, indices, padding_idx=padding_idx)
    return _divided_by_frequency(out, indices, rows) if scale_grad_by_freq else out


def refuse_sparse(sparse: bool) -> None:
    """Raise ConfigError where sparse gradients are asked for."""
    if sparse:
        raise ConfigError(
            "embedding: sparse=True is not offered. Gradients are dense arrays here, which every optimizer takes; "
            "leave out sparse"
        )


def padding_row(padding_idx: int | None, rows: int) -> int | None:
    """`padding_idx` as a number from 0 on.

    Raises:
        AxisError: there is no such row.
    """
    if padding_idx is None:
        return None
    if not -rows <= padding_idx < rows:
        raise AxisError(f"embedding: padding_idx {padding_idx} is outside a table of {rows} rows")
    return padding_idx % rows


def _divided_by_frequency(out: Tensor, indices: Tensor, rows: int) -> Tensor:
    """`out` with gradients divided by how often its row is asked for; its values stay."""
    ones = ops.ones((*indices.shape, 1), dtype=out.dtype, device=out.device)
    counts = ops.embedding(ops.embedding_grad(ones, indices, rows=rows), indices)
    return out + (out - ops.stop_gradient(out)) * (1.0 / counts - 1.0)


@no_grad()
def _renormalise(weight: Any, indices: Tensor, max_norm: float, norm_type: float) -> None:
    """Scale the rows of `weight` at `indices` down to `max_norm`, in place."""
    if not isinstance(weight, Tensor) or not weight.is_leaf:
        raise ConfigError(
            "embedding: max_norm scales rows of the weight in place, so the weight must be a parameter or a Tensor "
            f"that is no result, got {'a result' if isinstance(weight, Tensor) else type(weight).__name__}"
        )
    if weight._level is not None or indices._level is not None:
        raise GradientError(
            "embedding: max_norm scales rows of the weight in place, which a function that is transformed (grad, jvp, "
            "vmap, …) may not; scale them before it"
        )
    rows = ops.embedding(weight, indices)
    norms = ops.linalg.vector_norm(rows, axis=-1, keepdims=True, ord=norm_type)
    factor = ops.where(norms > max_norm, max_norm / (norms + _ROUNDING), 1.0)
    ops.write(weight, ops.setitem(weight, indices, rows * factor))
