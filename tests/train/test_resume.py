from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework.train import checkpoint

PROGRAM = Path(__file__).with_name("toy_run.py")


def assert_equal(a: Any, b: Any, place: str = "") -> None:
    """Bit for bit, with the place of the first difference."""
    if isinstance(a, dict):
        assert list(a) == list(b), place
        for key in a:
            assert_equal(a[key], b[key], f"{place}.{key}")
    elif isinstance(a, list):
        assert len(a) == len(b), place
        for i, (x, y) in enumerate(zip(a, b)):
            assert_equal(x, y, f"{place}[{i}]")
    elif hasattr(a, "shape"):
        x, y = (np.asarray(v.detach().numpy() if isinstance(v, fw.Tensor) else v) for v in (a, b))
        assert x.dtype == y.dtype, place
        assert x.tobytes() == y.tobytes(), place
    else:
        assert a == b or (a != a and b != b), (place, a, b)


def run(toy: ModuleType, root: Path, source: Path | None = None) -> tuple[fw.Trainer, dict[str, Any]]:
    fw.seed_everything(3)
    train, val = toy.loaders()
    trainer = toy.make_trainer(root)
    trainer.fit(toy.ToyModule(), train, val, ckpt_path=source)
    return trainer, toy.final_state(trainer)


@pytest.fixture(scope="module")
def whole(toy: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    root = tmp_path_factory.mktemp("whole")
    trainer, state = run(toy, root)
    return Path(trainer.log_dir), state


def test_from_every_checkpoint_the_run_ends_in_the_same_bits(
    toy: ModuleType, whole: tuple[Path, dict[str, Any]], tmp_path: Path
) -> None:
    folder, expected = whole
    sources = [p.name for p in checkpoint.valid_checkpoints(folder / "checkpoints")]
    assert any(name.endswith("-s") for name in sources)
    assert any(name.endswith("-v") for name in sources)
    assert len(sources) > 15
    for name in sources:
        root = tmp_path / name
        shutil.copytree(folder, root / "version_0")
        source = root / "version_0" / "checkpoints" / name
        for other in checkpoint.valid_checkpoints(source.parent):  # only what was there when the run was killed
            if checkpoint._manifest(other)["saved_at"] > checkpoint._manifest(source)["saved_at"]:
                shutil.rmtree(other)
        fw.seed_everything(99)  # whatever has happened in this process before
        trainer, state = run(toy, root, source)
        assert trainer.log_dir == str(root / "version_0")
        assert trainer.callbacks[0].batches == expected["progress"]["total_batches"]
        assert_equal(expected, state, name)
