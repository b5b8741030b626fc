"""Primitives: one block declares an operation's forward, reverse, forward-mode and batching rules.

    forward(ns, *inputs, **params) -> out, or (out, residual) where `residual=True`
    vjp(ns, g, needs, out, residual, *inputs, **params) -> one gradient or None per input
    jvp(ns, tangents, out, *inputs, **params) -> the tangent of out, or None
    batch(ops, n, is_batched, inputs, params, apply) -> out with the batch on axis 0

- `ns` offers the Array API on whatever the arrays are: raw arrays, or Tensors (see `namespace`).
- `needs` is the tuple of parent nodes: None where no gradient is wanted.
- Inputs and outputs that a rule did not ask to keep arrive as None (`keep`, `keep_out`).
- `residual` is a cache of forward's that may be absent: `p = softmax(z) if residual is None else residual`.
- With `outputs=n`, forward, jvp and batch return n arrays, and `g` and `out` are tuples of n; None stands for a
  gradient or a tangent that is zero.
- Axes in `params` are negative numbers, so that a batch axis in front changes nothing.
- Un-broadcasting and casts of gradients happen once, in the driver.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from framework.autodiff import applying
from framework.autodiff.namespace import PRIMITIVES, ops

Rule = Callable[..., Any]
Needs = tuple[Any, ...]


class Primitive:
    """An operation with its rules. Calling it applies it to Tensors, arrays and Python scalars."""

    def __init__(
        self,
        name: str,
        *,
        forward: Rule | None,
        vjp: Rule | None,
        jvp: Rule | None,
        batch: Rule,
        keep: tuple[Any, ...],
        keep_out: tuple[int, ...],
        residual: bool,
        promotes: bool,
        outputs: int,
        view: bool,
        floating: bool = False,
        fits: bool = False,
    ) -> None:
        self.name = name
        self.forward = forward
        self.vjp: Any = vjp
        self.jvp: Any = jvp
        self.batch = batch
        self.keep = keep
        self.keep_out = keep_out
        self.residual = residual
        self.promotes = promotes
        self.outputs = outputs
        self.view = view
        self.floating = floating
        self.fits = fits
        self.apply: Any = None
        self.flags: dict[tuple[bool, ...], tuple[bool, ...]] = {}  # by mask, see `kept`

    def kept(self, mask: tuple[bool, ...]) -> tuple[bool, ...]:
        """What to save, `(out, *inputs)`, when the inputs in `mask` need gradients."""
        try:
            return self.flags[mask]
        except KeyError:
            need = {i for i, wanted in enumerate(mask) if wanted}
            flags = [bool(need & set(self.keep_out))]
            for i in range(len(mask)):
                flags.append(bool(need & set(self._keep_of(i))))
            self.flags[mask] = result = tuple(flags)
            return result

    def _keep_of(self, i: int) -> tuple[int, ...]:
        """The inputs whose gradients need input i; a final `...` repeats the entry before it."""
        keep = self.keep
        if keep and keep[-1] is Ellipsis:
            i = min(i, len(keep) - 2)
        return keep[i] if i < len(keep) else ()

    def __repr__(self) -> str:
        return f"<primitive {self.name}>"


def primitive(
    name: str,
    *,
    arity: int | tuple[int, int] | None,
    forward: Rule | None = None,
    vjp: Rule | None = None,
    jvp: Rule | None = None,
    batch: Rule | None = None,
    keep: Sequence[Any] = (),
    keep_out: Sequence[int] = (),
    residual: bool = False,
    promotes: bool = False,
    outputs: int = 1,
    view: bool = False,
    floating: bool = False,
    fits: bool = False,
) -> Callable[..., Any]:
    """Declare a primitive and get the function that applies it.

    Args:
        name: its name; without `forward`, that of the Array API function it is.
        arity: the number of inputs; (2, 3) where the third may be left out, all of them promoted together
            and without parameters; None where it varies otherwise.
        keep: per input, the inputs whose gradients need it: `((1,), (0,))` for a product; `...` at the end
            repeats the entry before it for all inputs that follow.
        keep_out: the inputs whose gradients need the output.
        residual: forward returns `(out, residual)`.
        promotes: inputs are brought to one dtype first.
        outputs: the number of arrays that forward returns.
        view: the result may share memory with the first input.
        floating: integers and bools are brought to the default dtype first.
        fits: on raw arrays, vjp gives gradients of the inputs' shapes and dtypes, so that nobody needs to look.
    """
    p = Primitive(
        name,
        forward=forward,
        vjp=vjp,
        jvp=jvp,
        batch=batch or pass_through,
        keep=tuple(k if k is Ellipsis else tuple(k) for k in keep),
        keep_out=tuple(keep_out),
        residual=residual,
        promotes=promotes,
        outputs=outputs,
        view=view,
        floating=floating,
        fits=fits,
    )
    PRIMITIVES[name] = p
    apply: Callable[..., Any]
    if outputs > 1:
        apply = applying.multiple(p)
    elif arity == 1 and not residual:
        apply = applying.unary(p)
    elif arity == 2 and promotes and not residual:
        apply = applying.binary(p)
    elif arity == 2:
        apply = applying.pair(p)
    elif arity == (2, 3):
        apply = applying.triple(p)
    else:
        apply = applying.nary(p)
    if view:
        apply = applying.lending(apply)
    apply.__name__ = apply.__qualname__ = name
    p.apply = apply
    return apply


def public(fn: Rule) -> Rule:
    """Make a function part of the namespace of Tensors, under its own name without a final underscore."""
    setattr(ops, fn.__name__.rstrip("_"), fn)
    return fn


def expose(name: str, fn: Rule) -> Rule:
    """Make `fn` part of the namespace of Tensors under `name`."""
    setattr(ops, name, fn)
    return fn


def pass_through(ops: Any, n: int, is_batched: tuple[bool, ...], inputs: tuple[Any, ...], params: Any, fn: Rule) -> Any:
    """Batching of an operation on the last axes of one input: call it again."""
    return fn(*inputs, **params)
