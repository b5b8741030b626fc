"""Who works on a loader's tasks: nobody but the loader, a thread that reads ahead, threads, or processes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from framework.data.pool import pooled
from framework.data.prefetch import prefetched
from framework.data.remote import Crew


class Workers:
    """The workers of one loader.

    Args:
        count: of them; 0 for none.
        kind: "processes" or "threads".
        worker_init_fn: called with a worker's number when it starts.
        persistent: whether processes stay from one epoch to the next.
    """

    def __init__(self, count: int, kind: str, worker_init_fn: Callable[[int], Any] | None, persistent: bool) -> None:
        self.count = count
        self.kind = kind
        self.worker_init_fn = worker_init_fn
        self.persistent = persistent
        self._kept: Crew | None = None
        self._kept_is_used = False

    @property
    def are_processes(self) -> bool:
        """Whether there are workers, and they are processes."""
        return self.count > 0 and self.kind == "processes"

    def batches(self, tasks: Iterator[Any], job: Callable[[Any], Any], ahead: int) -> Iterator[Any]:
        """`job(task)` for each task, in their order, with `ahead` results kept ready (by each worker)."""
        if not self.count:
            results = (job(task) for task in tasks)
            return prefetched(results, ahead) if ahead else results
        depth = self.count * max(ahead, 1)
        if self.kind == "threads":
            works = [_InThread(job, number, self.worker_init_fn) for number in range(self.count)]
            return pooled(tasks, works, depth, lambda: None)
        return self._from_processes(tasks, job, depth)

    def _from_processes(self, tasks: Iterator[Any], job: Callable[[Any], Any], depth: int) -> Iterator[Any]:
        if not self.persistent or self._kept_is_used:
            crew = Crew(self.count, job, self.worker_init_fn)
            return pooled(tasks, crew.workers, depth, crew.close)
        if self._kept is None:
            self._kept = Crew(self.count, job, self.worker_init_fn)
        return self._from_kept(tasks, self._kept, depth)

    def _from_kept(self, tasks: Iterator[Any], crew: Crew, depth: int) -> Iterator[Any]:
        self._kept_is_used = True
        try:
            yield from pooled(tasks, crew.workers, depth, crew.interrupt)
        finally:
            self._kept_is_used = False

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_kept": None, "_kept_is_used": False}


class _InThread:
    """A job as one thread does it."""

    def __init__(self, job: Callable[[Any], Any], number: int, worker_init_fn: Callable[[int], Any] | None) -> None:
        self._job = job
        self._number = number
        self._init = worker_init_fn

    def __call__(self, task: Any) -> Any:
        if self._init is not None:
            init, self._init = self._init, None
            init(self._number)
        return self._job(task)
