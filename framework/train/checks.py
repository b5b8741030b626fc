"""Mistakes that are found before anything is started."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from framework.callbacks import (
    Callback,
    EarlyStopping,
    GradientAccumulationScheduler,
    ModelCheckpoint,
    ModelSummary,
    Timer,
    TQDMProgressBar,
)
from framework.callbacks.timer import seconds
from framework.data import ArrayDataset, Subset
from framework.errors import ConfigError, DataError, nearest
from framework.loggers import CSVLogger, Logger
from framework.train.datamodule import DataModule
from framework.train.hooks import overridden
from framework.train.module import TrainModule
from framework.train.options import count

if TYPE_CHECKING:
    from framework.train.trainer import Trainer

_REMOVED = {
    "training_epoch_end": "on_train_epoch_end",
    "validation_epoch_end": "on_validation_epoch_end",
    "test_epoch_end": "on_test_epoch_end",
}


def check_module(module: Any, method: str) -> TrainModule:
    """`module`, if it can be used as one.

    Raises:
        ConfigError: it is something else, or its `__init__` is not complete.
    """
    if isinstance(module, type) and issubclass(module, TrainModule):
        raise ConfigError(f"trainer.{method}() got the class {module.__name__}; pass an instance: {module.__name__}(…)")
    if not isinstance(module, TrainModule):
        raise ConfigError(
            f"trainer.{method}() needs a fw.TrainModule, got {type(module).__name__}; "
            "derive your class from fw.TrainModule and give it a training_step"
        )
    if "_buffers" not in vars(module):
        raise ConfigError(f"{type(module).__name__}.__init__ must call super().__init__() first")
    for old, new in _REMOVED.items():
        if hasattr(module, old):
            raise ConfigError(f"{type(module).__name__} defines {old}, which is never called; name it {new}(self)")
    return module


def check_fit(module: TrainModule, trainer: Trainer) -> None:
    """Raise ConfigError where a method is missing without which there is no training, or an argument is against it."""
    if not module.automatic_optimization:
        scheduled = any(isinstance(callback, GradientAccumulationScheduler) for callback in trainer.callbacks)
        clips, accumulates = bool(trainer.gradient_clip_val), trainer.accumulate_grad_batches != 1 or scheduled
        for name, is_given, instead in (
            ("gradient_clip_val", clips, "call self.clip_gradients(optimizer, …) before optimizer.step()"),
            ("accumulate_grad_batches", accumulates, "let the optimizer step every n-th batch"),
        ):
            if is_given:
                raise ConfigError(
                    f"{type(module).__name__}.automatic_optimization is False, so {name} would do nothing: the module "
                    f"makes its updates itself. Leave it out, and in training_step {instead}"
                )
    for base in (TrainModule.training_step, TrainModule.configure_optimizers):
        if overridden(module, base) is None:
            raise ConfigError(missing_method(module, base.__name__))


def missing_method(module: TrainModule, name: str) -> str:
    """Say that a class lacks a method, and which of its own has nearly that name."""
    owner = type(module)
    own = [n for cls in owner.__mro__ if not cls.__module__.startswith("framework.") for n in vars(cls)]
    close = {"training_step": ("train_step",)}.get(name, ())
    found = next((n for n in own if n in close), None) or nearest(name, [n for n in own if not n.startswith("__")])
    hint = f" Did you mean it by {found!r}?" if found else ""
    signature = "self" if name == "configure_optimizers" else "self, batch, batch_idx"
    return f"{owner.__name__} defines no {name}({signature}), which the Trainer needs.{hint}"


def check_data_arguments(loaders: Sequence[Any], datamodule: Any, method: str) -> tuple[Any, DataModule | None]:
    """The first loader argument and the datamodule; one passed in the loaders' place is found.

    Raises:
        ConfigError: both loaders and a datamodule were given, or the latter is none.
    """
    first = loaders[0] if loaders else None
    if isinstance(first, DataModule):
        if datamodule is not None:
            raise ConfigError(f"trainer.{method}() got two datamodules")
        first, datamodule, loaders = None, first, loaders[1:]
    if datamodule is None:
        return first, None
    if isinstance(datamodule, type):
        raise ConfigError(f"trainer.{method}(datamodule=…) got the class {datamodule.__name__}; pass an instance")
    if not isinstance(datamodule, DataModule):
        raise ConfigError(f"trainer.{method}(datamodule=…) needs a fw.DataModule, got {type(datamodule).__name__}")
    if any(loader is not None for loader in loaders):
        raise ConfigError(f"trainer.{method}() got loaders and a datamodule; give one of them")
    return None, datamodule


def check_callbacks(callbacks: Any, enable_checkpointing: bool) -> list[Callback]:
    """The callbacks as a list.

    Raises:
        ConfigError: one of them is none, or contradicts another argument.
    """
    several = list(callbacks) if isinstance(callbacks, list | tuple) else [] if callbacks is None else [callbacks]
    for callback in several:
        if isinstance(callback, type):
            raise ConfigError(f"callbacks: got the class {callback.__name__}; pass an instance: {callback.__name__}(…)")
        if not isinstance(callback, Callback):
            raise ConfigError(f"callbacks: {callback!r} is no fw.callbacks.Callback")
    if not enable_checkpointing and any(isinstance(callback, ModelCheckpoint) for callback in several):
        raise ConfigError(
            "enable_checkpointing=False, but there is a ModelCheckpoint in callbacks; leave one of them out"
        )
    return several


def add_defaults(callbacks: list[Callback], saves: bool, shows_progress: bool, shows_summary: bool) -> None:
    """Add the callbacks that a Trainer has by itself, each where it is wanted and none of its kind is there."""
    wanted = {ModelCheckpoint: saves, TQDMProgressBar: shows_progress, ModelSummary: shows_summary}
    for kind, is_wanted in wanted.items():
        if is_wanted and not any(isinstance(callback, kind) for callback in callbacks):
            callbacks.append(kind())


def with_own_callbacks(callbacks: Sequence[Callback], module: TrainModule) -> list[Callback]:
    """The callbacks with those of the module's `configure_callbacks` in place of the ones of the same class.

    Raises:
        ConfigError: it returned something else.
    """
    returned = module.configure_callbacks()
    own: list[Any] = list(returned) if isinstance(returned, list | tuple) else [returned]
    for callback in own:
        if not isinstance(callback, Callback):
            raise ConfigError(
                f"{type(module).__name__}.configure_callbacks() returned {callback!r} where a callback, or a list of "
                "them, is expected"
            )
    plain = [callback for callback in callbacks if type(callback) is Callback]
    kept = [c for c in callbacks if c in plain or not any(isinstance(one, type(c)) for one in own)]
    return [*kept, *own]


def check_loggers(logger: Any) -> list[Logger]:
    """The loggers as a list; unless there are to be none, one of them writes into the run folder.

    Raises:
        ConfigError: one of them is no logger.
    """
    if logger is None or logger is True:
        return [CSVLogger()]
    several = [] if logger is False else list(logger) if isinstance(logger, list | tuple) else [logger]
    for one in several:
        if isinstance(one, type):
            raise ConfigError(f"logger: got the class {one.__name__}; pass an instance: {one.__name__}(…)")
        if not isinstance(one, Logger):
            raise ConfigError(f"logger: {one!r} is no fw.loggers.Logger; True is the default one, False none")
    if several and not any(isinstance(one, CSVLogger) and one.save_dir is None for one in several):
        several.append(CSVLogger())
    return several


def check_accumulation(value: Any, callbacks: Sequence[Callback]) -> int:
    """`accumulate_grad_batches`, if it is a number of batches and no callback changes it.

    Raises:
        ConfigError: it is not, or one does.
    """
    if isinstance(value, dict):
        raise ConfigError(
            "accumulate_grad_batches takes one number for all epochs; for others add the callback "
            f"GradientAccumulationScheduler({value})"
        )
    batches = count("accumulate_grad_batches", value, lowest=1)
    if batches != 1 and any(isinstance(callback, GradientAccumulationScheduler) for callback in callbacks):
        raise ConfigError(
            f"accumulate_grad_batches={batches}, and a GradientAccumulationScheduler sets it too: give one of them"
        )
    return batches


def with_timer(callbacks: list[Callback], max_time: Any) -> list[Callback]:
    """The callbacks, with one that ends the training after `max_time` where that is given.

    Raises:
        ConfigError: it is no duration, or there is a `Timer` with one already.
    """
    if max_time is None:
        return callbacks
    duration = timedelta(seconds=seconds(max_time, "max_time"))
    if any(isinstance(callback, Timer) for callback in callbacks):
        raise ConfigError("max_time adds a Timer, and there is one in callbacks: give one of them")
    return [*callbacks, Timer(duration)]


def check_labels(classes: int, loader: Any) -> bool:
    """Look at all labels of an array dataset, once; False where it is none.

    Raises:
        DataError: one is out of range.
    """
    dataset = getattr(loader, "dataset", None)
    return isinstance(dataset, ArrayDataset | Subset) and dataset.check_labels(classes, ignore_index=_IGNORED)


def check_batch_labels(batch: Any, classes: int) -> None:
    """Look at the labels of one host batch, `(…, labels)`.

    Raises:
        DataError: one is out of range.
    """
    labels = batch[-1] if isinstance(batch, tuple | list) and len(batch) > 1 else None
    if getattr(getattr(labels, "dtype", None), "kind", "") not in ("i", "u") or not hasattr(labels, "min"):
        return
    if labels.size == 0:  # type: ignore[union-attr]
        return
    for value in (int(labels.min()), int(labels.max())):  # type: ignore[union-attr]
        if not 0 <= value < classes and value != _IGNORED:
            raise DataError(f"labels must lie in 0 … {classes - 1} for {classes} classes; a batch holds {value}")


def num_classes(module: TrainModule) -> int | None:
    """What the module says of its number of classes: the attribute `num_classes`, or the hyper-parameter."""
    found = getattr(module, "num_classes", None)
    if found is None:
        found = module.hparams.get("num_classes")
    return found if isinstance(found, int) and not isinstance(found, bool) and found > 1 else None


_IGNORED = -100
"""The target that `cross_entropy` ignores unless told otherwise."""


def monitored_modes(callbacks: Sequence[Callback]) -> dict[str, str]:
    """The metrics that callbacks watch, and which end is the good one."""
    watching = [c for c in callbacks if isinstance(c, ModelCheckpoint | EarlyStopping)]
    return {c.monitor: c.mode for c in watching if c.monitor is not None}
