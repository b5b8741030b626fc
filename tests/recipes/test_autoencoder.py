"""`recipes/autoencoder.py`."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest

import framework as fw


def read_png(path: Path) -> np.ndarray:
    """A grey image of 8 bits, every chunk of which is checked."""
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n"
    chunks, place = [], 8
    while place < len(content):
        (length,) = struct.unpack(">I", content[place : place + 4])
        kind, data = content[place + 4 : place + 8], content[place + 8 : place + 8 + length]
        assert struct.unpack(">I", content[place + 8 + length : place + 12 + length])[0] == zlib.crc32(kind + data)
        chunks.append((kind, data))
        place += 12 + length
    assert [kind for kind, _ in chunks] == [b"IHDR", b"IDAT", b"IEND"]
    width, height, *form = struct.unpack(">IIBBBBB", chunks[0][1])
    assert form == [8, 0, 0, 0, 0]
    rows = np.frombuffer(zlib.decompress(chunks[1][1]), np.uint8).reshape(height, width + 1)
    assert not rows[:, 0].any()  # no filter
    return rows[:, 1:]


def test_pictures_are_written_as_they_are(recipe, tmp_path):
    image = np.random.default_rng(0).random((5, 11)).astype(np.float32) * 1.4 - 0.2
    recipe.write_png(tmp_path / "a.png", image)
    assert read_png(tmp_path / "a.png").tolist() == np.rint(image.clip(0, 1) * 255).tolist()
    pillow = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    with pillow.open(tmp_path / "a.png") as found:
        assert np.asarray(found).tolist() == np.rint(image.clip(0, 1) * 255).tolist()


def test_a_run_learns_and_shows_digits_above_what_became_of_them(made):
    run = made(trainer__max_steps=30, model__init_args__hidden="[64]", model__init_args__code=16)
    run.trainer.fit(run.module, datamodule=run.data)
    folder = Path(run.trainer.log_dir)
    picture = read_png(folder / "reconstructions.png")
    assert picture.shape == (2 * 28, 16 * 28)
    digits = fw.data.Digits("validation").arrays[0][:16]
    above, below = (row.reshape(28, 16, 28).swapaxes(0, 1) for row in (picture[:28], picture[28:]))
    assert above.tolist() == digits.tolist()
    x = fw.tensor(digits / 255, dtype="float32")
    with fw.no_grad():
        expected = fw.nn.functional.sigmoid(run.module.eval()(x)).numpy()
    assert np.abs(below - expected * 255).max() <= 1
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    losses = [row["train_loss"] for row in rows if "train_loss" in row]
    assert losses[-1] < 0.7 * losses[0]
    assert {"val_loss", "val_mse"} <= set(run.trainer.callback_metrics)


def test_predictions_are_codes_and_images(made):
    run = made(trainer__limit_predict_batches=1, model__init_args__code=5)
    (batch,) = run.trainer.predict(run.module, datamodule=run.data)
    assert batch["code"].shape == (360, 5)
    assert batch["reconstruction"].shape == (360, 28, 28)
    assert 0 <= batch["reconstruction"].numpy().min() <= batch["reconstruction"].numpy().max() <= 1


def test_nothing_is_drawn_where_there_is_no_folder(made):
    run = made(trainer__fast_dev_run="true")
    run.trainer.fit(run.module, datamodule=run.data)
    assert not list(Path().rglob("*.png"))


@pytest.mark.slow
def test_mnist_is_learned(made, mnist_root):
    run = made(data__init_args__root=mnist_root, trainer__max_epochs=6)
    run.trainer.fit(run.module, datamodule=run.data)
    assert run.trainer.callback_metrics["val_mse"] < 0.012  # the mean image alone is at 0.067
