"""Checkpoints that are written while the training goes on."""

from __future__ import annotations

import copy
import pickle
import threading
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import pytest

from framework.callbacks import Callback, ModelCheckpoint
from framework.errors import CheckpointError
from framework.loggers import CSVLogger
from framework.train import checkpoint
from framework.train.background import Background


def test_what_follows_is_done_by_finish_once_and_in_its_thread() -> None:
    done: list[tuple[str, int]] = []
    go = threading.Event()
    background = Background()

    def job() -> None:
        assert go.wait(60)
        background.finish()  # in the job itself there is nothing to wait for
        done.append(("job", threading.get_ident()))

    background.start(job, lambda: done.append(("after", threading.get_ident())))
    assert not done
    go.set()
    background.finish()
    background.finish()
    assert [what for what, _ in done] == ["job", "after"]
    assert done[0][1] != done[1][1] == threading.get_ident()


def test_a_job_begins_when_the_one_before_and_what_follows_it_are_done() -> None:
    done: list[str] = []
    background = Background()
    for name in "abc":
        background.start(lambda name=name: done.append(name), lambda name=name: done.append(name.upper()))
    background.finish()
    assert "".join(done) == "aAbBcC"


def test_an_error_is_raised_once_in_place_of_what_follows() -> None:
    done: list[str] = []
    background = Background()
    background.start(lambda: 1 / 0, lambda: done.append("after"))
    with pytest.raises(ZeroDivisionError):
        background.start(lambda: done.append("next"), lambda: None)
    background.finish()
    assert not done
    background.start(lambda: done.append("later"), lambda: None)
    background.finish()
    assert done == ["later"]


def test_a_prepared_checkpoint_is_of_the_state_at_the_call(toy: ModuleType, tmp_path: Path) -> None:
    class Late(Callback):
        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            if trainer.current_epoch == 0:
                self.weights = pl_module.first.weight.detach().numpy().copy()
                self.write = trainer.prepare_checkpoint(tmp_path / "late")

        def on_train_end(self, trainer: Any, pl_module: Any) -> None:
            assert not np.array_equal(pl_module.first.weight.detach().numpy(), self.weights)
            self.write()

    late = Late()
    toy.make_trainer(tmp_path, callbacks=[late]).fit(toy.ToyModule(), *toy.loaders())
    assert checkpoint.load(tmp_path / "late")["model"]["first.weight"].tobytes() == late.weights.tobytes()


def test_after_fit_and_whenever_a_path_is_read_it_is_written(toy: ModuleType, tmp_path: Path) -> None:
    class Reads(Callback):
        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            path = trainer.checkpoint_callback.last_model_path
            assert (trainer.current_epoch > 0) == checkpoint.is_valid(path) == bool(path)

    saver = ModelCheckpoint(save_top_k=-1)
    toy.make_trainer(tmp_path, callbacks=[Reads(), saver], val_check_interval=1.0).fit(toy.ToyModule(), *toy.loaders())
    assert not [thread for thread in threading.enumerate() if thread.name == "fw-save"]
    folder = Path(saver.dirpath)
    assert len(checkpoint.valid_checkpoints(folder)) == 3
    assert checkpoint.read_pointer(folder, "last") == Path(saver.last_model_path)


def test_the_disks_refusal_of_the_last_checkpoint_fails_the_fit(toy: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    saver = ModelCheckpoint(dirpath=tmp_path / "file")
    trainer = toy.make_trainer(tmp_path, callbacks=[saver], max_epochs=1)
    with pytest.raises(CheckpointError, match="cannot save a checkpoint"):
        trainer.fit(toy.ToyModule(), *toy.loaders())
    assert saver.last_model_path == ""
    assert '"failed"' in Path(trainer.log_dir, "summary.json").read_text()


def test_the_rows_that_a_checkpoint_counts_are_on_the_disk_before_it(toy: ModuleType, tmp_path: Path) -> None:
    class Watches(CSVLogger):
        synced: ClassVar[list[tuple[int, int]]] = []

        def sync(self) -> None:
            super().sync()
            if trainer.fitting and threading.current_thread() is not threading.main_thread():
                file = Path(self.log_dir, "metrics.jsonl")
                rows = len(file.read_text().splitlines()) if file.exists() else 0
                self.synced.append((rows, len(checkpoint.valid_checkpoints(Path(self.log_dir, "checkpoints")))))

    logger = Watches()
    trainer = toy.make_trainer(tmp_path, callbacks=[ModelCheckpoint(save_top_k=-1)], logger=logger)
    trainer.fit(toy.ToyModule(), *toy.loaders())
    saved = checkpoint.valid_checkpoints(Path(trainer.log_dir, "checkpoints"))
    counted = [checkpoint.load(path)["loggers"][0]["state"]["rows"] for path in saved]
    assert [before for _, before in logger.synced] == list(range(len(saved)))
    assert all(rows >= least for (rows, _), least in zip(logger.synced, counted, strict=True))
    assert counted[-1] > 0


def test_a_copy_of_what_waits_for_a_job_waits_for_nothing() -> None:
    go = threading.Event()
    background = Background()
    background.start(lambda: go.wait(60), lambda: None)
    copy.deepcopy(background).finish()
    pickle.loads(pickle.dumps(background)).finish()
    go.set()
    background.finish()
