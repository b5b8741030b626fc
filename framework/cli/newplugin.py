"""`fw new plugin NAME`: a backend of one's own, as a package that can be installed and passes the conformance kit."""

from __future__ import annotations

import keyword
import re
from pathlib import Path
from string import Template

from framework.backend import registry
from framework.errors import ConfigError

TEMPLATES = Path(__file__).parent / "templates" / "plugin"


def plugin_files(name: str) -> dict[Path, str]:
    """The files of a new plugin: path to write to, and text.

    Raises:
        ConfigError: the name cannot be a backend's, or is one's already.

    Examples:
        >>> [path.as_posix() for path in plugin_files("abacus")][:2]
        ['fw-abacus/pyproject.toml', 'fw-abacus/fw_abacus/__init__.py']
    """
    check_name(name)
    folder = Path(f"fw-{dashed(name)}")
    places = {
        "pyproject.toml": folder / "pyproject.toml",
        "backend.py": folder / f"fw_{name}" / "__init__.py",
        "test_conformance.py": folder / "tests" / "test_conformance.py",
        "README.md": folder / "README.md",
    }
    words = {"name": name, "dashed": dashed(name), "class_name": class_name(name)}
    return {
        place: Template((TEMPLATES / f"{template}.txt").read_text(encoding="utf-8")).substitute(words)
        for template, place in places.items()
    }


def check_name(name: str) -> None:
    """Refuse what cannot be the name of a backend, of a module and of a distribution at once.

    Raises:
        ConfigError: it is none, or taken.
    """
    if not re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name) or keyword.iskeyword(name):
        raise ConfigError(f"{name!r} cannot name a backend: take a lower-case word such as 'abacus' or 'my_array'")
    for point in registry.entry_points():
        if point.name == name and registry.distribution_of(point) != f"fw-{dashed(name)}":
            owner = registry.distribution_of(point)
            raise ConfigError(f"{owner} has a backend {name!r} already; two of one name are in each other's way")


def dashed(name: str) -> str:
    """A name as distributions write it."""
    return name.replace("_", "-")


def class_name(name: str) -> str:
    """The name of the class.

    Examples:
        >>> class_name("my_array")
        'MyArrayBackend'
    """
    return "".join(part.capitalize() for part in name.split("_")) + "Backend"
