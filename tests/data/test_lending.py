"""Batches whose arrays are used again, and those that nobody may see change."""

from __future__ import annotations

import numpy as np
import pytest

from framework.data import ArrayDataset, DataLoader, Subset
from framework.data.lending import Lender
from framework.data.transforms import Compose, Normalize
from framework.errors import DataError

SAMPLES = 70
IMAGES = np.random.default_rng(0).integers(0, 256, (SAMPLES, 3, 4, 5), dtype=np.uint8)
LABELS = np.arange(SAMPLES)

DATASETS = {
    "as they are": ArrayDataset(IMAGES, LABELS),
    "one array": ArrayDataset(LABELS),
    "normalized": ArrayDataset(IMAGES, LABELS, transform=Normalize(0.4, 0.2)),
    "by channel": ArrayDataset(IMAGES, LABELS, transform=Normalize([0.1, 0.2, 0.3], [1.0, 2.0, 3.0])),
    "float64": ArrayDataset(IMAGES.astype(np.float64), LABELS, transform=Normalize(0.4, 0.2)),
    "two transforms": ArrayDataset(IMAGES, LABELS, transform=Compose([Normalize(0.4, 0.2), Normalize(0.1, 3.0)])),
    "any transform": ArrayDataset(IMAGES, LABELS, transform=lambda x: x),
    "not contiguous": ArrayDataset(IMAGES[:, :, ::2], LABELS, transform=Normalize(0.4, 0.2)),
    "subset": Subset(ArrayDataset(IMAGES, LABELS, transform=Normalize(0.4, 0.2)), np.arange(50, 3, -1)),
    "list": [(float(i), i) for i in range(SAMPLES)],
}
OPTIONS = ({}, {"shuffle": True}, {"shuffle": True, "drop_last": True}, {"sampler": [5, 5, 0, 3, 46, 3]})


def arrays_of(batch):
    return batch if isinstance(batch, tuple) else (batch,)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", DATASETS)
def test_the_values_are_those_of_fresh_arrays(name, options):
    fresh, lent = (DataLoader(DATASETS[name], batch_size=16, seed=1, **options) for _ in range(2))
    for _ in range(2):
        expected = list(fresh)
        count = 0
        for batch, other in zip(lent.lend_batches(), expected):
            assert type(batch) is type(other)
            for a, b in zip(arrays_of(batch), arrays_of(other), strict=True):
                assert a.dtype == b.dtype
                np.testing.assert_array_equal(a, b)
            count += 1
            del a, b, batch
        assert count == len(expected)
        assert lent.state_dict() == fresh.state_dict()


HOLDS = {
    "the batch": lambda batch: batch,
    "an array": lambda batch: batch[0],
    "a view": lambda batch: batch[0][1:],
    "a view of a view": lambda batch: batch[0].reshape(len(batch[0]), -1)[:, 2:].T,
    "one row": lambda batch: batch[0][-1],
    "labels": lambda batch: batch[1][::2],
    "a buffer": lambda batch: memoryview(batch[0]),
    "a buffer's array": lambda batch: np.asarray(memoryview(batch[0].reshape(-1))),
    "DLPack": lambda batch: np.from_dlpack(batch[0]),
}


@pytest.mark.parametrize("keeps", ["all", "every third", "the last two"])
@pytest.mark.parametrize("holds", HOLDS)
@pytest.mark.parametrize("shuffle", [False, True])
def test_what_is_kept_never_changes(holds, keeps, shuffle):
    hold = HOLDS[holds]
    loader = DataLoader(DATASETS["normalized"], batch_size=4, shuffle=shuffle, seed=1)
    kept = []
    for k, batch in enumerate(loader.lend_batches()):
        if keeps != "every third" or k % 3 == 0:
            held = hold(batch)
            kept.append((held, [np.array(a) for a in arrays_of(held)]))
            del held
        if keeps == "the last two":
            kept = kept[-2:]
        for held, copy in kept:
            for a, b in zip(arrays_of(held), copy):
                np.testing.assert_array_equal(np.asarray(a), b)
            del held, a
        del batch


def places(loader_iterator, keep=0):
    """Where the first arrays of the batches lie, of a consumer that holds so many batches."""
    found, held = [], []
    for batch in loader_iterator:
        found.append(batch[0].ctypes.data)
        held = [*held, batch][-keep:] if keep else []
        del batch
    return found


@pytest.mark.parametrize("name", ["as they are", "normalized", "by channel", "subset"])
def test_arrays_that_nobody_holds_are_used_again(name):
    loader = DataLoader(DATASETS[name], batch_size=4, shuffle=True, drop_last=True)
    found = places(loader.lend_batches())
    assert len(found) > 10
    assert len(set(found)) == 1
    assert found[0] % 64 == 0
    assert len(set(places(loader.lend_batches(), keep=1))) == 2


def test_iterated_over_all_arrays_are_fresh():
    batches = list(DataLoader(DATASETS["normalized"], batch_size=4, shuffle=True))
    arrays = [a for batch in batches for a in batch]
    assert not any(np.shares_memory(a, b) for i, a in enumerate(arrays) for b in arrays[:i])


def test_lent_arrays_are_apart_from_each_other_and_from_the_dataset():
    x = np.arange(24, dtype=np.float32).reshape(12, 2)
    for batch in DataLoader(ArrayDataset(x, x), batch_size=5).lend_batches():
        assert not np.shares_memory(batch[0], batch[1])
        for a in batch:
            a += 1000  # a consumer's own to write to
    np.testing.assert_array_equal(x, np.arange(24, dtype=np.float32).reshape(12, 2))


def test_a_pass_goes_on_where_the_state_says():
    whole = [y.tolist() for _, y in DataLoader(DATASETS["normalized"], batch_size=8, shuffle=True, seed=3)]
    first = DataLoader(DATASETS["normalized"], batch_size=8, shuffle=True, seed=3)
    lent = first.lend_batches()
    begun = [next(lent)[1].tolist() for _ in range(3)]
    second = DataLoader(DATASETS["normalized"], batch_size=8, shuffle=True)
    second.load_state_dict(first.state_dict())
    assert begun + [y.tolist() for _, y in second.lend_batches()] == whole


def test_indices_that_no_longer_fit_are_refused():
    data = ArrayDataset(IMAGES, LABELS)
    loader = DataLoader(Subset(data, [0, 69]), batch_size=2)
    data.arrays = (IMAGES[:60], LABELS[:60])
    with pytest.raises(DataError, match=r"0 … 59"):
        next(loader.lend_batches())


def test_an_array_of_another_length_is_another_array():
    lend = Lender((3,), np.dtype(np.float32))
    full = lend(8).ctypes.data
    assert lend(5).shape == (5, 3)
    assert lend(8).ctypes.data == full
    assert lend(0).shape == (0, 3)
