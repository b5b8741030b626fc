"""Workers: threads that work on tasks at the same time and hand the results over in order."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

# How long a consumer that leaves waits for work in progress; the threads are daemons, see `prefetch`.
_PATIENCE = 5.0

Work = Callable[[Any], Any]


def pooled(tasks: Iterator[Any], works: Sequence[Work], depth: int, leave: Callable[[], None]) -> Iterator[Any]:
    """The result of each task, in the order of the tasks.

    The threads start with the first result asked for. An exception, of a task or of `tasks` itself, is
    raised in its place.

    Args:
        tasks: what to work on; taken by one thread at a time.
        works: one for each thread: gets a task, gives its result.
        depth: how many results may be ready or under way.
        leave: called when the threads are to end, whatever the reason: ends what they may be waiting for.
    """
    pool = _Pool(tasks, depth)
    context = contextvars.copy_context()
    threads = [
        threading.Thread(target=context.copy().run, args=(_work, pool, work), name=f"fw-loader-{k}", daemon=True)
        for k, work in enumerate(works)
    ]
    del tasks, works
    try:
        for thread in threads:
            thread.start()
        while True:
            result, error = pool.take()
            if error is not None:
                raise error
            if result is _END:
                return
            yield result
            del result
    finally:
        error = None  # a traceback that holds its own exception is a cycle
        pool.close()
        leave()
        for thread in threads:
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join(_PATIENCE)


_END = object()


class _Pool:
    """Numbered tasks on their way, and results that wait for their turn."""

    def __init__(self, tasks: Iterator[Any], depth: int) -> None:
        self._tasks = tasks
        self._depth = depth
        self._taking = threading.Lock()
        self._changed = threading.Condition()
        self._results: dict[int, tuple[Any, BaseException | None]] = {}
        self._started = 0
        self._delivered = 0
        self._closed = False

    def next_task(self) -> tuple[int, Any] | None:
        """The next task and its number; None when there is no more to do. Waits for room."""
        with self._taking:  # a source of tasks may take its time: results are handed over meanwhile
            with self._changed:
                self._changed.wait_for(lambda: self._closed or self._started < self._delivered + self._depth)
                if self._closed:
                    return None
            number = self._started
            self._started += 1
            try:
                task = next(self._tasks, _END)
            except BaseException as error:
                self.put(number, _END, error)
                self.no_more()
                return None
            if task is _END:
                self.put(number, _END)
                self.no_more()
                return None
            return number, task

    def no_more(self) -> None:
        """No further task is begun; those under way are ended."""
        with self._changed:
            self._depth = -1 << 62
            self._closed = True
            self._changed.notify_all()

    def put(self, number: int, result: Any, error: BaseException | None = None) -> None:
        with self._changed:
            self._results[number] = result, error
            self._changed.notify_all()

    def take(self) -> tuple[Any, BaseException | None]:
        """The next result in order; waits for it."""
        with self._changed:
            self._changed.wait_for(lambda: self._delivered in self._results)
            found = self._results.pop(self._delivered)
            self._delivered += 1
            self._changed.notify_all()
            return found

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._results.clear()
            self._changed.notify_all()


def _work(pool: _Pool, work: Work) -> None:
    while (task := pool.next_task()) is not None:
        try:
            result = work(task[1])
        except BaseException as error:
            pool.put(task[0], None, error)
            pool.no_more()
            return
        pool.put(task[0], result)
        del result, task  # the consumer's alone
