"""The MNIST database of handwritten digits (LeCun, Cortes & Burges 1998)."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import numpy as np

from framework.data.dataset import ArrayDataset, Transform
from framework.data.download import DataUnavailable, checked_mirrors, download
from framework.data.idx import parse_idx, read_content
from framework.errors import DataError

MIRRORS: Final = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
# SHA-256 of the files' content, unzipped.
CHECKSUMS: Final = {
    "train-images-idx3-ubyte": "ba891046e6505d7aadcbbe25680a0738ad16aec93bde7f9b65e87a2fc25776db",
    "train-labels-idx1-ubyte": "65a50cbbf4e906d70832878ad85ccda5333a97f0f4c3dd2ef09a8a9eef7101c5",
    "t10k-images-idx3-ubyte": "0fa7898d509279e482958e8ce81c8e77db3f2f8254e26661ceb7762c4d494ce7",
    "t10k-labels-idx1-ubyte": "ff7bcfd416de33731a308c3f266cc351222c34898ecbeaf847f06e48f7ec33f2",
}


class MNIST(ArrayDataset):
    """60,000 training or 10,000 test images of handwritten digits: uint8 (n, 28, 28), labels int64 (n,).

    The files are looked for in `<root>/`, `<root>/mnist/` and `<root>/MNIST/raw/`, gzipped or not; the
    checksum of their content decides. Files found nowhere are downloaded to `<root>/mnist/`.

    Args:
        root: folder of data; left out, `$FW_DATA`, else `~/.cache/framework`.
        train: the training images, else the test images.
        download: whether to download what is missing.
        mirrors: addresses of folders to download from, tried in order; left out, `$FW_MIRROR`, else two
            public ones.
        transform: called with a batch of images, such as `transforms.Normalize(0.1307, 0.3081)`.

    Raises:
        DataUnavailable: a file is not there, and could not be downloaded.
        DataError: a file is there, but damaged or another one than MNIST's; it is never used, and never
            replaced without being asked.
    """

    def __init__(
        self,
        root: str | os.PathLike[str] | None = None,
        train: bool = True,
        download: bool = True,
        *,
        mirrors: Sequence[str] | str | None = None,
        transform: Transform | None = None,
    ) -> None:
        folder = Path(root if root is not None else _default_root()).expanduser()
        urls = checked_mirrors(mirrors, MIRRORS) if download else []
        prefix = "train" if train else "t10k"
        names = f"{prefix}-images-idx3-ubyte", f"{prefix}-labels-idx1-ubyte"
        found = {name: _find(folder, name) for name in names}
        images, labels = (parse_idx(found[name] or _fetch(folder, name, urls), name) for name in names)
        super().__init__(images, labels.astype(np.int64), transform=transform)
        self.root = folder
        self.train = train


def _default_root() -> str:
    return os.environ.get("FW_DATA") or "~/.cache/framework"


def _places(root: Path, name: str) -> Iterator[Path]:
    for folder in (root, root / "mnist", root / "MNIST" / "raw"):
        yield folder / name
        yield folder / f"{name}.gz"


def _find(root: Path, name: str) -> bytes | None:
    """The content of the first sound copy; None if there is no copy.

    Raises:
        DataError: there are copies, and none is sound.
    """
    faults = []
    for path in _places(root, name):
        if not os.path.isfile(path):  # also False for a folder that may not be read
            continue
        try:
            content = read_content(path)
            wrong = _fault(name, content, path)
        except DataError as error:
            wrong = str(error)
        if wrong is None:
            return content
        faults.append(wrong)
    if faults:
        raise DataError("\n".join(faults))
    return None


def _fetch(root: Path, name: str, mirrors: Sequence[str]) -> bytes:
    advice = (
        f"Put {name}, gzipped or not, into {root / 'mnist'}; or name the folder that has it with root= or "
        "$FW_DATA, or a mirror with mirrors= or $FW_MIRROR."
    )
    if not mirrors:
        raise DataUnavailable(f"MNIST: no {name} in {root}, {root / 'mnist'} or {root / 'MNIST' / 'raw'}. {advice}")
    try:
        return download(f"{name}.gz", root / "mnist", mirrors, partial(_fault, name))
    except DataUnavailable as error:
        raise DataUnavailable(f"MNIST: no {name} under {root}, and {error}. {advice}") from error


def _fault(name: str, content: bytes, path: Path | None = None) -> str | None:
    """What is wrong with the content of a file; None if it is MNIST's."""
    import hashlib

    expected, actual = CHECKSUMS[name], hashlib.sha256(content).hexdigest()
    if actual == expected:
        return None
    checksums = f"sha256 of the content is {actual}, expected {expected}"
    try:
        parse_idx(content, path or name)
    except DataError as error:
        return f"{error} ({checksums})"
    return f"{path or name}: not MNIST's file: {checksums}. Delete it, and download or copy it again."
