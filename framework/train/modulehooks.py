"""The hooks that a `TrainModule` may have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from framework.autodiff import Tensor
    from framework.optim import Optimizer


class ModuleHooks:
    """Every hook of a `TrainModule`, doing nothing. One that is not overridden is never called.

    Where the callbacks have the same hook, they run first; those with a priority below zero run
    after the module's.
    """

    # -- a stage (fit, validate, test, predict) ------------------------------------------------------

    def prepare_data(self) -> None:
        """Download or unpack data, before `setup`; set no state here."""

    def setup(self, stage: str) -> None:
        """A stage begins: "fit", "validate", "test" or "predict"."""

    def teardown(self, stage: str) -> None:
        """A stage has ended, well or not."""

    def on_fit_start(self) -> None:
        """Fit begins; optimizers exist."""

    def on_fit_end(self) -> None:
        """Fit has ended."""

    def on_exception(self, exception: BaseException) -> None:
        """The stage ends with `exception`, which is raised again afterwards."""

    # -- training ------------------------------------------------------------------------------------

    def on_train_start(self) -> None:
        """Training begins, after the trial validation. A resumed run takes its saved state over after this."""

    def on_train_end(self) -> None:
        """Training has ended."""

    def on_train_epoch_start(self) -> None:
        """A training epoch begins; also where a run resumes within one."""

    def on_train_epoch_end(self) -> None:
        """A training epoch, its validation included, has ended; its metrics may still be logged."""

    def on_train_batch_start(self, batch: Any, batch_idx: int) -> int | None:
        """A training batch is about to be used; returning -1 skips the rest of the epoch."""
        return None

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """A training batch is done; `outputs` is `{"loss": …}` with what else `training_step` returned, detached."""

    def on_before_zero_grad(self, optimizer: Optimizer) -> None:
        """The gradients are about to be cleared."""

    def on_before_backward(self, loss: Tensor) -> None:
        """The loss is about to be differentiated."""

    def on_after_backward(self) -> None:
        """The gradients are there."""

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """The optimizer is about to update the parameters."""

    # -- validation, test, prediction ----------------------------------------------------------------

    def on_validation_start(self) -> None:
        """Validation begins."""

    def on_validation_end(self) -> None:
        """Validation has ended; its metrics are in `self.trainer.callback_metrics`."""

    def on_validation_epoch_start(self) -> None:
        """The pass over the validation data begins."""

    def on_validation_epoch_end(self) -> None:
        """The pass over the validation data has ended; its metrics may still be logged."""

    def on_validation_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """A validation batch is about to be used."""

    def on_validation_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """A validation batch is done."""

    def on_test_start(self) -> None:
        """The test begins."""

    def on_test_end(self) -> None:
        """The test has ended; its metrics are in `self.trainer.callback_metrics`."""

    def on_test_epoch_start(self) -> None:
        """The pass over the test data begins."""

    def on_test_epoch_end(self) -> None:
        """The pass over the test data has ended; its metrics may still be logged."""

    def on_test_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """A test batch is about to be used."""

    def on_test_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """A test batch is done."""

    def on_predict_start(self) -> None:
        """Prediction begins."""

    def on_predict_end(self) -> None:
        """Prediction has ended."""

    def on_predict_epoch_start(self) -> None:
        """The pass over the prediction data begins."""

    def on_predict_epoch_end(self) -> None:
        """The pass over the prediction data has ended."""

    def on_predict_batch_start(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """A prediction batch is about to be used."""

    def on_predict_batch_end(self, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> None:
        """A prediction batch is done."""

    # -- checkpoints ---------------------------------------------------------------------------------

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A checkpoint is about to be written; state trees may be added to `checkpoint`."""

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """A checkpoint has been read and is about to be used."""
