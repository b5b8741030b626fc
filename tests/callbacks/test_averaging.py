"""Averages of weights: EMA and stochastic weight averaging."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import framework as fw
from framework.callbacks import EMA, Callback, ModelCheckpoint, StochasticWeightAveraging
from framework.errors import ConfigError
from framework.train import checkpoint


def weights(module) -> dict[str, np.ndarray]:
    return {name: np.array(t.numpy()) for name, t in module.state_dict().items()}


class Records(Callback):
    """The weights after each update, and those that validation sees."""

    priority = 10

    def __init__(self) -> None:
        self.after: list[dict[str, np.ndarray]] = []
        self.validated: list[dict[str, np.ndarray]] = []
        self.rates: list[float] = []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.after.append(weights(pl_module))
        self.rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        if batch_idx == 0:
            self.validated.append(weights(pl_module))


def ema_of(values: list[np.ndarray], decay: float) -> np.ndarray:
    mean = values[0].astype(np.float64)
    for value in values[1:]:
        mean = decay * mean + (1 - decay) * value
    return mean


def close(a, b) -> None:
    assert a.keys() == b.keys()
    for name in a:
        np.testing.assert_allclose(a[name], b[name], rtol=2e-5, atol=1e-6, err_msg=name)


@pytest.mark.parametrize("compile", [False, True])
def test_ema_is_validated_saved_and_left_in_the_module(small, tmp_path, compile):
    records, ema = Records(), EMA(decay=0.8)
    module = small.Net()
    trainer = small.trainer(tmp_path, ema, records, compile=compile)
    trainer.fit(module, small.loader(), small.loader(2))
    assert ema.n_averaged == len(records.after) == 18
    for epoch, seen in enumerate(records.validated):
        until = records.after[: 6 * (epoch + 1)]
        close(seen, {name: ema_of([w[name] for w in until], 0.8) for name in seen})
    close(weights(module), records.validated[-1])
    loaded = small.Net.load_from_checkpoint(trainer.checkpoint_callback.best_model_path)
    close(weights(loaded), records.validated[-1])
    assert any(np.abs(weights(module)[n] - records.after[-1][n]).max() > 1e-3 for n in weights(module))


def test_ema_does_not_touch_the_training(small, tmp_path):
    plain, with_ema = Records(), Records()
    small.trainer(tmp_path / "a", plain).fit(small.Net(), small.loader(), small.loader(2))
    small.trainer(tmp_path / "b", EMA(), with_ema).fit(small.Net(), small.loader(), small.loader(2))
    np.testing.assert_equal(plain.after, with_ema.after)


def test_ema_begins_and_counts_as_it_is_told(small, tmp_path):
    records, ema = Records(), EMA(0.5, update_every_n_steps=2, update_starting_at_step=5, update_starting_at_epoch=1)
    trainer = small.trainer(tmp_path, ema, records, accumulate_grad_batches=2)
    trainer.fit(small.Net(), small.loader())
    assert trainer.global_step == 9
    assert ema.n_averaged == 2
    values = [records.after[2 * step - 1] for step in (6, 8)]
    close(weights(trainer.module), {name: ema_of([v[name] for v in values], 0.5) for name in values[0]})


@pytest.mark.parametrize("use_buffers", [True, False])
def test_buffers_are_averaged_or_left(small, tmp_path, use_buffers):
    records = Records()
    module = small.Net(norm=True)
    small.trainer(tmp_path, EMA(0.5, use_buffers=use_buffers), records).fit(module, small.loader())
    seen = weights(module)
    last = records.after[-1]
    assert seen["net.1.num_batches_tracked"] == last["net.1.num_batches_tracked"] == 18
    averaged = ema_of([w["net.1.running_mean"] for w in records.after], 0.5)
    np.testing.assert_allclose(
        seen["net.1.running_mean"], averaged if use_buffers else last["net.1.running_mean"], rtol=1e-5
    )


@pytest.mark.parametrize("norm", [False, True])
def test_exact_resume_of_ema(small, tmp_path, norm):
    whole = small.check_exact_resume(
        tmp_path, lambda: [EMA(0.7, update_starting_at_step=4)], [2, 4, 9, 12, 17], lambda: small.Net(norm=norm)
    )
    trees = checkpoint.load(Path(whole.log_dir) / "checkpoints" / "step=9")
    assert trees["callbacks"]["EMA"] == {"n_averaged": 6}
    assert trees["extra"]["EMA"]["current"].keys() <= trees["model"].keys()


class Tied(fw.TrainModule):
    """One matrix at both ends, trained by an optimizer with more state."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = fw.nn.Linear(3, 3), fw.nn.Linear(3, 3)
        self.last.weight = self.first.weight

    def training_step(self, batch, batch_idx):
        x, y = batch
        return ((self.last(fw.nn.functional.relu(self.first(x))) - y) ** 2).mean()

    def validation_step(self, batch, batch_idx):
        self.log("val_loss", self.training_step(batch, batch_idx))

    def configure_optimizers(self):
        return fw.optim.Adam(self.parameters(), lr=0.05)


@pytest.mark.parametrize("make", [lambda: EMA(0.7), lambda: StochasticWeightAveraging(0.02, 1, annealing_epochs=1)])
def test_compiled_it_equals_eager_to_the_last_bit_and_ties_stay(small, tmp_path, make):
    found = {}
    for compile in (False, True):
        records = Records()
        trainer = small.trainer(tmp_path / str(compile), make(), records, compile=compile)
        trainer.fit(Tied(), small.loader(), small.loader(2))
        found[compile] = (records.after, records.validated, weights(trainer.module))
        assert trainer.module.last.weight is trainer.module.first.weight
        np.testing.assert_equal(found[compile][2]["first.weight"], found[compile][2]["last.weight"])
    np.testing.assert_equal(found[False], found[True])
    small.check_exact_resume(tmp_path, lambda: [make()], [7, 12], Tied, compile=True)


def test_several_updates_a_batch_count_as_so_many(small, tmp_path):
    class Manual(small.Net):
        automatic_optimization = False

        def training_step(self, batch, batch_idx):
            for _ in range(2):
                self.optimizers().zero_grad()
                self.manual_backward(self.loss(batch))
                self.optimizers().step()

        validation_step = None

    del Manual.validation_step
    ema = EMA(0.5, update_every_n_steps=3)
    saver = ModelCheckpoint(save_top_k=-1, every_n_train_steps=3, filename="{step}")
    trainer = small.trainer(tmp_path, ema, saver, max_epochs=1)
    trainer.fit(Manual(), small.loader(), small.loader(2))
    assert (trainer.global_step, ema.n_averaged) == (12, 4)  # after 4, 6, 10 and 12 updates
    saved = {path.name for path in (Path(trainer.log_dir) / "checkpoints").glob("step=*")}
    assert saved == {"step=4", "step=6", "step=10", "step=12"}


def test_the_average_of_half_precision_is_kept_in_float32():
    layer = fw.nn.Linear(1, 1, bias=False).to("float16")
    layer.weight.assign([[1.0]])
    ema = EMA(decay=0.9999)
    ema.update(layer)
    layer.weight.assign([[2.0]])
    for _ in range(100):
        ema.update(layer)
    assert ema._average["weight"].item() == pytest.approx(1 + 1 - 0.9999**100, rel=1e-5)


class FailsInValidation(Callback):
    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        if trainer.global_step == 12:
            raise ZeroDivisionError


def test_an_exception_within_a_validation_leaves_the_weights(small, tmp_path):
    records, module = Records(), small.Net()
    saver = ModelCheckpoint(save_on_exception=True)
    trainer = small.trainer(tmp_path, EMA(0.7), records, FailsInValidation(), saver)
    with pytest.raises(ZeroDivisionError):
        trainer.fit(module, small.loader(), small.loader(2))
    np.testing.assert_equal(weights(module), records.after[-1])
    saved = checkpoint.load(saver.last_model_path)
    assert saver.last_model_path.endswith("-interrupted")
    np.testing.assert_equal({n: np.array(a) for n, a in saved["extra"]["EMA"]["current"].items()}, records.after[-1])
    np.testing.assert_equal({n: np.array(a) for n, a in saved["model"].items()}, records.validated[-1])


class StopsInValidation(Callback):
    """Ends the training within a validation, as a signal does."""

    def on_validation_batch_end(self, trainer, pl_module, outputs, batch, batch_idx, dataloader_idx=0):
        if trainer.global_step == 12:
            import signal

            signal.raise_signal(signal.SIGTERM)


def test_a_signal_within_a_validation_saves_both(small, tmp_path):
    whole = small.trainer(tmp_path / "whole", EMA(0.7))
    whole.fit(small.Net(), small.loader(), small.loader(2, shuffle=False))
    stopped = small.trainer(tmp_path / "stopped", EMA(0.7), StopsInValidation())
    with pytest.raises(KeyboardInterrupt) as stop:
        stopped.fit(small.Net(), small.loader(), small.loader(2, shuffle=False))
    again = small.trainer(tmp_path / "stopped", EMA(0.7))
    again.fit(small.Net(), small.loader(), small.loader(2, shuffle=False), ckpt_path=stop.value.checkpoint)
    np.testing.assert_equal(weights(again.module), weights(whole.module))


def test_a_run_that_resumes_without_it_is_told(small, tmp_path):
    small.trainer(tmp_path, EMA(0.7), max_epochs=1).fit(small.Net(), small.loader())
    with pytest.warns(UserWarning, match="EMA"):
        small.trainer(tmp_path, max_epochs=2).fit(small.Net(), small.loader(), ckpt_path="last")


def test_the_arguments_of_ema_are_checked():
    with pytest.raises(ConfigError, match="decay=1.5"):
        EMA(decay=1.5)
    with pytest.raises(ConfigError, match="update_every_n_steps=0"):
        EMA(update_every_n_steps=0)


# -- stochastic weight averaging -----------------------------------------------------------------------


def by_step(optimizer):
    return {"scheduler": fw.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.97), "interval": "step"}


@pytest.mark.parametrize("compile", [False, True])
def test_swa_is_the_mean_over_the_last_epochs_at_its_own_rate(small, tmp_path, compile):
    records = Records()
    swa = StochasticWeightAveraging(swa_lrs=0.02, swa_epoch_start=3, annealing_epochs=2)
    trainer = small.trainer(tmp_path, swa, records, max_epochs=6, compile=compile)
    trainer.fit(small.Net(schedule=by_step), small.loader(), small.loader(2))
    assert swa.n_averaged == 4
    ends = [records.after[6 * epoch + 5] for epoch in range(2, 6)]
    close(weights(trainer.module), {name: np.mean([w[name] for w in ends], 0) for name in ends[0]})
    close(records.validated[3], {name: np.mean([w[name] for w in ends[:2]], 0) for name in ends[0]})
    before = 0.05 * 0.97**12
    wanted = [0.02 * (1 - math.cos(math.pi * t)) / 2 + before * (1 + math.cos(math.pi * t)) / 2 for t in (0, 0.5, 1, 1)]
    assert records.rates[12::6] == pytest.approx(wanted)
    assert records.rates[17] == records.rates[12]  # the schedule rests
    assert records.rates[6] < records.rates[5]


def test_swa_by_a_part_of_the_epochs_with_an_own_mean(small, tmp_path):
    swa = StochasticWeightAveraging(
        [0.01], 0.5, annealing_epochs=0, annealing_strategy="linear", avg_fn=lambda mean, new, count: new * count
    )
    records = Records()
    trainer = small.trainer(tmp_path, swa, records, max_epochs=4)
    trainer.fit(small.Net(), small.loader())
    assert swa.n_averaged == 3
    assert records.rates[6:] == [0.01] * 18
    name = "net.0.weight"
    np.testing.assert_allclose(weights(trainer.module)[name], 2 * records.after[-1][name], rtol=1e-6)


def test_batch_norm_is_measured_anew_for_the_mean(small, tmp_path):
    module = small.Net(norm=True)
    saver = ModelCheckpoint(save_last=True, every_n_epochs=2)
    trainer = small.trainer(tmp_path, StochasticWeightAveraging(0.02, 2), saver, max_epochs=3)
    trainer.fit(module, small.loader(), small.loader(2))
    layer = module.net[1]
    inputs = [module.net[0](fw.tensor(x)).detach().numpy() for x, _ in small.loader(shuffle=False)]
    np.testing.assert_allclose(layer.running_mean.numpy(), np.mean(np.concatenate(inputs), 0), rtol=1e-4, atol=1e-5)
    assert layer.momentum == 0.1
    assert module.training
    last = trainer.checkpoint_callback.last_model_path  # at the end of training, after the statistics
    np.testing.assert_equal(weights(small.Net.load_from_checkpoint(last)), weights(module))


def test_exact_resume_of_swa(small, tmp_path):
    small.check_exact_resume(
        tmp_path,
        lambda: [StochasticWeightAveraging(0.02, swa_epoch_start=2, annealing_epochs=2)],
        [4, 6, 9, 12, 15, 18],
        lambda: small.Net(norm=True, schedule=by_step),
        max_epochs=4,
    )


def test_the_best_checkpoint_is_of_the_mean(small, tmp_path):
    saver = ModelCheckpoint(monitor="val_loss")
    trainer = small.trainer(tmp_path, saver, StochasticWeightAveraging(0.02, 1), max_epochs=3)
    trainer.fit(small.Net(), small.loader(), small.loader(2, shuffle=False))
    found = trainer.validate(small.Net(), small.loader(2, shuffle=False), ckpt_path="best", verbose=False)
    assert found[0]["val_loss"] == pytest.approx(float(saver.best_model_score), rel=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [{"swa_lrs": 0}, {"swa_lrs": []}, {"swa_lrs": 0.1, "swa_epoch_start": 0}, {"swa_lrs": 0.1, "swa_epoch_start": 1.5},
     {"swa_lrs": 0.1, "annealing_strategy": "cosine"}, {"swa_lrs": 0.1, "annealing_epochs": -1}],
)  # fmt: skip
def test_the_arguments_of_swa_are_checked(wrong):
    with pytest.raises(ConfigError, match="StochasticWeightAveraging"):
        StochasticWeightAveraging(**wrong)


def test_swa_needs_to_know_the_end_and_the_groups(small, tmp_path):
    with pytest.raises(ConfigError, match="max_epochs"):
        trainer = small.trainer(tmp_path, StochasticWeightAveraging(0.1), max_epochs=-1, max_steps=3)
        trainer.fit(small.Net(), small.loader())
    with pytest.raises(ConfigError, match="2 rates for the 1 groups"):
        small.trainer(tmp_path, StochasticWeightAveraging([0.1, 0.2])).fit(small.Net(), small.loader())
