"""Programs as CUDA graphs, on the stand-in: what is recorded, replayed and copied, and what falls back.

The stand-in records what a stream under capture is asked for and does it again at each launch; that a device does the
same is left to `pytest -m cuda`.
"""

from __future__ import annotations

import sys
import warnings
from itertools import pairwise

import cuda_stand_in
import numpy as np
import pytest
from cuda_launches import LAUNCHES, launches
from cuda_stand_in import StandIn, backend_class
from cuda_stand_in_blas import Blas
from fw_cuda import fusion

import framework as fw
from framework.autodiff.namespace import namespace_of
from framework.autodiff.tracing import graph, on_arrays
from framework.backend import Program, registry
from framework.backend.program import Operation, Value
from framework.errors import CompileWarning
from framework.testing.capture_tests import CaptureTests

NAME = "cuda_graphs_on_host"


@pytest.fixture(scope="module")
def cupy(host_kernels) -> StandIn:
    return StandIn(host_kernels)


@pytest.fixture(scope="module", autouse=True)
def backend(cupy: StandIn):
    registry.register(backend_class(cupy, Blas(), NAME))
    return registry.get(NAME)


@pytest.mark.filterwarnings("ignore:compile. a program:framework.errors.CompileWarning")
class TestCapture(CaptureTests):
    """Primitives whose fallback goes through the host fall back, which is a warning."""

    backend = NAME
    one_in = (("test_capture_of_primitive", 3),)


def mlp(backend, batch: int = 5, seed: int = 0):
    """A step's inputs: a batch, its targets, and parameters."""
    rng = np.random.default_rng(seed)
    shapes = [(batch, 4), (6, 4), (6,), (3, 6), (3,)]
    arrays = [fw.tensor(rng.standard_normal(shape).astype("float32"), backend=backend) for shape in shapes]
    arrays.insert(1, fw.tensor(rng.integers(0, 3, batch), backend=backend))
    return arrays


def step(x, targets, *params):
    def loss(w1, b1, w2, b2):
        hidden = fw.nn.functional.relu(fw.nn.functional.linear(x, w1, b1))
        return fw.nn.functional.cross_entropy(fw.nn.functional.linear(hidden, w2, b2), targets)

    return fw.value_and_grad(loss, argnums=(0, 1, 2, 3))(*params)


def program_of(backend, *given):
    return on_arrays(graph(step, *given), namespace_of(backend))


def values(outputs):
    return [np.array(o) for o in outputs]


def eager(*given):
    loss, gradients = step(*given)
    return [t.numpy() for t in (loss, *gradients)]


def assert_equal(outputs, given) -> None:
    for got, expected in zip(values(outputs), eager(*given), strict=True):
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_a_hundred_replays_equal_eager_under_other_allocations(backend, cupy: StandIn) -> None:
    given = mlp(backend)
    run = backend.capture(program_of(backend, *given))
    params = given[2:]
    for i in range(102):
        given = [*mlp(backend, seed=i)[:2], *params]
        outputs = run(*(t._data for t in given))
        churn = [cupy.array(np.full(n, np.nan, np.float32)) for n in range(1, 50, 7)]
        assert_equal(outputs, given)
        del churn
    assert run.launches >= 98
    assert not run.reason
    assert "1 CUDA graphs" in str(run)


def test_a_step_is_one_launch_and_copies_of_what_moves(backend, cupy: StandIn) -> None:
    given = mlp(backend)
    run = backend.capture(program_of(backend, *given))
    into = tuple(backend.copy(t._data) if i else None for i, t in enumerate(given[1:]))
    for i in range(6):
        batch = mlp(backend, seed=i)[:2]
        given = [*batch, *given[2:]]
        launched, before = len(cupy.graphs), backend._own.launches
        outputs = run(*(t._data for t in given), into=into)
        if i >= 3:
            assert (len(cupy.graphs), backend._own.launches) == (launched, before)  # nothing but the graph
        assert [o is t for o, t in zip(outputs, into)] == [False, True, True, True, True]
        assert_equal(outputs, given)


def test_parameters_are_read_where_they_are(backend) -> None:
    given = mlp(backend)
    run = backend.capture(program_of(backend, *given))
    for _ in range(4):
        run(*(t._data for t in given))
    given[2]._data[...] = 0.5  # in place, as an update does
    assert_equal(run(*(t._data for t in given)), given)
    launches = run.launches
    given[2] = fw.tensor(np.full((6, 4), 0.25, np.float32), backend=backend)  # elsewhere
    assert_equal(run(*(t._data for t in given)), given)
    assert_equal(run(*(t._data for t in given)), given)
    assert run.launches == launches + 1


def test_state_that_comes_back_is_not_taken_for_that_of_the_graph(backend, cupy: StandIn) -> None:
    """A graph that is recorded anew for state elsewhere is none of the arrays that came before."""
    values = {0: Value((2,), "float32"), 1: Value((2,), "float32"), 2: Value((2,), "float32")}
    operation = Operation("add", (0, 1), {}, (2,))
    functions = {"add": namespace_of(backend).add}
    run = backend.capture(Program((0, 1), {}, (operation,), (2,), values, functions.__getitem__, ((0, 2),)))
    here, there, step = (cupy.array(np.full(2, value, np.float32)) for value in (0, 100, 1))
    for state in [here] * 4 + [there] * 3 + [here]:
        run(state, step, into=(state,))
    np.testing.assert_array_equal(np.array(here), [5, 5])
    np.testing.assert_array_equal(np.array(there), [103, 103])


def test_outputs_are_their_receivers_own(backend) -> None:
    given = mlp(backend)
    run = backend.capture(program_of(backend, *given))
    kept = [run(*(t._data for t in given)) for _ in range(4)]
    before = [values(outputs) for outputs in kept]
    run(*(2.0 * t._data if i > 1 else t._data for i, t in enumerate(given)))
    for outputs, saved in zip(kept, before):
        for output, expected in zip(outputs, saved):
            np.testing.assert_array_equal(output, expected)


def test_a_graph_holds_no_array_of_the_callers(backend) -> None:
    given = mlp(backend)
    run = backend.capture(program_of(backend, *given))
    counts = [sys.getrefcount(t._data) for t in given]
    into = tuple(backend.copy(t._data) if i else None for i, t in enumerate(given[1:]))
    of_targets = [sys.getrefcount(t) for t in into if t is not None]
    for _ in range(4):
        run(*(t._data for t in given), into=into)
    assert [sys.getrefcount(t._data) for t in given] == counts
    assert [sys.getrefcount(t) for t in into if t is not None] == of_targets


def test_each_batch_size_has_its_graph(backend) -> None:
    params = mlp(backend)[2:]
    run = backend.capture(program_of(backend, *mlp(backend)))
    for _ in range(3):
        for batch in (5, 2):
            given = [*mlp(backend, batch)[:2], *params]
            if batch == 5:
                assert_equal(run(*(t._data for t in given)), given)
    assert not run.reason


def test_an_output_that_is_a_part_of_an_input_is_a_copy(backend) -> None:
    x = fw.tensor(np.arange(6.0, dtype=np.float32), backend=backend)
    run = backend.capture(on_arrays(graph(lambda x: (fw.numpy.reshape(x, (2, 3)), x * 2), x), namespace_of(backend)))
    for _ in range(4):
        part, _ = run(x._data)
        part[...] = -1.0
        np.testing.assert_array_equal(x.numpy(), np.arange(6.0))
    assert run.launches == 2


def test_what_cannot_be_captured_runs_as_it_is_with_one_line(backend) -> None:
    x = fw.tensor(np.linspace(-1, 1, 6, dtype=np.float32), backend=backend)
    run = backend.capture(on_arrays(graph(lambda x: fw.numpy.sort(x) * 2, x), namespace_of(backend)))
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        for _ in range(4):
            run(x._data)
    assert len([w for w in said if w.category is CompileWarning]) <= 1


# -- a training step -------------------------------------------------------------------------------------


class Net(fw.TrainModule):
    """The MLP of the main recipe."""

    def __init__(self, sizes: tuple[int, ...] = (784, 300, 100, 10)) -> None:
        super().__init__()
        self.layers = fw.nn.ModuleList([fw.nn.Linear(a, b) for a, b in pairwise(sizes)])

    def forward(self, x):
        for layer in list(self.layers)[:-1]:
            x = fw.nn.functional.relu(layer(x))
        return self.layers[-1](x)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = fw.nn.functional.cross_entropy(self(x), y)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return fw.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


def test_launches_of_a_step_of_the_mlp_are_bounded(backend) -> None:
    """Forward and backward of the MNIST MLP: 3 products forward, 5 backward, each bias and ReLU but one for nothing."""
    module = Net().to(device=NAME)
    rng = np.random.default_rng(0)
    x = fw.tensor(rng.standard_normal((128, 784)).astype("float32"), backend=backend)
    y = fw.tensor(rng.integers(0, 10, 128), backend=backend)

    @fw.compile
    def step(x, y):
        loss = fw.nn.functional.cross_entropy(module(x), y)
        loss.backward()
        return loss

    for _ in range(3):
        for p in module.parameters():
            p.grad = None
        step(x, y)
    (program,) = step.programs()
    unfused, found = launches(program), fusion.fused(program, backend.products)
    assert unfused - launches(found) == 2  # two ReLUs
    assert [o.primitive for o in found.operations].count("linear_relu") == 2
    assert launches(found) <= 18, str(found)
    assert {o.primitive for o in found.operations} <= {*LAUNCHES, "divide"}, "an operation nobody has counted"


@pytest.mark.parametrize("clip", [None, 1.0])
@pytest.mark.parametrize("make", [fw.optim.SGD, fw.optim.AdamW, fw.optim.Rprop])
def test_launches_of_a_whole_step_of_the_mlp_are_bounded(backend, make, clip, tmp_path, monkeypatch) -> None:
    """Forward, backward, the check and the update: gradients are computed where they stay, and moved on as one.

    Clipping by the norm adds one launch for the sum that the check needs as well, and one for the gradients.
    """
    captured: list[Program] = []
    real = type(backend).capture
    monkeypatch.setattr(type(backend), "capture", lambda self, program: captured.append(program) or real(self, program))
    rng = np.random.default_rng(0)
    data = fw.data.ArrayDataset(rng.standard_normal((384, 784)).astype("float32"), rng.integers(0, 10, 384))
    trainer = fw.Trainer(
        backend=NAME, max_epochs=1, compile=True, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=tmp_path, gradient_clip_val=clip,
    )  # fmt: skip
    module = Net()
    module.configure_optimizers = lambda: make(module.parameters(), lr=0.01)
    trainer.fit(module, fw.data.DataLoader(data, 128))
    (program,) = [program for program in captured if program.state]
    found = fusion.fused(program, backend.products)
    assert launches(found) <= (20 if clip is None else 22), str(found)
    assert {o.primitive for o in found.operations} <= {*LAUNCHES, "divide"}, "an operation nobody has counted"
    in_place = [o for o in found.operations if len(o.reads) > 2 and o.primitive == "linear_dw"]
    assert len(in_place) == 3
    assert "latch_in_place" in [o.primitive for o in found.operations]


def test_a_norm_of_neighbours_is_three_launches_with_the_bits_of_each_by_itself(backend, monkeypatch) -> None:
    from framework.optim import clip

    norms, asked = [], []
    for apart in (False, True):
        if apart:
            monkeypatch.setattr(clip, "_in_one_arena", lambda leaves: None)
        fw.seed_everything(0)
        module = Net((40, 300, 3)).to(device=NAME)
        optimizer = fw.optim.SGD(module.parameters(), lr=0.1)
        for _ in range(3):
            optimizer.zero_grad()
            module(fw.tensor(np.ones((5, 40), np.float32), backend=backend)).sum().backward()
            before = backend._own.launches
            norms.append(fw.optim.clip_grad_norm_(module.parameters(), 0.1).numpy())
            asked.append(backend._own.launches - before)
            optimizer.step()
    assert asked[1:3] == [3, 3]
    assert asked[4:] == [8, 8]
    assert norms[:3] == norms[3:]
    assert norms[0] > 0.1


def test_updates_of_all_parameters_are_one_launch(backend, cupy: StandIn) -> None:
    for make in (fw.optim.SGD, fw.optim.AdamW, fw.optim.Rprop):
        module = Net((4, 6, 3)).to(device=NAME)
        optimizer = make(module.parameters(), lr=0.1)
        x = fw.tensor(np.ones((5, 4), np.float32), backend=backend)
        launches = []
        for _ in range(4):
            optimizer.zero_grad()
            module(x).sum().backward()
            before = backend._own.launches
            optimizer.step()
            launches.append(backend._own.launches - before)
        assert launches[-1] == 1, f"{make.__name__}: {launches}"


@pytest.mark.parametrize("make", [fw.optim.SGD, fw.optim.AdamW, fw.optim.Rprop, fw.optim.RMSprop])
def test_an_update_that_a_flag_forbids_changes_nothing(backend, make) -> None:
    """Kernels look at the flag themselves; compositions are chosen from afterwards. Both as on the CPU."""
    found = {}
    for name in ("cpu", NAME):
        fw.seed_everything(0)
        module = Net((4, 3)).to(device=name)
        arguments = {"momentum": 0.9} if make is fw.optim.SGD else {}
        optimizer = make(module.parameters(), lr=0.1, **arguments)
        seen = []
        for flag in (False, True, False, True):
            optimizer.zero_grad()
            x = fw.tensor(np.ones((5, 4), np.float32), backend=name)
            module(x).sum().backward()
            optimizer.apply_if = fw.tensor(flag, backend=name)
            before = [p.detach().numpy().copy() for p in module.parameters()]
            optimizer.step()
            seen.append([p.detach().numpy().copy() for p in module.parameters()])
            if not flag:
                for a, b in zip(before, seen[-1]):
                    np.testing.assert_array_equal(a, b)
        found[name] = seen
    if make in (fw.optim.SGD, fw.optim.Rprop):  # others count steps that were not applied, which a device cannot
        for ours, expected in zip(found[NAME], found["cpu"]):
            for a, b in zip(ours, expected, strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_launches_beside_the_graph_are_bounded(tmp_path, cupy: StandIn, monkeypatch) -> None:
    """A step of the Trainer: a batch gathered where the graph reads it, the graph, and a copy of the loss."""
    asked: list[str] = []
    real = cuda_stand_in.record
    monkeypatch.setattr(cuda_stand_in, "record", lambda result, again: asked.append("") or real(result, again))
    counts: list[int] = []

    class Count(fw.callbacks.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            counts.append(len(asked))
            asked.clear()

    rng = np.random.default_rng(0)
    data = fw.data.ArrayDataset(
        rng.integers(0, 256, (96, 8)).astype(np.uint8), rng.integers(0, 3, 96),
        transform=fw.data.transforms.Normalize(0.1, 0.3),
    )  # fmt: skip
    trainer = fw.Trainer(
        backend=NAME, max_epochs=1, compile=True, logger=False, enable_checkpointing=False, enable_progress_bar=False,
        enable_model_summary=False, callbacks=[Count()], log_every_n_steps=0, default_root_dir=tmp_path,
    )  # fmt: skip
    trainer.fit(Net((8, 6, 3)), fw.data.DataLoader(data, 8))
    assert max(counts[-6:-1]) <= 2, counts


@pytest.mark.parametrize("precision", ["32-true", "64-true"])
def test_the_trainer_trains_by_graphs(tmp_path, cupy: StandIn, precision: str) -> None:
    """As on the CPU backend, with nothing but launches of graphs for the forward and the backward pass."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((48, 8)).astype("float32"), rng.integers(0, 3, 48)
    found = {}
    for backend in ("cpu", NAME):
        fw.seed_everything(0)
        module = Net((8, 6, 3))
        trainer = fw.Trainer(
            backend=backend, max_epochs=4, compile=True, precision=precision, enable_progress_bar=False,
            enable_model_summary=False, enable_checkpointing=False, default_root_dir=tmp_path, gradient_clip_val=1.0,
        )  # fmt: skip
        launched = sum(graph.launches for graph in cupy.graphs)
        trainer.fit(module, fw.data.DataLoader(fw.data.ArrayDataset(x, y), 8, shuffle=True))
        found[backend] = [p.detach().numpy() for p in module.parameters()]
    for ours, expected in zip(found[NAME], found["cpu"], strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-3, atol=1e-5)
    assert sum(graph.launches for graph in cupy.graphs) - launched >= 18  # of 24 steps


def test_a_dataset_that_fits_is_kept_on_the_device(tmp_path, cupy: StandIn, backend, monkeypatch) -> None:
    """Batches are gathered and normalised there, in the loader's order; a run is resumed within an epoch."""
    rng = np.random.default_rng(0)
    images, y = rng.integers(0, 256, (48, 2, 4)).astype(np.uint8), rng.integers(0, 3, 48)

    class Images(Net):
        def forward(self, x):
            assert x.dtype == fw.float32
            return super().forward(x.reshape(-1, 8))

    def run(name: str, steps: int, **arguments):
        fw.seed_everything(0)
        module = Images((8, 6, 3))
        trainer = fw.Trainer(
            backend=name, max_steps=steps, max_epochs=-1, enable_progress_bar=False, enable_model_summary=False,
            default_root_dir=tmp_path, callbacks=[fw.callbacks.ModelCheckpoint(every_n_train_steps=4, save_top_k=-1)],
        )  # fmt: skip
        data = fw.data.ArrayDataset(images, y, transform=fw.data.transforms.Normalize([0.1, 0.2], 0.5))
        trainer.fit(module, fw.data.DataLoader(fw.data.Subset(data, range(40)), 8, shuffle=True, seed=3), **arguments)
        return trainer, [p.detach().numpy() for p in module.parameters()]

    asked = []
    real = backend._own.launch
    monkeypatch.setattr(
        backend._own,
        "launch",
        lambda file, name, *args, **types: asked.append(name) or real(file, name, *args, **types),
    )
    trainer, ours = run(NAME, 9)
    assert asked.count("fw_gather") == 9
    _, expected = run("cpu", 9)
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-5)
    saved = next(path for path in (tmp_path / "runs").rglob("*step=8*") if path.is_dir())
    _, resumed = run(NAME, 9, ckpt_path=saved)
    for a, b in zip(ours, resumed, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")
@pytest.mark.parametrize("compiled", [False, True])
def test_a_scaled_loss_on_a_device(tmp_path, cupy: StandIn, compiled: bool) -> None:
    """16-mixed with overflows at the first scales: what is skipped, and all scales, are those of the CPU backend."""
    blas = Blas()
    registry.register(backend_class(cupy, blas, "cuda_halves_on_host", has_halves=True))

    class Steep(Net):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx) * 50.0

        def configure_optimizers(self):
            return fw.optim.SGD(self.parameters(), lr=0.001, momentum=0.9)

    class Scales(fw.callbacks.Callback):
        def __init__(self):
            self.seen = []

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            self.seen.append(trainer._fit.window.scaler.current().item())

    rng = np.random.default_rng(0)
    data = fw.data.ArrayDataset(rng.standard_normal((48, 8)).astype("float32") * 40, rng.integers(0, 3, 48))
    found = {}
    for backend in ("cpu", "cuda_halves_on_host"):
        fw.seed_everything(0)
        module, scales = Steep((8, 6, 3)), Scales()
        fw.Trainer(
            backend=backend, max_epochs=3, compile=compiled, precision="16-mixed", enable_progress_bar=False, logger=False,
            enable_model_summary=False, enable_checkpointing=False, default_root_dir=tmp_path, callbacks=[scales],
        ).fit(module, fw.data.DataLoader(data, 8))  # fmt: skip
        found[backend] = scales.seen, [p.detach().numpy() for p in module.parameters()]
    (cpu_scales, expected), (scales, ours) = found.values()
    assert scales == cpu_scales
    assert scales[0] < 65536.0
    assert scales[-1] == scales[-2], "never small enough"
    for a, b in zip(ours, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-4)
    assert any(kinds["kind"] == 2 for kinds in blas.things.values() if "kind" in kinds)  # products of halves
