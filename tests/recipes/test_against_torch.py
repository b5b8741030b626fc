"""Recipes and their twins in PyTorch: the same first weights, batches and number of updates, nearly the same loss."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.reference
ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "autoencoder": {"trainer.max_steps": 60, "model.init_args.hidden": "[64]", "data.init_args.batch_size": 32},
    "tabular_mlp": {"trainer.max_epochs": 4, "data.init_args.example_rows": 2000, "data.init_args.buffer": 300},
    "tabular_mlp of classes": {
        "trainer.max_epochs": 3, "data.init_args.example_rows": 2000, "data.init_args.target": "district",
    },
    "char_lm": {
        "trainer.max_steps": 60, "model.init_args.layers": 2, "model.init_args.width": 32,
        "model.init_args.context": 48, "data.init_args.context": 48, "data.init_args.limit": 30_000,
    },
}  # fmt: skip


@pytest.mark.parametrize("case", TINY)
def test_the_losses_agree(case, monkeypatch):
    pytest.importorskip("torch", reason="PyTorch is not installed")
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    twins = importlib.import_module("benchmarks.recipe_twins")
    changed = TINY[case] | {"trainer.enable_progress_bar": "false", "trainer.backend": "cpu"}
    ours, theirs = twins.compare(case.partition(" ")[0], [(key, str(value)) for key, value in changed.items()])
    assert ours.steps == theirs.steps > 20
    assert ours.loss == pytest.approx(theirs.loss, rel=0.02)
    assert ours.loss == pytest.approx(theirs.loss, rel=1e-3)  # so few steps do not drift far apart
