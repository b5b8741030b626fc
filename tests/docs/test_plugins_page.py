"""`docs/plugins.md`: its two files, installed and trained on with its own commands; its tables, counted."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "plugins.md").read_text()
FILES = dict(re.findall(r"<!-- file: (\S+) -->\n```\w+\n(.*?)```", PAGE, re.DOTALL))
((COMMANDS,),) = [re.findall(r"<!-- run -->\n```sh\n(.*?)```", PAGE, re.DOTALL)]


def lines_of(text: str) -> int:
    return sum(bool(line.strip()) for line in text.splitlines())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the two files and nothing else."""
    folder = tmp_path_factory.mktemp("mine")
    for name, text in FILES.items():
        (folder / name).write_text(text)
    return folder


@pytest.fixture
def run(folder: Path, tmp_path: Path, run_at_home) -> Callable[[str], str]:
    """Runs a line of the page there, without a network; what pip installs goes into an empty folder."""
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--target"]

    def run(line: str) -> str:
        program, *words = shlex.split(line)
        more = [*offline, str(tmp_path)] if program == "pip" else []
        done = run_at_home([{"fw": "framework"}.get(program, program), *words, *more], folder, tmp_path)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_a_backend_from_an_empty_folder_to_a_trained_network(folder: Path, run) -> None:
    for library in ("array_api_strict", "hatchling", "pip"):
        pytest.importorskip(library)
    assert set(FILES) == {"fw_mine.py", "pyproject.toml"}
    assert lines_of(FILES["fw_mine.py"]) + lines_of(FILES["pyproject.toml"]) < 40
    install, plugins, check, recipe, train = COMMANDS.splitlines()
    run(install)
    assert re.search(r"^mine +fw-mine 0\.1\.0 +ready +mine$", run(plugins), re.MULTILINE)
    assert run(f"{check} -k contract").endswith("backend 'mine' conforms\n")  # README's runs all of it
    run(recipe)
    run(f"{train} --trainer.enable_progress_bar false")
    told = json.loads((folder / "runs" / "mnist_mlp" / "version_0" / "summary.json").read_text())
    assert (told["status"], told["backend"], told["dataset"]) == ("finished", "mine", "digits")
    assert told["metrics"]["test_acc"]["last"] > 0.95


def test_the_bundled_plugins_are_all_listed_with_their_lines() -> None:
    rows = dict(re.findall(r"^\| \[(\w+)\]\(\.\./plugins/\w+\) \|.*\| (\d*) *\|$", PAGE, re.MULTILINE))
    folders = {path.parent.name for path in (ROOT / "plugins").glob("*/fw_*")}
    assert set(rows) == folders
    for name, counted in rows.items():
        if counted:
            files = (ROOT / "plugins" / name / f"fw_{name}").rglob("*.py")
            assert int(counted) == sum(lines_of(file.read_text()) for file in files), name
    assert {name for name, counted in rows.items() if counted} == {"torch", "jax", "strict"}


def test_the_kits_tests_are_all_in_the_table() -> None:
    from framework.testing import BackendConformance

    table = PAGE.partition("## What the conformance kit compares")[2].partition("\n## ")[0]
    named = [re.escape(name).replace("…", ".*") for name in re.findall(r"`(test_\w+…?)`", table)]
    of_its_tables = (
        "test_every_",
        "test_other_devices",
        "test_unknown_device",
        "test_python_scalars",
        "test_updates",
        "test_no_copy",
    )
    for test in (name for name in dir(BackendConformance) if name.startswith("test_")):
        assert test.startswith(of_its_tables) or any(re.fullmatch(pattern, test) for pattern in named), test


def test_what_a_backend_may_say_is_in_the_contract() -> None:
    from framework.backend import Backend

    table = PAGE.partition("## What else a backend may say")[2].partition("\n## ")[0]
    named = {name for row in re.findall(r"^\| (`.*?`) \|", table, re.MULTILINE) for name in re.findall(r"`(\w+)`", row)}
    assert named
    assert named <= {*vars(Backend), *Backend.__annotations__} - {"name", "xp", *Backend.__abstractmethods__}
