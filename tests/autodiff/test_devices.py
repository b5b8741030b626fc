"""Several backends and devices in one graph."""

from __future__ import annotations

from typing import Any

import pytest

import framework as fw
from framework.autodiff import Tensor, ops


def leaf(*values: float) -> Tensor:
    data: Any = values if len(values) > 1 else values[0]
    return fw.tensor(data, dtype="float64", requires_grad=True)


def test_gradients_cross_backends() -> None:
    x = leaf(1.0, 2.0)
    y = x.to("strict")
    assert y.backend == "strict"
    (y * y).sum().backward()
    assert x.grad.backend == "cpu"
    assert x.grad.tolist() == [2.0, 4.0]
    assert fw.gradcheck(lambda x: (x.to("strict") * 2).to("cpu") * x, x.detach())


def test_backends_are_not_mixed_silently() -> None:
    a, b = fw.tensor([1.0, 2.0]), fw.tensor([1.0, 2.0], backend="strict")
    for f in (ops.add, lambda a, b: ops.where(a > 0, a, b), lambda a, b: ops.concat([a, b])):
        with pytest.raises(fw.errors.BackendError, match=r"one operation on arrays of .*move one of them with \.to"):
            f(a, b)
    assert (a.sum() * b).backend == "strict"  # a number follows the array
    assert (b * a.sum()).backend == "strict"


def test_two_devices_of_one_backend_are_kept_apart() -> None:
    x = fw.tensor([1.0, 2.0], device="strict:1", requires_grad=True)
    y = (ops.softmax(x) * x).sum() + ops.relu(x).sum()
    y.backward()
    assert (y.device, x.grad.device) == ("strict:1", "strict:1")
    z = x.detach().to("strict")
    assert z.device == "strict"
