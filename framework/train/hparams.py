"""Hyper-parameters: the arguments of `__init__`, kept for checkpoints, loggers and `load_from_checkpoint`."""

from __future__ import annotations

import copy
import inspect
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from framework.errors import ConfigError, did_you_mean

if TYPE_CHECKING:
    class_only = classmethod
else:

    class class_only(classmethod):  # noqa: N801 - used as classmethod is
        """A class method that says so where an instance is asked for it."""

        def __get__(self, instance: Any, owner: type | None = None) -> Any:
            bound = super().__get__(None, owner or type(instance))
            if instance is None:
                return bound

            def refuse(*args: Any, **kwargs: Any) -> Any:
                name, cls = self.__func__.__name__, type(instance).__name__
                raise ConfigError(
                    f"{cls}.{name} makes a new {cls} and leaves this one as it is; call it on the class, and use "
                    f"what it gives: model = {cls}.{name}(path)"
                )

            return refuse


class AttributeDict(dict[str, Any]):
    """A dict whose items are attributes too.

    Examples:
        >>> AttributeDict(lr=0.1).lr
        0.1
    """

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"no hyper-parameter {name!r}.{did_you_mean(name, self)}") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


class HyperParameters:
    """Gives a class `save_hyperparameters()` and `hparams`."""

    _hparams: AttributeDict | None = None
    _hparams_initial: AttributeDict | None = None
    _log_hparams: bool = True

    @property
    def hparams(self) -> AttributeDict:
        """The saved hyper-parameters; empty before `save_hyperparameters()`."""
        if self._hparams is None:
            object.__setattr__(self, "_hparams", AttributeDict())
        return self._hparams  # type: ignore[return-value]

    @property
    def hparams_initial(self) -> AttributeDict:
        """The hyper-parameters as they were saved, whatever has become of `hparams`."""
        return copy.deepcopy(self._hparams_initial) if self._hparams_initial is not None else AttributeDict()

    def save_hyperparameters(
        self, *args: str | Mapping[str, Any], ignore: str | Iterable[str] | None = None, logger: bool = True
    ) -> None:
        """Keep the arguments of `__init__`, of this class and of those derived from it, in `hparams`.

        Args:
            *args: names of the arguments to keep, default all; or one mapping to keep instead.
            ignore: names to leave out.
            logger: whether loggers get them.

        Raises:
            ConfigError: called outside `__init__`, or with a name that is no argument.

        Examples:
            >>> class Settings(HyperParameters):
            ...     def __init__(self, lr, layers=2):
            ...         self.save_hyperparameters()
            >>> Settings(0.1).hparams
            {'lr': 0.1, 'layers': 2}
        """
        if len(args) == 1 and isinstance(args[0], Mapping):
            found = dict(args[0])
        else:
            found = init_arguments(self, sys._getframe(1))
            names = [name for name in args if isinstance(name, str)]
            for name in names:
                if name not in found:
                    raise ConfigError(
                        f"save_hyperparameters({name!r}): {type(self).__name__}.__init__ has no argument {name!r}."
                        f"{did_you_mean(name, found)}"
                    )
            if names:
                found = {name: found[name] for name in names}
        ignored = {ignore} if isinstance(ignore, str) else set(ignore or ())
        kept = {name: value for name, value in found.items() if name not in ignored}
        self.hparams.update(kept)
        object.__setattr__(self, "_log_hparams", logger)
        object.__setattr__(self, "_hparams_initial", AttributeDict(_copied(self.hparams)))


def init_arguments(owner: object, frame: FrameType | None) -> dict[str, Any]:
    """The arguments of the `__init__` calls of `owner` that are under way, those of derived classes winning.

    Raises:
        ConfigError: none is under way.
    """
    found: dict[str, Any] = {}
    is_inside = False
    while frame is not None:
        info = inspect.getargvalues(frame)
        if frame.f_code.co_name == "__init__" and info.args and info.locals.get(info.args[0]) is owner:
            is_inside = True
            arguments = {name: info.locals[name] for name in info.args[1:] if name in info.locals}
            if info.keywords:
                arguments |= info.locals.get(info.keywords, {})
            found |= {name: value for name, value in arguments.items() if not name.startswith("__")}
        elif is_inside and frame.f_code.co_name == "__call__":
            break
        frame = frame.f_back
    if not is_inside:
        raise ConfigError(f"{type(owner).__name__}.save_hyperparameters() must be called in __init__")
    return found


def plain(hparams: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """The hyper-parameters that a checkpoint can hold, and the others' names with what they are.

    Examples:
        >>> plain({"lr": 0.1, "sizes": (3, 4), "activation": len})
        ({'lr': 0.1, 'sizes': [3, 4]}, {'activation': 'builtin_function_or_method'})
    """
    kept, omitted = {}, {}
    for name, value in hparams.items():
        try:
            kept[name] = _plain(value)
        except TypeError:
            omitted[name] = type(value).__qualname__
    return kept, omitted


def from_file(path: str | Path) -> dict[str, Any]:
    """The hyper-parameters in a YAML file.

    Raises:
        ConfigError: it does not hold a mapping.
    """
    import yaml

    tree = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    if not isinstance(tree, dict):
        raise ConfigError(f"{path}: expected the hyper-parameters as a mapping, got {type(tree).__name__}")
    return tree


def _plain(value: Any) -> Any:
    if value is None or type(value) in (bool, int, float, str):
        return value
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Mapping) and all(type(key) is str for key in value):
        return {key: _plain(item) for key, item in value.items()}
    if hasattr(value, "__fspath__"):
        return str(value)
    if hasattr(value, "shape") and hasattr(value, "dtype"):
        return value
    raise TypeError


def _copied(hparams: Mapping[str, Any]) -> dict[str, Any]:
    copied = {}
    for name, value in hparams.items():
        try:
            copied[name] = copy.deepcopy(value)
        except Exception:  # the user's own object decides what it raises
            copied[name] = value
    return copied


def arguments_for(cls: type, stored: Mapping[str, Any], overrides: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments with which to make a `cls`: the stored ones that it takes, and the overrides.

    Raises:
        ConfigError: an override is no argument of `cls`, or an argument without default is missing.
    """
    parameters = dict(inspect.signature(cls).parameters)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    named = {n: p for n, p in parameters.items() if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    for name in overrides:
        if name not in named and not takes_any:
            raise ConfigError(f"{cls.__name__} has no argument {name!r}.{did_you_mean(name, named)}")
    arguments = {n: v for n, v in stored.items() if takes_any or n in named} | dict(overrides)
    missing = [n for n, p in named.items() if p.default is p.empty and n not in arguments]
    if missing:
        has = f"it has {', '.join(stored)}" if stored else "it has none: was save_hyperparameters() called in __init__?"
        raise ConfigError(
            f"{cls.__name__} needs {', '.join(missing)}, which the checkpoint does not hold ({has}). "
            f"Give them: {cls.__name__}.load_from_checkpoint(path, {', '.join(f'{n}=…' for n in missing)})"
        )
    return arguments
