"""From a name in a configuration to the class: import paths, short names, and the nearest name for a typo."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import sys
import sysconfig
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from framework.cli.nodes import Node, article, failed, refuse
from framework.errors import FrameworkError, did_you_mean, nearest

NAMESPACES = (
    "framework.optim",
    "framework.optim.lr_scheduler",
    "framework.callbacks",
    "framework.loggers",
    "framework.nn",
    "framework.data",
    "framework.metrics",
)
"""Where short names are looked for; a section's own namespace comes first."""


class Classes:
    """Finds classes by import path or short name.

    `modules` are those that the configuration imports as plugins: their classes have short names too.
    """

    def __init__(self, modules: Iterable[ModuleType] = ()) -> None:
        self.modules = list(modules)

    def find(self, node: Node, path: str, prefer: Sequence[str] = ()) -> tuple[type, str]:
        """The class that a `class_path` node names, and its full import path.

        Raises:
            ConfigError: there is none (the nearest name is given), or its module fails to import
                (the user's own exception is chained).
        """
        name = str(node.value)
        if not name or not all(part.isidentifier() for part in name.split(".")):
            raise refuse(node, path, f"expected a class name such as mymodule.MyClass, got {name!r}")
        if "." in name:
            return self._by_path(node, path, name), name
        return self._by_short_name(node, path, name, prefer)

    def same(self, one: str, other: str) -> bool:
        """Whether two names mean the same class; names that cannot be found are compared as text."""
        if one == other:
            return True
        if one.rpartition(".")[2] != other.rpartition(".")[2]:
            return False
        try:
            return self.find(Node(one), "")[0] is self.find(Node(other), "")[0]
        except FrameworkError:
            return False

    # -- short names ------------------------------------------------------------------------------

    def _by_short_name(self, node: Node, path: str, name: str, prefer: Sequence[str]) -> tuple[type, str]:
        spaces = [space for space in map(_import_or_none, dict.fromkeys((*prefer, *NAMESPACES))) if space]
        for space in (*self.modules, *spaces):
            found = getattr(space, name, None) if name in names_in(space) else None
            if inspect.isclass(found):
                return found, f"{space.__name__}.{name}"
        near_first = [space for space in spaces if space.__name__ in prefer]
        known = [n for space in (*self.modules, *near_first) for n in _classes_in(space)]
        everything = [n for space in spaces for n in _classes_in(space)]
        close = did_you_mean(name, known) or did_you_mean(name, everything)
        listed = "" if close or not near_first else f" There are {', '.join(_classes_in(near_first[0]))}."
        own = "" if close else " Your own classes are named with their module: mymodule.MyClass"
        raise refuse(node, path, f"no class {name!r}.{close}{listed}{own}")

    def twin(self, full: str, prefer: Sequence[str], base: type) -> str | None:
        """The class of ours that has the name of another library's, if it is of the right kind."""
        name = full.rpartition(".")[2]
        spaces = filter(None, map(_import_or_none, dict.fromkeys((*prefer, *NAMESPACES))))
        found = next((cls for space in spaces if inspect.isclass(cls := getattr(space, name, None))), None)
        return name if found is not None and issubclass(found, base) else None

    # -- import paths -----------------------------------------------------------------------------

    def _by_path(self, node: Node, path: str, name: str) -> type:
        module_name, _, rest = name.rpartition(".")
        outer: list[str] = []
        module = self._import(node, path, module_name)
        while module is None:  # a class inside a class
            module_name, _, last = module_name.rpartition(".")
            outer.insert(0, last)
            if not module_name:
                raise refuse(node, path, _unknown_module(name.rpartition(".")[0]))
            module = self._import(node, path, module_name)
        found: Any = module
        for depth, part in enumerate((*outer, rest)):
            if not hasattr(found, part):
                if depth == 0 and outer:
                    raise refuse(node, path, _unknown_module(name.rpartition(".")[0]))
                close = did_you_mean(part, names_in(found))
                classes = ", ".join(_classes_in(found))
                listed = f" It has {classes}" if classes and not close else ""
                raise refuse(node, path, f"no class {part!r} in {found.__name__}{_file_of(found)}.{close}{listed}")
            found = getattr(found, part)
        if not inspect.isclass(found):
            raise refuse(node, path, f"{name} is {article(type(found).__name__)}, not a class")
        return found

    def _import(self, node: Node, path: str, name: str) -> ModuleType | None:
        """The module, or None where there is none of this name."""
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
                return None
            cause: BaseException = error
        except Exception as error:
            cause = error
        raise failed(node, path, f"importing {name} failed:", cause) from cause


def names_in(space: Any) -> list[str]:
    """The public names of a module or class."""
    return [name for name in dir(space) if not name.startswith("_")]


def _classes_in(space: Any) -> list[str]:
    """The names of the classes that a module defines, or a package offers."""
    package = hasattr(space, "__path__")
    own = getattr(space, "__name__", "")
    return [
        name
        for name in names_in(space)
        if inspect.isclass(found := getattr(space, name, None)) and (package or found.__module__ == own)
    ]


def _import_or_none(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and name.startswith(error.name):
            return None
        raise


def _unknown_module(name: str) -> str:
    """What to say of a module that cannot be found."""
    parent, _, last = name.rpartition(".")
    while parent and _import_quietly(parent) is None:
        parent, _, last = parent.rpartition(".")
    if parent:
        folders = list(getattr(sys.modules[parent], "__path__", ()))
        known = [module.name for module in pkgutil.iter_modules(folders)]
        close = nearest(last, known)
        hint = f" Did you mean '{parent}.{close}'?" if close else f" It has {', '.join(known) or 'none'}"
        return f"no module {last!r} in {parent}.{hint}"
    folders = [folder for folder in sys.path if "-packages" not in folder and folder not in _stdlib()]
    known = [module.name for module in pkgutil.iter_modules(folders)]
    known += [folder.name for path in folders for folder in _plain_folders(path)]
    searched = ", ".join(folder or "." for folder in folders[:4])
    return f"no module {last!r}.{did_you_mean(last, known)} Searched {searched} and the installed packages"


def _import_quietly(name: str) -> ModuleType | None:
    try:
        return importlib.import_module(name)
    except Exception:
        return None


def _plain_folders(path: str) -> list[Any]:
    """Folders that are namespace packages: they hold Python files and no `__init__.py`."""
    root = Path(path or ".")
    if not root.is_dir():
        return []
    return [f for f in root.iterdir() if f.name.isidentifier() and f.is_dir() and any(f.glob("*.py"))]


def _stdlib() -> set[str]:
    paths = sysconfig.get_paths()
    return {paths["stdlib"], paths["platstdlib"], f"{paths['stdlib']}/lib-dynload", sys.prefix}


def _file_of(module: Any) -> str:
    file = getattr(module, "__file__", None)
    return f" ({file})" if file else ""
