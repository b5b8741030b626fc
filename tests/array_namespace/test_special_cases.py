"""Special cases that the standard fixes, where NumPy and others differ, and the kinks of what is new here."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import framework as fw
import framework.numpy as fnp

inf, nan = math.inf, math.nan


def same(got: Any, want: Any) -> bool:
    """Equal in every bit that the standard fixes: NaN is NaN, and zeros have signs."""
    parts = lambda z: (complex(z).real, complex(z).imag)  # noqa: E731
    return all(
        (math.isnan(g) and math.isnan(w)) or (g == w and math.copysign(1, g) == math.copysign(1, w))
        for g, w in zip(parts(got), parts(want))
    )


@pytest.mark.parametrize(
    ("x", "y", "want"),
    [
        (inf, 2.0, inf), (inf, -2.0, -inf), (-inf, 2.0, -inf), (-inf, -2.0, inf), (inf, inf, nan), (1.0, inf, 0.0),
        (1.0, -inf, -0.0), (-1.0, inf, -0.0), (-1.0, -inf, 0.0), (7.0, 2.0, 3.0), (-7.0, 2.0, -4.0), (nan, 1.0, nan),
        (inf, nan, nan), (0.0, inf, 0.0), (-0.0, inf, -0.0),
    ],
)  # fmt: skip
def test_floor_divide(x: float, y: float, want: float) -> None:
    for shape in ((), (1,), (2, 1)):
        a, b = (fnp.full(shape, v, dtype="float64") for v in (x, y))
        for got in (fnp.floor_divide(a, b), a // b, a // y, x // b):
            assert got.shape == shape
            assert all(same(v, want) for v in got.ravel().tolist())
    beside = fw.tensor([x, 7.0]) // fw.tensor([y, 2.0])
    assert same(beside[0].item(), want)
    assert beside[1].item() == 3.0


@pytest.mark.parametrize(
    ("z", "want"),
    [
        (complex(0.0, 0.0), complex(0.0, 0.0)),
        (complex(-0.0, 0.0), complex(0.0, 0.0)),
        (complex(inf, 0.0), complex(inf, 0.0)),
        (complex(-inf, inf), complex(-1.0, 0.0)),
        (complex(-inf, nan), complex(-1.0, 0.0)),
        (complex(inf, inf), complex(inf, nan)),
        (complex(inf, nan), complex(inf, nan)),
        (complex(nan, 0.0), complex(nan, 0.0)),
        (complex(1.0, 2.0), np.expm1(1 + 2j)),
    ],
)
def test_expm1_of_complex_numbers(z: complex, want: complex) -> None:
    assert same(fnp.expm1(fw.tensor(z, dtype="complex128")).item(), want)
    several = fnp.expm1(fw.tensor([z, 1 - 1j], dtype="complex128"))
    assert same(several[0].item(), want)
    assert several[1].item() == np.expm1(1 - 1j)


def test_tanh_at_the_ends_of_the_plane() -> None:
    for a, b in ((inf, 2.0), (inf, -2.0), (-inf, 2.0), (-inf, -1.0)):
        got = fnp.tanh(fw.tensor(complex(a, b), dtype="complex128")).item()
        assert same(got, complex(math.copysign(1, a), math.copysign(0.0, b)))


def test_clip_where_a_bound_is_missing(backend: str) -> None:
    x = fw.tensor([1.0, nan, 3.0], backend=backend)
    low = fw.tensor([nan, 0.0, 0.0], backend=backend)
    np.testing.assert_array_equal(fnp.clip(x, low, 2.0).numpy(), [nan, nan, 2.0])
    np.testing.assert_array_equal(fnp.clip(x, 0.0, low + 2).numpy(), [nan, nan, 2.0])
    assert fnp.clip(x[:1]).tolist() == [1.0]


def test_clip_of_integers_between_fractions() -> None:
    got = fnp.clip(fw.tensor([0, 1, 5]), 0.5, 2.5)
    assert (got.dtype, got.tolist()) == ("float32", [0.5, 1.0, 2.5])
    assert fnp.clip(fw.tensor([0, 1, 5]), 1, 2).dtype == "int64"


def test_copysign_and_its_kinks(backend: str) -> None:
    x = fw.tensor([2.0, -2.0, 0.0, 3.0], dtype="float64", backend=backend)
    y = fw.tensor([-1.0, -1.0, -0.0, 0.0], dtype="float64", backend=backend)
    assert fnp.copysign(x, y).tolist() == [-2.0, -2.0, -0.0, 3.0]
    dx, dy = fw.grad(lambda x, y: fnp.sum(fnp.copysign(x, y)), argnums=(0, 1))(x, y)
    assert dx.tolist() == [-1.0, 1.0, 0.0, 1.0]  # 0 at 0, as for abs
    assert dy.tolist() == [0.0] * 4
    assert fw.jvp(lambda x: fnp.copysign(x, y), (x,), (fnp.ones_like(x),))[1].tolist() == dx.tolist()
    assert fnp.copysign(x, -1.0).tolist() == [-2.0, -2.0, -0.0, -3.0]
    assert fnp.copysign(1, y).dtype == "float64"


def test_nextafter_is_the_number_itself_but_for_its_last_place() -> None:
    x, y = fw.tensor([1.0, 1.0]), fw.tensor([2.0, -2.0])
    assert fnp.nextafter(x, y).tolist() == [1.0 + 2.0**-23, 1.0 - 2.0**-24]
    dx, dy = fw.grad(lambda x, y: fnp.sum(fnp.nextafter(x, y)), argnums=(0, 1))(x, y)
    assert (dx.tolist(), dy.tolist()) == ([1.0, 1.0], [0.0, 0.0])


def test_cumulative_products_beside_zeros(backend: str) -> None:
    """Nothing is divided by: one zero, two, and a row that starts with one."""
    x = fw.tensor(
        [[0.0, 2.0, 3.0], [2.0, 0.0, 3.0], [0.0, 0.0, 3.0], [2.0, 3.0, 0.0]], dtype="float64", backend=backend
    )
    got = fw.grad(lambda x: fnp.sum(fnp.cumulative_prod(x, axis=1)))(x)
    assert got.tolist() == [[9.0, 0.0, 0.0], [1.0, 8.0, 0.0], [1.0, 0.0, 0.0], [4.0, 2.0, 6.0]]


def test_cumulative_functions_need_an_axis_of_several() -> None:
    for f in (fnp.cumulative_sum, fnp.cumulative_prod):
        with pytest.raises(fw.errors.ShapeError, match=rf"{f.__name__} of shape \(2, 2\) needs axis="):
            f(fw.tensor([[1, 2], [3, 4]]))
        assert f(fw.tensor(3)).tolist() == [3]
        assert f(fnp.zeros((2, 0)), axis=1, include_initial=True).shape == (2, 1)


def test_diff_of_little(backend: str) -> None:
    for n, want in ((0, (3,)), (1, (2,)), (3, (0,)), (5, (0,))):
        assert fnp.diff(fw.tensor([1, 2, 4], backend=backend), n=n).shape == want
    with pytest.raises(fw.errors.ShapeError, match="n=-1"):
        fnp.diff(fw.tensor([1, 2]), n=-1)
