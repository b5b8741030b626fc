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

import framework as fw
import framework.numpy as fnp
from framework.autodiff import Tensor, vmap

BACKENDS = pytest.mark.parametrize("backend", ["cpu", "strict"])


def x(*shape: int, low: float = -2.0, high: float = 2.0) -> Any:
    return np.random.default_rng(sum(shape) + len(shape)).uniform(low, high, shape)


def near(a: Any) -> Any:
    """Inside (−0.9, 0.9), away from 0."""
    return np.sin(a) * 0.4 + 0.45


# -- every function: one call for both namespaces, and its inputs ----------------------------------------------

Call = Callable[..., Any]
TABLE: dict[str, list[tuple[Call, tuple[Any, ...]]]] = {}


def row(name: str, call: Call, *inputs: Any) -> None:
    TABLE.setdefault(name, []).append((call, inputs))


for _name in ("abs", "absolute", "asinh", "arcsinh", "atan", "arctan", "cos", "cosh", "exp", "expm1", "negative", "positive",
              "sin", "sinh", "square", "tan", "tanh", "ceil", "floor", "round", "sign", "trunc", "signbit", "isfinite", "isinf",
              "isnan"):  # fmt: skip
    row(_name, lambda np, a, n=_name: getattr(np, n)(a), x(2, 3))
for _name in (
    "acos",
    "arccos",
    "asin",
    "arcsin",
    "atanh",
    "arctanh",
    "log",
    "log10",
    "log1p",
    "log2",
    "sqrt",
    "reciprocal",
):
    row(_name, lambda np, a, n=_name: getattr(np, n)(a), near(x(2, 3)))
for _name in ("acosh", "arccosh"):
    row(_name, lambda np, a, n=_name: getattr(np, n)(a), x(2, 3, low=1.2))
for _name in (
    "add",
    "subtract",
    "multiply",
    "divide",
    "true_divide",
    "maximum",
    "minimum",
    "atan2",
    "arctan2",
    "hypot",
    "logaddexp",
    "equal",
    "not_equal",
    "less",
    "less_equal",
    "greater",
    "greater_equal",
    "floor_divide",
    "remainder",
    "mod",
):
    row(_name, lambda np, a, b, n=_name: getattr(np, n)(a, b), x(2, 3), x(3, low=0.5))
    row(_name, lambda np, a, n=_name: getattr(np, n)(a, 1.7), x(2, 3))
    row(_name, lambda np, a, n=_name: getattr(np, n)(1.7, a), x(2, 3, low=0.5))
for _name in ("pow", "power"):
    row(_name, lambda np, a, b, n=_name: getattr(np, n)(a, b), x(2, 3, low=0.5), x(3))
for _name in ("logical_and", "logical_or", "logical_xor", "bitwise_and", "bitwise_or", "bitwise_xor"):
    row(_name, lambda np, a, b, n=_name: getattr(np, n)(a > 0, b > 0), x(2, 3), x(3))
for _name in ("bitwise_left_shift", "left_shift", "bitwise_right_shift", "right_shift"):
    row(_name, lambda np, a, n=_name: getattr(np, n)(a, 2), np.array([1, 5, -3]))
row("logical_not", lambda np, a: np.logical_not(a > 0), x(2, 3))
for _name in ("bitwise_invert", "invert"):
    row(_name, lambda np, a, n=_name: getattr(np, n)(a), np.array([1, 5, -3]))

for _name in ("sum", "mean", "max", "amax", "min", "amin", "prod", "var", "std", "any", "all", "argmax", "argmin"):
    row(_name, lambda np, a, n=_name: getattr(np, n)(a), x(2, 3))
    row(_name, lambda np, a, n=_name: getattr(np, n)(a, 1), x(2, 3))
    row(_name, lambda np, a, n=_name: getattr(np, n)(a, axis=-2, keepdims=True), x(2, 3))
for _name in ("var", "std"):
    row(_name, lambda np, a, n=_name: getattr(np, n)(a, axis=0, correction=1), x(3, 2))
for _name in ("sum", "prod"):
    row(_name, lambda np, a, n=_name: getattr(np, n)(a, dtype="float64"), np.array([1, 2, 3], np.int8))
for _name in ("cumulative_sum", "cumsum"):
    row(_name, lambda np, a, n=_name: getattr(np, n)(a, axis=1), x(2, 3))
    row(_name, lambda np, a, n=_name: getattr(np, n)(a), x(4))

row("broadcast_to", lambda np, a: np.broadcast_to(a, (2, 3)), x(3))
row("reshape", lambda np, a: np.reshape(a, (3, -1)), x(2, 3))
row("reshape", lambda np, a: np.reshape(a, 6), x(2, 3))
row("ravel", lambda np, a: np.ravel(a), x(2, 3))
row("ravel", lambda np, a: np.ravel(a), x(0, 3))
row("squeeze", lambda np, a: np.squeeze(a), x(1, 3, 1))
row("squeeze", lambda np, a: np.squeeze(a, axis=(0, -1)), x(1, 3, 1))
row("expand_dims", lambda np, a: np.expand_dims(a, axis=-1), x(2, 3))
row("expand_dims", lambda np, a: np.expand_dims(a, 1), x(2, 3))
row("permute_dims", lambda np, a: np.permute_dims(a, (2, 0, 1)), x(2, 3, 1))
row("transpose", lambda np, a: np.transpose(a), x(2, 3, 1))
row("transpose", lambda np, a: np.transpose(a, (1, 0, 2)), x(2, 3, 1))
row("matrix_transpose", lambda np, a: np.matrix_transpose(a), x(2, 3, 1))
row("swapaxes", lambda np, a: np.swapaxes(a, 0, -1), x(2, 3, 1))
row("moveaxis", lambda np, a: np.moveaxis(a, 0, -1), x(2, 3, 1))
row("moveaxis", lambda np, a: np.moveaxis(a, -1, 0), x(2, 3, 1))
row("flip", lambda np, a: np.flip(a), x(2, 3))
row("flip", lambda np, a: np.flip(a, axis=(0,)), x(2, 3))
for _name in ("concat", "concatenate"):
    row(_name, lambda np, a, b, n=_name: getattr(np, n)([a, b]), x(2, 3), x(1, 3))
    row(_name, lambda np, a, b, n=_name: getattr(np, n)((a, b), 1), x(2, 3), x(2, 1))
    row(_name, lambda np, a, b, n=_name: getattr(np, n)((a, b), axis=None), x(2, 3), x(2))
row("stack", lambda np, a, b: np.stack([a, b]), x(2, 3), x(2, 3))
row("stack", lambda np, a, b: np.stack((a, b), axis=-1), x(2), x(2))
row("tril", lambda np, a: np.tril(a), x(2, 3, 3))
row("tril", lambda np, a: np.tril(a, k=-1), x(3, 2))
row("triu", lambda np, a: np.triu(a), x(3, 3))
row("triu", lambda np, a: np.triu(a, k=1), x(2, 2, 3))
row("take", lambda np, a: np.take(a, np.asarray([2, 0, 2]), axis=1), x(2, 3))
row("take", lambda np, a: np.take(a, np.asarray([[2, 0], [5, 5]])), x(2, 3))
row("take_along_axis", lambda np, a: np.take_along_axis(a, np.asarray([[2, 0], [1, 1]]), axis=1), x(2, 3))
row("take_along_axis", lambda np, a: np.take_along_axis(a, np.argmax(a, axis=0, keepdims=True), axis=0), x(3, 2))
row("where", lambda np, a, b: np.where(a > 0, a, b), x(2, 3), x(3))
row("where", lambda np, a: np.where(a > 0, a, 0.0), x(2, 3))
row("clip", lambda np, a: np.clip(a, -1, 1), x(2, 3))
row("clip", lambda np, a, low, high: np.clip(a, low, high), x(2, 3), np.full(3, -0.4), np.full((2, 1), 0.9))
row("nonzero", lambda np, a: np.stack(np.nonzero(a > 0)), x(2, 3))
row("nan_to_num", lambda np, a: np.nan_to_num(a), np.array([1.0, np.nan, -2.0]))
row("matmul", lambda np, a, b: np.matmul(a, b), x(2, 3), x(3, 2))
row("matmul", lambda np, a, b: np.matmul(a, b), x(2, 2, 3), x(3))
row("array", lambda np, a: np.array(a), x(2, 3))
row("asarray", lambda np, a: np.asarray(a, dtype="float64"), x(2, 3))
row("zeros_like", lambda np, a: np.zeros_like(a), x(2, 3))
row("ones_like", lambda np, a: np.ones_like(a, dtype="int64"), x(2, 3))
row("full_like", lambda np, a: np.full_like(a, 2.5), x(2, 3))
row("zeros", lambda np: np.zeros((2, 3), dtype="int32"))
row("ones", lambda np: np.ones(4, dtype="float64"))
row("full", lambda np: np.full((2, 0), 3, dtype="float64"))
row("full", lambda np: np.full(2, True))
row("full", lambda np: np.full((), 7))
row("arange", lambda np: np.arange(5))
row("arange", lambda np: np.arange(2, 9, 3))
row("arange", lambda np: np.arange(5, 0, -2))
row("arange", lambda np: np.arange(0.0, 1.0, 0.25, dtype="float64"))
row("arange", lambda np: np.arange(3, 3))
row("linspace", lambda np: np.linspace(-1, 2, 7, dtype="float64"))
row("linspace", lambda np: np.linspace(0, 1, 4, endpoint=False, dtype="float64"))
row("eye", lambda np: np.eye(3, dtype="float64"))
row("eye", lambda np: np.eye(2, 4, k=1, dtype="float64"))

OWN = {  # what NumPy has not, by its definition
    "astype": (lambda a: fnp.astype(a, "float64"), lambda a: a, (x(2, 3),)),
    "erf": (fnp.erf, np.vectorize(math.erf), (x(2, 3),)),
    "getitem": (lambda a: fnp.getitem(a, (0, slice(1, None))), lambda a: a[0, 1:], (x(2, 3),)),
    "linear": (fnp.linear, lambda a, w, b: a @ w.T + b, (x(2, 3), x(4, 3), x(4))),
    "logsumexp": (lambda a: fnp.logsumexp(a, axis=-1), lambda a: np.log(np.exp(a).sum(-1)), (x(2, 3),)),
    "log_softmax": (fnp.log_softmax, lambda a: np.log(np.exp(a) / np.exp(a).sum(-1, keepdims=True)), (x(2, 3),)),
    "relu": (fnp.relu, lambda a: np.maximum(a, 0), (x(2, 3),)),
    "scatter_add": (
        lambda a, v: fnp.scatter_add(a, fnp.asarray([0, 2, 0]), v),
        lambda a, v: a + np.stack([v[0] + v[2], 0 * v[0], v[1]]),
        (x(3, 2), x(3, 2)),
    ),
    "sigmoid": (fnp.sigmoid, lambda a: 1 / (1 + np.exp(-a)), (x(2, 3),)),
    "softmax": (lambda a: fnp.softmax(a, 0), lambda a: np.exp(a) / np.exp(a).sum(0), (x(2, 3),)),
    "to_device": (lambda a: fnp.to_device(a, "cpu"), lambda a: a, (x(2, 3),)),
}
CONSTANTS = {"e", "inf", "nan", "newaxis", "pi"}
FLAT = [(name, i) for name in TABLE for i in range(len(TABLE[name]))]


def test_every_name_is_in_the_table() -> None:
    assert set(fnp.__all__) == set(TABLE) | set(OWN) | CONSTANTS
    for name in fnp.__all__:
        assert hasattr(fnp, name)
    assert len(fnp.__all__) == len(set(fnp.__all__))


def both(name: str, i: int) -> tuple[Call, Call, tuple[Any, ...]]:
    if name in OWN:
        return OWN[name]
    call, inputs = TABLE[name][i]
    return lambda *a: call(fnp, *a), lambda *a: call(np, *a), inputs


EVERY = pytest.mark.parametrize(("name", "i"), [*FLAT, *((name, 0) for name in OWN)])


@BACKENDS
@EVERY
def test_values(name: str, i: int, backend: str) -> None:
    ours, theirs, inputs = both(name, i)
    want = theirs(*inputs)
    with fw.use_backend(backend):
        got = ours(*[fw.tensor(a) for a in inputs])
    assert isinstance(got, Tensor)
    assert got.backend == (backend if name != "to_device" else "cpu")
    assert got.shape == np.shape(want)
    assert got.dtype.kind == {"f": "float", "i": "int", "u": "uint", "b": "bool"}[np.asarray(want).dtype.kind]
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-12, atol=1e-14)


@EVERY
def test_gradients_flow_and_are_right(name: str, i: int) -> None:
    ours, _, inputs = both(name, i)
    points = [fw.tensor(a) for a in inputs]
    if name == "nan_to_num" or not any(p.dtype == "float64" for p in points):
        return
    fw.gradcheck(ours, points)
    flows = [p.requires_grad_() if p.dtype == "float64" else p for p in points]
    result = ours(*flows)
    constant = name in ("ceil", "floor", "round", "sign", "trunc", "signbit", "isfinite", "isinf", "isnan", "floor_divide", "zeros_like",
                        "ones_like", "full_like") or result.dtype.kind != "float"  # fmt: skip
    assert result.requires_grad is not constant


@EVERY
def test_batches(name: str, i: int) -> None:
    ours, theirs, inputs = both(name, i)
    if not inputs or name == "nonzero":
        return
    batch = [np.stack([a, a * 0 + a[..., ::-1]]) for a in inputs]
    got = vmap(ours)(*map(fw.tensor, batch))
    want = np.stack([theirs(*[b[k] for b in batch]) for k in range(2)])
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-12, atol=1e-14)


@EVERY
def test_arrays_and_lists_are_taken_like_tensors(name: str, i: int) -> None:
    ours, theirs, inputs = both(name, i)
    if not inputs:
        return
    got = ours(*inputs) if name != "to_device" else ours(fw.tensor(inputs[0]))
    assert isinstance(got, Tensor)
    np.testing.assert_allclose(got.numpy(), theirs(*inputs), rtol=1e-12, atol=1e-14)


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
