"""An autoencoder on MNIST: each image through 32 numbers and back.

    fw train configs/autoencoder.yaml
    fw predict configs/autoencoder.yaml --ckpt last --output codes.npz

After each epoch `reconstructions.png` in the run's folder shows digits, and below them what became of them.
"""

from __future__ import annotations

import struct
import sys
import zlib
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

import framework as fw
from framework.nn.functional import sigmoid

SHOWN = 16  # digits in the picture


class Autoencoder(fw.TrainModule):
    """Linear layers down to a code and up again, trained to give back each pixel (Hinton & Salakhutdinov 2006).

    Args:
        hidden: the widths from the image to the code; the way back has the same.
        code: the numbers that an image is squeezed into.
    """

    def __init__(self, hidden: tuple[int, ...] = (512, 128), code: int = 32) -> None:
        super().__init__()
        self.save_hyperparameters()
        widths = [28 * 28, *hidden, code]
        self.encoder = fw.nn.Sequential(fw.nn.Flatten(), *layers(widths))
        self.decoder = fw.nn.Sequential(*layers(widths[::-1]))
        self.loss = fw.nn.BCEWithLogitsLoss()
        self.val_mse = fw.metrics.MeanSquaredError()
        self.test_mse = fw.metrics.MeanSquaredError()

    def forward(self, x: fw.Tensor) -> fw.Tensor:
        """Images (batch, 28, 28), from 0 to 1, to the logits of their pixels, of the same shape."""
        return self.decoder(self.encoder(x)).reshape(x.shape)

    def training_step(self, batch: Any, batch_idx: int) -> fw.Tensor:
        """The loss of one batch; the labels are not used."""
        x = batch[0]
        loss = self.loss(self(x), x)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Loss and squared error on held-out training images, and a picture of the first of them."""
        x = batch[0]
        logits = self(x)
        pixels = sigmoid(logits)
        self.val_mse.update(pixels, x)
        self.log("val_loss", self.loss(logits, x), prog_bar=True)
        self.log("val_mse", self.val_mse)
        if batch_idx == 0 and self.trainer.log_dir is not None:
            rows = [np.hstack(images[:SHOWN].numpy()) for images in (x, pixels)]
            write_png(Path(self.trainer.log_dir) / "reconstructions.png", np.vstack(rows))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Loss and squared error on the test images."""
        x = batch[0]
        logits = self(x)
        self.test_mse.update(sigmoid(logits), x)
        self.log("test_loss", self.loss(logits, x))
        self.log("test_mse", self.test_mse)

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, fw.Tensor]:
        """The code of each image, and the image made of it."""
        code = self.encoder(batch[0])
        return {"code": code, "reconstruction": sigmoid(self.decoder(code)).reshape(batch[0].shape)}

    def configure_optimizers(self) -> dict[str, Any]:
        """What the config's `optimizer` and `lr_scheduler` say instead, where it has them."""
        optimizer = fw.optim.Adam(self.parameters(), lr=2e-3)
        steps = self.trainer.estimated_stepping_batches
        scheduler = fw.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=2e-3, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def layers(widths: list[int]) -> list[fw.nn.Module]:
    """Linear layers between these widths, with ReLU between them."""
    found: list[fw.nn.Module] = []
    for before, after in pairwise(widths):
        found += [fw.nn.Linear(before, after), fw.nn.ReLU()]
    return found[:-1]


def write_png(path: Path, image: np.ndarray) -> None:
    """Write a grey image (height, width), from 0 to 1, as the PNG standard has it (ISO/IEC 15948)."""
    height, width = image.shape
    rows = np.rint(image.clip(0, 1) * 255).astype(np.uint8)
    chunks = {
        b"IHDR": struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0),  # 8 bits a pixel, grey
        b"IDAT": zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)),  # each row as it is
        b"IEND": b"",
    }
    with path.open("wb") as file:
        file.write(b"\x89PNG\r\n\x1a\n")
        for kind, data in chunks.items():
            file.write(struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)))


class MnistData(fw.DataModule):
    """MNIST: 55,000 images to train on, 5,000 to validate on, 10,000 to test on; always the same split.

    Args:
        root: folder of data; left out, `$FW_DATA`, else `~/.cache/framework`. Missing files are downloaded.
        batch_size: images in a training batch.
        fallback: `digits` for the bundled 1,797 digits where MNIST is neither there nor to be had.
    """

    def __init__(
        self, root: str | None = None, batch_size: int = 128, fallback: Literal["digits"] | None = None
    ) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.root = root
        self.batch_size = batch_size
        self.fallback = fallback
        self.dataset_name = ""
        self.minimum_updates: int | None = None

    def setup(self, stage: str) -> None:
        """Read the images; once, whatever the stage."""
        if self.dataset_name:
            return
        from_0_to_1 = fw.data.transforms.Normalize(0.0, 1.0)
        try:
            images = fw.data.MNIST(self.root, train=True, transform=from_0_to_1)
            self.test_set = fw.data.MNIST(self.root, train=False, transform=from_0_to_1)
            self.train_set, self.val_set = fw.data.random_split(images, [55_000, 5_000], seed=0)
            self.dataset_name = "mnist"
        except fw.data.DataUnavailable:
            if self.fallback is None:
                raise
            print(
                "WARNING: MNIST is neither on this machine nor to be had from the network; "
                "using the bundled DIGITS (1,797 images) instead",
                file=sys.stderr,
            )
            self.train_set = fw.data.Digits("train", transform=from_0_to_1)
            self.val_set = fw.data.Digits("validation", transform=from_0_to_1)
            self.test_set = fw.data.Digits("test", transform=from_0_to_1)
            self.dataset_name = "digits"
            self.minimum_updates = 300  # so few images make few updates an epoch

    def train_dataloader(self) -> fw.data.DataLoader:
        """Batches in an order that the seed and the epoch decide."""
        return fw.data.DataLoader(self.train_set, batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self) -> fw.data.DataLoader:
        """The held-out training images."""
        return fw.data.DataLoader(self.val_set, batch_size=1000)

    def test_dataloader(self) -> fw.data.DataLoader:
        """The test images."""
        return fw.data.DataLoader(self.test_set, batch_size=1000)

    def predict_dataloader(self) -> fw.data.DataLoader:
        """The test images."""
        return self.test_dataloader()

    def example_batch(self) -> Any:
        """Noise with labels, which `fw check` uses instead of reading the images."""
        n = self.batch_size
        return fw.random.uniform((n, 28, 28)).numpy(), fw.random.integers(10, shape=(n,)).numpy()
