"""Datasets that are kept on the device: a batch is gathered where the arrays live, and only indices travel."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from framework.autodiff import Tensor
from framework.autodiff.namespace import namespace_of
from framework.backend import Backend
from framework.backend import dtypes as dt
from framework.data.dataset import ArrayDataset, checked_indices, underlying
from framework.data.loader import DataLoader
from framework.data.transforms import Normalize


class Resident:
    """The arrays of a loader's dataset, copied to a device once.

    Batches are those of the loader, in its order, counted by it, as tuples of Tensors. Changes that the host makes
    to the arrays later are not seen.

    Args:
        loader: reads an `ArrayDataset`, or a part of one, in memory.
        backend: whose Tensors are made.
        device: the device string.
    """

    def __init__(self, loader: DataLoader, backend: Backend, device: str) -> None:
        data, self._chosen = underlying(loader.dataset)
        self._loader = loader
        self._size = len(loader.dataset)
        self._ns = namespace_of(backend)
        self._asarray = partial(backend.asarray, device=device if ":" in device else None)
        self._arrays = [self._asarray(np.ascontiguousarray(a)) for a in data.arrays]
        self._affine: tuple[Any, Any] | None = None
        if data.transform is not None:
            factor, offset = data.transform.affine(data.arrays[0].dtype)
            self._affine = self._asarray(factor), self._asarray(offset)
        self._gatherer = backend.gatherer(self._arrays, self._affine)

    def batches(self) -> Iterator[tuple[Tensor, ...]]:
        """One pass over the loader, whose indices are copied to the device at its beginning.

        Nothing here holds on to a batch, so that the next may lie where it did; whoever keeps one never sees it change.
        """
        order, places = self._loader.batch_places()
        order = checked_indices(order, self._size, "DataLoader")
        order = order if self._chosen is None else self._chosen.take(order)
        gather, ns = (self._gatherer or self._composed)(order), self._ns
        for start, stop in places:
            yield tuple([Tensor(array, None, ns) for array in gather(start, stop)])

    def _composed(self, order: Any) -> Callable[[int, int], list[Any]]:
        """What gathers batches of this order with the functions that every backend has."""
        ns, take, affine = self._ns, self._ns.xp.take, self._affine
        here = self._asarray(order, dtype=dt.int64)
        first, *rest = self._arrays

        def gather(start: int, stop: int) -> list[Any]:
            indices = here[start:stop]
            if affine is None:
                batch = [take(first, indices, axis=0)]
            else:
                batch = [ns.gather_normalized(first, indices, *affine)]
            return batch + [take(a, indices, axis=0) for a in rest]

        return gather


def resident(loader: Any, backend: Backend, device: str) -> Resident | None:
    """The loader's dataset on the device; None where the backend has no room, or the host has to read it."""
    room = backend.room()
    if not room or type(loader) is not DataLoader or loader.collate_fn is not None:
        return None
    data, _ = underlying(loader.dataset)
    if type(data) is not ArrayDataset or not (data.transform is None or type(data.transform) is Normalize):
        return None
    offered = {d.name for d in backend.dtypes}
    if any(a.dtype.name not in offered for a in data.arrays) or sum(a.nbytes for a in data.arrays) > room:
        return None
    return Resident(loader, backend, device)
