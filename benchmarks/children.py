"""The parent's side: child processes, their environment, and rounds in which they take turns."""

from __future__ import annotations

import importlib.util
import json
import math
import os
import select
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import framework
from framework.errors import FrameworkError

HERE = Path(__file__).resolve().parent
FAILED = "failed: "
"""How the reason begins why a contender takes no part although it should have been able to."""

ROUND = 40e-3  # seconds of a turn: long beside what waking up and cold caches cost, as in a training loop
PATIENCE = 300  # seconds that an answer may take; then the process is ended
THREAD_VARIABLES = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "BLIS_NUM_THREADS")


class ChildFailedError(FrameworkError):
    """A child process ended, or computed something else than the others."""


class NotHereError(FrameworkError):
    """A contender that cannot run here has said why."""


def environment(threads: int) -> dict[str, str]:
    """The shell's environment, but BLAS chooses its kernels itself and has `threads` threads."""
    ours = (str(HERE.parent), str(Path(framework.__file__).resolve().parent.parent))
    before = os.environ.get("PYTHONPATH", "")
    env = {k: v for k, v in os.environ.items() if k not in ("OPENBLAS_CORETYPE", "PYTHONDONTWRITEBYTECODE")}
    env["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*ours, *filter(None, [before])]))
    return env | {name: str(threads) for name in THREAD_VARIABLES}


def is_installed(name: str) -> bool:
    """Whether a module of this name can be imported; it is not."""
    return importlib.util.find_spec(name) is not None


@dataclass(frozen=True, slots=True)
class Contender:
    """Who takes part.

    Args:
        name: in tables.
        target: `module:function` below `benchmarks.contenders`.
        needs: the module without which it cannot take part.
        settings: keyword arguments of the function.
    """

    name: str
    target: str
    needs: str = ""
    settings: dict[str, Any] = field(default_factory=dict)


class Child:
    """One contender in its process, which is stopped while others have their turn.

    A BLAS with several threads keeps them spinning long after its last product (OpenBLAS for a tenth of a second and
    more): left alone, they would take the processor from whoever is next.
    """

    def __init__(self, contender: Contender, threads: int, folder: Path) -> None:
        self.name = contender.name
        self.log = folder / f"{contender.name}-{threads}.log".replace(" ", "-").replace("/", "-")
        command = [sys.executable, "-P", "-m", "benchmarks.worker", f"benchmarks.contenders.{contender.target}"]
        settings = {"threads": threads, **contender.settings}
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                [*command, json.dumps(settings)],
                env=environment(threads),
                cwd=folder,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )

    def ready(self) -> str:
        """Wait until it has started; why it cannot take part, or ""."""
        answer = self._read()
        self._pause()
        return str(answer.get("unavailable", ""))

    def check(self, case: dict[str, Any]) -> list[float] | None:
        """The numbers that show what it computes."""
        return self._ask({"do": "check", "case": case})["check"]  # type: ignore[no-any-return]

    def turn(self, case: dict[str, Any], count: int) -> float:
        """Let it work; seconds."""
        return float(self._ask({"do": "work", "case": case, "count": count})["seconds"])

    def measure(self, case: dict[str, Any]) -> Any:
        """Let it work; whatever it reports."""
        return self._ask({"do": "work", "case": case, "count": 1})

    def close(self) -> None:
        """End the process."""
        process = self._process
        self._go_on()
        for pipe in (process.stdin, process.stdout):
            _close(pipe)
        try:
            process.wait(timeout=60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _ask(self, order: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        self._go_on()
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except OSError:
            self._ended()
        answer = self._read()
        self._pause()
        if "unavailable" in answer:
            raise NotHereError(answer["unavailable"])
        return answer

    def _pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def _go_on(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        if not select.select([self._process.stdout], [], [], PATIENCE)[0]:
            self._process.kill()
        line = self._process.stdout.readline()
        if not line:
            self._ended()
        return json.loads(line)  # type: ignore[no-any-return]

    def _ended(self) -> None:
        code = self._process.wait()
        lines = self.log.read_text(errors="replace").strip().splitlines()
        raise ChildFailedError(
            f"{self.name}: its process ended with code {code}: {lines[-1] if lines else 'no output'}"
        )


def _close(pipe: IO[str] | None) -> None:
    try:
        if pipe is not None:
            pipe.close()
    except OSError:  # the child is gone already
        pass


class Group:
    """The contenders that could be started, in the order in which they were given."""

    def __init__(self) -> None:
        self.children: dict[str, Child] = {}
        self.absent: dict[str, str] = {}
        """Contender to the reason why it takes no part."""

    def __contains__(self, name: str) -> bool:
        return name in self.children

    def why_not(self, *names: str) -> str:
        """The reasons why contenders are absent; "" where all take part."""
        return "; ".join(dict.fromkeys(self.absent[name] for name in names if name in self.absent))

    def interleave(
        self, case: dict[str, Any], rounds: int, *, count: int = 0, discard: int = 1, tolerance: float = 1e-3
    ) -> dict[str, list[float]]:
        """Seconds of each contender and round.

        Every round begins with another contender. `count` pieces of work make a turn; 0 is as many as the
        first contender does in 8 ms. The first `discard` rounds are not counted.

        A contender that cannot run, or that computes something else than the first, is left out from here on.

        Raises:
            ChildFailedError: one has ended in its turn.
        """
        for name, child in list(self.children.items()):
            try:
                self._check(child, case, tolerance)
            except NotHereError as reason:
                self.drop(name, str(reason))
            except ChildFailedError as error:
                self.drop(name, f"{FAILED}{error}")
        names = list(self.children)
        if not names:
            return {}
        first = self.children[names[0]]
        if not count:
            count = max(1, math.ceil(ROUND / min(first.turn(case, 1) for _ in range(3))))
        times: dict[str, list[float]] = {name: [] for name in names}
        for k in range(discard + rounds):
            turned = names[k % len(names) :] + names[: k % len(names)]
            for name in turned:
                taken = self.children[name].turn(case, count)
                if k >= discard:
                    times[name].append(taken)
        return times

    def drop(self, name: str, reason: str) -> None:
        """Go on without a contender."""
        self.children.pop(name).close()
        self.absent[name] = reason

    def _check(self, child: Child, case: dict[str, Any], tolerance: float) -> None:
        found = child.check(case)
        if found is None:
            return
        if child is next(iter(self.children.values())):
            self._expected = found
        far = [b for a, b in zip(self._expected, found) if not abs(a - b) <= tolerance * max(abs(a), 1e-6)]
        if far or len(found) != len(self._expected):
            raise ChildFailedError(f"{child.name} computes something else: {found} instead of {self._expected}")


@contextmanager
def started(contenders: Sequence[Contender], threads: int, scratch: Path) -> Iterator[Group]:
    """Start the contenders that can take part, all at once, and end them when the block is left."""
    group = Group()
    with ExitStack() as stack:
        starting = []
        for contender in contenders:
            if contender.needs and not is_installed(contender.needs):
                group.absent[contender.name] = f"{contender.needs} is not installed"
                continue
            child = Child(contender, threads, scratch)
            stack.callback(child.close)
            starting.append(child)
        for child in starting:
            try:
                reason = child.ready()
            except ChildFailedError as error:
                reason = f"{FAILED}{error}"
            if reason:
                group.absent[child.name] = reason
            else:
                group.children[child.name] = child
        yield group
