"""Watching gradients: the norms of what an update is made with, and no replay lost."""

from __future__ import annotations

import numpy as np
import pytest

import framework as fw
from framework.errors import ConfigError
from framework.loggers import WandbLogger
from framework.loggers.watching import Watch


class Kept:
    """Stands for an open W&B run."""

    id = "kept"

    def __init__(self):
        self.rows = {}
        self.config = self

    def update(self, entries, allow_val_change=False):
        pass

    def log(self, row, step):
        assert step not in self.rows
        self.rows[step] = row


class Net(fw.TrainModule):
    def __init__(self):
        super().__init__()
        self.net = fw.nn.Sequential(fw.nn.Linear(3, 4), fw.nn.Tanh(), fw.nn.Linear(4, 1))
        self.seen = {}

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = fw.nn.functional.mse_loss(self.net(x), y)
        self.log("loss", loss)
        return loss

    def on_before_optimizer_step(self, optimizer):
        norms = [float(np.linalg.norm(p.grad.numpy())) for p in self.parameters()]
        self.seen[self.global_step + 1] = [*norms, float(np.linalg.norm(norms))]

    def configure_optimizers(self):
        return fw.optim.SGD(self.parameters(), lr=0.05)


def train(tmp_path, batch_size=4, watch="gradients", every=3, **arguments):
    fw.seed_everything(0)
    x = np.random.default_rng(0).normal(size=(48, 3)).astype(np.float32)
    loader = fw.data.DataLoader(fw.data.ArrayDataset(x, x.sum(1, keepdims=True)), batch_size=batch_size)
    kept, module = Kept(), Net()
    logger = WandbLogger(experiment=kept, watch=watch, watch_freq=every)
    trainer = fw.Trainer(
        backend="cpu", compile=True, max_epochs=2, logger=logger, default_root_dir=tmp_path, log_every_n_steps=5,
        enable_progress_bar=False, enable_model_summary=False, enable_checkpointing=False, **arguments,
    )  # fmt: skip
    trainer.fit(module, loader)
    logger.close()
    return kept.rows, module, trainer


NAMES = [f"grad_norm/{name}" for name in ("net.0.weight", "net.0.bias", "net.2.weight", "net.2.bias", "total")]


def test_norms_are_those_before_clipping_and_every_other_step_is_replayed(tmp_path):
    rows, module, trainer = train(tmp_path, gradient_clip_val=0.01)
    assert trainer._fit.compiled.compiled.replayed == trainer.global_step - 2 == 22
    watched = [step for step, row in rows.items() if NAMES[0] in row]
    assert watched == [1, *range(3, 25, 3)]
    for step in watched:
        assert [rows[step][name] for name in NAMES] == pytest.approx(module.seen[step], rel=1e-5)
    assert max(rows[step]["grad_norm/total"] for step in watched) > 0.01
    assert sorted(rows) == list(rows)  # one row a step, in order


def test_norms_are_those_of_all_batches_of_an_update(tmp_path):
    whole, _, _ = train(tmp_path / "a", batch_size=8)
    parts, _, trainer = train(tmp_path / "b", batch_size=4, accumulate_grad_batches=2)
    assert trainer.global_step == 12
    for step in (1, 3, 12):
        for name in NAMES:
            assert parts[step][name] == pytest.approx(whole[step][name], rel=1e-4)


def test_parameters_and_both(tmp_path):
    rows, _, _ = train(tmp_path / "a", watch="parameters")
    assert {name.partition("/")[0] for name in rows[3]} == {"param_norm"}
    rows, module, trainer = train(tmp_path / "b", watch="all", every=24)
    assert rows[24]["param_norm/total"] > 0
    assert set(NAMES) < set(rows[24])
    assert trainer._fit.compiled.compiled.replayed == 22


def test_watching_can_be_begun_and_ended_by_hand(tmp_path):
    kept = Kept()
    logger = WandbLogger(experiment=kept)
    module = Net()
    logger.watch(module, log="parameters", log_freq=1)
    norms = Watch("parameters", 1, module).norms(None)
    assert set(norms) == {name.replace("grad", "param") for name in NAMES}
    logger.unwatch(module)
    logger.on_before_optimizer_step(fw.Trainer(backend="cpu", max_epochs=1, logger=False), module, None)
    logger.close()
    assert kept.rows == {}


def test_the_norms_of_half_precision_do_not_overflow():
    module = fw.nn.Linear(300, 1, bias=False).to(fw.float16)
    with fw.no_grad():
        module.weight.copy_(fw.tensor(np.full((1, 300), 20.0)))
    module.weight.grad = module.weight.detach()
    norms = Watch("all", 1, module).norms(None)
    assert norms == pytest.approx(dict.fromkeys(norms, 20 * 300**0.5)), norms
    assert len(norms) == 4


@pytest.mark.parametrize(("what", "every"), [("gradient", 1), ("gradients", 0), ("gradients", 1.5)])
def test_arguments_that_make_no_sense(what, every):
    with pytest.raises(ConfigError):
        Watch(what, every)


def test_a_run_without_loggers_that_watch_has_no_hook_for_it(tmp_path):
    from framework.train.hooks import Hooks

    module = Net()
    hooks = Hooks(fw.Trainer(backend="cpu", max_epochs=1, default_root_dir=tmp_path), module, [])
    assert len(hooks.before_step) == 1  # the module's own
