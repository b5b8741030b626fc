"""`self.log` beside Lightning's: the same names and values for callbacks, and of evaluations."""

from __future__ import annotations

import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import framework as fw

pytestmark = pytest.mark.reference

VALUES = [1.0, 2.0, 4.0, 8.0, 16.0]
"""The elements, in batches of two, two and one."""

ARGUMENTS: list[dict[str, Any]] = [
    {},
    {"on_epoch": True},
    {"on_step": True},
    {"on_step": True, "on_epoch": True},
    {"on_step": False, "on_epoch": True},
    {"on_step": True, "on_epoch": False},
    *({"on_step": False, "on_epoch": True, "reduce_fx": reduce} for reduce in ("mean", "sum", "min", "max")),
    {"on_step": False, "on_epoch": True, "batch_size": 1},
    {"on_epoch": True, "prog_bar": True, "logger": False},
]


def fit(library: Any, arguments: dict[str, Any], loaders: Any, folder: Path) -> tuple[Any, Any]:
    """What callbacks see after a fit, and what `test` gives."""

    class Module(library.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = library.layer()

        def training_step(self, batch: Any, batch_idx: int) -> Any:
            self.log("train", batch[0].mean(), **arguments)
            return self.layer(batch[0]).mean()

        def validation_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            self.log("val", batch[0].mean(), **arguments)

        def test_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
            self.log("test", batch[0].mean(), **arguments)

        def configure_optimizers(self) -> Any:
            return library.optimizer(self.parameters())

    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "enable_checkpointing": False}
    trainer = library.Trainer(
        max_epochs=2, accelerator="cpu", logger=False, default_root_dir=str(folder), log_every_n_steps=1, **quiet
    )
    module = Module()
    trainer.fit(module, loaders[0], loaders)
    metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
    return metrics, trainer.test(module, loaders, verbose=False)


class Ours:
    Module, Trainer = fw.TrainModule, fw.Trainer

    @staticmethod
    def layer() -> Any:
        return fw.nn.Linear(1, 1)

    @staticmethod
    def optimizer(parameters: Any) -> Any:
        return fw.optim.SGD(parameters, lr=0.0)


@pytest.mark.parametrize("loaders", [1, 2])
@pytest.mark.parametrize("arguments", ARGUMENTS, ids=str)
def test_callbacks_and_evaluations_see_what_lightning_shows(
    arguments: dict[str, Any], loaders: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTORCH_NVML_BASED_CUDA_CHECK", "1")
    pl = pytest.importorskip("lightning.pytorch")
    import torch

    class Theirs:
        Module, Trainer = pl.LightningModule, pl.Trainer
        layer = staticmethod(lambda: torch.nn.Linear(1, 1))
        optimizer = staticmethod(lambda parameters: torch.optim.SGD(parameters, lr=0.0))

    x = np.array(VALUES, np.float32)[:, None]
    mine = [fw.data.DataLoader(fw.data.ArrayDataset(x * (i + 1)), batch_size=2) for i in range(loaders)]
    other = [
        torch.utils.data.DataLoader(torch.utils.data.TensorDataset(torch.tensor(x * (i + 1))), batch_size=2)
        for i in range(loaders)
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected, results = fit(Theirs, arguments, other, tmp_path / "theirs")
    found, ours = fit(Ours, arguments, mine, tmp_path / "ours")
    assert {n: v for n, v in found.items() if not n.startswith("test")} == pytest.approx(expected)
    if arguments.get("logger") is not False:
        assert ours == [pytest.approx(result) for result in results]
    assert all(math.isfinite(value) for value in found.values())
