"""Reading ahead in a background thread."""

from __future__ import annotations

import contextvars
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any

# How long a consumer that leaves waits for a read in progress. The thread is a daemon: a read that hangs
# longer keeps neither the consumer nor the process.
_PATIENCE = 5.0


def prefetched(source: Iterator[Any], depth: int) -> Iterator[Any]:
    """The items of `source`, read by a thread that keeps at most `depth` of them ready.

    The thread starts with the first item asked for, and ends when the items are exhausted, when one
    raises (the exception is raised here, with the thread's traceback), or when this iterator is dropped.
    """
    channel = _Channel(depth)
    # Modes such as no_grad hold in the thread as they hold here.
    context = contextvars.copy_context()
    thread = threading.Thread(target=context.run, args=(_work, source, channel), name="fw-prefetch", daemon=True)
    del source  # the thread's alone
    thread.start()
    try:
        while True:
            item, error = channel.get()
            if error is not None:
                raise error
            if item is _END:
                return
            yield item
            del item  # a batch that nobody needs any more is not kept while waiting for the next
    finally:
        error = None  # a traceback that holds its own exception is a cycle
        channel.close()
        if thread is not threading.current_thread():  # the garbage collector may run this in the thread itself
            thread.join(_PATIENCE)


_END = object()


class _Channel:
    """Hands items from one thread to another, a few at most under way."""

    def __init__(self, depth: int) -> None:
        self._depth = depth
        self._items: deque[tuple[Any, BaseException | None]] = deque()
        self._closed = False
        self._changed = threading.Condition()

    def has_room(self) -> bool:
        """Waits until an item may be put; False once nobody wants one."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._items) < self._depth)
            return not self._closed

    def put(self, item: Any, error: BaseException | None = None) -> None:
        with self._changed:
            self._items.append((item, error))
            self._changed.notify_all()

    def get(self) -> tuple[Any, BaseException | None]:
        with self._changed:
            self._changed.wait_for(lambda: self._items)
            item = self._items.popleft()
            self._changed.notify_all()
            return item

    def close(self) -> None:
        with self._changed:
            self._closed = True
            self._items.clear()
            self._changed.notify_all()


def _work(source: Iterator[Any], channel: _Channel) -> None:
    try:
        while channel.has_room():
            item = next(source, _END)
            channel.put(item)
            if item is _END:
                return
            del item  # the consumer's alone
    except BaseException as error:
        channel.put(None, error)
