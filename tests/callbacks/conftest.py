"""A small training with everything in it that a callback could get in the way of."""

from __future__ import annotations

import csv
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework.callbacks import Callback, ModelCheckpoint
from framework.train import resume


class Net(fw.TrainModule):
    def __init__(self, lr: float = 0.05, norm: bool = False, schedule: Any = None, width: int = 5) -> None:
        super().__init__()
        self.save_hyperparameters("lr", "norm", "width")
        self.lr = lr
        between = fw.nn.BatchNorm1d(width) if norm else fw.nn.Tanh()
        self.net = fw.nn.Sequential(fw.nn.Linear(3, width), between, fw.nn.Dropout(0.2), fw.nn.Linear(width, 1))
        self.schedule = schedule

    def loss(self, batch):
        x, y = batch
        return ((self.net(x) - y) ** 2).mean()

    def training_step(self, batch, batch_idx):
        loss = self.loss(batch)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.loss(batch))

    test_step = None

    def configure_optimizers(self):
        optimizer = fw.optim.SGD(self.parameters(), lr=self.lr, momentum=0.9)
        return (
            optimizer if self.schedule is None else {"optimizer": optimizer, "lr_scheduler": self.schedule(optimizer)}
        )


del Net.test_step


def loader(batches: int = 6, size: int = 4, shuffle: bool = True) -> fw.data.DataLoader:
    x = np.random.default_rng(1).normal(size=(batches * size, 3)).astype(np.float32)
    y = (x[:, :1] * x[:, 1:2] + 0.1).astype(np.float32)
    return fw.data.DataLoader(fw.data.ArrayDataset(x, y), batch_size=size, shuffle=shuffle, seed=3)


class Trainer(fw.Trainer):
    """Validates only where there are data for it."""

    def fit(self, model, train_dataloaders=None, val_dataloaders=None, datamodule=None, ckpt_path=None):
        val = [] if val_dataloaders is None else val_dataloaders
        super().fit(model, train_dataloaders, val, ckpt_path=ckpt_path)


def trainer(root: Path, *callbacks: Callback, **arguments: Any) -> fw.Trainer:
    fw.seed_everything(5)
    defaults = {
        "max_epochs": 3,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "log_every_n_steps": 1,
        "num_sanity_val_steps": 0,
    }
    return Trainer(backend="cpu", default_root_dir=root, callbacks=list(callbacks), **{**defaults, **arguments})


def every_step() -> ModelCheckpoint:
    return ModelCheckpoint(save_top_k=-1, every_n_train_steps=1, filename="{step}")


def rows(trainer: fw.Trainer) -> list[dict[str, str]]:
    with open(Path(trainer.log_dir) / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def state(trainer: fw.Trainer, timed: tuple[str, ...] = ("wall_s",)) -> dict[str, Any]:
    """All that must be equal in a run that was resumed and one that was not."""
    trees = resume.gather(trainer._fit, None)
    plain = {name: np.array(value.numpy()) for name, value in trees["model"].items()}
    momentum = {
        str(key): {k: np.array(getattr(v, "_data", v)) for k, v in value.items()}
        for key, value in trees["optimizer"]["state"].items()
    }
    kept = [{k: v for k, v in row.items() if not k.startswith(timed)} for row in rows(trainer)]
    loaders, rates = trees["loaders"], [g["lr"] for g in trees["optimizer"]["param_groups"]]
    return {"model": plain, "momentum": momentum, "rows": kept, "loaders": loaders, "rates": rates}


def check_exact_resume(tmp_path: Path, make: Any, steps: Any, module: Any = Net, **arguments: Any) -> fw.Trainer:
    """From each of `steps` a run goes on exactly as the whole one did; `make()` gives the callbacks."""
    timed = arguments.pop("timed", ("wall_s",))
    whole = trainer(tmp_path / "whole", *make(), every_step(), **arguments)
    whole.fit(module(), loader(), loader(2, shuffle=False))
    expected = state(whole, timed)
    for step in steps:
        again = trainer(tmp_path / f"again{step}", *make(), every_step(), **arguments)
        checkpoint = Path(whole.log_dir) / "checkpoints" / f"step={step}"
        moved = tmp_path / f"from{step}" / f"step={step}"  # another folder: a run of its own
        moved.parent.mkdir()
        moved.symlink_to(checkpoint)
        fw.seed_everything(99)
        again.fit(module(), loader(), loader(2, shuffle=False), ckpt_path=moved)
        assert_same(expected, state(again, timed))
    return whole


def assert_same(a: dict[str, Any], b: dict[str, Any]) -> None:
    for part in ("model", "momentum", "loaders", "rates"):
        np.testing.assert_equal(a[part], b[part], err_msg=part)
    last = b["rows"]
    whole = a["rows"][-len(last) :]
    names = {n for row in last for n, v in row.items() if v}
    for ours, theirs in zip(last, whole):
        assert {n: ours[n] for n in names if ours.get(n)} == {n: theirs.get(n) for n in names if ours.get(n)}


@pytest.fixture(scope="session")
def small() -> SimpleNamespace:
    names = ("Net", "loader", "trainer", "every_step", "rows", "state", "check_exact_resume", "assert_same")
    return SimpleNamespace(**{name: globals()[name] for name in names})
