"""Reading a CSV file: rows in blocks, columns of cells, and errors that name the line."""

from __future__ import annotations

import csv
import io
import math
import warnings
from collections.abc import Iterator, Sequence
from functools import cached_property
from itertools import chain, islice
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
        self.plain = False
        """Whether all cells may well be numbers."""
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
        for block in self._scan(1, skip_header=False):
            return [cell.strip() for cell in block.rows[0]]
        raise DataError(f"{self.path} is empty: there is not a single row")

    def scan(self, size: int) -> Iterator[Block]:
        """All rows in order, about `size` at a time."""
        return self._scan(size, self._has_header)

    def _scan(self, size: int, skip_header: bool) -> Iterator[Block]:
        start, line = self._first, 1
        with open(self.path, "rb") as file:
            file.seek(start)
            lines: Iterator[bytes] = iter(file)
            while taken := list(islice(lines, 1 if skip_header else size)):
                if any(b'"' in one for one in taken):  # rows may go on over several lines
                    ahead = chain(taken, lines)
                    taken, lines = self._whole_rows(ahead, 1 if skip_header else size, line), ahead
                content = b"".join(taken)
                count = len(taken) - taken.count(b"\n") - taken.count(b"\r\n")  # blank lines are no rows
                block = Block(self, content, start, line, count if b'"' not in content else None)
                start, line = start + len(content), line + len(taken)
                del taken, content  # the block alone is kept while it is looked at, and then not even that
                if block.count and not skip_header:
                    yield block
                skip_header = skip_header and not block.count
                del block

    def _whole_rows(self, lines: Iterator[bytes], size: int, line: int) -> list[bytes]:
        """As many lines as `size` rows take."""
        taken: list[bytes] = []

        def text() -> Iterator[str]:
            for one in lines:
                taken.append(one)
                yield self.decode(one, line + len(taken) - 1)

        reader = csv.reader(text(), delimiter=self.delimiter, strict=True)
        try:
            for _ in islice((row for row in reader if row), size):
                pass
        except csv.Error as error:
            raise DataError(f"{self.path}, line {line + reader.line_num - 1}: {error}") from error
        return taken

    def read(self, start: int, stop: int, line: int, count: int) -> Block:
        """The `count` rows in a range of bytes that begins with line `line`."""
        if self._stat() != self._state:
            raise DataError(f"{self.path} has changed since it was opened; make the CSVDataset anew")
        with open(self.path, "rb") as file:
            file.seek(start)
            return Block(self, file.read(stop - start), start, line, count)

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


class Block:
    """Some rows of a file.

    Args:
        file: theirs.
        content: their bytes.
        start: where these begin.
        line: the line that they begin with.
        count: of rows, where that is known.
    """

    def __init__(self, file: CSVFile, content: bytes, start: int, line: int, count: int | None = None) -> None:
        self._file = file
        self._text = file.decode(content, line)
        self.start = start
        self.line = line
        self._count = count
        self._matrix: Array | None = self._plain() if file.plain else None

    @property
    def count(self) -> int:
        """The number of rows."""
        if self._count is None:
            self._count = len(self.rows)
        return self._count

    @cached_property
    def rows(self) -> list[list[str]]:
        """The cells of each row."""
        reader = self._reader()
        try:
            return [row for row in reader if row]
        except csv.Error as error:
            line = self.line + reader.line_num - 1
            raise DataError(f"{self._file.path}, line {line}: {error}") from error

    @cached_property
    def columns(self) -> dict[str, tuple[str, ...]]:
        """The cells of each column.

        Raises:
            DataError: a row has more or fewer cells than there are columns.
        """
        rows, names = self.rows, self._file.columns
        if set(map(len, rows)) - {len(names)}:
            k = next(k for k, row in enumerate(rows) if len(row) != len(names))
            raise DataError(
                f"{self._file.path}, line {self._line_of(k)}: the row has {len(rows[k])} cells, but there are "
                f"{len(names)} columns ({', '.join(names[:8])}{', …' if len(names) > 8 else ''}). Is a cell with "
                f"{self._file.delimiter!r} in it not quoted, or the delimiter another one?"
            )
        return dict(zip(names, zip(*rows)))

    def numbers(self, name: str, missing: frozenset[str]) -> tuple[Array, int | None]:
        """A column as float64, NaN where a cell is missing; and the first row where it is neither, if there is one."""
        if self._matrix is None:
            return as_numbers(self.columns[name], missing)
        return self._matrix[:, self._file.columns.index(name)].copy(), None

    def error(self, text: str, name: str, row: int) -> DataError:
        """An error about one cell; `{cell}` in the text is the cell."""
        text = text.replace("{cell}", repr(self.columns[name][row]))
        return DataError(f"{self._file.path}, line {self._line_of(row)}, column {name!r}: {text}")

    def _plain(self) -> Array | None:
        """All cells at once, where all are finite numbers: several times faster than by way of Python's."""
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of no rows
                lines = io.StringIO(self._text, newline="\n")
                found = np.loadtxt(lines, delimiter=self._file.delimiter, comments=None, quotechar='"', ndmin=2)
        except ValueError:
            return None
        fits = found.shape == (self.count, len(self._file.columns)) and np.isfinite(found).all()
        return found if fits else None

    def _reader(self) -> Any:
        return csv.reader(io.StringIO(self._text, newline="\n"), delimiter=self._file.delimiter, strict=True)

    def _line_of(self, row: int) -> int:
        """The line on which a row begins."""
        reader = self._reader()
        before = 0
        for cells in reader:
            if cells:
                if row == 0:
                    break
                row -= 1
            before = reader.line_num
        return self.line + before


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
