"""Where the time went: reports on the screen and in files, of real trainings."""

from __future__ import annotations

import cProfile
import io
import pstats
import sys
from pathlib import Path

import numpy as np
import pytest

import framework as fw
from framework.callbacks import Callback
from framework.errors import ConfigError
from framework.loggers import Logger
from framework.profilers import AdvancedProfiler, SimpleProfiler
from framework.profilers.profiler import PassThroughProfiler, Profiler


class Line(fw.TrainModule):
    def __init__(self, fails: bool = False) -> None:
        super().__init__()
        self.layer = fw.nn.Linear(2, 1)
        self.fails = fails

    def training_step(self, batch, batch_idx):
        x, y = batch
        with self.trainer.profiler.profile("my part"):
            loss = ((self.layer(x) - y) ** 2).mean()
        if self.fails and batch_idx == 2:
            raise ZeroDivisionError
        return loss

    def validation_step(self, batch, batch_idx):
        x, y = batch
        self.log("val_loss", ((self.layer(x) - y) ** 2).mean())

    test_step = validation_step

    def configure_optimizers(self):
        return fw.optim.SGD(self.parameters(), lr=0.01)


class Watches(Callback):
    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        pass


def loader() -> fw.data.DataLoader:
    x = np.random.default_rng(0).normal(size=(8, 2)).astype(np.float32)
    return fw.data.DataLoader(fw.data.ArrayDataset(x, x[:, :1]), batch_size=2)


def fit(root: Path, profiler, module=None, **arguments) -> fw.Trainer:
    fw.seed_everything(0)
    defaults = {"max_epochs": 2, "enable_progress_bar": False, "enable_model_summary": False, "callbacks": [Watches()]}
    trainer = fw.Trainer(backend="cpu", default_root_dir=root, profiler=profiler, **{**defaults, **arguments})
    trainer.fit(module or Line(), loader(), loader())
    return trainer


def weights(trainer) -> np.ndarray:
    return trainer.module.layer.weight.detach().numpy()


def table(report: str) -> dict[str, list[str]]:
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in report.splitlines()]
    return {row[0]: row[1:] for row in rows if len(row) > 2}


def test_the_simple_report_is_printed_with_every_action(tmp_path, capsys):
    trainer = fit(tmp_path, "simple")
    report = capsys.readouterr().out
    assert report.startswith("FIT Profiler Report\n")
    rows = table(report)
    assert rows["Action"] == ["Mean duration (s)", "Num calls", "Total time (s)", "Percentage %"]
    calls = {name: int(row[1]) for name, row in rows.items() if name != "Action"}
    assert {
        "run_training_epoch": 2,
        "run_training_batch": 8,
        "train_dataloader_next": 8,
        "[Line]training_step": 8,
        "my part": 8,
        "backward": 8,
        "optimizer_step": 8,
        "[Watches]on_train_batch_end": 8,
        "[Line]validation_step": 10,  # with those of the trial
        "run_validation": 3,
    }.items() <= calls.items()
    seconds = [float(row[2]) for name, row in rows.items() if name not in ("Action", "Total")]
    assert seconds == sorted(seconds, reverse=True)
    assert all(0 < part <= float(rows["Total"][2]) for part in seconds)
    trainer.test(trainer.module, loader(), verbose=False)
    assert capsys.readouterr().out.startswith("TEST Profiler Report\n")


@pytest.mark.parametrize("kind", [SimpleProfiler, AdvancedProfiler])
def test_a_report_in_a_file_is_named_in_the_log(tmp_path, capsys, kind):
    trainer = fit(tmp_path / "a", kind(filename="where"))
    path = Path(trainer.log_dir) / "fit-where.txt"
    assert capsys.readouterr().out == f"profile of fit: {path}\n"
    assert "[Line]training_step" in path.read_text()
    fit(tmp_path / "b", kind(dirpath=tmp_path / "own", filename="where"), fast_dev_run=True)
    assert (tmp_path / "own" / "fit-where.txt").exists()
    capsys.readouterr()
    fit(tmp_path / "c", kind(filename="where"), fast_dev_run=True)
    assert capsys.readouterr().out.startswith("FIT Profiler Report")  # there is no run folder
    assert not (tmp_path / "c").exists()


def test_the_advanced_report_names_functions_and_leaves_the_inner_actions_out(tmp_path):
    profiler = AdvancedProfiler(filename="profile", dump_stats=True)
    trainer = fit(tmp_path, profiler, max_epochs=1)
    text = (Path(trainer.log_dir) / "fit-profile.txt").read_text()
    assert "Profile stats for: [Line]training_step" in text
    assert "(training_step)" in text
    assert "(forward)" in text
    stats = pstats.Stats(str(Path(trainer.log_dir) / "fit-profile-_Line_training_step.prof"), stream=io.StringIO())
    names = {function[2] for function in stats.stats}
    assert "training_step" in names
    assert "forward" not in names  # that is in the action within, "my part"
    few = AdvancedProfiler(line_count_restriction=2)
    with few.profile("sort"):
        sorted(range(100), key=str)
    assert "due to restriction <2>" in few.summary()


@pytest.mark.parametrize("compile", [False, True])
@pytest.mark.parametrize("profiler", ["simple", "advanced"])
def test_the_training_is_the_same(tmp_path, capsys, profiler, compile):
    plain = fit(tmp_path / "a", None, compile=compile)
    watched = fit(tmp_path / "b", profiler, compile=compile)
    np.testing.assert_array_equal(weights(plain), weights(watched))
    assert ("training_step and backward, compiled" in capsys.readouterr().out) == compile
    assert "step" not in vars(watched.optimizers[0])  # what was wrapped is free again


@pytest.mark.parametrize("kind", [SimpleProfiler, AdvancedProfiler])
def test_an_exception_ends_all_actions_and_the_report_comes(tmp_path, capsys, kind):
    profiler = kind()
    with pytest.raises(ZeroDivisionError):
        fit(tmp_path, profiler, Line(fails=True))
    report = capsys.readouterr().out
    assert "run_training_batch" in report
    assert sys.getprofile() is None
    other = cProfile.Profile()
    other.enable()  # Python's one place for profilers is free
    other.disable()
    if kind is SimpleProfiler:
        assert table(report)["run_training_epoch"][1] == "1"
        assert table(report)["run_training_batch"][1] == "3"


def test_off_it_wraps_nothing_and_a_block_costs_nothing(tmp_path):
    trainer = fit(tmp_path, None)
    assert type(trainer.profiler) is PassThroughProfiler
    assert trainer.profiler.profile("a") is trainer.profiler.profile("b")  # no object is made
    (hook,) = trainer._fit.hooks.train_batch_end
    assert hook.func.__func__ is Watches.on_train_batch_end
    assert trainer._fit.training_step.__func__ is Line.training_step
    assert trainer.profiler.summary() == ""


def test_a_profiler_of_ones_own(tmp_path):
    class Counts(Profiler):
        def __init__(self) -> None:
            super().__init__()
            self.seen: dict[str, int] = {}

        def start(self, action_name):
            self.seen[action_name] = self.seen.get(action_name, 0) + 1

        def stop(self, action_name):
            self.seen[action_name] -= 1

        def summary(self):
            return ""

    profiler = Counts()
    fit(tmp_path, profiler)
    assert "run_training_epoch" in profiler.seen
    assert set(profiler.seen.values()) == {0}


def test_actions_lie_within_each_other_and_unknown_stops_are_nothing():
    profiler = SimpleProfiler(extended=False)
    profiler.stop("never begun")
    profiler.start("outer")
    for _ in range(3):
        with profiler.profile("inner"):
            profiler.start("inner")
            profiler.stop("inner")
    profiler.stop("outer")
    assert (profiler.calls("outer"), profiler.calls("inner"), profiler.calls("never begun")) == (1, 6, 0)
    assert profiler.seconds("inner") >= 0
    assert list(table(profiler.summary())["Action"]) == ["Mean duration (s)", "Total time (s)"]
    with pytest.raises(ZeroDivisionError), profiler.profile("fails"):
        raise ZeroDivisionError
    assert profiler.calls("fails") == 1


def test_what_loggers_are_told_has_a_name(tmp_path, capsys):
    class Looks(Logger):
        name, version = "looks", 0

        def log_metrics(self, metrics, step=None):
            pass

        def on_before_optimizer_step(self, trainer, module, optimizer):
            pass

    profiler = SimpleProfiler()
    fit(tmp_path, profiler, logger=Looks())
    assert profiler.calls("[Trainer]on_before_optimizer_step") == 8
    assert "NoneType" not in capsys.readouterr().out


def test_an_unknown_name_is_refused():
    with pytest.raises(ConfigError, match="'simple', 'advanced'"):
        fw.Trainer(profiler="simpel", max_epochs=1)
