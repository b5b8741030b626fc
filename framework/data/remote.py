"""The parent's side of worker processes: starting them, asking them, ending them."""

from __future__ import annotations

import os
import sys
import threading
import weakref
from pathlib import Path
from typing import TYPE_CHECKING, Any

from framework.autodiff.modes import get_default_dtype
from framework.backend.host import global_seed
from framework.data import wire
from framework.errors import ConfigError, DataError, WorkerError

if TYPE_CHECKING:
    import socket
    import subprocess

# What a worker does until it knows where modules are. `-P` keeps the current folder out of the way.
_BOOT = (
    "import json, socket, sys; "
    "channel = socket.socket(fileno=int(sys.argv[1])); "
    "sys.path[:] = json.loads(channel.makefile('rb', buffering=0).readline()); "
    "from framework.data.worker import serve; serve(channel)"
)
_PATIENCE = 2.0


class Crew:
    """Worker processes, all with the same job, each started when it gets its first task.

    They end when the crew is closed or dropped, and when this process ends, however it does.

    Args:
        count: of processes.
        job: called with each task, in the process; pickled.
        worker_init_fn: called with the worker's number when it starts.

    Raises:
        ConfigError: something of it cannot be sent to another process.
    """

    def __init__(self, count: int, job: Any, worker_init_fn: Any) -> None:
        parts = _packed_job(job, worker_init_fn)
        self.workers = [_Worker(number, parts) for number in range(count)]
        self._end = weakref.finalize(self, _end_all, self.workers)

    def close(self) -> None:
        """End all processes."""
        self._end()

    def interrupt(self) -> None:
        """End the processes that are at work; the others stay."""
        for worker in self.workers:
            worker.interrupt()


def _end_all(workers: list[_Worker]) -> None:
    for worker in workers:
        worker.close()


class _Worker:
    """One process; it is called with a task and gives the result."""

    def __init__(self, number: int, job: list[memoryview]) -> None:
        self._number = number
        self._job = job
        self._channel: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._lock = threading.RLock()
        self._busy = False
        self._leaving = False

    def __call__(self, task: Any) -> Any:
        with self._lock:
            if self._channel is None:
                self._start()
            channel = self._channel
            self._busy, self._leaving = True, False
        assert channel is not None
        try:
            self._send(wire.pack(task))
            answer = wire.receive(channel)
        except EOFError as error:
            raise self._death() from error
        finally:
            self._busy = False
        if answer[0] == "error":
            raise _remote_error(answer)
        return answer[1]

    def _start(self) -> None:
        import json
        import socket
        import subprocess

        ours, theirs = socket.socketpair()
        # One thread for each worker's BLAS: the workers are the parallelism.
        environment = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **os.environ}
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, *flags, "-P", "-c", _BOOT, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                env=environment,
                pass_fds=[theirs.fileno()],
            )
        self._channel = ours
        setup = {
            "argv": sys.argv,
            "main": _main_of(self._job),
            "dtype": get_default_dtype().name,
            "seed": global_seed(),
            "number": self._number,
            "job": [bytes(part) if k == 0 else part for k, part in enumerate(_arrays(self._job))],
        }
        try:
            ours.sendall(json.dumps([str(entry) for entry in sys.path]).encode() + b"\n")
            self._send(wire.pack(setup))
            answer = wire.receive(ours)
        except (EOFError, OSError) as error:
            raise self._death() from error
        if answer[0] == "error":
            self.close()
            raise _remote_error(answer)

    def _send(self, parts: list[memoryview]) -> None:
        assert self._channel is not None
        try:
            wire.send(self._channel, parts)
        except OSError as error:
            raise EOFError(str(error)) from error

    def _death(self) -> WorkerError:
        """The process is gone: what to say of it."""
        process, left = self._process, self._leaving
        code = None
        if process is not None and not left:
            import subprocess

            try:
                code = process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                code = None
        self.close()
        return WorkerError(f"DataLoader: worker process {self._number} {_manner(code)} while it read a batch. {_ADVICE}")

    def interrupt(self) -> None:
        if self._busy:
            self._leaving = True
            self.close()

    def close(self) -> None:
        """End the process, waiting for it."""
        process, channel = self._process, self._channel
        self._process = self._channel = None
        if channel is not None:
            _hang_up(channel, politely=not self._busy)
        if process is not None:
            import subprocess

            try:
                process.wait(0.0 if self._busy else _PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _hang_up(channel: socket.socket, politely: bool) -> None:
    import socket

    try:
        if politely:
            channel.settimeout(_PATIENCE)
            wire.send(channel, [memoryview(b"")])
        else:
            channel.shutdown(socket.SHUT_RDWR)  # wakes a thread that waits for an answer
    except OSError:
        pass  # gone already
    channel.close()
