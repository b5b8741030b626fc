"""The search for a learning rate."""

from __future__ import annotations

import math
import sys
from pathlib import Path

import numpy as np
import pytest

import framework as fw
from framework.callbacks import LearningRateFinder
from framework.callbacks.learning_rate_finder import LearningRates
from framework.errors import ConfigError


def test_the_suggestion_lies_where_the_loss_falls_most_steeply_with_the_logarithm():
    rates = [10 ** (-6 + 6 * i / 99) for i in range(100)]
    losses = [1 / (1 + math.exp(3 * (math.log10(r) + 2.5))) for r in rates]  # falls most at 10^-2.5
    found = LearningRates(rates, losses)
    assert found.suggestion() == pytest.approx(10**-2.5, rel=0.15)
    assert found.slopes()[50] < 0
    assert found.smoothed[0] == pytest.approx(losses[0])
    assert LearningRates(rates[:5], losses[:5]).suggestion() is None


def test_slopes_are_against_the_logarithm():
    found = LearningRates([1.0, 10.0, 100.0], [3.0, 2.0, 1.0])
    assert found.slopes() == pytest.approx([-1 / math.log(10)] * 3)


def test_a_useful_rate_on_a_regression(small, tmp_path):
    for seed in range(4):
        fw.seed_everything(seed)
        finder = LearningRateFinder()
        trainer = small.trainer(tmp_path / str(seed), finder, max_epochs=1)
        fw.seed_everything(seed)
        trainer.fit(small.Net(), small.loader(20))
        assert 1e-3 < finder.optimal_lr.suggestion() < 1.0


class Plain(fw.TrainModule):
    """Without an attribute for the rate."""

    def validation_step(self, batch, batch_idx):
        pass

    def __init__(self) -> None:
        super().__init__()
        self.layer = fw.nn.Linear(3, 1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        return ((self.layer(x) - y) ** 2).mean()

    def configure_optimizers(self):
        return fw.optim.SGD(self.parameters(), lr=0.123)


def one_cycle(optimizer):
    schedule = fw.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=optimizer.param_groups[0]["lr"], total_steps=18)
    return {"scheduler": schedule, "interval": "step"}


def test_optimizer_and_schedule_are_made_with_the_rate(small, tmp_path):
    finder = LearningRateFinder(min_lr=1e-4, num_training_steps=40)
    module = small.Net(schedule=one_cycle)
    trainer = small.trainer(tmp_path, finder)
    trainer.fit(module, small.loader())
    rate = finder.optimal_lr.suggestion()
    assert module.lr == module.hparams["lr"] == rate != 0.05
    assert trainer.lr_scheduler_configs[0].scheduler.optimizer is trainer.optimizers[0]
    by_hand = small.trainer(tmp_path / "by_hand")
    by_hand.fit(small.Net(lr=rate, schedule=one_cycle), small.loader())
    small.assert_same(small.state(trainer), small.state(by_hand))


@pytest.mark.parametrize("compile", [False, True])
def test_the_search_leaves_no_trace(small, tmp_path, compile):
    finder = LearningRateFinder(num_training_steps=30, update_attr=False)
    trainer = small.trainer(tmp_path / "a", finder, compile=compile)
    trainer.fit(small.Net(norm=True), small.loader(), small.loader(2))
    plain = small.trainer(tmp_path / "b", compile=compile)
    plain.fit(small.Net(norm=True), small.loader(), small.loader(2))
    small.assert_same(small.state(trainer), small.state(plain))
    assert len(finder.optimal_lr.lr) > 10


def test_a_module_without_the_attribute(small, tmp_path):
    finder = LearningRateFinder(num_training_steps=30)
    trainer = small.trainer(tmp_path, finder)
    trainer.fit(Plain(), small.loader())
    assert trainer.optimizers[0].param_groups[0]["lr"] == finder.optimal_lr.suggestion()
    with pytest.raises(ConfigError, match="neither an attribute nor"):
        small.trainer(tmp_path, LearningRateFinder(attr_name="rate")).fit(Plain(), small.loader())

    class Scheduled(Plain):
        def configure_optimizers(self):
            optimizer = super().configure_optimizers()
            return {"optimizer": optimizer, "lr_scheduler": one_cycle(optimizer)}

    with pytest.raises(ConfigError, match="update_attr=False"):
        small.trainer(tmp_path, LearningRateFinder()).fit(Scheduled(), small.loader())


def test_it_stops_where_the_loss_explodes(small, tmp_path):
    finder = LearningRateFinder(min_lr=1e-3, max_lr=1e6, num_training_steps=60, update_attr=False)
    trainer = small.trainer(tmp_path, finder)
    trainer.fit(small.Net(), small.loader())
    assert len(finder.optimal_lr.lr) < 60
    to_the_end = LearningRateFinder(max_lr=1.0, num_training_steps=12, early_stop_threshold=None, mode="linear")
    small.trainer(tmp_path, to_the_end).fit(small.Net(), small.loader())
    np.testing.assert_allclose(to_the_end.optimal_lr.lr, np.linspace(1e-8, 1.0, 12))


def test_a_resumed_run_keeps_its_rate(small, tmp_path):
    small.check_exact_resume(tmp_path, lambda: [LearningRateFinder(num_training_steps=30)], [4, 13])


def test_nothing_is_tried_in_a_fast_dev_run(small, tmp_path):
    finder = LearningRateFinder()
    small.trainer(tmp_path, finder, fast_dev_run=True).fit(small.Net(), small.loader())
    assert finder.optimal_lr is None


def test_the_picture(small, tmp_path):
    pytest.importorskip("matplotlib")
    trainer = small.trainer(tmp_path, finder := LearningRateFinder(num_training_steps=30), max_epochs=1)
    trainer.fit(small.Net(), small.loader())
    picture = Path(trainer.log_dir) / "lr_find.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    figure = finder.optimal_lr.plot()
    axes, beside = figure.axes
    assert (axes.get_xscale(), axes.get_xlabel()) == ("log", "learning rate")
    assert beside.get_ylabel() == "slope"
    np.testing.assert_allclose(beside.get_lines()[0].get_ydata(), finder.optimal_lr.slopes())
    assert axes.get_lines()[-1].get_xdata()[0] == finder.optimal_lr.suggestion()


def test_without_matplotlib_there_is_no_picture_and_no_error(small, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    trainer = small.trainer(tmp_path, finder := LearningRateFinder(num_training_steps=30), max_epochs=1)
    trainer.fit(small.Net(), small.loader())
    assert not (Path(trainer.log_dir) / "lr_find.png").exists()
    with pytest.raises(ConfigError, match="pip install"):
        finder.optimal_lr.plot()


@pytest.mark.parametrize("wrong", [{"mode": "exp"}, {"min_lr": 0.0}, {"min_lr": 2.0}, {"num_training_steps": 2}])
def test_arguments_are_checked(wrong):
    with pytest.raises(ConfigError, match="LearningRateFinder"):
        LearningRateFinder(**wrong)
