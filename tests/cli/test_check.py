"""`fw check`: everything is made and tried, nothing is kept; and what `fw train` looks at before it begins."""

from __future__ import annotations

from pathlib import Path

import pytest

from framework.cli.check import Unheard

ROOT = Path(__file__).resolve().parents[2]

EXAMPLE = """
from mynet import *

class WithExample(MyData):
    def prepare_data(self):
        raise AssertionError("the data are not to be touched")
    setup = prepare_data
    def train_dataloader(self):
        raise AssertionError("the data are not to be touched")
    val_dataloader = test_dataloader = predict_dataloader = train_dataloader
    def example_batch(self):
        return np.zeros((4, 3), np.float32), np.zeros(4, np.int64)

class Small(MyData):
    def example_batch(self):
        return np.zeros((4, 3), np.float32), np.zeros(4, np.int64)

class NoExample(MyData):
    def example_batch(self):
        raise KeyError("columns")

class Failing(MyNet):
    def test_step(self, batch, batch_idx):
        return self.net(batch[0]).reshape(7, 11)

class Shows(MyNet):
    def training_step(self, batch, batch_idx):
        self.logger.log_image("x", images=[batch[0]])
        self.logger.experiment.define_metric("x")
        return super().training_step(batch, batch_idx)
"""


def kept(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.rglob("*")) if "__pycache__" not in path.parts]


def test_everything_is_tried_and_nothing_is_kept(fw):
    before = kept(fw.folder)
    done = fw("check", "my.yaml", "--lr_scheduler", "ReduceLROnPlateau", "--lr_scheduler.monitor", "val_acc")
    assert done.code == 0, done.err
    told = dict(line.split(None, 1) for line in done.out.splitlines())
    assert told["config"] == "my.yaml"
    assert told["model"] == "mynet.MyNet, 32 parameters"
    assert told["data"] == "mynet.MyData"
    assert told["batch"] == "the first one of the data"
    assert told["training"].startswith("forward, backward and update: train_loss 0.")
    assert told["validation"].startswith("val_acc ")
    assert told["test"].startswith("test_acc ")
    assert told["predict"] == "forward"
    assert told["watched"] == "ModelCheckpoint: val_acc; ReduceLROnPlateau: val_acc"
    assert done.err.startswith("fw: ok: nothing is wrong with my.yaml")
    assert kept(fw.folder) == before


def test_an_example_batch_is_used_instead_of_the_data(fw):
    fw.write("other.py", EXAMPLE)
    done = fw("check", "my.yaml", "--data", "other.WithExample", "--trainer.compile", "true")
    assert done.code == 0, done.err
    assert "WithExample.example_batch()" in done.out
    assert "forward, backward and update, replayed" in done.out


WATCHED = [
    (("--trainer.callbacks.0.init_args.monitor", "val_ac"), "--trainer.callbacks.0.init_args.monitor: ModelCheckpoint watches 'val_ac', which nothing logs in training or validation; logged are 'train_loss', 'val_acc'. Did you mean 'val_acc'?"),
    (("--trainer.callbacks.0.init_args.filename", "{epoch}-{val_acx:.2f}"), "--trainer.callbacks.0.init_args.filename: ModelCheckpoint's filename watches 'val_acx', which nothing logs"),
    (("--lr_scheduler", "ReduceLROnPlateau", "--lr_scheduler.monitor", "val_loss"), "--lr_scheduler.monitor: ReduceLROnPlateau watches 'val_loss', which nothing logs"),
    (("--lr_scheduler", "ReduceLROnPlateau"), "--lr_scheduler: ReduceLROnPlateau watches a metric; name it: monitor: val_loss beside its class_path"),
]  # fmt: skip


@pytest.mark.parametrize("command", ["check", "train"])
@pytest.mark.parametrize(("argv", "message"), WATCHED)
def test_a_name_that_nothing_logs_is_found_before_the_run(fw, command, argv, message):
    """`fw train` looks first where the data give an example of a batch."""
    fw.write("other.py", EXAMPLE)
    assert message in fw.refused(command, "my.yaml", "--data", "other.Small", *argv)


def test_the_place_in_a_file_is_told(fw):
    fw.write(
        "more.yaml", "trainer:\n  callbacks:\n  - class_path: EarlyStopping\n    init_args:\n      monitor: val_los\n"
    )
    assert fw.refused("check", "my.yaml", "more.yaml").startswith(
        "more.yaml:5: trainer.callbacks.0.init_args.monitor: EarlyStopping watches 'val_los'"
    )


def test_who_can_do_without_costs_a_warning_only(fw):
    fw.write(
        "more.yaml",
        "trainer:\n  callbacks:\n  - class_path: EarlyStopping\n    init_args: {monitor: val_los, strict: false}\n",
    )
    done = fw("check", "my.yaml", "more.yaml")
    assert done.code == 0
    assert "fw: warning: more.yaml:4: trainer.callbacks.0.init_args.monitor: EarlyStopping watches" in done.err
    assert "EarlyStopping: val_los (not logged)" in done.out


def test_the_look_before_a_run_changes_nothing_in_it(fw):
    fw.write("other.py", EXAMPLE)
    tables = []
    for data in ("mynet.MyData", "other.Small"):
        assert fw("train", "my.yaml", "--data", data, "--no-test").code == 0
    for number in range(2):
        lines = Path(f"runs/my/version_{number}/metrics.csv").read_text().splitlines()
        tables.append([line.rpartition(",")[0] for line in lines])
    assert tables[0] == tables[1]


def test_without_an_example_the_first_step_of_a_run_warns(fw):
    done = fw("train", "my.yaml", "--trainer.callbacks.0.init_args.monitor", "val_ac", "--trainer.max_epochs", "1")
    assert done.code == 1
    assert (
        "fw: warning: --trainer.callbacks.0.init_args.monitor: ModelCheckpoint watches 'val_ac', which nothing logs "
        "so far; logged are 'train_loss', 'val_acc'. Did you mean 'val_acc'?"
    ) in done.err
    assert "warning" not in fw("train", "my.yaml", "--trainer.max_epochs", "1").err


def test_an_error_in_the_users_code_shows_its_line(fw):
    fw.write("other.py", EXAMPLE)
    done = fw("check", "my.yaml", "--model", "other.Failing")
    assert done.code == 2
    assert "reshape(7, 11)" in done.err
    done = fw("check", "my.yaml", "--data", "other.NoExample")
    assert done.code == 2
    assert "NoExample.example_batch() raised KeyError: 'columns'" in done.err


def test_loggers_are_made_but_hear_nothing(fw):
    fw.write("other.py", EXAMPLE)
    before = kept(fw.folder)
    done = fw("check", "my.yaml", "--model", "other.Shows", "--trainer.logger", "CSVLogger")
    assert done.code == 0, done.err
    assert kept(fw.folder) == before


def test_what_stands_for_a_logger_takes_everything():
    logger = Unheard()
    assert logger.log_metrics({"x": 1.0}, 1) is None
    assert logger.experiment.config.update({"a": 1}) is None
    assert not hasattr(logger, "__array__")


def test_the_main_config_needs_no_data(fw, monkeypatch):
    monkeypatch.setenv("FW_MIRROR", "http://127.0.0.1:9")
    root = str(fw.folder / "nowhere")
    done = fw("check", str(ROOT / "configs" / "mnist_mlp.yaml"), "--data.init_args.root", root)
    assert done.code == 0, done.err
    assert "266,610 parameters" in done.out
    assert "replayed" in done.out
    assert not Path(root).exists()
