"""Clipping in the Trainer: what is clipped, when, and what a bad gradient does."""

from __future__ import annotations

import importlib.util
import inspect
import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework.errors import ConfigError, NonFiniteError
from framework.optim import clip_grad_norm_, clip_grad_value_
from framework.train import checkpoint


class Steep(fw.TrainModule):
    """A small net whose gradients are large at first, so that some updates are clipped and some are not."""

    def __init__(self, scale: float = 4.0) -> None:
        super().__init__()
        self.scale = scale
        self.first = fw.nn.Linear(2, 4)
        self.last = fw.nn.Linear(4, 1)
        self.norms: list[float] = []

    def forward(self, x: Any) -> Any:
        return self.last(fw.nn.functional.relu(self.first(x)))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        return ((self(x) - y) ** 2).mean() * self.scale

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        squares = [(p.grad.numpy() ** 2).sum() for p in self.parameters()]
        self.norms.append(float(np.sqrt(np.sum(squares))))

    def configure_optimizers(self) -> Any:
        return fw.optim.SGD(self.parameters(), lr=0.02, momentum=0.9)


def arrays(samples: int = 24) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).standard_normal((samples, 2)).astype(np.float32)
    return x, (x @ np.array([[1.0], [-2.0]]) + 0.5).astype(np.float32)


def loader(samples: int = 24, batch_size: int = 4) -> fw.data.DataLoader:
    return fw.data.DataLoader(fw.data.ArrayDataset(*arrays(samples)), batch_size=batch_size)


@pytest.fixture
def trainer(tmp_path: Path) -> Any:
    def make(**arguments: Any) -> fw.Trainer:
        quiet = {
            "backend": "cpu",
            "max_epochs": 2,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
            "default_root_dir": tmp_path,
        }
        return fw.Trainer(**{**quiet, **arguments})

    return make


def weights(module: fw.nn.Module) -> list[Any]:
    return [p.tolist() for p in module.parameters()]


def pair(**arguments: Any) -> tuple[Steep, Steep]:
    fw.seed_everything(4)
    one, other = Steep(**arguments), Steep(**arguments)
    other.load_state_dict(one.state_dict())
    return one, other


# -- what it does ------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", [None, "norm", "value"])
@pytest.mark.parametrize("accumulate", [1, 2, 4])
def test_clipped_updates_equal_the_loop_written_by_hand(trainer: Any, algorithm: str | None, accumulate: int) -> None:
    """With accumulation it is the gradient of the whole window that is clipped, also of a short one at the end."""
    module, by_hand = pair()
    limit = 0.3 if algorithm == "value" else 5.0
    run = trainer(gradient_clip_val=limit, gradient_clip_algorithm=algorithm, accumulate_grad_batches=accumulate)
    run.fit(module, loader())
    optimizer = by_hand.configure_optimizers()
    whole = arrays()
    for _ in range(2):
        for start in range(0, 24, 4 * accumulate):
            x, y = (fw.tensor(a[start : start + 4 * accumulate]) for a in whole)
            optimizer.zero_grad()
            by_hand.training_step((x, y), 0).backward()
            by_hand.on_before_optimizer_step(optimizer)
            if algorithm == "value":
                clip_grad_value_(by_hand.parameters(), limit)
            else:
                clip_grad_norm_(by_hand.parameters(), limit)
            optimizer.step()
    if accumulate == 1:
        assert weights(module) == weights(by_hand)
    for a, b in zip(weights(module), weights(by_hand), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
    if algorithm != "value":  # the limit matters in some updates and not in all
        assert min(module.norms) < limit < max(module.norms)


@pytest.mark.parametrize("nothing", [{}, {"gradient_clip_val": 0}, {"gradient_clip_val": 1e9}])
def test_without_a_limit_nothing_changes(trainer: Any, nothing: dict[str, Any]) -> None:
    module, plain = pair()
    trainer(**nothing).fit(module, loader())
    trainer().fit(plain, loader())
    assert weights(module) == weights(plain)


def test_hooks_see_gradients_before_and_the_optimizer_after(trainer: Any) -> None:
    events: list[Any] = []

    class Watching(Steep):
        def on_before_optimizer_step(self, optimizer: Any) -> None:
            super().on_before_optimizer_step(optimizer)
            events.append(("hook", self.norms[-1] > 0.5))

        def configure_gradient_clipping(
            self, optimizer: Any, gradient_clip_val: Any, gradient_clip_algorithm: Any
        ) -> None:
            events.append(("clip", gradient_clip_val, gradient_clip_algorithm))
            super().configure_gradient_clipping(optimizer, gradient_clip_val, gradient_clip_algorithm)

        def configure_optimizers(self) -> Any:
            module = self

            class Watched(fw.optim.SGD):
                def step(self, closure: Any = None) -> Any:
                    total = math.sqrt(sum(float((p.grad * p.grad).sum()) for p in module.parameters()))
                    events.append(("step", total < 0.5001))
                    return super().step(closure)

            return Watched(self.parameters(), lr=0.001)

    trainer(gradient_clip_val=0.5, gradient_clip_algorithm="norm", max_epochs=1).fit(Watching(), loader(4))
    assert events == [("hook", True), ("clip", 0.5, "norm"), ("step", True)]


def test_a_module_may_clip_in_its_own_way(trainer: Any) -> None:
    """By other limits than the Trainer's, by epoch, some parameters only, or with no limit from the Trainer at all."""

    class Own(Steep):
        def configure_gradient_clipping(
            self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
        ) -> None:
            seen.append((gradient_clip_val, gradient_clip_algorithm))
            if self.current_epoch == 1:
                self.clip_gradients(optimizer, gradient_clip_val=0.1, gradient_clip_algorithm="value")
            else:
                self.clip_gradients(optimizer, gradient_clip_algorithm="value")
            after.append(max(float(abs(p.grad).max()) for p in self.parameters()))

    seen: list[Any] = []
    after: list[float] = []
    module = Own()
    trainer(gradient_clip_val=0.3, gradient_clip_algorithm="norm").fit(module, loader())
    assert seen == [(0.3, "norm")] * 12
    assert max(after[:6]) == pytest.approx(0.3)
    assert max(after[6:]) == pytest.approx(0.1)
    seen.clear(), after.clear()
    trainer(max_epochs=1).fit(Own(), loader())
    assert seen == [(None, None)] * 6
    assert max(after) > 0.3


def test_only_what_the_optimizer_moves_is_clipped(trainer: Any) -> None:
    class Half(Steep):
        def configure_optimizers(self) -> Any:
            return fw.optim.SGD(self.last.parameters(), lr=0.0)

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.sizes = [math.sqrt(sum(float((p.grad**2).sum()) for p in part.parameters()))
                          for part in (self.first, self.last)]  # fmt: skip

    module = Half()
    trainer(gradient_clip_val=1e-3, max_epochs=1, max_steps=1).fit(module, loader())
    assert module.sizes[0] > 1e-3
    assert module.sizes[1] == pytest.approx(1e-3, rel=1e-3)


def test_a_resumed_run_clips_as_one_that_was_not_interrupted(trainer: Any, tmp_path: Path) -> None:
    """Within a window of accumulated batches, and with normalisation, whose buffers are saved, too."""

    class Normal(Steep):
        def __init__(self) -> None:
            super().__init__()
            self.norm = fw.nn.BatchNorm1d(2, momentum=None)

        def forward(self, x: Any) -> Any:
            return super().forward(self.norm(x))

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            if self.current_epoch == 1 and batch_idx == 2 and not (tmp_path / "here").exists():
                self.trainer.save_checkpoint(tmp_path / "here")

    arguments = {"gradient_clip_val": 0.5, "accumulate_grad_batches": 2, "max_epochs": 3}
    fw.seed_everything(4)
    whole, resumed = Normal(), Normal()
    trainer(**arguments).fit(whole, loader())
    assert checkpoint.is_valid(tmp_path / "here")
    trainer(**arguments).fit(resumed, loader(), ckpt_path=tmp_path / "here")
    assert weights(whole) == weights(resumed)
    assert {k: v.tolist() for k, v in whole.state_dict().items()} == {
        k: v.tolist() for k, v in resumed.state_dict().items()
    }
    assert whole.norm.num_batches_tracked.item() == 18


def test_on_the_strict_backend(trainer: Any) -> None:
    module, other = pair()
    trainer(gradient_clip_val=0.5).fit(module, loader())
    trainer(gradient_clip_val=0.5, backend="strict").fit(other, loader())
    for a, b in zip(weights(module), weights(other), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


# -- what is not finite ------------------------------------------------------------------------------


class Breaking(Steep):
    """Has a gradient with this element in the third update."""

    def __init__(self, bad: float) -> None:
        super().__init__()
        self.bad = bad
        self.before: list[Any] = []

    def on_before_optimizer_step(self, optimizer: Any) -> None:
        if self.trainer.global_step == 2:
            self.before = weights(self)
            self.first.weight.grad = np.full(self.first.weight.shape, self.bad, np.float32)


@pytest.mark.parametrize("backend", ["cpu", "strict", "far"])
@pytest.mark.parametrize("algorithm", ["norm", "value"])
@pytest.mark.parametrize("bad", [math.nan, math.inf, 1e30])
def test_clipping_does_not_hide_a_bad_gradient(
    trainer: Any, far: str, backend: str, algorithm: str, bad: float
) -> None:
    """Cut to a value an infinite element would be finite, and scaled by an infinite norm a large one would be 0."""
    module = Breaking(bad)
    run = trainer(backend=backend, gradient_clip_val=0.5, gradient_clip_algorithm=algorithm, log_every_n_steps=0)
    with pytest.raises(NonFiniteError, match=r"step 3: .*The update was not applied"), np.errstate(all="ignore"):
        run.fit(module, loader())
    assert weights(module) == module.before


@pytest.mark.parametrize("backend", ["cpu", "strict", "far"])
def test_what_a_module_makes_of_its_gradients_is_looked_at_again(trainer: Any, far: str, backend: str) -> None:
    class Own(Steep):
        def configure_gradient_clipping(
            self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
        ) -> None:
            if self.trainer.global_step == 2:
                self.before = weights(self)
                self.last.bias.grad = np.array([math.nan], np.float32)

    module = Own()
    with pytest.raises(NonFiniteError, match=r"step 3: .*The update was not applied"):
        trainer(backend=backend, log_every_n_steps=0).fit(module, loader())
    assert weights(module) == module.before


def test_on_a_device_clipping_reads_nothing(trainer: Any, far: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class Plain(Steep):
        def on_before_optimizer_step(self, optimizer: Any) -> None:
            """No norms."""

    run = trainer(backend=far, gradient_clip_val=0.5, max_epochs=1, log_every_n_steps=0)
    backend = run.strategy.backend
    reads: list[int] = []
    for owner, names in ((type(backend), ["to_numpy"]), (type(backend.asarray(1.0)), ["__float__", "__bool__"])):
        for name in names:
            read = getattr(owner, name)
            monkeypatch.setattr(
                owner, name, lambda *a, read=read, **k: reads.append(run.progress.in_step) or read(*a, **k)
            )
    run.fit(Plain(), loader())
    assert not any(reads)


# -- mistakes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"gradient_clip_val": -1.0}, "gradient_clip_val=-1.0: expected the largest norm, or value"),
        ({"gradient_clip_val": math.nan}, "gradient_clip_val=nan"),
        ({"gradient_clip_val": "1"}, "a number from 0 on"),
        ({"gradient_clip_val": True}, "gradient_clip_val=True"),
        ({"gradient_clip_algorithm": "norms"}, r"choose one of norm, value\. Did you mean 'norm'\?"),
    ],
)
def test_arguments_that_make_no_sense(trainer: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        trainer(**arguments)


def test_arguments_of_clip_gradients_are_looked_at_too(trainer: Any) -> None:
    class Wrong(Steep):
        def configure_gradient_clipping(
            self, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None
        ) -> None:
            self.clip_gradients(optimizer, 1.0, "by norm")

    with pytest.raises(ConfigError, match="gradient_clip_algorithm='by norm' is not available"):
        trainer().fit(Wrong(), loader())


# -- against Lightning -------------------------------------------------------------------------------


SIGNATURES = """
import inspect, json
from lightning.pytorch import LightningModule, Trainer
wanted = [LightningModule.configure_gradient_clipping, LightningModule.clip_gradients, Trainer.__init__]
print(json.dumps([{p.name: repr(p.default) for p in inspect.signature(f).parameters.values()} for f in wanted]))
"""


@pytest.mark.reference
def test_names_and_arguments_are_lightnings() -> None:
    if importlib.util.find_spec("lightning") is None:
        pytest.skip("Lightning is not installed")
    told = subprocess.run([sys.executable, "-c", SIGNATURES], capture_output=True, text=True, check=True).stdout
    configure, clip, trainer = json.loads(told.splitlines()[-1])
    own = fw.TrainModule.configure_gradient_clipping, fw.TrainModule.clip_gradients, fw.Trainer.__init__
    ours = [{p.name: repr(p.default) for p in inspect.signature(f).parameters.values()} for f in own]
    assert [list(d.items()) for d in ours[:2]] == [list(configure.items()), list(clip.items())]
    for name in ("gradient_clip_val", "gradient_clip_algorithm"):
        assert ours[2][name] == trainer[name]
