"""Every optimizer gives the same numbers whether parameters are updated side by side or each by itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from optimizer_cases import all_variants, build, plain

import framework as fw
from framework import nn


def trained(variant: str, backend: str, steps: int) -> tuple[list[Any], Any]:
    """Parameters of a small network after steps with gradients from the tape, some of them without a part of it."""
    rng = np.random.default_rng(5)
    x, y = rng.normal(size=(12, 3)), rng.normal(size=(12, 2))
    shapes = [(4, 3), (4,), (2, 4), (2,)]
    params = [nn.Parameter(fw.tensor(rng.normal(size=s), backend=backend)) for s in shapes]
    w1, b1, w2, b2 = params
    optimizer = build(variant, params)
    scale = 0.002 if variant.endswith("-up") else 0.05  # climbing multiplies rounding errors
    batch = fw.tensor(x, backend=backend)
    for step in range(steps):
        optimizer.zero_grad()
        hidden = nn.functional.linear(batch, w1, None if step % 5 == 3 else b1)
        out = nn.functional.linear(fw.numpy.tanh(hidden), w2, b2)
        (scale * ((out - fw.tensor(y, backend=backend)) ** 2).sum()).backward()
        optimizer.step()
    return [p.tolist() for p in params], plain_tree(optimizer.state_dict()["state"])


def plain_tree(tree: Any) -> Any:
    return {key: plain_tree(value) for key, value in tree.items()} if isinstance(tree, dict) else plain(tree)


@all_variants
def test_neighbours_are_independent(variant: str) -> None:
    (ours, state), (alone, other) = trained(variant, "cpu", 14), trained(variant, "strict", 14)
    for a, b in zip(ours, alone):
        np.testing.assert_allclose(a, b, rtol=1e-9, atol=1e-12)
    assert state.keys() == other.keys()
    assert len(state) in (0, 4)
    for number, own in state.items():
        assert own.keys() == other[number].keys()
        for key, value in own.items():
            np.testing.assert_allclose(value, other[number][key], rtol=1e-8, atol=1e-12, err_msg=f"{number} {key}")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@all_variants
def test_every_array_keeps_its_dtype(variant: str, dtype: str) -> None:
    layer = nn.Linear(3, 2).to(dtype=dtype)
    optimizer = build(variant, layer.parameters())
    for _ in range(3):
        optimizer.zero_grad()
        (layer(fw.tensor(np.ones((4, 3)), dtype=dtype)) ** 2).sum().backward()
        optimizer.step()
    assert all(p.dtype == dtype for p in layer.parameters())
    arrays = [a for own in optimizer.state.values() for a in own.values() if hasattr(a, "dtype")]
    assert all(str(a.dtype) == dtype for a in arrays)
    assert arrays or all(type(v) in (int, float) for own in optimizer.state.values() for v in own.values())
