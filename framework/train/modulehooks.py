"""The hooks that a `TrainModule` may have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from framework.train.batches import Mover

if TYPE_CHECKING:
    from framework.autodiff import Tensor
    from framework.callbacks import Callback
    from framework.optim import Optimizer
    from framework.train.manual import SteppedOptimizer
    from framework.train.trainer import Trainer


class ModuleHooks:
    """Every hook of a `TrainModule`, doing nothing, or what the Trainer does anyway. One that is not overridden costs
    nothing.

    Where the callbacks have the same hook, they run first; those with a priority below zero run
    after the module's where it may log something.
    """

    if TYPE_CHECKING:

        @property
        def trainer(self) -> Trainer:
            """The Trainer at work with this module."""

        def train(self, mode: bool = True) -> Any:
            """Set the mode of all parts."""

        def eval(self) -> Any:
            """Set evaluation mode for all parts."""

    # -- a stage (fit, validate, test, predict) ------------------------------------------------------

    def configure_callbacks(self) -> Callback | Sequence[Callback]:
        """Callbacks of the module's own, one or several; they replace the Trainer's of the same class."""
        return []

    def configure_model(self) -> None:
        """Make layers here that need to know the data or the Trainer, once; after `setup`, before the optimizers.

        Also called by `load_from_checkpoint`, and in every stage: leave what is there alone.
        """

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

    # -- how the Trainer does things, to be overridden -----------------------------------------------

    def backward(self, loss: Tensor, *args: Any, **kwargs: Any) -> None:
        """Compute the gradients of a loss, which is weighted already where several batches make one update."""
        loss.backward(*args, **kwargs)

    def optimizer_zero_grad(self, epoch: int, batch_idx: int, optimizer: Optimizer) -> None:
        """Drop the gradients before the first batch of an update."""
        optimizer.zero_grad()

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: SteppedOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Make an update; the gradients are there, clipped and looked at. Leaving `step` out makes none.

        `optimizer_closure` gives the loss that `training_step` had; it may be handed on or not.
        """
        optimizer.step(closure=optimizer_closure)

    def lr_scheduler_step(self, scheduler: Any, metric: Any | None) -> None:
        """Let a scheduler step; `metric` is the value of its monitor, where it has one."""
        if metric is None:
            scheduler.step()
        else:
            scheduler.step(metric)

    def on_before_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """The batch as the loader gave it: what is returned is moved to the device."""
        return batch

    def transfer_batch_to_device(self, batch: Any, device: str, dataloader_idx: int) -> Any:
        """Move a batch to the device, with its arrays as Tensors."""
        return Mover(self.trainer.strategy.backend, device, self.trainer.dtype)(batch)

    def on_after_batch_transfer(self, batch: Any, dataloader_idx: int) -> Any:
        """The batch on the device: what is returned is given to the step and its hooks."""
        return batch

    # -- validation, test, prediction ----------------------------------------------------------------

    def on_validation_model_eval(self) -> None:
        """Validation is about to begin: switch to evaluation mode."""
        self.eval()

    def on_validation_model_train(self) -> None:
        """Validation has ended, and each part has its mode of before again; override it for other modes."""
        self.train()

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

    def on_test_model_eval(self) -> None:
        """The test is about to begin: switch to evaluation mode."""
        self.eval()

    def on_test_model_train(self) -> None:
        """The test has ended, and each part has its mode of before again; override it for other modes."""
        self.train()

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

    def on_predict_model_eval(self) -> None:
        """Prediction is about to begin: switch to evaluation mode."""
        self.eval()

    def on_predict_model_train(self) -> None:
        """Prediction has ended, and each part has its mode of before again; override it for other modes."""
        self.train()

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
