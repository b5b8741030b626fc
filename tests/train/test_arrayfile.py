"""The content of a file of arrays, against the safetensors library."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from framework.train.arrayfile import CODES, to_content

SHAPES: tuple[tuple[int, ...], ...] = ((), (0,), (1,), (3,), (2, 5), (1, 0, 2), (7, 3))


def arrays() -> dict[str, np.ndarray[Any, Any]]:
    rng = np.random.default_rng(0)
    return {
        f'part.{name}."{shape}" é': np.asarray(rng.standard_normal(shape) * 9).astype(name)
        for name in sorted(CODES)
        for shape in SHAPES
    }


def test_it_is_byte_for_byte_what_the_library_writes() -> None:
    assert bytes(to_content(arrays())) == save(arrays())
    assert bytes(to_content({})) == save({})


def test_the_library_reads_it() -> None:
    found = load(bytes(to_content(arrays())))
    assert found.keys() == arrays().keys()
    for name, array in arrays().items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


@pytest.mark.parametrize(
    "array", [np.arange(6.0).reshape(2, 3).T, np.arange(10)[::3], np.arange(3, dtype=">i4")], ids=["T", "step", ">i4"]
)
def test_other_orders_of_memory_are_put_right(array: np.ndarray[Any, Any]) -> None:
    np.testing.assert_array_equal(load(bytes(to_content({"a": array})))["a"], array)


def test_it_is_a_copy() -> None:
    array = np.zeros(3)
    content = to_content({"a": array})
    array += 1
    assert load(bytes(content))["a"].tolist() == [0, 0, 0]
