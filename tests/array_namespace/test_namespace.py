"""framework.numpy: its names, each against NumPy, on every backend, with gradients."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from names_table import CONSTANTS, NOT_ARRAYS, OWN, TABLE, Call

import framework as fw
import framework.numpy as fnp
from framework.autodiff import Tensor, vmap

BACKENDS = pytest.mark.parametrize("backend", ["cpu", "strict"])


CALLS = {**{name: len(TABLE[name]) for name in TABLE}, **dict.fromkeys(OWN, 1)}
"""How many calls of each name the tables have."""


def test_every_name_is_in_the_table() -> None:
    assert set(fnp.__all__) == set(TABLE) | set(OWN) | CONSTANTS | NOT_ARRAYS
    for name in fnp.__all__:
        assert hasattr(fnp, name)
    assert len(fnp.__all__) == len(set(fnp.__all__))


def both(name: str, i: int) -> tuple[Call, Call, tuple[Any, ...]]:
    if name in OWN:
        return OWN[name]
    call, inputs = TABLE[name][i]
    return lambda *a: call(fnp, *a), lambda *a: call(np, *a), inputs


BY_VALUE = {
    "nonzero",
    "argwhere",
    "flatnonzero",
    "unique",
    "unique_all",
    "unique_counts",
    "unique_inverse",
    "unique_values",
}
"""Functions whose result has a shape that depends on values."""
STEPS = {
    "around", "ceil", "empty_like", "fix", "floor", "floor_divide", "full_like", "isfinite", "isinf", "isnan",
    "ones_like", "rint", "round", "sign", "signbit", "trunc", "zeros_like",
}  # fmt: skip
"""Functions that are constant between their steps."""
EVERY = pytest.mark.parametrize("name", CALLS)


def each(name: str, check: Callable[[int], None]) -> None:
    """Check every call of a name by its number; an error says which one it was."""
    for i in range(CALLS[name]):
        try:
            check(i)
        except Exception as error:
            error.add_note(f"call {i} of {name}")
            raise


@BACKENDS
@EVERY
def test_values(name: str, backend: str) -> None:
    def check(i: int) -> None:
        ours, theirs, inputs = both(name, i)
        want = theirs(*inputs)
        with fw.use_backend(backend):
            got = ours(*[fw.tensor(a) for a in inputs])
        assert isinstance(got, Tensor)
        assert got.backend == (backend if name != "to_device" else "cpu")
        assert got.shape == np.shape(want)
        assert got.dtype.kind == {"f": "float", "i": "int", "u": "uint", "b": "bool"}[np.asarray(want).dtype.kind]
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-12, atol=1e-14)

    each(name, check)


@EVERY
def test_gradients_flow_and_are_right(name: str) -> None:
    def check(i: int) -> None:
        ours, _, inputs = both(name, i)
        points = [fw.tensor(a) for a in inputs]
        if any(np.isnan(a).any() for a in inputs) or not any(p.dtype == "float64" for p in points):
            return
        fw.gradcheck(ours, points)
        flows = [p.requires_grad_() if p.dtype == "float64" else p for p in points]
        result = ours(*flows)
        constant = name in STEPS or (name, i) == ("imag", 0) or result.dtype.kind != "float"
        assert result.requires_grad is not constant

    each(name, check)


@EVERY
def test_batches(name: str) -> None:
    def check(i: int) -> None:
        ours, theirs, inputs = both(name, i)
        if not inputs or name in BY_VALUE:
            return
        batch = [np.stack([a, a * 0 + a[..., ::-1]]) for a in inputs]
        got = vmap(ours)(*map(fw.tensor, batch))
        want = np.stack([theirs(*[b[k] for b in batch]) for k in range(2)])
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-12, atol=1e-14)

    each(name, check)


@EVERY
def test_arrays_and_lists_are_taken_like_tensors(name: str) -> None:
    def check(i: int) -> None:
        ours, theirs, inputs = both(name, i)
        if not inputs:
            return
        got = ours(*inputs) if name != "to_device" else ours(fw.tensor(inputs[0]))
        assert isinstance(got, Tensor)
        np.testing.assert_allclose(got.numpy(), theirs(*inputs), rtol=1e-12, atol=1e-14)

    each(name, check)


# -- creation ------------------------------------------------------------------------------------------------


@BACKENDS
def test_creation(backend: str) -> None:
    for made, shape, dtype in (
        (fnp.zeros(3, backend=backend), (3,), "float32"),
        (fnp.ones((2, 0), backend=backend, dtype="uint8"), (2, 0), "uint8"),
        (fnp.full((2,), 1.5, backend=backend), (2,), "float32"),
        (fnp.full((2,), 1, backend=backend), (2,), "int64"),
        (fnp.full((2,), True, backend=backend), (2,), "bool"),
        (fnp.arange(3, backend=backend), (3,), "int64"),
        (fnp.arange(3.0, backend=backend), (3,), "float32"),
        (fnp.arange(0, 3, 0.5, backend=backend), (6,), "float32"),
        (fnp.linspace(0, 1, 5, backend=backend), (5,), "float32"),
        (fnp.eye(2, backend=backend), (2, 2), "float32"),
        (fnp.asarray([1, 2], backend=backend), (2,), "int64"),
        (fnp.array([1.0], device=backend), (1,), "float32"),
    ):
        assert (made.shape, made.dtype, made.backend, made.requires_grad) == (shape, dtype, backend, False)
    assert fnp.zeros(2, device="strict:1").device == "strict:1"


def test_asarray_shares_and_array_copies() -> None:
    host = np.array([1.0, 2.0])
    shared, copied = fnp.asarray(host), fnp.array(host)
    host[0] = 5.0
    assert (shared.tolist(), copied.tolist()) == ([5.0, 2.0], [1.0, 2.0])
    t = fw.tensor([1.0, 2.0])
    assert fnp.asarray(t) is t
    made = fnp.array(t)
    made += 1.0
    assert t.tolist() == [1.0, 2.0]
    assert fnp.asarray(t, copy=True) is not t
    assert fnp.asarray(t, dtype="float64").dtype == "float64"


def test_arrays_of_tensors_keep_gradients() -> None:
    """As in `np.array([f(x), g(x)])`, also nested, with numbers among them."""
    a, b = (
        fw.tensor(2.0, dtype="float64", requires_grad=True),
        fw.tensor([3.0, 4.0], dtype="float64", requires_grad=True),
    )
    made = fnp.array([[a, 1.0], [b[0] * a, b[1]], [5, 6]])
    assert made.tolist() == [[2.0, 1.0], [6.0, 4.0], [5.0, 6.0]]
    assert made.dtype == "float64"
    (made * fw.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]])).sum().backward()
    assert (a.grad.item(), b.grad.tolist()) == (10.0, [6.0, 4.0])
    fw.gradcheck(lambda a, b: fnp.asarray([b, [a, a * a]]), [a.detach(), b.detach()])


# -- the module ----------------------------------------------------------------------------------------------


def test_constants_and_dtypes() -> None:
    assert (fnp.pi, fnp.e, fnp.inf, fnp.newaxis) == (math.pi, math.e, math.inf, None)
    assert math.isnan(fnp.nan)
    for name in ("bool", "int8", "uint64", "float16", "float32", "float64", "complex64", "bfloat16"):
        assert getattr(fnp, name) is getattr(fw, name)
    assert fw.tensor([1.0])[fnp.newaxis].shape == (1, 1)


def test_an_unknown_name_says_what_there_is() -> None:
    with pytest.raises(AttributeError, match=r"framework\.numpy has no 'frobnicate'"):
        _ = fnp.frobnicate


def test_it_refuses_to_be_numpy() -> None:
    """A path that ends in framework/ would put it in NumPy's place."""
    folder = Path(fnp.__file__).parents[1]
    code = f"import sys; sys.path.insert(0, {str(folder)!r}); import numpy"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "imported under the name 'numpy': remove framework/ from sys.path" in done.stderr
