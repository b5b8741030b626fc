"""Hooks by which a module changes what the Trainer does, and what it can be asked."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework.callbacks import Callback, EarlyStopping, ModelCheckpoint
from framework.errors import CheckpointError, ConfigError


class Line(fw.TrainModule):
    def __init__(self, lr: float = 0.05) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = fw.nn.Linear(2, 1)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        loss = ((self.layer(x) - y) ** 2).mean()
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        x, y = batch
        self.log("val_loss", ((self.layer(x) - y) ** 2).mean())

    def configure_optimizers(self) -> Any:
        return fw.optim.SGD(self.parameters(), lr=self.hparams.lr)


def arrays(samples: int = 10) -> tuple[np.ndarray, np.ndarray]:
    x = np.random.default_rng(0).standard_normal((samples, 2)).astype(np.float32)
    return x, (x @ np.array([[1.0], [-2.0]]) + 0.5).astype(np.float32)


def loader(samples: int = 10, batch_size: int = 2) -> fw.data.DataLoader:
    return fw.data.DataLoader(fw.data.ArrayDataset(*arrays(samples)), batch_size=batch_size)


@pytest.fixture
def trainer(tmp_path: Path) -> Any:
    def make(**arguments: Any) -> fw.Trainer:
        quiet = {
            "backend": "cpu", "max_epochs": 1, "enable_progress_bar": False, "enable_model_summary": False,
            "enable_checkpointing": False, "default_root_dir": tmp_path, "limit_val_batches": 0,
        }  # fmt: skip
        return fw.Trainer(**{**quiet, **arguments})

    return make


def weights(module: fw.nn.Module) -> list[Any]:
    return [p.tolist() for p in module.parameters()]


def twins(one: type, other: type) -> tuple[Any, Any]:
    fw.seed_everything(2)
    a, b = one(), other()
    b.load_state_dict(a.state_dict())
    return a, b


# -- the update ------------------------------------------------------------------------------------


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("compile", [False, True])
def test_a_backward_of_ones_own_has_the_weight_of_the_batch(trainer: Any, accumulate: int, compile: bool) -> None:
    class Own(Line):
        def backward(self, loss: Any, *args: Any, **kwargs: Any) -> None:
            super().backward(loss * 1.0, *args, **kwargs)

    plain, own = twins(Line, Own)
    for module, compiled in ((plain, False), (own, compile)):
        trainer(max_epochs=8, accumulate_grad_batches=accumulate, compile=compiled, precision=64).fit(module, loader())
    for a, b in zip(weights(plain), weights(own), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@pytest.mark.parametrize("compile", [False, True])
def test_an_optimizer_step_of_ones_own_may_warm_up_and_leave_out(trainer: Any, compile: bool) -> None:
    class Own(Line):
        def optimizer_step(self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
            assert (epoch, batch_idx) == (self.current_epoch, self.trainer.progress.batch)
            assert optimizer_closure().item() > 0
            if batch_idx % 2:
                return
            for group in optimizer.param_groups:
                group["lr"] = 0.01 * (1 + self.global_step)
            super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)

        def configure_optimizers(self) -> Any:
            optimizer = super().configure_optimizers()
            self.schedule = fw.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
            return [optimizer], [{"scheduler": self.schedule, "interval": "step"}]

    module, run = Own(), trainer(max_epochs=2, log_every_n_steps=1, compile=compile)
    run.fit(module, loader())
    assert run.global_step == 6  # three of five batches, twice
    assert module.schedule.last_epoch == 6
    steps = [json.loads(line)["step"] for line in (Path(run.log_dir) / "metrics.jsonl").read_text().splitlines()]
    assert steps == [1, 2, 3, 4, 5, 6]


def test_gradients_that_are_kept_where_zero_grad_is_overridden(trainer: Any) -> None:
    class Summing(Line):
        def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Any) -> None:
            if batch_idx % 2 == 0:
                super().optimizer_zero_grad(epoch, batch_idx, optimizer)

        def on_before_optimizer_step(self, optimizer: Any) -> None:
            self.steps = [*getattr(self, "steps", []), self.layer.bias.grad.item()]

        def configure_optimizers(self) -> Any:
            return fw.optim.SGD(self.parameters(), lr=0.0)

    module = Summing()
    trainer().fit(module, loader(4))
    x, y = arrays(4)
    each = [
        float((2 * (module.layer(fw.tensor(a)).detach().numpy() - b)).mean())
        for a, b in ((x[:2], y[:2]), (x[2:], y[2:]))
    ]
    assert module.steps == pytest.approx([each[0], each[0] + each[1]], rel=1e-5)


def test_a_schedulers_step_of_ones_own_gets_its_metric(trainer: Any) -> None:
    calls: list[Any] = []

    class Own(Line):
        def lr_scheduler_step(self, scheduler: Any, metric: Any) -> None:
            calls.append((type(scheduler).__name__, metric))
            super().lr_scheduler_step(scheduler, metric)

        def configure_optimizers(self) -> Any:
            optimizer = super().configure_optimizers()
            kinds = fw.optim.lr_scheduler
            plateau = {"scheduler": kinds.ReduceLROnPlateau(optimizer), "monitor": "val_loss"}
            return [optimizer], [kinds.StepLR(optimizer, 1), plateau]

    run = trainer(limit_val_batches=1.0)
    run.fit(Own(), loader(), loader(2))
    assert calls == [("StepLR", None), ("ReduceLROnPlateau", run.callback_metrics["val_loss"])]


def test_a_plateau_by_steps_and_one_whose_metric_may_be_missing(trainer: Any) -> None:
    class Own(Line):
        def configure_optimizers(self) -> Any:
            optimizer = super().configure_optimizers()
            plateau = fw.optim.lr_scheduler.ReduceLROnPlateau
            self.by_step, self.absent = plateau(optimizer), plateau(optimizer)
            return [optimizer], [
                {"scheduler": self.by_step, "monitor": "train_loss", "interval": "step", "frequency": 2},
                {"scheduler": self.absent, "monitor": "never", "strict": False},
            ]

    module = Own()
    trainer(max_epochs=2).fit(module, loader())
    assert (module.by_step.last_epoch, module.absent.last_epoch) == (5, 0)


# -- batches -----------------------------------------------------------------------------------------


def test_a_batch_goes_through_the_transfer_hooks_with_its_loaders_index(trainer: Any) -> None:
    calls: list[Any] = []

    class Own(Line):
        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            calls.append(("before", dataloader_idx, type(batch[0]).__name__))
            return batch

        def transfer_batch_to_device(self, batch: Any, device: str, dataloader_idx: int) -> Any:
            calls.append(("move", dataloader_idx, device))
            return super().transfer_batch_to_device(batch, device, dataloader_idx)

        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            calls.append(("after", dataloader_idx, type(batch[0]).__name__))
            return batch[0] * 0, batch[1]

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            assert float(abs(batch[0]).max()) == 0.0
            return super().training_step(batch, batch_idx)

    trainer(limit_train_batches=1, limit_val_batches=1, num_sanity_val_steps=0).fit(
        Own(), loader(), [loader(), loader()]
    )
    assert calls == [
        call
        for index in (0, 0, 1)
        for call in (("before", index, "ndarray"), ("move", index, "cpu"), ("after", index, "Tensor"))
    ]


def test_a_datamodules_transfer_hooks_come_before_the_modules(trainer: Any) -> None:
    calls: list[str] = []

    class Own(Line):
        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            calls.append("module")
            return batch

    class Data(fw.DataModule):
        def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            calls.append("data before")
            return super().on_before_batch_transfer(batch, dataloader_idx)

        def transfer_batch_to_device(self, batch: Any, device: str, dataloader_idx: int) -> Any:
            return super().transfer_batch_to_device(batch, device, dataloader_idx)

        def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
            calls.append("data after")
            return super().on_after_batch_transfer(batch, dataloader_idx)

        def train_dataloader(self) -> Any:
            return loader(2)

    with pytest.warns(UserWarning, match="on_after_batch_transfer is defined in Own and in Data: the datamodule's"):
        trainer().fit(Own(), datamodule=Data())
    assert calls == ["data before", "data after"]


# -- callbacks, layers, modes ------------------------------------------------------------------------


def test_callbacks_of_the_module_replace_those_of_their_class(trainer: Any) -> None:
    class Patient(EarlyStopping):
        pass

    class Own(Line):
        def configure_callbacks(self) -> Any:
            return [Patient("val_loss", patience=7)]

    class Wrong(Line):
        def configure_callbacks(self) -> Any:
            return ["EarlyStopping"]

    other = Callback()
    run = trainer(callbacks=[EarlyStopping("nothing"), other], limit_val_batches=1.0)
    run.fit(Own(), loader(), loader(2))
    assert [type(callback) for callback in run.early_stopping_callbacks] == [Patient]
    assert other in run.callbacks
    with pytest.raises(ConfigError, match=r"Wrong.configure_callbacks\(\) returned 'EarlyStopping' where a callback"):
        trainer().fit(Wrong(), loader())


def test_layers_may_be_made_when_the_data_are_known(trainer: Any, tmp_path: Path) -> None:
    class Lazy(Line):
        def __init__(self) -> None:
            super().__init__()
            self.layer = None

        def configure_model(self) -> None:
            if self.layer is None:
                self.layer = fw.nn.Linear(2, 1)

    module, run = Lazy(), trainer()
    run.fit(module, loader())
    run.save_checkpoint(tmp_path / "saved")
    again = Lazy.load_from_checkpoint(tmp_path / "saved")
    assert weights(again) == weights(module)


def test_evaluation_mode_in_ones_own_way(trainer: Any) -> None:
    class Own(Line):
        def __init__(self) -> None:
            super().__init__()
            self.dropout = fw.nn.Dropout(0.5)
            self.seen: list[bool] = []

        def on_validation_model_eval(self) -> None:
            super().on_validation_model_eval()
            self.dropout.train()

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            self.seen.append((self.training, self.dropout.training))

        def on_validation_model_train(self) -> None:
            super().on_validation_model_train()
            self.dropout.eval()

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.seen.append((self.training, self.dropout.training))
            return super().training_step(batch, batch_idx)

    module = Own()
    trainer(max_epochs=2, limit_val_batches=1, limit_train_batches=1, num_sanity_val_steps=0).fit(
        module, loader(), loader()
    )
    assert module.seen == [(True, True), (False, True), (True, False), (False, True)]


# -- logging by callbacks ----------------------------------------------------------------------------


def test_a_callback_logs_as_the_module_does(trainer: Any) -> None:
    class Logs(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            self.log("twice", outputs["loss"] * 2, on_step=True, on_epoch=True, prog_bar=True)

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            self.log_dict({"end": 3.0, "other": 4.0})

        def on_fit_end(self, trainer: Any, pl_module: Any) -> None:
            with pytest.raises(ConfigError, match="cannot be used in on_fit_end"):
                self.log("late", 1.0)

    callback = Logs()
    run = trainer(callbacks=callback)
    run.fit(Line(), loader())
    metrics = run.callback_metrics
    assert metrics["twice_step"] == pytest.approx(2 * metrics["train_loss"])
    assert (metrics["end"], metrics["other"]) == (3.0, 4.0)
    assert "twice_epoch" in run.progress_bar_metrics
    with pytest.warns(UserWarning, match="does nothing without a Trainer"):
        callback.log("x", 1.0)


def test_arguments_of_log_that_one_process_has_no_use_for(trainer: Any) -> None:
    class Ported(Line):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("a", 1.0, sync_dist=True, rank_zero_only=True, logger=None, metric_attribute="none")
            return super().training_step(batch, batch_idx)

    class Graph(Line):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("a", 1.0, enable_graph=True)

    run = trainer()
    run.fit(Ported(), loader())
    assert run.logged_metrics["a"] == 1.0
    with pytest.raises(ConfigError, match="values are recorded without their graph"):
        trainer().fit(Graph(), loader())


# -- what can be asked -------------------------------------------------------------------------------


def test_properties_of_trainer_and_module(trainer: Any, tmp_path: Path) -> None:
    class Asking(Line):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            run = self.trainer
            assert (run.state.fn, run.state.status, run.training, run.evaluating) == ("fit", "running", True, False)
            assert (self.dtype, self.device, self.on_gpu, self.strict_loading) == ("float64", "cpu", False, True)
            return super().training_step(batch, batch_idx)

    run = trainer(precision=64, enable_progress_bar=True, callbacks=ModelCheckpoint(), enable_checkpointing=True)
    assert (run.state.fn, run.state.status) == ("", "initializing")
    module = Asking()
    run.fit(module, loader())
    assert run.state.finished
    assert not run.interrupted
    assert run.progress_bar_callback in run.callbacks
    assert run.ckpt_path is None
    assert run.lightning_module is run.module is module
    assert run.train_dataloader.batch_size == 2
    run.validate(module, loader(2), ckpt_path="best", verbose=False)
    assert run.ckpt_path == run.checkpoint_callback.best_model_path
    assert (run.num_val_batches, run.num_training_batches) == (0, 5)
    object.__setattr__(module, "validation_step", lambda batch, batch_idx: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        trainer(limit_val_batches=1).validate(module, loader(2))
    assert trainer(max_time="00:00:01:00").progress_bar_callback is None


def test_an_exception_leaves_the_trainer_interrupted(trainer: Any) -> None:
    class Failing(Line):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            raise RuntimeError("mine")

    run = trainer()
    with pytest.raises(RuntimeError, match="mine"):
        run.fit(Failing(), loader())
    assert run.interrupted
    assert run.state.status == "interrupted"


def test_none_means_the_default(trainer: Any) -> None:
    given = dict.fromkeys(["logger", "enable_checkpointing", "enable_progress_bar", "enable_model_summary"])
    run = trainer(**given, log_every_n_steps=None, precision=None)
    assert run.log_every_n_steps == 50
    assert run.checkpoint_callback is not None
    assert run.progress_bar_callback is not None
    assert run.logger is not None
    assert run.dtype == "float32"


def test_one_process_is_the_only_strategy(trainer: Any) -> None:
    single = fw.strategies.SingleDevice("strict")
    assert trainer(backend="auto", strategy=single).strategy is single
    assert trainer(strategy="single_device").strategy.device == "cpu"
    with pytest.raises(ConfigError, match=r"strategy='ddp' is not available; choose one of auto, single_device"):
        trainer(strategy="ddp")
    with pytest.raises(ConfigError, match="names the device; leave out backend"):
        trainer(strategy=single)


def test_a_checkpoint_makes_a_module_again(trainer: Any, tmp_path: Path) -> None:
    module, run = Line(lr=0.25), trainer()
    run.fit(module, loader())
    run.save_checkpoint(tmp_path / "saved")
    (tmp_path / "hparams.yaml").write_text("lr: 0.5\n")
    assert Line.load_from_checkpoint(tmp_path / "saved", map_location="cpu").hparams.lr == 0.25
    assert Line.load_from_checkpoint(tmp_path / "saved", hparams_file=tmp_path / "hparams.yaml").hparams.lr == 0.5
    (tmp_path / "hparams.yaml").write_text("- lr\n")
    with pytest.raises(ConfigError, match="expected the hyper-parameters as a mapping, got list"):
        Line.load_from_checkpoint(tmp_path / "saved", hparams_file=tmp_path / "hparams.yaml")
    with pytest.raises(ConfigError, match=r"leaves this one as it is; call it on the class.*model = Line.load_from"):
        module.load_from_checkpoint(tmp_path / "saved")

    class Wider(Line):
        def __init__(self, lr: float = 0.05) -> None:
            super().__init__()
            self.more = fw.nn.Linear(1, 1)

    with pytest.raises(CheckpointError, match=r"more"):
        Wider.load_from_checkpoint(tmp_path / "saved")
    Wider.strict_loading = False
    assert weights(Wider.load_from_checkpoint(tmp_path / "saved").layer) == weights(module.layer)


def test_a_checkpoint_makes_a_datamodule_again(trainer: Any, tmp_path: Path) -> None:
    class Data(fw.DataModule):
        def __init__(self, size: int) -> None:
            self.save_hyperparameters()
            self.seen = 0

        def train_dataloader(self) -> Any:
            return loader(2, self.hparams.size)

        def state_dict(self) -> dict[str, Any]:
            return {"seen": 5}

        def load_state_dict(self, state: Any) -> None:
            self.seen = state["seen"]

    run = trainer()
    run.fit(Line(), Data(2))
    run.save_checkpoint(tmp_path / "saved")
    again = Data.load_from_checkpoint(tmp_path / "saved")
    assert (again.hparams.size, again.seen) == (2, 5)
    assert Data.load_from_checkpoint(tmp_path / "saved", size=3).hparams.size == 3
    run.prepare_checkpoint(tmp_path / "weights", weights_only=True)()
    assert Data.load_from_checkpoint(tmp_path / "weights").seen == 0


def test_a_datamodule_of_datasets(trainer: Any) -> None:
    data = fw.data.ArrayDataset(*arrays())
    made = fw.DataModule.from_datasets(data, [data, data], test_dataset=data, batch_size=4, drop_last=True)
    sizes = ["{Train dataloader: size=2}", "{Validation dataloader: size=2, 2}", "{Test dataloader: size=2}"]
    assert str(made).splitlines() == [*sizes, "{Predict dataloader: None}"]
    assert made.train_dataloader().shuffle
    assert not made.test_dataloader().shuffle
    run = trainer(limit_val_batches=1.0)
    run.fit(Line(), made)
    assert math.isfinite(run.callback_metrics["val_loss/dataloader_idx_1"])


def test_a_datamodule_of_streams_is_in_their_order() -> None:
    class Stream(fw.data.IterableDataset):
        def __iter__(self) -> Any:
            yield from range(5)

    made = fw.DataModule.from_datasets(Stream(), batch_size=2)
    assert [batch.tolist() for batch in made.train_dataloader()] == [[0, 1], [2, 3], [4]]
    assert str(made).splitlines()[0] == "{Train dataloader: size=unknown}"


def test_a_datamodule_whose_data_are_not_there_yet_can_be_printed() -> None:
    class Data(fw.DataModule):
        def setup(self, stage: str) -> None:
            self.data = fw.data.ArrayDataset(*arrays())

        def train_dataloader(self) -> Any:
            return fw.data.DataLoader(self.data, batch_size=5)

    data = Data()
    assert str(data).startswith("{Train dataloader: not there yet (AttributeError)}")
    data.setup("fit")
    assert str(data).startswith("{Train dataloader: size=2}")


@pytest.mark.parametrize("name", ["on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer"])
def test_a_transfer_hook_without_a_return_is_told_of(trainer: Any, name: str) -> None:
    forgetful = type("Forgetful", (Line,), {name: _named(name)})
    with pytest.raises(ConfigError, match=f"{name} returned None where the batch is expected; is a `return` missing"):
        trainer().fit(forgetful(), loader(2))


def _named(name: str) -> Any:
    def hook(self: Any, batch: Any, *where: Any) -> None:
        return None

    hook.__name__ = name
    return hook
