"""The tape: nodes in order of creation, and the one driver that walks them backward."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from heapq import heappop, heappush
from itertools import count
from typing import TYPE_CHECKING, Any

from framework.errors import GradientError

if TYPE_CHECKING:
    from framework.autodiff.primitive import Primitive

Array = Any

next_seq = count(1).__next__
"""The order of all nodes and of all writes into arrays that a node may have kept."""

VIEWS = frozenset({"alias", "broadcast_to", "flip", "getitem_parts", "permute_dims", "reshape"})
"""Primitives whose result may share memory with their first input."""


class Node:
    """One recorded operation, or a leaf (then `prim` is None).

    Nodes point at their parents, never at Tensors, so that an activation lives only as long as a
    rule needs it. `saved` is `(out, residual, *inputs)`, each None where no rule needs it; it is
    dropped as backward passes.
    """

    __slots__ = ("dtype", "hooks", "ns", "params", "parents", "prim", "saved", "seq", "shape")

    grad: Any = None  # only a leaf accumulates

    @property
    def written(self) -> int:
        """When the array was last overwritten in place: that of a leaf, or of the leaf this is a view of."""
        if self.name not in VIEWS or len(self.parents) != 1:  # with index arrays, getitem copies
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

    @property
    def name(self) -> str:
        """The primitive's name."""
        return self.prim.name if self.prim else "leaf"

    def __repr__(self) -> str:
        return f"<node {self.seq} {self.name} {self.shape}>"


class Leaf(Node):
    """A node that gradients are accumulated in."""

    __slots__ = ("grad", "written")

    def __init__(self, array: Array, ns: Any) -> None:
        super().__init__(None, (), None, {}, array, ns)
        self.grad: Any = None
        self.written: int = 0


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
        g = ns.astype(g, node.dtype)
    return g


def backward(
    roots: Iterable[tuple[Node, Array]],
    *,
    retain: bool = False,
    only: Collection[Node] | None = None,
    wrap: Callable[[Array, Node | None, Any], Any] | None = None,
    ops: Any = None,
) -> dict[Node, Array]:
    """Gradients of the leaves (or of the nodes in `only`) that the roots depend on.

    Args:
        roots: nodes and the gradients that start there.
        retain: keep what the rules need, for another walk.
        only: nodes whose gradients are wanted; nothing is computed for others.
        wrap: makes a Tensor of a saved array and its node; given, the rules run on Tensors, in `ops`.

    Raises:
        GradientError: the graph was freed by an earlier walk, or a kept array was overwritten.
    """
    grads: dict[Node, Array] = {}
    wanted = _ancestors_of(only, [node for node, _ in roots]) if only is not None else None
    found: dict[Node, Array] = {}  # leaves accumulate here at once; they have nothing to wait for
    heap: list[tuple[int, Node]] = []
    for node, seed in roots:
        if wanted is None or node in wanted:
            _add(found if node.prim is None else grads, heap, node, seed, ops or node.ns)
    while heap:
        node = heappop(heap)[1]
        g = grads.pop(node)
        if node.hooks is not None:
            g = _run_hooks(node, g)
        if only is not None and node in only:
            found[node] = g
        needs = node.parents if wanted is None else tuple([p if p in wanted else None for p in node.parents])
        ns = node.ns if wrap is None else ops
        saved = _take_saved(node, retain)
        if wrap is not None:
            saved = _wrap_saved(saved, node, wrap)
        for parent, partial in zip(needs, node.prim.vjp(ns, g, needs, *saved, **node.params)):  # type: ignore[union-attr]
            if parent is None or partial is None:
                continue
            dtype = partial.dtype if wrap is None else partial.native_dtype
            into = parent.ns if wrap is None else ops
            if partial.shape != parent.shape or dtype != parent.dtype:
                partial = fit(into, partial, parent, dtype)
            _add(found if parent.prim is None else grads, heap, parent, partial, into)
    for node in found:
        if node.prim is None and node.hooks is not None:
            found[node] = _run_hooks(node, found[node])
    return found


def _add(grads: dict[Node, Array], heap: list[tuple[int, Node]], node: Node, g: Array, ns: Any) -> None:
    before = grads.get(node)
    if before is not None:
        grads[node] = ns.add(before, g)
        return
    grads[node] = g
    if node.prim is not None:
        heappush(heap, (-node.seq, node))


def _take_saved(node: Node, retain: bool) -> tuple[Any, ...]:
    saved = node.saved
    if saved is None:
        raise GradientError(
            f"backward reached {node.name!r} a second time, but what it kept was freed by the first backward. "
            "Call backward(retain_graph=True) the first time, or compute the forward pass again"
        )
    for i, parent in enumerate(node.parents, 2):
        if parent is not None and parent.written > node.seq and saved[i] is not None:
            raise GradientError(
                f"{node.name!r} needs an array of shape {parent.shape} for its gradient that was overwritten "
                "in place after it was used (by an optimizer step, say). Call backward before the write, or "
                "compute the forward pass again after it"
            )
    if not retain:
        node.saved = None
    return saved


_NUMBERS = (bool, int, float, complex)  # these exactly: a NumPy float64, which is an array here, is a float, too


def _wrap_saved(saved: tuple[Any, ...], node: Node, wrap: Callable[..., Any]) -> tuple[Any, ...]:
    """Saved raw arrays as Tensors on the tape; the residual is a cache of raw values and is left out."""
    out = None if saved[0] is None else wrap(saved[0], node, node.ns)
    inputs = [
        # without a node: a constant of the operation
        kept if kept is None or kept.__class__ in _NUMBERS else wrap(kept, parent, node.ns)
        for parent, kept in zip(node.parents, saved[2:])
    ]
    return (out, None, *inputs)


def _run_hooks(node: Node, g: Array) -> Array:
    for hook in node.hooks or ():
        g = hook(g)
    return g


def _ancestors_of(only: Collection[Node], roots: Iterable[Node]) -> set[Node]:
    """The nodes on a path from a root to one of `only`, those included."""
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
        stack.extend(p for p in node.parents if p is not None)
    reached.sort(key=lambda node: node.seq)  # parents before children
    useful = set(only) & seen
    for node in reached:
        if any(p in useful for p in node.parents if p is not None):
            useful.add(node)
    return useful
