"""`fw new plugin NAME`: what it writes can be installed, is found, and conforms; and `fw plugins check NAME`."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from framework.cli.plugins_check import read_records, summary, verdict

PACKAGE = ("pyproject.toml", "README.md", "fw_my_abacus/__init__.py", "tests/test_conformance.py")


def run(*command: str, folder: Path, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    """A command of Python's in a folder, with what is installed in `site` beside what this process finds."""
    paths = [*([str(site)] if site else []), *(path for path in sys.path if path)]
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=folder,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        timeout=600,
    )


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the command was run: `fw-my-abacus/`."""
    folder = tmp_path_factory.mktemp("new")
    done = run("framework", "new", "plugin", "my_abacus", folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert "pip install -e ./fw-my-abacus && fw plugins check my_abacus" in done.stdout
    return folder


@pytest.fixture(scope="module")
def site(made: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where pip has installed it, without a network."""
    pytest.importorskip("hatchling")
    pytest.importorskip("pip")
    target = tmp_path_factory.mktemp("site")
    offline = ["--disable-pip-version-check", "--no-index", "--no-deps", "--no-build-isolation"]
    done = run("pip", "install", "-q", *offline, "--target", str(target), "./fw-my-abacus", folder=made)
    assert done.returncode == 0, done.stderr
    return target


def test_it_is_a_small_package(made: Path) -> None:
    package = made / "fw-my-abacus"
    assert sorted(str(f.relative_to(package)) for f in package.rglob("*") if f.is_file()) == sorted(PACKAGE)
    source = (package / "fw_my_abacus" / "__init__.py").read_text()
    compile(source, "fw_my_abacus", "exec")
    assert "class MyAbacusBackend(Backend):" in source
    assert "$" not in "".join((package / name).read_text() for name in PACKAGE)


def test_installed_it_is_found_and_ready(site: Path, tmp_path: Path) -> None:
    done = run("framework", "plugins", folder=tmp_path, site=site)
    row = next(line for line in done.stdout.splitlines() if line.startswith("my_abacus"))
    assert row.split() == ["my_abacus", "fw-my-abacus", "0.1.0", "ready", "my_abacus"]


@pytest.mark.slow
def test_its_own_conformance_test_passes_as_generated(made: Path, site: Path) -> None:
    done = run("pytest", "-q", "-p", "no:cacheprovider", folder=made / "fw-my-abacus", site=site)
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout


def test_the_check_of_an_installed_backend_is_a_table(site: Path, tmp_path: Path) -> None:
    done = run("framework", "plugins", "check", "my_abacus", "-k", "contract or streams", folder=tmp_path, site=site)
    assert (done.returncode, done.stderr) == (0, "")
    assert "all                                2       0         0        0" in done.stdout
    assert done.stdout.endswith("\nbackend 'my_abacus' conforms\n")


@pytest.mark.parametrize("name", ["Abacus", "two words", "class", "cpu", "9lives", "a-b", ""])
def test_what_cannot_be_a_name_is_refused_and_nothing_is_written(tmp_path: Path, monkeypatch, capsys, name) -> None:
    from framework.cli.main import main

    monkeypatch.chdir(tmp_path)
    assert main(["new", "plugin", name]) == 2
    error = capsys.readouterr().err.strip()
    assert error.count("\n") == 0
    assert ("has a backend 'cpu' already" if name == "cpu" else f"{name!r} cannot name a backend") in error
    assert not list(tmp_path.iterdir())


def test_files_that_were_changed_are_not_overwritten(tmp_path: Path, monkeypatch, capsys) -> None:
    from framework.cli.main import main

    monkeypatch.chdir(tmp_path)
    assert main(["new", "plugin", "toy"]) == 0
    file = tmp_path / "fw-toy" / "fw_toy" / "__init__.py"
    file.write_text("mine")
    assert main(["new", "plugin", "toy"]) == 2
    assert "fw_toy/__init__.py already here and different; --force overwrites" in capsys.readouterr().err
    assert file.read_text() == "mine"


# -- the check of a backend that does not conform ------------------------------------------------------

WRONG = """

    def exp(x):
        return numpy.exp(x) * 1.001

    def end(x):
        import os
        os._exit(3)

    Plugin.kernels = {"exp": exp, "tanh": end}
"""


def check(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return run("framework", "plugins", "check", *options, folder=folder, site=folder)


@pytest.fixture(scope="module")
def wrong(tmp_path_factory: pytest.TempPathFactory, installer, good_plugin) -> Path:
    """A folder with backends that are found, and not right."""
    install = installer(tmp_path_factory.mktemp("wrong"))
    install("wrong", good_plugin("wrong") + textwrap.dedent(WRONG).replace("\n", "\n    "), distribution="fw-wrong")
    install("absent", "import no_such_library", distribution="fw-absent")
    return install.folder


def test_failures_are_listed_with_their_cause(wrong: Path) -> None:
    done = check(wrong, "wrong", "-k", "test_forward and exp-float")
    assert done.returncode == 1
    assert "  test_forward[exp-float64]: AssertionError: Not equal to tolerance" in " ".join(done.stdout.split(" "))
    assert "backend 'wrong' does not conform: " in done.stdout.splitlines()[-1]


def test_a_backend_that_ends_the_process_is_told_with_the_test(wrong: Path) -> None:
    done = check(wrong, "wrong", "-k", "test_forward and tanh-float32")
    assert done.returncode == 1
    last = done.stdout.splitlines()[-1]
    assert last.startswith("backend 'wrong' does not conform: exited with code 3 while the kit ran")
    assert last.endswith("in test_forward[tanh-float32]")


def test_what_cannot_be_checked_is_refused_in_one_line(wrong: Path) -> None:
    for options, expected in (
        (("wrongg",), "no backend 'wrongg' is installed. Did you mean 'wrong'?"),
        (("absent",), "backend 'absent' of fw-absent 1.0 is broken: does not import: ModuleNotFoundError"),
        ((), "which backend? fw plugins check NAME"),
    ):
        done = check(wrong, *options)
        assert done.returncode == 2
        assert expected in done.stderr
        assert done.stderr.count("\n") == 1


def test_records_that_were_cut_off_are_read_as_far_as_they_go() -> None:
    lines = [
        '{"event": "collected", "count": 3}',
        '{"event": "start", "test": "a"}',
        '{"event": "end", "test": "a", "outcome": "passed", "why": ""}',
        '{"event": "start", "test": "b"}',
        '{"event": "end", "te',
    ]
    result = read_records(lines)
    assert (result.collected, result.running, list(result.outcomes)) == (3, "b", ["a"])
    result.ending = "no end within 5 s, in b"
    assert not result.sound
    assert summary(result).splitlines()[-1].split() == ["all", "1", "0", "0", "0"]
    assert verdict("toy", result) == "backend 'toy' does not conform: no end within 5 s, in b"
