"""Finding backends: entry points, and classes registered in this process.

Discovery reads metadata only; a plugin is imported when it is chosen, and only then.
"""

from __future__ import annotations

import warnings
from typing import TYPE_CHECKING, Any

from framework.backend.base import Backend
from framework.backend.dtypes import float32
from framework.errors import BackendError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable
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

    try:
        found: Iterable[EntryPoint] = find(group=group)
    except Exception:  # somebody's metadata cannot be read: those of the others can
        found = _readable(group)
    seen: dict[tuple[str, str, str], EntryPoint] = {}
    for point in found:  # an editable install may be listed twice
        seen.setdefault((point.name, point.value, distribution_of(point)), point)
    return list(seen.values())


def _readable(group: str) -> list[EntryPoint]:
    """The entry points of the distributions whose metadata can be read; of each name, the first on the path."""
    from importlib.metadata import distributions

    found: dict[str, list[EntryPoint]] = {}
    for distribution in distributions():
        try:
            name, points = distribution.name, distribution.entry_points
        except Exception as error:
            place = str(getattr(distribution, "_path", "a distribution"))
            if place not in _warned:
                _warned.add(place)
                warnings.warn(
                    f"{place} is left out: its entry points cannot be read ({last_line(error)})", stacklevel=3
                )
            continue
        found.setdefault(name, [point for point in points if point.group == group])
    return [point for points in found.values() for point in points]


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
            if distribution_of(point) != BUNDLED:
                _try_apart(point)
            cls = _load(point)
            name = _own_name(cls, point)
            backend = _instances.get(name) or _construct(name, cls)
            probe(backend)
        except BackendError as error:
            reasons.append(f"{point.value}: {error}")
        else:
            _instances.setdefault(backend.name, backend)
            return backend
    raise BackendError("no backend works here. " + "; ".join(reasons or ["none is installed"]))


def _own_name(cls: type[Backend], point: EntryPoint) -> str:
    """The name of a backend that is offered for `"auto"`, if it is its own.

    Raises:
        BackendError: it has none, or that of another plugin.
    """
    name = getattr(cls, "name", None)
    if not isinstance(name, str):
        raise BackendError(f"{point.value} has no name")
    chosen = _choose(name)
    if (chosen.value, distribution_of(chosen)) != (point.value, distribution_of(point)):
        raise BackendError(f"{point.value} calls itself {name!r}, which is {chosen.value} of {distribution_of(chosen)}")
    return name


def _try_apart(point: EntryPoint) -> None:
    """Try a plugin that nobody asked for in a process of its own, which it may end or keep waiting.

    Raises:
        BackendError: it does. What it raises is left to be found here.
    """
    import os
    import subprocess
    import sys

    command = [sys.executable, "-P", "-c", _TRY, point.name, point.value, point.group]
    paths = os.pathsep.join(path for path in sys.path if path)
    quiet = subprocess.DEVNULL
    try:
        code = subprocess.run(
            command, stdin=quiet, stdout=quiet, stderr=quiet, env={**os.environ, "PYTHONPATH": paths}, timeout=TRY_S
        ).returncode
    except subprocess.TimeoutExpired:
        raise BackendError(f"no answer within {TRY_S:g} s") from None
    except (OSError, TypeError) as error:  # no memory for another process, or a program that has Python within it
        raise BackendError(f"it cannot be tried in a process of its own: {last_line(error)}") from error
    if code != _ORDERLY:
        raise BackendError(f"it ends the process that tries it, with code {code}")


TRY_S = 20.0
"""How long a plugin that is offered for `"auto"` may take for its first operation."""

_ORDERLY = 86

_TRY = f"""\
import os, sys
from importlib.metadata import EntryPoint
from framework.backend import registry
try:
    registry.probe(EntryPoint(*sys.argv[1:]).load()())
except BaseException:
    pass
os._exit({_ORDERLY})
"""


def probe(backend: Backend) -> None:
    """Run one operation on a backend and look at what it gives: value, shape, dtype, devices.

    Raises:
        BackendError: it fails or is wrong.
    """
    try:
        xp, devices = backend.xp, tuple(backend.devices)
        given = backend.asarray([1.0, 2.0, 3.0], dtype=float32)
        made = xp.sum(given + given)
        values = backend.to_numpy(made)
        total = float(values)
        wrong = _wrong_with(backend, devices, {"asarray": (given, (3,)), "a sum": (made, ())}, values)
        backend.synchronize()
    except (Exception, SystemExit) as error:
        raise BackendError(f"backend {backend.name!r} failed its first operation: {last_line(error)}") from error
    if total != 12.0:
        raise BackendError(f"backend {backend.name!r} computed 2 × (1 + 2 + 3) = {total}")
    if wrong:
        raise BackendError(f"backend {backend.name!r}: {wrong}")


def _wrong_with(backend: Backend, devices: tuple[str, ...], arrays: dict[str, Any], values: Any) -> str:
    """What is wrong with the first results of a backend, each with the shape that it is to have; nothing if empty."""
    if not devices or any(device.partition(":")[0] != backend.name for device in devices):
        return f"its devices are {devices}; each begins with its name"
    for what, (array, shape) in arrays.items():
        if not backend.owns(array):
            return f"{what} gives a {type(array).__name__} that it does not own"
        if tuple(array.shape) != shape:
            return f"{what} gives shape {tuple(array.shape)} where {shape} is right"
        if (found := backend.dtype_of(array)) is not float32:
            return f"{what} gives {found.name} where float32 is right"
    if (getattr(values, "shape", None), str(getattr(values, "dtype", None))) != ((), "float32"):
        return f"to_numpy of a 0-d array of float32 gives {' '.join(repr(values).split())}"
    return ""


def last_line(error: BaseException) -> str:
    """The error's class and message on one line, without what would steer a terminal."""
    try:
        text = str(error)
    except Exception:  # its own __str__ fails
        text = ""
    text = " ".join("".join(c if c.isprintable() else " " for c in text).split())
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
    except (Exception, SystemExit) as error:  # a plugin that exits does not end who asks for it
        raise BackendError(f"backend {point.name!r} from {owner} does not import: {last_line(error)}") from error
    if not (isinstance(cls, type) and issubclass(cls, Backend)):
        raise BackendError(f"{point.value} from {owner} is not a subclass of framework.backend.Backend")
    return cls


def _construct(name: str, cls: type[Backend]) -> Backend:
    own = getattr(cls, "name", None)
    if own != name:
        raise BackendError(f"the plugin registered as {name!r} calls itself {own!r}; the two must be equal")
    try:
        return cls()
    except BackendError:
        raise
    except (Exception, SystemExit) as error:
        raise BackendError(f"backend {name!r} could not be set up: {last_line(error)}") from error
