"""Datasets on the device of a backend that has no way of its own to gather batches."""

from __future__ import annotations

import numpy as np
import pytest

from framework.backend import registry
from framework.data import ArrayDataset, DataLoader, Subset
from framework.data.resident import Resident, resident
from framework.data.transforms import Compose, Normalize
from framework.errors import DataError

IMAGES = np.random.default_rng(0).integers(0, 256, (45, 3, 4, 5), dtype=np.uint8)
LABELS = np.arange(45)

DATASETS = {
    "as they are": ArrayDataset(IMAGES, LABELS),
    "one array": ArrayDataset(LABELS),
    "several": ArrayDataset(LABELS, IMAGES, IMAGES[:, 0, 0].astype(np.float32), LABELS > 3),
    "normalized": ArrayDataset(IMAGES, LABELS, transform=Normalize(0.4, 0.2)),
    "by channel": ArrayDataset(IMAGES, LABELS, transform=Normalize([0.1, 0.2, 0.3], [1.0, 2.0, 3.0])),
    "subset": Subset(
        Subset(ArrayDataset(IMAGES, LABELS, transform=Normalize(0.4, 0.2)), range(1, 45)), range(40, 3, -1)
    ),
}
OPTIONS = (
    {"batch_size": 16},
    {"batch_size": 16, "shuffle": True},
    {"batch_size": 9, "shuffle": True, "drop_last": True},
    {"batch_size": 4, "sampler": [5, 5, 0, 3, 34, 3]},
    {"batch_sampler": [[1, 2, 3], [4], [], [0, 7, 7, 7]]},
)


def assert_equal(batch, expected) -> None:
    for tensor, array in zip(batch, expected, strict=True):
        assert str(tensor.dtype) == str(array.dtype)
        np.testing.assert_array_equal(tensor.numpy(), array)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", DATASETS)
def test_batches_are_those_of_the_loader(name, options):
    backend = registry.get("cpu")
    loader, other = (DataLoader(DATASETS[name], seed=3, **options) for _ in range(2))
    on_device = Resident(other, backend, "cpu")
    kept = []
    for _ in range(2):
        for batch, expected in zip(on_device.batches(), loader, strict=True):
            assert_equal(batch, expected)
            kept.append((batch, expected))
            assert other.state_dict() == loader.state_dict()
    for batch, expected in kept:
        assert_equal(batch, expected)
    state = {"seed": 5, "epoch": 1, "batch": len(loader) - 1}
    for each in (loader, other):
        each.load_state_dict(state)
    for batch, expected in zip(on_device.batches(), loader, strict=True):
        assert_equal(batch, expected)


def test_indices_are_checked():
    loader = DataLoader(DATASETS["normalized"], sampler=[0, 45])
    with pytest.raises(DataError, match="sampler: indices must lie in 0 … 44.*got 45 at position 1"):
        next(Resident(loader, registry.get("cpu"), "cpu").batches())


def test_what_is_kept_on_a_device(monkeypatch):
    backend = registry.get("cpu")
    data = DATASETS["normalized"]
    assert resident(DataLoader(data), backend, "cpu") is None  # which has no room
    monkeypatch.setattr(backend, "room", lambda: sum(a.nbytes for a in data.arrays))
    assert isinstance(resident(DataLoader(data), backend, "cpu"), Resident)
    several = ArrayDataset(IMAGES, transform=Compose([Normalize(0.1, 0.2)]))
    for other in (DataLoader(data, collate_fn=list), DataLoader(several), DataLoader([1, 2]), [1, 2]):
        assert resident(other, backend, "cpu") is None
    monkeypatch.setattr(backend, "room", lambda: 9)
    assert resident(DataLoader(data), backend, "cpu") is None
