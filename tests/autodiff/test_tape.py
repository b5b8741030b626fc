"""The tape: what backward computes, in what order, how often, and what it refuses."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework.autodiff import Tensor
from framework.errors import DTypeError, GradientError, ShapeError


def leaf(*values: float, backend: str | None = None) -> Tensor:
    data: Any = values if len(values) > 1 else values[0]
    return fw.tensor(data, dtype="float64", backend=backend, requires_grad=True)


# -- graphs --------------------------------------------------------------------------------------


def test_fan_out_adds_up(backend: str) -> None:
    x = leaf(2.0, -1.0, backend=backend)
    (x * x + 3 * x + x.exp() * x).sum().backward()
    v = np.array([2.0, -1.0])
    np.testing.assert_allclose(x.grad.numpy(), 2 * v + 3 + np.exp(v) * (1 + v), rtol=1e-14)


def test_one_tensor_as_both_operands() -> None:
    x = leaf(3.0)
    (x * x).backward()
    assert x.grad.item() == 6.0
    x.grad = None
    (x - x).backward()
    assert x.grad.item() == 0.0


@pytest.mark.parametrize("depth", [60, 3000])
def test_a_diamond_is_linear_in_its_nodes(depth: int) -> None:
    """Two edges a storey: 2^depth paths, which no walk of paths would finish."""
    x = leaf(1.0)
    y = x
    visits = []
    for _ in range(depth):
        y = y * 0.5 + y * 0.5
        y.register_hook(lambda g: visits.append(1))
    y.backward()
    assert x.grad.item() == 1.0
    assert len(visits) == depth


def test_a_diamond_in_a_transform_is_linear_too() -> None:
    def f(x: Any) -> Any:
        for _ in range(60):
            x = x * 0.5 + x * 0.5
        return x

    assert fw.grad(f)(leaf(1.0).detach()).item() == 1.0
    assert fw.jvp(f, (fw.tensor(1.0),), (fw.tensor(1.0),))[1].item() == 1.0
    assert fw.grad(fw.grad(lambda x: f(x) * x))(fw.tensor(1.0)).item() == 2.0


def chain(length: int) -> None:
    x = leaf(1.0)
    y = x
    for _ in range(length):
        y = y + 1.0
    assert y.item() == length + 1
    y.backward()
    assert x.grad.item() == 1.0
    del y  # nor does freeing the chain recurse


def test_a_long_chain_does_not_recurse() -> None:
    before = sys.getrecursionlimit()
    assert before < 100_000
    chain(100_000)
    assert sys.getrecursionlimit() == before


@pytest.mark.slow
def test_a_million_operations_do_not_recurse() -> None:
    chain(1_000_000)


def test_a_long_chain_is_differentiated_twice_without_recursion() -> None:
    def f(x: Any) -> Any:
        y = x
        for _ in range(3000):
            y = y * 1.0
        return y * x

    assert fw.grad(fw.grad(f))(fw.tensor(3.0)).item() == 2.0


def test_freeing_a_chain_that_was_never_walked_does_not_recurse() -> None:
    y = leaf(1.0)
    for _ in range(30_000):
        y = y + 1.0
    del y


def test_hooks_run_in_the_reverse_order_of_creation() -> None:
    seen: list[int] = []
    x = leaf(1.0)
    tensors = [x]
    for k in range(5):
        tensors.append(tensors[-1] * 2 + tensors[0])
        tensors[-1].register_hook(lambda g, k=k: seen.append(k))
    tensors[-1].backward()
    assert seen == [4, 3, 2, 1, 0]


def test_unused_branches_are_not_computed() -> None:
    x, w = leaf(1.0), leaf(2.0)
    side = x * w
    side.register_hook(lambda g: pytest.fail("backward walked a branch that the root does not depend on"))
    (x * 3).backward()
    assert w.grad is None


def test_no_gradient_is_computed_for_what_is_not_tracked() -> None:
    x = leaf(1.0, 2.0)
    y = x * fw.tensor([3.0, 4.0], dtype="float64")
    assert [p is None for p in y._node.parents] == [False, True]
    assert y._node.saved[2] is None  # the constant's partner is not kept


# -- accumulation, freeing, retaining ------------------------------------------------------------------


def test_gradients_accumulate_until_cleared() -> None:
    x = leaf(1.0, 2.0)
    for k in (1, 2):
        (x * 3).sum().backward()
        assert x.grad.tolist() == [3.0 * k] * 2
    x.grad = None
    (x * 3).sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


def test_accumulation_does_not_change_the_gradient_seen_before() -> None:
    x, y = leaf(1.0), leaf(1.0)
    (x + y).backward()
    seen = x.grad.detach().clone()
    (x * 5).backward()
    assert (x.grad.item(), y.grad.item(), seen.item()) == (6.0, 1.0, 1.0)


def test_a_second_backward_through_a_freed_graph_teaches() -> None:
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    y.backward()
    with pytest.raises(GradientError, match=r"a second time.*retain_graph=True"):
        y.backward()
    assert x.grad.tolist() == [2.0, 4.0]


def test_a_graph_shared_with_a_freed_one_teaches() -> None:
    x = leaf(1.0, 2.0)
    h = x.exp()
    h.sum().backward()
    with pytest.raises(GradientError, match="a second time"):
        (h * 2).sum().backward()


def test_retain_graph() -> None:
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    y.backward(retain_graph=True)
    y.backward(retain_graph=True)
    assert x.grad.tolist() == [4.0, 8.0]
    y.backward()
    with pytest.raises(GradientError, match="a second time"):
        y.backward()


def test_create_graph_makes_gradients_differentiable() -> None:
    x = leaf(2.0)
    (x**3).backward(create_graph=True)
    first = x.grad
    assert first.requires_grad
    x.grad = None
    first.backward()
    assert (first.item(), x.grad.item()) == (12.0, 12.0)


def test_create_graph_accumulates_in_the_graph() -> None:
    x = leaf(2.0)
    (x**3).backward(create_graph=True)
    (x**2).backward(create_graph=True)
    total = x.grad
    x.grad = None
    total.backward()
    assert (total.item(), x.grad.item()) == (16.0, 14.0)


def test_a_gradient_is_not_recorded_without_create_graph() -> None:
    x = leaf(2.0)
    (x**3).backward()
    assert not x.grad.requires_grad


def test_inputs_chooses_what_accumulates() -> None:
    x, y, z = leaf(2.0), leaf(3.0), leaf(5.0)
    (x * y * z).backward(inputs=[x, z])
    assert (x.grad.item(), y.grad, z.grad.item()) == (15.0, None, 6.0)


def test_inputs_may_be_one_tensor() -> None:
    x, y = leaf(2.0, 1.0), leaf(3.0, 1.0)
    (x * y).sum().backward(inputs=x)
    assert (x.grad.tolist(), y.grad) == ([3.0, 1.0], None)


def test_inputs_that_are_no_leaves_are_refused() -> None:
    x = leaf(2.0)
    h = x * 2
    with pytest.raises(GradientError, match="takes leaves"):
        (h * h).backward(inputs=[h])
    with pytest.raises(GradientError, match="takes leaves"):
        (h * h).backward(inputs=[fw.tensor(1.0)])


def test_an_input_that_is_not_reached_keeps_no_gradient() -> None:
    x, y = leaf(2.0), leaf(1.0)
    (x * 2).backward(inputs=[x, y])
    assert (x.grad.item(), y.grad) == (2.0, None)


# -- where backward starts -----------------------------------------------------------------------------


def test_several_elements_need_a_gradient() -> None:
    x = leaf(1.0, 2.0)
    with pytest.raises(GradientError, match=r"shape \(2,\) needs the gradient that starts there"):
        (x * 2).backward()
    (x * 2).backward(fw.tensor([1.0, 10.0]))
    assert x.grad.tolist() == [2.0, 20.0]


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_one_element_needs_none(shape: tuple[int, ...]) -> None:
    x = leaf(3.0)
    (x * 2).reshape(shape).backward()
    assert x.grad.item() == 2.0


def test_the_gradient_that_starts_has_the_shape() -> None:
    with pytest.raises(ShapeError, match=r"shape \(2,\) has that shape, got \(3,\)"):
        (leaf(1.0, 2.0) * 2).backward(fw.tensor([1.0, 2.0, 3.0]))


def test_the_gradient_that_starts_may_be_an_array_or_a_number() -> None:
    x = leaf(1.0, 2.0)
    (x * 2).backward(np.array([1.0, 2.0], np.float32))
    assert x.grad.tolist() == [2.0, 4.0]
    assert x.grad.dtype == "float64"
    (x.sum() * 2).backward(3.0)
    assert x.grad.tolist() == [8.0, 10.0]


def test_backward_from_a_leaf() -> None:
    x = leaf(3.0)
    x.backward()
    assert x.grad.item() == 1.0


def test_the_gradient_that_starts_may_be_tracked() -> None:
    x, g = leaf(1.0, 2.0), leaf(3.0, 4.0)
    (x * x).backward(g, create_graph=True)
    got = x.grad
    got.sum().backward(inputs=[g])
    assert (got.tolist(), g.grad.tolist()) == ([6.0, 16.0], [2.0, 4.0])


def test_nothing_to_differentiate_teaches() -> None:
    with pytest.raises(GradientError, match="nothing that requires a gradient"):
        fw.tensor(1.0).backward()
    x = leaf(1.0)
    with fw.no_grad():
        y = x * 2
    with pytest.raises(GradientError, match="no_grad"):
        y.backward()
    with pytest.raises(GradientError, match="detached"):
        (x.detach() * 2).backward()


def test_only_floats_require_gradients() -> None:
    with pytest.raises(DTypeError, match="floating-point dtype, got int64"):
        fw.tensor([1, 2], requires_grad=True)
    t = fw.tensor([True])
    with pytest.raises(DTypeError, match="got bool"):
        t.requires_grad = True


# -- the gradient itself -------------------------------------------------------------------------------


def test_gradients_have_their_leafs_shape_dtype_and_backend(backend: str) -> None:
    w = fw.tensor(np.ones((3, 1)), dtype="float32", backend=backend, requires_grad=True)
    x = fw.tensor(np.ones((2, 3, 4)), dtype="float64", backend=backend)
    (w * x).sum().backward()
    assert (w.grad.shape, w.grad.dtype, w.grad.backend) == ((3, 1), "float32", backend)
    assert w.grad.tolist() == [[8.0]] * 3


def test_grad_is_none_until_backward_and_can_be_set() -> None:
    x = leaf(1.0, 2.0)
    assert x.grad is None
    x.grad = [3.0, 4.0]
    assert x.grad.tolist() == [3.0, 4.0]
    assert x.grad.dtype == "float64"
    (x * 2).sum().backward()
    assert x.grad.tolist() == [5.0, 6.0]
    x.grad *= 2
    assert x.grad.tolist() == [10.0, 12.0]
    with pytest.raises(ShapeError, match=r"shape \(2,\), got \(3,\)"):
        x.grad = [1.0, 2.0, 3.0]
    with pytest.raises(GradientError, match="requires_grad=True"):
        fw.tensor(1.0).grad = 2.0


@pytest.mark.parametrize(
    "write", [lambda g: g.zero_(), lambda g: g.fill_(0.0), lambda g: g.copy_(0.0), lambda g: g.__setitem__(..., 0.0)]
)
def test_a_gradient_can_be_written_in_place(write: Any) -> None:
    x = leaf(1.0, 2.0)
    (x * 3).sum().backward()
    write(x.grad)
    assert x.grad.tolist() == [0.0, 0.0]


def test_results_have_no_gradient() -> None:
    x = leaf(1.0)
    y = x * 2
    y.backward()
    assert y.grad is None
    assert (x.is_leaf, y.is_leaf) == (True, False)


def test_requires_grad_of_a_result_cannot_be_unset() -> None:
    y = leaf(1.0) * 2
    with pytest.raises(GradientError, match=r"use \.detach"):
        y.requires_grad = False
    assert not y.detach().requires_grad


def test_requires_grad_of_a_leaf_can_be_set_and_unset() -> None:
    x = fw.tensor([1.0])
    assert not x.requires_grad
    assert x.requires_grad_() is x
    assert x.requires_grad
    x.requires_grad = False
    assert not (x * 2).requires_grad


def test_detach_shares_values_and_stops_gradients() -> None:
    x = leaf(2.0)
    (x * x.detach()).backward()
    assert x.grad.item() == 2.0


def test_clone_passes_gradients() -> None:
    x = leaf(2.0)
    x.clone().backward()
    assert x.grad.item() == 1.0
