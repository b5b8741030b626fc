"""Finding backends: entry points, and classes registered in this process.

Discovery reads metadata only; a plugin is imported when it is chosen, and only then.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING

from framework.backend.base import Backend
from framework.errors import BackendError, did_you_mean

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

GROUP = "framework.backends"
AUTO_GROUP = "framework.backends.auto"
BUNDLED = "fw-framework"

_local: dict[str, type[Backend]] = {}
_instances: dict[str, Backend] = {}
_preferred: dict[str, str] = {}
_warned: set[str] = set()


def entry_points(group: str = GROUP) -> list[EntryPoint]:
    """The installed entry points of a group; metadata only, no plugin is imported."""
    from importlib.metadata import entry_points as find  # slow to import, so only when needed

    seen: dict[tuple[str, str, str], EntryPoint] = {}
    for point in find(group=group):  # an editable install may be listed twice
        seen.setdefault((point.name, point.value, distribution_of(point)), point)
    return list(seen.values())


def distribution_of(point: EntryPoint) -> str:
    """The name of the distribution that an entry point belongs to."""
    return point.dist.name if point.dist is not None else "?"


def names() -> tuple[str, ...]:
    """The names of all backends that can be asked for, installed and registered, sorted."""
    return tuple(sorted({*_local, *(point.name for point in entry_points())}))


def register(cls: type[Backend]) -> type[Backend]:
    """Make a backend class known in this process; works as a decorator.

    Raises:
        BackendError: the class is not a `Backend` with a name.
    """
    if not (isinstance(cls, type) and issubclass(cls, Backend)):
        raise BackendError(f"register() takes a subclass of framework.backend.Backend, got {cls!r}")
    if not isinstance(getattr(cls, "name", None), str):
        raise BackendError(f"{cls.__name__} has no `name`; write name = '…' in the class")
    _local[cls.name] = cls
    _instances.pop(cls.name, None)
    return cls


def prefer(name: str, distribution: str) -> None:
    """Settle which distribution provides a name that several claim."""
    _preferred[name] = distribution
    _instances.pop(name, None)


def get(name: str) -> Backend:
    """The backend with this name, imported and constructed on first use.

    A device string such as `"cuda:1"` gives its backend.

    Raises:
        BackendError: there is none, two distributions claim the name, or the plugin cannot run here.
    """
    try:
        return _instances[name]
    except KeyError:
        pass
    backend_name = name.partition(":")[0]
    if backend_name != name:
        backend = get(backend_name)
        backend.check_device(name)
        return backend
    backend = _instances[name] = _construct(name, _local.get(name) or _load(_choose(name)))
    return backend


def auto() -> Backend:
    """The first backend, by falling priority, that can run one operation here.

    Raises:
        BackendError: none can.
    """
    reasons = []
    for point in sorted(entry_points(AUTO_GROUP), key=_priority, reverse=True):
        try:
            cls = _load(point)
            backend = _instances.get(cls.name) or _construct(cls.name, cls)
            probe(backend)
        except BackendError as error:
            reasons.append(f"{point.value}: {error}")
        else:
            _instances.setdefault(backend.name, backend)
            return backend
    raise BackendError("no backend works here. " + "; ".join(reasons or ["none is installed"]))


def probe(backend: Backend) -> None:
    """Run one operation on a backend and read the result.

    Raises:
        BackendError: it fails or is wrong.
    """
    try:
        ones = backend.asarray([1.0, 2.0, 3.0])
        total = float(backend.to_numpy(backend.xp.sum(ones + ones)))
        backend.synchronize()
    except Exception as error:
        raise BackendError(f"backend {backend.name!r} failed its first operation: {last_line(error)}") from error
    if total != 12.0:
        raise BackendError(f"backend {backend.name!r} computed 2 × (1 + 2 + 3) = {total}")


def last_line(error: BaseException) -> str:
    """The error's class and message on one line."""
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _priority(point: EntryPoint) -> float:
    try:
        return float(point.name)
    except ValueError:
        return float("-inf")


def _choose(name: str) -> EntryPoint:
    found = [point for point in entry_points() if point.name == name]
    if not found:
        known = names()
        raise BackendError(
            f"unknown backend {name!r}.{did_you_mean(name, known)} "
            f"Installed: {', '.join(known) or 'none'}; `fw plugins` shows their state"
        )
    if len(found) == 1:
        return found[0]
    owners = {distribution_of(point): point for point in found}
    if name in _preferred:
        if _preferred[name] not in owners:
            raise BackendError(f"plugins: {{{name}: {_preferred[name]}}}, but {name!r} comes from {', '.join(owners)}")
        return owners[_preferred[name]]
    if BUNDLED in owners:
        others = ", ".join(sorted(owners.keys() - {BUNDLED}))
        if name not in _warned:
            _warned.add(name)
            warnings.warn(
                f"backend {name!r} is claimed by {BUNDLED} and {others}; the bundled one is used. "
                f"Settle it with `plugins: {{{name}: DISTRIBUTION}}`",
                stacklevel=3,
            )
        return owners[BUNDLED]
    raise BackendError(
        f"backend {name!r} is claimed by {' and '.join(sorted(owners))}; "
        f"settle it with `plugins: {{{name}: DISTRIBUTION}}`"
    )


def _load(point: EntryPoint) -> type[Backend]:
    owner = distribution_of(point)
    try:
        cls = point.load()
    except Exception as error:
        raise BackendError(f"backend {point.name!r} from {owner} does not import: {last_line(error)}") from error
    if not (isinstance(cls, type) and issubclass(cls, Backend)):
        raise BackendError(f"{point.value} from {owner} is not a subclass of framework.backend.Backend")
    return cls


def _construct(name: str, cls: type[Backend]) -> Backend:
    if cls.name != name:
        raise BackendError(f"the plugin registered as {name!r} calls itself {cls.name!r}; the two must be equal")
    try:
        return cls()
    except BackendError:
        raise
    except Exception as error:
        raise BackendError(f"backend {name!r} could not be set up: {last_line(error)}") from error
