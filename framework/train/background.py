"""One job at a time beside the training: writing checkpoints while the next epoch runs."""

from __future__ import annotations

import threading
from collections.abc import Callable


class Background:
    """Runs jobs in a thread, never two at once; what a job raised, and what follows on it, comes with `finish`."""

    def __init__(self) -> None:
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None
        self._after: Callable[[], object] | None = None

    def __reduce__(self) -> tuple[type[Background], tuple[()]]:
        return Background, ()  # a copy has nothing under way

    def start(self, job: Callable[[], object], after: Callable[[], object]) -> None:
        """Run `job` in a thread once the one before is done; `after` is called by the `finish` that follows.

        Raises:
            Exception: the job before failed.
        """
        self.finish()
        self._after = after
        # Not a daemon: a program that ends waits for what is half-written.
        self._thread = threading.Thread(target=self._run, args=(job,), name="fw-save", daemon=False)
        self._thread.start()

    def finish(self) -> None:
        """Wait for the job under way; then do what is to follow it, or raise what it raised."""
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return
        thread.join()
        error, after = self._error, self._after
        self._thread = self._error = self._after = None
        if error is not None:
            raise error
        if after is not None:
            after()

    def _run(self, job: Callable[[], object]) -> None:
        try:
            job()
        except BaseException as error:
            self._error = error
