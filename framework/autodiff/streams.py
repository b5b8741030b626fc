"""Python's and NumPy's own random numbers, which a recording is not told of."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from typing import Any


class Streams:
    """Where streams of random numbers stand: those of the whole process, and others that are given.

    With other threads running nobody can tell who has drawn from the streams of the process, and they are left out;
    but a thread with an attribute `draws_nothing` has not.
    """

    def __init__(self, others: Iterable[tuple[str, Callable[[], Any]]]) -> None:
        self._streams: list[tuple[str, Callable[[], Any]]] = list(others)
        if threading.active_count() == 1 or not _others_draw():
            if (python := sys.modules.get("random")) is not None:  # else nobody draws from it
                self._streams.append(("Python's random", python.getstate))
            if (numpy := sys.modules.get("numpy.random")) is not None:
                self._streams.append(("NumPy's random", lambda: numpy.get_state(legacy=False)))
        self._before = [_plain(state()) for _, state in self._streams]

    def moved(self) -> str:
        """Which one has been drawn from since; nothing if none has."""
        for (name, state), before in zip(self._streams, self._before):
            if _plain(state()) != before:
                return f"{name} is drawn from in the call; use fw.random"
        return ""


def _others_draw() -> bool:
    mine = threading.current_thread()
    return any(thread is not mine and not getattr(thread, "draws_nothing", False) for thread in threading.enumerate())


def _plain(state: Any) -> Any:
    """A state as something that can be compared."""
    if isinstance(state, dict):
        return {key: _plain(value) for key, value in state.items()}
    return state.tobytes() if hasattr(state, "tobytes") else state
