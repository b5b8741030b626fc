"""The Trainer lets go of each batch, so that its arrays serve again; whoever keeps one never sees it change."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

import framework as fw
from framework.callbacks import Callback


def make_loaders(kind: type[fw.data.DataLoader] = fw.data.DataLoader) -> tuple[Any, Any]:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (61, 4), dtype=np.uint8), rng.integers(0, 3, 61)
    data = fw.data.ArrayDataset(x, y, transform=fw.data.transforms.Normalize(0.5, 0.3))
    return kind(data, batch_size=8, shuffle=True, seed=5), kind(data, batch_size=16)


def batches_of(epochs: int) -> list[Any]:
    """What a Trainer's module is to see in so many epochs, validation after each."""
    train, val = make_loaders()
    return [batch for _ in range(epochs) for loader in (train, val) for batch in loader]


class Keeps(Callback):
    """Holds on to the batches of every `every`-th step, in one way or another."""

    def __init__(self, hold: Any, every: int = 1) -> None:
        self.hold, self.every = hold, every
        self.kept: list[Any] = []
        self.places: list[int] = []
        self.last: Any = None

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self.places.append(batch[0]._data.ctypes.data)
        self.kept.append(self.hold(batch) if len(self.places) % self.every == 0 else None)

    def on_validation_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)


def fit(toy: ModuleType, root: Path, keeps: Keeps, loaders: Any, **changes: Any) -> None:
    trainer = toy.make_trainer(
        root,
        callbacks=[keeps],
        max_epochs=2,
        val_check_interval=1.0,
        num_sanity_val_steps=0,
        enable_checkpointing=False,
        **changes,
    )
    trainer.fit(toy.ToyModule(), *loaders)


HOLDS = {
    "batch": lambda batch: batch[0],
    "array": lambda batch: batch[0]._data,
    "detached": lambda batch: batch[0].detach(),
    "view": lambda batch: batch[0][:],
    "part": lambda batch: batch[0]._data.reshape(-1).reshape(len(batch[0]), -1),
}


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("hold", HOLDS)
def test_a_batch_that_a_callback_keeps_never_changes(
    toy: ModuleType, tmp_path: Path, hold: str, every: int, accumulate: int
) -> None:
    keeps = Keeps(HOLDS[hold], every)
    fit(toy, tmp_path, keeps, make_loaders(), accumulate_grad_batches=accumulate)
    expected = batches_of(2)
    assert len(keeps.kept) == len(expected) == 24
    for k, (kept, (x, _)) in enumerate(zip(keeps.kept, expected)):
        assert (kept is None) == ((k + 1) % every != 0)
        if kept is not None:
            np.testing.assert_array_equal(np.asarray(kept), x)


def test_the_arrays_of_a_batch_serve_again(toy: ModuleType, tmp_path: Path) -> None:
    keeps = Keeps(lambda batch: None)
    fit(toy, tmp_path, keeps, make_loaders())
    assert len(set(keeps.places[:7])) == 1  # all but the epoch's last, which is smaller
    assert len(set(keeps.places[8:11])) == 1


def test_a_loader_with_an_iteration_of_its_own_is_iterated_over(toy: ModuleType, tmp_path: Path) -> None:
    class Doubled(fw.data.DataLoader):
        def __iter__(self) -> Any:
            for x, y in super().__iter__():
                yield 2 * x, y

    keeps = Keeps(lambda batch: batch[0].numpy())
    fit(toy, tmp_path, keeps, make_loaders(Doubled))
    for kept, (x, _) in zip(keeps.kept, batches_of(2), strict=True):
        np.testing.assert_array_equal(kept, 2 * x)


def test_predictions_that_are_the_batch_itself_do_not_change(toy: ModuleType, tmp_path: Path) -> None:
    class Echo(toy.ToyModule):  # type: ignore[name-defined, misc]
        def predict_step(self, batch: Any, batch_idx: int) -> Any:
            return batch[0]

    _, loader = make_loaders()
    trainer = toy.make_trainer(tmp_path, callbacks=[])
    for found, (x, _) in zip(trainer.predict(Echo(), loader), loader, strict=True):
        np.testing.assert_array_equal(found.numpy(), x)
