"""Hooks on gradients."""

from __future__ import annotations

from typing import Any

import pytest

import framework as fw
from framework.autodiff import Tensor
from framework.errors import GradientError


def leaf(*values: float) -> Tensor:
    data: Any = values if len(values) > 1 else values[0]
    return fw.tensor(data, dtype="float64", requires_grad=True)


def test_a_hook_sees_the_whole_gradient_once_and_may_replace_it() -> None:
    x = leaf(2.0)
    h = x * 3
    seen = []
    h.register_hook(lambda g: seen.append(g.item()))
    remove = h.register_hook(lambda g: g * 10)
    (h + h * h).backward()
    assert seen == [13.0]
    assert x.grad.item() == 390.0
    remove()
    x.grad = None
    h = x * 3
    (h + h * h).backward()
    assert x.grad.item() == 39.0


def test_a_hook_can_be_removed_before_it_runs() -> None:
    x = leaf(2.0)
    remove = x.register_hook(lambda g: g * 10)
    remove()
    remove()
    x.backward()
    assert x.grad.item() == 1.0


def test_a_hook_of_a_leaf_sees_the_sum_of_this_backward() -> None:
    x = leaf(2.0)
    seen = []
    x.register_hook(lambda g: seen.append(g.item()))
    (x * 2 + x * 3).backward()
    (x * 4).backward()
    assert seen == [5.0, 4.0]
    assert x.grad.item() == 9.0


def test_hooks_are_recorded_under_create_graph() -> None:
    x = leaf(2.0)
    y = x**2
    y.register_hook(lambda g: g * x)
    (y * 1.0).backward(create_graph=True)
    got = x.grad  # 2x · x
    x.grad = None
    got.backward()
    assert (got.item(), x.grad.item()) == (8.0, 8.0)


def test_hooks_run_inside_fw_grad() -> None:
    def f(x: Any) -> Any:
        y = x * 2
        y.register_hook(lambda g: g * 100)
        return y * y

    assert fw.grad(f)(fw.tensor(1.0)).item() == 800.0


def test_a_hook_needs_a_tracked_tensor() -> None:
    with pytest.raises(GradientError, match="can have a hook"):
        fw.tensor(1.0).register_hook(print)
