"""The UCI handwritten digits, bundled."""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

import numpy as np

from framework.data.dataset import ArrayDataset, Transform
from framework.errors import ConfigError, did_you_mean

# Samples are stored in the order of a stratified random permutation, split here.
_SPLITS: Final = {
    "all": slice(0, 1797),
    "train": slice(0, 1257),
    "validation": slice(1257, 1437),
    "test": slice(1437, 1797),
}


class Digits(ArrayDataset):
    """1,797 images of handwritten digits: uint8 (n, 28, 28), labels int64 (n,); always there.

    The 8×8 images are enlarged three times and centred in 28×28, with values 0 to 255, to take MNIST's
    place in a model. The splits are fixed, with equal shares of each digit. "Optical Recognition of
    Handwritten Digits" (Alpaydin & Kaynak 1998), CC BY 4.0; see the notice beside the file.

    Args:
        split: "train" (1,257 images), "validation" (180), "test" (360), or "all" of them in this order.
        transform: called with a batch of images, such as `transforms.Normalize(0.1307, 0.3081)`.

    Raises:
        ConfigError: there is no such split.

    Examples:
        >>> len(Digits()), len(Digits("train")), len(Digits("validation")), len(Digits("test"))
        (1797, 1257, 180, 360)
    """

    def __init__(
        self,
        split: Literal["all", "train", "validation", "test"] = "all",
        *,
        transform: Transform | None = None,
    ) -> None:
        if split not in _SPLITS:
            raise ConfigError(
                f"Digits: split must be one of {', '.join(map(repr, _SPLITS))}, got {split!r}."
                f"{did_you_mean(str(split), _SPLITS)}"
            )
        part = _SPLITS[split]
        with np.load(Path(__file__).with_name("digits.npz"), allow_pickle=False) as file:
            small, labels = file["images"][part], file["labels"][part]
        images = np.zeros((len(small), 28, 28), np.uint8)
        grey = ((small.astype(np.uint16) * 255 + 8) // 16).astype(np.uint8)  # 0 … 16 to 0 … 255
        images[:, 2:26, 2:26] = grey.repeat(3, axis=1).repeat(3, axis=2)
        super().__init__(images, labels.astype(np.int64), transform=transform)
        self.split = split
