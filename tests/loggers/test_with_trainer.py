"""Loggers at work in real trainings: rows, kills, resumes, and a W&B that breaks."""

from __future__ import annotations

import csv
import importlib.util
import json
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from framework.train.checkpoint import newest_valid

ROOT = Path(__file__).resolve().parents[2]
TRAINING = """
    import sys, time, warnings
    from pathlib import Path
    import numpy as np
    import framework as fw
    from framework.callbacks import *
    from framework.loggers import *
    from framework.loggers.background import Feeder
    Feeder.START_S = Feeder.HANDLE_S = Feeder.FINISH_S = 240.0  # on a busy machine a client is slow

    class Net(fw.TrainModule):
        def __init__(self, hidden=4, pause=0.0):
            super().__init__()
            self.save_hyperparameters()
            first, last = fw.nn.Linear(2, hidden), fw.nn.Linear(hidden, 1)
            self.layers = fw.nn.Sequential(first, fw.nn.Tanh(), fw.nn.Dropout(0.2), last)
        def loss(self, batch):
            x, y = batch
            return ((self.layers(x) - y) ** 2).mean()
        def training_step(self, batch, batch_idx):
            time.sleep(self.hparams["pause"])
            loss = self.loss(batch)
            self.log("train_loss", loss, on_step=True, on_epoch=True)
            if self.current_epoch == 2:
                self.log("late", float(batch_idx))
            return loss
        def validation_step(self, batch, batch_idx):
            self.log("val_loss", self.loss(batch))
        def test_step(self, batch, batch_idx):
            self.log("test_loss", self.loss(batch))
        def configure_optimizers(self):
            optimizer = fw.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)
            schedule = fw.optim.lr_scheduler.StepLR(optimizer, step_size=3, gamma=0.9)
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def loader(batches, shuffle=False):
        x = np.random.default_rng(0).normal(size=(2 * batches, 2)).astype(np.float32)
        return fw.data.DataLoader(fw.data.ArrayDataset(x, x[:, :1] * x[:, 1:]), batch_size=2, shuffle=shuffle)

    def fit(root, logger=True, pause=0.0, ckpt_path=None, epochs=4, more=(), **arguments):
        fw.seed_everything(0)
        saver = ModelCheckpoint(every_n_train_steps=6, save_top_k=2, monitor="train_loss")
        trainer = fw.Trainer(
            backend="cpu", default_root_dir=root, max_epochs=epochs, log_every_n_steps=2, logger=logger,
            accumulate_grad_batches=2, enable_progress_bar=False, enable_model_summary=False,
            callbacks=[*more, saver, LearningRateMonitor()], **arguments)
        trainer.fit(Net(pause=pause), loader(9, shuffle=True), loader(2), ckpt_path=ckpt_path)
        return trainer
"""


def command(body: str) -> list[str]:
    return [sys.executable, "-c", textwrap.dedent(TRAINING) + textwrap.dedent(body)]


def environment(tmp_path: Path, **extra: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("WANDB") and k != "NETRC"}
    (tmp_path / "home").mkdir(exist_ok=True)
    return {**kept, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path / "home"), **extra}


def run(body: str, tmp_path: Path, **extra: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        command(body),
        cwd=tmp_path,
        env=environment(tmp_path, **extra),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return done


def rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "metrics.csv", newline="") as file:
        return list(csv.DictReader(file))


def without_wall(folder: Path) -> list[str]:
    return [line.rpartition(",")[0] for line in (folder / "metrics.csv").read_text().splitlines()]


def test_train_validation_and_test_share_one_row_a_step(tmp_path):
    run("trainer = fit('.'); trainer.test(dataloaders=loader(2), ckpt_path='last', verbose=False)", tmp_path)
    folder = tmp_path / "runs/net/version_0"
    table = rows(folder)
    steps = [int(row["step"]) for row in table]
    assert steps == sorted(set(steps))
    assert steps == [1, 2, 4, 5, 6, 8, 10, 12, 14, 15, 16, 18, 20]
    assert list(table[0])[:2] == ["step", "epoch"]
    assert list(table[0])[-1] == "wall_s"
    ends = [row for row in table if row["val_loss"]]
    assert [int(row["step"]) for row in ends] == [5, 10, 15, 20]
    assert all(row["train_loss_step"] and row["train_loss_epoch"] for row in ends)
    assert [bool(row["test_loss"]) for row in table] == [False] * 12 + [True]
    assert {row["late"] for row in table if int(row["step"]) <= 10} == {""}
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for line, row in zip(lines, table, strict=True):
        assert {name: float(value) for name, value in row.items() if value} == {n: float(v) for n, v in line.items()}


RESUMING = """
    import os, signal
    class Kills(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.progress.total_batches == {at}:
                assert trainer.checkpoint_callback.last_model_path or {at} < 8  # waits until it is written
                trainer.logger.save()  # the worst case: all that is complete is on disk
                os.kill(os.getpid(), signal.SIGKILL)
    found = [fw.train.checkpoint.newest_valid(f / "checkpoints") for f in Path(".").glob("cut/runs/net/version_*")]
    print("from", next(filter(None, found), None), flush=True)
    fit("cut", pause={pause}, ckpt_path=next(filter(None, found), None), more=[Kills()])
    print("ended", flush=True)
"""


def assert_same_table(tmp_path: Path) -> None:
    folders = [folder for folder in (tmp_path / "cut/runs/net").iterdir() if newest_valid(folder / "checkpoints")]
    assert len(folders) == 1  # those killed before their first checkpoint were begun anew
    assert without_wall(folders[0]) == without_wall(tmp_path / "whole/runs/net/version_0")


def test_killed_with_rows_after_the_checkpoint_the_table_is_that_of_a_run_never_stopped(tmp_path):
    run("fit('whole')", tmp_path)
    for at, ahead in ((7, 0), (21, 1), (30, 2), (-1, 0)):
        body = RESUMING.format(at=at, pause=0.0)
        done = subprocess.run(command(body), cwd=tmp_path, env=environment(tmp_path), check=False, capture_output=True)
        assert done.returncode == (0 if at == -1 else -signal.SIGKILL), done.stderr.decode()
        if at != -1:
            assert rows_after_the_checkpoint(tmp_path / "cut/runs/net") == ahead, at
    assert_same_table(tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(20))
def test_killed_at_random_moments_the_table_is_that_of_a_run_never_stopped(tmp_path, seed):
    run("fit('whole')", tmp_path)
    rng = random.Random(seed)
    body, environ = RESUMING.format(at=-1, pause=0.05), environment(tmp_path)
    for _ in range(8):
        with subprocess.Popen(command(body), cwd=tmp_path, env=environ, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(rng.uniform(0.3, 1.5))
            child.send_signal(signal.SIGKILL)
            if "ended" in child.stdout.read():
                break
    else:  # on a busy machine the kills come before any progress
        run(body, tmp_path)
    assert_same_table(tmp_path)


def rows_after_the_checkpoint(runs: Path) -> int:
    """How many rows on disk a resume will have to cut."""
    steps = [int(path.name.partition("step=")[2]) for path in runs.glob("version_*/checkpoints/epoch=*")]
    tables = [json.loads(line)["step"] for f in runs.glob("*/metrics.jsonl") for line in f.read_text().splitlines()]
    return sum(step > max(steps) for step in tables) if steps else 0


def test_a_logger_that_breaks_costs_one_warning_and_no_accuracy(tmp_path):
    body = """
    class Broken(CSVLogger):
        def log_metrics(self, metrics, step=None):
            raise OSError("no space left on device")
    trainer = fit(".", logger=[Broken(), CSVLogger()])
    print(float(trainer.callback_metrics["val_loss"]))
    """
    broken = run(body, tmp_path)
    assert broken.stderr.count("RuntimeWarning") == 1
    assert "Broken.log_metrics failed with OSError: no space left on device" in broken.stderr
    (tmp_path / "other").mkdir()
    assert run("print(float(fit('.').callback_metrics['val_loss']))", tmp_path / "other").stdout == broken.stdout


# -- W&B -------------------------------------------------------------------------------------------


@pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed")
def test_wandb_offline_holds_config_every_row_and_the_summary(tmp_path):
    body = """
    trainer = fit(".", logger=WandbLogger(project="p"))
    trainer.test(dataloaders=loader(2), verbose=False)
    """
    done = run(body, tmp_path, WANDB_MODE="offline")
    assert done.stderr == ""
    folder = tmp_path / "runs/net/version_0"
    (file,) = folder.glob("wandb/offline-run-*/run-*.wandb")
    reader = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    settings = {"env": environment(tmp_path), "capture_output": True, "text": True, "check": True}
    records = [json.loads(line) for line in subprocess.run(reader, **settings).stdout.splitlines()]
    summary = json.loads(subprocess.run([*reader, "--summary"], **settings).stdout)
    history = [record["history"]["item"] for record in records if record["type"] == "history"]
    table = rows(folder)
    assert [item["_step"] for item in history] == [int(row["step"]) for row in table]
    for item, row in zip(history, table, strict=True):
        logged = {name: float(value) for name, value in row.items() if value and name not in ("step", "wall_s")}
        assert {name: float(value) for name, value in item.items() if not name.startswith("_")} == logged
    assert summary["config"] == {"hidden": 4, "pause": 0.0}
    assert summary["summary"]["test_loss"] == float(table[-1]["test_loss"])
    assert (summary["project"], summary["exit_code"], summary["step"]) == ("p", 0, 20)
    identity = trainer_state(folder)["id"]
    assert file.name == f"run-{identity}.wandb"


def trainer_state(folder: Path) -> dict:
    """What the newest checkpoint keeps of the W&B logger."""
    newest = folder / "checkpoints" / (folder / "checkpoints/last").read_text().strip()
    loggers = json.loads((newest / "state.json").read_text())["trees"]["loggers"]
    return next(entry["state"] for entry in loggers if "Wandb" in entry["class"])


STUB = """
import threading
run = None
class Run:
    id, url, dir, config = "stub", None, None, type("Config", (), {{"update": lambda self, *a, **k: None}})()
    def log(self, row, step=None): {log}
    def log_artifact(self, artifact, aliases): {artifact}
    def finish(self, exit_code=0): pass
class Artifact:
    def __init__(self, **arguments): pass
    def add_file(self, path, name): pass
def Image(picture): {image}
Table = Histogram = lambda *values, **more: None
def init(**arguments):
    {init}
    return Run()
"""


@pytest.mark.parametrize(
    "broken",
    [
        {"init": "raise RuntimeError('no server')", "log": "pass"},
        {"init": "threading.Event().wait()", "log": "pass"},
        {"init": "pass", "log": "raise ConnectionError('gone')"},
        {"init": "pass", "log": "threading.Event().wait()"},
        {"image": "threading.Event().wait()"},
        {"artifact": "raise OSError('no space left on device')"},
    ],
    ids=["init raises", "init hangs", "log raises", "log hangs", "image hangs", "artifact raises"],
)
def test_a_broken_wandb_changes_nothing_but_one_warning(tmp_path, broken):
    (tmp_path / "stub").mkdir()
    (tmp_path / "stub/wandb.py").write_text(
        STUB.format(**dict.fromkeys(("init", "log", "image", "artifact"), "pass") | broken)
    )
    body = """
    class Shows(Callback):
        def on_validation_end(self, trainer, module):
            if "wandb" in sys.argv:
                trainer.logger.log_image("x", [np.zeros((2, 2))])
                trainer.logger.log_table("y", ["a"], [[1]])
                trainer.logger.log_histogram("z", next(module.parameters()))
    Feeder.START_S = Feeder.HANDLE_S = 0.5
    wandb = WandbLogger(offline=True, log_model="all", watch="all", watch_freq=1) if "wandb" in sys.argv else True
    trainer = fit(".", logger=wandb, more=[Shows()])
    print([p.detach().numpy().tobytes().hex() for p in trainer.module.parameters()])
    """
    path = os.pathsep.join([str(tmp_path / "stub"), str(ROOT)])
    settings = {"env": environment(tmp_path, PYTHONPATH=path), "cwd": tmp_path, "capture_output": True, "text": True}
    with_it = subprocess.run([*command(body), "wandb"], timeout=300, check=True, **settings)
    without = subprocess.run(command(body), timeout=300, check=True, **settings)
    assert with_it.stderr.count("RuntimeWarning") == 1, with_it.stderr
    assert "Traceback" not in with_it.stderr
    assert with_it.stdout.splitlines()[-1] == without.stdout.splitlines()[-1]
    assert without_wall(tmp_path / "runs/net/version_0") == without_wall(tmp_path / "runs/net/version_1")
