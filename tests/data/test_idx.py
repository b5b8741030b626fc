"""The IDX reader."""

from __future__ import annotations

import contextlib
import gzip
import os

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from framework import errors
from framework.data import read_idx
from framework.data.idx import parse_idx

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}


def idx(array: np.ndarray) -> bytes:
    code = CODES[array.dtype.str[1:]]
    header = bytes([0, 0, code, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@given(st.sampled_from(sorted(CODES)), st.lists(st.integers(0, 4), min_size=1, max_size=4))
def test_round_trip(dtype, shape):
    array = (np.arange(np.prod(shape)) - 3).astype(dtype).reshape(shape)
    out = parse_idx(idx(array), "x")
    assert out.dtype == array.dtype
    assert out.dtype.isnative
    np.testing.assert_array_equal(out, array)


GOOD = idx(np.arange(24, dtype=np.uint8).reshape(4, 2, 3))


@given(st.integers(0, len(GOOD) - 1))
def test_every_truncation_is_an_error(length):
    with pytest.raises(errors.DataError, match="truncated IDX file"):
        parse_idx(GOOD[:length], "x")


@given(st.binary(min_size=1, max_size=9))
def test_bytes_left_over_are_an_error(rest):
    with pytest.raises(errors.DataError, match="bytes left over"):
        parse_idx(GOOD + rest, "x")


@given(st.binary(max_size=40))
def test_any_bytes_are_an_array_or_a_data_error(content):
    with contextlib.suppress(errors.DataError):
        assert isinstance(parse_idx(content, "x"), np.ndarray)


@pytest.mark.parametrize("compress", [False, True])
def test_gzip_is_told_by_the_content_not_by_the_name(tmp_path, compress):
    for name in ("images", "images.gz"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(GOOD) if compress else GOOD)
        assert read_idx(path).shape == (4, 2, 3)


BROKEN = {
    "missing": (None, "no such file"),
    "empty": (b"", "truncated IDX file"),
    "text": (b"<html>404</html>", "no IDX file: it starts with 0x3c68746d"),
    "no axes": (b"\0\0\x08\0", "no IDX file"),
    "unknown type": (b"\0\0\x0a\x01" + bytes(4), "no IDX file"),
    "truncated": (GOOD[:-1], "truncated IDX file: its header says 4 × 2 × 3 .* 40 bytes in all; it has 39"),
    "huge header": (b"\0\0\x08\x04" + b"\xff" * 16, "truncated IDX file"),
    "truncated gzip": (gzip.compress(GOOD)[:-9], "gzip stream stops after"),
    "gzip of a truncated file": (gzip.compress(GOOD[:-2]), "truncated IDX file"),
    "gzip header alone": (b"\x1f\x8b", "gzip"),
    "corrupt gzip": (gzip.compress(GOOD)[:14] + b"\xff\xff" + gzip.compress(GOOD)[16:], "damaged gzip"),
    "wrong gzip sum": (gzip.compress(GOOD)[:-8] + bytes(8), "damaged gzip"),
    "gzip with a tail": (gzip.compress(GOOD) + b"tail", "damaged gzip"),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_file_is_named_with_what_is_wrong(tmp_path, kind):
    content, text = BROKEN[kind]
    path = tmp_path / "train-images-idx3-ubyte.gz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(errors.DataError, match=text) as caught:
        read_idx(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_a_folder_in_place_of_the_file(tmp_path):
    with pytest.raises(errors.DataError, match=f"{tmp_path}: cannot be read"):
        read_idx(tmp_path)


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read(tmp_path):
    path = tmp_path / "images"
    path.write_bytes(GOOD)
    path.chmod(0)
    with pytest.raises(errors.DataError, match="cannot be read: Permission denied"):
        read_idx(path)
