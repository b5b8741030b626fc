"""Mistakes that Lightning has a message for, by their number in docs/lightning.md: ours say at least as much."""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import good_module
import numpy as np
import pytest

import framework as fw
from framework.callbacks import EarlyStopping, ModelCheckpoint
from framework.errors import BackendError, CheckpointError, ConfigError, NonFiniteError, ShapeError


class Good(good_module.Good):
    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test_loss", self.layer(batch[0]).mean())


def but(**methods: Callable[..., Any]) -> fw.TrainModule:
    """A `Good` with other methods."""
    return type("Mine", (Good,), methods)()


def stepping(step: Callable[[Any, Any], Any]) -> fw.TrainModule:
    return but(training_step=lambda self, batch, batch_idx: step(self, batch))


def logging(**arguments: Any) -> fw.TrainModule:
    return stepping(lambda m, b: (m.log("x", **arguments), m.layer(b[0]).mean())[1])


def loader(rows: int = 4) -> fw.data.DataLoader:
    return fw.data.DataLoader(fw.data.ArrayDataset(np.ones((rows, 2), np.float32)), batch_size=2)


def run(*callbacks: Any, **arguments: Any) -> fw.Trainer:
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "backend": "cpu", "max_epochs": 1}
    return fw.Trainer(callbacks=list(callbacks), **{**quiet, **arguments})


def fit(module: Any, *data: Any, callbacks: Any = (), **arguments: Any) -> fw.Trainer:
    trainer = run(*callbacks, **arguments)
    trainer.fit(module, *(data or (loader(), loader())))
    return trainer


def plateau(monitor: str | None) -> fw.TrainModule:
    def configure_optimizers(self: Any) -> Any:
        optimizer = fw.optim.SGD(self.parameters(), lr=0.1)
        scheduler = fw.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
        return {"optimizer": optimizer, "lr_scheduler": scheduler} | ({"monitor": monitor} if monitor else {})

    return but(configure_optimizers=configure_optimizers)


class NoStep(fw.TrainModule):
    def train_step(self, batch: Any, batch_idx: int) -> Any: ...
    def configure_optimizers(self) -> Any: ...


class NoOptimizers(fw.TrainModule):
    def training_step(self, batch: Any, batch_idx: int) -> Any: ...


class NoInit(Good):
    def __init__(self) -> None:
        self.layer = 3


class NeedsWidth(fw.TrainModule):
    training_step, configure_optimizers = Good.training_step, Good.configure_optimizers

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layer = fw.nn.Linear(2, width)


def two(self: Any) -> Any:
    return [fw.optim.SGD(self.parameters(), lr=0.1), fw.optim.SGD(self.parameters(), lr=0.1)]


def saved(weights_only: bool = False, module: Any = None) -> str:
    trainer = run(enable_checkpointing=False, limit_val_batches=0)
    trainer.fit(module or Good(), loader())
    trainer.save_checkpoint("saved", weights_only=weights_only)
    return "saved"


def logged(hook: str, **arguments: Any) -> fw.TrainModule:
    return but(**{hook: lambda self, *args: self.log("x", 1.0, **arguments)})


def logged_twice() -> fw.TrainModule:
    def step(module: Any, batch: Any) -> Any:
        module.log("m", 1.0)
        module.log("m", 1.0, prog_bar=True)
        return module.layer(batch[0]).mean()

    return stepping(step)


ROWS: list[tuple[str, Callable[[], Any], type[Exception], str]] = [
    ("1", lambda: fit(NoStep()), ConfigError, r"NoStep defines no training_step\(self, batch, batch_idx\).*'train_step'"),
    ("2", lambda: fit(NoOptimizers()), ConfigError, r"NoOptimizers defines no configure_optimizers\(self\)"),
    ("3", lambda: run().fit(Good()), ConfigError, r"no training data: pass trainer.fit\(module, train_dataloaders=…\)"),
    ("4", lambda: fit(but(validation_step=fw.TrainModule.validation_step)), UserWarning, "no validation_step"),
    ("4", lambda: fit(Good(), loader()), UserWarning, "a validation_step but no validation data"),
    (
        "4", lambda: fit(Good(), loader(), callbacks=[EarlyStopping("val_loss")], limit_val_batches=0), ConfigError,
        "nothing logs that metric",
    ),
    ("5", lambda: fit(stepping(lambda m, b: {"los": 1})), ConfigError, "a dict without a 'loss'; its keys are 'los'"),
    (
        "6", lambda: fit(stepping(lambda m, b: m.layer(b[0]).mean().item())), ConfigError,
        r"got a float. Leave out .item\(\) or float\(\).",
    ),
    (
        "7", lambda: fit(Good(), callbacks=[EarlyStopping("val_los")]), ConfigError,
        "'val_los'.*Logged so far: 'val_loss'.*Did you mean 'val_loss'",
    ),
    (
        "8", lambda: fit(Good(), callbacks=[ModelCheckpoint(monitor="val_los")]), ConfigError,
        "nothing logs the metric 'val_los'. Logged so far: 'val_loss'. Did you mean",
    ),
    (
        "8", lambda: fit(Good(), callbacks=[ModelCheckpoint(monitor="val_loss")], limit_val_batches=0), ConfigError,
        "nothing logs the metric 'val_loss'",
    ),
    ("9", lambda: fit(plateau(None)), ConfigError, '"monitor": "val_loss"'),
    ("9", lambda: fit(plateau("nope")), ConfigError, "watches 'nope', which nobody logs; logged are 'val_loss'"),
    (
        "10", lambda: fit(but(configure_optimizers=two)), ConfigError,
        r"2 optimizers.*self.automatic_optimization = False.*opt1, opt2 = self.optimizers\(\)",
    ),
    (
        "11", lambda: run().fit(Good(), loader(), datamodule=fw.DataModule()), ConfigError,
        "got loaders and a datamodule; give one of them",
    ),
    ("12", lambda: fit(fw.nn.Linear(2, 2)), ConfigError, "needs a fw.TrainModule, got Linear"),
    ("12", lambda: fit(Good), ConfigError, r"got the class Good; pass an instance: Good\(…\)"),
    ("13", lambda: fit(Good(), 5, loader()), ConfigError, "a loader is something to iterate over.*got 5"),
    (
        "13", lambda: run().fit(but(train_dataloader=lambda self: None)), ConfigError,
        r"Mine.train_dataloader\(\) returned None; is a `return` missing\?",
    ),
    ("14", lambda: run(limit_train_batches=1.5), ConfigError, r"limit_train_batches=1.5.*a float from 0.0 to 1.0"),
    (
        "14", lambda: fit(Good(), limit_train_batches=0.1), ConfigError,
        "limit_train_batches=0.1 of 2 batches is less than one; at least limit_train_batches=0.5",
    ),
    (
        "15", lambda: fit(Good(), val_check_interval=10), ConfigError,
        "val_check_interval=10 is more than the 2 batches.*check_val_every_n_epoch=None.*limit_val_batches=0",
    ),
    ("16", lambda: run(backend="auto", accelerator="gpu"), BackendError, "CuPy|cuda"),
    ("17", lambda: run(backend="auto", accelerator="gpus"), ConfigError, "choose one of auto, cpu.*Did you mean 'gpu'"),
    ("17", lambda: run(precision="32-tru"), ConfigError, "choose one of 32-true.*Did you mean '32-true'"),
    ("17", lambda: run(devices=0), ConfigError, "devices=0: one device is used"),
    ("17", lambda: run(profiler="simpel"), ConfigError, "one of 'simple', 'advanced'.*Did you mean 'simple'"),
    (
        "18", lambda: fit(logged("on_fit_start")), ConfigError,
        r"cannot be used in on_fit_start.*self.logger.log_metrics\(\{…\}, step=…\) works anywhere",
    ),
    ("18", lambda: fit(logged("on_train_epoch_end", on_step=True)), ConfigError, "on_step=True.*belongs to no step"),
    (
        "18", lambda: run().predict(logged("predict_step"), loader()), ConfigError,
        "cannot be used.*belong to no step or epoch",
    ),
    ("19", lambda: fit(logging(value="s")), ConfigError, "a metric is a number, got 's' of type str"),
    ("19", lambda: fit(logging(value=fw.tensor([1.0, 1.0, 1.0]))), ShapeError, r"shape \(3,\).*log value.mean\(\)"),
    ("19", lambda: fit(logging(value={"a": 1.0})), ConfigError, "use self.log_dict"),
    ("20", lambda: fit(logged_twice()), ConfigError, "with other arguments before: prog_bar=False, now True"),
    (
        "21", lambda: fit(Good(), loader(), [loader(), loader()]), ConfigError,
        r"there are 2 loaders.*takes no dataloader_idx: def validation_step\(self, batch, batch_idx, dataloader_idx=0\)",
    ),
    (
        "22", lambda: fit(stepping(lambda m, b: m.manual_backward(m.layer(b[0]).mean()))), ConfigError,
        "set self.automatic_optimization = False",
    ),
    (
        "22", lambda: fit(but(automatic_optimization=False), gradient_clip_val=1.0), ConfigError,
        r"gradient_clip_val would do nothing.*Leave it out, and.*self.clip_gradients\(optimizer, …\)",
    ),
    (
        "23", lambda: run(enable_checkpointing=False).test(Good(), loader(), ckpt_path="best"), CheckpointError,
        "no ModelCheckpoint of this Trainer has saved anything",
    ),
    (
        "23", lambda: run().test(Good(), loader(), ckpt_path="/nope"), CheckpointError, "there is no checkpoint at /nope",
    ),
    (
        "24", lambda: run().fit(Good(), loader(), loader(), ckpt_path=saved(weights_only=True)), CheckpointError,
        r"weights alone, no training to go on with.*Good.load_from_checkpoint\(path\)",
    ),
    (
        "25", lambda: run(ModelCheckpoint(), enable_checkpointing=False), ConfigError,
        "enable_checkpointing=False, but there is a ModelCheckpoint in callbacks",
    ),
    ("25", lambda: ModelCheckpoint(save_top_k=3), ConfigError, r"save_top_k=3\) needs monitor="),
    ("25", lambda: ModelCheckpoint(mode="maxx"), ConfigError, "expected 'min' or 'max'. Did you mean 'max'"),
    (
        "25", lambda: fit(Good(), callbacks=[EarlyStopping("val_loss"), EarlyStopping("val_loss")]), ConfigError,
        "two callbacks with a state have the same state_key.*Define the property state_key",
    ),
    ("26", lambda: Good().trainer, ConfigError, "Good has no Trainer yet"),
    ("26", lambda: Good().load_from_checkpoint("x"), ConfigError, "call it on the class, and use what it gives"),
    (
        "27", lambda: NeedsWidth.load_from_checkpoint(saved(module=NeedsWidth(2))), ConfigError,
        r"NeedsWidth needs width.*it has none: was save_hyperparameters\(\) called.*load_from_checkpoint\(path, width=…\)",
    ),
    ("28", lambda: fit(NoInit()), ConfigError, r"NoInit.__init__ must call super\(\).__init__\(\) first"),
    (
        "29", lambda: fit(stepping(lambda m, b: m.layer(b[0]).mean().detach())), ConfigError,
        r"training_step\(\) returned a loss that no parameter's gradient can come from.*detach\(\)",
    ),
    (
        "29", lambda: fit(stepping(lambda m, b: m.layer(b[0]))), ConfigError,
        r"Mine.training_step\(\) returned a loss of shape \(2, 2\); it must be one number",
    ),
    (
        "30", lambda: fit(stepping(lambda m, b: m.layer(b[0]).mean() * math.nan)), NonFiniteError,
        "step 1: the loss is nan.*The update was not applied",
    ),
]  # fmt: skip


@pytest.mark.parametrize(
    ("number", "mistake", "error", "words"), ROWS, ids=[f"{n}-{i}" for i, (n, *_) in enumerate(ROWS)]
)
def test_each_mistake_is_answered(
    number: str,
    mistake: Callable[[], Any],
    error: type[Exception],
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if number == "16" and importlib.util.find_spec("cupy") is not None:
        pytest.skip("there may be a GPU")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=rf"(?s){words}"):
        mistake()


def test_every_row_is_here_but_the_command_lines() -> None:
    assert {int(number) for number, *_ in ROWS} == set(range(1, 32)) - {31}  # 31: each run has a folder of its own


def test_row_31_two_runs_of_one_config_have_two_folders(tmp_path: Path) -> None:
    folders = [Path(fit(Good(), default_root_dir=tmp_path).log_dir).name for _ in range(2)]
    assert folders == ["version_0", "version_1"]
