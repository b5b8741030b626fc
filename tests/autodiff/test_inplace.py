"""In-place operators and writes: they rebind, no other Tensor changes, and gradients stay right."""

from __future__ import annotations

import operator
import re
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework.autodiff import Tensor, ops, vmap
from framework.autodiff.tape import mark_written
from framework.errors import DTypeError, GradientError, ShapeError


def leaf(*values: float) -> Tensor:
    return fw.tensor(values, dtype="float64", requires_grad=True)


FLOAT_OPERATORS = (
    operator.iadd,
    operator.isub,
    operator.imul,
    operator.itruediv,
    operator.ifloordiv,
    operator.imod,
    operator.ipow,
)
INT_OPERATORS = (operator.iand, operator.ior, operator.ixor, operator.ilshift, operator.irshift)


# -- they rebind, and nothing else sees it ---------------------------------------------------------------


@pytest.mark.parametrize("op", [*FLOAT_OPERATORS, *INT_OPERATORS], ids=lambda op: op.__name__)
def test_in_place_operators(op: Callable[..., Any], backend: str) -> None:
    a, b = (
        (np.array([5, 3, 2]), np.array([2, 1, 3]))
        if op in INT_OPERATORS
        else (np.array([5.0, 3, 2]), np.array([2.0, 1, 3]))
    )
    t = fw.tensor(a, backend=backend)
    same = t
    result = op(t, fw.tensor(b, backend=backend))
    assert result is same
    np.testing.assert_allclose(same.numpy(), op(a.copy(), b))
    assert same.dtype == str(a.dtype)


def test_matrix_product_in_place() -> None:
    t = fw.tensor([[1.0, 2.0], [3.0, 4.0]])
    same = t
    t @= fw.tensor([[0.0, 1.0], [1.0, 0.0]])
    assert t is same
    assert t.tolist() == [[2.0, 1.0], [4.0, 3.0]]


VIEWS: dict[str, Callable[[Tensor], Tensor]] = {
    "slice": lambda t: t[1:],
    "reshape": lambda t: t.reshape(4, 1),
    "view": lambda t: t.view(2, 2),
    "transpose": lambda t: t.reshape(2, 2).T,
    "detach": lambda t: t.detach(),
    "broadcast": lambda t: t.expand(3, 4),
    "astype": lambda t: t.astype(t.dtype),
    "clone": lambda t: t.clone(),
    "asarray": lambda t: ops.asarray(t[:]),
    "flip": lambda t: ops.flip(t),
    "squeeze": lambda t: t.unsqueeze(0).squeeze(0),
    "stop_gradient": ops.stop_gradient,
}
WRITES: dict[str, Callable[[Tensor], Any]] = {
    "+=": lambda t: operator.iadd(t, 100.0),
    "*=": lambda t: operator.imul(t, 100.0),
    "[...] =": lambda t: t.__setitem__(..., 100.0),
    "[0] =": lambda t: t.__setitem__(0, 100.0),
    "fill_": lambda t: t.fill_(100.0),
    "zero_": lambda t: t.zero_(),
    "copy_": lambda t: t.copy_(100.0),
}


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("write", WRITES)
def test_a_view_never_writes_through(view: str, write: str, backend: str) -> None:
    base = fw.tensor([1.0, 2.0, 3.0, 4.0], backend=backend)
    other = VIEWS[view](base)
    before = other.tolist()
    WRITES[write](other)
    assert base.tolist() == [1.0, 2.0, 3.0, 4.0]
    assert other.tolist() != before
    other = VIEWS[view](base)
    WRITES[write](base)
    assert other.tolist() == before
    assert base.tolist() != [1.0, 2.0, 3.0, 4.0]


def test_the_users_array_is_never_written(backend: str) -> None:
    host = np.array([1.0, 2.0])
    for make in (fw.tensor, ops.asarray):
        t = make(host, device=backend)
        for write in WRITES.values():
            write(t)
    assert host.tolist() == [1.0, 2.0]


def test_tensor_copies_its_data() -> None:
    host = np.array([1.0, 2.0])
    t = fw.tensor(host)
    again = fw.tensor(t)
    host[0] = 7.0
    assert t.tolist() == [1.0, 2.0]
    assert again.tolist() == [1.0, 2.0]


def test_the_shape_stays() -> None:
    t = fw.tensor([1.0, 2.0])
    with pytest.raises(ShapeError, match=r"gave shape \(3, 2\) for a Tensor of shape \(2,\)"):
        t += fw.tensor(np.ones((3, 2)))
    t += 1.0
    assert t.tolist() == [2.0, 3.0]


def test_the_dtype_stays() -> None:
    t = fw.tensor([1.0, 2.0], dtype="float32")
    t += fw.tensor([0.5, 0.5], dtype="float64")
    assert t.dtype == "float32"
    t *= np.float64(2.0)
    assert (t.dtype, t.tolist()) == ("float32", [3.0, 5.0])
    i = fw.tensor([1, 2])
    for op, other in ((operator.iadd, 0.5), (operator.itruediv, 2), (operator.imul, fw.tensor(1.5))):
        with pytest.raises(DTypeError, match=r"for a Tensor of int64; use \.astype"):
            op(i, other)
    assert i.tolist() == [1, 2]


# -- gradients through writes ----------------------------------------------------------------------------


def test_in_place_on_a_result() -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    y *= 3
    y += x
    y.sum().backward()
    assert x.grad.tolist() == [7.0, 7.0]


def test_what_was_kept_before_a_write_is_kept() -> None:
    x = leaf(1.0, 2.0)
    y = x * 1.0
    z = y * y  # keeps y
    y *= 100.0
    z.sum().backward()
    assert x.grad.tolist() == [2.0, 4.0]


def test_setitem_cuts_and_connects() -> None:
    x, v = leaf(1.0, 2.0, 3.0), leaf(5.0)
    y = x * 2
    y[1] = v[0] * 10
    y[2:] = 0.0
    (y * fw.tensor([1.0, 10.0, 100.0])).sum().backward()
    assert x.grad.tolist() == [2.0, 0.0, 0.0]
    assert v.grad.tolist() == [100.0]


def test_setitem_into_a_constant_makes_it_a_result() -> None:
    v = leaf(5.0, 6.0)
    a = ops.zeros((2, 2), dtype="float64")
    a[0] = v
    a[:, 1] = v * 2
    assert not a.is_leaf
    (a * fw.tensor([[1.0, 2.0], [3.0, 4.0]])).sum().backward()
    assert v.grad.tolist() == [5.0, 8.0]


def test_setitem_with_leading_axes_of_length_one() -> None:
    v = fw.tensor([[1.0, 2.0]], requires_grad=True)
    a = ops.zeros((3, 2))
    a[1] = v
    (a * 3).sum().backward()
    assert v.grad.tolist() == [[3.0, 3.0]]


def test_setitem_of_one_element_everywhere() -> None:
    s = fw.tensor([1.0, 2.0]).sum()
    s[...] = 5.0
    assert s.item() == 5.0
    s[()] = 6.0
    assert s.item() == 6.0


def test_setitem_refuses_what_does_not_fit() -> None:
    a = ops.zeros((2, 3))
    with pytest.raises(ValueError, match=r"broadcast|shape"):
        a[0] = fw.tensor([1.0, 2.0])
    with pytest.raises(IndexError):
        a[5] = 1.0
    with pytest.raises(ShapeError, match=r"3 indices for an array of shape \(2, 3\)"):
        a[0, 0, 0] = 1.0


@pytest.mark.parametrize(
    "write", [lambda t: t.zero_(), lambda t: t.fill_(4.0), lambda t: t.copy_(fw.tensor([4.0, 5.0]))]
)
def test_filling_a_result_cuts_its_history(write: Any) -> None:
    x = leaf(1.0, 2.0)
    y = x * 2
    write(y)
    (y * x).sum().backward()
    assert x.grad.tolist() == y.tolist()


def test_copy_passes_gradients_of_the_value() -> None:
    x, v = leaf(1.0, 2.0), leaf(3.0, 4.0)
    y = x * 2
    y.copy_(v * 5)
    y.sum().backward()
    assert v.grad.tolist() == [5.0, 5.0]


def test_fill_takes_one_number_that_fits(backend: str) -> None:
    for dtype, value, want in (
        ("int64", 3, 3), ("uint8", True, 1), ("bool", 1, True), ("float32", np.float64(2.5), 2.5), ("complex64", 2, 2 + 0j),
    ):  # fmt: skip
        t = fw.tensor([0, 1], dtype=dtype, backend=backend)
        assert t.fill_(value) is t
        assert (t.tolist(), t.dtype) == ([want, want], dtype)
        assert (t.zero_().tolist(), t.dtype) == ([0, 0], dtype)
    with pytest.raises(DTypeError, match=r"fill_ of a Tensor of int64 got float32; use \.astype"):
        fw.tensor([1, 2]).fill_(2.5)
    with pytest.raises(DTypeError, match="got complex64"):
        fw.tensor([1.0, 2.0]).fill_(1j)
    with pytest.raises(ShapeError, match=r"fill_ takes one element, got shape \(2,\); use copy_"):
        fw.tensor([1.0, 2.0]).fill_(fw.tensor([1.0, 2.0]))


def test_fill_with_a_recorded_number_passes_its_gradient() -> None:
    v = leaf(3.0)
    y = ops.zeros(4, dtype="float64").fill_(v)
    (y * y).sum().backward()
    assert v.grad.tolist() == [24.0]


def test_copy_casts_and_broadcasts(backend: str) -> None:
    t = fw.tensor([[0, 0], [0, 0]], backend=backend)
    assert t.copy_([1.9, -1.9]) is t
    assert (t.tolist(), t.dtype, t.backend) == ([[1, -1], [1, -1]], "int64", backend)
    assert t.copy_(fw.tensor([[5], [6]], backend="strict")).tolist() == [[5, 5], [6, 6]]
    assert t.backend == backend
    for bad in ([1, 2, 3], [[[1, 2]]]):
        with pytest.raises(ShapeError):
            t.copy_(bad)
    v = fw.tensor([1.0, 2.0], requires_grad=True)
    y = ops.zeros((3, 2), dtype="float64").copy_(v * 2)
    y.sum().backward()
    assert v.grad.tolist() == [6.0, 6.0]


def test_what_is_copied_is_not_shared() -> None:
    w = fw.tensor([1.0, 2.0], requires_grad=True)
    t = ops.zeros(2).copy_(w.detach())
    w.grad = [1.0, 1.0]
    fw.optim.SGD([w], lr=1.0).step()  # writes the parameter's array in place
    assert (w.tolist(), t.tolist()) == ([0.0, 1.0], [1.0, 2.0])


def test_writes_that_a_tensor_from_outside_cannot_hold() -> None:
    x = fw.tensor([1.0, 2.0], dtype="float64")
    for write in (lambda t, v: t.copy_(v), lambda t, v: t.fill_(v[0])):
        outside = ops.zeros(2, dtype="float64")
        with pytest.raises(GradientError, match="written into a Tensor from outside"):
            fw.jvp(lambda x: write(outside, x), (x,), (x,))
        assert outside.tolist() == [0.0, 0.0]


# -- leaves ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("write", WRITES)
def test_a_leaf_is_written_under_no_grad_only(write: str) -> None:
    x = leaf(1.0, 2.0)
    node = x._node
    with pytest.raises(GradientError, match=r"with fw\.no_grad"):
        WRITES[write](x)
    assert x.tolist() == [1.0, 2.0]
    with fw.no_grad():
        WRITES[write](x)
    assert x.tolist() != [1.0, 2.0]
    assert x.is_leaf
    assert x.requires_grad
    assert x._node is node


def test_a_leaf_stays_the_same_leaf() -> None:
    x = leaf(1.0, 2.0)
    (x * x).sum().backward()
    with fw.no_grad():
        x -= 0.5 * x.grad
    assert x.tolist() == [0.0, 0.0]
    x.grad = None
    (x * 3).sum().backward()
    assert x.grad.tolist() == [3.0, 3.0]


def test_rebinding_a_leaf_after_use_does_not_spoil_the_graph() -> None:
    x = leaf(1.0, 2.0)
    y = (x * x).sum()
    with fw.no_grad():
        x *= 100.0
    y.backward()
    assert x.grad.tolist() == [2.0, 4.0]


def test_a_backward_that_needs_an_overwritten_array_teaches() -> None:
    """As an optimizer does it: the array itself is written, and the leaf is told."""
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    kept, not_kept = (x * w).sum(), (x + w).sum()
    x._data[...] = 7.0
    mark_written([x._node])
    with pytest.raises(GradientError, match=r"'multiply' needs an array of shape \(2,\).*overwritten"):
        kept.backward()
    not_kept.backward()
    assert w.grad.tolist() == [1.0, 1.0]
    (x * w).sum().backward()  # computed after the write
    assert w.grad.tolist() == [8.0, 8.0]


def test_a_backward_that_needs_a_view_of_an_overwritten_array_teaches() -> None:
    x, w = leaf(1.0, 2.0), leaf(3.0, 4.0)
    y = (x.reshape(2, 1) * w.reshape(2, 1)).sum()
    x._data[...] = 7.0
    mark_written([x._node])
    with pytest.raises(GradientError, match="overwritten"):
        y.backward()


def this_line() -> int:
    return sys._getframe(1).f_lineno


def test_the_error_of_an_overwritten_array_names_the_lines() -> None:
    """That of the write always, that of the operation where lines are recorded."""
    w = leaf(1.0, 2.0)
    optimizer = fw.optim.SGD([w], lr=0.1)
    loss, operation = (w * w).sum(), this_line()
    w.grad = [1.0, 1.0]
    optimizer.step()
    write = this_line() - 1
    here = re.escape(__file__)
    with pytest.raises(
        GradientError, match=rf"overwritten in place at {here}:{write} .*with fw\.record_lines"
    ) as error:
        loss.backward()
    assert f"{__file__}:{operation}" not in str(error.value)
    with fw.record_lines():
        loss, operation = (w.reshape(1, 2) * w.reshape(1, 2)).sum(), this_line()
        other = (w * 2.0).sum()
    optimizer.step()
    with pytest.raises(GradientError, match=rf"'multiply' \({here}:{operation}\) needs .* at {here}:\d+ ") as error:
        loss.backward()
    assert "record_lines" not in str(error.value)
    other.backward()
    with pytest.raises(GradientError, match=rf"'\w+' \({here}:{operation + 1}\) a second time"):
        other.backward()
    assert not hasattr((w * w)._node, "line")


def test_data_can_be_replaced() -> None:
    x = leaf(1.0, 2.0)
    x.data = np.array([3.0, 4.0, 5.0], np.float32)
    assert (x.shape, x.dtype, x.requires_grad) == ((3,), "float32", True)
    (x * 2).sum().backward()
    assert (x.grad.shape, x.grad.dtype) == ((3,), "float32")
    x.data = fw.tensor([9.0])
    assert x.tolist() == [9.0]


def test_assign_keeps_shape_and_dtype() -> None:
    x = leaf(1.0, 2.0)
    x.assign([5, 6])
    assert (x.tolist(), x.dtype, x.requires_grad) == ([5.0, 6.0], "float64", True)
    other = fw.tensor([7.0, 8.0], dtype="float64")
    x.assign(other)
    other += 1.0
    assert x.tolist() == [7.0, 8.0]
    with pytest.raises(ShapeError, match=r"shape \(2,\) to values of shape \(3,\)"):
        x.assign([1.0, 2.0, 3.0])


# -- inside transforms -------------------------------------------------------------------------------------


def scaled(x: Any) -> Any:
    x *= 3.0
    x += x
    return x


def partly_set(x: Any) -> Any:
    y = x * 1.0
    y[0] = x[1] * 2
    y[2] = 5.0
    return y


def summed(x: Any) -> Any:
    total = fw.tensor(0.0, dtype="float64")
    for k in range(3):
        total += x[k] * (k + 1)
    return ops.stack([total, total * 2, total * total])


JACOBIANS = {
    scaled: np.eye(3) * 6,
    partly_set: np.array([[0.0, 2, 0], [0, 1, 0], [0, 0, 0]]),
    summed: np.array([[1.0, 2, 3], [2, 4, 6], [28, 56, 84]]),
}


@pytest.mark.parametrize("fn", JACOBIANS, ids=lambda f: f.__name__)
def test_writes_inside_transforms(fn: Any) -> None:
    x = fw.tensor([1.0, 2.0, 3.0], dtype="float64")
    want = JACOBIANS[fn]
    unit = fw.tensor(np.eye(3))
    value = fn(x.clone()).numpy()
    np.testing.assert_allclose(vmap(lambda t: fw.jvp(fn, (x,), (t,))[1], 0, 1)(unit).numpy(), want)
    np.testing.assert_allclose(vmap(lambda c: fw.vjp(fn, x)[1](c)[0])(unit).numpy(), want)
    np.testing.assert_allclose(np.stack([fw.vjp(fn, x)[1](c)[0].numpy() for c in unit]), want)
    np.testing.assert_allclose(vmap(fn)(ops.stack([x, x])).numpy(), np.stack([value, value]))
    grads = vmap(fw.grad(lambda x: fn(x).sum()))(ops.stack([x, x]))
    np.testing.assert_allclose(grads.numpy(), np.stack([want.sum(0)] * 2))
    assert x.tolist() == [1.0, 2.0, 3.0], "the caller's Tensor was changed"


def test_a_tensor_from_outside_cannot_be_written_into_by_index() -> None:
    def f(x: Any) -> Any:
        a = ops.zeros(3, dtype="float64")
        a[0] = x[0]
        return a

    x = fw.tensor([1.0, 2.0, 3.0], dtype="float64")
    with pytest.raises(GradientError, match="written into a Tensor from outside"):
        fw.jvp(f, (x,), (x,))
    with pytest.raises(GradientError, match="written into a Tensor from outside"):
        vmap(f)(ops.stack([x, x]))
    assert fw.grad(lambda x: (f(x) * 3).sum())(x).tolist() == [3.0, 0.0, 0.0]


@pytest.mark.parametrize("write", [lambda t: t.zero_(), lambda t: t.fill_(2.0), lambda t: t.copy_(2.0)])
def test_filling_inside_transforms(write: Any) -> None:
    x = fw.tensor([1.0, 2.0], dtype="float64")
    value, tangent = fw.jvp(lambda x: write(x * 2) + x, (x,), (x,))
    assert tangent.tolist() == [1.0, 2.0]
    assert vmap(lambda x: write(x * 2) + x)(x).tolist() == value.tolist()
