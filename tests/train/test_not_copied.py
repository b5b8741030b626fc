"""Behaviours of Lightning that are not copied: one test for each, by its number in docs/lightning.md."""

from __future__ import annotations

import json
import math
import warnings
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework.callbacks import Callback, EarlyStopping, ModelCheckpoint, Timer
from framework.cli.main import main
from framework.errors import ConfigError
from framework.train import checkpoint


class Line(fw.TrainModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = fw.nn.Linear(2, 1)
        self.seen: list[tuple[int, int, list[float]]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        self.seen.append((self.current_epoch, batch_idx, x.numpy()[:, 0].tolist()))
        loss = ((self.layer(x) - y) ** 2).mean()
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("val_loss", ((self.layer(x) - y) ** 2).mean())

    def configure_optimizers(self) -> Any:
        return fw.optim.SGD(self.parameters(), lr=0.05)


def loader(batches: int = 6, **arguments: Any) -> fw.data.DataLoader:
    x = np.random.default_rng(0).standard_normal((2 * batches, 2)).astype(np.float32)
    y = (x @ np.array([[1.0], [-2.0]]) + 0.5).astype(np.float32)
    return fw.data.DataLoader(fw.data.ArrayDataset(x, y), batch_size=2, **arguments)


@pytest.fixture
def trainer(tmp_path: Path) -> Any:
    def make(*callbacks: Callback, **arguments: Any) -> fw.Trainer:
        quiet = {
            "backend": "cpu", "max_epochs": 2, "enable_progress_bar": False, "enable_model_summary": False,
            "default_root_dir": tmp_path, "callbacks": list(callbacks), "limit_val_batches": 0,
        }  # fmt: skip
        return fw.Trainer(**{**quiet, **arguments})

    return make


def weights(module: fw.nn.Module) -> list[Any]:
    return [p.tolist() for p in module.parameters()]


def rows(trainer: fw.Trainer) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (Path(trainer.log_dir) / "metrics.jsonl").read_text().splitlines()]


def saved(trainer: fw.Trainer, name: str) -> Path:
    return Path(trainer.log_dir) / "checkpoints" / name


def every_step() -> ModelCheckpoint:
    return ModelCheckpoint(every_n_train_steps=1, save_top_k=-1)


def test_row_1_a_run_resumed_within_an_epoch_goes_on_with_the_next_batch(trainer: Any) -> None:
    fw.seed_everything(0)
    whole, first, rest = Line(), Line(), Line()
    first.load_state_dict(whole.state_dict())
    trainer().fit(whole, loader(shuffle=True, seed=3))
    part = trainer(every_step(), max_steps=3)
    part.fit(first, loader(shuffle=True, seed=3))
    trainer(every_step()).fit(rest, loader(shuffle=True, seed=3), ckpt_path=saved(part, "epoch=0-step=3"))
    assert first.seen + rest.seen == whole.seen
    assert weights(rest) == weights(whole)


class Wraps:
    """A loader whose state at an epoch's end says that all is consumed."""

    def __init__(self, batches: int) -> None:
        self.data = list(loader(batches))
        self.batch = 0

    def __len__(self) -> int:
        return len(self.data)

    def __iter__(self) -> Any:
        self.batch %= len(self.data)
        while self.batch < len(self.data):
            self.batch += 1
            yield self.data[self.batch - 1]

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": 0, "batch": self.batch}

    def load_state_dict(self, state: Any) -> None:
        self.batch = state["batch"]


@pytest.mark.parametrize("kind", [Wraps, loader])
def test_row_2_a_checkpoint_of_an_epochs_last_batch_goes_on_with_a_whole_epoch(trainer: Any, kind: Any) -> None:
    run = trainer(every_step(), max_steps=3)
    run.fit(Line(), kind(3))
    rest = Line()
    more = trainer(every_step())
    more.fit(rest, kind(3), ckpt_path=saved(run, "epoch=0-step=3"))
    assert [seen[:2] for seen in rest.seen] == [(1, 0), (1, 1), (1, 2)]
    assert (more.global_step, more.current_epoch) == (6, 2)


@pytest.mark.parametrize("validates", [False, True])
def test_row_2b_max_steps_beside_max_epochs_changes_no_position(trainer: Any, validates: bool) -> None:
    limits = {"max_epochs": 3, "max_steps": 1000, "limit_val_batches": float(validates)}
    val = loader(1) if validates else None
    run = trainer(ModelCheckpoint(save_top_k=-1), **limits)
    run.fit(Line(), loader(2), val)
    rest = Line()
    more = trainer(ModelCheckpoint(save_top_k=-1), **limits)
    more.fit(rest, loader(2), val, ckpt_path=saved(run, "epoch=0-step=2"))
    assert [seen[:2] for seen in rest.seen] == [(1, 0), (1, 1), (2, 0), (2, 1)]
    assert more.global_step == 6


class Plateau(Line):
    """A metric that never improves."""

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", 1.0)

    def configure_optimizers(self) -> Any:
        optimizer = fw.optim.SGD(self.parameters(), lr=1.0)
        plateau = fw.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.5, patience=0)
        return {"optimizer": optimizer, "lr_scheduler": plateau, "monitor": "val_loss"}


def test_row_3_a_job_restarted_after_every_epoch_lowers_its_learning_rate(trainer: Any) -> None:
    rates, source = [], None
    for epochs in range(1, 5):
        run = trainer(ModelCheckpoint(save_top_k=-1), max_epochs=epochs, limit_val_batches=1.0)
        run.fit(Plateau(), loader(1), loader(1), ckpt_path=source)
        rates.append(run.optimizers[0].param_groups[0]["lr"])
        source = saved(run, f"epoch={epochs - 1}-step={epochs}")
    assert rates == [1.0, 0.5, 0.25, 0.125]


class Scored(Line):
    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", 1.0 + self.current_epoch)


def test_row_3b_last_is_the_last_checkpoint_whatever_its_score(trainer: Any) -> None:
    saver = ModelCheckpoint(monitor="val_loss", save_last=True)
    run = trainer(saver, max_epochs=3, limit_val_batches=1.0)
    run.fit(Scored(), loader(2), loader(1))
    folder = Path(run.log_dir) / "checkpoints"
    assert checkpoint.read_pointer(folder, "last").name == "epoch=2-step=6"
    assert checkpoint.read_pointer(folder, "best").name == "epoch=0-step=2"


def test_row_4_one_name_from_training_and_validation_is_an_error(trainer: Any) -> None:
    class Twice(Line):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            self.log("loss", loss, on_step=False, on_epoch=True)
            return loss

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("loss", 1.0)

    with pytest.raises(ConfigError, match=r"belongs to validation already.*'train_loss' and 'val_loss'"):
        trainer(limit_val_batches=1.0).fit(Twice(), loader(), loader(1))


def test_row_5_steps_of_rows_never_go_backwards_whatever_is_logged_in_validation(trainer: Any) -> None:
    class ByStep(Line):
        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.log("val_loss", float(batch_idx), on_step=True, on_epoch=True)

    run = trainer(limit_val_batches=1.0, val_check_interval=2, log_every_n_steps=1)
    run.fit(ByStep(), loader(), loader(3))
    found = rows(run)
    assert [row["step"] for row in found] == list(range(1, 13))
    assert all("epoch" in row for row in found)
    assert [row["step"] for row in found if "val_loss_epoch" in row] == [2, 4, 6, 8, 10, 12]
    assert not any("val_loss_step" in row for row in found)


def test_row_6_a_row_and_the_checkpoint_of_one_update_have_one_number(trainer: Any) -> None:
    run = trainer(every_step(), max_steps=2, log_every_n_steps=1)
    run.fit(Line(), loader())
    assert [row["step"] for row in rows(run)] == [1, 2]
    assert sorted(p.name for p in saved(run, "x").parent.glob("epoch*")) == ["epoch=0-step=1", "epoch=0-step=2"]
    assert run.global_step == 2


def test_row_7_a_short_last_window_counts_in_full(trainer: Any) -> None:
    class Ones(Line):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return self.layer.bias.sum()

        def on_before_optimizer_step(self, optimizer: Any) -> None:
            self.seen.append(self.layer.bias.grad.item())

    module = Ones()
    trainer(max_epochs=1, accumulate_grad_batches=3).fit(module, loader(4))
    assert module.seen == [1.0, 1.0]


def test_row_8_a_schedules_frequency_counts_updates_across_epochs(trainer: Any) -> None:
    class Scheduled(Line):
        def configure_optimizers(self) -> Any:
            optimizer = super().configure_optimizers()
            self.schedule = fw.optim.lr_scheduler.StepLR(optimizer, 1)
            return [optimizer], [{"scheduler": self.schedule, "interval": "step", "frequency": 4}]

    module = Scheduled()
    trainer(max_epochs=4, accumulate_grad_batches=2).fit(module, loader(6))  # three updates an epoch
    assert module.schedule.last_epoch == 3


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_row_9_teardown_follows_on_any_exception_and_the_module_hears_of_it(trainer: Any, error: Any) -> None:
    heard: list[str] = []

    class Failing(Line):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            raise error("mine")

        def on_exception(self, exception: BaseException) -> None:
            heard.append(f"exception {exception}")

        def teardown(self, stage: str) -> None:
            heard.append(f"teardown {stage}")

    with pytest.raises(error):
        trainer().fit(Failing(), loader())
    assert heard == ["exception mine", "teardown fit"]


def test_row_10_a_step_that_returns_none_makes_no_update(trainer: Any) -> None:
    class Skipping(Line):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            return None if batch_idx == 1 else loss

        def on_before_optimizer_step(self, optimizer: Any) -> None:
            self.before = [*getattr(self, "before", []), self.global_step]

        def configure_optimizers(self) -> Any:
            optimizer = super().configure_optimizers()
            self.schedule = fw.optim.lr_scheduler.StepLR(optimizer, 1)
            return [optimizer], [{"scheduler": self.schedule, "interval": "step"}]

    module, run = Skipping(), trainer(max_epochs=1, gradient_clip_val=1.0)
    run.fit(module, loader(3))
    assert run.global_step == module.schedule.last_epoch == 2
    assert module.before == [0, 1]


def test_row_11_a_folder_that_is_taken_is_refused_before_it_is_touched(trainer: Any, tmp_path: Path) -> None:
    run = trainer(logger=fw.loggers.CSVLogger(tmp_path / "own", version=0))
    run.fit(Line(), loader())
    files = {p: p.read_bytes() for p in (tmp_path / "own").rglob("*") if p.is_file()}
    assert files
    with pytest.raises(ConfigError):
        trainer(logger=fw.loggers.CSVLogger(tmp_path / "own", version=0)).fit(Line(), loader())
    assert {p: p.read_bytes() for p in files} == files


def test_row_12_a_second_fit_that_trains_nothing_says_so(trainer: Any) -> None:
    run, module = trainer(), Line()
    run.fit(module, loader())
    before = weights(module)
    with pytest.warns(UserWarning, match="nothing to train: 2 epochs and 12 steps are done, and max_epochs=2"):
        run.fit(module, loader())
    assert weights(module) == before


def resumed(trainer: Any, stop: Callback, again: Callback) -> tuple[fw.Trainer, int]:
    run = trainer(ModelCheckpoint(save_top_k=-1), stop, max_epochs=40, limit_val_batches=1.0)
    run.fit(Scored(), loader(), loader(1))
    done = run.global_step
    more = trainer(ModelCheckpoint(save_top_k=-1), again, max_epochs=40, limit_val_batches=1.0)
    more.fit(Scored(), loader(), loader(1), ckpt_path="last")
    return more, more.global_step - done


STOPS = {
    "a timer": lambda: Timer(timedelta(0), verbose=False),
    "early stopping": lambda: EarlyStopping("val_loss", patience=1),
}


@pytest.mark.parametrize("kind", STOPS)
def test_row_13_resuming_a_run_that_a_callback_has_ended_says_so(trainer: Any, kind: str) -> None:
    """The callback decides: with the same limit there is nothing to do, with another one the run goes on."""
    stop = STOPS[kind]() if kind != "a timer" else Timer({"milliseconds": 1}, verbose=False)
    with pytest.warns(UserWarning, match=r"nothing to train: .* are done, and trainer.should_stop is set"):
        _, made = resumed(trainer, stop, STOPS[kind]())
    assert made == 0


def test_row_13_with_another_limit_it_goes_on(trainer: Any) -> None:
    longer = EarlyStopping("val_loss", patience=3)
    _, made = resumed(trainer, EarlyStopping("val_loss", patience=1), longer)
    assert made == 2 * 6


def test_row_13_resuming_at_the_last_epoch_says_so(trainer: Any) -> None:
    run = trainer()
    run.fit(Line(), loader())
    with pytest.warns(UserWarning, match="nothing to train: 2 epochs and 12 steps are done, and max_epochs=2"):
        trainer().fit(Line(), loader(), ckpt_path="last")


def test_row_14_a_list_of_batches_is_one_loader_and_an_array_is_refused(trainer: Any) -> None:
    x = np.ones((2, 2), np.float32)
    run = trainer()
    run.fit(Line(), [(x, x[:, :1]), (x, x[:, :1])])
    assert run.global_step == 4
    with pytest.raises(ConfigError, match="would be taken row by row"):
        trainer().fit(Line(), np.ones((4, 2), np.float32))
    with pytest.raises(ConfigError, match="a list of loaders; one loader is used"):
        trainer().fit(Line(), [loader(), loader()])


class WithFunction(Line):
    def __init__(self, activation: Any, width: int = 3) -> None:
        super().__init__()
        self.save_hyperparameters()
        activation(1)


def test_row_15_hyper_parameters_of_any_kind_leave_the_checkpoint_loadable(trainer: Any) -> None:
    run = trainer()
    run.fit(WithFunction(abs), loader())
    source = run.checkpoint_callback.best_model_path
    more = trainer(max_epochs=3)
    more.fit(WithFunction(abs), loader(), ckpt_path=source)
    assert more.global_step == 18
    assert WithFunction.load_from_checkpoint(source, activation=abs).hparams.width == 3
    assert not [p for p in Path(run.default_root_dir).rglob("*") if "lr_find" in p.name]


def test_row_16_a_hyper_parameter_that_can_be_called_is_not_called(trainer: Any) -> None:
    called: list[int] = []

    def activation(value: int = 0) -> None:
        called.append(value)

    class Asking(fw.loggers.Logger):
        name, version = "asking", 0

        def log_metrics(self, metrics: Any, step: int | None = None) -> None: ...

        def log_hyperparams(self, params: Any) -> None:
            heard.append(dict(params))

    heard: list[Any] = []
    trainer(logger=[Asking()]).fit(WithFunction(activation), loader())
    assert called == [1]  # by the module alone
    assert heard[0]["width"] == 3


def test_row_18_a_patience_given_on_resume_holds(trainer: Any) -> None:
    stopping = EarlyStopping("val_loss", patience=30)
    stopping.load_state_dict(EarlyStopping("val_loss", patience=1).state_dict())
    assert stopping.patience == 30


@pytest.mark.parametrize("seed", ["true", "-1", "1.5"])
def test_row_20_a_seed_is_a_number(tmp_path: Path, capsys: pytest.CaptureFixture[str], seed: str) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(f"seed_everything: {seed}\n")
    assert main(["train", str(config)]) == 2
    assert "run.yaml:1" in (told := capsys.readouterr().err)
    assert "int" in told


def test_row_21_checkpoints_under_manual_optimization_need_nothing_special(trainer: Any) -> None:
    class Manual(Line):
        automatic_optimization = False

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            optimizer = self.optimizers()
            optimizer.zero_grad()
            self.manual_backward(super().training_step(batch, batch_idx))
            optimizer.step()

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        by_time = ModelCheckpoint(train_time_interval=timedelta(0), save_top_k=-1)
        run = trainer(by_time, max_epochs=1)
        run.fit(Manual(), loader(3))
    assert sorted(p.name for p in Path(by_time.dirpath).glob("epoch*")) == [f"epoch=0-step={i}" for i in (1, 2, 3)]


def test_row_22_arguments_mean_what_they_say(trainer: Any) -> None:
    with pytest.raises(TypeError, match="flush_logs_every_n_steps"):  # the run decides when rows are written
        fw.loggers.CSVLogger(flush_logs_every_n_steps=4)
    saver = ModelCheckpoint(dirpath=None)
    run = trainer(saver)
    run.fit(Line(), loader())
    assert "None is `checkpoints` in the run folder" in str(ModelCheckpoint.__doc__)
    assert saver.dirpath == str(Path(run.log_dir).absolute() / "checkpoints")


def test_row_23_no_adverts(trainer: Any, capsys: pytest.CaptureFixture[str]) -> None:
    trainer(logger=False, enable_checkpointing=False).fit(Line(), loader())
    out, err = capsys.readouterr()
    assert (out, err) == ("", "")


def test_row_30_of_the_errors_a_loss_that_is_nan_stops_the_run(trainer: Any) -> None:
    class Breaking(Line):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            loss = super().training_step(batch, batch_idx)
            return loss * math.nan if batch_idx == 2 else loss

    with pytest.raises(fw.errors.NonFiniteError, match=r"step 3: the loss is nan"):
        trainer().fit(Breaking(), loader())
