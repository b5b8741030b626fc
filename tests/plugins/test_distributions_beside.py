"""The distributions under `plugins/` that are installed by themselves: small, and nothing but plugins."""

from __future__ import annotations

import ast
import importlib.util
import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

PLUGINS = Path(__file__).resolve().parents[2] / "plugins"
BESIDE = sorted(file.parent.name for file in PLUGINS.glob("*/pyproject.toml"))


def imports(tree: ast.AST) -> list[str]:
    """The modules that a piece of code imports."""
    found = [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
    return found + [node.module or "." for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]


def test_they_are_these() -> None:
    assert BESIDE == ["jax", "strict", "torch"]


@pytest.mark.parametrize("name", BESIDE)
def test_its_metadata_is_that_of_a_plugin(name: str) -> None:
    project = tomllib.loads((PLUGINS / name / "pyproject.toml").read_text())["project"]
    assert project["name"] == f"fw-{name}"
    assert "fw-framework" in project["dependencies"]
    points = project["entry-points"]["framework.backends"]
    assert list(points) == [name]
    assert points[name].startswith(f"fw_{name}:")
    readme = project.get("readme")
    assert readme is None or (PLUGINS / name / readme).read_text().startswith(f"# fw-{name}\n")


@pytest.mark.parametrize("name", BESIDE)
def test_it_knows_the_contract_and_its_library_alone(name: str) -> None:
    """Nothing of the framework but `backend` and `errors`; and its library is imported inside functions only."""
    for file in (PLUGINS / name / f"fw_{name}").rglob("*.py"):
        tree = ast.parse(file.read_text())
        for module in imports(tree):
            if module.split(".")[0] == "framework":
                assert module.split(".")[1] in ("backend", "errors"), f"{file.name} imports {module}"
        at_the_top = ast.Module([node for node in tree.body if isinstance(node, ast.Import | ast.ImportFrom)], [])
        foreign = {module.split(".")[0] for module in imports(at_the_top)} - {"framework", f"fw_{name}"}
        assert foreign <= sys.stdlib_module_names, f"{file.name} imports {foreign}"


@pytest.mark.reference
def test_installed_with_pip_they_are_ready(tmp_path: Path) -> None:
    missing = [
        m for m in ("hatchling", "pip", "torch", "jax", "array_api_strict") if importlib.util.find_spec(m) is None
    ]
    if missing:
        pytest.skip(f"{', '.join(missing)} is not here")
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--disable-pip-version-check", "--target"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *(p for p in sys.path if p)])}
    folders = [str(PLUGINS / name) for name in BESIDE]
    for command in (["pip", "install", "-q", *offline, str(tmp_path), *folders], ["framework", "plugins"]):
        done = subprocess.run(
            [sys.executable, "-m", *command], cwd=tmp_path, capture_output=True, text=True, env=env, timeout=300
        )
        assert done.returncode == 0, done.stderr
    rows = {line.split()[0]: line.split()[1:4] for line in done.stdout.splitlines()}
    assert {name: rows[name] for name in BESIDE} == {name: [f"fw-{name}", "0.1.0", "ready"] for name in BESIDE}
