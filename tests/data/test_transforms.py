"""Normalize and Compose."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from framework import errors
from framework.data.transforms import Compose, Normalize, only_normalizes


def exact(x, mean, std, scale):
    return (x.astype(np.float64) * scale - mean) / std


@given(
    hnp.arrays(np.uint8, hnp.array_shapes(min_dims=1, max_dims=4, min_side=0)),
    st.floats(-2, 2),
    st.floats(0.05, 5),
)
def test_uint8_is_scaled_to_one_and_computed_in_float32(x, mean, std):
    before = x.copy()
    out = Normalize(mean, std)(x)
    assert out.dtype == np.float32
    np.testing.assert_allclose(out, exact(x, mean, std, 1 / 255), rtol=0, atol=3e-7 * (1 + abs(mean)) / std)
    np.testing.assert_array_equal(x, before)


@pytest.mark.parametrize(
    ("dtype", "result"),
    [("float32", "float32"), ("float16", "float32"), ("int64", "float32"), ("bool", "float32"), ("float64", "float64")],
)
def test_other_dtypes_are_not_scaled(dtype, result):
    x = np.array([[0, 1], [1, 0]], dtype)
    out = Normalize(0.5, 0.25)(x)
    assert out.dtype == result
    np.testing.assert_array_equal(out, [[-2, 2], [2, -2]])


def test_scale_given():
    np.testing.assert_array_equal(Normalize(1.0, 2.0, scale=0.5)(np.array([[4, 8]], np.uint8)), [[0.5, 1.5]])


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 4), (2, 3, 4, 5)])
def test_one_value_for_each_channel_is_axis_1(shape):
    x = np.random.default_rng(0).random(shape, np.float32)
    mean, std = [0.1, 0.2, 0.3], [1.0, 2.0, 4.0]
    out = Normalize(mean, std)(x)
    assert out.dtype == np.float32
    for c in range(3):
        np.testing.assert_allclose(out[:, c], (x[:, c] - mean[c]) / std[c], rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(Normalize(0.1, std)(x), Normalize([0.1] * 3, std)(x))


def test_pieces_leave_no_seam():
    x = np.random.default_rng(0).integers(0, 256, (700, 28, 28), dtype=np.uint8)
    normalize = Normalize(0.1307, 0.3081)
    np.testing.assert_array_equal(normalize(x), np.stack([normalize(row[None])[0] for row in x]))


def test_affine_is_what_is_computed():
    normalize = Normalize([0.1, 0.2], 0.5)
    factor, offset = normalize.affine("uint8")
    assert (factor.dtype, factor.shape, offset.shape) == (np.float32, (), (2,))
    x = np.random.default_rng(0).integers(0, 256, (5, 2), dtype=np.uint8)
    np.testing.assert_array_equal(normalize(x), x.astype(np.float32) * factor + offset)


def test_views_are_read_as_they_lie():
    x = np.arange(24, dtype=np.uint8).reshape(4, 6)
    for view in (x[::2], x[:, ::-1], x.T):
        np.testing.assert_array_equal(Normalize(0.0, 1.0, scale=1.0)(view), view)


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ((0.0, 0.0), errors.ConfigError, "std must not be zero"),
        ((0.0, [1.0, 0.0]), errors.ConfigError, "std must not be zero"),
        (("a", 1.0), errors.ConfigError, "mean must be a number"),
        ((float("nan"), 1.0), errors.ConfigError, "finite"),
        (([[0.1]], 1.0), errors.ConfigError, "flat list"),
        ((0.0, 1.0, "x"), errors.ConfigError, "scale"),
        (([0.1, 0.2], [1.0, 2.0, 3.0]), errors.ShapeError, "2 values of mean, but 3 of std"),
    ],
)
def test_bad_arguments(arguments, error, text):
    with pytest.raises(error, match=text):
        Normalize(*arguments)


def test_bad_batches():
    with pytest.raises(errors.ShapeError, match=r"3 values .* \(5, 28, 28\)"):
        Normalize([0.1, 0.2, 0.3], 1.0)(np.zeros((5, 28, 28), np.uint8))
    with pytest.raises(errors.ShapeError, match="2-D"):
        Normalize([0.1, 0.2], 1.0)(np.zeros(5, np.uint8))
    with pytest.raises(errors.ConfigError, match="real"):
        Normalize(0.1, 1.0)(np.zeros(5, np.complex64))


def test_compose_applies_in_order():
    x = np.array([[1.0]], np.float32)
    assert Compose([lambda a: a + 1, lambda a: a * 10])(x).item() == 20
    assert Compose([])(x) is x
    with pytest.raises(errors.ConfigError, match="transform 1 must be callable"):
        Compose([abs, 5])


def test_only_normalizes():
    class Mine(Normalize):
        pass

    plain = Normalize(0.0, 1.0)
    assert only_normalizes(plain)
    assert only_normalizes(Compose([plain, Compose([plain])]))
    assert not any(only_normalizes(t) for t in (None, abs, Compose([]), Compose([plain, abs]), Mine(0.0, 1.0)))


def test_repr_is_code():
    transform = Compose([Normalize(0.1307, 0.3081), Normalize([1, 2], [3, 4], scale=2.0)])
    assert repr(transform) == "Compose([Normalize(0.1307, 0.3081), Normalize([1, 2], [3, 4], scale=2.0)])"
