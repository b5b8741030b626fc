"""The arguments of a DataLoader, looked at before anything is read."""

from __future__ import annotations

from typing import Any

import numpy as np

from framework.data.dataset import ArrayDataset, Subset, underlying
from framework.data.iterable import BlockDataset, IterableDataset
from framework.data.sampler import check_generator
from framework.errors import ConfigError


def check_dataset(dataset: Any) -> None:
    """Whether samples can be read."""
    if isinstance(underlying(dataset)[0], IterableDataset) and not isinstance(dataset, IterableDataset):
        raise ConfigError("DataLoader: an IterableDataset is read in order, so a Subset of it cannot be read by index")
    if isinstance(dataset, Subset | ArrayDataset):
        return
    missing = [name for name in ("__len__", "__getitem__") if not hasattr(dataset, name)]
    if missing:
        raise ConfigError(
            f"DataLoader: a dataset needs __len__ and __getitem__; {type(dataset).__name__} has no "
            f"{' and no '.join(missing)}. Arrays in memory: ArrayDataset(x, y). What can only be iterated over: "
            "subclass IterableDataset"
        )


def check_numbers(batch_size: Any, num_workers: Any, prefetch: Any, seed: Any) -> None:
    """Whether the numbers are numbers."""
    if not is_integer(batch_size) or (batch_size < 1 and batch_size != -1):
        raise ConfigError(
            f"DataLoader: batch_size must be a positive integer, or -1 for the whole set, got {batch_size!r}"
        )
    if not is_integer(num_workers) or num_workers < 0:
        raise ConfigError(f"DataLoader: num_workers must be a number of workers, 0 for none, got {num_workers!r}")
    if not is_integer(prefetch) or prefetch < 0:
        raise ConfigError(f"DataLoader: prefetch must be a number of batches, 0 for no thread, got {prefetch!r}")
    if seed is not None and not is_integer(seed):
        raise ConfigError(f"DataLoader: seed must be an integer, got {seed!r}")


def check_order(
    dataset: Any, batch_size: int, shuffle: bool, sampler: Any, batch_sampler: Any, drop_last: bool
) -> None:
    """Whether one argument decides the order."""
    if sampler is not None and shuffle:
        raise ConfigError("DataLoader: a sampler decides the order itself; leave out shuffle=True, or the sampler")
    for name, given in (("sampler", sampler), ("batch_sampler", batch_sampler)):
        if given is not None and not (hasattr(given, "__len__") and hasattr(given, "__iter__")):
            raise ConfigError(f"DataLoader: a {name} needs a length (__len__), {type(given).__name__} has none")
        if given is not None and isinstance(dataset, IterableDataset):
            raise ConfigError(f"DataLoader: an IterableDataset is read in order; leave out the {name}")
    excluded = {"shuffle": shuffle, "sampler": sampler is not None, "drop_last": drop_last}
    others = [name for name, given in excluded.items() if given]
    if batch_sampler is not None and (others or batch_size != 1):
        raise ConfigError(
            f"DataLoader: a batch_sampler decides the batches itself; leave out {others[0] if others else 'batch_size'}"
        )
    if shuffle and isinstance(dataset, IterableDataset) and not isinstance(dataset, BlockDataset):
        raise ConfigError(
            f"DataLoader: {type(dataset).__name__} decides its order itself; leave out shuffle=True, or make it a "
            "BlockDataset, whose blocks and rows can be shuffled"
        )


def check_seeds(seed: int | None, generator: Any) -> None:
    """Whether one argument gives the seed."""
    check_generator(generator, "DataLoader")
    if seed is not None and generator is not None:
        raise ConfigError("DataLoader: seed and generator both give the seed; leave out one")


def check_workers(collate_fn: Any, worker_init_fn: Any, num_workers: int, persistent: Any, workers: Any) -> None:
    """Whether workers can be made."""
    for name, given in (("collate_fn", collate_fn), ("worker_init_fn", worker_init_fn)):
        if given is not None and not callable(given):
            raise ConfigError(f"DataLoader: {name} must be callable, got {type(given).__name__}")
    if workers not in ("processes", "threads"):
        raise ConfigError(f"DataLoader: workers are 'processes' or 'threads', got {workers!r}")
    if persistent and not num_workers:
        raise ConfigError("DataLoader: persistent_workers=True needs workers: num_workers=1 or more")


def is_integer(value: Any) -> bool:
    """Whether it is an integer, and no boolean."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool)
