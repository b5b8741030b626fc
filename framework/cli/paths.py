"""What `fw` can import: the current folder, the projects that the configs belong to, and plugins."""

from __future__ import annotations

import importlib
import importlib.util
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import ModuleType

from framework.backend import registry
from framework.cli.nodes import Node, failed, join, refuse, shown
from framework.errors import did_you_mean


def project_folder(config: Path) -> Path:
    """The nearest folder above a config that holds `pyproject.toml` or `.git`, else the config's own."""
    own = config.absolute().parent
    for folder in (own, *own.parents):
        if (folder / "pyproject.toml").exists() or (folder / ".git").exists():
            return folder
    return own


def extend_sys_path(configs: Iterable[tuple[Path, Sequence[str]]]) -> list[str]:
    """Put the current folder and each config's project folder first in `sys.path`.

    Takes each config with its own `sys_path:`; gives what the written config says there, so that it
    can be run again from any place: those folders or, of a config without, its project folder.
    """
    given = [(str(project_folder(config)), entries) for config, entries in configs]
    told = list(dict.fromkeys(entry for project, entries in given for entry in entries or [project]))
    first = list(dict.fromkeys([str(Path.cwd()), *told, *(project for project, _ in given)]))
    sys.path[:] = [*first, *(entry for entry in sys.path if entry not in first)]
    return told


def sys_path_entries(node: Node | None) -> list[str]:
    """The folders under `sys_path:`, which a run's own `config.yaml` has so that it can be run again.

    Raises:
        ConfigError: it is not a list of folders.
    """
    if node is None or node.value is None:
        return []
    items = node.value if isinstance(node.value, list) else [node]
    for index, item in enumerate(items):
        if not isinstance(item.value, str):
            raise refuse(item, join("sys_path", str(index)), f"expected a folder, got {shown(item.value)}")
    return [str(item.value) for item in items]


def load_plugins(node: Node | None) -> tuple[list[ModuleType], list[str] | dict[str, str]]:
    """Do what `plugins:` says: import each of a list, or settle who provides each name of a mapping.

    A list holds import names and paths of Python files (relative to the config or the current folder);
    a mapping is `BACKEND: DISTRIBUTION`. Gives the imported modules, and the section in re-runnable form.

    Raises:
        ConfigError: a plugin is not found, fails to import (the exception is chained) or is no name.
    """
    if node is None or node.value is None:
        return [], []
    if isinstance(node.value, dict):
        chosen = {}
        for name, child in node.value.items():
            if not isinstance(child.value, str):
                raise refuse(child, join("plugins", name), f"expected a distribution's name, got {shown(child.value)}")
            if name not in registry.names():
                hint = did_you_mean(name, registry.names())
                raise refuse(child, join("plugins", name), f"no backend is called {name!r}.{hint}")
            registry.prefer(name, child.value)
            chosen[name] = child.value
        return [], chosen
    items = node.value if isinstance(node.value, list) else [node]
    modules, names = [], []
    for index, item in enumerate(items):
        path = join("plugins", str(index))
        if not isinstance(item.value, str) or not item.value:
            raise refuse(item, path, f"expected an import name or a Python file, got {shown(item.value)}")
        is_file = item.value.endswith(".py") or "/" in item.value
        module, name = _import_file(item, path) if is_file else (_import_name(item, path), item.value)
        modules.append(module)
        names.append(name)
    return modules, names


def _import_name(item: Node, path: str) -> ModuleType:
    name = str(item.value)
    if not all(part.isidentifier() for part in name.split(".")):
        raise refuse(item, path, f"expected an import name or a Python file, got {shown(name)}")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and (name == error.name or name.startswith(f"{error.name}.")):
            raise refuse(item, path, f"no module {name!r} in the current folder, the project or installed") from None
        raise failed(item, path, f"importing {name} failed:", error) from error
    except Exception as error:
        raise failed(item, path, f"importing {name} failed:", error) from error


def _import_file(item: Node, path: str) -> tuple[ModuleType, str]:
    """The module in a file; a folder is a package."""
    given = Path(str(item.value)).expanduser()
    beside = Path(item.origin.file).absolute().parent / given
    file = next((place for place in (beside, given) if place.exists()), None)
    if file is None:
        raise refuse(item, path, f"no file {given} beside the config or in the current folder")
    file = file.resolve()
    if file.is_dir():
        sys.path.insert(0, str(file.parent))
        return _import_name(Node(file.name, item.origin), path), str(file)
    loaded = sys.modules.get(file.stem)
    if loaded is not None and getattr(loaded, "__file__", None) == str(file):
        return loaded, str(file)
    if loaded is not None:
        raise refuse(item, path, f"a module called {file.stem!r} is imported already; rename {given}")
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None or spec.loader is None:
        raise refuse(item, path, f"{given} is not a Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[file.stem] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[file.stem]
        raise failed(item, path, f"importing {given} failed:", error) from error
    return module, str(file)
