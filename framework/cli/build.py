"""From a `Config` to the objects of a run."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from framework.cli.config import Config, SchedulerSpec
from framework.cli.nodes import refuse
from framework.cli.report import RunFailedError
from framework.cli.specs import ClassSpec
from framework.errors import CheckpointError, FrameworkError
from framework.random import seed_everything
from framework.train import DataModule, Trainer, TrainModule
from framework.train.checkpoint import load


@dataclass(slots=True)
class Run:
    """The objects that a configuration describes."""

    config: Config
    trainer: Trainer
    module: TrainModule
    data: DataModule | None

    def load_weights(self, checkpoint: Path) -> None:
        """Start from the weights of a checkpoint.

        Raises:
            CheckpointError: it is damaged, or of another model.
        """
        weights = load(checkpoint)["model"]
        try:
            self.module.load_state_dict(weights)
        except FrameworkError as error:
            raise CheckpointError(f"{checkpoint} is of another model. {error}") from error


def build(config: Config) -> Run:
    """Make everything, the Trainer first, so that a backend that cannot run is refused before data is touched.

    Raises:
        FrameworkError: a class refused its arguments, with their place; or the user's own code in a
            constructor failed (chained).
    """
    seed_everything(config.seed)
    trainer = config.trainer.make()
    trainer.run_name = config.name
    trainer.config_text = config.text
    trainer.config_tree = config.tree()
    module = config.model.make()
    if config.optimizer is not None:
        module.configure_optimizers = Optimizers(module, config.optimizer, config.lr_scheduler)
    data = config.data.make() if config.data is not None else None
    return Run(config, trainer, module, data)


@dataclass(slots=True, eq=False)
class Optimizers:
    """What the config's `optimizer` and `lr_scheduler` sections say, in place of `configure_optimizers`."""

    module: TrainModule
    optimizer: ClassSpec
    scheduler: SchedulerSpec | None

    def __call__(self) -> dict[str, Any]:
        """The optimizer and its scheduler, in the form that `configure_optimizers` returns."""
        optimizer = self.optimizer.make(self.module.parameters())
        if self.scheduler is None:
            return {"optimizer": optimizer}
        spec = self.scheduler.spec
        more = {}
        if spec.accepts("total_steps") and not spec.gives_any("total_steps", "epochs", "steps_per_epoch"):
            spec.args.pop("total_steps", None)
            more["total_steps"] = self._updates(spec)
        settings = {
            "scheduler": spec.make(optimizer, **more),
            "interval": self.scheduler.interval,
            "frequency": self.scheduler.frequency,
        }
        if self.scheduler.monitor is not None:
            settings["monitor"] = self.scheduler.monitor
        return {"optimizer": optimizer, "lr_scheduler": settings}

    def _updates(self, spec: ClassSpec) -> int:
        """The number of updates of the run.

        Raises:
            ConfigError: it has no end.
        """
        updates = self.module.trainer.estimated_stepping_batches
        if math.isinf(updates):
            raise refuse(
                spec.node,
                spec.path,
                f"{spec.cls.__name__} needs total_steps, for the run has no end; or set max_epochs",
            )
        return int(updates)


@contextmanager
def after_first_step(trainer: Trainer) -> Iterator[None]:
    """Marks what is raised in the block once the run has begun: the exit code is another one then.

    Raises:
        RunFailedError: around such an exception.
    """
    try:
        yield
    except Exception as error:
        if trainer.has_begun:
            raise RunFailedError from error
        raise
