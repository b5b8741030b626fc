"""What a profiler is: it is told when actions start and stop, and reports at the end."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from framework.loggers.console import say


class Profiler(ABC):
    """Base of all profilers.

    The Trainer names its own actions `run_training_epoch`, `run_training_batch`, `train_dataloader_next`,
    `batch_to_device`, `[MyModule]training_step`, `backward`, `optimizer_step`, `validation`, and hooks
    `[MyCallback]on_train_batch_end`; user code adds to them: `with self.trainer.profiler.profile("mine"):`.

    Args:
        dirpath: folder of the report; default the run's.
        filename: the report goes to `<dirpath>/<stage>-<filename>.txt`; without a name it is printed.
    """

    def __init__(self, dirpath: str | Path | None = None, filename: str | None = None) -> None:
        self.dirpath = None if dirpath is None else Path(dirpath)
        self.filename = filename
        self.stage = ""
        """The stage at work: "fit", "validate", "test" or "predict"."""

    @abstractmethod
    def start(self, action_name: str) -> None:
        """An action begins; it may begin again within itself."""

    @abstractmethod
    def stop(self, action_name: str) -> None:
        """The action that began last under this name ends; unknown ones are nothing to speak of."""

    @abstractmethod
    def summary(self) -> str:
        """The report; empty for none."""

    def reset(self) -> None:  # noqa: B027 - there may be nothing to forget
        """Forget what was measured."""

    def profile(self, action_name: str) -> AbstractContextManager[Any]:
        """A block that is an action.

        Examples:
            >>> from framework.profilers import SimpleProfiler
            >>> profiler = SimpleProfiler()
            >>> with profiler.profile("load"):
            ...     pass
            >>> profiler.calls("load")
            1
        """
        return self._action(action_name)

    @contextmanager
    def _action(self, action_name: str) -> Iterator[str]:
        self.start(action_name)
        try:
            yield action_name
        finally:
            self.stop(action_name)

    def setup(self, stage: str) -> None:
        """A stage begins."""
        self.stage = stage
        self.reset()

    def teardown(self, stage: str, run_dir: str | None = None) -> None:
        """A stage has ended, well or not: end what is still open, and report.

        Args:
            stage: which.
            run_dir: the folder of the run, if there is one.
        """
        self.end_all()
        self.describe(run_dir)

    def end_all(self) -> None:  # noqa: B027 - there may be nothing that stays open
        """Stop every action that an exception has left open."""

    def describe(self, run_dir: str | None = None) -> None:
        """Print the report, or write it to the file and print where that is."""
        text = self.summary()
        if not text:
            return
        folder = self._folder(run_dir)
        if self.filename is None or folder is None:
            say(text)
            return
        path = folder / f"{self._stem}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n", encoding="utf-8")
        say(f"profile of {self.stage or 'the actions'}: {path}")

    def _folder(self, run_dir: str | None) -> Path | None:
        """Where files go; None for nowhere, as in a `fast_dev_run`, which keeps nothing."""
        if self.dirpath is not None or run_dir is not None:
            return self.dirpath or Path(str(run_dir))
        return None if self.stage else Path(".")

    @property
    def _stem(self) -> str:
        return "-".join(part for part in (self.stage, self.filename or "profile") if part)


_NOTHING: AbstractContextManager[Any] = nullcontext()


class PassThroughProfiler(Profiler):
    """Measures nothing: the profiler of a Trainer that was given none. The Trainer wraps nothing for it."""

    def profile(self, action_name: str) -> AbstractContextManager[Any]:
        """A block, as it is."""
        return _NOTHING

    def start(self, action_name: str) -> None:
        """Nothing."""

    def stop(self, action_name: str) -> None:
        """Nothing."""

    def summary(self) -> str:
        """Nothing."""
        return ""
