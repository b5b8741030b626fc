"""A thread between the training and a client that may raise, hang or die."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from typing import Any


class Client(ABC):
    """What the thread talks to. Each method may take long or fail; only `drop` is called from the training's thread."""

    extra_s: float = 0.0
    """Seconds that its end may take beyond those for any client."""

    @abstractmethod
    def start(self) -> None:
        """Connect."""

    @abstractmethod
    def handle(self, item: Any) -> None:
        """Take one item."""

    @abstractmethod
    def finish(self, ok: bool) -> None:
        """Disconnect after everything is handled."""

    def drop(self, item: Any) -> None:  # noqa: B027 - most have nothing to do
        """An item will not be handled: let go of what it holds."""


class Feeder:
    """Hands items to a client from a daemon thread; whoever puts them never waits and never sees an error.

    The thread looks for items a few times a second instead of being woken for each, so that `put`
    costs an append to a deque. The first trouble is kept in `problem`; a client that cannot start,
    fails three times in a row or does not answer in time is given up.

    Args:
        client: what the items are for.

    Examples:
        >>> class Keep(Client):
        ...     def start(self): self.items = []
        ...     def handle(self, item): self.items.append(item)
        ...     def finish(self, ok): self.items.append("end")
        >>> client = Keep()
        >>> feeder = Feeder(client)
        >>> feeder.put(1)
        >>> feeder.put(2)
        >>> feeder.close(ok=True)
        True
        >>> client.items
        [1, 2, 'end']
    """

    POLL_S = 0.1
    START_S = 20.0
    """Seconds that the client may take to start before somebody who waits gives it up."""
    HANDLE_S = 5.0
    """The same for one item."""
    FINISH_S = 30.0
    """The same for its end."""
    FAILURES = 3
    CAPACITY = 100_000
    """Items that may wait; more are dropped, which is a problem too."""
    HEAVY = 200
    """The same for those that say `is_heavy`: pictures, tables, checkpoints."""

    def __init__(self, client: Client) -> None:
        self.problem: str | None = None
        self.started = False
        self.alive = True
        """Whether items still reach the client."""
        self._client = client
        self._items: deque[Any] = deque()
        self._heavy_put = self._heavy_done = 0  # each is counted by one thread
        self._wake = threading.Event()
        self._closing: bool | None = None  # the `ok` of the end, once it has come
        self._at_work: tuple[float, float] | None = (time.monotonic(), self.START_S)
        """Since when the client is at work, and for how long it may be; both in one, as they belong together."""
        self._hangs = False  # given up by one who waited, and perhaps at work still
        self._thread = threading.Thread(target=self._run, name=f"fw-{type(client).__name__}", daemon=True)
        self._thread.start()

    def put(self, item: Any) -> None:
        """Give one item; dropped where the client is given up or too far behind."""
        self._takes(item)

    def _takes(self, item: Any) -> bool:
        if self.alive and self._closing is None and len(self._items) < self.CAPACITY:
            self._items.append(item)
            if not self.alive:  # given up meanwhile, and what waited may have been dropped before this came
                self._drop_all()
            return True
        if self.alive and self._closing is None:
            self._trouble(f"is {self.CAPACITY} items behind, so newer ones are dropped")
        self._client.drop(item)
        return False

    def put_heavy(self, item: Any) -> None:
        """The same for one that takes much memory, of which fewer may wait."""
        if self._heavy_put - self._heavy_done < self.HEAVY:
            self._heavy_put += self._takes(item)
        else:
            self._trouble(f"is {self.HEAVY} pictures, tables or checkpoints behind, so newer ones are dropped")
            self._client.drop(item)

    def flush(self) -> bool:
        """Wait, a bounded time, until all items are handled; whether they are."""
        self._wake.set()
        # In this order: the client is at work before the last item leaves the deque.
        return self._wait(lambda: not self._items and self._at_work is None) and self.alive

    def wait_started(self) -> bool:
        """Wait, a bounded time, until the client has started; whether it has."""
        self._wait(lambda: self.started)
        return self.started

    def close(self, ok: bool) -> bool:
        """Hand over what waits, end the client and wait a bounded time for it; whether it ended well."""
        self._closing = ok
        self._wake.set()
        ended = self._wait(lambda: not self._thread.is_alive())
        self.alive = False
        self._drop_all()
        return ended and self.problem is None

    def _drop_all(self) -> None:
        """Let go of what waits; either thread may do so."""
        with suppress(IndexError):
            while True:
                self._client.drop(self._items.popleft())

    def _wait(self, done: Callable[[], bool]) -> bool:
        while self._thread.is_alive() and not self._hangs:
            if not self.alive:
                self._thread.join(self.FINISH_S)  # it may be dropping what waited, which an exit would cut off
                break
            if done():
                return True
            now, at_work = time.monotonic(), self._at_work  # in this order: what begins now is not late
            if at_work is not None and now - at_work[0] > at_work[1] and self._stays(at_work):
                self._trouble(f"did not answer for {at_work[1]:g} s")
                self._hangs, self.alive = True, False
                self._drop_all()
            else:
                time.sleep(0.005)
        return done()

    def _stays(self, at_work: tuple[float, float]) -> bool:
        """Whether the client does not end that work in a moment: where the whole process stood still, it could not."""
        time.sleep(self.POLL_S)
        return self._at_work is at_work

    def _run(self) -> None:
        try:
            self._client.start()
            self.started = True
            failures = 0
            while self.alive:
                closing = self._closing  # read before the items: none comes after it is set
                while self._items and self.alive:
                    failures = 0 if self._handle_next() else failures + 1
                    if failures >= self.FAILURES:
                        self.alive = False
                self._at_work = None
                if closing is not None:
                    break
                self._wake.wait(self.POLL_S)
                self._wake.clear()
            if self.alive:
                self._begin(self.FINISH_S + self._client.extra_s)
                self._client.finish(bool(self._closing))
        except BaseException as error:  # whatever the client does, even an exit, ends this thread only
            self._trouble(f"failed with {type(error).__name__}: {error}")
        finally:
            self.alive, self._at_work = False, None
            self._drop_all()

    def _handle_next(self) -> bool:
        self._begin(self.HANDLE_S)
        item = self._items.popleft()
        try:
            self._begin(self.HANDLE_S + getattr(item, "limit_s", 0.0))
            self._client.handle(item)
        except Exception as error:
            self._trouble(f"failed with {type(error).__name__}: {error}")
            return False
        finally:
            self._heavy_done += getattr(item, "is_heavy", False)
        return True

    def _begin(self, limit: float) -> None:
        self._at_work = time.monotonic(), limit

    def _trouble(self, text: str) -> None:
        if self.problem is None:
            self.problem = text
