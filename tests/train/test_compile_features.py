"""Which features of the Trainer are replayed under `compile=True`: the table in docs/compile.md, row by row."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework import callbacks as cb
from framework.errors import CompileWarning
from framework.loggers import Logger

nn = fw.nn
EPOCHS, STEPS, ROWS = 3, 12, 6
PAGE = (Path(__file__).parents[2] / "docs" / "compile.md").read_text()


class Net(fw.TrainModule):
    """Logs in every form, with a metric object and a metric that is read by nobody."""

    def __init__(self) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(5, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Dropout(0.2), nn.Linear(4, 3))
        self.accuracy = fw.metrics.Accuracy()

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        x, y = batch
        logits = self.net(x)
        loss = nn.functional.cross_entropy(logits, y)
        self.accuracy.update(logits, y)
        self.log("train_loss", loss, on_step=True, on_epoch=True, prog_bar=True)
        self.log("worst", loss, on_step=False, on_epoch=True, reduce_fx="max")
        self.log_dict({"accuracy": self.accuracy, "index": batch_idx})
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        x, y = batch
        self.log("val_loss", nn.functional.cross_entropy(self.net(x), y))

    def configure_optimizers(self) -> Any:
        optimizer = fw.optim.AdamW(self.parameters(), lr=0.01)
        kinds = fw.optim.lr_scheduler
        return [optimizer], [
            {"scheduler": kinds.LinearLR(optimizer, total_iters=20), "interval": "step"},
            {"scheduler": kinds.ReduceLROnPlateau(optimizer, patience=0), "monitor": "train_loss_epoch"},
        ]


def loader() -> fw.data.DataLoader:
    rng = np.random.default_rng(0)
    n = STEPS * ROWS
    data = fw.data.ArrayDataset(rng.normal(size=(n, 5)).astype(np.float32), rng.integers(0, 3, n))
    return fw.data.DataLoader(data, batch_size=ROWS, shuffle=True, seed=4)


class Rows(Logger):
    """Keeps rows; watches gradients as a logger may."""

    name, version = "rows", 0

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[Any] = []

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        self.rows.append((step, dict(metrics)))

    def log_hyperparams(self, params: Any) -> None: ...


def run(folder: Path, module: type, compile: bool, make: Callable[[], Any] = list, **options: Any) -> Any:
    fw.seed_everything(1)
    rows = Rows()
    defaults = {
        "max_epochs": EPOCHS, "log_every_n_steps": 1, "enable_checkpointing": False, "enable_progress_bar": False,
        "enable_model_summary": False, "default_root_dir": folder, "limit_val_batches": 0, "backend": "cpu",
    }  # fmt: skip
    trainer = fw.Trainer(**{**defaults, "callbacks": make(), "logger": rows, "compile": compile, **options})
    model = module()
    trainer.fit(model, loader(), loader())
    compiled = getattr(trainer._fit.compiled, "__wrapped__", trainer._fit.compiled)  # within a profiler's
    return (
        {name: t.detach().numpy() for name, t in model.state_dict().items()},
        rows.rows,
        trainer,
        0 if compiled is None else compiled.compiled.replayed,
    )


def with_methods(**methods: Any) -> type:
    return type("Own", (Net,), methods)


class Hooked(cb.Callback):
    """Looks at everything between the passes and around the step."""

    def __init__(self) -> None:
        self.norms: list[float] = []

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        assert batch[0].shape == (ROWS, 5)

    def on_after_backward(self, trainer: Any, pl_module: Any) -> None:
        self.norms.append(sum(float((p.grad**2).sum()) for p in pl_module.parameters()))

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        assert all(p.grad is not None for p in pl_module.parameters())

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        assert float(outputs["loss"]) == trainer.callback_metrics["train_loss_step"]


class Freezes(cb.Callback):
    """Trains a layer in the first and the last epoch alone."""

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        pl_module.net[0].requires_grad_(trainer.current_epoch != 1)


def own_clipping(self: Any, optimizer: Any, gradient_clip_val: Any = None, gradient_clip_algorithm: Any = None) -> None:
    self.clip_gradients(optimizer, gradient_clip_val=0.1, gradient_clip_algorithm="value")


def own_step(self: Any, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Any = None) -> None:
    optimizer.step(closure=optimizer_closure)


def skips(self: Any, batch: Any, batch_idx: int) -> Any:
    return None if batch_idx % 4 == 3 else Net.training_step(self, batch, batch_idx)


PLAIN: dict[str, Any] = {}
REPLAYED: dict[str, tuple[type, dict[str, Any], int]] = {
    "`self.log`, `log_dict`, metric objects": (Net, PLAIN, 1),
    "`accumulate_grad_batches`": (Net, {"accumulate_grad_batches": 5}, 1),
    "`GradientAccumulationScheduler`": (
        Net, {"make": lambda: [cb.GradientAccumulationScheduler({0: 1, 1: 3, 2: 4})]}, 2,
    ),
    "`gradient_clip_val`": (Net, {"gradient_clip_val": 0.2}, 1),
    "`configure_gradient_clipping` of one's own": (with_methods(configure_gradient_clipping=own_clipping), PLAIN, 1),
    "schedulers by step, by epoch, by a metric": (Net, PLAIN, 1),
    "hooks after the backward pass and around the batch": (Net, {"make": lambda: [Hooked()]}, 1),
    "`optimizer_step`, `optimizer_zero_grad`, `lr_scheduler_step` of one's own": (
        with_methods(optimizer_step=own_step, optimizer_zero_grad=lambda self, epoch, i, optimizer: optimizer.zero_grad()),
        PLAIN, 1,
    ),
    "`backward` of one's own": (with_methods(backward=lambda self, loss: (loss * 2.0).backward()), PLAIN, 1),
    "transfer hooks": (
        with_methods(on_after_batch_transfer=lambda self, batch, i: (batch[0] * 2.0, batch[1])), PLAIN, 1,
    ),
    "validation within epochs, early stopping, `LearningRateMonitor`": (
        Net,
        {
            "make": lambda: [cb.LearningRateMonitor(), cb.EarlyStopping("val_loss", patience=99)],
            "val_check_interval": 4, "limit_val_batches": 2,
        },
        1,
    ),
    "`EMA`": (Net, {"make": lambda: [cb.EMA(decay=0.9)]}, 1),
    "`StochasticWeightAveraging`": (
        Net, {"make": lambda: [cb.StochasticWeightAveraging(swa_lrs=0.01, swa_epoch_start=1)]}, 1,
    ),
    "`ModelCheckpoint`": (
        Net, {"make": lambda: [cb.ModelCheckpoint(every_n_train_steps=5)], "enable_checkpointing": True}, 1,
    ),
    "`precision=\"64-true\"`": (Net, {"precision": "64-true"}, 1),
    "`profiler`": (Net, {"profiler": "simple"}, 1),
    "a batch skipped by `None`": (with_methods(training_step=skips), PLAIN, 2),
    "parameters frozen and thawed": (Net, {"make": lambda: [Freezes()]}, 3),
}  # fmt: skip
"""Feature, as in the page: the module, the Trainer's arguments, and how often two steps are recorded."""


@pytest.mark.parametrize("feature", REPLAYED)
def test_all_but_the_recorded_steps_are_replayed(feature: str, tmp_path: Path) -> None:
    module, options, recordings = REPLAYED[feature]
    with warnings.catch_warnings():
        warnings.simplefilter("error", CompileWarning)
        weights, rows, _, _ = run(tmp_path / "a", module, False, **options)
        compiled_weights, compiled_rows, _, replayed = run(tmp_path / "b", module, True, **options)
    assert replayed == EPOCHS * STEPS - 2 * recordings
    for name, array in weights.items():
        np.testing.assert_array_equal(array, compiled_weights[name], err_msg=name)
    assert rows == compiled_rows
    assert len(rows) > 3


def lbfgs(self: Any) -> Any:
    return fw.optim.LBFGS(self.parameters(), max_iter=2)


def manual(self: Any, batch: Any, batch_idx: int) -> None:
    optimizer = self.optimizers()
    optimizer.zero_grad()
    self.manual_backward(Net.training_step(self, batch, batch_idx))
    optimizer.step()


def reads(self: Any, batch: Any, batch_idx: int) -> Any:
    loss = Net.training_step(self, batch, batch_idx)
    return loss * 2 if float(loss) > 0.1 else loss


def counts(self: Any, batch: Any, batch_idx: int) -> Any:
    self.calls = getattr(self, "calls", 0) + 1
    return Net.training_step(self, batch, batch_idx) * self.calls


EAGER: dict[str, tuple[type, dict[str, Any], str]] = {
    "`automatic_optimization = False`": (
        with_methods(automatic_optimization=False, training_step=manual), PLAIN, "automatic_optimization = False",
    ),
    "optimizers that evaluate the loss themselves": (
        with_methods(configure_optimizers=lbfgs), PLAIN, "LBFGS evaluates the loss as often as it needs",
    ),
    "`on_before_backward`": (
        with_methods(on_before_backward=lambda self, loss: None), PLAIN, "on_before_backward is defined",
    ),
    "`detect_anomaly`": (Net, {"detect_anomaly": True}, "detect_anomaly=True looks at every operation"),
    "a value that the step reads": (with_methods(training_step=reads), PLAIN, "a value is read"),
    "Python state that the step changes": (with_methods(training_step=counts), PLAIN, "'calls' of Own is set"),
}  # fmt: skip
"""Feature, as in the page: the module, the Trainer's arguments, and words of the warning."""


@pytest.mark.parametrize("feature", EAGER)
def test_what_falls_back_runs_as_without_compile_and_says_so_once(feature: str, tmp_path: Path) -> None:
    module, options, words = EAGER[feature]
    weights, rows, _, _ = run(tmp_path / "a", module, False, **options)
    with pytest.warns(CompileWarning, match=words) as caught:
        compiled_weights, compiled_rows, _, replayed = run(tmp_path / "b", module, True, **options)
    assert len([w for w in caught if issubclass(w.category, CompileWarning)]) == 1
    assert replayed == 0
    for name, array in weights.items():
        np.testing.assert_array_equal(array, compiled_weights[name], err_msg=name)
    assert rows == compiled_rows


def test_gradients_that_a_logger_watches_are_replayed(tmp_path: Path) -> None:
    """As `WandbLogger.watch` takes them: norms of all gradients as an update begins."""
    from framework.loggers.watching import Watch

    found: dict[bool, list[Any]] = {False: [], True: []}
    ends = []
    for compile in (False, True):

        class Watching(cb.Callback):
            def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
                found[trainer.compile].append(watch.norms(pl_module))

        watch = Watch("all", 1)
        options = {"accumulate_grad_batches": 3, "gradient_clip_val": 0.5}
        weights, rows, _, replayed = run(tmp_path / str(compile), Net, compile, lambda: [Watching()], **options)
        ends.append((weights, rows))
        assert replayed == (EPOCHS * STEPS - 2 if compile else 0)
    assert found[False] == found[True]
    assert len(found[True]) == EPOCHS * STEPS // 3
    assert "grad_norm/total" in found[True][0]
    assert ends[0][1] == ends[1][1]


def test_the_pages_table_holds_these_features() -> None:
    table = PAGE.partition("## In a Trainer")[2].partition("\n## ")[0]
    named = {line.split("|")[1].strip(): line.split("|")[2].strip() for line in table.splitlines() if line[:2] == "| "}
    named.pop("Feature")
    features = [*REPLAYED, "`WandbLogger.watch`"]
    assert set(named) >= {*features, *EAGER}
    assert all(named[feature].startswith("replayed") for feature in features)
    assert all(named[feature].startswith("eager") for feature in EAGER)
    for test in re.findall(r"`(test_\w+)`", table):
        assert test in globals(), test
