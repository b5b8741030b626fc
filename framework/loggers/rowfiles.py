"""`metrics.jsonl` and `metrics.csv`: one row a step, in two forms that always agree.

The JSON lines are the record: appended to, never rewritten. The table is made from them: appended
to while its columns stay, written anew (to a temporary name, then renamed) when a column joins or a
run resumes. What a kill cuts off is an unfinished last line, which the next opening drops.
"""

from __future__ import annotations

import csv
import io
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

FIRST = ("step", "epoch")
LAST = "wall_s"
FLUSH_S = 0.5
"""Rows wait at most this long, by their own `wall_s`, for rows to be written together with."""

# JSON has no word for these three; this spelling is protobuf's, and Python's `float` reads it.
_SPELLED = {"nan": '"NaN"', "inf": '"Infinity"', "-inf": '"-Infinity"'}
_READ = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}

Row = dict[str, Any]


class RowFiles:
    """The two files of one folder.

    Args:
        folder: made, with the files, when the first row is written.

    Examples:
        >>> import tempfile
        >>> folder = Path(tempfile.mkdtemp())
        >>> files = RowFiles(folder)
        >>> files.append({"step": 1, "epoch": 0, "loss": 0.5, "wall_s": 0.1})
        >>> files.flush()
        >>> print((folder / "metrics.csv").read_text(), end="")
        step,epoch,loss,wall_s
        1,0,0.5,0.1
    """

    def __init__(self, folder: Path) -> None:
        self.jsonl = folder / "metrics.jsonl"
        self.csv = folder / "metrics.csv"
        self.rows = 0
        """Rows in the files and on their way there."""
        self.last: Row | None = None
        self._columns: dict[str, None] = {}  # an ordered set
        self._order: tuple[str, ...] = (*FIRST, LAST)
        self._keys: dict[str, str] = {}
        self._waiting: list[Row] = []
        self._flush_at = 0.0
        self._table_agrees = False

    @property
    def columns(self) -> list[str]:
        """Names of the metrics in the table, in order of first appearance."""
        return list(self._columns)

    def open(self, rows: int | None = None, columns: Iterable[str] = ()) -> int:
        """Take over what the folder holds, keeping the first `rows` (None: all) whole rows.

        Returns how many of the wanted rows are not there. `columns` are those that the table had,
        for a column may be older than the rows that are kept.
        """
        kept, size = _read_rows(self.jsonl, rows)
        self.rows = len(kept)
        self.last = kept[-1] if kept else None
        self._columns = dict.fromkeys(columns)
        if self.jsonl.exists():
            os.truncate(self.jsonl, size)
            self._rewrite_table(kept)
        return 0 if rows is None else rows - self.rows

    def append(self, row: Row) -> None:
        """Take one row; raises OSError where the rows that are due cannot be written."""
        self.rows += 1
        self.last = row
        self._waiting.append(row)
        if row[LAST] >= self._flush_at:
            self._flush_at = row[LAST] + FLUSH_S
            self.flush()

    def take_last(self) -> Row:
        """Remove the last row and return it, so that more can be added to it."""
        row, self.last = self.last, None
        assert row is not None
        self.rows -= 1
        if self._waiting:
            return self._waiting.pop()
        line, cells = self._encode(row)
        os.truncate(self.jsonl, self.jsonl.stat().st_size - len(line))
        if self._table_agrees:
            os.truncate(self.csv, self.csv.stat().st_size - len(cells))
        return row

    def flush(self) -> None:
        """Write the rows that wait; where that fails, raises OSError and keeps them for the next time."""
        if not self._waiting:
            return
        self.jsonl.parent.mkdir(parents=True, exist_ok=True)
        known = len(self._columns)
        encoded = [self._encode(row) for row in self._waiting]
        _append(self.jsonl, b"".join([line for line, _ in encoded]))
        self._waiting = []
        appendable, self._table_agrees = self._table_agrees and len(self._columns) == known, False
        if appendable:
            _append(self.csv, b"".join([cells for _, cells in encoded]))
            self._table_agrees = True
        else:
            self._rewrite_table(_read_rows(self.jsonl, None)[0])

    def sync(self) -> None:
        """Force the rows that are written to the disk; any thread may do so at any time."""
        if self.jsonl.exists():
            with open(self.jsonl, "rb") as file:
                os.fsync(file.fileno())

    def _encode(self, row: Row) -> tuple[bytes, bytes]:
        """The row's line in either file, in one pass; joins its new names to the columns."""
        texts: Row = {}
        fields = []
        for name, value in row.items():
            text = repr(value) if type(value) is float else _number_text(value)
            texts[name] = text
            key = self._keys.get(name)
            if key is None:
                key = self._keys[name] = json.dumps(name, ensure_ascii=False) + ":"
            fields.append(key + _SPELLED.get(text, text))
        if not self._columns.keys() >= texts.keys() - _FIXED:
            self._columns.update(dict.fromkeys(name for name in texts if name not in _FIXED))
            self._order = (*FIRST, *self._columns, LAST)
        cells = ",".join([texts.get(name, "") for name in self._order])
        return ("{" + ",".join(fields) + "}\n").encode(), (cells + "\n").encode()

    def _rewrite_table(self, rows: list[Row]) -> None:
        for row in rows:  # first all names, then all cells
            self._columns.update(dict.fromkeys(name for name in row if name not in _FIXED))
        self._order = (*FIRST, *self._columns, LAST)
        header = io.StringIO()
        csv.writer(header, lineterminator="\n").writerow(self._order)
        temporary = self.csv.with_name(".metrics.csv.tmp")
        temporary.write_bytes(b"".join([header.getvalue().encode(), *(self._encode(row)[1] for row in rows)]))
        os.replace(temporary, self.csv)
        self._table_agrees = True


_FIXED = {*FIRST, LAST}


def _append(path: Path, lines: bytes) -> None:
    """Append whole lines or nothing."""
    with open(path, "ab", buffering=0) as file:
        size = file.tell()
        try:
            written = file.write(lines)
            if written != len(lines):  # the disk filled up within a line
                raise OSError(f"only {written} of {len(lines)} bytes could be written to {path}")
        except OSError:
            file.truncate(size)
            raise


def _read_rows(path: Path, limit: int | None) -> tuple[list[Row], int]:
    """Up to `limit` whole rows from the start of the file, and the bytes that they take."""
    rows: list[Row] = []
    size = 0
    if not path.exists():
        return rows, size
    with open(path, "rb") as file:
        for line in file:
            if (limit is not None and len(rows) >= limit) or not line.endswith(b"\n"):
                break
            try:
                rows.append({name: _READ.get(value, value) for name, value in json.loads(line).items()})
            except (ValueError, AttributeError, TypeError):  # a torn line: what follows cannot be trusted either
                break
            size += len(line)
    return rows, size


def _number_text(value: Any) -> str:
    if isinstance(value, int):
        return str(int(value))
    try:
        return repr(float(value))
    except (TypeError, ValueError):
        return json.dumps(str(value), ensure_ascii=False)
