"""The parent's side of worker processes: starting them, asking them, ending them."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
import weakref
from typing import TYPE_CHECKING, Any

import numpy as np

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
    "line = channel.makefile('rb', buffering=0).readline(); "
    "sys.path[:] = json.loads(line) if line.endswith(b'\\n') else sys.exit(1); "
    "from framework.data.worker import serve; serve(channel); channel.close()"
)
_PATIENCE = 2.0
_SCRIPT = "__mp_main__"  # the name of the parent's script in a worker, as multiprocessing has it
_GUARD = re.compile(r"""__name__\s*==\s*['"]__main__['"]|['"]__main__['"]\s*==\s*__name__""")

inside_worker = False
"""Whether this process is itself a worker."""


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
        if inside_worker:
            raise ConfigError(
                "DataLoader: a worker process starts no workers of its own. If this is a script's top level, put what "
                'it does below `if __name__ == "__main__":`, since workers import the script'
            )
        if os.name != "posix":
            raise ConfigError("DataLoader: worker processes need a POSIX system; use workers='threads'")
        parts = _packed(job, worker_init_fn)
        main = _main_of(bytes(parts[0]))
        self.workers = [_Worker(number, parts, main) for number in range(count)]
        self._close = weakref.finalize(self, _end, self.workers)

    def close(self) -> None:
        """End all processes."""
        self._close()

    def interrupt(self) -> None:
        """End the processes that are at work; the others stay, and those ended start again when asked."""
        _end([worker for worker in self.workers if worker.busy], for_good=False)


def _end(workers: list[_Worker], for_good: bool = True) -> None:
    for left in [worker.leave(for_good) for worker in workers]:  # first all are told, then waited for
        left()


class _Worker:
    """One process; it is called with a task and gives the result."""

    def __init__(self, number: int, job: list[memoryview], main: dict[str, str] | None) -> None:
        self._number = number
        self._job = job
        self._main = main
        self._channel: socket.socket | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self._changing = threading.Lock()
        self._asking = threading.Lock()
        self._ended = False
        self.busy = False

    def __call__(self, task: Any) -> Any:
        with self._asking:
            with self._changing:  # `leave` comes before, and nothing is asked of what it ends; or after, and sees this
                self.busy, channel = True, self._channel
            try:
                answer = self._ask(channel or self._start(), wire.pack(task))
            finally:
                self.busy = False
        if answer[0] == "error":
            raise _remote_error(answer)
        return answer[1]

    def _start(self) -> socket.socket:
        import json
        import socket
        import subprocess

        # One thread for each worker's BLAS: the workers are the parallelism.
        environment = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", **os.environ}
        flags = subprocess._args_from_interpreter_flags()  # type: ignore[attr-defined]
        with self._changing:
            if self._ended:
                raise WorkerError("DataLoader: its workers were ended")
            ours, theirs = socket.socketpair()
            with theirs:
                self._process = subprocess.Popen(
                    [sys.executable, *flags, "-P", "-c", _BOOT, str(theirs.fileno())],
                    stdin=subprocess.DEVNULL,
                    env=environment,
                    pass_fds=[theirs.fileno()],
                    process_group=0,  # Ctrl-C is for the parent, which ends its workers
                )
            self._channel = ours
        setup = {
            "argv": sys.argv,
            "main": self._main,
            "dtype": get_default_dtype().name,
            "seed": global_seed(),
            "number": self._number,
            "job": [np.asarray(part.cast("B")) for part in self._job],
        }
        path = json.dumps([str(entry) for entry in sys.path]).encode() + b"\n"
        answer = self._ask(ours, wire.pack(setup), path)
        if answer[0] == "error":
            self.leave(for_good=False)()
            raise _remote_error(answer)
        return ours

    def _ask(self, channel: socket.socket, parts: list[memoryview], first: bytes = b"") -> Any:
        try:
            if first:
                channel.sendall(first)
            wire.send(channel, parts)
            return wire.receive(channel)
        except (EOFError, OSError) as error:
            manner = self._manner_of_death()
            raise WorkerError(
                f"DataLoader: worker process {self._number} {manner}, and with it the batch that it was reading. The "
                "usual reasons are too little memory for so many workers, or a crash inside a library; "
                "num_workers=0 reads in this process, where a debugger sees it"
            ) from error

    def _manner_of_death(self) -> str:
        import subprocess

        process = self._process
        try:
            code = None if process is None else process.wait(_PATIENCE)
        except subprocess.TimeoutExpired:
            code = None
        self.leave(for_good=False)()
        if code is None:
            return "is gone"
        return f"ended with exit code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"

    def leave(self, for_good: bool) -> Any:
        """Tell the process to end; gives what waits for that."""
        with self._changing:
            self._ended = self._ended or for_good
            process, channel, busy = self._process, self._channel, self.busy
            self._process = self._channel = None
        if process is not None and busy:
            process.kill()
        if channel is not None:
            _hang_up(channel)
        return lambda: _wait_for(process)


def _hang_up(channel: socket.socket) -> None:
    import socket

    try:
        channel.settimeout(_PATIENCE)
        wire.send(channel, [memoryview(b"")])  # "that was all"
        channel.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # it is gone already
    channel.close()


def _wait_for(process: subprocess.Popen[bytes] | None) -> None:
    import subprocess

    if process is None:
        return
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _packed(job: Any, worker_init_fn: Any) -> list[memoryview]:
    try:
        return wire.pack((job, worker_init_fn))
    except Exception as error:
        raise ConfigError(
            "DataLoader: worker processes get the dataset, collate_fn and worker_init_fn pickled, which failed: "
            f"{error}. Define functions and classes at the top level of a module (no lambda, nothing local), or use "
            "workers='threads'"
        ) from error


def _main_of(pickled: bytes) -> dict[str, str] | None:
    """Where a worker finds what the pickle names in the parent's script; None where it names nothing there.

    Raises:
        ConfigError: it cannot be found, or importing the script would run it.
    """
    if b"__main__" not in pickled:
        return None
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    path = getattr(main, "__file__", None)
    if path is None or not os.path.isfile(path):
        raise ConfigError(
            "DataLoader: the dataset or a function is defined in an interactive session, where worker processes do not "
            "find it. Move it into a module and import it, or use workers='threads'"
        )
    with open(path, encoding="utf-8", errors="replace") as file:
        guarded = _GUARD.search(file.read()) is not None
    if not guarded:
        raise ConfigError(
            f"DataLoader: the dataset or a function is defined in the script {path}. Worker processes import the "
            "script to find it, and would run it all again. Put what the script does below "
            "`if __name__ == \"__main__\":`, or move the definitions into a module, or use workers='threads'"
        )
    sys.modules.setdefault(_SCRIPT, main)  # what comes back may name it so
    return {"path": os.path.abspath(path)} if spec is None else {"name": spec.name}


class _WorkerTracebackError(Exception):
    """The traceback of an exception where it was raised: in a worker process."""

    def __init__(self, text: str) -> None:
        super().__init__(text)

    def __str__(self) -> str:
        return f'in a worker process:\n"""\n{self.args[0]}"""'


def _remote_error(answer: tuple[Any, ...]) -> BaseException:
    error = answer[1]
    if error is None:
        error = DataError(f"DataLoader: a worker process raised {answer[3]} (which cannot be pickled)")
    error.__cause__ = _WorkerTracebackError(answer[2])
    return error
