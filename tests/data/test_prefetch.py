"""The thread that reads ahead: its exceptions, its bounds, its end."""

from __future__ import annotations

import gc
import threading
import traceback

import numpy as np
import pytest

from framework.autodiff import modes, no_grad
from framework.data import ArrayDataset, DataLoader, Dataset
from framework.data.transforms import Compose, Normalize


def threads() -> list[threading.Thread]:
    return [t for t in threading.enumerate() if t.name == "fw-prefetch"]


@pytest.fixture(autouse=True)
def _no_thread_is_left():
    assert threads() == []
    yield
    gc.collect()
    assert threads() == []


class Numbers(Dataset):
    def __init__(self, n: int = 1000, bad: int | None = None) -> None:
        self.n, self.bad = n, bad

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int) -> int:
        if index == self.bad:
            self.break_down(index)
        return index

    def break_down(self, index: int) -> None:
        raise KeyError(f"sample {index} is bad")


def test_exhausted():
    loader = DataLoader(Numbers(10))
    assert [int(x[0]) for x in loader] == list(range(10))
    run = iter(loader)
    assert len(list(run)) == 10
    assert threads() == []


def test_left_by_break():
    for _ in DataLoader(Numbers()):
        assert len(threads()) == 1
        break
    assert threads() == []


def test_dropped():
    run = iter(DataLoader(Numbers()))
    next(run)
    assert len(threads()) == 1
    del run
    assert threads() == []


def test_closed():
    run = iter(DataLoader(Numbers()))
    next(run)
    run.close()
    assert threads() == []


def test_dropped_before_the_first_batch():
    iter(DataLoader(Numbers()))
    assert threads() == []


def test_dropped_in_a_cycle():
    class Holder:
        pass

    holder = Holder()
    holder.me, holder.run = holder, iter(DataLoader(Numbers()))
    next(holder.run)
    del holder
    gc.collect()
    assert threads() == []


def test_exception_in_the_consumer():
    def consume():
        for _ in DataLoader(Numbers()):
            1 / 0

    with pytest.raises(ZeroDivisionError):
        consume()
    assert threads() == []


def test_many_epochs_left_early():
    loader = DataLoader(Numbers(5), prefetch=3)
    for _ in range(100):
        next(iter(loader))
    assert threads() == []


@pytest.mark.parametrize("prefetch", [0, 1, 4])
def test_exception_in_the_dataset_surfaces_in_place_with_its_traceback(prefetch):
    loader = DataLoader(Numbers(20, bad=5), prefetch=prefetch)
    seen = []

    def consume():
        for batch in loader:
            seen.extend(batch.tolist())

    with pytest.raises(KeyError, match="sample 5 is bad") as caught:
        consume()
    assert seen == [0, 1, 2, 3, 4]
    assert loader.state_dict()["batch"] == 5
    names = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert names[-2:] == ["__getitem__", "break_down"]
    assert caught.value.__notes__ == ["(while the DataLoader read sample 5 of Numbers)"]
    assert threads() == []


def test_stop_iteration_in_a_dataset_does_not_end_the_epoch_quietly():
    class Broken(Numbers):
        def break_down(self, index):
            raise StopIteration

    for prefetch in (0, 2):
        with pytest.raises(RuntimeError, match="StopIteration"):
            list(DataLoader(Broken(20, bad=5), prefetch=prefetch))


def test_at_most_so_many_batches_are_read_ahead():
    delivered = 0
    ahead = []

    class Watched(Numbers):
        def __getitem__(self, index):
            ahead.append(index - delivered)
            return index

    for _ in DataLoader(Watched(300), prefetch=3):
        delivered += 1
    assert len(ahead) == 300
    assert max(ahead) <= 3 + 1  # the one that the consumer is just taking


def test_modes_hold_in_the_thread():
    seen = []

    def look(x):
        seen.append((threading.current_thread().name, modes.grad_enabled.get()))
        return x

    with no_grad():
        list(DataLoader(ArrayDataset(np.zeros(2), transform=look)))
    assert seen == [("fw-prefetch", False)] * 2


@pytest.mark.parametrize(
    "transform", [None, Normalize(0.0, 1.0), Compose([Normalize(0.0, 1.0)])], ids=["none", "Normalize", "Compose"]
)
def test_arrays_in_memory_are_read_on_the_spot(transform):
    data = ArrayDataset(np.zeros((4, 2), np.float32), transform=transform)
    for _ in DataLoader(data, prefetch=2):
        assert threads() == []


def test_prefetch_0_reads_in_the_calling_thread():
    for _ in DataLoader(Numbers(3), prefetch=0):
        assert threads() == []


def test_a_batch_in_use_is_the_only_one_kept():
    import weakref

    class Marked(Dataset):
        def __len__(self):
            return 4

        def __getitem__(self, index):
            raise AssertionError("read in batches")

        def __getitems__(self, indices):
            batch = np.zeros(3)
            alive.append(weakref.ref(batch))
            return batch

    alive: list[weakref.ref] = []
    for prefetch in (0, 1):
        alive.clear()
        run = iter(DataLoader(Marked(), prefetch=prefetch))
        for k in range(4):
            batch = next(run)
            assert sum(ref() is not None for ref in alive[: k + 1]) == 1
            del batch
        run.close()
