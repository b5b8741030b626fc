"""TensorBoard: what tensorboardX writes, read back, and what a broken one may cost."""

from __future__ import annotations

import importlib.util
import io
import struct
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest

import framework as fw
from framework.callbacks import ModelCheckpoint
from framework.errors import ConfigError
from framework.loggers import CSVLogger, Logger, TensorBoardLogger

if importlib.util.find_spec("tensorboardX") is None:  # imported by the tests alone: it may bring PyTorch with it
    pytest.skip("tensorboardX is not installed", allow_module_level=True)


def events(folder: str | Path) -> list:
    """The events of a folder as the file format lays them down: length, checksum, message, checksum."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for file in sorted(Path(folder).glob("events.out.tfevents.*")):
        data, place = file.read_bytes(), 0
        while place < len(data):
            (length,) = struct.unpack_from("<Q", data, place)
            found.append(Event.FromString(data[place + 12 : place + 12 + length]))
            place += 12 + length + 4
    return found


def scalars(folder: str | Path) -> dict[str, dict[int, float]]:
    """Name to step to value, as TensorBoard reads them: what is purged is left out."""
    found: dict[str, dict[int, float]] = {}
    for event in events(folder):
        if event.session_log.status == 1:  # START: what comes from here on is written anew
            found = {name: {s: v for s, v in line.items() if s < event.step} for name, line in found.items()}
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


class Line(fw.TrainModule):
    def __init__(self, rate: float = 0.1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = fw.nn.Linear(2, 1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = ((self.layer(x) - y) ** 2).mean()
        self.log("train_loss", loss)
        return loss

    def configure_optimizers(self):
        return fw.optim.SGD(self.parameters(), lr=self.hparams.rate)


def fit(root: Path, logger, ckpt_path=None, **arguments) -> fw.Trainer:
    fw.seed_everything(0)
    x = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
    defaults = {"max_epochs": 2, "enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1}
    trainer = fw.Trainer(backend="cpu", default_root_dir=root, logger=logger, **{**defaults, **arguments})
    trainer.fit(Line(), fw.data.DataLoader(fw.data.ArrayDataset(x, x[:, :1]), batch_size=2), ckpt_path=ckpt_path)
    return trainer


def test_rows_are_in_the_run_folder_at_their_steps(tmp_path):
    logger = TensorBoardLogger()
    trainer = fit(tmp_path, logger)
    assert logger.log_dir == trainer.log_dir
    assert (logger.name, logger.version) == ("line", 0)
    logger.close()
    found = scalars(trainer.log_dir)
    lines = (Path(trainer.log_dir) / "metrics.csv").read_text().splitlines()
    names = lines[0].split(",")
    loss = {int(row[0]): float(row[names.index("train_loss")]) for row in (line.split(",") for line in lines[1:])}
    assert found["train_loss"] == pytest.approx(loss)
    assert found["epoch"] == {step: float((step - 1) // 4) for step in range(1, 9)}
    (hyper,) = [e for e in events(trainer.log_dir) if any("session_start" in v.tag for v in e.summary.value)]
    assert b"rate" in hyper.SerializeToString()


def test_what_came_after_the_checkpoint_is_left_out_on_resume(tmp_path):
    saver = ModelCheckpoint(every_n_train_steps=3, save_top_k=-1, filename="{step}")
    logger = TensorBoardLogger()
    trainer = fit(tmp_path, logger, callbacks=[saver])
    logger.close()
    before = scalars(trainer.log_dir)["train_loss"]
    again = TensorBoardLogger()
    fit(tmp_path, again, Path(trainer.log_dir) / "checkpoints" / "step=3", callbacks=[saver])
    again.close()
    assert len(list(Path(trainer.log_dir).glob("events.out.*"))) == 2
    assert scalars(trainer.log_dir)["train_loss"] == before
    purged = [event.step for event in events(trainer.log_dir) if event.session_log.status == 1]
    assert purged == [4]


def test_an_own_folder_with_versions(tmp_path):
    for number in range(2):
        logger = TensorBoardLogger(tmp_path / "tb", name="line", prefix="a", sub_dir="x")
        logger.attach(tmp_path)
        logger.log_metrics({"loss": 1.0}, step=3)
        logger.experiment.add_text("note", "hello", 3)
        logger.close()
        assert logger.log_dir == str(tmp_path / "tb" / "line" / f"version_{number}" / "x")
        assert logger.version == number
        assert scalars(logger.log_dir) == {"a-loss": {3: 1.0}}
    for name, version in (("version_7", 7), ("7", "7"), ("version_²", "version_²")):
        logger = TensorBoardLogger()
        logger.attach(tmp_path / name)
        assert logger.version == version
    with pytest.raises(ConfigError, match="no folder yet"):
        TensorBoardLogger().log_metrics({"loss": 1.0})


def test_pictures(tmp_path):
    figure = pytest.importorskip("matplotlib.figure").Figure(figsize=(2, 1))
    figure.savefig(tmp_path / "a.png", dpi=100)
    logger = TensorBoardLogger(tmp_path / "tb")
    logger.log_metrics({"x": 1.0}, 7)
    logger.log_image("curves", [str(tmp_path / "a.png")])
    logger.log_image("noise", [np.zeros((4, 6)), np.zeros((4, 6, 3))], step=9)
    logger.close()
    found = {v.tag: (e.step, v.image) for e in events(logger.log_dir) for v in e.summary.value if v.HasField("image")}
    assert {name: (step, image.width, image.height) for name, (step, image) in found.items()} == {
        "curves": (7, 200, 100),
        "noise/0": (9, 6, 4),
        "noise/1": (9, 6, 4),
    }
    assert found["curves"][1].encoded_image_string == (tmp_path / "a.png").read_bytes()


def test_pictures_of_every_kind_are_as_they_were_when_they_were_logged(tmp_path):
    figure, pillow = pytest.importorskip("matplotlib.figure").Figure(figsize=(2, 1)), pytest.importorskip("PIL.Image")
    pixels, tensor = np.zeros((4, 6), np.uint8), fw.tensor(np.ones((3, 4, 6), np.float32))
    logger = TensorBoardLogger(tmp_path, prefix="a")
    logger.log_image("p", [pixels, tensor, figure], step=1)
    pixels[:] = 255
    figure.set_size_inches(9, 9)
    logger.close()
    found = {v.tag: v.image for e in events(logger.log_dir) for v in e.summary.value if v.HasField("image")}
    assert [(name, image.width, image.height) for name, image in found.items()] == [
        ("a-p/0", 6, 4), ("a-p/1", 6, 4), ("a-p/2", 200, 100)
    ]  # fmt: skip
    assert np.asarray(pillow.open(io.BytesIO(found["a-p/0"].encoded_image_string))).max() == 0


def test_what_is_no_picture_is_refused_and_the_rows_go_on(tmp_path):
    (tmp_path / "a.jpg").write_bytes(b"\xff\xd8\xff")
    logger = TensorBoardLogger(tmp_path)
    for wrong, text in (
        (np.zeros((2, 2)), "takes a list of pictures, got ndarray"),
        ([np.zeros(3)], r"got a ndarray of shape \(3,\)"),
        (["a", object()], "."),
        ([object()], "got a object"),
        ([tmp_path / "a.jpg"], "takes PNG files, and '.*a.jpg' is none"),
    ):
        with pytest.raises((ConfigError, FileNotFoundError), match=text):
            logger.log_image("p", wrong)
    logger.log_metrics({"x": 1.0}, 1)
    logger.close()
    assert scalars(logger.log_dir) == {"x": {1: 1.0}}


def test_more_pictures_than_can_be_written_are_dropped(tmp_path, monkeypatch):
    from framework.loggers.background import Feeder

    monkeypatch.setattr(Feeder, "HEAVY", 0)
    logger = TensorBoardLogger(tmp_path)
    with pytest.warns(RuntimeWarning, match="is 0 pictures, tables or checkpoints behind"):
        logger.log_image("p", [np.zeros((2, 2))])
    logger.close()


class Failing(Logger):
    name, version = "failing", 0

    def log_metrics(self, metrics, step=None):
        raise RuntimeError("no disk")


def test_several_at_once_and_one_that_fails(tmp_path):
    tensorboard = TensorBoardLogger()
    with pytest.warns(RuntimeWarning, match=r"Failing.log_metrics failed with RuntimeError: no disk"):
        trainer = fit(tmp_path / "a", [Failing(), tensorboard, CSVLogger(tmp_path / "own")])
    tensorboard.close()
    plain = fit(tmp_path / "b", True)
    for name, value in plain.module.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), trainer.module.state_dict()[name].numpy())
    assert scalars(trainer.log_dir)["train_loss"].keys() == set(range(1, 9))
    assert (Path(trainer.log_dir) / "metrics.jsonl").exists()
    assert (tmp_path / "own" / "logs" / "version_0" / "metrics.csv").exists()


@pytest.mark.parametrize("how", ["raises", "hangs"])
def test_a_writer_that_raises_or_hangs_costs_a_warning(tmp_path, monkeypatch, how):
    from framework.loggers.background import Feeder

    broken, release = types.ModuleType("tensorboardX"), threading.Event()

    def writer(**arguments):
        if how == "hangs":
            release.wait()
        raise OSError("read-only")

    broken.SummaryWriter = writer
    before = set(threading.enumerate())
    logger = TensorBoardLogger()
    monkeypatch.setitem(sys.modules, "tensorboardX", broken)
    if how == "hangs":
        monkeypatch.setattr(Feeder, "START_S", 0.2)
    with pytest.warns(RuntimeWarning, match="read-only" if how == "raises" else "did not answer"):
        trainer = fit(tmp_path, logger)
    assert trainer.global_step == 8
    release.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(60)


def test_without_the_package_it_is_refused(monkeypatch):
    import importlib.util

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'fw-framework\[tensorboard\]'"):
        TensorBoardLogger()
