"""One clear message for each mistake, before anything is written."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from good_module import Good

import framework as fw
from framework.callbacks import Callback, EarlyStopping, ModelCheckpoint
from framework.errors import BackendError, CheckpointError, ConfigError, DataError
from framework.train import checkpoint


def loader(labels: Any = (0, 1, 0, 1), **arguments: Any) -> fw.data.DataLoader:
    data = fw.data.ArrayDataset(np.ones((len(labels), 2), np.float32), np.array(labels))
    return fw.data.DataLoader(data, **{"batch_size": 2, **arguments})


@pytest.fixture
def trainer(tmp_path: Path) -> Any:
    def make(**arguments: Any) -> fw.Trainer:
        quiet = {"enable_progress_bar": False, "enable_model_summary": False, "default_root_dir": tmp_path}
        return fw.Trainer(**{"backend": "cpu", "max_epochs": 1, **quiet, **arguments})

    return make


# -- arguments of the Trainer ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"limit_train_batches": 1.5}, "limit_train_batches=1.5: expected a number of batches"),
        ({"limit_train_batches": 10.0}, "For 10 batches write 10."),
        ({"limit_val_batches": -1}, "limit_val_batches=-1"),
        ({"limit_test_batches": "all"}, "limit_test_batches='all'"),
        ({"overfit_batches": 2.0}, "For 2 batches write 2."),
        ({"max_epochs": -2}, "max_epochs=-2: expected -1 or more (-1 means no limit)"),
        ({"max_epochs": 2.0}, "max_epochs=2.0: expected a whole number, got a float"),
        ({"max_epochs": True}, "max_epochs=True: expected a whole number, got a bool"),
        ({"max_steps": 0.5}, "max_steps=0.5"),
        ({"min_epochs": 3}, "min_epochs=3 is more than max_epochs=1"),
        ({"min_steps": 9, "max_steps": 4}, "min_steps=9 is more than max_steps=4"),
        ({"val_check_interval": 0}, "limit_val_batches=0"),
        ({"val_check_interval": 1.5}, "val_check_interval=1.5"),
        ({"check_val_every_n_epoch": 0}, "check_val_every_n_epoch=0: expected 1 or more"),
        ({"check_val_every_n_epoch": None}, "must be a number of batches (an int)"),
        ({"num_sanity_val_steps": -2}, "num_sanity_val_steps=-2"),
        ({"log_every_n_steps": -1}, "log_every_n_steps=-1"),
        ({"accumulate_grad_batches": 0}, "accumulate_grad_batches=0: expected 1 or more"),
        ({"accumulate_grad_batches": {0: 2}}, "one number for all epochs"),
        ({"fast_dev_run": -1}, "fast_dev_run=-1"),
        ({"precision": "16-true"}, "precision='16-true' is not available; choose one of 32-true, 64-true, bf16-mixed"),
        (
            {"precision": "bf16-mixed"},
            "needs bfloat16, which 'cpu' does not offer here; on it choose one of 32-",
        ),
        ({"precision": "64-tru"}, "Did you mean '64-true'?"),
        ({"backend": "strict", "accelerator": "cpu"}, "backend='strict' and accelerator='cpu' mean the same thing"),
        ({"devices": 2}, "devices=2: one device is used"),
        ({"devices": []}, "devices=[]"),
        ({"callbacks": [Callback]}, "got the class Callback; pass an instance: Callback(…)"),
        ({"callbacks": ["EarlyStopping"]}, "'EarlyStopping' is no fw.callbacks.Callback"),
        ({"logger": fw.loggers.CSVLogger}, "got the class CSVLogger; pass an instance"),
        ({"logger": "wandb"}, "'wandb' is no fw.loggers.Logger"),
        ({"enable_checkpointing": False, "callbacks": ModelCheckpoint()}, "leave one of them out"),
    ],
)
def test_arguments(trainer: Any, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        trainer(**arguments)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"backend": "cpuu"}, "Did you mean 'cpu'?"),
        ({"backend": "cpu:7"}, "has no device 'cpu:7'"),
        ({"backend": "strict", "devices": [4]}, "has no device 'strict:4'; it has strict, strict:1"),
    ],
)
def test_a_backend_that_cannot_be_used(trainer: Any, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(BackendError) as caught:
        trainer(**arguments)
    assert words in str(caught.value)


def test_devices_and_accelerators_mean_a_backend(trainer: Any) -> None:
    assert trainer(backend="strict", devices=[1]).strategy.device == "strict:1"
    assert trainer(backend="auto", accelerator="cpu").strategy.device == "cpu"
    assert trainer(backend="strict", devices=1).strategy.device == "strict"


def test_no_limit_at_all_is_pointed_out(trainer: Any) -> None:
    with pytest.warns(UserWarning, match="training for 1000 epochs"):
        made = trainer(max_epochs=None)
    assert made.max_epochs == 1000
    assert trainer(max_epochs=None, max_steps=5).max_epochs == -1


# -- modules ---------------------------------------------------------------------------------------


class NoStep(fw.TrainModule):
    def train_step(self, batch: Any, batch_idx: int) -> Any: ...
    def configure_optimizers(self) -> Any: ...


class NoOptimizers(fw.TrainModule):
    def training_step(self, batch: Any, batch_idx: int) -> Any: ...
    def configure_optimizer(self) -> Any: ...


class NoInit(Good):
    def __init__(self) -> None:
        self.width = 3


class OldHook(Good):
    def training_epoch_end(self, outputs: Any) -> None: ...


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (
            NoStep,
            "NoStep defines no training_step(self, batch, batch_idx), which the Trainer needs. Did you mean it by",
        ),
        (NoStep, "'train_step'"),
        (NoOptimizers, "NoOptimizers defines no configure_optimizers(self)"),
        (NoOptimizers, "Did you mean it by 'configure_optimizer'?"),
        (NoInit, "NoInit.__init__ must call super().__init__() first"),
        (OldHook, "training_epoch_end, which is never called; name it on_train_epoch_end(self)"),
        (lambda: Good, "got the class Good; pass an instance: Good(…)"),
        (lambda: fw.nn.Linear(2, 2), "needs a fw.TrainModule, got Linear"),
    ],
)
def test_modules(trainer: Any, make: Any, words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        trainer().fit(make(), loader())
    assert words in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def with_step(step: Any) -> fw.TrainModule:
    module = Good()
    object.__setattr__(module, "training_step", lambda batch, batch_idx: step(module, batch))
    return module


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (lambda m, b: {"los": 1, "acc": 2}, "a dict without a 'loss'; its keys are 'los', 'acc'"),
        (lambda m, b: m.layer(b[0]).mean().item(), "got a float. Leave out .item() or float()."),
        (lambda m, b: m.layer(b[0]), "a loss of shape (2, 2); it must be one number"),
        (lambda m, b: m.layer(b[0]).mean().detach(), "no parameter's gradient can come from"),
        (lambda m, b: "loss", "got a str"),
        (lambda m, b: {"loss": None}, "got a NoneType"),
    ],
)
def test_what_training_step_returns(trainer: Any, step: Any, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        trainer(limit_val_batches=0).fit(with_step(step), loader())
    assert "Good.training_step() returned" in str(caught.value) or "Good.training_step() must return" in str(
        caught.value
    )
    assert words in str(caught.value)


def sgd(module: Any) -> Any:
    return fw.optim.SGD(module.parameters(), lr=0.1)


def step_lr(optimizer: Any) -> Any:
    return fw.optim.lr_scheduler.StepLR(optimizer, 1)


class NeedsMetric:
    needs_metric = True

    def step(self, metric: float) -> None: ...
    def state_dict(self) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize(
    ("returned", "words"),
    [
        (lambda m: None, "returned None; is a `return` missing?"),
        (lambda m: m.parameters(), "returned generator where an optimizer of fw.optim is expected"),
        (lambda m: [], "returned nothing where"),
        (lambda m: [sgd(m), sgd(m)], "returned 2 optimizers; one is used"),
        (lambda m: {"optimiser": sgd(m)}, "unknown key 'optimiser'. Did you mean 'optimizer'?"),
        (lambda m: {"optimizer": sgd(m), "lr_scheduler": 3}, "a scheduler has a method step(), got 3"),
        (
            lambda m: ([o := sgd(m)], [{"scheduler": step_lr(o), "intervall": "step"}]),
            "unknown key 'intervall' of a scheduler. Did you mean 'interval'?",
        ),
        (lambda m: ([o := sgd(m)], [{"scheduler": step_lr(o), "interval": "steps"}]), "Did you mean 'step'?"),
        (lambda m: ([o := sgd(m)], [{"scheduler": step_lr(o), "frequency": 0}]), "frequency=0"),
        (lambda m: ([sgd(m)], [step_lr(sgd(m))]), "belongs to another optimizer"),
        (lambda m: ([sgd(m)], [NeedsMetric()]), "NeedsMetric watches a metric"),
    ],
)
def test_what_configure_optimizers_returns(trainer: Any, returned: Any, words: str, tmp_path: Path) -> None:
    module = Good()
    object.__setattr__(module, "configure_optimizers", lambda: returned(module))
    with pytest.raises(ConfigError) as caught:
        trainer(limit_val_batches=0).fit(module, loader())
    assert words in str(caught.value)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "returned",
    [
        sgd,
        lambda m: [sgd(m)],
        lambda m: ([o := sgd(m)], [step_lr(o)]),
        lambda m: {"optimizer": (o := sgd(m)), "lr_scheduler": step_lr(o)},
        lambda m: [{"optimizer": (o := sgd(m)), "lr_scheduler": {"scheduler": step_lr(o), "interval": "step"}}],
    ],
)
def test_forms_of_configure_optimizers_that_are_understood(trainer: Any, returned: Any) -> None:
    module = Good()
    object.__setattr__(module, "configure_optimizers", lambda: returned(module))
    run = trainer(limit_val_batches=0)
    run.fit(module, loader())
    assert run.global_step == 2
    assert len(run.lr_scheduler_configs) <= 1


def test_a_scheduler_whose_metric_nobody_logs(trainer: Any) -> None:
    module = Good()
    settings = {"scheduler": NeedsMetric(), "monitor": "val_los"}
    object.__setattr__(module, "configure_optimizers", lambda: {"optimizer": sgd(module), "lr_scheduler": settings})
    with pytest.raises(ConfigError, match=r"watches 'val_los', which nobody logs.*Did you mean 'val_loss'"):
        trainer().fit(module, loader(), loader())


def test_several_loaders_need_a_dataloader_idx(trainer: Any) -> None:
    with pytest.raises(ConfigError, match=r"there are 2 loaders, but Good.validation_step takes no dataloader_idx"):
        trainer().fit(Good(), loader(), [loader(), loader()])


# -- data ------------------------------------------------------------------------------------------


class NoReturn(Good):
    def train_dataloader(self) -> Any:
        loader()


@pytest.mark.parametrize(
    ("module", "arguments", "words"),
    [
        (Good, {}, "there are no training data: pass trainer.fit(module, train_dataloaders=…)"),
        (NoReturn, {}, "NoReturn.train_dataloader() returned None; is a `return` missing?"),
        (Good, {"train_dataloaders": 5}, "a loader is something to iterate over"),
        (Good, {"train_dataloaders": np.ones((4, 2))}, "which would be taken row by row"),
        (Good, {"train_dataloaders": loader().dataset}, "ArrayDataset is a dataset, not a loader"),
        (Good, {"train_dataloaders": [loader(), loader()]}, "a list of loaders; one loader is used"),
        (Good, {"train_dataloaders": loader(batch_size=9, drop_last=True)}, "has no batches"),
        (Good, {"train_dataloaders": loader(), "datamodule": fw.DataModule()}, "loaders and a datamodule"),
        (Good, {"datamodule": fw.DataModule}, "got the class DataModule; pass an instance"),
        (Good, {"datamodule": [loader()]}, "needs a fw.DataModule, got list"),
    ],
)
def test_data(trainer: Any, module: Any, arguments: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        trainer(limit_val_batches=0).fit(module(), **arguments)
    assert words in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_a_datamodule_in_the_loaders_place(trainer: Any) -> None:
    class Data(fw.DataModule):
        def train_dataloader(self) -> Any:
            return loader()

    run = trainer(limit_val_batches=0)
    run.fit(Good(), Data())
    assert run.global_step == 2


def test_limits_that_do_not_fit_the_data(trainer: Any) -> None:
    with pytest.raises(ConfigError, match=r"limit_train_batches=0.1 of 2 batches is less than one; at least .*=0.5"):
        trainer(limit_train_batches=0.1, limit_val_batches=0).fit(Good(), loader())
    with pytest.raises(ConfigError, match=r"val_check_interval=10 is more than the 2 batches of an epoch"):
        trainer(val_check_interval=10).fit(Good(), loader(), loader())
    with pytest.raises(ConfigError, match="the loader has no length to take a part of"):
        trainer(limit_train_batches=0.5, limit_val_batches=0).fit(Good(), iter(loader()))


def test_validation_that_cannot_be_is_pointed_out(trainer: Any) -> None:
    class Silent(Good):
        validation_step = fw.TrainModule.validation_step

    with pytest.warns(UserWarning, match="there is a validation_step but no validation data"):
        trainer().fit(Good(), loader())
    with pytest.warns(UserWarning, match="there is validation data but no validation_step"):
        trainer().fit(Silent(), loader(), loader())


@pytest.mark.parametrize("labels", [(0, 1, 0, 2), (0, -1, 0, 1)])
def test_labels_out_of_range_are_found_before_the_first_step(trainer: Any, labels: Any, tmp_path: Path) -> None:
    module, bad, good = Good(), loader(labels), loader()
    module.num_classes = 2
    for train, val in ((bad, good), (good, bad)):
        with pytest.raises(DataError, match="labels must lie in 0 … 1 for 2 classes; the label at index"):
            trainer().fit(module, train, val)
    assert list(tmp_path.iterdir()) == []


def test_other_data_are_looked_at_in_the_first_batch_of_each_epoch(trainer: Any) -> None:
    class Growing:
        epoch = 0

        def __len__(self) -> int:
            return 2

        def __iter__(self) -> Any:
            self.epoch += 1
            for _ in range(2):
                yield np.ones((2, 2), np.float32), np.array([0, self.epoch])

    module = Good()
    module.num_classes = 3
    run = trainer(max_epochs=9, limit_val_batches=0)
    with pytest.raises(DataError, match="labels must lie in 0 … 2 for 3 classes; a batch holds 3"):
        run.fit(module, Growing())
    assert run.current_epoch == 2
    assert run.has_begun


# -- checkpoints, evaluation -----------------------------------------------------------------------


def test_checkpoints_that_do_not_fit(trainer: Any, tmp_path: Path) -> None:
    run = trainer(limit_val_batches=0)
    run.fit(Good(), loader())
    path = Path(run.checkpoint_callback.best_model_path)
    weights = tmp_path / "weights"
    run.save_checkpoint(weights, weights_only=True)
    before = sorted(p.name for p in (tmp_path / "runs" / "good").iterdir())
    again = trainer(max_epochs=2, limit_val_batches=0)
    for source, words in (
        (tmp_path / "nothing", "there is no checkpoint at"),
        (path.parent, "is no finished checkpoint"),
        (weights, "holds weights alone, no training to go on with"),
        ("last", "there is no checkpoint in"),
        ("best", "no ModelCheckpoint of this Trainer has saved anything"),
    ):
        again.run_name = "other" if source == "last" else None
        with pytest.raises(CheckpointError) as caught:
            again.fit(Good(), loader(), ckpt_path=source)
        assert words in str(caught.value)
    with pytest.raises(CheckpointError, match="of another shape"):
        trainer(max_epochs=2, limit_val_batches=0).fit(Good(width=5), loader(), ckpt_path=path)
    assert sorted(p.name for p in (tmp_path / "runs" / "good").iterdir()) == before
    trainer(max_epochs=2, limit_val_batches=0).fit(Good(), loader(), ckpt_path="last")
    assert sorted(p.name for p in (tmp_path / "runs" / "good").iterdir()) == before


def test_an_unwritable_folder_is_refused_before_training(trainer: Any, tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file where a folder should be")
    run = trainer(limit_val_batches=0)
    with pytest.raises(ConfigError, match=r"the run folder .* cannot be made: .*default_root_dir"):
        run.fit(Good(), loader())
    assert not run.has_begun


def test_a_state_that_cannot_be_stored_is_named_before_training(trainer: Any, tmp_path: Path) -> None:
    class Odd(Callback):
        def state_dict(self) -> dict[str, Any]:
            return {"thing": {"inner": object()}}

    with pytest.raises(CheckpointError, match=r"callbacks: '.*Odd.thing.inner' is of type object, which a checkpoint"):
        trainer(callbacks=[Odd()], limit_val_batches=0).fit(Good(), loader())
    assert list(tmp_path.iterdir()) == []


def test_two_callbacks_with_one_key(trainer: Any) -> None:
    twins = [EarlyStopping("val_loss"), EarlyStopping("val_loss")]
    with pytest.raises(ConfigError, match="two callbacks with a state have the same state_key"):
        trainer(callbacks=twins).fit(Good(), loader(), loader())


def test_state_of_a_callback_that_is_gone(trainer: Any) -> None:
    run = trainer(callbacks=[EarlyStopping("val_loss"), ModelCheckpoint()])
    run.fit(Good(), loader(), loader())
    with pytest.warns(UserWarning, match="callbacks that this Trainer does not have: EarlyStopping"):
        trainer(max_epochs=2).fit(Good(), loader(), loader(), ckpt_path=run.checkpoint_callback.best_model_path)


@pytest.mark.parametrize("method", ["validate", "test", "predict"])
def test_evaluation(trainer: Any, method: str) -> None:
    run = trainer()
    with pytest.raises(ConfigError, match=rf"trainer.{method}\(\) needs a module"):
        getattr(run, method)()
    if method != "test":
        with pytest.raises(ConfigError, match=rf"there are no data: pass trainer.{method}\(module, dataloaders=…\)"):
            getattr(run, method)(Good())
    else:
        with pytest.raises(ConfigError, match="Good defines no test_step"):
            run.test(Good(), loader())


def test_saving_needs_a_fit(trainer: Any, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"needs a trainer.fit\(\) before it"):
        trainer().save_checkpoint(tmp_path / "c")


def test_the_estimate_is_not_known_before(trainer: Any) -> None:
    with pytest.raises(ConfigError, match=r"is known within trainer.fit"):
        _ = trainer().estimated_stepping_batches


# -- hyper-parameters ------------------------------------------------------------------------------


def test_load_from_checkpoint(trainer: Any, tmp_path: Path) -> None:
    class Derived(Good):
        def __init__(self, activation: Any, width: int = 3, sizes: tuple[int, ...] = (1, 2)) -> None:
            super().__init__(width)
            self.activation = activation

    run, module = trainer(limit_val_batches=0), Derived(fw.nn.functional.relu)
    run.fit(module, loader())
    path = tmp_path / "c"
    run.save_checkpoint(path)
    assert module.hparams == {"activation": fw.nn.functional.relu, "width": 3, "sizes": (1, 2)}
    assert checkpoint.load(path)["hparams"] == {
        "module": {"width": 3, "sizes": [1, 2]},
        "omitted": {"activation": "function"},
    }
    again = Derived.load_from_checkpoint(path, activation=None)
    assert again.hparams == {"activation": None, "width": 3, "sizes": [1, 2]}
    assert again.layer.weight.tolist() == module.layer.weight.tolist()
    with pytest.raises(
        ConfigError, match=r"Derived needs activation, which the checkpoint does not hold \(it has width"
    ):
        Derived.load_from_checkpoint(path)
    with pytest.raises(ConfigError, match=r"no argument 'activatoin'. Did you mean 'activation'"):
        Derived.load_from_checkpoint(path, activatoin=None)
    with pytest.raises(CheckpointError, match="of another shape"):
        Good.load_from_checkpoint(path, width=7)


def test_save_hyperparameters_by_name_and_without() -> None:
    class Named(Good):
        def __init__(self, a: int = 1, b: int = 2, c: int = 3, **rest: Any) -> None:
            super().__init__()

    class Chosen(fw.TrainModule):
        def __init__(self, a: int, b: int, c: int = 3) -> None:
            super().__init__()
            self.save_hyperparameters("a", "b", ignore="b")

    class Wrong(fw.TrainModule):
        def __init__(self, alpha: int) -> None:
            super().__init__()
            self.save_hyperparameters("alpa")

    assert Named(5, d=7).hparams == {"width": 2, "a": 5, "b": 2, "c": 3, "d": 7}
    chosen = Chosen(1, 2)
    assert chosen.hparams == {"a": 1}
    assert chosen.hparams.a == 1
    with pytest.raises(AttributeError, match=r"no hyper-parameter 'aa'. Did you mean 'a'"):
        _ = chosen.hparams.aa
    with pytest.raises(ConfigError, match=r"has no argument 'alpa'. Did you mean 'alpha'"):
        Wrong(1)
    with pytest.raises(ConfigError, match="must be called in __init__"):
        Good().save_hyperparameters()


def test_hyper_parameters_of_module_and_data_must_agree(trainer: Any) -> None:
    class Data(fw.DataModule):
        def __init__(self, width: int) -> None:
            self.save_hyperparameters()

        def train_dataloader(self) -> Any:
            return loader()

    trainer(limit_val_batches=0).fit(Good(width=2), Data(width=2))
    with pytest.raises(ConfigError, match="the hyper-parameter 'width' is 2 in Good and 3 in Data"):
        trainer(limit_val_batches=0).fit(Good(width=2), Data(width=3))
