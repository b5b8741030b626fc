"""The network of `mnist_mlp.py` without a config: python recipes/mnist_script.py [FOLDER_OF_DATA]."""

from __future__ import annotations

import sys
from typing import Any

import framework as fw


class Net(fw.TrainModule):
    """784-300-100-10, cross-entropy."""

    def __init__(self) -> None:
        super().__init__()
        nn = fw.nn
        self.net = nn.Sequential(
            nn.Flatten(), nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10)
        )
        self.acc = fw.metrics.Accuracy()

    def training_step(self, batch: Any, batch_idx: int) -> fw.Tensor:
        """The loss of one batch."""
        x, y = batch
        loss = fw.nn.functional.cross_entropy(self.net(x), y)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """The accuracy on images that are not trained on."""
        self.measure("val_acc", batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """The accuracy on the test images."""
        self.measure("test_acc", batch)

    def measure(self, name: str, batch: Any) -> None:
        """Log the accuracy; the metric counts over the whole pass."""
        x, y = batch
        self.acc.update(self.net(x), y)
        self.log(name, self.acc, prog_bar=True)

    def configure_optimizers(self) -> dict[str, Any]:
        """Momentum, and a rate that rises to 0.1 and falls to nothing."""
        optimizer = fw.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
        steps = self.trainer.estimated_stepping_batches
        scheduler = fw.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def main(root: str | None = None) -> None:
    """Train on MNIST under `root`, downloading it where it is missing."""
    fw.seed_everything(0)
    normalize = fw.data.transforms.Normalize(0.1307, 0.3081)
    images = fw.data.MNIST(root, train=True, transform=normalize)
    train, val = fw.data.random_split(images, [55_000, 5_000], seed=0)
    test = fw.data.MNIST(root, train=False, transform=normalize)
    net, trainer = Net(), fw.Trainer(max_epochs=10)
    trainer.fit(net, fw.data.DataLoader(train, batch_size=128, shuffle=True), fw.data.DataLoader(val, batch_size=1000))
    trainer.test(net, fw.data.DataLoader(test, batch_size=1000))


if __name__ == "__main__":
    main(*sys.argv[1:2])
