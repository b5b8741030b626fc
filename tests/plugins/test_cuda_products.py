"""Matrix products by cuBLASLt without a GPU: what it is told of arrays, and that it is told in its own terms.

The stand-in for the library finds matrices by the addresses, dimensions and strides that it is given, so a wrong one
gives a wrong product. Where NVIDIA's own library is installed (it loads without a driver), descriptors are made by it
and read back; no product is computed by it here.
"""

from __future__ import annotations

import ctypes
from ctypes import byref, c_int32, c_int64, c_size_t, c_uint64, sizeof
from typing import Any

import numpy as np
import pytest
from cuda_stand_in import StandIn, backend_class
from cuda_stand_in_blas import Blas
from fw_cuda import cublaslt
from fw_cuda.products import Products, alignment, compute_type, operand

from framework.errors import BackendError


@pytest.fixture(scope="module")
def cupy() -> StandIn:
    return StandIn(ctypes.CDLL(None))


@pytest.fixture
def products(cupy: StandIn) -> Products:
    return Products(cupy, Blas())


def drawn(*shape: int, dtype: str = "float32") -> Any:
    return np.random.default_rng(sum(shape)).standard_normal(shape).astype(dtype)


LAYOUTS = {
    "rows": lambda cupy, a: cupy.array(a),
    "columns": lambda cupy, a: cupy.array(a.mT.copy()).mT,
    "a part of wider rows": lambda cupy, a: cupy.array(np.concatenate([a, a], -1))[..., : a.shape[-1]],
    "every second row": lambda cupy, a: cupy.array(np.repeat(a, 2, -2))[..., ::2, :],
    "every second column": lambda cupy, a: cupy.array(np.repeat(a, 2, -1))[..., ::2],
    "turned around": lambda cupy, a: cupy.array(a[..., ::-1].copy())[..., ::-1],
}

SHAPES = [
    ((3, 4), (4, 5)),
    ((1, 4), (4, 5)),
    ((3, 1), (1, 5)),
    ((3, 4), (4, 1)),
    ((1, 1), (1, 1)),
    ((2, 3, 4), (4, 5)),
    ((2, 3, 4), (2, 4, 5)),
    ((3, 4), (2, 4, 5)),
    ((2, 1, 3, 4), (1, 6, 4, 5)),
    ((2, 6, 3, 4), (6, 4, 5)),
    ((1, 1, 3, 4), (4, 5)),
]


@pytest.mark.parametrize("right", LAYOUTS)
@pytest.mark.parametrize("left", LAYOUTS)
def test_products_of_every_layout(cupy: StandIn, products: Products, left: str, right: str) -> None:
    for shape, other in SHAPES:
        x, y = drawn(*shape), drawn(*other)
        got = products.product(LAYOUTS[left](cupy, x), LAYOUTS[right](cupy, y))
        assert got is not None
        np.testing.assert_allclose(got, x @ y, rtol=1e-5, atol=1e-6, err_msg=f"{shape} @ {other}")


def test_few_copies(cupy: StandIn) -> None:
    """Matrices by rows and by columns, parts of wider ones, and broadcast batches are multiplied where they are."""
    x = cupy.array(drawn(6, 3, 4))
    assert operand(x, (6,)) == (False, 4, 12)
    assert operand(x.mT, (6,)) == (True, 4, 12)
    assert operand(x[0], (6,)) == (False, 4, 0)
    assert operand(x[:, :2, :3], (6,)) == (False, 4, 12)
    assert operand(x[::2], (3,)) == (False, 4, 24)
    assert operand(x.reshape(2, 3, 3, 4), (2, 3)) == (False, 4, 12)
    assert operand(x.reshape(2, 3, 3, 4)[:, :2], (2, 2)) is None
    assert operand(x[..., ::2], (6,)) is None


def test_bias_and_relu_are_part_of_the_product(cupy: StandIn) -> None:
    blas = Blas()
    products = Products(cupy, blas)
    x, w, b = (cupy.array(drawn(*s)) for s in ((5, 4), (3, 4), (3,)))
    np.testing.assert_allclose(products.linear(x, w, b), np.asarray(x) @ np.asarray(w).T + np.asarray(b), rtol=1e-5)
    got = products.linear_relu(x, w, b)
    np.testing.assert_allclose(got, np.maximum(np.asarray(x) @ np.asarray(w).T + np.asarray(b), 0), rtol=1e-5)
    assert blas.products == 2
    other = cupy.array(drawn(3)[::-1].copy())  # another bias by the same plan
    np.testing.assert_allclose(
        products.linear(x, w, other), np.asarray(x) @ np.asarray(w).T + np.asarray(other), rtol=1e-5
    )


def test_the_gradient_of_a_weight_is_written_where_it_belongs(cupy: StandIn, products: Products) -> None:
    g, x, out = cupy.array(drawn(7, 3)), cupy.array(drawn(7, 4)), cupy.empty((3, 4), dtype="float32")
    assert products.linear_dw(g, x, out=out) is out
    np.testing.assert_allclose(out, np.asarray(g).T @ np.asarray(x), rtol=1e-5)
    turned = cupy.empty((4, 3), dtype="float32").T
    assert products.linear_dw(g, x, out=turned) is not turned


def test_kinds_of_products_are_described_once(cupy: StandIn) -> None:
    blas = Blas()
    products = Products(cupy, blas)
    x, y = cupy.array(drawn(3, 4)), cupy.array(drawn(4, 5))
    first = products.product(x, y)
    known = len(blas.things)
    np.testing.assert_array_equal(products.product(x, y), first)
    assert len(blas.things) == known


def test_what_is_left_to_cupy(cupy: StandIn, products: Products) -> None:
    x = cupy.array(drawn(3, 4))
    for left, right in [
        (x, cupy.array(drawn(4))),
        (x, cupy.array(drawn(4, 5, dtype="float64"))),
        (cupy.array(np.ones((3, 4), np.int64)), cupy.array(np.ones((4, 5), np.int64))),
        (x[:0], cupy.array(drawn(4, 5))),
        (x[:, :0], cupy.array(drawn(4, 5))[:0]),
    ]:
        assert products.product(left, right) is None
        np.testing.assert_allclose(products.matmul(left, right), np.asarray(left) @ np.asarray(right), rtol=1e-6)
    assert Products(cupy, None).product(x, x.T) is None


def test_sums_of_float32_are_of_tf32_where_cupy_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUPY_TF32", raising=False)
    assert compute_type("float32") == cublaslt.COMPUTE_32F
    monkeypatch.setenv("CUPY_TF32", "1")
    assert compute_type("float32") == cublaslt.COMPUTE_32F_FAST_TF32
    assert compute_type("float64") == cublaslt.COMPUTE_64F
    assert {compute_type(d) for d in ("float16", "bfloat16")} == {cublaslt.COMPUTE_32F}


def test_alignment() -> None:
    assert [alignment(p) for p in (512, 48, 8, 6, 1)] == [16, 16, 8, 2, 1]


# -- the library's own terms --------------------------------------------------------------------------


def test_structures_have_the_documented_sizes() -> None:
    """cublasLtMatmulAlgo_t is uint64_t[8]; cublasLtMatmulHeuristicResult_t has five fields behind each other."""
    assert sizeof(cublaslt.Algorithm) == 64
    assert sizeof(cublaslt.Heuristic) == 96
    offsets = [getattr(cublaslt.Heuristic, name).offset for name, _ in cublaslt.Heuristic._fields_]
    assert offsets == [0, 64, 72, 76, 80]
    assert len(cublaslt.SIGNATURES["cublasLtMatmul"]) == 16
    assert len(cublaslt.SIGNATURES["cublasLtMatmulAlgoGetHeuristic"]) == 10


@pytest.fixture(scope="module")
def library() -> Any:
    for major in (13, 12):
        try:
            return cublaslt.load(major)
        except BackendError:
            continue
    pytest.skip("libcublasLt is not installed: pip install nvidia-cublas-cu12")


def test_the_real_library_takes_what_it_is_told(library: Any) -> None:
    operands = ((True, 8, 24), (False, 16, 0))
    problem = cublaslt.Problem(
        library, ("bfloat16", "float32"), cublaslt.COMPUTE_32F, (5, 7, 8), operands, 3, cublaslt.EPILOGUE_RELU_BIAS
    )

    def of_layout(i: int, attribute: int, kind: Any) -> int:
        value, size = kind(), c_size_t()
        status = library.cublasLtMatrixLayoutGetAttribute(
            problem.layouts[i], attribute, byref(value), sizeof(value), byref(size)
        )
        assert (status, size.value) == (0, sizeof(value))
        return int(value.value)

    def of_product(attribute: int) -> int:
        value, size = c_int32(), c_size_t()
        assert (
            library.cublasLtMatmulDescGetAttribute(
                problem.operation, attribute, byref(value), sizeof(value), byref(size)
            )
            == 0
        )
        assert size.value == sizeof(value)
        return int(value.value)

    kinds, rows, columns, leading, batch, strides = zip(
        *[
            (
                of_layout(i, 0, c_int32), of_layout(i, 2, c_uint64), of_layout(i, 3, c_uint64), of_layout(i, 4, c_int64),
                of_layout(i, cublaslt.LAYOUT_BATCH_COUNT, c_int32),
                of_layout(i, cublaslt.LAYOUT_STRIDED_BATCH_OFFSET, c_int64),
            )
            for i in range(3)
        ]
    )  # fmt: skip
    assert kinds == (14, 14, 0)
    assert (rows, columns, leading) == ((8, 8, 5), (5, 7, 7), (8, 16, 5))
    assert (batch, strides) == ((3, 3, 3), (24, 0, 35))
    assert [of_product(a) for a in (0, 1, cublaslt.DESC_TRANSA, cublaslt.DESC_TRANSB, cublaslt.DESC_EPILOGUE)] == [
        cublaslt.COMPUTE_32F, 0, cublaslt.OP_T, cublaslt.OP_N, cublaslt.EPILOGUE_RELU_BIAS,
    ]  # fmt: skip
    assert of_product(cublaslt.DESC_BIAS_DATA_TYPE) == 0


def test_a_library_that_is_not_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cublaslt, "_from_pathfinder", lambda major: None)
    with pytest.raises(BackendError, match=r"libcublasLt.so.99 is not found: pip install 'cupy-cuda99x\[ctk\]'"):
        cublaslt.load(99)


def test_a_status_in_words() -> None:
    cublaslt.check(0, "a product")
    with pytest.raises(BackendError, match=r"cuBLASLt: a product: a value is invalid \(7\)"):
        cublaslt.check(7, "a product")


def test_the_backend_multiplies_by_it(host_kernels) -> None:
    cupy, blas = StandIn(host_kernels), Blas()
    backend = backend_class(cupy, blas, "cuda_products_on_host")()
    x = cupy.array(drawn(3, 4))
    np.testing.assert_allclose(backend.xp.matmul(x, x.T), np.asarray(x) @ np.asarray(x).T, rtol=1e-5)
    assert blas.products == 1
    assert backend.products.can_be_captured
    assert not backend_class(cupy, None, "cuda_products_on_host")().products.can_be_captured
