"""ConcatDataset, and random_split of what it did not know."""

from __future__ import annotations

import numpy as np
import pytest

from framework import errors
from framework.data import (
    ArrayDataset,
    BlockDataset,
    ConcatDataset,
    DataLoader,
    IterableDataset,
    Subset,
    random_split,
    sample_generator,
)
from framework.data.reading import uniform
from framework.random import Generator


def arrays(start: int, n: int, transform=None) -> ArrayDataset:
    x = np.arange(start, start + n)
    return ArrayDataset(np.repeat(x[:, None], 2, 1).astype(np.float32), x, transform=transform)


def noisy(x):
    return x + uniform(len(x), 2)


def test_samples_follow_each_other():
    data = ConcatDataset([arrays(0, 3), [(np.zeros(2, np.float32), 3)], Subset(arrays(4, 9), [0, 1])])
    assert len(data) == 6
    assert data.cumulative_sizes == [3, 4, 6]
    assert [int(data[i][1]) for i in range(-6, 6)] == [*range(6), *range(6)]
    for wrong in (6, -7):
        with pytest.raises(IndexError):
            data[wrong]


@pytest.mark.parametrize("parts", ["arrays", "mixed"])
def test_batches_are_those_of_the_samples(parts):
    middle = arrays(4, 9) if parts == "arrays" else [(np.full(2, i, np.float32), np.int64(i)) for i in range(4, 13)]
    data = ConcatDataset([arrays(0, 4), middle, Subset(arrays(10, 9), [3, 4])])
    assert data.reads_batches == (parts == "arrays")
    seen = []
    for x, y in DataLoader(data, 4, shuffle=True, seed=2):
        assert (x.dtype, y.dtype) == (np.float32, np.int64)
        np.testing.assert_array_equal(x, np.repeat(y[:, None], 2, 1))
        seen += y.tolist()
    assert sorted(seen) == list(range(15))
    assert seen != sorted(seen)
    x, y = data.__getitems__(np.array([14, 0, 5, 14]))
    assert y.tolist() == [14, 0, 5, 14]


def test_transforms_draw_for_the_index_in_the_whole():
    whole = ConcatDataset([arrays(0, 4, noisy), arrays(4, 9, noisy)])
    plain = arrays(0, 13, noisy)
    found, expected = (list(DataLoader(data, 5, shuffle=True, seed=1)) for data in (whole, plain))
    for (x, y), (a, b) in zip(found, expected):
        np.testing.assert_array_equal(x, a)
        np.testing.assert_array_equal(y, b)


def test_samples_draw_for_the_index_in_the_whole():
    class Noise:
        def __len__(self):
            return 5

        def __getitem__(self, index):
            return sample_generator().random()

    (found,) = DataLoader(ConcatDataset([Noise(), Noise()]), -1, seed=1)
    assert len(set(found.tolist())) == 10


def test_parts_that_differ():
    data = ConcatDataset([ArrayDataset(np.zeros((2, 3))), ArrayDataset(np.zeros((2, 4)))])
    with pytest.raises(errors.DataError, match=r"float64 of shape \(3,\), of another tuple of float64 of shape \(4,\)"):
        list(DataLoader(data, 4))


def test_bad_arguments():
    with pytest.raises(errors.ConfigError, match="at least one"):
        ConcatDataset([])
    with pytest.raises(errors.ConfigError, match="dataset 1 .* read in order"):
        ConcatDataset([[1], IterableDataset()])


# -- random_split ----------------------------------------------------------------------------------


def test_a_generator_decides_the_split():
    def parts(*args, **kwargs):
        return [part.indices.tolist() for part in random_split(range(10), [6, 4], *args, **kwargs)]

    assert parts(Generator(1)) == parts(generator=Generator(1)) != parts(generator=Generator(2))
    with pytest.raises(errors.ConfigError, match="leave out one"):
        parts(1, generator=Generator(1))
    with pytest.raises(errors.ConfigError, match="read in order"):
        random_split(IterableDataset(), [1.0])


class Rows(BlockDataset):
    block_sizes = (400, 1, 0, 599)

    def read_block(self, number):
        start = sum(self.block_sizes[:number])
        return (np.arange(start, start + self.block_sizes[number]),)


@pytest.mark.parametrize("lengths", [[0.7, 0.2, 0.1], [700, 200, 100]])
def test_blocks_are_split_row_by_row(lengths):
    parts = random_split(Rows(), lengths, seed=4)
    rows = [[int(i) for (i,) in part] for part in parts]
    assert sorted(i for part in rows for i in part) == list(range(1000))
    assert [len(part) for part in parts] == [len(r) for r in rows]
    for part, share in zip(parts, (0.7, 0.2, 0.1)):
        assert abs(len(part) - 1000 * share) < 5 * np.sqrt(1000 * share * (1 - share))
    assert [[int(i) for (i,) in part] for part in random_split(Rows(), lengths, seed=4)] == rows
    assert [len(part) for part in random_split(Rows(), lengths, seed=5)] != [len(part) for part in parts]
    seen = [i for (x,) in DataLoader(parts[0], 32, shuffle=True, seed=0) for i in x.tolist()]
    assert sorted(seen) == rows[0]
