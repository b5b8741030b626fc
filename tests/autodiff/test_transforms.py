"""grad, value_and_grad, vjp, jvp and vmap: arguments, trees, results, and the errors they raise."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

import framework as fw
from framework.autodiff import Tensor, ops, vmap
from framework.errors import DTypeError, GradientError, ShapeError


def t(*values: float, **kwargs: Any) -> Tensor:
    return fw.tensor(values if len(values) != 1 else values[0], **{"dtype": "float64", **kwargs})


class Pair(NamedTuple):
    left: Any
    right: Any


# -- grad ------------------------------------------------------------------------------------------------


def test_grad_of_arrays_and_numbers(backend: str) -> None:
    def f(x: Any) -> Any:
        return (x**2).sum()

    with fw.use_backend(backend):
        for x in (np.array([1.0, 2.0], np.float32), [[1.0, 2.0]][0], t(1.0, 2.0, backend=backend)):
            g = (
                fw.grad(lambda v: f(ops.asarray(v) if isinstance(v, list) else v))(x)
                if not isinstance(x, list)
                else None
            )
            assert g is None or (g.tolist(), g.backend) == ([2.0, 4.0], backend)
        g = fw.grad(lambda x: x**2)(3.0)
        assert (g.item(), g.dtype, g.shape, g.backend) == (6.0, "float32", (), backend)


def test_argnums() -> None:
    def f(x: Any, y: Any, z: Any = 1.0) -> Any:
        return x * y**2 * z

    x, y = t(2.0), t(3.0)
    assert fw.grad(f)(x, y).item() == 9.0
    assert fw.grad(f, 1)(x, y).item() == 12.0
    assert fw.grad(f, -1)(x, y).item() == 12.0
    assert [g.item() for g in fw.grad(f, (1, 0))(x, y)] == [12.0, 9.0]
    assert [g.item() for g in fw.grad(f, (0,))(x, y)] == [9.0]
    assert fw.grad(f, argnum=1)(x, y, z=2.0).item() == 24.0
    with pytest.raises(GradientError, match="argnums=2, but the function was called with 2 positional arguments"):
        fw.grad(f, 2)(x, y)


def test_one_tensor_as_two_arguments() -> None:
    x = t(3.0)
    assert [g.item() for g in fw.grad(lambda a, b: a * a * b, (0, 1))(x, x)] == [18.0, 9.0]


def test_trees() -> None:
    params = {"layers": [(t(1.0, 2.0), None), Pair(t(3.0), [t(4.0)])], "empty": {}}

    def f(p: Any) -> Any:
        (w, none), pair = p["layers"]
        assert none is None
        assert isinstance(pair, Pair)
        return (w * pair.left).sum() * pair.right[0]

    value, g = fw.value_and_grad(f)(params)
    assert value.item() == 36.0
    assert isinstance(g["layers"][1], Pair)
    assert g["layers"][0][0].tolist() == [12.0, 12.0]
    assert g["layers"][0][1] is None
    assert (g["layers"][1].left.item(), g["layers"][1].right[0].item(), g["empty"]) == (12.0, 9.0, {})


def test_value_and_grad_and_aux() -> None:
    def f(x: Any) -> Any:
        return (x * x).sum(), {"double": x * 2, "name": "aux", "none": None}

    x = t(1.0, 2.0)
    (value, aux), g = fw.value_and_grad(f, has_aux=True)(x)
    assert (value.item(), g.tolist(), aux["double"].tolist(), aux["name"]) == (5.0, [2.0, 4.0], [2.0, 4.0], "aux")
    assert not aux["double"].requires_grad
    assert not value.requires_grad
    g, aux = fw.grad(f, has_aux=True)(x)
    assert (g.tolist(), aux["double"].tolist()) == ([2.0, 4.0], [2.0, 4.0])
    with pytest.raises(GradientError, match="returns a pair"):
        fw.grad(lambda x: x.sum(), has_aux=True)(x)


def test_aux_keeps_what_is_outside() -> None:
    """Aux is a value like any other to the transforms around this one."""

    def f(x: Any) -> Any:
        return fw.grad(lambda y: (y * y, y * x), has_aux=True)(x)[1]

    x = t(3.0)
    assert fw.grad(f)(x).item() == 6.0
    assert fw.jvp(f, (x,), (t(1.0),))[1].item() == 6.0
    assert vmap(fw.grad(f))(t(3.0, 4.0)).tolist() == [6.0, 8.0]
    w = t(2.0).requires_grad_()
    f(w).backward()
    assert w.grad.item() == 4.0


def test_what_cannot_be_differentiated_teaches() -> None:
    x = t(1.0, 2.0)
    for call, error, message in (
        (lambda: fw.grad(lambda x: x * 2)(x), GradientError, r"returned shape \(2,\); use jacobian or vjp"),
        (lambda: fw.grad(lambda x: x * 2)(3), DTypeError, r"floating-point inputs, got int64; use \.astype\('float32'\) or 1\.0 for 1"),
        (lambda: fw.grad(lambda x: x.sum())(fw.tensor([True])), DTypeError, "got bool"),
        (lambda: fw.vjp(lambda x: x, fw.tensor([1])), DTypeError, "vjp needs floating-point inputs, got int64"),
        (lambda: fw.jvp(lambda x: x, (fw.tensor([1]),), (fw.tensor([1]),)), DTypeError, "jvp needs floating-point"),
        (lambda: fw.grad(lambda x: x.argmax())(x), DTypeError, "value, this one returned int64"),
        (lambda: fw.grad(lambda x: x.sum() * 1j)(x), DTypeError, "value, this one returned complex128"),
        (lambda: fw.grad(lambda x: None)(x), GradientError, "returned 0 arrays"),
        (lambda: fw.grad(lambda x: (x.sum(), x.sum()))(x), GradientError, "returned 2 arrays.*has_aux"),
        (lambda: fw.jvp(lambda x: x, (x, x), (x,)), GradientError, "of 2 arrays needs as many tangents, got 1"),
        (lambda: fw.jvp(lambda x: x, x, x), GradientError, r"a tuple of primals.*jvp\(f, \(x,\), \(t,\)\)"),
        (lambda: fw.jvp(lambda x: x, (x,), (t(1.0),)), ShapeError, r"shape \(2,\) has that shape, got \(\)"),
        (lambda: fw.vjp(lambda x: x, x)[1](t(1.0)), ShapeError, r"shape \(2,\) has that shape, got \(\)"),
        (lambda: fw.vjp(lambda x: (x, x), x)[1](x), GradientError, "2 results needs as many, got 1"),
    ):  # fmt: skip
        with pytest.raises(error, match=message):
            call()  # type: ignore[no-untyped-call]


def test_a_function_that_does_not_depend_on_its_argument() -> None:
    x = t(1.0, 2.0)
    assert fw.grad(lambda x: 3.0)(x).tolist() == [0.0, 0.0]
    assert fw.grad(lambda x: ops.stop_gradient(x).sum())(x).tolist() == [0.0, 0.0]
    assert fw.jvp(lambda x: 3.0, (x,), (x,))[1].item() == 0.0
    assert vmap(lambda x: t(3.0))(x).tolist() == [3.0, 3.0]
    assert vmap(fw.grad(lambda x: 3.0))(x).tolist() == [0.0, 0.0]


def test_integer_arguments_beside() -> None:
    g = fw.grad(lambda x, i: x[i].sum())(t(1.0, 2.0), fw.tensor([1, 1]))
    assert g.tolist() == [0.0, 2.0]


def test_the_wrapped_function_keeps_its_name() -> None:
    def loss(x: Any) -> Any:
        """A loss."""

    assert (fw.grad(loss).__name__, fw.grad(loss).__doc__, vmap(loss).__name__) == ("loss", "A loss.", "loss")


def test_results_are_plain_and_untracked() -> None:
    x = t(1.0, 2.0)
    value, g = fw.value_and_grad(lambda x: (x * x).sum())(x)
    y, pull = fw.vjp(lambda x: x * x, x)
    z, tangent = fw.jvp(lambda x: x * x, (x,), (x,))
    for result in (value, g, y, *pull(x), z, tangent, vmap(lambda x: x * x)(x)):
        assert type(result) is Tensor
        assert not result.requires_grad


def test_errors_leave_nothing_behind() -> None:
    def broken(x: Any) -> Any:
        raise KeyError("mine")

    x = t(1.0)
    calls = (lambda: fw.grad(broken)(x), lambda: fw.jvp(broken, (x,), (x,)), lambda: vmap(broken)(t(1.0, 2.0)),
             lambda: vmap(fw.grad(broken))(t(1.0, 2.0)), lambda: fw.vjp(broken, x))  # fmt: skip
    for call in calls:
        with pytest.raises(KeyError, match="mine"):
            call()
        assert fw.grad(lambda x: x * x)(x).item() == 2.0
        assert not (x * 2).requires_grad


# -- vjp, jvp ----------------------------------------------------------------------------------------------


def test_a_pullback_can_be_used_again() -> None:
    y, pull = fw.vjp(lambda a, b: a * b, t(2.0), t(3.0))
    assert y.item() == 6.0
    assert [g.item() for g in pull(1.0)] == [3.0, 2.0]
    assert [g.item() for g in pull(t(2.0))] == [6.0, 4.0]


def test_vjp_of_trees() -> None:
    y, pull = fw.vjp(lambda d: {"sum": d["a"] + d["b"], "prod": [d["a"] * d["b"]]}, {"a": t(2.0), "b": t(3.0)})
    assert (y["sum"].item(), y["prod"][0].item()) == (5.0, 6.0)
    (g,) = pull({"sum": t(1.0), "prod": [t(10.0)]})
    assert (g["a"].item(), g["b"].item()) == (31.0, 21.0)


def test_a_pullback_is_linear_and_differentiable() -> None:
    _, pull = fw.vjp(lambda x: x**3, t(1.0, 2.0))
    unit = fw.tensor(np.eye(2))
    np.testing.assert_allclose(vmap(pull)(unit)[0].numpy(), np.diag([3.0, 12.0]))
    assert fw.jvp(pull, (t(1.0, 1.0),), (t(5.0, 7.0),))[1][0].tolist() == [15.0, 84.0]
    assert fw.grad(lambda c: pull(c)[0].sum())(t(1.0, 1.0)).tolist() == [3.0, 12.0]


def test_jvp_of_trees() -> None:
    y, dy = fw.jvp(lambda d, c: (d["a"] * c, [d["a"]]), ({"a": t(2.0)}, t(3.0)), ({"a": t(1.0)}, t(10.0)))
    assert (y[0].item(), y[1][0].item(), dy[0].item(), dy[1][0].item()) == (6.0, 2.0, 23.0, 1.0)


def test_tangents_take_the_primals_dtype() -> None:
    x = fw.tensor([1.0, 2.0], dtype="float32")
    _, dy = fw.jvp(lambda x: x * 2, (x,), (np.array([1.0, 0.0]),))
    assert (dy.dtype, dy.tolist()) == ("float32", [2.0, 0.0])


def test_a_value_can_be_read_inside_grad_and_jvp() -> None:
    def f(x: Any) -> Any:
        return x * x if x > 0 else -x

    assert [fw.grad(f)(t(v)).item() for v in (3.0, -3.0)] == [6.0, -1.0]
    assert [fw.jvp(f, (t(v),), (t(1.0),))[1].item() for v in (3.0, -3.0)] == [6.0, -1.0]
    assert fw.jvp(lambda x: x * float(x), (t(3.0),), (t(1.0),))[1].item() == 3.0
    assert fw.grad(fw.grad(lambda x: x**3 if x > 0 else x))(t(2.0)).item() == 12.0


def test_numpy_inside_a_transform_teaches() -> None:
    for transform in (
        lambda f: fw.grad(f)(t(1.0)),
        lambda f: fw.jvp(f, (t(1.0),), (t(1.0),)),
        lambda f: vmap(f)(t(1.0, 2.0)),
    ):
        with pytest.raises(GradientError, match=r"framework\.numpy|\.detach\(\)\.numpy\(\)"):
            transform(lambda x: np.asarray(x) * 2)
        with pytest.raises(GradientError):
            transform(lambda x: x.numpy())


def test_framework_numpy_inside_a_transform_keeps_gradients() -> None:
    import framework.numpy as fnp

    def f(x: Any) -> Any:
        return fnp.sum(fnp.array([x[0] * 2, 1.0, x[1]]) * fnp.asarray(x)[0])

    x = t(1.0, 2.0)
    assert fw.grad(f)(x).tolist() == [7.0, 1.0]
    assert fw.jvp(f, (x,), (t(1.0, 1.0),))[1].item() == 8.0
    assert vmap(fw.grad(f))(ops.stack([x, x])).tolist() == [[7.0, 1.0]] * 2


def test_a_tensor_that_left_its_transform_teaches() -> None:
    kept: list[Any] = []

    def f(x: Any) -> Any:
        kept.append(x * 2)
        return x * 2

    fw.jvp(f, (t(1.0),), (t(1.0),))
    vmap(f)(t(1.0, 2.0))
    vmap(fw.grad(f))(t(1.0, 2.0))
    for leaked, name in zip(kept, ("dual", "batch", "tape")):
        with pytest.raises(GradientError, match=f"left its {name} transform; return it"):
            leaked + 1.0


def test_backward_inside_a_transform_teaches() -> None:
    for call in (
        lambda: vmap(fw.grad(lambda x: (x * x).backward()))(t(1.0, 2.0)),
        lambda: fw.jvp(lambda x: (x * x).backward(), (t(1.0),), (t(1.0),)),
        lambda: vmap(lambda x: (x * x).backward())(t(1.0, 2.0)),
    ):
        with pytest.raises(GradientError, match=r"use fw\.grad or fw\.vjp"):
            call()


def test_stop_gradient_in_every_mode() -> None:
    def f(x: Any) -> Any:
        return ops.stop_gradient(x) * x

    x = t(3.0)
    assert fw.grad(f)(x).item() == 3.0
    assert fw.jvp(f, (x,), (t(1.0),))[1].item() == 3.0
    assert fw.grad(fw.grad(f))(x).item() == 0.0
    assert vmap(fw.grad(f))(t(3.0, 4.0)).tolist() == [3.0, 4.0]
    assert fw.grad(lambda x: vmap(f)(x).sum())(t(3.0, 4.0)).tolist() == [3.0, 4.0]
    assert fw.jvp(vmap(f), (t(3.0, 4.0),), (t(1.0, 1.0),))[1].tolist() == [3.0, 4.0]
    assert fw.grad(lambda x: x.detach() * x)(x).item() == 3.0
    assert vmap(lambda x: fw.jvp(lambda x: x.detach() * x, (x,), (x,))[1])(t(3.0, 4.0)).tolist() == [9.0, 16.0]


# -- long chains -------------------------------------------------------------------------------------------

LENGTH = 1_000_000


def chain(x: Any) -> Any:
    for _ in range(LENGTH):
        x = x + 1.0
    return x


def through_a_tape(x: Any) -> Any:
    with fw.GradientTape() as tape:
        tape.watch(x)
        y = chain(x)
    return tape.gradient(y, x)


@pytest.mark.slow
@pytest.mark.parametrize(
    "derivative",
    [
        lambda x: fw.grad(chain)(x),
        lambda x: fw.vjp(chain, x)[1](1.0)[0],
        lambda x: fw.jvp(chain, (x,), (t(1.0),))[1],
        through_a_tape,
    ],
    ids=["grad", "vjp", "jvp", "tape"],
)
def test_a_million_operations_do_not_recurse(derivative: Any) -> None:
    assert derivative(t(1.0)).item() == 1.0


def test_backward_of_no_input_teaches() -> None:
    x = t(2.0).requires_grad_()
    with pytest.raises(GradientError, match=r"inputs=…\) names no Tensor"):
        (x * x).backward(inputs=[])


def test_a_gradient_of_a_transform_is_not_given_to_backward() -> None:
    x = t(2.0).requires_grad_()
    with pytest.raises(GradientError, match=r"belongs to a transform; use fw\.vjp"):
        vmap(lambda g: (x * x).backward(g))(t(1.0, 2.0))


def test_structures_are_matched_by_key() -> None:
    """A dict of tangents or cotangents may be in any order, and must have the same keys."""
    x = {"a": t(2.0), "b": t(3.0)}
    assert fw.jvp(lambda d: d["a"] ** 2 * d["b"], (x,), ({"b": t(0.0), "a": t(1.0)},))[1].item() == 12.0
    pull = fw.vjp(lambda d: {"p": d["a"] * 2, "q": d["b"] * 3}, x)[1]
    (g,) = pull({"q": t(1.0), "p": t(10.0)})
    assert (g["a"].item(), g["b"].item()) == (20.0, 3.0)
    for call, message in (
        (lambda: fw.jvp(lambda d: d["a"], (x,), ({"a": t(1.0), "c": t(1.0)},)), r"tangents\[0\] is to be a dict with keys \['a', 'b'\], got \['a', 'c'\]"),
        (lambda: fw.jvp(lambda d: d["a"], (x,), ([t(1.0), t(1.0)],)), r"keys \['a', 'b'\], got list"),
        (lambda: fw.jvp(lambda d: d, ([t(1.0)], t(1.0)), (t(1.0), [t(1.0)])), r"tangents\[0\] is to have 1 parts, got Tensor"),
        (lambda: pull({"p": [t(1.0)], "q": t(1.0)}), r"cotangent\['p'\] is to be one array, got list"),
        (lambda: pull([t(1.0), t(1.0)]), "the cotangent is to be a dict"),
    ):  # fmt: skip
        with pytest.raises(ShapeError, match=message):
            call()  # type: ignore[no-untyped-call]


def test_aux_of_vjp_and_jvp() -> None:
    def f(x: Any) -> Any:
        return x * x, {"twice": x * 2, "name": "aux"}

    x = t(3.0)
    y, pull, aux = fw.vjp(f, x, has_aux=True)
    assert (y.item(), pull(1.0)[0].item(), aux["twice"].item(), aux["name"]) == (9.0, 6.0, 6.0, "aux")
    y, dy, aux = fw.jvp(f, (x,), (t(1.0),), has_aux=True)
    assert (y.item(), dy.item(), aux["twice"].item(), aux["name"]) == (9.0, 6.0, 6.0, "aux")
    assert not aux["twice"].requires_grad
    assert vmap(lambda x: fw.jvp(f, (x,), (x,), has_aux=True)[2]["twice"])(t(1.0, 2.0)).tolist() == [2.0, 4.0]
    with pytest.raises(GradientError, match="returns a pair"):
        fw.jvp(lambda x: x, (x,), (x,), has_aux=True)
