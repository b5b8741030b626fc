"""Operations whose derivative rule comes from a user: how each transform applies them.

`ByJvp` has a forward-mode rule, which reverse mode transposes; `ByVjp` has a reverse-mode rule, which
forward mode transposes. Their functions take and return flat lists of Tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

from framework.autodiff.calls import Replay, attach, entering, lowered, node_of, put_together, resumed, take_apart
from framework.autodiff.convert import as_tensor
from framework.autodiff.levels import Dual, Level, LeveledTensor, Tape, active
from framework.autodiff.modes import grad_enabled, no_grad
from framework.autodiff.namespace import ops
from framework.autodiff.tensor import Tensor
from framework.autodiff.transforms import vjp
from framework.errors import GradientError

Tensors = list[Tensor]
Optional = Sequence[Tensor | None]


def call_with_rule(op: ByJvp | ByVjp, inputs: Tensors) -> Tensors:
    """The operation under the active transforms.

    Raises:
        GradientError: it closes over a Tensor that is differentiated.
    """
    return _apply(op, [as_tensor(x) for x in inputs], active.get())


def _apply(op: Any, inputs: Tensors, levels: Sequence[Level]) -> Tensors:
    level = levels[-1] if levels else None
    below = levels[:-1]
    if level is None or isinstance(level, Tape):
        return _on_tape(op, inputs, level, below)
    if isinstance(level, Dual):
        tangents = [x._extra if isinstance(x, LeveledTensor) and x._level is level else None for x in inputs]
        if all(t is None for t in tangents):
            return _closed(op, _apply(op, inputs, below), level)
        outs, derivatives = op.push([level.lower(x) for x in inputs], tangents)
        return [level._with_tangent(y, t) for y, t in zip(_closed(op, outs, level), derivatives)]
    parts, marks = take_apart(level, inputs)
    inner = op.inside(level, marks)
    return put_together(level, _apply(inner, parts, below), inner.out_marks)


def _on_tape(op: Any, inputs: Tensors, level: Level | None, below: Sequence[Level]) -> Tensors:
    parents = [node_of(level, x) for x in inputs]
    plain = [lowered(level, x) for x in inputs]
    if not any(parents) or not grad_enabled.get():
        return _closed(op, op.fn(plain) if level is None else _apply(op, plain, below), level)
    op = op.recorded()
    needs = tuple([node is not None for node in parents])
    with _unrecorded(op, level):
        outs = _closed(op, op.forward(plain, needs, lambda op: _apply(op, plain, below)), level)
    like = [(y.shape, y.dtype, y.device) for y in outs]
    keeps, keeps_out, has_gradient, fills = op.keeps(len(plain), len(outs))

    def pull(g: Optional, needs: Any, inputs: Any, out: Any, wrap: Any = None) -> list[Any]:
        if fills:
            g = [ops.zeros(s, dtype=d, device=v) if x is None else x for x, (s, d, v) in zip(g, like)]
        grads = op.pull(g, needs, inputs, out, wrap is not None)
        return [None if p is None else x for p, x in zip(needs, grads)]

    tracked = [y.dtype.is_differentiable and has for y, has in zip(outs, has_gradient)]
    kept = [x if keep else None for x, keep in zip(plain, keeps)]
    return attach(op.name, level, outs, parents, pull, tracked=tracked, inputs=kept, keep_out=keeps_out)


def _unrecorded(op: Any, level: Level | None) -> AbstractContextManager[Any]:
    """Inside, the operation's own computation is not seen by this tape."""
    if level is not None:
        return level.below()
    return no_grad() if op.is_quiet else nullcontext()


def _closed(op: Any, outs: Tensors, level: Level | None) -> Tensors:
    """The results below this transform; a place in it, or above, they can only have from something closed over."""
    depth = 0 if level is None else level.depth
    closed = []
    for y in outs:
        if not op.is_quiet and (y._level.depth >= depth if y._level is not None else level is None and y._node):
            raise GradientError(
                f"{op.name} closes over a Tensor that is differentiated, which its rule knows nothing of: "
                "make that Tensor an argument, or use its .detach()"
            )
        while y._level is not None and y._level.depth >= depth:
            y = y._data
        closed.append(lowered(None, y) if level is None else y)
    return closed


class _Operation:
    """What both kinds of operation have in common."""

    is_quiet = False
    """Whether what it closes over is a constant without a word, and plain Tensors are not recorded inside."""

    def __init__(self, name: str, fn: Callable[[Tensors], Tensors], out_marks: list[Any] | None) -> None:
        self.name = name
        self.fn = fn
        self.out_marks = [] if out_marks is None else out_marks

    def recorded(self) -> Any:
        """The operation for one node of a tape."""
        return self

    def keeps(self, inputs: int, outs: int) -> tuple[Sequence[bool], bool, Sequence[bool], bool]:
        """Which inputs `pull` needs, and if the results; which results have a gradient; if None is filled in."""
        return [True] * inputs, False, [True] * outs, True


def _is_zero(x: Tensor) -> bool:
    while x._level is not None:
        x = x._data
    return not bool(ops.any(x != 0))


def _leave(level: Level, outs: Tensors, marks: list[Any]) -> Tensors:
    """The results one level down; their marks are noted."""
    parts, marks[:] = take_apart(level, outs)
    return parts


class ByJvp(_Operation):
    """An operation with `rule(primals, tangents) -> outs, tangents`, linear in the tangents; None is zero."""

    def __init__(self, name: str, fn: Any, rule: Callable[..., tuple[Tensors, Any]], out_marks: Any = None) -> None:
        super().__init__(name, fn, out_marks)
        self.push = rule

    def forward(self, inputs: Tensors, needs: Any, below: Callable[[Any], Tensors]) -> Tensors:
        """The results for a tape, which leaves the operation to the transforms below."""
        return below(self)

    def pull(self, g: Tensors, needs: Any, inputs: Tensors, out: Any, again: bool) -> list[Any]:
        """The gradients: the rule, transposed."""
        wanted = [i for i, need in enumerate(needs) if need is not None]
        present: list[int] = []

        def along(*directions: Tensor) -> Tensors:
            tangents: list[Any] = [None] * len(needs)
            for i, t in zip(wanted, directions):
                tangents[i] = t
            found = self.push(inputs, tangents)[1]
            present[:] = [k for k, t in enumerate(found) if t is not None]
            return [found[k] for k in present]

        _, transposed = vjp(along, *[ops.zeros_like(inputs[i]) for i in wanted])
        found = dict(zip(wanted, transposed([g[k] for k in present])))
        return [found.get(i) for i in range(len(needs))]

    def inside(self, level: Level, marks: list[Any]) -> ByJvp:
        """The operation one level down, on the parts of its inputs."""
        out_marks: list[Any] = []

        def fn(parts: Tensors) -> Tensors:
            with resumed(level):
                return _leave(level, self.fn(put_together(level, parts, marks)), out_marks)

        def rule(parts: Tensors, tangents: Optional) -> tuple[Tensors, Any]:
            with resumed(level):
                directions = [t if m is None else entering(level, t) for t, m in zip(tangents, marks)]
                outs, found = self.push(put_together(level, parts, marks), directions)
                for k, t in enumerate(found):  # both have a batch, or neither
                    if t is not None and (t._level is level) != (outs[k]._level is level):
                        outs[k], found[k] = [x if x._level is level else level.lift(x) for x in (outs[k], t)]
                return _leave(level, outs, out_marks), [None if t is None else level.lower(t) for t in found]

        return ByJvp(self.name, fn, rule, out_marks)


class ByVjp(_Operation):
    """An operation with `fwd(inputs, needs) -> outs, residual` and `bwd(residual, g) -> gradients`, linear in g.

    `again(residual, inputs, out)` is the residual as a function of inputs and results, which may be
    differentiated; without it `fwd` is called again.
    """

    def __init__(self, name: str, fn: Any, fwd: Any, bwd: Any, again: Any = None, out_marks: Any = None) -> None:
        super().__init__(name, fn, out_marks)
        self.fwd = fwd
        self.bwd = bwd
        self.again = again
        self.residual: Any = None

    def recorded(self) -> ByVjp:
        """With a place for the residual."""
        return type(self)(self.name, self.fn, self.fwd if self.again else Replay(self.fwd), self.bwd, self.again)

    def forward(self, inputs: Tensors, needs: Any, below: Callable[[Any], Tensors]) -> Tensors:
        """The results; to the transforms below these are the operations of `fwd`."""
        outs, self.residual = self.fwd(inputs, needs)
        return outs

    def pull(self, g: Tensors, needs: Any, inputs: Tensors, out: Any, again: bool) -> list[Any]:
        """The gradients; to be differentiated `again` they need the residual as a function of the inputs."""
        residual = self.residual
        if again:
            needed = tuple([need is not None for need in needs])
            residual = self.again(residual, inputs, out) if self.again else self.fwd(inputs, needed)[1]
        return self.bwd(residual, g)

    def push(self, primals: Tensors, tangents: Optional) -> tuple[Tensors, Any]:
        """Results and tangents: `bwd`, transposed."""
        outs, self.residual = self.fwd(primals, tuple([t is not None for t in tangents]))
        has_gradient = self.keeps(len(primals), len(outs))[2]
        on = [k for k, y in enumerate(outs) if y.dtype.is_differentiable and has_gradient[k]]
        wanted = [i for i, t in enumerate(tangents) if t is not None]
        present: list[int] = []
        unrelated: list[Tensor] = []

        def backward(*cotangents: Tensor) -> Tensors:
            g = [ops.zeros_like(y) for y in outs]
            for k, x in zip(on, cotangents):
                g[k] = x
            grads = self.bwd(self.residual, g)
            present[:] = [i for i in wanted if grads[i] is not None]
            unrelated[:] = [grads[i] for i in present if grads[i]._node is None]
            return [grads[i] for i in present]

        _, transposed = vjp(backward, *[ops.zeros_like(outs[k]) for k in on])
        if not all(_is_zero(x) for x in unrelated):
            raise GradientError(
                f"{self.name} has a rule for reverse mode only. A forward derivative (jvp) cannot be found from it, as "
                "its gradients do not depend on the cotangent by differentiable operations: write the rule with "
                "framework.numpy, or use custom_jvp"
            )
        found = dict(zip(on, transposed([tangents[i] for i in present]))) if present else {}
        return outs, [found.get(k) for k in range(len(outs))]

    def inside(self, level: Level, marks: list[Any]) -> ByVjp:
        """The operation one level down, on the parts of its inputs."""
        out_marks: list[Any] = []

        def leaving(outs: Tensors) -> Tensors:
            if level.is_batch and any([*marks, *(y._level is level for y in outs)]):  # all, as bwd may mix them
                outs = [y if y._level is level else level.lift(y) for y in outs]
            return _leave(level, outs, out_marks)

        def fn(parts: Tensors) -> Tensors:
            with resumed(level):
                return leaving(self.fn(put_together(level, parts, marks)))

        def fwd(parts: Tensors, needs: Any) -> tuple[Tensors, Any]:
            with resumed(level):
                outs, residual = self.fwd(put_together(level, parts, marks), needs)
                return leaving(outs), residual

        def bwd(residual: Any, g: Optional) -> list[Any]:
            with resumed(level):
                g = [x if m is None else entering(level, x) for x, m in zip(g, out_marks)]
                return [self._leaving(level, x, m, out_marks) for x, m in zip(self.bwd(residual, g), marks)]

        def again(residual: Any, parts: Tensors, out: Tensors) -> Any:
            with resumed(level):
                given = [p if p is None else put_together(level, [p], [m])[0] for p, m in zip(parts, marks)]
                return self.again(residual, given, put_together(level, out, out_marks) if out else out)

        return type(self)(self.name, fn, fwd, bwd, again if self.again else None, out_marks)

    @staticmethod
    def _leaving(level: Level, x: Tensor | None, mark: Any, out_marks: list[Any]) -> Tensor | None:
        """A gradient one level down; what all samples share gets the sum of theirs."""
        if x is None or not (level.is_batch and any(m is not None for m in out_marks)):
            return None if x is None else level.lower(x)
        whole = x._data if x._level is level else level.lift(x)._data
        return whole if mark is not None else ops.sum(whole, axis=0)
