"""`TrainModule`: a model together with how it is trained."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from framework import nn
from framework.autodiff import get_default_dtype
from framework.backend.dtypes import DType
from framework.errors import ConfigError
from framework.train import checkpoint
from framework.train.hparams import HyperParameters, arguments_for, class_only, from_file
from framework.train.modulehooks import ModuleHooks
from framework.train.optimizing import Optimizing
from framework.train.results import LogPort

if TYPE_CHECKING:
    from framework.loggers import Logger
    from framework.train.trainer import Trainer


class TrainModule(Optimizing, ModuleHooks, HyperParameters, nn.Module):
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

    strict_loading: bool = True
    """Whether a checkpoint must hold exactly the names of the model; may be set."""

    example_input_array: Any = None
    """What `forward` may be called with, for a summary with shapes; may be set."""

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

        A scheduler may be a dict `{"scheduler": …, "interval": "epoch" or "step", "frequency": 1}`; one that watches
        a metric has its name under "monitor", and with `"strict": False` steps only where it is logged. Several
        optimizers, as a list, as the first of two lists, or as a list of such dicts, need manual optimization.
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

    # -- logging -------------------------------------------------------------------------------------

    def log(
        self,
        name: str,
        value: Any,
        prog_bar: bool = False,
        logger: bool | None = True,
        on_step: bool | None = None,
        on_epoch: bool | None = None,
        reduce_fx: str = "mean",
        enable_graph: bool = False,
        sync_dist: bool = False,
        add_dataloader_idx: bool = True,
        batch_size: int | None = None,
        metric_attribute: str | None = None,
        rank_zero_only: bool = False,
    ) -> None:
        """Record a metric; nothing is read from the device before it is needed.

        Args:
            name: one name belongs to one place: training, validation or test.
            value: a number, a Tensor with one element, or a metric object (then the epoch's result).
            prog_bar: show it in the progress bar.
            logger: hand it to the loggers.
            on_step: as of this step, in the rows that `log_every_n_steps` asks for. Default: in the steps
                and batch hooks of training, for all but metric objects.
            on_epoch: reduced over the epoch. Default: everywhere else, and where `on_step` is False. With
                both, the names become `name_step` and `name_epoch`.
            reduce_fx: "mean" (weighted by batch size), "sum", "min" or "max".
            enable_graph: must be False: a value is recorded without its graph.
            sync_dist: reduce over all processes. There is one, so it changes nothing; nor does `rank_zero_only`.
            add_dataloader_idx: with several loaders, add `/dataloader_idx_N` to the name.
            batch_size: the weight; by default the length of the batch's first array.
            metric_attribute: the attribute that a metric object is; it is found without.
            rank_zero_only: see `sync_dist`.

        Raises:
            ConfigError: logging is not possible here, or the name was used before with other arguments.
            ShapeError: the value has more than one element.
        """
        port = self._port
        if port is None or port.results is None:
            LogPort.refuse(port, name)
            return
        if enable_graph:
            raise ConfigError(
                f"self.log({name!r}, …, enable_graph=True): values are recorded without their graph; keep the Tensor "
                "itself, in an attribute, where its graph is needed"
            )
        log = port.results.log if port.counters is None else port.log
        log(name, value, (prog_bar, logger is not False, on_step, on_epoch, reduce_fx, add_dataloader_idx), batch_size)

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

    @property
    def dtype(self) -> DType:
        """The dtype of the parameters."""
        first = next(self.parameters(), None)
        return get_default_dtype() if first is None else first.dtype

    @property
    def on_gpu(self) -> bool:
        """Whether the parameters are on a device that works beside the host."""
        first = next(self.parameters(), None)
        return first is not None and not first._ns.backend.synchronous

    def freeze(self) -> Self:
        """Stop the training of all parameters and switch to evaluation mode."""
        self.requires_grad_(False)
        return self.eval()

    def unfreeze(self) -> Self:
        """Let all parameters train again and switch to training mode."""
        self.requires_grad_(True)
        return self.train()

    @class_only
    def load_from_checkpoint(
        cls,  # noqa: N805
        checkpoint_path: str | Path,
        map_location: str | None = None,
        hparams_file: str | Path | None = None,
        strict: bool | None = None,
        **overrides: Any,
    ) -> Self:
        """A module of this class with the hyper-parameters and the weights of a checkpoint.

        Args:
            checkpoint_path: a checkpoint's folder.
            map_location: the device for the weights, such as "cuda:1"; default where new Tensors are made.
            hparams_file: a YAML file with hyper-parameters that are used instead of the stored ones.
            strict: whether the names in the checkpoint must be those of the model; default `strict_loading`.
            **overrides: arguments of `__init__` that replace or complete the stored ones.

        Raises:
            CheckpointError: there is no checkpoint, or it is of another model.
            ConfigError: an argument of `__init__` is neither stored nor given.
        """
        trees = checkpoint.load(checkpoint_path)
        stored = trees.get("hparams", {}).get("module", {}) if hparams_file is None else from_file(hparams_file)
        module = cls(**arguments_for(cls, stored, overrides))
        module.configure_model()
        saved = {"state_dict": trees["model"], **trees.get("extra", {})}
        module.on_load_checkpoint(saved)
        module.load_state_dict(saved["state_dict"], strict=module.strict_loading if strict is None else strict)
        return module if map_location is None else module.to(device=map_location)
