"""A worker process: reads what it is asked for until the other side is gone."""

from __future__ import annotations

import os
import pickle
import random
import signal
import sys
import threading
import traceback
import types
from collections import deque
from typing import TYPE_CHECKING, Any

import numpy as np

from framework.autodiff.modes import set_default_dtype
from framework.backend.host import derive_key, set_global_seed
from framework.data import wire
from framework.data.reading import Reading, current

if TYPE_CHECKING:
    from socket import socket

MAIN = "__mp_main__"
"""The name under which a script runs in a worker, so that its `if __name__ == "__main__":` part does not."""


def serve(channel: socket) -> None:
    """Be a worker: the first message says of what, each further one is a task."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle: it ends its workers
    setup = wire.receive(channel)
    tasks = _Tasks(channel)
    try:
        job = _job(setup)
    except BaseException as error:
        wire.send(channel, _failure(error))
        return
    wire.send(channel, wire.pack(("ready", None)))
    while (task := tasks.next()) is not None:
        try:
            answer = wire.pack(("result", job(pickle.loads(task[0], buffers=task[1:]))))
        except BaseException as error:
            answer = _failure(error)
        wire.send(channel, answer)
        del answer


def _job(setup: dict[str, Any]) -> Any:
    sys.argv = setup["argv"]
    _import_main(setup["main"])
    set_default_dtype(setup["dtype"])
    set_global_seed(setup["seed"])
    job, worker_init_fn = pickle.loads(setup["job"][0], buffers=setup["job"][1:])
    if worker_init_fn is not None:
        worker_init_fn(setup["number"])
    return job


def seed_globals(reading: Reading) -> None:
    """Seed Python's and NumPy's generators of this process for one sample."""
    key = derive_key(*reading.words("globals"))  # type: ignore[arg-type]
    random.seed(key)
    np.random.seed(key & 0xFFFFFFFF)


def seed_globals_for_sample() -> None:
    """The same, for the sample that is being read; nothing where none is."""
    reading = current()
    if reading is not None:
        seed_globals(reading)


class _Tasks:
    """Takes messages as they come, so that the sender never waits; ends the process when the other side is gone."""

    def __init__(self, channel: socket) -> None:
        self._channel = channel
        self._waiting: deque[list[Any]] = deque()
        self._count = threading.Semaphore(0)
        threading.Thread(target=self._listen, daemon=True).start()

    def next(self) -> list[Any] | None:
        self._count.acquire()
        task = self._waiting.popleft()
        return task if task[0].size else None

    def _listen(self) -> None:
        try:
            while True:
                parts = wire.receive_parts(self._channel)
                self._waiting.append(parts)
                self._count.release()
                if not parts[0].size:
                    return
        except EOFError:
            os._exit(1)  # also in the middle of a read that hangs


def _import_main(main: dict[str, str] | None) -> None:
    """Run the script, or the module, that defines what is to be unpickled."""
    if main is None:
        return
    import runpy

    module = types.ModuleType(MAIN)
    sys.modules["__main__"] = sys.modules[MAIN] = module
    if "name" in main:
        content = runpy.run_module(main["name"], run_name=MAIN, alter_sys=True)
    else:
        content = runpy.run_path(main["path"], run_name=MAIN)
    module.__dict__.update(content)
    sys.modules["__main__"] = sys.modules[MAIN] = module


def _failure(error: BaseException) -> list[memoryview]:
    """An exception as a message, with its traceback as text."""
    text = "".join(traceback.format_exception(error))
    try:
        parts = wire.pack(("error", error, text))
        pickle.loads(parts[0], buffers=parts[1:])  # some can be pickled, but not read again
    except BaseException:
        named = f"{type(error).__name__}: {error}"
        parts = wire.pack(("error", None, text, named))
    return parts
