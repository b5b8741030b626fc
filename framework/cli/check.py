"""`fw check`: everything that a config describes is made and tried on one batch, and nothing of it is kept."""

from __future__ import annotations

import argparse
import contextlib
import io
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from framework.callbacks import Callback, ModelCheckpoint
from framework.callbacks.checkpoint_name import NameTemplate
from framework.cli.build import Run, build
from framework.cli.config import Config
from framework.cli.nodes import Node, failed, refuse, where
from framework.cli.report import DONE, note
from framework.cli.specs import ClassSpec
from framework.errors import did_you_mean
from framework.loggers import Logger
from framework.train import DataModule, Trainer, TrainModule
from framework.train.modulehooks import ModuleHooks

COMPILED_BATCHES = 3
"""With `compile: true`: two that are recorded, and a replay."""
NEVER = 2**62
"""The frequency of a scheduler that rests."""
EVALUATIONS = {"test": "test_step", "predict": "predict_step"}


@dataclass(slots=True)
class Findings:
    """What a trial has shown."""

    run: Run
    batch: str
    """What the batch was."""
    backend: str = ""
    fitted: list[str] = field(default_factory=list)
    """The metrics that training and validation have logged, which callbacks may watch."""
    stages: dict[str, Mapping[str, float]] = field(default_factory=dict)
    """Stage to what it has logged."""
    watched: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Watch:
    """Something that waits for a metric by its name."""

    who: str
    metric: str
    node: Node
    path: str
    strict: bool = True
    """Whether a run without this metric would end with an error."""


class Unheard(Logger):
    """Stands for the loggers of a run that is only tried: whatever it is told or asked does nothing.

    Examples:
        >>> logger = Unheard()
        >>> logger.log_image("x", images=[]), logger.experiment.log({"x": 1}), logger.version
        (None, None, 0)
    """

    name, version = "check", 0

    def __init__(self) -> None:
        self.experiment = _Anything()

    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return _nothing


class _Anything:
    """Every attribute is itself; called, it gives None."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> None:
        return None


def _nothing(*args: Any, **kwargs: Any) -> None:
    return None


class OneBatch:
    """A loader of the same few batches."""

    def __init__(self, batch: Any, times: int) -> None:
        self._batches = [batch] * times

    def __len__(self) -> int:
        return len(self._batches)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._batches)


def run(config: Config, args: argparse.Namespace) -> int:
    """Run the command; gives the exit code.

    Raises:
        ConfigError: something does not fit; or whatever the trial raised.
    """
    began = time.perf_counter()
    config.trainer.make()  # as a run would: its arguments are looked at together
    found = attempt(config)
    print(report(config, found))
    note(
        f"ok: nothing is wrong with {', '.join(args.configs) or 'the command line'} "
        f"({time.perf_counter() - began:.1f} s)"
    )
    return DONE


def check_monitors(config: Config) -> bool:
    """What `fw train` does before its run: where names are watched and the data give an example, a trial.

    The trial has objects of its own and says nothing; the run that follows begins from the seed. Gives
    whether the names are known to be right.

    Raises:
        ConfigError: a name is watched that nothing logs; or whatever the trial raised.
    """
    if not list(_names_in(config)):
        return True
    if config.data is None or config.data.cls.example_batch is DataModule.example_batch:  # type: ignore[attr-defined]
        return False
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they come again with the run
        attempt(config, only_fit=True)
    return True


class NameWatch(Callback):
    """Warns after the first step of watched names that neither it nor the trial validation has logged.

    They may still be logged, at the end of an epoch say; whoever watches a name refuses it then.
    """

    priority = -1000

    def __init__(self, watched: Sequence[Watch]) -> None:
        self._watched = list(watched)
        self._validated = False

    def on_sanity_check_end(self, trainer: Trainer, pl_module: TrainModule) -> None:
        """From here on the names of the validation are known."""
        self._validated = True

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: TrainModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Look at the names, once."""
        if not self._watched:
            return
        fit, watched, self._watched = trainer._fit, self._watched, []
        if fit is None or (fit.val and not self._validated) or _logs_at_epoch_end(pl_module):
            return
        known = fit.results.owners  # `loss_step` and `loss_epoch` too, whether both are logged or not
        told = sorted(n for n in known if not (n.endswith(("_step", "_epoch")) and n.rpartition("_")[0] in known))
        for watch in watched:
            message = _missing(watch, told, "so far")
            if message and watch.metric not in known:
                note(f"warning: {where(watch.node, watch.path)}: {message}")


def _logs_at_epoch_end(module: TrainModule) -> bool:
    return type(module).on_train_epoch_end is not ModuleHooks.on_train_epoch_end


def _names_in(config: Config) -> Iterator[str]:
    """What the config lets callbacks and the scheduler watch."""
    for spec in _callback_specs(config):
        yield from (str(spec.args[name]) for name in ("monitor", "filename") if spec.args.get(name))
    if config.lr_scheduler is not None and config.lr_scheduler.monitor:
        yield config.lr_scheduler.monitor


def attempt(config: Config, *, only_fit: bool = False) -> Findings:
    """Make everything and run it on one batch: training, validation, and what there is of test and prediction.

    Raises:
        ConfigError: a name is watched that nothing logs; or whatever was raised on the way.
    """
    compiles = bool(config.trainer.args.get("compile")) and not only_fit
    batches = COMPILED_BATCHES if compiles else 1
    tried = build(_short(config, batches, compiles))
    tried.trainer.loggers = [Unheard() for _ in tried.trainer.loggers]
    found = Findings(tried, _use_example(tried, batches))
    trainer, module, data = tried.trainer, tried.module, tried.data
    automatic, trainer.strategy.is_automatic = trainer.strategy.is_automatic, False  # the report says it
    trainer.fit(module, datamodule=data)
    metrics = dict(trainer.callback_metrics)
    found.backend = f"{trainer.strategy.device}{' (the best that works here)' * automatic}"
    found.fitted = sorted(metrics)
    found.stages["training"] = {n: v for n, v in metrics.items() if not _is_of_validation(trainer, n)}
    if trainer.sources["val"]:
        found.stages["validation"] = {n: v for n, v in metrics.items() if n not in found.stages["training"]}
    found.watched = [_check(watch, found.fitted) for watch in watches(config, tried)]
    for kind in () if only_fit else EVALUATIONS:
        if _offers(tried, kind):
            found.stages[kind] = _evaluate(tried, kind)
    return found


def _short(config: Config, batches: int, compiles: bool) -> Config:
    """The configuration for a fit of so few batches that says nothing."""
    quiet = {"enable_progress_bar": False, "enable_model_summary": False, "profiler": None}
    when = {"val_check_interval": None, "check_val_every_n_epoch": 1}  # of so few batches there is nothing to choose
    args = {**config.trainer.args, **quiet, **when, "fast_dev_run": batches, "compile": compiles}
    scheduler = config.lr_scheduler
    if scheduler is not None:
        scheduler = replace(scheduler, frequency=NEVER)  # whether its metric is there is looked at after the fit
    return replace(config, trainer=replace(config.trainer, args=args), lr_scheduler=scheduler)


def _is_of_validation(trainer: Any, name: str) -> bool:
    fit = trainer._fit
    return bool(fit is not None and fit.val_results.owners.get(name) == "validation")


def _use_example(tried: Run, batches: int) -> str:
    """Let the data give their example batch and nothing else, if they have one; says what is used."""
    data = tried.data
    if data is None or type(data).example_batch is DataModule.example_batch:
        return "the first one of the data"
    try:
        loader = OneBatch(data.example_batch(), batches)
    except Exception as error:
        assert tried.config.data is not None
        spec = tried.config.data
        raise failed(spec.node, spec.path, f"{spec.cls.__name__}.example_batch() raised", error) from error
    for name in ("prepare_data", "setup", "teardown"):
        setattr(data, name, _nothing)
    for kind in ("train", "val", "test", "predict"):
        if _has_loader(data, kind):
            setattr(data, f"{kind}_dataloader", lambda: loader)
    return f"{type(data).__name__}.example_batch()"


def _has_loader(owner: Any, kind: str) -> bool:
    base: type = DataModule if isinstance(owner, DataModule) else TrainModule
    name = f"{kind}_dataloader"
    return getattr(type(owner), name) is not getattr(base, name)


def _offers(tried: Run, kind: str) -> bool:
    """Whether there are data and a step of this kind."""
    own_step = getattr(type(tried.module), EVALUATIONS[kind]) is not getattr(TrainModule, EVALUATIONS[kind])
    has_step = own_step or (kind == "predict" and type(tried.module).forward is not TrainModule.forward)
    return has_step and _has_loader(tried.data if tried.data is not None else tried.module, kind)


def _evaluate(tried: Run, kind: str) -> Mapping[str, float]:
    trainer, module, data = tried.trainer, tried.module, tried.data
    if kind == "predict":
        trainer.predict(module, datamodule=data, return_predictions=False)
        return {}
    return {name: value for row in trainer.test(module, datamodule=data, verbose=False) for name, value in row.items()}


# -- what is watched ------------------------------------------------------------------------------


def _callback_specs(config: Config) -> list[ClassSpec]:
    given = config.trainer.args.get("callbacks")
    return [spec for spec in (given if isinstance(given, list) else [given]) if isinstance(spec, ClassSpec)]


def watches(config: Config, tried: Run) -> Iterator[Watch]:
    """Everything that waits for a metric, with its place in the config."""
    specs = _callback_specs(config)
    callbacks = tried.trainer.callbacks
    for index, callback in enumerate(callbacks):
        spec = specs[index] if index < len(specs) else None
        if spec is not None and type(callback) is not spec.cls:
            spec = None
        node, path = (config.trainer.node, "trainer.callbacks") if spec is None else (spec.node, spec.path)
        places = {} if spec is None else spec.nodes
        who = type(callback).__name__
        monitor = getattr(callback, "monitor", None)
        if isinstance(monitor, str):
            strict = bool(getattr(callback, "strict", True))
            yield Watch(who, monitor, *places.get("monitor", (node, path)), strict)
        if isinstance(callback, ModelCheckpoint) and callback.filename:
            for name in NameTemplate(callback.filename).metrics:
                yield Watch(f"{who}'s filename", name, *places.get("filename", (node, path)))
    if config.lr_scheduler is not None and config.lr_scheduler.monitor is not None:
        section = config.lines["lr_scheduler"]
        written = section.mapping.get("monitor", section)
        yield Watch(config.lr_scheduler.spec.cls.__name__, config.lr_scheduler.monitor, written, "lr_scheduler.monitor")


def _check(watch: Watch, logged: Sequence[str]) -> str:
    """The watch in words, once it is known that its metric is logged.

    Raises:
        ConfigError: it is not.
    """
    told = f"{watch.who}: {watch.metric}"
    message = _missing(watch, logged, "in training or validation")
    if not message:
        return told
    if watch.strict:
        raise refuse(watch.node, watch.path, message)
    note(f"warning: {where(watch.node, watch.path)}: {message}")
    return f"{told} (not logged)"


def _missing(watch: Watch, logged: Sequence[str], when: str) -> str:
    """What to say where the metric is not logged; empty where it is."""
    if watch.metric in logged or watch.metric in ("epoch", "step"):
        return ""
    return (
        f"{watch.who} watches {watch.metric!r}, which nothing logs {when}; logged are "
        f"{', '.join(map(repr, logged)) or 'none'}.{did_you_mean(watch.metric, logged)}"
    )


# -- the report -----------------------------------------------------------------------------------


def report(config: Config, found: Findings) -> str:
    """What was tried, a line for each thing."""
    tried = found.run
    parameters = sum(p.size for p in tried.module.parameters())
    lines = {
        "config": ", ".join(map(str, config.files)) or "the command line",
        "backend": found.backend,
        "model": f"{config.model.class_path}, {parameters:,} parameters",
        "data": "the model's own" if config.data is None else config.data.class_path,
        "batch": found.batch,
    }
    did = {"training": "forward, backward and update", "validation": "", "test": "", "predict": "forward"}
    compiled = tried.trainer._fit.compiled if tried.trainer._fit is not None else None
    if tried.trainer.compile:
        replayed = getattr(getattr(compiled, "compiled", None), "replayed", 0)
        did["training"] += ", replayed" if replayed else ", not replayed"
    for stage, metrics in found.stages.items():
        logged = ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())
        lines[stage] = ": ".join(filter(None, [did[stage], logged])) or "no metrics"
    lines["watched"] = "; ".join(found.watched) or "nothing"
    width = max(map(len, lines))
    return "\n".join(f"{name:<{width}}  {text}" for name, text in lines.items())
