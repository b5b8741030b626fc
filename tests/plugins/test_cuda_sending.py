"""Batches that travel while the device computes: on a model of streams, and in a Trainer on the stand-in for CuPy."""

from __future__ import annotations

import gc
import weakref

import cuda_stand_in
import cuda_streams
import numpy as np
import pytest
from fw_cuda.sending import MOST_BUFFERS, Sender

import framework as fw
import framework.nn.functional as F
from framework.backend import registry
from framework.errors import BackendError


def batch(number: int, rows: int = 64) -> tuple[np.ndarray, np.ndarray]:
    return np.full((rows, 7), number, "float32"), np.full(rows, number, "int64")


def steps(device: cuda_streams.Device, sender: Sender, n: int, keep: int = 0) -> tuple[list, list]:
    """Send n batches, each read twice by what is queued, as a training step is; the host waits for none of it."""
    read, kept, arrays = [], [], None

    def queue(number: int, arrays: tuple) -> None:
        places = [a.ctypes.data for a in arrays]  # a kernel has addresses; nobody holds the arrays for it
        shapes = [(a.nbytes, a.dtype) for a in arrays]

        def kernel() -> None:
            for place, (size, dtype) in zip(places, shapes):
                content = np.frombuffer((cuda_streams.ctypes.c_ubyte * size).from_address(place), dtype)
                read.append((number, set(content.tolist())))

        device.computes.submit(kernel)
        device.computes.submit(kernel)

    for number in range(n):
        host = batch(number)
        arrays = tuple(sender(a) for a in host)
        for a in host:
            a.fill(-1)  # the loader uses its arrays again at once
        queue(number, arrays)
        if number < keep:
            kept.append((number, arrays[0][3:]))
        del arrays
    return read, kept


@pytest.mark.parametrize("eager", [True, False], ids=["copies early", "copies late"])
@pytest.mark.parametrize("keep", [0, 2, 12])
def test_no_step_sees_another_batch(eager: bool, keep: int) -> None:
    device = cuda_streams.Device(eager)
    sender = Sender(device, None)
    read, kept = steps(device, sender, 20, keep)
    device.computes.run()
    assert len(read) == 80
    assert all(values == {number} for number, values in read)
    assert all(set(view.ravel().tolist()) == {number} for number, view in kept)


def test_the_copy_of_a_batch_runs_while_the_step_before_is_computed() -> None:
    device = cuda_streams.Device(eager=False)
    sender = Sender(device, None)
    done: list[int] = []
    ahead = []
    for number in range(6):
        array = sender(batch(number)[0])
        device.compute(lambda: len(done) < number - 1)  # all but the step that was queued last
        ahead.append(sender._buffers[0, 2048][-1].copied.done)
        device.computes.submit(lambda number=number: done.append(number))
        del array
    assert done == [0, 1, 2, 3]
    assert ahead == [True, False, True, True, True, True]  # the second one has a new buffer, like the first
    assert device.waits == 0
    assert len(sender._buffers[0, 2048]) == 2


def test_buffers_are_used_again_and_bounded() -> None:
    device = cuda_streams.Device(eager=False)
    sender = Sender(device, None)
    steps(device, sender, 100)  # nothing is computed meanwhile, but for what a buffer has to wait for
    assert {key: len(found) for key, found in sender._buffers.items()} == {(0, 2048): 8, (0, 512): 8}
    assert MOST_BUFFERS == 8
    assert device.waits > 0  # the host is held up, and does not run ahead without end
    assert sender.copies == 200


def test_a_consumer_that_collects_batches_gets_arrays_of_their_own() -> None:
    device = cuda_streams.Device(eager=True)
    sender = Sender(device, None)
    held = [sender(batch(number)[0]) for number in range(MOST_BUFFERS + 3)]
    device.computes.run()
    assert sender.copies == MOST_BUFFERS
    assert [set(a.ravel().tolist()) for a in held] == [{n} for n in range(len(held))]


def test_sizes_share_buffers_and_what_has_none_is_copied_otherwise() -> None:
    device = cuda_streams.Device(eager=True)
    sender = Sender(device, 0)
    for rows in (50, 60, 64, 73):
        assert sender(np.ones((rows, 7), "float32")).shape == (rows, 7)
    assert list(sender._buffers) == [(0, 2048)]
    before = sender.copies
    for other in (np.zeros((0, 3)), np.array(["a"]), np.zeros(3, ">f4")):
        np.testing.assert_array_equal(sender(other), other)
    assert sender.copies == before
    turned = np.arange(6.0).reshape(2, 3).T
    got = sender(turned)
    device.computes.run()
    np.testing.assert_array_equal(got, turned)
    scalar = sender(np.array(2.5))
    device.computes.run()
    assert scalar.shape == ()
    assert scalar == 2.5


def test_another_stream_waits_for_all() -> None:
    device = cuda_streams.Device(eager=True)
    sender = Sender(device, None)
    read = []
    array = sender(batch(1)[0])
    place = array.ctypes.data
    device.computes.submit(lambda: read.append(cuda_streams.ctypes.c_float.from_address(place).value))
    device.compute(lambda: False)
    del array
    device.current = cuda_streams.Stream(device)
    for number in range(2, 6):
        sender(batch(number)[0])
    device.computes.run()
    assert read == [1.0]


def test_an_array_outlives_its_sender() -> None:
    device = cuda_streams.Device(eager=False)
    sender = Sender(device, None)
    view = sender(batch(5)[0])[1:]
    memory = weakref.ref(sender._buffers[0, 2048][0]._memory)
    device.allocated.clear()
    del sender  # waits for the copy: page-locked memory is handed out again at once
    gc.collect()
    assert memory() is not None
    assert set(view.ravel().tolist()) == {5.0}
    del view
    gc.collect()
    assert memory() is None


# -- in a Trainer, on the stand-in ---------------------------------------------------------------------


class Net(fw.TrainModule):
    def __init__(self):
        super().__init__()
        self.net = fw.nn.Sequential(fw.nn.Linear(6, 8), fw.nn.ReLU(), fw.nn.Linear(8, 3))

    def training_step(self, batch, batch_idx):
        return F.cross_entropy(self.net(batch["x"]), batch["y"])

    validation_step = training_step

    def configure_optimizers(self):
        return fw.optim.SGD(self.parameters(), lr=0.1)


def test_a_trainer_sends_what_is_not_resident(host_kernels, monkeypatch, tmp_path) -> None:
    cupy = cuda_stand_in.StandIn(host_kernels)
    backend = cuda_stand_in.backend_class(cupy, None, "cuda")()
    monkeypatch.setitem(registry._instances, "cuda", backend)
    rng = np.random.default_rng(0)
    rows = [{"x": x, "y": int(y)} for x, y in zip(rng.standard_normal((50, 6)), rng.integers(0, 3, 50))]
    senders, weights = [], []
    for sends in (True, False):
        made = backend.sender(None)
        monkeypatch.setattr(backend, "sender", lambda device, made=made: made if sends else None)
        fw.seed_everything(1)
        module = Net()
        trainer = fw.Trainer(
            backend="cuda", max_epochs=2, compile=False, logger=False, enable_progress_bar=False,
            enable_model_summary=False, enable_checkpointing=False, default_root_dir=tmp_path,
        )  # fmt: skip
        loaders = [fw.data.DataLoader(rows, 16) for _ in range(2)]
        trainer.fit(module, loaders[0], loaders[1])
        senders.append(made)
        weights.append([p.detach().numpy() for p in module.parameters()])
        monkeypatch.undo()
        monkeypatch.setitem(registry._instances, "cuda", backend)
    assert senders[0].copies >= 2 * 2 * 2 * 4  # epochs, loaders, arrays, batches
    for a, b in zip(*weights):
        np.testing.assert_array_equal(a, b)


# -- on a GPU ------------------------------------------------------------------------------------------


@pytest.mark.cuda
def test_on_a_gpu_no_step_sees_another_batch() -> None:
    try:
        backend = registry.get("cuda")
    except BackendError as error:
        pytest.skip(str(error))
    cupy, send = backend.cupy, backend.sender(None)
    work = cupy.ones((2048, 2048), "float32")
    sums = []
    for number in range(200):
        array = send(np.full((512, 784), number, "float32"))
        work = cupy.matmul(work, work) * 0  # so that the device is behind
        sums.append((array + work[:512, :784]).sum())
        del array
    assert send.copies == 200
    assert [float(s) for s in sums] == [512 * 784 * n for n in range(200)]
