"""Three modules as they are written for Lightning: an autoencoder, a GAN, a classifier with a datamodule."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework.callbacks import EarlyStopping, LearningRateMonitor, ModelCheckpoint
from framework.errors import CompileWarning
from framework.nn import functional as F

nn = fw.nn


def images(samples: int = 240) -> tuple[np.ndarray, np.ndarray]:
    """Bars in eight rows and columns, with noise; the class is the place of the bar."""
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 4, samples)
    x = 0.1 * rng.random((samples, 8, 8), dtype=np.float32)
    for image, label in zip(x, labels):
        image[2 * label : 2 * label + 2] += 0.9
    return x, labels


class LitAutoEncoder(fw.TrainModule):
    """A bottleneck of two numbers."""

    def __init__(self, hidden: int = 24, bottleneck: int = 2) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.encoder = nn.Sequential(nn.Linear(64, hidden), nn.ReLU(), nn.Linear(hidden, bottleneck))
        self.decoder = nn.Sequential(nn.Linear(bottleneck, hidden), nn.ReLU(), nn.Linear(hidden, 64))

    def forward(self, x: Any) -> Any:
        return self.encoder(x.view(x.shape[0], -1))

    def _reconstruction(self, batch: Any) -> Any:
        x, _ = batch
        x = x.view(x.shape[0], -1)
        return F.mse_loss(self.decoder(self.encoder(x)), x)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        loss = self._reconstruction(batch)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self._reconstruction(batch))

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.log("test_loss", self._reconstruction(batch))

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return self(batch[0])

    def configure_optimizers(self) -> Any:
        optimizer = fw.optim.Adam(self.parameters(), lr=1e-2)
        scheduler = fw.optim.lr_scheduler.ReduceLROnPlateau(optimizer, patience=3)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "monitor": "val_loss"}}


class GAN(fw.TrainModule):
    """Draws points on a line; two optimizers, stepped in turns."""

    def __init__(self, latent: int = 3, lr: float = 0.01) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.automatic_optimization = False
        self.generator = nn.Sequential(nn.Linear(latent, 16), nn.Tanh(), nn.Linear(16, 2))
        self.discriminator = nn.Sequential(nn.Linear(2, 16), nn.LeakyReLU(0.2), nn.Linear(16, 1))

    def forward(self, z: Any) -> Any:
        return self.generator(z)

    def adversarial_loss(self, logits: Any, is_real: bool) -> Any:
        target = fw.numpy.ones_like(logits) if is_real else fw.numpy.zeros_like(logits)
        return F.binary_cross_entropy_with_logits(logits, target)

    def training_step(self, batch: Any, batch_idx: int) -> None:
        (real,) = batch
        opt_g, opt_d = self.optimizers()
        z = fw.random.normal((real.shape[0], self.hparams.latent))

        self.toggle_optimizer(opt_g)
        assert not any(p.requires_grad for p in self.discriminator.parameters())
        g_loss = self.adversarial_loss(self.discriminator(self(z)), True)
        self.log("g_loss", g_loss, prog_bar=True)
        self.manual_backward(g_loss)
        opt_g.step()
        opt_g.zero_grad()
        self.untoggle_optimizer(opt_g)

        self.toggle_optimizer(opt_d)
        real_loss = self.adversarial_loss(self.discriminator(real), True)
        fake_loss = self.adversarial_loss(self.discriminator(self(z).detach()), False)
        d_loss = (real_loss + fake_loss) / 2
        self.log("d_loss", d_loss, prog_bar=True)
        self.manual_backward(d_loss)
        opt_d.step()
        opt_d.zero_grad()
        self.untoggle_optimizer(opt_d)

    def configure_optimizers(self) -> Any:
        lr = self.hparams.lr
        opt_g = fw.optim.Adam(self.generator.parameters(), lr=lr, betas=(0.5, 0.999))
        opt_d = fw.optim.Adam(self.discriminator.parameters(), lr=lr, betas=(0.5, 0.999))
        return [opt_g, opt_d], []


class LitClassifier(fw.TrainModule):
    """A convolution, dropout, a schedule by steps, metric objects."""

    def __init__(self, channels: int = 4, lr: float = 0.05, steps: int = 60) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.net = nn.Sequential(
            nn.Conv2d(1, channels, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.1), nn.Linear(9 * channels, 4)
        )  # fmt: skip
        self.val_accuracy = fw.metrics.Accuracy()
        self.test_accuracy = fw.metrics.Accuracy()

    def forward(self, x: Any) -> Any:
        return self.net(x.unsqueeze(1))

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        loss = F.cross_entropy(self(x), y)
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss

    def _evaluate(self, batch: Any, stage: str, accuracy: Any) -> None:
        x, y = batch
        logits = self(x)
        accuracy.update(logits, y)
        self.log_dict({f"{stage}_loss": F.cross_entropy(logits, y), f"{stage}_acc": accuracy}, prog_bar=True)

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self._evaluate(batch, "val", self.val_accuracy)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self._evaluate(batch, "test", self.test_accuracy)

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        return self(batch[0]).argmax(axis=-1)

    def configure_optimizers(self) -> Any:
        optimizer = fw.optim.SGD(self.parameters(), lr=self.hparams.lr, momentum=0.9)
        scheduler = fw.optim.lr_scheduler.OneCycleLR(
            optimizer, max_lr=0.2, total_steps=self.trainer.estimated_stepping_batches
        )
        return [optimizer], [{"scheduler": scheduler, "interval": "step"}]


class Bars(fw.DataModule):
    def __init__(self, batch_size: int = 20) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.prepared: list[str] = []

    def prepare_data(self) -> None:
        self.prepared.append("prepare")

    def setup(self, stage: str) -> None:
        self.prepared.append(stage)
        whole = fw.data.ArrayDataset(*images())
        self.train_set, self.val_set, self.test_set = fw.data.random_split(whole, [160, 40, 40], seed=0)

    def train_dataloader(self) -> Any:
        return fw.data.DataLoader(self.train_set, batch_size=self.hparams.batch_size, shuffle=True)

    def val_dataloader(self) -> Any:
        return fw.data.DataLoader(self.val_set, batch_size=self.hparams.batch_size)

    def test_dataloader(self) -> Any:
        return fw.data.DataLoader(self.test_set, batch_size=self.hparams.batch_size)

    predict_dataloader = test_dataloader


def trainer(folder: Path, *callbacks: Any, **arguments: Any) -> fw.Trainer:
    fw.seed_everything(7)
    quiet = {"backend": "cpu", "enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1}
    return fw.Trainer(**{**quiet, "default_root_dir": folder, "callbacks": list(callbacks), **arguments})


def state(module: fw.nn.Module) -> dict[str, np.ndarray]:
    return {name: t.detach().numpy() for name, t in module.state_dict().items()}


def replayed(run: fw.Trainer) -> int:
    assert run._fit is not None
    assert run._fit.compiled is not None
    return run._fit.compiled.compiled.replayed


def test_an_autoencoder(tmp_path: Path) -> None:
    ends = []
    for compile in (False, True):
        run = trainer(tmp_path / str(compile), ModelCheckpoint(monitor="val_loss"), max_epochs=8, compile=compile)
        module = LitAutoEncoder()
        x, y = images()
        train = fw.data.DataLoader(fw.data.ArrayDataset(x[:200], y[:200]), batch_size=20, shuffle=True)
        val = fw.data.DataLoader(fw.data.ArrayDataset(x[200:], y[200:]), batch_size=20)
        run.fit(module, train, val)
        assert run.callback_metrics["val_loss"] < 0.05 < 0.17  # the variance of the pixels
        assert run.test(module, val, verbose=False)[0]["test_loss"] == pytest.approx(run.callback_metrics["val_loss"])
        assert run.predict(module, val)[0].shape == (20, 2)
        again = LitAutoEncoder.load_from_checkpoint(run.checkpoint_callback.best_model_path)
        assert again.hparams == module.hparams
        ends.append(state(module))
        if compile:
            assert replayed(run) == 80 - 2
    for name, array in ends[0].items():
        np.testing.assert_array_equal(array, ends[1][name], err_msg=name)


def test_a_gan(tmp_path: Path) -> None:
    ends = []
    for compile in (False, True):
        run = trainer(tmp_path / str(compile), max_epochs=40 if not compile else 4, compile=compile)
        module = GAN()
        start = np.random.default_rng(1).standard_normal((320, 1)).astype(np.float32)
        points = np.concatenate([start, 2 * start + 1], axis=1)
        data = fw.data.DataLoader(fw.data.ArrayDataset(points), batch_size=64, shuffle=True)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "compile: automatic_optimization = False", CompileWarning)
            run.fit(module, data)
        assert run.global_step == 2 * 5 * run.max_epochs
        assert all(math.isfinite(run.callback_metrics[name]) for name in ("g_loss", "d_loss"))
        ends.append(Path(run.log_dir).joinpath("metrics.csv").read_text().splitlines()[:20])
        if compile:
            break
        with fw.no_grad():
            drawn = module(fw.random.normal((500, 3))).numpy()
        assert np.abs(drawn.mean(0) - points.mean(0)).max() < 1.0
        assert np.corrcoef(drawn.T)[0, 1] > 0.8
    losses = [[line.split(",")[1:4] for line in lines] for lines in ends]
    assert losses[0] == losses[1]


def test_a_classifier_with_a_datamodule(tmp_path: Path) -> None:
    ends = []
    for compile in (False, True):
        callbacks = [
            EarlyStopping("val_loss", patience=9),
            LearningRateMonitor(),
            ModelCheckpoint(monitor="val_acc", mode="max"),
        ]
        run = trainer(tmp_path / str(compile), *callbacks, max_epochs=8, gradient_clip_val=1.0, compile=compile)
        module, data = LitClassifier(), Bars()
        run.fit(module, datamodule=data)
        assert data.prepared == ["prepare", "fit"]
        assert run.test(datamodule=data, verbose=False)[0]["test_acc"] > 0.9
        predicted = run.predict(module, datamodule=data)
        assert [p.shape for p in predicted] == [(20,), (20,)]
        assert data.prepared == ["prepare", "fit", "prepare", "test", "prepare", "predict"]
        ends.append(state(module))
        if compile:
            assert replayed(run) == 64 - 2
    for name, array in ends[0].items():
        np.testing.assert_array_equal(array, ends[1][name], err_msg=name)
