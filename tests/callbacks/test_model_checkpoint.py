"""What `ModelCheckpoint` keeps, in real trainings of a tiny model."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import textwrap
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

import framework as fw
from framework.callbacks import Callback, ModelCheckpoint
from framework.errors import CheckpointError, ConfigError
from framework.loggers import Logger

ROOT = Path(__file__).resolve().parents[2]
BATCHES = 4


class Scripted(fw.TrainModule):
    """Trains a line; its validation logs the next of the given scores."""

    def __init__(self, scores=(), name="score") -> None:
        super().__init__()
        self.layer = fw.nn.Linear(2, 1)
        self.scores, self.name = list(scores), name

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = ((self.layer(x) - y) ** 2).mean()
        self.log("train_loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        self.log(self.name, self.scores[self.current_epoch] if self.scores else 1.0)

    def configure_optimizers(self):
        return fw.optim.SGD(self.parameters(), lr=0.01)


def loader(batches: int = BATCHES):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(batches * 2, 2)).astype(np.float32)
    return fw.data.DataLoader(fw.data.ArrayDataset(x, x[:, :1]), batch_size=2)


def train(root: Path, callbacks, module=None, ckpt_path=None, validate=True, **arguments) -> fw.Trainer:
    fw.seed_everything(0)
    defaults = {"max_epochs": 3, "enable_progress_bar": False, "enable_model_summary": False, "backend": "cpu"}
    if not validate:
        defaults["limit_val_batches"] = 0
    trainer = fw.Trainer(**{**defaults, "default_root_dir": root, "callbacks": callbacks, **arguments})
    trainer.fit(module or Scripted(), loader(), loader(1) if validate else None, ckpt_path=ckpt_path)
    return trainer


def folders(path: Path | str) -> list[str]:
    return sorted(entry.name for entry in Path(path).iterdir() if entry.is_dir())


def pointer(path: Path | str, which: str) -> str:
    return (Path(path) / which).read_text().strip()


def checkpoints(trainer: fw.Trainer) -> Path:
    return Path(trainer.log_dir) / "checkpoints"


# -- which ones are kept ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scores", "mode", "top_k", "kept", "best"),
    [
        ([3, 1, 2, 0.5], "min", 1, [3], 3),
        ([3, 1, 2, 0.5], "min", 2, [1, 3], 3),
        ([3, 1, 2, 0.5], "max", 2, [0, 2], 0),
        ([3, 1, 2, 0.5], "min", -1, [0, 1, 2, 3], 3),
        ([3, 1, 2, 0.5], "min", 0, [], None),
        ([1, 1, 1, 1], "min", 1, [0], 0),
        ([math.nan, 2, math.nan, 3], "min", 2, [1, 3], 1),
        ([math.nan, math.nan, 1, 2], "max", 1, [3], 3),
    ],
)
def test_the_best_are_kept(tmp_path, scores, mode, top_k, kept, best):
    callback = ModelCheckpoint(monitor="score", mode=mode, save_top_k=top_k)
    trainer = train(tmp_path, callback, Scripted(scores), max_epochs=4)
    names = [f"epoch={epoch}-step={(epoch + 1) * BATCHES}" for epoch in range(4)]
    if not kept:
        assert not checkpoints(trainer).exists()
        assert (callback.best_model_path, callback.best_model_score, callback.last_model_path) == ("", None, "")
        return
    folder = checkpoints(trainer)
    assert folders(folder) == [names[epoch] for epoch in kept]
    assert callback.best_k_models == {str(folder / names[epoch]): scores[epoch] for epoch in kept}
    assert callback.best_model_path == str(folder / names[best])
    assert callback.best_model_score == scores[best]
    assert pointer(folder, "best") == names[best]
    assert pointer(folder, "last") == names[kept[-1]] == Path(callback.last_model_path).name
    worst = (max if mode == "min" else min)(kept, key=lambda epoch: scores[epoch])
    assert (callback.kth_value, Path(callback.kth_best_model_path).name) == (scores[worst], names[worst])


def test_without_a_monitor_the_newest_is_kept(tmp_path):
    callback = ModelCheckpoint()
    trainer = train(tmp_path, callback)
    assert folders(checkpoints(trainer)) == ["epoch=2-step=12"]
    assert callback.best_model_path == callback.last_model_path
    assert callback.best_model_score is None
    assert callback.best_k_models == {}
    assert pointer(checkpoints(trainer), "best") == "epoch=2-step=12"


def test_last_is_the_newest_whatever_its_score(tmp_path):
    callback = ModelCheckpoint(monitor="score", save_last=True)
    trainer = train(tmp_path, callback, Scripted([1, 2, 3]))
    assert folders(checkpoints(trainer)) == ["epoch=0-step=4", "epoch=2-step=12"]
    assert pointer(checkpoints(trainer), "last") == "epoch=2-step=12"
    assert pointer(checkpoints(trainer), "best") == "epoch=0-step=4"


def test_last_is_also_the_end_of_training(tmp_path):
    callback = ModelCheckpoint(every_n_train_steps=5, save_last=True, save_top_k=0)
    trainer = train(tmp_path, callback, validate=False)
    assert folders(checkpoints(trainer)) == ["epoch=2-step=12"]
    linked = train(tmp_path, ModelCheckpoint(every_n_train_steps=5, save_last="link"), validate=False)
    assert folders(checkpoints(linked)) == ["epoch=2-step=10"]


def test_a_saved_state_is_that_of_its_step_and_loads(tmp_path):
    trainer = train(tmp_path, ModelCheckpoint(every_n_train_steps=3, save_top_k=-1), validate=False)
    again = Scripted()
    resumed = ModelCheckpoint(every_n_train_steps=3, save_top_k=-1)
    train(tmp_path, resumed, again, checkpoints(trainer) / "epoch=1-step=6", validate=False)
    assert np.array_equal(again.layer.weight.detach().numpy(), trainer.module.layer.weight.detach().numpy())


# -- triggers --------------------------------------------------------------------------------------


class Steps(Callback):
    """Notes the steps at which checkpoints were taken."""

    def __init__(self) -> None:
        self.steps: list[int] = []

    def on_save_checkpoint(self, trainer, pl_module, checkpoint):
        self.steps.append(checkpoint["global_step"])


@pytest.mark.parametrize(
    ("arguments", "trainer", "steps"),
    [
        ({}, {}, [4, 8, 12]),
        ({"every_n_epochs": 2}, {}, [8]),
        ({"every_n_epochs": 0}, {}, []),
        ({"every_n_train_steps": 3}, {}, [3, 6, 9, 12]),
        ({"every_n_train_steps": 4}, {}, [4, 8, 12]),
        ({"every_n_train_steps": 1, "monitor": "score"}, {}, [4, 5, 6, 7, 8, 9, 10, 11, 12]),
        ({"every_n_train_steps": 3, "monitor": "score"}, {}, [4, 6, 9, 12]),
        ({"every_n_train_steps": 3, "filename": "{step}-{score}"}, {}, [4, 6, 9, 12]),
        ({"every_n_train_steps": 2, "monitor": "train_loss"}, {}, [2, 4, 6, 8, 10, 12]),
        ({"train_time_interval": timedelta(0)}, {}, list(range(1, 13))),
        ({"train_time_interval": timedelta(days=1)}, {}, []),
        ({}, {"val_check_interval": 0.5}, [2, 4, 6, 8, 10, 12]),
        ({"save_on_train_epoch_end": True}, {"val_check_interval": 0.5}, [4, 8, 12]),
        ({"save_on_train_epoch_end": False}, {}, [4, 8, 12]),
        ({"monitor": "score"}, {"check_val_every_n_epoch": 3}, [12]),
        ({"monitor": "score", "save_on_train_epoch_end": True}, {"check_val_every_n_epoch": 2}, [8, 12]),
        ({}, {"limit_val_batches": 0, "check_val_every_n_epoch": 2}, [4, 8, 12]),
        ({"every_n_train_steps": 1}, {"accumulate_grad_batches": 3}, [1, 2, 3, 4, 5, 6]),
        ({}, {"max_steps": 6}, [4, 6]),
        ({}, {"fast_dev_run": True}, []),
    ],
)
def test_when_it_saves(tmp_path, arguments, trainer, steps):
    noted = Steps()
    train(tmp_path, [noted, ModelCheckpoint(save_top_k=-1, **arguments)], **trainer)
    assert noted.steps == steps


def test_a_step_trigger_at_the_end_of_an_epoch_waits_for_its_validation(tmp_path):
    """Otherwise the checkpoint of the second epoch would be ranked by the first one's score."""
    callback = ModelCheckpoint(monitor="score", every_n_train_steps=BATCHES, save_top_k=-1)
    train(tmp_path, callback, Scripted([3, 2, 1]))
    assert list(callback.best_k_models.values()) == [3, 2, 1]


@pytest.mark.parametrize("interval", [2, 0.5])
def test_the_same_within_an_epoch(tmp_path, interval):
    class Counting(Scripted):
        def validation_step(self, batch, batch_idx):
            self.log("score", float(self.global_step))

    callback = ModelCheckpoint(monitor="score", every_n_train_steps=2, save_top_k=-1)
    train(tmp_path, callback, Counting(), val_check_interval=interval)
    assert list(callback.best_k_models.values()) == [2, 4, 6, 8, 10, 12]


def test_a_metric_that_comes_at_the_epochs_end_is_waited_for(tmp_path):
    class EpochMean(Scripted):
        def training_step(self, batch, batch_idx):
            loss = super().training_step(batch, batch_idx)
            self.log("mean_loss", loss, on_step=False, on_epoch=True)
            return loss

    noted = Steps()
    callback = ModelCheckpoint(monitor="mean_loss", every_n_train_steps=2, save_top_k=-1)
    train(tmp_path, [noted, callback], EpochMean())
    assert noted.steps[0] == 4


def test_nobody_logs_the_monitor(tmp_path):
    with pytest.raises(ConfigError, match=r"'scoore'.*'score', 'train_loss'.*Did you mean 'score'"):
        train(tmp_path, ModelCheckpoint(monitor="scoore"))
    with pytest.raises(ConfigError, match=r"filename='\{val\}'.*nothing logs the metric 'val'"):
        train(tmp_path, ModelCheckpoint(filename="{val}"))
    with pytest.raises(ConfigError, match="'scoore'"):
        train(tmp_path, ModelCheckpoint(monitor="scoore", every_n_train_steps=1), validate=False)
    with pytest.raises(ConfigError, match="'scoore'"):  # although no trigger came
        train(tmp_path, ModelCheckpoint(monitor="scoore", every_n_train_steps=9, save_last=True), max_epochs=1)


def test_an_exception_saves_the_state_as_it_is(tmp_path):
    class Fails(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 2:
                raise ZeroDivisionError

    callback = ModelCheckpoint(monitor="score", filename="{step}-{score}-{train_loss:.0f}", save_on_exception=True)
    with pytest.raises(ZeroDivisionError):
        train(tmp_path, [Fails(), callback])
    folder = Path(callback.dirpath)
    assert folders(folder) == [pointer(folder, "last")]
    assert pointer(folder, "last").startswith("step=2-score=nan-train_loss=")
    assert pointer(folder, "last").endswith("-interrupted")


def test_the_state_can_be_saved_at_any_time_and_is_kept_until_the_next(tmp_path):
    class Saves(Callback):
        priority = -300

        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            if trainer.global_step in (6, 7):
                path = Path(trainer.checkpoint_callback.save_now(trainer))
                assert path.name == f"epoch=1-step={trainer.global_step}-interrupted"
                assert trainer.checkpoint_callback.save_now(trainer) == str(path)  # not twice
                assert folders(path.parent) == ["epoch=0-step=4", path.name]
                assert pointer(path.parent, "last") == path.name

    trainer = train(tmp_path, [Saves(), ModelCheckpoint(monitor="score")], Scripted([1, 2, 3]))
    assert folders(checkpoints(trainer)) == ["epoch=0-step=4", "epoch=1-step=7-interrupted"]
    with_better = train(tmp_path, [Saves(), ModelCheckpoint(monitor="score", save_top_k=2)], Scripted([3, 2, 1]))
    assert folders(checkpoints(with_better)) == ["epoch=1-step=8", "epoch=2-step=12"]


def test_what_was_saved_on_an_exception_stands_in_nobodys_way(tmp_path):
    """It comes at the very step whose checkpoint the validation that fails would have made."""

    class Fails(Scripted):
        def validation_step(self, batch, batch_idx):
            if self.current_epoch == 1 and not self.trainer.resume_source:
                raise ZeroDivisionError
            super().validation_step(batch, batch_idx)

    arguments = {"monitor": "score", "save_top_k": 2, "save_on_exception": True}
    with pytest.raises(ZeroDivisionError):
        train(tmp_path, ModelCheckpoint(**arguments), Fails([3, 2, 1]))
    folder = tmp_path / "runs/fails/version_0/checkpoints"
    assert folders(folder) == ["epoch=0-step=4", "epoch=1-step=8-interrupted"]
    source = folder / pointer(folder, "last")
    train(tmp_path, ModelCheckpoint(**arguments), Fails([3, 2, 1]), ckpt_path=source)
    assert set(folders(folder)) - {source.name} == {"epoch=1-step=8", "epoch=2-step=12"}


def test_weights_alone_are_smaller_load_and_are_passed_over_on_resume(tmp_path):
    weights = {"monitor": "score", "filename": "weights-{step}", "save_weights_only": True, "save_top_k": 2}
    callbacks = [ModelCheckpoint(save_top_k=-1), small := ModelCheckpoint(**weights)]
    trainer = train(tmp_path, callbacks, Scripted([3, 1, 2]))
    folder = checkpoints(trainer)
    assert set(folders(folder)) == {f"epoch={e}-step={4 * e + 4}" for e in range(3)} | {
        "weights-step=8",
        "weights-step=12",
    }
    assert small.best_model_path == str(folder / "weights-step=8")
    assert "optimizer" not in json.loads((folder / "weights-step=8" / "state.json").read_text())["trees"]
    loaded = Scripted.load_from_checkpoint(small.best_model_path)
    full = Scripted.load_from_checkpoint(folder / "epoch=1-step=8")
    np.testing.assert_array_equal(loaded.layer.weight.detach().numpy(), full.layer.weight.detach().numpy())
    with pytest.raises(CheckpointError, match=r"weights alone.*load_from_checkpoint"):
        train(tmp_path, [ModelCheckpoint()], ckpt_path=folder / "weights-step=12", max_epochs=4)
    again = [ModelCheckpoint(save_top_k=-1), ModelCheckpoint(**weights)]
    resumed = train(tmp_path, again, Scripted([3, 1, 2, 0]), ckpt_path="last", max_epochs=4)
    assert Path(resumed.resume_source).name == "epoch=2-step=12"
    assert [Path(path).name for path in again[1].best_k_models] == ["weights-step=8", "weights-step=16"]
    assert "weights-step=12" not in folders(folder)


def test_the_kept_ones_can_be_written_as_yaml(tmp_path):
    import yaml

    trainer = train(tmp_path, callback := ModelCheckpoint(monitor="score", save_top_k=2), Scripted([3, 1, 2]))
    callback.to_yaml()
    written = yaml.safe_load((checkpoints(trainer) / "best_k_models.yaml").read_text())
    assert written == callback.best_k_models
    assert list(written.values()) == [1.0, 2.0]


def test_one_object_can_serve_several_runs(tmp_path):
    callback = ModelCheckpoint(monitor="score")
    for scores, best in (([3, 2, 1], 2), ([4, 5, 6], 0)):
        trainer = train(tmp_path, callback, Scripted(scores))
        assert folders(checkpoints(trainer)) == [f"epoch={best}-step={4 * best + 4}"]
        assert Path(callback.best_model_path).parent == checkpoints(trainer)


# -- names and places ------------------------------------------------------------------------------


def test_a_taken_name_gets_a_version(tmp_path):
    trainer = train(tmp_path, ModelCheckpoint(filename="net", monitor="train_loss", save_top_k=-1))
    assert folders(checkpoints(trainer)) == ["net", "net-v1", "net-v2"]

    class FromSeven(ModelCheckpoint):
        STARTING_VERSION = 7

    trainer = train(tmp_path, FromSeven(filename="net", monitor="train_loss", save_top_k=-1))
    assert folders(checkpoints(trainer)) == ["net", "net-v7", "net-v8"]


def test_without_versions_an_own_checkpoint_is_replaced(tmp_path):
    callback = ModelCheckpoint(filename="net", monitor="score", mode="max", save_top_k=3, enable_version_counter=False)
    trainer = train(tmp_path, callback, Scripted([1, 2, 3]))
    assert folders(checkpoints(trainer)) == ["net"]
    assert callback.best_k_models == {str(checkpoints(trainer) / "net"): 3}
    state = json.loads((checkpoints(trainer) / "net" / "state.json").read_text())
    assert state["trees"]["progress"]["global_step"] == 12


def test_without_versions_somebody_elses_folder_is_an_error(tmp_path):
    (tmp_path / "ours" / "net").mkdir(parents=True)
    (tmp_path / "ours" / "net" / "manifest.json").write_text("{}")
    with pytest.raises(CheckpointError, match="not a checkpoint of this callback"):
        train(tmp_path, ModelCheckpoint(tmp_path / "ours", filename="net", enable_version_counter=False))
    assert (tmp_path / "ours" / "net" / "manifest.json").read_text() == "{}"


def test_an_own_folder_shared_by_runs_loses_nothing_of_others(tmp_path):
    (tmp_path / "ours" / "notes").mkdir(parents=True)
    for _ in range(2):
        train(tmp_path, ModelCheckpoint(tmp_path / "ours"))
    assert folders(tmp_path / "ours") == ["epoch=2-step=12", "epoch=2-step=12-v1", "notes"]


def test_two_callbacks_share_a_folder(tmp_path):
    steps = ModelCheckpoint(every_n_train_steps=2, save_top_k=-1)
    best = ModelCheckpoint(monitor="score", filename="best-{epoch}")
    trainer = train(tmp_path, [steps, best], Scripted([1, 2, 3]))
    folder = checkpoints(trainer)
    assert folders(folder) == [
        "best-epoch=0",
        "epoch=0-step=2",
        "epoch=0-step=4",
        "epoch=1-step=6",
        "epoch=1-step=8",
        "epoch=2-step=10",
        "epoch=2-step=12",
    ]
    assert pointer(folder, "best") == "best-epoch=0"  # the one with a monitor decides
    assert pointer(folder, "last") == "epoch=2-step=12"


def test_loggers_hear_of_each_checkpoint(tmp_path):
    class Hears(Logger):
        name, version = "hears", 0

        def __init__(self) -> None:
            self.heard: list[str] = []

        def log_metrics(self, metrics, step=None):
            pass

        def after_save_checkpoint(self, checkpoint_callback):
            self.heard.append(Path(checkpoint_callback.last_model_path).name)
            if len(self.heard) == 2:
                raise OSError("no network")

    logger = Hears()
    with pytest.warns(RuntimeWarning, match="Hears.after_save_checkpoint failed"):
        train(tmp_path, ModelCheckpoint(), logger=logger)
    assert logger.heard == ["epoch=0-step=4", "epoch=1-step=8", "epoch=2-step=12"]


def test_what_it_says(tmp_path, capsys):
    train(tmp_path, ModelCheckpoint(monitor="score", verbose=True), Scripted([2, 3, 1]))
    assert capsys.readouterr().out.splitlines() == [
        "Epoch 0, global step 4: 'score' is 2.00000; saved 'epoch=0-step=4'",
        "Epoch 1, global step 8: 'score' is 3.00000 is not among the best 1",
        "Epoch 2, global step 12: 'score' is 1.00000; saved 'epoch=2-step=12'",
    ]


def test_a_checkpoint_that_cannot_be_written_leaves_the_others_and_the_books_alone(tmp_path):
    class Blocks(Callback):
        def on_train_epoch_start(self, trainer, pl_module):
            if trainer.current_epoch == 1:  # what stands there is a file, so no folder can be made
                assert trainer.checkpoint_callback.last_model_path  # waits until it is written
                Path(trainer.log_dir, "checkpoints").rename(trainer.log_dir + "/moved")
                Path(trainer.log_dir, "checkpoints").write_text("")

    callback = ModelCheckpoint(monitor="score")
    with pytest.raises(CheckpointError):
        train(tmp_path, [Blocks(), callback], Scripted([3, 2, 1]))
    assert Path(callback.best_model_path).name == "epoch=0-step=4"
    assert folders(Path(callback.dirpath).parent / "moved") == ["epoch=0-step=4"]


# -- interruption and resume -----------------------------------------------------------------------

SCORES = [5, 3, 4, 2, 6, 1]
KINDS = {
    "newest": {},
    "top 2": {"monitor": "score", "save_top_k": 2},
    "top 2 and last": {"monitor": "score", "save_top_k": 2, "save_last": True},
    "all": {"monitor": "score", "save_top_k": -1, "filename": "net"},
    "by steps": {"monitor": "score", "every_n_train_steps": 3, "save_top_k": 2, "save_last": True},
    "replacing": {"filename": "net", "enable_version_counter": False},
}


class Stops(Callback):
    def __init__(self, at: int) -> None:
        self.at = at

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        if trainer.progress.total_batches == self.at:
            raise ZeroDivisionError


@pytest.mark.parametrize("stops", [(6, 8, 15, 22), pytest.param(range(6 * BATCHES), marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", KINDS)
def test_interrupted_and_resumed_it_keeps_what_it_would_have_kept(tmp_path, kind, stops):
    """Stopped before a batch; the checkpoint that was resumed from is the one extra that may stay."""
    whole = ModelCheckpoint(**KINDS[kind])
    expected = folders(checkpoints(train(tmp_path / "whole", whole, Scripted(SCORES), max_epochs=6)))
    for stop in stops:
        root = tmp_path / f"{stop}"
        with pytest.raises(ZeroDivisionError):
            train(root, [Stops(stop), ModelCheckpoint(**KINDS[kind])], Scripted(SCORES), max_epochs=6)
        folder = root / "runs/scripted/version_0/checkpoints"
        if not folder.exists():
            continue
        source = folder / pointer(folder, "last")
        resumed = ModelCheckpoint(**KINDS[kind])
        train(root, [resumed], Scripted(SCORES), max_epochs=6, ckpt_path=source)
        assert set(folders(folder)) == {*expected, source.name}, f"stopped before batch {stop}"
        assert [Path(p).name for p in resumed.best_k_models] == [Path(p).name for p in whole.best_k_models]
        assert pointer(folder, "last") == Path(whole.last_model_path).name
        assert pointer(folder, "best") == Path(whole.best_model_path).name


def test_sources_of_earlier_resumes_do_not_pile_up(tmp_path):
    path = None
    for stop in (5, 9, 13, 17, 21, 99):
        callbacks = [Stops(stop), ModelCheckpoint(monitor="score")]
        try:
            train(tmp_path, callbacks, Scripted([6, 5, 4, 3, 2, 1]), max_epochs=6, ckpt_path=path)
        except ZeroDivisionError:
            folder = tmp_path / "runs/scripted/version_0/checkpoints"
            path = folder / pointer(folder, "last")
    assert folders(folder) == ["epoch=4-step=20", "epoch=5-step=24"]


def test_a_source_from_elsewhere_is_left_alone_and_nothing_of_it_is_counted(tmp_path):
    import shutil

    first = train(tmp_path, ModelCheckpoint(monitor="score"), Scripted([1] * 9), max_epochs=1)
    shutil.copytree(checkpoints(first) / "epoch=0-step=4", tmp_path / "copy")
    shutil.rmtree(first.log_dir)
    callback = ModelCheckpoint(monitor="score")
    trainer = train(tmp_path, callback, Scripted([1, 2, 3]), ckpt_path=tmp_path / "copy")
    assert (tmp_path / "copy" / "manifest.json").exists()
    assert folders(checkpoints(trainer)) == ["epoch=1-step=8"]
    assert callback.best_model_score == 2


KILLED = """
    import os, signal, sys
    sys.path.insert(0, {tests!r})
    import framework as fw
    from framework.callbacks import ModelCheckpoint, checkpoint_folder
    from framework.train import checkpoint
    from test_model_checkpoint import KINDS, SCORES, Scripted, train
    from pathlib import Path

    seen = 0
    def killing(function, when):
        def wrapped(*arguments):
            global seen
            seen += 1
            if when == "before" and seen == {at}:
                os.kill(os.getpid(), signal.SIGKILL)
            result = function(*arguments)
            if when == "after" and seen == {at}:
                os.kill(os.getpid(), signal.SIGKILL)
            return result
        return wrapped
    if {point!r} == "pointer":
        fw.Trainer.write_checkpoint_pointer = killing(fw.Trainer.write_checkpoint_pointer, {when!r})
    if {point!r} == "save":
        checkpoint.write = killing(checkpoint.write, {when!r})
    if {point!r} == "delete":
        checkpoint_folder.delete = killing(checkpoint_folder.delete, {when!r})
    train(Path({root!r}), [ModelCheckpoint(**KINDS[{kind!r}])], Scripted(SCORES), max_epochs=6)
"""


@pytest.mark.parametrize("kind", ["top 2 and last", pytest.param("replacing", marks=pytest.mark.slow)])
@pytest.mark.parametrize("point", ["save", "pointer", "delete"])
@pytest.mark.parametrize("when", ["before", "after"])
def test_killed_between_saving_and_deleting(tmp_path, kind, point, when):
    """A real SIGKILL at the seams of one save; the newest whole checkpoint goes on to the same kept set."""
    whole = train(tmp_path / "whole", ModelCheckpoint(**KINDS[kind]), Scripted(SCORES), max_epochs=6)
    script = KILLED.format(
        tests=str(Path(__file__).parent),
        at=2 if point == "delete" else 4,
        point=point,
        when=when,
        root=str(tmp_path / "cut"),
        kind=kind,
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    killed = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)], env=environment, capture_output=True, text=True, check=False
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    folder = tmp_path / "cut/runs/scripted/version_0/checkpoints"
    source = fw.train.checkpoint.newest_valid(folder)
    train(tmp_path / "cut", [ModelCheckpoint(**KINDS[kind])], Scripted(SCORES), max_epochs=6, ckpt_path=source)
    assert set(folders(folder)) - {source.name} == set(folders(checkpoints(whole))) - {source.name}
    for which in ("last", "best"):
        assert pointer(folder, which) == pointer(checkpoints(whole), which)
        assert fw.train.checkpoint.read_pointer(folder, which) is not None
