"""A real training with the real W&B client offline: what it wrote is read back; and it is killed in the middle."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("wandb") is None, reason="wandb is not installed"),
]

SCRIPT = """
import json, os, signal, sys
from pathlib import Path
import numpy as np
import framework as fw
from framework.callbacks import Callback, ModelCheckpoint
from framework.loggers import WandbLogger
from framework.loggers.background import Feeder

Feeder.START_S = 200.0  # on a busy machine the client is slow
if "kill" not in sys.argv:
    Feeder.HANDLE_S = Feeder.FINISH_S = 200.0

class Net(fw.TrainModule):
    def __init__(self, hidden=4):
        super().__init__()
        self.save_hyperparameters()
        self.net = fw.nn.Sequential(fw.nn.Linear(2, hidden), fw.nn.Tanh(), fw.nn.Linear(hidden, 1))
        self.mean = fw.metrics.MeanSquaredError()
    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = ((self.net(x) - y) ** 2).mean()
        self.log("train_loss", loss, on_step=True, on_epoch=True)
        return loss
    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.mean.update(self.net(x), y)
        self.log("val_mse", self.mean)
    def configure_optimizers(self):
        return fw.optim.SGD(self.parameters(), lr=0.1)

class Shows(Callback):
    def on_validation_end(self, trainer, module):
        logger = trainer.logger
        if trainer.sanity_checking or not isinstance(logger, WandbLogger):
            return
        step, epoch = trainer.global_step, trainer.current_epoch
        pictures = [np.full((3, 5), epoch / 4), fw.tensor(np.ones((3, 3, 5))), np.zeros((3, 5, 3), np.uint8)]
        logger.log_image("pixels", pictures, step=step, caption=["a", "b", "c"])
        logger.log_table("table", ["epoch", "text"], [[epoch, "x"], [fw.tensor(2.0), "y"]], step=step)
        logger.log_histogram("weights", module.net[0].weight, step=step, num_bins=8)

class Kills(Callback):
    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx):
        if trainer.global_step == 12:
            trainer.logger.experiment  # waits until the client is at work
            for process in Path("/proc").glob("[0-9]*"):
                try:
                    stat, name = (process / "stat").read_text(), (process / "cmdline").read_text()
                except OSError:
                    continue
                if int(stat.rpartition(")")[2].split()[1]) == os.getpid() and "wandb" in name:
                    print("killed", flush=True)
                    os.kill(int(process.name), signal.SIGKILL)

def loader():
    x = np.random.default_rng(0).normal(size=(40, 2)).astype(np.float32)
    return fw.data.DataLoader(fw.data.ArrayDataset(x, x[:, :1] * x[:, 1:]), batch_size=4, shuffle=True)

fw.seed_everything(0)
logger, more = True, []
if "wandb" in sys.argv:
    logger = WandbLogger(project="p", offline=True, log_model="all", watch="all", watch_freq=5, group="g", tags=["t"])
if "kill" in sys.argv:
    more = [Kills()]
trainer = fw.Trainer(
    backend="cpu", compile=True, max_epochs=3, logger=logger, log_every_n_steps=5, accumulate_grad_batches=1,
    gradient_clip_val=1.0, callbacks=[Shows(), *more, ModelCheckpoint(monitor="val_mse", save_top_k=1)],
    enable_progress_bar=False, enable_model_summary=False)
module = Net()
trainer.fit(module, loader(), loader())
weights = [p.detach().numpy().tobytes().hex() for p in module.parameters()]
replayed = trainer._fit.compiled.compiled.replayed
print(json.dumps({"weights": weights, "replayed": replayed, "steps": trainer.global_step}))
"""


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("WANDB")}
    (folder / "home").mkdir(exist_ok=True)
    return {**kept, "HOME": str(folder / "home"), "PYTHONPATH": str(ROOT)}


def train(folder: Path, *words: str) -> tuple[dict, subprocess.CompletedProcess[str]]:
    folder.mkdir(exist_ok=True)
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words], cwd=folder, env=environment(folder), capture_output=True, text=True,
        timeout=240, check=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1]), done


def read_back(folder: Path) -> list[dict]:
    (file,) = folder.glob("runs/net/version_0/wandb/offline-run-*/run-*.wandb")
    command = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    done = subprocess.run(command, env=environment(folder), capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_pictures_tables_histograms_norms_and_checkpoints_are_in_what_the_client_wrote(tmp_path):
    told, done = train(tmp_path, "wandb")
    assert done.stderr == ""
    assert told["replayed"] == told["steps"] - 2 == 28  # watching breaks no replay
    records = read_back(tmp_path)
    rows = [record["history"]["item"] for record in records if record["type"] == "history"]
    lines = (tmp_path / "runs/net/version_0/metrics.jsonl").read_text().splitlines()
    table = [json.loads(line) for line in lines]
    assert [row["_step"] for row in rows] == [row["step"] for row in table] == [1, 5, 10, 15, 20, 25, 30]
    for row, ours in zip(rows, table, strict=True):
        assert {name: row[name] for name in ours if name not in ("step", "wall_s")} == {
            name: value for name, value in ours.items() if name not in ("step", "wall_s")
        }
        for kind in ("grad_norm", "param_norm"):
            parts = {name: value for name, value in row.items() if name.startswith(f"{kind}/net.")}
            assert set(parts) == {f"{kind}/net.{n}.{part}" for n in (0, 2) for part in ("weight", "bias")}
            total = sum(value**2 for value in parts.values()) ** 0.5
            assert row[f"{kind}/total"] == pytest.approx(total, rel=1e-6)
    for row in rows:
        ends = row["_step"] % 10 == 0
        assert ("pixels._type" in row, "table._type" in row, "weights._type" in row) == (ends, ends, ends)
        if ends:
            assert (row["pixels.count"], row["pixels.captions"]) == (3, ["a", "b", "c"])
            assert (row["pixels.height"], row["pixels.width"]) == (3, 5)
            assert (row["table.nrows"], row["table.ncols"]) == (2, 2)
            assert sum(row["weights.values"]) == 8
    pictures = list(tmp_path.glob("runs/net/version_0/wandb/offline-run-*/files/media/images/pixels_*.png"))
    assert len(pictures) == 9
    assert all(picture.read_bytes().startswith(b"\x89PNG") for picture in pictures)
    check_artifacts(tmp_path, records)


def check_artifacts(folder: Path, records: list[dict]) -> None:
    (run,) = [record["run"] for record in records if record["type"] == "run"]
    assert (run["project"], run["run_group"], run["tags"]) == ("p", "g", ["t"])
    models = [r["artifact"] for r in records if r["type"] == "artifact" and r["artifact"]["type"] == "model"]
    assert {model["name"] for model in models} == {f"model-{run['run_id']}"}
    assert sorted(models[-1]["aliases"]) == ["best", "latest"]
    kept = [f for f in (folder / "runs/net/version_0/checkpoints").iterdir() if f.is_dir()]
    metadata = json.loads(models[-1]["metadata"])
    assert metadata["original_filename"] in [checkpoint.name for checkpoint in kept]
    assert metadata["ModelCheckpoint"]["monitor"] == "val_mse"
    contents = {entry["path"]: entry for entry in models[-1]["manifest"]["contents"]}
    checkpoint = folder / "runs/net/version_0/checkpoints" / metadata["original_filename"]
    assert set(contents) == {file.name for file in checkpoint.iterdir()}
    for name, entry in contents.items():  # W&B's own copies, whatever has been deleted meanwhile
        assert Path(entry["local_path"]).read_bytes() == (checkpoint / name).read_bytes()
    assert not list(folder.glob("runs/net/version_0/.checkpoint-*"))


def test_a_client_that_is_killed_costs_one_warning_and_changes_nothing(tmp_path):
    alone, _ = train(tmp_path / "alone")
    killed, done = train(tmp_path / "killed", "wandb", "kill")
    assert "killed" in done.stdout
    assert killed == alone
    assert done.stderr.count("RuntimeWarning") == 1, done.stderr
    assert "Traceback" not in done.stderr.partition("Exception ignored in atexit")[0]  # W&B's own last words
    tables = [
        [
            line.rpartition(",")[0]
            for line in (tmp_path / name / "runs/net/version_0/metrics.csv").read_text().splitlines()
        ]
        for name in ("alone", "killed")
    ]
    assert tables[0] == tables[1]
