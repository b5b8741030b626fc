"""ArrayDataset, Subset, random_split."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework import errors
from framework.autodiff import set_default_dtype, tensor
from framework.backend import host
from framework.data import ArrayDataset, Dataset, Subset, random_split
from framework.data.transforms import Compose, Normalize


def images(n: int = 12) -> np.ndarray:
    return (np.arange(n * 6, dtype=np.int64) * 7 % 256).astype(np.uint8).reshape(n, 2, 3)


def test_sample_and_batch_agree_and_keep_dtypes():
    x, y = images(), np.arange(12)
    data = ArrayDataset(x, y)
    assert len(data) == 12
    assert data.arrays[0] is x
    index = np.array([3, 3, 11, 0])
    bx, by = data.__getitems__(index)
    assert (bx.dtype, by.dtype) == (np.uint8, np.int64)
    np.testing.assert_array_equal(bx, x[index])
    np.testing.assert_array_equal(by, y[index])
    for k, i in enumerate(index):
        sx, sy = data[i]
        np.testing.assert_array_equal(sx, bx[k])
        assert sy == by[k]
    np.testing.assert_array_equal(data[-1][0], x[11])


@pytest.mark.parametrize("index", [12, -13])
def test_index_outside_ends_iteration_over_samples(index):
    data = ArrayDataset(images())
    with pytest.raises(IndexError, match="12 samples"):
        data[index]
    assert len(list(data)) == 12  # the old iteration protocol stops at IndexError


LAYOUTS = {
    "C": lambda x: x,
    "F": np.asfortranarray,
    "reversed": lambda x: x[::-1],
    "strided": lambda x: np.repeat(x, 2, axis=2)[:, :, ::2],
    "transposed view": lambda x: x.transpose(2, 0, 1).copy().transpose(1, 2, 0),
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    "big-endian": lambda x: x.astype(">i4"),
    "unaligned": lambda x: np.frombuffer(b"\0" + x.astype(np.float32).tobytes(), np.float32, offset=1).reshape(x.shape),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("index", [np.array([5, 0, 5]), slice(2, 7)], ids=["array", "slice"])
def test_batches_of_every_layout_are_fresh_and_contiguous(layout, index):
    x = LAYOUTS[layout](images())
    before = x.copy()
    (batch,) = ArrayDataset(x).__getitems__(index)
    np.testing.assert_array_equal(batch, before[index])
    assert batch.flags.c_contiguous
    assert batch.flags.aligned
    assert batch.dtype.isnative
    batch[...] = 1
    np.testing.assert_array_equal(x, before)


def test_a_transform_that_writes_in_place_never_reaches_the_source():
    def brighten(batch):
        batch += 1
        return batch

    x = images()
    before = x.copy()
    data = ArrayDataset(x, transform=brighten)
    for index in (np.array([1, 2]), slice(1, 3)):
        np.testing.assert_array_equal(data.__getitems__(index)[0], before[1:3] + 1)
    data[1]
    np.testing.assert_array_equal(x, before)


def test_transform_applies_to_the_first_array_alone():
    x, y = images(), images()
    bx, by = ArrayDataset(x, y, transform=Normalize(0.0, 1.0)).__getitems__(np.array([4]))
    assert (bx.dtype, by.dtype) == (np.float32, np.uint8)
    np.testing.assert_array_equal(bx, x[4:5] * np.float32(1 / 255))


@pytest.mark.parametrize("transform", [Normalize(0.5, 0.5), Compose([Normalize(0.5, 0.5), Normalize(1.0, 2.0)])])
def test_float64_appears_nowhere(transform):
    for x in (images(), images().astype(np.float32)):
        for index in (np.array([4]), slice(0, 3)):
            assert ArrayDataset(x, transform=transform).__getitems__(index)[0].dtype == np.float32


def test_lists_get_the_default_dtype_and_arrays_keep_theirs():
    data = ArrayDataset([[0.5], [1.5]], [1, 2], np.zeros(2))
    assert [a.dtype for a in data.arrays] == [np.float32, np.int64, np.float64]
    set_default_dtype("float64")
    try:
        assert ArrayDataset([0.5]).arrays[0].dtype == np.float64
    finally:
        set_default_dtype("float32")


def test_tensors_come_to_the_host():
    data = ArrayDataset(tensor([[1.0], [2.0]], requires_grad=True), tensor([0, 1]))
    assert all(type(a) is np.ndarray for a in data.arrays)
    assert data[1][0].tolist() == [2.0]


@pytest.mark.parametrize(
    ("arrays", "error", "text"),
    [
        ((), errors.DataError, "at least one array"),
        ((np.zeros((3, 2)), np.zeros(4)), errors.ShapeError, r"\(3, 2\), \(4,\)"),
        ((np.zeros(3), 5), errors.ShapeError, "array 1 is a single number"),
        (([[1], [2, 3]],), errors.DataError, "array 0"),
        ((np.array([None, 1]),), errors.DataError, "Python objects"),
    ],
)
def test_bad_arrays(arrays, error, text):
    with pytest.raises(error, match=text):
        ArrayDataset(*arrays)


def test_a_transform_must_be_callable():
    with pytest.raises(errors.DataError, match="Compose"):
        ArrayDataset(images(), transform=[Normalize(0.0, 1.0)])


def test_dataset_says_what_to_define():
    class Empty(Dataset):
        pass

    with pytest.raises(NotImplementedError, match="Empty must define __len__"):
        len(Empty())
    with pytest.raises(NotImplementedError, match="Empty must define __getitem__"):
        Empty()[0]


# -- labels ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.int64, np.int8, np.uint8])
def test_labels_out_of_range_are_named(dtype):
    y = np.arange(10).astype(dtype)
    data = ArrayDataset(np.zeros((10, 2)), y)
    assert data.check_labels(10) is True
    with pytest.raises(errors.DataError, match=r"0 … 6 for 7 classes; the label at index 7 is 7"):
        data.check_labels(7)


def test_negative_labels_and_ignore_index():
    data = ArrayDataset(np.zeros((3, 1)), np.array([0, -100, 1]))
    with pytest.raises(errors.DataError, match="index 1 is -100"):
        data.check_labels(2)
    assert data.check_labels(2, ignore_index=-100) is True


def test_labels_of_several_axes():
    data = ArrayDataset(np.zeros((2, 3)), np.array([[0, 1, 2], [0, 1, 5]]))
    with pytest.raises(errors.DataError, match="index 1, 2 is 5"):
        data.check_labels(3)


def test_only_integer_targets_are_labels():
    assert ArrayDataset(np.zeros((2, 1)), np.array([0.5, 99.0])).check_labels(2) is False
    assert ArrayDataset(np.array([5, 6])).check_labels(2) is False


def test_a_subset_checks_its_own_labels_and_names_the_source_index():
    data = ArrayDataset(np.zeros((6, 1)), np.array([0, 1, 9, 0, 8, 1]))
    assert Subset(data, [0, 1, 3, 5]).check_labels(2) is True
    with pytest.raises(errors.DataError, match="index 4 is 8"):
        Subset(Subset(data, [5, 4, 0]), [0, 1]).check_labels(2)
    assert Subset([1, 2], [0]).check_labels(1) is False


# -- subsets ---------------------------------------------------------------------------------------


def test_subsets_nest():
    outer = Subset(Subset(list("abcdef"), [5, 3, 1]), np.array([2, 0]))
    assert list(outer) == ["b", "f"]


@pytest.mark.parametrize(
    ("indices", "text"),
    [
        ([0, 3], "0 … 2, the dataset's; got 3 at position 1"),
        ([-1], "got -1 at position 0"),
        ([0.0], "must be integers"),
        ([True, False, True], "flatnonzero"),
        ([[0]], r"shape \(1, 1\)"),
    ],
)
def test_bad_indices(indices, text):
    with pytest.raises(errors.DataError, match=text):
        Subset([1, 2, 3], indices)


def test_the_empty_subset():
    assert len(Subset([1, 2, 3], [])) == 0


@given(st.integers(0, 60), st.lists(st.integers(0, 5), min_size=1, max_size=4), st.integers(-(2**70), 2**70))
def test_random_split_is_a_partition_that_the_seed_decides(extra, shares, seed):
    lengths = [*shares, extra]
    total = sum(lengths)
    parts = random_split(range(total), lengths, seed=seed)
    assert [len(p) for p in parts] == lengths
    assert sorted(i for p in parts for i in p) == list(range(total))
    again = random_split(range(total), lengths, seed=seed)
    assert [list(p) for p in parts] == [list(p) for p in again]


def test_random_split_keeps_its_order_between_versions_and_machines():
    assert list(random_split(range(8), [8], seed=0)[0]) == EXPECTED_ORDER


EXPECTED_ORDER = [4, 5, 3, 0, 6, 7, 2, 1]


def test_random_split_by_fractions():
    parts = random_split(range(11), [0.5, 0.25, 0.25], seed=1)
    assert [len(p) for p in parts] == [6, 3, 2]


def test_random_split_without_a_seed_takes_the_process_seed():
    host.set_global_seed(7)
    assert list(random_split(range(30), [30])[0]) == list(random_split(range(30), [30], seed=7)[0])


@pytest.mark.parametrize(
    ("lengths", "text"),
    [([5, 4], "10 samples, got .5, 4., which add up to 9"), ([0.5, 0.4], "add up to 1"), ([11, -1], "negative")],
)
def test_random_split_refuses_lengths_that_do_not_fit(lengths, text):
    with pytest.raises(errors.ConfigError, match=text):
        random_split(range(10), lengths)
