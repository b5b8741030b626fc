"""Manual optimization: the module differentiates and steps; the Trainer checks, counts, saves."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework.callbacks import Callback, ModelCheckpoint
from framework.errors import CompileWarning, ConfigError, NonFiniteError


class Pair(fw.TrainModule):
    """Two lines fitted in turns, each with its optimizer."""

    def __init__(self) -> None:
        super().__init__()
        self.automatic_optimization = False
        self.a, self.b = fw.nn.Linear(2, 1), fw.nn.Linear(2, 1)

    def losses(self, batch: Any) -> tuple[Any, Any]:
        x, y = batch
        return ((self.a(x) - y) ** 2).mean(), ((self.b(x) + y) ** 2).mean()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        first, second = self.optimizers()
        loss_a, loss_b = self.losses(batch)
        for optimizer, loss in ((first, loss_a), (second, loss_b)):
            optimizer.zero_grad()
            self.manual_backward(loss)
            optimizer.step()
        self.log_dict({"a": loss_a, "b": loss_b})

    def configure_optimizers(self) -> Any:
        return [fw.optim.SGD(self.a.parameters(), lr=0.1, momentum=0.9), fw.optim.Adam(self.b.parameters(), lr=0.05)]


def arrays(samples: int = 12) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).standard_normal((samples, 2)).astype(np.float32)
    return x, (x @ np.array([[1.0], [-2.0]]) + 0.5).astype(np.float32)


def loader(samples: int = 12, **arguments: Any) -> fw.data.DataLoader:
    return fw.data.DataLoader(fw.data.ArrayDataset(*arrays(samples)), batch_size=2, **arguments)


@pytest.fixture
def trainer(tmp_path: Path) -> Any:
    def make(*callbacks: Callback, **arguments: Any) -> fw.Trainer:
        quiet = {
            "backend": "cpu", "max_epochs": 2, "enable_progress_bar": False, "enable_model_summary": False,
            "enable_checkpointing": bool(callbacks), "default_root_dir": tmp_path, "callbacks": list(callbacks),
        }  # fmt: skip
        return fw.Trainer(**{**quiet, **arguments})

    return make


def weights(module: fw.nn.Module) -> list[Any]:
    return [p.tolist() for p in module.parameters()]


def twins(kind: type, **arguments: Any) -> tuple[Any, Any]:
    fw.seed_everything(2)
    one, other = kind(**arguments), kind(**arguments)
    other.load_state_dict(one.state_dict())
    return one, other


def rows(trainer: fw.Trainer) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(trainer.log_dir) / "metrics.jsonl").read_text().splitlines()]


def test_it_equals_the_loop_written_by_hand(trainer: Any) -> None:
    module, by_hand = twins(Pair)
    run = trainer()
    run.fit(module, loader())
    optimizers = by_hand.configure_optimizers()
    for _ in range(2):
        for x, y in loader():
            for optimizer, loss in zip(optimizers, by_hand.losses((fw.tensor(x), fw.tensor(y)))):
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    assert weights(module) == weights(by_hand)
    assert run.global_step == 24  # an update is an update, whichever optimizer's
    assert len(run.optimizers) == 2


def test_a_row_a_checkpoint_and_a_limit_count_the_same_steps(trainer: Any) -> None:
    saver = ModelCheckpoint(every_n_train_steps=4, save_top_k=-1)
    run = trainer(saver, max_steps=8, log_every_n_steps=3)
    run.fit(Pair(), loader())
    assert run.global_step == 8
    assert [row["step"] for row in rows(run)] == [2, 4, 6, 8]  # the first, those with a third one in them, the last
    assert sorted(p.name for p in Path(saver.dirpath).iterdir() if p.is_dir()) == ["epoch=0-step=4", "epoch=0-step=8"]


def test_hooks_around_backward_and_step_run(trainer: Any) -> None:
    calls: list[str] = []

    class Recording(Pair):
        def on_before_zero_grad(self, optimizer: Any) -> None:
            calls.append("never")

        def configure_gradient_clipping(self, *args: Any, **kwargs: Any) -> None:
            calls.append("never")

        def on_before_backward(self, loss: Any) -> None:
            calls.append("before_backward")

        def backward(self, loss: Any, *args: Any, **kwargs: Any) -> None:
            calls.append("backward")
            super().backward(loss, *args, **kwargs)

        def on_after_backward(self) -> None:
            calls.append("after_backward")

        def on_before_optimizer_step(self, optimizer: Any) -> None:
            assert isinstance(optimizer, fw.optim.Optimizer)
            calls.append("before_step")

    trainer(max_epochs=1).fit(Recording(), loader(2))
    assert calls == ["before_backward", "backward", "after_backward", "before_step"] * 2


def test_a_resumed_run_ends_in_the_same_bits(trainer: Any, tmp_path: Path) -> None:
    whole, part = twins(Pair)
    trainer().fit(whole, loader(shuffle=True, seed=1))
    saver = ModelCheckpoint(every_n_train_steps=6, save_top_k=-1)
    trainer(saver, max_steps=6).fit(part, loader(shuffle=True, seed=1))
    rest = Pair()
    again = trainer(ModelCheckpoint(every_n_train_steps=6, save_top_k=-1))
    again.fit(rest, loader(shuffle=True, seed=1), ckpt_path=saver.last_model_path)
    assert weights(rest) == weights(whole)
    assert again.global_step == 24


def test_one_optimizer_and_its_schedule(trainer: Any) -> None:
    class One(Pair):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            optimizer = self.optimizers()
            assert self.optimizers(use_pl_optimizer=False) is optimizer.optimizer
            optimizer.zero_grad()
            loss = self.losses(batch)[0]
            self.manual_backward(loss)
            if batch_idx % 3 == 2:
                optimizer.step()
                self.lr_schedulers().step()
            return {"loss": loss, "more": 3}

        def configure_optimizers(self) -> Any:
            optimizer = fw.optim.SGD(self.a.parameters(), lr=1.0)
            return {"optimizer": optimizer, "lr_scheduler": fw.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)}

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            assert outputs["more"] == 3
            assert not outputs["loss"].requires_grad

    run = trainer()
    run.fit(One(), loader())
    assert run.global_step == 4
    assert run.optimizers[0].param_groups[0]["lr"] == 0.5**4


@pytest.mark.parametrize("backend", ["cpu", "far"])
def test_nothing_that_is_not_finite_reaches_the_weights(trainer: Any, far: str, backend: str) -> None:
    class Breaking(Pair):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            if batch_idx == 2:
                self.before = weights(self.b)
                with fw.no_grad():
                    batch = (batch[0], batch[1] * math.nan)
            if batch_idx == 2:
                optimizer = self.optimizers()[1]
                optimizer.zero_grad()
                self.manual_backward(self.losses(batch)[1])
                optimizer.step()
            else:
                super().training_step(batch, batch_idx)

    module = Breaking()
    with pytest.raises(NonFiniteError, match=r"step 5: .*The update was not applied"):
        trainer(backend=backend, log_every_n_steps=0).fit(module, loader(6))
    assert weights(module.b) == module.before


def test_toggling_lets_one_optimizers_parameters_have_gradients(trainer: Any) -> None:
    seen: list[Any] = []

    class Toggling(Pair):
        def flags(self) -> list[bool]:
            return [p.requires_grad for p in self.parameters()]

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            first, second = self.optimizers()
            self.toggle_optimizer(first)
            seen.append(self.flags())
            self.untoggle_optimizer(first)
            seen.append(self.flags())
            with second.toggle_model():
                seen.append(self.flags())
            with self.toggled_optimizer(second):
                seen.append(self.flags())
            seen.append(self.flags())
            self.toggle_optimizer(first)
            self.toggle_optimizer(first)  # as where an earlier batch has not come to the end
            self.untoggle_optimizer(first)
            seen.append(self.flags())

        def configure_optimizers(self) -> Any:
            self.a.bias.requires_grad_(False)
            return super().configure_optimizers()

    trainer(limit_train_batches=1, max_epochs=1).fit(Toggling(), loader())
    every, only_a, only_b = [True, False, True, True], [True, False, False, False], [False, False, True, True]
    assert seen == [only_a, every, only_b, only_b, every, every]


def test_clipping_by_hand(trainer: Any) -> None:
    norms: list[float] = []

    class Clipping(Pair):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            optimizer = self.optimizers()[0]
            optimizer.zero_grad()
            self.manual_backward(self.losses(batch)[0] * 100.0)
            self.clip_gradients(optimizer, gradient_clip_val=0.5, gradient_clip_algorithm="norm")
            norms.append(math.sqrt(sum(float((p.grad**2).sum()) for p in self.a.parameters())))
            optimizer.step()

    trainer().fit(Clipping(), loader(4))
    assert norms == pytest.approx([0.5] * 4, rel=1e-4)


def test_an_optimizer_with_a_closure(trainer: Any) -> None:
    class Searching(Pair):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            optimizer = self.optimizers()

            def closure() -> Any:
                optimizer.zero_grad()
                loss = self.losses(batch)[0]
                self.manual_backward(loss)
                return loss

            self.log("a", optimizer.step(closure))

        def configure_optimizers(self) -> Any:
            return fw.optim.LBFGS(self.a.parameters(), line_search_fn="strong_wolfe")

    run = trainer(max_epochs=10, log_every_n_steps=1)
    run.fit(Searching(), fw.data.DataLoader(fw.data.ArrayDataset(*arrays()), batch_size=12))
    assert run.global_step == 10
    assert rows(run)[-1]["a"] < 1e-8


def test_compiled_it_runs_eagerly_with_a_word(trainer: Any) -> None:
    module, twin = twins(Pair)
    trainer().fit(module, loader())
    with pytest.warns(CompileWarning, match="automatic_optimization = False"):
        trainer(compile=True).fit(twin, loader())
    assert weights(module) == weights(twin)


@pytest.mark.parametrize("arguments", [{"gradient_clip_val": 1.0}, {"accumulate_grad_batches": 2}])
def test_what_the_trainer_cannot_do_for_it(trainer: Any, arguments: dict[str, Any]) -> None:
    (name,) = arguments
    with pytest.raises(ConfigError, match=rf"automatic_optimization is False, so {name} would do nothing"):
        trainer(**arguments).fit(Pair(), loader())


def test_mistakes(trainer: Any) -> None:
    class Automatic(Pair):
        def __init__(self) -> None:
            super().__init__()
            self.automatic_optimization = True

    class Returning(Pair):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return 3.0

    class Calling(Automatic):
        def configure_optimizers(self) -> Any:
            return super().configure_optimizers()[0]

    with pytest.raises(ConfigError, match=r"2 optimizers.*self.automatic_optimization = False.*self.optimizers\(\)"):
        trainer().fit(Automatic(), loader())
    with pytest.raises(ConfigError, match="returned a float; under manual optimization it returns nothing"):
        trainer().fit(Returning(), loader())
    with pytest.raises(ConfigError, match="manual_backward is for manual optimization"):
        module = Calling()
        object.__setattr__(module, "training_step", lambda b, i: module.manual_backward(module.losses(b)[0]))
        trainer().fit(module, loader())
    with pytest.raises(ConfigError, match="has no Trainer yet"):
        Pair().optimizers()


# -- optimizers that evaluate the loss themselves, automatically -------------------------------------


class Line(fw.TrainModule):
    def __init__(self, kind: Any = fw.optim.LBFGS, **arguments: Any) -> None:
        super().__init__()
        self.layer = fw.nn.Linear(2, 1)
        self.make = lambda: kind(self.parameters(), **arguments)
        self.calls = 0

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        self.calls += 1
        x, y = batch
        loss = ((self.layer(x) - y) ** 2).mean()
        self.log("loss", loss, on_step=True, on_epoch=True)
        self.log("calls", float(self.calls))
        return loss

    def configure_optimizers(self) -> Any:
        return self.make()


@pytest.mark.parametrize("kind", [fw.optim.LBFGS, fw.optim.SCG])
@pytest.mark.parametrize("compile", [False, True])
def test_lbfgs_and_scg_train_in_the_trainer(trainer: Any, kind: Any, compile: bool) -> None:
    hooks: list[str] = []

    class Watching(Callback):
        def on_before_zero_grad(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            hooks.append("zero")

        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            hooks.append("step")

    module = Line(kind)
    run = trainer(Watching(), max_epochs=30, log_every_n_steps=1, compile=compile, enable_checkpointing=False)
    whole = fw.data.DataLoader(fw.data.ArrayDataset(*arrays()), batch_size=12)
    if compile:
        with pytest.warns(CompileWarning, match=f"{kind.__name__} evaluates the loss as often as it needs"):
            run.fit(module, whole)
    else:
        run.fit(module, whole)
    assert run.global_step == 30
    assert hooks == ["zero", "step"] * 30
    assert module.calls > 30
    found = rows(run)
    assert found[-1]["loss_step"] == found[-1]["loss_epoch"] < 1e-6  # the first evaluation's alone is logged
    assert found[0]["calls"] == 1.0


def test_an_optimizer_step_of_ones_own_gets_the_searchs_closure(trainer: Any) -> None:
    class Own(Line):
        def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
            if batch_idx % 2 == 0:
                super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)

    module = Own()
    run = trainer(max_epochs=1)
    run.fit(module, loader())
    assert run.global_step == 3
    assert module.calls > 6 + 3


def test_weights_that_a_search_breaks_are_put_back(trainer: Any) -> None:
    class Breaking(fw.optim.LBFGS):
        def search(self, problem: Any, group: Any) -> None:
            problem.accept(problem.x * math.inf)

    module = Line(Breaking)
    before = weights(module)
    with pytest.raises(NonFiniteError, match="step 1: Breaking came to weights that are NaN or infinite"):
        trainer().fit(module, loader())
    assert weights(module) == before


def test_batches_for_a_search_are_not_accumulated(trainer: Any) -> None:
    with pytest.raises(ConfigError, match="LBFGS evaluates the loss of a batch several times"):
        trainer(accumulate_grad_batches=2).fit(Line(), loader())


def test_a_batch_without_a_loss_is_skipped_by_a_search_too(trainer: Any) -> None:
    class Skipping(Line):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None if batch_idx else super().training_step(batch, batch_idx)

    run = trainer(max_epochs=1)
    run.fit(Skipping(), loader(6))
    assert run.global_step == 1
