"""Every primitive, by the table: values, both derivatives to second order, batching, dtypes, layouts."""

from __future__ import annotations

import os
from collections.abc import Callable
from itertools import product
from typing import Any

import indexing_table  # noqa: F401 - adds its rows
import layer_table  # noqa: F401 - adds its rows
import linear_table  # noqa: F401 - adds its rows
import manipulation_table  # noqa: F401 - adds its rows
import namespace_table  # noqa: F401 - adds its rows
import numpy as np
import pytest
import window_table  # noqa: F401 - adds its rows
from primitive_table import CASES, EXEMPT, Case

import framework as fw
from framework.autodiff import PRIMITIVES, Tensor, ops, vmap
from framework.autodiff.levels import Level, LeveledTensor

Check = Callable[[Case], None]


def is_float(x: Any) -> bool:
    return bool(x.dtype.kind == "f")


def differentiable(case: Case) -> bool:
    return PRIMITIVES[case.name].vjp is not None


FULL = os.environ.get("FW_TEST_CASES") == "full"
LONGEST, LONG = 1, 3
"""How many rows of a primitive the longest and the long checks take where not everything is run; the generator adds others."""


def some(group: list[Case], most: int) -> list[Case]:
    """So many rows of a primitive, spread over all of them."""
    return group if len(group) <= most else [group[len(group) * (2 * k + 1) // (2 * most)] for k in range(most)]


def one_by_one(cases: list[Case]) -> Any:
    """A test for each row: for the longest checks, of which most are slow tests."""
    short = {c.id for name in {c.name for c in cases} for c in some([c for c in cases if c.name == name], LONGEST)}
    params = [pytest.param(c, id=c.id, marks=[] if c.id in short else [pytest.mark.slow]) for c in cases]
    return pytest.mark.parametrize("case", params)


def by_name(cases: list[Case], most: int | None = None) -> Any:
    """A test for each primitive, over its rows: for the short ones, of which there would be thousands."""
    groups = {name: [c for c in cases if c.name == name] for name in dict.fromkeys(c.name for c in cases)}
    rows = [group if most is None or FULL else some(group, most) for group in groups.values()]
    return pytest.mark.parametrize("cases", rows, ids=groups.keys())


def for_backend(cases: list[Case], backend: str) -> list[Case]:
    """All of them on the CPU; `LONG` where not everything is run on the strict one, which checks each call slowly."""
    return cases if FULL or backend == "cpu" else some(cases, LONG)


def each(cases: list[Case], check: Check) -> None:
    for case in cases:
        try:
            check(case)
        except BaseException as error:
            error.add_note(f"row {case.id}")
            raise


DIFFERENTIABLE = [c for c in CASES if differentiable(c)]
BATCHABLE = [c for c in CASES if c.batchable]


def to_tensors(case: Case, backend: str, dtype: str = "float64") -> list[Tensor]:
    return [fw.tensor(x, dtype=dtype if is_float(x) else None, backend=backend) for x in case.inputs]


def of_floats(case: Case, inputs: list[Tensor]) -> tuple[Any, list[Tensor]]:
    """The case as a function of its floating-point inputs, and these."""
    places = [i for i, x in enumerate(case.inputs) if is_float(x)]

    def fn(*values: Any) -> Any:
        args = list(inputs)
        for place, value in zip(places, values):
            args[place] = value
        return case.fn(*args)

    return fn, [inputs[i] for i in places]


def direction(shape: tuple[int, ...], like: Tensor) -> Tensor:
    """A fixed direction that no derivative is orthogonal to by symmetry."""
    values = np.cos(np.arange(np.prod(shape, dtype=int)) * 1.7 + 0.3).reshape(shape)
    return fw.tensor(values, dtype=like.dtype, device=like.device)


# -- the table is whole, and each row reaches its primitive ------------------------------------------


def test_every_primitive_is_in_the_table() -> None:
    names = {c.name for c in CASES}
    assert set(PRIMITIVES) - names - set(EXEMPT) == set(), "add rows for these to primitive_table.py"
    assert names - set(PRIMITIVES) == set(), "the table names primitives that are gone"
    assert set(EXEMPT) <= set(PRIMITIVES)


def test_rows_have_different_names() -> None:
    ids = [c.id for c in CASES]
    assert len(ids) == len(set(ids))


class Recorder(Level):
    """A transform that does nothing but note the primitives it sees."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def apply(self, p: Any, inputs: Any, params: Any) -> Tensor:
        self.seen.add(p.name)
        out = p.apply(*map(self.lower, inputs), **params)
        return LeveledTensor(out, self) if p.outputs == 1 else tuple([LeveledTensor(o, self) for o in out])


@by_name(CASES)
def test_the_row_applies_its_primitive(cases: list[Case]) -> None:
    def check(case: Case) -> None:
        recorder = Recorder()
        with recorder:
            case.fn(*[LeveledTensor(x, recorder) for x in to_tensors(case, "cpu")])
        unseen = (
            {"to_device"} if case.label == "where it is" else {"astype"} if case.label == "to int and back" else set()
        )
        assert case.name in recorder.seen | unseen

    each(cases, check)


# -- values --------------------------------------------------------------------------------------


TOLERANCES = {"float64": {"rtol": 1e-12, "atol": 1e-13}, "float32": {"rtol": 2e-5, "atol": 2e-6}}


@by_name(CASES)
def test_values(cases: list[Case], backend: str) -> None:
    def check(case: Case) -> None:
        want = np.asarray(case.ref(*case.inputs))
        for dtype, tolerance in TOLERANCES.items():
            inputs = to_tensors(case, backend, dtype)
            before = [x.tolist() for x in inputs]
            got = case.fn(*inputs)
            assert isinstance(got, Tensor)
            assert got.backend == backend
            assert got.shape == want.shape
            np.testing.assert_allclose(got.numpy(), want, **tolerance)
            np.testing.assert_equal([x.tolist() for x in inputs], before)
            kind = {"b": "bool", "i": "int", "u": "uint", "f": "float"}[want.dtype.kind]
            assert got.dtype == dtype if kind == "float" else got.dtype.kind == kind

    each(for_backend(cases, backend), check)


@by_name(CASES)
def test_what_is_recorded(cases: list[Case]) -> None:
    """Something, if an input is tracked and there is a derivative; else nothing."""

    def check(case: Case) -> None:
        inputs = to_tensors(case, "cpu")
        assert not case.fn(*inputs).requires_grad
        for x in inputs:
            x.requires_grad = x.dtype.kind == "float"
        is_cut = case.label == "to int and back"
        assert case.fn(*inputs).requires_grad == (
            differentiable(case) and any(map(is_float, case.inputs)) and not is_cut
        )
        with fw.no_grad():
            assert not case.fn(*inputs).requires_grad

    each(cases, check)


# -- derivatives ---------------------------------------------------------------------------------


@by_name([c for c in DIFFERENTIABLE if c.label != "to int and back"])  # a step; see test_casts
@pytest.mark.parametrize("backend", ["cpu", pytest.param("strict", marks=pytest.mark.slow)])
def test_derivatives(cases: list[Case], backend: str) -> None:
    each(cases, lambda case: fw.gradcheck(case.fn, to_tensors(case, backend)))


@one_by_one(DIFFERENTIABLE)
def test_second_derivatives(case: Case) -> None:
    """gradcheck of the reverse derivative, then of the forward one: all four mixes of modes.

    The inputs are results themselves; of these, NumPy makes scalars where they are 0-d.
    """
    plain, values = of_floats(case, to_tensors(case, "cpu"))

    def fn(*xs: Any) -> Any:
        return plain(*[x * 1 for x in xs])

    cotangent = direction(fn(*values).shape, values[0])
    tangents = [direction(x.shape, x) for x in values]
    fw.gradcheck(lambda *xs: fw.vjp(fn, *xs)[1](cotangent), values)
    fw.gradcheck(lambda *xs: fw.jvp(fn, xs, tangents)[1], values)


@by_name(DIFFERENTIABLE, LONG)
def test_derivatives_on_the_strict_backend(cases: list[Case]) -> None:
    """Both modes and both mixes of them, in one direction, are what they are on the CPU."""

    def check(case: Case) -> None:
        fn, values = of_floats(case, to_tensors(case, "strict"))
        fn64, values64 = of_floats(case, to_tensors(case, "cpu"))

        def both(fn: Any, xs: list[Tensor]) -> list[Any]:
            tangents = [direction(x.shape, x) for x in xs]
            cotangent = direction(fn(*xs).shape, xs[0])
            grads, over_reverse = fw.jvp(lambda *a: fw.vjp(fn, *a)[1](cotangent), xs, tangents)
            tangent, pull = fw.vjp(lambda *a: fw.jvp(fn, a, tangents)[1], *xs)
            raw = fw.vjp(fn, *xs)[1](cotangent)  # the rules on arrays, not on Tensors
            return [t.numpy() for t in (*raw, *grads, tangent, *over_reverse, *pull(cotangent))]

        for got, want in zip(both(fn, values), both(fn64, values64)):
            np.testing.assert_allclose(got, want, rtol=1e-9, atol=1e-10)

    each(cases, check)


@by_name(DIFFERENTIABLE)
def test_both_modes_agree_where_only_some_inputs_are_wanted(cases: list[Case]) -> None:
    def check(case: Case) -> None:
        fn, values = of_floats(case, to_tensors(case, "cpu"))
        y = fn(*values)
        cotangent = direction(y.shape, values[0])
        for wanted in product((False, True), repeat=len(values)):
            if not any(wanted):
                continue
            chosen = [x for x, w in zip(values, wanted) if w]

            def of_chosen(*xs: Any) -> Any:
                it = iter(xs)
                return fn(*[next(it) if w else x for x, w in zip(values, wanted)])

            grads = fw.vjp(of_chosen, *chosen)[1](cotangent)
            tangents = [direction(x.shape, x) for x in chosen]
            _, tangent = fw.jvp(of_chosen, chosen, tangents)
            assert [g.shape for g in grads] == [x.shape for x in chosen]
            assert tangent.shape == y.shape
            reverse = sum(float((g * t).sum()) for g, t in zip(grads, tangents))
            assert reverse == pytest.approx(float((tangent * cotangent).sum()), rel=1e-10, abs=1e-10)

    each(cases, check)


# -- batching ------------------------------------------------------------------------------------


def batch_of(x: Any) -> Any:
    """Three inputs like `x`, in the same domain."""
    if is_float(x):
        return np.stack([x, x * 0.98, x * 1.01])
    return np.stack([np.roll(x, k) for k in range(3)])


@by_name(BATCHABLE)
def test_vmap(cases: list[Case], backend: str) -> None:
    def check(case: Case) -> None:
        for k, batched in enumerate(product((False, True), repeat=len(case.inputs))):
            if not any(batched):
                continue
            arrays = [batch_of(x) if b else x for x, b in zip(case.inputs, batched)]
            want = np.stack([case.ref(*[a[i] if b else a for a, b in zip(arrays, batched)]) for i in range(3)])
            axes = tuple((0 if (k + i) % 2 else -1) if b else None for i, b in enumerate(batched))
            moved = [np.moveaxis(a, 0, -1) if axis == -1 else a for a, axis in zip(arrays, axes)]
            tensors = [fw.tensor(a, backend=backend) for a in moved]
            out_axes = 0 if k % 2 else -1
            got = vmap(case.fn, axes, out_axes)(*tensors)
            np.testing.assert_allclose(got.numpy(), np.moveaxis(want, 0, out_axes), rtol=1e-12, atol=1e-12)

    each(for_backend(cases, backend), check)


@one_by_one([c for c in DIFFERENTIABLE if c.batchable])
def test_vmap_of_derivatives(case: Case) -> None:
    """Gradients of a batch, with all inputs batched and with only the first, are those of its samples."""
    for only_first in (False, True):
        batched = [i == 0 or not only_first for i in range(len(case.inputs))]
        arrays = [batch_of(x) if b else x for x, b in zip(case.inputs, batched)]
        tensors = [fw.tensor(a) for a in arrays]
        places = [i for i, x in enumerate(case.inputs) if is_float(x)]

        def derivatives(*args: Any) -> Any:
            def fn(*values: Any) -> Any:
                full = list(args)
                for place, value in zip(places, values):
                    full[place] = value
                return case.fn(*full)

            values = [args[i] for i in places]
            y, pull = fw.vjp(fn, *values)
            c = direction(y.shape, tensors[places[0]])
            return (*pull(c), fw.jvp(fn, values, [direction(v.shape, tensors[places[0]]) for v in values])[1])

        got = vmap(derivatives, tuple(0 if b else None for b in batched))(*tensors)
        rows = [derivatives(*[t[i] if b else t for t, b in zip(tensors, batched)]) for i in range(3)]
        for g, want in zip(got, zip(*rows)):
            np.testing.assert_allclose(g.numpy(), np.stack([w.numpy() for w in want]), rtol=1e-11, atol=1e-12)


@one_by_one([c for c in DIFFERENTIABLE if c.batchable])
def test_derivatives_of_vmap(case: Case) -> None:
    """Transforms below the batch see what its rule makes of the call; to second order."""
    inputs = [fw.tensor(batch_of(x)) for x in case.inputs]
    places = [i for i, x in enumerate(case.inputs) if is_float(x)]

    def over(transform: Any) -> Any:
        def fn(*values: Any) -> Any:
            full = list(inputs)
            for place, value in zip(places, values):
                full[place] = value
            return transform(case.fn)(*full)

        return fn

    def loop(f: Any) -> Any:
        return lambda *xs: ops.stack([f(*[x[i] for x in xs]) for i in range(3)])

    values = [inputs[i] for i in places]
    tangents = [direction(v.shape, v) for v in values]
    results = []
    for fn in (over(vmap), over(loop)):
        y, dy = fw.jvp(fn, values, tangents)
        cotangent = direction(y.shape, values[0])
        grads, over_reverse = fw.jvp(lambda *xs: fw.vjp(fn, *xs)[1](cotangent), values, tangents)
        over_forward = fw.vjp(lambda *xs: fw.jvp(fn, xs, tangents)[1], *values)[1](cotangent)
        results.append([t.numpy() for t in (y, dy, *grads, *over_reverse, *over_forward)])
    for got, want in zip(*results):
        np.testing.assert_allclose(got, want, rtol=1e-10, atol=1e-11)


# -- dtypes --------------------------------------------------------------------------------------


@by_name(CASES)
def test_no_float64_in_a_float32_computation(cases: list[Case], narrow: str) -> None:
    def check(case: Case) -> None:
        inputs = to_tensors(case, narrow, "float32")
        got = case.fn(*inputs)
        if got.dtype.kind == "float":
            assert got.dtype == "float32"
        if not differentiable(case):
            return
        fn, values = of_floats(case, inputs)
        y, pull = fw.vjp(fn, *values)
        tangents = [direction(x.shape, x) for x in values]
        cotangent = direction(y.shape, y)
        assert {g.dtype.name for g in pull(cotangent)} == {"float32"}
        assert fw.jvp(fn, values, tangents)[1].dtype == "float32"
        over = fw.jvp(lambda *xs: fw.vjp(fn, *xs)[1](cotangent), values, tangents)[1]
        assert {t.dtype.name for t in over} == {"float32"}

    each(cases, check)


# -- layouts -------------------------------------------------------------------------------------


def fortran(x: Any) -> Any:
    return np.array(x, order="F")


def strided(x: Any) -> Any:
    wide = np.zeros(tuple(2 * n for n in x.shape), x.dtype)
    view = wide[(..., *(slice(None, None, 2) for _ in x.shape))]
    view[...] = x
    return view


def reversed_(x: Any) -> Any:
    return np.flip(np.flip(x).copy())


def read_only(x: Any) -> Any:
    x = np.array(x)
    x.flags.writeable = False
    return x


@by_name(DIFFERENTIABLE, LONG)
def test_memory_layout_changes_nothing(cases: list[Case]) -> None:
    def check(case: Case) -> None:
        def results(inputs: list[Tensor]) -> list[Any]:
            fn, values = of_floats(case, inputs)
            y, pull = fw.vjp(fn, *values)
            return [t.detach().numpy() for t in (y, *pull(direction(y.shape, values[0])))]

        plain = results(to_tensors(case, "cpu"))
        for layout in (fortran, strided, reversed_, read_only):
            inputs = [ops.asarray(layout(x)) for x in case.inputs]
            before = [x.numpy().copy() for x in inputs]
            for want, got in zip(plain, results(inputs)):
                np.testing.assert_allclose(got, want, rtol=1e-13, atol=1e-14, err_msg=layout.__name__)
            for x, want in zip(inputs, before):
                np.testing.assert_array_equal(x.numpy(), want, err_msg=f"{layout.__name__}: the input was changed")

    each(cases, check)
