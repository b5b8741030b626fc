"""Hooks are called in Lightning's order. Whatever differs is in the tables here, and in docs/lightning.md."""

from __future__ import annotations

import importlib.util
import re
import sys
import warnings
from pathlib import Path
from types import ModuleType

import pytest

from framework.errors import CompileWarning

HERE = Path(__file__).parent
RECORD = (HERE / "lightning_order.txt").read_text().splitlines()
"""What Lightning 2.6.6 calls."""

DROPPED = {
    r"\w+\.optimizer_step": "the step is no closure: `optimizer_step` runs where the update is made, after the gradients",
    r"\w+\.\w*zero_grad\w*": "gradients are dropped before the forward pass, so that the order reads as a loop by hand",
    r"LOG\.experiment": "nothing of a logger is opened before the training begins (row 11)",
    r"LOG\.log_graph": "no logger of ours draws a graph",
    r"LOG\.save": "once an epoch, not after every row (row 22)",
}
"""Calls that are left out of the comparison, and why."""

EXTRA = {
    r"LM\.state_dict|CB\.state_dict|DM\.state_dict": (
        "before `on_fit_start`: a state that a checkpoint cannot hold is named before training (row 15)"
    ),
}
"""Calls that only ours has, and why; everything between `configure_optimizers` and `on_fit_start`."""

MOVED = {
    r"DM\.val_dataloader": "before `configure_optimizers`: mistakes in the data are found before anything runs (row 11)",
    r"DM\.train_dataloader": "the same, and `configure_optimizers` knows the number of updates",
    r"LOG\.log_hyperparams.*": "after the sanity check: loggers are opened when the training begins (row 11)",
    r"LOG\.log_metrics\(train_loss_epoch.*": "before checkpoints are saved, so that they count the row (row 1)",
}
"""Calls that come at another place, and why."""


@pytest.fixture(scope="module")
def record() -> ModuleType:
    """The module hook_record.py beside this file."""
    spec = importlib.util.spec_from_file_location("hook_record", HERE / "hook_record.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["hook_record"] = module
    spec.loader.exec_module(module)
    return module


def without(calls: list[str], *tables: dict[str, str]) -> list[str]:
    patterns = [re.compile(pattern) for table in tables for pattern in table]
    return [call for call in calls if not any(pattern.fullmatch(call) for pattern in patterns)]


def one_later(calls: list[str]) -> list[str]:
    """With the steps of rows counted from 1 (row 6)."""
    return [re.sub(r"at (\d+)\)", lambda m: f"at {int(m[1]) + 1})", call) for call in calls]


def compare(ours: list[str], lightnings: list[str]) -> None:
    first, last = ours.index("LM.configure_optimizers") + 1, ours.index("CB.on_fit_start")
    before = [call for call in ours[first:last] if not any(re.fullmatch(extra, call) for extra in EXTRA)]
    assert before == []
    ours = ours[:first] + ours[last:]
    assert without(ours, DROPPED, MOVED) == without(one_later(lightnings), DROPPED, MOVED)
    # what was moved is there, as often, and stands where it is said to
    for pattern in MOVED:
        moved = [[call for call in calls if re.fullmatch(pattern, call)] for calls in (ours, one_later(lightnings))]
        assert moved[0] == moved[1] != []
    order = [call for call in ours if call in {"CK.on_train_epoch_end", "CK.save_checkpoint"} or "_epoch at" in call]
    assert order == [
        "LOG.log_metrics(train_loss_epoch at 2)", "CK.on_train_epoch_end",
        "LOG.log_metrics(train_loss_epoch at 4)", "CK.on_train_epoch_end", "CK.save_checkpoint",
    ]  # fmt: skip
    assert ours.index("DM.val_dataloader") < ours.index("DM.train_dataloader") < ours.index("LM.configure_optimizers")
    assert ours.index("CB.on_sanity_check_end") < ours.index("LOG.log_hyperparams({'width': 2})")


def test_all_hook_calls_of_a_fit_come_in_lightnings_order(record: ModuleType, tmp_path: Path) -> None:
    """2 epochs of 2 batches, validation, clipping, a schedule, a checkpoint."""
    ours = record.ours(tmp_path)
    compare(ours, RECORD)
    assert ours.count("LM.optimizer_step") == ours.count("LM.optimizer_zero_grad") == 4
    batch = ours[ours.index("LM.on_before_zero_grad") :]
    assert batch.index("LM.optimizer_zero_grad") < batch.index("LM.training_step") < batch.index("LM.optimizer_step")
    assert batch.index("LM.clip_gradients") < batch.index("LM.optimizer_step") < batch.index("CB.on_train_batch_end")


WITHIN = ("on_before_backward", "training_step", "forward", "backward")
"""What happens within a compiled step, and so while it is recorded only."""


def test_compiled_they_come_in_the_same_order(record: ModuleType, tmp_path: Path) -> None:
    eager = record.ours(tmp_path / "eager", but=WITHIN)
    assert record.ours(tmp_path / "compiled", compile=True, but=WITHIN) == eager
    assert eager.count("LM.on_after_backward") == 4
    with pytest.warns(CompileWarning, match="on_before_backward is defined"):
        compare(record.ours(tmp_path / "all", compile=True), RECORD)


def test_what_differs_is_listed_in_the_docs() -> None:
    page = (HERE.parents[1] / "docs" / "lightning.md").read_text()
    for table in (DROPPED, EXTRA, MOVED):
        for why in table.values():
            assert why in " ".join(page.split()), why


@pytest.mark.reference
def test_the_record_is_what_lightning_does(record: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "1")  # which it sets itself
    pytest.importorskip("lightning")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lightnings = record.lightnings(tmp_path / "theirs")
    assert lightnings == RECORD
    compare(record.ours(tmp_path / "ours"), lightnings)


@pytest.mark.reference
@pytest.mark.parametrize("entry", ["validate", "test", "predict"])
def test_evaluation_alone_comes_in_lightnings_order(
    record: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entry: str
) -> None:
    """No logger is opened for it: there is no run."""
    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    pytest.importorskip("lightning")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        lightnings = record.lightnings(tmp_path / "theirs", entry=entry)
    ours = record.ours(tmp_path / "ours", entry=entry)
    assert ours == [call for call in without(lightnings, DROPPED) if not call.startswith("LOG.")]
    assert len(ours) > 25
