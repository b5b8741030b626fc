"""Datasets that are kept on the device: a batch is gathered where the arrays live, and only its indices travel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

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
        self._size = len(data)
        self._ns = namespace_of(backend)
        self._asarray = backend.asarray
        self._where = device if ":" in device else None
        self._arrays = [backend.asarray(a, device=self._where) for a in data.arrays]
        self._affine: tuple[Any, Any] | None = None
        if data.transform is not None:
            factor, offset = data.transform.affine(data.arrays[0].dtype)
            self._affine = backend.asarray(factor, device=self._where), backend.asarray(offset, device=self._where)

    def batches(self) -> Iterator[tuple[Tensor, ...]]:
        """One pass over the loader."""
        for indices in self._loader.batch_indices():
            yield self._batch(checked_indices(indices, len(self._loader.dataset), "DataLoader"))

    def _batch(self, indices: Any) -> tuple[Tensor, ...]:
        """The samples at these indices. Nothing here holds on to them: the next batch may lie there."""
        ns, xp = self._ns, self._ns.xp
        if self._chosen is not None:
            indices = self._chosen.take(indices)
        here = self._asarray(indices, dtype=dt.int64, device=self._where)
        first, *rest = self._arrays
        if self._affine is None:
            batch = [xp.take(first, here, axis=0)]
        else:
            batch = [ns.gather_normalized(first, here, *self._affine)]
        batch += [xp.take(a, here, axis=0) for a in rest]
        return tuple([Tensor(array, None, ns) for array in batch])


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
