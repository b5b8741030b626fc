"""Datasets in a folder of shards, memory-mapped: larger than memory, read by index."""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from framework.data.dataset import Array, Dataset, Transform, checked_index
from framework.data.shardfiles import Header, npy_headers, safetensors_headers
from framework.errors import ConfigError, DataError, did_you_mean

# Maps that are kept open; a process may have some tens of thousands.
_OPEN = 4096


class ShardedDataset(Dataset):
    """Arrays that lie in the files of a folder, one shard after the other, and share their first axis.

    A shard is a `.safetensors` file with the arrays in it, such as `00000.safetensors`, or several `.npy`
    files that are named after array and shard, such as `images-00000.npy` and `labels-00000.npy`. Shards
    are ordered by their numbers. Files are memory-mapped when they are first needed: memory holds the
    batches, and what the system keeps of the files while it has room. A sample is the tuple of the
    arrays' entries at one index; a batch is read at once, file by file.

    `write_shards` makes such a folder.

    Args:
        folder: of the shards.
        arrays: the names of the arrays that a sample has, in this order; all in alphabetical order, if left out.
        transform: called with a whole batch of the first array, as in `framework.data.transforms`.

    Raises:
        DataError: there are no shards, one is damaged, or they differ in arrays, dtypes or shapes.

    Examples:
        >>> _ = write_shards("digits", [{"x": np.arange(6.0).reshape(3, 2), "y": np.arange(3)}], rows_per_shard=2)
        >>> data = ShardedDataset("digits")
        >>> len(data), data.names, int(data[2][1])
        (3, ('x', 'y'), 2)
    """

    def __init__(
        self,
        folder: str | os.PathLike[str],
        arrays: Sequence[str] | None = None,
        *,
        transform: Transform | None = None,
    ) -> None:
        self.folder = Path(folder)
        if transform is not None and not callable(transform):
            raise ConfigError(f"ShardedDataset: transform must be callable, got {type(transform).__name__}")
        self.transform = transform
        shards = _find(self.folder)
        known = sorted(shards[0][1])
        self.names: tuple[str, ...] = tuple(known if arrays is None else arrays)
        for name in self.names:
            if name not in known:
                raise DataError(
                    f"ShardedDataset: there is no array {name!r} in {self.folder}; known are {', '.join(known)}. "
                    f"{did_you_mean(name, known)}".rstrip()
                )
        if not self.names:
            raise ConfigError("ShardedDataset: arrays must name at least one array")
        _check_alike(shards)
        self._shards = [[headers[name] for name in self.names] for _, headers in shards]
        self._ends = np.cumsum([headers[0].shape[0] for headers in self._shards])
        self._maps: OrderedDict[tuple[int, int], Array] = OrderedDict()

    def __len__(self) -> int:
        return int(self._ends[-1])

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        i = checked_index(index, len(self))
        return tuple(a[0] for a in self.__getitems__(np.array([i])))

    def __getitems__(self, indices: Array) -> tuple[Array, ...]:
        """The batch at `indices`, a 1-D integer array: one fresh array for each array."""
        shards = np.searchsorted(self._ends, indices, side="right")
        order = np.argsort(indices, kind="stable")  # files are read from front to back
        numbers, starts = np.unique(shards[order], return_index=True)
        stops = [*starts[1:].tolist(), len(order)]
        batch = []
        for k, header in enumerate(self._shards[0]):
            out = np.empty((len(indices), *header.shape[1:]), header.dtype.newbyteorder("="))
            for number, start, stop in zip(numbers.tolist(), starts.tolist(), stops):
                where = order[start:stop]
                out[where] = self._map(number, k)[indices[where] - (self._ends[number - 1] if number else 0)]
            batch.append(out)
        if self.transform is not None:
            batch[0] = self.transform(batch[0])
        return tuple(batch)

    def _map(self, number: int, k: int) -> Array:
        found = self._maps.get((number, k))
        if found is None:
            found = self._maps[number, k] = self._shards[number][k].map()
            while len(self._maps) > _OPEN:
                try:
                    self._maps.popitem(last=False)
                except KeyError:  # another thread was faster
                    break
        return found

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_maps": OrderedDict()}

    def __repr__(self) -> str:
        return (
            f"ShardedDataset({str(self.folder)!r}, {list(self.names)}, {len(self)} rows in {len(self._shards)} shards)"
        )


def write_shards(
    folder: str | os.PathLike[str],
    batches: Iterable[Any],
    rows_per_shard: int = 10_000,
    *,
    format: str = "npy",
) -> Path:
    """Write batches of arrays as a folder of shards, holding one shard in memory at a time; gives the folder.

    Args:
        folder: made if need be; must hold no shards yet.
        batches: dicts of arrays by name with the rows along the first axis, of any number of rows.
        rows_per_shard: rows in each file but the last.
        format: "npy" or "safetensors".

    Raises:
        ConfigError: an argument is wrong.
        DataError: the batches differ in names, dtypes or shapes, or there are shards in the folder.
    """
    if isinstance(rows_per_shard, bool) or not isinstance(rows_per_shard, int) or rows_per_shard < 1:
        raise ConfigError(f"write_shards: rows_per_shard must be a positive integer, got {rows_per_shard!r}")
    if format not in ("npy", "safetensors"):
        raise ConfigError(f"write_shards: the format is 'npy' or 'safetensors', got {format!r}")
    path = Path(folder)
    path.mkdir(parents=True, exist_ok=True)
    if any(path.glob("*.npy")) or any(path.glob("*.safetensors")):
        raise DataError(f"write_shards: there are shards in {path} already; name an empty folder")
    for number, shard in enumerate(_shards(batches, rows_per_shard)):
        if format == "npy":
            for name, array in shard.items():
                np.save(path / f"{name}-{number:05d}.npy", array, allow_pickle=False)
        else:
            from safetensors.numpy import save_file

            save_file(shard, path / f"{number:05d}.safetensors")
    return path


def _shards(batches: Iterable[Any], rows: int) -> Iterator[dict[str, Array]]:
    pieces: list[dict[str, Array]] = []
    missing = rows
    first: dict[str, Any] | None = None
    for batch in batches:
        arrays = {str(name): np.asarray(array) for name, array in batch.items()}
        kind = {name: (a.dtype, a.shape[1:]) for name, a in arrays.items()}
        lengths = {a.shape[:1] for a in arrays.values()}
        if first is None:
            first = kind
        if kind != first or len(lengths) != 1 or lengths == {()} or any(d.hasobject for d, _ in kind.values()):
            raise DataError(
                f"write_shards: batches must be dicts of equally long arrays of the same names, dtypes and shapes; "
                f"the first has {_text(first)}, another {_text(kind)} with lengths {sorted(lengths)}"
            )
        start, count = 0, len(next(iter(arrays.values())))
        while start < count:
            stop = min(start + missing, count)
            pieces.append({name: a[start:stop] for name, a in arrays.items()})
            missing -= stop - start
            start = stop
            if not missing:
                yield {name: np.concatenate([p[name] for p in pieces]) for name in first}
                pieces, missing = [], rows
    if pieces and first:
        yield {name: np.concatenate([p[name] for p in pieces]) for name in first}


def _find(folder: Path) -> list[tuple[str, dict[str, Header]]]:
    """The shards in order: a name for messages, and the header of each array."""
    if not folder.is_dir():
        raise DataError(f"ShardedDataset: there is no folder {folder}")
    groups: dict[str, list[Path]] = {"safetensors": [], "npy": []}
    for path in folder.iterdir():
        if path.is_file() and path.suffix[1:] in groups and not path.name.startswith("."):
            groups[path.suffix[1:]].append(path)
    if all(groups.values()):
        raise DataError(f"ShardedDataset: {folder} holds .npy and .safetensors files; keep one kind in a folder")
    if groups["safetensors"]:
        paths = sorted(groups["safetensors"], key=lambda path: _natural(path.stem))
        return [(path.name, safetensors_headers(path)) for path in paths]
    if not groups["npy"]:
        raise DataError(f"ShardedDataset: there are no .npy and no .safetensors files in {folder}")
    shards: dict[str, dict[str, Header]] = {}
    for path in groups["npy"]:
        match = re.fullmatch(r"(.*?)[-_.]?(\d+)", path.stem)
        name, number = match.groups() if match else (path.stem, "")
        shards.setdefault(number, {})[name or "data"] = npy_headers(path)
    return [(f"shard {number}".rstrip(), shards[number]) for number in sorted(shards, key=_natural)]


def _natural(text: str) -> list[tuple[int, int, str]]:
    """Sorts numbers within a name by value."""
    return [(1, int(part), "") if part.isdigit() else (0, 0, part) for part in re.split(r"(\d+)", text) if part]


def _check_alike(shards: list[tuple[str, dict[str, Header]]]) -> None:
    first_name, first = shards[0]
    for name, headers in shards:
        if headers.keys() != first.keys():
            raise DataError(
                f"ShardedDataset: all shards must hold the same arrays; {first_name} holds {sorted(first)}, "
                f"{name} {sorted(headers)}"
            )
        lengths = {key: header.shape[0] for key, header in headers.items()}
        if len(set(lengths.values())) > 1:
            raise DataError(f"ShardedDataset: the arrays of {name} differ in their number of rows: {lengths}")
        for key, header in headers.items():
            expected = first[key]
            if (header.dtype, header.shape[1:]) != (expected.dtype, expected.shape[1:]):
                raise DataError(
                    f"ShardedDataset: array {key!r} is {expected.dtype} with rows of shape {expected.shape[1:]} in "
                    f"{expected.path.name}, but {header.dtype} with rows of shape {header.shape[1:]} in "
                    f"{header.path.name}"
                )


def _text(kind: dict[str, Any]) -> str:
    return ", ".join(f"{name}: {dtype} {list(shape)}" for name, (dtype, shape) in kind.items())
