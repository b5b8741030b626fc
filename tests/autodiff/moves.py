"""What the tests of functions that move elements share."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import framework as fw
from framework.autodiff import Tensor, ops, vmap

FULL = os.environ.get("FW_TEST_CASES") == "full"
ZERO_SIZE = hnp.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=3)


def examples(count: int, full: int | None = None) -> Any:
    """`count` examples, the same each time; in a full run `full`, by default eight times as many, new ones each time."""
    number = (full or 8 * count) if FULL else count
    return settings(max_examples=number, deadline=None, derandomize=not FULL, database=None)


def values(shape: tuple[int, ...], seed: int = 0) -> Any:
    return np.random.default_rng(seed).uniform(-1.5, 1.5, shape)


def leaf(a: Any, backend: str = "cpu") -> Tensor:
    return fw.tensor(a, backend=backend, requires_grad=True)


def as_list(out: Any) -> list[Any]:
    return list(out) if isinstance(out, list | tuple) else [out]


# Each of these functions moves elements and is affine; its square has a second derivative worth a look.


def check(ours: Callable[[Any], Any], numpys: Callable[[Any], Any], shape: tuple[int, ...]) -> None:
    """Values on each backend, both modes to second order, and batches, also of gradients."""
    a = values(shape)
    want = as_list(numpys(a))
    for backend in ("cpu", "strict"):
        got = as_list(ours(fw.tensor(a, backend=backend)))
        assert len(got) == len(want)
        for g, w in zip(got, want):
            assert isinstance(g, Tensor)
            assert (g.backend, g.dtype, g.shape) == (backend, "float64", w.shape)
            np.testing.assert_array_equal(g.numpy(), w)

    def squares(x: Any) -> list[Any]:
        return [y * y * (k + 1) for k, y in enumerate(as_list(ours(x)))]

    x, t = fw.tensor(a), fw.tensor(values(shape, 1))
    cs = [fw.tensor(values(w.shape, 2 + k)) for k, w in enumerate(want)]
    batch = fw.tensor(np.stack([a, values(shape, 9)]))

    def pulled(x: Any) -> Any:
        return fw.vjp(squares, x)[1](cs)[0]

    tangents = fw.jvp(squares, (x,), (t,))[1]
    along = sum(float((dy * c).sum()) for dy, c in zip(tangents, cs))
    assert float((pulled(x) * t).sum()) == pytest.approx(along, rel=1e-9, abs=1e-10)
    moved = [p - w for p, w in zip(as_list(numpys(a + t.numpy())), want)]  # exact, as the functions are affine
    for k, (dy, w, m) in enumerate(zip(tangents, want, moved)):
        np.testing.assert_allclose(dy.numpy(), 2 * (k + 1) * w * m, rtol=1e-9, atol=1e-10)
    if 0 < a.size <= 6:
        fw.gradcheck(squares, x)
        fw.gradcheck(pulled, x, rtol=1e-4, atol=1e-6)
        fw.gradcheck(lambda x: fw.jvp(squares, (x,), (t,))[1], x, rtol=1e-4, atol=1e-6)
    over_reverse = fw.jvp(pulled, (x,), (t,))[1]
    over_forward = fw.vjp(lambda x: fw.jvp(squares, (x,), (t,))[1], x)[1](cs)[0]
    np.testing.assert_allclose(over_reverse.numpy(), over_forward.numpy(), rtol=1e-9, atol=1e-10)
    got = vmap(lambda x: (as_list(ours(x)), pulled(x)), 0)(batch)
    rows = [(as_list(ours(b)), pulled(b)) for b in batch]
    for k, g in enumerate(got[0]):
        np.testing.assert_array_equal(g.numpy(), np.stack([row[0][k].numpy() for row in rows]))
    np.testing.assert_allclose(got[1].numpy(), np.stack([row[1].numpy() for row in rows]), rtol=1e-12, atol=1e-12)


def an_axis(data: Any, shape: tuple[int, ...]) -> int:
    return data.draw(st.integers(-len(shape), len(shape) - 1))


def same(name: str, *args: Any, **kwargs: Any) -> tuple[Any, Any]:
    """A function of ours and NumPy's of that name with these arguments."""
    return (lambda x: getattr(ops, name)(x, *args, **kwargs)), (lambda x: getattr(np, name)(x, *args, **kwargs))
