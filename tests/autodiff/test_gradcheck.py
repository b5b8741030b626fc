"""The checker of derivatives finds wrong ones, and only these."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import pytest

import framework as fw
from framework.autodiff import PRIMITIVES, ops
from framework.autodiff.kinds import elementwise
from framework.autodiff.primitive import expose, primitive

_NUMBERS = count()


@pytest.fixture
def made_up() -> Iterator[Callable[..., Any]]:
    """Declares primitives for the time of a test: `made_up(partial, …)` or `made_up(vjp=…, jvp=…)`."""
    names: list[str] = []

    def declare(*partials: Any, forward: Any, **rules: Any) -> Any:
        name = f"made_up_{next(_NUMBERS)}"  # never one of before: a namespace remembers the functions it has found
        names.append(name)
        if partials:
            return elementwise(name, *partials, forward=forward, keep=((0,), (1,)), keep_out=(0,))
        return expose(name, primitive(name, arity=1, forward=forward, keep=((0,),), **rules))

    yield declare
    for name in names:
        del PRIMITIVES[name]
        delattr(ops, name)


def point(*values: float) -> Any:
    return fw.tensor(values, dtype="float64")


X = (0.3, -0.7)


def test_a_right_rule_passes(made_up: Any) -> None:
    f = made_up(lambda ns, t, out, x: t * (2 * x), forward=lambda ns, x: x * x)
    assert fw.gradcheck(f, point(*X)) is True


@pytest.mark.parametrize("factor", [2.001 / 2, -1.0, 0.0, 1.0001])
def test_a_wrong_factor_is_found(made_up: Any, factor: float) -> None:
    f = made_up(lambda ns, t, out, x: t * (2 * factor * x), forward=lambda ns, x: x * x)
    with pytest.raises(fw.errors.GradientError, match="reverse mode: d output"):
        fw.gradcheck(f, point(*X))


@pytest.mark.parametrize("size", [1e-7, 1e-8])
def test_a_wrong_sign_of_a_tiny_gradient_is_found(made_up: Any, size: float) -> None:
    f = made_up(lambda ns, t, out, x: -t * size, forward=lambda ns, x: x * size)
    with pytest.raises(fw.errors.GradientError):
        fw.gradcheck(f, point(*X))


def test_a_tiny_gradient_that_is_right_passes(made_up: Any) -> None:
    f = made_up(lambda ns, t, out, x: t * 1e-8, forward=lambda ns, x: x * 1e-8)
    assert fw.gradcheck(f, point(*X))


def test_a_wrong_forward_rule_alone_is_found(made_up: Any) -> None:
    f = made_up(
        forward=lambda ns, x: x * x,
        vjp=lambda ns, g, needs, out, residual, x: (g * 2 * x,),
        jvp=lambda ns, tangents, out, x: tangents[0] * 2.001 * x,
    )
    with pytest.raises(fw.errors.GradientError, match="forward mode"):
        fw.gradcheck(f, point(*X))


def test_a_wrong_reverse_rule_alone_is_found(made_up: Any) -> None:
    f = made_up(
        forward=lambda ns, x: x * x,
        vjp=lambda ns, g, needs, out, residual, x: (g * 2.001 * x,),
        jvp=lambda ns, tangents, out, x: tangents[0] * 2 * x,
    )
    with pytest.raises(fw.errors.GradientError, match="reverse mode"):
        fw.gradcheck(f, point(*X))


def test_a_forgotten_gradient_is_found(made_up: Any) -> None:
    f = made_up(lambda ns, t, out, x, y: t * y, None, forward=lambda ns, x, y: x * y)
    with pytest.raises(fw.errors.GradientError, match=r"d input 1\[0\]"):
        fw.gradcheck(f, [point(*X), point(2.0, 3.0)])


def test_one_row_where_all_should_be_summed_is_found(made_up: Any) -> None:
    """A rule that un-broadcasts by itself, and wrongly, so that the shape is right."""

    def vjp(ns: Any, g: Any, needs: Any, out: Any, residual: Any, x: Any) -> Any:
        return (g[:1, :],)

    f = made_up(
        forward=lambda ns, x: ns.broadcast_to(x, (3, 2)),
        vjp=vjp,
        jvp=lambda ns, tangents, out, x: ns.broadcast_to(tangents[0], (3, 2)),
    )
    with pytest.raises(fw.errors.GradientError, match="reverse mode"):
        fw.gradcheck(f, fw.tensor([X], dtype="float64"))


def test_a_rule_that_is_wrong_in_second_order_is_found_in_the_derivative(made_up: Any) -> None:
    f = made_up(lambda ns, t, out, x: t * 2 * ops.stop_gradient(x), forward=lambda ns, x: x * x)

    def derivative(x: Any) -> Any:
        return fw.jvp(f, (x,), (ops.ones_like(x),))[1]

    fw.jvp(f, (point(*X),), (point(1.0, 1.0),))
    with pytest.raises(fw.errors.GradientError):
        fw.gradcheck(derivative, point(*X))


def test_a_derivative_that_is_nan_is_found(made_up: Any) -> None:
    f = made_up(lambda ns, t, out, x: t * float("nan"), forward=lambda ns, x: x * x)
    with pytest.raises(fw.errors.GradientError, match="nan"):
        fw.gradcheck(f, point(*X))


def test_the_message_names_place_and_values(made_up: Any) -> None:
    def partial(ns: Any, t: Any, out: Any, x: Any) -> Any:
        return t * (2 * x) + t * ns.astype(x > 1, x.dtype)

    f = made_up(partial, forward=lambda ns, x: x * x)
    with pytest.raises(
        fw.errors.GradientError, match=r"d output 0\[1\] / d input 0\[1\].* is 5\.0, .* give (4\.0|3\.9)"
    ):
        fw.gradcheck(f, point(0.5, 2.0))


def test_every_result_of_a_tree_is_checked(made_up: Any) -> None:
    good = made_up(lambda ns, t, out, x: t * (2 * x), forward=lambda ns, x: x * x)
    bad = made_up(lambda ns, t, out, x: t * (3 * x), forward=lambda ns, x: x * x)
    assert fw.gradcheck(lambda x: {"a": good(x), "b": [good(x), good(x).sum()]}, point(*X))
    with pytest.raises(fw.errors.GradientError, match="d output 1"):
        fw.gradcheck(lambda x: {"a": good(x), "b": (bad(x),)}, point(*X))


def test_integer_inputs_and_results_are_passed_on() -> None:
    x, i = point(1.0, 2.0, 3.0), fw.tensor([2, 0, 2])
    assert fw.gradcheck(lambda x, i: (x[i], ops.argmax(x)), [x, i])


def test_noise_of_large_values_is_no_error() -> None:
    assert fw.gradcheck(lambda x: x * 3.0 + 1e6, point(*X))


def test_float32_is_refused() -> None:
    with pytest.raises(fw.errors.DTypeError, match="gradcheck needs float64, input 1 is float32"):
        fw.gradcheck(lambda x, y: x * y, [point(*X), fw.tensor(X, dtype="float32")])


def test_a_tracked_input_is_left_alone() -> None:
    x = point(*X).requires_grad_()
    assert fw.gradcheck(lambda x: x * x, x)
    assert x.grad is None


def test_a_kink_is_no_place_to_check() -> None:
    with pytest.raises(fw.errors.GradientError):
        fw.gradcheck(ops.relu, point(0.0))


# -- complex numbers -------------------------------------------------------------------------------------

Z = (0.3 - 0.2j, -0.7 + 1.1j)


def complex_point(*values: complex) -> Any:
    return fw.tensor(values, dtype="complex128")


def test_complex_functions_pass() -> None:
    z = complex_point(*Z)
    for f in (
        lambda z: z * z + 2j * z,
        lambda z: (z * (1 + 2j)).sum() / (z[0] + 3.0),
        lambda z: ops.exp(z) * ops.sin(z),
    ):
        assert fw.gradcheck(f, z, order=2)
    assert fw.gradcheck(lambda z, x: z * x, [z, point(*X)], order=2)


def conjugate_by_hand(made_up: Any, transposed: bool = True) -> Any:
    """The conjugate, whose rule is where conventions differ."""
    return made_up(
        forward=lambda ns, x: ns.conj(x),
        vjp=lambda ns, g, needs, out, residual, x: (ns.conj(g) if transposed else g,),
        jvp=lambda ns, tangents, out, x: ns.conj(tangents[0]),
    )


def test_functions_that_are_not_holomorphic(made_up: Any) -> None:
    conjugate = conjugate_by_hand(made_up)
    assert fw.gradcheck(lambda z: conjugate(z) * z * 2j, complex_point(*Z))
    with pytest.raises(fw.errors.GradientError, match=r"reverse mode: .* along the imaginary axis"):
        fw.gradcheck(conjugate_by_hand(made_up, transposed=False), complex_point(*Z))


def test_the_conjugated_convention_is_found(made_up: Any) -> None:
    """A rule that conjugates the factor is right in PyTorch's convention and wrong in JAX's."""
    f = made_up(
        forward=lambda ns, x: x * (1 + 2j),
        vjp=lambda ns, g, needs, out, residual, x: (g * (1 - 2j),),
        jvp=lambda ns, tangents, out, x: tangents[0] * (1 + 2j),
    )
    with pytest.raises(fw.errors.GradientError, match="reverse mode"):
        fw.gradcheck(f, complex_point(*Z))


def test_a_derivative_that_forgets_the_imaginary_axis_is_found(made_up: Any) -> None:
    f = made_up(
        forward=lambda ns, x: x * x,
        vjp=lambda ns, g, needs, out, residual, x: (g * 2 * x,),
        jvp=lambda ns, tangents, out, x: 2 * x * ns.astype(ns.real(tangents[0]), x.dtype),
    )
    with pytest.raises(fw.errors.GradientError, match="forward mode: .* along the imaginary axis"):
        fw.gradcheck(f, complex_point(*Z))


def test_single_precision_complex_is_refused() -> None:
    with pytest.raises(fw.errors.DTypeError, match="gradcheck needs float64, input 0 is complex64"):
        fw.gradcheck(lambda z: z * z, fw.tensor(Z, dtype="complex64"))


# -- nested inputs ---------------------------------------------------------------------------------------


def test_nested_inputs(made_up: Any) -> None:
    params = {"w": [point(1.0, 2.0), point(3.0)], "n": fw.tensor([1, 0]), "b": (point(0.5), None)}
    good = made_up(lambda ns, t, out, x: t * (2 * x), forward=lambda ns, x: x * x)
    bad = made_up(lambda ns, t, out, x: t * x, forward=lambda ns, x: x * x)

    def f(square: Any) -> Any:
        return lambda x, p: {"y": x * p["w"][0][p["n"]] + square(p["w"][1]), "z": p["b"][0] * 2}

    assert fw.gradcheck(f(good), [point(*X), params], order=2)
    with pytest.raises(fw.errors.GradientError, match=r"d input 1\['w'\]\[1\]\[0\]"):
        fw.gradcheck(f(bad), [point(*X), params])
    with pytest.raises(fw.errors.DTypeError, match=r"input 0\['a'\] is float32"):
        fw.gradcheck(lambda d: d["a"], {"a": fw.tensor(1.0)})


# -- higher order ----------------------------------------------------------------------------------------


def test_second_order_of_right_rules(made_up: Any) -> None:
    f = made_up(lambda ns, t, out, x: t * (3 * x * x), forward=lambda ns, x: x * x * x)
    assert fw.gradcheck(lambda x: f(x) * ops.sin(x), point(*X), order=2)
    assert fw.gradcheck(f, point(0.5), order=3)


def wrong_in_second_order(made_up: Any, mode: str) -> Any:
    """x² whose first derivatives are right and whose second one, through the rule of one mode, is 0 instead of 2."""

    def factor(ns: Any, x: Any, held: bool) -> Any:
        return 2 * (ops.stop_gradient(x) if held and ns is ops else x)

    return made_up(
        forward=lambda ns, x: x * x,
        vjp=lambda ns, g, needs, out, residual, x: (g * factor(ns, x, mode == "reverse"),),
        jvp=lambda ns, tangents, out, x: tangents[0] * factor(ns, x, mode == "forward"),
    )


@pytest.mark.parametrize("mode", ["reverse", "forward"])
def test_a_wrong_second_derivative_of_one_mode_is_found(made_up: Any, mode: str) -> None:
    f = wrong_in_second_order(made_up, mode)
    assert fw.gradcheck(f, point(*X))
    with pytest.raises(fw.errors.GradientError, match=f"in the {mode} derivative, of its inputs and a direction"):
        fw.gradcheck(f, point(*X), order=2)


def test_order_is_at_least_one() -> None:
    with pytest.raises(fw.errors.ConfigError, match="order must be at least 1, got 0"):
        fw.gradcheck(lambda x: x, point(*X), order=0)
