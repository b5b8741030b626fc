"""The time of a training, and its limit."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

import framework as fw
from framework.callbacks import Callback, Timer
from framework.errors import ConfigError


class Slow(Callback):
    """Makes each batch take a while."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        time.sleep(self.seconds)


@pytest.mark.parametrize(
    ("given", "seconds"),
    [
        ("00:00:01:30", 90.0),
        (timedelta(minutes=2), 120.0),
        ({"hours": 1, "minutes": 1}, 3660.0),
        ("02:00:00:00", 172800.0),
    ],
)
def test_a_duration_in_every_form(given, seconds):
    assert Timer(given).duration == seconds
    assert Timer(given).time_remaining() == seconds
    assert Timer().time_remaining() is None


@pytest.mark.parametrize("given", ["1:30", "00:00:00:-1", {"hour": 1}, 90, timedelta(-1), "aa:00:00:00"])
def test_other_durations_are_refused(given):
    with pytest.raises(ConfigError, match="DD:HH:MM:SS|timedelta's"):
        Timer(given)
    with pytest.raises(ConfigError, match="max_time"):
        fw.Trainer(max_time=given)


def test_arguments_are_checked():
    with pytest.raises(ConfigError, match="Did you mean 'step'"):
        Timer(interval="steps")
    with pytest.raises(ConfigError, match="no stage 'training'"):
        Timer().time_elapsed("training")


def test_a_training_ends_within_an_epoch_when_its_time_is_up(small, tmp_path, capsys):
    timer = Timer(timedelta(seconds=0.12))
    trainer = small.trainer(tmp_path, Slow(0.05), timer, max_epochs=50)
    trainer.fit(small.Net(), small.loader(), small.loader(2))
    assert 1 <= trainer.global_step < 6
    assert trainer.should_stop
    assert timer.time_elapsed() >= 0.12
    assert timer.time_remaining() == 0.0
    assert timer.end_time("train") > timer.start_time("train")
    assert 0 < timer.time_elapsed("validate") < timer.time_elapsed()
    assert timer.time_elapsed("test") == 0.0
    assert timer.start_time("test") is None
    assert "used up" in capsys.readouterr().out


def test_by_epoch_it_ends_with_one(small, tmp_path):
    trainer = small.trainer(tmp_path, Slow(0.03), Timer(timedelta(seconds=0.04), interval="epoch", verbose=False))
    trainer.fit(small.Net(), small.loader())
    assert trainer.global_step == 6


def test_max_time_is_a_timer_and_no_limit_of_epochs(small, tmp_path, capsys):
    trainer = small.trainer(tmp_path, Slow(0.02), max_time={"milliseconds": 10}, max_epochs=None)
    assert trainer.max_epochs == -1
    trainer.fit(small.Net(), small.loader())
    assert trainer.global_step == 1
    assert "used up" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="one of them"):
        small.trainer(tmp_path, Timer(), max_time="00:01:00:00")


def test_minimum_steps_come_first(small, tmp_path):
    trainer = small.trainer(tmp_path, Timer(timedelta(0), verbose=False), min_steps=3)
    trainer.fit(small.Net(), small.loader())
    assert trainer.global_step == 3


def test_time_counts_on_in_a_resumed_run_and_a_longer_duration_goes_on(small, tmp_path):
    first = Timer(timedelta(seconds=0.1), verbose=False)
    trainer = small.trainer(tmp_path, Slow(0.04), first, max_epochs=40)
    trainer.fit(small.Net(), small.loader())
    done = trainer.global_step
    again = Timer(timedelta(seconds=0.1), verbose=False)
    same = small.trainer(tmp_path, again, max_epochs=40)
    with pytest.warns(UserWarning, match="should_stop is set"):
        same.fit(small.Net(), small.loader(), ckpt_path="last")
    assert again.time_elapsed() >= 0.1
    assert same.global_step == done
    longer = Timer(timedelta(seconds=60), verbose=False)
    more = small.trainer(tmp_path, longer, max_steps=done + 3, max_epochs=-1)
    more.fit(small.Net(), small.loader(), ckpt_path="last")
    assert more.global_step == done + 3
    assert longer.time_elapsed() >= 0.1


def test_exact_resume(small, tmp_path):
    small.check_exact_resume(tmp_path, lambda: [Timer("01:00:00:00")], [4, 12])
