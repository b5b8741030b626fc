"""Checkpointing: the operations of a call are not kept for backward but computed again."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

from framework.autodiff import tree
from framework.autodiff.calls import (
    Replay,
    attach,
    lowered,
    node_of,
    older_than,
    put_together,
    same,
    start,
    take_apart,
    walked,
)
from framework.autodiff.levels import Level, Tape, active
from framework.autodiff.modes import grad_enabled
from framework.autodiff.tape import Node
from framework.autodiff.tensor import Tensor
from framework.errors import GradientError

Thunk = Callable[[], list[Tensor]]


def checkpoint(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` with a backward that computes its operations again instead of keeping their arrays.

    A chain of n layers in √n checkpointed segments keeps some 2 √n arrays, for one more forward pass;
    checkpoints in checkpoints keep fewer still (Chen et al. 2016, "Training deep nets with sublinear
    memory cost"). What `fn` closes over gets gradients, too. The second computation sees the arguments,
    the grad mode, the defaults and the random numbers of the first. Arguments and results may be nested;
    other effects of `fn` happen twice.

    Raises:
        GradientError: in backward: `fn` did something else the second time.

    Examples:
        >>> import framework as fw, framework.numpy as np
        >>> layer = fw.checkpoint(lambda x: np.tanh(np.sin(x)))
        >>> x = fw.tensor([0.0, 0.0], requires_grad=True)
        >>> layer(x).sum().backward()
        >>> x.grad.tolist()
        [1.0, 1.0]
    """

    @functools.wraps(fn, updated=())
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if not grad_enabled.get():
            return fn(*args, **kwargs)
        leaves, structure = tree.flatten((args, kwargs))
        held = [same(x) if isinstance(x, Tensor) else x for x in leaves]
        first = [(args, kwargs)]
        results: list[Any] = []  # of the first call: structure, and the leaves that are no Tensors

        def call() -> list[Tensor]:
            again = (same(x) if isinstance(x, Tensor) else x for x in held)
            a, k = first.pop() if first else tree.unflatten(structure, list(again))
            outs, out_structure = tree.flatten(fn(*a, **k))
            if not results:
                results.extend(([None if isinstance(y, Tensor) else y for y in outs], out_structure))
            return [y for y in outs if isinstance(y, Tensor)]

        made = iter(recorded("checkpoint", call))
        return tree.unflatten(results[1], [next(made) if y is None else y for y in results[0]])

    return wrapped


def recorded(name: str, call: Thunk) -> list[Tensor]:
    """What `call` returns, on every tape as the result of one node; backward calls it again."""
    if not grad_enabled.get():
        return call()
    return _recorded(name, Replay(call), active.get())


def _recorded(name: str, call: Thunk, levels: Sequence[Level]) -> list[Tensor]:
    level = levels[-1] if levels else None
    if level is None or isinstance(level, Tape):
        return _on_tape(name, call, level, levels[:-1])
    marks: list[Any] = []

    def parts() -> list[Tensor]:
        found, marks[:] = take_apart(level, call())
        return found

    return put_together(level, _recorded(name, parts, levels[:-1]), marks)


def _on_tape(name: str, call: Thunk, level: Level | None, below: Sequence[Level]) -> list[Tensor]:
    began = start()
    nodes: list[Node | None] = []
    parents: list[Node] = []

    def values() -> list[Tensor]:
        outs = call()
        if not nodes:
            nodes[:] = [node_of(level, y) for y in outs]
            parents[:] = older_than(began, nodes, level)
            nodes[:] = [None if node is None else parents[0] for node in nodes]  # the graph is not kept
        return [lowered(level, y) for y in outs]

    made = values() if level is None else _recorded(name, values, below)
    if not parents:
        return made
    segment = _Segment(name, call, level, parents)
    return attach(name, level, made, parents, segment, tracked=[node is not None for node in nodes])


class _Segment:
    """The rule of a node that stands for a whole call: call again, and walk what that recorded."""

    def __init__(self, name: str, call: Thunk, level: Level | None, parents: list[Node]) -> None:
        self.name = name
        self.call = call
        self.level = level
        self.parents = parents

    def __call__(self, g: Sequence[Any], needs: Any, inputs: Any, out: Any, wrap: Any = None) -> list[Any]:
        if self.level is None and wrap is None:
            return self._walk(g, needs, None)
        present: list[bool] = []

        def walk() -> list[Tensor]:
            found = self._walk(g, needs, wrap)
            present[:] = [x is not None for x in found]
            return [x for x in found if x is not None]

        grads = iter(recorded(self.name, walk))  # on the tapes below, and on this one, the walk is not kept either
        return [next(grads) if here else None for here in present]

    def _walk(self, g: Sequence[Any], needs: Sequence[Node | None], wrap: Any) -> list[Tensor | None]:
        since = start()
        nodes = [node_of(self.level, y) for y in self.call()]
        if len(nodes) != len(g) or older_than(since, nodes, self.level) != self.parents:
            raise GradientError(
                f"{self.name}: called again for backward, the function used other Tensors than the first time. It "
                "must do the same with the same arguments: is something that it closes over replaced, or counted?"
            )
        return walked(self.level, nodes, g, needs, wrap, since)
