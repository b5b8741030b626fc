"""Generated cases of every differentiable function: its values and derivatives, proved one by one.

Full runs prove more seeds of each row. To repeat one: `pytest -k "sort-3"`.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import Any

import generated
import numpy as np
import pytest
from generated import ROWS, Call, Case, Draw, Row, case_of
from generated_cases import FULL, NAMES, NOT_DIFFERENTIABLE, cases, ids, made, primitives_of, public_functions
from generated_checks import (
    DIFFERENCE,
    along,
    check_backend,
    check_batching,
    check_first_order,
    check_mixed_precision,
    check_second_order,
    check_single_precision,
    check_values,
)
from generated_references import OURS
from hypothesis import given, settings
from hypothesis import strategies as st

import framework as fw
from framework.autodiff import PRIMITIVES, ops
from framework.autodiff.kinds import align_ranks
from framework.autodiff.primitive import expose, primitive

PROVED = cases(count=11 if FULL else 2)
BATCHED = cases(count=6 if FULL else 1, keep=lambda name: not ROWS[name].batchable)
NARROW = cases(first=100, count=4 if FULL else 1, keep=lambda name: not ROWS[name].narrow)
MIXED = [
    (name, seed)
    for name, seed in cases(first=400, count=4 if FULL else 1, keep=lambda name: not ROWS[name].narrow)
    if len(case_of(ROWS[name], seed).wanted) > 1
]
STRICT = cases(first=200, count=4 if FULL else 1)

# -- the table ---------------------------------------------------------------------------------------------


def test_every_public_function_has_a_row() -> None:
    """A new function is not offered untested: it gets a row, or is named as one without a derivative."""
    functions = public_functions()
    covered = {id(functions[name]) for name in functions if name in NAMES or name in NOT_DIFFERENTIABLE}
    missing = sorted(name for name, fn in functions.items() if id(fn) not in covered)
    assert not missing, f"add rows to tests/autodiff/rows_*.py for {' '.join(missing)}"


def test_every_row_names_a_function() -> None:
    assert sorted(ROWS) == NAMES
    assert not NOT_DIFFERENTIABLE & set(NAMES)
    unknown = sorted(NOT_DIFFERENTIABLE - set(public_functions()))
    assert not unknown, f"not offered: {' '.join(unknown)}"


def test_every_differentiable_primitive_is_reached() -> None:
    wanted = {name for name, p in PRIMITIVES.items() if p.vjp is not None}
    reached = {"alias"}  # marks the arguments of a reverse-mode transform
    for seed in range(8):
        for name in NAMES:
            reached |= primitives_of(case_of(ROWS[name], seed))
    assert not wanted - reached, f"no row reaches {' '.join(sorted(wanted - reached))}"


def test_cases_have_every_kind_of_shape() -> None:
    """Scalars, empty arrays, several axes, complex numbers, constants among the inputs."""
    drawn = [case_of(ROWS[name], seed) for name in NAMES for seed in range(300, 304)]
    arrays = [x for case in drawn for x in case.call.arrays]
    shares = {
        "0-d": [x.ndim == 0 for x in arrays],
        "empty": [x.size == 0 for x in arrays],
        "of two axes or more": [x.ndim >= 2 for x in arrays],
        "complex": [x.dtype.kind == "c" for x in arrays],
        "with constants": [len(case.wanted) < len(case.call.arrays) for case in drawn],
    }
    for name, flags in shares.items():
        assert np.mean(flags) > 0.05, name
    same = [case_of(ROWS[name], 7).call.arrays for name in NAMES]
    again = [case_of(ROWS[name], 7).call.arrays for name in NAMES]
    assert all(np.array_equal(x, y, equal_nan=True) for a, b in zip(same, again) for x, y in zip(a, b))


# -- the cases ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "seed"), PROVED, ids=ids(PROVED))
def test_values_and_derivatives(name: str, seed: int) -> None:
    with made(name, seed) as case:
        check_values(case)
        check_first_order(case)
        check_second_order(case)


@pytest.mark.parametrize(("name", "seed"), BATCHED, ids=ids(BATCHED))
def test_batching(name: str, seed: int) -> None:
    with made(name, seed) as case:
        check_batching(case)


@pytest.mark.parametrize(("name", "seed"), NARROW, ids=ids(NARROW))
def test_single_precision(name: str, seed: int, narrow: str) -> None:
    """On arrays that refuse to be of 64 bits, not even for a moment."""
    with made(name, seed) as case, fw.use_backend(narrow):
        check_single_precision(case)


@pytest.mark.parametrize(("name", "seed"), MIXED, ids=ids(MIXED))
def test_mixed_precision(name: str, seed: int) -> None:
    with made(name, seed) as case:
        check_mixed_precision(case)


@pytest.mark.parametrize(("name", "seed"), STRICT, ids=ids(STRICT))
def test_strict_backend(name: str, seed: int) -> None:
    with made(name, seed) as case:
        check_backend(case, "strict")


@settings(max_examples=2000 if FULL else 40, deadline=None, derandomize=not FULL, database=None)
@given(st.sampled_from(NAMES), st.integers(1000, 2**32))
def test_seeds_that_nobody_chose(name: str, seed: int) -> None:
    with made(name, seed) as case:
        check_values(case)
        check_first_order(case)
        check_second_order(case)


# -- the checks themselves: each wrong rule is found ----------------------------------------------------------


def cube(ns: Any, t: Any, out: Any, x: Any) -> Any:
    return t * (3 * x * x)


def right_vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any) -> Any:
    return (g * (3 * x * x),)


def right_jvp(ns: Any, tangents: Any, out: Any, x: Any) -> Any:
    return tangents[0] * (3 * x * x)


def detached_vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any) -> Any:
    """Right at first order, a constant at the second."""
    return (g * ns.stop_gradient(3 * x * x),) if hasattr(ns, "stop_gradient") else (g * (3 * x * x),)


def shifted_batch(ops: Any, n: int, is_batched: Any, inputs: Any, params: Any, fn: Any) -> Any:
    return ops.flip(fn(*inputs, **params), axis=0)


def wide_forward(ns: Any, x: Any) -> Any:
    return x * x * x + ns.xp.zeros((1,), dtype=ns.xp.float64)[0]


RIGHT: dict[str, Any] = {
    "forward": lambda ns, x: x * x * x,
    "vjp": right_vjp,
    "jvp": right_jvp,
    "batch": align_ranks,
    "keep": ((0,),),
}
WRONG: dict[str, tuple[dict[str, Any], Any, str]] = {
    "value": ({"forward": lambda ns, x: x * x * x + 1e-6}, check_values, "value, against NumPy"),
    "vjp": ({"vjp": lambda *a: (a[1] * (3.001 * a[5] * a[5]),)}, check_first_order, "vjp, against differences"),
    "jvp": ({"jvp": lambda *a: a[1][0] * (3.00001 * a[3] * a[3])}, check_first_order, "jvp, against differences"),
    "shape of a gradient": ({"vjp": lambda *a: (None,)}, check_first_order, "vjp, against differences"),
    "second order, reverse": ({"vjp": detached_vjp}, check_second_order, "jvp of vjp, against differences"),
    "second order, forward": (
        {"jvp": lambda ns, t, out, x: t[0] * ns.stop_gradient(3 * x * x)},
        check_second_order,
        "vjp of jvp",
    ),
    "batch": ({"batch": shifted_batch}, check_batching, "vmap"),
    "dtype": ({"forward": wide_forward}, check_single_precision, "float32"),
}


NUMBERS = count()


@pytest.fixture
def cubed() -> Iterator[Any]:
    """Declares a primitive for the time of a test and gives a case of it."""

    name = f"cubed_for_tests_{next(NUMBERS)}"  # a namespace keeps a primitive's forward by its name

    def declare(**changes: Any) -> Case:
        expose(name, primitive(name, arity=1, **{**RIGHT, **changes}))

        def fn(xp: Any, x: Any) -> Any:
            return getattr(xp, name)(x) if xp is OURS else x * x * x

        return case_of(Row(name, lambda d: Call(fn, (d.real((2, 3), 0.5, 1.5),))), 0)

    yield declare
    PRIMITIVES.pop(name, None)
    delattr(ops, name)


def test_right_rules_pass(cubed: Any, narrow: str) -> None:
    case = cubed()
    for check in (check_values, check_first_order, check_second_order, check_batching):
        check(case)
    check_backend(case, "strict")
    with fw.use_backend(narrow):
        check_single_precision(case)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_rules_are_found(name: str, cubed: Any) -> None:
    changes, check, message = WRONG[name]
    with pytest.raises(AssertionError, match=message):
        check(cubed(**changes))


def test_a_wrong_case_says_how_to_make_it_again(cubed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    case = cubed(vjp=lambda *a: (a[1] * a[5],))
    monkeypatch.setitem(generated.ROWS, case.row.name, case.row)
    with pytest.raises(AssertionError) as raised, made(case.row.name, 5) as again:
        check_first_order(again)
    assert raised.value.__notes__ == [f"case_of(ROWS[{case.row.name!r}], 5)"]


def test_differences_are_precise() -> None:
    """Near a pole, where the tolerance has to hold."""
    draw = Draw("pole", 0)
    x, t = draw.real((50,), 0.3, 0.5), draw.real((50,), -1, 1)
    (got,) = along(lambda xs: [1 / xs[0]], [x], [t])
    assert np.max(np.abs(got + t / x**2)) < DIFFERENCE
