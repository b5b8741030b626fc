"""What the Trainer is like inside: short, flat, and each part with one job."""

from __future__ import annotations

import ast
import gc
import traceback
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework.callbacks import Callback

SOURCES = sorted(Path(fw.__file__).parent.glob("*/*.py"))
TRAIN = [path for path in SOURCES if path.parent.name in ("train", "callbacks", "loggers", "profilers", "strategies")]
MAY_BE_SET = {
    "should_stop", "max_epochs", "max_steps", "accumulate_grad_batches", "run_name", "config_text", "config_tree",
}  # fmt: skip
"""Attributes of a Trainer whose docstring says that others may set them."""


class Line(fw.TrainModule):
    def __init__(self, manual: bool = False, kind: Any = fw.optim.SGD) -> None:
        super().__init__()
        self.automatic_optimization = not manual
        self.layer = fw.nn.Linear(2, 1)
        self.kind = kind
        self.stacks: list[list[str]] = []

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        names = [frame.name for frame in traceback.extract_stack()]
        self.stacks.append(names[len(names) - 1 - names[::-1].index("fit") :])
        loss = (self.layer(batch[0]) ** 2).mean()
        self.log("loss", loss, on_step=True, on_epoch=True)
        if self.automatic_optimization:
            return loss
        optimizer = self.optimizers()
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        return None

    def configure_optimizers(self) -> Any:
        return self.kind(self.parameters())


def fit(folder: Path, module: fw.TrainModule, *callbacks: Callback, rows: int = 8, **arguments: Any) -> fw.Trainer:
    data = fw.data.DataLoader(fw.data.ArrayDataset(np.ones((rows, 2), np.float32)), batch_size=2)
    trainer = fw.Trainer(
        **{
            "max_epochs": 1, "backend": "cpu", "enable_progress_bar": False, "enable_model_summary": False,
            "enable_checkpointing": False, "default_root_dir": folder, "callbacks": list(callbacks), **arguments,
        }
    )  # fmt: skip
    trainer.fit(module, data)
    return trainer


@pytest.mark.parametrize(
    ("module", "stack"),
    [
        (lambda: Line(), ["fit", "train", "run_batches", "training_step"]),
        (lambda: Line(manual=True), ["fit", "train", "run_batches", "__call__", "training_step"]),
        (lambda: Line(kind=fw.optim.LBFGS), ["fit", "train", "run_batches", "__call__", "_evaluate", "training_step"]),
    ],
    ids=["automatic", "manual", "with a closure"],
)
def test_the_stack_at_training_step_has_six_frames_at_most(tmp_path: Path, module: Any, stack: list[str]) -> None:
    made = module()
    fit(tmp_path, made)
    assert made.stacks[0] == stack


def test_an_exception_in_a_step_shows_three_frames_of_ours(tmp_path: Path) -> None:
    class Failing(Line):
        def training_step(self, batch: Any, batch_idx: int) -> Any:
            raise RuntimeError("mine")

    with pytest.raises(RuntimeError, match="mine") as caught:
        fit(tmp_path, Failing())
    ours = [frame for frame in traceback.extract_tb(caught.tb) if "/framework/" in frame.filename]
    assert [frame.name for frame in ours] == ["fit", "train", "run_batches"]


def test_the_loop_is_one_short_file() -> None:
    path = next(path for path in TRAIN if path.name == "loop.py")
    text = path.read_text()
    assert len(text.splitlines()) <= 300
    order = [
        "optimizer.zero_grad()", "training_step(batch, index)", "backward(loss,", "hooks.before_step", "clip(optimizer)",
        "optimizer.step()", "step_schedules",
    ]  # fmt: skip
    places = [text.index(words, text.index("def run_batches")) for words in order]
    assert places == sorted(places)


def test_only_optimizers_that_need_a_closure_get_one(tmp_path: Path) -> None:
    given: list[Any] = []

    class Watched(fw.optim.SGD):
        def step(self, closure: Any = None) -> Any:
            given.append(closure)
            return super().step(closure)

    class Searching(fw.optim.LBFGS):
        def step(self, closure: Any = None) -> Any:
            given.append(closure)
            return super().step(closure)

    fit(tmp_path, Line(kind=Watched))
    assert given == [None] * 4
    given.clear()
    fit(tmp_path, Line(kind=Searching), rows=2)
    assert len(given) == 1
    assert callable(given[0])


def test_what_is_logged_takes_no_more_room_as_steps_go_by(tmp_path: Path) -> None:
    class Counting(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
            pl_module.stacks.clear()
            if trainer.global_step in (100, 600):
                gc.collect()
                counts.append(len(gc.get_objects()))

    counts: list[int] = []
    fit(tmp_path, Line(), Counting(), rows=1300, logger=False, log_every_n_steps=0)
    assert abs(counts[1] - counts[0]) < 100  # of 500 steps


def targets(node: ast.AST) -> list[ast.expr]:
    if isinstance(node, ast.Assign):
        return [t for target in node.targets for t in (target.elts if isinstance(target, ast.Tuple) else [target])]
    return [node.target] if isinstance(node, ast.AugAssign | ast.AnnAssign) else []


def is_trainer(value: ast.expr) -> bool:
    name = value.id if isinstance(value, ast.Name) else value.attr if isinstance(value, ast.Attribute) else ""
    return name in ("trainer", "_trainer")


@pytest.mark.parametrize("path", TRAIN, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_only_the_trainer_writes_its_own_state(path: Path) -> None:
    written = []
    for node in ast.walk(ast.parse(path.read_text())):
        for target in targets(node):
            inner = target.value if isinstance(target, ast.Subscript) else target
            if isinstance(inner, ast.Attribute) and is_trainer(inner.value) and inner.attr not in MAY_BE_SET:
                written.append(f"line {node.lineno}: {ast.unparse(target)}")
    assert written == []


@pytest.mark.parametrize("path", TRAIN, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_hooks_are_called_as_methods_never_by_their_name_in_a_string(path: Path) -> None:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr":
            name = node.args[1]
            text = name.value if isinstance(name, ast.Constant) else ast.unparse(name)
            if str(text).startswith(("on_", "f'on_", "training_step", "validation_step")):
                found.append(f"line {node.lineno}: {ast.unparse(node)}")
    assert found == []
