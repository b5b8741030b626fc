"""MNIST: search, cache, checksums, download."""

from __future__ import annotations

import gzip
import shutil

import numpy as np
import pytest

from framework import errors
from framework.data import MNIST, DataUnavailable
from framework.data.mnist import CHECKSUMS
from framework.data.transforms import Normalize

IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"
NOWHERE = "http://mirror.invalid/"


@pytest.fixture(autouse=True)
def _own_settings(monkeypatch, tmp_path):
    monkeypatch.delenv("FW_MIRROR", raising=False)
    monkeypatch.setenv("FW_DATA", str(tmp_path / "unused"))


@pytest.fixture
def cache(mnist_root, tmp_path):
    """A folder with copies of the test files, unzipped, in `mnist/`."""
    folder = tmp_path / "data" / "mnist"
    folder.mkdir(parents=True)
    for name in (IMAGES, LABELS):
        (folder / name).write_bytes(gzip.decompress((mnist_root / "mnist" / f"{name}.gz").read_bytes()))
    return folder.parent


@pytest.mark.parametrize(
    ("train", "count", "first", "mean"), [(True, 60_000, [5, 0, 4, 1], 0.1307), (False, 10_000, [7, 2, 1, 0], 0.1325)]
)
def test_the_real_files(mnist_root, train, count, first, mean):
    data = MNIST(mnist_root, train, download=False)
    images, labels = data.arrays
    assert (images.shape, images.dtype) == ((count, 28, 28), np.uint8)
    assert (labels.shape, labels.dtype) == ((count,), np.int64)
    assert labels[:4].tolist() == first
    assert images.mean() / 255 == pytest.approx(mean, abs=1e-4)
    assert data.check_labels(10)


def test_transform(mnist_root):
    image, label = MNIST(mnist_root, False, transform=Normalize(0.1307, 0.3081))[0]
    assert (image.dtype, image.shape, label) == (np.float32, (28, 28), 7)
    assert image.min() == pytest.approx(-0.1307 / 0.3081)


@pytest.mark.parametrize("place", ["", "mnist", "MNIST/raw"])
@pytest.mark.parametrize("zipped", [False, True])
def test_every_place_and_form_is_found(cache, tmp_path, place, zipped):
    folder = tmp_path / "other" / place
    folder.mkdir(parents=True)
    for name in (IMAGES, LABELS):
        content = (cache / "mnist" / name).read_bytes()
        target = folder / (f"{name}.gz" if zipped else name)
        target.write_bytes(gzip.compress(content, 1) if zipped else content)
    assert len(MNIST(tmp_path / "other", False, download=False)) == 10_000


def test_the_root_comes_from_the_environment_and_else_from_the_home(cache, monkeypatch, tmp_path):
    monkeypatch.setenv("FW_DATA", str(cache))
    assert MNIST(train=False, download=False).root == cache
    monkeypatch.delenv("FW_DATA")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(DataUnavailable, match=str(tmp_path / "home" / ".cache" / "framework")):
        MNIST(download=False)
    shutil.copytree(cache, tmp_path / "home" / ".cache" / "framework")
    assert len(MNIST(train=False, download=False)) == 10_000
    assert len(MNIST("~/.cache/framework", train=False, download=False)) == 10_000


DAMAGE = {
    "truncated": (lambda c: c[: len(c) // 2], "truncated IDX file"),
    "trailing": (lambda c: c + b"\0", "bytes left over"),
    "one bit": (lambda c: c[:5000] + bytes([c[5000] ^ 1]) + c[5001:], "not MNIST's file"),
    "magic": (lambda c: b"\1" + c[1:], "no IDX file"),
    "empty": (lambda c: b"", "truncated IDX file"),
    "another set": (lambda c: c[:16] + bytes(len(c) - 16), "not MNIST's file"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_copy_is_named_with_both_checksums_and_never_used(cache, kind):
    damage, text = DAMAGE[kind]
    path = cache / "mnist" / IMAGES
    damaged = damage(path.read_bytes())
    path.write_bytes(damaged)
    with pytest.raises(errors.DataError, match=text) as caught:
        MNIST(cache, False, mirrors=[NOWHERE])
    message = str(caught.value)
    assert not isinstance(caught.value, DataUnavailable)
    assert str(path) in message
    assert CHECKSUMS[IMAGES] in message
    assert "Delete it" in message
    assert path.read_bytes() == damaged


def test_a_damaged_gzip_is_named(cache):
    path = cache / "mnist" / IMAGES
    packed = gzip.compress(path.read_bytes(), 1)
    path.unlink()
    path.with_name(f"{IMAGES}.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(errors.DataError, match=f"{IMAGES}.gz: truncated: its gzip stream"):
        MNIST(cache, False, mirrors=[NOWHERE])


def test_a_sound_copy_elsewhere_is_used(cache):
    (cache / IMAGES).write_bytes(b"damaged")
    assert len(MNIST(cache, False, download=False)) == 10_000


def test_absent_and_not_to_be_downloaded(tmp_path):
    with pytest.raises(DataUnavailable, match=r"no train-images-idx3-ubyte in .*MNIST/raw.*root="):
        MNIST(tmp_path, download=False)


def test_absent_and_no_network(tmp_path, capfd):
    with pytest.raises(DataUnavailable, match=r"no mirror can be reached: http://mirror.invalid/: .*\$FW_MIRROR"):
        MNIST(tmp_path, mirrors=NOWHERE)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")


def test_what_is_missing_is_downloaded_and_kept(cache, mnist_root, mirrors, monkeypatch):
    (cache / "mnist" / IMAGES).unlink()
    files = {f"{IMAGES}.gz": (mnist_root / "mnist" / f"{IMAGES}.gz").read_bytes()}
    mirror = mirrors(**files)
    mirror.cuts = [1_000_000]
    monkeypatch.setenv("FW_MIRROR", mirror.url)
    assert len(MNIST(cache, False)) == 10_000
    assert mirror.requests == [(f"/{IMAGES}.gz", None), (f"/{IMAGES}.gz", "bytes=1000000-")]
    assert sorted(p.name for p in (cache / "mnist").iterdir()) == [f"{IMAGES}.gz", LABELS]
    monkeypatch.setenv("FW_MIRROR", NOWHERE)
    assert len(MNIST(cache, False)) == 10_000


def test_a_mirror_with_another_file(cache, mirrors):
    (cache / "mnist" / IMAGES).unlink()
    wrong = mirrors(**{f"{IMAGES}.gz": gzip.compress((cache / "mnist" / LABELS).read_bytes())})
    with pytest.raises(errors.DataError, match=f"sent a wrong file: .*expected {CHECKSUMS[IMAGES]}") as caught:
        MNIST(cache, False, mirrors=[wrong.url])
    assert not isinstance(caught.value, DataUnavailable)
    assert [p.name for p in (cache / "mnist").iterdir()] == [LABELS]
