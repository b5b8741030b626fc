"""Project folders, `sys.path` and plugins."""

from __future__ import annotations

import sys

import pytest

from framework.backend import registry
from framework.cli import yaml12
from framework.cli.nodes import Node, Origin
from framework.cli.paths import extend_sys_path, load_plugins, project_folder, sys_path_entries
from framework.errors import ConfigError


@pytest.fixture(autouse=True)
def _as_before(monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    before = set(sys.modules)
    yield
    for name in set(sys.modules) - before:
        del sys.modules[name]


def plugins(text, file="c.yaml"):
    return load_plugins(yaml12.load(f"plugins: {text}", str(file)).mapping["plugins"])


@pytest.mark.parametrize("mark", ["pyproject.toml", ".git"])
def test_the_project_is_the_nearest_marked_folder(tmp_path, mark):
    deep = tmp_path / "project" / "configs" / "more"
    deep.mkdir(parents=True)
    (tmp_path / "project" / mark).touch()
    assert project_folder(deep / "a.yaml") == tmp_path / "project"


def test_without_a_mark_it_is_the_configs_own_folder(tmp_path):
    if any((folder / mark).exists() for folder in (tmp_path, *tmp_path.parents) for mark in ("pyproject.toml", ".git")):
        pytest.skip("the temporary folder lies inside a project")
    assert project_folder(tmp_path / "a.yaml") == tmp_path


def test_the_current_folder_comes_first(tmp_path, monkeypatch):
    here, project = tmp_path / "here", tmp_path / "project"
    here.mkdir()
    project.mkdir()
    (project / "pyproject.toml").touch()
    monkeypatch.chdir(here)
    assert extend_sys_path([(project / "a.yaml", [])]) == [str(project)]
    assert sys.path[:2] == [str(here), str(project)]
    extend_sys_path([(project / "a.yaml", [])])
    assert sys.path.count(str(here)) == 1


def test_a_config_that_says_where_its_code_is_is_believed(tmp_path, monkeypatch):
    (tmp_path / "pyproject.toml").touch()
    monkeypatch.chdir(tmp_path)
    code = str(tmp_path / "code")
    assert extend_sys_path([(tmp_path / "runs" / "config.yaml", [code])]) == [code]
    assert sys.path[:2] == [str(tmp_path), code]


def test_folders_of_a_runs_own_config():
    assert sys_path_entries(yaml12.load("[a, b]", "c")) == ["a", "b"]
    assert sys_path_entries(None) == []
    with pytest.raises(ConfigError, match=r"c:1: sys_path.1: expected a folder, got 3"):
        sys_path_entries(yaml12.load("[a, 3]", "c"))


def test_plugins_by_name_and_by_file(tmp_path, monkeypatch):
    (tmp_path / "extra_one.py").write_text("x = 1\n")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "extra_two.py").write_text("x = 2\n")
    monkeypatch.syspath_prepend(tmp_path)
    modules, names = plugins("[extra_one, folder/extra_two.py]", tmp_path / "c.yaml")
    assert [module.x for module in modules] == [1, 2]
    assert names == ["extra_one", str(tmp_path / "folder" / "extra_two.py")]
    assert sys.modules["extra_two"] is modules[1]
    again, _ = plugins(f"[{names[1]}]")
    assert again == [modules[1]]


def test_a_package_folder(tmp_path):
    (tmp_path / "extra_package").mkdir()
    (tmp_path / "extra_package" / "__init__.py").write_text("x = 3\n")
    modules, _ = plugins("[./extra_package]", tmp_path / "c.yaml")
    assert modules[0].x == 3


def test_a_mapping_settles_who_provides_a_backend(monkeypatch):
    monkeypatch.setattr(registry, "_preferred", {})
    monkeypatch.setattr(registry, "_instances", dict(registry._instances))
    assert plugins("{cpu: fw-framework}") == ([], {"cpu": "fw-framework"})
    assert registry._preferred == {"cpu": "fw-framework"}
    assert registry.get("cpu").name == "cpu"


MISTAKES = [
    ("[extra_none]", "c.yaml:1: plugins.0: no module 'extra_none'"),
    ("[json, extra/none.py]", "c.yaml:1: plugins.1: no file extra/none.py beside the config"),
    ("[3]", "c.yaml:1: plugins.0: expected an import name or a Python file, got 3"),
    ("{cqu: fw-framework}", "c.yaml:1: plugins.cqu: no backend is called 'cqu'. Did you mean 'c"),
    ("{cpu: 3}", "c.yaml:1: plugins.cpu: expected a distribution's name, got 3"),
]


@pytest.mark.parametrize(("text", "message"), MISTAKES)
def test_plugin_mistakes(text, message):
    with pytest.raises(ConfigError) as caught:
        plugins(text)
    assert message in str(caught.value)


def test_a_plugin_that_fails_leaves_no_module_and_chains_its_error(tmp_path):
    (tmp_path / "extra_bad.py").write_text("raise RuntimeError('boom')\n")
    with pytest.raises(ConfigError, match=r"importing extra_bad.py failed: RuntimeError: boom") as caught:
        plugins("[extra_bad.py]", tmp_path / "c.yaml")
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert "extra_bad" not in sys.modules


def test_a_file_must_not_hide_an_imported_module(tmp_path):
    (tmp_path / "json.py").write_text("")
    import json

    with pytest.raises(ConfigError, match=r"plugins.0: a module called 'json' is imported already"):
        load_plugins(Node([Node(str(tmp_path / "json.py"))], Origin("c.yaml", 1)))
    assert sys.modules["json"] is json
