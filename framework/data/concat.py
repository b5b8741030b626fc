"""Several datasets as one."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from framework.data.collate import collate
from framework.data.dataset import Array, Dataset, checked_index, reads_batches, underlying
from framework.data.iterable import IterableDataset, join, map_arrays
from framework.data.reading import current, read_as
from framework.errors import ConfigError, DataError


class ConcatDataset(Dataset):
    """The samples of several datasets, one after the other.

    Samples must be alike; parts that can be read a whole batch at a time are.

    Args:
        datasets: with samples by index, at least one.

    Raises:
        ConfigError: there is none, or one is read in order alone.

    Examples:
        >>> both = ConcatDataset([[10, 20], [30]])
        >>> len(both), both[2], both[-3]
        (3, 30, 10)
    """

    def __init__(self, datasets: Iterable[Any]) -> None:
        self.datasets = list(datasets)
        if not self.datasets:
            raise ConfigError("ConcatDataset needs at least one dataset: ConcatDataset([a, b])")
        for k, dataset in enumerate(self.datasets):
            if isinstance(underlying(dataset)[0], IterableDataset):
                raise ConfigError(
                    f"ConcatDataset: dataset {k} ({type(dataset).__name__}) is read in order, not by index"
                )
        self.reads_batches = all(_reads_batches(dataset) for dataset in self.datasets)
        """Whether a DataLoader reads whole batches: if all datasets do."""
        self.cumulative_sizes: list[int] = np.cumsum([len(dataset) for dataset in self.datasets]).tolist()

    def __len__(self) -> int:
        return self.cumulative_sizes[-1]

    def __getitem__(self, index: int) -> Any:
        i = checked_index(index, len(self))
        part = int(np.searchsorted(self.cumulative_sizes, i, side="right"))
        return self.datasets[part][i - (self.cumulative_sizes[part - 1] if part else 0)]

    def __getitems__(self, indices: Array) -> Any:
        """The batch at `indices`, a 1-D integer array."""
        if not self.reads_batches:
            return collate([self[i] for i in indices.tolist()])
        places = np.searchsorted(self.cumulative_sizes, indices, side="right")
        pieces, origins = [], []
        for part in np.unique(places).tolist() or [0]:
            where = np.flatnonzero(places == part)
            local = indices[where] - (self.cumulative_sizes[part - 1] if part else 0)
            pieces.append(_read(self.datasets[part], local, where))
            origins.append(where)
        if len(pieces) == 1:
            return pieces[0]
        back = np.argsort(np.concatenate(origins), kind="stable")
        _check_alike(pieces)
        return map_arrays(join(pieces), lambda a: a[back])

    def __repr__(self) -> str:
        return f"ConcatDataset({self.datasets!r})"


def _read(dataset: Any, indices: Array, where: Array) -> Any:
    """Samples of one part, whose random numbers are those of their place in the whole."""
    whole = current()
    data, chosen = underlying(dataset)
    if chosen is not None:
        indices = chosen.take(indices)
    return read_as(whole.some(where), data.__getitems__, indices) if whole else data.__getitems__(indices)


def _reads_batches(dataset: Any) -> bool:
    data = underlying(dataset)[0]
    return reads_batches(type(data)) and getattr(data, "reads_batches", True)


def _check_alike(pieces: list[Any]) -> None:
    kinds = [_kind(piece) for piece in pieces]
    for kind in kinds:
        if kind != kinds[0]:
            raise DataError(
                f"ConcatDataset: samples must be alike, but those of one dataset are {kinds[0]}, of another {kind}"
            )


def _kind(piece: Any) -> str:
    found: list[str] = []
    map_arrays(piece, lambda a: found.append(f"{a.dtype} of shape {a.shape[1:]}"))
    return f"{type(piece).__name__} of {', '.join(found)}"
