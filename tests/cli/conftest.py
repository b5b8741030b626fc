"""A user's folder with a module and a config, and `fw` run in it, in this process."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from framework.cli.main import main

MODULE = '''
import numpy as np

import framework as fw


class MyNet(fw.TrainModule):
    def __init__(self, width: int = 4, num_classes: int = 2, hidden: tuple[int, ...] = ()):
        super().__init__()
        self.save_hyperparameters()
        layers = []
        for before, after in zip((3, width, *hidden), (width, *hidden)):
            layers += [fw.nn.Linear(before, after), fw.nn.ReLU()]
        self.net = fw.nn.Sequential(*layers, fw.nn.Linear((width, *hidden)[-1], num_classes))
        self.acc = fw.metrics.Accuracy()

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = fw.nn.functional.cross_entropy(self.net(x), y)
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.acc.update(self.net(x), y)
        self.log("val_acc", self.acc)

    def test_step(self, batch, batch_idx):
        x, y = batch
        self.acc.update(self.net(x), y)
        self.log("test_acc", self.acc)

    def predict_step(self, batch, batch_idx):
        logits = self.net(batch[0])
        return {"label": logits.argmax(-1), "logits": logits}

    def configure_optimizers(self):
        return fw.optim.SGD(self.parameters(), lr=0.1)


class WithTwo(MyNet):
    """Takes one argument less, so that a change of class drops `hidden`."""

    def __init__(self, width: int = 4):
        super().__init__(width)


class MyData(fw.DataModule):
    def __init__(self, batch_size: int = 8, top_label: int = 1):
        super().__init__()
        self.batch_size, self.top_label = batch_size, top_label

    def arrays(self, n=24):
        x = np.linspace(-1, 1, 3 * n, dtype=np.float32).reshape(n, 3)
        y = (np.arange(n) >= n // 2) * self.top_label
        return fw.data.ArrayDataset(x, y.astype(np.int64))

    def train_dataloader(self):
        return fw.data.DataLoader(self.arrays(), batch_size=self.batch_size, shuffle=True)

    def val_dataloader(self):
        return fw.data.DataLoader(self.arrays(), batch_size=8)

    def test_dataloader(self):
        return fw.data.DataLoader(self.arrays(), batch_size=8)

    predict_dataloader = test_dataloader
'''

CONFIG = """\
seed: 1
trainer:
  max_epochs: 2
  backend: cpu
  enable_progress_bar: false
  callbacks:
  - class_path: ModelCheckpoint
    init_args: {monitor: val_acc, mode: max}
model:
  class_path: mynet.MyNet
  init_args:
    width: 5
data:
  class_path: mynet.MyData
optimizer:
  class_path: SGD
  init_args:
    lr: 0.1
    momentum: 0.9
"""


@dataclass
class Outcome:
    code: int
    out: str
    err: str


class Terminal:
    """Runs `fw` in a folder."""

    def __init__(self, folder: Path, capture: pytest.CaptureFixture[str]) -> None:
        self.folder = folder
        self.capture = capture

    def __call__(self, *argv: str) -> Outcome:
        self.capture.readouterr()
        code = main(argv)
        return Outcome(code, *self.capture.readouterr())

    def write(self, name: str, text: str) -> Path:
        file = self.folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        return file

    def refused(self, *argv: str) -> str:
        """The one line with which a command is refused before its first step, leaving nothing behind."""
        before = sorted(self.folder.rglob("*"))
        found = self(*argv)
        assert found.code == 2, found
        assert "Traceback" not in found.err
        assert found.out == ""
        assert found.err.startswith("fw: error: "), found.err
        assert found.err.count("fw: error: ") == 1
        after = [path for path in sorted(self.folder.rglob("*")) if "__pycache__" not in path.parts]
        assert after == [path for path in before if "__pycache__" not in path.parts]
        return found.err.removeprefix("fw: error: ").rstrip("\n")


@pytest.fixture
def clean_imports(monkeypatch):
    """Undo what a command adds to `sys.path` and `sys.modules`."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] in ("mynet", "recipes", "other", "extra"):
            del sys.modules[name]


@pytest.fixture
def fw(tmp_path, monkeypatch, capsys, clean_imports) -> Terminal:
    """`fw` in an empty folder that has `mynet.py` and `my.yaml`."""
    terminal = Terminal(tmp_path, capsys)
    terminal.write("mynet.py", MODULE)
    terminal.write("my.yaml", CONFIG)
    monkeypatch.chdir(tmp_path)
    return terminal
