"""From a list of samples to one batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from framework.autodiff.tensor import Tensor
from framework.data.dataset import host_float
from framework.errors import DataError


def collate(samples: Sequence[Any]) -> Any:
    """Stack equal samples into a batch of fresh NumPy arrays, keeping their structure.

    Numbers become a 1-D array (Python floats in the default dtype, ints in int64), arrays and Tensors
    get a new first axis, strings a list; tuples, named tuples, lists and dicts are collated part by part.

    Raises:
        DataError: samples differ in structure, shape or dtype, or cannot be stacked.

    Examples:
        >>> collate([(1.5, {"label": 0}), (2.5, {"label": 1})])
        (array([1.5, 2.5], dtype=float32), {'label': array([0, 1])})
    """
    return _collate(samples, "")


def _collate(samples: Sequence[Any], where: str) -> Any:
    first = samples[0]
    if isinstance(first, str | bytes):
        return list(samples)
    if isinstance(first, Tensor):
        samples = [s.detach().numpy() if isinstance(s, Tensor) else s for s in samples]
        first = samples[0]
    if isinstance(first, np.ndarray):
        return _stack(samples, where)
    if isinstance(first, np.generic | bool | int | float | complex):
        return _numbers(samples, where)
    if isinstance(first, Mapping):
        for k, sample in enumerate(samples):
            if not isinstance(sample, Mapping) or sample.keys() != first.keys():
                raise _differ(where, k, f"keys {list(first)}", _keys(sample))
        return {key: _collate([s[key] for s in samples], f"{where}[{key!r}]") for key in first}
    if isinstance(first, tuple | list):
        for k, sample in enumerate(samples):
            if not isinstance(sample, tuple | list) or len(sample) != len(first):
                raise _differ(where, k, f"{len(first)} parts", _parts(sample))
        parts = [_collate([s[i] for s in samples], f"{where}[{i}]") for i in range(len(first))]
        return type(first)(*parts) if hasattr(first, "_fields") else type(first)(parts)
    raise DataError(
        f"collate: a sample's part{where and ' ' + where} is a {type(first).__name__}; known are numbers, arrays, "
        "Tensors, strings, and tuples, lists and dicts of these. Give the DataLoader a collate_fn for anything else."
    )


def _stack(samples: Sequence[Any], where: str) -> Any:
    first = samples[0]
    for k, sample in enumerate(samples):
        shape, dtype = getattr(sample, "shape", None), getattr(sample, "dtype", None)
        if shape != first.shape or dtype != first.dtype:
            got = type(sample).__name__ if shape is None else f"{dtype} of shape {shape}"
            raise _differ(where, k, f"{first.dtype} of shape {first.shape}", got)
    return np.stack([np.asarray(s) for s in samples])


def _numbers(samples: Sequence[Any], where: str) -> Any:
    kinds = {type(s) for s in samples}
    for k, sample in enumerate(samples):
        if not isinstance(sample, np.generic | bool | int | float | complex):
            raise _differ(where, k, "a number", type(sample).__name__)
    if any(issubclass(kind, np.generic) for kind in kinds):
        # Python numbers among NumPy's are weak: they take the others' dtype.
        return np.array(samples, np.result_type(*samples))
    if complex in kinds:
        return np.array(samples, np.complex128 if host_float() == np.float64 else np.complex64)
    return np.array(samples, host_float()) if any(issubclass(kind, float) for kind in kinds) else np.array(samples)


def _keys(sample: Any) -> str:
    return f"keys {list(sample)}" if isinstance(sample, Mapping) else type(sample).__name__


def _parts(sample: Any) -> str:
    return f"{len(sample)} parts" if isinstance(sample, tuple | list) else type(sample).__name__


def _differ(where: str, k: int, expected: str, got: str) -> DataError:
    return DataError(
        f"collate: samples of one batch must be alike; part {where or 'the sample'} of the batch's first sample is "
        f"{expected}, of its sample {k} {got}. Make them alike, or give the DataLoader a collate_fn."
    )
