"""Workers: equal bits whatever their number and kind, errors, deaths, ends."""

from __future__ import annotations

import contextlib
import copy
import gc
import importlib
import json
import os
import pickle
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path

import numpy as np
import pytest

from framework import errors
from framework.autodiff import modes
from framework.data import ArrayDataset, DataLoader, remote
from framework.data.transforms import RandomCrop

HERE = Path(__file__).parent
WAYS = [(0, "processes"), (1, "threads"), (3, "threads"), (1, "processes"), (3, "processes")]


@pytest.fixture(autouse=True)
def w(monkeypatch):
    """The module that workers import."""
    monkeypatch.syspath_prepend(str(HERE))
    return importlib.import_module("worker_datasets")


@pytest.fixture(autouse=True)
def _nothing_is_left():
    before = children()
    yield
    gc.collect()
    assert [t for t in threading.enumerate() if t.name.startswith("fw-")] == []
    assert wait_until(lambda: children() <= before)


def children() -> set[int]:
    """The processes that this one started."""
    found = set()
    for task in Path(f"/proc/{os.getpid()}/task").iterdir():
        with contextlib.suppress(FileNotFoundError):  # a thread that ended
            found |= {int(pid) for pid in (task / "children").read_text().split()}
    return found


def wait_until(condition, seconds: float = 30.0) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True


def arrays(batch) -> list[np.ndarray]:
    return [np.asarray(a) for a in (batch.values() if isinstance(batch, dict) else batch)]


def bits(loader) -> list[list[tuple[str, bytes]]]:
    return [[(str(a.dtype), a.tobytes()) for a in arrays(batch)] for batch in loader]


# -- the same bits ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["Augmented", "Batched", "Stream", "Blocks"])
def test_bits_do_not_depend_on_workers(w, kind):
    shuffle = kind != "Stream"
    ways = WAYS if kind == "Augmented" else WAYS[:3]
    found = []
    for count, workers in ways:
        loader = DataLoader(getattr(w, kind)(), 4, shuffle, num_workers=count, workers=workers, seed=3)
        found.append([bits(loader), bits(loader)])
    assert found[0][0] != found[0][1]
    assert len(found[0][0]) > 4
    assert all(other == found[0] for other in found[1:])


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["Batched", "Stream", "Blocks"])
@pytest.mark.parametrize("persistent", [False, True])
def test_bits_do_not_depend_on_processes(w, kind, persistent):
    expected = None
    for count in (0, 1, 3):
        loader = DataLoader(
            getattr(w, kind)(), 4, num_workers=count, seed=3, persistent_workers=persistent and count > 0
        )
        epochs = [bits(loader), bits(loader), bits(loader)]
        expected = expected or epochs
        assert epochs == expected
        if kind == "Batched":
            continue
        loader = DataLoader(getattr(w, kind)(), 4, num_workers=count, seed=3, collate_fn=w.keep)
        assert list(loader) == list(DataLoader(getattr(w, kind)(), 4, seed=3, collate_fn=w.keep))


@pytest.mark.slow
def test_globals_are_seeded_for_each_sample_in_processes(w):
    one, three = (bits(DataLoader(w.Globals(), 2, num_workers=count, seed=5)) for count in (1, 3))
    assert one == three
    assert len({pair for batch in one for pair in batch}) == 2 * len(one)


def test_threads_leave_the_streams_of_the_process_alone(w):
    random.seed(1)
    expected = random.random()
    random.seed(1)
    list(DataLoader(w.Augmented(), 4, num_workers=2, workers="threads", seed=0))
    assert random.random() == expected


def test_resume_within_an_epoch_with_threads(w):
    for kind, shuffle in (("Augmented", True), ("Stream", False), ("Blocks", True)):
        whole = DataLoader(getattr(w, kind)(), 3, shuffle, seed=2)
        expected = bits(whole) + bits(whole)
        count = len(expected) // 2
        for k in (1, count - 1):
            first = DataLoader(getattr(w, kind)(), 3, shuffle, num_workers=2, workers="threads", seed=2)
            run = iter(first)
            for _ in range(k):
                next(run)
            state = first.state_dict()
            run.close()
            assert state == {"seed": 2, "epoch": 0, "batch": k}
            second = DataLoader(getattr(w, kind)(), 3, shuffle, num_workers=3, workers="threads", seed=77)
            second.load_state_dict(state)
            assert bits(second) + bits(second) == expected[k:]


def test_batches_are_fresh_and_writable(w):
    for workers in ("threads", "processes"):
        batches = list(DataLoader(w.Augmented(), 8, num_workers=1, workers=workers, seed=0))
        for batch in batches:
            for a in batch:
                assert type(a) is np.ndarray
                a[...] = 0  # must not raise


def test_images_are_cropped_alike_by_threads():
    x = np.random.default_rng(0).integers(0, 256, (20, 9, 9), dtype=np.uint8)
    data = ArrayDataset(x, np.arange(20), transform=RandomCrop(5))
    one, three = (bits(DataLoader(data, 6, True, num_workers=n, workers="threads", seed=1)) for n in (0, 3))
    assert one == three


def test_the_default_dtype_holds_in_workers(w):
    modes.set_default_dtype("float64")
    try:
        (batch,) = DataLoader(w.DefaultDtype(), 2, num_workers=1)
    finally:
        modes.set_default_dtype("float32")
    assert batch.dtype == np.float64


# -- who reads -------------------------------------------------------------------------------------


def test_workers_are_other_processes_that_can_be_kept(w):
    loader = DataLoader(w.WhoReads(), 1, num_workers=2, worker_init_fn=w.initialize, persistent_workers=True)
    first, second = ([(int(pid), int(number)) for (pid,), (number,) in loader] for _ in range(2))
    assert {number for _, number in first} == {0, 1}
    assert len({pid for pid, _ in first}) == 2
    assert os.getpid() not in {pid for pid, _ in first}
    assert set(first) == set(second)
    assert children() >= {pid for pid, _ in first}
    clones = copy.deepcopy(loader), pickle.loads(pickle.dumps(loader))
    assert all(clone.state_dict() == loader.state_dict() for clone in clones)
    run = iter(loader)
    next(run)
    run.close()  # in the middle of an epoch
    third = [int(pid) for (pid,), _ in loader]
    assert len(set(third)) == 2


def test_processes_end_with_their_epoch(w):
    before = children()
    loader = DataLoader(w.WhoReads(), 2, num_workers=1)
    run = iter(loader)
    next(run)
    assert len(children() - before) == 1
    list(run)
    assert children() == before


def test_threads_are_initialized_once_each():
    seen = []
    loader = DataLoader(list(range(40)), num_workers=2, workers="threads", worker_init_fn=seen.append)
    assert [int(x[0]) for x in loader] == list(range(40))
    assert sorted(seen) == [0, 1] or seen in ([0], [1])


def test_arrays_in_memory_are_read_on_the_spot():
    before = children()
    for _ in DataLoader(ArrayDataset(np.arange(6)), 2, num_workers=2):
        assert children() == before
        assert [t for t in threading.enumerate() if t.name.startswith("fw-")] == []


def test_functions_of_the_process_are_used(w):
    (found,) = DataLoader([1, 2, 3], 3, num_workers=1, collate_fn=w.doubled)
    assert found.tolist() == [2, 4, 6]


def test_results_come_in_order_and_at_most_so_many_ahead():
    delivered, ahead = 0, []

    class Watched(list):
        def __getitem__(self, index):
            ahead.append(index - delivered)
            time.sleep(0.0005 * (index % 3))
            return index

    for x in DataLoader(Watched(range(60)), num_workers=3, workers="threads", prefetch=2):
        assert int(x[0]) == delivered
        delivered += 1
    assert delivered == 60
    assert max(ahead) <= 3 * 2 + 1


# -- errors ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("workers", ["threads", "processes"])
def test_an_error_surfaces_in_place_with_sample_and_traceback(w, workers):
    loader = DataLoader(w.Failing(), 2, num_workers=2, workers=workers)
    seen = []
    with pytest.raises(KeyError, match="the seventh") as caught:
        for batch in loader:
            seen += batch.tolist()
    assert seen == [0, 1, 2, 3, 4, 5]
    assert loader.state_dict()["batch"] == 3
    assert caught.value.__notes__ == ["(while the DataLoader read sample 7 of Failing)"]
    text = "".join(traceback.format_exception(caught.value))
    assert "in fail" in text
    assert "worker_datasets.py" in text


def test_an_error_in_a_batch_says_which():
    class Bad:
        def __len__(self):
            return 9

        def __getitem__(self, index):
            raise AssertionError

        def __getitems__(self, indices):
            raise KeyError("broken")

    with pytest.raises(KeyError) as caught:
        list(DataLoader(Bad(), 4))
    assert caught.value.__notes__ == ["(while the DataLoader read 4 samples of Bad, the first of them 0)"]


@pytest.mark.slow
def test_an_error_that_cannot_travel(w):
    with pytest.raises(errors.DataError, match="OddError: cannot be made") as caught:
        list(DataLoader(w.OddlyFailing(), 2, num_workers=1))
    assert "in fail" in str(caught.value.__cause__)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("Dying", "worker process 0 was killed by SIGKILL"),
        pytest.param("Leaving", "ended with exit code 3", marks=pytest.mark.slow),
    ],
)
def test_a_worker_that_dies_is_an_error(w, kind, text):
    seen = []
    with pytest.raises(errors.WorkerError, match=text):
        for batch in DataLoader(getattr(w, kind)(), 2, num_workers=1):
            seen += batch.tolist()
    assert seen == [0, 1, 2, 3, 4, 5]


@pytest.mark.slow
def test_a_worker_killed_from_outside_is_an_error_and_can_start_again(w):
    loader = DataLoader(w.WhoReads(), 1, num_workers=1, persistent_workers=True)
    run = iter(loader)
    (pid,), _ = next(run)
    os.kill(int(pid), signal.SIGKILL)
    with pytest.raises(errors.WorkerError, match="SIGKILL"):
        list(run)
    assert len(list(loader)) == 8


@pytest.mark.slow
def test_a_dataset_that_workers_cannot_load(w):
    with pytest.raises(ImportError, match="not on this side"):
        list(DataLoader(w.WithUnloadable(), 2, num_workers=1))


def test_what_cannot_be_pickled_is_refused():
    class Local(list):
        pass

    for arguments in ({"dataset": Local([1])}, {"dataset": [1], "collate_fn": lambda samples: samples}):
        with pytest.raises(errors.ConfigError, match="top level of a module.*workers='threads'"):
            iter(DataLoader(num_workers=1, **arguments))


def test_leaving_a_hanging_worker(w):
    before = children()
    run = iter(DataLoader(w.Hanging(), 7, num_workers=1))
    next(run)
    assert len(children() - before) == 1
    run.close()
    assert children() == before


def test_a_worker_is_asked_before_it_is_ended_or_after_but_not_meanwhile(w):
    """Else the words that end it could come in the middle of a task."""

    class Watched(remote._Worker):
        @property
        def busy(self):
            alone.append(self._changing.locked())
            return self._busy

        @busy.setter
        def busy(self, value):
            if value:
                alone.append(self._changing.locked())
            self._busy = value

    alone: list[bool] = []
    worker = Watched(0, remote._packed(w.doubled, None), None)
    assert worker([1, 2, 3]).tolist() == [2, 4, 6]
    worker.leave(for_good=True)()
    assert alone == [True, True]


@pytest.mark.slow
def test_many_epochs_left_early(w):
    before = children()
    for n in range(12):
        run = iter(DataLoader(w.Augmented(), 2, num_workers=3, seed=0))
        for _ in range(n % 4):
            next(run)
        del run
    assert children() == before


# -- scripts ---------------------------------------------------------------------------------------

SCRIPT = """
import sys
import numpy as np
from framework.data import DataLoader, Dataset

class Squares(Dataset):
    def __len__(self):
        return 6
    def __getitem__(self, index):
        return Square(index)

class Square(int):
    pass

def keep(samples):
    return [type(s)(s * s) for s in samples]

print("top level", flush=True)
GUARD:
    for batch in DataLoader(Squares(), 3, num_workers=2, collate_fn=keep):
        assert type(batch[0]) is Square
        print(batch, flush=True)
"""


def run_script(tmp_path, text, *args):
    script = tmp_path / "script.py"
    script.write_text(text)
    return subprocess.run(
        [sys.executable, "-W", "error", *(args or [str(script)])],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=240,
    )


@pytest.mark.parametrize("args", [(), pytest.param(("-m", "script"), marks=pytest.mark.slow)], ids=["file", "module"])
def test_a_script_with_a_guard_works(tmp_path, args):
    done = run_script(tmp_path, SCRIPT.replace("GUARD", 'if __name__ == "__main__"'), *args)
    assert done.stderr == ""
    printed = done.stdout.replace("top level", "")  # from three processes, with line ends where they fall
    assert [line for line in printed.splitlines() if line] == ["[0, 1, 4]", "[9, 16, 25]"]


def test_a_script_without_a_guard_is_told(tmp_path):
    done = run_script(tmp_path, SCRIPT.replace("GUARD", "if True"))
    assert done.returncode == 1
    assert 'below `if __name__ == "__main__":`' in done.stderr
    assert done.stdout == "top level\n"


@pytest.mark.slow
def test_a_script_without_a_guard_whose_dataset_is_elsewhere_works(tmp_path):
    done = run_script(
        tmp_path,
        "import framework as fw\nprint('once')\n"
        "print([b.tolist() for b in fw.data.DataLoader([1, 2, 3], 2, num_workers=2)])\n",
    )
    assert (done.stdout, done.stderr) == ("once\n[[1, 2], [3]]\n", "")


def test_an_interactive_session_is_told(tmp_path):
    done = run_script(tmp_path, "", "-c", SCRIPT.replace("GUARD", "if True"))
    assert "interactive session" in done.stderr
    assert "workers='threads'" in done.stderr


ENDLESS = """
import os, sys, time
from framework.data import DataLoader, Dataset

class Slow(Dataset):
    def __len__(self):
        return 1000
    def __getitem__(self, index):
        if index:
            time.sleep(1000)
        return os.getpid()

if __name__ == "__main__":
    try:
        for (pid,) in DataLoader(Slow(), 1, num_workers=2):
            print(pid, flush=True)
    except KeyboardInterrupt:
        print("interrupted", flush=True)
"""


def test_a_worker_whose_parent_dies_while_it_starts_says_nothing():
    paths = json.dumps(sys.path).encode() + b"\n"
    begun = []
    for told in (b"", paths[:9], paths, paths + b"\2\0\0"):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            command = [sys.executable, "-P", "-c", remote._BOOT, str(theirs.fileno())]
            begun.append(subprocess.Popen(command, pass_fds=[theirs.fileno()], stderr=subprocess.PIPE))
            ours.sendall(told)
    assert [(process.communicate()[1], process.returncode) for process in begun] == [(b"", 1)] * 4


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except OSError:
        return False
    return state != "Z"


@pytest.mark.parametrize("sent", [signal.SIGINT, signal.SIGKILL])
def test_no_worker_outlives_the_parent(tmp_path, sent):
    script = tmp_path / "script.py"
    script.write_text(ENDLESS)
    parent = subprocess.Popen(
        [sys.executable, "-W", "error", str(script)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    first = int(parent.stdout.readline())
    listed = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    workers = {first} | {
        int(pid) for task in listed.parent.parent.iterdir() for pid in (task / "children").read_text().split()
    }
    assert is_running(first)
    parent.send_signal(sent)
    out, err = parent.communicate(timeout=120)
    assert out == ("interrupted\n" if sent == signal.SIGINT else "")
    assert err == ""
    assert wait_until(lambda: not any(map(is_running, workers)))
