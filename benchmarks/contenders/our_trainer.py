"""The framework's Trainer: a fit that stops before each epoch until it is its turn."""

from __future__ import annotations

import inspect
import itertools
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import framework as fw
from benchmarks.baselines import arrays
from benchmarks.contenders.ours import compiler, dataset, model, updater
from benchmarks.worker import Turns, UnavailableError, Work
from framework.train import checkpoint

FRAMES: list[int] = []
"""The depth of the stack at the first `training_step`, from and including `Trainer.fit`."""


class MLP(fw.TrainModule):
    """784-300-100-10 as a user would write it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = model()
        self.loss = fw.nn.CrossEntropyLoss()

    def training_step(self, batch: Any, batch_idx: int) -> fw.Tensor:
        """The loss of one batch."""
        if not FRAMES:
            FRAMES.append(depth())
        x, y = batch
        loss = self.loss(self.net(x), y)
        self.log("train_loss", loss, prog_bar=True)
        return loss

    def configure_optimizers(self) -> fw.optim.Optimizer:
        """Momentum."""
        return fw.optim.SGD(self.parameters(), lr=0.01, momentum=0.9)


class OneLayer(MLP):
    """A model so small that a step is nearly nothing but what is around it."""

    def __init__(self) -> None:
        super().__init__()
        self.net = fw.nn.Linear(8, 2)


def depth() -> int:
    """Frames from `training_step`, which called this, up to `Trainer.fit`, both counted."""
    frame, count = sys._getframe(1), 1
    while frame.f_back is not None and frame.f_code is not fw.Trainer.fit.__code__:
        frame, count = frame.f_back, count + 1
    return count


class EpochByEpoch(fw.callbacks.Callback):
    """Waits for a turn before each epoch, and reports how long it took until the next one would begin."""

    def __init__(self, turns: Turns, steps: int, pieces: int) -> None:
        self.turns = turns
        self.steps = steps
        self.pieces = pieces
        self.start = 0.0

    def on_train_epoch_start(self, trainer: Any, module: Any) -> None:
        """The end of one epoch, checkpoint and rows included, and the beginning of the next."""
        if self.start:
            self.turns.report(seconds=(time.perf_counter() - self.start) / self.pieces, frames=FRAMES[0])
        while self.turns.wait()["do"] == "check":
            self.turns.report(check=None)
        self.start = time.perf_counter()


def trainer_options(kind: str) -> dict[str, Any]:
    """`compile=True` where it is wanted.

    Raises:
        UnavailableError: this version's Trainer does not have it.
    """
    if kind == "eager":
        return {}
    if "compile" not in inspect.signature(fw.Trainer).parameters:
        raise UnavailableError("this version's Trainer has no compile=True")
    return {"compile": True}


def fit(turns: Turns, threads: int, batch: int, data: str | None, samples: int, kind: str) -> None:
    """`Trainer.fit` with all defaults; the figure is a step's."""
    loader = fw.data.DataLoader(dataset(samples, data), batch_size=batch, shuffle=True, drop_last=True)
    callback = EpochByEpoch(turns, len(loader), len(loader))
    fw.Trainer(max_epochs=1_000_000, callbacks=[callback], **trainer_options(kind)).fit(MLP(), loader)


def fit_one_layer(turns: Turns, threads: int, steps: int, kind: str, checkpoints: bool) -> None:
    """`Trainer.fit` of the smallest model; the figure is an epoch's."""
    callback = EpochByEpoch(turns, steps, 1)
    options = {} if checkpoints else {"enable_checkpointing": False}
    trainer = fw.Trainer(max_epochs=1_000_000, callbacks=[callback], **trainer_options(kind), **options)
    trainer.fit(OneLayer(), one_layer_loader(steps))


class Boundaries(fw.callbacks.Callback):
    """Reports the time from the end of an epoch's last batch to the next one's first, and waits for its turn there."""

    def __init__(self, turns: Turns) -> None:
        self.turns = turns
        self.end = 0.0

    def on_train_batch_start(self, trainer: Any, module: Any, batch: Any, batch_idx: int) -> None:
        """The first batch is in hand."""
        if batch_idx:
            return
        if self.end:
            self.turns.report(seconds=time.perf_counter() - self.end)
        while self.turns.wait()["do"] == "check":
            self.turns.report(check=None)

    def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Any batch may be the last."""
        self.end = time.perf_counter()


def boundary(turns: Turns, threads: int, batch: int, data: str | None, samples: int, kind: str) -> None:
    """`Trainer.fit` with all defaults; the figure is the time between two epochs."""
    loader = fw.data.DataLoader(dataset(samples, data), batch_size=batch, shuffle=True, drop_last=True)
    fw.Trainer(max_epochs=1_000_000, callbacks=[Boundaries(turns)], **trainer_options(kind)).fit(MLP(), loader)


fit.drives_itself = fit_one_layer.drives_itself = boundary.drives_itself = True  # type: ignore[attr-defined]


def bare_boundary(threads: int, batch: int, data: str | None, samples: int, kind: str) -> Work:
    """The same of a loop written by hand: what the DataLoader takes to begin again."""
    loader = fw.data.DataLoader(dataset(samples, data), batch_size=batch, shuffle=True, drop_last=True)
    update = updater(kind)

    def once() -> float:
        taken, start = 0.0, time.perf_counter()
        for x, y in loader:
            taken = taken or time.perf_counter() - start
            update(fw.numpy.asarray(x), fw.numpy.asarray(y))
        return taken

    return Work(once, warm=False, reports_itself=True)


def one_layer_loader(steps: int) -> fw.data.DataLoader:
    """So many batches of eight samples."""
    x, _ = arrays.random_batch(8 * steps, 8)
    return fw.data.DataLoader(fw.data.ArrayDataset(x, (x[:, 0] > 0).astype("int64")), batch_size=8, shuffle=True)


def bare_one_layer(threads: int, steps: int, kind: str, saves: bool = False) -> Work:
    """The loop of the same operations, without a Trainer; the figure is an epoch's.

    With `saves` it writes a checkpoint as the Trainer does, files synchronized with the disk, and removes the last one.
    """
    net, loss_of = fw.nn.Linear(8, 2), fw.nn.CrossEntropyLoss()
    optimizer = fw.optim.SGD(net.parameters(), lr=0.01, momentum=0.9)
    loader = one_layer_loader(steps)

    def update(x: Any, y: Any) -> fw.Tensor:
        optimizer.zero_grad()
        loss = loss_of(net(x), y)
        loss.backward()
        optimizer.step()
        return loss

    chosen = compiler()(update) if kind == "compiled" else update
    asarray = fw.numpy.asarray
    epochs, last, place = itertools.count(), [], Path(tempfile.mkdtemp(dir="."))

    def once() -> None:
        for x, y in loader:
            chosen(asarray(x), asarray(y))
        if saves:
            folder = place / str(next(epochs))
            checkpoint.save(folder, {"model": net.state_dict(), "state": {"optimizer": optimizer.state_dict()}})
            if last:
                shutil.rmtree(last.pop())
            last.append(folder)

    return Work(once, warm=False)


def epoch(threads: int, samples: int, kind: str) -> Work:
    """Two epochs with `Trainer.fit`, everything that a fit does around them included; the figure is for one."""
    data, options = dataset(samples, None), trainer_options(kind)

    def once() -> None:
        loader = fw.data.DataLoader(data, batch_size=128, shuffle=True, drop_last=True)
        fw.Trainer(max_epochs=2, **options).fit(MLP(), loader)

    return Work(once, warm=False, scale=2)
