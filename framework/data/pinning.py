"""Batches in page-locked memory, from which copies to a device need not wait."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from framework.autodiff.convert import resolve_backend
from framework.data.iterable import map_arrays


def pinned(batches: Iterator[Any]) -> Iterator[Any]:
    """The batches with their arrays as the default backend's `pinned(array)` gives them; as they are without it."""
    pin = getattr(resolve_backend(None), "pinned", None)
    for batch in batches:
        if pin is not None:
            batch = map_arrays(batch, lambda a: pin(a) if isinstance(a, np.ndarray) else a)
        yield batch
        del batch
