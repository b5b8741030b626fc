"""docs/lightning.md: every test that it names is there, nothing of Lightning's is left out, and its snippets run."""

from __future__ import annotations

import ast
import functools
import importlib.util
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import framework as fw

TESTS = Path(__file__).resolve().parents[1]
PAGE = (TESTS.parent / "docs" / "lightning.md").read_text()
NAMED = sorted(set(re.findall(r"`(\w+/test_\w+\.py)::(test_\w+)`", PAGE)))

CORE = """
accelerator devices precision logger callbacks fast_dev_run max_epochs min_epochs max_steps min_steps
limit_train_batches limit_val_batches limit_test_batches limit_predict_batches overfit_batches val_check_interval
check_val_every_n_epoch num_sanity_val_steps log_every_n_steps enable_checkpointing enable_progress_bar
enable_model_summary accumulate_grad_batches gradient_clip_val gradient_clip_algorithm profiler default_root_dir
"""
"""Arguments that everybody expects of a Trainer on the first day; `max_time`, `strategy`, `detect_anomaly` come on top."""

HOOKS = """
prepare_data setup teardown configure_optimizers backward optimizer_step optimizer_zero_grad lr_scheduler_step
configure_gradient_clipping on_before_zero_grad on_before_backward on_after_backward on_before_optimizer_step
on_before_batch_transfer transfer_batch_to_device on_after_batch_transfer on_save_checkpoint on_load_checkpoint
automatic_optimization manual_backward save_hyperparameters hparams_initial load_from_checkpoint freeze unfreeze
example_input_array strict_loading clip_gradients log_dict
"""


@functools.cache
def names_in(path: Path) -> set[str]:
    return {node.name for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)}


def test_every_test_that_is_named_is_there() -> None:
    assert len(NAMED) > 100
    missing = [f"{file}::{name}" for file, name in NAMED if name not in names_in(TESTS / file)]
    assert missing == []


def test_every_row_names_a_test() -> None:
    rows = [line for line in PAGE.splitlines() if line.startswith("| ") and "held by" not in line]
    order = PAGE.partition("## The order of hooks")[2].partition("\n## ")[0]
    assert [row for row in rows if "::test_" not in row and row not in order] == []


@pytest.mark.parametrize("name", (CORE + HOOKS).split())
def test_nothing_is_left_out(name: str) -> None:
    assert re.search(rf"`[^`|]*\b{name}\b", PAGE), name


def test_every_argument_of_the_trainer_is_on_the_page() -> None:
    ours = set(inspect.signature(fw.Trainer).parameters)
    assert set(CORE.split()) <= ours
    assert [name for name in sorted(ours) if not re.search(rf"`[^`|]*\b{name}\b", PAGE)] == []


def test_the_rows_of_what_is_not_copied_are_all_here() -> None:
    section = PAGE.partition("## What is not copied")[2].partition("\n## ")[0]
    numbers = re.findall(r"^\| (\w+) \|", section, re.M)
    assert numbers == ["1", "2", "2b", "3", "3b", *map(str, range(4, 24))]


def test_snippets_come_in_pairs() -> None:
    kinds = re.findall(r"^```python( before)?$", PAGE, re.M)
    assert kinds == [" before", ""] * (len(kinds) // 2)


@pytest.mark.reference
def test_the_snippets_of_before_run_with_lightning(tmp_path: Path) -> None:
    if importlib.util.find_spec("lightning") is None:
        pytest.skip("Lightning is not installed")
    blocks = re.findall(r"^```python before\n(.*?)^```", PAGE, re.DOTALL | re.M)
    (tmp_path / "before.py").write_text("\n".join(blocks))
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "before.py"], cwd=tmp_path, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
