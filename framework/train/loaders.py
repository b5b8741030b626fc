"""Where batches come from: finding the loaders, counting their batches, iterating over them."""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from framework.data import DataLoader
from framework.data.resident import Resident
from framework.errors import ConfigError
from framework.train.datamodule import DataModule
from framework.train.hooks import overridden
from framework.train.module import TrainModule

if TYPE_CHECKING:
    from framework.train.options import Limits

LOADERS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "train": (DataModule.train_dataloader, TrainModule.train_dataloader),
    "val": (DataModule.val_dataloader, TrainModule.val_dataloader),
    "test": (DataModule.test_dataloader, TrainModule.test_dataloader),
    "predict": (DataModule.predict_dataloader, TrainModule.predict_dataloader),
}


class Source:
    """One loader with the number of its batches that are used.

    Args:
        loader: anything that can be iterated over.
        limit: an int is a number of batches, a float a part of them.
        name: the argument that the limit is from, for messages.
    """

    def __init__(self, loader: Any, limit: int | float, name: str) -> None:
        self.loader = loader
        self.length = _length(loader)
        """Batches that the loader has; infinite where it does not say."""
        self.count = _limited(self.length, limit, name)
        """Batches that are used."""
        self.resident: Resident | None = None
        """The loader's dataset on the device, where it is kept there."""

    @property
    def is_cut(self) -> bool:
        """Whether batches are left in the loader when as many as wanted are used."""
        return self.count < self.length

    def first(self, batches: int | float) -> Source:
        """The same loader, with so many of its batches used at most."""
        return Source(self.loader, int(min(self.count, batches, sys.maxsize)), "")

    def batches(self, lends: bool) -> Iterator[Any]:
        """One pass over the loader; it may lend its arrays where the caller lets go of each batch."""
        loader = self.loader
        if self.resident is not None:
            return self.resident.batches()
        if lends and isinstance(loader, DataLoader) and type(loader).__iter__ is DataLoader.__iter__:
            return loader.lend_batches()
        return iter(loader)

    def state(self, *, exhausted: bool, batch: int | None = None) -> Any:
        """The loader's position: after `batch` batches where that is given, at the next epoch's start if exhausted."""
        if not hasattr(self.loader, "state_dict"):
            return None
        state = dict(self.loader.state_dict())
        if {"epoch", "batch"} <= state.keys():  # the position is ours to state: the loop knows it best
            if exhausted and state["batch"]:
                state |= {"epoch": state["epoch"] + 1, "batch": 0}
            elif batch is not None and not exhausted and state["batch"] > batch:
                state["batch"] = batch
        return state

    def load_state(self, state: Any) -> None:
        """Go back to a position."""
        if state is not None and hasattr(self.loader, "load_state_dict"):
            self.loader.load_state_dict(state)


class Lookahead:
    """Batches of a loader without a length; calls `at_end` before the last one is handed out.

    `state` is the loader's position before the batch that is read ahead.
    """

    def __init__(self, source: Source, at_end: Callable[[], None]) -> None:
        self._source = source
        self._batches = iter(source.loader)
        self._at_end = at_end
        self.state: Any = None
        self._next = next(self._batches, _END)

    def __iter__(self) -> Iterator[Any]:
        while self._next is not _END:
            batch = self._next
            self.state = self._source.state(exhausted=False)
            self._next = next(self._batches, _END)
            if self._next is _END:
                self.state = self._source.state(exhausted=True)
                self._at_end()
            yield batch

    def close(self) -> None:
        """End the iteration before its end."""
        close(self._batches)


_END = object()


def find(kind: str, given: Any, datamodule: DataModule | None, module: TrainModule) -> Any:
    """What was given as loader(s), or what the datamodule's or the module's method returns; None for nothing.

    Args:
        kind: "train", "val", "test" or "predict".

    Raises:
        ConfigError: the method returned nothing.
    """
    if given is not None:
        return given
    for owner, base in zip((datamodule, module), LOADERS[kind]):
        method = None if owner is None else overridden(owner, base)
        if method is not None:
            found = method()
            if found is None:
                raise ConfigError(f"{type(owner).__name__}.{kind}_dataloader() returned None; is a `return` missing?")
            return found
    return None


def train_source(loader: Any, limits: Limits) -> Source:
    """The training data.

    Raises:
        ConfigError: it is no loader, or several, or empty.
    """
    if isinstance(loader, Mapping) or _is_list_of_loaders(loader):
        raise ConfigError(
            f"train_dataloaders is a {type(loader).__name__} of loaders; one loader is used for training. "
            "Join the datasets in one loader"
        )
    _check_iterable(loader, "train_dataloaders")
    source = Source(loader, limits.train, "overfit_batches" if limits.overfits else "limit_train_batches")
    if source.length == 0:
        raise ConfigError("the training loader has no batches: is the dataset empty, or smaller than a batch?")
    if limits.overfits and source.count:  # the same few batches in every epoch, whatever the loader's order
        first = [batch for batch, _ in zip(loader, range(int(min(source.count, 10**9))))]
        source = Source(first, 1.0, "overfit_batches")
    return source


def evaluation_sources(loaders: Any, limit: int | float, name: str) -> list[Source]:
    """The loaders of a validation, test or prediction.

    Raises:
        ConfigError: one of them is no loader.
    """
    if loaders is None:
        return []
    several = list(loaders) if _is_list_of_loaders(loaders) else [loaders]
    for loader in several:
        _check_iterable(loader, name)
    return [Source(loader, limit, name) for loader in several]


def total(sources: Sequence[Source]) -> int | float:
    """The number of batches of all loaders together."""
    return sum(source.count for source in sources)


def close(batches: Any) -> None:
    """End an iteration that was not run to its end, with its threads."""
    if hasattr(batches, "close"):
        batches.close()


def _is_list_of_loaders(value: Any) -> bool:
    """Whether this is a list of loaders, and not a list of batches."""
    if not isinstance(value, list | tuple) or not value:
        return False
    return all(
        hasattr(v, "__iter__") and not isinstance(v, list | tuple | Mapping) and not hasattr(v, "shape") for v in value
    )


def _check_iterable(loader: Any, name: str) -> None:
    if hasattr(loader, "shape"):
        raise ConfigError(
            f"{name}: got an array of shape {tuple(loader.shape)}, which would be taken row by row. "
            "Wrap it: fw.data.DataLoader(fw.data.ArrayDataset(x, y), batch_size=32)"
        )
    if hasattr(loader, "__iter__"):
        return
    if hasattr(loader, "__getitem__"):
        raise ConfigError(
            f"{name}: {type(loader).__name__} is a dataset, not a loader. "
            "Wrap it: fw.data.DataLoader(dataset, batch_size=32)"
        )
    raise ConfigError(f"{name}: a loader is something to iterate over, such as a fw.data.DataLoader, got {loader!r}")


def _length(loader: Any) -> int | float:
    try:
        return len(loader)
    except (TypeError, NotImplementedError):
        return math.inf


def _limited(length: int | float, limit: int | float, name: str) -> int | float:
    if isinstance(limit, int):
        return min(length, limit)
    if limit == 1.0:
        return length
    if math.isinf(length):
        raise ConfigError(
            f"{name}={limit}: the loader has no length to take a part of; give a number of batches (an int)"
        )
    count = int(length * limit)
    if count == 0 and limit > 0 and length > 0:
        raise ConfigError(
            f"{name}={limit} of {length} batches is less than one; "
            f"at least {name}={math.ceil(1000 / length) / 1000} is needed"
        )
    return count
