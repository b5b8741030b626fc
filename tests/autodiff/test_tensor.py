"""The Tensor as a Python object: what it is made of, attributes, conversions, operators, text, copies."""

from __future__ import annotations

import copy
import operator
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework.autodiff import Tensor, ops
from framework.errors import BackendError, DTypeError, GradientError, ShapeError

# -- making one ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.5, "float32"),
        (3, "int64"),
        (True, "bool"),
        (1j, "complex64"),
        ([1.0, 2], "float32"),
        ([1, 2], "int64"),
        ([[True], [False]], "bool"),
        ([True, 2], "int64"),
        ([True, 2.0], "float32"),
        ([1, 2.0, 3j], "complex64"),
        ([], "float32"),
        ([np.float64(1.0), 2.0], "float32"),
        (np.float64(1.0), "float64"),
        (np.array([1.0]), "float64"),
        (np.array([1.0], np.float16), "float16"),
        (np.array([1], np.uint8), "uint8"),
        (range(3), "int64"),
    ],
    ids=repr,
)
def test_dtype_of_data(data: Any, dtype: str) -> None:
    t = fw.tensor(data)
    assert t.dtype == dtype
    np.testing.assert_array_equal(t.numpy(), np.asarray(data))


def test_dtype_can_be_chosen(backend: str) -> None:
    for d in ("float64", "float32", "int8", "uint16", "bool", "complex128"):
        t = fw.tensor([1, 0], dtype=d, backend=backend)
        assert (t.dtype, t.backend) == (d, backend)
    assert fw.tensor([1, 0], dtype=fw.float64).dtype is fw.float64


@pytest.mark.parametrize(
    "data",
    [None, "text", [None], ["a"], object(), [[1.0], [1.0, 2.0]]],
    ids=["None", "text", "list of None", "list of text", "object", "ragged"],
)
def test_what_holds_no_numbers_is_refused(data: Any) -> None:
    with pytest.raises((DTypeError, ValueError)):
        fw.tensor(data)


def test_data_that_is_no_number_is_named() -> None:
    with pytest.raises(DTypeError, match="made of numbers, got str 'text'"):
        fw.tensor("text")
    with pytest.raises(DTypeError, match="made of numbers, got NoneType None"):
        fw.tensor([1.0]) + None  # type: ignore[operator]


def test_unknown_names_are_refused() -> None:
    with pytest.raises(DTypeError, match=r"unknown dtype 'flaot32'.*'float32'"):
        fw.tensor(1.0, dtype="flaot32")
    with pytest.raises(BackendError, match="cpuu"):
        fw.tensor(1.0, backend="cpuu")
    with pytest.raises(BackendError, match="contradict"):
        fw.tensor(1.0, backend="cpu", device="strict")


def test_tensors_inside_lists() -> None:
    t = fw.tensor([1.0, 2.0])
    assert fw.tensor([t[0], 3.0]).tolist() == [1.0, 3.0]
    assert fw.tensor([t, t]).shape == (2, 2)
    tracked = fw.tensor(1.0, requires_grad=True)
    assert not fw.tensor(tracked).requires_grad


def test_default_backend() -> None:
    with fw.use_backend("strict"):
        assert fw.tensor(1.0).backend == "strict"
        assert ops.zeros(2).backend == "strict"
        with fw.use_backend("cpu"):
            assert fw.tensor(1.0).backend == "cpu"
        assert (fw.tensor([1.0]) + np.array([1.0], np.float32)).backend == "strict"
        assert fw.grad(lambda x: x * x)(np.float32(2.0)).backend == "strict"
    assert fw.tensor(1.0).backend == "cpu"


# -- attributes ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [(), (3,), (2, 0, 4), (2, 3, 4)])
def test_attributes(shape: tuple[int, ...], backend: str) -> None:
    a = np.zeros(shape, np.float32)
    t = fw.tensor(a, backend=backend)
    assert (t.shape, t.ndim, t.size, t.dtype) == (a.shape, a.ndim, a.size, "float32")
    assert type(t.shape) is tuple
    assert (t.backend, t.device, t.is_leaf, t.requires_grad, t.grad) == (backend, backend, True, False, None)
    assert t._ns.backend.owns(t.data)
    if len(shape) >= 2:
        assert t.mT.shape == a.mT.shape
    else:
        with pytest.raises(ShapeError):
            _ = t.mT


def test_transpose_of_matrices_and_vectors(backend: str) -> None:
    assert fw.tensor([[1.0, 2.0]], backend=backend).T.tolist() == [[1.0], [2.0]]
    assert fw.tensor(3.0, backend=backend).T.tolist() == 3.0
    vector = fw.tensor([1.0, 2.0], backend=backend)
    same = vector.T
    same += 1.0
    assert (same.tolist(), vector.tolist()) == ([2.0, 3.0], [1.0, 2.0])
    assert fw.grad(lambda x: (x.T * x).sum())(vector).tolist() == [2.0, 4.0]
    with pytest.raises(ShapeError, match=r"T is for matrices, got shape \(1, 1, 2\)"):
        _ = fw.tensor([[[1.0, 2.0]]]).T


def test_a_full_reduction_is_like_any_other_tensor(backend: str) -> None:
    """NumPy makes scalars of these; users see no difference."""
    s = fw.tensor([1.0, 2.0], backend=backend).sum()
    assert (s.shape, s.ndim, s.size, s.dtype, s.device) == ((), 0, 1, "float32", backend)
    assert s.reshape(1).tolist() == [3.0]
    assert s.clone().item() == 3.0
    assert isinstance(s.numpy(), np.ndarray)
    assert copy.deepcopy(s).item() == 3.0
    assert s[None].shape == (1,)
    s.requires_grad_()
    (s * s).backward()
    assert s.grad.item() == 6.0


# -- out to Python ---------------------------------------------------------------------------------------


def test_numbers(backend: str) -> None:
    t = fw.tensor(2.5, backend=backend)
    assert (float(t), int(t), complex(t), bool(t), t.item()) == (2.5, 2, 2.5 + 0j, True, 2.5)
    assert type(t.item()) is float
    assert type(fw.tensor(2, backend=backend).item()) is int
    assert type(fw.tensor(True, backend=backend).item()) is bool
    assert not fw.tensor([[0.0]], backend=backend)
    assert float(fw.tensor([[4.0]], backend=backend)) == 4.0


def test_a_tracked_value_can_be_read() -> None:
    x = fw.tensor(2.0, requires_grad=True)
    y = x * 3
    assert (float(y), y.item(), y.tolist(), bool(y > 5)) == (6.0, 6.0, 6.0, True)
    assert f"{y:.1f}" == "6.0"


@pytest.mark.parametrize("read", [float, int, bool, Tensor.item, complex], ids=lambda f: f.__name__)
def test_several_elements_are_no_number(read: Any) -> None:
    with pytest.raises(ShapeError, match=r"one element, got shape \(2,\)"):
        read(fw.tensor([1.0, 2.0]))
    with pytest.raises(ShapeError, match=r"one element, got shape \(0,\)"):
        read(fw.tensor([]))


def test_errors_of_reading_say_what_to_do() -> None:
    for read, message in (
        (bool, r"bool\(\) needs one element, got shape \(2,\); use \.any\(\) or \.all\(\)"),
        (len, r"a 0-d Tensor has no length; \.item\(\)"),
    ):
        with pytest.raises((ShapeError, TypeError), match=message):
            read(fw.tensor([1.0, 2.0]) if read is bool else fw.tensor(1.0))


def test_tolist(backend: str) -> None:
    assert fw.tensor([[1, 2], [3, 4]], backend=backend).tolist() == [[1, 2], [3, 4]]
    assert fw.tensor(5.0, backend=backend).tolist() == 5.0
    assert fw.tensor(np.zeros((2, 0)), backend=backend).tolist() == [[], []]


def test_integers_are_indices(backend: str) -> None:
    letters = "abc"
    assert letters[fw.tensor(1, backend=backend)] == "b"
    assert list(range(5))[fw.tensor(1, dtype="uint8") : fw.tensor([3])] == [1, 2]
    with pytest.raises(DTypeError, match="only an integer Tensor can be an index, got float32"):
        letters[fw.tensor(1.0)]
    with pytest.raises(DTypeError, match="bool"):
        operator.index(fw.tensor(True))


def test_length_and_iteration(backend: str) -> None:
    t = fw.tensor([[1.0, 2.0], [3.0, 4.0]], backend=backend)
    assert len(t) == 2
    assert [row.tolist() for row in t] == [[1.0, 2.0], [3.0, 4.0]]
    assert len(fw.tensor(np.zeros((0, 3)), backend=backend)) == 0
    _, b = t
    assert b.tolist() == [3.0, 4.0]
    for read in (len, iter):
        with pytest.raises(TypeError, match="0-d"):
            read(fw.tensor(1.0))


def test_iteration_passes_gradients() -> None:
    x = fw.tensor([1.0, 2.0, 3.0], requires_grad=True)
    total = sum(row * k for k, row in enumerate(x))
    total.backward()
    assert x.grad.tolist() == [0.0, 1.0, 2.0]


def test_what_is_no_index() -> None:
    t = fw.tensor([[1.0, 2.0], [3.0, 4.0]])
    for key in ("a", 1.0, True, (0, fw.tensor(True)), (0, "b"), object()):
        with pytest.raises(IndexError, match="is no index; these are: integers, slices"):
            t[key]
    with pytest.raises(DTypeError, match="an integer or a bool array, got float32"):
        t[fw.tensor([1.0])]
    with pytest.raises(ShapeError, match=r"3 indices for an array of shape \(2, 2\)"):
        t[0, 0, 0]
    with pytest.raises(IndexError, match=r"a mask of shape \(3,\) for axes of lengths \(2,\)"):
        t[fw.tensor([True, False, True])]
    with pytest.raises(IndexError, match="out of bounds"):
        t[2]
    assert t[[]].shape == (0, 2)


def test_membership() -> None:
    t = fw.tensor([1.0, 2.0])
    assert 2.0 in t
    assert 3.0 not in t
    m = fw.tensor([[1, 2], [3, 4]])
    assert 4 in m
    assert fw.tensor([3, 2]) in m  # somewhere, as in NumPy
    assert fw.tensor([5, 6]) not in m


def test_hash_is_identity() -> None:
    a, b = fw.tensor([1.0]), fw.tensor([1.0])
    assert len({a, b, a}) == 2
    assert {a: 1}[a] == 1
    assert hash(a) == hash(a)


def test_comparisons_are_elementwise() -> None:
    a, b = fw.tensor([1.0, 2.0, 3.0]), fw.tensor([3.0, 2.0, 1.0])
    got = {
        op.__name__: op(a, b).tolist()
        for op in (operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge)
    }
    assert got == {
        "eq": [False, True, False],
        "ne": [True, False, True],
        "lt": [True, False, False],
        "le": [True, True, False],
        "gt": [False, False, True],
        "ge": [False, True, True],
    }
    assert (a == b).dtype == "bool"
    assert operator.lt(2.0, a).tolist() == [False, False, True]


def test_a_tensor_equals_no_text_and_not_none() -> None:
    t = fw.tensor([1.0, 2.0])
    assert (t == None, t != None, t == "a", "a" != t) == (False, True, False, True)  # noqa: E711
    assert t not in (None, "a")
    assert [None, t].index(None) == 0
    with pytest.raises(DTypeError, match="made of numbers"):
        _ = t < "a"


# -- the gradient ------------------------------------------------------------------------------------------


def tracked(*values: float) -> Tensor:
    return fw.tensor(values, dtype="float64", requires_grad=True)


def test_the_gradient_stays_one_tensor() -> None:
    x = tracked(1.0, 2.0)
    (x * 3).sum().backward()
    g = x.grad
    assert x.grad is g
    (x * 3).sum().backward()
    assert (g.tolist(), x.grad is g) == ([6.0, 6.0], True)
    g.zero_()
    (x * 2).sum().backward()
    g *= 10.0
    x.grad += 1.0
    x.grad[0] = 5.0
    assert (g.tolist(), x.grad is g, g.requires_grad) == ([5.0, 21.0], True, False)
    x.grad = None
    assert x.grad is None
    (x * 2).sum().backward()
    assert (x.grad.tolist(), g.tolist()) == ([2.0, 2.0], [5.0, 21.0])


def test_a_gradient_that_was_looked_at_with_one_that_is_recorded() -> None:
    x = tracked(2.0)
    (x * 3).sum().backward()
    assert x.grad.tolist() == [3.0]
    (x**3).sum().backward(create_graph=True)
    g = x.grad
    assert (g.tolist(), g.requires_grad) == ([15.0], True)
    x.grad = None
    g.sum().backward()
    assert x.grad.tolist() == [12.0]
    x.grad = g
    assert x.grad is g
    x.grad.zero_()
    assert (x.grad.tolist(), x.grad.requires_grad) == ([0.0], False)


def test_a_gradient_that_is_set() -> None:
    x = tracked(1.0, 2.0)
    mine = fw.tensor([3.0, 4.0])
    x.grad = mine
    mine += 100.0
    assert (x.grad.tolist(), x.grad.dtype) == ([3.0, 4.0], "float64")
    x.grad = fw.tensor([5.0, 6.0], backend="strict", dtype="float64")
    assert (x.grad.tolist(), x.grad.backend) == ([5.0, 6.0], "cpu")
    x.grad = np.array([7.0, 8.0])
    assert x.grad.tolist() == [7.0, 8.0]
    with pytest.raises(GradientError, match="only a leaf"):
        (x * 2).grad = mine
    with pytest.raises(GradientError, match="inside a transform cannot be the gradient of a Tensor outside"):
        fw.jvp(lambda v: setattr(x, "grad", v), (mine,), (mine,))
    assert x.grad.tolist() == [7.0, 8.0]


@pytest.mark.parametrize("looked_at", [False, True])
def test_gradients_filled_with_zeros(looked_at: bool) -> None:
    p = fw.nn.Parameter([1.0, 2.0])
    module = fw.nn.Module()
    module.p = p
    optimizer = fw.optim.SGD([p], lr=1.0)
    for clear in (module.zero_grad, optimizer.zero_grad):
        p.grad = [float("nan"), 1.0]
        before = p.grad if looked_at else None
        clear(set_to_none=False)
        assert p.grad.tolist() == [0.0, 0.0]
        assert before is None or p.grad is before
        clear()
        assert p.grad is None


def test_an_optimizer_takes_what_was_written_into_a_gradient() -> None:
    p = fw.nn.Parameter([1.0, 2.0])
    optimizer = fw.optim.SGD([p], lr=1.0, momentum=0.5)
    for _ in range(2):
        optimizer.zero_grad()
        (p * 8.0).sum().backward()
        p.grad.clip(max=1.0)
        p.grad.copy_(p.grad.clip(max=1.0))
        held = p.grad
        optimizer.step()
    assert p.tolist() == [-1.5, -0.5]
    assert held.tolist() == [1.0, 1.0]


@pytest.mark.parametrize("optimizer", ["SGD", "Adam", "Rprop"])
def test_a_number_can_be_trained(optimizer: str) -> None:
    """NumPy gives scalars where arrays have no axes; a leaf is an array."""
    s = (fw.tensor([1.0, 2.0]).sum() * 1.0).requires_grad_()
    with fw.no_grad():
        s -= 1.0
    made = getattr(fw.optim, optimizer)([s], lr=0.1)
    for _ in range(3):
        made.zero_grad()
        (s * s).backward()
        made.step()
    assert s.item() < 2.0
    assert isinstance(s.data, np.ndarray)


def test_requires_grad_is_for_tensors_outside_transforms() -> None:
    with pytest.raises(GradientError, match="outside transforms"):
        fw.jvp(lambda x: x.requires_grad_(), (fw.tensor(1.0),), (fw.tensor(1.0),))


# -- operators -------------------------------------------------------------------------------------------

FLOATS = (operator.add, operator.sub, operator.mul, operator.truediv, operator.floordiv, operator.mod, operator.pow)
INTS = (operator.and_, operator.or_, operator.xor, operator.lshift, operator.rshift)


@pytest.mark.parametrize("op", [*FLOATS, *INTS], ids=lambda f: f.__name__)
def test_operators_both_ways(op: Any, backend: str) -> None:
    a, b = (np.array([5, 3, 2]), np.array([2, 1, 3]))
    if op in FLOATS:
        a, b = a * 1.5, b * 1.0
    t, u = fw.tensor(a, backend=backend), fw.tensor(b, backend=backend)
    number = b[0].item()
    for got, want in (
        (op(t, u), op(a, b)),
        (op(t, number), op(a, number)),
        (op(number, t), op(number, a)),
        (op(t, b), op(a, b)),
        (op(a, u), op(a, b)),
        (op(t, b[0]), op(a, b[0])),
        (op(b[0], t), op(b[0], a)),
    ):
        assert isinstance(got, Tensor)
        assert got.backend == backend
        np.testing.assert_allclose(got.numpy(), want, rtol=1e-14)


def test_matrix_product_both_ways() -> None:
    a = np.array([[1.0, 2.0], [3.0, 4.0]])
    t = fw.tensor(a)
    for got in (t @ t, t @ a, a @ t):
        assert isinstance(got, Tensor)
        np.testing.assert_array_equal(got.numpy(), a @ a)


def test_unary_operators(backend: str) -> None:
    t = fw.tensor([-1.5, 2.0], backend=backend)
    assert ((-t).tolist(), (+t).tolist(), abs(t).tolist()) == ([1.5, -2.0], [-1.5, 2.0], [1.5, 2.0])
    assert (~fw.tensor([True, False], backend=backend)).tolist() == [False, True]
    assert (~fw.tensor([0, 5], backend=backend)).tolist() == [-1, -6]


def test_divmod(backend: str) -> None:
    t = fw.tensor([5.0, -7.0], backend=backend)
    for got, want in (
        (divmod(t, 2), divmod(np.array([5.0, -7.0]), 2)),
        (divmod(2, t), divmod(2, np.array([5.0, -7.0]))),
    ):
        assert [part.tolist() for part in got] == [part.tolist() for part in want]
    x = fw.tensor([2.0, 3.0], backend=backend, requires_grad=True)
    quotient, rest = divmod(np.array([5.0, 7.0], np.float32), x)
    rest.sum().backward()
    assert (quotient.tolist(), rest.tolist(), x.grad.tolist()) == ([2.0, 2.0], [1.0, 1.0], [-2.0, -2.0])


def test_parts_of_complex_numbers(backend: str) -> None:
    z = fw.tensor([1 + 2j, 3 - 1j], backend=backend)
    assert (z.real.tolist(), z.imag.tolist(), z.real.dtype) == ([1.0, 3.0], [2.0, -1.0], "float32")
    x = fw.tensor([1.0, 2.0], backend=backend)
    assert (x.real is x, x.imag.tolist()) == (True, [0.0, 0.0])


def test_shapes_that_do_not_broadcast() -> None:
    with pytest.raises(ValueError, match="broadcast"):
        fw.tensor([1.0, 2.0]) + fw.tensor([1.0, 2.0, 3.0])
    with pytest.raises(ShapeError, match=r"matmul of shapes \(2,\) and \(3,\)"):
        fw.tensor([1.0, 2.0]) @ fw.tensor([1.0, 2.0, 3.0])
    with pytest.raises(ShapeError, match="use \\* for numbers"):
        fw.tensor([1.0]) @ 2.0


# -- text ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: fw.tensor([1.0, 2.5]), "tensor([1. , 2.5], dtype=float32)"),
        (lambda: fw.tensor(3), "tensor(3, dtype=int64)"),
        (lambda: fw.tensor(1.5, dtype="float64"), "tensor(1.5, dtype=float64)"),
        (lambda: fw.tensor([True]), "tensor([ True], dtype=bool)"),
        (lambda: fw.tensor([]), "tensor([], dtype=float32)"),
        (lambda: fw.tensor([1.0], requires_grad=True), "tensor([1.], dtype=float32, requires_grad=True)"),
        (lambda: fw.tensor([1.0], backend="strict"), "tensor([1.], dtype=float32, device='strict')"),
        (lambda: fw.tensor([1.0, 2.0]).sum(), "tensor(3., dtype=float32)"),
    ],
)
def test_repr(make: Any, text: str) -> None:
    assert repr(make()) == text
    assert str(make()) == text


def test_repr_of_lines_that_are_full_tells_the_dtype_once() -> None:
    for n in range(1, 60):  # NumPy puts the dtype on a line of its own where there is no room
        assert repr(fw.tensor([0.25] * n, dtype="float16")).endswith("25], dtype=float16)")


def test_repr_of_many_elements_is_short() -> None:
    assert len(repr(fw.tensor(np.zeros((1000, 1000))))) < 500


def test_format() -> None:
    t = fw.tensor(3.14159)
    assert f"{t:.2f}|{t:8.3f}|{fw.tensor(7):03d}" == "3.14|   3.142|007"
    assert f"{t}" == str(t)


# -- casts and moves -------------------------------------------------------------------------------------


def test_to(backend: str) -> None:
    t = fw.tensor([1.0, 2.0], backend=backend)
    assert t.to(backend) is t
    assert t.to("float32") is t
    assert t.to(fw.float64).dtype == "float64"
    assert t.to(dtype="int64").dtype == "int64"
    assert t.to("cpu").backend == "cpu"
    assert t.to("strict:1").device == "strict:1"
    assert t.to("strict:1").to("strict").device == "strict"
    moved = t.to("strict", dtype="float64")
    assert (moved.backend, moved.dtype, moved.tolist()) == ("strict", "float64", [1.0, 2.0])
    assert t.to_device("cpu").backend == "cpu"
    assert t.to(t._ns.backend) is t
    assert (t.to(float).dtype, t.to(int).dtype) == ("float32", "int64")
    with pytest.raises(BackendError, match="no device 'strict:9'; it has strict, strict:1"):
        t.to("strict:9")


def test_wrong_devices_teach() -> None:
    t = fw.tensor([1.0])
    for call, error, message in (
        (lambda: t.to("gpu"), BackendError, r"unknown backend 'gpu'"),
        (lambda: t.to("cpu:1"), BackendError, r"backend 'cpu' has no device 'cpu:1'; it has cpu"),
        (lambda: t.to("flaot64"), DTypeError, r"'flaot64' is neither a dtype nor a device\. Did you mean 'float64'"),
        (lambda: t.to(3), DTypeError, r"unknown dtype 3"),
        (lambda: fw.tensor(1.0, device="cpu:7"), BackendError, r"no device 'cpu:7'"),
        (lambda: fw.tensor(1.0, device=0), BackendError, r"a device is a string such as 'cpu' or 'cuda:1', got 0"),
        (lambda: fw.tensor(1.0, device=""), BackendError, r"unknown backend ''"),
    ):
        with pytest.raises(error, match=message):
            call()


def test_to_passes_gradients() -> None:
    x = fw.tensor([1.0, 2.0], requires_grad=True)
    y = x.to("strict", dtype="float64").to("float32").to("cpu") * 3
    y.sum().backward()
    assert (x.grad.tolist(), x.grad.dtype, x.grad.backend) == ([3.0, 3.0], "float32", "cpu")


def test_casts_have_no_derivative_through_integers() -> None:
    x = fw.tensor([1.5, 2.5], dtype="float64")
    steps = (
        lambda x: x.long().double() * x,
        lambda x: x.bool().double() * x,
        lambda x: ops.astype(x, "int8").double() * x,
    )
    for f in steps:
        held = f(x).numpy() / x.numpy()
        assert fw.vjp(f, x)[1](ops.ones_like(x))[0].tolist() == held.tolist()
        assert fw.jvp(f, (x,), (ops.ones_like(x),))[1].tolist() == held.tolist()
        assert fw.autodiff.vmap(fw.grad(f))(x).tolist() == held.tolist()


def test_methods_named_as_in_torch() -> None:
    t = fw.tensor(np.arange(6.0).reshape(2, 3))
    a = np.arange(6.0).reshape(2, 3)
    pairs = {
        "reshape": (t.reshape(3, 2), a.reshape(3, 2)),
        "reshape of a tuple": (t.reshape((3, -1)), a.reshape(3, 2)),
        "view": (t.view(-1), a.reshape(-1)),
        "flatten": (t.flatten(), a.ravel()),
        "flatten some": (t.unsqueeze(0).flatten(0, 1), a),
        "squeeze": (t.unsqueeze(1).squeeze(), a),
        "squeeze one": (t.unsqueeze(1).squeeze(1), a),
        "unsqueeze": (t.unsqueeze(-1), a[..., None]),
        "permute": (t.permute(1, 0), a.T),
        "permute of a tuple": (t.permute((1, 0)), a.T),
        "transpose": (t.transpose(0, 1), a.T),
        "transpose all": (t.transpose(), a.T),
        "expand": (t.unsqueeze(0).expand(4, -1, 3), np.broadcast_to(a, (4, 2, 3))),
        "sum": (t.sum(1), a.sum(1)),
        "mean": (t.mean(0, keepdims=True), a.mean(0, keepdims=True)),
        "var": (t.var(correction=1), a.var(ddof=1)),
        "std": (t.std(-1), a.std(-1)),
        "prod": (t.prod(), a.prod()),
        "max": (t.max(1), a.max(1)),
        "min": (t.min(), a.min()),
        "argmax": (t.argmax(), a.argmax()),
        "argmin": (t.argmin(1, keepdims=True), a.argmin(1, keepdims=True)),
        "any": ((t > 4).any(), (a > 4).any()),
        "all": ((t > 4).all(0), (a > 4).all(0)),
        "cumsum": (t.cumsum(1), a.cumsum(1)),
        "cumprod": (t.cumprod(1), a.cumprod(1)),
        "swapaxes": (t.swapaxes(0, -1), a.swapaxes(0, -1)),
        "take": (t.take([1, 0], axis=0), a.take([1, 0], axis=0)),
        "take of all": (t.take([4, 0]), a.take([4, 0])),
        "argsort": ((-t).argsort(), (-a).argsort()),
        "argsort down": ((-t).argsort(0), (-a).argsort(0)),
        "dot": (t.dot(a.T), a.dot(a.T)),
        "conj": (t.conj(), a.conj()),
        "round": ((t / 7).round(), (a / 7).round()),
        "round to places": ((t / 7).round(2), (a / 7).round(2)),
        "abs": ((-t).abs(), a),
        "exp": (t.exp(), np.exp(a)),
        "log": ((t + 1).log(), np.log(a + 1)),
        "sqrt": (t.sqrt(), np.sqrt(a)),
        "clip": (t.clip(1, 4), a.clip(1, 4)),
        "astype": (t.astype("int64"), a.astype(int)),
        "long": (t.long(), a.astype(int)),
        "bool": (t.bool(), a.astype(bool)),
    }
    for name, (got, want) in pairs.items():
        assert got.shape == want.shape, name
        np.testing.assert_allclose(got.numpy(), want, err_msg=name)
    assert (t.float().dtype, t.double().dtype) == ("float32", "float64")


def test_wrong_shapes_teach() -> None:
    t = fw.tensor(np.zeros((2, 3)))
    for call, message in (
        (lambda: t.reshape(4), r"cannot reshape \(2, 3\) \(6 elements\) to \(4,\) \(4 elements\)"),
        (lambda: t.reshape(-1, -1), r"cannot reshape"),
        (lambda: t.reshape(-1, 4), r"cannot reshape"),
        (lambda: t.squeeze(0), r"cannot squeeze axis 0 of length 2"),
        (lambda: t.permute(0, 0), r"each axis once"),
        (lambda: t.sum(2), r"axis 2 of an array with 2 axes; it must be from -2 to 1"),
        (lambda: t.expand(4, 3), r"cannot broadcast shape \(2, 3\) to \(4, 3\)"),
        (lambda: t.flatten(1, 0), r"the first comes after the last"),
        (lambda: fw.tensor(np.zeros((0, 3))).max(0), r"no element"),
        (lambda: ops.stack([t, t[0]]), r"one shape"),
        (lambda: ops.concat([t, t[0]]), r"the other axes must be equal"),
    ):
        with pytest.raises(ShapeError, match=message):
            call()
