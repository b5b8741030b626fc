"""What the columns of a table mean, and how their cells become arrays."""

from __future__ import annotations

import copy
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import numpy as np

from framework.data.csvfile import Array, Block, as_numbers
from framework.data.dataset import host_float
from framework.errors import ConfigError, DataError

MISSING: Final = ("", "NA", "N/A", "NaN", "nan", "null", "NULL", "None", "?")


@dataclass
class Schema:
    """The columns that are used, and what a first pass found in them."""

    target: list[str]
    single_target: bool
    features: list[str] | None
    dtypes: dict[str, str]
    missing: str | float
    missing_values: frozenset[str]
    normalize: bool
    numeric: list[str] = field(default_factory=list)
    """Features that hold numbers."""
    coded: list[str] = field(default_factory=list)
    """Features that hold categories."""
    categories: dict[str, list[str]] = field(default_factory=dict)
    statistics: dict[str, dict[str, float]] = field(default_factory=dict)
    _found: dict[str, Any] = field(default_factory=dict)

    def settle(self, categorical: Sequence[str]) -> None:
        """Tell features of numbers from those of categories, which `categorical` names.

        Raises:
            ConfigError: the settings do not go together.
        """
        features = self.features or []
        self.numeric = [name for name in features if name not in categorical]
        self.coded = [name for name in features if name in categorical]
        coded_targets = [name for name in self.target if name in categorical]
        if len(self.target) > 1 and coded_targets:
            raise ConfigError(f"CSVDataset: of several targets none can be categorical; {coded_targets[0]!r} is")
        if not (features or self.target):
            raise ConfigError("CSVDataset: there are neither features nor a target")
        if self.missing not in ("error", "mean") and not _is_number(self.missing):
            raise ConfigError(f"CSVDataset: missing is 'error', 'mean' or a number, got {self.missing!r}")
        for name, dtype in self.dtypes.items():
            if np.dtype(dtype).kind not in "iuf":
                raise ConfigError(f"CSVDataset: the dtype of column {name!r} must be one of numbers, got {dtype}")
        self.categories = {name: [] for name in (*self.coded, *coded_targets)}
        self._found = {name: Counter() if name in self.categories else _Moments() for name in (*features, *self.target)}

    def without_target(self) -> Schema:
        """The same, of a table in which the target is not."""
        other = copy.copy(self)
        other.target = []
        return other

    def collect(self, block: Block) -> None:
        """Take one block into account."""
        for name, found in self._found.items():
            if isinstance(found, Counter):
                values = [cell.strip() for cell in block.columns[name]]
                found.update(values)
                gaps = np.fromiter([value in self.missing_values for value in values], bool, len(values))
            else:
                numbers = self._numbers(name, block)
                found.add(numbers)
                gaps = np.isnan(numbers)
            if name in self.target or self.missing == "error":
                self._refuse(gaps, name, block)

    def finish(self, path: str) -> None:
        """Settle categories and statistics, when all blocks were collected."""
        for name, found in self._found.items():
            if isinstance(found, Counter):
                self.categories[name] = _sorted([value for value in found if value not in self.missing_values])
                continue
            if not found.count and (self.normalize or self.missing == "mean") and name in self.numeric:
                raise DataError(f"{path}: column {name!r} holds no number at all, so it has no mean; leave it out")
            self.statistics[name] = found.result()
        self._found = {}

    def _numbers(self, name: str, block: Block) -> Array:
        values, bad = block.numbers(name, self.missing_values)
        if bad is not None:
            if np.isinf(values[bad]):
                raise block.error("{cell} is not finite; correct it, or add it to missing_values", name, bad)
            raise block.error(
                "{cell} is no number. If the column holds categories, name it in categorical=[…]; if it marks a "
                "missing value, add it to missing_values",
                name,
                bad,
            )
        dtype = np.dtype(self.dtypes.get(name, np.float64))
        if dtype.kind in "iu":
            there = np.where(np.isnan(values), 0, values)
            # Integers are read as float64, where 2**53 may stand for the one after it.
            most = 2**53 - 1
            low, high = max(np.iinfo(dtype).min, -most), min(np.iinfo(dtype).max, most)
            wrong = np.flatnonzero((there != np.rint(there)) | (there < low) | (there > high))
            if wrong.size:
                raise block.error(
                    f"{{cell}} is no integer from {low} to {high}, but its dtype is {dtype}", name, int(wrong[0])
                )
        return values

    def _refuse(self, gaps: Array, name: str, block: Block) -> None:
        """Raise where a cell is missing that must not be."""
        if gaps.any():
            is_target = name in self.target
            advice = "a target must be there; leave the row out" if is_target else "pass missing='mean' or a number"
            raise block.error(f"the cell is empty ({{cell}}); {advice}, or fill it in", name, int(gaps.argmax()))


def encode(schema: Schema, block: Block) -> tuple[Array, ...]:
    """One block as arrays: numbers, codes and target, those that there are."""
    parts = []
    if schema.numeric:
        parts.append(_numbers(schema, block))
    if schema.coded:
        parts.append(np.stack([_codes(schema, name, block) for name in schema.coded], axis=1))
    if schema.target:
        targets = [_target(schema, name, block) for name in schema.target]
        parts.append(targets[0] if schema.single_target else np.stack(targets, axis=1))
    return tuple(parts)


def _numbers(schema: Schema, block: Block) -> Array:
    dtypes = [np.dtype(schema.dtypes.get(name, host_float())) for name in schema.numeric]
    dtype = np.result_type(*dtypes, host_float()) if schema.normalize else np.result_type(*dtypes)
    out = np.empty((block.count, len(schema.numeric)), dtype)
    for k, name in enumerate(schema.numeric):
        values = schema._numbers(name, block)
        gaps = np.isnan(values)
        if gaps.any():
            if schema.missing == "error":
                schema._refuse(gaps, name, block)
            mean = schema.statistics[name]["mean"]
            values[gaps] = filling = mean if schema.missing == "mean" else float(schema.missing)
            if dtype.kind in "iu" and not (
                filling.is_integer() and np.iinfo(dtype).min <= filling <= np.iinfo(dtype).max
            ):
                advice = f"pass dtypes={{{name!r}: 'float32'}}, or such a number as missing="
                what = f"the cell is empty ({{cell}}), and what is to be put there, {filling:g}, is no {dtype}"
                raise block.error(f"{what}; {advice}", name, int(gaps.argmax()))
        if schema.normalize:
            values -= schema.statistics[name]["mean"]
            values /= schema.statistics[name]["std"] or 1.0
        out[:, k] = _cast(values, dtype, name, block, not schema.normalize)
    return out


def _cast(values: Array, dtype: np.dtype[Any], name: str, block: Block, may_normalize: bool) -> Array:
    """Finite numbers in another dtype, which must hold them; whether normalising could help is for the message."""
    with np.errstate(over="ignore"):
        found = values.astype(dtype)
    infinite = np.flatnonzero(np.isinf(found)) if dtype.kind == "f" and dtype.itemsize < 8 else found[:0]
    if infinite.size:
        advice = f"pass dtypes={{{name!r}: 'float64'}}{', or normalize=True' if may_normalize else ''}"
        raise block.error(f"{{cell}} is too large for {dtype}; {advice}", name, int(infinite[0]))
    return found


def _codes(schema: Schema, name: str, block: Block, is_target: bool = False) -> Array:
    known = {value: code for code, value in enumerate(schema.categories[name])}
    other = -1 if schema.missing == "error" or is_target else len(known)
    cells = block.columns[name]
    codes = np.fromiter([known.get(cell.strip(), other) for cell in cells], np.int64, len(cells))
    unknown = np.flatnonzero(codes < 0)
    if unknown.size:
        gaps = np.fromiter([cell.strip() in schema.missing_values for cell in cells], bool, len(cells))
        schema._refuse(gaps, name, block)
        shown = ", ".join(list(known)[:10]) + (", …" if len(known) > 10 else "")
        advice = "" if is_target else "; missing='mean' or a number gives unknown ones a code of their own"
        raise block.error(
            f"{{cell}} is none of the {len(known)} known categories ({shown}){advice}", name, int(unknown[0])
        )
    return codes


def _target(schema: Schema, name: str, block: Block) -> Array:
    if name in schema.categories:
        codes = _codes(schema, name, block, is_target=True)
        return codes.astype(schema.dtypes[name]) if name in schema.dtypes else codes
    values = schema._numbers(name, block)
    schema._refuse(np.isnan(values), name, block)
    return _cast(values, np.dtype(schema.dtypes.get(name, host_float())), name, block, False)


class _Moments:
    """Mean and deviation of numbers that come in pieces (Chan, Golub & LeVeque 1979).

    They are kept in units of a power of two near the largest number, so that no square of a finite number overflows.
    """

    def __init__(self) -> None:
        self.count = self.missing = 0
        self.mean = self.squares = 0.0
        self.unit = math.ulp(0.0)
        self.low, self.high = np.inf, -np.inf

    def add(self, values: Array) -> None:
        there = values[~np.isnan(values)]
        self.missing += len(values) - len(there)
        if not there.size:
            return
        self.low, self.high = min(self.low, float(there.min())), max(self.high, float(there.max()))
        unit = max(self.unit, math.ldexp(1.0, math.frexp(max(-self.low, self.high))[1] - 1))
        self.mean *= self.unit / unit
        self.squares *= (self.unit / unit) ** 2
        self.unit = unit
        there = there / unit
        total = self.count + there.size
        mean = float(there.mean())
        shift = mean - self.mean
        self.squares += float(((there - mean) ** 2).sum()) + shift**2 * (self.count * there.size / total)
        self.mean += shift * (there.size / total)
        self.count = total

    def result(self) -> dict[str, float]:
        if not self.count:
            return {**dict.fromkeys(("mean", "std", "min", "max"), math.nan), "missing": self.missing}
        mean, std = self.mean * self.unit, math.sqrt(self.squares / self.count) * self.unit
        return {"mean": mean, "std": std, "min": self.low, "max": self.high, "missing": self.missing}


def _sorted(values: list[str]) -> list[str]:
    """Numbers by value where all are numbers, else by their letters."""
    numbers, bad = as_numbers(values, frozenset())
    if bad is None and not np.isnan(numbers).any():
        return [values[k] for k in np.lexsort((np.arange(len(values)), numbers)).tolist()]
    return sorted(values)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float | np.number) and not isinstance(value, bool) and bool(np.isfinite(value))
