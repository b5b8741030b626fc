"""`GradientTape`: what happens inside a `with` block is recorded, and differentiated afterwards."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from types import SimpleNamespace
from typing import Any, Literal

from framework.autodiff import tape, tree
from framework.autodiff.arguments import check_differentiable
from framework.autodiff.calls import register_state
from framework.autodiff.convert import as_tensor
from framework.autodiff.levels import Level, LeveledTensor, Tape, active, recording
from framework.autodiff.modes import grad_enabled
from framework.autodiff.namespace import PRIMITIVES, ops
from framework.autodiff.primitive import Primitive
from framework.autodiff.reverse import Roots, reaches, seed_of, walk
from framework.autodiff.tape import Node
from framework.autodiff.tensor import Tensor
from framework.errors import ConfigError, DTypeError, GradientError

_recording_tapes: ContextVar[tuple[GradientTape, ...]] = ContextVar("recording_tapes", default=())
_marked: ContextVar[tuple[Tensor, ...]] = ContextVar("marked", default=())


class Mark(Node):
    """The node of a watched Tensor: a place where gradients are wanted, taken away again afterwards."""

    __slots__ = ("is_raw",)

    def __init__(self, x: Tensor, is_raw: bool) -> None:
        array, ns = (x._data, x._ns) if x._level is None else (x, ops)
        super().__init__(PRIMITIVES["alias"], (None,), (None, None, None), {}, array, ns)
        self.is_raw = is_raw  # by a tape that is not above a transform


def _save_marks() -> list[tuple[Tensor, Node | None]]:
    return [(x, x._node) for x in _marked.get()]


def _restore_marks(saved: list[tuple[Tensor, Node | None]]) -> None:
    for x, node in saved:
        x._node = node


register_state(_save_marks, _restore_marks)  # a call made again, by checkpoint, finds Tensors watched as they were


class Recording(Tape):
    """The tape above a transform of another kind.

    A `Tape` of `grad` is entered by the values that the function is given. Here nobody passes values: what
    has a node below is taken up when an operation first meets it. So a weight from outside `vmap` has a
    gradient per sample, too. When the recording is over, its values are those of the level below.
    """

    is_recording = True

    def __init__(self, outer: Level | None) -> None:
        super().__init__()
        self.outer = outer
        self.nodes: dict[Node, Node] = {}
        """Nodes of this level by the nodes below that they stand for."""

    def taken_up(self, x: Any) -> Any:
        """`x` on this level, if it has a node below."""
        if not isinstance(x, Tensor) or x._level is self or x._node is None:
            return x
        data = x
        if x._level is None and type(x._node) is Mark and not x._node.is_raw and self.outer is None:
            data = x.detach()  # watched from in here: there is no tape below that is to record it
        return LeveledTensor(data, self, node=self.node_for(x._node, data))

    def node_for(self, below: Node, x: Tensor) -> Node:
        """The node of this level that stands for the node `below` of `x`."""
        found = self.nodes.get(below)
        if found is None:
            found = self.nodes[below] = Node(PRIMITIVES["alias"], (None,), (None, None, None), {}, x, ops)
        return found

    def node_above(self, below: Node) -> Node:
        """The node of this level that stands for a node of the tape of plain Tensors."""
        like: Any = SimpleNamespace(shape=below.shape, dtype=below.ns.backend.dtype_of(below))
        return self.node_for(below, like)

    def process(self, p: Primitive, inputs: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """Record, or compute one level down when the recording is over."""
        return super().process(p, inputs, params) if self.open else p.apply(*map(self.lower, inputs), **params)

    def apply(self, p: Primitive, inputs: tuple[Any, ...], params: dict[str, Any]) -> Any:
        """The value, recorded."""
        own = tuple([self.taken_up(x) for x in inputs])
        with self.below():
            return super().apply(p, own, params)

    @contextmanager
    def below(self) -> Iterator[None]:
        """Inside, a computation on values one level down is not seen by this level."""
        token = recording.set(self.outer)
        try:
            yield
        finally:
            recording.reset(token)

    def settled(self, x: LeveledTensor) -> Tensor:
        """The value below, when the recording is over."""
        return x if self.open else as_tensor(x._data)


class GradientTape:
    """Records the operations on watched Tensors inside a `with` block, for `gradient` afterwards.

    Tensors that require a gradient are watched by themselves. A gradient can itself be differentiated
    where it is computed inside another tape or a transform, or where the target depends on Tensors that
    require a gradient and are no sources; else it is a plain value.

    Args:
        persistent: allow more than one call of `gradient`.

    Examples:
        >>> import framework as fw
        >>> x = fw.tensor([1.0, 2.0])
        >>> with fw.GradientTape() as tape:
        ...     tape.watch(x)
        ...     y = x * x
        >>> tape.gradient(y, x).tolist()
        [2.0, 4.0]
    """

    def __init__(self, persistent: bool = False) -> None:
        self.persistent = persistent
        self._state: Literal["new", "recording", "recorded", "spent"] = "new"
        self._level: Recording | None = None
        self._watched: dict[int, tuple[Tensor, Node]] = {}
        self._marked: list[Tensor] = []  # whose marks this tape takes away
        self._former: dict[int, tuple[Tensor, Node]] = {}  # marks that tapes inside this one took away
        self._overlaps = False

    def __enter__(self) -> GradientTape:
        if self._state in ("recording", "recorded") or self in _recording_tapes.get():
            raise GradientError("this GradientTape has recorded already; make a new one for another `with` block")
        others = _recording_tapes.get()
        for other in others:
            other._overlaps = True
        self._overlaps = bool(others)
        self._start = tape.next_seq()
        self._level = Recording(recording.get()) if active.get() else None
        self._tokens: list[tuple[ContextVar[Any], Any]] = [
            (_recording_tapes, _recording_tapes.set((*others, self))),
            (_marked, _marked.set(_marked.get())),
            (grad_enabled, grad_enabled.set(True)),
        ]
        if self._level is not None:
            self._level.__enter__()
            self._tokens.append((recording, recording.set(self._level)))
        self._state = "recording"
        return self

    def __exit__(self, *exc: object) -> None:
        for variable, token in reversed(self._tokens):
            variable.reset(token)
        if self._level is not None:
            self._level.__exit__()
        for x in self._marked:
            self._unmark(x, _recording_tapes.get())
        self._marked = []
        if self._state == "recording":
            self._state = "recorded"

    def _unmark(self, x: Tensor, others: tuple[GradientTape, ...]) -> None:
        """Take away what `watch` has put on `x`, unless a tape around watches it, or remember it for one that will."""
        for other in reversed(others):
            if id(x) in other._watched:
                other._marked.append(x)
                return
        for other in others:
            other._former[id(x)] = (x, x._node)  # type: ignore[assignment]
        x._node = None

    def watch(self, tensor: Any) -> None:
        """Record what is done with this Tensor, or with those in a nested structure, from here on.

        Raises:
            DTypeError: it is not floating point or complex.
            GradientError: outside the `with` block.
        """
        if self not in _recording_tapes.get():
            raise GradientError("watch is called inside the block, `with fw.GradientTape() as tape: tape.watch(x)`")
        for x in tree.flatten(tensor)[0]:
            if not isinstance(x, Tensor):
                raise GradientError(f"watch takes Tensors, got {type(x).__name__}; make one with fw.tensor first")
            check_differentiable(x, "watch")
            self._check_level(x, "watched")
            if x._node is None:
                former = self._former.get(id(x))
                x._node = Mark(x, self._level is None) if former is None else former[1]
                self._marked.append(x)
            elif type(x._node) is Mark and self._level is None and not x._node.is_raw:
                raise GradientError("a tape inside a transform watches this Tensor already; watch it outside first")
            self._watched[id(x)] = (x, x._node)
            _marked.set((*_marked.get(), x))

    def gradient(
        self,
        target: Any,
        sources: Any,
        output_gradients: Any = None,
        unconnected_gradients: Literal["none", "zero"] = "none",
    ) -> Any:
        """The gradient of the sum of `target`'s elements with respect to each of `sources`, in their structure.

        Args:
            output_gradients: the gradients that start at the targets, built like `target`; ones by default.
            unconnected_gradients: for sources that the target does not depend on give None, or `"zero"`.

        Raises:
            GradientError: the tape is not persistent and was used, or nothing was recorded.
            DTypeError: a target is complex and has no output gradient.
        """
        if self._state == "new":
            raise GradientError("this GradientTape has recorded nothing; use it as `with fw.GradientTape() as tape:`")
        if self._state == "spent":
            raise GradientError(
                "gradient was called on this GradientTape before; make it with persistent=True to call it again"
            )
        if unconnected_gradients not in ("none", "zero"):
            raise ConfigError(f"unconnected_gradients is 'none' or 'zero', got {unconnected_gradients!r}")
        leaves, structure = tree.flatten(sources)
        nodes = [self._node_of(x) for x in leaves]
        roots = self._roots(target, output_gradients)
        wanted = {node for node in nodes if node is not None}
        found = self._walk(roots, wanted) if self._level is None else self._walk_level(self._level, roots, wanted)
        grads = []
        for x, node in zip(leaves, nodes):
            g = None if node is None else found.get(node)
            if g is None and unconnected_gradients == "zero":
                g = ops.zeros_like(x.detach())
            grads.append(g if g is None or isinstance(g, Tensor) else Tensor(g, None, x._ns))
        if not self.persistent:
            self._state, self._watched, self._former = "spent", {}, {}
        return tree.unflatten(structure, grads)

    # -- what gradient starts from, and goes to --------------------------------------------------------

    def _check_level(self, x: Tensor, what: str) -> None:
        if x._level is not None and x._level.depth > (0 if self._level is None else self._level.depth):
            raise GradientError(
                f"a Tensor of a transform that was entered inside the GradientTape is {what}; "
                "use it outside that transform, or make the tape inside"
            )

    def _node_of(self, x: Any) -> Node | None:
        if not isinstance(x, Tensor):
            raise GradientError(f"sources are Tensors, got {type(x).__name__}; make one with fw.tensor and watch it")
        self._check_level(x, "asked for")
        known = self._watched.get(id(x))
        return x._node if known is None else known[1]

    def _roots(self, target: Any, output_gradients: Any) -> Roots:
        leaves, structure = tree.flatten(target)
        seeds = [None] * len(leaves)
        if output_gradients is not None:
            seeds = tree.leaves_like(structure, output_gradients, "output_gradients")
        roots = []
        for y, seed in zip(leaves, seeds):
            if not isinstance(y, Tensor) or not y.dtype.is_differentiable:
                continue  # depends on nothing
            if seed is None and y.dtype.kind == "complex":
                raise DTypeError("the gradient of a complex target needs output_gradients; or take its real() or abs()")
            node = self._node_of(y)
            if node is not None and self._level is not None and y._level is not self._level:
                node = self._level.node_for(node, y)
            if node is not None:
                roots.append((node, ops.ones_like(y.detach()) if seed is None else seed_of(y, seed)))
        return roots

    # -- the walks ---------------------------------------------------------------------------------------

    def _walk(self, roots: Roots, wanted: set[Node], retain: bool = False) -> dict[Node, Any]:
        """Gradients on the raw tape."""
        graph = self._is_recorded_again([node for node, _ in roots], wanted)
        return walk(None, roots, wanted, graph=graph, retain=retain or self.persistent or self._overlaps)

    def _is_recorded_again(self, nodes: list[Node], wanted: set[Node]) -> bool:
        """Whether somebody may differentiate the gradient: another tape, or what is tracked from outside."""
        if not grad_enabled.get():
            return False
        if any(other is not self or self.persistent for other in _recording_tapes.get()):
            return True

        def is_outside(node: Node) -> bool:
            if node.prim is None:
                return node not in wanted
            return node.seq < self._start and type(node) is not Mark and not any(node.parents)

        return reaches(nodes, is_outside)

    def _walk_level(self, level: Recording, roots: Roots, wanted: set[Node]) -> dict[Node, Any]:
        """Gradients on the level of this tape, and from there on along the raw tape below."""
        is_open = level in active.get()
        graph = is_open and self.persistent and grad_enabled.get()
        continued = self._continued(level, wanted)
        only = {level.nodes.get(node, node) for node in wanted} | set(continued.values())
        token = recording.set(level.outer if is_open and not graph else recording.get())
        try:
            above = walk(level, roots, only, graph=graph, retain=True)
            found = {node: above.get(level.nodes.get(node, node)) for node in wanted}
            below = [(node, above[up]) for node, up in continued.items() if up in above]
            if below:
                found.update(self._walk(below, {node for node in wanted if node.ns is not ops}, retain=True))
        finally:
            recording.reset(token)
        return found

    def _continued(self, level: Recording, wanted: set[Node]) -> dict[Node, Node]:
        """The nodes of the raw tape that this level stands on, and that a source lies below."""
        sources = {node for node in wanted if node.ns is not ops}
        if not sources:
            return {}
        plain = {node: up for node, up in level.nodes.items() if node.ns is not ops}
        return {node: up for node, up in plain.items() if reaches([node], sources.__contains__)}
