"""`recipes/char_lm.py`."""

from __future__ import annotations

import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import framework as fw

ROOT = Path(__file__).resolve().parents[2]
TINY = {
    "model__init_args__layers": 1, "model__init_args__width": 16, "model__init_args__heads": 2,
    "model__init_args__context": 24, "data__init_args__context": 24, "data__init_args__limit": 4000,
    "model__init_args__sample": 60, "trainer__val_check_interval": 1.0,
}  # fmt: skip


def test_text_and_numbers(recipe):
    assert recipe.decode(recipe.encode("def f(x):\n    return ~x\n")) == "def f(x):\n    return ~x\n"
    assert recipe.decode(recipe.encode("a\té→")) == "a???"
    assert recipe.encode("\n ~").tolist() == [0, 1, len(recipe.CHARACTERS) - 1]


def test_the_entropy_of_pairs(recipe):
    assert recipe.bigram_entropy(recipe.encode("abababab")) == 0
    # After "a" comes "a" or "b", each once; after "b" always "a".
    assert recipe.bigram_entropy(recipe.encode("baab")) == pytest.approx(2 / 3 * math.log(2))
    codes = np.random.default_rng(0).integers(0, 7, 200_000)
    assert recipe.bigram_entropy(codes) == pytest.approx(math.log(7), abs=1e-3)


def test_pieces_of_a_text_hold_each_character_once(recipe):
    windows = recipe.Windows(np.arange(50), context=8)
    assert len(windows) == 6
    x, y = windows.__getitems__(np.array([0, 5]))
    assert x.tolist() == [[*range(8)], [*range(40, 48)]]
    assert (y == x + 1).all()
    one = windows[5]
    assert (one[0].tolist(), one[1].tolist()) == (x[1].tolist(), y[1].tolist())
    assert len(recipe.Windows(np.arange(49), 8)) == 6
    assert len(recipe.Windows(np.arange(48), 8)) == 5


def test_parts_have_no_module_in_common(recipe):
    names = [*recipe.TRAIN, *recipe.VALIDATION, *recipe.TEST]
    assert len(set(names)) == len(names)
    assert sorted(recipe.TRAIN) == list(recipe.TRAIN)
    data = recipe.SourceText()
    data.setup("fit")
    assert len(data.texts["train"]) > 2_000_000
    assert 50_000 < len(data.texts["test"]) < len(data.texts["validation"]) < 300_000
    assert recipe.decode(data.texts["validation"][:200]).startswith("#! /usr/bin/env python3\n")


def test_no_character_sees_those_after_it(recipe):
    fw.seed_everything(0)
    model = recipe.CharLM(layers=2, width=16, heads=2, context=12).eval()
    x = np.random.default_rng(0).integers(0, 90, (2, 12))
    other = x.copy()
    other[:, 7:] = (other[:, 7:] + 1) % 90
    with fw.no_grad():
        one, two = model(fw.tensor(x)).numpy(), model(fw.tensor(other)).numpy()
    assert np.allclose(one[:, :7], two[:, :7], atol=1e-6)
    assert (np.abs(one[:, 7:] - two[:, 7:]).max(axis=(1, 2)) > 1e-3).all()


def test_a_run_ends_with_a_sample(recipe, made, capsys):
    run = made(**TINY, trainer__max_steps=20)
    run.trainer.fit(run.module, datamodule=run.data)  # a warning, that nothing is replayed, would be an error
    folder = Path(run.trainer.log_dir)
    sample = (folder / "sample.txt").read_text()
    assert sample.startswith("\ndef ")
    assert len(sample) == len("\ndef ") + 60
    told = capsys.readouterr().out
    assert sample in told
    entropy = recipe.bigram_entropy(run.data.texts["validation"])
    assert f"knowing the last one only: {entropy:.3f}" in told
    loss = run.trainer.callback_metrics["val_loss"]
    assert f"validation: {loss:.3f} nats" in told
    assert loss < math.log(len(recipe.CHARACTERS)) - 0.3
    (checkpoint,) = (folder / "checkpoints").glob("epoch=*")
    model = recipe.CharLM.load_from_checkpoint(checkpoint)
    assert model.go_on("\ndef ", 60) == sample
    assert model.go_on("import ", length=30, seed=1) != model.go_on("import ", length=30, seed=2)
    assert len(model.go_on("", length=3)) == 4


def test_missing_source_text_is_explained(recipe, tmp_path):
    data = recipe.SourceText(folder=str(tmp_path))
    with pytest.raises(fw.errors.DataError, match=r"_pydecimal\.py.*comes without its source text; set data"):
        data.setup("fit")


def test_heads_must_divide_the_width(recipe):
    with pytest.raises(fw.errors.ConfigError, match="a width of 10 does not make 4 equal heads"):
        recipe.CharLM(width=10)


def test_a_context_that_is_too_long_is_explained(made):
    run = made(**TINY | {"data__init_args__context": 30})
    with pytest.raises(fw.errors.ShapeError, match="got 30 characters at once, but it looks back on 24 at most"):
        run.trainer.fit(run.module, datamodule=run.data)


@pytest.mark.slow
def test_a_checkpoint_goes_on_with_a_text(made, tmp_path):
    run = made(**TINY, trainer__max_steps=2)
    run.trainer.fit(run.module, datamodule=run.data)
    (checkpoint,) = Path(run.trainer.log_dir, "checkpoints").glob("epoch=*")
    script = [sys.executable, str(ROOT / "recipes" / "char_lm.py")]
    done = subprocess.run([*script, str(checkpoint), "import "], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("import ")
    done = subprocess.run(script, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("which checkpoint?")


@pytest.mark.slow
def test_pairs_of_characters_are_beaten(recipe, made):
    run = made(trainer__max_steps=400, model__init_args__layers=2, model__init_args__width=64, trainer__max_epochs=1)
    run.trainer.fit(run.module, datamodule=run.data)
    assert run.trainer.callback_metrics["val_loss"] < recipe.bigram_entropy(run.data.texts["validation"])
