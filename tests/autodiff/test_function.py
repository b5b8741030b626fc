"""Function: forward and backward as in PyTorch, under every transform."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from ways import BASIC, ONE, THREE, TWO, check_ways, names, t, values, wave

import framework as fw
from framework.autodiff import ops
from framework.errors import GradientError, ShapeError


class Saved(fw.Function):
    """Inputs and the result are saved."""

    @staticmethod
    def forward(ctx: Any, x: Any, w: Any) -> Any:
        y = ops.sin(x * w) * ops.exp(x)
        ctx.save_for_backward(x, w, y)
        return y

    @staticmethod
    def backward(ctx: Any, g: Any) -> Any:
        x, w, y = ctx.saved_tensors
        return g * (w * ops.cos(x * w) * ops.exp(x) + y), g * x * ops.cos(x * w) * ops.exp(x)


class Attributes(fw.Function):
    """Two results, and inputs kept as attributes."""

    @staticmethod
    def forward(ctx: Any, x: Any, w: Any, n: int) -> Any:
        ctx.x, ctx.w, ctx.n = x, w, n
        return ops.sin(x * w) * n, ops.exp(x)

    @staticmethod
    def backward(ctx: Any, g: Any, h: Any) -> Any:
        c = ops.cos(ctx.x * ctx.w) * ctx.n
        return g * ctx.w * c + h * ops.exp(ctx.x), g * ctx.x * c, None


def of_attributes(x: Any, w: Any) -> Any:
    s, e = Attributes.apply(x, w, 3)
    return s * e / 3.0


FORMS = {"saved": Saved.apply, "attributes": of_attributes}
forms = pytest.mark.parametrize("form", FORMS)


@forms
@pytest.mark.parametrize("ways", [*ONE, *TWO], ids=names)
def test_derivatives_of_one_and_two_orders(form: str, ways: Any) -> None:
    check_ways(FORMS[form], wave, ways, 1e-12)


@pytest.mark.slow
@forms
@pytest.mark.parametrize("ways", THREE, ids=names)
def test_derivatives_of_three_orders(form: str, ways: Any) -> None:
    check_ways(FORMS[form], wave, ways, 1e-12)


@forms
@pytest.mark.parametrize("way", BASIC, ids=lambda w: w.__name__[3:])
def test_through_a_checkpoint_and_on_the_strict_backend(form: str, way: Any) -> None:
    with fw.use_backend("strict"):
        np.testing.assert_allclose(values(fw.checkpoint(FORMS[form]), [way]), values(wave, [way]), rtol=1e-12)


@forms
def test_against_central_differences(form: str) -> None:
    x, w = t([[0.3, -0.7, 1.1], [0.2, 0.4, -0.9]]), t([[1.3, 0.2, -0.4], [0.1, 0.5, 0.6]])
    assert fw.gradcheck(FORMS[form], [x, w])


@forms
def test_double_backward(form: str) -> None:
    def gradients(f: Any) -> list[float]:
        x, w = t(0.7, requires_grad=True), t(1.3, requires_grad=True)
        f(x, w).backward(create_graph=True)
        first = x.grad.item(), w.grad.item()
        penalty = x.grad**2 + w.grad**3
        x.grad = w.grad = None
        penalty.backward()
        return [*first, x.grad.item(), w.grad.item()]

    assert gradients(FORMS[form]) == pytest.approx(gradients(wave), rel=1e-12)


# -- the context ---------------------------------------------------------------------------------------------


def function(forward: Any, backward: Any) -> Any:
    """A Function of these two."""
    return type("Made", (fw.Function,), {"forward": staticmethod(forward), "backward": staticmethod(backward)})


def test_numpy_inside() -> None:
    def forward(ctx: Any, x: Any) -> Any:
        assert not x.requires_grad
        y = np.cumsum(x.numpy())
        return fw.tensor(y)

    f = function(forward, lambda ctx, g: fw.tensor(np.cumsum(g.numpy()[::-1])[::-1].copy()))
    x = t([1.0, 2.0, 3.0], requires_grad=True)
    f.apply(x).sum().backward()
    assert x.grad.tolist() == [3.0, 2.0, 1.0]
    assert fw.grad(lambda x: (f.apply(x) ** 2).sum())(t([1.0, 2.0])).tolist() == [8.0, 6.0]


def test_needs_input_grad_and_arguments_that_are_no_tensors() -> None:
    seen = []

    def backward(ctx: Any, g: Any) -> Any:
        seen.append(ctx.needs_input_grad)
        return g, None, None if not ctx.needs_input_grad[2] else g * 2.0, None

    f = function(lambda ctx, a, mode, b, options: a + 2.0 * b if mode == "sum" else a, backward)
    x = t([1.0], requires_grad=True)
    f.apply(x, "sum", t([2.0]), {"k": [t(1.0)]}).sum().backward()
    f.apply(t([2.0]), "sum", x, None).sum().backward()
    fw.jvp(lambda x: f.apply(x, "sum", t([2.0]), None), (t([1.0]),), (t([1.0]),))
    assert seen == [(True, False, False, False), (False, False, True, False), (True, False, False, False)]
    assert x.grad.tolist() == [3.0]


def test_none_is_zero_and_gradients_nobody_wants_are_ignored() -> None:
    f = function(lambda ctx, a, b: a * b, lambda ctx, g: (None, g * 100.0))
    a, b = t([1.0], requires_grad=True), t([2.0])
    f.apply(a, b).sum().backward()
    assert a.grad is None
    assert fw.grad(lambda a: f.apply(a, b).sum())(a.detach()).tolist() == [0.0]
    assert fw.jvp(lambda a: f.apply(a, b), (a.detach(),), (b,))[1].tolist() == [0.0]


@pytest.mark.parametrize("fills", [True, False])
def test_materialized_gradients(fills: bool) -> None:
    seen = []

    def forward(ctx: Any, x: Any) -> Any:
        ctx.set_materialize_grads(fills)
        return x * 2.0, x * 3.0

    def backward(ctx: Any, g: Any, h: Any) -> Any:
        seen.append(h)
        return 2.0 * g

    x = t([1.0, 2.0], requires_grad=True)
    function(forward, backward).apply(x)[0].sum().backward()
    assert (seen[0].tolist() == [0.0, 0.0]) if fills else (seen[0] is None)
    assert x.grad.tolist() == [2.0, 2.0]


def test_results_without_a_gradient() -> None:
    def forward(ctx: Any, x: Any) -> Any:
        order = ops.argsort(x)
        sign = ops.sign(x)
        ctx.mark_non_differentiable(sign)
        ctx.save_for_backward(order)
        return x * 2.0, sign, order

    f = function(forward, lambda ctx, g, h, i: 2.0 * g)
    x = t([1.0, -2.0], requires_grad=True)
    y, sign, order = f.apply(x)
    assert (y.requires_grad, sign.requires_grad, order.requires_grad) == (True, False, False)
    assert (sign.tolist(), order.tolist()) == ([1.0, -1.0], [1, 0])
    _, (_, along_sign, _) = fw.jvp(f.apply, (x.detach(),), (t([1.0, 1.0]),))
    assert along_sign.tolist() == [0.0, 0.0]


def test_an_input_that_is_returned_as_it_is() -> None:
    f = function(lambda ctx, x: x, lambda ctx, g: 10.0 * g)
    x = t([1.0, 2.0], requires_grad=True)
    y = f.apply(x)
    assert y is not x
    y.sum().backward()
    assert x.grad.tolist() == [10.0, 10.0]


def test_a_gradient_is_summed_over_axes_of_broadcasting() -> None:
    f = function(lambda ctx, x, y: x + y, lambda ctx, g: (g, g))
    x, y = t([[1.0], [2.0]]), t([1.0, 2.0, 3.0])
    of_x, of_y = fw.grad(lambda x, y: f.apply(x, y).sum(), (0, 1))(x, y)
    assert (of_x.tolist(), of_y.tolist()) == ([[3.0], [3.0]], [2.0, 2.0, 2.0])
    assert fw.gradcheck(f.apply, [x, y])


def test_saved_intermediates_are_constants_of_a_second_derivative() -> None:
    def forward(ctx: Any, x: Any) -> Any:
        e = ops.exp(x)
        ctx.save_for_backward(e)
        return e * 2.0

    f = function(forward, lambda ctx, g: g * ctx.saved_tensors[0] * 2.0)
    assert fw.grad(f.apply)(t(0.0)).item() == 2.0
    assert fw.grad(fw.grad(f.apply))(t(0.0)).item() == 0.0


def test_what_forward_closes_over_is_a_constant() -> None:
    w, x = t(3.0, requires_grad=True), t(2.0, requires_grad=True)
    f = function(lambda ctx, x: x * w, lambda ctx, g: g * w.detach())
    f.apply(x).backward()
    assert (x.grad.item(), w.grad) == (3.0, None)
    assert not f.apply(x.detach()).requires_grad
    assert fw.grad(lambda w: function(lambda ctx, x: x * w, lambda ctx, g: g).apply(t(1.0)) + w)(t(3.0)).item() == 1.0
    assert (
        fw.jvp(lambda w: function(lambda ctx, x: x * w, None).apply(t(1.0)) + w, (t(3.0),), (t(1.0),))[1].item() == 1.0
    )


def test_under_no_grad_and_without_tracking() -> None:
    x = t(0.5, requires_grad=True)
    with fw.no_grad():
        assert not Saved.apply(x, x).requires_grad
    assert not Saved.apply(x.detach(), t(1.0)).requires_grad


def test_per_sample_gradients_of_a_function_of_numpy_are_refused() -> None:
    f = function(lambda ctx, x: fw.tensor(np.exp(x.numpy())), lambda ctx, g: g)
    with pytest.raises(GradientError, match=r"framework\.numpy"):
        fw.vmap(f.apply)(t([1.0, 2.0]))


# -- memory --------------------------------------------------------------------------------------------------


class Watched(np.ndarray):
    """An array that can be watched."""


@pytest.fixture
def no_gc() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def test_saved_tensors_go_with_backward(no_gc: None) -> None:
    seen = []

    def forward(ctx: Any, x: Any) -> Any:
        e = ops.exp(x)
        seen.append(weakref.ref(e._data))
        ctx.save_for_backward(e)
        ctx.again = e
        return e * 1.0

    x = ops.asarray(np.array([1.0, 2.0]).view(Watched)).requires_grad_()
    y = function(forward, lambda ctx, g: g * ctx.saved_tensors[0]).apply(x)
    assert seen[0]() is not None
    y.sum().backward()
    assert seen[0]() is None
    with pytest.raises(GradientError, match="second time"):
        y.sum().backward()


def test_only_what_is_saved_is_kept(no_gc: None) -> None:
    x = ops.asarray(np.array([1.0, 2.0]).view(Watched)).requires_grad_()
    h = ops.exp(x)
    seen = weakref.ref(h._data)
    y = function(lambda ctx, h: h * 2.0, lambda ctx, g: g * 2.0).apply(h + 0.0)
    z = function(lambda ctx, h: h * 2.0, lambda ctx, g: g * 2.0).apply(x)
    assert z._node.parents[0].saved[2:] == (None,)
    assert seen() is not None
    del h
    y.sum().backward()
    assert seen() is None


@pytest.mark.parametrize("way", ["backward", "create_graph", "vmap", "jvp"])
def test_there_are_no_reference_cycles(way: str, no_gc: None) -> None:
    def run() -> None:
        x, w = t([0.7, 0.2], requires_grad=True), t([1.3, 0.4], requires_grad=True)
        if way == "jvp":
            fw.jvp(Saved.apply, (x.detach(), w.detach()), (x.detach(), w.detach()))
            return
        f = fw.vmap(Saved.apply) if way == "vmap" else Saved.apply
        f(x, w).sum().backward(create_graph=way == "create_graph")
        x.grad = w.grad = None

    run()
    gc.collect()
    run()
    assert gc.collect() == 0


@pytest.mark.parametrize("kept", ["saved", "attribute", "detached"])
def test_a_saved_weight_that_was_overwritten(kept: str) -> None:
    def forward(ctx: Any, x: Any, w: Any) -> Any:
        if kept == "attribute":
            ctx.w = w
        else:
            ctx.save_for_backward(w if kept == "saved" else w.detach())
        return x * w

    def run(f: Any) -> None:
        w, x = fw.nn.Parameter(t([2.0])), t([3.0], requires_grad=True)
        step = fw.optim.SGD([w], lr=0.1)
        y = f.apply(x, w)
        w.grad = t([1.0])
        step.step()
        y.sum().backward()

    with pytest.raises(GradientError, match="overwritten"):
        run(function(forward, lambda ctx, g: (g, g)))
    run(function(lambda ctx, x, w: x * w, lambda ctx, g: (g, g)))  # nothing kept, nothing overwritten


# -- errors --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("grads", "error", "match"),
    [
        (lambda g: g, GradientError, r"Made\.backward returned 1 gradients for the 3 arguments of forward"),
        (lambda g: (g, g), GradientError, "returned 2 gradients for the 3 arguments"),
        (lambda g: (g, g, None, g), GradientError, "returned 4 gradients for the 3 arguments"),
        (lambda g: (g, g, g), GradientError, "argument 2, which is no Tensor"),
        (lambda g: (g, g[:1], None), ShapeError, r"gradient of shape \(1,\) for argument 1 of shape \(2,\)"),
        (lambda g: (g.sum(), g, None), ShapeError, r"gradient of shape \(\) for argument 0 of shape \(2,\)"),
    ],
)
def test_gradients_that_do_not_fit(grads: Any, error: Any, match: str) -> None:
    f = function(lambda ctx, x, y, n: x * y * n, lambda ctx, g: grads(g))
    x, y = t([1.0, 2.0], requires_grad=True), t([1.0, 2.0], requires_grad=True)
    with pytest.raises(error, match=match):
        f.apply(x, y, 3).sum().backward()


def test_more_gradients_than_arguments_if_they_are_none() -> None:
    x = t([1.0, 2.0], requires_grad=True)
    function(lambda ctx, x: x * 2.0, lambda ctx, g: (g, None, None)).apply(x).sum().backward()
    assert x.grad.tolist() == [1.0, 1.0]


def test_misuse() -> None:
    with pytest.raises(GradientError, match=r"write Saved\.apply"):
        Saved()
    with pytest.raises(GradientError, match="static method forward"):
        type("Empty", (fw.Function,), {}).apply(t(1.0))
    only_forward = type("Half", (fw.Function,), {"forward": staticmethod(lambda ctx, x: x * 2.0)})
    with pytest.raises(GradientError, match="static method backward"):
        only_forward.apply(t(1.0, requires_grad=True)).backward()
    with pytest.raises(GradientError, match=r"Made\.forward returns Tensors, got ndarray"):
        function(lambda ctx, x: x.numpy(), None).apply(t(1.0))
    with pytest.raises(GradientError, match="keeps Tensors, got int"):
        function(lambda ctx, x: ctx.save_for_backward(3), None).apply(t(1.0))


# -- PyTorch -------------------------------------------------------------------------------------------------

SOURCE = """
class Cube(Function):
    @staticmethod
    def forward(ctx, x, w, n):
        y = x ** 3 * w
        ctx.save_for_backward(x, w)
        ctx.n = n
        return y * n, x * 2.0

    @staticmethod
    def backward(ctx, g, h):
        x, w = ctx.saved_tensors
        dx = dw = None
        if ctx.needs_input_grad[0]:
            dx = CubeBackward.apply(g, x, w) * ctx.n + 2.0 * h
        if ctx.needs_input_grad[1]:
            dw = g * x ** 3 * ctx.n
        return dx, dw, None

class CubeBackward(Function):
    @staticmethod
    def forward(ctx, g, x, w):
        ctx.save_for_backward(g, x, w)
        return g * 3.0 * x ** 2 * w

    @staticmethod
    def backward(ctx, gg):
        g, x, w = ctx.saved_tensors
        return gg * 3.0 * x ** 2 * w, gg * g * 7.0 * x * w, gg * g * 3.0 * x ** 2
"""


@pytest.mark.reference
@pytest.mark.filterwarnings("ignore:Using backward:UserWarning")  # of torch, about cycles
def test_against_torch() -> None:
    """Rules that are no derivatives (7 in place of 6) show what each backward uses."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    theirs: dict[str, Any] = {"Function": torch.autograd.Function}
    ours: dict[str, Any] = {"Function": fw.Function}
    exec(SOURCE, theirs)
    exec(SOURCE, ours)

    def run(cube: Any, x: Any, w: Any) -> list[Any]:
        y, z = cube.apply(x, w, 2.0)
        (y**2 + z).sum().backward(create_graph=True)
        first = x.grad, w.grad
        x.grad = w.grad = None
        (first[0] ** 2).sum().backward(retain_graph=True)
        second = x.grad, w.grad
        x.grad = w.grad = None
        return [*first, *second]

    x, w = np.array([0.3, -0.8]), np.array([0.6, 1.2])
    got = run(ours["Cube"], t(x, requires_grad=True), t(w, requires_grad=True))
    expected = run(theirs["Cube"], *[torch.tensor(a, requires_grad=True) for a in (x, w)])
    for a, b in zip(got, expected):
        np.testing.assert_allclose(a.detach().numpy(), b.detach().numpy(), rtol=1e-12)
    y, z = ours["Cube"].apply(t(x), t(w, requires_grad=True), 1.0)
    expected = theirs["Cube"].apply(torch.tensor(x), torch.tensor(w, requires_grad=True), 1.0)
    assert [y.requires_grad, z.requires_grad] == [e.requires_grad for e in expected]
