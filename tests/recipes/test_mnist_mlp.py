"""`recipes/mnist_mlp.py`: its pictures."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parents[2]
PICTURES = ["confusion_matrix.png", "learning_curves.png", "misclassified.png"]
SHORT = {"trainer__max_steps": 60, "trainer__max_epochs": -1}


def trained(made, **changed):
    run = made(**{**SHORT, **changed})
    run.trainer.fit(run.module, datamodule=run.data)
    return run


def texts(axes) -> list[str]:
    return [text.get_text() for text in axes.texts]


def test_a_run_leaves_three_pictures_of_what_it_logged_and_answered(made, recipe, monkeypatch):
    pytest.importorskip("matplotlib")
    figures = {}
    keep = recipe.Pictures.keep
    monkeypatch.setattr(
        recipe.Pictures,
        "keep",
        lambda self, trainer, name, figure: figures.update({name: figure}) or keep(self, trainer, name, figure),
    )
    run = trained(made)
    folder = Path(run.trainer.log_dir)
    assert [path.name for path in folder.glob("*.png")] == ["learning_curves.png"]
    (found,) = run.trainer.test(run.module, datamodule=run.data, verbose=False)
    assert sorted(path.name for path in folder.glob("*.png")) == PICTURES
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in PICTURES)
    loss, accuracy, rate = figures["learning_curves"].axes
    assert [line.get_label() for line in loss.lines] == ["train_loss", "val_loss"]
    assert [line.get_label() for line in rate.lines] == ["lr-SGD"]
    assert [max(axes.lines[0].get_xdata()) for axes in (loss, accuracy, rate)] == [60, 60, 60]
    assert accuracy.lines[0].get_ydata()[-1] == run.trainer.callback_metrics["val_acc"]
    right = round(found["test_acc"] * 360)
    matrix = figures["confusion_matrix"].axes[0]
    assert matrix.get_title() == f"{right} of 360 right ({right / 360:.2%})"
    counts = [int(text) if text != "·" else 0 for text in texts(matrix)]
    assert (sum(counts), sum(counts[::11])) == (360, right)
    shown = figures["misclassified"]
    assert shown._suptitle.get_text().startswith(f"{min(40, 360 - right)} of the {360 - right} wrong answers")
    (page,) = shown.axes
    assert len(texts(page)) == min(40, 360 - right)
    cells = np.asarray(page.images[0].get_array())
    drawn = [cells[y : y + 42, x : x + 42].any() for y in range(0, len(cells), 42) for x in range(0, 8 * 42, 42)]
    assert drawn == [True] * len(texts(page)) + [False] * (len(drawn) - len(texts(page)))
    certain = [int(text.split()[-1].rstrip("%")) for text in texts(page)]
    assert certain == sorted(certain, reverse=True)


def test_a_run_of_one_row_has_its_curves_too(made):
    """The row is not in the file yet when training ends."""
    pytest.importorskip("matplotlib")
    run = trained(made, trainer__max_steps=1, trainer__limit_val_batches=0)
    assert (Path(run.trainer.log_dir) / "learning_curves.png").read_bytes().startswith(b"\x89PNG")


def test_without_matplotlib_it_says_one_line_and_goes_on(made, monkeypatch, capsys):
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, *rest: None if name == "matplotlib" else find(name))
    run = trained(made)
    run.trainer.test(run.module, datamodule=run.data, verbose=False)
    assert not list(Path(run.trainer.log_dir).glob("*.png"))
    assert capsys.readouterr().out == "no pictures: they need matplotlib, pip install 'fw-framework[plots]'\n"


def test_nothing_is_drawn_where_nothing_is_kept(made, recipe):
    run = trained(made, trainer__fast_dev_run=2)
    run.trainer.test(run.module, datamodule=run.data, verbose=False)
    assert not list(Path().rglob("*.png"))
    assert recipe.draw_confusion([[3, 0], [0, 4]]).axes[0].get_title() == "7 of 7 right (100.00%)"
    assert not list(recipe.draw_curves([{"step": 1}]).axes[0].lines)


@pytest.mark.slow
def test_the_pictures_are_in_the_real_wandb_run(tmp_path):
    pytest.importorskip("matplotlib")
    if importlib.util.find_spec("wandb") is None:
        pytest.skip("wandb is not installed")
    kept = {k: v for k, v in os.environ.items() if not k.startswith("WANDB") and k != "NETRC"}
    environment = {**kept, "PYTHONPATH": str(ROOT), "WANDB_MODE": "offline"}
    command = [sys.executable, "-m", "framework", "train", str(ROOT / "configs/mnist_mlp_wandb.yaml")]
    options = ["--trainer.backend", "cpu", "--trainer.max_steps", "30", "--trainer.max_epochs", "-1"]
    done = subprocess.run([*command, *options], env=environment, capture_output=True, text=True, timeout=200)
    assert done.returncode == 0, done.stderr
    (run,) = tmp_path.glob("runs/mnist_mlp_wandb/version_0")
    (file,) = run.glob("wandb/offline-run-*/run-*.wandb")
    inspect = [sys.executable, "-m", "wandb", "leet", "inspect", "--json", str(file)]
    records = subprocess.run(inspect, env=environment, capture_output=True, text=True, check=True, timeout=120)
    rows = [json.loads(line) for line in records.stdout.splitlines()]
    (last,) = [
        row["history"]["item"] for row in rows if "confusion_matrix._type" in row.get("history", {"item": {}})["item"]
    ]
    found = {
        f"{name.removesuffix('.filenames')}.png": value for name, value in last.items() if name.endswith(".filenames")
    }
    assert sorted(found) == PICTURES
    assert last["_step"] == 30
    for name, paths in found.items():
        (sent,) = (file.parent / "files" / path for path in paths)
        assert sent.read_bytes() == (run / name).read_bytes()
