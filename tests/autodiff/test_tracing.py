"""Recorded programs: what they compute, how they read, and what stands on them."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import pytest
from programs import generate

import framework as fw
import framework.numpy as fnp
from framework.autodiff import vmap
from framework.autodiff.namespace import namespace_of
from framework.autodiff.tracing import on_arrays
from framework.backend import Program, registry
from framework.backend.program import Literal, Operation, Value
from framework.errors import DTypeError, GradientError, ShapeError

SEEDS = range(400 if os.environ.get("FW_TEST_CASES") == "full" else 40)


def direction(shape: tuple[int, ...], k: int) -> Any:
    return np.cos(np.arange(np.prod(shape, dtype=int)) * 1.7 + k).reshape(shape)


def close(got: Any, want: Any) -> None:
    np.testing.assert_allclose(got.numpy(), want.numpy(), rtol=1e-12, atol=1e-12)


# -- programs ------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_a_recorded_program_computes_what_the_function_does_on_other_values(seed: int, backend: str) -> None:
    program = generate(seed)
    xs = [fw.tensor(x, backend=backend) for x in program.inputs]
    others = [x * 0.75 for x in xs]

    def fn(*args: Any) -> Any:
        return program(fnp, *args)

    with fw.use_backend(backend):
        recorded = fw.graph(fn, *xs)
        want = fn(*others)
        close(recorded(*xs)[0], fn(*xs))
        close(recorded(*others)[0], want)
    raw = registry.get(backend).capture(on_arrays(recorded, xs[0]._ns))
    got = registry.get(backend).to_numpy(raw(*[x._data for x in others])[0])
    np.testing.assert_array_equal(got, want.numpy())


@pytest.mark.parametrize("seed", SEEDS)
def test_a_recorded_gradient_computes_the_gradient(seed: int) -> None:
    program = generate(seed)
    xs = [fw.tensor(x) for x in program.inputs]
    c = fw.tensor(direction(program(np, *program.inputs).shape, 3))
    gradients = fw.grad(lambda *args: (program(fnp, *args) * c).sum(), tuple(range(len(xs))))
    recorded = fw.graph(gradients, *xs)
    others = [x * 0.75 for x in xs]
    for got, want in zip(recorded(*others), gradients(*others)):
        close(got, want)


def test_text_names_every_value_with_its_type() -> None:
    w = fw.tensor([[1.0, 2.0], [3.0, 4.0]])
    text = str(fw.graph(lambda x, b: fnp.tanh(x @ w) + b, fw.tensor([[1.0, 2.0]]), fw.tensor(1.0)))
    assert text.splitlines() == [
        "program(a: float32[1, 2], b: float32[]):",
        "    constants c: float32[2, 2]",
        "    d: float32[1, 2] = matmul(a, c)",
        "    e: float32[1, 2] = tanh(d)",
        "    f: float32[1, 2] = add(e, b)",
        "    return f",
    ]


def test_dot_is_a_graph_of_the_operations() -> None:
    dot = fw.graph(lambda x: fnp.sum(x * x), fw.tensor([1.0, 2.0])).dot()
    assert dot.startswith("digraph program {")
    assert dot.endswith("}")
    assert 'v0 [label="input\\nfloat32[2]", shape=ellipse]' in dot
    assert dot.count("v0 -> op0") == 2
    assert "op0 -> op1" in dot
    assert "op1 -> out0" in dot
    assert dot.count("[label=") == dot.count("label=") == 4


def test_names_go_on_after_z() -> None:
    def fn(x: Any) -> Any:
        for _ in range(30):
            x = x * x
        return x

    text = str(fw.graph(fn, fw.tensor(1.0)))
    assert "z: float32[] = multiply(y, y)" in text
    assert "ae: float32[] = multiply(ad, ad)" in text


def test_what_no_output_needs_is_dropped() -> None:
    def fn(x: Any) -> Any:
        fnp.exp(x) * fw.tensor(3.0)
        return x + 1.0

    program = fw.graph(fn, fw.tensor([1.0]))
    assert [operation.primitive for operation in program.operations] == ["add"]
    assert len(program.constants) == 1
    assert len(program.values) == 3


def test_structures_go_in_and_flat_outputs_come_out() -> None:
    program = fw.graph(
        lambda d, y: {"s": d["a"] + y, "p": [d["b"] * y]}, {"a": fw.tensor(1.0), "b": fw.tensor(2.0)}, 3.0
    )
    got = program(fw.tensor(10.0), fw.tensor(20.0), fw.tensor(2.0))
    assert [t.item() for t in got] == [12.0, 40.0]


def test_an_output_that_is_an_input_or_a_constant() -> None:
    three = fw.tensor(3.0)
    program = fw.graph(lambda x: (x, three, 4.0), fw.tensor(1.0))
    assert [t.item() for t in program(fw.tensor(7.0))] == [7.0, 3.0, 4.0]
    assert str(program).endswith("return a, b, c")


def test_detached_values_stay_values_of_the_program() -> None:
    program = fw.graph(lambda x: x * x.detach(), fw.tensor(2.0))
    assert program(fw.tensor(5.0))[0].item() == 25.0


def test_one_constant_for_one_array() -> None:
    w = fw.tensor([1.0, 2.0])
    program = fw.graph(lambda x: (x + w) * w.detach() - w, fw.tensor([1.0, 1.0]))
    assert len(program.constants) == 1


def test_a_value_may_be_read_while_recording() -> None:
    def fn(x: Any) -> Any:
        return x * 2 if x.item() > 0 else x * 3

    assert fw.graph(fn, fw.tensor(1.0))(fw.tensor(5.0))[0].item() == 10.0
    assert fw.graph(fn, fw.tensor(-1.0))(fw.tensor(5.0))[0].item() == 15.0


def test_several_outputs_of_one_operation_and_dying_values() -> None:
    functions = {"two": lambda x: (x + 1, x * 10), "add": lambda x, y: x + y}
    v = Value((), "int64")
    program = Program(
        inputs=(0,),
        constants={1: 100},
        operations=(
            Operation("two", (0,), {}, (2, 3)),
            Operation("add", (3, Literal(5)), {}, (4,)),
            Operation("two", (4,), {}, (5, 6)),
            Operation("add", (2, 1), {}, (7,)),
        ),
        outputs=(7, 6, Literal(None)),
        values=dict.fromkeys(range(8), v),
        functions=functions.__getitem__,
    )
    assert program.run(3) == (104, 350, None)
    assert [sorted(dying) for dying in program.last_uses()] == [[0], [3], [4, 5], [1, 2]]
    assert "c: int64[], d: int64[] = two(a)" in str(program)
    assert "e: int64[] = add(d, 5)" in str(program)
    with pytest.raises(ValueError, match="shorter|longer"):
        program.run(1, 2)


def test_a_program_of_tensors_of_a_transform_is_none_of_arrays() -> None:
    def fn(x: Any) -> Any:
        with pytest.raises(GradientError, match="constant that is none"):
            on_arrays(fw.graph(lambda y: y * x, fw.tensor(2.0)), namespace_of(registry.get("cpu")))
        return x * 1.0

    fw.jvp(fn, (fw.tensor(1.0),), (fw.tensor(1.0),))


def test_a_tensor_that_leaves_the_recording_is_an_error() -> None:
    kept: list[Any] = []
    fw.graph(lambda x: kept.append(x * 2) or x, fw.tensor(1.0))
    with pytest.raises(GradientError, match="left its record transform"):
        kept[0] + 1.0


# -- linearize -----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_linearize_is_jvp_at_every_tangent(seed: int) -> None:
    program = generate(seed)
    xs = [fw.tensor(x) for x in program.inputs]

    def fn(*args: Any) -> Any:
        return program(fnp, *args)

    y, derivative = fw.linearize(fn, *xs)
    close(y, fn(*xs))
    for k in range(3):
        ts = [fw.tensor(direction(x.shape, k)) for x in xs]
        close(derivative(*ts), fw.jvp(fn, xs, ts)[1])


@pytest.mark.parametrize("seed", SEEDS)
def test_linearize_nests_with_every_transform(seed: int) -> None:
    program = generate(seed)
    xs = [fw.tensor(x) for x in program.inputs]
    ts = [fw.tensor(direction(x.shape, k)) for k, x in enumerate(xs)]
    c = fw.tensor(direction(program(np, *program.inputs).shape, 5))

    def fn(*args: Any) -> Any:
        return program(fnp, *args)

    def by_linearize(*args: Any) -> Any:
        return fw.linearize(fn, *args)[1](*ts)

    def by_jvp(*args: Any) -> Any:
        return fw.jvp(fn, args, ts)[1]

    for mine, plain in zip(fw.vjp(by_linearize, *xs)[1](c), fw.vjp(by_jvp, *xs)[1](c)):
        close(mine, plain)
    close(fw.jvp(by_linearize, xs, ts)[1], fw.jvp(by_jvp, xs, ts)[1])
    close(fw.linearize(by_linearize, *xs)[1](*ts), fw.jvp(by_jvp, xs, ts)[1])
    batch = [fnp.stack([x, x * 0.9]) for x in xs]
    close(vmap(by_linearize)(*batch), vmap(by_jvp)(*batch))
    transposed = fw.vjp(fw.linearize(fn, *xs)[1], *ts)[1](c)
    for mine, plain in zip(transposed, fw.vjp(fn, *xs)[1](c)):
        close(mine, plain)


def test_the_derivative_of_a_closed_over_weight_is_linear_in_it() -> None:
    w = fw.tensor(3.0, requires_grad=True)
    _, derivative = fw.linearize(lambda x: w * x * x, fw.tensor(2.0))
    derivative(fw.tensor(1.0)).backward()
    assert w.grad.item() == 4.0


def test_linearize_takes_structures() -> None:
    x = {"a": fw.tensor([1.0, 2.0]), "b": [fw.tensor(3.0)]}
    y, derivative = fw.linearize(lambda d: {"out": (d["a"] * d["b"][0]).sum()}, x)
    assert y["out"].item() == 9.0
    assert derivative({"a": fw.tensor([1.0, 0.0]), "b": [fw.tensor(1.0)]})["out"].item() == 6.0


def test_a_function_that_depends_on_nothing_has_derivative_zero() -> None:
    _, derivative = fw.linearize(lambda x: fw.tensor(5.0), fw.tensor(2.0))
    assert derivative(fw.tensor(1.0)).item() == 0.0


def test_perturbations_are_not_confused() -> None:
    one = fw.tensor(1.0)

    def inner(x: Any) -> Any:
        return x * fw.linearize(lambda y: x + y, one)[1](one)

    assert fw.grad(inner)(one).item() == 1.0
    assert fw.jvp(inner, (one,), (one,))[1].item() == 1.0
    assert fw.linearize(inner, one)[1](one).item() == 1.0
    for transform in (fw.grad, lambda f: lambda x: fw.jvp(f, (x,), (one,))[1]):
        assert fw.linearize(lambda x, t=transform: x * t(lambda y: x + y)(one), one)[1](one).item() == 1.0


def test_errors_teach() -> None:
    with pytest.raises(DTypeError, match=r"linearize needs floating-point inputs, got int64; use \.astype"):
        fw.linearize(lambda x: x, fw.tensor(1))
    _, derivative = fw.linearize(lambda x: x * x, fw.tensor([1.0, 2.0]))
    with pytest.raises(ShapeError, match=r"tangent of an array of shape \(2,\) has that shape, got \(3,\)"):
        derivative(fw.tensor([1.0, 2.0, 3.0]))
    with pytest.raises(GradientError, match="at 1 arrays takes as many tangents, got 2"):
        derivative(fw.tensor([1.0, 2.0]), fw.tensor([1.0, 2.0]))
