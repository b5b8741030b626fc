"""Attention by cuDNN without a GPU: what cuDNN is told, by a stand-in for it and by the package where it is installed.

The stand-in computes what it is told by NumPy: nothing here says that cuDNN does so, or how fast.
"""

from __future__ import annotations

import math
import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import streamed_attention
from cudnn_stand_in import ORDER_OF_ATTENTION
from fw_cuda import attention
from fw_cuda.attention import NAMES, Attention, Problem
from fw_cuda.cudnn import Library

import framework as fw
import framework.nn.functional as F
from framework.autodiff import ops
from framework.autodiff.namespace import PRIMITIVES, namespace_of
from framework.autodiff.rounding import products_rounded
from framework.autodiff.tracing import graph, on_arrays
from framework.backend import KERNELS, registry
from framework.errors import BackendError
from framework.testing.kernel_tests import KernelTests, pairs_of
from framework.testing.kit import parameters_of


@pytest.fixture
def made(made_with_cudnn):
    """Makes a backend on the stand-in with this attention; gives it, and cuDNN as the plugin has it."""
    return lambda refuses=lambda graph: False: made_with_cudnn(Attention, NAMES, refuses, has_halves=True)


@pytest.mark.parametrize("name", NAMES)
def test_signatures_are_the_contract_s(name: str) -> None:
    wanted = KERNELS.get(name) or PRIMITIVES[name].forward
    assert parameters_of(getattr(Attention, name))[1:] == parameters_of(wanted)[1:]


@pytest.mark.parametrize("refused", ["nothing", "sdpa_backward", "all"])
def test_values_are_the_composition_s(made, refused: str) -> None:
    backend, library = made(lambda graph: refused in ("all", graph.builder))
    kit = type("Kit", (KernelTests,), {"backend": "cuda"})()
    plain, *_, rounded = pairs = pairs_of(backend)
    assert len(pairs) == 4
    for pair in pairs if refused == "nothing" else (plain, rounded):
        kit.test_kernel_pairs(backend, *pair, "float16" if pair == plain else "float32")
    kit.test_kernel_pairs(backend, *plain, "float32")  # which is not cuDNN's
    kit.test_kernel_values(backend, "attention", "float16")
    kit.test_kernel_values(backend, "rounded_attention", "float32")
    launched = {g.builder for g in sys.modules["cudnn"].graphs if len(g.calls) == len(ORDER_OF_ATTENTION)}
    assert launched == {"sdpa", "sdpa_backward"} - {refused} if refused != "all" else not launched
    assert (library.launches > 0) is (refused != "all")
    assert sys.modules["cudnn"].executed == library.launches


def drawn(backend, *shapes, dtype="float16"):
    rng = np.random.default_rng(0)
    return [fw.tensor(rng.standard_normal(shape).astype(dtype), backend=backend) for shape in shapes]


def step(causal, q, k, v, bias=None):
    """The loss of a call and its gradients."""

    def loss(q, k, v):
        return (F.scaled_dot_product_attention(q, k, v, bias, is_causal=causal) ** 2).mean()

    return fw.value_and_grad(loss, argnums=(0, 1, 2))(q, k, v)


def same(got, expected, tolerance=4e-3) -> None:
    for a, b in zip(got, expected, strict=True):
        b = b.numpy().astype("float64")
        np.testing.assert_allclose(a.numpy().astype("float64"), b, atol=tolerance * max(1e-2, np.abs(b).max()))


@pytest.mark.parametrize("lead", [(), (3,), (2, 3), (2, 1, 3)], ids=str)
@pytest.mark.parametrize(
    ("queries", "keys", "values", "causal"), [(5, 7, 16, False), (5, 7, 8, True), (7, 5, 16, True)]
)
def test_of_any_shape(made, lead: tuple[int, ...], queries: int, keys: int, values: int, causal: bool) -> None:
    backend, library = made()
    given = drawn(backend, (*lead, queries, 8), (*lead, keys, 8), (*lead, keys, values))
    value, grads = step(causal, *given)
    wanted, expected = step(causal, *[fw.tensor(t.numpy().astype("float64")) for t in given])
    assert library.launches == 2
    assert [g.shape for g in grads] == [t.shape for t in given]
    same((value, *grads), (wanted, *expected))


def test_a_graph_is_built_once_for_a_kind_of_attention(made) -> None:
    backend, library = made()
    given = drawn(backend, (2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 16))
    for _ in range(3):
        step(False, *given)
    cudnn = sys.modules["cudnn"]
    assert [g.builder for g in cudnn.graphs] == ["sdpa", "sdpa_backward"]
    assert library.launches == 6
    assert all(tuple(dict(g.calls)) == ORDER_OF_ATTENTION for g in cudnn.graphs)
    assert [g.settings["attn_scale"] for g in cudnn.graphs] == [1 / math.sqrt(8)] * 2
    assert not any("diagonal_alignment" in g.settings for g in cudnn.graphs)
    step(True, *given)
    assert len(cudnn.graphs) == 4
    assert all(g.settings["diagonal_band_right_bound"] == 0 for g in cudnn.graphs[2:])
    step(False, *drawn(backend, (2, 3, 6, 8), (2, 3, 7, 8), (2, 3, 7, 16)))
    assert len(cudnn.graphs) == 6


def heads_of(whole):
    """Queries, keys and values as views of what one linear layer gave."""
    return [ops.permute_dims(whole[:, :, i], (0, 2, 1, 3)) for i in range(3)]


def test_heads_are_read_where_they_are_and_go_back_there(made) -> None:
    backend, library = made()
    (whole,) = drawn(backend, (2, 5, 3, 4, 8))
    q, k, v = (t._data for t in heads_of(whole))
    out, residual = backend.kernels["attention"](q, k, v, None, scale=0.5, causal=True)
    assert residual[0] is out
    assert (residual[1].shape, residual[1].dtype) == ((2, 4, 5, 1), np.float32)
    (made_graph,) = sys.modules["cudnn"].graphs
    assert made_graph.tensors["k"].stride == [480, 8, 96, 1]  # no copy
    assert out.transpose(0, 2, 1, 3).flags.c_contiguous
    g = backend.xp.permute_dims(backend.asarray(np.ones((2, 4, 8, 5), "float16")), (0, 1, 3, 2))
    grads = backend.kernels["attention_grad"](g, q, k, v, residual, 0.5, True, False)
    assert all(t.transpose(0, 2, 1, 3).flags.c_contiguous for t in grads)
    double = [backend.to_numpy(t).astype("float64") for t in (g, q, k, v)]
    forward = streamed_attention.forward(*double[1:], None, 0.5, True)
    wanted = streamed_attention.backward(*double, None, *forward, 0.5, True)[:3]
    for a, b in zip((out, *grads), (forward[0], *wanted), strict=True):
        np.testing.assert_allclose(backend.to_numpy(a), b, atol=1e-2)
    assert library.launches == 2


def test_what_does_not_lie_right_is_copied(made) -> None:
    backend, library = made()
    rng = np.random.default_rng(0)
    shape = (2, 3, 5, 8)
    host = rng.standard_normal((3, *shape)).astype("float16")
    wide = backend.asarray(np.zeros((2, 3, 5, 9), "float16"))
    wide[..., 1:] = backend.asarray(host[0])  # begins beside what can be loaded, and has rows of nine
    turned = backend.xp.permute_dims(backend.asarray(host[1].swapaxes(2, 3).copy()), (0, 1, 3, 2))
    same_head = backend.xp.broadcast_to(backend.asarray(host[2][:, :1]), shape)
    out, _ = backend.kernels["attention"](wide[..., 1:], turned, same_head, None, scale=0.5, causal=False)
    expected, _ = streamed_attention.forward(
        *np.float64([*host[:2], np.broadcast_to(host[2][:, :1], shape)]), None, 0.5, False
    )
    np.testing.assert_allclose(backend.to_numpy(out), expected, atol=1e-2)
    assert library.launches == 1
    (made_graph,) = sys.modules["cudnn"].graphs
    assert {tuple(t.stride) for t in made_graph.tensors.values()} == {(120, 40, 8, 1)}


@pytest.mark.parametrize("why", ["bias", "float32", "width", "no queries", "refused"])
def test_what_cudnn_has_no_way_for_is_products(made, why: str) -> None:
    backend, library = made(lambda graph: why == "refused")
    queries, width = 0 if why == "no queries" else 5, 4 if why == "width" else 8
    shapes = (2, 3, queries, width), (2, 3, 7, width), (2, 3, 7, 8)
    given = drawn(backend, *shapes, dtype="float32" if why == "float32" else "float16")
    bias = np.where(np.arange(5)[:, None] == np.arange(7), -np.inf, 0.0)
    bias[2] = -np.inf  # a query that sees no key
    added = fw.tensor(bias.astype("float16"), backend=backend) if why == "bias" else None
    value, grads = step(False, *given, added)
    wide = [fw.tensor(t.numpy().astype("float64")) for t in given]
    wanted, expected = step(False, *wide, fw.tensor(bias) if why == "bias" else None)
    if queries:
        same((value, *grads), (wanted, *expected))
    if why == "bias":
        assert not grads[0].numpy()[:, :, 2].any()
    assert library.launches == 0


def test_the_gradient_of_a_bias_and_higher_derivatives(made) -> None:
    """Both are made of the weights, which cuDNN does not give."""
    backend, library = made()
    q, k, v, bias = drawn(backend, (2, 5, 8), (2, 7, 8), (2, 7, 8), (5, 7))

    def loss(q, bias):
        return (ops.attention(q, k.to(device=q.device), v.to(device=q.device), bias, scale=0.5) ** 2).mean()

    def slope(q):
        return (fw.grad(lambda q: (ops.attention(q, *kv, scale=0.5, causal=True) ** 2).mean())(q) ** 2).sum()

    kv = k, v
    got = [*fw.grad(loss, argnums=(0, 1))(q, bias), fw.grad(slope)(q)]
    assert [g.builder for g in sys.modules["cudnn"].graphs] == ["sdpa", "sdpa_backward"]
    assert library.launches == 2  # without a bias, forward and back; the gradient within is a composition
    out, residual = backend.kernels["attention"](*(t._data for t in (q, k, v)), None, scale=0.5, causal=False)
    assert isinstance(residual, tuple)
    along = backend.kernels["attention_grad"](out, *(t._data for t in (q, k, v)), residual, 0.5)[3]
    q, k, v, bias = (fw.tensor(t.numpy().astype("float64")) for t in (q, k, v, bias))
    kv = k, v
    same(got, [*fw.grad(loss, argnums=(0, 1))(q, bias), fw.grad(slope)(q)], 2e-2)
    wide = [t.numpy() for t in (q, k, v)]
    forward = streamed_attention.forward(*wide, None, 0.5, False)
    wanted = streamed_attention.backward(forward[0], *wide, None, *forward, 0.5, False)[3]
    np.testing.assert_allclose(backend.to_numpy(along), wanted, atol=5e-3)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_products_of_rounded_operands(made, dtype: str) -> None:
    """Arrays stay float32; what is multiplied, and the result, are halves."""
    backend, library = made()
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    given = drawn(backend, (2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 16), dtype="float32")
    expected = step(True, *[fw.tensor(t.numpy()) for t in given])
    with products_rounded(backend, dtype):
        for _ in range(2):
            value, grads = step(True, *given)
    assert library.launches == 4
    assert {g.dtype for g in grads} == {fw.float32}
    same((value, *grads), (expected[0], *expected[1]), 1e-2 if dtype == "float16" else 6e-2)
    assert [g.io for g in sys.modules["cudnn"].graphs] == [{"float16": "HALF", "bfloat16": "BFLOAT16"}[dtype]] * 2
    step(True, *given)  # outside of the block nothing is rounded
    assert library.launches == 4


def test_bfloat16(made) -> None:
    ml_dtypes = pytest.importorskip("ml_dtypes")
    backend, library = made()
    rng = np.random.default_rng(0)
    host = rng.standard_normal((4, 2, 3, 5, 8)).astype(ml_dtypes.bfloat16)
    g, q, k, v = (backend.cupy.array(a) for a in host)
    out, residual = backend.kernels["attention"](q, k, v, None, scale=0.5, causal=True)
    grads = backend.kernels["attention_grad"](g, q, k, v, residual, 0.5, True, False)
    assert library.launches == 2
    double = host.astype("float64")
    forward = streamed_attention.forward(*double[1:], None, 0.5, True)
    wanted = streamed_attention.backward(*double, None, *forward, 0.5, True)[:3]
    for a, b in zip((out, *grads), (forward[0], *wanted), strict=True):
        assert a.dtype == ml_dtypes.bfloat16
        np.testing.assert_allclose(np.asarray(a).astype("float64"), b, atol=6e-2)


# -- programs ------------------------------------------------------------------------------------------


def block(x, *weights):
    """A self-attention with its projections, its loss and all gradients."""

    def loss(x, inward, outward):
        n, length, width = x.shape
        q, k, v = heads_of((x @ inward).reshape(n, length, 3, 2, width // 2))
        out = ops.permute_dims(F.scaled_dot_product_attention(q, k, v, is_causal=True), (0, 2, 1, 3))
        return ((out.reshape(n, length, width) @ outward - x) ** 2).mean()

    return fw.value_and_grad(loss, argnums=(0, 1, 2))(x, *weights)


SHAPES = (2, 5, 16), (16, 48), (16, 16)


def test_within_a_graph(made) -> None:
    backend, library = made()
    given = drawn(backend, *SHAPES)
    _, expected = block(*[fw.tensor(t.numpy().astype("float64")) for t in given])
    compiled = fw.compile(block)
    launches = []
    for _ in range(6):
        _, grads = compiled(*given)
        same(grads, expected, 2e-2)
        launches.append(library.launches)
    (recorded,) = backend.cupy.graphs
    assert recorded.launches >= 2
    assert launches[-1] == launches[-3]  # from then on they are part of the graph
    assert [g.builder for g in sys.modules["cudnn"].graphs] == ["sdpa", "sdpa_backward"]  # none is planned in it


def test_a_program_of_attention_alone(made) -> None:
    backend, library = made()
    given = drawn(backend, (2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 16))
    program = on_arrays(graph(partial(step, True), *given), namespace_of(backend))
    run = backend.capture(program)
    arrays = [t._data for t in given]
    expected = [backend.to_numpy(a) for a in run(*arrays)]
    for _ in range(4):
        got = run(*arrays)
    assert (run.launches, run.reason) == (3, "")
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(backend.to_numpy(a), b, rtol=1e-6)


def test_training_follows_that_on_the_cpu(made) -> None:
    backend, library = made()
    found = {}
    for device, dtype in (("cuda", "float16"), ("cpu", "float64")):
        x, *weights = (fw.tensor(t.numpy().astype(dtype), backend=device) for t in drawn(backend, *SHAPES))
        losses = []
        for _ in range(5):
            loss, (_, *grads) = block(x, *(w * 0.25 for w in weights))
            losses.append(loss.item())
            weights = [w - 0.5 * g for w, g in zip(weights, grads, strict=True)]
        found[device] = losses
    assert library.launches == 10
    assert len(sys.modules["cudnn"].graphs) == 2
    assert found["cpu"][-1] < found["cpu"][0]
    np.testing.assert_allclose(found["cuda"], found["cpu"], rtol=1e-2)


class Sums(fw.TrainModule):
    """A layer of a transformer that learns the sums of sequences."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = fw.nn.TransformerEncoderLayer(16, 2, 32, dropout=0.0, batch_first=True)
        self.head = fw.nn.Linear(16, 1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return ((self.head(self.layer(x)).mean(axis=(-2, -1)) - y) ** 2).mean()

    def configure_optimizers(self):
        return fw.optim.SGD(self.parameters(), lr=0.05)


def test_the_trainer_in_mixed_precision(made, tmp_path) -> None:
    on_device, library = made()
    x = np.random.default_rng(0).standard_normal((32, 5, 16)).astype("float32")
    found = {}
    for backend in ("cpu", "cuda"):
        fw.seed_everything(0)
        module = Sums()
        found["before"] = [p.detach().numpy().copy() for p in module.parameters()]
        trainer = fw.Trainer(
            backend=backend, max_epochs=3, precision="16-mixed", compile=True, logger=False,
            enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False,
            default_root_dir=tmp_path,
        )  # fmt: skip
        trainer.fit(module, fw.data.DataLoader(fw.data.ArrayDataset(x, x.mean(axis=(1, 2))), 8))
        found[backend] = [p.detach().numpy() for p in module.parameters()]
    built = sys.modules["cudnn"].graphs
    assert [(g.builder, g.io) for g in built] == [("sdpa", "HALF"), ("sdpa_backward", "HALF")]
    assert library.launches > 0
    assert sum(g.launches for g in on_device.cupy.graphs) >= 4  # of 12 steps
    for ours, expected in zip(found["cuda"], found["cpu"], strict=True):
        np.testing.assert_allclose(ours, expected, atol=1e-3)
    assert max(np.abs(a - b).max() for a, b in zip(found["cpu"], found["before"], strict=True)) > 2e-2


def test_without_cudnn_there_is_one_line_and_the_right_result(made, monkeypatch) -> None:
    backend, library = made()
    monkeypatch.setitem(sys.modules, "cudnn", None)
    given = drawn(backend, (2, 3, 5, 8), (2, 3, 7, 8), (2, 3, 7, 8))
    with pytest.warns(RuntimeWarning, match="convolution and attention are done without cuDNN: "):
        _, grads = step(True, *given)
    step(True, *given)  # warnings are errors: there is no second one
    same(grads, step(True, *[fw.tensor(t.numpy().astype("float64")) for t in given])[1])
    assert library.launches == 0


# -- the package ---------------------------------------------------------------------------------------


def problem(is_backward: bool, dtype: str, sizes: tuple[int, ...], causal: bool, beside: bool = False) -> Problem:
    """Of samples, heads, queries, keys and the elements of a key and of a value; heads `beside` each other, or apart."""
    n, heads, queries, keys, width, values = sizes

    def layout(rows: int, elements: int) -> attention.Layout:
        steps = (elements, heads * elements) if beside else (rows * elements, elements)
        return attention.Layout((n, heads, rows, elements), (heads * rows * elements, *steps, 1))

    q, k, v, out = layout(queries, width), layout(keys, width), layout(keys, values), layout(queries, values)
    stats = attention.Layout((n, heads, queries, 1), (heads * queries, queries, 1, 1))
    layouts = (q, k, v, out, stats, out, q, k, v) if is_backward else (q, k, v, out, stats)
    return Problem(is_backward, dtype, layouts, 0.125, causal)


PROBLEMS = [
    problem(is_backward, dtype, sizes, causal, beside)
    for is_backward in (False, True)
    for dtype, sizes, causal, beside in (
        ("float16", (16, 4, 64, 64, 32, 32), True, True),
        ("bfloat16", (2, 3, 5, 7, 64, 128), False, False),
        ("float16", (1, 1, 300, 7, 8, 16), True, False),
        ("bfloat16", (2, 8, 512, 512, 128, 128), True, True),
    )
]


@pytest.fixture(scope="module")
def cudnn():
    return pytest.importorskip("cudnn", reason="nvidia-cudnn-frontend is not installed")


@pytest.mark.parametrize("problem", PROBLEMS, ids=lambda p: f"{'backward' if p.is_backward else 'forward'}-{p.dtype}")
def test_the_package_takes_the_description(cudnn, problem: Problem) -> None:
    on_hopper = SimpleNamespace(**{name: getattr(cudnn, name) for name in ("data_type", "diagonal_alignment")})
    on_hopper.pygraph = partial(cudnn.pygraph, sm_version=90)  # so that no device is asked
    made = problem.described(on_hopper, None)
    (node,) = made.nodes
    given, results = attention.BACKWARD if problem.is_backward else attention.FORWARD
    assert set(node.inputs) == set(given)
    for name, layout in zip(given, problem.layouts):
        tensor = node.inputs[name]
        assert (tuple(tensor.dim), tuple(tensor.stride), tensor.uid) == (*layout, attention.NUMBERS[name])
    told = {"use_deterministic_algorithm": True} if problem.is_backward else {"generate_stats": True}
    band = {"diagonal_alignment": cudnn.diagonal_alignment.TOP_LEFT, "diagonal_band_right_bound": 0}
    assert node.params == {"attn_scale": 0.125, **told, **(band if problem.causal else {})}
    for name, layout, tensor in zip(results, problem.layouts[len(given) :], node.outputs.values(), strict=True):
        assert (tuple(tensor.dim), tuple(tensor.stride), tensor.uid) == (*layout, attention.NUMBERS[name])
        assert not tensor.is_virtual
        kind = "FLOAT" if name == "stats" else attention.TYPES[problem.dtype]
        assert tensor.data_type == getattr(cudnn.data_type, kind)
    try:
        made.validate()
    except RuntimeError as error:
        if "Unable to find symbol" not in str(error):  # which says that there is no cuDNN library
            raise


def test_the_package_refuses_what_is_not_asked_of_it(cudnn) -> None:
    """Sizes that `Attention` makes of products, without asking."""
    on_hopper = SimpleNamespace(**{name: getattr(cudnn, name) for name in ("data_type", "diagonal_alignment")})
    on_hopper.pygraph = partial(cudnn.pygraph, sm_version=90)
    for is_backward in (False, True):
        with pytest.raises(
            (cudnn.cudnnGraphNotSupportedError, RuntimeError), match="multiple of 8|Unable to find symbol"
        ):
            problem(is_backward, "float16", (2, 3, 5, 7, 12, 8), False).described(on_hopper, None).validate()


# -- on a GPU ------------------------------------------------------------------------------------------


@pytest.mark.cuda
@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("causal", [False, True])
def test_on_a_gpu(cudnn, dtype: str, causal: bool) -> None:
    """cuDNN is used for halves, and gives what the products do, the same each time."""
    try:
        backend = registry.get("cuda")
    except BackendError as error:
        pytest.skip(str(error))
    library, unused = Library(backend.cupy), Library(backend.cupy)
    unused.reason = "to compare with"
    rng = np.random.default_rng(0)
    shapes = (4, 6, 100, 64), (4, 6, 100, 32), (4, 6, 130, 32), (4, 6, 130, 64)
    g, q, k, v = (backend.asarray(rng.standard_normal(shape).astype(dtype)) for shape in shapes)
    found = []
    for used in (library, library, unused):
        kernels = Attention(backend.cupy, backend.products.matmul, used)
        out, residual = kernels.attention(q, k, v, None, scale=0.2, causal=causal)
        grads = kernels.attention_grad(g, q, k, v, residual, 0.2, causal, False)
        found.append([backend.to_numpy(t).astype("float64") for t in (out, *grads)])
    for a, again, b in zip(*found, strict=True):
        np.testing.assert_array_equal(a, again)
        np.testing.assert_allclose(a, b, atol=2e-2 * np.abs(b).max())
    assert (library.launches, library.reason) == (4 if dtype == "float16" else 0, "")
