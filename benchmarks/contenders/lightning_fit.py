"""Lightning's Trainer: a fit that stops before each epoch until it is its turn."""

from __future__ import annotations

import time
import warnings
from typing import Any

import lightning
import torch

from benchmarks.contenders import pytorch
from benchmarks.worker import Turns


class MLP(lightning.LightningModule):
    """784-300-100-10 as a user would write it."""

    def __init__(self, threads: int) -> None:
        super().__init__()
        self.net = pytorch.model(threads)
        self.loss = torch.nn.CrossEntropyLoss()

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        """The loss of one batch."""
        x, y = batch
        loss = self.loss(self.net(x), y)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """Momentum."""
        return torch.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)


class EpochByEpoch(lightning.Callback):
    """Waits for a turn before each epoch, and reports how long it took until the next one would begin."""

    def __init__(self, turns: Turns, steps: int) -> None:
        self.turns = turns
        self.steps = steps
        self.start = 0.0

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        """The end of one epoch, checkpoint and rows included, and the beginning of the next."""
        if self.start:
            self.turns.report(seconds=(time.perf_counter() - self.start) / self.steps)
        while self.turns.wait()["do"] == "check":
            self.turns.report(check=None)
        self.start = time.perf_counter()


def fit(turns: Turns, threads: int, batch: int, data: str | None, samples: int) -> None:
    """`Trainer.fit` with all defaults; the figure is a step's."""
    warnings.simplefilter("ignore")
    dataset = torch.utils.data.TensorDataset(*pytorch.tensors(samples, data))
    loader = torch.utils.data.DataLoader(dataset, batch_size=batch, shuffle=True, drop_last=True)
    trainer = lightning.Trainer(accelerator="cpu", max_epochs=1_000_000, callbacks=[EpochByEpoch(turns, len(loader))])
    trainer.fit(MLP(threads), loader)


fit.drives_itself = True  # type: ignore[attr-defined]
