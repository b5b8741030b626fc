"""The base class, the learning-rate monitor and the model summary."""

from __future__ import annotations

import csv
import inspect
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

import framework as fw
from framework.callbacks import Callback, LearningRateMonitor, ModelSummary
from framework.callbacks.model_summary import summarize
from framework.errors import ConfigError

STAGES = ("train", "validation", "test", "predict")
HOOKS = {
    "setup": ["stage"],
    "teardown": ["stage"],
    "on_fit_start": [],
    "on_fit_end": [],
    "on_sanity_check_start": [],
    "on_sanity_check_end": [],
    "on_before_zero_grad": ["optimizer"],
    "on_before_backward": ["loss"],
    "on_after_backward": [],
    "on_before_optimizer_step": ["optimizer"],
    "on_exception": ["exception"],
    "on_save_checkpoint": ["checkpoint"],
    "on_load_checkpoint": ["checkpoint"],
}
for _stage in STAGES:
    _index = [] if _stage == "train" else ["dataloader_idx"]
    for _hook in ("start", "end", "epoch_start", "epoch_end"):
        HOOKS[f"on_{_stage}_{_hook}"] = []
    HOOKS[f"on_{_stage}_batch_start"] = ["batch", "batch_idx", *_index]
    HOOKS[f"on_{_stage}_batch_end"] = ["outputs", "batch", "batch_idx", *_index]


def test_every_hook_is_there_with_its_arguments():
    assert len(HOOKS) == 37
    for name, arguments in HOOKS.items():
        parameters = list(inspect.signature(getattr(Callback, name)).parameters)
        assert parameters == ["self", "trainer", "pl_module", *arguments], name
    public = {n for n, member in vars(Callback).items() if callable(member) and not n.startswith("_")}
    assert public == {*HOOKS, "state_dict", "load_state_dict", "log", "log_dict"}


class Line(fw.TrainModule):
    def __init__(self, optimizer=None, scheduler=None) -> None:
        super().__init__()
        self.layer = fw.nn.Linear(2, 1)
        self.make = optimizer or (lambda p: fw.optim.SGD(p, lr=0.1))
        self.scheduler = scheduler

    def training_step(self, batch, batch_idx):
        x, y = batch
        return ((self.layer(x) - y) ** 2).mean()

    def configure_optimizers(self):
        optimizer = self.make(list(self.parameters()))
        if self.scheduler is None:
            return optimizer
        return {"optimizer": optimizer, "lr_scheduler": self.scheduler(optimizer)}


def loader(batches=4):
    x = np.random.default_rng(0).normal(size=(2 * batches, 2)).astype(np.float32)
    return fw.data.DataLoader(fw.data.ArrayDataset(x, x[:, :1]), batch_size=2)


def fit(root: Path, module: fw.TrainModule, *callbacks: Callback, **arguments) -> fw.Trainer:
    defaults = {"max_epochs": 3, "enable_progress_bar": False, "enable_model_summary": False, "log_every_n_steps": 1}
    trainer = fw.Trainer(backend="cpu", default_root_dir=root, callbacks=list(callbacks), **{**defaults, **arguments})
    trainer.fit(module, loader())
    return trainer


def column(trainer: fw.Trainer, name: str) -> dict[int, float]:
    with open(Path(trainer.log_dir) / "metrics.csv", newline="") as file:
        return {int(row["step"]): float(row[name]) for row in csv.DictReader(file) if row[name]}


def by_step(optimizer):
    return {"scheduler": fw.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5), "interval": "step"}


def by_epoch(optimizer):
    return {"scheduler": fw.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.5), "name": "rate"}


def test_the_rate_stands_on_the_row_of_the_update_that_used_it(tmp_path):
    trainer = fit(tmp_path, Line(scheduler=by_step), LearningRateMonitor())
    assert column(trainer, "lr-SGD") == {step: 0.1 * 0.5 ** (step - 1) for step in range(1, 13)}
    assert trainer.callback_metrics["lr-SGD"] == pytest.approx(0.1 * 0.5**11, rel=1e-12)


def test_an_epochs_rate_stands_on_its_last_row_under_the_schedulers_name(tmp_path):
    trainer = fit(tmp_path, Line(scheduler=by_epoch), LearningRateMonitor())
    assert column(trainer, "rate") == {4: 0.1, 8: 0.05, 12: 0.025}
    often = fit(tmp_path, Line(scheduler=by_epoch), LearningRateMonitor("step"))
    assert column(often, "rate") == {step: 0.1 * 0.5 ** ((step - 1) // 4) for step in range(1, 13)}


def test_each_group_has_its_own_name(tmp_path):
    def groups(parameters):
        first, second = ({"params": [p], "lr": lr} for p, lr in zip(parameters, (0.1, 0.2)))
        return fw.optim.SGD([first, second], lr=0.3, momentum=0.9, weight_decay=0.01)

    trainer = fit(tmp_path, Line(groups), LearningRateMonitor(log_momentum=True, log_weight_decay=True), max_steps=1)
    names = {"lr-SGD/pg1": 0.1, "lr-SGD/pg2": 0.2, "lr-SGD/pg2-momentum": 0.9, "lr-SGD/pg1-weight_decay": 0.01}
    assert {name: column(trainer, name)[1] for name in names} == names

    trainer = fit(
        tmp_path, Line(lambda p: fw.optim.Adam(p, lr=0.5)), LearningRateMonitor(log_momentum=True), max_steps=1
    )
    assert column(trainer, "lr-Adam") == {1: 0.5}
    assert column(trainer, "lr-Adam-momentum") == {1: 0.9}


def test_the_monitor_refuses_what_it_cannot_do(tmp_path):
    with pytest.raises(ConfigError, match="logger=False"):
        fit(tmp_path, Line(), LearningRateMonitor(), logger=False)
    with pytest.raises(ConfigError, match="Did you mean 'step'"):
        LearningRateMonitor("steps")
    assert not (tmp_path / "runs").exists()


# -- summary ---------------------------------------------------------------------------------------


class Block(fw.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner = fw.nn.Sequential(fw.nn.Linear(300, 100), fw.nn.ReLU())
        self.drop = fw.nn.Dropout(0.5)


def test_the_table_shows_modules_modes_and_totals():
    model = fw.nn.Module()
    model.block, model.head = Block(), fw.nn.Linear(100, 10)
    model.scale = fw.nn.Parameter(fw.tensor([1.0]))
    model.head.requires_grad_(False)
    model.block.drop.eval()
    assert summarize(model).splitlines() == [
        "  | Name         | Type   | Params | Mode",
        "------------------------------------------",
        "0 | block        | Block  | 30.1 K | train",
        "1 | head         | Linear | 1.0 K  | train",
        "  | other params | n/a    | 1      | n/a",
        "------------------------------------------",
        "30.1 K    Trainable params",
        "1.0 K     Non-trainable params",
        "31.1 K    Total params",
        "124.4 kB  Total params size",
        "5         Modules in train mode",
        "1         Modules in eval mode",
    ]
    deeper = [[cell.strip() for cell in line.split("|")] for line in summarize(model, 2).splitlines()[2:7]]
    assert [row[1] for row in deeper] == ["block", "block.inner", "block.drop", "head", "other params"]
    assert deeper[2] == ["2", "block.drop", "Dropout", "0", "eval"]
    assert "block.inner.0" in summarize(model, -1)
    assert summarize(model, 0).splitlines()[0] == "30.1 K    Trainable params"


def test_a_shared_parameter_counts_once_in_the_totals():
    model = fw.nn.Module()
    model.a, model.b = fw.nn.Linear(3, 3), fw.nn.Linear(3, 3)
    model.b.weight = model.a.weight
    lines = summarize(model).splitlines()
    assert [line.split("|")[3].strip() for line in lines[2:4]] == ["12", "12"]
    assert "15        Total params" in lines


class Shapes(Line):
    """Two inputs, two outputs of a part, a part that is not called, noise and running statistics."""

    def __init__(self, wrong: bool = False) -> None:
        super().__init__()
        self.norm = fw.nn.BatchNorm1d(2)
        self.drop = fw.nn.Dropout(0.5)
        self.rnn = fw.nn.RNN(2, 3, batch_first=True)
        self.unused = fw.nn.ReLU()
        self.layer.eval()
        self.example_input_array = np.ones((4, 3 if wrong else 2)), np.ones((4, 5, 2))

    def forward(self, x, sequence):
        return self.layer(self.drop(self.norm(x))), self.rnn(sequence)


@pytest.mark.parametrize("compile", [False, True])
def test_shapes_come_from_the_example_and_nothing_else_changes(tmp_path, capsys, compile):
    found = {}
    for name, depth in (("with", 1), ("without", 0)):
        fw.seed_everything(0)
        trainer = fit(tmp_path / name, Shapes(), ModelSummary(depth), max_steps=3, compile=compile)
        found[name] = {key: value.numpy() for key, value in trainer.module.state_dict().items()}
        assert [part.training for part in trainer.module.children()] == [False, True, True, True, True]
    np.testing.assert_equal(found["with"], found["without"])
    table = [[cell.strip() for cell in line.split("|")] for line in capsys.readouterr().out.splitlines()]
    assert table[0][-2:] == ["In sizes", "Out sizes"]
    assert [row[1::4] + row[-1:] for row in table[2:7]] == [
        ["layer", "[4, 2]", "[4, 1]"],
        ["norm", "[4, 2]", "[4, 2]"],
        ["drop", "[4, 2]", "[4, 2]"],
        ["rnn", "[4, 5, 2]", "[[4, 5, 3], [1, 4, 3]]"],
        ["unused", "?", "?"],
    ]


def test_an_example_that_does_not_fit_costs_a_warning(tmp_path, capsys):
    with pytest.warns(UserWarning, match=r"Shapes.example_input_array does not go through forward: ShapeError: .*3"):
        fit(tmp_path, Shapes(wrong=True), ModelSummary(), max_steps=1)
    assert "In sizes" not in capsys.readouterr().out


def test_an_example_goes_in_as_forward_takes_it():
    model = fw.nn.Linear(2, 3).to(fw.float64)
    outer = fw.nn.Sequential(model)
    for example in (np.ones((1, 2)), fw.tensor([[1.0, 2.0]]), (np.ones((1, 2)),), {"input": np.ones((1, 2))}):
        assert "| [1, 2]   | [1, 3]" in summarize(outer, example=example), example
    table = fw.nn.Sequential(fw.nn.Embedding(5, 4))
    assert "| [2]      | [2, 4]" in summarize(table, example=np.array([1, 2]))


def test_an_example_may_hold_a_named_tuple_and_parts_be_called_by_keywords():
    class Named(fw.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = fw.nn.Linear(2, 3)

        def forward(self, pair):
            return self.layer(input=pair.x)

    class Pair(NamedTuple):
        x: np.ndarray
        y: np.ndarray

    assert "| ?        | [1, 3]" in summarize(Named(), example=(Pair(np.ones((1, 2)), np.ones(1)),))


def test_it_is_printed_once_at_the_start_of_fit(tmp_path, capsys):
    fit(tmp_path, Line(), max_steps=1, enable_model_summary=True)
    assert "3         Total params" in capsys.readouterr().out.splitlines()
    fit(tmp_path, Line(), ModelSummary(max_depth=0), max_steps=1, enable_model_summary=True)
    assert capsys.readouterr().out == ""
