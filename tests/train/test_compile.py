"""`Trainer(compile=True)`: the run is that of the eager one, and most steps are replays."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework.errors import CompileWarning

nn = fw.nn
EPOCHS, STEPS, ROWS = 3, 20, 8


class Rows(fw.loggers.Logger):
    """Keeps rows in memory."""

    name, version = "rows", 0

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Any] = []

    def log_metrics(self, metrics: dict[str, float], step: int) -> None:
        self.rows.append((step, {name: value for name, value in metrics.items() if name != "wall_s"}))

    def log_hyperparams(self, params: Any) -> None:
        pass


class Module(fw.TrainModule):
    def __init__(self, change: Callable[..., Any] | None = None) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.3), nn.Linear(5, 3))
        self.loss = nn.CrossEntropyLoss()
        self.change = change
        self.alpha = 1.0
        self.settings: dict[str, Any] = {}
        self.accuracy = fw.metrics.Accuracy()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        logits = self.net(x)
        loss = self.loss(logits, y)
        if self.change is not None:
            loss = self.change(self, loss, batch_idx)
        self.accuracy.update(logits, y)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        self.log("accuracy", self.accuracy)
        self.log("alpha", self.alpha)
        return {"loss": loss, "logits": logits.detach()}

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("val_loss", self.loss(self.net(x), y))

    def configure_optimizers(self) -> Any:
        optimizer = fw.optim.AdamW(self.parameters(), lr=0.01)
        schedule = fw.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=EPOCHS * STEPS)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def loader(drop: int = 0) -> Any:
    rng = np.random.default_rng(0)
    n = STEPS * ROWS - drop
    data = fw.data.ArrayDataset(rng.normal(size=(n, 6)).astype(np.float32), rng.integers(0, 3, n))
    return fw.data.DataLoader(data, batch_size=ROWS, shuffle=True, seed=4)


def run(
    folder: Path, compile: bool, change: Any = None, callbacks: Any = (), module: Any = Module, **options: Any
) -> Any:
    fw.seed_everything(1)
    random.seed(1)
    model, rows = module(change), Rows()
    settings = {"max_epochs": EPOCHS, "enable_checkpointing": False, "log_every_n_steps": 1, **options}
    trainer = fw.Trainer(
        logger=rows, callbacks=list(callbacks), compile=compile, enable_progress_bar=False,
        enable_model_summary=False, default_root_dir=folder, **settings,
    )  # fmt: skip
    trainer.fit(model, loader(), loader(drop=3))
    replayed = trainer._fit.compiled.compiled.replayed if compile and trainer._fit.compiled else 0
    return {name: t.detach().numpy() for name, t in model.state_dict().items()}, rows.rows, replayed


class SetsAlpha(fw.callbacks.Callback):
    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        pl_module.alpha = 1.0 + trainer.current_epoch


class LoadsAndFreezes(fw.callbacks.Callback):
    """Goes back to the first weights at step 25; freezes a layer from step 30 to 40."""

    saved: Any = None

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == 0:
            self.saved = {name: t.detach().clone() for name, t in pl_module.state_dict().items()}
        if trainer.global_step == 25:
            pl_module.load_state_dict(self.saved)
        if trainer.global_step in (30, 40):
            pl_module.net[0].requires_grad_(trainer.global_step == 40)


def logs(module: Any, loss: Any, index: int) -> Any:
    """Values of all kinds: numbers of the call, Python's, NumPy's, Tensors."""
    module.log("beta", min(1.0, 0.1 * module.current_epoch))
    module.log("updates", module.trainer.global_step + 1)
    module.log("index", index)
    module.log("numpy", np.float64(2.5))
    module.log_dict({"twice": loss * 2, "half": loss.detach() / 2}, on_epoch=True)
    return loss


RATES = {"rate": 1.0}


class SetsRate(fw.callbacks.Callback):
    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        RATES["rate"] = 1.0 + trainer.current_epoch


class FillsSettings(fw.callbacks.Callback):
    def __init__(self) -> None:
        self.rate = 1.0

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.rate += 1
        pl_module.settings["rate"] = 1.0 + trainer.current_epoch
        pl_module.settings["callback"] = self


def rate_of(module: Any) -> Any:
    return module.settings["rate"] * module.settings["callback"].rate


class KeepsOutputs(fw.callbacks.Callback):
    def __init__(self) -> None:
        self.kept: list[Any] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.kept.append((outputs["logits"], outputs["logits"].numpy().copy()))


CASES = {
    "plain": {},
    "the epoch in the loss": {"change": lambda m, loss, i: loss * (1 + m.current_epoch)},
    "the count of updates in the loss": {"change": lambda m, loss, i: loss * (1 + m.global_step) / 10},
    "the trainer's epoch in the loss": {"change": lambda m, loss, i: loss * (1 + m.trainer.current_epoch)},
    "the trainer's updates in an if": {"change": lambda m, loss, i: loss * 2 if m.trainer.global_step < 30 else loss},
    "values of all kinds logged": {"change": logs},
    "a Python value that a callback sets": {
        "change": lambda m, loss, i: loss * RATES["rate"], "callbacks": lambda: [SetsRate()],
    },
    "batch_idx in arithmetic": {"change": lambda m, loss, i: loss * (1 + i) / 10},
    "batch_idx in an if": {"change": lambda m, loss, i: loss * 2 if i % 2 == 0 else loss * 3},
    "an attribute that a callback sets": {
        "change": lambda m, loss, i: loss * m.alpha, "callbacks": lambda: [SetsAlpha()],
    },
    "a container of the module that a callback fills": {
        "change": lambda m, loss, i: loss * rate_of(m), "callbacks": lambda: [FillsSettings()],
    },
    "the rate in the loss": {
        "change": lambda m, loss, i: loss * (1 + m.trainer.optimizers[0].param_groups[0]["lr"]),
    },
    "the last batch in an if": {"change": lambda m, loss, i: loss * 2 if m.trainer.is_last_batch else loss},
    "accumulation": {"accumulate_grad_batches": 3},
    "clipping by norm": {"gradient_clip_val": 0.3},
    "clipping by value": {"gradient_clip_val": 0.01, "gradient_clip_algorithm": "value"},
    "validation within epochs": {"val_check_interval": 5},
    "weights loaded and layers frozen": {"callbacks": lambda: [LoadsAndFreezes()]},
    "float64": {"precision": "64-true"},
    "the strict backend": {"backend": "strict", "limit_train_batches": 20},
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_eager_equals_compiled(case: str, tmp_path: Path) -> None:
    options = dict(CASES[case])
    callbacks = options.pop("callbacks", list)
    weights, rows, _ = run(tmp_path / "a", False, callbacks=callbacks(), **options)
    weights_compiled, rows_compiled, replayed = run(tmp_path / "b", True, callbacks=callbacks(), **options)
    assert weights.keys() == weights_compiled.keys()
    for name, array in weights.items():
        np.testing.assert_array_equal(array, weights_compiled[name], err_msg=name)
    assert rows == rows_compiled
    assert replayed >= 50


def counts(module: Any, loss: Any, index: int) -> Any:
    module.n = getattr(module, "n", 0) + 1
    return loss * module.n


COUNTED = [0]


def warms_up(module: Any, loss: Any, index: int) -> Any:
    COUNTED[0] += 1
    return loss * 2 if COUNTED[0] % 60 > 10 else loss


NOT_REPLAYED = {
    "Python state of ones own": (warms_up, "the call changes 'COUNTED'"),
    "a Python counter": (counts, "'n' of Module is set"),
    "random.random": (lambda m, loss, i: loss * random.random(), "the constant .* of multiply became"),
    "metrics of the trainer": (
        lambda m, loss, i: loss * (1 + m.trainer.callback_metrics.get("val_loss", 0.0)),
        "trainer.callback_metrics is read",
    ),
    "a sign to stop": (
        lambda m, loss, i: (setattr(m.trainer, "should_stop", i == 15), loss)[1],
        "'should_stop' of Trainer is set",
    ),
    "a value that is read": (lambda m, loss, i: loss * min(loss.item(), 1.0), "a value is read"),
}


@pytest.mark.parametrize("case", NOT_REPLAYED)
def test_what_cannot_be_replayed_runs_eagerly_with_one_warning_that_names_the_line(case: str, tmp_path: Path) -> None:
    change, reason = NOT_REPLAYED[case]
    weights, rows, _ = run(tmp_path / "a", False, change)
    with pytest.warns(CompileWarning, match=f"Module.training_step .*{reason}.*test_compile.py:") as caught:
        weights_compiled, rows_compiled, replayed = run(tmp_path / "b", True, change)
    assert len([w for w in caught if w.category is CompileWarning]) == 1
    for name, array in weights.items():
        np.testing.assert_array_equal(array, weights_compiled[name], err_msg=name)
    assert rows == rows_compiled
    assert replayed == 0


def test_outputs_that_a_callback_keeps_never_change(tmp_path: Path) -> None:
    keeps = KeepsOutputs()
    *_, replayed = run(tmp_path, True, callbacks=[keeps])
    assert replayed >= 50
    assert len(keeps.kept) == EPOCHS * STEPS
    for kept, copy in keeps.kept:
        np.testing.assert_array_equal(kept.numpy(), copy)


def test_a_batch_may_be_skipped(tmp_path: Path) -> None:
    class Skips(Module):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            return None if batch_idx % 4 == 3 else super().training_step(batch, batch_idx)

    weights, rows, _ = run(tmp_path / "a", False, module=Skips)
    weights_compiled, rows_compiled, replayed = run(tmp_path / "b", True, module=Skips)
    for name, array in weights.items():
        np.testing.assert_array_equal(array, weights_compiled[name], err_msg=name)
    assert rows == rows_compiled
    assert replayed >= 50


def test_a_hook_between_the_passes_is_honoured(tmp_path: Path) -> None:
    seen = []

    class Looks(fw.callbacks.Callback):
        def on_before_backward(self, trainer: Any, pl_module: Any, loss: Any) -> None:
            seen.append(loss.item())

    with pytest.warns(CompileWarning, match="on_before_backward"):
        run(tmp_path, True, callbacks=[Looks()], max_epochs=1)
    assert len(seen) == STEPS


def test_a_resumed_compiled_run_ends_in_the_same_bits(tmp_path: Path) -> None:
    def fit(folder: Path, compile: bool, **options: Any) -> Any:
        fw.seed_everything(1)
        model = Module()
        trainer = fw.Trainer(
            max_epochs=EPOCHS, logger=False, compile=compile, enable_progress_bar=False, enable_model_summary=False,
            default_root_dir=folder, **options,
        )  # fmt: skip
        return model, trainer

    model, trainer = fit(tmp_path / "whole", False)
    trainer.fit(model, loader(), loader(drop=3))
    checkpoint = fw.callbacks.ModelCheckpoint(every_n_train_steps=27, save_top_k=-1)
    part, part_trainer = fit(tmp_path / "part", True, callbacks=[checkpoint], max_steps=27)
    part_trainer.fit(part, loader(), loader(drop=3))
    again = fw.callbacks.ModelCheckpoint(every_n_train_steps=27, save_top_k=-1)
    rest, rest_trainer = fit(tmp_path / "part", True, callbacks=[again])
    rest_trainer.fit(rest, loader(), loader(drop=3), ckpt_path="last")
    for name, t in model.state_dict().items():
        np.testing.assert_array_equal(t.detach().numpy(), rest.state_dict()[name].detach().numpy(), err_msg=name)


def test_without_compile_nothing_is_recorded(tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        *_, replayed = run(tmp_path, False, counts, max_epochs=1)
    assert replayed == 0
