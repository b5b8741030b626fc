"""`DataModule`: where the data of a run come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from framework.errors import ConfigError
from framework.train.hparams import HyperParameters

if TYPE_CHECKING:
    from framework.train.trainer import Trainer


class DataModule(HyperParameters):
    """Loaders for training, validation, test and prediction, with what it takes to make them.

    The Trainer calls `prepare_data`, then `setup(stage)`, then the loaders it needs; each loader
    method returns one loader, those for evaluation also a list of them.

    Examples:
        >>> import numpy as np
        >>> import framework as fw
        >>> class Numbers(fw.DataModule):
        ...     def train_dataloader(self):
        ...         x = np.arange(4.0).reshape(4, 1)
        ...         return fw.data.DataLoader(fw.data.ArrayDataset(x, 2 * x), batch_size=2)
        >>> len(Numbers().train_dataloader())
        2
    """

    dataset_name: str | None = None
    """What the data are, for the run's summary; may be set in `setup`."""

    minimum_updates: int | None = None
    """The Trainer raises its `max_epochs` until so many updates are made; may be set in `setup`."""

    trainer: Trainer | None = None
    """The Trainer at work with these data."""

    def __init__(self) -> None:
        """Nothing has to be done here; subclasses may leave the call out."""

    def prepare_data(self) -> None:
        """Download or unpack; set no state here."""

    def setup(self, stage: str) -> None:
        """A stage begins: "fit", "validate", "test" or "predict"; make the datasets that it needs."""

    def teardown(self, stage: str) -> None:
        """A stage has ended, well or not."""

    def on_exception(self, exception: BaseException) -> None:
        """The stage ends with `exception`, which is raised again afterwards."""

    def train_dataloader(self) -> Any:
        """The training data."""
        raise self._missing("train_dataloader")

    def val_dataloader(self) -> Any:
        """The validation data."""
        raise self._missing("val_dataloader")

    def test_dataloader(self) -> Any:
        """The test data."""
        raise self._missing("test_dataloader")

    def predict_dataloader(self) -> Any:
        """The data to predict for."""
        raise self._missing("predict_dataloader")

    def state_dict(self) -> dict[str, Any]:
        """State tree that checkpoints keep."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`, which `state_dict` gave. Called after `setup`."""

    def _missing(self, name: str) -> ConfigError:
        return ConfigError(f"{type(self).__name__} defines no {name}(self)")
