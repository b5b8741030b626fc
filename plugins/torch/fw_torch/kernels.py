"""Where the Array API standard has no function, or torch's indexing is narrower: by the contract's names."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Array = Any


class Indexing:
    """Reading and writing at keys of integers, slices, None, `...` and arrays of indices."""

    def __init__(self, torch: Any) -> None:
        self.torch = torch

    def get_item(self, array: Array, key: Any) -> Array:
        """`array[key]`; a slice that runs backwards is one that runs forwards on the array turned round."""
        key = self._expanded(array, key)
        turned, axis = [], 0
        for place, part in enumerate(key):
            if isinstance(part, slice) and part.step is not None and part.step < 0:
                n = array.shape[axis]
                start, stop, step = part.indices(n)
                key[place] = slice(n - 1 - start, n - 1 - stop, -step)
                turned.append(axis)
            axis += self._axes_of(part)
        return (self.torch.flip(array, turned) if turned else array)[tuple(key)]

    def set_item(self, array: Array, key: Any, values: Array) -> Array:
        """A copy of `array` with `values` at `key`."""
        places = self._places(array, key)
        out = array.clone(memory_format=self.torch.contiguous_format)
        out.view(-1)[places] = values.broadcast_to(places.shape)
        return out

    def scatter_add(self, array: Array, key: Any, values: Array) -> Array:
        """A copy of `array` with `values` added at `key`."""
        out = array.clone(memory_format=self.torch.contiguous_format)
        if len(key) == 1 and isinstance(key[0], self.torch.Tensor) and values.shape[key[0].ndim :] == array.shape[1:]:
            rows = key[0].to(self.torch.int64).reshape(-1)  # of a table, which need no places of single elements
            rows = self.torch.where(rows < 0, rows + array.shape[0], rows)
            return out.index_add_(0, rows, values.reshape(rows.shape[0], *array.shape[1:]))
        places = self._places(array, key)
        out.view(-1).index_add_(0, places.reshape(-1), values.broadcast_to(places.shape).reshape(-1))
        return out

    def _places(self, array: Array, key: Any) -> Array:
        """Where in the flat array the elements of `array[key]` are."""
        count = self.torch.arange(array.numel(), device=array.device)
        return self.get_item(count.reshape(array.shape), key)

    def _expanded(self, array: Array, key: Any) -> list[Any]:
        """The key without `...`, and with indices of 64 bits: torch takes bytes for a mask, and no other width."""
        key = list(key) if isinstance(key, tuple) else [key]
        key = [self._wide(part) if isinstance(part, self.torch.Tensor) else part for part in key]
        for place, part in enumerate(key):
            if part is Ellipsis:
                missing = array.ndim - sum(self._axes_of(other) for other in key)
                key[place : place + 1] = [slice(None)] * missing
                break
        return key

    def _wide(self, part: Array) -> Array:
        return part if part.dtype == self.torch.bool else part.to(self.torch.int64)

    def _axes_of(self, part: Any) -> int:
        """How many axes of the array a part of a key stands for."""
        if isinstance(part, self.torch.Tensor) and part.dtype == self.torch.bool:
            return int(part.ndim)
        return 0 if part is None or part is Ellipsis else 1


def table(torch: Any) -> dict[str, Callable[..., Any]]:
    """Name to kernel, for a given `torch`, so that this module imports without it."""

    def erf(x: Array) -> Array:
        return torch.erf(x)

    indexing = Indexing(torch)
    return {
        "erf": erf,
        "get_item": indexing.get_item,
        "set_item": indexing.set_item,
        "scatter_add": indexing.scatter_add,
    }
