"""The tape: nodes in order of creation, and the one driver that walks them backward."""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterable
from contextvars import ContextVar
from functools import partial
from heapq import heappop, heappush
from itertools import count
from sys import getrefcount
from typing import TYPE_CHECKING, Any

from framework.autodiff import lines
from framework.errors import GradientError

if TYPE_CHECKING:
    from framework.autodiff.primitive import Primitive

Array = Any

owner: ContextVar[object] = ContextVar("owner", default=None)
"""The transform whose function runs, or whose tape is walked: a hook set inside one runs for that one alone."""

counts_are_exact = getattr(sys, "_is_gil_enabled", lambda: True)()
"""Whether a count of references tells who holds an object; without the interpreter's lock it does not."""

next_seq = count(1).__next__
"""The order of all nodes and of all writes into arrays that a node may have kept."""

_last_write = 0


def mark_written(leaves: Iterable[Leaf], line: lines.Line | None = None) -> None:
    """Note that leaves' arrays were overwritten in place: a backward that kept the old values can tell."""
    global _last_write
    _last_write = seq = next_seq()
    for leaf in leaves:
        leaf.written = seq
        leaf.writer = line


class Node:
    """One recorded operation, or a leaf (then `prim` is None).

    Nodes point at their parents, never at Tensors, so that an activation lives only as long as a
    rule needs it. `saved` is `(out, residual, *inputs)`, each None where no rule needs it; it is
    dropped as backward passes.
    """

    __slots__ = ("dtype", "hooks", "line", "ns", "params", "parents", "prim", "saved", "seq", "shape")

    grad: Any = None  # only a leaf accumulates
    slot: Array = None
    writer: lines.Line | None = None

    @property
    def written(self) -> int:
        """When the array was last overwritten in place: that of a leaf, or of the leaf this is a view of."""
        if self.prim is None or not self.prim.view or len(self.parents) != 1:  # with index arrays, getitem copies
            return 0
        parent = self.parents[0]
        return 0 if parent is None else parent.written

    def __init__(
        self,
        prim: Primitive | None,
        parents: tuple[Node | None, ...],
        saved: tuple[Any, ...] | None,
        params: dict[str, Any],
        out: Array,
        ns: Any,
    ) -> None:
        self.seq = next_seq()
        self.prim = prim
        self.parents = parents
        self.saved = saved
        self.params = params
        self.shape = out.shape
        self.dtype = out.dtype
        self.ns = ns
        self.hooks: list[Callable[[Any], Any]] | None = None
        if lines.recording:
            self.line = lines.user_line()

    @property
    def name(self) -> str:
        """The primitive's name."""
        return self.prim.name if self.prim else "leaf"

    def __repr__(self) -> str:
        return f"<node {self.seq} {self.name} {self.shape}>"


class Leaf(Node):
    """A node that gradients are accumulated in."""

    __slots__ = ("grad", "slot", "writer", "written")

    def __init__(self, array: Array, ns: Any) -> None:
        super().__init__(None, (), None, {}, array, ns)
        self.grad: Any = None
        self.slot: Array = None
        """Where a rule may write the gradient, if nobody holds what was written there before; see `free_slot`."""
        self.written: int = 0
        self.writer: lines.Line | None = None


class Output(Node):
    """One of several results of a node, to which it hands its gradient."""

    __slots__ = ("index",)

    def __init__(self, node: Node, index: int, out: Array) -> None:
        super().__init__(node.prim, (node,), None, {}, out, node.ns)
        self.index = index


def free_slot(leaf: Leaf) -> Array:
    """The place for a leaf's gradient, if nobody else holds it or a view of it; else None."""
    slot = leaf.slot
    return slot if slot is not None and counts_are_exact and getrefcount(slot) <= _ALONE else None


def _alone() -> int:
    """The count of references to a slot that its leaf alone holds, as `free_slot` sees it."""
    leaf = [object()]
    slot = leaf[0]
    return getrefcount(slot)


_ALONE = _alone()


def fit(ns: Any, g: Array, node: Node, dtype: Any) -> Array:
    """`g` summed to the node's shape and cast to its dtype: the one place that un-broadcasts."""
    if g.shape != node.shape:
        extra = len(g.shape) - len(node.shape)
        axes = tuple(range(extra)) + tuple(
            extra + i for i, n in enumerate(node.shape) if n == 1 and g.shape[extra + i] != 1
        )
        if axes:
            g = ns.sum(g, axis=axes, keepdims=True)
        if g.shape != node.shape:
            g = ns.reshape(g, node.shape)
    if dtype != node.dtype:
        if "complex" in str(dtype) and "complex" not in str(node.dtype):
            g = ns.real(g)
        g = ns.astype(g, node.dtype)
    return g


def backward(
    roots: Iterable[tuple[Node, Array]],
    *,
    retain: bool = False,
    only: Collection[Node] | None = None,
    wrap: Callable[[Array, Node | None, Any], Any] | None = None,
    ops: Any = None,
    since: int = 0,
) -> dict[Node, Array]:
    """Gradients of the leaves (or of the nodes in `only`) that the roots depend on.

    Args:
        roots: nodes and the gradients that start there.
        retain: keep what the rules need, for another walk.
        only: nodes whose gradients are wanted; nothing is computed for others.
        wrap: makes a Tensor of a saved array and its node; given, the rules run on Tensors, in `ops`.
        since: nodes older than this are ends: their gradients are collected, and no hook is called.

    Raises:
        GradientError: the graph was freed by an earlier walk, or a kept array was overwritten.
    """
    roots = list(roots)
    if wrap is None and roots and (recorder := roots[0][0].ns.recorder) is not None and recorder.listens():
        return recorder.backward(roots, retain=retain, only=only, since=since)
    if wrap is None and only is None and not since:
        return _to_leaves(roots, retain)
    grads: dict[Node, Array] = {}
    wanted = _ancestors_of(only, [node for node, _ in roots], since) if only is not None else None
    found: dict[Node, Array] = {}  # leaves accumulate here at once; they have nothing to wait for
    heap: list[tuple[int, Node]] = []
    for node, seed in roots:
        if wanted is None or node in wanted:
            _add(found if node.prim is None else grads, heap, node, seed, ops or node.ns)
    while heap:
        node = heappop(heap)[1]
        g = grads.pop(node)
        if node.seq < since:
            found[node] = g
            continue
        if node.hooks is not None:
            g = _run_hooks(node, g)
        needs = node.parents
        if only is not None:
            if node in only:
                found[node] = g
            needs = tuple([p if p in wanted else None for p in needs])  # type: ignore[operator]
        if node.__class__ is Output:
            _hand_on(grads, heap, node, g, ops or node.ns, needs[0])
            continue
        saved: Any = node.saved
        if saved is None or node.seq < _last_write:
            _check_saved(node)
        if not retain:
            node.saved = None
        ns = node.ns
        if wrap is not None:
            ns, saved = ops, _wrap_saved(saved, node, wrap)
        for parent, piece in zip(needs, node.prim.vjp(ns, g, needs, *saved, **node.params)):  # type: ignore[union-attr]
            if parent is None or piece is None:
                continue
            dtype = piece.dtype if wrap is None else piece.native_dtype
            if piece.shape != parent.shape or (dtype is not parent.dtype and dtype != parent.dtype):
                piece = fit(ops or parent.ns, piece, parent, dtype)
            into = found if parent.prim is None else grads
            before = into.get(parent)
            if before is not None:
                into[parent] = (ops or parent.ns).add(before, piece)
                continue
            into[parent] = piece
            if into is grads:
                heappush(heap, (-parent.seq, parent))
    for node in found:
        if node.prim is None and node.hooks is not None and node.seq >= since:
            found[node] = _run_hooks(node, found[node])
    return found


def _to_leaves(roots: list[tuple[Node, Array]], retain: bool) -> dict[Node, Array]:
    """`backward` of raw arrays to all leaves, which most walks are: without what these do not need, and no heap.

    Where one node alone waits, as in a chain, it is `ahead`; those beside it wait in the heap.
    """
    found: dict[Node, Array] = {}
    grads: dict[Node, Array] = {}
    heap: list[tuple[int, Node]] = []
    for node, seed in roots:
        _add(found if node.prim is None else grads, heap, node, seed, node.ns)
    ahead: Any = None
    g_ahead: Any = None
    while heap or ahead is not None:
        if heap:
            if ahead is not None:
                grads[ahead] = g_ahead
                heappush(heap, (-ahead.seq, ahead))
            node = heappop(heap)[1]
            g = grads.pop(node)
        else:
            node, g = ahead, g_ahead
        ahead = g_ahead = None
        if node.hooks is not None:
            g = _run_hooks(node, g)
        saved: Any = node.saved
        needs = node.parents
        if saved is None or node.seq < _last_write:
            if node.__class__ is Output:
                _hand_on(grads, heap, node, g, node.ns, needs[0])
                continue
            _check_saved(node)
        if not retain:
            node.saved = None
        prim: Any = node.prim
        fits = prim.fits
        for parent, piece in zip(needs, prim.vjp(node.ns, g, needs, *saved, **node.params)):
            if piece is None or parent is None:
                continue
            if not fits and (piece.dtype is not parent.dtype or piece.shape != parent.shape):
                piece = fit(parent.ns, piece, parent, piece.dtype)
            if parent.prim is None:
                before = found.get(parent)
                found[parent] = piece if before is None else parent.ns.add(before, piece)
            elif parent is ahead:
                g_ahead = parent.ns.add(g_ahead, piece)
            elif parent in grads:
                grads[parent] = parent.ns.add(grads[parent], piece)
            elif ahead is None:
                ahead, g_ahead = parent, piece
            else:
                grads[parent] = piece
                heappush(heap, (-parent.seq, parent))
    for node in found:
        if node.hooks is not None:
            found[node] = _run_hooks(node, found[node])
    return found


def accumulate(node: Node, g: Any) -> None:
    """Add a gradient to what a leaf has; raw arrays, or Tensors of a backward that was recorded."""
    before = node.grad
    if before is None:
        node.grad = g
    elif not hasattr(before, "_ns") and not hasattr(g, "_ns"):
        node.grad = node.ns.add(before, g)
    elif hasattr(before, "_ns") and not hasattr(g, "_ns") and before._node is None:
        before._data = node.ns.add(before._data, g)  # somebody has looked at it: it stays that Tensor
    else:
        tensor = type(before if hasattr(before, "_ns") else g)
        lift = [t if hasattr(t, "_ns") else tensor(t, None, node.ns) for t in (before, g)]
        node.grad = lift[0] + lift[1]


def _add(grads: dict[Node, Array], heap: list[tuple[int, Node]], node: Node, g: Array, ns: Any) -> None:
    before = grads.get(node)
    if before is not None:
        grads[node] = ns.add(before, g)
        return
    grads[node] = g
    if node.prim is not None:
        heappush(heap, (-node.seq, node))


def _hand_on(
    grads: dict[Node, Any], heap: list[tuple[int, Node]], output: Output, g: Array, ns: Any, node: Node | None
) -> None:
    """Put the gradient of one output into its place in the tuple that the node's rule receives."""
    if node is None:
        return
    if node not in grads:
        grads[node] = (None,) * node.prim.outputs  # type: ignore[union-attr]
        heappush(heap, (-node.seq, node))
    parts = list(grads[node])
    before = parts[output.index]
    parts[output.index] = g if before is None else ns.add(before, g)
    grads[node] = tuple(parts)


def _check_saved(node: Node) -> None:
    saved = node.saved
    if saved is None:
        raise GradientError(
            f"backward reached {node.name!r}{lines.at(node)} a second time, but the first one freed what it kept. "
            "Call backward(retain_graph=True) the first time, or compute the forward pass again"
        )
    for i, parent in enumerate(node.parents, 2):
        if parent is not None and parent.written > node.seq and saved[i] is not None:
            raise GradientError(lines.overwritten(node, parent))


_NUMBERS = (bool, int, float, complex)  # these exactly: a NumPy float64, which is an array here, is a float, too


def _wrap_saved(saved: tuple[Any, ...], node: Node, wrap: Callable[..., Any]) -> tuple[Any, ...]:
    """Saved raw arrays as Tensors on the tape; the residual is a cache of raw values and is left out.

    A residual that is a function is the rule of a function-valued operation, which is told `wrap`.
    """
    if isinstance(saved[0], tuple):
        out: Any = tuple([wrap(part, Output(node, i, part), node.ns) for i, part in enumerate(saved[0])])
    else:
        out = None if saved[0] is None else wrap(saved[0], node, node.ns)
    inputs = [
        # without a node: a constant of the operation
        kept if kept is None or kept.__class__ in _NUMBERS else wrap(kept, parent, node.ns)
        for parent, kept in zip(node.parents, saved[2:])
    ]
    residual = partial(saved[1], wrap=wrap) if callable(saved[1]) else None
    if residual is None and saved[1] is not None and hasattr(wrap, "residual"):
        residual = wrap.residual(saved[1], node.ns)
    return (out, residual, *inputs)


def _run_hooks(node: Node, g: Array) -> Array:
    for hook in node.hooks or ():
        g = hook(g)
    return g


def _ancestors_of(only: Collection[Node], roots: Iterable[Node], since: int) -> set[Node]:
    """The nodes on a path from a root to one of `only`, those included; nodes older than `since` are ends."""
    oldest = min((node.seq for node in only), default=0)
    reached: list[Node] = []
    seen: set[Node] = set()
    stack = list(roots)
    while stack:
        node = stack.pop()
        if node in seen or node.seq < oldest:
            continue
        seen.add(node)
        reached.append(node)
        if node.seq >= since:
            stack.extend(p for p in node.parents if p is not None)
    reached.sort(key=lambda node: node.seq)  # parents before children
    useful = set(only) & seen
    for node in reached:
        if any(p in useful for p in node.parents if p is not None):
            useful.add(node)
    return useful
