"""What importing each floor brings along, and that nothing but the registry knows a plugin."""

from __future__ import annotations

import ast
import functools
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

FLOORS = {
    "errors": -1, "backend": 0, "autodiff": 1, "numpy": 2, "random": 2,
    "nn": 3, "optim": 3, "data": 3, "metrics": 3,
    "train": 4, "callbacks": 4, "loggers": 4, "strategies": 4, "profilers": 4,
    "cli": 5, "testing": 5,
}  # fmt: skip
HEAVY = {
    "jsonargparse", "yaml", "tqdm", "wandb", "cupy", "safetensors", "importlib.metadata", "threadpoolctl",
    "urllib.request", "array_api_compat", "array_api_strict", "torch", "jax", "mpi4py", "pytest",
}  # fmt: skip
PLUGINS = {"fw_cpu", "fw_cuda", "fw_strict"}
BACKENDS = {"cpu", "cuda", "strict"}
ROOMS = [room for room in FLOORS if importlib.util.find_spec(f"framework.{room}") is not None]


@functools.cache
def modules_after(*names: str) -> frozenset[str]:
    """What is in `sys.modules` of a fresh process after importing modules."""
    code = f"import sys, json; import {', '.join(names)}; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return frozenset(json.loads(done.stdout))


@pytest.mark.parametrize("room", [room for room in ROOMS if FLOORS[room] <= 3])
def test_a_lower_floor_brings_no_heavy_library_and_no_plugin(room: str) -> None:
    found = modules_after(f"framework.{room}")
    assert not found & (HEAVY - {"tqdm"}), room
    assert not found & PLUGINS, room


@pytest.mark.parametrize("room", ROOMS)
def test_a_floor_brings_nothing_of_the_floors_above(room: str) -> None:
    if room == "testing" and importlib.util.find_spec("pytest") is None:
        pytest.skip("framework.testing needs pytest")
    found = {name.split(".")[1] for name in modules_after(f"framework.{room}") if name.startswith("framework.")}
    climbed = {other for other in found if other in FLOORS and FLOORS[other] > FLOORS[room]}
    assert not climbed


def test_the_four_imports_of_every_script_are_light() -> None:
    found = modules_after("framework", "framework.numpy", "framework.nn", "framework.optim")
    assert not found & HEAVY
    assert not found & PLUGINS
    assert {"framework.train", "framework.cli", "framework.data"}.isdisjoint(found)


def test_the_package_itself_imports_no_library() -> None:
    found = modules_after("framework")
    assert "numpy" not in found
    assert not found & HEAVY


# -- nothing knows a backend by name ------------------------------------------------------------------


def sources(repository: Path) -> Iterator[Path]:
    for folder in ("framework", "recipes", "benchmarks"):
        yield from (repository / folder).rglob("*.py")


def imported(tree: ast.AST) -> Iterator[tuple[int, str]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.lineno, node.module
        elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
            called = ast.unparse(node.func)
            if called.endswith(("import_module", "__import__", "find_spec")):
                yield node.lineno, str(node.args[0].value)


def strings(node: ast.AST) -> set[str]:
    return {n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)}


def compared(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Every comparison with a backend's name, whichever way it is written."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Compare):
            operands = [node.left, *node.comparators]
            found = set().union(*(strings(o) for o in operands if isinstance(o, LITERALS)))
        elif isinstance(node, ast.MatchValue):
            found = strings(node.value)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            found = strings(node) if node.func.attr in ("startswith", "endswith") else set()
        else:
            continue
        if found & BACKENDS:
            yield node.lineno, ast.unparse(node)


NOT_BACKENDS = {"framework/backend/threads.py": "Linux calls a cgroup controller `cpu`"}
"""Files in which such a name means something else, and what."""

LITERALS = (ast.Constant, ast.Tuple, ast.List, ast.Set)


def test_nothing_imports_a_plugin(repository: Path) -> None:
    for file in sources(repository):
        for line, name in imported(ast.parse(file.read_text())):
            assert name.split(".")[0] not in PLUGINS, f"{file.relative_to(repository)}:{line} imports {name}"


def test_nothing_compares_a_backends_name(repository: Path) -> None:
    for file in sources(repository):
        if file.relative_to(repository).as_posix() in NOT_BACKENDS:
            continue
        for line, text in compared(ast.parse(file.read_text())):
            pytest.fail(f"{file.relative_to(repository)}:{line} asks for a backend by name: {text}")


@pytest.mark.parametrize(
    "code",
    [
        "if b.name == 'cuda': pass",
        "if 'cpu' != name: pass",
        "x = name in ('cpu', 'mps')",
        "name.startswith('cuda')",
        "match name:\n    case 'cuda': pass",
    ],
)
def test_the_check_sees_every_way_to_write_it(code: str) -> None:
    assert list(compared(ast.parse(code)))


@pytest.mark.parametrize("code", ["get('cpu')", "names = {'gpu': 'cuda'}", "x == 'cuda_graph'"])
def test_the_check_lets_names_pass_that_are_not_compared(code: str) -> None:
    assert not list(compared(ast.parse(code)))


def test_the_check_sees_imports() -> None:
    code = "import fw_cpu\nfrom fw_cuda.kernels import x\nimportlib.import_module('fw_strict')"
    assert [name.split(".")[0] for _, name in imported(ast.parse(code))] == ["fw_cpu", "fw_cuda", "fw_strict"]


def test_plugins_import_the_contract_only(repository: Path) -> None:
    allowed = ("framework.backend", "framework.errors")
    for file in (repository / "plugins").rglob("*.py"):
        own = file.relative_to(repository / "plugins").parts[1]
        for line, name in imported(ast.parse(file.read_text())):
            if name.split(".")[0] == "framework":
                assert name.startswith(allowed), f"{file.relative_to(repository)}:{line} imports {name}"
            assert name.split(".")[0] not in PLUGINS - {own}, f"{file.relative_to(repository)}:{line} imports {name}"
