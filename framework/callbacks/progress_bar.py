"""How far the run is: a bar in a terminal, sparse lines in a file."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from framework.callbacks.callback import Callback
from framework.callbacks.progress_views import Bars, Lines, View, in_terminal
from framework.errors import ConfigError

if TYPE_CHECKING:
    from framework.train import Trainer, TrainModule


class TQDMProgressBar(Callback):
    """Shows epoch, step, steps a second, the time left, the latest loss and the validation metrics.

    In a terminal this is a bar. In a notebook, and where standard output or error is a file or a pipe,
    it is a plain line now and then: one an epoch (at most about 60 in all), and one after each 30 s
    without; the time left is that of the whole training then, in the bar it is the epoch's. The
    metrics shown are those logged with `prog_bar=True`, the loss, and all that validation logs; they
    are read from the device only when something is drawn.

    Args:
        refresh_rate: draw at most every so many batches; 0 shows nothing. The bar is never drawn
            more than ten times a second.
        process_position: line of the bar, counted from the first.
        leave: leave a finished epoch's bar on the screen and begin another.
    """

    priority: ClassVar[int] = -50  # after the module has logged, before what stops or saves

    def __init__(self, refresh_rate: int = 1, process_position: int = 0, leave: bool = False) -> None:
        if refresh_rate < 0:
            raise ConfigError(f"TQDMProgressBar(refresh_rate={refresh_rate}): expected 0 (off) or a number of batches.")
        self.refresh_rate = refresh_rate
        self.process_position = process_position
        self.leave = leave
        self._view: View | None = None
        self._due = math.inf  # a copy of the view's, so that a batch costs one comparison
        self._outputs: Any = None
        self._known: set[str] = set()
        self._validation: dict[str, float] = {}

    # -- stages --------------------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: TrainModule, stage: str) -> None:
        """Choose between bar and lines, now that the streams are what they will be."""
        if self.refresh_rate and self._view is None:
            self._view = Bars(self.process_position, self.leave) if in_terminal() else Lines()
        self._validation = {}

    def teardown(self, trainer: Trainer, pl_module: TrainModule, stage: str) -> None:
        """Take the bar off."""
        self._close()

    def on_exception(self, trainer: Trainer, pl_module: TrainModule, exception: BaseException) -> None:
        """Take the bar off, so that the error has the screen for itself."""
        self._close()

    # -- training ------------------------------------------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Begin to count."""
        if self._view is not None:
            self._view.start(_epochs(trainer), trainer.global_step, trainer.estimated_stepping_batches)
            self._due = self._view.due

    def on_train_epoch_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Begin the epoch's bar."""
        if self._view is not None:
            self._view.begin(_title(trainer), trainer.num_training_batches, 0)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: TrainModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Draw, if it is time."""
        self._outputs = outputs
        if time.monotonic() < self._due or self._view is None:
            return
        if (batch_idx + 1) % self.refresh_rate == 0 or trainer.is_last_batch:
            self._view.begin(_title(trainer), trainer.num_training_batches, batch_idx)
            self._view.draw(batch_idx + 1, trainer.global_step, self._metrics(trainer))
            self._due = self._view.due

    def on_train_epoch_end(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Show the epoch with its validation."""
        if self._view is not None and self._view.wants_end(trainer.current_epoch):
            self._view.end(trainer.global_step, self._metrics(trainer))
            self._due = self._view.due

    def on_train_end(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Show where training has ended, if it has not been shown."""
        if self._view is not None:
            self._view.finish(trainer.global_step, lambda: self._metrics(trainer))
        self._due, self._outputs = math.inf, None

    # -- validation, test, prediction ----------------------------------------------------------------

    def on_validation_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Remember which metrics were there before."""
        self._begin("Sanity check" if trainer.sanity_checking else "Validation", trainer.num_val_batches)
        self._known = set(trainer.callback_metrics)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: TrainModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw, if it is time."""
        if self._view is not None:
            self._view.draw_side(batch_idx + 1)

    def on_validation_end(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Take over the metrics of the validation."""
        self._end()
        if not trainer.sanity_checking:
            metrics = trainer.callback_metrics
            known = self._known - self._validation.keys()
            names = [name for name in metrics if name not in known or name.startswith("val")]
            self._validation = {name: float(metrics[name]) for name in names}

    def on_test_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Begin a bar of its own."""
        self._begin("Test", trainer.num_test_batches)

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: TrainModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw, if it is time."""
        if self._view is not None:
            self._view.draw_side(batch_idx + 1)

    def on_test_end(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Take the bar off."""
        self._end()

    def on_predict_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Begin a bar of its own."""
        self._begin("Prediction", trainer.num_predict_batches)

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: TrainModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Draw, if it is time."""
        if self._view is not None:
            self._view.draw_side(batch_idx + 1)

    def on_predict_end(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Take the bar off."""
        self._end()

    # -- inside --------------------------------------------------------------------------------------

    def _begin(self, title: str, total: Any) -> None:
        if self._view is not None:
            self._view.begin_side(title, sum(total) if isinstance(total, list | tuple) else total)

    def _end(self) -> None:
        if self._view is not None:
            self._view.end_side()

    def _close(self) -> None:
        view, self._view = self._view, None
        self._due, self._outputs = math.inf, None
        if view is not None:
            view.close()

    def _metrics(self, trainer: Trainer) -> dict[str, float]:
        """What to show: the loss, what was logged for the bar, what validation logged."""
        latest = trainer.progress_bar_metrics.items()
        shown = {name: float(value) for name, value in latest if name not in self._validation}
        loss = self._outputs.get("loss") if isinstance(self._outputs, Mapping) else self._outputs
        if loss is not None and not any("loss" in name for name in shown):
            shown = {"loss": float(loss), **shown}
        return shown | self._validation


def _title(trainer: Trainer) -> str:
    last = trainer.max_epochs
    return f"Epoch {trainer.current_epoch}/{last - 1}" if last and last > 0 else f"Epoch {trainer.current_epoch}"


def _epochs(trainer: Trainer) -> float:
    """About how many epochs the training will have."""
    by_steps = math.inf
    if trainer.max_steps and trainer.max_steps > 0:
        by_steps = trainer.max_steps / max(1, trainer.updates_per_epoch)
    return min(by_steps, trainer.max_epochs if trainer.max_epochs and trainer.max_epochs > 0 else math.inf)
