"""Writes down every hook call of a fit, of ours and of Lightning's, in the same words."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

WHEN = ("start", "end", "epoch_start", "epoch_end", "batch_start", "batch_end")
MODULE = [
    "configure_callbacks", "prepare_data", "setup", "configure_model", "configure_optimizers",
    "on_fit_start", "on_fit_end", "teardown", "on_train_start", "on_train_end", "on_train_epoch_start",
    "on_train_epoch_end", "on_train_batch_start", "on_train_batch_end", "on_before_zero_grad", "on_before_backward",
    "on_after_backward", "on_before_optimizer_step", "backward", "optimizer_step", "optimizer_zero_grad",
    "configure_gradient_clipping", "clip_gradients", "lr_scheduler_step", "training_step", "validation_step", "forward",
    "on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer", "on_save_checkpoint",
    "on_load_checkpoint", "state_dict", "eval", "train", "zero_grad", "on_validation_model_eval",
    "on_validation_model_train", "on_test_model_eval", "on_test_model_train", "test_step", "predict_step",
    *(f"on_{stage}_{when}" for stage in ("validation", "test", "predict") for when in WHEN),
]  # fmt: skip
"""Methods of the module that are written down."""

LIGHTNING_ONLY = ["on_validation_model_zero_grad"]
"""Methods that only Lightning's module has."""

CALLBACK = [
    *(n for n in MODULE if n.startswith("on_") and "batch_transfer" not in n and "_model_" not in n), "setup",
    "teardown", "state_dict", "on_sanity_check_start", "on_sanity_check_end",
]  # fmt: skip
CHECKPOINT = ["on_validation_end", "on_train_epoch_end"]
DATA = [
    "prepare_data", "setup", "teardown", "train_dataloader", "val_dataloader", "test_dataloader", "predict_dataloader",
    "state_dict",
]  # fmt: skip


def recording(base: type, who: str, names: list[str], calls: list[str]) -> type:
    """A subclass of `base` that writes down each call of these methods, then does what `base` does."""

    def make(name: str) -> Any:
        original = getattr(base, name)

        def method(self: Any, *args: Any, **kwargs: Any) -> Any:
            calls.append(f"{who}.{name}")
            return original(self, *args, **kwargs)

        return method

    return type(f"{who}Of{base.__name__}", (base,), {name: make(name) for name in names})


def parts(library: SimpleNamespace, calls: list[str], folder: Path, but: tuple[str, ...] = ()) -> SimpleNamespace:
    """A module, a callback, a callback that saves at the very end, a datamodule and a logger of a library.

    `library` has `Module, Data, Callback, Saver, Logger, layer(), loader(x, y), optimizer(params), scheduler(optimizer)`.
    """

    class Line(library.Module):
        def __init__(self, width: int = 2) -> None:
            super().__init__()
            self.save_hyperparameters()
            self.layer = library.layer()

        def forward(self, x: Any) -> Any:
            return self.layer(x)

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            x, y = batch
            loss = ((self(x) - y) ** 2).mean()
            self.log("train_loss", loss, on_step=True, on_epoch=True)
            return loss

        def validation_step(self, batch: Any, batch_idx: int) -> None:
            x, y = batch
            self.log("val_loss", ((self(x) - y) ** 2).mean())

        def test_step(self, batch: Any, batch_idx: int) -> None:
            self.log("test_loss", self(batch[0]).mean())

        def predict_step(self, batch: Any, batch_idx: int) -> Any:
            return self(batch[0])

        def configure_optimizers(self) -> Any:
            optimizer = library.optimizer(self.parameters())
            return [optimizer], [library.scheduler(optimizer)]

    class Data(library.Data):
        def train_dataloader(self) -> Any:
            return library.loader(4)

        def val_dataloader(self) -> Any:
            return library.loader(2)

        test_dataloader = predict_dataloader = val_dataloader

    class Saver(library.Saver):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 1:
                calls.append("CK.save_checkpoint")
                trainer.save_checkpoint(folder / "saved")

    class Logger(library.Logger):
        name, version = "rows", 0

        def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
            names = sorted(name for name in metrics if name != "epoch")
            calls.append(f"LOG.log_metrics({', '.join(names)} at {step})")

        def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
            calls.append(f"LOG.log_hyperparams({dict(params)})")

        def save(self) -> None:
            calls.append("LOG.save")
            super().save()

        def finalize(self, status: str) -> None:
            calls.append(f"LOG.finalize({status})")

    own = [name for name in MODULE if name not in but] + [name for name in LIGHTNING_ONLY if hasattr(Line, name)]
    return SimpleNamespace(
        module=recording(Line, "LM", own, calls)(),
        callback=recording(library.Callback, "CB", [name for name in CALLBACK if name not in but], calls)(),
        saver=recording(Saver, "CK", CHECKPOINT, calls)(),
        data=recording(Data, "DM", DATA, calls)(),
        logger=Logger(),
    )


def arguments(made: SimpleNamespace, folder: Path) -> dict[str, Any]:
    """What both Trainers are given."""
    return {
        "max_epochs": 2, "num_sanity_val_steps": 1, "log_every_n_steps": 1, "gradient_clip_val": 1.0,
        "callbacks": [made.callback, made.saver], "logger": made.logger, "enable_checkpointing": True,
        "enable_progress_bar": False, "enable_model_summary": False, "default_root_dir": str(folder),
        "accelerator": "cpu",
    }  # fmt: skip


def numbers(samples: int) -> tuple[Any, Any]:
    x = np.random.default_rng(0).standard_normal((samples, 2)).astype(np.float32)
    return x, x[:, :1] - x[:, 1:]


def ours(folder: Path, compile: bool = False, but: tuple[str, ...] = (), entry: str = "fit") -> list[str]:
    """The record of our Trainer's method `entry`, without the methods named in `but`."""
    import framework as fw

    calls: list[str] = []

    class Saver(fw.callbacks.Callback):
        priority = fw.callbacks.ModelCheckpoint.priority

    library = SimpleNamespace(
        Module=fw.TrainModule, Data=fw.DataModule, Callback=fw.callbacks.Callback, Saver=Saver,
        Logger=fw.loggers.Logger, layer=lambda: fw.nn.Linear(2, 1),
        loader=lambda n: fw.data.DataLoader(fw.data.ArrayDataset(*numbers(n)), batch_size=2),
        optimizer=lambda params: fw.optim.SGD(params, lr=0.1),
        scheduler=lambda optimizer: fw.optim.lr_scheduler.StepLR(optimizer, 1),
    )  # fmt: skip
    made = parts(library, calls, folder, but)
    trainer = fw.Trainer(**{**arguments(made, folder), "enable_checkpointing": False, "compile": compile})
    getattr(trainer, entry)(made.module, datamodule=made.data)
    return calls


def lightnings(folder: Path, entry: str = "fit") -> list[str]:
    """The record of Lightning's."""
    import lightning.pytorch as pl
    import torch
    from lightning.pytorch.loggers import Logger

    calls: list[str] = []

    class Base(Logger):
        @property
        def experiment(self) -> Any:
            calls.append("LOG.experiment")
            return None

        def log_graph(self, *args: Any, **kwargs: Any) -> None:
            calls.append("LOG.log_graph")

    library = SimpleNamespace(
        Module=pl.LightningModule, Data=pl.LightningDataModule, Callback=pl.Callback,
        Saver=pl.callbacks.Checkpoint, Logger=Base, layer=lambda: torch.nn.Linear(2, 1),
        loader=lambda n: torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(*map(torch.tensor, numbers(n))), batch_size=2
        ),
        optimizer=lambda params: torch.optim.SGD(params, lr=0.1),
        scheduler=lambda optimizer: torch.optim.lr_scheduler.StepLR(optimizer, 1),
    )  # fmt: skip
    made = parts(library, calls, folder)
    getattr(pl.Trainer(**arguments(made, folder), devices=1), entry)(made.module, datamodule=made.data)
    return calls
