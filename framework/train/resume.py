"""What makes a run the same run: everything that a checkpoint holds, gathered and put back.

Trees of a checkpoint: `model` (weights and buffers by name), `progress`, `optimizer`,
`lr_schedulers`, `loaders`, `random`, `callbacks`, `loggers`, `results`, `metrics`, `window`,
`precision`, `datamodule`, `hparams`, `extra` (what hooks have added) and `about`.
"""

from __future__ import annotations

import random as python_random
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from framework import random
from framework._version import __version__
from framework.callbacks import Callback
from framework.errors import CheckpointError, ConfigError
from framework.loggers import Logger, SafeLogger
from framework.train import hparams
from framework.train.datamodule import DataModule
from framework.train.fitstate import Fit
from framework.train.gradients import scale_gradients
from framework.train.loaders import Lookahead, Source
from framework.train.module import TrainModule
from framework.train.statetree import lift

# -- gathering -------------------------------------------------------------------------------------


def gather(fit: Fit, run: str | None) -> dict[str, Any]:
    """The state trees of a training in the folder `run`, as it stands."""
    if fit.saved is not None:  # it has not gone on yet
        return fit.saved
    progress = fit.progress
    fit.guard.read()
    closed = {"done": 0, "used": 0, "first": 0, "samples": 0, "gradients": {}}
    of_validation = {id(entry.metric) for entry in fit.val_results.entries.values()}  # begins anew each time
    metrics = module_metrics(fit.module)
    return {
        "model": fit.module.state_dict(),
        "progress": {**progress.state_dict(), "in_step": False},
        "optimizer": _optimizer_state(fit),
        "lr_schedulers": [config.scheduler.state_dict() for config in fit.schedulers],
        "loaders": _loader_states(fit),
        "random": random_state(),
        "callbacks": callback_states(fit.callbacks),
        "loggers": [{"class": _class_of(logger), "state": logger.state_dict()} for logger in fit.rows.loggers],
        "results": {
            "training": fit.results.state_dict(metrics),
            "rows": fit.rows.state_dict(),
            "should_stop": fit.wants_stop(),
        },
        "metrics": {name: metric.state_dict() for name, metric in metrics.items() if id(metric) not in of_validation},
        "precision": {} if fit.window.scaler is None else fit.window.scaler.state_dict(),
        "window": closed if progress.in_step else fit.window.state_dict(fit.module),
        "datamodule": {} if fit.datamodule is None else fit.datamodule.state_dict(),
        "hparams": _hparams(fit.module, fit.datamodule),
        "extra": {},
        "about": {
            "module": f"{type(fit.module).__module__}.{type(fit.module).__qualname__}",
            "framework": __version__,
            "run": None if run is None else str(Path(run).absolute()),
        },
    }


def add_user_state(fit: Fit, trees: dict[str, Any]) -> dict[str, Any]:
    """Let the `on_save_checkpoint` hooks add to a checkpoint, or change its weights."""
    user = _for_hooks(trees)
    told = user.keys() - trees["extra"].keys()
    for hook in fit.hooks.save_checkpoint:
        hook(user)
    extra = {key: value for key, value in user.items() if key not in told}
    return {**trees, "model": user["state_dict"], "extra": extra}


def _for_hooks(trees: Mapping[str, Any]) -> dict[str, Any]:
    """A checkpoint as the hooks of modules and callbacks see it."""
    return {
        "epoch": trees["progress"]["epoch"],
        "global_step": trees["progress"]["global_step"],
        "state_dict": trees["model"],
        "hyper_parameters": trees["hparams"]["module"],
        **trees["extra"],
    }


def check(trees: Mapping[str, Any]) -> None:
    """Raise CheckpointError if a checkpoint could not hold these trees; nothing is written."""
    for name, tree in trees.items():
        lift(tree, owner=name, prefix="", arrays={})


def random_state() -> dict[str, Any]:
    """The positions of every generator: the framework's, Python's, and NumPy's global one if somebody uses it."""
    version, numbers, gauss = python_random.getstate()
    state: dict[str, Any] = {
        "framework": random.state_dict(),
        "python": {"version": version, "numbers": np.array(numbers, np.uint32), "gauss": gauss},
    }
    numpy_random = sys.modules.get("numpy.random")
    if numpy_random is not None:
        name, keys, position, has_gauss, cached = numpy_random.get_state()
        state["numpy"] = {"name": name, "keys": keys, "position": position, "has_gauss": has_gauss, "cached": cached}
    return state


def restore_random_state(state: Mapping[str, Any]) -> None:
    """Put every generator back."""
    random.load_state_dict(state["framework"])
    saved = state["python"]
    python_random.setstate((saved["version"], tuple(saved["numbers"].tolist()), saved["gauss"]))
    if "numpy" in state:
        saved = state["numpy"]
        np.random.set_state((saved["name"], saved["keys"], saved["position"], saved["has_gauss"], saved["cached"]))


@contextmanager
def positions_kept(sources: Sequence[Source]) -> Iterator[None]:
    """Whatever is drawn and read within, generators and loaders stand afterwards where they stood before."""
    state = random_state()
    positions = [source.state(exhausted=False) for source in sources]
    yield
    for source, position in zip(sources, positions):
        source.load_state(position)
    restore_random_state(state)


def callback_states(callbacks: Sequence[Callback]) -> dict[str, Any]:
    """The states of the callbacks that have one.

    Raises:
        ConfigError: two of them have the same key.
    """
    states: dict[str, Any] = {}
    for callback in callbacks:
        state = callback.state_dict()
        if not state:
            continue
        if callback.state_key in states:
            raise ConfigError(
                f"two callbacks with a state have the same state_key {callback.state_key!r}: a checkpoint could not "
                "tell them apart. Define the property state_key so that it differs"
            )
        states[callback.state_key] = state
    return states


def module_metrics(module: TrainModule) -> dict[str, Any]:
    """The metric objects that are attributes of the module or of one below it, by dotted name."""
    found = {}
    for prefix, part in module.named_modules():
        for name, value in vars(part).items():
            if all(hasattr(type(value), method) for method in ("update", "compute", "reset", "state_dict")):
                found[f"{prefix}.{name}" if prefix else name] = value
    return found


def _optimizer_state(fit: Fit) -> dict[str, Any]:
    states = [optimizer.state_dict() for optimizer in fit.optimizers]
    return states[0] if len(states) == 1 else {"several": states}


def _class_of(logger: Logger) -> str:
    return type(logger.logger if isinstance(logger, SafeLogger) else logger).__qualname__


def _loader_states(fit: Fit) -> dict[str, Any]:
    progress = fit.progress
    if isinstance(fit.batches, Lookahead) and progress.batch and not progress.exhausted:
        train = fit.batches.state
    else:
        train = fit.train.state(exhausted=progress.exhausted, batch=progress.batch)
    return {"train": train, "val": [source.state(exhausted=False, batch=0) for source in fit.val]}


def _hparams(module: TrainModule, datamodule: DataModule | None) -> dict[str, Any]:
    kept, omitted = hparams.plain(module.hparams_initial)
    tree: dict[str, Any] = {"module": kept, "omitted": omitted}
    if datamodule is not None:
        tree["datamodule"] = hparams.plain(datamodule.hparams_initial)[0]
    return tree


# -- putting back ----------------------------------------------------------------------------------


def check_is_training(trees: Mapping[str, Any], path: Path, owner: str) -> None:
    """Raise CheckpointError where a checkpoint holds weights alone."""
    if "optimizer" not in trees:
        raise CheckpointError(
            f"{path} holds weights alone, no training to go on with. To start from them: "
            f"{owner}.load_from_checkpoint(path), and fit without ckpt_path"
        )


def restore_start(
    trees: dict[str, Any], module: TrainModule, datamodule: DataModule | None, callbacks: Sequence[Callback]
) -> dict[str, Any]:
    """Put back what hooks may look at before training begins: weights, data and callbacks.

    Returns the trees as `on_load_checkpoint` hooks left them.

    Raises:
        CheckpointError: the checkpoint is of another model.
    """
    user = _for_hooks(trees)
    module.on_load_checkpoint(user)
    for callback in callbacks:
        callback.on_load_checkpoint(module.trainer, module, user)
    module.load_state_dict(user["state_dict"], strict=module.strict_loading)
    if datamodule is not None:
        datamodule.load_state_dict(trees["datamodule"])
    states = dict(trees["callbacks"])
    for callback in callbacks:
        state = states.pop(callback.state_key, None)
        if state is not None:
            callback.load_state_dict(state)
    if states:
        warnings.warn(
            f"the checkpoint holds the state of callbacks that this Trainer does not have: {', '.join(states)}",
            UserWarning,
            stacklevel=2,
        )
    return {**trees, "model": user["state_dict"]}


def restore(fit: Fit, trees: Mapping[str, Any]) -> None:
    """Put back all else, and the weights once more, after the start hooks have run.

    Raises:
        CheckpointError: a state does not fit.
    """
    fit.module.load_state_dict(trees["model"], strict=fit.module.strict_loading)
    _fits("learning-rate schedulers", len(fit.schedulers), len(trees["lr_schedulers"]))
    for config, state in zip(fit.schedulers, trees["lr_schedulers"]):
        config.scheduler.load_state_dict(state)
    saved = trees["optimizer"].get("several", [trees["optimizer"]])
    _fits("optimizers", len(fit.optimizers), len(saved))
    for optimizer, state in zip(fit.optimizers, saved):  # after the schedulers: the group's values are the optimizer's
        optimizer.load_state_dict(state)
    fit.train.load_state(trees["loaders"]["train"])
    for source, state in zip(fit.val, trees["loaders"]["val"]):
        source.load_state(state)
    metrics = module_metrics(fit.module)
    fit.results.load_state_dict(trees["results"]["training"], metrics)
    fit.rows.load_state_dict(trees["results"]["rows"])
    if fit.progress.batch:  # at an epoch's start there is nothing in them
        for name, state in trees["metrics"].items():
            if name in metrics:
                metrics[name].load_state_dict(state)
    fit.window.load_state_dict(trees["window"], fit.module)
    _restore_scale(fit, trees.get("precision") or {})
    restore_random_state(trees["random"])


def _restore_scale(fit: Fit, saved: Mapping[str, Any]) -> None:
    """Go on with the saved scale of the loss; after another precision, bring the gradients at hand to that of now."""
    scaler = fit.window.scaler
    if scaler is not None and saved:
        scaler.load_state_dict(saved)
        return
    before, now = saved.get("scale", 1.0), 1.0 if scaler is None else scaler.current().item()
    if before != now:
        scale_gradients(fit.optimizer, now / before)


def restore_loggers(loggers: Sequence[Logger], saved: Sequence[Mapping[str, Any]]) -> None:
    """Give each logger the saved state of the next one of its class."""
    left = list(saved)
    for logger in loggers:
        found = next((entry for entry in left if entry["class"] == _class_of(logger)), None)
        if found is not None:
            left.remove(found)
            logger.load_state_dict(found["state"])


def _fits(what: str, here: int, saved: int) -> None:
    if here != saved:
        raise CheckpointError(
            f"configure_optimizers gave {here} {what}, the checkpoint holds {saved}: resume with the same ones"
        )
