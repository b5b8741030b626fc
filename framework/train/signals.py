"""Ctrl-C and SIGTERM: the first one stops after the step, the second at once."""

from __future__ import annotations

import os
import signal
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

_HANDLED = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A training was stopped by a signal, after a whole step and with its state saved.

    Attributes:
        signum: the signal.
        exit_code: what a program should exit with: 130 for Ctrl-C, 143 for SIGTERM.
        checkpoint: where the state was saved; None where there was nothing to save.
    """

    def __init__(self, signum: int, checkpoint: Path | None = None) -> None:
        super().__init__(signal.Signals(signum).name)
        self.signum = signum
        self.exit_code = 128 + signum
        self.checkpoint = checkpoint


class StopSignals:
    """While in force, remembers the first signal in `received`; a second one acts as it always does.

    Signals can only be handled in the main thread; elsewhere nothing changes.
    """

    def __init__(self) -> None:
        self.received = 0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> StopSignals:
        if threading.current_thread() is threading.main_thread():
            for number in _HANDLED:
                if signal.getsignal(number) is not signal.SIG_IGN:  # nohup and the like
                    self._before[number] = signal.getsignal(number)  # first: a signal may come at once
                    signal.signal(number, self._handle)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._restore()

    def _restore(self) -> None:
        with suppress(KeyError):  # there is none left; a signal may come between any two steps, and restores them, too
            while True:
                number, handler = self._before.popitem()
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        self.received = number
        self._restore()
        again = "press Ctrl-C again" if number == signal.SIGINT else "send the signal again"
        text = f"\n{signal.Signals(number).name}: stopping after this step; {again} to stop at once\n"
        with suppress(OSError):  # whoever reads it may have ended by the same Ctrl-C, such as tee
            os.write(2, text.encode())  # not print: a handler may interrupt one, and it is not re-entrant
