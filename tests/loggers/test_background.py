"""The thread between training and a client."""

from __future__ import annotations

import threading
import time
from collections import deque

import pytest

from framework.loggers import background
from framework.loggers.background import Client, Feeder


class Recorder(Client):
    def __init__(self) -> None:
        self.items: list = []

    def start(self) -> None:
        self.items.append("start")

    def handle(self, item) -> None:
        self.items.append(item)

    def finish(self, ok: bool) -> None:
        self.items.append(("finish", ok))


@pytest.mark.parametrize("ok", [True, False])
def test_all_items_arrive_in_order_and_then_the_end(ok):
    client = Recorder()
    feeder = Feeder(client)
    for number in range(5000):
        feeder.put(number)
    assert feeder.close(ok)
    assert client.items == ["start", *range(5000), ("finish", ok)]


def test_flush_waits_for_everything_put_before():
    client = Recorder()
    feeder = Feeder(client)
    for number in range(20):
        feeder.put(number)
        assert feeder.flush()
        assert client.items[-1] == number
    feeder.close(True)


def test_put_from_several_threads_loses_nothing():
    client = Recorder()
    feeder = Feeder(client)
    threads = [
        threading.Thread(target=lambda t=t: [feeder.put((t, i)) for i in range(2000)], daemon=True) for t in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    feeder.close(True)
    got = client.items[1:-1]
    assert len(got) == 8000
    for t in range(4):
        assert [i for thread, i in got if thread == t] == list(range(2000))


def test_a_client_that_fails_now_and_then_keeps_getting_items():
    class Flaky(Recorder):
        def handle(self, item) -> None:
            if item % 3 == 0:
                raise ValueError(f"not {item}")
            super().handle(item)

    client = Flaky()
    feeder = Feeder(client)
    for number in range(12):
        feeder.put(number)
    assert not feeder.close(True)
    assert feeder.problem == "failed with ValueError: not 0"
    assert client.items == ["start", 1, 2, 4, 5, 7, 8, 10, 11, ("finish", True)]


def test_a_client_that_always_fails_is_given_up():
    class Dead(Recorder):
        def handle(self, item) -> None:
            super().handle(item)
            raise BrokenPipeError("gone")

    client = Dead()
    feeder = Feeder(client)
    for number in range(12):
        feeder.put(number)
    assert not feeder.close(True)
    assert client.items == ["start", 0, 1, 2]
    feeder.put(99)
    assert client.items == ["start", 0, 1, 2]


def test_heavy_items_that_were_dropped_do_not_count_as_waiting():
    release = threading.Event()

    class Slow(Recorder):
        def handle(self, item) -> None:
            release.wait()
            super().handle(item)

    class Small(Feeder):
        CAPACITY, HEAVY = 1, 2

    class Heavy:
        is_heavy = True

    feeder = Small(client := Slow())
    assert feeder.wait_started()
    for _ in range(8):  # one is being handled, one waits, the others are dropped
        feeder.put_heavy(Heavy())
    release.set()
    assert feeder.flush()
    kept = len(client.items)
    for _ in range(3):
        feeder.put_heavy(Heavy())
        assert feeder.flush()
    assert len(client.items) == kept + 3
    feeder.close(True)


def test_a_client_that_hangs_is_left_behind():
    release = threading.Event()

    class Hanging(Recorder):
        def handle(self, item) -> None:
            release.wait()

    class Impatient(Feeder):
        HANDLE_S = 0.05

    feeder = Impatient(Hanging())
    feeder.put(1)
    assert not feeder.flush()
    assert feeder.problem == "did not answer for 0.05 s"
    assert not feeder.close(True)
    release.set()
    feeder._thread.join()


def test_what_is_put_while_the_client_is_given_up_is_dropped():
    class Fails(Recorder):
        fail = threading.Event()

        def start(self) -> None:
            assert self.fail.wait(60)
            raise SystemExit(3)

        def drop(self, item) -> None:
            self.items.append(("dropped", item))

    class GivenUpBeforeItIsThere(deque):
        def append(self, item) -> None:
            client.fail.set()
            feeder._thread.join(60)
            super().append(item)

    client = Fails()
    feeder = Feeder(client)
    feeder._items = GivenUpBeforeItIsThere()
    feeder.put("late")
    feeder.put("later")
    assert client.items == [("dropped", "late"), ("dropped", "later")]


# -- two threads at the same time: each test makes the one wait for the other where they used to miss each other ----


def test_what_is_being_dropped_is_waited_for():
    put, dropping, release = threading.Event(), threading.Event(), threading.Event()

    class Exits(Recorder):
        def start(self) -> None:
            assert put.wait(60)
            raise SystemExit(3)

        def drop(self, item) -> None:
            dropping.set()
            assert release.wait(60)
            self.items.append(("dropped", item))

    class Watched(Feeder):
        @property
        def FINISH_S(self) -> float:  # asked for by who is about to wait
            release.set()
            return 60.0

    feeder = Watched(client := Exits())
    feeder.put("late")
    put.set()
    assert dropping.wait(60)
    try:
        assert not feeder.flush()
        assert client.items == [("dropped", "late")]
    finally:
        release.set()
    assert not feeder.close(True)


def test_flush_waits_for_an_item_that_is_on_its_way_to_the_client():
    looked, taken, release = threading.Event(), threading.Event(), threading.Event()

    class Slow(Recorder):
        def handle(self, item) -> None:
            taken.set()
            assert release.wait(60)
            super().handle(item)

    class Items(deque):
        looks = 0

        def __len__(self) -> int:
            if threading.current_thread() is not threading.main_thread():
                assert looked.wait(60)  # the client is idle until then
            else:
                self.looks += 1
                looked.set()
                assert taken.wait(60)
                if self.looks > 1:
                    release.set()
            return super().__len__()

    feeder = Feeder(client := Slow())
    assert feeder.flush()
    feeder._items = Items(["on its way"])
    try:
        assert feeder.flush()
        assert client.items == ["start", "on its way"]
    finally:
        release.set()
        feeder._items = deque()
        feeder.close(True)


class Clock:
    """The time of a feeder, turned by hand; `ask` is called where the main thread asks for it, after `watch`."""

    def __init__(self, monkeypatch) -> None:
        self.now = 0.0
        self.ask = self.pause = lambda: None
        monkeypatch.setattr(background, "time", self)

    def monotonic(self) -> float:
        if threading.current_thread() is threading.main_thread():
            self.ask()
        return self.now

    def sleep(self, seconds: float) -> None:
        self.pause()
        time.sleep(0.001)


def test_work_that_has_just_begun_is_not_late_because_that_before_was_slow(monkeypatch):
    go, begun, release = threading.Event(), threading.Event(), threading.Event()

    class Slow(Recorder):
        def start(self) -> None:
            assert go.wait(60)

        def handle(self, item) -> None:
            begun.set()
            assert release.wait(60)
            super().handle(item)

    def ask() -> None:
        if not go.is_set():  # the start takes fifteen of its twenty seconds; then an item comes, which may take five
            clock.now = 15.0
            go.set()
            assert begun.wait(60)

    clock = Clock(monkeypatch)
    feeder = Feeder(client := Slow())
    feeder.put(1)
    clock.ask, clock.pause = ask, release.set
    try:
        assert feeder.flush()
    finally:
        release.set()
    assert (feeder.problem, client.items) == (None, [1])
    assert feeder.close(True)


def test_a_pause_of_the_whole_process_is_not_the_clients(monkeypatch):
    begun, release = threading.Event(), threading.Event()

    class Slow(Recorder):
        def handle(self, item) -> None:
            begun.set()
            assert release.wait(60)
            super().handle(item)

    def pause() -> None:
        release.set()
        while feeder._at_work is not None:
            time.sleep(0.001)

    clock = Clock(monkeypatch)
    feeder = Feeder(client := Slow())
    feeder.put(1)
    assert begun.wait(60)
    clock.now, clock.pause = 1000.0, pause  # both threads stood still
    try:
        assert feeder.flush()
    finally:
        release.set()
    assert (feeder.problem, client.items) == (None, ["start", 1])
    clock.pause = lambda: None
    assert feeder.close(True)


def test_an_end_that_is_seen_coming_is_a_good_one():
    seen = threading.Event()

    class Items(deque):
        def popleft(self):
            if threading.current_thread() is not threading.main_thread():
                assert seen.wait(60)  # all is done but this look
            return super().popleft()

    class Watched(Feeder):
        _alive = True

        @property
        def alive(self) -> bool:
            if not self._alive and threading.current_thread() is threading.main_thread():
                seen.set()
            return self._alive

        @alive.setter
        def alive(self, value: bool) -> None:
            self._alive = value

    feeder = Watched(client := Recorder())
    assert feeder.flush()
    feeder._items = Items()
    assert feeder.close(True)
    assert client.items == ["start", ("finish", True)]


def test_flush_says_that_a_client_was_given_up_also_when_it_has_ended():
    class Dead(Recorder):
        def handle(self, item) -> None:
            raise SystemExit(3)

    feeder = Feeder(Dead())
    feeder.put(1)
    feeder._thread.join(60)
    assert not feeder.flush()
