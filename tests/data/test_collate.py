"""collate: samples to a batch."""

from __future__ import annotations

from collections import namedtuple

import numpy as np
import pytest

from framework import errors
from framework.autodiff import set_default_dtype, tensor
from framework.data import collate


@pytest.mark.parametrize(
    ("samples", "dtype"),
    [
        ([1, 2], np.int64),
        ([1.0, 2.0], np.float32),
        ([1, 2.5], np.float32),
        ([True, False], np.bool_),
        ([1j, 2], np.complex64),
        ([np.float64(1), np.float64(2)], np.float64),
        ([np.float32(1), np.float32(2)], np.float32),
        ([np.float32(1), 2.5], np.float32),
        ([np.uint8(1), 2], np.uint8),
    ],
)
def test_numbers(samples, dtype):
    batch = collate(samples)
    assert batch.dtype == dtype
    assert batch.tolist() == samples


def test_python_floats_follow_the_default_dtype():
    set_default_dtype("float64")
    try:
        assert collate([0.1]).dtype == np.float64
    finally:
        set_default_dtype("float32")


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float16, np.int32])
def test_arrays_are_stacked_in_their_dtype_and_copied(dtype):
    samples = [np.full((2, 3), k, dtype) for k in range(4)]
    batch = collate(samples)
    assert (batch.dtype, batch.shape) == (dtype, (4, 2, 3))
    batch[...] = 9
    assert samples[1].max() == 1


def test_tensors_become_host_arrays():
    batch = collate([tensor([1.0, 2.0], requires_grad=True), tensor([3.0, 4.0])])
    assert type(batch) is np.ndarray
    assert batch.tolist() == [[1.0, 2.0], [3.0, 4.0]]


Pair = namedtuple("Pair", "x y")


def test_structure_is_kept():
    sample = {"pair": Pair(np.zeros(2), 1), "list": [1.0, ("a", True)]}
    batch = collate([sample] * 3)
    assert list(batch) == ["pair", "list"]
    assert type(batch["pair"]) is Pair
    assert batch["pair"].x.shape == (3, 2)
    assert batch["pair"].y.tolist() == [1, 1, 1]
    assert type(batch["list"]) is list
    assert type(batch["list"][1]) is tuple
    assert batch["list"][1][0] == ["a", "a", "a"]


@pytest.mark.parametrize(
    ("samples", "text"),
    [
        ([np.zeros(2), np.zeros(3)], r"float64 of shape \(2,\), of its sample 1 float64 of shape \(3,\)"),
        ([np.zeros(2), np.zeros(2, np.float32)], "float32 of shape"),
        ([np.zeros(2), 1.0], "float"),
        ([(1, 2), (1,)], "2 parts, of its sample 1 1 parts"),
        ([(1, 2), 1], "int"),
        ([{"a": 1}, {"b": 1}], r"keys \['a'\], of its sample 1 keys \['b'\]"),
        ([{"a": {"b": np.zeros(1)}}, {"a": {"b": np.zeros(2)}}], r"\['a'\]\['b'\]"),
        ([1, "a"], "a number, of its sample 1 str"),
        ([None, None], "NoneType"),
        ([(1, object())], r"part \[1\] is a object"),
    ],
)
def test_samples_that_differ_are_named(samples, text):
    with pytest.raises(errors.DataError, match=text):
        collate(samples)
