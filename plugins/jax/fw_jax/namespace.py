"""`jax.numpy` as the Array API standard has it."""

from __future__ import annotations

from typing import Any

Array = Any


class Namespace:
    """`jax.numpy`, with the dtypes that the standard gives where its own are narrower."""

    def __init__(self, numpy: Any) -> None:
        self._numpy = numpy
        self._wide = {"i": numpy.int64, "u": numpy.uint64}

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._numpy, name)
        setattr(self, name, value)  # found once
        return value

    def cumulative_prod(
        self, x: Array, /, *, axis: int | None = None, dtype: Any = None, include_initial: bool = False
    ) -> Array:
        """Small integers are multiplied in 64 bits, as they are summed."""
        dtype = self._wide.get(x.dtype.kind) if dtype is None else dtype
        return self._numpy.cumulative_prod(x, axis=axis, dtype=dtype, include_initial=include_initial)

    def searchsorted(self, x1: Array, x2: Array, /, *, side: str = "left", sorter: Array | None = None) -> Array:
        """Places are int64, as all other indices are."""
        return self._numpy.searchsorted(x1, x2, side=side, sorter=sorter).astype(self._numpy.int64)
