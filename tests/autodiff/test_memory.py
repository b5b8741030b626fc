"""What is kept, for how long: saved arrays go as backward passes, and nothing waits for the garbage collector."""

from __future__ import annotations

import gc
import tracemalloc
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework.autodiff import Tensor, ops, vmap

MIB = 1 << 20


@pytest.fixture
def no_gc() -> Iterator[None]:
    """The garbage collector is off: only reference counts free memory."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Watched(np.ndarray):
    """An array that can be watched."""


def watched(*values: float) -> tuple[Tensor, weakref.ref[Any]]:
    array = np.array(values).view(Watched)
    return ops.asarray(array), weakref.ref(array)


# -- what is kept ----------------------------------------------------------------------------------------


def test_an_activation_lives_only_as_long_as_a_rule_needs_it(no_gc: None) -> None:
    x = ops.asarray(np.array([1.0, 2.0]).view(Watched)).requires_grad_()
    h = x + 1.0  # sums keep nothing
    seen = weakref.ref(h._data)
    y = h + 1.0
    del h
    assert seen() is None
    h = x + 1.0
    seen = weakref.ref(h._data)
    z = h * h  # products keep their inputs
    del h
    assert seen() is not None
    z.sum().backward()
    assert seen() is None
    assert y.requires_grad


def test_backward_frees_as_it_goes(no_gc: None) -> None:
    """When the walk reaches the first operation, the arrays of all later ones are gone."""
    x = ops.asarray(np.ones(4).view(Watched)).requires_grad_()
    y, seen = x * 1.0, []
    alive: list[int] = []
    y.register_hook(lambda g: alive.append(sum(ref() is not None for ref in seen)))
    for _ in range(10):
        y = y.exp() * 0.1
        seen.append(weakref.ref(y._node.parents[0].saved[0]))  # what exp kept: its output
    assert all(ref() is not None for ref in seen)
    y.sum().backward()
    assert len(alive) == 1
    assert alive[0] <= 1  # that of the step before may still be in hand


def test_peak_memory_of_backward_does_not_grow_with_depth(no_gc: None) -> None:
    """Forward keeps one array a layer; backward adds a few in all, and frees the rest."""
    depth, layer = 24, MIB
    x = fw.tensor(np.ones(layer // 8), requires_grad=True)
    tracemalloc.start()
    try:
        y = x
        for _ in range(depth):
            y = ops.tanh(y)
        loss = y.sum()
        del y
        kept = tracemalloc.get_traced_memory()[0]
        tracemalloc.reset_peak()
        loss.backward()
        now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert kept >= depth * layer
    assert peak <= kept + 6 * layer
    assert now <= 3 * layer  # the gradient, and what is in the way


def test_a_graph_that_is_dropped_is_freed(no_gc: None) -> None:
    x, _ = watched(1.0, 2.0)
    x.requires_grad_()
    h = x * x
    seen = weakref.ref(h._data)
    y = h * h
    del h
    assert seen() is not None
    del y
    assert seen() is None


def test_under_no_grad_nothing_is_kept(no_gc: None) -> None:
    x, _ = watched(1.0, 2.0)
    x.requires_grad_()
    with fw.no_grad():
        h = x * x
        seen = weakref.ref(h._data)
        y = h * h
        del h
    assert seen() is None
    assert not y.requires_grad


def test_only_the_side_that_is_needed_is_kept() -> None:
    w, x = fw.tensor(np.ones((3, 2)), requires_grad=True), fw.tensor(np.ones((4, 2)))
    of_weight = ops.linear(x, w)._node.saved
    assert (of_weight[2] is x._data, of_weight[3] is None) == (True, True)
    x.requires_grad = True
    of_both = ops.linear(x, w)._node.saved
    assert (of_both[2] is x._data, of_both[3] is w._data) == (True, True)
    of_input = ops.linear(x, w.detach())._node.saved
    assert (of_input[2] is None, of_input[3] is w._data) == (True, True)


# -- no cycles -------------------------------------------------------------------------------------------


def first_order(x: Tensor) -> None:
    x.requires_grad_()
    y = (ops.softmax(x) * x[fw.tensor([1, 0])]).sum()
    y.register_hook(lambda g: g * 2)
    y.backward()


def double_backward(x: Tensor) -> None:
    x.requires_grad_()
    (g,) = fw.vjp(lambda x: (x**3).sum(), x)[1](fw.tensor(1.0))
    g.sum().backward()


def closure_over_a_weight(x: Tensor) -> None:
    w = fw.tensor([1.0, 2.0], requires_grad=True)
    penalty = (fw.grad(lambda x: (x * x * w).sum())(x) ** 2).sum()
    penalty.backward()


def failing(x: Tensor) -> None:
    with pytest.raises(fw.errors.GradientError):
        fw.grad(lambda x: x * 2)(x)


TRANSFORMS: dict[str, Callable[[Tensor], Any]] = {
    "backward": first_order,
    "double backward": double_backward,
    "closure": closure_over_a_weight,
    "grad": lambda x: fw.grad(lambda x: (x * x).sum())(x),
    "value_and_grad": lambda x: fw.value_and_grad(lambda d: (d["a"] ** 2).sum())({"a": x}),
    "grad of grad": lambda x: fw.grad(lambda x: fw.grad(lambda x: (x**3).sum())(x).sum())(x),
    "vjp": lambda x: fw.vjp(ops.exp, x)[1](x),
    "jvp": lambda x: fw.jvp(ops.exp, (x,), (x,)),
    "jvp of grad": lambda x: fw.jvp(fw.grad(lambda x: (x**3).sum()), (x,), (x,)),
    "vmap": lambda x: vmap(ops.exp)(x),
    "vmap of grad": lambda x: vmap(fw.grad(lambda x: x**3))(x),
    "vmap of grad of grad": lambda x: vmap(fw.grad(fw.grad(lambda x: x**3)))(x),
    "grad of vmap": lambda x: fw.grad(lambda x: vmap(lambda x: x**3)(x).sum())(x),
    "indexing": lambda x: x[[0, 1, 1]][x[[0, 1, 1]] > 1.0],
    "an error": failing,
}


@pytest.mark.parametrize("name", TRANSFORMS)
def test_there_are_no_reference_cycles(name: str, no_gc: None) -> None:
    """Every array and every node is gone when the last name is, without the garbage collector."""
    TRANSFORMS[name](watched(3.0, 4.0)[0])  # fills caches
    gc.collect()
    x, seen = watched(1.0, 2.0)
    TRANSFORMS[name](x)
    del x
    assert seen() is None, f"kept alive by {[type(r) for r in gc.get_referrers(seen())]}"
    assert gc.collect() == 0, "something waited for the garbage collector"


def test_repeated_steps_do_not_grow(no_gc: None) -> None:
    w = fw.tensor(np.ones((50, 50)), requires_grad=True)

    def step() -> None:
        w.grad = None
        (ops.relu(ops.linear(ops.ones((20, 50), dtype="float64"), w)).sum()).backward()
        with fw.no_grad():
            w.assign(w - 0.01 * w.grad)

    for _ in range(3):
        step()
    tracemalloc.start()
    try:
        step()
        before = tracemalloc.get_traced_memory()[0]
        for _ in range(50):
            step()
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert after - before < 64 * 1024
