"""Modules that hold modules: in order, in a list, by name."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from framework.errors import ConfigError
from framework.nn.module import Module

_call = Module.__call__


class _Indexed(Module):
    """Modules under the names "0", "1", …."""

    def _items(self) -> list[Module]:
        return [m for m in self.__dict__.values() if isinstance(m, Module)]

    def _names(self) -> list[str]:
        return [name for name, m in self.__dict__.items() if isinstance(m, Module)]

    def _set_all(self, modules: list[Module]) -> None:
        for name in self._names():
            del self.__dict__[name]
        for i, module in enumerate(modules):
            self.add_module(str(i), module)

    def _position(self, index: int) -> int:
        n = len(self)
        if not -n <= index < n:
            raise IndexError(f"index {index} in a {type(self).__name__} of {n} modules")
        return index % n

    def __len__(self) -> int:
        return len(self._items())

    def __iter__(self) -> Iterator[Module]:
        return iter(self._items())

    def __getitem__(self, index: int | slice) -> Any:
        if isinstance(index, slice):
            return self._sliced(index)
        return self._items()[self._position(index)]

    def _sliced(self, index: slice) -> Module:
        raise NotImplementedError

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, self._names()[self._position(index)], module)

    def append(self, module: Module) -> Any:
        """Add a module at the end; returns this container."""
        self.add_module(str(len(self)), module)
        return self

    def extend(self, modules: Iterable[Module]) -> Any:
        """Add modules at the end; returns this container."""
        for module in list(modules):
            self.append(module)
        return self

    def insert(self, index: int, module: Module) -> Any:
        """Add a module before position `index`; returns this container."""
        modules: list[Any] = self._items()
        modules.insert(index, module)
        self._set_all(modules)
        return self

    def __delitem__(self, index: int | slice) -> None:
        modules = self._items()
        del modules[index if isinstance(index, slice) else self._position(index)]
        self._set_all(modules)


class Sequential(_Indexed):
    """Modules called one after the other, each on the result of the one before.

    Args:
        *modules: the modules, or one dict of names and modules.

    Examples:
        >>> import framework as fw
        >>> model = fw.nn.Sequential(fw.nn.Linear(4, 3), fw.nn.ReLU(), fw.nn.Linear(3, 2))
        >>> model(fw.random.normal((5, 4))).shape, list(model.state_dict())[0]
        ((5, 2), '0.weight')
    """

    def __init__(self, *modules: Any) -> None:
        super().__init__()
        if len(modules) == 1 and isinstance(modules[0], Mapping):
            named = list(modules[0].items())
        else:
            named = [(str(i), module) for i, module in enumerate(modules)]
        for name, module in named:
            if not isinstance(module, Module):
                raise ConfigError(f"Sequential: {name} must be an nn.Module, got {type(module).__name__}")
            self.add_module(name, module)

    def forward(self, input: Any) -> Any:
        """The result of the last module."""
        for module in self._items():
            if module._forward_hooks or module.__class__.__call__ is not _call:
                input = module(input)
            else:  # what `module(input)` does, for half of its cost
                input = module.forward(input)
        return input

    def _sliced(self, index: slice) -> Sequential:
        return Sequential(dict(list(zip(self._names(), self._items()))[index]))


class ModuleList(_Indexed):
    """A list of modules whose parameters are found.

    Examples:
        >>> import framework as fw
        >>> layers = fw.nn.ModuleList([fw.nn.Linear(2, 2) for _ in range(3)])
        >>> len(layers), len(list(layers.parameters()))
        (3, 6)
    """

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        self.extend(modules or ())

    def _sliced(self, index: slice) -> ModuleList:
        return ModuleList(self._items()[index])

    def __iadd__(self, modules: Iterable[Module]) -> ModuleList:
        self.extend(modules)
        return self


class ModuleDict(Module):
    """A dict of modules whose parameters are found.

    Examples:
        >>> import framework as fw
        >>> heads = fw.nn.ModuleDict({"a": fw.nn.Linear(2, 1), "b": fw.nn.Linear(2, 3)})
        >>> list(heads), heads["b"].out_features
        (['a', 'b'], 3)
    """

    def __init__(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]] | None = None) -> None:
        super().__init__()
        self.update(modules or {})

    def _table(self) -> dict[str, Module]:
        return {name: m for name, m in self.__dict__.items() if isinstance(m, Module)}

    def __getitem__(self, key: str) -> Module:
        return self._table()[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        self._table()[key]
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._table())

    def __iter__(self) -> Iterator[str]:
        return iter(self._table())

    def __contains__(self, key: object) -> bool:
        return key in self._table()

    def keys(self) -> Iterable[str]:
        """The names."""
        return self._table().keys()

    def values(self) -> Iterable[Module]:
        """The modules."""
        return self._table().values()

    def items(self) -> Iterable[tuple[str, Module]]:
        """Names and modules."""
        return self._table().items()

    def update(self, modules: Mapping[str, Module] | Iterable[tuple[str, Module]]) -> None:
        """Set modules from a mapping, or from pairs of a name and a module."""
        pairs = modules.items() if isinstance(modules, Mapping) else modules
        for key, module in pairs:
            self[key] = module

    def pop(self, key: str) -> Module:
        """Take a module out and return it."""
        module = self[key]
        del self[key]
        return module

    def clear(self) -> None:
        """Take all modules out."""
        for key in list(self):
            del self[key]
