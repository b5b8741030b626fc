"""Slots: a gradient is written where the leaf's last one was, unless somebody could see that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import framework as fw
from framework.autodiff import ops, tape

CPU = "cpu"  # slots are for backends whose arrays can be written


def _leaf(shape: tuple[int, ...], seed: int = 0, *, slot: bool = True) -> fw.Tensor:
    values = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    leaf = fw.tensor(values, backend=CPU, requires_grad=True)
    if slot:
        leaf._node.slot = np.full(shape, np.nan, np.float32)  # type: ignore[union-attr]
    return leaf


def _rows(n: int, width: int, seed: int) -> fw.Tensor:
    return fw.tensor(np.random.default_rng(seed).standard_normal((n, width)).astype(np.float32), backend=CPU)


def _backward(w: fw.Tensor, b: fw.Tensor | None, x: fw.Tensor) -> None:
    (ops.linear(x, w, b) ** 2).sum().backward()


def _expected(w: fw.Tensor, b: fw.Tensor | None, x: fw.Tensor) -> tuple[Any, Any]:
    """The gradients by plain NumPy."""
    wn, xn = w.detach().numpy(), x.numpy()
    g = 2 * (xn @ wn.T + (0 if b is None else b.detach().numpy()))
    return g.T @ xn, g.sum(axis=0)


def _close(a: Any, b: Any) -> None:
    np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def _data(t: fw.Tensor | None) -> Any:
    assert t is not None
    return t._data


def _slot(leaf: fw.Tensor) -> Any:
    return leaf._node.slot  # type: ignore[union-attr]


def _in_slot(leaf: fw.Tensor) -> bool:
    """Whether the gradient is there; a test that held the slot itself would take it out of use."""
    return _data(leaf.grad) is _slot(leaf)


@pytest.mark.parametrize("rows", [1, 2, 5])
def test_gradients_are_written_to_slots(rows: int) -> None:
    """Weight and bias of a linear map have theirs there, whatever was there before."""
    w, b, x = _leaf((3, 4)), _leaf((3,), 1), _rows(rows, 4, 2)
    _backward(w, b, x)
    assert _in_slot(w)
    assert _in_slot(b)
    expected = _expected(w, b, x)
    _close(_data(w.grad), expected[0])
    _close(_data(b.grad), expected[1])
    w.grad = b.grad = None
    x = _rows(rows, 4, 3)
    _backward(w, b, x)
    assert _in_slot(w)
    assert _in_slot(b)
    _close(_data(w.grad), _expected(w, b, x)[0])


def test_inputs_of_more_axes() -> None:
    """The rows of all axes but the last count alike."""
    w, b = _leaf((3, 4)), _leaf((3,), 1)
    x = _rows(6, 4, 2)
    (ops.linear(ops.reshape(x, (2, 3, 4)), w, b) ** 2).sum().backward()
    assert _in_slot(w)
    expected = _expected(w, b, x)
    _close(_data(w.grad), expected[0])
    _close(_data(b.grad), expected[1])


HOLDS: dict[str, Callable[[fw.Tensor], Any]] = {
    "the gradient": lambda g: g,
    "a detached one": lambda g: g.detach(),
    "its array": lambda g: g.data,
    "a NumPy array": lambda g: g.numpy(),
    "a row": lambda g: g.numpy()[0],
    "a view of a view": lambda g: g.numpy()[1:].T[:2],
    "a Tensor's row": lambda g: g[0],
    "a transpose": lambda g: g.T,
    "a reshape": lambda g: g.reshape(-1),
    "a memoryview": lambda g: memoryview(g.numpy()),
    "another dtype's view": lambda g: g.numpy().view(np.int32),
    "through DLPack": lambda g: np.from_dlpack(g.numpy()),
}


@pytest.mark.parametrize("hold", HOLDS.values(), ids=HOLDS)
def test_what_somebody_holds_never_changes(hold: Callable[[fw.Tensor], Any]) -> None:
    """A kept gradient, or a view of it, keeps its values; the next gradient is elsewhere, and right."""
    w = _leaf((3, 4))
    x = _rows(5, 4, 2)
    _backward(w, None, x)
    held = hold(w.grad)  # type: ignore[arg-type]
    before = np.array(held._data if isinstance(held, fw.Tensor) else held)
    w.grad = None
    for seed in (3, 4):
        x = _rows(5, 4, seed)
        _backward(w, None, x)
        np.testing.assert_array_equal(np.array(held._data if isinstance(held, fw.Tensor) else held), before)
        _close(_data(w.grad), _expected(w, None, x)[0])
        assert not _in_slot(w)
        w.grad = None
    del held
    _backward(w, None, x)
    assert _in_slot(w)


def test_accumulation() -> None:
    """A second backward adds; the gradient that was there is kept by whoever holds it."""
    w = _leaf((3, 4))
    x1, x2 = _rows(5, 4, 1), _rows(2, 4, 2)
    first, second = _expected(w, None, x1)[0], _expected(w, None, x2)[0]
    _backward(w, None, x1)
    _backward(w, None, x2)
    _close(_data(w.grad), first + second)
    w.grad = None
    _backward(w, None, x1)
    held = w.grad.numpy()  # type: ignore[union-attr]
    before = held.copy()
    _backward(w, None, x2)
    np.testing.assert_array_equal(held, before)
    _close(_data(w.grad), first + second)


def test_a_gradient_that_was_set() -> None:
    """What a user set as the gradient is added to, and not overwritten."""
    w, x = _leaf((3, 4)), _rows(5, 4, 1)
    given = np.ones((3, 4), np.float32)
    w.grad = fw.tensor(given)
    _backward(w, None, x)
    _close(_data(w.grad), given + _expected(w, None, x)[0])
    np.testing.assert_array_equal(given, np.ones((3, 4)))


@pytest.mark.parametrize("rows", [1, 4])
def test_a_parameter_used_twice_in_a_graph(rows: int) -> None:
    """Only one of its contributions can be in the slot; the sum is right."""
    w, b = _leaf((4, 4)), _leaf((4,), 1)
    plain_w, plain_b = _leaf((4, 4), slot=False), _leaf((4,), 1, slot=False)
    x = _rows(rows, 4, 2)
    for _ in range(2):
        for wi, bi in ((w, b), (plain_w, plain_b)):
            wi.grad = bi.grad = None
            ops.linear(ops.linear(ops.linear(x, wi, bi), wi, bi), wi, bi).sum().backward()
        _close(_data(w.grad), _data(plain_w.grad))
        _close(_data(b.grad), _data(plain_b.grad))


def test_two_leaves_on_one_array_have_gradients_of_their_own() -> None:
    """Slots belong to leaves."""
    w1, w2 = _leaf((3, 4)), _leaf((3, 4))
    w2._data = w1._data
    x1, x2 = _rows(2, 4, 1), _rows(2, 4, 2)
    (ops.linear(x1, w1) ** 2 + ops.linear(x2, w2) ** 2).sum().backward()
    _close(_data(w1.grad), _expected(w1, None, x1)[0])
    _close(_data(w2.grad), _expected(w2, None, x2)[0])
    assert not np.shares_memory(_data(w1.grad), _data(w2.grad))


def test_one_slot_held_and_the_other_free() -> None:
    """Who keeps one gradient does not keep the others."""
    w, b, x = _leaf((3, 4)), _leaf((3,), 1), _rows(5, 4, 2)
    _backward(w, b, x)
    held = _data(b.grad)
    before = held.copy()
    w.grad = b.grad = None
    _backward(w, b, _rows(5, 4, 3))
    assert _in_slot(w)
    assert not _in_slot(b)
    np.testing.assert_array_equal(held, before)


def test_frozen_leaves_keep_what_they_have() -> None:
    """A frozen weight's slot is not touched while its bias trains, and is used again afterwards."""
    w, b, x = _leaf((3, 4)), _leaf((3,), 1), _rows(5, 4, 2)
    _backward(w, b, x)
    node, before = w._node, _data(w.grad).copy()
    w.requires_grad = False
    b.grad = None
    _backward(w, b, _rows(5, 4, 3))
    np.testing.assert_array_equal(node.slot, before)  # type: ignore[union-attr]
    w.requires_grad = True
    _backward(w, None, x)
    _close(_data(w.grad), _expected(w, None, x)[0])


def test_hooks_that_keep_the_gradient() -> None:
    """What a hook of the leaf kept stays as it was."""
    w = _leaf((3, 4))
    kept: list[Any] = []
    w.register_hook(lambda g: kept.append(g.numpy()))  # type: ignore[func-returns-value]
    copies = []
    for seed in (1, 2, 3):
        w.grad = None
        _backward(w, None, _rows(5, 4, seed))
        copies.append(kept[-1].copy())
    for array, copy in zip(kept, copies):
        np.testing.assert_array_equal(array, copy)


def test_hooks_that_replace_the_gradient() -> None:
    """What the hook returns is the gradient, and no later backward writes into it."""
    w = _leaf((3, 4))
    other = fw.tensor(np.ones((3, 4), np.float32))
    w.register_hook(lambda g: other)
    for seed in (1, 2):
        w.grad = None
        _backward(w, None, _rows(5, 4, seed))
        np.testing.assert_array_equal(_data(w.grad), np.ones((3, 4)))


def test_create_graph_leaves_the_slot_alone() -> None:
    """A gradient that is differentiated again is on the tape; the second derivative is right."""
    w, x = _leaf((3, 4)), _rows(5, 4, 1)
    (ops.linear(x, w) ** 2).sum().backward(create_graph=True)
    g = w.grad
    _close(_data(g), _expected(w, None, x)[0])
    assert not np.shares_memory(_data(g), _slot(w))
    assert np.isnan(_slot(w)).all()
    w.grad = None
    (g * g).sum().backward()  # type: ignore[operator]
    gram = x.numpy().T @ x.numpy()
    _close(_data(w.grad), 8 * w.detach().numpy() @ gram @ gram)


def test_backward_twice_through_a_retained_graph() -> None:
    """The second walk finds the slot taken."""
    w, x = _leaf((3, 4)), _rows(5, 4, 1)
    y = (ops.linear(x, w) ** 2).sum()
    y.backward(retain_graph=True)
    held = _data(w.grad)
    before = held.copy()
    w.grad = None
    y.backward(retain_graph=True)
    np.testing.assert_array_equal(held, before)
    y.backward()
    _close(_data(w.grad), 2 * before)


def test_an_old_gradient_in_the_next_loss() -> None:
    """What the graph kept for its rules is held by the graph: the slot is free only afterwards."""
    w, x = _leaf((4, 4)), _rows(4, 4, 1)
    _backward(w, None, x)
    old = _data(w.grad).copy()
    x2 = w.grad.detach()  # type: ignore[union-attr]
    w.grad = None
    y = ops.linear(x2, w)
    del x2
    y.sum().backward()
    _close(_data(w.grad), np.ones((4, 4)) @ old)


def test_transforms_take_no_slots() -> None:
    """What fw.grad returns is the caller's, and a slot of a leaf that the function closes over stays as it is."""
    w, x = _leaf((3, 4)), _rows(5, 4, 1)
    g = fw.grad(lambda v: (ops.linear(x, v) ** 2).sum())(w)
    assert not np.shares_memory(_data(g), _slot(w))
    _close(_data(g), _expected(w, None, x)[0])
    fw.grad(lambda v: (ops.linear(v, w) ** 2).sum())(x)
    assert np.isnan(_slot(w)).all()


def test_only_the_leaves_that_are_asked_for() -> None:
    """backward(inputs=…) writes into the slots of these alone."""
    w, b, x = _leaf((3, 4)), _leaf((3,), 1), _rows(5, 4, 2)
    (ops.linear(x, w, b) ** 2).sum().backward(inputs=[b])
    assert np.isnan(_slot(w)).all()
    _close(_data(b.grad), _expected(w, b, x)[1])


def test_another_array_has_no_slot() -> None:
    """A leaf that is given an array of another shape or dtype forgets its slot."""
    w = _leaf((3, 4))
    w.data = np.ones((2, 4))
    _backward(w, None, fw.tensor(np.ones((5, 4)), backend=CPU))
    assert _data(w.grad).dtype == np.float64
    np.testing.assert_allclose(_data(w.grad), np.full((2, 4), 40.0))


@pytest.mark.parametrize(
    "slot", [np.empty((4, 3), np.float32).T, np.empty((3, 4)), np.empty((3, 8), np.float32)[:, ::2]]
)
def test_a_slot_that_a_kernel_cannot_write(slot: Any) -> None:
    """One in another order, of another dtype or with gaps is left alone."""
    w, x = _leaf((3, 4)), _rows(5, 4, 2)
    w._node.slot = slot  # type: ignore[union-attr]
    _backward(w, None, x)
    _close(_data(w.grad), _expected(w, None, x)[0])
    assert _data(w.grad).dtype == np.float32


def test_a_bias_that_is_broadcast() -> None:
    """A bias of another shape than (out,) has a gradient of its own shape."""
    w, x = _leaf((3, 4)), _rows(5, 4, 2)
    b = _leaf((1,), 1)
    _backward(w, b, x)
    total = 2 * (x.numpy() @ w.detach().numpy().T + b.detach().numpy())
    _close(_data(b.grad), [total.sum()])


def test_an_error_in_the_middle_leaves_gradients_as_they_were() -> None:
    """A rule that fails after the slot was written does not make the leaf's gradient wrong."""
    w, x = _leaf((4, 4)), _rows(5, 4, 1)

    def fail(g: fw.Tensor) -> None:
        raise RuntimeError("hook")

    _backward(w, None, x)
    held = w.grad
    before = _data(held).copy()
    h = x.detach().requires_grad_()
    middle = h * 2.0
    middle.register_hook(fail)
    with pytest.raises(RuntimeError, match="hook"):
        ops.linear(middle, w).sum().backward()
    assert w.grad is held
    np.testing.assert_array_equal(_data(held), before)


def test_free_slot_counts_every_holder() -> None:
    """A slot is free exactly while its leaf alone holds it."""
    w = _leaf((3, 4))
    assert tape.free_slot(w._node) is w._node.slot  # type: ignore[arg-type, union-attr]
    held = w._node.slot  # type: ignore[union-attr]
    assert tape.free_slot(w._node) is None  # type: ignore[arg-type]
    view = held[:1]
    del held
    assert tape.free_slot(w._node) is None  # type: ignore[arg-type]
    del view
    assert tape.free_slot(w._node) is not None  # type: ignore[arg-type]


@given(st.lists(st.sampled_from(["drop", "keep", "keep a row", "forget", "again", "twice", "retain"]), max_size=12))
def test_any_order_of_keeping_and_dropping(actions: list[str]) -> None:
    """Gradients with slots are those without, whatever is kept in between, and what is kept never changes."""
    leaves = [(_leaf((3, 3)), _leaf((3,), 1)), (_leaf((3, 3), slot=False), _leaf((3,), 1, slot=False))]
    kept: list[tuple[Any, Any]] = []
    for step, action in enumerate(["again", *actions, "again"]):
        x = _rows(1 + step % 3, 3, step)
        if action == "drop":
            for p in [p for pair in leaves for p in pair]:
                p.grad = None
        elif action == "forget":
            kept.clear()
        elif action.startswith("keep"):
            for p in leaves[0]:
                if p.grad is not None:
                    array = p.grad.numpy()
                    array = array[:1] if "row" in action else array
                    kept.append((array, array.copy()))
        else:
            for w, b in leaves:
                h = ops.relu(ops.linear(x, w, b))
                y = (ops.linear(h, w, b) if action == "twice" else h).sum()
                y.backward(retain_graph=action == "retain")
                if action == "retain":
                    y.backward()
        for p, q in zip(*leaves):
            assert (p.grad is None) == (q.grad is None)
            if p.grad is not None:
                np.testing.assert_allclose(_data(p.grad), _data(q.grad), rtol=1e-5, atol=1e-5)
        for array, copy in kept:
            np.testing.assert_array_equal(array, copy)
