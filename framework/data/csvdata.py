"""`CSVDataset`: a table in a text file, larger than memory, as numbers."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from framework.data.csvcolumns import MISSING, Schema, encode
from framework.data.csvfile import Array, CSVFile, as_numbers
from framework.data.iterable import BlockDataset, BlockPart
from framework.errors import ConfigError, DataError, did_you_mean


class CSVDataset(BlockDataset):
    """The rows of a CSV file, read in blocks of `buffer` rows; memory holds a few blocks, never the file.

    A first pass, when it is made, finds where the blocks begin, checks every cell, and collects means,
    deviations and categories. A sample is the tuple of

    - its numbers, in the default dtype, (columns,): all features that are not categorical,
    - its codes, int64 (columns,): the categorical features, each as a number from 0 on,
    - its target: a number in the default dtype, or a code, int64, if it is categorical,

    where what the file does not have is left out. `DataLoader(…, shuffle=True)` takes the blocks in random
    order and the rows of each block in random order: a larger `buffer` mixes better.

    Args:
        path: of the file.
        target: the column to predict, or a list of several that hold numbers; a name, or a number from 0 on.
        features: the columns to predict from; all others, if left out.
        header: whether the first row holds the columns' names; else they are "0", "1", ….
        categorical: the columns that hold categories; "auto" takes those in whose first block no cell is a number.
        dtypes: of columns: {"age": "float64", "label": "int64"}; features of numbers share one that holds all.
        missing: what to do about an empty cell: "error"; "mean", the column's mean; or a number to put there.
            For the latter two a categorical feature has a code of its own, the last, for missing cells and
            categories that are not known.
        missing_values: the texts that count as empty.
        normalize: subtract the column's mean from numbers, and divide by its standard deviation.
        buffer: rows in a block.
        like: a CSVDataset, such as the training data: take its columns, categories and statistics, and the
            settings that go with them. The target may be absent.
        delimiter: between cells.
        encoding: of the file.

    Raises:
        DataError: the file cannot be read, lacks a column, or has a row or cell that does not fit; names the line.
        ConfigError: an argument is wrong.

    Examples:
        >>> _ = Path("pets.csv").write_text("age,kind,weight\\n2,cat,4.0\\n7,dog,9.5\\n4,cat,4.5\\n")
        >>> pets = CSVDataset("pets.csv", target="weight", categorical=["kind"])
        >>> [(x.tolist(), code.tolist(), float(y)) for x, code, y in pets]
        [([2.0], [0], 4.0), ([7.0], [1], 9.5), ([4.0], [0], 4.5)]
        >>> pets.categories
        {'kind': ['cat', 'dog']}
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        target: str | int | Sequence[str | int] | None = None,
        *,
        features: Sequence[str | int] | None = None,
        header: bool = True,
        categorical: Sequence[str | int] | str = (),
        dtypes: Mapping[str | int, Any] | None = None,
        missing: str | float = "error",
        missing_values: Iterable[str] = MISSING,
        normalize: bool = False,
        buffer: int = 10_000,
        like: Any = None,
        delimiter: str = ",",
        encoding: str = "utf-8",
    ) -> None:
        if isinstance(buffer, bool) or not isinstance(buffer, int | np.integer) or buffer < 1:
            raise ConfigError(f"CSVDataset: buffer must be a number of rows, got {buffer!r}")
        self.path = Path(path)
        self.buffer = int(buffer)
        self._file = CSVFile(self.path, header, delimiter, encoding)
        if like is not None:
            given = {"target": target, "features": features, "categorical": categorical, "dtypes": dtypes}
            self.schema = _schema_like(like, given, self._file)
        else:
            self.schema = Schema(
                target=self._names(target, "target"),
                single_target=target is not None and not _is_list(target),
                features=None if features is None else self._names(features, "features"),
                dtypes={self._names(key, "dtypes")[0]: np.dtype(value).name for key, value in (dtypes or {}).items()},
                missing=missing,
                missing_values=frozenset(missing_values),
                normalize=bool(normalize),
            )
            self._settle(categorical)
        self._scan(collects=like is None)

    @property
    def columns(self) -> list[str]:
        """The names of the file's columns."""
        return list(self._file.columns)

    @property
    def numeric(self) -> list[str]:
        """The features that hold numbers, in the order of a sample's first array."""
        return list(self.schema.numeric)

    @property
    def categories(self) -> dict[str, list[str]]:
        """Of each categorical column the categories, in the order of their codes."""
        return {name: list(values) for name, values in self.schema.categories.items()}

    @property
    def cardinalities(self) -> list[int]:
        """How many codes each categorical feature has, the one for unknown cells included: for `nn.Embedding`."""
        extra = self.schema.missing != "error"
        return [len(self.schema.categories[name]) + extra for name in self.schema.coded]

    @property
    def classes(self) -> list[str] | None:
        """The categories of the target; None where it is a number."""
        names = self.schema.target
        return self.categories.get(names[0]) if names else None

    @property
    def statistics(self) -> dict[str, dict[str, float]]:
        """Of each column of numbers: mean, std (dividing by the number of rows), min, max, and missing cells."""
        return {name: dict(values) for name, values in self.schema.statistics.items()}

    @property
    def block_sizes(self) -> Array:
        """The number of rows in each block."""
        return self._sizes

    def read_block(self, number: int) -> tuple[Array, ...]:
        """The samples of one block, encoded: see the class."""
        start, stop = self._offsets[number], self._offsets[number + 1]
        return encode(self.schema, self._file.read(start, stop, self._lines[number], int(self._sizes[number])))

    def __repr__(self) -> str:
        target = f", target={self.schema.target}" if self.schema.target else ""
        return f"CSVDataset({str(self.path)!r}{target}, {len(self)} rows in blocks of {self.buffer})"

    # -- the first pass --------------------------------------------------------------------------

    def _scan(self, collects: bool) -> None:
        file, schema = self._file, self.schema
        file.plain = not schema.categories
        sizes, offsets, lines = [], [], []
        for block in file.scan(self.buffer):
            sizes.append(block.count)
            offsets.append(block.start)
            lines.append(block.line)
            if collects:
                schema.collect(block)
            elif not file.plain:
                block.columns  # noqa: B018  # rows of another length are found here
            del block
        if collects:
            schema.finish(str(self.path))
        self._sizes = np.array(sizes, np.int64)
        self._offsets = [*offsets, file.size]
        self._lines = lines

    def _settle(self, categorical: Any) -> None:
        """Which features hold numbers, and which categories."""
        schema = self.schema
        names = self._text_columns() if categorical == "auto" else self._names(categorical, "categorical")
        if schema.features is None:
            schema.features = [name for name in self._file.columns if name not in schema.target]
        both = [name for name in schema.features if name in schema.target]
        if both:
            raise ConfigError(f"CSVDataset: column {both[0]!r} is in features and is the target")
        schema.settle(names)

    def _text_columns(self) -> list[str]:
        for block in self._file.scan(self.buffer):
            return [name for name, cells in block.columns.items() if _is_text(cells, self.schema.missing_values)]
        return []

    def _names(self, given: Any, argument: str) -> list[str]:
        """Names of columns, of names and numbers."""
        known = self._file.columns
        names = []
        for item in [] if given is None else given if _is_list(given) else [given]:
            if isinstance(item, int | np.integer) and not isinstance(item, bool) and -len(known) <= item < len(known):
                item = known[int(item)]
            if item not in known:
                hint = did_you_mean(str(item), known)
                raise DataError(
                    f"{self.path}: there is no column {item!r}, named by {argument}; the columns are "
                    f"{', '.join(known[:20])}{', …' if len(known) > 20 else ''}. {hint}".rstrip()
                )
            names.append(item)
        return names


def _is_list(given: Any) -> bool:
    return isinstance(given, Sequence | set | frozenset | np.ndarray) and not isinstance(given, str)


def _is_text(cells: Sequence[str], missing: frozenset[str]) -> bool:
    there = [cell for cell in cells if cell.strip() not in missing]
    return bool(there) and all(as_numbers([cell], missing)[1] is not None for cell in there)


def _schema_like(like: Any, given: dict[str, Any], file: CSVFile) -> Schema:
    while isinstance(like, BlockPart):
        like = like.dataset
    if not isinstance(like, CSVDataset):
        raise ConfigError(f"CSVDataset: like must be a CSVDataset, got {type(like).__name__}")
    both = [name for name, value in given.items() if value not in (None, ())]
    if both:
        raise ConfigError(f"CSVDataset: like and {both[0]} both say what the columns are; leave out {both[0]}")
    schema = like.schema
    absent = [name for name in (*schema.numeric, *schema.coded) if name not in file.columns]
    if absent:
        raise DataError(
            f"{file.path}: there is no column {absent[0]!r}, which {like.path} has as a feature; the columns are "
            f"{', '.join(file.columns[:20])}"
        )
    return schema.without_target() if not set(schema.target) <= set(file.columns) else schema
