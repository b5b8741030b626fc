"""For the distributions under `plugins/` that are not installed with the framework: known in this process."""

from __future__ import annotations

import json
import sys
from importlib import import_module
from pathlib import Path

from framework.backend import registry
from framework.cli.main import main

ROOT = Path(__file__).resolve().parents[2]


def make_known(name: str, cls: str) -> None:
    """Import `fw_NAME` from the checkout, which imports no library, and register its class."""
    sys.path.insert(0, str(ROOT / "plugins" / name))
    try:
        registry.register(getattr(import_module(f"fw_{name}"), cls))
    finally:
        sys.path.pop(0)


def accuracy_after_one_epoch(backend: str, data: Path, folder: Path) -> float:
    """The validation accuracy of `configs/mnist_mlp.yaml` after one epoch on a backend."""
    code = main(
        [
            "train", str(ROOT / "configs" / "mnist_mlp.yaml"), "--no-test",
            "--trainer.backend", backend, "--trainer.max_epochs", "1", "--trainer.enable_progress_bar", "false",
            "--trainer.default_root_dir", str(folder / backend), "--data.init_args.root", str(data),
        ]
    )  # fmt: skip
    assert code == 0
    (summary,) = (folder / backend).glob("runs/*/version_0/summary.json")
    told = json.loads(summary.read_text())
    assert (told["status"], told["backend"], told["dataset"]) == ("finished", backend, "mnist")
    return float(told["metrics"]["val_acc"]["last"])
