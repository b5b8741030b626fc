"""`DataModule`: where the data of a run come from."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from framework.data import BlockDataset, DataLoader, IterableDataset
from framework.errors import ConfigError
from framework.train import checkpoint
from framework.train.batches import Mover
from framework.train.hparams import HyperParameters, arguments_for, class_only

if TYPE_CHECKING:
    from framework.train.trainer import Trainer


KINDS = ("train", "val", "test", "predict")
"""The kinds of data, as in the names of the loaders' methods."""


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

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """The batch as the loader gave it: what is returned is moved to the device."""
        return batch

    def transfer_batch_to_device(self, batch: Any, device: str, dataloader_idx: int) -> Any:
        """Move a batch to the device, with its arrays as Tensors."""
        assert self.trainer is not None
        return Mover(self.trainer.strategy.backend, device, self.trainer.dtype)(batch)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """The batch on the device: what is returned is given to the step and its hooks."""
        return batch

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

    def example_batch(self) -> Any:
        """One batch as the loaders would give it, made up: what `fw check` uses, instead of reading the data."""
        raise self._missing("example_batch")

    @classmethod
    def from_datasets(
        cls,
        train_dataset: Any = None,
        val_dataset: Any = None,
        test_dataset: Any = None,
        predict_dataset: Any = None,
        batch_size: int = 1,
        num_workers: int = 0,
        **arguments: Any,
    ) -> DataModule:
        """A datamodule with a loader for each dataset, or each of a list of them.

        The training data are shuffled, but for an `IterableDataset` that decides its order itself.

        Args:
            train_dataset: what to train on.
            val_dataset: what to validate on.
            test_dataset: what to test on.
            predict_dataset: what to predict for.
            batch_size: of all loaders.
            num_workers: of all loaders.
            **arguments: more arguments of `fw.data.DataLoader`.

        Examples:
            >>> import numpy as np
            >>> import framework as fw
            >>> data = fw.DataModule.from_datasets(fw.data.ArrayDataset(np.zeros((6, 2))), batch_size=4)
            >>> print(data)
            {Train dataloader: size=2}
            {Validation dataloader: None}
            {Test dataloader: None}
            {Predict dataloader: None}
        """

        def loader(dataset: Any, shuffle: bool = False) -> Any:
            if isinstance(dataset, list | tuple):
                return [loader(one, shuffle) for one in dataset]
            shuffle &= not isinstance(dataset, IterableDataset) or isinstance(dataset, BlockDataset)
            options = {"batch_size": batch_size, "num_workers": num_workers, "shuffle": shuffle, **arguments}
            return DataLoader(dataset, **options)

        made = cls()
        for kind, dataset in zip(KINDS, (train_dataset, val_dataset, test_dataset, predict_dataset)):
            if dataset is not None:
                setattr(made, f"{kind}_dataloader", partial(loader, dataset, kind == "train"))
        return made

    @class_only
    def load_from_checkpoint(cls, checkpoint_path: str | Path, **overrides: Any) -> Self:  # noqa: N805
        """A datamodule of this class with the hyper-parameters of a checkpoint, and the state, if it holds more than
        weights.

        Args:
            checkpoint_path: a checkpoint's folder.
            **overrides: arguments of `__init__` that replace or complete the stored ones.

        Raises:
            CheckpointError: there is no checkpoint.
            ConfigError: an argument of `__init__` is neither stored nor given.
        """
        trees = checkpoint.load(checkpoint_path)
        made = cls(**arguments_for(cls, trees.get("hparams", {}).get("datamodule", {}), overrides))
        if "datamodule" in trees:
            made.load_state_dict(trees["datamodule"])
        return made

    def __str__(self) -> str:
        lines = []
        for kind, name in zip(KINDS, ("Train", "Validation", "Test", "Predict")):
            method = getattr(self, f"{kind}_dataloader")
            if getattr(method, "__func__", None) is getattr(DataModule, f"{kind}_dataloader"):
                size = "None"
            else:
                size = _size_of(method)
            lines.append(f"{{{name} dataloader: {size}}}")
        return "\n".join(lines)

    def state_dict(self) -> dict[str, Any]:
        """State tree that checkpoints keep."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`, which `state_dict` gave. Called after `setup`."""

    def _missing(self, name: str) -> ConfigError:
        return ConfigError(f"{type(self).__name__} defines no {name}(self)")


def _size_of(method: Callable[[], Any]) -> str:
    """The numbers of batches of the loaders that a method gives, for people."""
    try:
        found = method()
    except Exception as error:  # whoever prints a datamodule wants no traceback
        return f"not there yet ({type(error).__name__})"
    return "size=" + ", ".join(map(_length, found if isinstance(found, list | tuple) else [found]))


def _length(loader: Any) -> str:
    try:
        return str(len(loader))
    except TypeError:
        return "unknown"
