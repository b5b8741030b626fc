"""A module without a mistake, to make mistakes with."""

from __future__ import annotations

from typing import Any

import framework as fw


class Good(fw.TrainModule):
    """Trains and validates; has no test step."""

    def __init__(self, width: int = 2) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = fw.nn.Linear(2, width)

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        return self.layer(batch[0]).mean()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.log("val_loss", self.layer(batch[0]).mean())

    def configure_optimizers(self) -> Any:
        return fw.optim.SGD(self.parameters(), lr=0.1)
