"""The end of a recording: what the call returned and wrote, and whether it can be replayed."""

from __future__ import annotations

import gc
import sys
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

from framework.autodiff import lines, tree
from framework.autodiff.effects import Effect, Write
from framework.autodiff.hostnumber import HostNumber
from framework.autodiff.owners import find_owners
from framework.autodiff.recorder import Recorder
from framework.autodiff.tape import Node
from framework.autodiff.tensor import Tensor
from framework.backend.program import Operation

Array = Any


class Returned(NamedTuple):
    """One leaf of what a call returned.

    `kind` is "same" (as an earlier leaf), "argument", "object" (the same each time), "number" (of the call), "array"
    or "tensor" (values of the program; `node` stands for the history of a Tensor that a backward went through).
    """

    kind: str
    what: Any
    node: Node | None = None


def finish(
    recorder: Recorder, arguments: Sequence[Any], out: Any, seen: Sequence[Any] = ()
) -> tuple[list[Returned], Any]:
    """What the call returned; the recording is checked and its arrays are let go. `seen` is what the function can see.

    Where something forbids a replay, `recorder.broken` says what.
    """
    leaves, structure = tree.flatten(out)
    find_owners(recorder, {id(t) for t in (*leaves, *arguments)}, seen)
    returned = [_returned(recorder, arguments, leaf, leaves[:i]) for i, leaf in enumerate(leaves)]
    _settle_writes(recorder, leaves)
    allowed = {r.what for r in returned if r.kind in ("array", "tensor")}
    for item in recorder.stream:
        if isinstance(item, Effect):
            allowed.update(item.inputs)
    held = recorder.intermediates()
    bases = {id(getattr(array, "base", None)) for number, array in held if number in allowed}
    loose = [(number, weakref.ref(array)) for number, array in held if number not in allowed and id(array) not in bases]
    del held
    recorder.release()
    if recorder.broken is None and any(ref() is not None for _, ref in loose):
        gc.collect()  # unless it is garbage that refers to itself
        for number, ref in loose:
            if ref() is not None:
                recorder.broken = (
                    f"a Tensor of the call is kept by something else than its result ({_made_at(recorder, number)})"
                )
                break
    return returned, structure


def _returned(recorder: Recorder, arguments: Sequence[Any], leaf: Any, leaves: Sequence[Any]) -> Returned:
    if type(leaf) is HostNumber:
        return Returned("number", leaf._read)
    for i, argument in enumerate(arguments):
        if leaf is argument:
            return Returned("argument", i)
    for i, before in enumerate(leaves):
        if before is leaf and isinstance(leaf, Tensor):
            return Returned("same", i)
    if not isinstance(leaf, Tensor):
        return Returned("array", recorder.number(leaf)) if recorder.ns.backend.owns(leaf) else Returned("object", leaf)
    if leaf._level is not None or leaf._ns is not recorder.ns:
        what = "inside a transform" if leaf._level is not None else "on another device"
        recorder.broken = recorder.broken or f"a Tensor {what} is returned"
        return Returned("object", leaf)
    kind, what = recorder.origin.get(recorder.number(leaf._array()), ("operation", None))
    if (kind == "state" and what is leaf) or (leaf._node is not None and leaf._node.prim is None):
        return Returned("object", leaf)
    if kind == "state":
        recorder.give_up("a parameter or buffer is returned as another Tensor of the same array; use .clone()")
    if leaf._node is not None and not _is_spent(leaf._node) and recorder.broken is None:
        recorder.broken = (
            "the result requires a gradient: call backward inside the compiled function, or use no_grad, or detach"
        )
    spent = None if leaf._node is None else Node(leaf._node.prim, (), None, {}, leaf._data, leaf._ns)
    return Returned("tensor", recorder.number(leaf._array()), spent)


def _is_spent(node: Node) -> bool:
    """Whether a backward has freed all that this node's history kept."""
    seen = {node}
    stack = [node]
    while stack:
        node = stack.pop()
        if node.prim is not None and node.saved is not None and any(kept is not None for kept in node.saved):
            return False
        for parent in node.parents:
            if parent is not None and parent not in seen:
                seen.add(parent)
                stack.append(parent)
    return True


def _settle_writes(recorder: Recorder, leaves: list[Any]) -> None:
    """Make effects of the writes into Tensors that outlive the call."""
    results = {id(leaf) for leaf in leaves}
    while recorder.written:
        key, (t, before) = recorder.written.popitem()
        if (leaf := recorder.leaf_of(t)) is not None:
            recorder.wrote_gradient(leaf, t)
            continue
        is_state = recorder.origin.get(before, ("",)) == ("state", t)
        if key in results or sys.getrefcount(t) <= 2 + is_state:  # this name, the argument of the count, the origin
            if is_state:  # one of the call's own
                recorder.origin[before] = ("outside", recorder.array(before))
            continue
        recorder.stream.append(Effect("sink", "write", Write(t), (recorder.number(t._array()),), (), None, None))
        recorder.lines.append(None)


def _made_at(recorder: Recorder, number: int) -> str:
    for item, line in zip(recorder.stream, recorder.lines):
        if isinstance(item, Operation) and number in item.outputs and line is not None:
            return f"{item.primitive} at {lines.text(line)}"
    return "an argument"
