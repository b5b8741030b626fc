"""The content of a file of arrays, against the safetensors library."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load, save

from framework.interchange.arrayfile import CODES, read, to_content

SHAPES: tuple[tuple[int, ...], ...] = ((), (0,), (1,), (3,), (2, 5), (1, 0, 2), (7, 3))
Arrays = dict[str, np.ndarray[Any, Any]]


def arrays() -> Arrays:
    rng = np.random.default_rng(0)
    return {
        f'part.{name}."{shape}" é': np.asarray(rng.standard_normal(shape) * 9).astype(name)
        for name in sorted(set(CODES) - {"bfloat16"})
        for shape in SHAPES
    }


def loaded(content: Any) -> Arrays:
    return read(io.BytesIO(content), len(content), "the file")


def assert_same(found: Arrays, expected: Arrays) -> None:
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        assert found[name].tobytes() == array.tobytes()


def test_it_is_byte_for_byte_what_the_library_writes() -> None:
    assert bytes(to_content(arrays())) == save(arrays())
    assert bytes(to_content({})) == save({})


def test_what_one_writes_the_other_reads() -> None:
    assert_same(load(bytes(to_content(arrays()))), arrays())
    assert_same(loaded(save(arrays(), metadata={"format": "np", "é": "ü"})), arrays())
    assert loaded(save({})) == {}


def test_bfloat16() -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    given = {"a": np.arange(-3, 3).astype(ml_dtypes.bfloat16), "b": np.ones((2, 2), np.float16)}
    assert bytes(to_content(given)) == save(given)
    assert_same(loaded(save(given)), given)


@pytest.mark.parametrize(
    "array", [np.arange(6.0).reshape(2, 3).T, np.arange(10)[::3], np.arange(3, dtype=">i4")], ids=["T", "step", ">i4"]
)
def test_other_orders_of_memory_are_put_right(array: np.ndarray[Any, Any]) -> None:
    np.testing.assert_array_equal(load(bytes(to_content({"a": array})))["a"], array)


def test_writing_and_reading_copy() -> None:
    array = np.zeros(3)
    content = to_content({"a": array, "b": array})
    array += 1
    found = loaded(content)
    found["a"] += 5
    assert found["b"].tolist() == loaded(content)["a"].tolist() == [0, 0, 0]
