"""Programs whose operations take lists and tuples of values, and the default of `Backend.capture`."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from framework.backend import Program, registry
from framework.backend.program import Literal, Operation, Value, filled, results

FUNCTIONS: dict[str, Any] = {
    "join": np.concatenate,
    "pick": lambda x, key: x[key],
    "two": lambda x: (x + 1, [x * 10, None]),
    "add": np.add,
    "drop": lambda x: x,
}


def made(operations: list[Operation], outputs: tuple[Any, ...], constants: dict[int, Any] | None = None) -> Program:
    numbers = {0, 1, *(constants or {}), *(n for o in operations for n in o.outputs)}
    values = {n: Value((2,), "float64") for n in numbers}
    return Program((0, 1), constants or {}, tuple(operations), outputs, values, FUNCTIONS.__getitem__)


def nested() -> Program:
    """A list of values, a tuple with literals, and a value that is read twice at once."""
    return made(
        [
            Operation("join", ([0, 1, 0],), {"axis": 0}, (2,)),
            Operation("drop", (5,), {}, (6,)),
            Operation("pick", (2, (Literal(slice(1, None)), 7)), {}, (3,)),
            Operation("add", (3, Literal(1.0)), {}, (4,)),
        ],
        (4,),
        {5: np.ones(2), 7: None},
    )


A, B = np.array([1.0, 2.0]), np.array([3.0, 4.0])


def test_entries_may_be_lists_and_tuples_of_values() -> None:
    program = nested()
    program.constants = {5: np.ones(2), 7: np.array([[0, 2]])}
    program.operations = (
        program.operations[0],
        Operation("pick", (2, (7,)), {}, (3,)),
        program.operations[3],
    )
    (out,) = program.run(A, B)
    np.testing.assert_array_equal(out, [[2.0, 4.0]])


def test_what_is_read_within_a_list_lives_until_then_and_dies_there() -> None:
    program = nested()
    assert [sorted(dying) for dying in program.last_uses()] == [[0, 1], [5, 6], [2, 7], [3]]
    assert program.operations[0].reads == (0, 1, 0)
    assert program.operations[2].reads == (2, 7)


def test_pruning_keeps_what_is_read_within_a_tuple() -> None:
    program = nested().pruned()
    assert [o.primitive for o in program.operations] == ["join", "pick", "add"]
    assert set(program.constants) == {7}
    assert set(program.values) == {0, 1, 2, 3, 4, 7}


def test_text_and_graph_show_what_is_nested() -> None:
    program = nested()
    text = str(program)
    assert "join([a, b, a], axis=0)" in text
    assert "pick(c, (slice(1, None, None), h))" in text
    one = made([Operation("pick", (0, (1,)), {}, (2,))], (2,))
    assert "pick(a, (b,))" in str(one)
    dot = program.dot()
    assert dot.count("v0 -> op0") == 2
    assert "v1 -> op0" in dot
    assert "v7 -> op2" in dot


def test_nested_results_have_an_output_for_each_array() -> None:
    program = made(
        [Operation("two", (0,), {}, (2, 3)), Operation("add", (2, 3), {}, (4,))], (4, 2, Literal(7), Literal(None))
    )
    out = program.run(A, B)
    np.testing.assert_array_equal(out[0], A * 11 + 1)
    np.testing.assert_array_equal(out[1], A + 1)
    assert out[2:] == (7, None)
    assert results([1, (None, [2])]) == [1, 2]
    assert filled(([0], (Literal(None),)), {0: "x"}) == (["x"], (None,))


def test_a_value_is_dropped_after_its_last_use() -> None:
    alive: list[int] = []

    class Counted:
        def __init__(self) -> None:
            alive.append(1)

        def __del__(self) -> None:
            alive.pop()

    functions = {"make": lambda x: Counted(), "use": lambda xs: np.array(len(alive)), "count": lambda: len(alive)}
    operations = (
        Operation("make", (0,), {}, (1,)),
        Operation("use", ([1],), {}, (2,)),
        Operation("count", (), {}, (3,)),
    )
    values = {n: Value((), "float64") for n in range(4)}
    program = Program((0,), {}, operations, (2, 3), values, functions.__getitem__)
    assert program.run(A)[1] == 0


@pytest.mark.parametrize("backend", ["cpu", "strict"])
def test_capture_takes_arrays_for_the_outputs(backend: str) -> None:
    b = registry.get(backend)
    functions = {"add": b.xp.add, "multiply": b.xp.multiply}
    operations = (Operation("add", (0, 1), {}, (2,)), Operation("multiply", (2, 0), {}, (3,)))
    program = Program((0, 1), {}, operations, (2, 3), dict.fromkeys(range(4), Value((2,), "float64")), functions.get)
    x, y, target = (b.asarray(a) for a in (A, B, np.zeros(2)))
    replay = b.capture(program)
    for _ in range(3):
        for into in (None, (None, None), (None, target), (target, None)):
            first, second = replay(x, y, into=into)
            np.testing.assert_array_equal(b.to_numpy(first), [4.0, 6.0])
            np.testing.assert_array_equal(b.to_numpy(second), [4.0, 12.0])
            if b.writable and into is not None:
                assert all(t is None or t is out for t, out in zip(into, (first, second)))
