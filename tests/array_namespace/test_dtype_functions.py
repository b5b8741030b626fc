"""The standard's functions of dtypes, its inspection, and the namespace that an array names as its own."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

import numpy as np
import pytest

import framework as fw
import framework.numpy as fnp
from framework.errors import DTypeError

FLOATS = ("float16", "float32", "float64")
INTEGERS = ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64")
COMPLEX = ("complex64", "complex128")
KINDS = {
    "bool": ("bool",),
    "signed integer": INTEGERS[:4],
    "unsigned integer": INTEGERS[4:],
    "integral": INTEGERS,
    "real floating": FLOATS,
    "complex floating": COMPLEX,
    "numeric": (*INTEGERS, *FLOATS, *COMPLEX),
}
ALL = ("bool", *KINDS["numeric"])


@pytest.mark.parametrize("name", [*FLOATS, *COMPLEX])
def test_finfo(name: str) -> None:
    want = np.finfo(name)
    for given in (name, getattr(fnp, name), fw.tensor([1.0]).astype(name), np.dtype(name), np.ones(1, name)):
        got = fnp.finfo(given)
        assert (got.bits, got.dtype) == (want.bits, want.dtype.name)
        for limit in ("eps", "max", "min", "smallest_normal"):
            assert type(getattr(got, limit)) is float
            assert getattr(got, limit) == float(getattr(want, limit))


def test_finfo_of_bfloat16() -> None:
    info = fnp.finfo("bfloat16")
    assert (info.bits, info.eps, info.smallest_normal) == (16, 2.0**-7, 2.0**-126)
    assert info.max == (2 - 2.0**-7) * 2.0**127


@pytest.mark.parametrize("name", INTEGERS)
def test_iinfo(name: str) -> None:
    want = np.iinfo(name)
    for given in (name, getattr(fnp, name), fw.tensor([1], dtype=name), np.dtype(name)):
        got = fnp.iinfo(given)
        assert (got.bits, got.max, got.min, got.dtype) == (want.bits, want.max, want.min, name)


def test_limits_of_the_other_kind_are_refused() -> None:
    with pytest.raises(DTypeError, match=r"finfo is for floating-point dtypes, got int8; use iinfo"):
        fnp.finfo("int8")
    for name in ("float32", "bool", "complex64"):
        with pytest.raises(DTypeError, match=f"iinfo is for integer dtypes, got {name}; use finfo"):
            fnp.iinfo(name)


@pytest.mark.parametrize("name", ALL)
def test_isdtype(name: str) -> None:
    d = getattr(fnp, name)
    for kind, members in KINDS.items():
        assert fnp.isdtype(d, kind) is (name in members)
    for other in ALL:
        assert fnp.isdtype(d, getattr(fnp, other)) is (name == other)
    assert fnp.isdtype(d, ("bool", "integral", fnp.float32)) is (name in ("bool", *INTEGERS, "float32"))
    assert fnp.isdtype(d, ()) is False


def test_isdtype_names_a_near_kind() -> None:
    with pytest.raises(DTypeError, match=r"unknown kind of dtypes 'real float'.*Did you mean 'real floating'"):
        fnp.isdtype(fnp.float32, "real float")


def test_can_cast_and_result_type_follow_promotion() -> None:
    for a, b in product(ALL, ALL):
        try:
            want = fw.backend.dtypes.promote(fw.backend.dtypes.dtype(a), fw.backend.dtypes.dtype(b))
        except DTypeError:
            assert not fnp.can_cast(a, b)
            with pytest.raises(DTypeError, match="cast one side"):
                fnp.result_type(a, b)
            continue
        assert fnp.can_cast(a, b) is (want == b)
        assert fnp.result_type(a, b) is want
        assert fnp.result_type(fw.tensor([1]).astype(a), b) is want


@pytest.mark.parametrize(
    ("given", "want"),
    [
        ((fnp.int8, 3), "int8"),
        ((fnp.int8, 3.0), "float32"),
        ((True, fnp.bool), "bool"),
        ((fnp.bool, 2), "int64"),
        ((fnp.float64, 1j), "complex128"),
        ((fnp.float32, fnp.int64, fnp.uint8), "float32"),
        ((fnp.uint64, fnp.float64, fnp.int8), "float64"),
        ((fnp.complex64, fnp.float64), "complex128"),
        ((1, 2.0), "float32"),
        ((1j,), "complex64"),
        ((True,), "bool"),
    ],
)
def test_result_type_of_numbers(given: Any, want: str) -> None:
    assert fnp.result_type(*given) == want
    assert fnp.result_type(*reversed(given)) == want


def test_result_type_of_nothing() -> None:
    with pytest.raises(DTypeError, match="at least one"):
        fnp.result_type()


def test_python_and_numpy_types_name_dtypes() -> None:
    for given, want in (
        (int, "int64"),
        (bool, "bool"),
        (float, "float32"),
        (complex, "complex64"),
        (np.float64, "float64"),
        (np.dtype("uint8"), "uint8"),
        (np.bool_, "bool"),
    ):
        assert fnp.zeros(2, dtype=given).dtype == want
        assert fnp.astype(fw.tensor([0.0, 1.0]), given).dtype == want
        assert fw.tensor([0, 1], dtype=given).dtype == want
        assert fnp.sum(fw.tensor([0, 1]), dtype=given).dtype == want or want == "bool"
    for wrong in (str, object, np.str_, None.__class__):
        with pytest.raises(DTypeError, match="unknown dtype"):
            fnp.zeros(2, dtype=wrong)


# -- inspection ----------------------------------------------------------------------------------------------


def test_inspection() -> None:
    info = fnp.__array_namespace_info__()
    assert fnp.__array_api_version__ == "2024.12"
    assert info.capabilities() == {"boolean indexing": True, "data-dependent shapes": True, "max dimensions": 64}
    assert info.devices() == ["cpu"]
    assert info.default_device() == "cpu"
    assert info.default_dtypes() == {
        "real floating": "float32", "complex floating": "complex64", "integral": "int64", "indexing": "int64",
    }  # fmt: skip
    assert set(info.dtypes()) == set(ALL) - {"float16"}
    assert info.dtypes(kind="real floating") == {"float32": fnp.float32, "float64": fnp.float64}
    assert set(info.dtypes(kind=("bool", "unsigned integer"))) == {"bool", *INTEGERS[4:]}
    assert set(info.dtypes(device="strict:1", kind="complex floating")) == set(COMPLEX)
    assert "cpu" in repr(info)
    with fw.use_backend("strict"):
        assert info.devices() == ["strict", "strict:1"]
        for device in info.devices():
            assert fnp.empty(1, device=device).device == device


def test_the_largest_number_of_axes() -> None:
    assert fnp.zeros((1,) * 64).ndim == 64


# -- the array object ----------------------------------------------------------------------------------------


def test_an_array_names_its_namespace() -> None:
    x = fw.tensor([1.0])
    assert x.__array_namespace__() is fnp
    assert x.__array_namespace__(api_version="2023.12") is fnp
    with pytest.raises(ValueError, match=r"'2030\.12' is not offered.*2024\.12"):
        x.__array_namespace__(api_version="2030.12")


def test_functions_of_real_numbers_take_integers() -> None:
    for name in ("bool", "uint8", "int64"):
        x = fw.tensor([1, 0], dtype=name)
        for f in (fnp.sin, fnp.sqrt, fnp.exp, fnp.erf, lambda v: fnp.hypot(v, v), lambda v: v / 2, lambda v: v / v[:1]):
            out = f(x)
            assert out.dtype == "float32"
            np.testing.assert_allclose(out.numpy(), f(x.astype("float32")).numpy(), rtol=1e-6)
    assert math.isclose(fnp.sin(1).item(), math.sin(1), rel_tol=1e-6)
    assert (1 / fw.tensor([2, 4])).tolist() == [0.5, 0.25]


def test_a_complex_array_has_no_real_cast() -> None:
    z = fw.tensor([1 + 2j])
    for name in ("float32", "int64"):
        with pytest.raises(DTypeError, match=r"would lose the imaginary part; use real\(\), imag\(\) or abs\(\)"):
            z.astype(name)
    assert z.astype("complex128").tolist() == [1 + 2j]
    assert z.astype("bool").tolist() == [True]


@pytest.mark.parametrize("f", [fnp.sum, fnp.prod, fnp.cumulative_sum, fnp.cumulative_prod], ids=lambda f: f.__name__)
def test_sums_and_products_of_integers(f: Any, backend: str) -> None:
    for name, wide in (("int8", "int64"), ("uint8", "uint64"), ("int64", "int64"), ("bool", "int64")):
        x = fw.tensor([1, 1, 0], dtype=name, backend=backend)
        assert f(x).dtype == wide
        assert f(x, dtype="uint8").dtype == "uint8"
        assert f(x, dtype="float64").dtype == "float64"
    assert f(fw.tensor(3, dtype="int8", backend=backend)).dtype == "int64"
    assert f(fw.tensor([100, 100, 100], dtype="uint8"), dtype="uint8").ravel()[-1] == (
        300 % 256 if "sum" in f.__name__ else 1000000 % 256
    )
