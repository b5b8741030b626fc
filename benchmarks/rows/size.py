"""How large an installation of the base is."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import framework
from benchmarks.registry import Bar, Result, Settings, row

MEGABYTE = 1e6


def folder_size(folder: Path) -> float:
    """Megabytes of all files below a folder."""
    return sum(file.lstat().st_size for file in folder.rglob("*") if not file.is_dir()) / MEGABYTE


def requirement() -> str:
    """What pip is to install: the checkout, or this version from an index."""
    root = Path(framework.__file__).resolve().parent.parent
    return str(root) if (root / "pyproject.toml").exists() else f"fw-framework=={framework.__version__}"


NOTES = """
    What `pip install` adds to the site-packages of a new virtual environment, byte code included; measured once.
"""


@row("size", "install size of the base, NumPy included", minutes=0.7, notes=NOTES)
def size(settings: Settings) -> Iterator[Result]:
    """What pip adds to the site-packages of a new environment, byte code included; measured once."""
    what, bar = "site-packages of the base, NumPy included", Bar(120.0)
    place = settings.scratch / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
    python = place / ("Scripts" if sys.platform == "win32" else "bin") / "python"
    ask = [str(python), "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"]
    site = Path(subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip())
    before, there = folder_size(site), set(site.iterdir())
    command = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", requirement()]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or ["pip failed"])[-1]
        yield Result("size", what, unit="MB", bar=bar, skipped=f"pip could not install it: {reason}")
        return
    with_pip = folder_size(site)
    largest = sorted(((folder_size(p), p.name) for p in site.iterdir() if p.is_dir() and p not in there), reverse=True)
    detail = {name: round(megabytes, 1) for megabytes, name in largest[:6]}
    yield Result(
        "size", what, "", [with_pip - before], "MB", bar, detail | {"pip itself, not counted": round(before, 1)}
    )
