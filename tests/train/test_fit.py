from __future__ import annotations

import json
import math
import traceback
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework.callbacks import Callback, ModelCheckpoint
from framework.errors import NonFiniteError
from framework.train import checkpoint


class Line(fw.TrainModule):
    """y = w·x + b, with whatever a test adds."""

    def __init__(self, lr: float = 0.05, momentum: float = 0.0) -> None:
        super().__init__()
        self.lr, self.momentum = lr, momentum
        self.layer = fw.nn.Linear(2, 1)
        self.seen: list[list[float]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        self.seen.append(x.detach().numpy()[:, 0].tolist())
        loss = ((self.layer(x) - y) ** 2).mean()
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self) -> Any:
        return fw.optim.SGD(self.parameters(), lr=self.lr, momentum=self.momentum)


class Validated(Line):
    def __init__(self, **arguments: Any) -> None:
        super().__init__(**arguments)
        self.validated_at: list[int] = []

    def on_validation_epoch_start(self) -> None:
        if not self.trainer.sanity_checking:
            self.validated_at.append(self.trainer.progress.total_batches)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("val_loss", ((self.layer(x) - y) ** 2).mean())


def arrays(samples: int = 10) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).standard_normal((samples, 2)).astype(np.float32)
    return x, (x @ np.array([[1.0], [-2.0]]) + 0.5).astype(np.float32)


def loader(samples: int = 10, batch_size: int = 2, **arguments: Any) -> fw.data.DataLoader:
    return fw.data.DataLoader(fw.data.ArrayDataset(*arrays(samples)), batch_size=batch_size, **arguments)


@pytest.fixture
def trainer(tmp_path: Path) -> Any:
    def make(**arguments: Any) -> fw.Trainer:
        quiet = {
            "backend": "cpu",
            "max_epochs": 1,
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "enable_checkpointing": False,
            "default_root_dir": tmp_path,
        }
        return fw.Trainer(**{**quiet, **arguments})

    return make


def rows(trainer: fw.Trainer) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(trainer.log_dir) / "metrics.jsonl").read_text().splitlines()]


# -- the loop --------------------------------------------------------------------------------------


def test_fit_equals_the_loop_written_by_hand(trainer: Any) -> None:
    fw.seed_everything(1)
    module = Line(momentum=0.9)
    by_hand = Line(momentum=0.9)
    by_hand.load_state_dict(module.state_dict())
    trainer(max_epochs=3).fit(module, loader())
    optimizer = by_hand.configure_optimizers()
    for _ in range(3):
        for x, y in loader():
            optimizer.zero_grad()
            ((by_hand.layer(fw.tensor(x)) - fw.tensor(y)) ** 2).mean().backward()
            optimizer.step()
    for a, b in zip(module.parameters(), by_hand.parameters(), strict=True):
        assert a.tolist() == b.tolist()


def test_the_stack_at_training_step_is_short(trainer: Any) -> None:
    class Deep(Line):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            names = [frame.name for frame in traceback.extract_stack()]
            self.stack = names[names.index("fit") :]
            return super().training_step(batch, batch_idx)

    module = Deep()
    trainer().fit(module, loader())
    assert module.stack == ["fit", "train", "run_batches", "training_step"]


def test_callbacks_run_by_priority_and_those_below_zero_after_the_module(trainer: Any) -> None:
    order: list[str] = []

    class Named(Callback):
        def __init__(self, name: str, priority: int) -> None:
            self.name, self.priority = name, priority  # type: ignore[misc]

        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            order.append(self.name)

    class Module(Line):
        def on_train_start(self) -> None:
            order.append("module")

    callbacks = [Named("late", -1), Named("a", 0), Named("first", 5), Named("b", 0), Named("last", -2)]
    trainer(callbacks=callbacks).fit(Module(), loader())
    assert order == ["first", "a", "b", "module", "late", "last"]


def test_hooks_that_nobody_overrides_are_not_called(trainer: Any) -> None:
    class Idle(Callback):
        pass

    class Probe(Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            hooks = trainer._fit.hooks
            self.counts = [len(hooks.train_batch_end), len(hooks.before_backward), len(hooks.train_start)]

    probe = Probe()
    trainer(callbacks=[Idle(), probe]).fit(Line(), loader())
    assert probe.counts == [0, 0, 1]


# -- accumulation ----------------------------------------------------------------------------------


@pytest.mark.parametrize(("samples", "micro"), [(12, 2), (12, 3), (10, 2), (11, 2), (13, 4), (7, 3), (5, 1), (3, 2)])
@pytest.mark.parametrize("accumulate", [2, 3, 4])
def test_accumulated_batches_equal_big_ones_whatever_is_left_over(
    trainer: Any, samples: int, micro: int, accumulate: int
) -> None:
    fw.seed_everything(0)
    start = Line(momentum=0.9).state_dict()
    ends = []
    for size, windows in ((micro, accumulate), (micro * accumulate, 1)):
        module = Line(momentum=0.9)
        module.load_state_dict(start)
        run = trainer(max_epochs=3, precision="64-true", accumulate_grad_batches=windows)
        run.fit(module, loader(samples, size))
        assert run.global_step == 3 * math.ceil(samples / (micro * accumulate))
        ends.append([p.detach().numpy() for p in module.parameters()])
    for a, b in zip(*ends, strict=True):
        assert a.dtype == np.float64
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13)


def test_schedulers_step_with_updates_not_with_batches(trainer: Any) -> None:
    class Scheduled(Line):
        def configure_optimizers(self) -> Any:
            optimizer = super().configure_optimizers()
            kinds = fw.optim.lr_scheduler
            self.each = kinds.StepLR(optimizer, 1)
            self.second = kinds.StepLR(optimizer, 1)
            self.epoch = kinds.StepLR(optimizer, 1)
            return [optimizer], [
                {"scheduler": self.each, "interval": "step"},
                {"scheduler": self.second, "interval": "step", "frequency": 2},
                {"scheduler": self.epoch, "frequency": 2},
            ]

    module = Scheduled()
    run = trainer(max_epochs=5, accumulate_grad_batches=3)
    run.fit(module, loader(10))  # five batches, two updates an epoch
    assert run.global_step == 10
    assert (module.each.last_epoch, module.second.last_epoch, module.epoch.last_epoch) == (10, 5, 2)


def test_the_estimate_of_updates_is_what_is_made(trainer: Any) -> None:
    class Asking(Line):
        def configure_optimizers(self) -> Any:
            self.estimate = self.trainer.estimated_stepping_batches
            return super().configure_optimizers()

    for arguments, expected in (
        ({"max_epochs": 3, "accumulate_grad_batches": 2}, 9),
        ({"max_epochs": 3, "max_steps": 4}, 4),
        ({"max_epochs": 2, "limit_train_batches": 3}, 6),
    ):
        module, run = Asking(), trainer(**arguments)
        run.fit(module, loader(10))
        assert module.estimate == run.global_step == expected


def test_a_scheduler_that_watches_a_metric_gets_its_epoch_value(trainer: Any) -> None:
    class Watching:
        needs_metric = True

        def __init__(self) -> None:
            self.values: list[float] = []

        def step(self, metric: float) -> None:
            self.values.append(metric)

        def state_dict(self) -> dict[str, Any]:
            return {}

    class Module(Validated):
        def configure_optimizers(self) -> Any:
            self.watching = Watching()
            settings = {"scheduler": self.watching, "monitor": "val_loss"}
            return {"optimizer": super().configure_optimizers(), "lr_scheduler": settings}

    module, run = Module(), trainer(max_epochs=2)
    run.fit(module, loader(), loader())
    assert module.watching.values == [row["val_loss"] for row in rows(run) if "val_loss" in row]


# -- skipping and stopping -------------------------------------------------------------------------


def test_none_from_training_step_really_skips(trainer: Any) -> None:
    class Skipping(Line):
        steps: list[int]

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            return None if batch_idx in (1, 3) else loss

        def on_before_optimizer_step(self, optimizer: Any) -> None:
            self.steps = [*getattr(self, "steps", []), self.trainer.progress.batch]

        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            assert (outputs == {}) == (batch_idx in (1, 3))

    module, run = Skipping(), trainer()
    run.fit(module, loader())
    assert run.global_step == 3
    assert module.steps == [0, 2, 4]


def test_minus_one_from_on_train_batch_start_skips_the_rest_of_the_epoch(trainer: Any) -> None:
    class Short(Validated):
        def on_train_batch_start(self, batch: Any, batch_idx: int) -> Any:
            return -1 if batch_idx == 2 else None

    windows = trainer(max_epochs=3, accumulate_grad_batches=3)
    windows.fit(Short(), loader(), loader())
    assert windows.global_step == 0  # no window was ever full
    module, run = Short(), trainer(max_epochs=3)
    run.fit(module, loader(shuffle=True, seed=5), loader())
    assert run.global_step == 6
    assert run.current_epoch == 3
    assert module.validated_at == [2, 4, 6]
    assert module.seen[0] != module.seen[2]  # the next epoch is another one, from its start


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        ({}, 2),
        ({"min_epochs": 2}, 6),  # the flag is looked at after each batch, from the end of the second epoch on
        ({"min_steps": 4}, 4),
        ({"max_steps": 1}, 1),
    ],
)
def test_should_stop_ends_after_the_batch_once_the_minimum_is_met(
    trainer: Any, arguments: dict[str, Any], steps: int
) -> None:
    class Stopping(Validated):
        def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
            if self.global_step == 2:
                self.trainer.should_stop = True

    module, run = Stopping(), trainer(**{"max_epochs": 5, **arguments})
    run.fit(module, loader(6), loader(4))
    assert run.global_step == steps
    assert module.validated_at[-1] == steps
    assert "val_loss" in rows(run)[-1]
    assert rows(run)[-1]["step"] == steps


def test_max_steps_ends_within_an_epoch_and_a_raised_limit_goes_on_there(trainer: Any, tmp_path: Path) -> None:
    whole = Line()
    start = whole.state_dict()
    trainer(max_epochs=2).fit(whole, loader(shuffle=True, seed=1))

    first, run = Line(), trainer(max_epochs=2, max_steps=3, enable_checkpointing=True)
    first.load_state_dict(start)
    run.fit(first, loader(shuffle=True, seed=1))
    assert run.global_step == 3
    second, more = Line(), trainer(max_epochs=2, enable_checkpointing=True)
    more.fit(second, loader(shuffle=True, seed=1), ckpt_path=checkpoint.newest_valid(Path(run.log_dir) / "checkpoints"))
    assert more.global_step == 10
    assert first.seen + second.seen == whole.seen
    assert [p.tolist() for p in second.parameters()] == [p.tolist() for p in whole.parameters()]


# -- validation ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "at"),
    [
        ({}, [5, 10, 15, 20]),
        ({"check_val_every_n_epoch": 2}, [10, 20]),
        ({"val_check_interval": 2}, [2, 4, 7, 9, 12, 14, 17, 19]),
        ({"val_check_interval": 0.4}, [2, 4, 7, 9, 12, 14, 17, 19]),
        ({"val_check_interval": 3, "check_val_every_n_epoch": None}, [3, 6, 9, 12, 15, 18]),
        ({"val_check_interval": 7, "check_val_every_n_epoch": None}, [7, 14]),
        ({"limit_val_batches": 0}, []),
        ({"val_check_interval": 2, "check_val_every_n_epoch": 2}, [7, 9, 17, 19]),
    ],
)
def test_when_it_validates(trainer: Any, arguments: dict[str, Any], at: list[int]) -> None:
    module, run = Validated(), trainer(max_epochs=4, **arguments)
    run.fit(module, loader(), loader(4))
    assert module.validated_at == at
    assert [row["step"] for row in rows(run) if "val_loss" in row] == at


def test_the_sanity_check_leaves_nothing_behind(trainer: Any) -> None:
    class Noisy(Validated):
        def __init__(self) -> None:
            super().__init__()
            self.dropout = fw.nn.Dropout(0.5)
            self.sanity: list[int] = []
            self.firsts: list[float] = []

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            x, y = batch
            return super().training_step((self.dropout(x), y), batch_idx)

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            assert not self.layer.training
            (self.sanity if self.trainer.sanity_checking else self.firsts).append(batch_idx)
            fw.random.normal((3,))
            super().validation_step(batch, batch_idx)

        def on_train_start(self) -> None:
            assert self.trainer.callback_metrics == {}
            assert self.layer.training

    ends = []
    for steps in (0, 2):
        fw.seed_everything(0)
        module, run = Noisy(), trainer(num_sanity_val_steps=steps)
        run.fit(module, loader(shuffle=True), loader(8, shuffle=True))
        ends.append([p.tolist() for p in module.parameters()])
        assert module.sanity == list(range(steps))
        assert module.firsts == [0, 1, 2, 3]
    assert ends[0] == ends[1]


def test_each_part_gets_its_training_flag_back(trainer: Any) -> None:
    class Frozen(Validated):
        def __init__(self) -> None:
            super().__init__()
            self.norm = fw.nn.Dropout(0.1).eval()

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            assert (self.training, self.layer.training, self.norm.training) == (True, True, False)
            return super().training_step(batch, batch_idx)

    trainer(val_check_interval=1).fit(Frozen(), loader(), loader(2))


# -- limits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(("limit", "batches"), [(1.0, 5), (1, 1), (3, 3), (99, 5), (0.6, 3), (0.5, 2), (0, 0)], ids=str)
def test_limit_train_batches(trainer: Any, limit: float, batches: int) -> None:
    module, run = Line(), trainer(max_epochs=2, limit_train_batches=limit)
    if batches:
        run.fit(module, loader(shuffle=True, seed=0))
        assert len({str(x) for epoch in (module.seen[:batches], module.seen[batches:]) for x in epoch}) > batches
    else:
        with pytest.warns(UserWarning, match="nothing to train"):
            run.fit(module, loader())
    assert run.global_step == 2 * batches


@pytest.mark.parametrize("options", [{}, {"val_check_interval": 7}, {"check_val_every_n_epoch": 5}])
def test_fast_dev_run_tries_everything_and_keeps_nothing(trainer: Any, tmp_path: Path, options: Any) -> None:
    module = Validated()
    run = trainer(fast_dev_run=2, max_epochs=9, enable_checkpointing=True, callbacks=[ModelCheckpoint()], **options)
    run.fit(module, loader(), loader())
    assert run.global_step == 2
    assert module.validated_at == [2]
    assert run.log_dir is None
    assert list(tmp_path.iterdir()) == []


def test_overfit_batches_uses_the_same_ones_each_epoch(trainer: Any) -> None:
    module, run = Line(), trainer(max_epochs=3, overfit_batches=2)
    run.fit(module, loader(shuffle=True, seed=0))
    assert len(module.seen) == 6
    assert module.seen[:2] == module.seen[2:4] == module.seen[4:]


class Unsized:
    """Batches without a length."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.closed = 0

    def __iter__(self) -> Any:
        x, y = arrays(2 * self.count)
        try:
            for i in range(self.count):
                yield x[2 * i : 2 * i + 2], y[2 * i : 2 * i + 2]
        finally:
            self.closed += 1


def test_a_loader_without_a_length(trainer: Any) -> None:
    module, data = Validated(), Unsized(5)
    run = trainer(max_epochs=2, accumulate_grad_batches=2)
    run.fit(module, data, loader(2))
    assert run.global_step == 6  # the last window of an epoch has one batch
    assert module.validated_at == [5, 10]
    assert data.closed == 2
    limited, run = Line(), trainer(max_epochs=2, limit_train_batches=3)
    run.fit(limited, data)
    assert run.global_step == 6
    assert data.closed == 4


def test_a_list_of_batches_is_a_loader(trainer: Any) -> None:
    x, y = arrays(4)
    module, run = Line(), trainer(max_epochs=2)
    run.fit(module, [(x[:2], y[:2]), (x[2:], y[2:])])
    assert run.global_step == 4


def test_data_that_need_more_updates_raise_the_epochs(trainer: Any, capsys: Any) -> None:
    class Data(fw.DataModule):
        def setup(self, stage: str) -> None:
            self.minimum_updates = 17

        def train_dataloader(self) -> Any:
            return loader()

    class Asking(Line):
        def configure_optimizers(self) -> Any:
            self.estimate = self.trainer.estimated_stepping_batches
            return super().configure_optimizers()

    module, run = Asking(), trainer(max_epochs=2)
    run.fit(module, datamodule=Data())
    assert (run.current_epoch, run.global_step, module.estimate) == (4, 20, 20)
    assert "max_epochs raised from 2 to 4" in capsys.readouterr().out


# -- rows, summary ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("every", "steps"), [(50, [1, 5, 10]), (2, [1, 2, 4, 5, 6, 8, 10]), (1, list(range(1, 11))), (0, [])]
)
def test_the_first_the_last_and_every_nth_step_have_a_row(trainer: Any, every: int, steps: list[int]) -> None:
    module, run = Line(), trainer(max_epochs=2, log_every_n_steps=every)
    run.fit(module, loader())
    if steps:
        assert [row["step"] for row in rows(run)] == steps
        assert [row["epoch"] for row in rows(run)] == [int(step > 5) for step in steps]
    else:
        assert not (Path(run.log_dir) / "metrics.jsonl").exists()


def test_the_run_folder_and_its_summary(trainer: Any, tmp_path: Path) -> None:
    class Data(fw.DataModule):
        dataset_name = "line"

        def train_dataloader(self) -> Any:
            return loader()

        val_dataloader = test_dataloader = train_dataloader

    class Tested(Validated):
        def test_step(self, batch: Any, batch_idx: int) -> None:
            self.log("accuracy", 0.75)

    class Watching(Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            self.status = json.loads((Path(trainer.log_dir) / "summary.json").read_text())["status"]

        def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
            assert list(tmp_path.iterdir()) == []  # nothing is written before the first step

    watching = Watching()
    run = trainer(max_epochs=2, callbacks=[watching])
    run.config_text = "seed: 1\n"
    run.fit(Tested(), datamodule=Data())
    assert run.log_dir == str(tmp_path / "runs" / "tested" / "version_0")
    assert watching.status == "running"
    before = rows(run)
    assert run.test(verbose=False, datamodule=Data()) == [{"accuracy": 0.75}]
    assert rows(run)[-1] == {**before[-1], "accuracy": 0.75}  # in the last step's row, its epoch untouched
    summary = json.loads((Path(run.log_dir) / "summary.json").read_text())
    assert summary.pop("wall_s") > 0
    assert summary.pop("versions").keys() >= {"framework", "python", "numpy"}
    losses = [row["val_loss"] for row in before if "val_loss" in row]
    metrics = summary.pop("metrics")
    assert metrics["val_loss"] == {"last": losses[-1], "min": min(losses), "max": max(losses), "best": min(losses)}
    assert metrics["accuracy"]["best"] == 0.75
    assert summary == {
        "status": "finished", "epochs": 2, "steps": 10, "test_accuracy": 0.75, "dataset": "line", "backend": "cpu",
    }  # fmt: skip
    assert (Path(run.log_dir) / "config.yaml").read_text() == "seed: 1\n"
    again = trainer()
    again.fit(Tested(), datamodule=Data())
    assert again.log_dir == str(tmp_path / "runs" / "tested" / "version_1")


def test_two_processes_cannot_train_in_one_folder(trainer: Any, tmp_path: Path) -> None:
    first = trainer(enable_checkpointing=True)
    first.fit(Line(), loader())
    path = checkpoint.newest_valid(Path(first.log_dir) / "checkpoints")

    class Second(Callback):
        def on_train_start(self, outer: Any, pl_module: Any) -> None:
            trainer(max_epochs=3, enable_checkpointing=True).fit(Line(), loader(), ckpt_path=path)

    with pytest.raises(fw.errors.ConfigError, match="is in use: another process"):
        trainer(max_epochs=2, enable_checkpointing=True, callbacks=[Second()]).fit(Line(), loader(), ckpt_path=path)


# -- what ends badly -------------------------------------------------------------------------------


class Breaking(Validated):
    """Becomes non-finite in the batch of this number."""

    def __init__(self, batch: int, how: str) -> None:
        super().__init__()
        self.batch, self.how = batch, how

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = super().training_step(batch, batch_idx)
        if self.trainer.progress.total_batches != self.batch:
            return loss
        self.before = [p.tolist() for p in self.parameters()]
        if self.how == "loss":
            return loss * math.nan
        weight = self.layer.weight * 1.0
        weight.register_hook(lambda g: g * math.nan)
        return loss + (weight * 0.0).sum()


@pytest.mark.parametrize("how", ["loss", "gradient"])
@pytest.mark.parametrize("backend", ["cpu", "strict", "far"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_nothing_that_is_not_finite_reaches_the_weights(
    trainer: Any, far: str, backend: str, how: str, accumulate: int
) -> None:
    module = Breaking(6, how)
    run = trainer(max_epochs=5, backend=backend, log_every_n_steps=0, accumulate_grad_batches=accumulate)
    step = {1: 7, 2: 4}[accumulate]
    with pytest.raises(NonFiniteError, match=rf"step {step}: .*The update was not applied"):
        run.fit(module, loader(), loader(2))
    assert [p.tolist() for p in module.parameters()] == module.before
    assert json.loads((Path(run.log_dir) / "summary.json").read_text())["status"] == "failed"
    if backend != far:  # where reading costs nothing it stops at once
        assert run.global_step == step - 1


def test_on_a_device_nothing_is_read_between_two_rows(trainer: Any, far: str, monkeypatch: pytest.MonkeyPatch) -> None:
    reads: list[int] = []

    class Module(Line):
        def __init__(self) -> None:
            super().__init__()
            self.accuracy = fw.metrics.MeanMetric()

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            x, y = batch
            loss = ((self.layer(x) - y) ** 2).mean()
            self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True)
            self.log("worst", loss, on_step=False, on_epoch=True, reduce_fx="max")
            self.accuracy.update(loss.detach())
            self.log("mean", self.accuracy)
            return loss

    run = trainer(max_epochs=2, backend=far, log_every_n_steps=5)
    backend = run.strategy.backend

    def counting(read: Any) -> Any:
        def counted(*args: Any, **kwargs: Any) -> Any:
            reads.append(run.progress.batch + run.progress.in_step)
            return read(*args, **kwargs)

        return counted

    array = type(backend.asarray(1.0))
    for owner, names in ((type(backend), ["to_numpy"]), (array, ["__float__", "__int__", "__bool__", "__array__"])):
        for name in names:
            monkeypatch.setattr(owner, name, counting(getattr(owner, name)))
    run.fit(Module(), loader(20))
    assert set(reads) - {0} == {1, 5, 10}  # the first row, each fifth, and the epoch's end
    assert [row["step"] for row in rows(run)] == [1, 5, 10, 15, 20]


@pytest.mark.parametrize("where", ["setup", "training_step", "validation_step", "on_train_epoch_end"])
def test_teardown_runs_whatever_happens(trainer: Any, where: str) -> None:
    events: list[str] = []

    class Failing(Validated):
        def fail(self, *args: Any) -> None:
            raise RuntimeError("mine")

        def on_exception(self, exception: BaseException) -> None:
            events.append(f"module {exception}")

        def teardown(self, stage: str) -> None:
            events.append(f"module teardown {stage}")

    class Watching(Callback):
        def on_exception(self, trainer: Any, pl_module: Any, exception: BaseException) -> None:
            events.append(f"callback {exception}")

        def teardown(self, trainer: Any, pl_module: Any, stage: str) -> None:
            events.append("callback teardown")

    class Data(fw.DataModule):
        def train_dataloader(self) -> Any:
            return loader()

        val_dataloader = train_dataloader

        def teardown(self, stage: str) -> None:
            events.append("data teardown")

        def on_exception(self, exception: BaseException) -> None:
            events.append(f"data {exception}")

    module = Failing()
    setattr(module, where, module.fail)
    run = trainer(callbacks=[Watching()], num_sanity_val_steps=0)
    with pytest.raises(RuntimeError, match="mine"):
        run.fit(module, datamodule=Data())
    ends = ["data teardown", "callback teardown", "module teardown fit"]
    assert events == ["callback mine", "module mine", "data mine", *ends]
    assert run.has_begun == (where != "setup")
    assert fw.get_default_dtype() == "float32"


def test_a_failing_teardown_does_not_hide_the_error(trainer: Any) -> None:
    class Failing(Line):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            raise RuntimeError("first")

        def teardown(self, stage: str) -> None:
            raise ValueError("second")

    with (
        pytest.warns(RuntimeWarning, match="so did its teardown: ValueError"),
        pytest.raises(RuntimeError, match="first"),
    ):
        trainer().fit(Failing(), loader())

    class Late(Line):
        def teardown(self, stage: str) -> None:
            raise ValueError("alone")

    with pytest.raises(ValueError, match="alone"):
        trainer().fit(Late(), loader())


def test_a_logger_that_fails_costs_a_warning(trainer: Any) -> None:
    class Broken(fw.loggers.Logger):
        name, version = "broken", 0

        def log_metrics(self, metrics: Any, step: int | None = None) -> None:
            raise OSError("no network")

    run = trainer(logger=[Broken()])
    with pytest.warns(RuntimeWarning, match="no network"):
        run.fit(Line(), loader())
    assert run.global_step == 5
    assert len(rows(run)) == 2  # the run's own rows are written beside any logger


def test_fit_twice_says_that_there_is_nothing_to_do(trainer: Any) -> None:
    run, module = trainer(max_epochs=2), Line()
    run.fit(module, loader())
    with pytest.warns(UserWarning, match="nothing to train: 2 epochs and 10 steps are done, and max_epochs=2"):
        run.fit(module, loader())
    run.max_epochs = 3
    run.fit(module, loader())
    assert run.global_step == 15
    assert [row["step"] for row in rows(run)] == [1, 5, 10, 15]


def test_a_fit_after_one_that_failed_begins_the_epoch_anew(trainer: Any) -> None:
    module, run = Breaking(7, "loss"), trainer(max_epochs=2)
    with pytest.raises(NonFiniteError, match="step 8"):
        run.fit(module, loader(), loader(2))
    module.batch = -1
    run.fit(module, loader(), loader(2))
    assert run.current_epoch == 2
    assert run.global_step == 7 + 5


def test_resuming_a_finished_run_says_so(trainer: Any) -> None:
    run = trainer(enable_checkpointing=True)
    run.fit(Line(), loader())
    path = checkpoint.newest_valid(Path(run.log_dir) / "checkpoints")
    before = rows(run)
    again = trainer(enable_checkpointing=True)
    with pytest.warns(UserWarning, match="nothing to train: 1 epochs and 5 steps"):
        again.fit(Line(), loader(), ckpt_path=path)
    assert again.log_dir == run.log_dir
    assert rows(again) == before


# -- evaluation ------------------------------------------------------------------------------------


class Measured(Validated):
    def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        x, _ = batch
        assert not self.training
        self.log("mean", x.mean())
        self.log("shared", float(dataloader_idx), add_dataloader_idx=False)
        return x

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return {"y": self.layer(batch[0]), "index": batch_idx}


def test_test_and_validate_give_a_dict_for_each_loader(trainer: Any, capsys: Any, tmp_path: Path) -> None:
    run, module = trainer(), Measured()
    x = arrays(10)[0]
    assert run.validate(module, loader())[0]["val_loss"] > 0
    found = run.test(module, [loader(10, 4), loader(6, 4)])
    assert found[0]["mean/dataloader_idx_0"] == pytest.approx(float(x.mean()), rel=1e-5)
    assert found[1]["mean/dataloader_idx_1"] == pytest.approx(float(arrays(6)[0].mean()), rel=1e-5)
    assert found[0]["shared"] == found[1]["shared"] == pytest.approx(6 / 16)  # weighted by samples over both
    printed = capsys.readouterr().out
    assert "test metrics" in printed
    assert "mean/dataloader_idx_1" in printed
    assert module.training
    assert list(tmp_path.iterdir()) == []  # nothing is written for an evaluation alone


def test_predict_gives_the_outputs(trainer: Any) -> None:
    run, module = trainer(limit_predict_batches=2), Measured()
    outputs = run.predict(module, loader(10, 4))
    assert [output["index"] for output in outputs] == [0, 1]
    assert outputs[0]["y"].shape == (4, 1)
    assert not outputs[0]["y"].requires_grad
    assert [len(part) for part in run.predict(module, [loader(10, 4), loader(4, 4)])] == [2, 1]
    assert run.predict(module, loader(), return_predictions=False) is None


def test_test_without_a_module_takes_the_best_weights(trainer: Any) -> None:
    run, module = (
        trainer(max_epochs=3, callbacks=[ModelCheckpoint(monitor="val_loss")], enable_checkpointing=True),
        Measured(),
    )
    run.fit(module, loader(), loader())
    best = checkpoint.load(run.checkpoint_callback.best_model_path)["model"]
    for p in module.parameters():
        p.fill_(0.0) if not p.requires_grad else p.assign(p.detach() * 0)
    run.test(dataloaders=loader(), verbose=False)
    assert module.layer.weight.tolist() == best["layer.weight"].tolist()
    assert run.validate(module, loader(), ckpt_path="last", verbose=False)
    assert run.validate(module, loader(), ckpt_path="best", verbose=False)


@pytest.mark.parametrize("precision", ["32-true", "64-true", 64])
def test_precision_is_the_dtype_of_parameters_and_batches(trainer: Any, precision: Any) -> None:
    expected = "float64" if "64" in str(precision) else "float32"

    class Checking(Line):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            x, y = batch
            assert x.dtype == y.dtype == self.layer.weight.dtype == expected
            assert fw.tensor(1.0).dtype == expected
            return super().training_step(batch, batch_idx)

    trainer(precision=precision).fit(Checking(), loader())
    assert fw.tensor(1.0).dtype == "float32"


def test_batches_keep_their_structure(trainer: Any) -> None:
    from collections import namedtuple

    Pair = namedtuple("Pair", "x y")
    seen: list[Any] = []

    class Structured(Line):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            seen.append(batch)
            x = batch["pair"].x
            assert isinstance(x, fw.Tensor)
            assert batch["names"] == ["a", "b"]
            assert batch["count"].dtype == "int64"
            return (self.layer(x) ** 2).mean()

    x, y = arrays(2)
    trainer().fit(Structured(), [{"pair": Pair(x, y), "names": ["a", "b"], "count": np.arange(2)}])
    assert len(seen) == 1


def test_no_warning_is_given_in_an_ordinary_run(trainer: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer(enable_checkpointing=True, enable_model_summary=True).fit(Validated(), loader(), loader())
