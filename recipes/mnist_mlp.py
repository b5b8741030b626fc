"""A 784-300-100-10 network on MNIST.

    fw train configs/mnist_mlp.yaml

reaches about 98.5 % on the test images in ten epochs.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np

import framework as fw


class MnistMLP(fw.TrainModule):
    """Linear layers with ReLU between them, trained with cross-entropy.

    Args:
        hidden: the widths of the hidden layers.
        num_classes: how many there are.
    """

    def __init__(self, hidden: tuple[int, ...] = (300, 100), num_classes: int = 10) -> None:
        super().__init__()
        self.save_hyperparameters()
        widths = [28 * 28, *hidden]
        layers: list[fw.nn.Module] = [fw.nn.Flatten()]
        for before, after in pairwise(widths):
            layers += [fw.nn.Linear(before, after), fw.nn.ReLU()]
        self.net = fw.nn.Sequential(*layers, fw.nn.Linear(widths[-1], num_classes))
        self.loss = fw.nn.CrossEntropyLoss()
        self.val_acc = fw.metrics.Accuracy()
        self.test_acc = fw.metrics.Accuracy()

    def forward(self, x: fw.Tensor) -> fw.Tensor:
        """Images (batch, 28, 28) to logits (batch, num_classes)."""
        return self.net(x)

    def training_step(self, batch: Any, batch_idx: int) -> fw.Tensor:
        """The loss of one batch."""
        x, y = batch
        loss = self.loss(self(x), y)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Loss and accuracy on held-out training images."""
        x, y = batch
        logits = self(x)
        self.val_acc.update(logits, y)
        self.log("val_loss", self.loss(logits, y), prog_bar=True)
        self.log("val_acc", self.val_acc, prog_bar=True)

    def test_step(self, batch: Any, batch_idx: int) -> fw.Tensor:
        """Loss and accuracy on the test images; gives the logits, for the pictures."""
        x, y = batch
        logits = self(x)
        self.test_acc.update(logits, y)
        self.log("test_loss", self.loss(logits, y))
        self.log("test_acc", self.test_acc)
        return logits

    def predict_step(self, batch: Any, batch_idx: int) -> dict[str, fw.Tensor]:
        """The most probable class of each image and the probabilities of all."""
        probability = fw.nn.functional.softmax(self(batch[0]), dim=-1)
        return {"label": probability.argmax(-1), "probability": probability}

    def configure_optimizers(self) -> dict[str, Any]:
        """What the config's `optimizer` and `lr_scheduler` say instead, where it has them."""
        optimizer = fw.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        steps = self.trainer.estimated_stepping_batches
        scheduler = fw.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


class MnistData(fw.DataModule):
    """MNIST: 55,000 images to train on, 5,000 to validate on, 10,000 to test on; always the same split.

    Args:
        root: folder of data; left out, `$FW_DATA`, else `~/.cache/framework`. Missing files are downloaded.
        batch_size: images in a training batch; -1 for all of them.
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
        normalize = fw.data.transforms.Normalize(0.1307, 0.3081)
        try:
            images = fw.data.MNIST(self.root, train=True, transform=normalize)
            self.test_set = fw.data.MNIST(self.root, train=False, transform=normalize)
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
            self.train_set = fw.data.Digits("train", transform=normalize)
            self.val_set = fw.data.Digits("validation", transform=normalize)
            self.test_set = fw.data.Digits("test", transform=normalize)
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
        n = self.batch_size if self.batch_size > 0 else 128
        return fw.random.normal((n, 28, 28)).numpy(), fw.random.integers(10, shape=(n,)).numpy()


class Pictures(fw.callbacks.Callback):
    """Pictures in the run's folder, and in W&B where that is a logger; without matplotlib one line instead.

    After training `learning_curves.png`; after the test `confusion_matrix.png` and `misclassified.png`.

    Args:
        misclassified: how many wrong answers to show, the most certain ones first.
    """

    def __init__(self, misclassified: int = 40) -> None:
        self.misclassified = misclassified
        self.draws = importlib.util.find_spec("matplotlib") is not None
        self.told = False

    def setup(self, trainer: fw.Trainer, pl_module: fw.TrainModule, stage: str) -> None:
        """Say once where there will be no pictures."""
        if not self.draws and not self.told:
            trainer.print("no pictures: they need matplotlib, pip install 'fw-framework[plots]'")
            self.told = True

    def on_fit_end(self, trainer: fw.Trainer, pl_module: fw.TrainModule) -> None:
        """Draw what was logged, from the run's own file: a resumed run has all of it."""
        if not self.draws or trainer.log_dir is None or not trainer.global_step:
            return
        file = Path(trainer.log_dir) / "metrics.jsonl"
        rows = [json.loads(row) for row in file.read_text(encoding="utf-8").splitlines()] if file.exists() else []
        if not rows or rows[-1]["step"] < trainer.global_step:  # the last row is written when all is logged
            rows.append({"step": trainer.global_step, **trainer.callback_metrics})
        self.keep(trainer, "learning_curves", draw_curves(rows))

    def on_test_start(self, trainer: fw.Trainer, pl_module: fw.TrainModule) -> None:
        """Begin to count."""
        self.confusion = fw.metrics.ConfusionMatrix(num_classes=pl_module.hparams["num_classes"])
        self.wrong: list[tuple[float, Any, int, int]] = []

    def on_test_batch_end(
        self,
        trainer: fw.Trainer,
        pl_module: fw.TrainModule,
        outputs: fw.Tensor,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Count the answers; remember the wrong ones."""
        if not self.draws or trainer.log_dir is None:
            return
        images, labels = batch
        self.confusion.update(outputs, labels)
        certain = fw.nn.functional.softmax(outputs, dim=-1).numpy()
        answers, labels = certain.argmax(-1), labels.numpy()
        places = (answers != labels).nonzero()[0]
        shown = images.numpy()[places]  # a copy
        for image, place in zip(shown, places):
            answer = int(answers[place])
            self.wrong.append((float(certain[place, answer]), image, int(labels[place]), answer))

    def on_test_end(self, trainer: fw.Trainer, pl_module: fw.TrainModule) -> None:
        """Draw what was counted."""
        if not self.draws or trainer.log_dir is None:
            return
        self.keep(trainer, "confusion_matrix", draw_confusion(self.confusion.compute().tolist()))
        worst = sorted(self.wrong, key=lambda found: -found[0])[: self.misclassified]
        if worst:
            self.keep(trainer, "misclassified", draw_misclassified(worst, len(self.wrong)))

    def keep(self, trainer: fw.Trainer, name: str, figure: Any) -> None:
        """Write a picture, and hand it to the loggers that take some."""
        path = Path(str(trainer.log_dir)) / f"{name}.png"
        figure.savefig(path, dpi=120)
        for logger in trainer.loggers:
            if hasattr(logger, "log_image"):
                logger.log_image(name, [str(path)], step=trainer.global_step)


def draw_curves(rows: list[dict[str, Any]]) -> Any:
    """Loss, accuracy and learning rate against the number of updates."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6))  # a layout that is sought for takes as long again as the drawing
    figure.subplots_adjust(left=0.06, right=0.99, top=0.92, bottom=0.14, wspace=0.2)
    panels = {
        "loss": ["train_loss", "val_loss"],
        "accuracy": ["val_acc"],
        "learning rate": sorted({name for row in rows for name in row if name.startswith("lr-")}),
    }
    for axes, (title, names) in zip(figure.subplots(1, len(panels)), panels.items()):
        for name in names:
            points = [(row["step"], row[name]) for row in rows if row.get(name) is not None]
            if points:
                axes.plot(*zip(*points), label=name, marker="o" if name.startswith("val") else "", markersize=4)
        if axes.lines:
            axes.legend(frameon=False)
        if title == "accuracy" and axes.lines:
            best = max(axes.lines[0].get_ydata())
            axes.yaxis.set_major_formatter(lambda value, _: f"{value:.1%}")
            axes.axhline(best, color="gray", linewidth=0.7, linestyle=":")
            axes.annotate(f"best {best:.2%}", (0.02, best), xycoords=("axes fraction", "data"), va="top")
        if title == "loss":
            axes.set_yscale("log")
        axes.set(title=title, xlabel="updates", xlim=(0, 1.02 * max((row["step"] for row in rows), default=1)))
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def draw_confusion(counts: list[list[int]]) -> Any:
    """How often each digit (row) was taken for each (column); the colour is of the mistakes."""
    from matplotlib.figure import Figure

    classes = range(len(counts))
    right, whole = sum(counts[i][i] for i in classes), sum(map(sum, counts))
    figure = Figure(figsize=(6.4, 6.2))
    axes = figure.add_axes((0.09, 0.09, 0.9, 0.85))
    mistakes = [[0 if i == j else counts[i][j] for j in classes] for i in classes]
    most = max(map(max, mistakes)) or 1
    axes.imshow(mistakes, cmap="Reds", vmin=0, vmax=1.3 * most)
    for i in classes:
        for j in classes:
            style = {"fontweight": "bold"} if i == j else {"color": "black" if mistakes[i][j] < most else "white"}
            axes.text(j, i, str(counts[i][j] or "·"), ha="center", va="center", fontsize=9, **style)
    axes.set(xticks=classes, yticks=classes, xlabel="answer", ylabel="digit")
    axes.set_title(f"{right:,} of {whole:,} right ({right / max(whole, 1):.2%})")
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    return figure


def draw_misclassified(worst: list[tuple[float, Any, int, int]], count: int) -> Any:
    """The images with their digit, the answer, and how certain that was."""
    from matplotlib.figure import Figure

    columns, side, cell = 8, len(worst[0][1]), 42
    lines = -(-len(worst) // columns)
    page = np.zeros((lines * cell, columns * cell))  # one image of all: forty pairs of axes take a second to draw
    figure = Figure(figsize=(columns * 1.15, lines * 1.25 + 0.5))
    axes = figure.add_axes((0, 0, 1, 1 - 0.5 / (lines * 1.25 + 0.5)))
    axes.axis("off")
    for place, (certain, image, digit, answer) in enumerate(worst):
        top, left = place // columns * cell + cell - side - 2, place % columns * cell + (cell - side) // 2
        page[top : top + side, left : left + side] = (image - image.min()) / (np.ptp(image) or 1)
        axes.text(left + side / 2, top - 3, f"{digit} → {answer}  {certain:.0%}", ha="center", fontsize=9)
    axes.imshow(page, cmap="gray_r", interpolation="nearest", aspect="auto")
    figure.suptitle(f"{len(worst)} of the {count} wrong answers, the most certain first: digit → answer")
    return figure
