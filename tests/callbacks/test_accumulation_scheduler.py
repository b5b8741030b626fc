"""How many batches make an update, by epoch."""

from __future__ import annotations

import pytest

import framework as fw
from framework.callbacks import Callback, GradientAccumulationScheduler
from framework.errors import ConfigError


class Counts(Callback):
    def __init__(self) -> None:
        self.updates: list[tuple[int, int]] = []

    def on_train_epoch_end(self, trainer, pl_module):
        self.updates.append((trainer.accumulate_grad_batches, trainer.global_step))


@pytest.mark.parametrize("compile", [False, True])
def test_each_epoch_has_its_number(small, tmp_path, compile):
    counts = Counts()
    trainer = small.trainer(
        tmp_path, counts, GradientAccumulationScheduler({1: 2, 3: 4}), max_epochs=4, compile=compile
    )
    trainer.fit(small.Net(), small.loader())
    assert counts.updates == [(1, 6), (2, 9), (2, 12), (4, 14)]


def test_it_equals_a_trainer_with_that_number(small, tmp_path):
    a = small.trainer(tmp_path / "a", GradientAccumulationScheduler({0: 3}))
    a.fit(small.Net(), small.loader())
    b = small.trainer(tmp_path / "b", accumulate_grad_batches=3)
    b.fit(small.Net(), small.loader())
    small.assert_same(small.state(a), small.state(b))


def test_schedules_count_by_it(small, tmp_path):
    seen = []

    class Asks(small.Net):
        def configure_optimizers(self):
            seen.append(self.trainer.estimated_stepping_batches)
            return super().configure_optimizers()

    trainer = small.trainer(tmp_path, GradientAccumulationScheduler({1: 4}), max_epochs=3)
    trainer.fit(Asks(), small.loader())
    assert seen == [6 + 2 + 2] == [trainer.global_step]


def test_exact_resume(small, tmp_path):
    small.check_exact_resume(tmp_path, lambda: [GradientAccumulationScheduler({1: 2, 2: 3})], [5, 7, 9, 10])


@pytest.mark.parametrize("wrong", [{}, {0: 0}, {-1: 2}, {0: 2.5}, {"0": 2}, 3, {True: 2}])
def test_others_are_refused(wrong):
    with pytest.raises(ConfigError, match="GradientAccumulationScheduler"):
        GradientAccumulationScheduler(wrong)


def test_one_of_two():
    with pytest.raises(ConfigError, match="accumulate_grad_batches=2"):
        fw.Trainer(max_epochs=1, accumulate_grad_batches=2, callbacks=GradientAccumulationScheduler({0: 2}))
