"""Parts of a dataset that do not overlap."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from framework.backend.host import HostGenerator, global_seed
from framework.data.dataset import Subset
from framework.data.iterable import BlockDataset, BlockPart, IterableDataset, split_blocks
from framework.data.sampler import check_generator, seed_from
from framework.errors import ConfigError
from framework.random import Generator


def random_split(
    dataset: Any,
    lengths: Sequence[int | float],
    seed: int | Generator | None = None,
    *,
    generator: Generator | None = None,
) -> list[Subset] | list[BlockPart]:
    """Split a dataset at random into parts that do not overlap.

    The split depends on the length and the seed alone: it is the same on every machine and backend.

    Args:
        dataset: anything with a length and samples by index; or a BlockDataset, such as a CSVDataset, of
            which each row is drawn on its own: its parts' lengths are near the fractions.
        lengths: how many samples each part gets; or fractions whose sum is 1.
        seed: any integer; `seed_everything`'s if left out.
        generator: its next number is the seed.

    Raises:
        ConfigError: the lengths do not add up to the dataset's.

    Examples:
        >>> train, validation = random_split(list(range(10)), [8, 2], seed=0)
        >>> len(train), len(validation)
        (8, 2)
    """
    if isinstance(seed, Generator):  # where torch has it
        seed, generator = None, seed
    check_generator(generator, "random_split")
    if seed is not None and generator is not None:
        raise ConfigError("random_split: seed and generator both give the seed; leave out one")
    if generator is not None:
        seed = seed_from(generator)
    key = global_seed() if seed is None else seed
    if isinstance(dataset, IterableDataset) and not isinstance(dataset, BlockDataset):
        raise ConfigError(
            f"random_split: {type(dataset).__name__} is read in order, so no part of it can be read by index"
        )
    total = len(dataset)
    counts = _split_counts(lengths, total)
    if isinstance(dataset, BlockDataset):
        given = [float(n) for n in lengths] if any(isinstance(n, float) for n in lengths) else None
        return split_blocks(dataset, given or [n / max(total, 1) for n in counts], key)
    order = HostGenerator(key, "random_split").permutation(total)
    ends = np.cumsum(counts)
    return [Subset(dataset, order[end - count : end]) for end, count in zip(ends, counts)]


def _split_counts(lengths: Sequence[int | float], total: int) -> list[int]:
    given = list(lengths)
    if any(n < 0 for n in given):
        raise ConfigError(f"random_split: lengths must not be negative, got {given}")
    if any(isinstance(n, float) for n in given):
        if not math.isclose(sum(given), 1.0, abs_tol=1e-6):
            raise ConfigError(f"random_split: fractions must add up to 1, got {given}, which add up to {sum(given)}")
        counts = [math.floor(total * n) for n in given]
        for k in range(total - sum(counts)):  # what rounding down left over, one each from the first part on
            counts[k % len(counts)] += 1
        return counts
    if sum(given) != total:
        raise ConfigError(
            f"random_split: lengths must add up to the dataset's {total} samples, got {given}, which add up to "
            f"{sum(given)}"
        )
    return [int(n) for n in given]
