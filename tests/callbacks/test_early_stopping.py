"""When `EarlyStopping` stops, and what it says."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field

import pytest

from framework.callbacks import EarlyStopping
from framework.callbacks.early_stopping import StoppingReason
from framework.errors import ConfigError


@dataclass
class Loop:
    """The part of a Trainer that the callback looks at."""

    callback_metrics: dict[str, float] = field(default_factory=dict)
    current_epoch: int = 0
    check_val_every_n_epoch: int | None = 1
    val_check_interval: float | int = 1.0
    sanity_checking: bool = False
    fast_dev_run: int = 0
    should_stop: bool = False

    def feed(self, stopping: EarlyStopping, values, start: int = 0) -> int | None:
        """Epochs that log these values; the index of the one that stopped, None if none did."""
        for epoch, value in enumerate(values, start):
            self.current_epoch = epoch
            self.callback_metrics = {stopping.monitor: value}
            stopping.on_validation_end(self, None)
            stopping.on_train_epoch_end(self, None)
            if self.should_stop:
                return epoch
        return None


@pytest.mark.parametrize(
    ("arguments", "values", "stopped", "reason"),
    [
        ({"patience": 2, "min_delta": 0.1}, [3, 1, 0.95, 0.94], 3, "PATIENCE_EXHAUSTED"),
        ({"patience": 2}, [3, 1, 0.95, 0.94, 0.93], None, "NOT_STOPPED"),
        ({"patience": 0}, [3, 1, 1], 2, "PATIENCE_EXHAUSTED"),
        ({"patience": 1}, [1, 1], 1, "PATIENCE_EXHAUSTED"),
        ({"patience": 1, "min_delta": 0.5}, [1.0, 0.5], 1, "PATIENCE_EXHAUSTED"),
        ({"mode": "max", "patience": 2}, [1, 2, 1.5, 1.9], 3, "PATIENCE_EXHAUSTED"),
        ({"mode": "max", "patience": 3}, [1, 2, 1.5, 2.1, 2.0], None, "NOT_STOPPED"),
        ({"stopping_threshold": 0.1}, [1, 0.5, 0.1, 0.09], 3, "STOPPING_THRESHOLD"),
        ({"mode": "max", "stopping_threshold": 0.9}, [0.5, 0.95], 1, "STOPPING_THRESHOLD"),
        ({"divergence_threshold": 10.0}, [1, 10.0, 11.0], 2, "DIVERGENCE_THRESHOLD"),
        ({"mode": "max", "divergence_threshold": 0.1}, [0.5, 0.05], 1, "DIVERGENCE_THRESHOLD"),
        ({}, [1, math.nan], 1, "NON_FINITE_METRIC"),
        ({}, [1, math.inf], 1, "NON_FINITE_METRIC"),
        ({"check_finite": False, "patience": 3}, [1, math.nan, math.nan], None, "NOT_STOPPED"),
    ],
)
def test_when_it_stops(arguments, values, stopped, reason):
    stopping = EarlyStopping("val_loss", **arguments)
    assert Loop().feed(stopping, values) == stopped
    assert stopping.stopping_reason is StoppingReason[reason]
    assert stopping.stopped_epoch == (stopped or 0)
    assert (stopping.stopping_reason_message is None) == (stopped is None)


def test_the_messages_compare_the_right_way_round():
    said = {}
    for mode, values in (("min", [1.0, 11.0]), ("max", [1.0, 0.01])):
        stopping = EarlyStopping("m", mode=mode, divergence_threshold=10.0 if mode == "min" else 0.1)
        Loop().feed(stopping, values)
        said[mode] = stopping.stopping_reason_message
    assert said == {
        "min": "m = 11 > 10, the divergence threshold.",
        "max": "m = 0.01 < 0.1, the divergence threshold.",
    }
    stopping = EarlyStopping("m", stopping_threshold=0.1)
    Loop().feed(stopping, [0.05])
    assert stopping.stopping_reason_message == "m = 0.05 < 0.1, the stopping threshold."


@pytest.mark.parametrize("cut", range(6))
def test_resumed_it_stops_where_it_would_have(cut):
    values = [3, 1, 2, 0.5, 0.6, 0.7, 0.8]
    whole = EarlyStopping("v", patience=3)
    assert Loop().feed(whole, values) == 6
    first = EarlyStopping("v", patience=3)
    Loop().feed(first, values[:cut])
    second = EarlyStopping("v", patience=3)
    second.load_state_dict(json.loads(json.dumps(first.state_dict())))
    loop = Loop()
    second.on_train_start(loop, None)
    assert not loop.should_stop
    assert loop.feed(second, values[cut:], start=cut) == 6
    assert second.state_dict() == whole.state_dict()


def test_a_stopped_run_stops_again_but_a_longer_patience_given_now_holds():
    first = EarlyStopping("v", patience=2)
    Loop().feed(first, [1, 2, 2])
    assert first.stopping_reason is StoppingReason.PATIENCE_EXHAUSTED
    again = EarlyStopping("v", patience=2)
    again.load_state_dict(first.state_dict())
    loop = Loop()
    again.on_train_start(loop, None)
    assert loop.should_stop
    longer = EarlyStopping("v", patience=5)
    longer.load_state_dict(first.state_dict())
    loop = Loop()
    longer.on_train_start(loop, None)
    assert not loop.should_stop
    assert longer.stopping_reason is StoppingReason.NOT_STOPPED
    assert loop.feed(longer, [2, 2, 2, 2], start=3) == 5


def test_a_real_run_goes_on_with_the_patience_of_the_config(small, tmp_path):
    class Stuck(small.Net):
        def validation_step(self, batch, batch_idx):
            self.log("val_loss", 1.0)

    def run(patience, **arguments):
        stopping = EarlyStopping("val_loss", patience=patience)
        trainer = small.trainer(tmp_path, stopping, max_epochs=20)
        trainer.fit(Stuck(), small.loader(2), small.loader(1), **arguments)
        return trainer, stopping

    first, stopping = run(2)
    assert (first.current_epoch, stopping.wait_count, stopping.stopped_epoch) == (3, 2, 2)
    longer, stopping = run(5, ckpt_path="last")
    assert (longer.current_epoch, stopping.wait_count, stopping.patience) == (6, 5, 5)
    with pytest.warns(UserWarning, match="nothing to train"):
        again, stopping = run(3, ckpt_path="last")
    assert (again.current_epoch, stopping.patience, again.should_stop) == (6, 3, True)


def test_a_missing_metric_names_what_there_is():
    loop = Loop({"val_acc": 0.5, "train_loss": 1.0})
    with pytest.raises(ConfigError, match=r"'train_loss', 'val_acc'.*Did you mean 'val_acc'"):
        EarlyStopping("val_accc").on_train_epoch_end(loop, None)
    lenient = EarlyStopping("val_accc", strict=False)
    with pytest.warns(UserWarning, match="nothing logs that metric"):
        lenient.on_train_epoch_end(loop, None)
    lenient.on_train_epoch_end(loop, None)  # and that was the one warning
    assert not loop.should_stop


@pytest.mark.parametrize(
    ("arguments", "loop", "checks_at_epoch_end"),
    [
        ({}, {}, True),
        ({}, {"check_val_every_n_epoch": 2}, False),
        ({}, {"val_check_interval": 0.5}, False),
        ({}, {"val_check_interval": 1}, False),
        ({}, {"check_val_every_n_epoch": None, "val_check_interval": 7}, False),
        ({"check_on_train_epoch_end": False}, {}, False),
        ({"check_on_train_epoch_end": True}, {"val_check_interval": 0.5}, True),
    ],
)
def test_where_it_checks(arguments, loop, checks_at_epoch_end):
    stopping = EarlyStopping("v", patience=100, **arguments)
    state = Loop({"v": 1.0}, **loop)
    stopping.on_validation_end(state, None)
    assert (stopping.best_score == 1.0) != checks_at_epoch_end
    state.callback_metrics = {"v": 0.5}
    stopping.on_train_epoch_end(state, None)
    assert (stopping.best_score == 0.5) == checks_at_epoch_end


def test_it_sleeps_in_the_sanity_check_and_a_fast_dev_run():
    stopping = EarlyStopping("v", check_on_train_epoch_end=False)
    stopping.on_validation_end(Loop({}, sanity_checking=True), None)
    stopping.on_validation_end(Loop({}, fast_dev_run=1), None)
    assert math.isinf(stopping.best_score)


def test_arguments_are_checked():
    with pytest.raises(ConfigError, match="Did you mean 'min'"):
        EarlyStopping("v", mode="minn")
    with pytest.raises(ConfigError, match="negative"):
        EarlyStopping("v", patience=-1)


def test_what_it_says(capsys):
    stopping = EarlyStopping("v", patience=1, verbose=True)
    Loop().feed(stopping, [2.0, 1.5, 1.6])
    assert capsys.readouterr().out.splitlines() == [
        "EarlyStopping: v improved to 2",
        "EarlyStopping: v improved to 1.5, better by 0.5",
        "EarlyStopping: v did not improve by more than 0 in the last 1 checks; the best was 1.5.",
    ]
