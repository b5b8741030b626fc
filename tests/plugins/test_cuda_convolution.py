"""Convolution by cuDNN without a GPU: what cuDNN is told, by a stand-in for it and by the package where it is installed.

The stand-in computes what it is told by NumPy: nothing here says that cuDNN does so, or how fast.
"""

from __future__ import annotations

import sys

import numpy as np
import pytest
from cudnn_stand_in import ORDER
from fw_cuda import attention, convolution, kernels
from fw_cuda import cudnn as room
from fw_cuda.convolution import NAMES, OF_ANY, Convolutions, Problem
from fw_cuda.cudnn import Library

import framework as fw
import framework.nn.functional as F
from framework.autodiff import PRIMITIVES
from framework.autodiff.namespace import namespace_of
from framework.autodiff.rounding import products_rounded
from framework.autodiff.tracing import graph, on_arrays
from framework.backend import KERNELS, registry
from framework.errors import BackendError
from framework.testing.kernel_tests import KernelTests
from framework.testing.kit import parameters_of


@pytest.fixture
def made(made_with_cudnn):
    """Makes a backend on the stand-in with these convolutions; gives it, and cuDNN as the plugin has it."""
    return lambda refuses=lambda graph: False: made_with_cudnn(Convolutions, NAMES, refuses)


@pytest.mark.parametrize("name", NAMES)
def test_signatures_are_the_contract_s(name: str) -> None:
    wanted = KERNELS.get(name) or PRIMITIVES[name].forward
    assert parameters_of(getattr(Convolutions, name))[1:] == parameters_of(wanted)[1:]


@pytest.mark.parametrize("refuses", [False, True], ids=["cuDNN", "products"])
def test_values_are_the_composition_s(made, refuses: bool) -> None:
    backend, library = made(lambda graph: refuses)
    kit = type("Kit", (KernelTests,), {"backend": "cuda"})()
    for name in NAMES:
        for dtype in ("float32", "float64") if name in OF_ANY else ("float32",):  # float64 is not cuDNN's
            kit.test_kernel_values(backend, name, dtype)
    assert (library.launches > 0) is not refuses
    assert sys.modules["cudnn"].executed == library.launches


def drawn(backend, *shapes):
    rng = np.random.default_rng(0)
    return [fw.tensor(rng.standard_normal(shape).astype("float32"), backend=backend) for shape in shapes]


def step(x, weight, bias):
    def loss(weight, bias, x):
        return (F.conv2d(x, weight, bias, stride=2, padding=1) ** 2).sum()

    return fw.value_and_grad(loss, argnums=(0, 1, 2))(weight, bias, x)


def test_a_graph_is_built_once_for_a_kind_of_convolution(made) -> None:
    backend, library = made()
    given = drawn(backend, (3, 2, 9, 8), (4, 2, 3, 3), (4,))
    for _ in range(3):
        step(*given)
    cudnn = sys.modules["cudnn"]
    assert [g.builder for g in cudnn.graphs] == ["conv_fprop", "conv_dgrad", "conv_wgrad"]
    assert library.launches == 9
    for g in cudnn.graphs:
        called = dict(g.calls)
        assert tuple(called) == ORDER
        assert set(called["deselect_numeric_notes"][0]) == {
            "NONDETERMINISTIC", "REDUCED_PRECISION_REDUCTION", "TENSOR_CORE", "DOWN_CONVERT_INPUTS"
        }  # fmt: skip
    step(*drawn(backend, (5, 2, 9, 8), (4, 2, 3, 3), (4,)))
    assert len(cudnn.graphs) == 6
    channels_last = backend.xp.permute_dims(backend.asarray(np.ones((3, 9, 8, 2), "float32")), (0, 3, 1, 2))
    geometry = {"stride": (2, 2), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": 1}
    backend.kernels["conv2d"](channels_last, given[1]._data, None, **geometry)
    assert len(cudnn.graphs) == 7
    assert cudnn.graphs[-1].tensors["image"].stride == [144, 1, 16, 2]


def test_tf32_by_choice(made, monkeypatch) -> None:
    backend, _ = made()
    given = drawn(backend, (3, 2, 9, 8), (4, 2, 3, 3), (4,))
    monkeypatch.setenv("CUPY_TF32", "1")
    step(*given)
    for g in sys.modules["cudnn"].graphs:
        assert dict(g.calls)["deselect_numeric_notes"] == (["NONDETERMINISTIC", "REDUCED_PRECISION_REDUCTION"],)


@pytest.mark.parametrize("refused", ["nothing", "halves", "all"])
def test_products_of_rounded_operands(made, refused: str) -> None:
    """Halves with a result in float32; else of float32 arrays that were rounded: the same numbers."""
    backend, library = made(lambda graph: refused == "all" or (refused == "halves" and graph.io == "HALF"))
    given = drawn(backend, (3, 2, 9, 8), (4, 2, 3, 3), (4,))
    with products_rounded(registry.get("cpu"), "float16"):
        wanted = step(*[fw.tensor(t.numpy()) for t in given])
    with products_rounded(backend, "float16"):
        for _ in range(2):
            got = step(*given)
    assert got[1][0].dtype == fw.float32
    for a, b in zip((got[0], *got[1]), (wanted[0], *wanted[1]), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-4)
    run = [(g.builder, g.io) for g in sys.modules["cudnn"].graphs if len(g.calls) == len(ORDER)]
    kind = {"nothing": "HALF", "halves": "FLOAT"}.get(refused)
    assert run == [(builder, kind) for builder in ("conv_fprop", "conv_dgrad", "conv_wgrad") if kind]
    assert library.launches == 2 * len(run)


def test_within_a_graph(made) -> None:
    backend, library = made()
    given = drawn(backend, (3, 2, 9, 8), (4, 2, 3, 3), (4,))
    program = on_arrays(graph(step, *given), namespace_of(backend))
    run = backend.capture(program)
    expected = [backend.to_numpy(a) for a in run(*(t._data for t in given))]
    built = len(sys.modules["cudnn"].graphs)
    for _ in range(4):
        got = run(*(t._data for t in given))
    assert (run.launches, run.reason) == (3, "")
    assert len(sys.modules["cudnn"].graphs) == built == 3  # nothing is planned while a stream is captured
    assert library.launches == 12  # traced, eagerly, before the recording, and in it
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(backend.to_numpy(a), b, rtol=1e-6)


@pytest.mark.parametrize("missing", ["package", "library"])
def test_without_cudnn_there_is_one_line_and_the_right_result(made, monkeypatch, missing: str) -> None:
    backend, library = made()
    if missing == "package":
        monkeypatch.setitem(sys.modules, "cudnn", None)
    else:

        def fail():
            raise RuntimeError("Unable to find symbol cudnnCreate")

        monkeypatch.setattr(sys.modules["cudnn"], "create_handle", fail)
    given = drawn(backend, (3, 2, 9, 8), (4, 2, 3, 3), (4,))
    with pytest.warns(RuntimeWarning, match="convolution and attention are done without cuDNN: "):
        _, gradients = step(*given)
    step(*given)  # warnings are errors: there is no second one
    _, expected = step(*[fw.tensor(t.numpy()) for t in given])
    for a, b in zip(gradients, expected, strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-4)


# -- the package ---------------------------------------------------------------------------------------


PROBLEMS = [
    Problem("conv2d", "float32", ((8, 16, 28, 28), (32, 8, 3, 3), (8, 32, 14, 14)),
            ((12544, 784, 28, 1), (72, 9, 3, 1), (6272, 196, 14, 1)), (2, 2), ((1, 0), (1, 0)), (1, 1), True),
    Problem("conv2d_dx", "float16", ((8, 32, 14, 14), (32, 8, 3, 3), (8, 16, 28, 28)),
            ((6272, 196, 14, 1), (72, 9, 3, 1), (12544, 784, 28, 1)), (2, 2), ((1, 0), (1, 0)), (1, 1), False),
    Problem("conv2d_dw", "bfloat16", ((8, 32, 14, 14), (8, 16, 28, 28), (32, 8, 3, 3)),
            ((6272, 196, 14, 1), (12544, 784, 28, 1), (72, 9, 3, 1)), (2, 2), ((1, 0), (1, 0)), (1, 1), False),
    Problem("conv2d_dw", "bfloat16", ((8, 32, 14, 14), (8, 16, 28, 28), (32, 8, 3, 3)),
            ((6272, 196, 14, 1), (12544, 784, 28, 1), (72, 9, 3, 1)), (2, 2), ((1, 0), (1, 0)), (1, 1), False, True),
]  # fmt: skip


@pytest.fixture(scope="module")
def cudnn():
    return pytest.importorskip("cudnn", reason="nvidia-cudnn-frontend is not installed")


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: p.name + p.is_wide * "-wide")
def test_the_package_takes_the_description(cudnn, problem: Problem) -> None:
    made = problem.described(cudnn, None)
    (node,) = made.nodes
    kind = convolution.KINDS[problem.name]
    assert set(node.inputs) == {kind.first, kind.second}
    for port, shape, strides, uid in zip(kind[1:], problem.shapes, problem.strides, (1, 2)):
        tensor = node.inputs[port]
        assert (tuple(tensor.dim), tuple(tensor.stride), tensor.uid) == (shape, strides, uid)
    assert node.params == {"pre_padding": [1, 1], "post_padding": [0, 0], "stride": [2, 2], "dilation": [1, 1]}
    (out,) = node.outputs.values()
    assert (tuple(out.dim), tuple(out.stride), out.uid) == (problem.shapes[2], problem.strides[2], 3)
    assert not out.is_virtual
    assert out.data_type == getattr(cudnn.data_type, "FLOAT" if problem.is_wide else convolution.TYPES[problem.dtype])
    try:
        made.validate()
    except RuntimeError as error:
        if "Unable to find symbol" not in str(error):  # which says that there is no cuDNN library
            raise


def test_the_package_has_what_is_called(cudnn) -> None:
    notes = convolution.refused_notes(cudnn, True)
    assert len(set(notes)) == 4
    assert cudnn.heur_mode.A != cudnn.heur_mode.FALLBACK
    for name in (*ORDER, "get_workspace_size", "execute"):
        assert callable(getattr(cudnn.pygraph, name))
    assert {"workspace", "handle"} <= {p[0] for p in parameters_of(cudnn.pygraph.execute)}
    assert [p[0] for p in parameters_of(cudnn.set_stream)] == ["handle", "stream"]
    assert parameters_of(cudnn.create_handle) == []
    assert issubclass(cudnn.cudnnGraphNotSupportedError, Exception)


def test_kernels_are_there_with_the_package(monkeypatch) -> None:
    for found in (True, False):
        monkeypatch.setattr(kernels, "is_installed", lambda found=found: found)
        assert tuple(kernels.by_cudnn(None, None)) == ((*NAMES, *attention.NAMES) if found else ())
    for found in (object(), None):
        monkeypatch.setattr(room, "find_spec", lambda name, found=found: found if name == "cudnn" else 1 / 0)
        assert room.is_installed() is (found is not None)


# -- on a GPU ------------------------------------------------------------------------------------------


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("groups", [1, 4])
def test_on_a_gpu(cudnn, dtype: str, groups: int) -> None:
    """cuDNN is used, and gives what the products do."""
    try:
        backend = registry.get("cuda")
    except BackendError as error:
        pytest.skip(str(error))
    library, unused = Library(backend.cupy), Library(backend.cupy)
    unused.reason = "to compare with"
    by_cudnn, composed = (Convolutions(backend.cupy, backend.products.matmul, used) for used in (library, unused))
    rng = np.random.default_rng(0)
    x, w, g = (
        backend.asarray(rng.standard_normal(shape).astype(dtype))
        for shape in ((8, 16, 28, 28), (32, 16 // groups, 3, 3), (8, 32, 14, 14))
    )
    geometry = {"stride": (2, 2), "padding": ((1, 1), (1, 1)), "dilation": (1, 1), "groups": groups}
    calls = {"conv2d": (x, w, None), "conv2d_dx": (g, w), "conv2d_dw": (g, x)}
    more = {"conv2d_dx": {"size": (28, 28)}, "conv2d_dw": {"kernel": (3, 3)}}
    for name, arrays in calls.items():
        got, expected = (getattr(c, name)(*arrays, **more.get(name, {}), **geometry) for c in (by_cudnn, composed))
        a, b = (backend.to_numpy(r).astype("float64") for r in (got, expected))
        scale = 1e-5 if dtype == "float32" else 2e-2
        np.testing.assert_allclose(a, b, atol=scale * np.abs(b).max(), err_msg=name)
    assert (library.launches, library.reason) == (3, "")
