"""The examples in docstrings, run; and every public name that a page promises, there."""

from __future__ import annotations

import doctest
import importlib
import os
import pkgutil

import pytest

import framework

MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(framework.__path__, "framework.")
    if "_examples" not in module.name and not module.name.endswith("__main__")
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.NORMALIZE_WHITESPACE | doctest.ELLIPSIS)
    assert result.failed == 0
    os.chdir(tmp_path)


def test_there_are_examples():
    finder = doctest.DocTestFinder(exclude_empty=True)
    count = sum(bool(test.examples) for name in MODULES for test in finder.find(importlib.import_module(name)))
    assert count > 60


@pytest.mark.parametrize("name", [n for n in framework.__all__ if n != "__version__"])
def test_public_names_are_there(name):
    assert getattr(framework, name) is not None
    assert name in dir(framework)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        framework.nothing
