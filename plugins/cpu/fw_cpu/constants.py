"""Small constant arrays, made once."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any

_ones: dict[tuple[int, Any], Array] = {}


def ones_of(n: int, dtype: Any) -> Array:
    """n ones; None for a dtype whose products BLAS does not do."""
    try:
        return _ones[n, dtype]
    except KeyError:
        if len(_ones) > 64:
            _ones.clear()
        found = _ones[n, dtype] = np.ones(n, dtype) if dtype.kind == "f" else None
        return found


_rows: dict[int, Array] = {}


def rows_of(n: int) -> Array:
    """0 … n − 1."""
    try:
        return _rows[n]
    except KeyError:
        if len(_rows) > 64:
            _rows.clear()
        found = _rows[n] = np.arange(n)
        return found
