"""Which hooks of callbacks and module are overridden, looked up once and then called directly."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from framework.callbacks import Callback
from framework.loggers import Logger
from framework.train.modulehooks import ModuleHooks

if TYPE_CHECKING:
    from framework.train.module import TrainModule
    from framework.train.trainer import Trainer

Hook = Callable[..., Any]


class HookList(list[Hook]):
    """The overridden forms of one hook, in the order in which they run."""

    name: str = ""
    """The hook's name, for messages."""


@dataclass(slots=True)
class EvaluationHooks:
    """The hooks around a validation, a test or a prediction."""

    start: HookList
    epoch_start: HookList
    batch_start: HookList
    batch_end: HookList
    epoch_end: HookList
    end: HookList
    model_eval: Hook | None
    """The module's own way into evaluation mode."""
    model_train: Hook | None
    """The module's own way out of it."""


class Hooks:
    """All overridden hooks of a run.

    Callbacks run in falling order of priority, then the module; where it may log, the callbacks with a
    priority below zero come after it. `…_late` are those, where the Trainer writes a row in between.
    """

    def __init__(self, trainer: Trainer, module: TrainModule, callbacks: Sequence[Callback]) -> None:
        build = _Builder(trainer, module, callbacks)
        self.callback_setup = build(Callback.setup)
        self.callback_teardown = build(Callback.teardown)
        self.fit_start = build.before(Callback.on_fit_start, ModuleHooks.on_fit_start)
        self.fit_end = build.before(Callback.on_fit_end, ModuleHooks.on_fit_end)
        self.sanity_check_start = build(Callback.on_sanity_check_start)
        self.sanity_check_end = build(Callback.on_sanity_check_end)
        self.exception = build.before(Callback.on_exception, ModuleHooks.on_exception)
        self.train_start = build(Callback.on_train_start, ModuleHooks.on_train_start)
        self.train_end = build.before(Callback.on_train_end, ModuleHooks.on_train_end)
        self.train_epoch_start = build(Callback.on_train_epoch_start, ModuleHooks.on_train_epoch_start)
        self.train_epoch_end, self.train_epoch_end_late = build.split(
            Callback.on_train_epoch_end, ModuleHooks.on_train_epoch_end
        )
        self.train_batch_start = build(Callback.on_train_batch_start)
        self.module_batch_start = build.own(ModuleHooks.on_train_batch_start)
        self.train_batch_end, self.train_batch_end_late = build.split(
            Callback.on_train_batch_end, ModuleHooks.on_train_batch_end
        )
        self.zero_grad = build.own(ModuleHooks.optimizer_zero_grad)
        self.before_zero_grad = build(Callback.on_before_zero_grad, ModuleHooks.on_before_zero_grad)
        self.before_backward = build(Callback.on_before_backward, ModuleHooks.on_before_backward)
        self.after_backward = build(Callback.on_after_backward, ModuleHooks.on_after_backward)
        self.before_step = build(Callback.on_before_optimizer_step, ModuleHooks.on_before_optimizer_step)
        self.before_step.extend(_of_loggers(trainer, module))
        self.save_checkpoint = build.before(Callback.on_save_checkpoint, ModuleHooks.on_save_checkpoint)
        self.callback_load_checkpoint = build(Callback.on_load_checkpoint)
        self.validation = EvaluationHooks(
            build(Callback.on_validation_start, ModuleHooks.on_validation_start),
            build(Callback.on_validation_epoch_start, ModuleHooks.on_validation_epoch_start),
            build(Callback.on_validation_batch_start, ModuleHooks.on_validation_batch_start),
            build(Callback.on_validation_batch_end, ModuleHooks.on_validation_batch_end),
            build(Callback.on_validation_epoch_end, ModuleHooks.on_validation_epoch_end),
            build.before(Callback.on_validation_end, ModuleHooks.on_validation_end),
            build.own(ModuleHooks.on_validation_model_eval),
            build.own(ModuleHooks.on_validation_model_train),
        )
        self.test = EvaluationHooks(
            build(Callback.on_test_start, ModuleHooks.on_test_start),
            build(Callback.on_test_epoch_start, ModuleHooks.on_test_epoch_start),
            build(Callback.on_test_batch_start, ModuleHooks.on_test_batch_start),
            build(Callback.on_test_batch_end, ModuleHooks.on_test_batch_end),
            build(Callback.on_test_epoch_end, ModuleHooks.on_test_epoch_end),
            build.before(Callback.on_test_end, ModuleHooks.on_test_end),
            build.own(ModuleHooks.on_test_model_eval),
            build.own(ModuleHooks.on_test_model_train),
        )
        self.predict = EvaluationHooks(
            build(Callback.on_predict_start, ModuleHooks.on_predict_start),
            build(Callback.on_predict_epoch_start, ModuleHooks.on_predict_epoch_start),
            build(Callback.on_predict_batch_start, ModuleHooks.on_predict_batch_start),
            build(Callback.on_predict_batch_end, ModuleHooks.on_predict_batch_end),
            build(Callback.on_predict_epoch_end, ModuleHooks.on_predict_epoch_end),
            build.before(Callback.on_predict_end, ModuleHooks.on_predict_end),
            build.own(ModuleHooks.on_predict_model_eval),
            build.own(ModuleHooks.on_predict_model_train),
        )


class _Builder:
    """Finds who overrides a hook. `Callback.on_fit_start` and its like are given, so that callers can be found."""

    def __init__(self, trainer: Trainer, module: TrainModule, callbacks: Sequence[Callback]) -> None:
        self._context = (trainer, module)
        self._module = module
        ranked = sorted(callbacks, key=lambda callback: -callback.priority)  # stable
        self._early = [callback for callback in ranked if callback.priority >= 0]
        self._late = [callback for callback in ranked if callback.priority < 0]

    def __call__(self, of_callbacks: Hook, of_module: Hook | None = None) -> HookList:
        early, late = self.split(of_callbacks, of_module)
        early.extend(late)
        return early

    def before(self, of_callbacks: Hook, of_module: Hook) -> HookList:
        """All callbacks' before the module's, where nobody may log."""
        early, late = self.split(of_callbacks, None)
        own = self.own(of_module)
        early.extend(late)
        early.extend([] if own is None else [own])
        return early

    def split(self, of_callbacks: Hook, of_module: Hook | None = None) -> tuple[HookList, HookList]:
        """Those up to and with the module's, and those after it."""
        early, late = HookList(self._of(self._early, of_callbacks)), HookList(self._of(self._late, of_callbacks))
        early.name = late.name = of_callbacks.__name__
        own = None if of_module is None else self.own(of_module)
        if own is not None:
            early.append(own)
        return early, late

    def own(self, base: Hook) -> Hook | None:
        """The module's own form of a hook, if it has one."""
        return overridden(self._module, base)

    def _of(self, callbacks: Sequence[Callback], base: Hook) -> Iterator[Hook]:
        for callback in callbacks:
            found = overridden(callback, base)
            if found is not None:
                yield partial(found, *self._context)


def _of_loggers(trainer: Trainer, module: TrainModule) -> Iterator[Hook]:
    """What tells the loggers of an update, where there is one that wants to know."""

    def on_before_optimizer_step(optimizer: Any) -> None:
        for logger in trainer.rows.loggers:
            logger.on_before_optimizer_step(trainer, module, optimizer)

    if any(overridden(logger, Logger.on_before_optimizer_step) for logger in trainer.loggers):
        yield on_before_optimizer_step


def overridden(owner: Any, base: Hook) -> Hook | None:
    """The method of `owner` in place of `base`, a function of its base class; None where it is `base` itself."""
    found = getattr(owner, base.__name__)
    return None if getattr(found, "__func__", None) is base else found
