"""`recipes/mnist_cnn.py`."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest

import framework as fw

PLAIN = fw.data.transforms.Normalize(0.1307, 0.3081)


def windows(image):
    """Every image that `image` becomes when it is moved by up to two pixels."""
    wide = np.pad(image, 2)
    return {wide[y : y + 28, x : x + 28].tobytes() for y in range(5) for x in range(5)}


def test_training_images_are_moved_and_no_others(recipe):
    data = recipe.MnistData(fallback="digits")
    data.setup("fit")
    assert data.dataset_name == "digits"
    assert data.minimum_updates == 300
    plain = fw.data.Digits("train")
    moved = data.train_set.__getitems__(np.arange(64))[0]
    assert moved.dtype == np.float32
    kept = 0
    for k, image in enumerate(moved):
        pixels = np.rint((image * 0.3081 + 0.1307) * 255).astype(np.uint8)
        assert pixels.tobytes() in windows(plain.arrays[0][k])
        kept += pixels.tobytes() == plain.arrays[0][k].tobytes()
    assert kept < 20  # one in 25
    for part, held in (("validation", data.val_set), ("test", data.test_set)):
        expected = PLAIN(fw.data.Digits(part).arrays[0])
        assert held.__getitems__(np.arange(len(held)))[0].tolist() == expected.tolist()


def test_a_shift_of_nothing_moves_nothing(recipe):
    data = recipe.MnistData(shift=0, fallback="digits")
    data.setup("fit")
    assert data.train_set[7][0].tolist() == PLAIN(fw.data.Digits("train").arrays[0][7:8])[0].tolist()


def test_held_out_images_of_mnist_are_not_moved_nor_trained_on(recipe, mnist_root):
    data = recipe.MnistData(str(mnist_root))
    data.setup("fit")
    assert data.dataset_name == "mnist"
    assert [len(data.train_set), len(data.val_set), len(data.test_set)] == [55_000, 5_000, 10_000]
    assert not np.isin(data.val_set.indices, data.train_set.indices).any()
    plain = fw.data.MNIST(mnist_root, train=True)
    for k in (0, 17, 4999):
        image, label = data.val_set[k]
        where = data.val_set.indices[k]
        assert image.tolist() == PLAIN(plain.arrays[0][where : where + 1])[0].tolist()
        assert label == plain.arrays[1][where]


def test_missing_data_are_an_error_without_a_fallback(recipe):
    with pytest.raises(fw.data.DataUnavailable, match="MNIST: no train-images"):
        recipe.MnistData().setup("fit")


def test_a_few_steps_are_replayed_and_lower_the_loss(made):
    run = made(trainer__max_steps=12, data__init_args__batch_size=32, model__init_args__channels="[4, 8]")
    run.trainer.fit(run.module, datamodule=run.data)  # a warning, that nothing is replayed, would be an error
    rows = [json.loads(line) for line in Path(run.trainer.log_dir, "metrics.jsonl").read_text().splitlines()]
    losses = [row["train_loss"] for row in rows if "train_loss" in row]
    assert losses[-1] < losses[0]
    assert {"val_loss", "val_acc"} <= set(run.trainer.callback_metrics)


def test_predictions_are_labels_and_probabilities(made):
    run = made(trainer__limit_predict_batches=1)
    (batch,) = run.trainer.predict(run.module, datamodule=run.data)
    assert batch["probability"].shape == (250, 10)
    assert np.allclose(batch["probability"].numpy().sum(axis=1), 1, atol=1e-5)
    assert batch["label"].tolist() == batch["probability"].numpy().argmax(axis=1).tolist()


@pytest.mark.parametrize("seed", [pytest.param(n, marks=[pytest.mark.slow, pytest.mark.soak][n > 0]) for n in range(3)])
def test_mnist_is_learned(made, mnist_root, seed):
    run = made(seed=seed, data__init_args__root=mnist_root)
    run.trainer.fit(run.module, datamodule=run.data)
    (found,) = run.trainer.test(run.module, datamodule=run.data)
    assert found["test_acc"] >= 0.992
    assert not os.listdir("home") if Path("home").exists() else True
