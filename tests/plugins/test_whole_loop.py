"""A step of one's own under `compile`, whose update is in the program, on backends that ask for it."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from whole_steps import OnHost, WritableOnHost, assert_same

import framework as fw
from framework.autodiff.sequel import Nodes
from framework.backend import registry

CUDA = "cuda_loop_on_host"
BACKENDS = {"whole_on_host": OnHost, "whole_writable": WritableOnHost}
F = fw.nn.functional


@pytest.fixture(scope="module")
def cuda(host_kernels) -> Any:
    from cuda_stand_in import StandIn, backend_class
    from cuda_stand_in_blas import Blas

    found = StandIn(host_kernels)
    found.backend = backend_class(found, Blas(), CUDA)
    return found


@pytest.fixture(scope="module")
def jax() -> Any:
    from bundled_beside import make_known

    pytest.importorskip("jax")
    return lambda: make_known("jax", "JaxBackend")


@pytest.fixture(params=[*BACKENDS, CUDA, pytest.param("jax", marks=pytest.mark.reference)])
def name(request) -> str:
    """A backend; what has been asked of those on the host is forgotten."""
    if request.param == CUDA:
        registry.register(request.getfixturevalue("cuda").backend)
    elif request.param == "jax":
        request.getfixturevalue("jax")()
    else:
        found = BACKENDS[request.param]
        registry.register(found)
        found.calls, found.whole, found.programs = 0, 0, []
    return str(request.param)


class Net(fw.nn.Module):
    def __init__(self, has_norm: bool = False, has_noise: bool = False) -> None:
        super().__init__()
        self.first, self.second, self.last = fw.nn.Linear(6, 6), fw.nn.Linear(6, 6), fw.nn.Linear(6, 3)
        self.norm = fw.nn.BatchNorm1d(6) if has_norm else fw.nn.Identity()
        self.noise = fw.nn.Dropout(0.5) if has_noise else fw.nn.Identity()

    def forward(self, x):
        return self.last(self.noise(self.norm(fw.numpy.tanh(self.second(F.relu(self.first(x)))))))


OPTIMIZERS = {
    "sgd": lambda p: fw.optim.SGD(p, lr=0.1),
    "momentum": lambda p: fw.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.01),
    "adam": lambda p: fw.optim.Adam(p, lr=0.02),
    "adamw": lambda p: fw.optim.AdamW(p, lr=0.02),
    "rprop": lambda p: fw.optim.Rprop(p, lr=0.01),
    "amsgrad": lambda p: fw.optim.Adam(p, lr=0.02, amsgrad=True),
    "groups": lambda p: fw.optim.SGD(
        [{"params": p[:3]}, {"params": p[3:], "lr": 0.02, "maximize": True}], lr=0.1, momentum=0.9
    ),
}


class Loop:
    """Twelve steps, and what there is after them."""

    def __init__(self, name: str, make: str = "momentum", **modules: Any) -> None:
        fw.seed_everything(0)
        self.name, self.losses = name, []
        self.model = Net(**modules).to(device=name)
        self.optimizer = OPTIMIZERS[make](list(self.model.parameters()))

    def step(self, x, y):
        self.drop_gradients()
        loss = self.loss(x, y)
        loss.backward()
        found = self.before_update(x, y)
        self.optimizer.step()
        return loss if found is None else (loss, found)

    def drop_gradients(self) -> None:
        """The first thing that a step does."""
        self.optimizer.zero_grad()

    def loss(self, x, y):
        """What backward is called of."""
        return F.cross_entropy(self.model(x), y)

    def before_update(self, x, y):
        """What is done between backward and update; what it gives is returned beside the loss."""

    def batch(self, rng: np.random.Generator, number: int) -> tuple[Any, Any]:
        """The arguments of a step, on the host."""
        return rng.standard_normal((4, 6)).astype("float32"), rng.integers(0, 3, 4)

    def between(self, number: int) -> None:
        """What is done after a step."""

    def run(self, compiled: bool, strict: bool = True) -> dict[str, Any]:
        rng, backend = np.random.default_rng(1), registry.get(self.name)
        step = self.compiled = fw.compile(self.step) if compiled else self.step
        with warnings.catch_warnings():
            if strict:
                warnings.simplefilter("error", fw.errors.CompileWarning)
            for number in range(12):
                self.losses.append(step(*[fw.tensor(a, backend=backend) for a in self.batch(rng, number)]))
                self.between(number)
        return self.found()

    def found(self) -> dict[str, Any]:
        found = {key: value.numpy() for key, value in self.model.state_dict().items()}
        for i, loss in enumerate(self.losses):
            values = loss if isinstance(loss, tuple | list) else [loss]
            found |= {f"loss {i} {j}": v.detach().numpy() for j, v in enumerate(values)}
        for key, p in self.model.named_parameters():
            if p.grad is not None:
                found[f"gradient of {key}"] = p.grad.numpy()
        for number, own in self.optimizer.state_dict()["state"].items():
            for key, value in own.items():
                found[f"{key} of {number}"] = np.asarray(value.numpy() if hasattr(value, "numpy") else value)
        return found


def assert_equal_to_eager(kind: type[Loop], name: str, *args: Any, **modules: Any) -> Loop:
    eager = kind(name, *args, **modules).run(compiled=False)
    loop = kind(name, *args, **modules)
    assert_same(loop.run(compiled=True), eager)
    return loop


def takes_update(loop: Loop) -> bool:
    """Whether an update is part of a program."""
    return any(program.state for program in loop.compiled.programs())


@pytest.mark.parametrize("make", OPTIMIZERS)
def test_equal_to_eager(name: str, make: str) -> None:
    loop = assert_equal_to_eager(Loop, name, make)
    assert takes_update(loop) == (make != "amsgrad")
    assert loop.compiled.replayed == 10
    if name in BACKENDS and make != "amsgrad":
        assert (BACKENDS[name].whole, BACKENDS[name].calls) == (10, 10)


@pytest.mark.parametrize("modules", [{"has_norm": True}, {"has_noise": True}])
def test_with_buffers_and_with_noise(name: str, modules) -> None:
    assert takes_update(assert_equal_to_eager(Loop, name, "adamw", **modules))


def test_on_cuda_all_of_a_step_is_one_graph(cuda) -> None:
    """Nothing is launched beside it but the copy of the loss."""
    registry.register(cuda.backend)
    loop = Loop(CUDA)
    launches, graphs = [], []

    def between(number: int) -> None:
        launches.append(registry.get(CUDA)._own.launches)
        graphs.append(sum(graph.launches for graph in cuda.graphs))

    loop.between = between  # type: ignore[method-assign]
    loop.run(compiled=True)
    assert launches[-6:] == [launches[-1]] * 6
    assert graphs[-1] - graphs[-6] == 5


class Scheduled(Loop):
    """A schedule steps within the call, after the update."""

    def __init__(self, *args: Any, **modules: Any) -> None:
        super().__init__(*args, **modules)
        self.schedule = fw.optim.lr_scheduler.CosineAnnealingLR(self.optimizer, T_max=12)

    def step(self, x, y):
        loss = super().step(x, y)
        self.schedule.step()
        return loss


class Clipped(Loop):
    """Gradients are clipped in between, so that the update is made by itself."""

    def before_update(self, x, y):
        return fw.optim.clip_grad_norm_(self.model.parameters(), 0.05)


class Twice(Loop):
    """Two optimizers, the second after a pass through what the first has moved."""

    def __init__(self, *args: Any, **modules: Any) -> None:
        super().__init__(*args, **modules)
        self.other = fw.nn.Linear(6, 3).to(device=self.name)
        self.second = fw.optim.AdamW(self.other.parameters(), lr=0.1)

    def step(self, x, y):
        first = super().step(x, y)
        self.second.zero_grad()
        second = ((self.other(x) - self.model(x).detach()) ** 2).mean()
        second.backward()
        self.second.step()
        return first, second, self.other.weight.detach() * 1


class After(Loop):
    """What is computed after the update sees it."""

    def step(self, x, y):
        before = self.model(x).sum().detach()
        loss = super().step(x, y)
        return loss, before, self.model(x).sum().detach(), self.model.first.weight.detach() * 1


class Zeros(Loop):
    """Gradients are filled with zeros."""

    def drop_gradients(self) -> None:
        self.optimizer.zero_grad(set_to_none=False)


class Summed(Loop):
    """Gradients are never dropped."""

    def drop_gradients(self) -> None:
        pass


class TwoPasses(Loop):
    """Two backward passes before an update."""

    def before_update(self, x, y):
        other = self.loss(x * 0.5, y)
        other.backward()
        return other


class Parameter(Loop):
    """A parameter itself is returned, as it is after the update."""

    def step(self, x, y):
        return super().step(x, y), self.model.last.bias.detach().sum()


class PartOfInput(Loop):
    """A gradient that is a part of an input."""

    def loss(self, x, y):
        return (self.model.last.bias * x[0, :3]).sum()


class Bounded(Loop):
    """A parameter is written before the update, which moves what was written."""

    def step(self, x, y):
        with fw.no_grad():
            self.model.first.weight.assign(self.model.first.weight.detach() * 0.9)
        return super().step(x, y)


class Scaled(Loop):
    """A gradient is another one before the update."""

    def before_update(self, x, y):
        self.model.first.weight.grad = self.model.first.weight.grad * 0.5


class Given(Loop):
    """A parameter that no backward reaches is given a gradient."""

    def loss(self, x, y):
        return (self.model.first.weight * x[0]).sum()

    def before_update(self, x, y):
        self.model.last.bias.grad = x[1, :3] * 2


class Logged(Loop):
    """Parameters themselves are handed on, before and after the update."""

    def __init__(self, *args: Any, **modules: Any) -> None:
        super().__init__(*args, **modules)
        self.values = fw.metrics.MeanMetric()

    def step(self, x, y):
        self.optimizer.zero_grad()
        (self.model.last.bias * x[0, :3] * 2).sum().backward()
        self.values.update(self.model.last.bias.detach())
        self.optimizer.step()
        self.values.update(self.model.last.bias.detach() * 1)
        self.values.update(self.model.last.bias.detach())

    def between(self, number: int) -> None:
        self.losses[-1] = fw.tensor(float(self.values.compute()))


KINDS = [Scheduled, Clipped, Twice, After, Zeros, Summed, TwoPasses, Parameter, PartOfInput]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("make", ["momentum", "adamw"])
def test_kinds_of_steps(name: str, kind: type[Loop], make: str) -> None:
    loop = assert_equal_to_eager(kind, name, make)
    assert loop.compiled.replayed >= 8
    if kind in (Scheduled, Twice, After):
        assert takes_update(loop)


@pytest.mark.parametrize("kind", [Bounded, Scaled, Given, Logged], ids=lambda kind: kind.__name__)
def test_what_is_done_before_the_update_is_done_before_it(name: str, kind: type[Loop]) -> None:
    loop = assert_equal_to_eager(kind, name, "momentum")
    assert loop.compiled.replayed == 10
    assert not takes_update(loop)


class Meddled(Loop):
    """Something is done between steps."""

    what = ""

    def between(self, number: int) -> None:
        optimizer, model = self.optimizer, self.model
        if self.what == "rates":
            for group in optimizer.param_groups:
                group["lr"], group["weight_decay"] = 0.1 / (number + 1), 0.01 * (number % 3)
        elif self.what == "load" and number in (4, 7):
            if number == 4:
                self.kept = optimizer.state_dict(), {k: v.clone() for k, v in model.state_dict().items()}
            else:
                optimizer.load_state_dict(self.kept[0])
                model.load_state_dict(self.kept[1])
        elif self.what == "freeze" and number in (4, 7):
            model.last.weight.requires_grad_(number == 7)
        elif self.what == "values" and number == 6:
            model.first.weight.assign(model.first.weight.detach() * 0.5)
        elif self.what == "data" and number == 6:
            model.first.weight.data = model.first.weight.detach() * 0.5
        elif self.what == "gradients" and number == 6:
            self.gradient = model.first.weight.grad
            self.was = self.gradient.numpy().copy()
        elif self.what == "skip" and number == 6:
            optimizer.apply_if = np.asarray(False) if self.name in BACKENDS else fw.tensor(False, backend=self.name)
        elif self.what == "add" and number == 6:
            self.more = fw.nn.Parameter(fw.numpy.zeros(3).to(device=self.name))
            optimizer.add_param_group({"params": [self.more], "lr": 0.5})
        elif self.what == "held" and number == 6:
            self.weight, self.value = model.first.weight._data, model.first.weight.detach().numpy().copy()


@pytest.mark.parametrize("what", ["rates", "load", "freeze", "values", "data", "gradients", "skip", "add", "held"])
def test_what_is_done_between_steps(name: str, what: str) -> None:
    kind = type("Meddled", (Meddled,), {"what": what})
    loop: Any = assert_equal_to_eager(kind, name, "adamw")
    assert takes_update(loop)
    if what == "gradients":
        np.testing.assert_array_equal(loop.gradient.numpy(), loop.was)
    if what == "held":
        np.testing.assert_array_equal(np.asarray(loop.weight), loop.value)


class Spread(Loop):
    """The gradient of a parameter that no optimizer has is one number, spread out."""

    def __init__(self, *args: Any, **modules: Any) -> None:
        super().__init__(*args, **modules)
        self.offset = fw.nn.Parameter(fw.numpy.zeros((4, 6)).to(device=self.name))

    def step(self, x, y):
        self.offset.grad = None
        self.optimizer.zero_grad()
        loss = F.cross_entropy(self.model(x), y) + self.offset.sum() * x.sum()
        loss.backward()
        self.optimizer.step()
        return loss


@pytest.mark.parametrize("backend", ["cpu", *BACKENDS, CUDA])
def test_a_place_for_gradients_can_be_written(backend: str, cuda) -> None:
    """Else a replay fails, and the call is made anew, with other noise."""
    for found in (cuda.backend, *BACKENDS.values()):
        registry.register(found)
    loop = assert_equal_to_eager(Spread, backend, "adamw", has_noise=True)
    assert loop.compiled.replayed == 10


def test_a_gradient_that_is_no_longer_dropped_is_read_with_what_was_there(name: str) -> None:
    class Reads(Loop):
        def step(self, x, y):
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.model(x), y)
            loss.backward()
            norm = (self.model.last.bias.grad**2).sum()
            self.optimizer.step()
            return loss, norm

        def between(self, number: int) -> None:
            if number == 6:
                self.optimizer.param_groups[0]["params"].pop()

    eager, loop = Reads(name).run(compiled=False), Reads(name)
    with pytest.warns(fw.errors.CompileWarning, match="a gradient is read that is from before the call"):
        assert_same(loop.run(compiled=True, strict=False), eager)
    assert loop.compiled.replayed == 5


class OwnStep(fw.optim.SGD):
    steps = 0

    def step(self, closure=None):
        type(self).steps += 1
        for group in self.param_groups:
            for p in group["params"]:
                p.grad = p.grad * 0.5
        return super().step(closure)


def test_a_step_of_ones_own_is_made_by_itself(name: str, monkeypatch) -> None:
    """All of it, once a call."""
    monkeypatch.setitem(OPTIMIZERS, "own", lambda p: OwnStep(p, lr=0.1, momentum=0.9))
    monkeypatch.setattr(OwnStep, "steps", 0)
    loop = assert_equal_to_eager(Loop, name, "own")
    assert not takes_update(loop)
    assert loop.compiled.replayed == 10
    assert OwnStep.steps == 24


@pytest.mark.parametrize("at", [-1, 6])
@pytest.mark.filterwarnings("ignore:compile:framework.errors.CompileWarning")
def test_a_step_that_is_given_to_an_optimizer_is_called(name: str, at: int) -> None:
    class Patched(Loop):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            if at < 0:
                self.between(at)

        def between(self, number: int) -> None:
            if number == at:
                optimizer = self.optimizer
                real = optimizer.step

                def step(closure=None):
                    for p in optimizer.param_groups[0]["params"]:
                        p.grad = p.grad * 0.5
                    return real(closure)

                optimizer.step = step  # type: ignore[method-assign]

        def run(self, compiled: bool, strict: bool = False) -> dict[str, Any]:
            return super().run(compiled, strict)

    assert_equal_to_eager(Patched, name, "momentum")


@pytest.mark.filterwarnings("ignore:compile:framework.errors.CompileWarning")
@pytest.mark.parametrize("at", [-1, 6])
def test_a_step_that_is_given_to_its_class_is_called(name: str, at: int, monkeypatch) -> None:
    real, counted = fw.optim.SGD.step, []

    def step(self, closure=None):
        counted.append(1)
        return real(self, closure)

    class Patched(Loop):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            monkeypatch.setattr(fw.optim.SGD, "step", step if at < 0 else real)

        def between(self, number: int) -> None:
            if number == at:
                monkeypatch.setattr(fw.optim.SGD, "step", step)

        def run(self, compiled: bool, strict: bool = False) -> dict[str, Any]:
            return super().run(compiled, strict)

    assert_equal_to_eager(Patched, name, "momentum")
    assert len(counted) == (24 if at < 0 else 10)


def test_a_flag_that_is_set_in_the_call_is_not_forgotten(name: str) -> None:
    class Flagged(Loop):
        def step(self, x, y):
            self.optimizer.zero_grad()
            loss = F.cross_entropy(self.model(x), y)
            loss.backward()
            self.optimizer.apply_if = (x[0, 0] > 0)._data
            self.optimizer.step()
            return loss

    eager, loop = Flagged(name).run(compiled=False), Flagged(name)
    with pytest.warns(fw.errors.CompileWarning, match="'apply_if' of SGD is set"):
        assert_same(loop.run(compiled=True, strict=False), eager)


def test_an_update_that_cannot_be_said_raises_once(name: str) -> None:
    """Noise of the call is drawn once, as in eager, so that what follows is the same."""

    class Raises(Loop):
        def between(self, number: int) -> None:
            if number == 6:
                group = self.optimizer.param_groups[0]
                rate, group["lr"] = group["lr"], None
                x, y = [fw.tensor(a, backend=self.name) for a in self.batch(np.random.default_rng(5), 0)]
                with pytest.raises(TypeError, match="NoneType"):
                    (self.compiled or self.step)(x, y)
                group["lr"] = rate

        compiled: Any = None

    assert takes_update(assert_equal_to_eager(Raises, name, "adamw", has_noise=True))


@pytest.mark.parametrize("name", [*BACKENDS, CUDA], indirect=True)  # XLA's own maximum loses some NaN
def test_values_that_are_not_finite_go_on_as_in_eager(name: str) -> None:
    class Overflows(Loop):
        def batch(self, rng, number):
            x, y = super().batch(rng, number)
            return x * np.float32(np.inf if number == 8 else 1.0), y

    with np.errstate(all="ignore"):
        assert_equal_to_eager(Overflows, name, "momentum")


@pytest.mark.parametrize("name", BACKENDS, indirect=True)
def test_an_update_that_fails_at_once_is_made_by_itself(name: str, monkeypatch) -> None:
    eager = Loop(name, "groups").run(compiled=False)
    real = Nodes.function

    def function(self, asked: str):
        if asked == "sgd_step":
            raise RuntimeError("sgd_step does not work")
        return real(self, asked)

    monkeypatch.setattr(Nodes, "function", function)
    loop = Loop(name, "groups")
    with pytest.warns(fw.errors.CompileWarning, match="sgd_step does not work"):
        assert_same(loop.run(compiled=True, strict=False), eager)
    assert loop.compiled.replayed == 10
