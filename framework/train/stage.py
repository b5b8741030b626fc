"""The frame around a fit, validation, test or prediction: set-up before it, teardown after it, always."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Any

from framework.autodiff import get_default_dtype, set_default_dtype
from framework.autodiff.rounding import products_rounded
from framework.backend.threads import blas_threads
from framework.train.datamodule import DataModule
from framework.train.hooks import Hooks
from framework.train.module import TrainModule
from framework.train.profiling import profile_hooks
from framework.train.results import LogPort

if TYPE_CHECKING:
    from framework.train.trainer import Trainer


class Stage:
    """One stage at work, as a context manager.

    Args:
        trainer: whose stage it is.
        name: "fit", "validate", "test" or "predict".
        module: the module.
        datamodule: where the data come from, if from there.
        finish: called with the status ("success", "interrupted" or "failed") after all hooks.
    """

    def __init__(
        self,
        trainer: Trainer,
        name: str,
        module: TrainModule,
        datamodule: DataModule | None,
        finish: Callable[[str], None],
    ) -> None:
        self.name = name
        self.module = module
        self.datamodule = datamodule
        self.port = LogPort(trainer)
        self.hooks = Hooks(trainer, module, trainer.callbacks)
        profile_hooks(self.hooks, trainer.profiler)
        self.ended = ExitStack()
        """What is to be undone or done after all else."""
        self._trainer = trainer
        self._finish = finish
        self._contexts = ExitStack()

    def __enter__(self) -> Stage:
        trainer = self._trainer
        object.__setattr__(self.module, "_port", self.port)
        for callback in trainer.callbacks:
            callback._logs_for = self.module
        if self.datamodule is not None:
            self.datamodule.trainer = trainer
        trainer.profiler.setup(self.name)
        self._contexts.enter_context(blas_threads())
        self._contexts.enter_context(trainer.strategy.active())  # type: ignore[arg-type]
        self._contexts.callback(set_default_dtype, get_default_dtype())
        set_default_dtype(trainer.dtype)
        self._contexts.enter_context(products_rounded(trainer.strategy.backend, trainer.numbers.products))
        try:
            self._set_up()
        except BaseException as error:
            self.__exit__(type(error), error, error.__traceback__)
            raise
        return self

    def _set_up(self) -> None:
        self.port.place = "prepare_data"
        if self.datamodule is not None:
            self.datamodule.prepare_data()
        self.module.prepare_data()
        self.port.place = "setup"
        if self.datamodule is not None:
            self.datamodule.setup(self.name)
        for hook in self.hooks.callback_setup:
            hook(self.name)
        self.module.setup(self.name)
        self.port.place = "configure_model"
        self.module.configure_model()
        if any(module.shares_work for module in self.module.modules()):
            self._contexts.enter_context(self._trainer.strategy.backend.sharing())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self.port.results = None
        status = "success" if error is None else "failed" if isinstance(error, Exception) else "interrupted"
        steps: list[Callable[[], Any]] = []
        if error is not None:
            self.port.place = "on_exception"
            steps += [lambda hook=hook: hook(error) for hook in self.hooks.exception]  # type: ignore[misc]
            if self.datamodule is not None:
                steps.append(lambda: self.datamodule.on_exception(error))  # type: ignore[union-attr]
        if self.datamodule is not None:
            steps.append(lambda: self.datamodule.teardown(self.name))  # type: ignore[union-attr]
        steps += [lambda hook=hook: hook(self.name) for hook in self.hooks.callback_teardown]  # type: ignore[misc]
        steps.append(lambda: self.module.teardown(self.name))
        steps.append(self._let_go)
        steps.append(self.ended.close)
        steps.append(lambda: self._trainer.profiler.teardown(self.name, self._trainer.log_dir))
        steps.append(lambda: self._finish(status))
        steps.append(self._contexts.close)
        self._do_all(steps, error)

    def _let_go(self) -> None:
        for callback in self._trainer.callbacks:
            callback._logs_for = None

    def _do_all(self, steps: list[Callable[[], Any]], error: BaseException | None) -> None:
        """Do every step, whatever the others raise; the first exception counts, and `error` before it."""
        first = error
        for step in steps:
            try:
                step()
            except Exception as raised:
                if first is None:
                    first = raised
                else:
                    warnings.warn(
                        f"while {self.name} ended with an exception, so did its teardown: {raised!r}",
                        RuntimeWarning,
                        stacklevel=2,
                    )
        if error is None and first is not None:
            raise first
