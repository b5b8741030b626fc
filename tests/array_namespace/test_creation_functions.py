"""Functions that make arrays: values against NumPy, dtypes and devices, gradients to what they are made of."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import framework as fw
import framework.numpy as fnp
from framework.errors import GradientError, ShapeError

LIKE = pytest.mark.parametrize(
    "like", [fnp.zeros_like, fnp.ones_like, fnp.empty_like, lambda x, **k: fnp.full_like(x, 3, **k)]
)


@LIKE
def test_like_another(like: Any) -> None:
    x = fw.tensor([[1, 2, 3]], dtype="int16", device="strict:1")
    assert (like(x).shape, like(x).dtype, like(x).device) == ((1, 3), "int16", "strict:1")
    moved = like(x, dtype="float64", device="cpu")
    assert (moved.shape, moved.dtype, moved.device) == ((1, 3), "float64", "cpu")
    assert like(x, device="strict").device == "strict"
    tracked = fw.tensor([1.0], requires_grad=True)
    assert not like(tracked).requires_grad
    one = fw.vmap(lambda row: row * 0 + like(row).shape[0])(fw.tensor(np.ones((4, 3))))
    assert one.tolist() == [[3.0] * 3] * 4


def test_the_value_of_full_may_be_a_tensor(backend: str) -> None:
    t = fw.tensor(2.0, dtype="float64", backend=backend)
    for make in (lambda t: fnp.full((2, 3), t * t), lambda t: fnp.full_like(fnp.zeros((2, 3), device=backend), t * t)):
        assert make(t).shape == (2, 3)
        assert fw.grad(lambda t, make=make: fnp.sum(make(t)))(t).item() == 24.0
    assert fnp.full((2,), fw.tensor(3, backend=backend)).dtype == "int64"
    assert fnp.full((2, 2), np.array([1, 2])).tolist() == [[1, 2], [1, 2]]
    assert fnp.full(2, np.float64(1.5)).dtype == "float32"  # a NumPy number is as weak as a Python one


@pytest.mark.parametrize("endpoint", [True, False])
@pytest.mark.parametrize("num", [0, 1, 2, 5])
def test_linspace_between_tensors(num: int, endpoint: bool, backend: str) -> None:
    a, b = (fw.tensor(v, dtype="float64", backend=backend) for v in (-1.0, [2.0, 3.0]))
    got = fnp.linspace(a, b, num, endpoint=endpoint)
    np.testing.assert_allclose(
        got.numpy(), np.linspace(-1.0, [2.0, 3.0], num, endpoint=endpoint), rtol=1e-14, atol=1e-15
    )
    fw.gradcheck(lambda a, b: fnp.linspace(a, b, num, endpoint=endpoint), [a, b])
    assert fnp.linspace(0.0, b, num, dtype="float32").dtype == "float32"


def test_linspace_of_complex_numbers() -> None:
    made = fnp.linspace(0, 1j, 3)
    assert (made.dtype, made.tolist()) == ("complex64", [0, 0.5j, 1j])


@pytest.mark.parametrize("indexing", ["xy", "ij"])
@pytest.mark.parametrize("lengths", [(), (3,), (2, 3), (2, 3, 4), (0, 2), (2, 1, 0)])
def test_meshgrid(lengths: tuple[int, ...], indexing: Any, backend: str) -> None:
    axes = [np.arange(n) + 10.0 * i for i, n in enumerate(lengths)]
    got = fnp.meshgrid(*[fw.tensor(a, backend=backend) for a in axes], indexing=indexing)
    want = np.meshgrid(*axes, indexing=indexing)
    assert isinstance(got, list)
    assert len(got) == len(want)
    for g, w in zip(got, want):
        np.testing.assert_array_equal(g.numpy(), w)


def test_meshgrid_takes_numbers_and_refuses_matrices() -> None:
    assert [g.tolist() for g in fnp.meshgrid(1.0, [2.0, 3.0])] == [[[1.0], [1.0]], [[2.0], [3.0]]]
    with pytest.raises(ShapeError, match=r"one-dimensional arrays, got shapes \[\(1, 2\)\]"):
        fnp.meshgrid([[1, 2]])
    with pytest.raises(ValueError, match="'xy' or 'ij', got 'yx'"):
        fnp.meshgrid([1], [2], indexing="yx")


@pytest.mark.parametrize("name", ["bool", "uint8", "int32", "float32", "complex64"])
def test_triangles_keep_the_dtype(name: str, backend: str) -> None:
    x = np.arange(1, 25).reshape(2, 3, 4).astype(name)
    for k in (-3, -1, 0, 2, 5):
        for ours, theirs in ((fnp.tril, np.tril), (fnp.triu, np.triu)):
            got = ours(fw.tensor(x, backend=backend), k=k)
            assert got.dtype == name
            np.testing.assert_array_equal(got.numpy(), theirs(x, k))
    with pytest.raises(ShapeError, match=r"one of matrices; got shape \(3,\)"):
        fnp.tril(fw.tensor([1, 2, 3]))


def test_from_dlpack() -> None:
    host = np.array([1.0, 2.0])
    shared, copied = fnp.from_dlpack(host), fnp.from_dlpack(host, copy=True)
    host[0] = 5.0
    assert (shared.tolist(), copied.tolist()) == ([5.0, 2.0], [1.0, 2.0])
    t = fw.tensor([1, 2], device="strict")
    assert (fnp.from_dlpack(t).device, fnp.from_dlpack(t, device="cpu").device) == ("strict", "cpu")
    assert np.from_dlpack(fnp.sum(fw.tensor([1.0, 2.0]))).item() == 3.0
    with pytest.raises(GradientError, match="without history"):
        fnp.from_dlpack(fw.tensor([1.0], requires_grad=True))


def test_from_dlpack_of_another_library() -> None:
    torch = pytest.importorskip("torch", reason="torch is not installed")
    assert fnp.from_dlpack(torch.tensor([1.0, 2.0])).tolist() == [1.0, 2.0]


def test_eye_and_empty_of_odd_sizes() -> None:
    assert fnp.eye(0, 3).shape == (0, 3)
    assert fnp.eye(2, 3, k=-1, dtype="int8").tolist() == [[0, 0, 0], [1, 0, 0]]
    assert fnp.empty(()).shape == ()
    assert fnp.empty(fw.tensor([1, 2])[0].item()).shape == (1,)


@pytest.mark.parametrize(
    "integer", [np.int64, np.uint8, np.array, fw.tensor], ids=["int64", "uint8", "array", "tensor"]
)
def test_integers_of_every_kind(integer: Any, backend: str) -> None:
    two, three = integer(2), integer(3)
    with fw.use_backend(backend):
        for make in (fnp.zeros, fnp.ones, fnp.empty, lambda shape: fnp.full(shape, 1.5)):
            assert make(three).shape == (3,)
            assert make((two, 3, three)).shape == (2, 3, 3)
        for made, want in (
            (fnp.arange(three), [0, 1, 2]),
            (fnp.arange(two, 5, step=two), [2, 4]),
            (fnp.arange(2.0), [0, 1]),
        ):
            assert made.tolist() == want
        assert [fnp.arange(three).dtype, fnp.arange(0.0, three).dtype] == ["int64", "float32"]
        assert fnp.linspace(0, 1, three).tolist() == [0.0, 0.5, 1.0]
        assert fnp.eye(two, three, k=integer(1)).tolist() == [[0.0, 1.0, 0.0], [0.0, 0.0, 1.0]]
        x = fnp.ones((2, 3))
        assert fnp.tensordot(x, x.T, integer(1)).tolist() == [[3.0, 3.0], [3.0, 3.0]]
        assert fnp.tensordot(x, x, two).item() == 6.0
        assert [t.item() for t in fnp.unravel_index(integer(5), (two, three))] == [1, 2]
        assert fnp.unravel_index(two, three)[0].item() == 2
