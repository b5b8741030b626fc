"""A compiled step of the Trainer with its update as one program, on backends that ask for it."""

from __future__ import annotations

import numpy as np
import pytest
from whole_steps import Net, OnHost, WritableOnHost, assert_same, data, run

import framework as fw
from framework.autodiff.sequel import Continued, Nodes
from framework.backend import registry

FEATURES = ("plain", "norm", "value", "accumulated", "frozen", "tied", "groups", "buffers")
BACKENDS = {"whole_on_host": OnHost, "whole_writable": WritableOnHost}


@pytest.fixture(scope="module", autouse=True)
def known() -> None:
    for cls in BACKENDS.values():
        registry.register(cls)


@pytest.fixture(params=BACKENDS)
def backend(request):
    found = BACKENDS[request.param]
    found.calls, found.whole, found.programs = 0, 0, []
    return found


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("make", ["momentum", "adamw"])
def test_equal_to_eager(backend, feature: str, make: str, tmp_path) -> None:
    eager = run(backend.name, feature, make, tmp_path, compiled=False)
    assert backend.calls == 0
    assert_same(run(backend.name, feature, make, tmp_path, compiled=True), eager)
    whole = [program for program in backend.programs if program.state]
    assert whole, "no program took the update"


@pytest.mark.parametrize("make", ["sgd", "nesterov", "adam", "rprop", "amsgrad", "lion"])
def test_of_every_optimizer(backend, make: str, tmp_path) -> None:
    eager = run(backend.name, "plain", make, tmp_path, compiled=False)
    assert_same(run(backend.name, "plain", make, tmp_path, compiled=True), eager)
    assert any(program.state for program in backend.programs) == (make not in ("amsgrad", "lion"))


def steps(backend, make: str = "momentum", folder=None, feature: str = "plain", **arguments):
    """How often a program with an update was run, and one without."""
    run(backend.name, feature, make, folder, compiled=True, **arguments)
    return backend.whole, backend.calls - backend.whole


@pytest.mark.parametrize("feature", FEATURES)
def test_a_replay_is_one_call(backend, feature: str, tmp_path) -> None:
    found = steps(backend, folder=tmp_path, feature=feature)
    assert found == ((14, 14) if feature == "accumulated" else (8, 0))  # all but the two that were recorded


class Held(fw.callbacks.Callback):
    """Holds what a parameter was, and what its gradient was."""

    def __init__(self) -> None:
        self.weights, self.values, self.gradients = [], [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        w = pl_module.first.weight
        self.weights.append(w._data)
        self.values.append(w.detach().numpy().copy())
        self.gradients.append((w.grad, w.grad.numpy().copy()))


def test_what_somebody_holds_stays(backend, tmp_path) -> None:
    held = Held()
    run(backend.name, "norm", "adamw", tmp_path, compiled=True, callbacks=[held])
    assert backend.whole == (4 if backend.writable else 8)  # memory that is held is left first, by a step as in eager
    for kept, value in zip(held.weights, held.values):
        np.testing.assert_array_equal(kept, value)
    for kept, value in held.gradients:
        np.testing.assert_array_equal(kept.numpy(), value)


class HeldByItself(fw.callbacks.Callback):
    """Holds the arrays that gradients are in, without having looked at the gradients."""

    def __init__(self) -> None:
        self.found = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        g = pl_module.first.weight._node.grad
        if batch_idx % 4 == 2:
            self.found.append((g, np.array(g)))


def test_a_sum_of_gradients_that_somebody_holds_stays(backend, tmp_path) -> None:
    held = HeldByItself()
    run(backend.name, "accumulated", "adamw", tmp_path, compiled=True, callbacks=[held])
    assert backend.whole >= 5
    for kept, value in held.found:
        np.testing.assert_array_equal(kept, value)


class Poison(fw.callbacks.Callback):
    """Makes a batch's values infinite."""

    def __init__(self, at: int) -> None:
        self.at, self.weights = at, None

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if batch_idx == self.at:
            batch[0][...] = float("inf")
            self.weights = {n: p.detach().numpy().copy() for n, p in pl_module.named_parameters()}
            self.module = pl_module


@pytest.mark.parametrize("make", ["sgd", "momentum", "adamw", "rprop"])
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_a_step_that_is_not_finite_changes_no_weight(backend, make: str, tmp_path) -> None:
    told = []
    for compiled in (False, True):
        poison = Poison(6)
        with pytest.raises(fw.errors.NonFiniteError, match="step 7: ") as caught:
            run(backend.name, "norm", make, tmp_path, compiled, callbacks=[poison])
        told.append(str(caught.value).split(".")[0])
        for name, p in poison.module.named_parameters():
            np.testing.assert_array_equal(p.detach().numpy(), poison.weights[name], err_msg=name)
    assert told[0] == told[1]
    assert backend.whole >= 5


def test_what_a_step_writes_is_written_before_its_update(backend, tmp_path) -> None:
    eager = run(backend.name, "bounded", "adamw", tmp_path, compiled=False)
    assert_same(run(backend.name, "bounded", "adamw", tmp_path, compiled=True), eager)


class Meddle(fw.callbacks.Callback):
    """Does something between steps."""

    def __init__(self, what: str) -> None:
        self.what, self.kept = what, None

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        optimizer = trainer.optimizers[0]
        if self.what == "load":
            if batch_idx == 3:
                self.kept = optimizer.state_dict(), {k: v.clone() for k, v in pl_module.state_dict().items()}
            if batch_idx == 6:
                optimizer.load_state_dict(self.kept[0])
                pl_module.load_state_dict(self.kept[1])
        elif self.what == "freeze":
            if batch_idx in (3, 6):
                pl_module.last.weight.requires_grad_(batch_idx == 6)
        elif self.what == "rates":
            optimizer.param_groups[0]["weight_decay"] = 0.01 * batch_idx
        elif self.what == "values" and batch_idx == 5:
            pl_module.first.weight.assign(pl_module.first.weight.detach() * 0.5)
        elif self.what == "data" and batch_idx == 5:
            pl_module.first.weight.data = pl_module.first.weight.detach() * 0.5
        elif self.what == "states":
            for own in optimizer.state.values():
                assert own["step"] == batch_idx + 1
        elif self.what == "held":
            self.kept = self.kept or optimizer.state
            assert all(own["step"] == (batch_idx if batch_idx > 5 else batch_idx + 1) for own in self.kept.values())
            if batch_idx == 5:
                for own in self.kept.values():
                    own["step"] = batch_idx


@pytest.mark.parametrize("what", ["load", "freeze", "rates", "values", "data", "states", "held"])
def test_what_is_done_between_steps(backend, what: str, tmp_path) -> None:
    found = [
        run(backend.name, "norm", "adamw", tmp_path, compiled, max_epochs=2, callbacks=[Meddle(what)])
        if what not in ("load", "freeze", "states", "held")
        else run(backend.name, "norm", "adamw", tmp_path, compiled, callbacks=[Meddle(what)])
        for compiled in (False, True)
    ]
    assert_same(found[1], found[0])
    assert backend.whole >= 3


@pytest.fixture
def raising(monkeypatch):
    """Lets what is appended to a program raise in its call of this number."""

    def raises(name: str, at: int) -> None:
        real, calls = Nodes.function, []

        def function(self, asked: str):
            found = real(self, asked)

            def called(*args, **params):
                calls.append(asked)
                if asked == name and calls.count(name) == at:
                    raise RuntimeError(f"{name} does not work")
                return found(*args, **params)

            return called

        monkeypatch.setattr(Nodes, "function", function)

    return raises


@pytest.mark.parametrize("feature", ["groups", "accumulated"])
def test_an_update_that_fails_at_once_is_made_by_itself(backend, feature: str, tmp_path, raising) -> None:
    """Gradients that were added to and parameters of the first group are as before."""
    eager = run(backend.name, feature, "adamw", tmp_path, compiled=False)
    raising("adam_step", 2 if feature == "groups" else 1)
    with pytest.warns(fw.errors.CompileWarning, match="adam_step does not work"):
        found = run(backend.name, feature, "adamw", tmp_path, compiled=True, strict=False)
    assert_same(found, eager)


@pytest.mark.parametrize("feature", ["groups", "accumulated"])
def test_an_update_that_fails_later_is_not_made_twice(backend, feature: str, tmp_path, raising) -> None:
    """Where something was written, the error is the user's to see, as in eager."""
    eager = run(backend.name, feature, "adamw", tmp_path, compiled=False)
    raising("latch", 3)
    if backend.writable:
        with pytest.raises(RuntimeError, match="latch does not work"):
            run(backend.name, feature, "adamw", tmp_path, compiled=True)
    else:
        with pytest.warns(fw.errors.CompileWarning, match="latch does not work"):
            assert_same(run(backend.name, feature, "adamw", tmp_path, compiled=True, strict=False), eager)


class Looks(fw.callbacks.Callback):
    def on_before_optimizer_step(self, trainer, pl_module, optimizer):
        pass


def test_a_hook_before_the_update_keeps_it_by_itself(backend, tmp_path) -> None:
    assert steps(backend, folder=tmp_path, callbacks=[Looks()]) == (0, 8)


def test_a_run_is_resumed_within_it(backend, tmp_path) -> None:
    def fit(steps: int, folder, path=None):
        fw.seed_everything(0)
        module = Net("norm", "adamw")
        trainer = fw.Trainer(
            backend=backend.name, compile=True, max_steps=steps, enable_progress_bar=False, gradient_clip_val=0.05,
            enable_model_summary=False, logger=False, default_root_dir=folder,
        )  # fmt: skip
        trainer.fit(module, fw.data.DataLoader(data(), 4, shuffle=True), ckpt_path=path)
        trainer.save_checkpoint(folder / "saved")
        return {name: value.numpy() for name, value in module.state_dict().items()}

    whole = fit(16, tmp_path / "whole")
    fit(7, tmp_path / "first")
    resumed = fit(16, tmp_path / "second", tmp_path / "first" / "saved")
    assert_same(resumed, whole, rtol=0, atol=0)


def test_the_program_says_what_is_given_away(backend, tmp_path) -> None:
    run(backend.name, "norm", "momentum", tmp_path, compiled=True)
    program = backend.programs[-1]
    # Six parameters and the velocity of each; where they are neighbours, gradients, values, velocity, flag and count.
    assert len(program.state) == (5 if backend.writable else 12)
    assert set(program.state_in) <= set(program.inputs)
    assert set(program.state_out) <= set(program.outputs)
    assert "state " in str(program)
    assert "sgd_step" in str(program)
    assert not program.constants or all(np.ndim(a) == 0 for a in program.constants.values())


# -- the CUDA plugin on its stand-in ---------------------------------------------------------------------

CUDA = "cuda_whole_on_host"


@pytest.fixture(scope="module")
def cupy(host_kernels):
    from cuda_stand_in import StandIn, backend_class
    from cuda_stand_in_blas import Blas

    found = StandIn(host_kernels)
    registry.register(backend_class(found, Blas(), CUDA))
    return found


@pytest.mark.parametrize("feature", FEATURES)
@pytest.mark.parametrize("make", ["momentum", "adamw"])
def test_on_cuda_a_step_is_one_graph(cupy, feature: str, make: str, tmp_path) -> None:
    eager = run(CUDA, feature, make, tmp_path, compiled=False)
    before = sum(graph.launches for graph in cupy.graphs)
    assert_same(run(CUDA, feature, make, tmp_path, compiled=True), eager)
    launched = sum(graph.launches for graph in cupy.graphs) - before
    if feature == "accumulated":
        assert launched >= 20  # of the 28 replays, of two kinds, that may each need another graph
    else:
        assert launched >= 5  # of eight replays the first two run by themselves; one that is recorded anew may follow


@pytest.mark.parametrize("make", ["sgd", "rprop", "adam", "nesterov"])
def test_on_cuda_every_kernel_of_an_update_is_in_the_graph(cupy, make: str, tmp_path) -> None:
    eager = run(CUDA, "norm", make, tmp_path, compiled=False)
    before = sum(graph.launches for graph in cupy.graphs)
    assert_same(run(CUDA, "norm", make, tmp_path, compiled=True), eager)
    assert sum(graph.launches for graph in cupy.graphs) - before >= 5


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_on_cuda_a_step_that_is_not_finite_changes_no_weight(cupy, tmp_path) -> None:
    poison = Poison(6)
    with pytest.raises(fw.errors.NonFiniteError, match="step 7: "):
        run(CUDA, "norm", "adamw", tmp_path, compiled=True, callbacks=[poison])
    for name, p in poison.module.named_parameters():
        np.testing.assert_array_equal(p.detach().numpy(), poison.weights[name], err_msg=name)


@pytest.mark.parametrize("what", ["load", "freeze", "values", "data"])
def test_on_cuda_what_is_done_between_steps(cupy, what: str, tmp_path) -> None:
    found = [run(CUDA, "norm", "adamw", tmp_path, compiled, callbacks=[Meddle(what)]) for compiled in (False, True)]
    assert_same(found[1], found[0])


@pytest.mark.parametrize("feature", ["groups", "accumulated"])
def test_on_cuda_an_update_that_fails_at_once_is_made_by_itself(cupy, feature: str, tmp_path, raising) -> None:
    """There kernels write where their arguments are."""
    eager = run(CUDA, feature, "adamw", tmp_path, compiled=False)
    raising("adam_step", 2 if feature == "groups" else 1)
    with pytest.warns(fw.errors.CompileWarning, match="adam_step does not work"):
        found = run(CUDA, feature, "adamw", tmp_path, compiled=True, strict=False)
    assert_same(found, eager)


def test_on_cuda_a_refused_recording_has_changed_nothing(cupy, tmp_path, monkeypatch) -> None:
    """The run before it counts for nothing: state is put back, and the step is made operation by operation."""
    from fw_cuda.graphs import Recorded
    from fw_cuda.running import RefusedError

    eager = run(CUDA, "norm", "adamw", tmp_path, compiled=False)

    def refused(self, work):
        raise RefusedError("so that it is tested")

    monkeypatch.setattr(Recorded, "_recorded", refused)
    with pytest.warns(fw.errors.CompileWarning, match="so that it is tested"):
        found = run(CUDA, "norm", "adamw", tmp_path, compiled=True, strict=False)
    assert_same(found, eager)


def test_on_cuda_memory_that_runs_out_in_a_recording_has_changed_nothing(cupy, tmp_path, monkeypatch) -> None:
    """The third update is the last; the fourth is told as it is, and not made by halves."""
    from fw_cuda.graphs import Recorded

    class Seen(fw.callbacks.Callback):
        def on_train_start(self, trainer, pl_module):
            self.module = pl_module

    eager, seen = run(CUDA, "norm", "adamw", tmp_path, compiled=False, max_steps=3), Seen()

    def ran_out(self, work):
        raise MemoryError("of the device")

    monkeypatch.setattr(Recorded, "_recorded", ran_out)
    with pytest.raises(MemoryError, match="of the device"):
        run(CUDA, "norm", "adamw", tmp_path, compiled=True, callbacks=[seen])
    found = {name: p.detach().numpy() for name, p in seen.module.named_parameters()}
    assert_same(found, {name: eager[name] for name in found})


# -- JAX -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def jax():
    from bundled_beside import make_known

    found = pytest.importorskip("jax")
    make_known("jax", "JaxBackend")
    return found


@pytest.mark.reference
@pytest.mark.parametrize("feature", FEATURES)
def test_on_jax_a_step_is_one_function(jax, feature: str, tmp_path, monkeypatch) -> None:
    whole = []
    real = Continued.__call__
    monkeypatch.setattr(Continued, "__call__", lambda self, rest: whole.append(self) or real(self, rest))
    eager = run("jax", feature, "adamw", tmp_path, compiled=False)
    assert_same(run("jax", feature, "adamw", tmp_path, compiled=True), eager)
    assert len(whole) == (14 if feature == "accumulated" else 8)
    assert len(set(whole)) == 1


@pytest.mark.reference
@pytest.mark.parametrize("make", ["momentum", "rprop"])
def test_on_jax_what_somebody_holds_stays(jax, make: str, tmp_path) -> None:
    held = Held()
    run("jax", "norm", make, tmp_path, compiled=True, callbacks=[held])
    for kept, value in held.gradients:
        np.testing.assert_array_equal(kept.numpy(), value)
    for kept, value in zip(held.weights, held.values):
        np.testing.assert_array_equal(np.asarray(kept), value)


@pytest.mark.reference
def test_on_jax_memory_is_given_away(jax, tmp_path) -> None:
    """Memory of the state before is what parameters, state and gradients are in afterwards, in whatever order."""
    places: list[set[int]] = []

    class Watch(fw.callbacks.Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            params = list(pl_module.parameters())
            arrays = [*[p._data for p in params], *[p._node.grad for p in params]]
            arrays += [a for own in trainer.optimizers[0]._states.values() for a in own.values() if hasattr(a, "shape")]
            places.append({a.unsafe_buffer_pointer() for a in arrays})

    run("jax", "norm", "adamw", tmp_path, compiled=True, callbacks=[Watch()])
    assert all(len(found) == 24 for found in places)
    assert all(len(after & before) >= 18 for after, before in zip(places[4:], places[3:]))
