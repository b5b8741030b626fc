"""Recording a call for `compile`: what it asked of a backend, and what it did to the world.

The call runs for real. A backend's raw namespace tells its recorder of every function it runs; arrays are
told apart by identity, so that it does not matter how the call came by them. What is no function of arrays
(noise that is drawn, a gradient that is accumulated, a value that is logged, an optimizer's step) is an
effect, which happens again in every replay.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial
from threading import get_ident
from typing import Any

from framework.autodiff import lines
from framework.autodiff.calls import repeating
from framework.autodiff.callvalues import CallValues
from framework.autodiff.effects import Accumulate, Effect, SetGradient, Write
from framework.autodiff.hostnumber import Guards, HostNumber
from framework.autodiff.namespace import RawNamespace
from framework.autodiff.recordedrules import Constants, RecordedRules, raw
from framework.autodiff.tape import Node, accumulate, backward
from framework.autodiff.tensor import Tensor
from framework.backend.program import Literal, Operation

Array = Any

SCALARS_OK = frozenset(("add", "subtract", "multiply", "divide", "pow", "maximum", "minimum"))
"""Functions whose Python number may become a 0-d array of the other argument's dtype without another result."""

SHAPES_BY_VALUE = frozenset(("nonzero_table", "unique_values", "unique_counts", "unique_inverse", "unique_all"))
"""Functions whose result's shape depends on values: a recording holds for one set of shapes."""

READ = "a value is read: float, int, bool, item, tolist or NumPy of a Tensor"


class Recorder(CallValues):
    """The recording of one call on one backend.

    Attributes:
        stream: operations and effects, in order.
        guards: what must hold of the call's numbers, each with its outcome.
        checks: what must hold of input values, each a number, a predicate and its outcome.
        modules: those that were called.
        fresh: leaves that had no gradient when theirs was read, which must be so again; each with what gives those
            whose gradients the call has dropped before.
        reads: arrays from outside whose values Python has seen.
        written: Tensors that were given another array, and the number of the first one they had.
        drawn: what was drawn in the call that no replay would draw, if so.
        has_changed: whether the call is refused because it changes what is there.
        has_missed: whether something may have been done of which nothing is told, after the call was refused.
    """

    def __init__(self, ns: RawNamespace) -> None:
        super().__init__(ns)
        self.thread = get_ident()
        self.stream: list[Operation | Effect] = []
        self.lines: list[lines.Line | None] = []
        self.guards = Guards()
        self.checks: list[tuple[int, Callable[[Array], bool], bool]] = []
        self.reads: list[tuple[int, lines.Line]] = []
        self.written: dict[int, tuple[Tensor, int]] = {}
        self.functions: dict[str, Callable[..., Any]] = {}
        self.modules: list[Any] = []
        self.drawn = ""
        self.fresh: list[tuple[Any, Callable[[], Iterable[Any]]]] = []
        self.has_changed = self.has_missed = False
        self._dropped: dict[Any, Callable[[], Iterable[Any]]] = {}
        self._constant_roots: dict[int, frozenset[int]] = {}
        self._kept: list[Any] = []  # keeps identities of gradients unique
        self._quiet = 0

    # -- what is told ------------------------------------------------------------------------------

    def listens(self) -> bool:
        """Whether what happens now is part of the call, and is to be told."""
        is_part = not self._quiet and get_ident() == self.thread
        if self.broken is None:
            return is_part
        self.has_missed = self.has_missed or is_part
        return False

    def looks_on(self) -> bool:
        """As `listens`, of what may be missed once the call is refused: it leaves nothing behind."""
        return self.broken is None and self.listens()

    def has_acted(self) -> bool:
        """Whether something was done that cannot be done again."""
        return self.has_missed or bool(self.written) or any(isinstance(item, Effect) for item in self.stream)

    def wrapped(self, name: str, fn: Callable[..., Any]) -> Callable[..., Any]:
        """`fn`, the namespace's function of this name, telling of each call."""

        def told(*args: Any, **params: Any) -> Any:
            if not self.looks_on():
                return fn(*map(_plain, args), **params)
            self._quiet += 1  # what it calls in turn is part of it
            try:
                return self._call(name, fn, args, params)
            finally:
                self._quiet -= 1

        return told

    def _call(self, name: str, fn: Callable[..., Any], args: tuple[Any, ...], params: dict[str, Any]) -> Any:
        dtype = next((a.dtype for a in args if self._is_array(a)), None)
        entries = [self._entry(a, dtype if name in SCALARS_OK else None) for a in args]
        plain_args = [_plain(a) for a in args]
        params = {key: _plain(value) for key, value in params.items()}
        out = fn(*plain_args, **params)
        if any(self._is_array(value) for value in params.values()):
            self.give_up(f"{name} takes an array by keyword")
            return out
        leaves: list[Array] = []
        out = self._fresh(out, leaves)
        if not any(self._depends(entry) for entry in entries):
            return out  # a constant
        if name in SHAPES_BY_VALUE:
            self.give_up(f"the shape of {name}'s result depends on values")
            return out
        numbers = tuple([self._made(leaf) for leaf in leaves])
        roots = self._roots_of(entries)
        if roots is not None:
            self._constant_roots.update(dict.fromkeys(numbers, roots))
        self.functions.setdefault(name, fn)
        self.stream.append(Operation(name, tuple(entries), params, numbers))
        self.lines.append(lines.user_line())
        return out

    def _roots_of(self, entries: Any) -> frozenset[int] | None:
        """The arrays from outside that arguments are computed from, where they are from nothing else."""
        roots: frozenset[int] = frozenset()
        for entry in entries:
            found: frozenset[int] | None = frozenset()
            if isinstance(entry, tuple | list) and not isinstance(entry, Literal):
                found = self._roots_of(entry)
            elif isinstance(entry, int):
                is_outside = self.origin.get(entry, ("",))[0] == "outside"
                found = frozenset((entry,)) if is_outside else self._constant_roots.get(entry)
            if found is None:
                return None
            roots |= found
        return roots

    def _fresh(self, out: Any, leaves: list[Array]) -> Any:
        """The result with arrays for scalars, which have no identity; its arrays are added to `leaves`."""
        if isinstance(out, tuple | list):
            parts = [self._fresh(part, leaves) for part in out]
            return type(out)(*parts) if hasattr(out, "_fields") else type(out)(parts)
        if self._is_array(out):
            if not hasattr(out, "__dlpack__"):  # NumPy's scalars
                out = self.ns.backend.asarray(out)
            leaves.append(out)
        return out

    def _entry(self, a: Any, dtype: Any) -> Any:
        """An argument as it stands in a program."""
        if type(a) is HostNumber:
            return self._scalar(a, dtype)
        if self._is_array(a):
            return self.number(a)
        if isinstance(a, tuple | list) and any(self._is_array(x) or isinstance(x, tuple | list) for x in a):
            return type(a)([self._entry(x, None) for x in a])
        return Literal(_plain(a))

    def _depends(self, entry: Any) -> bool:
        """Whether there is an array in an argument."""
        if isinstance(entry, tuple | list) and not isinstance(entry, Literal):
            return any(map(self._depends, entry))
        return not isinstance(entry, Literal)

    # -- what it is told of Tensors --------------------------------------------------------------------

    def called(self, module: Any) -> None:
        """A module is called in the call: what it looks like matters."""
        if self.looks_on():
            self.modules.append(module)
            for t in (*module.parameters(), *module.buffers()):
                self.add_state(t)

    def release(self) -> None:
        """Let go of all arrays."""
        for kept in (self._held, self._numbers, self._gradients, self._arguments, self._kept, self._dropped):
            kept.clear()

    def read(self, array: Array) -> None:
        """A value is handed to Python, which a replay would not do."""
        if not self.looks_on():
            return
        roots = self._roots_of((self.number(array),))
        if roots is None:
            self.give_up(READ)
            return
        line = lines.user_line()
        self.reads += [(root, line) for root in roots]  # a constant may be read: the end shows what these are

    def check(self, predicate: Callable[[Array], bool], array: Array) -> bool:
        """`predicate(array)`, of an input or a constant: a replay asks it again, and is one only if the answer is."""
        if not self.looks_on():
            return bool(predicate(array))
        outcome = bool(self._apart(lambda: predicate(array)))
        self.checks.append((self.number(array), predicate, outcome))
        return outcome

    def changed(self, owner: Any, name: str) -> None:
        """An attribute was set that a replay would not set."""
        if isinstance(owner, Tensor) and self.origin.get(self._numbers.get(id(owner._data), -1), ("",))[0] not in (
            "state",
            "argument",
        ):
            return  # one of the call's own
        if self.listens():
            of = owner if isinstance(owner, str) else type(owner).__name__
            self.give_up(f"{name!r} of {of} is set, which a replay would not do")
            self.has_changed = True

    def present(self, value: Any, read: Callable[[], Any]) -> Any:
        """A number from outside, or several, as one of the call: each replay reads it anew, when it begins."""
        if not self.looks_on():
            return value
        kind = type(value)
        if kind is tuple or kind is list:
            return kind([self.present(part, partial(_part, read, i)) for i, part in enumerate(value)])
        if kind is not int and kind is not float:
            return value
        if any(isinstance(item, Effect) and item.kind == "barrier" for item in self.stream):
            self.give_up("a number is read that a step of an optimizer or a schedule in the same call may have set")
        return HostNumber(value, lambda _: read(), self.guards)

    def looked_at(self, leaf: Any, gradient: Tensor) -> None:
        """A gradient is taken from a leaf: one that an earlier call left there would not be the next time's."""
        if not self.listens():
            return
        if id(gradient._data) not in self._numbers:
            self.give_up("a gradient is read that is from before the call, or was changed by clipping")
        else:
            self.fresh.append((leaf, self._dropped.get(leaf, tuple)))
        self._gradients[id(gradient)] = leaf
        self._kept.append(gradient)

    def wrote_gradient(self, leaf: Any, gradient: Tensor) -> None:
        """The Tensor that a leaf has as its gradient was written in place."""
        if self.listens():
            self.written.pop(id(gradient), None)
            self.set_gradient(leaf, gradient)
            leaf.grad = gradient

    def set_gradient(self, leaf: Any, gradient: Tensor) -> None:
        """A leaf is given this Tensor's array as its gradient."""
        self.sink("set gradient", SetGradient(leaf), gradient._array())

    def reset(self, name: str, fn: Callable[[], Any], leaves: Callable[[], Iterable[Any]]) -> Any:
        """Dropping the gradients of what `leaves` gives then, which nothing before it in the call depends on."""
        if not self.listens():
            return fn()
        self._dropped.update(dict.fromkeys(leaves(), leaves))
        out = self._apart(fn)
        if self.listens():
            before = next((e for e in reversed(self.stream) if isinstance(e, Effect) and e.kind != "source"), None)
            kind = "barrier" if before is not None and before.kind == "sink" else "source"
            self._effect(Effect(kind, name, fn, (), (), lines.user_line(), None))
        return out

    # -- effects -----------------------------------------------------------------------------------------

    def source(self, name: str, make: Callable[[], Tensor], detail: Any = None) -> Tensor:
        """A Tensor out of nothing: each replay makes another. What it also depends on, `detail`, stays the same."""
        if not self.listens():
            return make()
        if repeating.get():
            self.give_up("noise is drawn inside a checkpoint")
        made = self._apart(make)
        if self.listens():
            number = self.add_input(made._array(), ("source", None))
            made._data = self._held[number]
            self._effect(Effect("source", name, make, (), (number,), lines.user_line(), detail))
        return made

    def sink(self, name: str, fn: Callable[..., Any], *arrays: Array, detail: Any = None) -> Any:
        """Something done with arrays that no later operation depends on; `detail` is what else it depends on."""
        if not self.listens():
            return fn(*arrays)
        numbers = tuple([self.number(a) for a in arrays])
        out = self._apart(lambda: fn(*arrays))
        if self.listens():
            self._effect(Effect("sink", name, fn, numbers, (), lines.user_line(), detail))
        return out

    def barrier(self, name: str, fn: Callable[[], Any], detail: Any = None, state: Iterable[Tensor] = ()) -> Any:
        """Something that reads and writes the state of the world, such as an optimizer's step.

        Args:
            name: what it is.
            fn: does it, again in each replay.
            detail: what else it depends on, which must be the same in each call.
            state: Tensors that it may write.
        """
        if not self.listens():
            return fn()
        written = list(state)
        for t in written:
            self.add_state(t)
        self._write_now()
        before = [(t, t._data) for t in written]
        out = self._apart(fn)
        for t, array in before:
            number = self._numbers.pop(id(array), None)  # what is read from now on is another value
            if number is not None and t._data is not array:
                self._numbers[id(array)] = number
                self.stale.add(number)
        if isinstance(out, Tensor):
            out._data = out._array()
        arrays = [out._data] if isinstance(out, Tensor) else []
        numbers = tuple([self.add_input(a, ("effect", None)) for a in arrays])
        self._effect(Effect("barrier", name, fn, (), numbers, lines.user_line(), detail))
        return out

    def _effect(self, effect: Effect) -> None:
        self.stream.append(effect)
        self.lines.append(effect.line)

    def _apart(self, fn: Callable[[], Any]) -> Any:
        self._quiet += 1
        try:
            return fn()
        finally:
            self._quiet -= 1

    def _write_now(self) -> None:
        """Make effects of the writes into state and gradients so far: what follows sees them."""
        for key, (t, before) in list(self.written.items()):
            if key in self._gradients:
                del self.written[key]
                self.wrote_gradient(self._gradients[key], t)
            elif self.origin.get(before, ("",)) == ("state", t) and t.is_leaf:
                del self.written[key]
                self._effect(Effect("sink", "write", Write(t), (self.number(t._array()),), (), None, None))

    def writes(self, t: Tensor) -> None:
        """A Tensor is about to be given another array; if it outlives the call, each replay gives it its own."""
        if self.listens() and id(t) in self._arguments:
            self.give_up("an argument is written in place")
        elif self.listens():
            t._data = t._array()  # NumPy's scalars have no identity
            before = self.number(t._data)
            if self.origin.get(before, ("",))[0] == "outside":
                self.origin[before] = ("state", t)
            self.written.setdefault(id(t), (t, before))

    # -- gradients -----------------------------------------------------------------------------------------

    def backward(self, roots: Iterable[tuple[Node, Array]], **settings: Any) -> dict[Node, Array]:
        """The tape's backward with the rules running on Tensors, whose operations are told of."""
        lifted = [(node, Tensor(seed, None, self.ns)) for node, seed in roots]
        rules = RecordedRules(self.ns)
        found = backward(lifted, wrap=Constants(rules), ops=rules, **settings)
        return {node: raw(g) for node, g in found.items()}

    def accumulate(self, node: Node, g: Any) -> None:
        """The effect of a backward on a leaf."""
        if node in self._arguments.values():
            self.give_up("a gradient accumulates in an argument; use fw.grad, or return it")
        if isinstance(g, Tensor):
            self.give_up(
                "backward(create_graph=True) leaves its graph in .grad; use fw.grad inside a compiled function"
            )
            accumulate(node, g)
            return
        self.sink("accumulate", Accumulate(node), g)


def _part(read: Callable[[], Any], i: int) -> Any:
    return read()[i]


def _plain(a: Any) -> Any:
    """An argument as the library takes it."""
    if type(a) is HostNumber:
        return a._value
    if type(a) in (tuple, list) and any(type(x) is HostNumber for x in a):
        return type(a)([x.settled() if type(x) is HostNumber else x for x in a])
    return a
