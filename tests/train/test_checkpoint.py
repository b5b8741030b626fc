from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from framework.errors import CheckpointError
from framework.train import checkpoint


def _layouts(array: np.ndarray) -> list[np.ndarray]:
    """The same values in every memory layout."""
    swapped = array.astype(array.dtype.newbyteorder(">"))
    if not array.ndim:
        return [array, swapped]
    wide = np.zeros((*array.shape[:-1], 2 * array.shape[-1]), array.dtype)
    wide[..., ::2] = array
    return [array, np.asfortranarray(array), array.T.copy().T, wide[..., ::2], array[::-1].copy()[::-1], swapped]


INTEGERS = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"]
DTYPES = ["bool", *INTEGERS, "float16", "float32", "float64", "complex64", "complex128"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", [(), (1,), (0,), (3,), (2, 3), (3, 0, 2), (2, 3, 4)])
def test_arrays_of_every_layout_come_back_bit_equal(tmp_path: Path, dtype: str, shape: tuple[int, ...]) -> None:
    values = (np.arange(math.prod(shape)) * 7 - 3).reshape(shape).astype(dtype)
    for tree in ("model", "state"):
        laid_out = _layouts(values)
        path = tmp_path / tree
        checkpoint.save(path, {tree: {f"a{i}": a for i, a in enumerate(laid_out)}})
        back = checkpoint.load(path)[tree]
        for i in range(len(laid_out)):
            got = back[f"a{i}"]
            assert got.dtype == values.dtype
            assert got.shape == values.shape
            assert got.tobytes() == values.tobytes()
            assert got.flags.writeable
            assert got.flags.c_contiguous


trees = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**80), 2**80)
    | st.floats()
    | st.text(max_size=8)
    | st.builds(lambda v: np.array(v, dtype=np.float32), st.lists(st.floats(width=32), max_size=4)),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5) | st.just("$array"), inner, max_size=3)
    ),
    max_leaves=12,
)


def _same(a: object, b: object) -> bool:
    if isinstance(a, np.ndarray):
        return isinstance(b, np.ndarray) and a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()
    if isinstance(a, float):
        return isinstance(b, float) and (a == b or (math.isnan(a) and math.isnan(b))) and str(a) == str(b)
    if isinstance(a, dict):
        return isinstance(b, dict) and list(a) == list(b) and all(_same(a[k], b[k]) for k in a)
    if isinstance(a, list):
        return isinstance(b, list) and len(a) == len(b) and all(map(_same, a, b))
    return type(a) is type(b) and a == b


@settings(max_examples=60, deadline=None)
@given(model=trees, state=trees)
def test_any_state_tree_comes_back_equal(model: object, state: object) -> None:
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.save(Path(folder) / "c", {"model": model, "state": state})
        back = checkpoint.load(Path(folder) / "c")
    assert _same(model, back["model"])
    assert _same(state, back["state"])


def test_an_array_in_several_places_is_stored_once(tmp_path: Path) -> None:
    shared = np.arange(4.0)
    trees = {"model": {"a": shared, "b": np.arange(4.0), "c": {"d": [shared]}}}
    checkpoint.save(tmp_path / "c", trees)
    loaded = checkpoint.load(tmp_path / "c")["model"]
    for array in (loaded["a"], loaded["b"], loaded["c"]["d"][0]):
        np.testing.assert_array_equal(array, shared)
    from safetensors.numpy import load_file

    assert sorted(load_file(tmp_path / "c" / "model.safetensors")) == ["a", "b"]


def test_model_arrays_keep_their_own_names(tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    checkpoint.save(tmp_path / "c", {"model": {"0.weight": np.ones((2, 2))}, "state": {"m": {"0": np.zeros(2)}}})
    assert list(load_file(tmp_path / "c" / "model.safetensors")) == ["0.weight"]
    assert list(load_file(tmp_path / "c" / "optimizer.safetensors")) == ["state.m.0"]


class _Something:
    pass


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (_Something(), "'callbacks.mine.thing' is of type _Something"),
        ((1, 2), "make it a list"),
        ({1: 2.0}, "has the key 1 of type int"),
        (print, "'callbacks.mine.thing' is of type builtin_function_or_method"),
        (np.array([None]), "arrays in a state_dict hold numbers"),
    ],
)
def test_what_is_no_state_tree_is_refused_by_name_when_saving(tmp_path: Path, value: object, words: str) -> None:
    with pytest.raises(CheckpointError, match="callbacks") as caught:
        checkpoint.save(tmp_path / "c", {"callbacks": {"mine": {"thing": value}}})
    assert words in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def _write(path: Path, value: float = 1.0) -> Path:
    checkpoint.save(path, {"model": {"w": np.full(50, value)}, "state": {"m": np.full(5, value), "n": 3}})
    return path


def test_every_kind_of_damage_is_noticed(tmp_path: Path) -> None:
    for name in ("model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"):
        for harm in ("cut", "flip", "remove", "empty"):
            path = _write(tmp_path / f"{name}-{harm}")
            content = bytearray((path / name).read_bytes())
            if harm == "cut":
                del content[len(content) // 2 :]
            elif harm == "flip":
                content[len(content) // 2] ^= 1
            (path / name).write_bytes(b"" if harm == "empty" else bytes(content))
            if harm == "remove":
                (path / name).unlink()
            if name == "manifest.json" and harm == "flip":  # the manifest has no checksum of its own
                continue
            assert not checkpoint.is_valid(path), (name, harm)
            with pytest.raises(CheckpointError):
                checkpoint.load(path)


def test_damaged_and_half_written_ones_are_never_chosen(tmp_path: Path) -> None:
    first, second, third = (_write(tmp_path / f"epoch={i}-step={10 * i}") for i in range(3))
    (third / "model.safetensors").write_bytes(b"")
    unfinished = tmp_path / "epoch=9-step=90"
    unfinished.mkdir()
    (unfinished / "model.safetensors").write_bytes(b"x")
    (tmp_path / ".tmp-epoch=4-step=40-1-2").mkdir()
    (tmp_path / "last").write_text(third.name + "\n")
    assert checkpoint.valid_checkpoints(tmp_path) == [first, second]
    assert checkpoint.newest_valid(tmp_path) == second
    assert checkpoint.read_pointer(tmp_path, "last") is None
    checkpoint.remove_leftovers(tmp_path)
    assert not list(tmp_path.glob(".tmp-*"))


def test_checkpoints_are_immutable_but_a_damaged_one_gives_way(tmp_path: Path) -> None:
    path = _write(tmp_path / "c", 1.0)
    with pytest.raises(CheckpointError, match="never changed"):
        _write(path, 2.0)
    assert checkpoint.load(path)["model"]["w"][0] == 1.0
    (path / "state.json").write_text("{}")
    _write(path, 3.0)
    assert checkpoint.load(path)["model"]["w"][0] == 3.0


def test_pointers(tmp_path: Path) -> None:
    a, b = _write(tmp_path / "a"), _write(tmp_path / "b")
    assert checkpoint.read_pointer(tmp_path, "best") is None
    checkpoint.write_pointer(tmp_path, "best", a)
    checkpoint.write_pointer(tmp_path, "best", b)
    assert checkpoint.read_pointer(tmp_path, "best") == b
    assert (tmp_path / "best").read_text() == "b\n"
    with pytest.raises(CheckpointError, match="can only name a checkpoint in"):
        checkpoint.write_pointer(tmp_path, "best", tmp_path / "elsewhere" / "c")
    (tmp_path / "last").write_text("../b")
    assert checkpoint.read_pointer(tmp_path, "last") is None


def test_a_manifest_cannot_reach_outside(tmp_path: Path) -> None:
    path = _write(tmp_path / "c")
    manifest = json.loads((path / "manifest.json").read_text())
    manifest["files"]["../secret"] = manifest["files"]["state.json"]
    (path / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="outside"):
        checkpoint.load(path)


def test_missing_and_foreign_paths_say_so(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no checkpoint at"):
        checkpoint.load(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="no finished checkpoint"):
        checkpoint.load(tmp_path)
    (tmp_path / "file").write_text("x")
    with pytest.raises(CheckpointError, match="cannot save a checkpoint to"):
        checkpoint.save(tmp_path / "file" / "c", {"state": {}})


FULL_DISK = """
import resource, sys
import numpy as np
from framework.errors import CheckpointError
from framework.train import checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
try:
    checkpoint.save(sys.argv[1], {"model": {"w": np.ones(10_000)}, "state": {}})
except CheckpointError as error:
    print(error)
"""


def test_a_full_disk_raises_and_leaves_the_earlier_one(tmp_path: Path) -> None:
    """A limit on the size of a file makes the write fail in the middle, as a full disk does."""
    before = _write(tmp_path / "before")
    command = [sys.executable, "-c", FULL_DISK, str(tmp_path / "after")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=dict(os.environ))
    assert "cannot save a checkpoint" in done.stdout
    assert "File too large" in done.stdout
    assert sorted(p.name for p in tmp_path.iterdir()) == ["before"]
    assert checkpoint.load(before)["state"]["n"] == 3


KILLED = """
import sys
import numpy as np
from framework.train import checkpoint
i = 0
while True:
    checkpoint.save(f"{sys.argv[1]}/step={i}", {"model": {"w": np.full(40_000, float(i))}, "state": {"step": i}})
    print(i, flush=True)
    i += 1
"""


def test_kills_while_writing_leave_only_whole_ones(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for attempt in range(6):
        folder = tmp_path / str(attempt)
        child = subprocess.Popen([sys.executable, "-c", KILLED, str(folder)], stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        reported = int(child.stdout.readline())
        try:
            child.wait(timeout=float(rng.uniform(0.0, 0.1)))
        except subprocess.TimeoutExpired:
            child.kill()
        reported = max([reported, *map(int, child.stdout.read().split())])
        child.wait()
        child.stdout.close()
        found = checkpoint.valid_checkpoints(folder)
        final_names = [p.name for p in folder.iterdir() if not p.name.startswith(".tmp-")]
        assert sorted(p.name for p in found) == sorted(final_names)
        assert len(found) >= reported + 1
        for path in found:
            trees = checkpoint.load(path)
            assert (trees["model"]["w"] == trees["state"]["step"]).all()
