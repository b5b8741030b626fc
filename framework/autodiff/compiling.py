"""`compile`: a function whose calls are recorded once and then replayed."""

from __future__ import annotations

import contextlib
import copy
import functools
import warnings
from collections.abc import Callable, Iterable, Iterator
from threading import Lock
from types import MethodType
from typing import Any
from weakref import ref

from framework.autodiff import lines, versions
from framework.autodiff.differences import difference
from framework.autodiff.hostnumber import settle_kept
from framework.autodiff.levels import active
from framework.autodiff.recorded import finish
from framework.autodiff.recorder import Recorder
from framework.autodiff.replay import Replay
from framework.autodiff.sequel import Sequel
from framework.autodiff.signature import Call, settled, with_numbers
from framework.autodiff.streams import Streams
from framework.autodiff.tensor import Tensor
from framework.autodiff.visible import Visible, unchanged
from framework.errors import CompileWarning

MOST = 8
"""Recordings kept for one kind of calls, and kinds, and half of all; calls of yet another kind stay as they are."""


class _Variant:
    """The recordings of calls of one kind while modules, and what the function sees, look alike."""

    def __init__(self, modules: list[Any], states: list[Tensor], visible: Visible) -> None:
        self.replays: list[Replay] = []
        self.pending: list[tuple[Recorder, list[Any], Any]] = []
        self.version = versions.count
        self.modules = [ref(module) for module in modules]  # a method's object is not kept alive by it
        self.states = states
        self.looks = self._looks()
        self.visible = visible
        self.seen = visible.values()

    def _looks(self) -> tuple[list[Any], list[Any]]:
        modules = [module for to_module in self.modules if (module := to_module()) is not None]
        return versions.appearance(modules), [(t._node, t.shape, t.dtype) for t in self.states]

    def holds(self) -> bool:
        """Whether modules and state look as they did when this was recorded."""
        if self.version != versions.count:
            modules, states = self._looks()
            if states != self.looks[1] or not versions.unchanged(self.looks[0], modules):
                return False
            self.version = versions.count
        return unchanged(self.seen, self.visible.values())

    def match(self, call: Call) -> Replay | None:
        """The recording of a call like this."""
        for found in self.replays:
            if found.holds(call.arrays, call.numbers):
                return found
        return None


_one_at_a_time = Lock()


@contextlib.contextmanager
def _recording(recorder: Recorder, modules: list[Any], call: Call) -> Iterator[bool]:
    """Tell a recorder of a call, unless there is another recording; the modules that it met are added."""
    if not _one_at_a_time.acquire(blocking=False):
        yield False
        return
    try:
        for i, (array, argument) in enumerate(zip(call.arrays, call.arguments)):
            recorder.add_argument(array, i, argument)
        for root in modules:
            for t in (*root.parameters(), *root.buffers()):
                recorder.add_state(t)
        versions.begin(recorder)
        recorder.ns.record(recorder)
        yield True
    except BaseException:
        settle_kept(recorder.guards)
        raise
    finally:
        recorder.ns.record(None)
        versions.end()
        _one_at_a_time.release()
        known = {id(module) for module in modules}
        modules += [m for m in {id(m): m for m in recorder.modules}.values() if id(m) not in known]
        recorder.modules.clear()


def _raised_at(error: Exception) -> str:
    """The line where an error was raised, outside the framework if it can be."""
    found = ""
    trace = error.__traceback__
    while trace is not None:
        if not trace.tb_frame.f_globals.get("__name__", "").startswith("framework."):
            found = lines.text((trace.tb_frame.f_code, trace.tb_lasti))
        trace = trace.tb_next
    return found


class Compiled:
    """What `compile` returns: called like the function, and doing the same.

    Attributes:
        replayed: the number of calls that were replays.
        sequel: what follows on the next call within its program, if it is a replay and that can be.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        modules: Iterable[Any] = (),
        name: str | None = None,
        sees: Iterable[Callable[..., Any]] | None = None,
    ) -> None:
        functools.update_wrapper(self, fn, updated=())
        self.fn = fn
        self.name = getattr(fn, "__qualname__", repr(fn)) if name is None else name
        self.replayed = 0
        self.sequel: Sequel | None = None
        self._roots = list(modules)
        self._code = [fn] if sees is None else list(sees)
        self._sites: dict[Any, list[_Variant]] = {}
        self._eager: set[Any] = set()
        self._changing: set[Any] = set()
        self._is_off = False
        self._warned = False
        self._bound: dict[int, tuple[Any, Compiled]] = {}

    def __get__(self, owner: Any, kind: type | None = None) -> Any:
        """As a method: compiled for each object by itself."""
        if owner is None:
            return self
        key = id(owner)  # whatever it says of being equal to another
        to_owner, bound = self._bound.get(key, (None, None))
        if to_owner is not None and to_owner() is owner:
            return bound
        try:
            to_owner = ref(owner, lambda _: self._bound.pop(key, None))
        except TypeError:
            self._warn(f"a {type(owner).__name__} cannot be referred to weakly; add '__weakref__' to its __slots__")
            return MethodType(self.fn, owner)
        bound = Compiled(weak_method(self.fn, owner), (), self.name)
        self._bound[key] = to_owner, bound
        return bound

    def __deepcopy__(self, memo: dict[int, Any]) -> Compiled:
        fn = copy.deepcopy(self.fn, memo)
        return Compiled(fn, copy.deepcopy(self._roots, memo), self.name, copy.deepcopy(self._code, memo))

    def __reduce__(self) -> tuple[Any, ...]:
        return Compiled, (self.fn, self._roots, self.name, self._code)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """`fn(*args, **kwargs)`, replayed where a recording of such a call holds."""
        if self._is_off or active.get():  # inside a transform it is a part of that
            return self.fn(*args, **kwargs)
        call = Call(args, kwargs)
        variants = self._sites.get(call.key)
        if variants is not None:
            variant = variants[0]
            if not variant.holds():
                variant = self._other(variants)  # type: ignore[assignment]
            found = None if variant is None else variant.match(call)
            if found is not None:
                try:
                    out = found(call.arguments, call.arrays, call.numbers, self.sequel)
                except Exception:
                    if found.has_acted:
                        raise
                    return self.fn(*args, **kwargs)  # raises it, in the words of the call
                self.replayed += 1
                return out
        return self._recorded(call, args, kwargs)

    @staticmethod
    def _other(variants: list[_Variant]) -> _Variant | None:
        """The variant that holds now, put first."""
        for i, variant in enumerate(variants):
            if variant.holds():
                variants.insert(0, variants.pop(i))
                return variant
        return None

    def programs(self) -> list[Any]:
        """The programs of all recordings, in order; `str()` of one is its text."""
        replays = [r for variants in self._sites.values() for v in variants for r in v.replays]
        return [program for r in replays for segment in r.segments if segment.outputs for program in segment.programs()]

    def _recorded(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        ns = call.namespace()
        if ns is None or ns.recorder is not None or call.key in self._eager:
            return self.fn(*args, **kwargs)  # inside another recording it is a part of that
        kinds = sum(max(1, len(v.replays)) for variants in self._sites.values() for v in variants)
        reason = call.reason
        if kinds > 2 * MOST or (len(self._sites) >= MOST and call.key not in self._sites):
            reason = f"more than {MOST} kinds of calls; keep shapes and Python arguments the same"
        if reason:
            self._stay_eager(call, reason)
            return self.fn(*args, **kwargs)
        recorder = Recorder(ns)
        visible = Visible([*self._code, *call.functions])
        modules = list({id(m): m for m in (*self._roots, *visible.modules.values())}.values())
        visible.modules.clear()
        seen = visible.values()
        streams = Streams(visible.streams)
        try:
            # no function of its own: it would be a frame below the user's
            with _recording(recorder, modules, call) as is_recorded:
                if not is_recorded:
                    return self.fn(*args, **kwargs)
                numbers = call.host_numbers(recorder.guards)
                told = [with_numbers(a, numbers) for a in args]
                out = self.fn(*told, **{name: with_numbers(a, numbers) for name, a in kwargs.items()})
        except TypeError as error:
            if "HostNumber" in str(error):
                error.add_note("compile: a number of the call is refused by a library; write int(n) or float(n) there")
            if not call.numbers or recorder.has_acted():
                raise
            out = self.fn(*args, **kwargs)  # which may raise the same
            self._stay_eager(call, f"a number of the call is not taken for one: {error} ({_raised_at(error)})")
            return out
        now = visible.values()
        changes = visible.difference(seen, now)
        recorder.broken = (
            recorder.broken or call.objection(out) or visible.reason or (changes and f"the call changes {changes}")
        )
        recorder.drawn = streams.moved()
        returned, structure = finish(recorder, call.arguments, out, now)
        visible.leave_out(what for kind, what in recorder.origin.values() if kind == "outside")
        out = settled(out)
        del told
        settle_kept(recorder.guards)
        has_changed = recorder.has_changed or changes
        if has_changed and call.key not in self._changing and len(self._changing) < 4 * MOST:
            self._changing.add(call.key)  # what is set once, such as a table made when it is first needed, may be set
        elif recorder.broken is not None:
            self._stay_eager(call, recorder.broken)
        else:
            self._keep(call, recorder, modules, visible, returned, structure)
        return out

    def _keep(
        self, call: Call, recorder: Recorder, modules: list[Any], visible: Visible, returned: list[Any], structure: Any
    ) -> None:
        """The first recording waits for a second one that agrees with it."""
        variants = self._sites.setdefault(call.key, [])
        variant = self._other(variants)
        if variant is None:
            if len(variants) >= MOST:
                last = variants[0]
                what = last.visible.difference(last.seen, last.visible.values())
                what = f"{what} changes often" if what else "modules looked different: is an attribute set often?"
                self._stay_eager(call, f"more than {MOST} recordings: {what}")
                return
            inside = {id(m): m for root in modules for m in root.modules()}
            variant = _Variant(list(inside.values()), recorder.states(), visible)
            variants.insert(0, variant)
        for i, (before, returned_before, structure_before) in enumerate(variant.pending):
            if not all(read(call.numbers) == value for read, value in before.guards):
                continue  # a call that decided otherwise
            found = difference(before, recorder, (returned_before, structure_before), (returned, structure))
            if found is not None:
                self._stay_eager(call, f"two calls differ: {found}")
                return
            del variant.pending[i]
            replay = Replay(recorder, returned, structure)
            if recorder.drawn or replay.reason:
                self._stay_eager(call, recorder.drawn or replay.reason)
                return
            variant.replays.append(replay)
            return
        if len(variant.pending) + len(variant.replays) >= MOST:
            self._stay_eager(call, f"more than {MOST} ways through the function for the numbers it was called with")
            return
        variant.pending.append((recorder, returned, structure))

    def _stay_eager(self, call: Call, reason: str) -> None:
        self._sites.pop(call.key, None)
        if len(self._eager) < 4 * MOST:
            self._eager.add(call.key)
        else:
            self._is_off = not self._sites
        self._warn(reason, 5)

    def _warn(self, reason: str, stacklevel: int = 3) -> None:
        if not self._warned:
            self._warned = True
            text = f"compile: {self.name} runs without being replayed: {reason}"
            warnings.warn(text, CompileWarning, stacklevel=stacklevel)


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


def weak_method(fn: Callable[..., Any], owner: Any) -> Callable[..., Any]:
    """`fn` as a method of an object that is not kept alive by it."""
    to_owner = ref(owner)

    @functools.wraps(fn)
    def method(*args: Any, **kwargs: Any) -> Any:
        return fn(to_owner(), *args, **kwargs)

    method.of_weak_owner = fn, to_owner  # type: ignore[attr-defined]
    return method
