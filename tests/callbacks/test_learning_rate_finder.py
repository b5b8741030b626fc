"""The search for a learning rate."""

from __future__ import annotations

import importlib.util
import math
import sys
from pathlib import Path

import numpy as np
import pytest

import framework as fw
from framework.callbacks import Callback, LearningRateFinder
from framework.callbacks.learning_rate_finder import LearningRates
from framework.errors import ConfigError, NonFiniteError
from framework.train import resume


@pytest.fixture(autouse=True)
def drawn_where_it_is_looked_at(request, monkeypatch):
    """A picture takes longer than the search; only the tests of pictures have one."""
    if "picture" not in request.node.name and "drawn" not in request.node.name:
        find_spec = importlib.util.find_spec
        monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "matplotlib" else find_spec(name))


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


def test_slopes_are_those_of_the_logarithm_where_the_loss_is_a_line_in_it():
    rates = [10 ** (-6 + i / 10) for i in range(60)]
    found = LearningRates(rates, [5.0 - 0.3 * math.log(rate) for rate in rates])
    assert found.slopes() == pytest.approx([-0.3] * 60)
    assert found.suggestion() is not None


@pytest.mark.parametrize("seed", range(20))
def test_noise_alone_suggests_nothing(seed):
    noise = np.random.default_rng(seed)
    rates = [10 ** (-8 + 8 * i / 99) for i in range(100)]
    assert LearningRates(rates, list(noise.gamma(1.0, size=100))).suggestion() is None
    falling = [1 / (1 + math.exp(3 * (math.log10(r) + 2.5))) + 0.08 * noise.normal() for r in rates]
    assert -4.0 < math.log10(LearningRates(rates, falling).suggestion()) < -1.0


@pytest.mark.parametrize(
    "losses",
    [[], [math.nan], [math.inf], [math.nan] * 15, [1.0] * 20 + [math.inf], [1.0] * 20 + [1e200] * 20],
    ids=["none", "nan", "infinite", "only_nan", "infinite_in_the_end", "squares_overflow"],
)
def test_losses_that_are_no_numbers_or_explode_suggest_nothing_and_are_drawn(tmp_path, losses):
    pytest.importorskip("matplotlib")
    found = LearningRates([10 ** (-6 + i / 10) for i in range(len(losses))], losses)
    assert found.suggestion() is None
    found.plot(path=tmp_path / "a.png")
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


class Regression(fw.TrainModule):
    def __init__(self, lr: float = 1e-5) -> None:
        super().__init__()
        self.lr = lr
        self.layer = fw.nn.Linear(8, 1)

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = ((self.layer(x) - y) ** 2).mean()
        self.log("loss", loss)
        return loss

    def validation_step(self, batch, batch_idx):
        pass

    def configure_optimizers(self):
        return fw.optim.SGD(self.parameters(), lr=self.lr)


@pytest.mark.parametrize("seed", range(4))
def test_a_useful_rate_on_a_regression(small, tmp_path, seed):
    numbers = np.random.default_rng(seed)
    x = numbers.normal(size=(640, 8)).astype(np.float32)
    y = (x @ numbers.normal(size=(8, 1))).astype(np.float32)
    loader = fw.data.DataLoader(fw.data.ArrayDataset(x, y), batch_size=32, shuffle=True, seed=seed)
    finder = LearningRateFinder()
    trainer = small.trainer(tmp_path, finder, max_epochs=4)
    module = Regression()
    trainer.fit(module, loader)
    assert 0.005 < finder.suggestion() == module.lr < 0.5
    first, last = (float(small.rows(trainer)[row]["loss"]) for row in (0, -1))
    assert last < 0.02 * first


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


def easy(size: int = 16) -> fw.data.DataLoader:
    """Six batches whose loss falls clearly."""
    x = np.random.default_rng(1).normal(size=(6 * size, 3)).astype(np.float32)
    return fw.data.DataLoader(fw.data.ArrayDataset(x, x[:, :1] + 3), batch_size=size, shuffle=True, seed=3)


@pytest.mark.parametrize("compile", [False, True])
def test_optimizer_and_schedule_are_made_with_the_rate(small, tmp_path, compile):
    finder = LearningRateFinder(min_lr=1e-4, num_training_steps=60)
    trainer = small.trainer(tmp_path, finder, compile=compile)
    module = small.Net(schedule=one_cycle)
    trainer.fit(module, easy())
    rate = finder.suggestion()
    assert module.lr == module.hparams["lr"] == rate != 0.05
    assert trainer.lr_scheduler_configs[0].scheduler.optimizer is trainer.optimizers[0]
    by_hand = small.trainer(tmp_path / "by_hand", compile=compile)
    by_hand.fit(small.Net(lr=rate, schedule=one_cycle), easy())
    small.assert_same(small.state(trainer), small.state(by_hand))


@pytest.mark.filterwarnings("ignore:(overflow|invalid value) encountered:RuntimeWarning")  # in half precision
@pytest.mark.parametrize(("compile", "precision"), [(False, "32-true"), (True, "32-true"), (False, "16-mixed")])
def test_the_search_leaves_no_trace(small, tmp_path, compile, precision):
    finder = LearningRateFinder(num_training_steps=30, update_attr=False)
    trainer = small.trainer(tmp_path / "a", finder, compile=compile, precision=precision)
    trainer.fit(small.Net(norm=True), small.loader(), small.loader(2))
    plain = small.trainer(tmp_path / "b", compile=compile, precision=precision)
    plain.fit(small.Net(norm=True), small.loader(), small.loader(2))
    small.assert_same(small.state(trainer), small.state(plain))
    assert len(finder.optimal_lr.lr) > 10
    assert resume.gather(trainer._fit, None)["precision"] == resume.gather(plain._fit, None)["precision"]


def test_a_module_without_the_attribute(small, tmp_path):
    finder = LearningRateFinder(min_lr=1e-4, num_training_steps=60)
    trainer = small.trainer(tmp_path, finder)
    trainer.fit(Plain(), easy())
    assert trainer.optimizers[0].param_groups[0]["lr"] == finder.suggestion() != 0.123
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


def test_a_loss_below_zero_is_not_taken_for_an_explosion(small, tmp_path):
    class Likelihood(small.Net):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx) - 100.0

    finder = LearningRateFinder(num_training_steps=30, max_lr=1e-3, update_attr=False)
    small.trainer(tmp_path, finder, max_steps=1).fit(Likelihood(), easy())
    assert len(finder.results["lr"]) == 30


def test_a_loss_that_is_no_number_is_told_of_by_the_training(small, tmp_path):
    class Wrong(small.Net):
        def training_step(self, batch, batch_idx):
            return super().training_step(batch, batch_idx) * math.nan

    with pytest.raises(NonFiniteError, match="step 1"):
        small.trainer(tmp_path, LearningRateFinder(num_training_steps=30)).fit(Wrong(), easy())


def test_the_search_goes_backward_as_the_training_does(small, tmp_path):
    class Own(small.Net):
        def backward(self, loss):
            calls.append(1)
            loss.backward()

    calls = []
    small.trainer(tmp_path, LearningRateFinder(num_training_steps=30), max_steps=1).fit(Own(), easy())
    assert len(calls) == 31


class Fails(Callback):
    """What is kept aside: a buffer outside the state dict, gradients, a mode."""

    def on_fit_start(self, trainer, pl_module):
        pl_module.register_buffer("seen", fw.tensor(0.0), persistent=False)
        pl_module.net[0].weight.grad = fw.tensor(np.ones((5, 3), np.float32))
        pl_module.net[2].eval()

    priority = 200


def test_what_no_state_dict_holds_is_put_back_too(small, tmp_path):
    class Counting(small.Net):
        def training_step(self, batch, batch_idx):
            self.seen.copy_(self.seen + 1)
            if self.fails and self.seen.item() > 3:
                raise RuntimeError("in the search")
            return super().training_step(batch, batch_idx)

    class Looks(Callback):
        def on_train_start(self, trainer, pl_module):
            found.append((pl_module.seen.item(), pl_module.net[2].training, pl_module.net[0].weight.grad.numpy().sum()))

        def on_exception(self, trainer, pl_module, exception):
            found.append(pl_module.net[0].weight.detach().numpy().copy())

    found = []
    module = Counting()
    module.fails = False
    small.trainer(tmp_path, Fails(), LearningRateFinder(num_training_steps=30), Looks(), max_steps=1).fit(
        module, easy()
    )
    assert found == [(0.0, False, 15.0)]
    module = Counting()
    module.fails = True
    before = module.net[0].weight.detach().numpy().copy()
    with pytest.raises(RuntimeError, match="in the search"):
        small.trainer(tmp_path, Fails(), LearningRateFinder(), Looks()).fit(module, easy())
    np.testing.assert_array_equal(found[1], before)


def test_a_resumed_run_keeps_its_rate(small, tmp_path):
    small.check_exact_resume(tmp_path, lambda: [LearningRateFinder(num_training_steps=30)], [4, 13])


def test_nothing_is_tried_in_a_fast_dev_run(small, tmp_path):
    finder = LearningRateFinder()
    small.trainer(tmp_path, finder, fast_dev_run=True).fit(small.Net(), small.loader())
    assert finder.optimal_lr is None


def test_the_picture(small, tmp_path):
    pytest.importorskip("matplotlib")
    finder = LearningRateFinder(min_lr=1e-4, num_training_steps=60)
    trainer = small.trainer(tmp_path, finder, max_epochs=1)
    trainer.fit(small.Net(), easy())
    picture = Path(trainer.log_dir) / "lr_find.png"
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert [path.name for path in tmp_path.rglob("*lr_find*")] == ["lr_find.png"]
    assert [path.name for path in tmp_path.iterdir()] == ["runs"]
    figure = finder.plot(path=tmp_path / "again.png")
    assert (tmp_path / "again.png").stat().st_size > 10_000
    assert finder.plot(suggest=False, ax=figure.subplots(2)[1]) is figure
    figure = finder.plot()
    axes, beside = figure.axes
    assert finder.results["lr"] == axes.get_lines()[1].get_xdata().tolist()
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
    with pytest.raises(ConfigError, match=r"pip install 'fw-framework\[plots\]'"):
        finder.plot()


@pytest.mark.parametrize("wrong", [{"mode": "exp"}, {"min_lr": 0.0}, {"min_lr": 2.0}, {"num_training_steps": 2}])
def test_arguments_are_checked(wrong):
    with pytest.raises(ConfigError, match="LearningRateFinder"):
        LearningRateFinder(**wrong)
