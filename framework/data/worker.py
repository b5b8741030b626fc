"""A worker process: reads what it is asked for until the other side is gone."""

from __future__ import annotations

import os
import pickle
import signal
import sys
import threading
import traceback
import types
from collections import deque
from typing import TYPE_CHECKING, Any

from framework.autodiff.modes import set_default_dtype
from framework.backend.host import set_global_seed
from framework.data import remote, wire

if TYPE_CHECKING:
    from socket import socket

_SCRIPT = "__mp_main__"
"""The name under which a script runs in a worker, so that its `if __name__ == "__main__":` part does not."""


def serve(channel: socket) -> None:
    """Be a worker: the first message says of what, each further one is a task."""
    remote.inside_worker = True
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent's to handle: it ends its workers
    try:
        setup = wire.receive(channel)
    except EOFError:
        os._exit(1)  # nobody is there any more
    tasks = _Tasks(channel)
    try:
        job = _job(setup)
    except BaseException as error:
        _answer(channel, _failure(error))
        return
    _answer(channel, wire.pack(("ready", None)))
    while (task := tasks.next()) is not None:
        try:
            answer = wire.pack(("result", job(pickle.loads(task[0], buffers=task[1:]))))
        except BaseException as error:
            answer = _failure(error)
        _answer(channel, answer)
        del answer


def _answer(channel: socket, parts: list[memoryview]) -> None:
    try:
        wire.send(channel, parts)
    except OSError:
        os._exit(1)  # nobody is there any more


def _job(setup: dict[str, Any]) -> Any:
    sys.argv = setup["argv"]
    _import_main(setup["main"])
    set_default_dtype(setup["dtype"])
    set_global_seed(setup["seed"])
    job, worker_init_fn = pickle.loads(setup["job"][0], buffers=setup["job"][1:])
    if worker_init_fn is not None:
        worker_init_fn(setup["number"])
    return job


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

    module = types.ModuleType(_SCRIPT)
    sys.modules["__main__"] = sys.modules[_SCRIPT] = module
    if "name" in main:
        content = runpy.run_module(main["name"], run_name=_SCRIPT, alter_sys=True)
    else:
        content = runpy.run_path(main["path"], run_name=_SCRIPT)
    module.__dict__.update(content)
    sys.modules["__main__"] = sys.modules[_SCRIPT] = module


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
