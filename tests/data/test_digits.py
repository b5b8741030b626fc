"""The bundled digits."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

import framework.data
from framework import errors
from framework.data import Digits
from framework.data.transforms import Normalize


def test_sizes_and_dtypes():
    for split, count in (("all", 1797), ("train", 1257), ("validation", 180), ("test", 360)):
        images, labels = Digits(split).arrays
        assert (images.shape, images.dtype) == ((count, 28, 28), np.uint8)
        assert (labels.shape, labels.dtype) == ((count,), np.int64)
        assert Digits(split).check_labels(10)


def test_the_splits_are_the_whole_in_order():
    for whole, *parts in zip(Digits().arrays, *(Digits(s).arrays for s in ("train", "validation", "test"))):
        np.testing.assert_array_equal(whole, np.concatenate(parts))


def test_no_image_is_in_two_splits():
    images = Digits().arrays[0]
    assert len({image.tobytes() for image in images}) == len(images)


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_splits_are_stratified(split):
    total, part = (np.bincount(Digits(s).arrays[1], minlength=10) for s in ("all", split))
    assert np.abs(part - total * part.sum() / 1797).max() <= 1


def test_images_are_enlarged_and_centred():
    images = Digits().arrays[0]
    assert (images.min(), images.max()) == (0, 255)
    assert images[:, :2].max() == images[:, 26:].max() == images[:, :, :2].max() == images[:, :, 26:].max() == 0
    blocks = images[:, 2:26, 2:26].reshape(-1, 8, 3, 8, 3)
    assert (blocks == blocks[:, :, :1, :, :1]).all()
    assert len(np.unique(blocks)) == 17


def test_the_data_never_changes():
    images, labels = Digits().arrays
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert hashlib.sha256(images.tobytes() + labels.astype("<i8").tobytes()).hexdigest() == CHECKSUM


CHECKSUM = "54074f6c8198e3326782ae8c61901a338e85aca442e237360f21eded9f7d6bec"


def test_transform():
    image, _ = Digits("test", transform=Normalize(0.5, 0.5))[0]
    assert image.dtype == np.float32
    assert image[0, 0] == -1


def test_unknown_split():
    with pytest.raises(errors.ConfigError, match="Did you mean 'validation'"):
        Digits("validate")


def test_the_file_is_small_and_has_its_notice():
    folder = Path(framework.data.__file__).parent
    assert (folder / "digits.npz").stat().st_size < 64_000
    notice = (folder / "digits.NOTICE.txt").read_text()
    assert "CC BY 4.0" in notice
    assert "Alpaydin" in notice
