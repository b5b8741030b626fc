"""A small run with everything in it that a resumed run must continue; also a program that a test can kill.

python toy_run.py ROOT [CHECKPOINT]
"""

from __future__ import annotations

import os
import random
import signal
import sys
from pathlib import Path
from typing import Any

import numpy as np

import framework as fw
from framework.callbacks import Callback, EarlyStopping, LearningRateMonitor, ModelCheckpoint
from framework.interchange import atomic
from framework.nn import functional as F
from framework.train import checkpoint

SAMPLES, CLASSES, BATCH = 60, 3, 8


class ToyModule(fw.TrainModule):
    """Dropout, noise from Python's generator, metric objects, and metrics in every form."""

    def __init__(self, width: int = 6) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.num_classes = CLASSES
        self.first = fw.nn.Linear(4, width)
        self.dropout = fw.nn.Dropout(0.3)
        self.last = fw.nn.Linear(width, CLASSES)
        self.train_accuracy = fw.metrics.Accuracy()
        self.val_accuracy = fw.metrics.Accuracy()

    def forward(self, x: Any) -> Any:
        return self.last(self.dropout(F.relu(self.first(x))))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        logits = self(x * (1.0 + 0.01 * random.random()))
        loss = F.cross_entropy(logits, y)
        self.train_accuracy.update(logits.detach(), y)
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log("train_accuracy", self.train_accuracy)
        self.log("worst", loss, on_step=False, on_epoch=True, reduce_fx="max")
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        logits = self(x)
        self.val_accuracy.update(logits, y)
        self.log("val_loss", F.cross_entropy(logits, y))
        self.log("val_accuracy", self.val_accuracy)

    def configure_optimizers(self) -> Any:
        optimizer = fw.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        schedule = fw.optim.lr_scheduler
        return [optimizer], [
            {"scheduler": schedule.CosineAnnealingLR(optimizer, T_max=9), "interval": "step"},
            {"scheduler": schedule.StepLR(optimizer, step_size=1, gamma=0.9), "interval": "epoch"},
        ]


class Counter(Callback):
    """A callback with a state."""

    def __init__(self) -> None:
        self.batches = 0

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.batches += 1

    def state_dict(self) -> dict[str, Any]:
        return {"batches": self.batches}

    def load_state_dict(self, state: Any) -> None:
        self.batches = state["batches"]


def loaders() -> tuple[fw.data.DataLoader, fw.data.DataLoader]:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((SAMPLES, 4)).astype(np.float32)
    y = rng.integers(0, CLASSES, SAMPLES)
    data = fw.data.ArrayDataset(x, y)
    return fw.data.DataLoader(data, batch_size=BATCH, shuffle=True), fw.data.DataLoader(
        data, batch_size=16, shuffle=True
    )


def make_trainer(root: Path, **changes: Any) -> fw.Trainer:
    arguments: dict[str, Any] = {
        "max_epochs": 3,
        "accumulate_grad_batches": 3,
        "val_check_interval": 4,
        "log_every_n_steps": 2,
        "backend": "cpu",
        "default_root_dir": root,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "callbacks": [
            Counter(),
            LearningRateMonitor(),
            EarlyStopping("val_loss", patience=100),
            ModelCheckpoint(save_top_k=-1),
            ModelCheckpoint(save_top_k=-1, every_n_train_steps=1, filename="{epoch}-{step}-s"),
            ModelCheckpoint(
                monitor="val_loss", save_top_k=2, filename="{epoch}-{step}-v", save_on_train_epoch_end=False
            ),
        ],
    }
    trainer = fw.Trainer(**{**arguments, **changes})
    trainer.run_name = "toy"
    return trainer


def final_state(trainer: fw.Trainer) -> dict[str, Any]:
    """What must be equal in a run that was interrupted and one that was not."""
    from framework.train import resume

    trees = resume.gather(trainer._fit, None)
    rows = (Path(trainer.log_dir) / "metrics.csv").read_text().splitlines()
    names = rows[0].split(",")
    keep = [i for i, name in enumerate(names) if name != "wall_s"]
    kept = [",".join(row.split(",")[i] for i in keep) for row in rows]
    progress = {name: value for name, value in trees["progress"].items() if name != "wall_s"}
    parts = ("optimizer", "lr_schedulers", "loaders", "random", "results")
    trees["random"].pop("numpy", None)  # nobody has seeded that one
    metrics = trees["metrics"]["train_accuracy"]  # that of the validation is empty between two of them
    return {"rows": kept, "progress": progress, "model": trees["model"], "metrics": metrics} | {
        p: trees[p] for p in parts
    }


def main(root: Path, source: str | None) -> int:
    """Train, and write what a test compares.

    `$TOY_SIGNAL`, such as "write 7 KILL", sends this process a signal at that moment.
    """
    fw.seed_everything(3)
    train, val = loaders()
    trainer = make_trainer(root)
    told = os.environ.get("TOY_SIGNAL", "").split()
    if told:
        send(told[0], int(told[1]), [getattr(signal, f"SIG{name}") for name in told[2:]])
    try:
        trainer.fit(ToyModule(), train, val, ckpt_path=source)
    except KeyboardInterrupt as stop:
        print(f"{type(stop).__name__} {getattr(stop, 'checkpoint', None)}")
        return getattr(stop, "exit_code", 1)
    if not checkpoint.is_valid(root / "final"):
        checkpoint.save(root / "final", {"state": final_state(trainer)})
    return 0


def send(kind: str, number: int, signals: list[signal.Signals]) -> None:
    """Send signals in the `number`-th "train" or "validation" step, or half-way through a file's "write"."""
    owner, name = {
        "train": (ToyModule, "training_step"),
        "validation": (ToyModule, "validation_step"),
        "write": (atomic, "write_file"),
    }[kind]
    original = getattr(owner, name)
    calls = iter(range(1, 10**9))

    def interrupted(*args: Any) -> Any:
        if next(calls) == number:
            if kind == "write":
                path, content = args
                original(path, content[: len(content) // 2])
            for one in signals:
                os.kill(os.getpid(), one)
        return original(*args)

    setattr(owner, name, interrupted)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else None))
