"""Datasets that are read from front to back, larger than memory: sample by sample, or block by block."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from operator import itemgetter
from typing import Any

import numpy as np

from framework.backend.host import HostGenerator, derive_key, random_bits
from framework.data.dataset import Array, Dataset
from framework.errors import DataError


class IterableDataset(Dataset):
    """Base of datasets that are read in order: override `__iter__`, which starts anew at the first sample.

    Where the number of samples is known, `__len__` gives it. With workers, each of them iterates over a
    copy and makes the batches that are its own, so that every sample comes once, in the same order
    whatever their number: put costly work into `collate_fn`, or make the dataset a `BlockDataset`.

    Examples:
        >>> class Squares(IterableDataset):
        ...     def __iter__(self):
        ...         return (i * i for i in range(5))
        >>> from framework.data import DataLoader
        >>> [x.tolist() for x in DataLoader(Squares(), batch_size=2)]
        [[0, 1], [4, 9], [16]]
    """

    def __iter__(self) -> Iterator[Any]:
        raise NotImplementedError(f"{type(self).__name__} must define __iter__")

    def __len__(self) -> int:
        raise TypeError(f"{type(self).__name__} does not say how many samples it has (no __len__)")

    def __getitem__(self, index: int) -> Any:
        raise TypeError(f"{type(self).__name__} is read in order, with iter(); its samples have no index")


class BlockDataset(IterableDataset):
    """Base of datasets whose rows lie in blocks, of which each can be read on its own.

    Workers read whole blocks, each once. A shuffled epoch takes the blocks in random order and the rows
    of each block in random order, as a function of seed and epoch; a run resumes at the exact row
    without reading what is in front of its block.

    Override `block_sizes` and `read_block`.

    Examples:
        >>> class Tens(BlockDataset):
        ...     @property
        ...     def block_sizes(self):
        ...         return [10, 10, 5]
        ...     def read_block(self, number):
        ...         return np.arange(10 * number, 10 * number + self.block_sizes[number])
        >>> from framework.data import DataLoader
        >>> [x.tolist() for x in DataLoader(Tens(), batch_size=9)][1]
        [9, 10, 11, 12, 13, 14, 15, 16, 17]
    """

    @property
    def block_sizes(self) -> Sequence[int] | Array:
        """The number of rows in each block."""
        raise NotImplementedError(f"{type(self).__name__} must define block_sizes")

    def read_block(self, number: int) -> Any:
        """The rows of one block: an array, or a tuple, list or dict of arrays, with the rows along the first axis."""
        raise NotImplementedError(f"{type(self).__name__} must define read_block")

    def __len__(self) -> int:
        return int(np.sum(self.block_sizes, dtype=np.int64))

    def __iter__(self) -> Iterator[Any]:
        for number in range(len(self.block_sizes)):
            block = self.read_block(number)
            for row in range(rows_in(block)):
                yield map_arrays(block, itemgetter(row))


class BlockPart(BlockDataset):
    """Some rows of a BlockDataset, drawn at random and told by a function of their number: nothing is kept of them.

    Made by `random_split`. Each row belongs to the part with a probability, so its length is near the
    fraction that was asked for, not equal to it.

    Args:
        dataset: the whole.
        low, high: the part's share of [0, 1); parts that do not overlap have no row in common.
        seed: of the draw.
    """

    def __init__(self, dataset: BlockDataset, low: float, high: float, seed: int) -> None:
        self.dataset = dataset
        self._key = derive_key(seed, "random_split")
        self._bounds = _word(low), _word(high)
        self._starts = np.r_[0, np.cumsum(dataset.block_sizes, dtype=np.int64)]
        self._sizes = [int(self._mask(number).sum()) for number in range(len(self._starts) - 1)]

    @property
    def block_sizes(self) -> Sequence[int]:
        """The number of this part's rows in each block."""
        return self._sizes

    def read_block(self, number: int) -> Any:
        """This part's rows of one block."""
        mask = self._mask(number)
        return map_arrays(self.dataset.read_block(number), lambda a: a[mask])

    def _mask(self, number: int) -> Array:
        start, stop = self._starts[number : number + 2].tolist()
        words = random_bits(self._key, start, stop - start) >> np.uint64(1)
        low, high = self._bounds
        return (words >= np.uint64(low)) & (words < np.uint64(high))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name == "dataset":
            raise AttributeError(name)
        return getattr(self.dataset, name)

    def __repr__(self) -> str:
        return f"BlockPart({self.dataset!r}, {len(self)} of {len(self.dataset)} rows)"


def split_blocks(dataset: BlockDataset, fractions: Sequence[float], seed: int) -> list[BlockPart]:
    """The parts of a BlockDataset: see `random_split`."""
    ends = np.cumsum([0.0, *fractions]).tolist()
    ends[-1] = 1.0
    return [BlockPart(dataset, low, high, seed) for low, high in pairwise(ends)]


class Plan:
    """The order of one epoch over a BlockDataset.

    Args:
        sizes: of the blocks.
        key: (seed, epoch) where rows are shuffled; None for the order in which they are stored.
    """

    def __init__(self, sizes: Sequence[int] | Array, key: tuple[int, int] | None) -> None:
        self._key = key
        count = len(sizes)
        self.order = np.arange(count) if key is None else HostGenerator(key[0], "shuffle", key[1]).permutation(count)
        """The blocks' numbers."""
        self._ends = np.cumsum(np.asarray(sizes, np.int64)[self.order])

    def find(self, row: int) -> tuple[int, int]:
        """Which block of the order the epoch's row number `row` is in, and how many rows of that block lie in front."""
        place = int(np.searchsorted(self._ends, row, side="right"))
        return place, row - (int(self._ends[place - 1]) if place else 0)

    def rows(self, number: int, size: int) -> Array | None:
        """The order of the rows of one block; None as stored."""
        if self._key is None:
            return None
        return HostGenerator(self._key[0], "rows", self._key[1], number).permutation(size)


def rows_in(block: Any) -> int:
    """The number of rows of a block.

    Raises:
        DataError: there is no array in it, or arrays differ in length.
    """
    lengths: list[int] = []
    map_arrays(block, lambda a: lengths.append(len(a)))
    if not lengths or min(lengths) != max(lengths):
        raise DataError(f"the arrays of a block must be equally long, and at least one; got lengths {lengths}")
    return lengths[0]


def map_arrays(tree: Any, function: Callable[[Any], Any]) -> Any:
    """`function` of each array in tuples, lists and dicts of arrays, in the same structure."""
    if isinstance(tree, dict):
        return {key: map_arrays(value, function) for key, value in tree.items()}
    if isinstance(tree, tuple | list):
        parts = [map_arrays(value, function) for value in tree]
        return type(tree)(*parts) if hasattr(tree, "_fields") else type(tree)(parts)
    return function(tree)


def join(pieces: Sequence[Any]) -> Any:
    """One block of several pieces of blocks, in fresh arrays."""
    first = pieces[0]
    if isinstance(first, dict):
        return {key: join([piece[key] for piece in pieces]) for key in first}
    if isinstance(first, tuple | list):
        parts = [join([piece[k] for piece in pieces]) for k in range(len(first))]
        return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
    return np.concatenate(pieces)


def _word(share: float) -> int:
    return int(min(max(share, 0.0), 1.0) * 2**63)
