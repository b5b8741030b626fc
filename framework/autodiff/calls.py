"""What function-valued operations share: one node for a whole call, transforms entered again, calls made again.

Checkpoint, custom rules and implicit functions take apart the stack of active transforms from the
innermost on: `Dual` adds a tangent, a `Tape` one node, and a level that only carries something with its
values (`Batch`, a recorder) is entered again wherever a function must see its own values.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import cache
from typing import Any

from framework.autodiff import modes, tape
from framework.autodiff.levels import Level, LeveledTensor, active, recording
from framework.autodiff.modes import no_grad
from framework.autodiff.namespace import RawNamespace, ops
from framework.autodiff.primitive import Primitive
from framework.autodiff.tape import Node, Output, next_seq
from framework.autodiff.tensor import Tensor
from framework.errors import GradientError

Pull = Callable[..., list[Any]]
"""`(g, needs, inputs, out, wrap=None)` -> one gradient or None per parent, all of them Tensors."""


# -- levels ----------------------------------------------------------------------------------------


@contextmanager
def resumed(*levels: Level) -> Iterator[None]:
    """Inside, these transforms are active, as they were in their own calls."""
    closed = [level for level in levels if not level.open]
    token = active.set(tuple(sorted({*active.get(), *levels}, key=lambda level: level.depth)))
    innermost = max((level for level in levels if level.is_recording), key=lambda level: level.depth, default=None)
    recorder = recording.set(recording.get() if innermost is None else innermost)
    for level in closed:
        level.open = True
    try:
        yield
    finally:
        recording.reset(recorder)
        active.reset(token)
        for level in closed:
            level.open = False


def same(x: Tensor) -> Tensor:
    """The same value with the same history as another object, which in-place operators may rebind."""
    if isinstance(x, LeveledTensor):
        return LeveledTensor(x._data, x._level, x._extra, x._node)
    return Tensor(x._data, x._node, x._ns)


def lowered(level: Level | None, x: Tensor) -> Tensor:
    """`x` without its place on a tape: that of a `Tape` level, or with None that of plain Tensors."""
    return Tensor(x._data, None, x._ns) if level is None else level.lower(level.taken_up(x))


def node_of(level: Level | None, x: Tensor) -> Node | None:
    """The node of `x` on the tape of `level`."""
    if level is not None:
        x = level.taken_up(x)
    return x._node if x._level is level else None


def take_apart(level: Level, tensors: Iterable[Tensor]) -> tuple[list[Tensor], list[Any]]:
    """The parts of the tensors one level down, and what `put_together` needs to know of each."""
    parts: list[Tensor] = []
    marks: list[Any] = []
    for x in tensors:
        if not isinstance(x, LeveledTensor) or x._level is not level:
            parts.append(x)
            marks.append(None)
        elif isinstance(x._extra, Tensor):  # a tangent
            parts += [x._data, x._extra]
            marks.append((True, None))
        else:
            parts.append(x._data)
            marks.append((False, x._extra))
    return parts, marks


def put_together(level: Level, parts: Iterable[Tensor], marks: Iterable[Any]) -> list[Tensor]:
    """The tensors of this level whose parts these are."""
    source = iter(parts)
    made: list[Tensor] = []
    for mark in marks:
        x = next(source)
        if mark is not None:
            has_tangent, extra = mark
            x = LeveledTensor(x, level, next(source) if has_tangent else extra)
        made.append(x)
    return made


def entering(level: Level, x: Tensor | None) -> Tensor | None:
    """A cotangent or tangent, computed one level down, of a value of this level."""
    if x is None:
        return None
    return LeveledTensor(x, level) if level.is_batch else level.lift(x)


# -- the tape --------------------------------------------------------------------------------------


class Call(Primitive):
    """Stands for a function-valued operation on the tape; its node's residual is the rule (see `Pull`)."""

    def __init__(self, name: str, outputs: int) -> None:
        self.name = name
        self.outputs = outputs
        self.view = False
        self.fits = False
        self.vjp = self._vjp

    @staticmethod
    def _vjp(
        ns: Any, g: Any, needs: Any, out: Any, pull: Pull, *inputs: Any, of_inputs: list[Any], of_outs: list[Any]
    ) -> list[Any]:
        if not isinstance(ns, RawNamespace):  # on Tensors
            for x, own in zip((*inputs, *(out or ())), (*of_inputs, *of_outs)):
                if isinstance(x, Tensor) and x._level is None:
                    x._ns = own  # it was wrapped as one of the node's
            return pull(g, needs, inputs, out)

        def tensors(arrays: Any, spaces: list[Any]) -> list[Any]:
            return [Tensor(a, None, own) if own is not None and a is not None else a for a, own in zip(arrays, spaces)]

        with no_grad():
            grads = pull(tensors(g, of_outs), needs, tensors(inputs, of_inputs), tensors(out or (), of_outs))
        return [None if x is None else x._data for x in grads]


_call = cache(Call)


def attach(
    name: str,
    level: Level | None,
    values: list[Tensor],
    parents: Sequence[Node | None],
    pull: Pull,
    *,
    tracked: Sequence[bool],
    inputs: Sequence[Tensor | None] | None = None,
    keep_out: bool = False,
) -> list[Tensor]:
    """The values, those that are `tracked` as results of one new node on the tape of `level`.

    Args:
        inputs: per parent, what `pull` wants to get back; None: nothing, though writes in place are noticed.
        keep_out: `pull` gets the values back, too.
    """

    def kept(x: Tensor | None) -> Any:
        return x._data if level is None and x is not None else x

    saved = [True] * len(parents) if inputs is None else [kept(x) for x in inputs]
    arrays = [kept(v) for v in values]
    out = tuple(arrays) if keep_out else None
    # a function may take and return arrays of several backends
    of_inputs = [x._ns if isinstance(x, Tensor) else None for x in inputs or [None] * len(parents)]
    params = {"of_inputs": of_inputs, "of_outs": [v._ns for v in values]}
    ns = values[0]._ns if level is None else ops
    node = Node(_call(name, len(values)), tuple(parents), (out, pull, *saved), params, arrays[0], ns)
    made: list[Tensor] = []
    for i, (v, array) in enumerate(zip(values, arrays)):
        if tracked[i]:
            output = Output(node, i, array)
            if level is None:
                output.ns = v._ns
                v = Tensor(array, output, v._ns)
            else:
                v = LeveledTensor(v, level, node=output)
        made.append(v)
    return made


def older_than(start: int, nodes: Iterable[Node | None], level: Level | None = None) -> list[Node]:
    """The nodes made before `start` that those given depend on through newer ones, in order of creation."""
    taken_up = set(getattr(level, "nodes", {}).values())  # a recording's nodes for what it met: made late, but ends
    found: set[Node] = set()
    seen: set[Node] = set()
    stack = [node for node in nodes if node is not None]
    while stack:
        node = stack.pop()
        if node.seq < start or node in taken_up:
            found.add(node)
        elif node not in seen:
            seen.add(node)
            stack.extend(p for p in node.parents if p is not None)
    if any(type(n) is not Output and (type(n.prim) is Call or (n.prim and n.prim.outputs > 1)) for n in found):
        raise GradientError(
            "a function under checkpoint or implicit closes over the pullback of an operation with several results; "
            "call the pullback outside"
        )
    if level is not None and level.is_recording:
        found = _known_outside(level, found, start)
    return sorted(found, key=lambda node: node.seq)


def _known_outside(level: Any, ends: set[Node], start: int) -> set[Node]:
    """The ends on a recording; for one that met a plain value made since `start`, what that value was made of."""
    below = {up: node for node, up in level.nodes.items()}
    found: set[Node] = set()
    for end in ends:
        node = below.get(end)
        if node is None or node.ns is ops or node.seq < start:
            found.add(end)
        else:
            found.update(level.node_above(older) for older in older_than(start, [node]))
    return found


def _walked_below(level: Any, found: dict[Node, Any], needs: Iterable[Node], since: int) -> None:
    """Add the gradients that go on from plain values made since: the counterpart of `_known_outside`."""
    below = {up: node for node, up in level.nodes.items()}
    wanted = {below[p]: p for p in needs if p in below and below[p].ns is not ops}
    roots = [(below[up], g) for up, g in found.items() if up in below and below[up].ns is not ops and up not in needs]
    if not wanted or not roots:
        return
    further = tape.backward(
        roots, retain=True, only=set(wanted), wrap=lambda a, node, ns: Tensor(a, node, ns), ops=ops, since=since
    )
    for node, g in further.items():
        up = wanted[node]
        found[up] = found[up] + g if up in found else g


def walked(
    level: Level | None,
    nodes: Iterable[Node | None],
    g: Iterable[Any],
    needs: Sequence[Node | None],
    wrap: Any,
    since: int,
) -> list[Tensor | None]:
    """The gradients of the nodes in `needs`, from a walk that ends at what is older than `since`.

    Args:
        level: whose tape it is; None for the tape of plain Tensors.
        nodes: where the gradients `g`, Tensors, start; None where there is nothing.
        wrap: as in `tape.backward`.
    """
    is_raw = level is None and wrap is None
    roots = [(n, x._data if is_raw else x) for n, x in zip(nodes, g) if n is not None and x is not None]
    only = {p for p in needs if p is not None}
    met: set[Node] = set()
    if level is not None and level.is_recording:
        met = {up for node, up in level.nodes.items() if node.seq >= since and node.ns is not ops}  # type: ignore[attr-defined]
    found = tape.backward(
        roots,
        retain=wrap is not None,  # what is recorded of the walk refers to these nodes
        only=only | met,
        wrap=wrap,
        ops=None if wrap is None else getattr(wrap, "ops", ops),
        since=since,
    )
    if met:
        _walked_below(level, found, only, since)
    grads = [None if p is None else found.get(p) for p in needs]
    return [Tensor(x, None, p.ns) if is_raw and x is not None and p is not None else x for x, p in zip(grads, needs)]


# -- calls made again ------------------------------------------------------------------------------

_STATES: list[tuple[Callable[[], Any], Callable[[Any], None], Any]] = []  # save, restore, how it was at first


def register_state(save: Callable[[], Any], restore: Callable[[Any], None]) -> None:
    """Let a call that is made again find a state of the process as it was, and leave it as it is.

    Examples:
        >>> state = {"calls": 0}
        >>> register_state(state.copy, state.update)
    """
    _STATES.append((save, restore, save()))


def _save_defaults() -> Any:
    return modes.get_default_dtype(), modes._process_backend


def _restore_defaults(saved: Any) -> None:
    modes.set_default_dtype(saved[0])
    modes._process_backend = saved[1]


register_state(_save_defaults, _restore_defaults)


repeating: ContextVar[bool] = ContextVar("repeating", default=False)
"""Whether a call is made again, with the noise of the first time."""


class Replay:
    """A function that finds, whenever it is called again, the surroundings of its first call.

    These are the active transforms, grad mode and the other context variables, the default dtype and
    backend, and random streams, which afterwards stand where they stood.
    """

    def __init__(self, fn: Callable[..., Any]) -> None:
        self.fn = fn
        self.context: Any = None

    def __call__(self, *args: Any) -> Any:
        """Call the function."""
        if self.context is not None:
            return self.context.copy().run(self._again, args)
        self.context = copy_context()
        self.states = [save() for save, _, _ in _STATES]
        return self.fn(*args)

    def _again(self, args: tuple[Any, ...]) -> Any:
        now = [save() for save, _, _ in _STATES]
        self._restore(self.states)
        try:
            recorder = recording.get()
            with resumed(*active.get()):
                recording.set(recorder)  # what it was at the first call
                repeating.set(True)
                return self.fn(*args)
        finally:
            self._restore(now)

    @staticmethod
    def _restore(states: list[Any]) -> None:
        for i, (_, restore, first) in enumerate(_STATES):  # some may have come with an import inside the call
            restore(states[i] if i < len(states) else first)


def start() -> int:
    """A point on every tape: nodes with a smaller `seq` are older."""
    return next_seq()
