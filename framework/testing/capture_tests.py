"""Conformance: what `capture` makes of a program computes what eager execution does."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from framework.autodiff import PRIMITIVES, Tensor, ops, tensor, value_and_grad, vjp
from framework.autodiff.namespace import namespace_of
from framework.autodiff.tracing import graph, on_arrays
from framework.backend import Backend
from framework.backend import dtypes as dt
from framework.backend.program import Operation, Program, Value
from framework.testing.kit import TOLERANCE, Kit, close, on_host
from framework.testing.primitive_tests import Call, runs_in, widest
from framework.testing.samples import TABLE, Draw, samples

Arrays = tuple[Any, ...]

CAPTURED = [name for name in PRIMITIVES if name in TABLE and any(sample.batch for sample in samples(name))]
"""Primitives whose shapes do not depend on values."""


def captured(b: Backend, fn: Callable[..., Any], *given: Tensor) -> Callable[..., Arrays]:
    """The function of raw arrays that the backend makes of what `fn` does with these Tensors."""
    return b.capture(on_arrays(graph(fn, *given), namespace_of(b)))


def _mlp(d: Draw) -> list[np.ndarray]:
    """A batch of five, its targets, and the weights and biases of two layers."""
    return [d.signed(5, 4), d.integers(0, 3, 5), d.signed(6, 4), d.signed(6), d.signed(3, 6), d.signed(3)]


def _step(x: Any, targets: Any, *params: Any) -> Any:
    """Loss and gradients of a small network."""

    def loss(w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
        hidden = ops.relu(ops.linear(x, w1, b1))
        return ops.softmax_cross_entropy(ops.linear(hidden, w2, b2), targets)

    return value_and_grad(loss, argnums=(0, 1, 2, 3))(*params)


class CaptureTests(Kit):
    """Recorded programs."""

    @pytest.mark.parametrize("name", CAPTURED)
    def test_capture_of_primitive(self, b: Backend, name: str) -> None:
        """A program of one primitive and its gradients gives what they give, for other values, too."""
        for d in (*(d for d, _ in widest(b)), dt.int64, dt.bool_):
            number = next((i for i, s in enumerate(samples(name)) if runs_in(b, s, d) and s.batch), None)
            if number is None:
                continue
            first, second = (Call(b, name, number, d, draw=draw) for draw in (0, 1))
            fn = _with_gradients(first)
            run = captured(b, fn, *(first.inputs[i] for i in first.present))
            for call in (first, second):
                given = [call.inputs[i] for i in call.present]
                _compare(b, run(*(x._data for x in given)), fn(*given), call.what)

    def test_capture_of_a_gradient(self, b: Backend) -> None:
        """Loss and gradients of a network, on every device."""
        d = widest(b)[0][0]
        for device in b.devices:
            first, second = ([_place(b, x, d, device) for x in _mlp(Draw("mlp", which))] for which in (0, 1))
            run = captured(b, _step, *first)
            for which, given in (("first", first), ("second", second)):
                outs = run(*(x._data for x in given))
                assert {b.device_of(out) for out in outs} == {device}
                loss, gradients = _step(*given)
                _compare(b, outs, (loss, *gradients), f"the {which} values, on {device}")

    def test_capture_shares_nothing(self, b: Backend) -> None:
        """A call leaves inputs and constants alone, and its results stay what they are after another call."""
        d = widest(b)[0][0]
        data = _mlp(Draw("mlp", 0))
        constants, params = ([_place(b, x, d) for x in part] for part in (data[:2], data[2:]))
        run = captured(b, lambda *params: _step(*constants, *params), *params)
        kept = [on_host(b, x._data).copy() for x in (*constants, *params)]
        first = run(*(x._data for x in params))
        before = [on_host(b, out).copy() for out in first]
        second = run(*(2.0 * x._data for x in params))
        b.synchronize()
        for out, values in zip(first, before):
            np.testing.assert_array_equal(on_host(b, out), values, err_msg="a result was overwritten by the next call")
        for x, values in zip((*constants, *params), kept):
            np.testing.assert_array_equal(on_host(b, x._data), values, err_msg="an input or a constant was changed")
        loss, gradients = _step(*constants, *(2.0 * x for x in params))
        _compare(b, second, (loss, *gradients), "a second call")

    def test_capture_into(self, b: Backend) -> None:
        """Outputs come in the arrays given for them where arrays can be written; where not, `into` is ignored."""
        d = widest(b)[0][0]
        first, second = ([_place(b, x, d) for x in _mlp(Draw("mlp", which))] for which in (0, 1))
        run = captured(b, _step, *first)
        made = run(*(x._data for x in first))
        into = tuple(b.copy(out) if i % 2 else None for i, out in enumerate(made))
        for which, given in (("first", first), ("second", second)):
            outs = run(*(x._data for x in given), into=into)
            if b.writable:
                taken = [out is target for out, target in zip(outs, into, strict=True)]
                assert taken == [target is not None for target in into]
            loss, gradients = _step(*given)
            _compare(b, outs, (loss, *gradients), f"into given arrays, the {which} values")

    @pytest.mark.parametrize("is_made", [True, False])
    def test_capture_of_an_update(self, b: Backend, is_made: bool) -> None:
        """State that is given away comes back changed, call after call, and is left alone by an update not made."""
        d = widest(b)[0][0]
        wide = dt.float64 if dt.float64 in b.dtypes else d
        p, g, v = (b.asarray(values, dtype=d) for values in ([1.0, 2.0], [0.5, -1.0], [0.25, 0.125]))
        numbers = b.asarray([0.5, 0.75, 1.0, 0.0], dtype=wide)
        run = b.capture(_update(b, d.name, wide.name))
        expected_p, expected_v = np.asarray([1.0, 2.0]), np.asarray([0.25, 0.125])
        for call in range(4):
            into = (p, v) if b.writable else None
            p, v = run(p, g, v, b.asarray(is_made, dtype=dt.bool_), numbers, into=into)
            if is_made:
                expected_v = 0.75 * expected_v + np.asarray([0.5, -1.0])
                expected_p = expected_p - 0.5 * expected_v
            close(on_host(b, p), expected_p, 10 * TOLERANCE[d.name], f"what is updated, call {call}")
            close(on_host(b, v), expected_v, 10 * TOLERANCE[d.name], f"its state, call {call}")
        close(on_host(b, g), np.asarray([0.5, -1.0]), 0.0, "the gradient, which was not given away")

    def test_capture_counts_its_inputs(self, b: Backend) -> None:
        """A program is not run with an input too few or too many."""
        x, y = (_place(b, values, widest(b)[0][0]) for values in (np.ones((2, 3)), np.full((2, 3), 2.0)))
        run = captured(b, ops.add, x, y)
        _compare(b, run(x._data, y._data), (ops.add(x, y),), "two inputs")
        for wrong in ((x._data,), (x._data, y._data, x._data)):
            with pytest.raises((TypeError, ValueError)):
                run(*wrong)


def _update(b: Backend, dtype: str, wide: str) -> Program:
    """A step with momentum: values, gradient, velocity, whether it is made, and numbers."""
    array, scalar = Value((2,), dtype), Value((), "bool")
    values = {0: array, 1: array, 2: array, 3: scalar, 4: Value((4,), wide), 5: array, 6: array}
    params = {"at": 0, "decays": False, "nesterov": False}
    operation = Operation("sgd_step", (0, 1, 2, 3, 4), params, (5, 6))
    ns = namespace_of(b)
    return Program((0, 1, 2, 3, 4), {}, (operation,), (5, 6), values, lambda name: getattr(ns, name), ((0, 5), (2, 6)))


def _with_gradients(call: Call) -> Callable[..., tuple[Tensor, ...]]:
    """The primitive with the gradients of its outputs, as a function of all inputs."""
    has_rules = call.sample.rules and call.primitive.vjp is not None and call.floats
    seeds = call.seeds() if has_rules else []

    def fn(*given: Tensor) -> tuple[Tensor, ...]:
        inputs = dict(zip(call.present, given))
        outs = call.of(call.present)(*given)
        if not has_rules:
            return outs

        def of_floats(*moved: Tensor) -> tuple[Tensor, ...]:
            now = {**inputs, **dict(zip(call.floats, moved))}
            return call.of(call.present)(*(now[i] for i in call.present))

        made, pull = vjp(of_floats, *(inputs[i] for i in call.floats))
        return (*outs, *pull(tuple(call.beside(seed, y) for seed, y in zip(seeds, made))))

    return fn


def _place(b: Backend, x: np.ndarray, d: dt.DType, device: str | None = None) -> Tensor:
    return tensor(x, dtype=d if x.dtype.kind == "f" else None, backend=b, device=device)


def _compare(b: Backend, outs: Arrays, eager: Any, what: str) -> None:
    for out, expected in zip(outs, eager, strict=True):
        assert b.owns(out), f"{what}: {b.name!r} does not own the result, a {type(out)}"
        assert b.dtype_of(out) is expected.dtype, f"{what}: got dtype {b.dtype_of(out)}, eager is {expected.dtype}"
        tolerance = 10 * TOLERANCE.get(expected.dtype.name, 0.0)
        close(on_host(b, out), on_host(b, expected._data), tolerance, f"captured, {what}")
