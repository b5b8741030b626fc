"""The thread between training and a client."""

from __future__ import annotations

import threading
from collections import deque

import pytest

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
            assert self.fail.wait(10)
            raise SystemExit(3)

        def drop(self, item) -> None:
            self.items.append(("dropped", item))

    class GivenUpBeforeItIsThere(deque):
        def append(self, item) -> None:
            client.fail.set()
            feeder._thread.join(10)
            super().append(item)

    client = Fails()
    feeder = Feeder(client)
    feeder._items = GivenUpBeforeItIsThere()
    feeder.put("late")
    feeder.put("later")
    assert client.items == [("dropped", "late"), ("dropped", "later")]
