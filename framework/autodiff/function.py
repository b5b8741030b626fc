"""`Function`: an operation with a forward and a backward method, as in PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from framework.autodiff import tape
from framework.autodiff.convert import as_tensor
from framework.autodiff.modes import no_grad
from framework.autodiff.namespace import ops
from framework.autodiff.rules import ByVjp, call_with_rule
from framework.autodiff.tensor import Tensor
from framework.errors import GradientError, ShapeError


class Context:
    """What `forward` hands to `backward`: saved Tensors, and any attributes."""

    needs_input_grad: tuple[bool, ...]
    """Per argument of `apply`, whether its gradient is wanted."""

    def __init__(self, needs_input_grad: tuple[bool, ...]) -> None:
        self.needs_input_grad = needs_input_grad
        self._saved: tuple[Tensor | None, ...] = ()
        self._fills = True
        self._constants: tuple[Tensor, ...] = ()

    def save_for_backward(self, *tensors: Tensor | None) -> None:
        """Keep Tensors for `backward`; inputs and results among them can be differentiated again there."""
        for x in tensors:
            if x is not None and not isinstance(x, Tensor):
                raise GradientError(
                    f"save_for_backward keeps Tensors, got {type(x).__name__}; other things are attributes: ctx.n = n"
                )
        self._saved = tensors

    @property
    def saved_tensors(self) -> tuple[Tensor | None, ...]:
        """What `save_for_backward` kept."""
        return self._saved

    def mark_non_differentiable(self, *results: Tensor) -> None:
        """State that these results of `forward` have no gradient."""
        self._constants = results

    def set_materialize_grads(self, value: bool) -> None:
        """Whether `backward` gets zeros (the default) or None for results without a gradient."""
        self._fills = value

    def _finish(self, inputs: Sequence[Tensor], outs: Sequence[Tensor]) -> None:
        """Note which of the kept Tensors are inputs or results."""
        kept = [*self._saved, *vars(self).values()]
        self._from = {id(y): (1, i) for i, y in enumerate(outs) if _among(y, kept)}
        keeps_out = bool(self._from)
        self._from |= {id(x): (0, i) for i, x in enumerate(inputs) if _among(x, kept)}
        arrays = [t._data for t in kept if isinstance(t, Tensor)]
        keeps = [_among(x._data, arrays) for x in inputs]  # a detached one, too: it must not be overwritten
        self._keeps = keeps, keeps_out, [not _among(y, self._constants) for y in outs], self._fills
        self._constants = ()
        self._inputs = [_Like(x.shape, x.dtype) for x in inputs]

    def _linked(self, inputs: Sequence[Tensor], outs: Sequence[Tensor]) -> Context:
        """A copy that holds these inputs and results in place of its own."""
        given = (inputs, outs)

        def link(x: Any) -> Any:
            place = self._from.get(id(x))
            return x if place is None else given[place[0]][place[1]]

        copied = Context.__new__(Context)
        vars(copied).update({name: link(value) for name, value in vars(self).items()})
        copied._saved = tuple(map(link, self._saved))
        return copied


class _Like(NamedTuple):
    shape: tuple[int, ...]
    dtype: Any


def _among(x: Any, some: Sequence[Any]) -> bool:
    return any(x is y for y in some)


class Function:
    """An operation defined by static methods `forward(ctx, *inputs)` and `backward(ctx, *grads)`.

    `forward` gets the arguments of `apply`, its Tensors without history, and returns a Tensor or a tuple
    of them; NumPy is allowed inside, except under `jvp` and `vmap`. `backward` gets one gradient per
    result and returns one per argument, None for zero and for what is no Tensor. With a backward of
    differentiable operations there are second derivatives, with respect to saved inputs and results;
    forward mode transposes `backward`. What `forward` closes over is a constant.

    Raises:
        GradientError: `backward` returned another number of gradients, or one for what is no Tensor.
        ShapeError: a gradient does not have the shape of its input.

    Examples:
        >>> import framework as fw, framework.numpy as np
        >>> class Exp(fw.Function):
        ...     @staticmethod
        ...     def forward(ctx, x):
        ...         y = np.exp(x)
        ...         ctx.save_for_backward(y)
        ...         return y
        ...     @staticmethod
        ...     def backward(ctx, g):
        ...         (y,) = ctx.saved_tensors
        ...         return g * y
        >>> x = fw.tensor(0.0, requires_grad=True)
        >>> Exp.apply(x).backward()
        >>> x.grad.item()
        1.0
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        name = type(self).__name__
        raise GradientError(f"{name} is not instantiated: write {name}.apply(...)")

    @staticmethod
    def forward(ctx: Any, *args: Any) -> Any:
        """The operation itself."""
        raise GradientError("a Function needs a static method forward(ctx, *inputs)")

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        """One gradient per argument of `forward`, from one per result."""
        raise GradientError("a Function needs a static method backward(ctx, *grads) to be differentiated")

    @classmethod
    def apply(cls, *args: Any) -> Any:
        """The result of the operation on these arguments."""
        places = [i for i, a in enumerate(args) if isinstance(a, Tensor)]
        name = cls.__name__
        single = False

        def fwd(tensors: list[Tensor], needs: Sequence[bool]) -> tuple[list[Tensor], Context]:
            nonlocal single
            given, wanted = list(args), [False] * len(args)
            for i, x, need in zip(places, tensors, needs):
                given[i], wanted[i] = x, need
            ctx = Context(tuple(wanted))
            result = cls.forward(ctx, *given)
            single = not isinstance(result, tuple)
            outs = [result] if single else list(result)
            for y in outs:
                if not isinstance(y, Tensor):
                    raise GradientError(f"{name}.forward returns Tensors, got {type(y).__name__}; make it fw.tensor(…)")
            ctx._finish(tensors, outs)
            return outs, ctx

        def fn(tensors: list[Tensor]) -> list[Tensor]:
            with no_grad():
                return fwd(tensors, [False] * len(tensors))[0]

        def bwd(ctx: Context, g: Sequence[Any]) -> list[Any]:
            grads = cls.backward(ctx, *g)
            grads = _counted(name, grads if isinstance(grads, tuple) else (grads,), places, len(args))
            return [_fitted(name, grads[i], i, like) for i, like in zip(places, ctx._inputs)]

        op = _ByFunction(name, fn, fwd, bwd, Context._linked)
        outs = call_with_rule(op, [args[i] for i in places])
        return outs[0] if single else tuple(outs)


def _counted(name: str, grads: tuple[Any, ...], places: list[int], n: int) -> tuple[Any, ...]:
    """The gradients, of which there is one for each of n arguments."""
    if len(grads) < n or any(g is not None for g in grads[n:]):
        raise GradientError(
            f"{name}.backward returned {len(grads)} gradients for the {n} arguments of forward; return one for each, "
            "None where there is none"
        )
    for i, g in enumerate(grads[:n]):
        if g is not None and i not in places:
            raise GradientError(
                f"{name}.backward returned a gradient for argument {i}, which is no Tensor; return None"
            )
    return grads


def _fitted(name: str, g: Any, i: int, like: _Like) -> Tensor | None:
    """The gradient of argument i, summed over axes along which the argument was broadcast."""
    if g is None:
        return None
    g = as_tensor(g)
    if g.shape != like.shape:
        tail = g.shape[g.ndim - len(like.shape) :]
        if len(tail) != len(like.shape) or any(n not in (1, m) for n, m in zip(like.shape, tail)):
            raise ShapeError(
                f"{name}.backward returned a gradient of shape {g.shape} for argument {i} of shape {like.shape}"
            )
        g = tape.fit(ops, g, like, like.dtype)  # type: ignore[arg-type]
    return g


class _ByFunction(ByVjp):
    """`Function` as an operation; its residual is the context."""

    is_quiet = True

    def keeps(self, inputs: int, outs: int) -> Any:
        return self.residual._keeps
