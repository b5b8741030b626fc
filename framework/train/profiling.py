"""Tells a profiler of a fit's actions: everything is wrapped once, before the first step."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from framework.profilers import PassThroughProfiler, Profiler
from framework.train import loaders
from framework.train.hooks import EvaluationHooks, HookList

if TYPE_CHECKING:
    from framework.train.evaluation import Evaluation
    from framework.train.fitstate import Fit
    from framework.train.hooks import Hooks


def profile_hooks(hooks: Hooks, profiler: Profiler) -> None:
    """Make an action of each hook."""
    if isinstance(profiler, PassThroughProfiler):
        return
    for value in vars(hooks).values():
        lists = [value] if isinstance(value, HookList) else []
        if isinstance(value, EvaluationHooks):
            found = [getattr(value, name) for name in EvaluationHooks.__slots__]
            lists = [one for one in found if isinstance(one, HookList)]
        for hook_list in lists:
            hook_list[:] = [_timed(profiler, _name(hook), hook) for hook in hook_list]


def profile_evaluation(job: Evaluation, profiler: Profiler) -> None:
    """Make actions of the steps of a validation, test or prediction."""
    if isinstance(profiler, PassThroughProfiler):
        return
    job.step = _timed(profiler, f"[{type(job.module).__name__}]{job.what}_step", job.step)
    job.move = _Timed(profiler, "batch_to_device", job.move)  # type: ignore[assignment]


def profile_fit(fit: Fit, profiler: Profiler, ended: ExitStack) -> None:
    """Make actions of what a step consists of; `ended` undoes what would outlast the fit."""
    if isinstance(profiler, PassThroughProfiler):
        return
    owner, hooks = type(fit.module).__name__, fit.hooks
    epoch, batch = "run_training_epoch", "run_training_batch"
    hooks.train_epoch_start.insert(0, lambda: profiler.start(epoch))
    hooks.train_epoch_end_late.append(lambda: profiler.stop(epoch))
    hooks.train_batch_start.insert(0, lambda *args: profiler.start(batch))
    hooks.train_batch_end_late.append(lambda *args: profiler.stop(batch))
    if fit.compiled is not None:
        fit.compiled = _timed(profiler, f"[{owner}]training_step and backward, compiled", fit.compiled)
    else:
        fit.training_step = _timed(profiler, f"[{owner}]training_step", fit.training_step)
        hooks.before_backward.append(lambda loss: profiler.start("backward"))
        hooks.after_backward.insert(0, lambda: profiler.stop("backward"))
    fit.move = _Timed(profiler, "batch_to_device", fit.move)  # type: ignore[assignment]
    fit.guard = _Timed(profiler, "check_finite", fit.guard, "check")
    for one in fit.optimizers:
        optimizer: Any = one
        optimizer.step = _timed(profiler, "optimizer_step", optimizer.step)
        ended.callback(delattr, optimizer, "step")
    fit.train = _Timed(profiler, "train_dataloader_next", fit.train, "batches", each=True)  # type: ignore[assignment]


def _timed(profiler: Profiler, name: str, fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn, assigned=(), updated=())
    def timed(*args: Any, **kwargs: Any) -> Any:
        profiler.start(name)
        try:
            return fn(*args, **kwargs)
        finally:
            profiler.stop(name)

    return timed


def _each(profiler: Profiler, name: str, batches: Iterator[Any]) -> Iterator[Any]:
    try:
        while True:
            profiler.start(name)
            try:
                batch = next(batches)
            except StopIteration:
                return
            finally:
                profiler.stop(name)
            yield batch
            del batch  # the loader may lend its arrays again
    finally:
        loaders.close(batches)


class _Timed:
    """An object with one method, or its call, that is an action; all else is the object's own."""

    def __init__(self, profiler: Profiler, action: str, wrapped: Any, method: str = "__call__", *, each: bool = False):
        self.__dict__["_wrapped"] = wrapped
        inner = getattr(wrapped, method)
        if each:
            self.__dict__[method] = lambda *args: _each(profiler, action, iter(inner(*args)))
        else:
            self.__dict__["_call" if method == "__call__" else method] = _timed(profiler, action, inner)

    def __call__(self, *args: Any) -> Any:
        return self.__dict__["_call"](*args)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_wrapped"], name)

    def __setattr__(self, name: str, value: Any) -> None:
        setattr(self.__dict__["_wrapped"], name, value)


def _name(hook: Any) -> str:
    method = hook.func if isinstance(hook, functools.partial) else hook
    owner = type(method.__self__).__name__ if hasattr(method, "__self__") else "Trainer"
    return f"[{owner}]{getattr(method, '__name__', 'hook')}"
