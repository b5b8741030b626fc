"""Dtypes and the promotion table, against NumPy and array-api-strict."""

from __future__ import annotations

import copy
import itertools
import pickle

import array_api_strict as strict
import numpy as np
import pytest

from framework.backend import dtypes as dt
from framework.errors import DTypeError

ALL = list(dt.DTYPES.values())
PAIRS = list(itertools.product(ALL, ALL))
OF_THE_STANDARD = [(a, b) for a, b in PAIRS if hasattr(strict, a.name) and hasattr(strict, b.name)]


def test_a_dtype_equals_its_name() -> None:
    for name, d in dt.DTYPES.items():
        assert d == name
        assert name == d
        assert d != "nothing"
        assert hash(d) == hash(name)
        assert {name: 1}[d] == 1
        assert dt.dtype(name) is d
        assert dt.dtype(d) is d
        assert str(d) == name
        assert repr(d) == f"fw.{name}"


def test_a_dtype_is_one_object_through_copies_and_pickles() -> None:
    for d in ALL:
        assert copy.deepcopy(d) is d
        assert pickle.loads(pickle.dumps(d)) is d


def test_sizes_and_kinds_are_numpys() -> None:
    kinds = {"b": "bool", "i": "int", "u": "uint", "f": "float", "c": "complex"}
    for d in ALL:
        if d.name != "bfloat16":
            own = np.dtype(d.name)
            assert (d.itemsize, d.kind) == (own.itemsize, kinds[own.kind])
    assert (dt.bfloat16.itemsize, dt.bfloat16.kind) == (2, "float")
    assert {d.name for d in ALL if d.is_differentiable} == {
        "float16", "bfloat16", "float32", "float64", "complex64", "complex128",
    }  # fmt: skip


def test_an_unknown_dtype_names_the_nearest() -> None:
    with pytest.raises(DTypeError, match=r"unknown dtype 'flaot32'\. Did you mean 'float32'\? Known: bool, int8"):
        dt.dtype("flaot32")
    with pytest.raises(DTypeError, match=r"unknown dtype <class 'float'>"):
        dt.dtype(float)


# -- promotion ---------------------------------------------------------------------------------------


def outcome(a: dt.DType, b: dt.DType) -> str:
    try:
        return dt.promote(a, b).name
    except DTypeError:
        return "refused"


@pytest.mark.parametrize(("a", "b"), OF_THE_STANDARD, ids=lambda d: d.name)
def test_promotion_is_the_standards_where_it_speaks(a: dt.DType, b: dt.DType) -> None:
    try:
        expected = strict.result_type(getattr(strict, a.name), getattr(strict, b.name))
    except TypeError:
        mixed = {a.kind, b.kind}
        if mixed == {"int", "uint"}:
            assert outcome(a, b) == "refused"  # uint64 with a signed integer
        else:
            assert outcome(a, b) == next(d for d in (b, a) if d.kind == max(mixed, key=rank)).name
    else:
        assert dt.promote(a, b) is dt.DTYPES[str(expected).rpartition(".")[2]]


def rank(kind: str) -> int:
    return ("bool", "uint", "int", "float", "complex").index(kind)


@pytest.mark.parametrize(("a", "b"), PAIRS, ids=lambda d: d.name)
def test_promotion_is_symmetric_and_holds_both(a: dt.DType, b: dt.DType) -> None:
    assert outcome(a, b) == outcome(b, a)
    if outcome(a, b) == "refused":
        assert {a.kind, b.kind} == {"int", "uint"}
        assert dt.uint64 in (a, b)
        return
    result = dt.promote(a, b)
    assert rank(result.kind) >= max(rank(a.kind), rank(b.kind))
    assert dt.promote(result, a) is result
    assert dt.promote(result, b) is result


@pytest.mark.parametrize(("a", "b"), PAIRS, ids=lambda d: d.name)
def test_promotion_is_numpys_within_a_kind_and_from_bool(a: dt.DType, b: dt.DType) -> None:
    if "bfloat16" in (a, b):
        assert outcome(a, b) in ("bfloat16", "float32", "float64", "complex64", "complex128")
        return
    if a.kind == b.kind or "bool" in (a.kind, b.kind) or {a.kind, b.kind} == {"float", "complex"}:
        assert dt.promote(a, b) == np.result_type(a.name, b.name).name


def test_an_integer_with_a_float_has_the_floats_dtype() -> None:
    for i, f in itertools.product(ALL, ALL):
        if i.kind in ("bool", "int", "uint") and f.kind in ("float", "complex"):
            assert dt.promote(i, f) is f


def test_the_refusal_says_what_to_do() -> None:
    with pytest.raises(DTypeError, match=r"int8 with uint64 fits no integer dtype; cast one side with .astype first"):
        dt.promote(dt.int8, dt.uint64)


def test_the_two_halves_meet_in_single_precision() -> None:
    assert dt.promote(dt.float16, dt.bfloat16) is dt.float32


def test_python_scalars_are_weak() -> None:
    for d in ALL:
        assert dt.promote_scalar(d, True, dt.float32) is d
        assert dt.promote_scalar(d, 1, dt.float32) is (dt.int64 if d is dt.bool_ else d)
        expected = d if d.kind in ("float", "complex") else dt.float32
        assert dt.promote_scalar(d, 1.5, dt.float32) is expected
        wide = d if d.kind == "complex" else dt.complex128 if d is dt.float64 else dt.complex64
        assert dt.promote_scalar(d, 1j, dt.float32) is wide
    assert dt.promote_scalar(dt.int8, 1.5, dt.float64) is dt.float64
    assert dt.promote_scalar(dt.int8, 1j, dt.float64) is dt.complex128
