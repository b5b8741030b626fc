"""ShardedDataset and write_shards: values, order, damage."""

from __future__ import annotations

import json
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from framework import errors
from framework.data import DataLoader, ShardedDataset, Subset, write_shards
from framework.data.transforms import Normalize

DTYPES = [
    "float16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "bool",
    "complex64",
]


def table(n: int) -> dict[str, np.ndarray]:
    return {"x": np.arange(6 * n, dtype=np.float32).reshape(n, 2, 3), "y": np.arange(n)}


@given(st.integers(1, 30), st.integers(1, 12), st.integers(1, 9), st.sampled_from(["npy", "safetensors"]), st.data())
def test_rows_are_those_that_were_written(tmp_path_factory, n, rows, piece, kind, data):
    folder = tmp_path_factory.mktemp("shards") / "new"
    source = table(n)
    write_shards(
        folder, ({k: a[i : i + piece] for k, a in source.items()} for i in range(0, n, piece)), rows, format=kind
    )
    found = ShardedDataset(folder)
    assert (len(found), found.names) == (n, ("x", "y"))
    shards = -(-n // rows)
    assert len(list(folder.iterdir())) == (shards if kind == "safetensors" else 2 * shards)
    indices = np.array(data.draw(st.lists(st.integers(0, n - 1), max_size=20)), np.int64)
    for a, b in zip(found.__getitems__(indices), (source["x"][indices], source["y"][indices])):
        assert a.dtype == b.dtype
        assert type(a) is np.ndarray
        np.testing.assert_array_equal(a, b)
    x, y = found[-1]
    np.testing.assert_array_equal(x, source["x"][-1])
    assert y == n - 1


@pytest.mark.parametrize("kind", ["npy", "safetensors"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_dtypes(tmp_path, kind, dtype):
    a = (np.arange(10) % 2).astype(dtype).reshape(5, 2)
    write_shards(tmp_path, [{"a": a}], 2, format=kind)
    ((found,),) = DataLoader(ShardedDataset(tmp_path), -1)
    assert found.dtype == a.dtype
    np.testing.assert_array_equal(found, a)


def test_unaligned_and_other_layouts(tmp_path):
    x = np.asfortranarray(np.arange(12.0).reshape(4, 3))
    np.save(tmp_path / "x-0.npy", x)
    np.save(tmp_path / "x-1.npy", np.ascontiguousarray(x).astype(">f8"))
    with pytest.raises(errors.DataError, match="'x' is float64 .* but >f8"):
        ShardedDataset(tmp_path)
    np.save(tmp_path / "x-1.npy", np.ascontiguousarray(x))
    np.save(tmp_path / "x-2.npy", x[:0])
    ((found,),) = DataLoader(ShardedDataset(tmp_path), -1)
    np.testing.assert_array_equal(found, np.concatenate([x, x]))
    (tmp_path / "odd").mkdir()
    save_file({"b": np.ones(3, np.uint8), "c": np.arange(6.0).reshape(3, 2)}, tmp_path / "odd" / "0.safetensors")
    b, c = next(iter(DataLoader(ShardedDataset(tmp_path / "odd"), -1)))
    np.testing.assert_array_equal(c, load_file(tmp_path / "odd" / "0.safetensors")["c"])


def test_big_endian_comes_native(tmp_path):
    np.save(tmp_path / "x-0.npy", np.arange(3).astype(">i4"))
    ((found,),) = DataLoader(ShardedDataset(tmp_path), -1)
    assert (found.tolist(), found.dtype) == ([0, 1, 2], np.dtype("int32"))


def test_shards_are_ordered_by_number(tmp_path):
    for number in (10, 9, 2):
        np.save(tmp_path / f"part_{number}.npy", np.array([number]))
    assert [int(x) for (x,) in map(ShardedDataset(tmp_path).__getitem__, range(3))] == [2, 9, 10]


def test_arrays_are_chosen(tmp_path):
    write_shards(tmp_path, [table(4)])
    assert [a.shape for a in ShardedDataset(tmp_path, ["y"])[0]] == [()]
    y, x = ShardedDataset(tmp_path, ["y", "x"])[3]
    assert (int(y), x.shape) == (3, (2, 3))
    with pytest.raises(errors.DataError, match="no array 'z' .* known are x, y"):
        ShardedDataset(tmp_path, ["z"])
    with pytest.raises(errors.ConfigError, match="at least one"):
        ShardedDataset(tmp_path, [])


def test_transform_subset_and_resume(tmp_path):
    write_shards(tmp_path, [{"image": np.arange(80, dtype=np.uint8).reshape(20, 4), "label": np.arange(20)}], 6)
    normalize = Normalize(0.5, 0.5)
    data = Subset(ShardedDataset(tmp_path, transform=normalize), range(19, 3, -1))

    def stream(loader):
        while loader.epoch < 2:
            yield from loader

    expected = [(x.tobytes(), y.tolist()) for x, y in stream(DataLoader(data, 5, True, seed=2))]
    first = DataLoader(data, 5, True, seed=2)
    run = stream(first)
    for _ in range(3):
        x, y = next(run)
        np.testing.assert_array_equal(x, normalize(np.arange(80, dtype=np.uint8).reshape(20, 4)[y]))
    state = first.state_dict()
    run.close()
    second = DataLoader(pickle.loads(pickle.dumps(data)), 5, True, num_workers=2, workers="threads")
    second.load_state_dict(state)
    assert [(x.tobytes(), y.tolist()) for x, y in stream(second)] == expected[3:]


def test_maps_are_dropped_where_there_are_many(tmp_path, monkeypatch):
    from framework.data import sharded

    monkeypatch.setattr(sharded, "_OPEN", 3)
    write_shards(tmp_path, [table(20)], 1)
    data = ShardedDataset(tmp_path)
    assert [int(y) for _, y in map(data.__getitem__, range(20))] == list(range(20))
    assert len(data._maps) == 3


# -- faults ----------------------------------------------------------------------------------------


def shards(folder):
    np.save(folder / "x-0.npy", np.zeros((3, 2)))
    np.save(folder / "y-0.npy", np.zeros(3))
    np.save(folder / "x-1.npy", np.zeros((2, 2)))
    np.save(folder / "y-1.npy", np.zeros(2))


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda f: np.save(f / "x-1.npy", np.zeros((2, 2), "f4")), "float64 .* in x-0.npy, but float32 .* in x-1.npy"),
        (lambda f: np.save(f / "x-1.npy", np.zeros((2, 3))), r"shape \(2,\) in x-0.npy, but .* shape \(3,\)"),
        (lambda f: np.save(f / "y-1.npy", np.zeros(5)), "shard 1 differ in their number of rows: .*'y': 5"),
        (lambda f: (f / "y-1.npy").unlink(), r"shard 0 holds \['x', 'y'\], shard 1 \['x'\]"),
        (lambda f: (f / "x-1.npy").write_bytes(b"no array"), "x-1.npy: not a sound .npy file"),
        (lambda f: (f / "x-1.npy").write_bytes((f / "x-1.npy").read_bytes()[:-1]), "cut off"),
        (lambda f: np.save(f / "x-1.npy", np.array([None, 1])), "Python objects"),
        (lambda f: np.save(f / "x-1.npy", np.float64(3)), "single number"),
        (lambda f: save_file({"x": np.zeros(2)}, f / "0.safetensors"), "keep one kind"),
    ],
)
def test_folders_that_do_not_fit(tmp_path, damage, text):
    shards(tmp_path)
    assert len(ShardedDataset(tmp_path)) == 5
    damage(tmp_path)
    with pytest.raises(errors.DataError, match=text):
        ShardedDataset(tmp_path)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"", "header would have 0 bytes"),
        (b"\xff" * 20, "header would have"),
        ((5).to_bytes(8, "little") + b"no js", "not a sound safetensors"),
        ((2).to_bytes(8, "little") + b"{}", "holds no arrays"),
        ({"a": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}, "'a' is BF16"),
        ({"a": {"dtype": "F32", "shape": [9], "data_offsets": [0, 36]}}, "cut off"),
        ({"a": {"dtype": "F32"}}, "not a sound safetensors"),
        ({"a": {"dtype": "F32", "shape": [], "data_offsets": [0, 4]}}, "single number"),
    ],
)
def test_damaged_safetensors(tmp_path, content, text):
    if isinstance(content, dict):
        head = json.dumps(content).encode()
        content = len(head).to_bytes(8, "little") + head + bytes(4)
    (tmp_path / "0.safetensors").write_bytes(content)
    with pytest.raises(errors.DataError, match=text):
        ShardedDataset(tmp_path)


def test_folders_without_shards(tmp_path):
    with pytest.raises(errors.DataError, match="no folder"):
        ShardedDataset(tmp_path / "no")
    with pytest.raises(errors.DataError, match=r"no \.npy and no \.safetensors"):
        ShardedDataset(tmp_path)
    with pytest.raises(errors.ConfigError, match="transform"):
        ShardedDataset(tmp_path, transform=3)


@pytest.mark.parametrize(
    ("batches", "options", "kind", "text"),
    [
        ([table(2), {"x": np.zeros(2)}], {}, errors.DataError, "same names"),
        ([table(2), {**table(2), "y": np.zeros(2)}], {}, errors.DataError, "dtypes and shapes"),
        ([{"x": np.zeros(2), "y": np.zeros(3)}], {}, errors.DataError, "equally long"),
        ([{"x": np.array([None])}], {}, errors.DataError, "dicts of equally long"),
        ([table(2)], {"rows_per_shard": 0}, errors.ConfigError, "rows_per_shard"),
        ([table(2)], {"format": "npz"}, errors.ConfigError, "'npy' or 'safetensors', got 'npz'"),
    ],
)
def test_batches_that_cannot_be_written(tmp_path, batches, options, kind, text):
    with pytest.raises(kind, match=text):
        write_shards(tmp_path, batches, **options)


def test_shards_are_never_overwritten(tmp_path):
    write_shards(tmp_path, [table(2)])
    with pytest.raises(errors.DataError, match="already"):
        write_shards(tmp_path, [table(2)])
