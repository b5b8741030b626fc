"""Objects as a configuration describes them: the class, its typed arguments, and how it is made."""

from __future__ import annotations

import enum
import inspect
import re
from collections.abc import Collection
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import Any

from framework.cli.arguments import Argument, accepts_anything, arguments_of, class_parts, describe, typed, union_parts
from framework.cli.classes import Classes
from framework.cli.layers import check_class_keys
from framework.cli.nodes import Node, article, failed, join, plain, refuse, shown, where
from framework.cli.report import EXPLAINED_BY_CODE, is_called_from_user_code
from framework.errors import BackendError, ConfigError, FrameworkError, did_you_mean, nearest


@dataclass(slots=True)
class ClassSpec:
    """An object to be made: its class and its arguments, themselves specs where they are objects."""

    cls: type
    class_path: str
    args: dict[str, Any]
    node: Node
    path: str
    nodes: dict[str, tuple[Node, str]] = field(default_factory=dict)
    filled: tuple[str, ...] = ()
    """Arguments that are given when the object is made, such as an optimizer's parameters."""

    def make(self, *first: Any, **more: Any) -> Any:
        """The object.

        Raises:
            ConfigError: the class refused its arguments, or the user's own code in it failed (chained).
        """
        args = {name: _made(value) for name, value in self.args.items()}
        try:
            return self.cls(*first, **args, **more)
        except (ConfigError, *EXPLAINED_BY_CODE) as error:
            if is_called_from_user_code(error):
                raise failed(self.node, self.path, f"{self.cls.__name__}(…) raised", error) from error
            raise type(error)(f"{self._blame(error)}: {error}") from error
        except FrameworkError as error:
            raise type(error)(f"{self._blame(error)}: {error}") from error
        except Exception as error:
            raise failed(self.node, self.path, f"{self.cls.__name__}(…) raised", error) from error

    def _blame(self, error: FrameworkError) -> str:
        """The place of the argument that an error speaks of, else of the object."""
        for name, (node, path) in self.nodes.items():
            is_device = isinstance(error, BackendError) and name in ("backend", "accelerator")
            if is_device or re.search(rf"\b{re.escape(name)}\b", str(error)):
                return where(node, path)
        return where(self.node, self.path)

    def accepts(self, name: str) -> bool:
        """Whether the class takes an argument of this name."""
        return name in arguments_of(self.cls).known

    def gives_any(self, *names: str) -> bool:
        """Whether the configuration sets any of these arguments to more than null."""
        return any(self.args.get(name) is not None for name in names)

    def arguments(self) -> dict[str, Any]:
        """All arguments as plain data, defaults included: what `config.yaml` says."""
        found: dict[str, Any] = {}
        for name, argument in arguments_of(self.cls).known.items():
            if name in self.args or name in self.filled:
                continue
            if _is_plain(argument.default):
                found[name] = _tree(argument.default)
        known = list(arguments_of(self.cls).known)
        found.update({name: _tree(value) for name, value in self.args.items()})
        return dict(sorted(found.items(), key=lambda item: known.index(item[0]) if item[0] in known else len(known)))

    def tree(self) -> dict[str, Any]:
        """The object as plain data: `class_path` and `init_args`."""
        return {"class_path": self.class_path, "init_args": self.arguments()}


def _made(value: Any) -> Any:
    if isinstance(value, ClassSpec):
        return value.make()
    if isinstance(value, dict):
        return {key: _made(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_made(item) for item in value]
    return value


def _tree(value: Any) -> Any:
    if isinstance(value, ClassSpec):
        return value.tree()
    if isinstance(value, dict):
        return {str(key): _tree(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_tree(item) for item in value]
    if isinstance(value, enum.Enum):
        return value.name
    if isinstance(value, PurePath):
        return str(value)
    if inspect.isroutine(value) or inspect.isclass(value):
        return f"{value.__module__}.{value.__qualname__}"
    return value if type(value) in PLAIN else str(value)


PLAIN = (type(None), bool, int, float, str)


def _is_plain(value: Any) -> bool:
    """Whether a configuration can write a value."""
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    if isinstance(value, list | tuple):
        return all(map(_is_plain, value))
    return type(value) in PLAIN or isinstance(value, enum.Enum | PurePath)


@dataclass(slots=True)
class SpecReader:
    """Reads the description of an object: finds its class, types its arguments, refuses what does not fit."""

    classes: Classes

    def read(
        self,
        node: Node,
        path: str,
        *,
        base: type | None = None,
        prefer: tuple[str, ...] = (),
        filled: tuple[str, ...] = (),
        later: tuple[str, ...] = (),
        extra: tuple[str, ...] = (),
    ) -> ClassSpec:
        """The spec of a `{class_path, init_args}` node.

        Raises:
            ConfigError: no such class, not a subclass of `base`, an unknown, missing or mistyped argument.
        """
        check_class_keys(node, path, extra)
        name = node.mapping.get("class_path")
        if name is None:
            raise refuse(node, path, "class_path is missing; it names the class to make")
        cls, full = self.classes.find(name, join(path, "class_path"), prefer)
        if base is not None and not issubclass(cls, base):
            twin = self.classes.twin(full, prefer, base)
            hint = f". Did you mean {twin!r}?" if twin else ""
            raise refuse(name, join(path, "class_path"), f"{full} is not {article(base.__name__)}{hint}")
        init_args = node.mapping.get("init_args")
        given = Node(init_args.mapping if init_args else {}, name.origin)
        spec = self.read_arguments(cls, given, join(path, "init_args"), filled=filled, later=later)
        spec.class_path, spec.path = full, path
        return spec

    def read_arguments(
        self, cls: type, node: Node, path: str, *, filled: tuple[str, ...] = (), later: tuple[str, ...] = ()
    ) -> ClassSpec:
        """The spec of a class whose arguments are the mapping `node`.

        The arguments `filled` are not the config's to give; those `later` are filled in if left out.
        """
        arguments = arguments_of(cls)
        args: dict[str, Any] = {}
        nodes: dict[str, tuple[Node, str]] = {}
        for name, child in node.mapping.items():
            key = join(path, name)
            if name in filled:
                raise refuse(child, key, f"{cls.__name__} gets {name!r} from the run; leave it out")
            if name not in arguments.known and not arguments.open:
                raise refuse(child, key, _unknown_argument(cls, name, arguments.known.keys() - set(filled)))
            args[name] = self._value(arguments.known.get(name) or Argument(name, Any, None), child, key)
            nodes[name] = (child, key)
        missing = [a.name for a in arguments.known.values() if a.required and a.name not in (*args, *filled, *later)]
        if missing:
            raise refuse(node, path, f"{cls.__name__} needs {', '.join(map(repr, missing))}")
        return ClassSpec(cls, f"{cls.__module__}.{cls.__qualname__}", args, node, path, nodes, filled)

    def _value(self, argument: Argument, node: Node, path: str) -> Any:
        """The typed value of one argument; objects in it become specs."""
        wanted = class_parts(argument.hint)
        names_objects = bool(wanted) and str not in union_parts(argument.hint)
        found = self._objects(node, path, argument, wanted, names_objects)
        return typed(argument, node, path) if found is None else found

    def _objects(self, node: Node, path: str, argument: Argument, wanted: set[type], by_name: bool) -> Any:
        """A spec, or a list or mapping with specs in it; None where there is no object in the value."""
        if node.is_class or (by_name and isinstance(node.value, str)):
            described = node if node.is_class else Node({"class_path": node}, node.origin)
            check_class_keys(described, path)
            prefer, name = _namespaces(wanted), described.mapping["class_path"]
            found, _ = self.classes.find(name, join(path, "class_path"), prefer)
            if not (accepts_anything(argument.hint) or any(issubclass(found, cls) for cls in wanted)):
                raise refuse(node, path, f"expected {describe(argument.hint)}, got {article(found.__name__)}")
            return self.read(described, path, prefer=prefer)
        if isinstance(node.value, list):
            items = [
                self._objects(child, join(path, str(index)), argument, wanted, by_name)
                for index, child in enumerate(node.value)
            ]
            if any(item is not None for item in items):
                wrong = next((i for i, item in enumerate(items) if item is None), None)
                if wrong is not None and not accepts_anything(argument.hint):
                    bad = node.value[wrong]
                    message = f"expected an object (class_path and init_args), got {shown(plain(bad))}"
                    raise refuse(bad, join(path, str(wrong)), message)
                return [plain(c) if item is None else item for c, item in zip(node.value, items, strict=True)]
        if isinstance(node.value, dict):
            if by_name and ("init_args" in node.mapping or nearest("class_path", node.mapping)):
                check_class_keys(node, path)
                raise refuse(node, path, "class_path is missing; it names the class to make")
            values = {
                key: self._objects(child, join(path, key), argument, wanted, False) for key, child in node.value.items()
            }
            if any(value is not None for value in values.values()):
                return {key: plain(node.value[key]) if value is None else value for key, value in values.items()}
        return None


def _namespaces(wanted: Collection[type]) -> tuple[str, ...]:
    """The packages that the wanted classes live in: where a short name is looked for first."""
    return tuple(sorted({".".join(cls.__module__.split(".")[:2]) for cls in wanted if "." in cls.__module__}))


OTHER_WORDS = {
    "learning_rate": "lr",
    "gpus": "devices",
    "num_gpus": "devices",
    "epochs": "max_epochs",
    "num_epochs": "max_epochs",
    "steps": "max_steps",
    "clip_grad_norm": "gradient_clip_val",
    "grad_clip": "gradient_clip_val",
    "accumulation_steps": "accumulate_grad_batches",
    "device": "backend",
}
"""What other libraries call an argument."""


def _unknown_argument(cls: type, name: str, known: Collection[str]) -> str:
    other = OTHER_WORDS.get(name)
    close = f" Did you mean {other!r}?" if other in known else did_you_mean(name, known)
    listed = "" if close else f" It has {', '.join(sorted(known)) or 'none'}"
    return f"{cls.__name__} has no argument {name!r}.{close}{listed}"
