"""`fw.save` and `fw.load`: every layout of arrays, whole files or none, and messages."""

from __future__ import annotations

import errno
import io
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import framework as fw
from framework.errors import CheckpointError, ConfigError, DTypeError
from framework.interchange import atomic

Array = np.ndarray[Any, Any]

LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "transposed": lambda x: np.ascontiguousarray(x.T).T,
    "strided": lambda x: np.repeat(x, 2, axis=-1)[..., ::2] if x.ndim else x,
    "backwards": lambda x: np.ascontiguousarray(np.flip(x))[(slice(None, None, -1),) * x.ndim],
    "broadcast": lambda x: np.broadcast_to(x[:1], x.shape) if x.ndim and len(x) else x,
    "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
    "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype).reshape(x.shape),
    "unaligned": lambda x: np.frombuffer(b"\0" + x.tobytes(), x.dtype, offset=1).reshape(x.shape),
}
DTYPES = ["bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float16", "float32",
          "float64", "complex64"]  # fmt: skip


def assert_equal(found: Array, array: Array) -> None:
    assert type(found) is np.ndarray
    assert (found.dtype, found.shape) == (array.dtype.newbyteorder("="), array.shape)
    assert found.dtype.isnative
    assert found.flags.c_contiguous
    assert found.flags.writeable
    assert found.tobytes() == array.astype(found.dtype).tobytes()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_survives(layout: str, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    shapes: tuple[tuple[int, ...], ...] = ((), (0,), (4,), (3, 4), (2, 3, 4), (1, 1), (2, 0, 3))
    given = {
        f"{dtype}{shape}": LAYOUTS[layout](np.asarray(rng.normal(size=shape) * 50).astype(dtype))
        for dtype in DTYPES
        for shape in shapes
    }
    fw.save(given, tmp_path / "a.safetensors")
    for found in (fw.load(tmp_path / "a.safetensors"), safetensors.numpy.load_file(tmp_path / "a.safetensors")):
        assert found.keys() == given.keys()
    for name, array in fw.load(str(tmp_path / "a.safetensors")).items():
        assert_equal(array, given[name])
        np.testing.assert_array_equal(array, found[name])


@st.composite
def views(draw: Any) -> Array:
    """An array of any shape and dtype, seen through a transposition and slices of either sign."""
    dtype = draw(
        st.sampled_from([np.dtype(d) for d in DTYPES]).map(lambda d: d.newbyteorder(draw(st.sampled_from("<>"))))
    )
    x = draw(hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4)))
    x = x.transpose(draw(st.permutations(range(x.ndim))))
    return np.asarray(x[tuple(slice(None, None, draw(st.sampled_from((1, 2, -1, -2)))) for _ in range(x.ndim))])


@given(st.dictionaries(st.text(max_size=8).filter(lambda s: s != "__metadata__"), views(), max_size=4))
def test_any_view_of_any_array_survives(given: dict[str, Array]) -> None:
    file = io.BytesIO()
    fw.save(given, file)
    found = fw.load(file)
    assert found.keys() == given.keys()
    for name, array in given.items():
        assert_equal(found[name], array)


@pytest.mark.parametrize("backend", ["cpu", "strict"])
def test_tensors_of_every_kind(backend: str, tmp_path: Path) -> None:
    x = fw.tensor(np.arange(6.0, dtype=np.float32).reshape(2, 3), backend=backend, requires_grad=True)
    given = {"leaf": x, "transposed": x.T, "result": (x * 2).sum(), "parameter": fw.nn.Parameter(x), "row": x[1]}
    fw.save(given, tmp_path / "a")
    found = fw.load(tmp_path / "a")
    assert {name: value.tolist() for name, value in given.items()} == {name: a.tolist() for name, a in found.items()}
    assert {a.dtype.name for a in found.values()} == {"float32"}


def test_a_state_dict_there_and_back(tmp_path: Path) -> None:
    def model() -> fw.nn.Module:
        return fw.nn.Sequential(fw.nn.Conv2d(1, 2, 3), fw.nn.BatchNorm2d(2), fw.nn.Flatten(), fw.nn.Linear(8, 3))

    ours, twin = model(), model().double()
    x = fw.random.normal((5, 1, 4, 4))
    ours(x)
    fw.save(ours.state_dict(), tmp_path / "m.safetensors")
    twin.load_state_dict(fw.load(tmp_path / "m.safetensors"))
    np.testing.assert_allclose(
        twin.eval()(x.double()).detach().numpy(), ours.eval()(x).detach().numpy(), rtol=1e-5, atol=1e-6
    )
    assert twin[1].num_batches_tracked.item() == 1


def test_tied_and_empty(tmp_path: Path) -> None:
    w = fw.tensor([1.0, 2.0])
    fw.save({"a": w, "b": w}, tmp_path / "tied")
    found = fw.load(tmp_path / "tied")
    found["a"][0] = 9.0
    assert found["b"].tolist() == [1.0, 2.0]
    fw.save({}, tmp_path / "empty")
    assert fw.load(tmp_path / "empty") == {}


def test_open_files() -> None:
    file = io.BytesIO()
    fw.save({"x": np.arange(3)}, file)
    assert fw.load(file)["x"].tolist() == [0, 1, 2]
    assert safetensors.numpy.load(file.getvalue())["x"].tolist() == [0, 1, 2]


# -- what cannot be saved -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "error", "told"),
    [
        ([np.ones(2)], DTypeError, "got list; expected a mapping of names to arrays"),
        ({"lr": 0.1}, DTypeError, r"'lr' is of type float; values are Tensors or arrays. Make it one: fw.tensor"),
        ({"x": [1, 2]}, DTypeError, "'x' is of type list"),
        ({"x": None}, DTypeError, "'x' is None; .* Leave it out"),
        ({"state": {"step": 1}}, DTypeError, "Give each array in it a name of its own: 'state.step'"),
        ({"x": "text"}, DTypeError, "'x' is of type str"),
        ({1: np.ones(2)}, ConfigError, "names are strings, got 1 of type int: write '1'"),
        ({"__metadata__": np.ones(2)}, ConfigError, "has a meaning of its own in the file; choose another name"),
        ({"x": np.ones(2, "complex128")}, DTypeError, r"'x' is of dtype complex128, .* Save its real .*complex64"),
        ({"x": np.array([{}, 1])}, DTypeError, "'x' is of dtype object, which the format does not have; it has bfloat16"),
        ({"x": np.array(["a"])}, DTypeError, "dtype str32"),
        ({"x": np.zeros(2, "datetime64[s]")}, DTypeError, "dtype datetime64"),
        ({"x": np.zeros(2, "f4,i4")}, DTypeError, "which the format does not have"),
        ({"x": np.ma.masked_array([1.0, 2.0], [True, False])}, DTypeError, "the file has no masks"),
    ],
)  # fmt: skip
def test_what_cannot_be_saved(given: Any, error: type[Exception], told: str, tmp_path: Path) -> None:
    with pytest.raises(error, match=told):
        fw.save(given, tmp_path / "a")
    assert list(tmp_path.iterdir()) == []


# -- whole files or none -----------------------------------------------------------------------------------


class FullDisk:
    """A file on a disk that is full after some bytes."""

    def __init__(self, file: Any, room: int) -> None:
        self.file, self.room = file, room

    def __enter__(self) -> FullDisk:
        self.file.__enter__()
        return self

    def __exit__(self, *exc: object) -> None:
        self.file.__exit__(*exc)

    def write(self, part: Any) -> None:
        self.file.write(part[: self.room])
        self.room -= len(part)
        if self.room < 0:
            raise OSError(errno.ENOSPC, "No space left on device")


def test_a_full_disk_leaves_what_was_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "m.safetensors"
    fw.save({"x": np.zeros(3)}, path)
    monkeypatch.setattr(atomic, "open", lambda path, mode: FullDisk(path.open(mode), 100), raising=False)
    with pytest.raises(CheckpointError, match=r"cannot write .*No space left.* untouched"):
        fw.save({"x": np.ones(30)}, path)
    monkeypatch.undo()
    assert fw.load(path)["x"].tolist() == [0.0, 0.0, 0.0]
    assert os.listdir(tmp_path) == ["m.safetensors"]


KILLED = """
import os, sys, numpy as np, framework as fw
from framework.interchange import atomic
real = os.replace
def killed(source, target):
    os.kill(os.getpid(), 9)
if sys.argv[2] == "before":
    atomic.os.replace = killed
else:
    atomic.sync_folder = lambda folder: os.kill(os.getpid(), 9)
fw.save({"x": np.ones(3)}, sys.argv[1])
"""


@pytest.mark.skipif(os.name != "posix", reason="kills with a signal")
@pytest.mark.parametrize(("moment", "value"), [("before", 0.0), ("after", 1.0)])
def test_a_kill_leaves_the_old_file_or_the_new(moment: str, value: float, tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    fw.save({"x": np.zeros(3)}, path)
    done = subprocess.run([sys.executable, "-c", KILLED, str(path), moment], timeout=60)
    assert done.returncode == -9
    assert fw.load(path)["x"].tolist() == [value] * 3


@pytest.mark.skipif(os.name != "posix", reason="makes a symbolic link")
def test_through_a_link_the_file_is_replaced_and_not_the_link(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "there" / "m")
    fw.save({"x": np.ones(1)}, link)
    assert link.is_symlink()
    assert fw.load(tmp_path / "there" / "m")["x"].tolist() == [1.0]


def test_no_such_folder_and_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"cannot write .*nowhere.m: No such file or directory"):
        fw.save({"x": np.ones(1)}, tmp_path / "nowhere" / "m")
    with pytest.raises(CheckpointError, match=r"cannot read .*nothing: No such file"):
        fw.load(tmp_path / "nothing")
    with pytest.raises(CheckpointError, match="directory|denied"):
        fw.load(tmp_path)


# -- files of other formats, and damaged ones ------------------------------------------------------------------


class Malicious:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_is_refused_and_not_run(protocol: int, tmp_path: Path) -> None:
    path = tmp_path / "weights.pt"
    path.write_bytes(pickle.dumps({"w": Malicious(tmp_path / "was run")}, protocol))
    with pytest.raises(CheckpointError, match=r"weights.pt is a pickle, which can run anything when read. Arrays are"):
        fw.load(path)
    assert not (tmp_path / "was run").exists()


def npz(arrays: dict[str, Array]) -> bytes:
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def npy(array: Array) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (npz({"a": np.ones(2)}), "is a zip archive, as torch.save and numpy.savez write"),
        (npy(np.ones(2)), "is one array of numpy.save: numpy.load reads it"),
        (b"", "no safetensors file: it has 0 bytes"),
        (b"text", "no safetensors file: it has 4 bytes"),
        (b"just some text in a file", "no safetensors file: it begins with b'just som'"),
        (b"\x89HDF\r\n\x1a\n" + bytes(50), "is an HDF5 file"),
        (b"GGUF\x03\0\0\0" + bytes(50), "is a GGUF file"),
    ],
)
def test_other_formats(content: bytes, told: str, tmp_path: Path) -> None:
    (tmp_path / "m").write_bytes(content)
    with pytest.raises(CheckpointError, match=told):
        fw.load(tmp_path / "m")


def content(header: Any, data: bytes = b"") -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def entry(dtype: str, shape: Any, *place: Any) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": list(place)}


DAMAGED = {
    "no JSON": (content(b"{{{"), "its header is wrong"),
    "no UTF-8": (content(b'{"\xff": 1}'), "its header is wrong"),
    "a list": (content([1, 2]), "its header is wrong"),
    "an array that is a number": (content({"a": 3}), "its header is wrong"),
    "no shape": (content({"a": {"dtype": "F32", "data_offsets": [0, 4]}}, bytes(4)), r"its header is wrong \('shape'\)"),
    "a shape that is a number": (content({"a": entry("F32", 1, 0, 4)}, bytes(4)), "its header is wrong"),
    "a negative length": (content({"a": entry("F32", [-1], 0, 4)}, bytes(4)), r"'a' has shape \(-1,\)"),
    "a length that is no integer": (content({"a": entry("F32", [1.0], 0, 4)}, bytes(4)), "its header is wrong"),
    "three places": (content({"a": entry("F32", [1], 0, 4, 8)}, bytes(4)), "its header is wrong"),
    "a name twice": (content(b'{"a":1,"a":2}'), "a name occurs twice"),
    "deep": (content(b"[" * 100_000), "its header is wrong"),
    "a gap": (content({"a": entry("F32", [1], 4, 8)}, bytes(8)), "'a' begins at byte 4 instead of 0"),
    "an overlap": (
        content({"a": entry("F32", [1], 0, 4), "b": entry("F32", [1], 2, 6)}, bytes(6)),
        "'b' begins at byte 2 instead of 4",
    ),
    "another length": (content({"a": entry("F32", [2], 0, 4)}, bytes(4)), "ends at byte 4 instead of 8"),
    "a shape that overflows": (content({"a": entry("F32", [2**40, 2**40], 0, 4)}, bytes(4)), "ends at byte 4"),
    "cut": (content({"a": entry("F32", [2], 0, 8)}, bytes(7)), "is cut short: its arrays have 8 bytes, 7 are there"),
    "more": (content({"a": entry("F32", [1], 0, 4)}, bytes(5)), "1 bytes follow its last array"),
    "8 bits": (content({"a": entry("F8_E4M3", [4], 0, 4)}, bytes(4)), "'a' is of dtype F8_E4M3, .* known are U64, I64"),
    "a header beyond the end": ((1000).to_bytes(8, "little") + b"{}", "its header alone has 1008 bytes, the file 10"),
}  # fmt: skip


@pytest.mark.parametrize("name", DAMAGED)
def test_damaged_files(name: str, tmp_path: Path) -> None:
    data, told = DAMAGED[name]
    (tmp_path / "m.safetensors").write_bytes(data)
    with pytest.raises(CheckpointError, match=told) as error:
        fw.load(tmp_path / "m.safetensors")
    assert "m.safetensors" in str(error.value)


def test_every_cut_is_seen() -> None:
    file = io.BytesIO()
    fw.save({"w": np.arange(6.0), "b": np.ones(2, "int8")}, file)
    whole = file.getvalue()
    for length in range(len(whole)):
        with pytest.raises(CheckpointError):
            fw.load(io.BytesIO(whole[:length]))
    assert len(fw.load(io.BytesIO(whole))) == 2


@given(st.data())
def test_whatever_is_changed_is_read_or_refused(data: Any) -> None:
    """The safetensors library is stricter about nothing: what it refuses, we do; and no other error comes out."""
    file = io.BytesIO()
    fw.save({"w": np.arange(3.0), "b": np.ones((2, 1), "int8")}, file)
    whole = bytearray(file.getvalue())
    for _ in range(data.draw(st.integers(1, 3))):
        whole[data.draw(st.integers(0, len(whole) - 27))] = data.draw(st.integers(0, 255))
    try:
        found = fw.load(io.BytesIO(bytes(whole)))
    except CheckpointError:
        return
    theirs = safetensors.numpy.load(bytes(whole))
    assert {name: a.tobytes() for name, a in found.items()} == {name: a.tobytes() for name, a in theirs.items()}


def test_bfloat16_needs_a_package(monkeypatch: pytest.MonkeyPatch) -> None:
    file = io.BytesIO(content({"a": entry("BF16", [1], 0, 2)}, b"\x80\x3f"))
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(CheckpointError, match="'a' is of dtype bfloat16, .* pip install ml_dtypes"):
        fw.load(file)
    monkeypatch.undo()
    pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    assert fw.load(file)["a"].dtype.name == "bfloat16"
    layer = fw.nn.Linear(1, 1)
    layer.load_state_dict({"weight": fw.load(file)["a"].reshape(1, 1), "bias": fw.load(file)["a"]})
    assert (layer.weight.dtype, layer.weight.item(), layer.bias.item()) == ("float32", 1.0, 1.0)
