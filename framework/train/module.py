"""`TrainModule`: a model together with how it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from framework import nn
from framework.errors import ConfigError
from framework.optim import Optimizer, clip_grad_norm_, clip_grad_value_
from framework.train import checkpoint, options
from framework.train.hparams import HyperParameters, arguments_for
from framework.train.modulehooks import ModuleHooks
from framework.train.results import LogPort

if TYPE_CHECKING:
    from framework.loggers import Logger
    from framework.train.trainer import Trainer


class TrainModule(ModuleHooks, HyperParameters, nn.Module):
    """A model together with how it is trained.

    Define `training_step` and `configure_optimizers`, and what else is needed of `validation_step`,
    `test_step`, `predict_step`, the hooks and the dataloaders.

    Examples:
        >>> import framework as fw
        >>> class Line(fw.TrainModule):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.layer = fw.nn.Linear(1, 1)
        ...     def training_step(self, batch, batch_idx):
        ...         x, y = batch
        ...         loss = ((self.layer(x) - y) ** 2).mean()
        ...         self.log("train_loss", loss)
        ...         return loss
        ...     def configure_optimizers(self):
        ...         return fw.optim.SGD(self.parameters(), lr=0.1)
        >>> Line().current_epoch
        0
    """

    _port: LogPort | None = None

    # -- what a subclass defines ---------------------------------------------------------------------

    def training_step(self, batch: Any, batch_idx: int) -> Any:
        """The loss of one batch: a scalar Tensor, a dict with one under "loss", or None to skip the batch."""
        raise NotImplementedError(f"{type(self).__name__} defines no training_step(self, batch, batch_idx)")

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        """Log the metrics of one validation batch. With several loaders it also takes `dataloader_idx`."""
        raise NotImplementedError(f"{type(self).__name__} defines no validation_step(self, batch, batch_idx)")

    def test_step(self, batch: Any, batch_idx: int) -> Any:
        """Log the metrics of one test batch. With several loaders it also takes `dataloader_idx`."""
        raise NotImplementedError(f"{type(self).__name__} defines no test_step(self, batch, batch_idx)")

    def predict_step(self, batch: Any, batch_idx: int, dataloader_idx: int = 0) -> Any:
        """The prediction for one batch; by default `self(batch)`, or `self(x)` of a batch `(x, …)`."""
        return self(batch[0] if isinstance(batch, tuple | list) else batch)

    def configure_optimizers(self) -> Any:
        """An optimizer; or a dict `{"optimizer": …, "lr_scheduler": …}`; or `([optimizer], [scheduler])`.

        A scheduler may be a dict `{"scheduler": …, "interval": "epoch" or "step", "frequency": 1}`.
        """
        raise NotImplementedError(f"{type(self).__name__} defines no configure_optimizers(self)")

    def train_dataloader(self) -> Any:
        """The training data, where the module brings them itself."""
        raise NotImplementedError

    def val_dataloader(self) -> Any:
        """The validation data, where the module brings them itself; one loader or a list."""
        raise NotImplementedError

    def test_dataloader(self) -> Any:
        """The test data, where the module brings them itself; one loader or a list."""
        raise NotImplementedError

    def predict_dataloader(self) -> Any:
        """The data to predict for, where the module brings them itself; one loader or a list."""
        raise NotImplementedError

    # -- clipping ------------------------------------------------------------------------------------

    def configure_gradient_clipping(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the gradients of an update; override it to do so in a way of your own, by `self.clip_gradients` or not.

        Called after `on_before_optimizer_step`, with the Trainer's arguments. Gradients that are NaN or infinite
        have been refused before, and are refused after it, too.
        """
        self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def clip_gradients(
        self, optimizer: Optimizer, gradient_clip_val: float | None = None, gradient_clip_algorithm: str | None = None
    ) -> None:
        """Clip the gradients of the optimizer's parameters.

        Args:
            optimizer: whose parameters.
            gradient_clip_val: the largest norm, or value; default the Trainer's. With none, or 0, nothing is done.
            gradient_clip_algorithm: "norm" or "value"; default the Trainer's, else "norm".

        Raises:
            ConfigError: an argument makes no sense.
        """
        value, algorithm = options.clipping(gradient_clip_val, gradient_clip_algorithm)
        value = self.trainer.gradient_clip_val if value is None else value
        if not value:
            return
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        if (algorithm or self.trainer.gradient_clip_algorithm) == "value":
            clip_grad_value_(parameters, value)
        else:
            clip_grad_norm_(parameters, value)

    # -- logging -------------------------------------------------------------------------------------

    def log(
        self,
        name: str,
        value: Any,
        prog_bar: bool = False,
        logger: bool = True,
        on_step: bool | None = None,
        on_epoch: bool | None = None,
        reduce_fx: str = "mean",
        batch_size: int | None = None,
        add_dataloader_idx: bool = True,
    ) -> None:
        """Record a metric; nothing is read from the device before it is needed.

        Args:
            name: one name belongs to one place: training, validation or test.
            value: a number, a Tensor with one element, or a metric object (then the epoch's result).
            prog_bar: show it in the progress bar.
            logger: hand it to the loggers.
            on_step: as of this step, in the rows that `log_every_n_steps` asks for. Default: only in
                the steps and batch hooks of training.
            on_epoch: reduced over the epoch. Default: everywhere else. With both, the names become
                `name_step` and `name_epoch`.
            reduce_fx: "mean" (weighted by batch size), "sum", "min" or "max".
            batch_size: the weight; by default the length of the batch's first array.
            add_dataloader_idx: with several loaders, add `/dataloader_idx_N` to the name.

        Raises:
            ConfigError: logging is not possible here, or the name was used before with other arguments.
            ShapeError: the value has more than one element.
        """
        port = self._port
        if port is None or port.results is None:
            LogPort.refuse(port, name)
            return
        log = port.results.log if port.counters is None else port.log
        log(name, value, (prog_bar, logger, on_step, on_epoch, reduce_fx, add_dataloader_idx), batch_size)

    def log_dict(self, dictionary: Mapping[str, Any], **kwargs: Any) -> None:
        """Record several metrics with the same arguments, which are those of `log`."""
        for name, value in dictionary.items():
            self.log(name, value, **kwargs)

    def print(self, *args: Any, **kwargs: Any) -> None:
        """Print without tearing the progress bar."""
        self.trainer.print(*args, **kwargs)

    # -- the run -------------------------------------------------------------------------------------

    @property
    def trainer(self) -> Trainer:
        """The Trainer at work with this module.

        Raises:
            ConfigError: there is none yet.
        """
        if self._port is None:
            raise ConfigError(
                f"{type(self).__name__} has no Trainer yet; it has one inside trainer.fit, validate, test and predict"
            )
        return self._port.trainer

    @property
    def current_epoch(self) -> int:
        """Index of the epoch under way; 0 without a Trainer."""
        port = self._port
        return 0 if port is None else port.trainer.current_epoch

    @property
    def global_step(self) -> int:
        """Optimizer updates done; 0 without a Trainer."""
        port = self._port
        return 0 if port is None else port.trainer.global_step

    @property
    def logger(self) -> Logger | None:
        """The first logger of the run."""
        return self._port.trainer.logger if self._port is not None else None

    @property
    def loggers(self) -> list[Logger]:
        """The loggers of the run."""
        return self._port.trainer.loggers if self._port is not None else []

    @property
    def device(self) -> str:
        """The device of the parameters."""
        first = next(self.parameters(), None)
        return self.trainer.strategy.device if first is None else first.device

    def freeze(self) -> Self:
        """Stop the training of all parameters and switch to evaluation mode."""
        self.requires_grad_(False)
        return self.eval()

    def unfreeze(self) -> Self:
        """Let all parameters train again and switch to training mode."""
        self.requires_grad_(True)
        return self.train()

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: str | Path, strict: bool = True, **overrides: Any) -> Self:
        """A module of this class with the hyper-parameters and the weights of a checkpoint.

        Args:
            checkpoint_path: a checkpoint's folder.
            strict: whether the names in the checkpoint must be those of the model.
            **overrides: arguments of `__init__` that replace or complete the stored ones.

        Raises:
            CheckpointError: there is no checkpoint, or it is of another model.
            ConfigError: an argument of `__init__` is neither stored nor given.
        """
        trees = checkpoint.load(checkpoint_path)
        module = cls(**arguments_for(cls, trees.get("hparams", {}).get("module", {}), overrides))
        saved = {"state_dict": trees["model"], **trees.get("extra", {})}
        module.on_load_checkpoint(saved)
        module.load_state_dict(saved["state_dict"], strict=strict)
        return module
