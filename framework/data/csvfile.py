"""Reading a CSV file: rows in blocks, columns of cells, and errors that name the line."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from framework.errors import ConfigError, DataError

Array = np.ndarray[Any, np.dtype[Any]]


class CSVFile:
    """A file of rows of text; of each row, as many cells as there are columns.

    Args:
        path: of the file.
        header: whether the first row holds the columns' names; else they are "0", "1", ….
        delimiter: between cells.
        encoding: of the text; one in which line ends are single bytes, as in UTF-8.

    Raises:
        DataError: it is not there, empty, or no text.
    """

    def __init__(self, path: Path, header: bool, delimiter: str, encoding: str) -> None:
        if not isinstance(delimiter, str) or len(delimiter) != 1:
            raise ConfigError(f"CSVDataset: delimiter must be one character, got {delimiter!r}")
        try:
            single = "\n".encode(encoding) == b"\n"
        except LookupError:
            raise ConfigError(f"CSVDataset: there is no encoding {encoding!r}; mostly it is 'utf-8'") from None
        if not single:
            raise ConfigError(f"CSVDataset: encoding {encoding!r} cannot be read in blocks; convert the file to utf-8")
        self.path = path
        self.delimiter = delimiter
        self.encoding = encoding
        self._state = self._stat()
        with open(path, "rb") as file:
            start = file.read(3)
        if start[:2] == b"\x1f\x8b":
            raise DataError(f"{path} is compressed, so it cannot be read from the middle; unpack it first (gunzip)")
        self._first = 3 if start == b"\xef\xbb\xbf" else 0
        found = self._first_row()
        self.columns: list[str] = found if header else [str(k) for k in range(len(found))]
        self._has_header = header
        if header and len(set(self.columns)) < len(self.columns):
            twice = next(name for name in self.columns if self.columns.count(name) > 1)
            raise DataError(f"{path}: two columns are named {twice!r}; rename one, or pass header=False")

    @property
    def size(self) -> int:
        """The number of bytes."""
        return self._state[0]

    def _stat(self) -> tuple[int, int]:
        try:
            stat = self.path.stat()
        except OSError as error:
            raise DataError(f"CSVDataset: cannot read {self.path}: {error.strerror}") from error
        return stat.st_size, stat.st_mtime_ns

    def _first_row(self) -> list[str]:
        for rows, _, _ in self._scan(1, skip_header=False):
            return [cell.strip() for cell in rows[0]]
        raise DataError(f"{self.path} is empty: there is not a single row")

    def scan(self, size: int) -> Iterator[tuple[list[list[str]], int, int]]:
        """All rows in order, `size` at a time, each time with the byte and the line where they begin."""
        return self._scan(size, self._has_header)

    def _scan(self, size: int, skip_header: bool) -> Iterator[tuple[list[list[str]], int, int]]:
        offset, line = self._first, 1
        with open(self.path, "rb") as file:
            file.seek(offset)
            counter = _Counter(file, self, offset)
            reader = csv.reader(counter, delimiter=self.delimiter, strict=True)
            rows_left = (row for row in reader if row)  # blank lines are none
            try:
                if skip_header:
                    next(rows_left, None)
                    offset, line = counter.offset, 1 + reader.line_num
                while rows := list(islice(rows_left, size)):
                    yield rows, offset, line
                    offset, line = counter.offset, 1 + reader.line_num
            except csv.Error as error:
                raise DataError(f"{self.path}, line {reader.line_num}: {error}") from error

    def read(self, start: int, stop: int, line: int) -> list[list[str]]:
        """The rows in a range of bytes that begins with line `line`."""
        if self._stat() != self._state:
            raise DataError(f"{self.path} has changed since it was opened; make the CSVDataset anew")
        with open(self.path, "rb") as file:
            file.seek(start)
            content = file.read(stop - start)
        text = io.StringIO(self.decode(content, line), newline="")
        return [row for row in csv.reader(text, delimiter=self.delimiter, strict=True) if row]

    def decode(self, content: bytes, line: int) -> str:
        """The text of some bytes, the first of them on line `line`."""
        try:
            return content.decode(self.encoding)
        except UnicodeDecodeError as error:
            line += content[: error.start].count(b"\n")
            raise DataError(
                f"{self.path}, line {line}: the bytes {content[error.start : error.end]!r} are no {self.encoding}; "
                "pass the file's encoding, such as encoding='latin-1'"
            ) from error

    def cells(self, rows: list[list[str]], start: int, line: int) -> list[tuple[str, ...]]:
        """The columns of rows that begin at byte `start`, on line `line`.

        Raises:
            DataError: a row has more or fewer cells than there are columns.
        """
        width = len(self.columns)
        if set(map(len, rows)) - {width}:
            k = next(k for k, row in enumerate(rows) if len(row) != width)
            raise DataError(
                f"{self.path}, line {self.line_of(k, start, line)}: the row has {len(rows[k])} cells, but there are "
                f"{width} columns ({', '.join(self.columns[:8])}{', …' if width > 8 else ''}). Is a cell with "
                f"{self.delimiter!r} in it not quoted, or the delimiter another one?"
            )
        return list(zip(*rows))

    def line_of(self, row: int, start: int, line: int) -> int:
        """The line on which a row begins, counted from byte `start`, which is on line `line`."""
        with open(self.path, "rb") as file:
            file.seek(start)
            reader = csv.reader(_Counter(file, self, start), delimiter=self.delimiter)
            before = 0
            for cells in reader:
                if cells:
                    if row == 0:
                        break
                    row -= 1
                before = reader.line_num
        return line + before

    def error(self, text: str, column: str, row: int, start: int, line: int) -> DataError:
        """An error about one cell."""
        return DataError(f"{self.path}, line {self.line_of(row, start, line)}, column {column!r}: {text}")


class _Counter:
    """The lines of a file as text, and how far they have been taken."""

    def __init__(self, file: io.BufferedReader, owner: CSVFile, offset: int) -> None:
        self._file = file
        self._owner = owner
        self._line = 0
        self.offset = offset

    def __iter__(self) -> Iterator[str]:
        encoding = self._owner.encoding
        for line in self._file:
            self.offset += len(line)
            self._line += 1
            try:
                yield line.decode(encoding)
            except UnicodeDecodeError:
                yield self._owner.decode(line, self._line)


def as_numbers(cells: Sequence[str], missing: frozenset[str]) -> tuple[Array, int | None]:
    """The cells as float64, NaN where one is missing; and the first that is neither, if there is one."""
    try:
        values = np.fromiter(map(float, cells), np.float64, len(cells))
    except ValueError:
        values = np.empty(len(cells))
        for k, cell in enumerate(cells):
            try:
                values[k] = math.nan if cell.strip() in missing else float(cell)
            except ValueError:
                return values, k
    infinite = np.flatnonzero(np.isinf(values))
    return values, int(infinite[0]) if infinite.size else None
