"""`compile`: a function whose calls are recorded once and then replayed."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Iterable
from typing import Any

from framework.autodiff import versions
from framework.autodiff.differences import difference
from framework.autodiff.hostnumber import HostNumber
from framework.autodiff.levels import active
from framework.autodiff.modes import default_backend, get_default_dtype, grad_enabled
from framework.autodiff.namespace import RawNamespace, namespace_of
from framework.autodiff.recorded import finish
from framework.autodiff.recorder import Recorder
from framework.autodiff.replay import Replay
from framework.autodiff.tensor import Tensor
from framework.errors import CompileWarning

Array = Any

MOST = 8
"""Recordings kept for one call site; with more, calls of yet another kind stay as they are."""


class _Call:
    """The arguments of one call, taken apart: arrays and numbers, and the key of all that stays the same."""

    __slots__ = ("arguments", "arrays", "key", "numbers")

    def __init__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        self.arguments: list[Any] = []
        self.arrays: list[Array] = []
        self.numbers: list[Any] = []
        key: list[Any] = [grad_enabled.get(), get_default_dtype()]
        for a in args:
            self._take(a, key)
        for name, a in kwargs.items():
            key.append(name)
            self._take(a, key)
        ids = {id(a) for a in self.arrays}
        if len(ids) < len(self.arrays):  # the same array several times
            first: dict[int, int] = {}
            key.append(tuple([first.setdefault(id(a), i) for i, a in enumerate(self.arrays)]))
        self.key = tuple(key)

    def _take(self, x: Any, key: list[Any]) -> None:
        kind = x.__class__
        if isinstance(x, Tensor):
            data = x._data
            self.arguments.append(x)
            self.arrays.append(data)
            key += (x._ns, x._node is None, data.shape, data.dtype)
            if not hasattr(data, "__dlpack__"):  # NumPy's scalars have no identity
                x._data = self.arrays[-1] = x._array()
        elif kind is int or kind is float:
            self.numbers.append(x)
            key.append(kind)
        elif kind is tuple or kind is list:
            key += (kind, len(x))
            for part in x:
                self._take(part, key)
        elif kind is dict:
            key += (kind, tuple(x))
            for part in x.values():
                self._take(part, key)
        elif hasattr(x, "__dlpack__") and hasattr(x, "dtype"):
            self.arguments.append(x)
            self.arrays.append(x)
            key += (kind, tuple(x.shape), x.dtype)
        else:
            key.append(x if kind in (str, bool, type(None)) else _Same(x))


class _Same:
    """Another argument: the same object is the same, whatever it says about equality."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


class _Site:
    """The calls of one kind: the recordings that hold, and the one that waits for a second like it."""

    def __init__(self) -> None:
        self.replays: list[Replay] = []
        self.pending: list[tuple[Recorder, list[Any], Any]] = []
        self.version = -1
        self.looks: list[Any] = []

    def match(self, call: _Call) -> Replay | None:
        for found in self.replays:
            if found.holds(call.arrays, call.numbers):
                return found
        return None


class Compiled:
    """What `compile` returns: called like the function, and doing the same.

    Attributes:
        replayed: the number of calls that were replays.
    """

    def __init__(self, fn: Callable[..., Any], modules: Iterable[Any] | None = None, name: str | None = None) -> None:
        functools.update_wrapper(self, fn, updated=())
        self.fn = fn
        self.name = getattr(fn, "__qualname__", repr(fn)) if name is None else name
        self.replayed = 0
        self._roots = _modules_of(fn) if modules is None else list(modules)
        self._sites: dict[Any, _Site] = {}
        self._eager: set[Any] = set()
        self._warned = False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """`fn(*args, **kwargs)`, replayed where a recording of such a call holds."""
        call = _Call(args, kwargs)
        site = self._sites.get(call.key)
        if site is not None and not active.get():
            if site.version != versions.count and not self._still(site):
                del self._sites[call.key]
            elif (found := site.match(call)) is not None:
                try:
                    out = found(call.arguments, call.arrays, call.numbers)
                except Exception:
                    return self.fn(*args, **kwargs)  # raises it, in the words of the call
                self.replayed += 1
                return out
        return self._recorded(call, args, kwargs)

    def programs(self) -> list[Any]:
        """The programs of all recordings that hold, in order; `str()` of one is its text."""
        sites = self._sites.values()
        return [s.program for site in sites for r in site.replays for s in r.segments if s.outputs]

    def _still(self, site: _Site) -> bool:
        """Whether the modules look as they did when the site's calls were recorded."""
        if not versions.unchanged(site.looks, self._looks()):
            return False
        site.version = versions.count
        return True

    def _looks(self) -> list[Any]:
        return versions.appearance(m for root in self._roots for m in root.modules())

    def _recorded(self, call: _Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        ns = _namespace(call)
        if ns is None or ns.recorder is not None or active.get() or call.key in self._eager:
            return self.fn(*args, **kwargs)  # inside another recording or a transform it is a part of that
        if len(self._sites) + sum(len(s.replays) for s in self._sites.values()) > 2 * MOST:
            self._stay_eager(call, f"more than {MOST} kinds of calls; keep shapes and Python arguments the same")
            return self.fn(*args, **kwargs)
        recorder = Recorder(ns)
        out = self._run(recorder, call, args, kwargs)
        returned, structure = finish(recorder, call.arguments, out)
        out = _settled(out)
        if recorder.broken is not None:
            self._stay_eager(call, recorder.broken)
        else:
            self._keep(call, recorder, returned, structure)
        return out

    def _run(self, recorder: Recorder, call: _Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        for i, array in enumerate(call.arrays):
            recorder.add_input(array, ("argument", i))
        for root in self._roots:
            for t in (*root.parameters(), *root.buffers()):
                if t._ns is recorder.ns:
                    t._data = t._array()  # NumPy's scalars have no identity
                    recorder.add_input(t._data, ("state", t))
        numbers = iter([HostNumber(n, _reader(i), recorder.guards) for i, n in enumerate(call.numbers)])
        args = tuple([_with_numbers(a, numbers) for a in args])
        kwargs = {name: _with_numbers(a, numbers) for name, a in kwargs.items()}
        before = versions.watch
        versions.watch = recorder.changed
        recorder.ns.record(recorder)
        try:
            return self.fn(*args, **kwargs)
        finally:
            recorder.ns.record(None)
            versions.watch = before

    def _keep(self, call: _Call, recorder: Recorder, returned: list[Any], structure: Any) -> None:
        """The first recording waits for a second one that agrees with it."""
        site = self._sites.setdefault(call.key, _Site())
        if site.version != versions.count and (site.version == -1 or not self._still(site)):
            site.pending.clear()
            site.replays.clear()
            site.version, site.looks = versions.count, self._looks()
        for i, (before, returned_before, structure_before) in enumerate(site.pending):
            if not all(read(call.numbers) == value for read, value in before.guards):
                continue  # a call that decided otherwise
            found = difference(before, recorder, (returned_before, structure_before), (returned, structure))
            if found is not None:
                self._stay_eager(call, f"two calls differ: {found}")
                return
            del site.pending[i]
            site.replays.append(Replay(recorder, returned, structure))
            return
        if len(site.pending) + len(site.replays) >= MOST:
            self._stay_eager(call, f"more than {MOST} ways through the function for the numbers it was called with")
            return
        site.pending.append((recorder, returned, structure))

    def _stay_eager(self, call: _Call, reason: str) -> None:
        self._eager.add(call.key)
        self._sites.pop(call.key, None)
        if not self._warned:
            self._warned = True
            warnings.warn(f"compile: {self.name} runs without being replayed: {reason}", CompileWarning, stacklevel=4)


def compile(fn: Callable[..., Any]) -> Compiled:
    """`fn`, of which calls with the same shapes, dtypes and structure are recorded twice and then replayed.

    A call may compute, run backward, step an optimizer and log; what it draws is drawn anew. What it reads of
    its arguments, of parameters and buffers and of other Tensors is read anew. Other Python code runs while
    recording only. A call that cannot be replayed runs as it is, with one warning that says why: it reads a
    Tensor's value (`float`, `if`), keeps a Tensor that it does not return, or does something else each time.

    Examples:
        >>> import framework as fw
        >>> model = fw.nn.Linear(3, 1)
        >>> optimizer = fw.optim.SGD(model.parameters(), lr=0.1)
        >>> @fw.compile
        ... def step(x, y):
        ...     optimizer.zero_grad()
        ...     loss = fw.nn.functional.mse_loss(model(x), y)
        ...     loss.backward()
        ...     optimizer.step()
        ...     return loss
        >>> x, y = fw.random.normal((8, 3)), fw.random.normal((8, 1))
        >>> losses = [float(step(x, y)) for _ in range(5)]
        >>> losses[-1] < losses[0], step.replayed
        (True, 3)
    """
    return Compiled(fn)


def _reader(i: int) -> Callable[..., Any]:
    return lambda numbers: numbers[i]


def _namespace(call: _Call) -> RawNamespace | None:
    """The namespace of all Tensors in a call; None for those of several backends, or results of what is derived."""
    tensors = [x for x in call.arguments if isinstance(x, Tensor)]
    found = {x._ns for x in tensors}
    if len(found) > 1 or any(x._level is not None or not x.is_leaf for x in tensors):
        return None
    return next(iter(found)) if found else namespace_of(default_backend())


def _with_numbers(x: Any, numbers: Any) -> Any:
    kind = x.__class__
    if kind is int or kind is float:
        return next(numbers)
    if kind is tuple or kind is list:
        return kind([_with_numbers(part, numbers) for part in x])
    if kind is dict:
        return {key: _with_numbers(part, numbers) for key, part in x.items()}
    return x


def _settled(out: Any) -> Any:
    """A result with plain numbers."""
    if type(out) is HostNumber:
        return out._value
    if type(out) in (tuple, list):
        return type(out)([_settled(part) for part in out])
    return {key: _settled(part) for key, part in out.items()} if type(out) is dict else out


def _modules_of(fn: Callable[..., Any]) -> list[Any]:
    """The modules that a function can see: itself, its object, its closure, the globals that it names."""
    code = getattr(fn, "__code__", getattr(getattr(fn, "__func__", None), "__code__", None))
    seen: list[Any] = [fn, getattr(fn, "__self__", None)]
    seen += [cell.cell_contents for cell in getattr(fn, "__closure__", None) or () if _is_filled(cell)]
    named = getattr(fn, "__globals__", {})
    seen += [named[name] for name in getattr(code, "co_names", ()) if name in named]
    found: dict[int, Any] = {}
    for x in seen:
        if hasattr(x, "named_parameters") and hasattr(x, "buffers") and not isinstance(x, type):
            found[id(x)] = x
    return list(found.values())


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False
