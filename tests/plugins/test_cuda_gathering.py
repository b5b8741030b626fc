"""Batches of datasets on the device, on the stand-in for CuPy: what is in them, where they lie, and who may hold them."""

from __future__ import annotations

import weakref
from typing import Any

import cuda_stand_in
import numpy as np
import pytest
from cuda_stand_in_blas import Blas
from fw_cuda import graphs
from fw_cuda.gathering import MOST_BUFFERS, gatherer

import framework as fw
import framework.nn.functional as F
from framework.autodiff.namespace import namespace_of
from framework.backend import registry
from framework.callbacks import Callback
from framework.data import ArrayDataset, DataLoader, Subset
from framework.data.resident import Resident
from framework.data.transforms import Normalize
from framework.errors import BackendError, DataError

SAMPLES = 45
RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (SAMPLES, 3, 4, 5), dtype=np.uint8)
LABELS = np.arange(SAMPLES)
FLOATS = RNG.standard_normal((SAMPLES, 7)).astype(np.float32)
DTYPES = ("bool", "int8", "uint16", "float16", "float32", "int64", "complex64", "complex128")

DATASETS = {
    "normalized": ArrayDataset(IMAGES, LABELS, transform=Normalize(0.4, 0.2)),
    "by channel": ArrayDataset(IMAGES, LABELS, transform=Normalize([0.1, 0.2, 0.3], [1.0, 2.0, 3.0])),
    "a mean by channel": ArrayDataset(IMAGES, LABELS, transform=Normalize([0.1, 0.2, 0.3], 2.0)),
    "one column": ArrayDataset(IMAGES[:, 0, 0, 0], LABELS, transform=Normalize([0.1], [2.0])),
    "normalized floats": ArrayDataset(FLOATS, LABELS, transform=Normalize(0.4, 0.2)),
    "normalized doubles": ArrayDataset(FLOATS.astype(np.float64), transform=Normalize(0.4, 0.2)),
    "normalized halves": ArrayDataset(FLOATS.astype(np.float16), LABELS, transform=Normalize(0.4, 0.2)),
    "as they are": ArrayDataset(FLOATS, LABELS),
    "one array": ArrayDataset(LABELS),
    "several": ArrayDataset(IMAGES, *[FLOATS.astype(d) for d in DTYPES], LABELS.astype("uint8"), LABELS),
    "of nothing": ArrayDataset(IMAGES, np.zeros((SAMPLES, 0)), LABELS, np.zeros((SAMPLES, 2, 0), "int32")),
    "not contiguous": ArrayDataset(np.asfortranarray(IMAGES), FLOATS[:, ::2], transform=Normalize(0.4, 0.2)),
    "subset": Subset(ArrayDataset(IMAGES, LABELS, transform=Normalize(0.4, 0.2)), np.arange(40, 3, -1)),
    "subset of a subset": Subset(Subset(ArrayDataset(FLOATS, LABELS), range(1, 40)), range(36, 0, -1)),
}
OPTIONS = (
    {"batch_size": 16},
    {"batch_size": 16, "shuffle": True},
    {"batch_size": 9, "shuffle": True, "drop_last": True},
    {"batch_size": -1},
    {"batch_size": 4, "sampler": [5, 5, 0, 3, 34, 3]},
    {"batch_sampler": [[1, 2, 3], [4], [], [0, 7, 7, 7, 9], [5], list(range(30))]},
)
COMPOSED = ("normalized halves",)


@pytest.fixture(scope="module")
def backend(host_kernels) -> Any:
    return cuda_stand_in.backend_class(cuda_stand_in.StandIn(host_kernels), Blas(), "cuda", has_halves=True)()


@pytest.fixture
def cupy(backend) -> Any:
    return backend.cupy


def make(backend: Any, name: str = "normalized", **options: Any) -> tuple[DataLoader, Resident]:
    """A loader, and the dataset of one like it on the device."""
    options = {"batch_size": 8, "seed": 1, **options}
    if "batch_sampler" in options:
        del options["batch_size"]
    other = DataLoader(DATASETS[name], **options)
    resident = Resident(other, backend, "cuda")
    assert (resident._gatherer is None) is (name in COMPOSED)
    return DataLoader(DATASETS[name], **options), resident


def assert_equal(batch: Any, expected: Any) -> None:
    """The very values of the host's loader."""
    for tensor, array in zip(batch, expected, strict=True):
        assert str(tensor.dtype) == str(array.dtype)
        np.testing.assert_array_equal(tensor.numpy(), array)


def addresses(batch: Any) -> tuple[int, ...]:
    return tuple(tensor._data.data.ptr for tensor in batch)


# -- what is in a batch ----------------------------------------------------------------------------------


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", DATASETS)
def test_batches_are_those_of_the_host(backend, name: str, options: dict[str, Any]) -> None:
    loader, resident = make(backend, name, **options)
    for _ in range(2):
        before = backend._own.launches
        expected = list(loader)
        for batch, host in zip(resident.batches(), expected, strict=True):
            assert_equal(batch, host)
        assert resident._loader.state_dict() == loader.state_dict()
        if name not in COMPOSED:
            assert backend._own.launches - before == sum(bool(len(batch[0])) for batch in expected)


@pytest.mark.parametrize("batch", [1, 4, 6])
def test_an_epoch_is_resumed_anywhere(backend, batch: int) -> None:
    loader, resident = make(backend, "subset", shuffle=True)
    state = {"seed": 7, "epoch": 3, "batch": batch % len(loader)}
    loader.load_state_dict(state)
    resident._loader.load_state_dict(state)
    for _ in range(2):
        for found, expected in zip(resident.batches(), loader, strict=True):
            assert_equal(found, expected)
            assert resident._loader.state_dict() == loader.state_dict()


def test_the_order_travels_once_an_epoch(backend, cupy, monkeypatch) -> None:
    _, resident = make(backend, shuffle=True)
    list(resident.batches())
    sent = []
    real = cupy.asarray
    monkeypatch.setattr(cupy, "asarray", lambda x, *args, **kwargs: sent.append(x) or real(x, *args, **kwargs))
    for batch in resident.batches():
        del batch
    assert [x.shape for x in sent] == [(SAMPLES,)]


def test_indices_are_checked_before_they_are_used(backend) -> None:
    _, resident = make(backend, sampler=[0, SAMPLES])
    with pytest.raises(DataError, match=f"sampler: indices must lie in 0 … {SAMPLES - 1}.*got {SAMPLES} at position 1"):
        next(resident.batches())
    _, resident = make(backend)
    resident._loader.dataset = ArrayDataset(np.zeros(SAMPLES + 9))  # longer than what is on the device
    with pytest.raises(DataError, match=f"DataLoader: indices must lie in 0 … {SAMPLES - 1}"):
        next(resident.batches())


def test_what_one_kernel_does_not_gather(backend, cupy) -> None:
    def found(array: np.ndarray, *affine: Any) -> Any:
        return gatherer(cupy, backend._own, [cupy.array(array)], tuple(map(cupy.array, affine)) or None)

    one, three = np.ones((), "float32"), np.ones(3, "float32")
    assert found(IMAGES) is not None
    assert found(np.asfortranarray(IMAGES)) is None
    assert found(IMAGES, one, three) is not None
    assert found(IMAGES[:, :2], one, three) is None  # of two channels
    assert found(LABELS, one, three) is None
    assert found(FLOATS.astype("float16"), one, one) is None
    assert found(IMAGES, one, np.ones(())) is None
    assert found(IMAGES, np.ones((), "int32"), np.ones((), "int32")) is None


# -- where it lies ---------------------------------------------------------------------------------------


def test_batches_lie_at_the_same_addresses(backend) -> None:
    _, resident = make(backend, "several", shuffle=True)
    found = set()
    for _ in range(3):
        for batch in resident.batches():
            found.add(addresses(batch))
            del batch
    (places,) = found
    assert all(place % 512 == places[0] % 512 for place in places)


HOLDS = {
    "the batch": lambda batch: batch,
    "an array": lambda batch: (batch[0],),
    "a view": lambda batch: (batch[0][1:],),
    "a view of a view": lambda batch: (batch[0].reshape(len(batch[0]), -1)[:, 2:].T,),
    "labels": lambda batch: (batch[1][::2],),
    "an export": lambda batch: (fw.tensor(np.from_dlpack(batch[0]._data), backend="cpu"),),
}


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("hold", HOLDS.values(), ids=list(HOLDS))
def test_what_is_held_never_changes(backend, hold: Any, every: int) -> None:
    loader, resident = make(backend, "normalized", shuffle=True)
    kept = []
    for _ in range(2):
        for number, (batch, host) in enumerate(zip(resident.batches(), loader, strict=True)):
            assert_equal(batch, host)
            if number % every == 0:
                kept.append((hold(batch), [t.numpy().copy() for t in hold(batch)]))
            del batch
    assert len(kept) > MOST_BUFFERS
    for tensors, values in kept:
        for tensor, value in zip(tensors, values):
            np.testing.assert_array_equal(tensor.numpy(), value)


def test_a_batch_that_is_held_moves_the_others_once(backend) -> None:
    _, resident = make(backend, batch_size=3)
    places, held = [], []
    for batch in resident.batches():  # no `enumerate`, which holds a batch while it asks for the next
        places.append(addresses(batch))
        if len(places) in (3, 8):
            held = [batch[1]]
        if len(places) in (5, 10):
            held.clear()
        del batch
    first, second = places[0], places[3]
    assert first != second
    assert places == [first] * 3 + [second] * 5 + [first] * 7  # they do not move back when they could


def test_a_consumer_that_holds_one_batch_at_a_time_has_two_places(backend) -> None:
    _, resident = make(backend, batch_size=5)
    before, places = None, []
    for batch in resident.batches():
        places.append(addresses(batch))
        before = batch
    assert before is not None
    assert len(set(places)) == 2


def test_a_consumer_that_collects_has_arrays_of_its_own(backend) -> None:
    loader, resident = make(backend, batch_size=5)
    batches = list(resident.batches())
    assert len(batches) == 9
    assert len(resident._gatherer._buffers._buffers) == MOST_BUFFERS
    for batch, host in zip(batches, loader, strict=True):
        assert_equal(batch, host)
    for tensor in (t for batch in batches[MOST_BUFFERS:] for t in batch):
        assert tensor._data.data.mem.nbytes == tensor._data.nbytes  # labels that are kept do not keep the images
    del batches, batch
    assert len({addresses(batch) for batch in resident.batches()}) <= 2


def test_two_passes_at_once(backend) -> None:
    loader, resident = make(backend, shuffle=True)
    epochs = [list(loader), list(loader)]
    for one, other, first, second in zip(resident.batches(), resident.batches(), *epochs, strict=True):
        assert_equal(one, first)
        assert_equal(other, second)


@pytest.mark.parametrize("what", ["stream", "device"])
def test_another_stream_or_device(backend, cupy, monkeypatch, what: str) -> None:
    loader, resident = make(backend, batch_size=5)
    done: list[str] = []
    current = {"device": 0}

    class Device(cuda_stand_in._Device):
        def __init__(self, index: int | None = None) -> None:
            self.index = index

        def synchronize(self) -> None:
            done.append("wait")

        def use(self) -> None:
            done.append(f"use {self.index}")
            current["device"] = self.index

    monkeypatch.setattr(cupy.cuda, "Device", Device)
    monkeypatch.setattr(cupy.cuda.runtime, "getDevice", lambda: current["device"])
    used = []
    for number, (batch, host) in enumerate(zip(resident.batches(), loader, strict=True)):
        assert_equal(batch, host)
        used.append(resident._gatherer._buffers)
        if number == 3 and what == "device":
            current["device"] = 1
        elif number == 3:
            monkeypatch.setattr(cupy, "stream", cuda_stand_in.Stream(cupy))
        del batch
    if what == "device":  # back to that of the arrays, where nothing has changed
        assert done == ["wait", "use 0"]
        assert used == used[:1] * 9
    else:
        assert done == ["wait", "wait"]
        assert used == used[:1] * 4 + used[4:5] * 5
        assert used[3] is not used[4]


def test_arrays_outlive_the_dataset(backend) -> None:
    loader, resident = make(backend)
    run = resident.batches()
    batch = next(run)
    arrays = [weakref.ref(array) for array in resident._arrays]
    del resident, run
    assert [array() for array in arrays] == [None, None]  # at once, without a collector
    assert_equal(batch, next(iter(loader)))


# -- in a Trainer ----------------------------------------------------------------------------------------


class Net(fw.TrainModule):
    def __init__(self):
        super().__init__()
        self.net = fw.nn.Sequential(fw.nn.Linear(8, 6), fw.nn.ReLU(), fw.nn.Linear(6, 3))

    def training_step(self, batch, batch_idx):
        x, y = batch
        loss = F.cross_entropy(self.net(x), y)
        self.log("loss", loss)
        return loss

    def configure_optimizers(self):
        return fw.optim.SGD(self.parameters(), lr=0.1, momentum=0.9)


class Watch(Callback):
    def __init__(self):
        self.places, self.losses = [], []

    def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.places.append(addresses(batch))

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.losses.append(outputs["loss"].item())


@pytest.mark.parametrize("compiled", [True, False])
def test_a_trainer_lets_go_of_each_batch_and_graphs_read_it_in_place(
    backend, monkeypatch, tmp_path, compiled: bool
) -> None:
    monkeypatch.setitem(registry._instances, "cuda", backend)
    recorded: list[Any] = []
    real = graphs.Recorded.__init__
    monkeypatch.setattr(graphs.Recorded, "__init__", lambda self, *args: recorded.append(self) or real(self, *args))
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (92, 8)).astype(np.uint8), rng.integers(0, 3, 92)
    found = []
    for gathers in (True, False):
        if not gathers:
            assert not compiled or recorded
            assert all(graph._buffers == {} for graph in recorded)
            monkeypatch.setattr(backend, "gatherer", lambda arrays, affine: None)
        fw.seed_everything(1)
        module, watch = Net(), Watch()
        trainer = fw.Trainer(
            backend="cuda", max_epochs=3, compile=compiled, logger=False, enable_progress_bar=False, callbacks=[watch],
            enable_model_summary=False, enable_checkpointing=False, default_root_dir=tmp_path,
        )  # fmt: skip
        data = ArrayDataset(x, y, transform=Normalize(0.1, 0.3))
        trainer.fit(module, DataLoader(data, 8, shuffle=True))
        assert trainer._fit.train.resident is not None
        if gathers:
            assert len(watch.places) == 36
            assert len(set(watch.places)) == 1
        found.append((watch.losses, [p.detach().numpy() for p in module.parameters()]))
    assert found[0][0] == found[1][0]
    for a, b in zip(found[0][1], found[1][1], strict=True):
        np.testing.assert_array_equal(a, b)
    assert namespace_of(backend).recorder is None


# -- on a GPU --------------------------------------------------------------------------------------------


@pytest.mark.cuda
def test_on_a_gpu_batches_are_those_of_the_host() -> None:
    try:
        backend = registry.get("cuda")
    except BackendError as error:
        pytest.skip(str(error))
    for name in DATASETS:
        for options in OPTIONS:
            loader, resident = make(backend, name, **options)
            found, expected = set(), iter(loader)
            for batch in resident.batches():
                assert_equal(batch, next(expected))
                found.add(addresses(batch))
                del batch
            assert len(found) == 1 or "batch_sampler" in options or name in (*COMPOSED, "of nothing")
        loader, resident = make(backend, name, shuffle=True)
        for batch, host in zip(list(resident.batches()), loader, strict=True):
            assert_equal(batch, host)
