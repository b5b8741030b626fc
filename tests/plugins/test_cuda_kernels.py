"""The CUDA backend's kernels without a GPU.

The `.cu` files are compiled for the host, launched through a stand-in for CuPy, and put through the conformance kit's
tests of kernels: their arithmetic, their arguments and what surrounds them is tested, atomic additions and speed are
left to `pytest -m cuda`. Products are tested against a stand-in for cuBLASLt.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from cuda_stand_in import StandIn, backend_class
from cuda_stand_in_blas import Blas
from fw_cuda import indexing, sources
from fw_cuda.kernels import NAMES, OWNERS

from framework import random
from framework.autodiff import PRIMITIVES
from framework.backend import KERNELS, host, registry
from framework.backend.kernels import IN_PLACE
from framework.data.transforms import Normalize
from framework.errors import DTypeError
from framework.testing.kernel_tests import UPDATES, KernelTests
from framework.testing.kit import parameters_of


@pytest.fixture(scope="module")
def cupy(host_kernels) -> StandIn:
    return StandIn(host_kernels)


@pytest.fixture(scope="module", autouse=True)
def kernels(cupy: StandIn):
    """Of a backend that is registered."""
    registry.register(backend_class(cupy, Blas(), "cuda_on_host"))
    return registry.get("cuda_on_host").kernels


class TestCudaKernels(KernelTests):
    backend = "cuda_on_host"

    def pytest_generate_tests(self, metafunc) -> None:
        """The cases, known without building anything."""
        floats = [(name, dtype) for name in NAMES if name not in IN_PLACE for dtype in ("float32", "float64")]
        updates = [name for name in NAMES if name in UPDATES]
        cases = {"test_kernel_signature": NAMES, "test_kernel_values": floats, "test_updates_in_a_row": updates}
        cases["test_kernel_pairs"] = []  # of attention, which is cuDNN's: test_cuda_attention.py
        if metafunc.function.__name__ in cases:
            metafunc.parametrize(metafunc.function.over[0], cases[metafunc.function.__name__])


@pytest.mark.parametrize("name", NAMES)
def test_every_kernel_is_of_the_contract_with_its_signature(name: str) -> None:
    method = getattr(OWNERS[name], name)
    fallback = KERNELS.get(name) or IN_PLACE.get(name) or PRIMITIVES[name].forward
    own = parameters_of(method)[1:]
    if fallback is None:
        assert [p[0] for p in own] == ["x"]
    else:
        assert own == parameters_of(fallback)[1:]


def test_nan_passes_through_activations_and_updates(kernels, cupy: StandIn) -> None:
    def array(*values: float):
        return cupy.array(np.array(values))

    nan = array(np.nan, 1.0)
    np.testing.assert_array_equal(kernels["relu"](nan), [np.nan, 1.0])
    np.testing.assert_array_equal(kernels["relu_grad"](nan, array(1.0, 1.0)), [np.nan, 1.0])
    np.testing.assert_array_equal(kernels["relu_grad"](nan, array(-1.0, -1.0)), [0.0, 0.0])  # not NaN × 0
    one = [array(1.0, 1.0) for _ in range(7)]
    updates = {
        "sgd_update": (one[0], nan, one[1], 0.1, 0.9, 0.0, 0.0, False),
        "adam_update": (one[2], nan, one[3], one[4], 1, 0.1, (0.9, 0.99), 1e-8, 0.0, False),
        "rprop_update": (one[5], nan, one[6], array(1.0, 1.0), (0.5, 1.2), (1e-6, 50.0)),
    }
    for name, arguments in updates.items():
        p = kernels[name](*arguments)[0]
        assert p is arguments[0], name
        assert np.isnan(p[0]), name
        assert np.isfinite(p[1]), name


def test_an_update_refuses_a_gradient_of_another_dtype(kernels, cupy: StandIn) -> None:
    p, g = cupy.array(np.ones(3, np.float32)), cupy.array(np.ones(3))
    with pytest.raises(DTypeError, match=r"SGD: .* of one floating-point dtype, got \['float32', 'float64'\]"):
        kernels["sgd_update"](p, g, None, 0.1, 0.0, 0.0, 0.0, False)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint16", "int32", "int64", "uint64", "complex64"])
def test_scatter_add_of_dtypes_without_an_atomic_addition(kernels, cupy: StandIn, dtype: str) -> None:
    array = np.array([0, 1, 2, 3]).astype(dtype)
    values = np.array([1, 1, 5, -6 if np.dtype(dtype).kind in "ic" else 6]).astype(dtype)
    key = (np.array([0, 0, 3, 2]),)
    given = cupy.array(array)
    got = kernels["scatter_add"](given, key, cupy.array(values))
    assert got.dtype == array.dtype
    np.testing.assert_array_equal(got, host.scatter_add(array, key, values))
    np.testing.assert_array_equal(given, array)


def test_embedding_gradients_by_looking_and_by_atomic_additions_agree(kernels, cupy: StandIn, monkeypatch) -> None:
    rng = np.random.default_rng(0)
    g = cupy.array(rng.standard_normal((300, 5)))
    for dtype in ("int64", "int32"):
        indices = cupy.array(rng.integers(0, 7, 300).astype(dtype))
        looked = kernels["embedding_grad"](g, indices, 9, 2)
        monkeypatch.setattr(indexing, "MOST_INDICES", 0)
        added = kernels["embedding_grad"](g, indices, 9, 2)
        monkeypatch.undo()
        np.testing.assert_allclose(looked, added, atol=1e-12)
        assert not looked[2].any()
        assert not looked[7:].any()


def test_rows_longer_than_a_block(kernels, cupy: StandIn) -> None:
    """Sums within a row go through all steps of the tree that the threads of a block add up by."""
    rng = np.random.default_rng(1)
    logits, targets = rng.standard_normal((3, 1001)), rng.integers(0, 1001, 3)
    loss, p = kernels["softmax_cross_entropy"](cupy.array(logits), cupy.array(targets), reduction="none")
    e = np.exp(logits - logits.max(-1, keepdims=True))
    np.testing.assert_allclose(p, e / e.sum(-1, keepdims=True), rtol=1e-12)
    np.testing.assert_allclose(loss, -np.log(np.asarray(p)[np.arange(3), targets]), rtol=1e-12)
    squares = kernels["sum_of_squares"](cupy.array(logits))
    np.testing.assert_allclose(squares, (logits**2).sum(), rtol=1e-12)
    assert squares.shape == ()


def test_labels_of_one_byte(kernels, cupy: StandIn) -> None:
    rng = np.random.default_rng(2)
    logits, targets = rng.standard_normal((4, 3)), rng.integers(0, 3, 4)
    wide = kernels["softmax_cross_entropy"](cupy.array(logits), cupy.array(targets), reduction="mean")
    narrow = kernels["softmax_cross_entropy"](
        cupy.array(logits), cupy.array(targets.astype(np.uint8)), reduction="mean"
    )
    np.testing.assert_array_equal(wide[0], narrow[0])


@pytest.mark.parametrize("p", [0.0, 1e-17, 0.3, 0.5, 1.0])
def test_bernoulli_numbers_are_the_hosts(p: float) -> None:
    seed = 2**63 + 5
    for _ in range(2):
        ours = random.bernoulli(p, (7, 11), backend="cuda_on_host", generator=(a := random.Generator(seed, "x")))
        hosts = random.bernoulli(p, (7, 11), backend="cpu", generator=(b := random.Generator(seed, "x")))
        np.testing.assert_array_equal(ours.numpy(), hosts.numpy())
        assert a.state_dict() == b.state_dict()
        again = random.bernoulli(p, (5,), backend="cuda_on_host", generator=a)
        np.testing.assert_array_equal(again.numpy(), random.bernoulli(p, (5,), backend="cpu", generator=b).numpy())


@pytest.mark.parametrize("channels", [(), (3,)])
def test_batches_are_rounded_as_on_the_host(cupy: StandIn, channels: tuple[int, ...]) -> None:
    rng = np.random.default_rng(3)
    data = rng.integers(0, 256, (40, 3, 4, 5)).astype(np.uint8)
    normalize = Normalize([0.1307, 0.2, 0.3] if channels else 0.1307, [0.3081, 0.4, 0.7] if channels else 0.3081)
    indices = rng.permutation(40)[:17]
    factor, offset = (cupy.array(t) for t in normalize.affine(data.dtype))
    (got,) = registry.get("cuda_on_host").gatherer([cupy.array(data)], (factor, offset))(indices)(0, 17)
    np.testing.assert_array_equal(got, normalize(data[indices]))


def test_the_plugin_names_no_private_cupy_module(repository: Path) -> None:
    private = re.compile(r"cupyx?\._[^_]|cupy_backends|cupy\.fuse|cupy\.cudnn|cupyx\.scatter_add")
    for file in (repository / "plugins" / "cuda").rglob("*.py"):
        assert not private.findall(file.read_text()), file.name


def test_kernel_code_fixes_no_precision_and_knows_its_blocks() -> None:
    """Arithmetic is in A: a literal such as 1.0 would make it double; scalars that are double come from the host."""
    for file in sources.files():
        for line in (sources.FOLDER / f"{file}.cu").read_text().splitlines():
            code = re.sub(r"//.*", "", line)
            bare = re.sub(r"A\([^()]*\)|!= 0\.0", "", code)
            assert not re.search(r"\d\.\d", bare), f"{file}.cu: {line.strip()}"
            assert "float" not in code, f"{file}.cu: {line.strip()}"
    assert f"#define FW_THREADS {sources.THREADS}" in (sources.FOLDER / "common.cuh").read_text()
