"""The hooks that a callback may have."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

if TYPE_CHECKING:
    from framework.autodiff import Tensor
    from framework.optim import Optimizer
    from framework.train import Trainer, TrainModule


class Callback:
    """Base of all callbacks: every hook, doing nothing.

    A hook that is not overridden is never called, so an unused one costs nothing. Callbacks run in
    falling order of `priority`, in the order of the list where it is equal; those below zero run
    after the module's own hook, so that they see what it has logged.

    Examples:
        >>> class Greeter(Callback):
        ...     def on_train_start(self, trainer, pl_module):
        ...         print("training begins")
        >>> Greeter().state_key
        'Greeter'
    """

    priority: ClassVar[int] = 0

    @property
    def state_key(self) -> str:
        """Under which name the state is kept in a checkpoint; two callbacks with state must differ in it."""
        return type(self).__qualname__

    def state_dict(self) -> dict[str, Any]:
        """State tree that a checkpoint keeps; empty for a callback without state."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Continue from `state`, which `state_dict` gave. Called before `on_fit_start`."""

    # -- logging -------------------------------------------------------------------------------------

    _logs_for: TrainModule | None = None

    def log(self, name: str, value: Any, **arguments: Any) -> None:
        """Record a metric, as `self.log` of the module does in the same hook, with the same arguments."""
        if self._logs_for is None:
            warnings.warn(
                f"{type(self).__name__}.log({name!r}, …) does nothing without a Trainer", UserWarning, stacklevel=2
            )
            return
        self._logs_for.log(name, value, **arguments)

    def log_dict(self, dictionary: Mapping[str, Any], **arguments: Any) -> None:
        """Record several metrics with the same arguments."""
        for name, value in dictionary.items():
            self.log(name, value, **arguments)

    # -- a stage (fit, validate, test, predict) ------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: TrainModule, stage: str) -> None:
        """A stage begins: "fit", "validate", "test" or "predict"."""

    def teardown(self, trainer: Trainer, pl_module: TrainModule, stage: str) -> None:
        """A stage has ended, well or not."""

    def on_fit_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Fit begins; optimizers exist, and a checkpoint to resume from is loaded."""

    def on_fit_end(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Fit has ended."""

    def on_sanity_check_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """The trial validation before training begins."""

    def on_sanity_check_end(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """The trial validation before training has ended."""

    def on_exception(self, trainer: Trainer, pl_module: TrainModule, exception: BaseException) -> None:
        """The stage ends with `exception`, which is raised again afterwards."""

    # -- training ------------------------------------------------------------------------------------

    def on_train_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Training begins, after the trial validation."""

    def on_train_end(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Training has ended."""

    def on_train_epoch_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """A training epoch begins."""

    def on_train_epoch_end(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """A training epoch, its validation included, has ended."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: TrainModule, batch: Any, batch_idx: int) -> None:
        """A training batch is about to be used."""

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: TrainModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A training batch is done; `outputs` is what `training_step` returned, detached."""

    def on_before_zero_grad(self, trainer: Trainer, pl_module: TrainModule, optimizer: Optimizer) -> None:
        """The gradients are about to be cleared."""

    def on_before_backward(self, trainer: Trainer, pl_module: TrainModule, loss: Tensor) -> None:
        """The loss is about to be differentiated."""

    def on_after_backward(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """The gradients are there."""

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: TrainModule, optimizer: Optimizer) -> None:
        """The optimizer is about to update the parameters; gradients are not clipped yet."""

    # -- validation ----------------------------------------------------------------------------------

    def on_validation_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Validation begins."""

    def on_validation_end(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Validation has ended; its metrics are in `trainer.callback_metrics`."""

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """The pass over the validation data begins."""

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """The pass over the validation data has ended; its metrics may still be logged."""

    def on_validation_batch_start(
        self, trainer: Trainer, pl_module: TrainModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """A validation batch is about to be used."""

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: TrainModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """A validation batch is done; `outputs` is what `validation_step` returned."""

    # -- test ----------------------------------------------------------------------------------------

    def on_test_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """The test begins."""

    def on_test_end(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """The test has ended; its metrics are in `trainer.callback_metrics`."""

    def on_test_epoch_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """The pass over the test data begins."""

    def on_test_epoch_end(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """The pass over the test data has ended; its metrics may still be logged."""

    def on_test_batch_start(
        self, trainer: Trainer, pl_module: TrainModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """A test batch is about to be used."""

    def on_test_batch_end(
        self,
        trainer: Trainer,
        pl_module: TrainModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """A test batch is done; `outputs` is what `test_step` returned."""

    # -- prediction ----------------------------------------------------------------------------------

    def on_predict_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Prediction begins."""

    def on_predict_end(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """Prediction has ended."""

    def on_predict_epoch_start(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """The pass over the prediction data begins."""

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """The pass over the prediction data has ended."""

    def on_predict_batch_start(
        self, trainer: Trainer, pl_module: TrainModule, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        """A prediction batch is about to be used."""

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: TrainModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """A prediction batch is done; `outputs` is what `predict_step` returned."""

    # -- checkpoints ---------------------------------------------------------------------------------

    def on_save_checkpoint(self, trainer: Trainer, pl_module: TrainModule, checkpoint: dict[str, Any]) -> None:
        """A checkpoint is about to be written; state trees may be added to `checkpoint`."""

    def on_load_checkpoint(self, trainer: Trainer, pl_module: TrainModule, checkpoint: dict[str, Any]) -> None:
        """A checkpoint has been read and is about to be used."""
