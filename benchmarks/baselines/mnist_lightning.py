"""What `fw train configs/mnist_mlp.yaml` does, written for Lightning: same data, split, model and hyper-parameters.

    python mnist_lightning.py FOLDER_WITH_THE_FOUR_FILES [EPOCHS] [SEED]

Images stay uint8 in memory and are normalized a batch at a time, the accuracy is counted by hand, and no
worker processes are started: the leanest of the usual ways to feed so small a set, and none of them is
quicker. Torch has the threads that `OMP_NUM_THREADS` says. The last line is the test accuracy.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import LearningRateMonitor, ModelCheckpoint
from torch.utils.data import DataLoader, TensorDataset, random_split

sys.path.insert(0, str(Path(__file__).resolve().parent))
import arrays


class MnistMLP(lightning.LightningModule):
    """784-300-100-10, cross-entropy."""

    def __init__(self) -> None:
        super().__init__()
        nn = torch.nn
        self.net = nn.Sequential(nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))
        self.loss = nn.CrossEntropyLoss()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net((x * (1 / 255) - arrays.MEAN) / arrays.STD)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        x, y = batch
        loss = self.loss(self(x), y)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.measure("val", batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.measure("test", batch)

    def measure(self, name: str, batch: Any) -> None:
        x, y = batch
        logits = self(x)
        self.log(f"{name}_loss", self.loss(logits, y), prog_bar=True)
        self.log(f"{name}_acc", (logits.argmax(-1) == y).float().mean(), prog_bar=True)

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        steps = int(self.trainer.estimated_stepping_batches)
        scheduler = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def tensors(folder: Path, part: str) -> TensorDataset:
    """Images uint8 (n, 784) and labels."""
    x, y = arrays.mnist(folder, part)
    return TensorDataset(torch.from_numpy(x.reshape(len(x), -1).copy()), torch.from_numpy(y))


def main(folder: str, epochs: str = "10", seed: str = "0") -> None:
    """Fit, then test on the checkpoint."""
    warnings.simplefilter("ignore")
    lightning.seed_everything(int(seed))
    generator = torch.Generator().manual_seed(0)
    train, val = random_split(tensors(Path(folder), "train"), [55_000, 5_000], generator=generator)
    test = tensors(Path(folder), "t10k")
    trainer = lightning.Trainer(
        accelerator="cpu", max_epochs=int(epochs), callbacks=[ModelCheckpoint(), LearningRateMonitor()]
    )
    loaders = DataLoader(train, batch_size=128, shuffle=True), DataLoader(val, batch_size=1000)
    trainer.fit(MnistMLP(), *loaders)
    found = trainer.test(dataloaders=DataLoader(test, batch_size=1000), ckpt_path="best", verbose=False)
    print(found[0]["test_acc"])


if __name__ == "__main__":
    main(*sys.argv[1:])
