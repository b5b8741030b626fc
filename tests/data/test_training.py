"""Each kind of data in the Trainer: a run that stops within an epoch and goes on ends in the same bits."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest

import framework as fw
from framework.callbacks import ModelCheckpoint
from framework.data import (
    ArrayDataset,
    ConcatDataset,
    CSVDataset,
    DataLoader,
    IterableDataset,
    RandomSampler,
    ShardedDataset,
    WeightedRandomSampler,
    random_split,
    sample_generator,
    write_shards,
)
from framework.data.transforms import Compose, Normalize, RandomAffine, RandomCrop

ROWS = 45


class Model(fw.TrainModule):
    def __init__(self):
        super().__init__()
        self.layer = fw.nn.Linear(4, 1)
        self.dropout = fw.nn.Dropout(0.2)

    def training_step(self, batch, batch_idx):
        x, y = batch
        x = self.dropout(x.reshape(len(x), -1))
        loss = ((self.layer(x)[:, 0] - y.astype(x.dtype)) ** 2).mean()
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return fw.optim.Adam(self.parameters(), lr=0.01)


class Noisy(IterableDataset):
    """Says nothing of its length."""

    def __iter__(self):
        for i in range(ROWS):
            yield np.float32(sample_generator().normal(size=4)), np.float32(i / ROWS)


def values() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    return rng.normal(size=(ROWS, 4)).astype(np.float32), rng.normal(size=ROWS).astype(np.float32)


def table(folder: Path) -> CSVDataset:
    x, y = values()
    path = folder / "t.csv"
    if not path.exists():
        path.write_text(
            "a,b,c,d,y\n" + "\n".join(",".join(map(repr, row)) for row in np.c_[x, y].astype(float).tolist())
        )
    return CSVDataset(path, "y", normalize=True, buffer=10)


def shards(folder: Path) -> ShardedDataset:
    x, y = values()
    if not (folder / "s").exists():
        write_shards(folder / "s", [{"x": x, "y": y}], 8)
    return ShardedDataset(folder / "s")


def images(folder: Path) -> ArrayDataset:
    x = np.random.default_rng(1).integers(0, 256, (ROWS, 3, 3), dtype=np.uint8)
    return ArrayDataset(x, values()[1], transform=Compose([RandomAffine(30), RandomCrop(2), Normalize(0.5, 0.5)]))


THREADS = {"num_workers": 2, "workers": "threads"}
KINDS = {
    "csv": lambda f: DataLoader(table(f), 7, True),
    "csv with threads": lambda f: DataLoader(table(f), 7, True, **THREADS),
    "part of a csv": lambda f: DataLoader(random_split(table(f), [0.8, 0.2], seed=1)[0], 5, True),
    "stream": lambda f: DataLoader(Noisy(), 7),
    "stream with threads": lambda f: DataLoader(Noisy(), 7, **THREADS),
    "shards": lambda f: DataLoader(shards(f), 7, True),
    "images": lambda f: DataLoader(images(f), 7, True, **THREADS),
    "concat": lambda f: DataLoader(ConcatDataset([shards(f), ArrayDataset(*values())]), 9, True),
    "sampler": lambda f: DataLoader(ArrayDataset(*values()), 7, sampler=RandomSampler(range(ROWS), True)),
    "weights": lambda f: DataLoader(images(f), 7, sampler=WeightedRandomSampler(np.arange(ROWS) + 1.0, ROWS)),
}


def run(folder: Path, name: str, loader: DataLoader, source: Path | None = None, seed: int = 3) -> fw.Trainer:
    fw.seed_everything(seed)
    saves = ModelCheckpoint(save_top_k=-1, every_n_train_steps=1, filename="{step}")
    trainer = fw.Trainer(
        max_epochs=2, backend="cpu", default_root_dir=folder / name, callbacks=[saves],
        enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    trainer.fit(Model(), loader, ckpt_path=source)
    return trainer


def state(trainer: fw.Trainer) -> dict[str, bytes]:
    return {name: np.asarray(value.numpy()).tobytes() for name, value in trainer.module.state_dict().items()}


def check_resume(make, folder: Path, steps) -> None:
    whole = run(folder, "whole", make(folder))
    assert whole.global_step >= 12
    expected = state(whole)
    for step in steps:
        (source,) = (Path(whole.log_dir) / "checkpoints").glob(f"*step={step}")
        resumed = run(folder, f"from {step}", make(folder), source, seed=88)
        assert resumed.global_step == whole.global_step
        assert state(resumed) == expected


QUICK = ("csv", "stream with threads", "images", "concat")


@pytest.mark.parametrize("kind", [k if k in QUICK else pytest.param(k, marks=pytest.mark.slow) for k in KINDS])
def test_a_run_resumes_within_an_epoch(kind, tmp_path):
    check_resume(KINDS[kind], tmp_path, (2, 9))


@pytest.mark.slow
def test_a_run_resumes_with_processes(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    samples = importlib.import_module("worker_datasets").Rows
    check_resume(lambda f: DataLoader(samples(), 7, True, num_workers=2), tmp_path, (3, 8))


def test_trained_on_without_a_length(tmp_path):
    trainer = run(tmp_path, "stream", DataLoader(Noisy(), 7))
    assert (trainer.global_step, trainer.current_epoch) == (14, 2)
