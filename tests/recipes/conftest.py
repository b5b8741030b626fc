"""Recipes as modules, and runs of their configs, in an empty folder without a network."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import pytest

from framework.cli.build import Run, build
from framework.cli.config import load_config

ROOT = Path(__file__).resolve().parents[2]
QUIET = {"trainer.backend": "cpu", "trainer.enable_progress_bar": "false", "trainer.enable_model_summary": "false"}


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An empty folder and home, no network, and imports that are forgotten."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FW_MIRROR", "http://127.0.0.1:9/")
    monkeypatch.delenv("FW_DATA", raising=False)
    monkeypatch.setattr(sys, "path", [str(ROOT), *sys.path])
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        if name.partition(".")[0] == "recipes":
            del sys.modules[name]


@pytest.fixture
def recipe(request: pytest.FixtureRequest) -> ModuleType:
    """The recipe that the file is about: `test_char_lm.py` about `recipes/char_lm.py`."""
    return importlib.import_module(f"recipes.{request.path.stem.removeprefix('test_')}")


@pytest.fixture
def made(request: pytest.FixtureRequest) -> Callable[..., Run]:
    """Makes what the recipe's config describes, with other values for some keys."""
    name = request.path.stem.removeprefix("test_")

    def make(**changed: object) -> Run:
        overrides = QUIET | {key.replace("__", "."): str(value) for key, value in changed.items()}
        return build(load_config([str(ROOT / "configs" / f"{name}.yaml")], list(overrides.items())))

    return make
