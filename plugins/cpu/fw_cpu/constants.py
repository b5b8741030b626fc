"""Small constant arrays, made once."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = Any

_ones: dict[tuple[int, Any], Array] = {}


def ones_of(n: int, dtype: Any) -> Array:
    """n ones."""
    key = (n, dtype)
    found = _ones.get(key)
    if found is None:
        if len(_ones) > 64:
            _ones.clear()
        found = _ones[key] = np.ones(n, dtype)
    return found


_rows: dict[int, Array] = {}


def rows_of(n: int) -> Array:
    """0 … n − 1."""
    found = _rows.get(n)
    if found is None:
        if len(_rows) > 64:
            _rows.clear()
        found = _rows[n] = np.arange(n)
    return found
