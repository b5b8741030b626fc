"""A run on a backend that does not work is refused in one line; a run on another one is none the wiser."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

import framework as fw
from framework.backend import registry
from framework.errors import BackendError

ROOT = Path(__file__).resolve().parents[2]

HOSTILE = {
    "raises": ("raise ValueError('two\\nlines')", "does not import: ValueError: two lines"),
    "exits": ("raise SystemExit(0)", "does not import: SystemExit: 0"),
    "lies": ("GOOD:cpu", "the plugin registered as 'lies' calls itself 'cpu'; the two must be equal"),
    "lacks": (
        "from framework.backend import Backend\nclass Plugin(Backend): name = 'lacks'",
        "backend 'lacks' could not be set up: TypeError: Can't instantiate abstract class Plugin",
    ),
    "shapes": (
        "GOOD:shapes\n        def asarray(self, obj, *, dtype=None, device=None, copy=None):\n"
        "            return numpy.array([obj], dtype='f4')",
        "backend 'shapes': asarray gives shape (1, 3) where (3,) is right",
    ),
    "dtypes": (
        "GOOD:dtypes\n        def asarray(self, obj, *, dtype=None, device=None, copy=None):\n"
        "            return numpy.array(obj, dtype='f8')",
        "backend 'dtypes': asarray gives float64 where float32 is right",
    ),
}
"""A backend's name, its module's text, and why it cannot be used."""

ONLY_INSTALLED = {
    "hangs": "import time; time.sleep(3600)",
    "vanishes": "import os; os._exit(0)",
    "cpu": "raise ValueError('claims what is not its own')",
}
"""Nobody asks for these, so that nothing of theirs is ever run."""


def source_of(text: str, good_plugin) -> str:
    if not text.startswith("GOOD:"):
        return text
    name, newline, rest = text.removeprefix("GOOD:").partition("\n")
    return good_plugin(name) + newline + rest


@pytest.fixture
def hostile(install_plugin, good_plugin) -> Path:
    """All of them are installed; the folder that they are in."""
    for name, (text, _) in HOSTILE.items():
        install_plugin(name, source_of(text, good_plugin), distribution=f"fw-{name}")
    for name, text in ONLY_INSTALLED.items():
        install_plugin(name, text, distribution=f"fw-{name}")
    install_plugin("sound", good_plugin("sound"), distribution="fw-sound")
    return install_plugin.folder


@pytest.fixture
def fw_train(hostile: Path, tmp_path: Path, run_at_home) -> Callable[[str], subprocess.CompletedProcess[str]]:
    """Trains a little on a backend, in an empty folder, with all of them installed."""
    few = ["--trainer.max_steps=2", "--trainer.limit_val_batches=1", "--trainer.enable_progress_bar=false", "--no-test"]
    words = ["framework", "train", str(ROOT / "configs" / "mnist_mlp.yaml"), *few, "--trainer.backend"]
    return lambda backend: run_at_home([*words, backend], tmp_path, hostile, timeout=120)


def test_a_trainer_on_each_is_refused_with_its_cause_and_the_others_go_on(hostile: Path) -> None:
    for name, (_, cause) in HOSTILE.items():
        with pytest.raises(BackendError) as refused:
            fw.Trainer(backend=name, max_epochs=1)
        assert cause in str(refused.value)
        assert "\n" not in str(refused.value)
        assert fw.Trainer(backend="sound", max_epochs=1).strategy.backend == "sound"
    assert {*HOSTILE, *ONLY_INSTALLED, "sound"} <= set(registry.names())


def test_auto_does_not_wait_for_one_that_hangs(install_plugin, monkeypatch) -> None:
    monkeypatch.setattr(registry, "TRY_S", 1.0)
    install_plugin("hangs", "import time; time.sleep(3600)", distribution="fw-hangs", auto="99")
    assert registry.auto() in ("cuda", "cpu")


@pytest.mark.parametrize("program", [None, "", "/nowhere/python"])
def test_auto_finds_another_where_there_is_no_interpreter_to_try_one_with(
    install_plugin, good_plugin, monkeypatch, program
) -> None:
    """As in a program that has Python within it."""
    monkeypatch.setattr(sys, "executable", program)
    install_plugin("toy", good_plugin("toy"), distribution="fw-toy", auto="99")
    assert registry.auto().name != "toy"


def test_what_is_offered_for_auto_cannot_end_the_run_nor_take_anothers_name(
    install_plugin, good_plugin, monkeypatch
) -> None:
    monkeypatch.setattr(registry, "TRY_S", 120.0)
    monkeypatch.setattr(registry, "_instances", {})
    nameless = "from framework.backend import Backend\nclass Plugin(Backend): pass"
    install_plugin("vanishes", "import os; os._exit(0)", distribution="fw-vanishes", auto="99")
    install_plugin("exits", "raise SystemExit(0)", distribution="fw-exits", auto="98")
    install_plugin("nameless", nameless, distribution="fw-nameless", auto="97")
    install_plugin("lies", good_plugin("cpu"), distribution="fw-lies", auto="96")
    real = registry.entry_points
    monkeypatch.setattr(
        registry,
        "entry_points",
        lambda group=registry.GROUP: [p for p in real(group) if group == registry.GROUP or p.name not in ("20", "10")],
    )
    with pytest.raises(BackendError, match="no backend works here") as refused:
        registry.auto()
    for cause in (
        "it ends the process that tries it, with code 0; ",
        "does not import: SystemExit: 0; ",
        "fw_nameless_nameless_2:Plugin has no name; ",
        "calls itself 'cpu', which is fw_cpu:CpuBackend of fw-framework",
    ):
        assert cause in str(refused.value)
    assert type(registry.get("cpu")).__module__ == "fw_cpu.backend"


def test_metadata_that_cannot_be_read_leave_one_distribution_out(install_plugin, good_plugin) -> None:
    install_plugin("sound", good_plugin("sound"), distribution="fw-sound")
    install_plugin("garbled", good_plugin("garbled"), distribution="fw-garbled")
    (file,) = install_plugin.folder.glob("fw_garbled*.dist-info/entry_points.txt")
    file.write_text("[framework.backends]\nno entry point at all\n")
    with pytest.warns(UserWarning, match=r"fw_garbled\S+ is left out: its entry points cannot be read \(TypeError"):
        names = registry.names()
    assert {"cpu", "cuda", "sound"} <= set(names)
    assert "garbled" not in names
    assert fw.Trainer(backend="sound", max_epochs=1).strategy.backend == "sound"  # and the warning comes once


@pytest.mark.parametrize("name", ["exits", "shapes"])
def test_a_command_on_it_is_refused_in_one_line_and_writes_nothing(fw_train, tmp_path: Path, name: str) -> None:
    done = fw_train(name)
    assert done.returncode == 2
    assert HOSTILE[name][1] in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())


def test_a_command_on_another_one_trains(fw_train, tmp_path: Path) -> None:
    done = fw_train("cpu")
    assert done.returncode == 0, done.stderr
    warned = [line for line in done.stderr.splitlines() if "claimed" in line]
    assert len(warned) == 1
    assert "backend 'cpu' is claimed by fw-framework and fw-cpu; the bundled one is used." in warned[0]
    told = json.loads((tmp_path / "runs" / "mnist_mlp" / "version_0" / "summary.json").read_text())
    assert (told["status"], told["backend"]) == ("finished", "cpu")
