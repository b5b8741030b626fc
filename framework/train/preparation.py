"""From a module and data to a `Fit` that is ready to run, with what can be found wrong before."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from framework.autodiff.namespace import namespace_of
from framework.data.resident import resident
from framework.errors import ConfigError
from framework.loggers.console import say
from framework.optim import Optimizer
from framework.train import checks, resume
from framework.train.anomaly import WatchedGuard, Watcher, watching
from framework.train.batches import HookedMover, Mover
from framework.train.clipping import make_clipping
from framework.train.compiled import compiled_step
from framework.train.datamodule import DataModule
from framework.train.evaluation import Evaluation, check_signature
from framework.train.fitstate import Fit
from framework.train.guard import Guard, make_guard
from framework.train.hooks import overridden
from framework.train.loaders import Source, evaluation_sources, find, train_source
from framework.train.module import TrainModule
from framework.train.optimization import LRSchedulerConfig, Window, read_optimizers, read_several
from framework.train.options import Validation
from framework.train.precision import LossScaler, ScalingGuard, check_updates
from framework.train.results import Results
from framework.train.signals import StopSignals
from framework.train.stage import Stage

if TYPE_CHECKING:
    from framework.train.trainer import Trainer

LIMITS = {"val": "limit_val_batches", "test": "limit_test_batches", "predict": "limit_predict_batches"}
EVALUATIONS = {"validate": ("val", "validation"), "test": ("test", "test"), "predict": ("predict", "predict")}
"""Name of a stage to the kind of its data, and to what it is called in messages."""

STEPS: dict[str, Callable[..., Any]] = {
    "val": TrainModule.validation_step,
    "test": TrainModule.test_step,
    "predict": TrainModule.predict_step,
}


def fit_sources(stage: Stage, trainer: Trainer, train: Any, val: Any) -> dict[str, Sequence[Source]]:
    """The loaders of a fit.

    Raises:
        ConfigError: there are no training data.
    """
    module, limits = stage.module, trainer.limits
    val_loaders = find("val", val, stage.datamodule, module)
    train_loader = find("train", train, stage.datamodule, module)
    if train_loader is None:
        raise ConfigError(
            "there are no training data: pass trainer.fit(module, train_dataloaders=…) or datamodule=…, "
            f"or define {type(module).__name__}.train_dataloader(self)"
        )
    has_step = overridden(module, TrainModule.validation_step) is not None
    if has_step != (val_loaders is not None) and limits.val != 0:
        there, missing = (
            ("a validation_step", "no validation data") if has_step else ("validation data", "no validation_step")
        )
        warnings.warn(f"there is {there} but {missing}: nothing is validated", UserWarning, stacklevel=4)
    sources: dict[str, Sequence[Source]] = {"train": [train_source(train_loader, limits)]}
    val_sources = evaluation_sources(val_loaders, limits.val, LIMITS["val"]) if has_step else []
    sources["val"] = val_sources if any(source.count for source in val_sources) else []
    return sources


def sources_of(kind: str, stage: Stage, trainer: Trainer, given: Any) -> Sequence[Source]:
    """The loaders of a validation, test or prediction.

    Raises:
        ConfigError: there are none, or there is no step for them.
    """
    module = stage.module
    if kind != "predict" and overridden(module, STEPS[kind]) is None:
        raise ConfigError(checks.missing_method(module, STEPS[kind].__name__))
    loaders = find(kind, given, stage.datamodule, module)
    if loaders is None:
        raise ConfigError(
            f"there are no data: pass trainer.{stage.name}(module, dataloaders=…) or datamodule=…, "
            f"or define {type(module).__name__}.{kind}_dataloader(self)"
        )
    limit = getattr(trainer.limits, kind)
    return evaluation_sources(loaders, limit, LIMITS[kind])


def evaluation_of(trainer: Trainer, stage: Stage) -> Evaluation:
    """A validation, test or prediction outside a fit, of the data in `trainer.sources`."""
    kind, what = EVALUATIONS[stage.name]
    sources = trainer.sources[kind]
    module, hooks, backend = stage.module, stage.hooks, trainer.strategy.backend
    steps = {"val": module.validation_step, "test": module.test_step, "predict": module.predict_step}
    return Evaluation(
        what=what,
        module=module,
        step=check_signature(steps[kind], sources),
        hooks={"val": hooks.validation, "test": hooks.test, "predict": hooks.predict}[kind],
        sources=sources,
        move=mover_of(trainer, stage),
        port=stage.port,
        results=None if kind == "predict" else Results(what, backend, {}),
        stop=StopSignals(),
    )


def raise_epochs(trainer: Trainer, minimum_updates: int | None) -> None:
    """Train for as many epochs as the data say that they need at least."""
    updates = trainer.updates_per_epoch
    if not minimum_updates or trainer.fast_dev_run or trainer.max_epochs == -1 or not 0 < updates < math.inf:
        return
    needed = math.ceil(minimum_updates / updates)
    if needed > trainer.max_epochs and trainer.max_steps == -1:
        say(f"max_epochs raised from {trainer.max_epochs} to {needed}: these data need {minimum_updates} updates")
        trainer.max_epochs = needed


def nothing_to_do(trainer: Trainer) -> str:
    """Why a fit ends before it begins."""
    limits = {"max_epochs": trainer.max_epochs, "max_steps": trainer.max_steps}
    told = ", ".join(f"{name}={value}" for name, value in limits.items() if value != -1)
    why = "trainer.should_stop is set" if trainer.should_stop else told
    return (
        f"nothing to train: {trainer.current_epoch} epochs and {trainer.global_step} steps are done, and {why}. "
        "To go on, raise the limit; to train anew, make a new Trainer"
    )


def make_fit(trainer: Trainer, stage: Stage, saved: dict[str, Any] | None) -> Fit:
    """Everything that the loop works with; the data are known, the module is in place.

    Raises:
        ConfigError: the optimizers or the intervals make no sense.
        DataError: a label is out of range.
        CheckpointError: `saved` is of another model.
    """
    module, backend = stage.module, trainer.strategy.backend
    train, val = trainer.sources["train"][0], trainer.sources["val"]
    if saved is not None:
        saved = resume.restore_start(saved, module, stage.datamodule, trainer.callbacks)
    optimizers, schedulers = optimizers_of(trainer, module)
    training_step = check_signature(module.training_step, (train,))
    whole = next((type(o).__name__ for o in optimizers if o.needs_closure), "")
    check_updates(trainer.numbers, module.automatic_optimization, whole, trainer.detect_anomaly)
    window = Window(trainer.accumulate_grad_batches)
    guard: Guard
    if trainer.numbers.scales:
        window.scaler = LossScaler(backend, trainer.strategy.device)
        guard = ScalingGuard(backend, window.scaler)
    elif trainer.detect_anomaly:
        watcher = Watcher(namespace_of(backend))
        stage.ended.enter_context(watching(watcher))
        training_step, guard = watcher.each_step(training_step), WatchedGuard(backend, watcher)
    else:
        guard = make_guard(backend)
    owners: dict[str, str] = {}
    classes = checks.num_classes(module)
    if classes is not None:
        checked = [checks.check_labels(classes, source.loader) for source in (train, *val)]
        classes = None if checked[0] else classes
    fit = Fit(
        module=module,
        hooks=stage.hooks,
        port=stage.port,
        progress=trainer.progress,
        duration=trainer.duration,
        validation=trainer.validation,
        check_interval=check_interval(trainer.validation, train, bool(val)),
        train=train,
        val=val,
        optimizers=optimizers,
        schedulers=schedulers,
        window=window,
        guard=guard,
        clip=make_clipping(trainer, module, guard),
        move=mover_of(trainer, stage),
        training_step=training_step,
        results=Results("training", backend, owners, by_step=True),
        val_results=Results("validation", backend, owners),
        rows=trainer.rows,
        stop=StopSignals(),
        log_every=trainer.log_every_n_steps,
        wants_stop=lambda: trainer.should_stop,
        nothing_to_do=lambda: nothing_to_do(trainer),
        validate=trainer.validate_in_fit,
        callbacks=trainer.callbacks,
        datamodule=stage.datamodule,
        classes_to_check=classes,
    )
    if type(fit.move) is Mover:  # hooks around the transfer want what the host has
        train.resident = resident(train.loader, backend, trainer.strategy.device)
    if trainer.compile:
        clip = trainer.gradient_clip_val, trainer.gradient_clip_algorithm
        fit.compiled = compiled_step(fit, trainer.detect_anomaly, clip)
    resume.check(resume.gather(fit, None))
    fit.saved = saved
    return fit


def optimizers_of(trainer: Trainer, module: TrainModule) -> tuple[list[Optimizer], list[LRSchedulerConfig]]:
    """The optimizers and schedulers of a fit.

    Raises:
        ConfigError: they make no sense, or no sense with the Trainer's arguments.
    """
    owner = type(module).__name__
    returned = module.configure_optimizers()
    if not module.automatic_optimization:
        return read_several(returned, owner)
    optimizer, schedulers = read_optimizers(returned, owner)
    if optimizer.needs_closure and trainer.accumulate_grad_batches != 1:
        raise ConfigError(
            f"{type(optimizer).__name__} evaluates the loss of a batch several times, so batches cannot be "
            f"accumulated: accumulate_grad_batches={trainer.accumulate_grad_batches}. Use larger batches"
        )
    return [optimizer], schedulers


_TRANSFER = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")


def mover_of(trainer: Trainer, stage: Stage) -> Mover:
    """What makes Tensors of batches, with the hooks around it; a datamodule's come before the module's."""
    mover = Mover(trainer.strategy.backend, trainer.strategy.device, trainer.dtype)
    found: list[Any] = []
    for name in _TRANSFER:
        own = overridden(stage.module, getattr(TrainModule, name))
        data = None if stage.datamodule is None else overridden(stage.datamodule, getattr(DataModule, name))
        if own is not None and data is not None:
            warnings.warn(
                f"{name} is defined in {type(stage.module).__name__} and in {type(stage.datamodule).__name__}: "
                "the datamodule's is used",
                UserWarning,
                stacklevel=5,
            )
        found.append(own if data is None else data)
    return mover if found == [None, None, None] else HookedMover(mover, (found[0], found[1], found[2]))


def check_interval(validation: Validation, train: Source, validates: bool) -> int | None:
    """After how many batches to validate; None is at the end of an epoch.

    Raises:
        ConfigError: the interval is longer than the epoch, or a part of an unknown length.
    """
    interval, batches = validation.check_interval, train.count
    if isinstance(interval, int):
        if validates and validation.every_n_epochs is not None and interval > batches:
            raise ConfigError(
                f"val_check_interval={interval} is more than the {batches} batches of an epoch, so nothing would be "
                "validated. To count batches across epochs set check_val_every_n_epoch=None; to never validate, "
                "limit_val_batches=0"
            )
        return interval
    if interval == 1.0:
        return None
    if math.isinf(batches):
        raise ConfigError(f"val_check_interval={interval}: the training loader has no length to take a part of")
    return max(1, int(batches * interval))


def hyper_parameters(stage: Stage) -> dict[str, Any]:
    """The hyper-parameters of module and datamodule that loggers get.

    Raises:
        ConfigError: both have one of the same name, with different values.
    """
    merged: dict[str, Any] = {}
    for owner in (stage.module, stage.datamodule):
        if owner is None or not owner._log_hparams:
            continue
        for name, value in owner.hparams_initial.items():
            if name in merged and not _equal(merged[name], value):
                raise ConfigError(
                    f"the hyper-parameter {name!r} is {merged[name]!r} in {type(stage.module).__name__} and {value!r} "
                    f"in {type(owner).__name__}: rename one, or save_hyperparameters(logger=False) in one of them"
                )
            merged[name] = value
    return merged


def _equal(a: Any, b: Any) -> bool:
    try:
        return bool(a == b)
    except Exception:  # arrays and other objects that do not compare to a truth value
        return a is b
