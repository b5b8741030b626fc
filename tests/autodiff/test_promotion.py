"""Dtypes of results: the standard's table, weak Python scalars, the default dtype."""

from __future__ import annotations

import operator
from collections.abc import Iterator
from itertools import product
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework.autodiff import ops
from framework.backend import dtypes as dt
from framework.errors import DTypeError

SIGNED = ("int8", "int16", "int32", "int64")
UNSIGNED = ("uint8", "uint16", "uint32", "uint64")
REAL = ("float16", "float32", "float64")
COMPLEX = ("complex64", "complex128")
ALL = ("bool", *SIGNED, *UNSIGNED, *REAL, *COMPLEX)
STRICT = tuple(name for name in ALL if name != "float16")


def expected(a: str, b: str) -> str | None:
    """The standard's table, and for what it leaves open: a float wins over integers and bools."""
    if a == b:
        return a
    if "bool" in (a, b):
        return b if a == "bool" else a
    for group in (SIGNED, UNSIGNED, REAL, COMPLEX):
        if a in group and b in group:
            return max(a, b, key=group.index)
    if {a, b} & set(COMPLEX) and {a, b} & set(REAL):
        return "complex128" if {"float64", "complex128"} & {a, b} else "complex64"
    for floats in (COMPLEX, REAL):
        for one, other in ((a, b), (b, a)):
            if one in floats:
                assert other in SIGNED + UNSIGNED
                return one
    s, u = (a, b) if a in SIGNED else (b, a)
    if u == "uint64":
        return None
    return SIGNED[max(SIGNED.index(s), UNSIGNED.index(u) + 1)]


@pytest.mark.parametrize(("a", "b"), list(product(ALL, ALL)))
def test_promotion_of_two_dtypes(a: str, b: str) -> None:
    want = expected(a, b)
    if want is None:
        with pytest.raises(DTypeError, match=r"uint64.*cast one side"):
            dt.promote(dt.dtype(a), dt.dtype(b))
        with pytest.raises(DTypeError, match=r"cast one side with \.astype"):
            fw.tensor([1], dtype=a) + fw.tensor([1], dtype=b)
        return
    assert dt.promote(dt.dtype(a), dt.dtype(b)) == want
    x, y = fw.tensor([1, 0], dtype=a), fw.tensor([1, 1], dtype=b)
    if want != "bool":  # the standard has no arithmetic of bools
        assert (x * y).dtype == want
    assert ops.where(x == y, x, y).dtype == want
    assert ops.concat([x, y]).dtype == want
    assert (x == y).dtype == "bool"
    if "float16" not in (a, b) and want != "bool":
        assert (x.to("strict") * y.to("strict")).dtype == want


def test_promotion_is_associative_over_the_defined() -> None:
    names = [n for n in ALL if n != "uint64"]
    for a, b, c in product(names, repeat=3):
        x, y, z = map(dt.dtype, (a, b, c))
        kinds = {x.kind, y.kind, z.kind}
        if kinds & {"float", "complex"} and kinds & {"int", "uint", "bool"}:
            continue  # a float meets integers: the standard leaves it open
        assert dt.promote(dt.promote(x, y), z) is dt.promote(x, dt.promote(y, z))


@pytest.mark.parametrize("name", STRICT)
@pytest.mark.parametrize("scalar", [True, 2, 2.0, 2j], ids=repr)
@pytest.mark.parametrize("op", [operator.add, operator.mul], ids=["add", "mul"])
def test_python_scalars_are_weak(name: str, scalar: Any, op: Any, backend: str) -> None:
    kind = dt.dtype(name).kind
    if isinstance(scalar, bool):
        want = name
    elif isinstance(scalar, int):
        want = "int64" if kind == "bool" else name
    elif isinstance(scalar, float):
        want = name if kind in ("float", "complex") else "float32"
    else:
        want = name if kind == "complex" else "complex128" if name == "float64" else "complex64"
    x = fw.tensor([1, 0], dtype=name, backend=backend)
    if isinstance(scalar, bool) and name == "bool" and backend == "strict":
        pytest.skip("the standard has no arithmetic of bools")
    assert op(x, scalar).dtype == want
    assert op(scalar, x).dtype == want


@pytest.mark.parametrize("name", ["float16", "float32", "float64"])
def test_numbers_take_the_tensors_dtype_everywhere(name: str) -> None:
    x = fw.tensor([1.0, 2.0], dtype=name)
    for y in (
        x**2, 2**x, x**0.5, ops.maximum(x, 1.5), ops.where(x > 1, x, 0), ops.where(x > 1, 0.0, x), ops.clip(x, 0, 1.5),
        ops.mean(x), ops.var(x), ops.std(x), ops.softmax(x), ops.logsumexp(x), ops.stack([x[0], 2.0]),
        ops.full_like(x, 2), ops.zeros_like(x), ops.setitem(x, 0, 5), ops.atan2(x, 2), ops.logaddexp(0.5, x),
    ):  # fmt: skip
        assert y.dtype == name


def test_sums_of_small_integers_are_wide() -> None:
    for name, want in (
        ("bool", "int64"),
        ("int8", "int64"),
        ("int32", "int64"),
        ("uint8", "uint64"),
        ("float32", "float32"),
    ):
        x = fw.tensor([1, 1], dtype=name)
        assert ops.sum(x).dtype == want
        if name != "bool":
            assert ops.prod(x).dtype == want
        assert ops.sum(x, dtype="float64").dtype == "float64"


def test_averages_of_integers_have_the_default_dtype() -> None:
    for name in ("bool", "uint8", "int64"):
        x = fw.tensor([1, 0], dtype=name)
        for f in (ops.mean, ops.var, ops.std, ops.logsumexp):
            assert f(x).dtype == "float32", f
        assert ops.softmax(x).dtype == "float32"


@pytest.mark.parametrize("name", ["uint8", "int32", "int64", "bool"])
@pytest.mark.parametrize(
    "f", [ops.exp, ops.sqrt, ops.sin, ops.log1p, ops.sigmoid, lambda x: x / 255, lambda x: x / x, lambda x: 1 / (x + 1)]
)
def test_functions_of_real_numbers_take_integers_as_the_default_dtype(name: str, f: Any) -> None:
    assert f(fw.tensor([1, 1], dtype=name)).dtype == "float32"


FLOAT_ONLY = (
    "acos acosh asin asinh atan atanh cos cosh erf exp expm1 log log10 log1p log2 reciprocal sigmoid sin sinh sqrt tan tanh"
).split()


@pytest.mark.parametrize("name", FLOAT_ONLY)
def test_integers_in_every_function_of_real_numbers(name: str, backend: str) -> None:
    f, n = getattr(ops, name), int(name != "atanh")  # which is infinite at 1
    for dtype in ("int8", "uint16", "int64", "bool"):
        x = fw.tensor([n, n], dtype=dtype, backend=backend)
        got, want = f(x), f(x.astype("float32"))
        assert got.dtype == "float32"
        assert got.tolist() == want.tolist()
    assert fw.autodiff.vmap(f)(x).dtype == "float32"
    assert f(n).dtype == f(bool(n)).dtype == "float32"
    assert f(fw.tensor([float(n)], dtype="float64", backend=backend)).dtype == "float64"


@pytest.mark.parametrize("name", ["divide", "atan2", "hypot", "logaddexp", "copysign"])
def test_integers_in_functions_of_two_real_numbers(name: str, backend: str) -> None:
    f = getattr(ops, name)
    a = fw.tensor([1, 2], dtype="int32", backend=backend)
    for x, y in ((a, a), (a, 2), (2, a), (a, fw.tensor([3, 4], dtype="uint8", backend=backend)), (a, 0.5), (True, a)):
        assert f(x, y).dtype == "float32"
    assert f(a, fw.tensor([1.0, 2.0], dtype="float64", backend=backend)).dtype == "float64"
    x = fw.tensor([1.0, 2.0], dtype="float64", backend=backend)
    for g in (lambda x: f(x, a), lambda x: f(a, x)):
        assert fw.grad(lambda x: g(x).sum())(x).dtype == "float64"
        assert fw.jvp(g, (x,), (x,))[1].dtype == "float64"
        assert fw.autodiff.vmap(lambda x, a: f(x, a))(x, a).dtype == "float64"


# -- the default dtype -------------------------------------------------------------------------------------


@pytest.fixture
def float64_by_default() -> Iterator[None]:
    before = fw.get_default_dtype()
    fw.set_default_dtype("float64")
    yield
    fw.set_default_dtype(before)


def made() -> dict[str, Any]:
    return {
        "tensor": fw.tensor([1.0, 2.0]),
        "number": fw.tensor(1.0),
        "zeros": ops.zeros(2),
        "ones": ops.ones((2,)),
        "full": ops.full(2, 1.5),
        "eye": ops.eye(2),
        "linspace": ops.linspace(0, 1, 3),
        "arange": ops.arange(0.0, 1.0, 0.5),
        "normal": fw.random.normal((2,)),
        "uniform": fw.random.uniform((2,)),
        "bernoulli": fw.random.bernoulli(0.5, (2,)),
        "int and float": fw.tensor([1, 2]) * 0.5,
        "mean of ints": ops.mean(fw.tensor([1, 2])),
        "sin of ints": ops.sin(fw.tensor([1, 2])),
        "quotient of ints": fw.tensor([1, 2]) / 2,
        "grad of a number": fw.grad(lambda x: x * x)(2.0),
    }


def test_the_default_dtype_is_float32() -> None:
    assert fw.get_default_dtype() is fw.float32
    assert {name: t.dtype.name for name, t in made().items()} == dict.fromkeys(made(), "float32")


def test_the_default_dtype_can_be_changed(float64_by_default: None) -> None:
    assert {name: t.dtype.name for name, t in made().items()} == dict.fromkeys(made(), "float64")
    assert (fw.tensor([1], dtype="bool") + 1j).dtype == "complex128"
    assert (fw.tensor([1.0], dtype="float32") + 0.5).dtype == "float32"
    assert fw.tensor(np.ones(2, np.float32)).dtype == "float32"


def test_the_default_dtype_is_a_float() -> None:
    for name in ("int64", "complex64", "bool"):
        with pytest.raises(DTypeError, match=f"floating-point dtype, got {name}"):
            fw.set_default_dtype(name)


def test_dtypes_equal_their_names() -> None:
    for name in ALL:
        d = dt.dtype(name)
        assert d == name
        assert name == d
        assert {d: 1}[name] == 1
        assert getattr(fw, name) is d
    assert fw.float32 != fw.float64
    assert fw.float32 != "float64"
    assert fw.float32 is not None
